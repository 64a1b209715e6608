//! Plans of the data path: what tests ask for where they do not say otherwise.

use sluice::config::OnCrash;
use sluice::dataplane::plan::{Profiles, SpreadWish};
use sluice::dataplane::{DataplanePlan, InterfacePlan, Sizes, TcWish, XdpWish};
use sluice_abi::attach::Role;
use sluice_abi::settings::Settings;

use crate::plane::{PinDir, enabled};

/// An enabled data path with small maps, and something to do where packets leave.
#[must_use]
pub fn plan(pins: &PinDir, interfaces: Vec<InterfacePlan>) -> DataplanePlan {
    DataplanePlan {
        pin_dir: pins.path().to_owned(),
        interfaces,
        sizes: Sizes { block_hosts: 128, block_nets: 64, ..Sizes::default() },
        settings: Settings { flags: Settings::ENABLED | Settings::PROFILES, ..enabled() },
        on_crash: OnCrash::Keep,
        profiles: Profiles::default(),
        spread: SpreadWish::Off,
    }
}

/// An interface on the WAN side with the name of its device, and the best of every ladder.
#[must_use]
pub fn interface(device: &str, slot: u32) -> InterfacePlan {
    InterfacePlan {
        name: device.to_owned(),
        device: device.to_owned(),
        role: Role::Wan,
        slot,
        xdp: XdpWish::Auto,
        tc: TcWish::Auto,
    }
}

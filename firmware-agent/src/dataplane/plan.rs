//! What should be loaded and where; filled in from the configuration.

use std::path::PathBuf;

use sluice_abi::attach::Role;
use sluice_abi::message::RING;
use sluice_abi::profile::Profile;
use sluice_abi::settings::Settings;

pub use crate::config::{OnCrash, SpreadWish, XdpWish};

/// Where pins live unless the configuration says otherwise.
pub const PIN_DIR: &str = "/sys/fs/bpf/sluice";

/// Everything the data path needs to know.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct DataplanePlan {
    /// Directory of the pins, on bpffs.
    pub pin_dir: PathBuf,
    /// Interfaces to attach to.
    pub interfaces: Vec<InterfacePlan>,
    /// Sizes of the maps.
    pub sizes: Sizes,
    /// What the programs are told. The bits that say which lists have entries are the data path's.
    pub settings: Settings,
    /// What a crash of the agent leaves on the devices.
    pub on_crash: OnCrash,
    /// What flows of each profile look like when they leave.
    pub profiles: Profiles,
    /// Whether shields hand packets to other processors.
    pub spread: SpreadWish,
}

/// Profiles by number.
pub type Profiles = [Profile; Profile::COUNT as usize];

/// One interface.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct InterfacePlan {
    /// Name in the configuration.
    pub name: String,
    /// Network device.
    pub device: String,
    /// Which side of the router it is on.
    pub role: Role,
    /// Index of its counters, below [`Attachment::SLOTS`](sluice_abi::attach::Attachment::SLOTS).
    pub slot: u32,
    /// Where the shield should run.
    pub xdp: XdpWish,
    /// How verdicts should reach packets.
    pub tc: TcWish,
}

/// How verdicts should reach packets.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum TcWish {
    /// The best classifier that works.
    #[default]
    Auto,
    /// clsact, though tcx might work.
    Clsact,
    /// By the ct mark alone.
    Off,
}

/// Entries of the maps.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Sizes {
    /// Keys of decided flows; a connection behind NAT has two.
    pub flows_keys: u32,
    /// Decided connections, blocked and limited ones included.
    pub flow_slots: u32,
    /// Keys of blocked and limited flows.
    pub held_keys: u32,
    /// Blocked and limited connections.
    pub held_slots: u32,
    /// Sets of four source buckets; rounded up to a power of two.
    pub bucket_sets: u32,
    /// Listed addresses.
    pub block_hosts: u32,
    /// Listed prefixes.
    pub block_nets: u32,
    /// Prefixes that no list blocks.
    pub allow_nets: u32,
    /// Bytes for DNS messages that were not read yet; rounded up to a power of two of pages.
    pub messages: u32,
}

impl Default for Sizes {
    /// For a router with 128 MiB; about 6 MiB of kernel memory on two CPUs, computed.
    fn default() -> Self {
        Self {
            flows_keys: 16_384,
            flow_slots: 10_240,
            held_keys: 4_096,
            held_slots: 2_048,
            bucket_sets: 4_096,
            block_hosts: 32_768,
            block_nets: 4_096,
            allow_nets: 1_024,
            messages: RING,
        }
    }
}

//! Names for addresses that were learned from DNS: who was told what, and when; and names of devices
//! ([`leases`]).
//!
//! Pure: the monotonic time is an argument. An answer is for the device that asked, and counts only
//! when it answers a question that this device sent: so no stranger names an address, and no device
//! names the flows of another. Names from here are shown; nothing is allowed because of one, for
//! the device itself chooses what it asks.

mod cache;
pub mod leases;
mod questions;
mod shares;
mod source;

use sluice_abi::flow::Addr;

pub use self::cache::{FRESH_MS, KEEP_MS, NAMES_MAX, Names};
pub use self::questions::{Answered, Asked, PENDING_MAX, PENDING_MS, Questions};
pub use self::source::Source;
use crate::config::Mac;

/// A device of the household, as far as its questions and flows can be told to be the same one's.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Client {
    /// By its address.
    Addr(Addr),
    /// By its hardware address.
    Mac(Mac),
}

impl Client {
    /// The device that has the address `addr` and, where the link has such, the hardware address
    /// `mac`, when it deals with `peer`.
    ///
    /// In IPv4 a device is its address, so that households behind a router of their own are told
    /// apart. In IPv6 it has several addresses and asks from another than it connects from, or asks
    /// in IPv4 altogether: there it is its hardware address.
    #[must_use]
    pub const fn new(addr: Addr, mac: Option<Mac>, peer: Addr) -> Self {
        match mac {
            Some(mac) if !(addr.is_v4() && peer.is_v4()) => Self::Mac(mac),
            _ => Self::Addr(addr),
        }
    }
}

#[cfg(test)]
mod tests;

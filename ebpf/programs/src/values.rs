//! Values that the agent writes and programs read where they are (`BPF_PSEUDO_MAP_VALUE`, kernel 5.2): an address
//! that the loader puts in, where a lookup in a map would be a dozen instructions and a check.
//!
//! Each is the one entry of the array of the same name.

use sluice_abi::live::Live;
use sluice_abi::settings::Settings;

#[cfg(target_arch = "bpf")]
unsafe extern "C" {
    static mut SETTINGS: Settings;
    static mut EPOCH: u32;
    static mut LIVE: Live;
}

/// A host build has no loader: what is read there is all zero.
#[cfg(not(target_arch = "bpf"))]
mod host {
    use super::{Live, Settings};

    // SAFETY: of numbers alone, which can be zero.
    pub(super) static mut SETTINGS: Settings = unsafe { core::mem::zeroed() };
    pub(super) static mut EPOCH: u32 = 0;
    pub(super) static mut LIVE: Live = Live::EMPTY;
}
#[cfg(not(target_arch = "bpf"))]
use host::{EPOCH, LIVE, SETTINGS};

/// What the agent wants, unless that is to do nothing.
#[inline(always)]
#[must_use]
pub fn settings() -> Option<&'static Settings> {
    // SAFETY: the entry is always there. The agent replaces its words while they are read, and each of them is one
    // of before or after that.
    let settings = unsafe { &*core::ptr::addr_of!(SETTINGS) };
    settings.is_enabled().then_some(settings)
}

/// Changes with every decision: what is remembered of one may not hold any more. The agent writes it behind the
/// decision.
#[inline(always)]
#[must_use]
pub fn epoch() -> u32 {
    // SAFETY: the entry is always there. Read now, before what is looked up next.
    unsafe { (&raw const EPOCH).read_volatile() }
}

/// Which addresses may be in one of the maps of live entries.
#[inline(always)]
#[must_use]
pub fn live() -> &'static Live {
    // SAFETY: as the settings.
    unsafe { &*core::ptr::addr_of!(LIVE) }
}

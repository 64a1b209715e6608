//! `TOTALS`, which every program has.

use aya_ebpf::macros::map;
use aya_ebpf::maps::{Array, PerCpuArray};
use sluice_abi::attach::Attachment;
use sluice_abi::counter::Counter;
use sluice_abi::settings::Settings;

/// Packets by interface slot and [`Counter`]. Each CPU has its own copy, and the programs run with
/// softirqs off, so none interrupts another between reading and writing.
#[map]
pub static TOTALS: PerCpuArray<u64> = PerCpuArray::pinned(Attachment::SLOTS * Counter::STRIDE, 0);

/// What the agent wants. Only the agent writes it.
#[map]
pub static SETTINGS: Array<Settings> = Array::pinned(1, 0);

/// Counts a packet of the interface in `slot`.
#[inline(always)]
pub fn count(slot: u32, counter: Counter) {
    add(slot, counter, 1);
}

/// Adds to a counter of the interface in `slot`.
#[inline(always)]
pub fn add(slot: u32, counter: Counter, amount: u64) {
    if let Some(total) = TOTALS.get_ptr_mut(counter.index(slot)) {
        // SAFETY: the value belongs to this CPU and nothing else runs on it meanwhile.
        unsafe { *total += amount };
    }
}

/// The settings, unless they say to do nothing.
#[inline(always)]
pub fn settings() -> Option<&'static Settings> {
    SETTINGS.get(0).filter(|settings| settings.is_enabled())
}

//! `TOTALS`, which every program has.

use aya_ebpf::macros::map;
use aya_ebpf::maps::PerCpuArray;
use sluice_abi::attach::Attachment;
use sluice_abi::counter::{Counter, Tally};

/// What was counted, by slot of the interface. Each CPU has its own copy, and the programs run with
/// softirqs off, so none interrupts another between reading and writing.
#[map]
pub static TOTALS: PerCpuArray<Tally> = PerCpuArray::pinned(Attachment::SLOTS, 0);

/// Tally a packet of the interface in `slot`.
#[inline(always)]
pub fn count(slot: u32, counter: Counter) {
    add(slot, [(counter, 1)]);
}

/// Adds to counters of the interface in `slot`.
#[inline(always)]
pub fn add<const N: usize>(slot: u32, amounts: [(Counter, u64); N]) {
    let Some(counts) = TOTALS.get_ptr_mut(slot) else { return };
    for (counter, amount) in amounts {
        // SAFETY: the value belongs to this CPU and nothing else runs on it meanwhile. The mask keeps the
        // index inside for a verifier that does not know what a counter can be.
        unsafe { (*counts).0[counter as usize & (Counter::PLACES - 1)] += amount };
    }
}

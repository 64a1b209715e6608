//! Hands packets to other processors: the maps around `datapath`'s choice.

use aya_ebpf::bindings::xdp_action::XDP_PASS;
use aya_ebpf::macros::map;
use aya_ebpf::maps::{Array, CpuMap};
use sluice_abi::names::SPREAD_SLOTS;
use sluice_datapath::checks::Brief;
use sluice_datapath::spread;

/// The queues of the processors that take packets. Only the agent writes it.
#[map]
pub static CPUS: CpuMap = CpuMap::pinned(1, 0);

/// Which processor has which part of the flows. Only the agent writes it.
#[map]
pub static SPREAD: Array<u32> = Array::pinned(SPREAD_SLOTS, 0);

/// What XDP shall do with a packet that passes: redirect it to the processor of its flow, or pass it
/// here while no processor has that part of the flows.
///
/// The queue may be full when the packet gets there, behind the program: then the kernel drops it.
#[inline(always)]
#[must_use]
pub fn hand_over(brief: &Brief, key: u32) -> u32 {
    let slot = spread::hash(brief, key) & (SPREAD_SLOTS - 1);
    match SPREAD.get(slot) {
        // Of a processor that has no queue yet the kernel says that the packet passes.
        Some(&cpu) if cpu != 0 => {
            CPUS.redirect(cpu - 1, XDP_PASS.into()).unwrap_or_else(|action| action)
        }
        _ => XDP_PASS,
    }
}

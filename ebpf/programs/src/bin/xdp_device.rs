//! The part of the shield that a network card can run by itself: drops listed addresses before the frame costs the
//! processor anything.
//!
//! Bound to one device with its maps: exact addresses and two totals, no settings, no clock, no globals. What it passes
//! is judged by `xdp_shield` on the same device, what it drops is counted here alone.
#![cfg_attr(target_arch = "bpf", no_std, no_main, feature(core_intrinsics))]
#![cfg_attr(
    target_arch = "bpf",
    allow(internal_features, reason = "stable Rust has no atomic add for BPF")
)]
#![expect(
    missing_docs,
    unreachable_pub,
    reason = "the program macros wrap each function in an exported one"
)]

use aya_ebpf::bindings::xdp_action::{XDP_DROP, XDP_PASS};
use aya_ebpf::macros::{map, xdp};
use aya_ebpf::maps::{Array, HashMap};
use aya_ebpf::programs::XdpContext;
use sluice_abi::attach::{Link, Role};
use sluice_abi::device::Total;
use sluice_abi::flow::Addr;
use sluice_datapath::parse::headers;
use sluice_ebpf::mem::Linear;

/// Listed addresses and the packets that each cost. Only the agent inserts, only the programs count.
#[map]
static DEVICE_HOSTS: HashMap<Addr, u64> = HashMap::with_max_entries(1, 0);

/// Packets and bytes dropped, by [`Total`].
#[map]
static DEVICE_TOTALS: Array<u64> = Array::with_max_entries(Total::COUNT, 0);

/// Entry point on interfaces towards the provider.
#[xdp]
pub fn xdp_device_wan(ctx: XdpContext) -> u32 {
    judge(&ctx, Role::Wan)
}

/// Entry point on interfaces towards the household.
#[xdp]
pub fn xdp_device_lan(ctx: XdpContext) -> u32 {
    judge(&ctx, Role::Lan)
}

#[inline(always)]
fn judge(ctx: &XdpContext, role: Role) -> u32 {
    let frame = Linear::of_frame(ctx);
    let Ok(headers) = headers(&frame, Link::Ethernet) else {
        return XDP_PASS;
    };
    let address = match role {
        Role::Wan => &headers.src,
        Role::Lan => &headers.dst,
    };
    let Some(packets) = DEVICE_HOSTS.get_ptr_mut(address) else {
        return XDP_PASS;
    };
    add(packets, 1);
    for (total, amount) in [(Total::Packets, 1), (Total::Bytes, frame.bytes())] {
        if let Some(sum) = DEVICE_TOTALS.get_ptr_mut(total as u32) {
            add(sum, amount);
        }
    }
    XDP_DROP
}

/// Adds without losing what another thread of the card adds at the same time.
#[inline(always)]
#[cfg_attr(
    not(target_arch = "bpf"),
    expect(clippy::missing_const_for_fn, reason = "empty on the host")
)]
fn add(sum: *mut u64, amount: u64) {
    #[cfg(target_arch = "bpf")]
    // SAFETY: `sum` is a value of a map, aligned to eight bytes, which stays while the program runs.
    unsafe {
        use core::intrinsics::{AtomicOrdering, atomic_xadd};
        atomic_xadd::<u64, u64, { AtomicOrdering::Relaxed }>(sum, amount);
    }
    #[cfg(not(target_arch = "bpf"))]
    let _ = (sum, amount);
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

/// The kernel starts programs at their section; a host build only needs something to link.
#[cfg(not(target_arch = "bpf"))]
#[allow(clippy::missing_const_for_fn, reason = "found in the test target only")]
fn main() {}

//! The fast path: applies the agent's decisions to the packets of decided flows.
//!
//! `tc_flow_in` counts, drops or marks; `tc_flow_out` only drops, so that a packet that crosses the
//! router is counted once. Neither ever creates a flow: only the agent writes `FLOWS`.
#![cfg_attr(target_arch = "bpf", no_std, no_main)]
#![expect(
    missing_docs,
    unreachable_pub,
    reason = "the program macros wrap each function in an exported one"
)]

use aya_ebpf::Global;
use aya_ebpf::bindings::{TC_ACT_SHOT, TC_ACT_UNSPEC};
use aya_ebpf::helpers::generated::bpf_ktime_get_coarse_ns;
use aya_ebpf::macros::{classifier, map};
use aya_ebpf::maps::{LruHashMap, PerCpuArray};
use aya_ebpf::programs::TcContext;
use sluice_abi::attach::Attachment;
use sluice_abi::counter::Counter;
use sluice_abi::flow::{Direction, FlowCount, FlowKey, FlowState};
use sluice_abi::settings::Settings;
use sluice_abi::verdict::Verdict;
use sluice_datapath::parse::{Headers, headers};
use sluice_ebpf::counters::{count, settings};
use sluice_ebpf::mem::Linear;

/// The interface this copy is attached to.
#[unsafe(no_mangle)]
static ATTACHMENT: Global<u32> = Global::new(0);

/// Decisions. Only the agent writes: a lookup that misses must not create a flow.
#[map]
static FLOWS: LruHashMap<FlowKey, FlowState> = LruHashMap::pinned(1, 0);

/// What was seen of decided flows. Only `tc_flow_in` writes, each CPU its own copy.
#[map]
static FLOW_COUNTS: PerCpuArray<FlowCount> = PerCpuArray::pinned(1, 0);

/// Ingress.
#[classifier]
pub fn tc_flow_in(ctx: TcContext) -> i32 {
    let attachment = Attachment::from_bits(ATTACHMENT.load());
    let outcome = decide(&ctx, attachment);
    count(attachment.slot(), outcome);
    if outcome.is_drop() { TC_ACT_SHOT } else { TC_ACT_UNSPEC }
}

/// Egress.
#[classifier]
pub fn tc_flow_out(ctx: TcContext) -> i32 {
    let attachment = Attachment::from_bits(ATTACHMENT.load());
    let outcome = refuse(&ctx, attachment);
    count(attachment.slot(), outcome);
    if outcome.is_drop() { TC_ACT_SHOT } else { TC_ACT_UNSPEC }
}

#[inline(always)]
fn decide(ctx: &TcContext, attachment: Attachment) -> Counter {
    let Some(settings) = settings() else {
        return Counter::TcInert;
    };
    let Ok(headers) = headers(&Linear::of_buffer(ctx), attachment.link()) else {
        return Counter::TcNoFlow;
    };
    let Some((key, direction)) = headers.flow() else {
        return Counter::TcNoFlow;
    };
    let Some(state) = state(&key) else {
        return Counter::TcUnknown;
    };
    // SAFETY: the helper has no preconditions. The time of the last tick is fine enough.
    let now_ns = unsafe { bpf_ktime_get_coarse_ns() };
    if state.is_expired((now_ns / 1_000_000_000) as u32) {
        return Counter::TcUnknown;
    }
    match state.verdict() {
        Verdict::Unknown => Counter::TcUnknown,
        Verdict::Inspect | Verdict::Limited => Counter::TcInspect,
        Verdict::Blocked => {
            observe(ctx, &headers, &state, direction, now_ns);
            Counter::TcDropBlocked
        }
        // The tuple may be another connection by now: the queue sees how it starts.
        Verdict::Trusted if headers.is_syn() => Counter::TcNewSyn,
        Verdict::Trusted => {
            observe(ctx, &headers, &state, direction, now_ns);
            mark(ctx, settings);
            Counter::TcTrusted
        }
    }
}

#[inline(always)]
fn refuse(ctx: &TcContext, attachment: Attachment) -> Counter {
    if settings().is_none() {
        return Counter::TcOutInert;
    }
    let Ok(headers) = headers(&Linear::of_buffer(ctx), attachment.link()) else {
        return Counter::TcOutPass;
    };
    let Some((key, _)) = headers.flow() else {
        return Counter::TcOutPass;
    };
    let Some(state) = state(&key) else {
        return Counter::TcOutPass;
    };
    if !matches!(state.verdict(), Verdict::Blocked) {
        return Counter::TcOutPass;
    }
    // SAFETY: the helper has no preconditions. The time of the last tick is fine enough.
    let now_s = (unsafe { bpf_ktime_get_coarse_ns() } / 1_000_000_000) as u32;
    if state.is_expired(now_s) { Counter::TcOutPass } else { Counter::TcOutDropBlocked }
}

/// The decision about a flow.
#[inline(always)]
fn state(key: &FlowKey) -> Option<FlowState> {
    // SAFETY: the memory stays a `FlowState` until this program returns. The kernel may recycle it
    // for another flow meanwhile: then this one packet gets a neighbour's decision.
    unsafe { FLOWS.get(key) }.copied()
}

/// Counts a packet of a decided flow.
#[inline(always)]
fn observe(
    ctx: &TcContext,
    headers: &Headers,
    state: &FlowState,
    direction: Direction,
    now_ns: u64,
) {
    // SAFETY: the context is valid while the program runs; `gso_segs` is readable since 5.1.
    let segments = u64::from(unsafe { (*ctx.skb.skb).gso_segs });
    let mut packets = 1;
    let mut bytes = u64::from(ctx.len()) - headers.l3 as u64;
    if segments > 1 {
        // A merged packet: on the wire every segment has its own headers.
        packets = segments;
        bytes += (segments - 1) * (headers.payload - headers.l3) as u64;
    }
    let Some(flow) = FLOW_COUNTS.get_ptr_mut(state.slot) else {
        return;
    };
    // SAFETY: the value belongs to this CPU and nothing else runs on it meanwhile.
    unsafe {
        if state.side(direction) == 0 {
            (*flow).original_packets += packets;
            (*flow).original_bytes += bytes;
        } else {
            (*flow).reply_packets += packets;
            (*flow).reply_bytes += bytes;
        }
        (*flow).last_seen_ns = now_ns;
    }
}

/// Sets the claimed bits of the mark; other packages own the rest (R22).
#[inline(always)]
fn mark(ctx: &TcContext, settings: &Settings) {
    // SAFETY: the context is valid while the program runs.
    let mark = unsafe { (*ctx.skb.skb).mark };
    ctx.set_mark((mark & !settings.mark_mask) | (settings.mark_trusted & settings.mark_mask));
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

/// The kernel starts programs at their section; a host build only needs something to link.
#[cfg(not(target_arch = "bpf"))]
#[allow(clippy::missing_const_for_fn, reason = "found in the test target only")]
fn main() {}

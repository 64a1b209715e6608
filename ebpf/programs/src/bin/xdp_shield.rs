//! The shield: drops listed addresses, impossible packets, and what is over a rate, before anything
//! is allocated.
//!
//! Attached to the ingress of devices. On WAN interfaces the source is looked up, and checks and
//! rates apply; on LAN interfaces the destination is looked up.
#![cfg_attr(target_arch = "bpf", no_std, no_main)]
#![expect(
    missing_docs,
    unreachable_pub,
    reason = "the program macros wrap each function in an exported one"
)]

use aya_ebpf::Global;
use aya_ebpf::bindings::xdp_action::{XDP_DROP, XDP_PASS, XDP_TX};
use aya_ebpf::macros::{map, xdp};
use aya_ebpf::maps::PerCpuArray;
use aya_ebpf::programs::XdpContext;
use sluice_abi::attach::Attachment;
use sluice_abi::counter::Counter;
use sluice_datapath::parse::{self, NotIp};
use sluice_ebpf::counters::count;
use sluice_ebpf::mem::Linear;
use sluice_ebpf::shield::{Seen, Shield};
use sluice_ebpf::spread;
use sluice_ebpf::syncookie::Reply;
use sluice_ebpf::values::settings;

/// The interface this copy is attached to.
#[unsafe(no_mangle)]
static ATTACHMENT: Global<u32> = Global::new(0);

/// Number of sets in `BUCKETS`, a power of two, less one.
#[unsafe(no_mangle)]
static BUCKET_MASK: Global<u32> = Global::new(0);

/// Whether this kernel makes SYN cookies for programs. Where it is 0 the verifier never sees the
/// calls that older kernels do not know.
#[unsafe(no_mangle)]
static COOKIES: Global<u32> = Global::new(0);

/// What the program is looking at.
#[map]
static SIGHT: PerCpuArray<Sight> = PerCpuArray::with_max_entries(1, 0);

/// Entry point. In one piece with what the macro makes around it: the MIPS JIT has no calls.
#[xdp]
#[inline(always)]
pub fn xdp_shield(ctx: XdpContext) -> u32 {
    let attachment = Attachment::from_bits(ATTACHMENT.load());
    let outcome = outcome(&ctx, attachment);
    count(attachment.slot(), outcome);
    match outcome {
        Counter::XdpPass | Counter::XdpAllowed if attachment.spreads() => elsewhere(),
        Counter::XdpPass => XDP_PASS,
        Counter::XdpSynAnswered => XDP_TX,
        _ if outcome.is_drop() => XDP_DROP,
        _ => XDP_PASS,
    }
}

/// Hands an IP packet that passes to the processor of its flow.
#[inline(always)]
fn elsewhere() -> u32 {
    let (Some(sight), Some(settings)) = (SIGHT.get_ptr(0), settings()) else { return XDP_PASS };
    // SAFETY: the value belongs to this CPU, and nothing else runs on it meanwhile.
    spread::hand_over(unsafe { &(*sight).seen.memory.brief }, settings.hash_key)
}

#[inline(always)]
fn outcome(ctx: &XdpContext, attachment: Attachment) -> Counter {
    let Some(settings) = settings() else {
        return Counter::XdpInert;
    };
    let frame = Linear::of_frame(ctx);
    let Some(sight) = SIGHT.get_ptr_mut(0) else { return Counter::XdpInert };
    // SAFETY: the value belongs to this CPU, and nothing else runs on it meanwhile.
    let Sight { seen, reply } = unsafe { &mut *sight };
    match parse::read(&frame, attachment.link(), &mut seen.memory.brief) {
        Ok(()) => {}
        Err(NotIp::Other) => return Counter::XdpNotIp,
        Err(NotIp::Truncated) => return Counter::XdpTruncated,
        Err(NotIp::Malformed) => return Counter::XdpMalformed,
    }
    let shield = Shield { attachment, bucket_mask: &BUCKET_MASK, cookies: Some(&COOKIES) };
    let outcome = shield.judge(seen, settings, frame.bytes());
    if matches!(outcome, Counter::XdpSynAnswered) && COOKIES.load() != 0 {
        return reply.send(ctx, &seen.memory, &settings.limits, frame.bytes());
    }
    outcome
}

/// What the program knows about its packet, and the answer that it makes of it.
#[repr(C)]
struct Sight {
    seen: Seen,
    reply: Reply,
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

/// The kernel starts programs at their section; a host build only needs something to link.
#[cfg(not(target_arch = "bpf"))]
#[allow(clippy::missing_const_for_fn, reason = "found in the test target only")]
fn main() {}

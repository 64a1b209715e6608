//! The fast path: applies the agent's decisions to the packets of decided flows.
//!
//! `tc_flow_in` counts, drops or marks, and holds limited flows to their rate; `tc_flow_out` drops what
//! is blocked and writes the DSCP, so a packet that crosses the router is counted once. Neither ever
//! creates a flow: only the agent writes `FLOWS` and `HELD`.
#![cfg_attr(target_arch = "bpf", no_std, no_main)]
#![expect(
    missing_docs,
    unreachable_pub,
    reason = "the program macros wrap each function in an exported one"
)]

use aya_ebpf::Global;
use aya_ebpf::bindings::{TC_ACT_SHOT, TC_ACT_UNSPEC};
use aya_ebpf::helpers::generated::{bpf_jiffies64, bpf_ktime_get_coarse_ns};
use aya_ebpf::macros::{classifier, map};
use aya_ebpf::maps::{Array, HashMap, LruHashMap, PerCpuArray};
use aya_ebpf::programs::TcContext;
use sluice_abi::attach::{Attachment, Role};
use sluice_abi::counter::Counter;
use sluice_abi::flow::{FlowCount, FlowKey, FlowLimit, FlowState, Recent};
use sluice_abi::message::PORT;
use sluice_abi::profile::Profile;
use sluice_abi::settings::Settings;
use sluice_abi::verdict::Verdict;
use sluice_datapath::packet::Packet as _;
use sluice_datapath::parse::{FIN, Headers, Ports, RST, has_payload, headers};
use sluice_datapath::{dscp, limit};
use sluice_ebpf::counters::{add, count, settings};
use sluice_ebpf::mem::Linear;
use sluice_ebpf::message;

/// The interface this copy is attached to.
#[unsafe(no_mangle)]
static ATTACHMENT: Global<u32> = Global::new(0);

/// Decisions. Only the agent writes: a lookup that misses must not create a flow.
#[map]
static FLOWS: LruHashMap<FlowKey, FlowState> = LruHashMap::pinned(1, 0);

/// Decisions that no flood of others may displace. A flow is here or in `FLOWS`, and trusted ones,
/// which are most, are in `FLOWS`: so that comes first.
#[map]
static HELD: HashMap<FlowKey, FlowState> = HashMap::pinned(1, 0);

/// Rates of limited flows. The agent writes an entry when it decides, `tc_flow_in` its buckets.
#[map]
static LIMITS: Array<FlowLimit> = Array::pinned(1, 0);

/// What flows of each profile look like when they leave.
#[map]
static PROFILES: Array<Profile> = Array::pinned(Profile::COUNT, 0);

/// What was seen of decided flows. Only `tc_flow_in` writes, each CPU its own copy.
#[map]
static FLOW_COUNTS: PerCpuArray<FlowCount> = PerCpuArray::pinned(1, 0);

/// Changes with every decision: what is in `RECENT` may not hold any more. Only the agent writes it, behind
/// the decision.
#[map]
static EPOCH: Array<u32> = Array::pinned(1, 0);

/// Trusted flows that were looked up in this timer tick. Only `tc_flow_in` writes, each CPU its own copy.
#[map]
static RECENT: PerCpuArray<Recent> = PerCpuArray::pinned(Recent::COUNT, 0);

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
    let packet = Linear::of_buffer(ctx, attachment.link());
    let Ok(headers) = headers(&packet, attachment.link()) else {
        return Counter::TcNoFlow;
    };
    let outcome = attend(ctx, settings, judge(ctx, settings, attachment, &packet, &headers));
    let asks = headers.dport == PORT && matches!(headers.ports, Ports::Known);
    if asks && tells(attachment, settings) && !outcome.is_drop() {
        message::question(ctx, attachment, headers.l3);
    }
    outcome
}

/// Whether DNS messages are told of where this copy is attached.
#[inline(always)]
const fn tells(attachment: Attachment, settings: &Settings) -> bool {
    matches!(attachment.role(), Role::Lan) && settings.flags & Settings::DNS != 0
}

/// Lets packets for the queue go past it when nobody is there.
#[inline(always)]
fn attend(ctx: &TcContext, settings: &Settings, outcome: Counter) -> Counter {
    let is_for_the_queue =
        matches!(outcome, Counter::TcUnknown | Counter::TcInspect | Counter::TcNewSyn);
    if is_for_the_queue && settings.flags & Settings::WATCHED != 0 {
        // SAFETY: the helper has no preconditions. The time of the last tick is fine enough.
        let now_ns = unsafe { bpf_ktime_get_coarse_ns() };
        if settings.is_unattended(now_ns) {
            mark(ctx, settings, settings.mark_unattended);
            return Counter::TcUnattended;
        }
    }
    outcome
}

#[inline(always)]
fn judge(
    ctx: &TcContext,
    settings: &Settings,
    attachment: Attachment,
    packet: &Linear,
    headers: &Headers,
) -> Counter {
    let seen = match find(ctx, settings, packet, headers) {
        Ok(seen) => seen,
        Err(outcome) => return outcome,
    };
    observe(Sent::new(ctx, headers), seen, closes(headers));
    mark(ctx, settings, settings.mark_trusted);
    let bytes = u64::from(ctx.len()) - headers.l3 as u64;
    add(attachment.slot(), Counter::TcMarkedBytes, bytes);
    Counter::TcTrusted
}

/// What to count and mark of a packet of a trusted flow that nobody has to look at again; of any other
/// what became of it, after what there was to do.
#[inline(always)]
fn find(
    ctx: &TcContext,
    settings: &Settings,
    packet: &Linear,
    headers: &Headers,
) -> Result<Seen, Counter> {
    if !matches!(headers.ports, Ports::Known) {
        return Err(Counter::TcNoFlow);
    }
    // Before the decision is looked up: the agent writes it after the decision.
    let epoch = EPOCH.get(0).copied().ok_or(Counter::TcInert)?;
    // SAFETY: the helper has no preconditions.
    let tick = unsafe { bpf_jiffies64() } as u32;
    let index = Recent::index(headers.sport, headers.dport);
    let recent = RECENT.get_ptr_mut(index).ok_or(Counter::TcInert)?;
    // SAFETY: the value belongs to this CPU and nothing else runs on it meanwhile.
    let recent = unsafe { &mut *recent };
    if recent.epoch == epoch && recent.tick == tick && is_of(recent, headers) {
        if headers.is_syn() {
            return Err(Counter::TcNewSyn);
        }
        return Ok(Seen { slot: recent.slot, side: recent.side, now_ns: recent.now_ns });
    }
    let (key, direction) = headers.flow().ok_or(Counter::TcNoFlow)?;
    let state = state(&key).ok_or(Counter::TcUnknown)?;
    // SAFETY: the helper has no preconditions. The time of the last tick is fine enough.
    let now_ns = unsafe { bpf_ktime_get_coarse_ns() };
    let seen = Seen { slot: state.slot, side: state.side(direction), now_ns };
    if is_void(&state, now_ns) {
        return Err(Counter::TcUnknown);
    }
    match state.verdict() {
        Verdict::Unknown => Err(Counter::TcUnknown),
        Verdict::Inspect => Err(Counter::TcInspect),
        Verdict::Blocked => {
            observe(Sent::new(ctx, headers), seen, false);
            Err(Counter::TcDropBlocked)
        }
        // Not marked: the mark would bring the flow into a flowtable, where nothing holds it.
        Verdict::Limited => {
            let sent = Sent::new(ctx, headers);
            let limit = LIMITS.get_ptr_mut(state.slot).ok_or(Counter::TcInspect)?;
            // SAFETY: the kernel keeps the entry; that other CPUs write it too only blurs the rate.
            let limit = unsafe { &mut *limit };
            if !limit::take(limit, seen.side, (now_ns / 1_000_000) as u32, sent.bytes) {
                return Err(Counter::TcDropLimited);
            }
            observe(sent, seen, false);
            Err(Counter::TcLimited)
        }
        // The tuple may be another connection by now: the queue sees how it starts.
        Verdict::Trusted if headers.is_syn() => Err(Counter::TcNewSyn),
        // The connection would get the mark too, and a flowtable would hide the next request.
        Verdict::Trusted if state.has_requests() => {
            observe(Sent::new(ctx, headers), seen, closes(headers));
            if seen.side == 0 && has_payload(packet, headers) {
                mark(ctx, settings, settings.mark_asked);
                return Err(Counter::TcInspect);
            }
            Err(Counter::TcTrusted)
        }
        Verdict::Trusted if headers.sport == PORT || headers.dport == PORT => {
            // The mark would lead an answer past the program at its other end.
            if settings.flags & Settings::DNS == 0 {
                return Ok(seen);
            }
            observe(Sent::new(ctx, headers), seen, closes(headers));
            Err(Counter::TcTrusted)
        }
        Verdict::Trusted => {
            *recent = Recent {
                src: headers.src,
                dst: headers.dst,
                sport: headers.sport,
                dport: headers.dport,
                proto: u32::from(headers.proto),
                epoch,
                tick,
                slot: seen.slot,
                side: seen.side,
                now_ns,
            };
            Ok(seen)
        }
    }
}

/// Whether the packet ends its connection.
#[inline(always)]
const fn closes(headers: &Headers) -> bool {
    headers.tcp_flags & (FIN | RST) != 0
}

/// Whether packets of this flow and direction are remembered there.
#[inline(always)]
fn is_of(recent: &Recent, headers: &Headers) -> bool {
    let ports = (recent.sport ^ headers.sport) | (recent.dport ^ headers.dport);
    // One comparison: of each the verifier would follow both outcomes.
    let mut differs = (recent.proto ^ u32::from(headers.proto)) | u32::from(ports);
    let (src, dst) = (recent.src.words(), recent.dst.words());
    for (ours, theirs) in [(src, headers.src.words()), (dst, headers.dst.words())] {
        differs |= ours[0] ^ theirs[0];
        differs |= ours[1] ^ theirs[1];
        differs |= ours[2] ^ theirs[2];
        differs |= ours[3] ^ theirs[3];
    }
    differs == 0
}

#[inline(always)]
fn refuse(ctx: &TcContext, attachment: Attachment) -> Counter {
    let Some(settings) = settings() else {
        return Counter::TcOutInert;
    };
    // What ingress has marked a moment ago is not blocked under either key.
    if settings.flags & Settings::PROFILES == 0 && is_marked(ctx, settings) {
        return Counter::TcOutPass;
    }
    let packet = Linear::of_buffer(ctx, attachment.link());
    let Ok(headers) = headers(&packet, attachment.link()) else {
        return Counter::TcOutPass;
    };
    let Some((key, _)) = headers.flow() else {
        return Counter::TcOutPass;
    };
    let outcome = release(ctx, &packet, &headers, &key);
    if headers.sport == PORT && tells(attachment, settings) && !outcome.is_drop() {
        message::answer(ctx, attachment, headers.l3);
    }
    outcome
}

#[inline(always)]
fn release(ctx: &TcContext, packet: &Linear, headers: &Headers, key: &FlowKey) -> Counter {
    let Some(state) = state(key) else {
        return Counter::TcOutPass;
    };
    let is_blocked = match state.verdict() {
        Verdict::Blocked => true,
        Verdict::Trusted | Verdict::Limited if state.profile() != 0 => false,
        _ => return Counter::TcOutPass,
    };
    if state.expires_s != 0 {
        // SAFETY: the helper has no preconditions. The time of the last tick is fine enough.
        let now_ns = unsafe { bpf_ktime_get_coarse_ns() };
        if is_void(&state, now_ns) {
            return Counter::TcOutPass;
        }
    }
    if is_blocked {
        return Counter::TcOutDropBlocked;
    }
    dress(ctx, packet, headers, state.profile())
}

/// The decision about a flow.
#[inline(always)]
fn state(key: &FlowKey) -> Option<FlowState> {
    // SAFETY: the memory stays a `FlowState` until this program returns. The kernel may recycle it
    // for another flow meanwhile: then this one packet gets a neighbour's decision.
    if let Some(state) = unsafe { FLOWS.get(key) } {
        return Some(*state);
    }
    // SAFETY: as above.
    unsafe { HELD.get(key) }.copied()
}

/// Whether the decision's time is over.
#[inline(always)]
const fn is_void(state: &FlowState, now_ns: u64) -> bool {
    // Most decisions have no deadline, and a division costs more than this comparison.
    state.expires_s != 0 && state.is_expired((now_ns / 1_000_000_000) as u32)
}

/// Gives a packet what its profile says.
#[inline(always)]
fn dress(ctx: &TcContext, packet: &Linear, headers: &Headers, number: u8) -> Counter {
    /// Where the IPv4 header has its checksum.
    const CHECKSUM: usize = 10;
    let Some(profile) = PROFILES.get(u32::from(number)) else {
        return Counter::TcOutPass;
    };
    if profile.priority != 0 {
        // SAFETY: the context is valid while the program runs.
        unsafe { (*ctx.skb.skb).priority = profile.priority };
    }
    let Some(wanted) = profile.dscp() else {
        return Counter::TcOutPass;
    };
    let Some([old]) = packet.load::<[u16; 1]>(headers.l3) else {
        return Counter::TcOutPass;
    };
    let is_v4 = u16::from_be(old) >> 12 == 4;
    let new = if is_v4 { dscp::v4(old, wanted) } else { dscp::v6(old, wanted) };
    if new == old {
        return Counter::TcOutPass;
    }
    // The checksum first: a header without its new DSCP is harmless, one with a wrong sum is not.
    // After the first write the packet may lie elsewhere, so nothing is read from it any more.
    if is_v4 && ctx.l3_csum_replace(headers.l3 + CHECKSUM, old.into(), new.into(), 2).is_err() {
        return Counter::TcOutPass;
    }
    if ctx.store(headers.l3, &new, 0).is_err() {
        return Counter::TcOutPass;
    }
    Counter::TcOutDscp
}

/// What a packet is on the wire.
#[derive(Clone, Copy)]
struct Sent {
    packets: u64,
    /// From the IP header on.
    bytes: u64,
}

impl Sent {
    #[inline(always)]
    fn new(ctx: &TcContext, headers: &Headers) -> Self {
        // SAFETY: the context is valid while the program runs; `gso_segs` is readable since 5.1.
        let segments = u64::from(unsafe { (*ctx.skb.skb).gso_segs });
        let mut sent = Self { packets: 1, bytes: u64::from(ctx.len()) - headers.l3 as u64 };
        if segments > 1 {
            // A merged packet: on the wire every segment has its own headers.
            sent.packets = segments;
            sent.bytes += (segments - 1) * (headers.payload - headers.l3) as u64;
        }
        sent
    }
}

/// Where and when a packet of a decided flow is counted.
#[derive(Clone, Copy)]
struct Seen {
    slot: u32,
    /// 0 for the way of the connection's first packet.
    side: u32,
    now_ns: u64,
}

/// Counts a packet of a decided flow.
#[inline(always)]
fn observe(sent: Sent, seen: Seen, closes: bool) {
    let Some(flow) = FLOW_COUNTS.get_ptr_mut(seen.slot) else {
        return;
    };
    // SAFETY: the value belongs to this CPU and nothing else runs on it meanwhile.
    unsafe {
        if seen.side == 0 {
            (*flow).original_packets += sent.packets;
            (*flow).original_bytes += sent.bytes;
        } else {
            (*flow).reply_packets += sent.packets;
            (*flow).reply_bytes += sent.bytes;
        }
        (*flow).last_seen_ns = seen.now_ns;
        if closes {
            (*flow).closing_ns = seen.now_ns;
        }
    }
}

/// Whether the packet has the mark of a trusted flow.
#[inline(always)]
fn is_marked(ctx: &TcContext, settings: &Settings) -> bool {
    // SAFETY: the context is valid while the program runs.
    let mark = unsafe { (*ctx.skb.skb).mark };
    let trusted = settings.mark_trusted & settings.mark_mask;
    trusted != 0 && mark & settings.mark_mask == trusted
}

/// Sets the claimed bits of the mark; other packages own the rest (R22).
#[inline(always)]
fn mark(ctx: &TcContext, settings: &Settings, value: u32) {
    // SAFETY: the context is valid while the program runs.
    let mark = unsafe { (*ctx.skb.skb).mark };
    ctx.set_mark((mark & !settings.mark_mask) | (value & settings.mark_mask));
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

/// The kernel starts programs at their section; a host build only needs something to link.
#[cfg(not(target_arch = "bpf"))]
#[allow(clippy::missing_const_for_fn, reason = "found in the test target only")]
fn main() {}

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
use sluice_datapath::checks::Brief;
use sluice_datapath::packet::{Packet as _, word};
use sluice_datapath::parse::{self, Glance, V4, V6, headers_len};
use sluice_datapath::{dscp, limit};
use sluice_ebpf::counters::{add, count};
use sluice_ebpf::mem::Linear;
use sluice_ebpf::message;
use sluice_ebpf::shield::{Seen, Shield};
use sluice_ebpf::values::{epoch, settings};

/// The interface this copy is attached to.
#[unsafe(no_mangle)]
static ATTACHMENT: Global<u32> = Global::new(0);

/// Number of sets in `BUCKETS`, a power of two, less one.
#[unsafe(no_mangle)]
static BUCKET_MASK: Global<u32> = Global::new(0);

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

/// Trusted flows that were looked up in this timer tick. Only `tc_flow_in` writes, each CPU its own copy.
#[map]
static RECENT: PerCpuArray<Recent> = PerCpuArray::pinned(Recent::COUNT, 0);

/// What a program is looking at.
#[map]
static SEEN: PerCpuArray<Seen> = PerCpuArray::with_max_entries(1, 0);

/// Ingress. In one piece with what the macro makes around it, as the other: the MIPS JIT has no calls.
#[classifier]
#[inline(always)]
pub fn tc_flow_in(ctx: TcContext) -> i32 {
    let Some(settings) = settings() else {
        count(attachment().slot(), Counter::TcInert);
        return TC_ACT_UNSPEC;
    };
    if pass_again(&ctx, settings) {
        return TC_ACT_UNSPEC;
    }
    let outcome = decide(&ctx, settings, attachment());
    count(attachment().slot(), outcome);
    if outcome.is_drop() { TC_ACT_SHOT } else { TC_ACT_UNSPEC }
}

/// Egress.
#[classifier]
#[inline(always)]
pub fn tc_flow_out(ctx: TcContext) -> i32 {
    let Some(settings) = settings() else {
        count(attachment().slot(), Counter::TcOutInert);
        return TC_ACT_UNSPEC;
    };
    // What ingress has marked a moment ago is not blocked under either key.
    if settings.flags & Settings::PROFILES == 0 && is_marked(&ctx, settings) {
        count(attachment().slot(), Counter::TcOutPass);
        return TC_ACT_UNSPEC;
    }
    let outcome = refuse(&ctx, settings, attachment());
    count(attachment().slot(), outcome);
    if outcome.is_drop() { TC_ACT_SHOT } else { TC_ACT_UNSPEC }
}

/// The interface, read anew: it costs less than what would have to be kept of it.
#[inline(always)]
fn attachment() -> Attachment {
    Attachment::from_bits(ATTACHMENT.load())
}

/// When what is remembered of a flow holds: in this timer tick, before the next decision.
#[derive(Clone, Copy)]
struct Moment {
    epoch: u32,
    tick: u64,
}

/// Before a decision is looked up: the agent changes the epoch after the decision.
#[inline(always)]
fn moment() -> Moment {
    // SAFETY: the helper has no preconditions.
    let tick = unsafe { bpf_jiffies64() };
    Moment { epoch: epoch(), tick }
}

/// Passes a packet whose flow was looked up a moment ago; false where it was not.
#[inline(always)]
fn pass_again(ctx: &TcContext, settings: &Settings) -> bool {
    let l3 = attachment().header_len();
    let recent = recent::<V4>(&Linear::anew(ctx), l3)
        .or_else(|| recent::<V6>(&Linear::anew(ctx), attachment().header_len()));
    let Some(recent) = recent else { return false };
    mark(ctx, settings, settings.mark_trusted);
    let whole = Sent::unmerged(ctx, l3);
    let sent = whole.on_the_wire(ctx, || headers_len(&Linear::anew(ctx), l3, recent));
    // That the flow was seen in this tick was noted when it was looked up.
    if let Some(flow) = FLOW_COUNTS.get_ptr_mut(recent.slot) {
        // SAFETY: the value belongs to this CPU and nothing else runs on it meanwhile.
        unsafe { (*flow).add(recent.side, sent.packets, sent.bytes) };
    }
    let counters = [(Counter::TcTrusted, 1), (Counter::TcMarkedBytes, whole.bytes)];
    add(attachment().slot(), counters);
    true
}

/// What is remembered of a packet's flow and holds.
#[inline(always)]
fn recent<G: Glance>(packet: &Linear, l3: usize) -> Option<&'static Recent> {
    let [sport, dport] = G::ports(packet, l3)?;
    // SAFETY: the value belongs to this CPU and nothing else runs on it meanwhile.
    let recent = unsafe { &*RECENT.get_ptr_mut(Recent::index(sport, dport))? };
    let Moment { epoch, tick } = moment();
    let is_of_now = recent.epoch == epoch && recent.tick == tick;
    (is_of_now && G::is_of(packet, l3, recent)).then_some(recent)
}

/// What becomes of a packet that has to be looked at, and what there is to do.
#[inline(always)]
fn decide(ctx: &TcContext, settings: &Settings, attachment: Attachment) -> Counter {
    let Some(seen) = SEEN.get_ptr_mut(0) else { return Counter::TcInert };
    // SAFETY: the value belongs to this CPU, and nothing else runs on it meanwhile.
    let seen = unsafe { &mut *seen };
    let packet = Linear::of_buffer(ctx, attachment.link());
    if parse::read(&packet, attachment.link(), &mut seen.memory.brief).is_err() {
        return Counter::TcNoFlow;
    }
    if attachment.shields() {
        let shield = Shield { attachment, bucket_mask: &BUCKET_MASK, cookies: None };
        let outcome = shield.judge(seen, settings, ctx.len().into());
        if outcome.is_drop() {
            return outcome;
        }
    }
    let brief = &seen.memory.brief;
    let outcome = attend(ctx, settings, judge(ctx, settings, attachment, brief));
    let asks = brief.dport == PORT && brief.proto().is_some();
    if asks && tells(attachment, settings) && !outcome.is_drop() {
        message::question(ctx, attachment, brief.l3());
    }
    outcome
}

/// Whether DNS messages are told of where this copy is attached.
#[inline(always)]
const fn tells(attachment: Attachment, settings: &Settings) -> bool {
    matches!(attachment.role(), Role::Lan) && settings.flags & Settings::COPY_DNS != 0
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

/// What the decision about its flow makes of a packet.
#[inline(always)]
fn judge(ctx: &TcContext, settings: &Settings, attachment: Attachment, brief: &Brief) -> Counter {
    let Some((key, direction)) = brief.flow() else { return Counter::TcNoFlow };
    let moment = moment();
    let Some(state) = state(&key) else { return Counter::TcUnknown };
    // SAFETY: the helper has no preconditions. The time of the last tick is fine enough.
    let now_ns = unsafe { bpf_ktime_get_coarse_ns() };
    if is_void(&state, now_ns) {
        return Counter::TcUnknown;
    }
    let at = Counting { slot: state.slot, side: state.side(direction), now_ns };
    let sent = || Sent::new(ctx, brief.l3(), || brief.headers_len(&Linear::as_it_is(ctx)));
    match state.verdict() {
        Verdict::Unknown => Counter::TcUnknown,
        Verdict::Inspect => Counter::TcInspect,
        Verdict::Blocked => {
            observe(sent(), at, false);
            Counter::TcDropBlocked
        }
        // Not marked: the mark would bring the flow into a flowtable, where nothing holds it.
        Verdict::Limited => {
            let sent = sent();
            let Some(limit) = LIMITS.get_ptr_mut(state.slot) else { return Counter::TcInspect };
            // SAFETY: the kernel keeps the entry; that other CPUs write it too only blurs the rate.
            let limit = unsafe { &mut *limit };
            if !limit::take(limit, at.side, (now_ns / 1_000_000) as u32, sent.bytes) {
                return Counter::TcDropLimited;
            }
            observe(sent, at, false);
            Counter::TcLimited
        }
        // The tuple may be another connection by now: the queue sees how it starts.
        Verdict::Trusted if brief.is_syn() => Counter::TcNewSyn,
        // The connection would get the mark too, and a flowtable would hide the next request.
        Verdict::Trusted if state.has_requests() => {
            observe(sent(), at, brief.closes());
            if at.side == 0 && brief.has_payload(&Linear::as_it_is(ctx)) {
                mark(ctx, settings, settings.mark_asked);
                return Counter::TcInspect;
            }
            Counter::TcTrusted
        }
        Verdict::Trusted => {
            observe(sent(), at, brief.closes());
            let is_dns = brief.sport == PORT || brief.dport == PORT;
            // The mark would lead an answer past the program at its other end.
            if !is_dns || settings.flags & Settings::DNS == 0 {
                mark(ctx, settings, settings.mark_trusted);
                let bytes = u64::from(ctx.len()) - brief.l3() as u64;
                add(attachment.slot(), [(Counter::TcMarkedBytes, bytes)]);
                remember(moment, brief, at);
            }
            Counter::TcTrusted
        }
    }
}

/// Remembers what was decided about the flow of a packet.
#[inline(always)]
fn remember(Moment { epoch, tick }: Moment, brief: &Brief, at: Counting) {
    let &Brief { src, dst, sport, dport, .. } = brief;
    let ports = word([sport, dport]);
    let (Some(recent), Some(proto)) =
        (RECENT.get_ptr_mut(Recent::index(sport, dport)), brief.proto())
    else {
        return;
    };
    let Counting { slot, side, .. } = at;
    let kind = Recent::kind(brief.is_v4(), proto);
    // SAFETY: the value belongs to this CPU and nothing else runs on it meanwhile.
    unsafe { *recent = Recent { src, dst, ports, kind, epoch, slot, side: side.into(), tick } };
}

/// What becomes of a packet on its way out that has to be looked at.
#[inline(always)]
fn refuse(ctx: &TcContext, settings: &Settings, attachment: Attachment) -> Counter {
    let Some(seen) = SEEN.get_ptr_mut(0) else { return Counter::TcOutInert };
    // SAFETY: the value belongs to this CPU, and nothing else runs on it meanwhile.
    let brief = unsafe { &mut (*seen).memory.brief };
    let packet = Linear::of_buffer(ctx, attachment.link());
    if parse::read(&packet, attachment.link(), brief).is_err() {
        return Counter::TcOutPass;
    }
    let Some((key, _)) = brief.flow() else {
        return Counter::TcOutPass;
    };
    let outcome = release(ctx, brief, &key);
    if brief.sport == PORT && tells(attachment, settings) && !outcome.is_drop() {
        message::answer(ctx, attachment, brief.l3());
    }
    outcome
}

#[inline(always)]
fn release(ctx: &TcContext, brief: &Brief, key: &FlowKey) -> Counter {
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
    dress(ctx, brief.l3(), state.profile())
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
fn dress(ctx: &TcContext, l3: usize, number: u8) -> Counter {
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
    let Some([old]) = Linear::as_it_is(ctx).load::<[u16; 1]>(l3) else {
        return Counter::TcOutPass;
    };
    let is_v4 = u16::from_be(old) >> 12 == 4;
    let new = if is_v4 { dscp::v4(old, wanted) } else { dscp::v6(old, wanted) };
    if new == old {
        return Counter::TcOutPass;
    }
    // The checksum first: a header without its new DSCP is harmless, one with a wrong sum is not.
    // After the first write the packet may lie elsewhere, so nothing is read from it any more.
    if is_v4 && ctx.l3_csum_replace(l3 + CHECKSUM, old.into(), new.into(), 2).is_err() {
        return Counter::TcOutPass;
    }
    if ctx.store(l3, &new, 0).is_err() {
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
    /// A packet with its IP header at `l3`; `headers_len` counts all headers from there on.
    #[inline(always)]
    fn new(ctx: &TcContext, l3: usize, headers_len: impl FnOnce() -> usize) -> Self {
        Self::unmerged(ctx, l3).on_the_wire(ctx, headers_len)
    }

    /// A packet with its IP header at `l3` as it is here.
    #[inline(always)]
    fn unmerged(ctx: &TcContext, l3: usize) -> Self {
        Self { packets: 1, bytes: u64::from(ctx.len()) - l3 as u64 }
    }

    /// The packets that a merged one is made of; on the wire every segment has its own headers.
    #[inline(always)]
    fn on_the_wire(mut self, ctx: &TcContext, headers_len: impl FnOnce() -> usize) -> Self {
        // SAFETY: the context is valid while the program runs; `gso_segs` is readable since 5.1.
        let segments = u64::from(unsafe { (*ctx.skb.skb).gso_segs });
        if segments > 1 {
            self.packets = segments;
            self.bytes += (segments - 1) * headers_len() as u64;
        }
        self
    }
}

/// Where and when a packet of a decided flow is counted.
#[derive(Clone, Copy)]
struct Counting {
    slot: u32,
    /// 0 for the way of the connection's first packet.
    side: u32,
    now_ns: u64,
}

/// Counts a packet of a decided flow.
#[inline(always)]
fn observe(sent: Sent, at: Counting, closes: bool) {
    let Some(flow) = FLOW_COUNTS.get_ptr_mut(at.slot) else {
        return;
    };
    // SAFETY: the value belongs to this CPU and nothing else runs on it meanwhile.
    unsafe {
        (*flow).add(at.side.into(), sent.packets, sent.bytes);
        (*flow).last_seen_ns = at.now_ns;
        if closes {
            (*flow).closing_ns = at.now_ns;
        }
    }
}

/// Whether the packet has the mark of a trusted flow.
#[inline(always)]
fn is_marked(ctx: &TcContext, settings: &Settings) -> bool {
    // SAFETY: the context is valid while the program runs.
    let mark = unsafe { (*ctx.skb.skb).mark };
    let (claimed, trusted) = (settings.mark_mask, settings.mark_trusted);
    claimed & trusted != 0 && claimed & (mark ^ trusted) == 0
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

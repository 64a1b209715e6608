//! The first packets of each flow, and what is decided from them.
//!
//! Owns which flows are looked at and for how long: a window of packets and bytes per direction,
//! which an unfinished ClientHello extends up to the cap on bytes. Decided flows are forgotten, but
//! for a bounded memory that answers packets which were queued before the decision. Does not own
//! the queue, the marks or the flow map.
//!
//! What counts for the window of a TCP direction are packets that bring payload: acknowledgements
//! and keep-alives, which a client can send as it likes before its ClientHello, do not.

mod answer;
mod flow;
mod judge;
mod message;
mod opening;
mod outcome;
mod past;
#[cfg_attr(not(feature = "quic"), path = "no_quic.rs")]
mod quic;
pub(super) mod segment;
mod share;
mod side;
mod stats;
mod watch;

use std::sync::Arc;

use sluice_abi::attach::Link;
use sluice_abi::flow::{Direction, FlowKey};
use sluice_abi::verdict::{Reason, Verdict};
use sluice_datapath::parse::{FIN, Headers, RST, SYN, TCP, headers};

use self::answer::Answering;
use self::flow::{Context, Flow};
use self::judge::Judge;
pub(crate) use self::judge::Sentence;
pub use self::message::{ALPN_MAX, Answer, Hello, JA3_STRING_MAX, News, Request, TEXT_MAX};
pub use self::outcome::{Cause, Decision, Outcome, Step};
use self::past::Past;
use self::segment::Segment;
pub use self::stats::Stats;
use self::watch::Taken;
pub use self::watch::Watch;
use super::domain_set::DomainSet;
use super::table::Table;
use super::tls::Joined;
use crate::policy::{Ends, Path, Policy, Seen};

/// Pieces of one stream that may wait behind gaps.
const PIECES_MAX: usize = 32;
/// Flows whose time is checked with each packet.
const SWEEP: usize = 2;

/// What rules and lists say about a flow that showed this; `clean` is the reason when they say
/// nothing.
pub(crate) fn judge(
    rules: &Policy,
    lists: &DomainSet,
    ends: Ends,
    seen: Seen<'_>,
    clean: Reason,
) -> Sentence {
    Judge { rules, lists, ends }.message(seen, clean)
}

/// How much is inspected and kept.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Limits {
    /// Packets of one direction that are inspected at most; also 0 means one.
    pub window_packets: u16,
    /// Bytes of one direction that are inspected and, for a ClientHello, kept at most.
    pub window_bytes: u32,
    /// Flows under inspection at most.
    pub flows_max: u32,
    /// Memory of the engine at most, rules and lists not counted. Below some 100 kB a few flows are
    /// kept nevertheless: see [`Engine::memory_max`].
    pub bytes_max: usize,
    /// How long a ClientHello may take from its first byte to its last.
    pub hello_ms: u64,
    /// How long a flow is kept that is silent.
    pub idle_ms: u64,
    /// Whether the answers of TLS servers are read, which come after the decision: only where every
    /// packet is seen anyway.
    pub reads_answers: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            window_packets: 10,
            // The longest ClientHello that is read, in records of at least 64 bytes.
            window_bytes: 18 * 1024,
            flows_max: 8192,
            bytes_max: 6 << 20,
            hello_ms: 15_000,
            idle_ms: 60_000,
            reads_answers: false,
        }
    }
}

/// The first-N engine.
#[derive(Debug)]
pub struct Engine {
    limits: Limits,
    rules: Arc<Policy>,
    flows: Table<Flow>,
    past: Table<Past>,
    answers: Table<Answering>,
    joined: Joined,
    /// Heap bytes that streams use, and may use.
    kept: usize,
    kept_max: usize,
    stats: Stats,
    /// What is asked about names that no rule covers.
    lists: Arc<DomainSet>,
    /// Rulesets, where there are any.
    watch: Option<Box<Watch>>,
}

impl Engine {
    /// Flows that are kept whatever the limits say.
    const FLOWS_MIN: u32 = 64;

    /// An engine. `seed` must be random and secret: it keeps strangers from choosing flows that
    /// are slow to look up.
    #[must_use]
    pub fn new(limits: Limits, rules: impl Into<Arc<Policy>>, seed: [u64; 2]) -> Self {
        let limits = Limits {
            window_packets: limits.window_packets.max(1),
            window_bytes: limits.window_bytes.clamp(1024, 1 << 20),
            ..limits
        };
        // The tables get half of the memory at most, streams the rest.
        let mut flows_max = limits.flows_max.clamp(Self::FLOWS_MIN, 1 << 20);
        let tables = |flows_max| Self::tables(flows_max, Self::answers_max(flows_max, &limits));
        while tables(flows_max) > limits.bytes_max / 2 && flows_max > Self::FLOWS_MIN {
            flows_max -= flows_max.div_ceil(8).min(flows_max - Self::FLOWS_MIN);
        }
        // A stream whose buffer grew by doubling, while it is copied, needs three times its bytes.
        let kept_min = 4 * limits.window_bytes as usize + 4096;
        Self {
            limits,
            rules: rules.into(),
            flows: Table::new(flows_max, seed),
            past: Table::new(Self::past_max(flows_max), seed),
            answers: Table::new(Self::answers_max(flows_max, &limits), seed),
            joined: Joined::default(),
            kept: 0,
            kept_max: limits.bytes_max.saturating_sub(tables(flows_max)).max(kept_min),
            stats: Stats::default(),
            lists: Arc::default(),
            watch: None,
        }
    }

    fn past_max(flows_max: u32) -> u32 {
        (flows_max / 4).clamp(Self::FLOWS_MIN, 4096)
    }

    /// Connections whose server's answer is awaited at most: none, but for a place that stays empty,
    /// where answers are not read.
    fn answers_max(flows_max: u32, limits: &Limits) -> u32 {
        if limits.reads_answers { Self::past_max(flows_max) } else { 1 }
    }

    fn tables(flows_max: u32, answers_max: u32) -> usize {
        Table::<Flow>::memory_max(flows_max)
            + Table::<Past>::memory_max(Self::past_max(flows_max))
            + Table::<Answering>::memory_max(answers_max)
            + Joined::SIZE
    }

    /// Most bytes this engine will ever use, rules and lists not counted.
    #[must_use]
    pub fn memory_max(&self) -> usize {
        Self::tables(self.flows.max(), self.answers.max()) + self.kept_max
    }

    /// Bytes in use, rules and lists not counted.
    #[must_use]
    pub const fn memory(&self) -> usize {
        self.flows.memory() + self.past.memory() + self.answers.memory() + Joined::SIZE + self.kept
    }

    /// Flows under inspection.
    #[must_use]
    pub const fn flows(&self) -> usize {
        self.flows.len()
    }

    /// What was counted so far.
    #[must_use]
    pub const fn stats(&self) -> &Stats {
        &self.stats
    }

    /// Flows under inspection.
    #[must_use]
    pub const fn inspecting(&self) -> usize {
        self.flows.len()
    }

    /// The rules in force.
    #[must_use]
    pub fn rules(&self) -> &Policy {
        &self.rules
    }

    /// The domain lists in force.
    #[must_use]
    pub fn lists(&self) -> &DomainSet {
        &self.lists
    }

    /// Replaces the rules. Flows that are decided stay so.
    pub fn set_rules(&mut self, rules: impl Into<Arc<Policy>>) {
        self.rules = rules.into();
    }

    /// Replaces the domain lists. Flows that are decided stay so.
    pub fn set_lists(&mut self, lists: impl Into<Arc<DomainSet>>) {
        self.lists = lists.into();
    }

    /// The rulesets in force.
    #[must_use]
    pub fn watch(&self) -> Option<&Watch> {
        self.watch.as_deref()
    }

    /// Replaces the rulesets. Flows that are decided stay so.
    pub fn set_watch(&mut self, mut watch: Option<Box<Watch>>) {
        if let (Some(watch), Some(before)) = (&mut watch, &self.watch) {
            watch.inherit(before);
        }
        self.watch = watch;
    }

    /// Takes a packet that starts with its IP header. `original_len` is its length on the wire:
    /// more than `l3` has when the copy was cut. `now_ms` is monotonic.
    pub fn packet(&mut self, now_ms: u64, l3: &[u8], original_len: usize) -> Step {
        self.packet_on(now_ms, l3, original_len, &Path::default())
    }

    /// The same with what is known of the packet's path.
    pub fn packet_on(&mut self, now_ms: u64, l3: &[u8], original_len: usize, path: &Path) -> Step {
        self.stats.packets += 1;
        self.stats.truncated += u64::from(original_len > l3.len());
        self.sweep(now_ms, SWEEP);
        let flow = headers(l3, Link::Ip).ok().and_then(|headers| Some((headers, headers.flow()?)));
        let Some((headers, flow)) = flow else {
            self.stats.count(Outcome::NotAFlow);
            return Step { flow: None, ..Step::from(Outcome::NotAFlow) };
        };
        let step = if let Some(segment) = Segment::read(l3, &headers, original_len) {
            self.segment(now_ms, flow, &headers, segment, path)
        } else {
            self.stats.malformed += 1;
            Outcome::Inspect.into()
        };
        Step { flow: Some(flow), ..step }
    }

    /// Takes a packet of a flow.
    fn segment(
        &mut self,
        now_ms: u64,
        (key, direction): (FlowKey, Direction),
        headers: &Headers,
        segment: Segment<'_>,
        path: &Path,
    ) -> Step {
        let flags = headers.tcp_flags;
        let mut asks_again = false;
        if headers.is_syn() {
            // Another connection of the same addresses and ports inherits nothing.
            self.past.remove(&key);
            self.stop_awaiting(&key);
            if self.flows.get(&key).is_some_and(|flow| flow.contradicts(direction, segment.seq)) {
                self.take_out(&key);
                self.stats.reopened += 1;
            }
        } else if let Some(step) = self.answer((key, direction), flags, segment) {
            return step;
        } else if segment.len > 0 && flags & RST == 0 && self.asks_again(&key, direction) {
            asks_again = true;
        } else if let Some(step) = self.remembered(now_ms, key, segment.len > 0) {
            return step;
        }
        if self.flows.get(&key).is_none() {
            let is_end = flags & RST != 0 || (flags & FIN != 0 && segment.len == 0);
            let is_start = key.proto() != TCP || flags & SYN != 0 || segment.len > 0;
            if is_end || !is_start {
                return Outcome::Inspect.into();
            }
            self.stats.flows += 1;
            if self.flows.is_full() {
                self.crowd_out(now_ms);
            }
            let flow = Flow::new(&key, direction, flags, now_ms, path);
            let _ = self.flows.insert(key, if asks_again { flow.asking_again() } else { flow });
        }
        let (limits, rules, joined) = (&self.limits, &self.rules, &mut self.joined);
        let (lists, watch) = (&self.lists, &mut self.watch);
        let Some(flow) = self.flows.get(&key) else { return Outcome::Inspect.into() };
        let before = (flow.memory(), flow.head(direction).0.len());
        // The payload of a reset is not part of the stream (RFC 9293, section 3.5.2).
        let (mut outcome, news) = if flags & RST != 0 {
            (Outcome::Inspect, None)
        } else {
            flow.follow(&key, direction, path);
            let judge = Judge { rules, lists, ends: flow.ends };
            let is_watched = watch.is_some();
            let mut context = Context { now_ms, limits, judge, joined, is_watched };
            flow.packet(key, direction, flags, segment, &mut context)
        };
        let mut alerts = Vec::new();
        if let Some(watch) = watch {
            let (news, before) = (news.as_ref(), before.1);
            let tcp_flags = flags;
            // What a rule allows by now no ruleset blocks while the answer is awaited.
            let pending = flow.pending().filter(|pending| !pending.is_blocked());
            let outcome = pending.filter(|_| outcome == Outcome::Inspect).unwrap_or(outcome);
            let key = &key;
            let taken = Taken { key, direction, tcp_flags, segment, before, outcome, news };
            alerts = watch.look(now_ms, flow, &taken);
        }
        if alerts.iter().any(|alert| alert.blocks) {
            outcome = flow.block(Reason::Signature);
        }
        self.kept = self.kept + flow.memory() - before.0;
        let (original, ends) = (Some(flow.original), Some(flow.ends));
        self.stats.take(news.as_ref());
        self.stats.count(outcome);
        let (mut earlier, mut inspected) = (None, [[0; 2]; 2]);
        if outcome != Outcome::Inspect {
            inspected = flow.inspected();
            let flow = self.take_out(&key);
            if self.limits.reads_answers
                && matches!(&news, Some(News::Hello(hello)) if hello.quic.is_none())
            {
                self.await_answer(key, direction, flow, outcome);
            } else {
                earlier = flow.and_then(Flow::into_hello);
            }
            let asks = match (&news, &outcome) {
                (Some(News::Request(request)), Outcome::Decided(decision)) => {
                    let is_open = decision.verdict == Verdict::Trusted && request.major == 1;
                    is_open.then_some(direction)
                }
                _ => None,
            };
            self.past.insert(key, Past::Answered { outcome, at_ms: now_ms, asks });
        } else if flags & (FIN | RST) != 0 {
            self.close(key);
        }
        while self.kept > self.kept_max && self.flows.len() > 1 {
            self.crowd_out(now_ms);
        }
        Step { news, earlier, original, ends, alerts, inspected, ..outcome.into() }
    }
}

#[cfg(test)]
mod tests;

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
mod opening;
mod outcome;
#[cfg_attr(not(feature = "quic"), path = "no_quic.rs")]
mod quic;
pub(super) mod segment;
mod share;
mod stats;
mod watch;

use sluice_abi::attach::Link;
use sluice_abi::flow::{Direction, FlowKey};
use sluice_abi::verdict::{Reason, Verdict};
use sluice_datapath::parse::{FIN, Headers, RST, SYN, TCP, headers};

use self::answer::{Answering, Told};
use self::flow::{Context, Flow};
use self::judge::Judge;
pub(crate) use self::judge::Sentence;
pub use self::outcome::{
    ALPN_MAX, Answer, Cause, Decision, Hello, JA3_STRING_MAX, News, Outcome, Request, Step,
    TEXT_MAX,
};
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
/// How long a trusted flow is remembered; a packet that comes later is inspected anew.
const TRUSTED_MS: u64 = 10_000;
/// Flows whose time is checked with each packet.
const SWEEP: usize = 2;

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

/// What is remembered of a flow that is no longer inspected.
#[derive(Debug)]
enum Past {
    /// The outcome, which stays.
    Answered { outcome: Outcome, at_ms: u64 },
    /// Closed before a decision; packets with payload since.
    Closed { packets: u16 },
}

/// The first-N engine.
#[derive(Debug)]
pub struct Engine {
    limits: Limits,
    rules: Policy,
    flows: Table<Flow>,
    past: Table<Past>,
    answers: Table<Answering>,
    joined: Joined,
    /// Heap bytes that streams use, and may use.
    kept: usize,
    kept_max: usize,
    stats: Stats,
    /// What is asked about names that no rule covers.
    lists: DomainSet,
    /// Rulesets, where there are any.
    watch: Option<Box<Watch>>,
}

impl Engine {
    /// Flows that are kept whatever the limits say.
    const FLOWS_MIN: u32 = 64;

    /// An engine. `seed` must be random and secret: it keeps strangers from choosing flows that
    /// are slow to look up.
    #[must_use]
    pub fn new(limits: Limits, rules: Policy, seed: [u64; 2]) -> Self {
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
            rules,
            flows: Table::new(flows_max, seed),
            past: Table::new(Self::past_max(flows_max), seed),
            answers: Table::new(Self::answers_max(flows_max, &limits), seed),
            joined: Joined::default(),
            kept: 0,
            kept_max: limits.bytes_max.saturating_sub(tables(flows_max)).max(kept_min),
            stats: Stats::default(),
            lists: DomainSet::default(),
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

    /// The rules in force.
    #[must_use]
    pub const fn rules(&self) -> &Policy {
        &self.rules
    }

    /// Flows under inspection.
    #[must_use]
    pub const fn inspecting(&self) -> usize {
        self.flows.len()
    }

    /// Replaces the rules. Flows that are decided stay so.
    pub fn set_rules(&mut self, rules: Policy) {
        self.rules = rules;
    }

    /// The rules in force, to tell them the time.
    pub const fn rules_mut(&mut self) -> &mut Policy {
        &mut self.rules
    }

    /// The domain lists in force.
    #[must_use]
    pub const fn lists(&self) -> &DomainSet {
        &self.lists
    }

    /// What rules and lists say about a flow that showed this; `clean` is the reason when they say
    /// nothing.
    pub(crate) fn judge(&self, ends: Ends, seen: Seen<'_>, clean: Reason) -> Sentence {
        Judge { rules: &self.rules, lists: &self.lists, ends }.message(seen, clean)
    }

    /// Replaces the domain lists. Flows that are decided stay so.
    pub fn set_lists(&mut self, lists: DomainSet) {
        self.lists = lists;
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
            let evicted = self.flows.insert(key, Flow::new(&key, direction, flags, now_ms, path));
            self.forget(now_ms, evicted, Cause::Memory);
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
            let key = &key;
            let taken = Taken { key, direction, tcp_flags, segment, before, outcome, news };
            alerts = watch.look(now_ms, flow, &taken);
            if alerts.iter().any(|alert| alert.blocks) {
                outcome = flow.block(Reason::Signature);
            }
        }
        self.kept = self.kept + flow.memory() - before.0;
        let (original, ends) = (Some(flow.original), Some(flow.ends));
        self.stats.take(news.as_ref());
        self.stats.count(outcome);
        if outcome != Outcome::Inspect {
            let flow = self.take_out(&key);
            if self.limits.reads_answers
                && matches!(&news, Some(News::Hello(hello)) if hello.quic.is_none())
            {
                self.await_answer(key, direction, flow, outcome);
            }
            self.past.insert(key, Past::Answered { outcome, at_ms: now_ms });
        } else if flags & (FIN | RST) != 0 {
            self.close(key);
        }
        while self.kept > self.kept_max && self.flows.len() > 1 {
            self.crowd_out(now_ms);
        }
        Step { news, original, ends, alerts, ..outcome.into() }
    }

    /// Awaits the answer of the server of a flow that a ClientHello has decided.
    fn await_answer(
        &mut self,
        key: FlowKey,
        direction: Direction,
        flow: Option<Flow>,
        outcome: Outcome,
    ) {
        let Some(flow) = flow else { return };
        let answering = flow.answering(direction, outcome);
        self.stop_awaiting(&key);
        self.kept += answering.memory();
        if let Some((_, oldest)) = self.answers.insert(key, answering) {
            self.kept -= oldest.memory();
        }
    }

    /// Takes a packet of a flow whose server has not answered yet. `None` when there is nothing to
    /// say about it that is not remembered anyway.
    fn answer(
        &mut self,
        (key, direction): (FlowKey, Direction),
        flags: u8,
        segment: Segment<'_>,
    ) -> Option<Step> {
        let answering = self.answers.get(&key)?;
        let before = answering.memory();
        let is_end = flags & (FIN | RST) != 0;
        let told = answering.look(key, direction, segment, is_end, self.limits.window_bytes);
        self.kept = self.kept + answering.memory() - before;
        let Told::Over(answer) = told else { return None };
        let outcome = self.stop_awaiting(&key)?.outcome;
        let news = News::Answer(answer?);
        self.stats.take(Some(&news));
        self.stats.repeated += 1;
        Some(Step { news: Some(news), is_repeated: true, ..outcome.into() })
    }

    fn stop_awaiting(&mut self, key: &FlowKey) -> Option<Answering> {
        let answering = self.answers.remove(key)?;
        self.kept -= answering.memory();
        Some(answering)
    }

    /// The answer about a flow that is no longer inspected.
    fn remembered(&mut self, now_ms: u64, key: FlowKey, has_payload: bool) -> Option<Step> {
        match self.past.get(&key)? {
            Past::Answered { outcome: Outcome::Decided(decision), at_ms }
                if decision.verdict == Verdict::Trusted
                    && now_ms.saturating_sub(*at_ms) > TRUSTED_MS =>
            {
                self.past.remove(&key);
                None
            }
            Past::Answered { outcome, .. } => {
                self.stats.repeated += 1;
                Some(Step { is_repeated: true, ..(*outcome).into() })
            }
            Past::Closed { packets } => {
                *packets += u16::from(has_payload);
                if *packets <= self.limits.window_packets {
                    return Some(Outcome::Inspect.into());
                }
                // A forged end would else hide all that follows.
                let outcome = Outcome::Undecided(Cause::AfterClose);
                self.stats.count(outcome);
                self.past.remove(&key);
                self.past.insert(key, Past::Answered { outcome, at_ms: now_ms });
                Some(outcome.into())
            }
        }
    }

    /// Drops the state of a flow that ended undecided.
    fn close(&mut self, key: FlowKey) {
        if let Some(flow) = self.take_out(&key) {
            self.stats.closed += 1;
            // Without payload there is nothing to inherit: what comes next starts from the front.
            if flow.has_payload() {
                self.past.insert(key, Past::Closed { packets: 0 });
            }
        }
    }

    /// Makes place for another flow.
    fn crowd_out(&mut self, now_ms: u64) {
        let oldest = self.flows.by_age().map(|(key, flow)| (*key, flow.ends.device));
        let victim = share::victim(oldest);
        let evicted = victim.and_then(|key| self.flows.remove(&key).map(|flow| (key, flow)));
        self.forget(now_ms, evicted, Cause::Memory);
    }

    fn take_out(&mut self, key: &FlowKey) -> Option<Flow> {
        let flow = self.flows.remove(key)?;
        self.kept -= flow.memory();
        Some(flow)
    }

    /// Counts a flow that had to go. What was in the middle of a ClientHello stays undecided: a
    /// later packet of it must not look like the start of something harmless.
    fn forget(&mut self, now_ms: u64, flow: Option<(FlowKey, Flow)>, cause: Cause) {
        let Some((key, flow)) = flow else { return };
        self.kept -= flow.memory();
        let outcome = Outcome::Undecided(cause);
        if flow.is_unfinished() {
            self.past.insert(key, Past::Answered { outcome, at_ms: now_ms });
        } else if cause == Cause::Timeout {
            self.stats.expired += 1;
            return;
        }
        self.stats.count(outcome);
    }

    fn sweep(&mut self, now_ms: u64, most: usize) {
        for _ in 0..most {
            let is_old = |flow: &Flow| now_ms.saturating_sub(flow.last_ms) > self.limits.idle_ms;
            if !self.flows.oldest().is_some_and(|(_, flow)| is_old(flow)) {
                break;
            }
            let silent = self.flows.pop_oldest();
            self.forget(now_ms, silent, Cause::Timeout);
        }
    }

    /// Forgets the flows that were silent for too long. Packets do this too, a few flows each.
    pub fn expire(&mut self, now_ms: u64) {
        self.sweep(now_ms, usize::MAX);
    }
}

#[cfg(test)]
mod tests;

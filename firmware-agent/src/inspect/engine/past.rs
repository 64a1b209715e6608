//! Flows that are no longer inspected: which go, and what is remembered of them.

use sluice_abi::flow::{Direction, FlowKey};
use sluice_abi::verdict::{Reason, Verdict};

use super::flow::Flow;
use super::judge::Judge;
use super::outcome::{Cause, Outcome, Step};
use super::{Engine, share};

/// How long a trusted flow is remembered; a packet that comes later is inspected anew.
const TRUSTED_MS: u64 = 10_000;

/// What is remembered of a flow that is no longer inspected.
#[derive(Debug)]
pub(super) enum Past {
    /// The outcome, which stays. What travels in direction `asks` may be another request.
    Answered { outcome: Outcome, at_ms: u64, asks: Option<Direction> },
    /// Closed before a decision; packets with payload since.
    Closed { packets: u16 },
}

impl Engine {
    /// Whether a packet with payload may be another request on a connection of plain HTTP; then it is
    /// inspected like the first.
    pub(super) fn asks_again(&mut self, key: &FlowKey, direction: Direction) -> bool {
        let asks = |past: &mut Past| match past {
            Past::Answered { asks, .. } => *asks == Some(direction),
            Past::Closed { .. } => false,
        };
        self.past.get(key).is_some_and(asks) && self.past.remove(key).is_some()
    }

    /// The answer about a flow that is no longer inspected.
    pub(super) fn remembered(
        &mut self,
        now_ms: u64,
        key: FlowKey,
        has_payload: bool,
    ) -> Option<Step> {
        match self.past.get(&key)? {
            Past::Answered { outcome: Outcome::Decided(decision), at_ms, .. }
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
                self.past.insert(key, Past::Answered { outcome, at_ms: now_ms, asks: None });
                Some(outcome.into())
            }
        }
    }

    /// Starts anew with flows under inspection that a rule pauses now, and with those that one has
    /// paused: their next packets are judged as first ones.
    pub fn look_for_pauses(&mut self) {
        let Self { flows, past, rules, lists, .. } = self;
        let is_paused = |flow: &Flow| {
            let judge = Judge { rules, lists, ends: flow.ends };
            judge.first().is_some_and(|sentence| sentence.reason == Reason::Paused)
        };
        let paused = flows.by_age().filter(|(_, flow)| is_paused(flow));
        let paused: Vec<FlowKey> = paused.map(|(key, _)| *key).collect();
        let was_paused = past.by_age().filter(|(_, past)| match past {
            Past::Answered { outcome: Outcome::Decided(decision), .. } => {
                decision.reason == Reason::Paused
            }
            _ => false,
        });
        let was_paused: Vec<FlowKey> = was_paused.map(|(key, _)| *key).collect();
        for key in paused {
            self.take_out(&key);
        }
        for key in was_paused {
            self.past.remove(&key);
        }
    }

    /// Forgets what was answered about a flow: its next packet is inspected.
    pub fn forget_answer(&mut self, key: &FlowKey) {
        self.past.remove(key);
    }

    /// Drops the state of a flow that ended undecided.
    pub(super) fn close(&mut self, key: FlowKey) {
        if let Some(flow) = self.take_out(&key) {
            self.stats.closed += 1;
            // Without payload there is nothing to inherit: what comes next starts from the front.
            if flow.has_payload() {
                self.past.insert(key, Past::Closed { packets: 0 });
            }
        }
    }

    /// Makes place for another flow.
    pub(super) fn crowd_out(&mut self, now_ms: u64) {
        let oldest = self.flows.by_age().map(|(key, flow)| (*key, flow.ends.device));
        let victim = share::victim(oldest);
        let evicted = victim.and_then(|key| self.flows.remove(&key).map(|flow| (key, flow)));
        self.forget(now_ms, evicted, Cause::Memory);
    }

    pub(super) fn take_out(&mut self, key: &FlowKey) -> Option<Flow> {
        let flow = self.flows.remove(key)?;
        self.kept -= flow.memory();
        Some(flow)
    }

    /// Counts a flow that had to go. What was in the middle of a ClientHello stays undecided: a
    /// later packet of it must not look like the start of something harmless.
    fn forget(&mut self, now_ms: u64, flow: Option<(FlowKey, Flow)>, cause: Cause) {
        let Some((key, flow)) = flow else { return };
        self.kept -= flow.memory();
        let outcome = match (cause, flow.pending()) {
            // The server had its time to answer.
            (Cause::Timeout, Some(pending)) => pending,
            _ => Outcome::Undecided(cause),
        };
        if flow.is_unfinished() {
            self.past.insert(key, Past::Answered { outcome, at_ms: now_ms, asks: None });
        } else if cause == Cause::Timeout {
            self.stats.expired += 1;
            return;
        }
        self.stats.count(outcome);
    }

    pub(super) fn sweep(&mut self, now_ms: u64, most: usize) {
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

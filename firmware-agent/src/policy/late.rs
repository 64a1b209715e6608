//! Which rules wait for the payload or for what a server answers, and which flows wait with them.

use super::{Best, Compiled, Entry, Facts, Policy, kind, need, rank};
use crate::config::RuleAction;

impl Policy {
    /// Whether what the server answers to a ClientHello can still change what counts for its flow.
    ///
    /// `facts` are those of the ClientHello. What `is_blocked` by now waits for rules that could let
    /// it through, and for no other: one that blocks too would change only who is named.
    #[must_use]
    pub fn awaits_answer(&self, facts: &Facts<'_>, is_blocked: bool) -> bool {
        if self.answered.is_empty() {
            return false;
        }
        let hits = self.hits(facts);
        let decided = self.best(facts, &hits).decides.map_or(0, |(rank, _)| rank);
        self.answered.iter().any(|number| {
            let action = self.rules.get(*number as usize).map(|rule| rule.action);
            let may_pass = !matches!(
                action,
                Some(
                    RuleAction::Block
                        | RuleAction::Reject
                        | RuleAction::Observe
                        | RuleAction::Pause
                ) | None
            );
            if is_blocked && !may_pass {
                return false;
            }
            // As it would stand if the answer were the one it waits for.
            let own = || hits.iter().filter(|hit| hit.rule == *number);
            let found = own().fold(need::ANSWER, |found, hit| found | hit.need);
            let most = own().map(|hit| (hit.kind, hit.len)).max().unwrap_or_default();
            let (kind, len) = most.max((kind::FINGERPRINT, 0));
            let mut best = Best::default();
            self.weigh(facts, *number, found, (kind, len, Entry::Any), &mut best);
            let rank = best.decides.or(best.observes).map_or(0, |(rank, _)| rank);
            rank > decided
        })
    }

    /// Notes what a rule that waits for the payload can outrank.
    pub(super) fn find_late(&mut self) {
        let (mut late, mut late_answered) =
            (vec![None; self.who.len()], vec![None; self.who.len()]);
        for (number, rule) in (0..).zip(&self.rules) {
            let Some((kind, len)) = rule.awaited().filter(|_| self.holds(rule)) else { continue };
            let rank = rank(rule.action, kind, len, number);
            let of = if rule.needs & need::ANSWER == 0 { &mut late } else { &mut late_answered };
            if let Some(best) = of.get_mut(rule.who as usize) {
                *best = (*best).max(Some(rank));
            }
        }
        let known = |ranks: Vec<Option<u64>>| {
            (0..).zip(ranks).filter_map(|(who, rank)| Some((who, rank?))).collect()
        };
        (self.late, self.late_answered) = (known(late), known(late_answered));
    }
}

impl Compiled {
    /// The kind and length that it can reach at most, if it waits for the payload.
    fn awaited(&self) -> Option<(u8, u8)> {
        let has = |what: u8| self.needs & what != 0;
        Some(if has(need::DOMAIN) {
            (kind::DOMAIN, self.longest)
        } else if has(need::APP) {
            (kind::APP, 0)
        } else if has(need::FINGERPRINT | need::ANSWER) {
            (kind::FINGERPRINT, 0)
        } else if self.protocols.is_empty() {
            return None;
        } else if has(need::NET) {
            (kind::ADDRESS, 0)
        } else if has(need::COUNTRY) {
            (kind::COUNTRY, 0)
        } else if !self.ports.is_empty() {
            (kind::PORTS, 1)
        } else {
            (kind::PROTOCOL, 0)
        })
    }
}

//! Flows of devices whose pause is over: they go on where they can.
//!
//! What was inspected before the pause is known, and gets the verdict that rules and lists have for
//! it now. Of the rest nothing is known: its next packets go to the queue.

use sluice_abi::flow::{Direction, FlowKey};
use sluice_abi::verdict::Reason;

use super::inspector::Inspector;
use crate::config::RuleAction;
use crate::dataplane::flows::Flows;
use crate::netfilter::conntrack::Tuple;

/// What engines have to do once they judge by the rules that were changed.
#[derive(Debug, Default)]
pub(super) struct Orders {
    /// Flows whose answers are forgotten.
    pub(super) forget: Vec<FlowKey>,
    /// Flows under inspection may be paused now, or paused no more.
    pub(super) looks_for_pauses: bool,
}

impl Inspector {
    /// Lets flows go on that no rule pauses any more.
    pub(super) fn resume(&mut self, now_ns: u64, mut flows: Option<&mut Flows>) {
        let mut known = Vec::new();
        let mut unknown: Vec<(FlowKey, Direction)> = Vec::new();
        let may_pause = self.book.rules.holds_any(RuleAction::Pause);
        for record in self.table.iter() {
            let decision = &record.decision;
            if decision.reason != Reason::Paused {
                continue;
            }
            // An earlier agent has not said whose it is.
            let is_anyones = decision.ends.is_none();
            if is_anyones && may_pause {
                continue;
            }
            match self.judged_anew(now_ns, decision) {
                Some((_, sentence)) if sentence.reason == Reason::Paused => {}
                Some(anew) if decision.hello.is_some() => known.push(anew),
                None if !is_anyones => {}
                _ => unknown.push(decision.key),
            }
        }
        let was_paused = self.has_paused;
        self.has_paused = may_pause || !known.is_empty() || !unknown.is_empty();
        for (decision, _) in known {
            let (key, verdict) = (decision.key, decision.verdict);
            self.record(now_ns, decision, flows.as_deref_mut());
            self.mark_connection(key, self.mark(verdict, Some(&key.0)));
        }
        for key in unknown {
            let ended = self.table.remove(&key.0);
            for key in ended.iter().flat_map(|ended| ended.record.keys()) {
                self.orders.forget.push(*key);
            }
            // First what marks packets, or one of them would bring the connection's mark back.
            self.remove(ended, &[], flows.as_deref_mut());
            self.mark_connection(key, 0);
        }
        if was_paused || may_pause {
            self.orders.looks_for_pauses = true;
        }
        if was_paused && !may_pause {
            self.resume_forgotten();
        }
    }

    /// Takes the mark from connections that were blocked and of which no record is left: those of a
    /// long pause. Where records were lost for want of room, they may be others, and stay.
    fn resume_forgotten(&mut self) {
        if self.table.refused() > 0 {
            return;
        }
        let marks = self.policy.marks;
        let Some(conntrack) = &mut self.conntrack else { return };
        let mut found: Vec<Tuple> = Vec::new();
        let table = &self.table;
        let listed = conntrack.each(|connection| {
            let is_blocked = connection.mark & marks.bits() == marks.blocked();
            if is_blocked && connection.flows().iter().all(|(key, _)| table.get(key).is_none()) {
                found.push(connection.original);
            }
        });
        if let Err(error) = listed {
            log::warn!("{}", crate::cli::chain(&error));
        }
        for original in &found {
            if let Err(error) = conntrack.set_mark(original, marks.bits(), 0) {
                log::debug!("mark a connection: {error}");
            }
        }
    }
}

//! Flows of plain HTTP/1, whose client may ask for something else at any time: what it sends goes to the
//! queue, what it gets is decided.
//!
//! `tc_flow_in` marks what carries something from the client, so that rules give it to the queue whatever
//! the mark of the connection says: that of an undecided one, which no flowtable takes. A client that
//! sends much which is no request, or gets a long answer, has a flow like any other from then on.

use sluice_abi::flow::FlowKey;
use sluice_abi::verdict::Verdict;

use super::inspector::Inspector;
use crate::dataplane::flows::Flows;
use crate::inspect::engine::{self, News, Step};

/// Bytes of an answer behind which its flow is given to a flowtable for the rest of it.
const LONG_ANSWER: u64 = 1 << 20;
/// Flows that are given there at one sweep at most.
const PER_SWEEP: usize = 64;

impl Inspector {
    /// Whether what the client of this flow sends is looked at.
    pub(super) fn is_asking(&self, key: &FlowKey) -> bool {
        self.table.get(key).is_some_and(|record| record.decision.asks)
    }

    /// Whether the client of a decided flow has asked for something else that is decided in the same
    /// way; what it said is kept.
    pub(super) fn has_asked_again(
        &mut self,
        now_ns: u64,
        key: &FlowKey,
        decision: &engine::Decision,
        step: &Step,
    ) -> bool {
        let (verdict, treatment) = self.verdict(decision);
        let rule = self.rule(decision.rule).map(|rule| &rule.name);
        let is_same = self.table.get(key).is_some_and(|record| {
            let old = &record.decision;
            old.asks && old.treatment == treatment && old.rule.as_ref() == rule
        });
        if verdict != Verdict::Trusted || !is_same || !is_request(step) {
            return false;
        }
        let (entry, observed) = self.note(now_ns, decision, step.ends.as_ref());
        self.table.asked(key, (super::inspector::said(step), entry, observed), now_ns)
    }

    /// Writes the decision about a flow again, which is one like any other from now on, if it was not
    /// before; else where the kernel has lost it.
    pub(super) fn stop_asking(&mut self, key: &FlowKey, flows: Option<&mut Flows>) {
        if !self.table.stop_asking(key) {
            self.renew(key, flows);
        } else if let Some(flows) = flows {
            self.write(key, flows, |_, _| true);
        }
    }

    /// Gives flows with long answers to the short way for the rest of them.
    pub(super) fn end_long_answers(&mut self, mut flows: Option<&mut Flows>) {
        for key in self.table.answered_at_length(LONG_ANSWER, PER_SWEEP) {
            self.stop_asking(&key, flows.as_deref_mut());
            let Some(record) = self.table.get(&key) else { continue };
            let (own, verdict) = (record.decision.key, record.decision.verdict);
            self.mark_connection(own, self.mark(verdict, Some(&key)));
        }
    }
}

/// Whether a packet completed a request behind which others can be read.
pub(super) fn is_request(step: &Step) -> bool {
    matches!(&step.news, Some(News::Request(request)) if request.major == 1)
}

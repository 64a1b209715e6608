//! Decisions on their way into the table and the kernel, and out of them.

use sluice_abi::flow::{Direction, FlowCount, FlowKey, FlowLimit, FlowState};
use sluice_abi::verdict::Verdict;

use super::inspector::Inspector;
use super::tally::{Part, owner};
use crate::dataplane::flows::{Adopted, Flows};
use crate::dataplane::table::{self, Action, Treatment};
use crate::netfilter::conntrack::Tuple;

impl Inspector {
    /// Puts a decision into the table and the kernel.
    pub(super) fn record(
        &mut self,
        now_ns: u64,
        decision: table::Decision,
        mut flows: Option<&mut Flows>,
    ) {
        let mut keys: Vec<FlowKey> =
            std::iter::once(decision.key).chain(decision.nat_key).map(|(key, _)| key).collect();
        let (treatment, is_limited) = (decision.treatment, decision.verdict == Verdict::Limited);
        if decision.is_partial {
            self.lone.push(decision.key);
        }
        let placed = self.table.insert(decision, now_ns, |slot| count(flows.as_deref(), slot));
        match placed.slot {
            None => {
                log::warn!("no room for another blocked or limited flow (option held_flows)");
                // One that an earlier agent left would else stay for ever.
                for key in keys.drain(..) {
                    let _ = flows.as_deref_mut().map(|flows| flows.remove(&key));
                }
            }
            // Before the decision: the first packet that it hits finds its rate.
            Some(slot) if is_limited => {
                let limit =
                    FlowLimit::full(treatment.kbit, treatment.burst, (now_ns / 1_000_000) as u32);
                if let Some(Err(error)) =
                    flows.as_deref_mut().map(|flows| flows.limit(slot, &limit))
                {
                    self.totals.write_errors += 1;
                    log::warn!("{}", error.chain());
                }
            }
            Some(_) => {}
        }
        // What stays is overwritten: between removing and writing a packet could slip through.
        self.remove(placed.ended, &keys, flows.as_deref_mut());
        if let (Some(key), Some(flows)) = (keys.first(), flows) {
            self.write(key, flows, |_, _| true);
        }
    }

    /// Writes the decision about the flow `key` again where the kernel has lost it.
    pub(super) fn renew(&mut self, key: &FlowKey, flows: Option<&mut Flows>) {
        if let Some(flows) = flows {
            self.write(key, flows, |flows, key| matches!(flows.get(key), Ok(None)));
        }
    }

    /// Writes the recorded decision about the flow `key` under those of its keys that `wanted` says.
    pub(super) fn write(
        &mut self,
        key: &FlowKey,
        flows: &mut Flows,
        wanted: impl Fn(&Flows, &FlowKey) -> bool,
    ) {
        let Some(record) = self.table.get(key) else { return };
        let decision = &record.decision;
        for (key, original) in std::iter::once(&decision.key).chain(&decision.nat_key) {
            let state = FlowState::new(
                decision.verdict,
                decision.reason,
                *original,
                record.slot,
                decision.expires_s,
            )
            .with_profile(decision.treatment.profile);
            let state = if decision.asks { state.with_requests() } else { state };
            if !wanted(flows, key) {
                continue;
            }
            match flows.set(key, &state) {
                Ok(true) => {}
                Ok(false) => {
                    self.totals.write_errors += 1;
                    log::warn!("the kernel has no room for another blocked or limited flow");
                }
                Err(error) => {
                    self.totals.write_errors += 1;
                    log::warn!("{}", error.chain());
                }
            }
        }
    }

    /// Takes up blocked and limited flows that an earlier agent left in the maps.
    pub(super) fn adopt(&mut self, now_ns: u64, adopted: Adopted, mut flows: Option<&mut Flows>) {
        // All limits are read by now, so a slot that is given out anew takes nobody's.
        for left in adopted.held {
            let way = |(key, state): &(FlowKey, FlowState)| {
                let original =
                    if state.side(Direction::Up) == 0 { Direction::Up } else { Direction::Down };
                (*key, original)
            };
            let Some((key, state)) = left.keys.first() else { continue };
            let Some(reason) = state.reason() else { continue };
            let decision = table::Decision {
                key: way(&(*key, *state)),
                nat_key: left.keys.get(1).map(way),
                verdict: state.verdict(),
                treatment: Treatment {
                    profile: state.profile(),
                    kbit: left.limit.kbit,
                    burst: left.limit.burst,
                },
                reason,
                idle_timeout: self.policy.idle(key),
                expires_s: state.expires_s,
                hello: None,
                spoken: None,
                rule: None,
                entry: None,
                observed: None,
                learned: None,
                ends: None,
                inspected_packets: 0,
                is_partial: false,
                asks: false,
            };
            self.record(now_ns, decision, flows.as_deref_mut());
        }
    }

    /// Gives the connection of a flow another mark; where that does not work, what the programs do
    /// is all that is done.
    pub(super) fn mark_connection(&mut self, (key, original): (FlowKey, Direction), value: u32) {
        let marks = self.policy.marks;
        let Some(conntrack) = &mut self.conntrack else { return };
        match super::offload::mark(conntrack, &Tuple::of_flow(&key, original), marks, value) {
            Ok(is_offloaded) => self.has_stale_offload |= is_offloaded,
            Err(error) => log::debug!("mark a connection: {error}"),
        }
    }

    /// Forgets the decision about a flow.
    pub(super) fn forget(&mut self, key: &FlowKey, flows: Option<&mut Flows>) {
        if let Some(action) = self.table.remove(key) {
            self.remove([action], &[], flows);
        }
    }

    /// Removes what ended from the kernel, except the keys in `keep`.
    pub(super) fn remove(
        &mut self,
        ended: impl IntoIterator<Item = Action>,
        keep: &[FlowKey],
        mut flows: Option<&mut Flows>,
    ) {
        for action in ended {
            match action.cause {
                table::Cause::Expired => self.totals.expired += 1,
                table::Cause::Evicted | table::Cause::Displaced => self.totals.evicted += 1,
                table::Cause::Replaced => {}
            }
            let Some(flows) = flows.as_deref_mut() else { continue };
            if let Some(ends) = action.record.decision.ends.filter(|ends| self.book.is_lan(ends))
                && let Ok(count) = flows.count(action.record.slot)
            {
                self.tally.add(owner(&ends), &Part::of_record(&action.record, &ends, &count));
            }
            for key in action.record.keys().filter(|key| !keep.contains(key)) {
                if let Err(error) = flows.remove(key) {
                    self.totals.write_errors += 1;
                    log::warn!("{}", error.chain());
                }
            }
        }
    }
}

pub(super) fn count(flows: Option<&Flows>, slot: u32) -> FlowCount {
    flows.and_then(|flows| flows.count(slot).ok()).unwrap_or_default()
}

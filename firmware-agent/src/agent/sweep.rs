//! What happens to decided flows between packets: they end, are completed, are looked at again.

use std::collections::VecDeque;

use sluice_abi::flow::{Direction, FlowKey};

use super::inspector::Inspector;
use super::record::count;
use crate::dataplane::flows::Flows;
use crate::netfilter::conntrack::Tuple;

/// Flows that are looked at again at one sweep at most.
const PER_SWEEP: usize = 64;
/// Flows whose other key is asked for at one heartbeat at most: some milliseconds of a slow processor.
const PER_BEAT: usize = 256;
/// How often it is asked for. A packet that the firewall drops has no connection at any time.
const TRIES: u8 = 4;
/// Flows that wait for it; beyond, the oldest keep one key.
const LONE_MAX: usize = 4096;

/// Flows that have one key so far, oldest first, and how often the other was asked for.
#[derive(Debug, Default)]
pub(super) struct Lone(VecDeque<(FlowKey, Direction, u8)>);

impl Lone {
    pub(super) fn push(&mut self, (key, original): (FlowKey, Direction)) {
        self.again(key, original, 0);
    }

    fn again(&mut self, key: FlowKey, original: Direction, tries: u8) {
        if self.0.len() >= LONE_MAX {
            self.0.pop_front();
        }
        self.0.push_back((key, original, tries));
    }
}

impl Inspector {
    /// Ends what is over. Called every sweep interval.
    pub(super) fn sweep(&mut self, now_ns: u64, mut flows: Option<&mut Flows>) {
        self.resolutions.expire(now_ns / 1_000_000);
        let ended = self.table.sweep(
            now_ns,
            |slot| count(flows.as_deref(), slot),
            |key| flows.as_deref().is_none_or(|flows| !matches!(flows.get(key), Ok(None))),
        );
        self.remove(ended, &[], flows.as_deref_mut());
        self.end_long_answers(flows.as_deref_mut());
        self.reopen(now_ns, flows);
    }

    /// Asks for the other keys of flows that were decided by their very first packet, which
    /// conntrack knows only once it has left the router. Called at every heartbeat.
    pub(super) fn complete(&mut self, mut flows: Option<&mut Flows>) {
        for _ in 0..self.lone.0.len().min(PER_BEAT) {
            let Some((key, original, tries)) = self.lone.0.pop_front() else { return };
            if self.table.get(&key).is_none_or(|record| !record.decision.is_partial) {
                continue;
            }
            let Some(conntrack) = &mut self.conntrack else { return };
            let connection = match conntrack.lookup(&Tuple::of_flow(&key, original)) {
                Ok(None) if tries + 1 < TRIES => {
                    self.lone.again(key, original, tries + 1);
                    continue;
                }
                Ok(connection) => connection,
                Err(_) => return self.lone.again(key, original, tries),
            };
            let other = connection
                .and_then(|connection| connection.flows().into_iter().find(|(of, _)| *of != key));
            if self.table.complete(&key, other)
                && let Some(flows) = flows.as_deref_mut()
            {
                self.write(&key, flows, |flows, key| matches!(flows.get(key), Ok(None)));
            }
        }
    }

    /// Takes the decisions back about trusted flows that are to be looked at again: their next
    /// packets go to the queue.
    fn reopen(&mut self, now_ns: u64, mut flows: Option<&mut Flows>) {
        if self.conntrack.is_none() {
            // The mark of the connection would keep them out of the queue.
            return;
        }
        for key in self.table.reopen(now_ns, &self.policy.reinspection, PER_SWEEP) {
            let Some(record) = self.table.get(&key) else { continue };
            let own = record.decision.key;
            let keys: Vec<FlowKey> = record.keys().copied().collect();
            self.totals.reinspected += 1;
            // First what marks packets, or one of them would bring the connection's mark back.
            for key in keys {
                if let Some(Err(error)) = flows.as_deref_mut().map(|flows| flows.remove(&key)) {
                    self.totals.write_errors += 1;
                    log::warn!("{}", error.chain());
                }
            }
            self.mark_connection(own, 0);
        }
    }
}

//! The agent's record of decided flows: which there are, where they are counted, when they end.
//!
//! Pure: it says what should be removed from the kernel and is told what the kernel counted. All
//! times are nanoseconds of `CLOCK_MONOTONIC`, the clock of [`FlowCount::last_seen_ns`]; there is
//! no wall clock to go wrong.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use sluice_abi::flow::{Direction, FlowCount, FlowKey};
use sluice_abi::verdict::{Reason, Verdict};

/// Numbers below a bound, each given out once at a time.
#[derive(Debug)]
pub struct Slots {
    free: Vec<u32>,
    fresh: u32,
    bound: u32,
}

impl Slots {
    /// All numbers below `bound` are free.
    #[must_use]
    pub const fn new(bound: u32) -> Self {
        Self { free: Vec::new(), fresh: 0, bound }
    }

    /// A free number, if there is one.
    pub fn take(&mut self) -> Option<u32> {
        self.free.pop().or_else(|| {
            let slot = self.fresh;
            (slot < self.bound).then(|| {
                self.fresh += 1;
                slot
            })
        })
    }

    /// Gives a number back that was taken.
    pub fn give(&mut self, slot: u32) {
        debug_assert!(slot < self.fresh && !self.free.contains(&slot), "slot {slot} was not taken");
        self.free.push(slot);
    }
}

/// What a ClientHello said.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Hello {
    /// Server name.
    pub sni: Option<Box<str>>,
    /// JA4 fingerprint.
    pub ja4: Option<Box<str>>,
    /// JA3 fingerprint.
    pub ja3: Option<Box<str>>,
    /// Protocols offered, the preferred first.
    pub alpn: Box<[Box<str>]>,
}

/// A decision to be recorded.
#[derive(Clone, Debug)]
pub struct Decision {
    /// The flow's key, and which way the connection's first packet travels under it.
    pub key: (FlowKey, Direction),
    /// The same for the other key that NAT gives the connection.
    pub nat_key: Option<(FlowKey, Direction)>,
    /// What was decided.
    pub verdict: Verdict,
    /// Why.
    pub reason: Reason,
    /// How long the flow may be silent before it is forgotten.
    pub idle_timeout: Duration,
    /// `CLOCK_MONOTONIC` second at which the decision ends whatever the flow does; 0 for none. A
    /// decision with a deadline does not end earlier by silence.
    pub expires_s: u32,
    /// What its ClientHello said.
    pub hello: Option<Hello>,
    /// The rule that decided.
    pub rule: Option<Box<str>>,
    /// Packets that the queue saw.
    pub inspected_packets: u32,
}

/// A decision in force.
#[derive(Clone, Debug)]
pub struct Record {
    /// What was decided.
    pub decision: Decision,
    /// Where it is counted.
    pub slot: u32,
    /// When it was decided.
    pub decided_ns: u64,
    /// When the flow was last known to have sent something.
    pub active_ns: u64,
    /// What the slot had counted for others.
    baseline: FlowCount,
}

impl Record {
    /// The flow's keys.
    pub fn keys(&self) -> impl Iterator<Item = &FlowKey> {
        let nat = self.decision.nat_key.as_ref();
        std::iter::once(&self.decision.key).chain(nat).map(|(key, _)| key)
    }

    /// What this flow sent, when its slot shows `count`.
    #[must_use]
    pub const fn sent(&self, count: &FlowCount) -> FlowCount {
        let base = &self.baseline;
        FlowCount {
            original_packets: count.original_packets.wrapping_sub(base.original_packets),
            original_bytes: count.original_bytes.wrapping_sub(base.original_bytes),
            reply_packets: count.reply_packets.wrapping_sub(base.reply_packets),
            reply_bytes: count.reply_bytes.wrapping_sub(base.reply_bytes),
            last_seen_ns: self.active_ns_of(count),
        }
    }

    const fn active_ns_of(&self, count: &FlowCount) -> u64 {
        // The slot's stamp may be of the flow that had it before.
        if count.last_seen_ns > self.active_ns { count.last_seen_ns } else { self.active_ns }
    }

    const fn is_over(&self, now_ns: u64) -> bool {
        if self.decision.expires_s == 0 {
            // The kernel's stamps can be ahead of `now_ns`, which was read before them.
            now_ns.saturating_sub(self.active_ns) as u128 >= self.decision.idle_timeout.as_nanos()
        } else {
            now_ns / 1_000_000_000 >= self.decision.expires_s as u64
        }
    }
}

/// Why a record ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Cause {
    /// Silent for too long, or past its deadline.
    Expired,
    /// The kernel forgot it to make room.
    Evicted,
    /// The table was full and this one was silent longest.
    Displaced,
    /// The flow was decided anew.
    Replaced,
}

/// A record that ended: its keys must be removed from the kernel. Its slot is free again already.
#[derive(Clone, Debug)]
pub struct Action {
    /// The record.
    pub record: Record,
    /// Why it ended.
    pub cause: Cause,
}

/// Where a new record is counted, and what had to go for it.
#[derive(Debug)]
pub struct Placed {
    /// Slot for the states of all keys of the decision.
    pub slot: u32,
    /// Records that ended. Remove their keys from the kernel *before* writing the new ones, except
    /// the keys that both have.
    pub ended: Vec<Action>,
}

/// Decided flows; as many as there are slots.
#[derive(Debug)]
pub struct FlowTable {
    slots: Slots,
    records: HashMap<u32, Record>,
    by_key: HashMap<FlowKey, u32>,
    /// Silent longest first.
    by_activity: BTreeSet<(u64, u32)>,
    evicted: u64,
}

impl FlowTable {
    /// An empty table for `capacity` flows (at least one).
    #[must_use]
    pub fn new(capacity: u32) -> Self {
        Self {
            slots: Slots::new(capacity.max(1)),
            records: HashMap::new(),
            by_key: HashMap::new(),
            by_activity: BTreeSet::new(),
            evicted: 0,
        }
    }

    /// Records a decision. `count` reads what a slot has counted so far.
    ///
    /// A flow that has a record is decided anew. When the table is full, the flow that was silent
    /// longest at the last sweep goes.
    pub fn insert(
        &mut self,
        decision: Decision,
        now_ns: u64,
        count: impl Fn(u32) -> FlowCount,
    ) -> Placed {
        let mut ended = Vec::new();
        let keys = std::iter::once(&decision.key).chain(&decision.nat_key);
        for (key, _) in keys.clone() {
            if let Some(slot) = self.by_key.get(key).copied() {
                ended.extend(self.end(slot, Cause::Replaced));
            }
        }
        let slot = loop {
            if let Some(slot) = self.slots.take() {
                break slot;
            }
            // Without a free slot there is a record in each, so one can go.
            if let Some((_, slot)) = self.by_activity.first().copied() {
                ended.extend(self.end(slot, Cause::Displaced));
            }
        };
        for (key, _) in keys {
            self.by_key.insert(*key, slot);
        }
        let baseline = count(slot);
        let record = Record { decision, slot, decided_ns: now_ns, active_ns: now_ns, baseline };
        self.records.insert(slot, record);
        self.by_activity.insert((now_ns, slot));
        Placed { slot, ended }
    }

    /// Learns what happened since the last sweep, and ends what is over: flows that were silent for
    /// their timeout or have passed their deadline, and flows that the kernel forgot, of which a
    /// key is no longer `present`.
    pub fn sweep(
        &mut self,
        now_ns: u64,
        count: impl Fn(u32) -> FlowCount,
        present: impl Fn(&FlowKey) -> bool,
    ) -> Vec<Action> {
        let mut over = Vec::new();
        for (slot, record) in &mut self.records {
            let active_ns = record.active_ns_of(&count(*slot));
            if active_ns != record.active_ns {
                self.by_activity.remove(&(record.active_ns, *slot));
                self.by_activity.insert((active_ns, *slot));
                record.active_ns = active_ns;
            }
            if record.is_over(now_ns) {
                over.push((*slot, Cause::Expired));
            } else if !record.keys().all(&present) {
                over.push((*slot, Cause::Evicted));
                self.evicted += 1;
            }
        }
        over.into_iter().filter_map(|(slot, cause)| self.end(slot, cause)).collect()
    }

    /// Ends the record of a flow, on demand.
    pub fn remove(&mut self, key: &FlowKey) -> Option<Action> {
        let slot = self.by_key.get(key).copied()?;
        self.end(slot, Cause::Replaced)
    }

    /// The record of a flow.
    #[must_use]
    pub fn get(&self, key: &FlowKey) -> Option<&Record> {
        self.records.get(self.by_key.get(key)?)
    }

    /// Every record, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &Record> {
        self.records.values()
    }

    /// Number of records.
    #[must_use]
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether there are no records.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Records that the kernel forgot, as far as sweeps noticed.
    #[must_use]
    pub const fn evicted(&self) -> u64 {
        self.evicted
    }

    fn end(&mut self, slot: u32, cause: Cause) -> Option<Action> {
        let record = self.records.remove(&slot)?;
        for key in record.keys() {
            self.by_key.remove(key);
        }
        self.by_activity.remove(&(record.active_ns, slot));
        self.slots.give(slot);
        Some(Action { record, cause })
    }
}

#[cfg(test)]
mod tests;

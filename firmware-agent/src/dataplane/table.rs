//! The agent's record of decided flows: which there are, where they are counted, when they end.
//!
//! Pure: it says what should be removed from the kernel and is told what the kernel counted. All
//! times are nanoseconds of `CLOCK_MONOTONIC`, the clock of [`FlowCount::last_seen_ns`]; there is
//! no wall clock to go wrong.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use sluice_abi::flow::{Direction, FlowCount, FlowKey};
use sluice_abi::verdict::{Reason, Verdict};
use sluice_datapath::parse::TCP;

use self::turn::Turn;
use crate::names::Source;
use crate::policy::Ends;

pub use self::slots::Slots;

mod slots;
mod turn;

/// How long a TCP flow may be silent once it was seen to close.
const CLOSING: Duration = Duration::from_secs(10);

/// Least time from a decision to the next look: the engine answers for that long what it said before.
const REOPEN_PAUSE: Duration = Duration::from_secs(11);

/// What the first message of a client said: a ClientHello, or a request of plain HTTP.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Hello {
    /// Server name of the ClientHello.
    pub sni: Option<Box<str>>,
    /// Whether that may be an outer name, with another ClientHello hidden behind it.
    pub ech: bool,
    /// Host of the request.
    pub host: Option<Box<str>>,
    /// JA4 fingerprint.
    pub ja4: Option<Box<str>>,
    /// JA3 fingerprint.
    pub ja3: Option<Box<str>>,
    /// JA3S fingerprint of the answer, where that was awaited.
    pub ja3s: Option<Box<str>>,
    /// SHA-1 of the server's certificate, where that was awaited and not hidden.
    pub certificate: Option<Box<str>>,
    /// Protocols offered, the preferred first.
    pub alpn: Box<[Box<str>]>,
}

impl Hello {
    /// The name of the server, whatever said it.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.sni.as_deref().or(self.host.as_deref())
    }
}

/// What a flow speaks, and how sure that is, in the words of events.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Spoken {
    /// The protocol.
    pub protocol: &'static str,
    /// How sure.
    pub confidence: &'static str,
}

/// The name that its device was told for the address of a flow's server.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Learned {
    /// The name.
    pub name: Box<str>,
    /// What said it, in the words of reports.
    pub source: &'static str,
}

/// What a decided flow gets beside its verdict.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Treatment {
    /// Number of its profile; 0 is none in particular.
    pub profile: u8,
    /// The rate that a limited flow is held to, in kbit/s.
    pub kbit: u32,
    /// Its burst, in bits.
    pub burst: u32,
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
    /// What comes with it.
    pub treatment: Treatment,
    /// Why.
    pub reason: Reason,
    /// How long the flow may be silent before it is forgotten.
    pub idle_timeout: Duration,
    /// `CLOCK_MONOTONIC` second at which the decision ends whatever the flow does; 0 for none. A
    /// decision with a deadline does not end earlier by silence.
    pub expires_s: u32,
    /// What its client said first.
    pub hello: Option<Hello>,
    /// What it speaks, as far as is known.
    pub spoken: Option<Spoken>,
    /// The rule that decided.
    pub rule: Option<Box<str>>,
    /// Its entry that fits.
    pub entry: Option<Box<str>>,
    /// The rule that would have blocked if it did more than observe.
    pub observed: Option<Box<str>>,
    /// What DNS said about its server: shown where its client says no name, and nothing else.
    pub learned: Option<Learned>,
    /// Whose flow it is; `None` for one that an earlier agent decided.
    pub ends: Option<Ends>,
    /// Packets that the queue saw.
    pub inspected_packets: u32,
    /// Whether conntrack did not know the connection yet, so that the other key may be missing.
    pub is_partial: bool,
    /// Whether its client may ask for something else at any time, so that what it sends is looked at.
    pub asks: bool,
}

impl Decision {
    /// Whether no flood of other flows may displace it.
    #[must_use]
    pub const fn is_held(&self) -> bool {
        matches!(self.verdict, Verdict::Blocked | Verdict::Limited)
    }

    /// The name of the server that counts most, and what said it.
    #[must_use]
    pub fn name(&self) -> Option<(&str, &'static str)> {
        let hello = self.hello.as_ref();
        let sni = hello.and_then(|hello| hello.sni.as_deref());
        let host = hello.and_then(|hello| hello.host.as_deref());
        let tls = if self.key.0.proto() == TCP { Source::Tls } else { Source::Quic };
        sni.map(|name| (name, tls.name()))
            .or_else(|| host.map(|name| (name, Source::Http.name())))
            .or_else(|| self.learned.as_ref().map(|learned| (&*learned.name, learned.source)))
    }
}

/// When trusted flows are looked at once more.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Reinspection {
    /// Share of flows that are chosen by lot, in percent.
    pub percent: u8,
    /// How long after its decision a chosen flow is looked at again.
    pub after: Duration,
    /// A flow is looked at again whenever it has sent so many bytes; 0 for never.
    pub bytes: u64,
    /// A flow is looked at again whenever it is so old; zero for never.
    pub age: Duration,
    /// A flow is looked at again when so many bytes go against the way of those before; 0 for never.
    pub turn_bytes: u64,
    /// Whether requests of plain HTTP behind the first are looked at.
    pub requests: bool,
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
    /// Bytes that each side had sent at the last sweep, who opened the connection first.
    sides: [u64; 2],
    /// Which way most of them went.
    turn: Turn,
    /// When it was last seen to close; 0 for never.
    closing_ns: u64,
    /// When it is to be looked at again by lot; 0 for never.
    drawn_ns: u64,
    /// Time and bytes of the last decision about it.
    checked: (u64, u64),
    /// Since when it is being looked at again, and the kernel has no decision about it; 0 for not.
    reopened_ns: u64,
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
            closing_ns: count.closing_ns,
        }
    }

    /// Whether it is being looked at again.
    #[must_use]
    pub const fn is_reopened(&self) -> bool {
        self.reopened_ns != 0
    }

    const fn active_ns_of(&self, count: &FlowCount) -> u64 {
        // The slot's stamp may be of the flow that had it before.
        if count.last_seen_ns > self.active_ns { count.last_seen_ns } else { self.active_ns }
    }

    fn is_over(&self, now_ns: u64) -> bool {
        if self.decision.expires_s == 0 {
            let mut timeout = self.decision.idle_timeout;
            if self.is_closing() {
                timeout = timeout.min(CLOSING);
            }
            // The kernel's stamps can be ahead of `now_ns`, which was read before them.
            u128::from(now_ns.saturating_sub(self.active_ns)) >= timeout.as_nanos()
        } else {
            now_ns / 1_000_000_000 >= u64::from(self.decision.expires_s)
        }
    }

    /// Whether FIN or RST was seen and nothing came that shows that the flow goes on: one side may
    /// still send for long, and anybody can forge an end.
    fn is_closing(&self) -> bool {
        self.decision.verdict == Verdict::Trusted
            && self.closing_ns > self.decided_ns
            && u128::from(self.active_ns.saturating_sub(self.closing_ns)) < CLOSING.as_nanos()
    }

    fn is_due(&self, now_ns: u64, policy: &Reinspection) -> bool {
        let (checked_ns, checked_bytes) = self.checked;
        let since = Duration::from_nanos(now_ns.saturating_sub(checked_ns));
        let is_old = !policy.age.is_zero() && since >= policy.age;
        let is_large =
            policy.bytes != 0 && self.bytes().saturating_sub(checked_bytes) >= policy.bytes;
        self.decision.verdict == Verdict::Trusted
            && !self.is_closing()
            && since >= REOPEN_PAUSE
            && (is_old
                || is_large
                || self.turn.has_turned()
                || self.drawn_ns != 0 && now_ns >= self.drawn_ns)
    }

    /// Bytes that both sides had sent at the last sweep.
    const fn bytes(&self) -> u64 {
        self.sides[0].wrapping_add(self.sides[1])
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
    /// Slot for the states of all keys of the decision; `None` when there is no room for another
    /// blocked or limited flow: then there is no record.
    pub slot: Option<u32>,
    /// Records that ended. Remove their keys from the kernel *before* writing the new ones, except
    /// the keys that both have.
    pub ended: Vec<Action>,
}

/// Decided flows; as many as there are slots. Those of blocked and limited flows come first and are
/// their own, so that nothing else takes their place.
#[derive(Debug)]
pub struct FlowTable {
    held_slots: Slots,
    slots: Slots,
    /// Slots of blocked and limited flows are below it.
    held_max: u32,
    /// How many of them there are, also for who has no table at hand.
    held: Arc<AtomicU32>,
    records: HashMap<u32, Record>,
    by_key: HashMap<FlowKey, u32>,
    /// Silent longest first; no blocked or limited flows.
    by_activity: BTreeSet<(u64, u32)>,
    evicted: u64,
    refused: u64,
}

impl FlowTable {
    /// An empty table for `held` blocked and limited flows and `capacity` others (at least one).
    #[must_use]
    pub fn new(held: u32, capacity: u32) -> Self {
        Self {
            held_slots: Slots::new(0, held),
            slots: Slots::new(held, held.saturating_add(capacity.max(1))),
            held_max: held,
            held: Arc::default(),
            records: HashMap::new(),
            by_key: HashMap::new(),
            by_activity: BTreeSet::new(),
            evicted: 0,
            refused: 0,
        }
    }

    /// Records a decision. `count` reads what a slot has counted so far.
    ///
    /// A flow that has a record is decided anew. When the table is full, the flow that was silent
    /// longest at the last sweep goes; a blocked or limited flow is refused instead.
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
        let slot = if decision.is_held() {
            let Some(slot) = self.held_slots.take() else {
                self.refused += 1;
                return Placed { slot: None, ended };
            };
            self.held.fetch_add(1, Ordering::Release);
            slot
        } else {
            let slot = loop {
                if let Some(slot) = self.slots.take() {
                    break slot;
                }
                // Without a free slot there is a record in each, so one can go.
                if let Some((_, slot)) = self.by_activity.first().copied() {
                    ended.extend(self.end(slot, Cause::Displaced));
                }
            };
            self.by_activity.insert((now_ns, slot));
            slot
        };
        for (key, _) in keys {
            self.by_key.insert(*key, slot);
        }
        let record = Record {
            decision,
            slot,
            decided_ns: now_ns,
            active_ns: now_ns,
            baseline: count(slot),
            sides: [0; 2],
            turn: Turn::default(),
            closing_ns: 0,
            drawn_ns: 0,
            checked: (now_ns, 0),
            reopened_ns: 0,
        };
        self.records.insert(slot, record);
        Placed { slot: Some(slot), ended }
    }

    /// Notes that the flow `key` is to be looked at again at `at_ns`.
    pub fn draw(&mut self, key: &FlowKey, at_ns: u64) {
        if let Some(record) = self.record_mut(key) {
            record.drawn_ns = at_ns;
        }
    }

    /// Flows that are to be looked at again, `most` at most: forget their decisions in the kernel.
    /// Each is named once, and ends like any other when no packet of it comes.
    pub fn reopen(&mut self, now_ns: u64, policy: &Reinspection, most: usize) -> Vec<FlowKey> {
        let due = self.records.values_mut().filter_map(|record| {
            record.turn.look(record.sides, policy.turn_bytes);
            (!record.is_reopened() && record.is_due(now_ns, policy)).then_some(record)
        });
        due.take(most)
            .map(|record| {
                record.reopened_ns = now_ns;
                record.decision.key.0
            })
            .collect()
    }

    /// A flow that was looked at again stays as it is. `false` when it was not.
    pub fn confirm(&mut self, key: &FlowKey, now_ns: u64) -> bool {
        let Some(slot) = self.by_key.get(key).copied() else { return false };
        let reopened = self.records.get_mut(&slot).filter(|record| record.is_reopened());
        let Some(record) = reopened else { return false };
        record.reopened_ns = 0;
        record.drawn_ns = 0;
        record.turn.confirm();
        record.checked = (now_ns, record.bytes());
        // The kernel has not counted meanwhile, and this is its answer to a packet.
        if self.by_activity.remove(&(record.active_ns, slot)) {
            self.by_activity.insert((now_ns, slot));
        }
        record.active_ns = now_ns;
        true
    }

    /// The client of a flow that asks has asked again, and nothing about its decision changed but this.
    /// `false` for other flows.
    pub fn asked(
        &mut self,
        key: &FlowKey,
        (hello, entry, observed): (Option<Hello>, Option<Box<str>>, Option<Box<str>>),
        now_ns: u64,
    ) -> bool {
        let Some(record) = self.record_mut(key).filter(|record| record.decision.asks) else {
            return false;
        };
        let decision = &mut record.decision;
        (decision.hello, decision.entry, decision.observed) = (hello, entry, observed);
        record.checked = (now_ns, record.bytes());
        true
    }

    /// What the client of a flow sends needs no looking at any more. `false` when it did not.
    pub fn stop_asking(&mut self, key: &FlowKey) -> bool {
        self.record_mut(key).is_some_and(|record| std::mem::take(&mut record.decision.asks))
    }

    /// Flows that have carried at least so many bytes since their client asked, `most` at most.
    #[must_use]
    pub fn answered_at_length(&self, bytes: u64, most: usize) -> Vec<FlowKey> {
        let long = self.records.values().filter(|record| {
            record.decision.asks && record.bytes().saturating_sub(record.checked.1) >= bytes
        });
        long.take(most).map(|record| record.decision.key.0).collect()
    }

    /// Notes what conntrack knows about the keys of a flow by now: none but its own, or another.
    /// `false` when the other belongs to another record.
    pub fn complete(&mut self, key: &FlowKey, nat_key: Option<(FlowKey, Direction)>) -> bool {
        let Some(slot) = self.by_key.get(key).copied() else { return false };
        let other = nat_key.map(|(key, _)| key);
        let taken = other.is_some_and(|other| self.by_key.contains_key(&other));
        let Some(record) = self.records.get_mut(&slot) else { return false };
        record.decision.is_partial = false;
        if taken {
            return false;
        }
        record.decision.nat_key = nat_key;
        if let Some(other) = other {
            self.by_key.insert(other, slot);
        }
        true
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
            let count = count(*slot);
            let active_ns = record.active_ns_of(&count);
            if active_ns != record.active_ns {
                if self.by_activity.remove(&(record.active_ns, *slot)) {
                    self.by_activity.insert((active_ns, *slot));
                }
                record.active_ns = active_ns;
            }
            record.closing_ns = count.closing_ns;
            let sent = record.sent(&count);
            record.sides = [sent.original_bytes, sent.reply_bytes];
            if record.is_over(now_ns) {
                over.push((*slot, Cause::Expired));
            } else if !record.is_reopened() && !record.keys().all(&present) {
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

    /// Number of blocked and limited flows.
    #[must_use]
    pub fn held(&self) -> u32 {
        self.held.load(Ordering::Acquire)
    }

    /// The same for who has the table not at hand.
    #[must_use]
    pub fn held_elsewhere(&self) -> Arc<AtomicU32> {
        Arc::clone(&self.held)
    }

    /// How many of those there can be.
    #[must_use]
    pub const fn held_max(&self) -> u32 {
        self.held_max
    }

    /// Blocked and limited flows that found no room.
    #[must_use]
    pub const fn refused(&self) -> u64 {
        self.refused
    }

    fn record_mut(&mut self, key: &FlowKey) -> Option<&mut Record> {
        self.records.get_mut(self.by_key.get(key)?)
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
        if slot < self.held_max {
            self.held.fetch_sub(1, Ordering::Release);
            self.held_slots.give(slot);
        } else {
            self.by_activity.remove(&(record.active_ns, slot));
            self.slots.give(slot);
        }
        Some(Action { record, cause })
    }
}

#[cfg(test)]
mod tests;

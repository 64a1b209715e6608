use std::cell::RefCell;
use std::collections::HashSet;
use std::net::IpAddr;

use super::*;

const SECOND: u64 = 1_000_000_000;
const IDLE: Duration = Duration::from_secs(60);

/// A kernel: counts by slot, keys of the map.
#[derive(Default)]
struct Kernel {
    counts: RefCell<HashMap<u32, FlowCount>>,
    keys: RefCell<HashSet<FlowKey>>,
}

impl Kernel {
    fn count(&self, slot: u32) -> FlowCount {
        self.counts.borrow().get(&slot).copied().unwrap_or_default()
    }

    fn packet(&self, slot: u32, now_ns: u64) {
        let mut counts = self.counts.borrow_mut();
        let count = counts.entry(slot).or_default();
        count.original_packets += 1;
        count.original_bytes += 100;
        count.last_seen_ns = now_ns;
    }

    /// Does what the agent does with the answer of the table.
    fn apply(&self, table: &FlowTable, ended: &[Action], slot: Option<u32>) {
        let mut keys = self.keys.borrow_mut();
        for key in ended.iter().flat_map(|action| action.record.keys()) {
            keys.remove(key);
        }
        for record in table.iter().filter(|record| Some(record.slot) == slot) {
            keys.extend(record.keys().copied());
        }
    }

    fn insert(&self, table: &mut FlowTable, decision: Decision, now_ns: u64) -> Placed {
        let placed = table.insert(decision, now_ns, |slot| self.count(slot));
        self.apply(table, &placed.ended, placed.slot);
        placed
    }

    fn sweep(&self, table: &mut FlowTable, now_ns: u64) -> Vec<Action> {
        let present = |key: &FlowKey| self.keys.borrow().contains(key);
        let ended = table.sweep(now_ns, |slot| self.count(slot), present);
        self.apply(table, &ended, None);
        ended
    }
}

fn key(port: u16) -> (FlowKey, Direction) {
    let addr = |text: &str| text.parse::<IpAddr>().unwrap().into();
    FlowKey::new(addr("192.0.2.1"), addr("198.51.100.7"), port.to_be(), 443_u16.to_be(), 6)
}

fn trusted(port: u16) -> Decision {
    Decision {
        key: key(port),
        nat_key: None,
        verdict: Verdict::Trusted,
        treatment: Treatment::default(),
        reason: Reason::HelloClean,
        idle_timeout: IDLE,
        expires_s: 0,
        hello: None,
        rule: None,
        inspected_packets: 4,
        is_partial: false,
    }
}

fn causes(ended: &[Action]) -> Vec<Cause> {
    ended.iter().map(|action| action.cause).collect()
}

#[test]
fn slots_are_unique_bounded_and_come_back() {
    let mut slots = Slots::new(0, 3);
    let taken: Vec<_> = std::iter::from_fn(|| slots.take()).collect();
    assert_eq!(taken, [0, 1, 2]);
    assert_eq!(slots.take(), None);
    slots.give(1);
    assert_eq!((slots.take(), slots.take()), (Some(1), None));
}

#[test]
fn an_active_flow_survives_any_number_of_sweeps() {
    let (kernel, mut table) = (Kernel::default(), FlowTable::new(4, 8));
    let placed = kernel.insert(&mut table, trusted(1), SECOND);
    for second in 2..2000 {
        // A packet every 59 seconds, a sweep every second.
        if second % 59 == 0 {
            kernel.packet(placed.slot.unwrap(), second * SECOND);
        }
        assert!(kernel.sweep(&mut table, second * SECOND).is_empty(), "second {second}");
    }
}

#[test]
fn an_idle_flow_ends_within_its_timeout_and_one_sweep() {
    let (kernel, mut table) = (Kernel::default(), FlowTable::new(4, 8));
    let placed = kernel.insert(&mut table, trusted(1), 0);
    kernel.packet(placed.slot.unwrap(), 10 * SECOND);
    assert!(kernel.sweep(&mut table, 10 * SECOND).is_empty());
    assert!(kernel.sweep(&mut table, 70 * SECOND - 1).is_empty());
    let ended = kernel.sweep(&mut table, 70 * SECOND);
    assert_eq!(causes(&ended), [Cause::Expired]);
    assert_eq!(ended[0].record.keys().collect::<Vec<_>>(), [&key(1).0]);
    assert!(table.is_empty() && kernel.keys.borrow().is_empty());
}

#[test]
fn a_stamp_that_is_ahead_of_the_sweep_does_not_end_the_flow() {
    let (kernel, mut table) = (Kernel::default(), FlowTable::new(4, 8));
    let placed = kernel.insert(&mut table, trusted(1), 100 * SECOND);
    kernel.packet(placed.slot.unwrap(), 200 * SECOND);
    assert!(kernel.sweep(&mut table, 199 * SECOND).is_empty());
}

#[test]
fn a_deadline_ends_an_active_flow_and_silence_does_not_end_it_earlier() {
    let (kernel, mut table) = (Kernel::default(), FlowTable::new(4, 8));
    let blocked = Decision { verdict: Verdict::Blocked, expires_s: 500, ..trusted(1) };
    let placed = kernel.insert(&mut table, blocked, 0);
    assert!(kernel.sweep(&mut table, 499 * SECOND).is_empty(), "silent for 499 seconds");
    kernel.packet(placed.slot.unwrap(), 500 * SECOND);
    assert_eq!(causes(&kernel.sweep(&mut table, 500 * SECOND)), [Cause::Expired]);
}

#[test]
fn a_flow_that_the_kernel_forgot_is_noticed_and_counted() {
    let (kernel, mut table) = (Kernel::default(), FlowTable::new(4, 8));
    let two_keys = Decision { nat_key: Some(key(2)), ..trusted(1) };
    kernel.insert(&mut table, two_keys, SECOND);
    kernel.insert(&mut table, trusted(3), SECOND);
    kernel.keys.borrow_mut().remove(&key(2).0);
    let ended = kernel.sweep(&mut table, 2 * SECOND);
    assert_eq!(causes(&ended), [Cause::Evicted]);
    assert_eq!(ended[0].record.keys().count(), 2, "the other key must go too");
    assert_eq!((table.len(), table.evicted()), (1, 1));
    assert!(!kernel.keys.borrow().contains(&key(1).0));
}

#[test]
fn a_full_table_gives_up_the_flow_that_was_silent_longest() {
    let (kernel, mut table) = (Kernel::default(), FlowTable::new(4, 3));
    for port in 1..=3 {
        kernel.insert(&mut table, trusted(port), u64::from(port) * SECOND);
    }
    // The oldest one speaks, so the second is the one that was silent longest.
    kernel.packet(table.get(&key(1).0).unwrap().slot, 10 * SECOND);
    assert!(kernel.sweep(&mut table, 11 * SECOND).is_empty());
    let placed = kernel.insert(&mut table, trusted(4), 12 * SECOND);
    assert_eq!(causes(&placed.ended), [Cause::Displaced]);
    assert_eq!(placed.ended[0].record.decision.key, key(2));
    assert_eq!(table.len(), 3);
    for port in 100..1100 {
        kernel.insert(&mut table, trusted(port), 13 * SECOND);
        assert_eq!(table.len(), 3, "bounded");
    }
    assert_eq!(kernel.keys.borrow().len(), 3);
}

#[test]
fn a_flow_that_is_decided_anew_has_one_record() {
    let (kernel, mut table) = (Kernel::default(), FlowTable::new(4, 2));
    kernel.insert(&mut table, trusted(1), SECOND);
    let blocked = Decision { verdict: Verdict::Blocked, nat_key: Some(key(2)), ..trusted(1) };
    let placed = kernel.insert(&mut table, blocked, 2 * SECOND);
    assert_eq!(causes(&placed.ended), [Cause::Replaced]);
    assert_eq!(table.len(), 1);
    for port in [1, 2] {
        assert_eq!(table.get(&key(port).0).unwrap().decision.verdict, Verdict::Blocked);
    }
    assert!(matches!(table.remove(&key(2).0), Some(Action { cause: Cause::Replaced, .. })));
    assert!(table.get(&key(1).0).is_none() && table.is_empty());
    assert!(table.remove(&key(2).0).is_none());
}

#[test]
fn a_reused_slot_shows_only_what_its_flow_sent() {
    let (kernel, mut table) = (Kernel::default(), FlowTable::new(4, 1));
    let slot = kernel.insert(&mut table, trusted(1), 0).slot.unwrap();
    for second in 1..=5 {
        kernel.packet(slot, second * SECOND);
    }
    assert_eq!(kernel.sweep(&mut table, 100 * SECOND).len(), 1);

    let again = kernel.insert(&mut table, trusted(2), 100 * SECOND).slot.unwrap();
    assert_eq!(again, slot);
    let sent = |table: &FlowTable| table.get(&key(2).0).unwrap().sent(&kernel.count(slot));
    assert_eq!((sent(&table).original_packets, sent(&table).last_seen_ns), (0, 100 * SECOND));
    // The stamp of the flow before, at second 5, must not end this one.
    assert!(kernel.sweep(&mut table, 101 * SECOND).is_empty());
    kernel.packet(slot, 102 * SECOND);
    assert_eq!((sent(&table).original_packets, sent(&table).original_bytes), (1, 100));
    assert_eq!(sent(&table).last_seen_ns, 102 * SECOND);
}

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

    fn end(&self, slot: u32, now_ns: u64) {
        self.packet(slot, now_ns);
        self.counts.borrow_mut().entry(slot).or_default().closing_ns = now_ns;
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
        spoken: None,
        rule: None,
        entry: None,
        observed: None,
        learned: None,
        ends: None,
        inspected_packets: 4,
        is_partial: false,
        asks: false,
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

fn held(verdict: Verdict, port: u16) -> Decision {
    let expires_s = if verdict == Verdict::Blocked { 10_000 } else { 0 };
    Decision { verdict, expires_s, ..trusted(port) }
}

/// R23.
#[test]
fn no_flood_of_trusted_flows_displaces_a_blocked_or_limited_one() {
    let (kernel, mut table) = (Kernel::default(), FlowTable::new(4, 3));
    for port in 1..=2 {
        kernel.insert(&mut table, held(Verdict::Blocked, port), SECOND);
    }
    for port in 3..=4 {
        kernel.insert(&mut table, held(Verdict::Limited, port), SECOND);
    }
    for port in 100..1100 {
        kernel.insert(&mut table, trusted(port), 2 * SECOND);
    }
    assert_eq!((table.len(), table.held(), table.held_max()), (7, 4, 4));
    assert!((1..=4).all(|port| table.get(&key(port).0).is_some()));
    // One more is refused, and takes no trusted flow's place either.
    let placed = kernel.insert(&mut table, held(Verdict::Blocked, 5), 3 * SECOND);
    assert!(placed.slot.is_none() && placed.ended.is_empty());
    assert!(table.get(&key(5).0).is_none());
    assert_eq!((table.len(), table.refused()), (7, 1));
    // One that leaves makes room, and slots are never shared.
    assert!(table.remove(&key(3).0).is_some());
    kernel.insert(&mut table, held(Verdict::Blocked, 5), 3 * SECOND);
    let slots: HashSet<u32> = table.iter().map(|record| record.slot).collect();
    assert_eq!((slots.len(), table.held()), (7, 4));
    assert!(table.iter().all(|record| (record.slot < 4) == record.decision.is_held()));
}

/// R23: a trusted flow that becomes blocked without room for it is not trusted any more.
#[test]
fn a_refused_flow_loses_the_decision_that_it_had() {
    let (kernel, mut table) = (Kernel::default(), FlowTable::new(0, 3));
    kernel.insert(&mut table, trusted(1), SECOND);
    let placed = kernel.insert(&mut table, held(Verdict::Blocked, 1), 2 * SECOND);
    assert!(placed.slot.is_none());
    assert_eq!(causes(&placed.ended), [Cause::Replaced]);
    assert!(table.is_empty() && kernel.keys.borrow().is_empty());
}

/// R13.
#[test]
fn the_end_of_a_connection_shortens_what_is_left_of_a_trusted_flow() {
    let ends_after = |decision: Decision, last_s: u64| {
        let (kernel, mut table) = (Kernel::default(), FlowTable::new(4, 8));
        let slot = kernel.insert(&mut table, decision, SECOND).slot.unwrap();
        kernel.end(slot, 5 * SECOND);
        assert!(kernel.sweep(&mut table, 5 * SECOND).is_empty(), "never at once");
        if last_s > 5 {
            kernel.packet(slot, last_s * SECOND);
        }
        (5..20_000).find(|second| !kernel.sweep(&mut table, second * SECOND).is_empty())
    };
    assert_eq!(ends_after(trusted(1), 5), Some(15));
    assert_eq!(ends_after(trusted(1), 8), Some(18), "the other side still said something");
    assert_eq!(ends_after(trusted(1), 16), Some(76), "it was no end: the usual timeout");
    assert_eq!(ends_after(held(Verdict::Limited, 1), 5), Some(65));
    assert_eq!(ends_after(held(Verdict::Blocked, 1), 5), Some(10_000));
    let quick = Decision { idle_timeout: Duration::from_secs(3), ..trusted(1) };
    assert_eq!(ends_after(quick, 5), Some(8), "never longer");
}

/// R13: the end of the flow that had the slot before says nothing.
#[test]
fn an_end_before_the_decision_does_not_count() {
    let (kernel, mut table) = (Kernel::default(), FlowTable::new(0, 1));
    let slot = kernel.insert(&mut table, trusted(1), SECOND).slot.unwrap();
    kernel.end(slot, 5 * SECOND);
    kernel.insert(&mut table, trusted(2), 6 * SECOND);
    for second in 6..66 {
        assert!(kernel.sweep(&mut table, second * SECOND).is_empty(), "second {second}");
    }
    assert_eq!(causes(&kernel.sweep(&mut table, 66 * SECOND)), [Cause::Expired]);
}

const NEVER: Reinspection = Reinspection {
    percent: 0,
    after: Duration::ZERO,
    bytes: 0,
    age: Duration::ZERO,
    turn_bytes: 0,
    requests: false,
};

/// R24.
#[test]
fn trusted_flows_are_looked_at_again_by_lot_by_bytes_and_by_age() {
    let due = |policy: &Reinspection, decision: Decision, drawn_s: u64, packets: u64| {
        let (kernel, mut table) = (Kernel::default(), FlowTable::new(4, 8));
        let slot = kernel.insert(&mut table, decision, SECOND).slot.unwrap();
        table.draw(&key(1).0, drawn_s * SECOND);
        (0..packets).for_each(|_| kernel.packet(slot, 30 * SECOND));
        kernel.sweep(&mut table, 30 * SECOND);
        table.reopen(30 * SECOND, policy, 10) == [key(1).0]
    };
    assert!(!due(&NEVER, trusted(1), 0, 1000));
    assert!(due(&NEVER, trusted(1), 30, 0) && !due(&NEVER, trusted(1), 31, 0));
    let by_bytes = Reinspection { bytes: 1000, ..NEVER };
    assert!(due(&by_bytes, trusted(1), 0, 10) && !due(&by_bytes, trusted(1), 0, 9));
    let by_age = |seconds| Reinspection { age: Duration::from_secs(seconds), ..NEVER };
    assert!(due(&by_age(29), trusted(1), 0, 0) && !due(&by_age(30), trusted(1), 0, 0));
    for verdict in [Verdict::Blocked, Verdict::Limited] {
        assert!(!due(&Reinspection { bytes: 1, ..by_age(1) }, held(verdict, 1), 2, 10));
    }
}

/// R24: and when a download becomes an upload.
#[test]
fn a_trusted_flow_whose_bulk_turns_is_looked_at_again() {
    let (kernel, mut table) = (Kernel::default(), FlowTable::new(4, 8));
    let slot = kernel.insert(&mut table, trusted(1), SECOND).slot.unwrap();
    let policy = Reinspection { turn_bytes: 1000, ..NEVER };
    let mut is_due = |[original, reply]: [u64; 2], second| {
        let mut counts = kernel.counts.borrow_mut();
        let count = counts.entry(slot).or_default();
        (count.original_bytes, count.reply_bytes) = (original, reply);
        count.last_seen_ns = second * SECOND;
        drop(counts);
        kernel.sweep(&mut table, second * SECOND);
        let due = !table.reopen(second * SECOND, &policy, 10).is_empty();
        assert!(!due || table.confirm(&key(1).0, second * SECOND));
        due
    };
    assert!(!is_due([50, 5000], 15));
    assert!(!is_due([90, 9000], 20), "the download goes on");
    assert!(is_due([1090, 9000], 25));
    assert!(!is_due([5000, 9000], 40), "the upload goes on");
    // Soon after the last look the engine would only repeat itself; the turn is not forgotten.
    assert!(!is_due([5000, 9999], 50), "too little");
    assert!(is_due([5000, 10_000], 51));
    assert!(!is_due([6000, 10_000], 61) && is_due([6000, 10_000], 62));
}

/// R24: what is looked at again has no decision in the kernel meanwhile; then it has, and the count
/// of bytes and time begins anew.
#[test]
fn a_flow_that_was_looked_at_again_stays_and_is_due_later() {
    let (kernel, mut table) = (Kernel::default(), FlowTable::new(4, 100));
    for port in 1..=50 {
        kernel.insert(&mut table, trusted(port), SECOND);
        table.draw(&key(port).0, 5 * SECOND);
    }
    let policy = Reinspection { age: Duration::from_secs(30), ..NEVER };
    assert!(
        table.reopen(11 * SECOND, &policy, 20).is_empty(),
        "the engine would only repeat itself"
    );
    assert_eq!(table.reopen(12 * SECOND, &policy, 20).len(), 20, "bounded");
    assert_eq!(table.reopen(12 * SECOND, &policy, 100).len(), 30, "each once");
    assert!(table.reopen(13 * SECOND, &policy, 100).is_empty());
    for port in 1..=50 {
        kernel.keys.borrow_mut().remove(&key(port).0);
    }
    assert!(kernel.sweep(&mut table, 13 * SECOND).is_empty(), "not taken for evicted");
    assert!(!table.confirm(&key(77).0, 14 * SECOND));
    assert!(table.confirm(&key(1).0, 14 * SECOND));
    assert!(!table.confirm(&key(1).0, 14 * SECOND), "once");
    kernel.keys.borrow_mut().insert(key(1).0);
    assert!(table.reopen(43 * SECOND, &policy, 100).is_empty());
    assert_eq!(table.reopen(44 * SECOND, &policy, 100), [key(1).0]);
    // Who stays silent ends like any other; the first one was heard of at second 14.
    assert_eq!(kernel.sweep(&mut table, 61 * SECOND).len(), 49);
    assert_eq!(kernel.sweep(&mut table, 74 * SECOND).len(), 1);
}

#[test]
fn the_other_key_of_a_flow_can_come_later() {
    let (kernel, mut table) = (Kernel::default(), FlowTable::new(4, 8));
    for port in 1..=3 {
        kernel.insert(&mut table, Decision { is_partial: true, ..trusted(port) }, SECOND);
    }
    assert!(table.complete(&key(1).0, Some(key(9))));
    assert_eq!(table.get(&key(9).0).unwrap().decision.key, key(1));
    assert!(table.complete(&key(2).0, None), "no NAT");
    assert!(!table.complete(&key(3).0, Some(key(9))), "another flow has it");
    for port in 1..=3 {
        assert!(!table.get(&key(port).0).unwrap().decision.is_partial, "nobody asks twice");
    }
    assert_eq!(table.remove(&key(9).0).unwrap().record.keys().count(), 2);
    assert!(table.get(&key(1).0).is_none() && table.get(&key(3).0).is_some());
}

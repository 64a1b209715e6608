//! The fast path in TC: verdicts, marks, counters, and what it leaves alone.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use sluice::dataplane::table::{Cause, Decision, FlowTable, Treatment};
use sluice::sys::clock::{monotonic_ns, monotonic_s};
use sluice_abi::attach::Link;
use sluice_abi::counter::Counter;
use sluice_abi::flow::{Addr, Direction, FlowKey};
use sluice_abi::verdict::{Reason, Verdict};
use sluice_datapath::parse::{Ports, headers};
use sluice_tests::frame::{Frame, protocol, tcp_flag};
use sluice_tests::packets::{DST4, SRC4, TC_ACT_SHOT, TC_ACT_UNSPEC, ethernet, tcp, udp, v4, v6};
use sluice_tests::plane::{
    Buffer, FLOW_KEYS, FLOW_SLOTS, FastPath, HELD_KEYS, Outcome, Side, without_programs,
};

use super::{Each, TICK_NS, frames, state};

/// R22, R64, R162: every verdict in every encapsulation; foreign bits of the mark survive.
#[test]
fn the_fast_path_does_what_was_decided_in_every_encapsulation() {
    if without_programs() {
        return;
    }
    let mut paths = Each::new();
    let foreign = Buffer { mark: 0xf0ff_ffff, segments: 0 };
    let trusted = 0xf1ff_ffff;
    let now = monotonic_s();
    for (name, frame, link) in frames() {
        let path = paths.of(link, FastPath::enabled);
        let (key, _) = headers(frame.as_slice(), link).unwrap().flow().unwrap();
        #[rustfmt::skip]
        let cases = [
            ("no entry",         None,                             TC_ACT_UNSPEC, foreign.mark, Counter::TcUnknown,      Counter::TcOutPass),
            ("unknown",          Some((Verdict::Unknown, 0)),      TC_ACT_UNSPEC, foreign.mark, Counter::TcUnknown,      Counter::TcOutPass),
            ("inspect",          Some((Verdict::Inspect, 0)),      TC_ACT_UNSPEC, foreign.mark, Counter::TcInspect,      Counter::TcOutPass),
            ("trusted",          Some((Verdict::Trusted, 0)),      TC_ACT_UNSPEC, trusted,      Counter::TcTrusted,      Counter::TcOutPass),
            ("trusted for long", Some((Verdict::Trusted, now + 99)), TC_ACT_UNSPEC, trusted,    Counter::TcTrusted,      Counter::TcOutPass),
            ("trusted once",     Some((Verdict::Trusted, now)),    TC_ACT_UNSPEC, foreign.mark, Counter::TcUnknown,      Counter::TcOutPass),
            ("blocked",          Some((Verdict::Blocked, 0)),      TC_ACT_SHOT,   foreign.mark, Counter::TcDropBlocked,  Counter::TcOutDropBlocked),
            ("blocked for long", Some((Verdict::Blocked, now + 99)), TC_ACT_SHOT, foreign.mark, Counter::TcDropBlocked,  Counter::TcOutDropBlocked),
            ("blocked once",     Some((Verdict::Blocked, now)),    TC_ACT_UNSPEC, foreign.mark, Counter::TcUnknown,      Counter::TcOutPass),
        ];
        for (what, decision, action, mark, counter, counter_out) in cases {
            path.flows.remove(&key).unwrap();
            if let Some((verdict, expires_s)) = decision {
                path.decide(&frame, |direction| state(verdict, direction, 1, expires_s));
            }
            let expected = Outcome { action, mark, counted: vec![(counter, 1)] };
            assert_eq!(path.run(Side::In, &frame, foreign), expected, "{name}, {what}");
            let out = path.run(Side::Out, &frame, foreign);
            let counted = vec![(counter_out, 1)];
            let expected = Outcome { action, mark: foreign.mark, counted };
            assert_eq!(out, expected, "{name}, {what}, egress");
        }
    }
}

/// R24: of a trusted flow whose client may ask again, what its client sends is marked for the queue, in every
/// encapsulation, and nothing else is: neither answers nor acknowledgements, filled up or not.
#[test]
fn what_a_client_may_ask_again_is_counted_and_marked_for_the_queue() {
    if without_programs() {
        return;
    }
    let mut paths = Each::new();
    let bases = || {
        [
            ("ipv4", v4(ethernet()), Link::Ethernet),
            ("ipv4 options", v4(ethernet()).options(&[1; 40]), Link::Ethernet),
            ("ipv6", v6(ethernet()), Link::Ethernet),
            (
                "ipv6 extension",
                v6(ethernet()).extension(protocol::DESTINATION, &[]),
                Link::Ethernet,
            ),
            ("qinq ipv4", v4(ethernet().service_vlan(8).vlan(7)), Link::Ethernet),
            ("pppoe ipv6", v6(ethernet().pppoe(9)), Link::Ethernet),
            ("no link header", v4(Frame::ip()), Link::Ip),
        ]
    };
    let mut slot = 0;
    for (number, payload, filled) in
        [(0, "", 0), (1, "", 6), (2, "G", 0), (3, "GET / HTTP/1.1\r\n\r\n", 0)]
    {
        for (name, base, link) in bases() {
            let path = paths.of(link, FastPath::enabled);
            let frame = base.tcp(4000 + number, 80, tcp_flag::ACK).payload(payload.as_bytes());
            let mut frame = frame.bytes();
            frame.resize(frame.len() + filled, 0);
            for is_client in [true, false] {
                slot += 1;
                let original = |way: Direction| if is_client { way } else { way.reversed() };
                path.decide(&frame, |way| {
                    state(Verdict::Trusted, original(way), slot, 0).with_requests()
                });
                let outcome = path.run(Side::In, &frame, Buffer::default());
                let (mark, counter) = if is_client && !payload.is_empty() {
                    (0x0200_0000, Counter::TcInspect)
                } else {
                    (0, Counter::TcTrusted)
                };
                let expected = Outcome { action: TC_ACT_UNSPEC, mark, counted: vec![(counter, 1)] };
                assert_eq!(outcome, expected, "{name}, {payload:?}, client {is_client}");
                let count = path.flows.count(slot).unwrap();
                assert_eq!(count.original_packets + count.reply_packets, 1, "{name}");
            }
        }
    }
}

/// R8: no packet makes an entry.
#[test]
fn a_thousand_unknown_packets_leave_the_map_empty() {
    if without_programs() {
        return;
    }
    let path = FastPath::enabled(Link::Ethernet);
    for port in 0..1000 {
        let frame = v4(ethernet()).udp(1000 + port, 443).bytes();
        let outcome = path.run(Side::In, &frame, Buffer::default());
        assert_eq!(outcome.counted, [(Counter::TcUnknown, 1)]);
        assert_eq!(path.run(Side::Out, &frame, Buffer::default()).action, TC_ACT_UNSPEC);
    }
    assert!(path.flows.keys().unwrap().is_empty());
}

/// R6: the flow of a fragment is not known here, so a decision about ports never touches it.
#[test]
fn fragments_are_never_matched_by_a_decision() {
    if without_programs() {
        return;
    }
    let mut path = FastPath::enabled(Link::Ethernet);
    let whole = udp(v4(ethernet())).bytes();
    path.decide(&whole, |direction| state(Verdict::Blocked, direction, 0, 0));
    let whole6 = udp(v6(ethernet())).bytes();
    path.decide(&whole6, |direction| state(Verdict::Blocked, direction, 0, 0));
    let first = v4(ethernet()).fragment(7, 0, true).udp(0x1234, 443).payload(b"12345678").bytes();
    let last = v4(ethernet()).fragment(7, 16, false).raw(protocol::UDP).payload(b"rest").bytes();
    let first6 =
        v6(ethernet()).ipv6_fragment(7, 0, true).udp(0x1234, 443).payload(b"12345678").bytes();
    let atomic6 = v6(ethernet()).ipv6_fragment(7, 0, false).udp(0x1234, 443).bytes();
    for (name, frame) in
        [("first", first), ("last", last), ("first, IPv6", first6), ("atomic, IPv6", atomic6)]
    {
        let parsed = headers(frame.as_slice(), Link::Ethernet).unwrap();
        assert_eq!(parsed.ports, Ports::Fragment, "{name}");
        let outcome = path.run(Side::In, &frame, Buffer::default());
        let counted = vec![(Counter::TcNoFlow, 1)];
        assert_eq!(outcome, Outcome { action: TC_ACT_UNSPEC, mark: 0, counted }, "{name}");
        assert_eq!(path.run(Side::Out, &frame, Buffer::default()).action, TC_ACT_UNSPEC, "{name}");
    }
    assert_eq!(path.run(Side::In, &whole, Buffer::default()).action, TC_ACT_SHOT, "the control");
    assert_eq!(path.run(Side::In, &whole6, Buffer::default()).action, TC_ACT_SHOT, "the control");
}

/// R5: cut off anywhere, a packet of a blocked flow passes, and the whole packet does not.
#[test]
fn the_fast_path_leaves_what_is_cut_off_alone() {
    if without_programs() {
        return;
    }
    let mut paths = Each::new();
    let (mut untouched, mut refused) = (0, 0);
    for (name, frame, link) in frames() {
        let path = paths.of(link, FastPath::enabled);
        path.decide(&frame, |direction| state(Verdict::Blocked, direction, 0, 0));
        for len in 14..=frame.len() {
            let bytes = &frame[..len];
            let known = headers(bytes, link).is_ok_and(|headers| headers.flow().is_some());
            for side in [Side::In, Side::Out] {
                // The kernel itself refuses to make a buffer that ends inside an IP header.
                let Ok(outcome) = path.try_run(side, bytes, Buffer::default()) else {
                    assert!(!known, "{name}, {len} bytes");
                    refused += 1;
                    continue;
                };
                let action = if known { TC_ACT_SHOT } else { TC_ACT_UNSPEC };
                untouched += u32::from(!known);
                assert_eq!(outcome.action, action, "{name}, {len} bytes, {side:?}");
                let counter = match (known, side) {
                    (true, Side::In) => Counter::TcDropBlocked,
                    (true, Side::Out) => Counter::TcOutDropBlocked,
                    (false, Side::In) => Counter::TcNoFlow,
                    (false, Side::Out) => Counter::TcOutPass,
                };
                assert_eq!(outcome.counted, [(counter, 1)], "{name}, {len} bytes, {side:?}");
            }
        }
    }
    println!("{untouched} cut off and untouched, {refused} refused by the kernel");
    assert!(untouched > 300);
}

/// R23: the tuple may be a new connection, which the queue has to see.
#[test]
fn a_bare_syn_never_takes_the_trusted_path() {
    if without_programs() {
        return;
    }
    let mut path = FastPath::enabled(Link::Ethernet);
    let with = |flags| v4(ethernet()).tcp(0x1234, 443, flags).bytes();
    path.decide(&with(tcp_flag::ACK), |direction| state(Verdict::Trusted, direction, 2, 0));
    let run = |flags| path.run(Side::In, &with(flags), Buffer::default());
    let (syn, ack) = (tcp_flag::SYN, tcp_flag::ACK);
    assert_eq!(run(syn).counted, [(Counter::TcNewSyn, 1)]);
    assert_eq!(run(syn).mark, 0);
    assert_eq!(path.flows.count(2).unwrap().original_packets, 0);
    assert_eq!(run(syn | ack).counted, [(Counter::TcTrusted, 1)]);
    assert_eq!(run(tcp_flag::RST).counted, [(Counter::TcTrusted, 1)]);
    path.decide(&with(ack), |direction| state(Verdict::Blocked, direction, 2, 0));
    assert_eq!(path.run(Side::In, &with(syn), Buffer::default()).action, TC_ACT_SHOT);
}

/// R9: what is counted is what was sent, by direction, segments of merged packets as on the wire.
#[test]
fn packets_and_bytes_of_a_decided_flow_are_counted_exactly() {
    if without_programs() {
        return;
    }
    let mut path = FastPath::enabled(Link::Ethernet);
    // The connection was opened by the end that sorts higher: the key's low end replies.
    let there = ethernet().ipv4(DST4.parse().unwrap(), SRC4.parse().unwrap());
    let there = there.tcp(40_000, 443, tcp_flag::ACK).payload(&[7; 100]).bytes();
    let back = v4(ethernet()).tcp(443, 40_000, tcp_flag::ACK).payload(&[8; 50]).bytes();
    path.decide(&there, |direction| state(Verdict::Trusted, direction, 77, 0));
    let before = monotonic_ns();
    for _ in 0..30 {
        path.run(Side::In, &there, Buffer::default()).counted.len();
    }
    for _ in 0..20 {
        path.run(Side::In, &back, Buffer::default()).counted.len();
    }
    // Egress looks and does not count: a packet that crosses the router is counted once.
    let _ = path.run(Side::Out, &there, Buffer::default());
    let flow = path.flows.count(77).unwrap();
    assert_eq!((flow.original_packets, flow.original_bytes), (30, 30 * (20 + 20 + 100)));
    assert_eq!((flow.reply_packets, flow.reply_bytes), (20, 20 * (20 + 20 + 50)));
    assert!(flow.last_seen_ns + TICK_NS >= before && flow.last_seen_ns <= monotonic_ns());
    assert_eq!(path.flows.count(76).unwrap().original_packets, 0, "the neighbour's slot");

    let merged = Buffer { segments: 5, ..Buffer::default() };
    let _ = path.run(Side::In, &there, merged);
    let after = path.flows.count(77).unwrap();
    assert_eq!(after.original_packets - flow.original_packets, 5);
    let bytes = after.original_bytes - flow.original_bytes;
    assert_eq!(bytes, 5 * 40 + 100, "five headers, the payload once");
}

fn key(number: u32) -> (FlowKey, Direction) {
    let ports = (number % 60_000) as u16 + 1;
    let src = Addr::from(IpAddr::V4((0x0a00_0000 + number).into()));
    let dst = Addr::from(DST4.parse::<IpAddr>().unwrap());
    FlowKey::new(src, dst, ports.to_be(), 443_u16.to_be(), 6)
}

/// A decision that trusts a flow.
fn trusted(key: (FlowKey, Direction), idle_timeout: Duration) -> Decision {
    Decision {
        key,
        nat_key: None,
        verdict: Verdict::Trusted,
        treatment: Treatment::default(),
        reason: Reason::WindowEnd,
        idle_timeout,
        expires_s: 0,
        hello: None,
        learned: None,
        spoken: None,
        rule: None,
        entry: None,
        observed: None,
        ends: None,
        inspected_packets: 10,
        is_partial: false,
        asks: false,
    }
}

/// R10: twice what fits goes in without an error, and what the kernel forgot is noticed.
#[test]
fn twice_the_capacity_goes_in_and_evictions_are_counted() {
    if without_programs() {
        return;
    }
    let mut path = FastPath::enabled(Link::Ethernet);
    let mut table = FlowTable::new(HELD_KEYS, FLOW_SLOTS);
    let now = monotonic_ns();
    let inserted = FLOW_KEYS * 2;
    for number in 0..inserted {
        let decision = trusted(key(number), Duration::from_secs(3600));
        let placed = table.insert(decision, now, |slot| path.flows.count(slot).unwrap());
        assert!(placed.ended.is_empty());
        let (key, direction) = key(number);
        path.flows.set(&key, &state(Verdict::Trusted, direction, placed.slot.unwrap(), 0)).unwrap();
    }
    let kept = path.flows.keys().unwrap().len();
    assert!(kept <= FLOW_KEYS as usize && kept > FLOW_KEYS as usize / 2, "{kept} kept");
    let start = Instant::now();
    let ended = table.sweep(
        now + 1,
        |slot| path.flows.count(slot).unwrap(),
        |key| path.flows.get(key).unwrap().is_some(),
    );
    assert!(ended.iter().all(|action| action.cause == Cause::Evicted));
    assert_eq!((ended.len(), table.len()), (inserted as usize - kept, kept));
    assert_eq!(table.evicted(), u64::from(inserted) - kept as u64);
    println!("{inserted} flows swept in {} us", start.elapsed().as_micros());
    println!("{inserted} inserted, {kept} kept of {FLOW_KEYS}, {} evicted", table.evicted());
}

/// R11: the kernel's stamps keep an active flow, and an idle one ends.
#[test]
fn a_flow_lives_as_long_as_the_kernel_sees_packets_of_it() {
    if without_programs() {
        return;
    }
    let mut path = FastPath::enabled(Link::Ethernet);
    let mut table = FlowTable::new(HELD_KEYS, FLOW_SLOTS);
    let idle_timeout = Duration::from_millis(200);
    let frame = tcp(v4(ethernet())).bytes();
    let (key, direction) = headers(frame.as_slice(), Link::Ethernet).unwrap().flow().unwrap();
    let decision = trusted((key, direction), idle_timeout);
    let read = |path: &FastPath, slot| path.flows.count(slot).unwrap();
    let placed = table.insert(decision, monotonic_ns(), |slot| read(&path, slot));
    path.flows.set(&key, &state(Verdict::Trusted, direction, placed.slot.unwrap(), 0)).unwrap();
    let mut sweep = |path: &FastPath| {
        table.sweep(
            monotonic_ns(),
            |slot| read(path, slot),
            |key| path.flows.get(key).unwrap().is_some(),
        )
    };
    let start = Instant::now();
    let mut silent = start;
    while start.elapsed() < idle_timeout * 5 {
        silent = Instant::now();
        assert_eq!(path.run(Side::In, &frame, Buffer::default()).action, TC_ACT_UNSPEC);
        assert!(sweep(&path).is_empty(), "after {:?}", start.elapsed());
    }
    let ended = loop {
        let ended = sweep(&path);
        if !ended.is_empty() {
            break ended;
        }
        assert!(silent.elapsed() < idle_timeout * 5, "never ends");
    };
    assert_eq!(ended[0].cause, Cause::Expired);
    assert!(silent.elapsed() + Duration::from_nanos(TICK_NS) > idle_timeout, "too early");
}

/// What an agent that starts again finds in the pinned map.
#[test]
fn only_blocked_flows_survive_a_restart() {
    if without_programs() {
        return;
    }
    let mut path = FastPath::enabled(Link::Ethernet);
    let now = monotonic_s();
    for (number, verdict, expires_s) in [
        (1, Verdict::Trusted, 0),
        (2, Verdict::Blocked, 0),
        (3, Verdict::Blocked, now + 100),
        (4, Verdict::Blocked, now),
        (5, Verdict::Inspect, 0),
    ] {
        let (key, direction) = key(number);
        path.flows.set(&key, &state(verdict, direction, number, expires_s)).unwrap();
    }
    let adopted = path.flows.adopt(now).unwrap();
    let kept: Vec<_> =
        adopted.held.iter().map(|left| (left.keys[0].0, left.keys[0].1.slot)).collect();
    assert_eq!(kept, [(key(2).0, 2), (key(3).0, 3)]);
    assert_eq!((adopted.forgotten, path.flows.keys().unwrap().len()), (3, 2));
    assert!(!path.flows.remove(&key(1).0).unwrap(), "gone already");
    assert!(path.flows.remove(&key(2).0).unwrap());
}

//! The fast path alone: decisions that nothing displaces, rates, code points, ends of connections.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::net::IpAddr;
use std::time::{Duration, Instant};

use sluice::sys::clock::{monotonic_ns, monotonic_s};
use sluice_abi::attach::Link;
use sluice_abi::counter::Counter;
use sluice_abi::flow::{Addr, Direction, FlowKey, FlowLimit, FlowState, Recent};
use sluice_abi::profile::Profile;
use sluice_abi::settings::Settings;
use sluice_abi::verdict::{Reason, Verdict};
use sluice_datapath::parse::headers;
use sluice_tests::frame::{Frame, protocol, tcp_flag};
use sluice_tests::packets::{DST4, SRC4, TC_ACT_SHOT, TC_ACT_UNSPEC, ethernet, tcp, udp, v4, v6};
use sluice_tests::plane::{
    Buffer, FLOW_KEYS, FastPath, HELD_KEYS, Outcome, Side, enabled, without_programs,
};
use sluice_tests::wait;

const fn state(verdict: Verdict, direction: Direction, slot: u32, expires_s: u32) -> FlowState {
    FlowState::new(verdict, Reason::DomainRule, direction, slot, expires_s)
}

/// The frame of flow `number`, and of its other direction.
fn flow(number: u32) -> [Vec<u8>; 2] {
    let (a, b) = (IpAddr::V4((0x0a00_0000 + number).into()), DST4.parse().unwrap());
    let there = ethernet().addresses(a, b).tcp(40_000, 443, tcp_flag::ACK).bytes();
    [there, ethernet().addresses(b, a).tcp(443, 40_000, tcp_flag::ACK).bytes()]
}

/// R23: a flood of other flows takes the place of trusted ones and of nobody who is blocked or
/// limited, in either direction, behind either program.
#[test]
fn a_flood_of_flows_displaces_no_blocked_and_no_limited_flow() {
    const HELD: u32 = 60;
    if without_programs() {
        return;
    }
    let mut path = FastPath::enabled(Link::Ethernet);
    let until = monotonic_s() + 600;
    for number in 0..HELD {
        let [there, _] = flow(number);
        path.decide(&there, |way| state(Verdict::Blocked, way, number, until));
    }
    let [limited, _] = flow(HELD);
    path.flows.limit(HELD, &FlowLimit::full(1, 1 << 20, 0)).unwrap();
    path.decide(&limited, |way| state(Verdict::Limited, way, HELD, 0));
    let [trusted, _] = flow(HELD + 1);
    let key = path.decide(&trusted, |way| state(Verdict::Trusted, way, HELD + 1, 0));
    let counted =
        |path: &FastPath, side, frame: &[u8]| path.run(side, frame, Buffer::default()).counted;
    assert_eq!(counted(&path, Side::In, &trusted), [(Counter::TcTrusted, 1)]);

    assert!(path.flows.get(&key).unwrap().is_some());
    // Which of those that were not used lately goes first depends on the processors that wrote them.
    let mut flood = 1000..1000 + FLOW_KEYS * 40;
    while path.flows.get(&key).unwrap().is_some() {
        for number in flood.by_ref().take(FLOW_KEYS as usize * 2) {
            let [there, _] = flow(number);
            path.decide(&there, |way| state(Verdict::Trusted, way, 0, 0));
            assert_eq!(counted(&path, Side::In, &there), [(Counter::TcTrusted, 1)]);
        }
        assert!(!flood.is_empty(), "nobody is displaced");
    }
    assert_eq!(counted(&path, Side::In, &trusted), [(Counter::TcUnknown, 1)], "the control");
    for number in 0..HELD {
        for frame in flow(number) {
            assert_eq!(counted(&path, Side::In, &frame), [(Counter::TcDropBlocked, 1)]);
            assert_eq!(counted(&path, Side::Out, &frame), [(Counter::TcOutDropBlocked, 1)]);
        }
    }
    assert_eq!(counted(&path, Side::In, &limited), [(Counter::TcLimited, 1)]);
}

/// R23: without room a blocked flow is refused aloud, and nobody else loses his place.
#[test]
fn a_full_map_of_blocked_flows_refuses_one_more_and_keeps_the_others() {
    if without_programs() {
        return;
    }
    let mut path = FastPath::enabled(Link::Ethernet);
    let key = |number: u32| {
        let src = Addr::from(IpAddr::V4((0x0a00_0000 + number).into()));
        FlowKey::new(src, DST4.parse::<IpAddr>().unwrap().into(), 1, 2, 6)
    };
    let mut set = |number, verdict| {
        let (key, way) = key(number);
        path.flows.set(&key, &state(verdict, way, 0, 0)).unwrap()
    };
    assert!((0..HELD_KEYS).all(|number| set(number, Verdict::Blocked)));
    assert!(!set(HELD_KEYS, Verdict::Blocked));
    assert!(!set(HELD_KEYS, Verdict::Limited));
    assert!(set(5, Verdict::Limited), "one that is there is written over");
    assert!(set(6, Verdict::Trusted), "or leaves");
    assert!(set(HELD_KEYS, Verdict::Blocked), "and makes room");
    let verdict = |number| path.flows.get(&key(number).0).unwrap().map(|state| state.verdict());
    assert_eq!(verdict(5), Some(Verdict::Limited));
    assert_eq!(verdict(6), Some(Verdict::Trusted));
    assert!((7..=HELD_KEYS).all(|number| verdict(number) == Some(Verdict::Blocked)));
    assert!(path.flows.remove(&key(7).0).unwrap());
    assert!(path.flows.get(&key(7).0).unwrap().is_none());
}

fn count(outcome: &Outcome, counter: Counter) -> u64 {
    let found = outcome.counted.iter().find(|(of, _)| *of == counter);
    found.map_or(0, |(_, count)| *count)
}

/// R71: what passes is the rate, by 10 %, for small and for merged packets; each direction has its
/// own, and another flow pays nothing.
#[test]
fn a_limited_flow_is_held_to_its_rate() {
    const SLOT: u32 = 9;
    const BATCH: u32 = 40;
    if without_programs() {
        return;
    }
    let time = Duration::from_secs(2);
    for (kbit, payload, segments) in [(2_000, 60, 0), (20_000, 1400, 0), (100_000, 1400, 20)] {
        let mut path = FastPath::enabled(Link::Ethernet);
        let there =
            v4(ethernet()).tcp(40_000, 443, tcp_flag::ACK).payload(&vec![7; payload]).bytes();
        let back = ethernet().ipv4(DST4.parse().unwrap(), SRC4.parse().unwrap());
        let back = back.tcp(443, 40_000, tcp_flag::ACK).payload(&[7; 1000]).bytes();
        let burst = kbit * 300;
        let now_ms = (monotonic_ns() / 1_000_000) as u32;
        path.flows.limit(SLOT, &FlowLimit::full(kbit, burst, now_ms)).unwrap();
        path.decide(&there, |way| state(Verdict::Limited, way, SLOT, 0));
        let buffer = Buffer { mark: 0xf0ff_ffff, segments };
        let start = Instant::now();
        let (mut dropped, mut passed) = (0_u64, 0_u64);
        while start.elapsed() < time {
            let outcome = path.flood(Side::In, &there, buffer, BATCH);
            assert_eq!(outcome.mark, buffer.mark, "the mark would bring it into a flowtable");
            let (limited, refused) =
                (count(&outcome, Counter::TcLimited), count(&outcome, Counter::TcDropLimited));
            assert_eq!(limited + refused, u64::from(BATCH), "{outcome:?}");
            if limited == 0 {
                assert_eq!(outcome.action, TC_ACT_SHOT);
            }
            passed += limited;
            dropped += refused;
        }
        let seconds = start.elapsed().as_secs_f64();
        let seen = path.flows.count(SLOT).unwrap();
        assert_eq!(seen.original_packets, passed * u64::from(segments.max(1)));
        let bits = (seen.original_bytes * 8) as f64;
        let allowed = f64::from(kbit) * 1000.0 * seconds + f64::from(burst);
        let error = (bits - allowed) / allowed;
        println!("{kbit} kbit/s: {passed} passed, {dropped} dropped, {:+.2} %", error * 100.0);
        assert!(
            dropped > passed / 2,
            "{kbit}: {passed} passed, {dropped} dropped: not over the rate"
        );
        assert!(error.abs() < 0.1, "{kbit} kbit/s: {bits} bits of {allowed}");
        let outcome = path.run(Side::In, &back, buffer);
        assert_eq!(outcome.counted, [(Counter::TcLimited, 1)], "the other direction has its own");
        assert_eq!(path.flows.count(SLOT).unwrap().reply_packets, u64::from(segments.max(1)));
        let [other, _] = flow(1);
        path.decide(&other, |way| state(Verdict::Trusted, way, 1, 0));
        assert_eq!(path.run(Side::In, &other, buffer).counted, [(Counter::TcTrusted, 1)]);
    }
}

/// R13: the end of a connection is noted where the flow is trusted, and ends nothing.
#[test]
fn an_end_is_noted_of_trusted_flows_alone() {
    if without_programs() {
        return;
    }
    let mut path = FastPath::enabled(Link::Ethernet);
    let with = |flags| v4(ethernet()).tcp(0x1234, 443, flags | tcp_flag::ACK).bytes();
    path.flows.limit(3, &FlowLimit::full(1000, 1 << 20, 0)).unwrap();
    for (slot, verdict, flags, notes, counter) in [
        (1, Verdict::Trusted, 0, false, Counter::TcTrusted),
        (1, Verdict::Trusted, tcp_flag::FIN, true, Counter::TcTrusted),
        (2, Verdict::Trusted, tcp_flag::RST, true, Counter::TcTrusted),
        (3, Verdict::Limited, tcp_flag::FIN, false, Counter::TcLimited),
        (3, Verdict::Limited, tcp_flag::RST, false, Counter::TcLimited),
        (4, Verdict::Blocked, tcp_flag::FIN, false, Counter::TcDropBlocked),
        (4, Verdict::Blocked, tcp_flag::RST, false, Counter::TcDropBlocked),
    ] {
        let frame = with(flags);
        path.decide(&frame, |way| state(verdict, way, slot, 0));
        // The packet before it was looked up a moment ago.
        for frame in [&with(0), &frame] {
            let outcome = path.run(Side::In, frame, Buffer::default());
            assert_eq!(outcome.counted, [(counter, 1)]);
        }
        let seen = path.flows.count(slot).unwrap();
        assert_eq!(seen.closing_ns != 0, notes, "{verdict:?} {flags}");
        assert!(seen.closing_ns <= seen.last_seen_ns && seen.last_seen_ns > 0);
        let again = path.run(Side::In, &with(0), Buffer::default());
        assert_eq!(again.counted, [(counter, 1)], "the decision stays");
    }
}

/// Sum of the header's 16-bit words, which is 0xffff when its checksum is right.
fn sum(header: &[u8]) -> u16 {
    let words =
        header.chunks_exact(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

/// The traffic class of the packet at `l3`.
fn class(frame: &[u8], l3: usize) -> u8 {
    if frame[l3] >> 4 == 4 { frame[l3 + 1] } else { frame[l3] << 4 | frame[l3 + 1] >> 4 }
}

/// Sets it, as the sender would.
fn set_class(frame: &mut [u8], l3: usize, class: u8) {
    if frame[l3] >> 4 == 6 {
        frame[l3] = 0x60 | class >> 4;
        frame[l3 + 1] = class << 4 | frame[l3 + 1] & 0xf;
        return;
    }
    frame[l3 + 1] = class;
    let header = usize::from(frame[l3] & 0xf) * 4;
    frame[l3 + 10..l3 + 12].fill(0);
    let checksum = !sum(&frame[l3..l3 + header]);
    frame[l3 + 10..l3 + 12].copy_from_slice(&checksum.to_be_bytes());
}

/// R67, R68, R69: on its way out a packet of a flow with a profile gets its code point and priority,
/// whatever is around it; the two ECN bits and everything else stay, and the checksum is right.
#[test]
fn packets_leave_with_the_code_point_of_their_profile() {
    if without_programs() {
        return;
    }
    let tagged = |mut bytes: Vec<u8>| {
        bytes.splice(12..12, [0x00, 0x01, 0x00, 0x00]);
        bytes
    };
    #[rustfmt::skip]
    let frames = [
        ("ipv4",            tcp(v4(ethernet())).bytes(),                            Link::Ethernet),
        ("ipv4 options",    udp(v4(ethernet()).options(&[1; 40])).bytes(),          Link::Ethernet),
        ("ipv6",            tcp(v6(ethernet())).bytes(),                            Link::Ethernet),
        ("ipv6 extensions", udp(v6(ethernet()).extension(protocol::DESTINATION, &[])).bytes(), Link::Ethernet),
        ("vlan ipv4",       tcp(v4(ethernet().vlan(7))).bytes(),                    Link::Ethernet),
        ("qinq ipv6",       udp(v6(ethernet().service_vlan(8).vlan(7))).bytes(),    Link::Ethernet),
        ("pppoe ipv4",      tcp(v4(ethernet().pppoe(9))).bytes(),                   Link::Ethernet),
        ("vlan pppoe ipv6", tcp(v6(ethernet().vlan(7).pppoe(9))).bytes(),           Link::Ethernet),
        ("mtk ipv4",        tagged(udp(v4(ethernet())).bytes()),                    Link::Mtk),
        ("bare ipv4",       tcp(v4(Frame::ip())).bytes(),                           Link::Ip),
        ("bare ipv6",       udp(v6(Frame::ip())).bytes(),                           Link::Ip),
    ];
    let mut profiles = [Profile::default(); Profile::COUNT as usize];
    profiles[4] = Profile::new(Some(46), 6);
    profiles[15] = Profile::new(Some(0), 0);
    profiles[7] = Profile::new(None, 5);
    for (name, frame, link) in frames {
        let mut path = FastPath::enabled(link);
        path.profiles.set(&profiles).unwrap();
        let mut settings = enabled();
        settings.flags |= Settings::PROFILES;
        path.settings.set(settings).unwrap();
        let l3 = headers(frame.as_slice(), link).unwrap().l3;
        for (before, profile, after) in [
            (0, 4, 46 << 2),
            (0b11, 4, 46 << 2 | 0b11),
            (0xfe, 4, 46 << 2 | 0b10),
            (0xfd, 15, 0b01),
            (46 << 2 | 1, 4, 46 << 2 | 1),
            (0x55, 0, 0x55),
            (0x55, 7, 0x55),
            (0x55, 9, 0x55),
        ] {
            let mut frame = frame.clone();
            set_class(&mut frame, l3, before);
            for verdict in [Verdict::Trusted, Verdict::Limited, Verdict::Inspect] {
                path.flows.limit(1, &FlowLimit::full(1000, 1 << 20, 0)).unwrap();
                path.decide(&frame, |way| state(verdict, way, 1, 0).with_profile(profile));
                // As ingress marks it.
                let marked = Buffer { mark: 0x0100_0000, ..Buffer::default() };
                let sent = path.send(Side::Out, &frame, marked);
                let context = format!("{name}, {before:#x}, profile {profile}, {verdict:?}");
                let is_dressed = verdict != Verdict::Inspect;
                let wanted = if is_dressed { after } else { before };
                let counter =
                    if wanted == before { Counter::TcOutPass } else { Counter::TcOutDscp };
                assert_eq!(sent.outcome.counted, [(counter, 1)], "{context}");
                assert_eq!(sent.outcome.action, TC_ACT_UNSPEC, "{context}");
                let priority = profiles[usize::from(profile)].priority;
                assert_eq!(sent.priority, if is_dressed { priority } else { 0 }, "{context}");
                let mut expected = frame.clone();
                set_class(&mut expected, l3, wanted);
                assert_eq!(class(&expected, l3), wanted);
                assert_eq!(sent.frame, expected, "{context}");
                if frame[l3] >> 4 == 4 {
                    let header = usize::from(frame[l3] & 0xf) * 4;
                    assert_eq!(sum(&sent.frame[l3..l3 + header]), 0xffff, "{context}");
                }
            }
        }
        // On its way in it is left as it is.
        path.decide(&frame, |way| state(Verdict::Trusted, way, 1, 0).with_profile(4));
        assert_eq!(path.send(Side::In, &frame, Buffer::default()).frame, frame, "{name}");
    }
}

/// R23, R167: a trusted flow is looked up once in a timer tick, so that the next packets cost less and the
/// kernel still sees that it is used; what is remembered is of this flow and direction alone.
#[test]
fn a_trusted_flow_is_looked_up_once_a_tick() {
    /// The longest, of a kernel with 100 Hz.
    const TICK: Duration = Duration::from_millis(10);
    /// Ports that are remembered where 40000 and 443 are.
    const OTHER_FROM: u16 = 0x9c40 ^ 0x1000;
    const OTHER_TO: u16 = 0x01bb ^ 0x1000;
    const fn place(from: u16, to: u16) -> u32 {
        Recent::index(from.to_be(), to.to_be())
    }
    const {
        assert!(place(OTHER_FROM, 443) == place(40_000, 443));
        assert!(place(40_000, OTHER_TO) == place(40_000, 443));
        assert!(place(OTHER_FROM, OTHER_TO) == place(40_000, 443));
    }
    if without_programs() {
        return;
    }
    let mut path = FastPath::enabled(Link::Ethernet);
    let counted =
        |path: &FastPath, frame: &[u8]| path.run(Side::In, frame, Buffer::default()).counted;
    let (trusted, unknown) = (vec![(Counter::TcTrusted, 1)], vec![(Counter::TcUnknown, 1)]);
    let frames = flow(1);
    let mut remembered = [0; 2];
    // Not each time: a tick may end in between, on an emulated machine nearly always.
    for round in 0..400 {
        if remembered.iter().all(|times| *times > 0) {
            break;
        }
        let key = path.decide(&frames[0], |way| state(Verdict::Trusted, way, 1, 0));
        let [this, other] = [round % 2, 1 - round % 2];
        for way in [this, other] {
            assert_eq!(counted(&path, &frames[way]), trusted);
        }
        path.evict(&key);
        let outcome = path.flood(Side::In, &frames[this], Buffer::default(), 5);
        remembered[this] += count(&outcome, Counter::TcTrusted);
        wait::pause(2 * TICK);
        assert_eq!(
            frames.each_ref().map(|frame| counted(&path, frame)),
            [(); 2].map(|()| unknown.clone())
        );
    }
    assert!(remembered.iter().all(|times| *times > 0), "{remembered:?}");

    // What differs in one thing, and where it can is remembered in the same place.
    let ends = |a: &str, b: &str| ethernet().addresses(a.parse().unwrap(), b.parse().unwrap());
    let (ack, a, b) = (tcp_flag::ACK, "10.0.0.1", "10.0.0.2");
    let (a6, b6) = ("2001:db8::1", "2001:db8::2");
    let known =
        [ends(a, b).tcp(40_000, 443, ack).bytes(), ends(a6, b6).tcp(40_000, 443, ack).bytes()];
    let others = [
        ends("10.0.0.3", b).tcp(40_000, 443, ack),
        ends(a, "10.0.0.3").tcp(40_000, 443, ack),
        ends(a, b).udp(40_000, 443),
        ends(a, b).tcp(OTHER_FROM, 443, ack),
        ends(a, b).tcp(40_000, OTHER_TO, ack),
        ends(a, b).tcp(OTHER_FROM, OTHER_TO, ack),
        ends(b, a).tcp(40_000, 443, ack),
        ends("2001:db9::1", b6).tcp(40_000, 443, ack),
        ends("2001:db8:1::1", b6).tcp(40_000, 443, ack),
        ends("2001:db8::1:0:1", b6).tcp(40_000, 443, ack),
        ends("2001:db8::3", b6).tcp(40_000, 443, ack),
        ends(a6, "2001:db9::2").tcp(40_000, 443, ack),
        ends(a6, "2001:db8:1::2").tcp(40_000, 443, ack),
        ends(a6, "2001:db8::1:0:2").tcp(40_000, 443, ack),
        ends(a6, "2001:db8::3").tcp(40_000, 443, ack),
        ends(a6, b6).udp(40_000, 443),
    ]
    .map(|frame| frame.bytes());
    for known in &known {
        path.decide(known, |way| state(Verdict::Trusted, way, 1, 0));
        for other in &others {
            // Right behind each other, so that the tick seldom ends in between.
            assert_eq!(counted(&path, known), trusted);
            assert_eq!(counted(&path, other), unknown, "{other:x?}");
        }
    }
}

/// R9, R167: a packet whose flow is remembered is counted as one whose flow is looked up: by direction, segments
/// of merged packets as on the wire.
#[test]
fn a_remembered_flow_is_counted_as_one_that_is_looked_up() {
    const OPTIONS: [u8; 12] = [1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2];
    if without_programs() {
        return;
    }
    let mut path = FastPath::enabled(Link::Ethernet);
    let (ack, data) = (tcp_flag::ACK, [7; 300]);
    let tcp = |frame: Frame| frame.tcp(40_000, 443, ack).payload(&data).bytes();
    let mut long = tcp(v4(ethernet()));
    // Offset of the TCP header's length: what is payload above are options then.
    long[14 + 20 + 12] = 8 << 4;
    long[54..54 + OPTIONS.len()].copy_from_slice(&OPTIONS);
    let frames = [
        ("tcp4", tcp(v4(ethernet())), 40),
        ("tcp4 with options", long, 52),
        ("tcp6", tcp(v6(ethernet())), 60),
        ("udp4", v4(ethernet()).udp(40_000, 443).payload(&data).bytes(), 28),
        ("udp6", v6(ethernet()).udp(40_000, 443).payload(&data).bytes(), 48),
    ];
    let mut slot = 10;
    for (name, frame, headers_len) in &frames {
        let len = frame.len() as u64 - 14;
        for (segments, reversed) in [(0, false), (0, true), (2, false), (7, true)] {
            slot += 1;
            let buffer = Buffer { segments, ..Buffer::default() };
            let (mut packets, mut remembered) = (0, 0);
            // A tick may end in between, on an emulated machine nearly always.
            for _ in 0..200 {
                let key = path.decide(frame, |way| {
                    let way = if reversed { way.reversed() } else { way };
                    state(Verdict::Trusted, way, slot, 0)
                });
                let looked_up = path.run(Side::In, frame, buffer);
                assert_eq!(count(&looked_up, Counter::TcTrusted), 1, "{name}");
                path.evict(&key);
                let outcome = path.flood(Side::In, frame, buffer, 5);
                let more = count(&outcome, Counter::TcTrusted);
                assert_eq!(count(&outcome, Counter::TcUnknown), 5 - more, "{name}");
                (packets, remembered) = (packets + 1 + more, remembered + more);
                if more > 0 {
                    break;
                }
            }
            assert!(remembered > 0, "{name}");
            let seen = path.flows.count(slot).unwrap();
            let mut sides = [
                (seen.original_packets, seen.original_bytes),
                (seen.reply_packets, seen.reply_bytes),
            ];
            sides.rotate_left(usize::from(reversed));
            let wire = u64::from(segments.max(1));
            let each = len + (wire - 1) * headers_len;
            assert_eq!(sides, [(packets * wire, packets * each), (0, 0)], "{name} {segments}");
            let age_ns = monotonic_ns() - seen.last_seen_ns;
            assert!(age_ns < 1_000_000_000, "{name}: {age_ns} ns ago");
        }
    }
}

/// What is remembered of a trusted flow ends with its decision: the next packet meets the new one.
#[test]
fn a_decision_holds_from_the_next_packet_on() {
    if without_programs() {
        return;
    }
    let mut path = FastPath::enabled(Link::Ethernet);
    let frame = ethernet().addresses(SRC4.parse().unwrap(), DST4.parse().unwrap());
    let frame = frame.tcp(40_000, 443, tcp_flag::ACK).payload(&[1; 100]).bytes();
    path.flows.limit(1, &FlowLimit::full(1, 1 << 20, 0)).unwrap();
    let counted = |path: &FastPath| path.run(Side::In, &frame, Buffer::default()).counted;
    for round in 0..50 {
        for (verdict, counter) in [
            (Verdict::Blocked, Counter::TcDropBlocked),
            (Verdict::Limited, Counter::TcLimited),
            (Verdict::Inspect, Counter::TcInspect),
        ] {
            path.decide(&frame, |way| state(Verdict::Trusted, way, 1, 0));
            assert_eq!(counted(&path), [(Counter::TcTrusted, 1)], "{round}");
            path.decide(&frame, |way| state(verdict, way, 1, 0));
            assert_eq!(counted(&path), [(counter, 1)], "{round}");
        }
        path.decide(&frame, |way| state(Verdict::Trusted, way, 1, 0));
        assert_eq!(counted(&path), [(Counter::TcTrusted, 1)], "{round}");
        path.decide(&frame, |way| state(Verdict::Trusted, way, 1, 0).with_requests());
        assert_eq!(counted(&path), [(Counter::TcInspect, 1)], "{round}: its client asks");
        let key = path.decide(&frame, |way| state(Verdict::Trusted, way, 1, 0));
        assert_eq!(counted(&path), [(Counter::TcTrusted, 1)], "{round}");
        assert!(path.flows.remove(&key).unwrap());
        assert_eq!(counted(&path), [(Counter::TcUnknown, 1)], "{round}");
        path.decide(&frame, |way| state(Verdict::Trusted, way, 1, 0));
        assert_eq!(counted(&path), [(Counter::TcTrusted, 1)], "{round}");
        path.flows.adopt(monotonic_s()).unwrap();
        assert_eq!(counted(&path), [(Counter::TcUnknown, 1)], "{round}: another agent");
    }
}

/// What ingress has marked is looked up on egress only where that can change something, and a mark
/// of another value spares nobody.
#[test]
fn a_packet_that_ingress_has_marked_is_not_looked_up_again() {
    if without_programs() {
        return;
    }
    let mut path = FastPath::enabled(Link::Ethernet);
    let [frame, _] = flow(1);
    // Blocked, to see whether it is looked up.
    path.decide(&frame, |way| state(Verdict::Blocked, way, 1, 0));
    let mut settings = enabled();
    for (flags, mark, counter) in [
        (0, 0x0100_0000, Counter::TcOutPass),
        (0, 0xf1ff_ffff, Counter::TcOutPass),
        (0, 0, Counter::TcOutDropBlocked),
        (0, 0xf0ff_ffff, Counter::TcOutDropBlocked),
        (0, 0x0200_0000, Counter::TcOutDropBlocked),
        (0, 0x0300_0000, Counter::TcOutDropBlocked),
        (Settings::PROFILES, 0x0100_0000, Counter::TcOutDropBlocked),
    ] {
        settings.flags = Settings::ENABLED | flags;
        path.settings.set(settings).unwrap();
        let outcome = path.run(Side::Out, &frame, Buffer { mark, ..Buffer::default() });
        assert_eq!(outcome.counted, [(counter, 1)], "{flags} {mark:#x}");
    }
}

/// R59, R124: without settings, and with settings of another version, nothing is looked up.
#[test]
fn without_the_flag_every_decision_is_void() {
    if without_programs() {
        return;
    }
    let mut path = FastPath::new(Link::Ethernet);
    let [frame, _] = flow(1);
    path.decide(&frame, |way| state(Verdict::Blocked, way, 1, 0));
    for (side, counter) in [(Side::In, Counter::TcInert), (Side::Out, Counter::TcOutInert)] {
        let outcome = path.run(side, &frame, Buffer::default());
        assert_eq!((outcome.action, outcome.counted), (TC_ACT_UNSPEC, vec![(counter, 1)]));
    }
    let generation = path.settings.current().generation;
    path.settings.set(enabled()).unwrap();
    assert_eq!(path.settings.current().generation, generation + 1, "each write counts");
    assert_eq!(path.run(Side::In, &frame, Buffer::default()).action, TC_ACT_SHOT, "the control");
    path.settings.enable(false).unwrap();
    assert_eq!(path.run(Side::In, &frame, Buffer::default()).action, TC_ACT_UNSPEC);
}

//! The programs on tables of packets: what they return, what they mark, what they count.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use sluice::config::Net;
use sluice::dataplane::table::{Cause, Decision, FlowTable, Treatment};
use sluice::sys::clock::{monotonic_ns, monotonic_s};
use sluice_abi::attach::{Link, Role};
use sluice_abi::counter::Counter;
use sluice_abi::flow::{Addr, Direction, FlowKey, FlowState};
use sluice_abi::shield::Rate;
use sluice_abi::verdict::{Reason, Verdict};
use sluice_datapath::parse::{NotIp, Ports, headers};
use sluice_tests::frame::{Frame, protocol, tcp_flag};
use sluice_tests::packets::{
    DST4, DST6, SRC4, TC_ACT_SHOT, TC_ACT_UNSPEC, XDP_DROP, XDP_PASS, ethernet, tcp, udp, v4, v6,
};
use sluice_tests::plane::{
    Buffer, FLOW_KEYS, FLOW_SLOTS, FastPath, HELD_KEYS, Outcome, Shield, Side, enabled, limited,
    looked_up, without_programs,
};

/// The programs' clock is that of the last tick: 10 ms at most, and more where an emulator was
/// too busy to make one.
const TICK_NS: u64 = 100_000_000;

/// With `MediaTek`'s switch tag behind the Ethernet addresses.
fn tagged(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes.splice(12..12, [0x00, 0x01, 0x00, 0x00]);
    bytes
}

/// A frame of every encapsulation, and what its link starts with.
#[rustfmt::skip]
fn frames() -> Vec<(&'static str, Vec<u8>, Link)> {
    let extended = |frame: Frame| {
        v6(frame)
            .extension(protocol::HOP_BY_HOP, &[])
            .extension(protocol::ROUTING, &[0; 14])
            .extension(protocol::DESTINATION, &[])
    };
    vec![
        ("ipv4 tcp",              tcp(v4(ethernet())).bytes(),                              Link::Ethernet),
        ("ipv4 udp",              udp(v4(ethernet())).bytes(),                              Link::Ethernet),
        ("ipv4 options tcp",      tcp(v4(ethernet()).options(&[1; 40])).bytes(),            Link::Ethernet),
        ("ipv6 tcp",              tcp(v6(ethernet())).bytes(),                              Link::Ethernet),
        ("ipv6 udp",              udp(v6(ethernet())).bytes(),                              Link::Ethernet),
        ("ipv6 extensions tcp",   tcp(extended(ethernet())).bytes(),                        Link::Ethernet),
        ("vlan ipv4 tcp",         tcp(v4(ethernet().vlan(7))).bytes(),                      Link::Ethernet),
        ("vlan ipv6 udp",         udp(v6(ethernet().vlan(7))).bytes(),                      Link::Ethernet),
        ("qinq ipv4 udp",         udp(v4(ethernet().service_vlan(8).vlan(7))).bytes(),      Link::Ethernet),
        ("qinq ipv6 tcp",         tcp(v6(ethernet().service_vlan(8).vlan(7))).bytes(),      Link::Ethernet),
        ("pppoe ipv4 tcp",        tcp(v4(ethernet().pppoe(9))).bytes(),                     Link::Ethernet),
        ("pppoe ipv6 udp",        udp(v6(ethernet().pppoe(9))).bytes(),                     Link::Ethernet),
        ("vlan pppoe ipv4 udp",   udp(v4(ethernet().vlan(7).pppoe(9))).bytes(),             Link::Ethernet),
        ("mtk tag ipv4 tcp",      tagged(tcp(v4(ethernet())).bytes()),                      Link::Mtk),
        ("mtk tag vlan ipv6 udp", tagged(udp(v6(ethernet().vlan(7))).bytes()),              Link::Mtk),
        ("no link header, ipv4",  tcp(v4(Frame::ip())).bytes(),                             Link::Ip),
        ("no link header, ipv6",  udp(v6(Frame::ip())).bytes(),                             Link::Ip),
    ]
}

/// Programs by link kind, loaded when the first frame needs them.
struct Each<T>(BTreeMap<u8, T>);

impl<T> Each<T> {
    const fn new() -> Self {
        Self(BTreeMap::new())
    }

    fn of(&mut self, link: Link, load: impl FnOnce(Link) -> T) -> &mut T {
        self.0.entry(link as u8).or_insert_with(|| load(link))
    }
}

fn host(addr: IpAddr) -> Net {
    Net::host(addr)
}

fn net(addr: impl std::fmt::Display, len: u8) -> Net {
    format!("{addr}/{len}").parse().unwrap()
}

/// Another address of the same family.
fn neighbour(addr: IpAddr) -> IpAddr {
    match addr {
        IpAddr::V4(addr) => IpAddr::V4((u32::from(addr) ^ 1).into()),
        IpAddr::V6(addr) => IpAddr::V6((u128::from(addr) ^ 1).into()),
    }
}

/// R46, R62, R162.
#[test]
fn the_shield_drops_what_is_listed_in_every_encapsulation_and_nothing_else() {
    if without_programs() {
        return;
    }
    for role in [Role::Wan, Role::Lan] {
        let mut shields = Each::new();
        for (name, frame, link) in frames() {
            let shield = shields.of(link, |link| Shield::enabled(role, link));
            let listed = looked_up(&frame, role, link);
            let other_role = if role == Role::Wan { Role::Lan } else { Role::Wan };
            let other_end = looked_up(&frame, other_role, link);
            let wide = |addr: IpAddr| net(addr, if addr.is_ipv4() { 24 } else { 48 });
            #[rustfmt::skip]
            let cases = [
                ("nothing",         vec![],                        XDP_PASS, Counter::XdpPass),
                ("the address",     vec![host(listed)],            XDP_DROP, Counter::XdpDropHost),
                ("its neighbour",   vec![host(neighbour(listed))], XDP_PASS, Counter::XdpPass),
                ("its prefix",      vec![wide(listed)],            XDP_DROP, Counter::XdpDropPrefix),
                ("the other end",   vec![host(other_end)],         XDP_PASS, Counter::XdpPass),
                ("its end's prefix", vec![wide(other_end)],        XDP_PASS, Counter::XdpPass),
            ];
            for (what, nets, action, counter) in cases {
                shield.blocklist.sync(&[(5, &nets)], monotonic_s()).unwrap();
                let hits = shield.hits.of(5).unwrap();
                let context = format!("{name}, {} interface, {what} is listed", role.name());
                let before = monotonic_ns();
                assert_eq!(shield.run(&frame, 1), (action, vec![(counter, 1)]), "{context}");
                let after = shield.hits.of(5).unwrap();
                if action == XDP_DROP {
                    assert_eq!(after.packets, hits.packets + 1, "{context}");
                    assert_eq!(after.bytes, hits.bytes + frame.len() as u64, "{context}");
                    assert!(after.last_ns + TICK_NS > before, "{context}");
                } else {
                    assert_eq!(after, hits, "{context}");
                }
            }
        }
    }
}

/// R5, R56: the kernel's program and the agent's parser agree on every truncation, and what cannot
/// be read passes.
#[test]
fn the_shield_passes_and_counts_what_is_cut_off() {
    if without_programs() {
        return;
    }
    let mut shields = Each::new();
    let (mut cut, mut dropped) = (0, 0);
    for (name, frame, link) in frames() {
        let shield = shields.of(link, |link| Shield::enabled(Role::Wan, link));
        let listed = [host(looked_up(&frame, Role::Wan, link))];
        shield.blocklist.sync(&[(0, &listed)], monotonic_s()).unwrap();
        // Shorter than an Ethernet header the kernel makes no frame for a trial.
        for len in 14..=frame.len() {
            let bytes = &frame[..len];
            let (action, counter) = match headers(bytes, link) {
                Ok(_) => (XDP_DROP, Counter::XdpDropHost),
                Err(NotIp::Truncated) => (XDP_PASS, Counter::XdpTruncated),
                Err(other) => panic!("{name}, {len} bytes: {other:?}"),
            };
            cut += u32::from(action == XDP_PASS);
            dropped += u32::from(action == XDP_DROP);
            assert_eq!(shield.run(bytes, 1), (action, vec![(counter, 1)]), "{name}, {len} bytes");
        }
    }
    assert!(cut > 300 && dropped > 300, "{cut} cut off, {dropped} whole enough");
}

/// R56.
#[test]
fn the_shield_passes_and_counts_what_is_no_ip_or_contradicts_itself() {
    if without_programs() {
        return;
    }
    let shield = Shield::enabled(Role::Wan, Link::Ethernet);
    let arp = [&[2; 12][..], &[0x08, 0x06], &[0; 28]].concat();
    let mut version = tcp(v4(ethernet())).bytes();
    version[14] = 0x65;
    let mut short_header = tcp(v4(ethernet())).bytes();
    short_header[14] = 0x44;
    let deep = tcp(v4(ethernet().vlan(1).vlan(2).vlan(3))).bytes();
    for (name, frame, counter) in [
        ("arp", arp, Counter::XdpNotIp),
        ("three tags", deep, Counter::XdpNotIp),
        ("version 6 in an IPv4 frame", version, Counter::XdpMalformed),
        ("header length 16", short_header, Counter::XdpMalformed),
    ] {
        assert_eq!(shield.run(&frame, 1), (XDP_PASS, vec![(counter, 1)]), "{name}");
    }
}

/// R46: bound to the role; a spoofed source that the LAN allows gains nothing on the WAN.
#[test]
fn the_allowlist_lifts_lists_on_interfaces_of_its_roles_only() {
    if without_programs() {
        return;
    }
    let frame = tcp(v4(ethernet())).bytes();
    for role in [Role::Wan, Role::Lan] {
        let mut shield = Shield::enabled(role, Link::Ethernet);
        let addr = looked_up(&frame, role, Link::Ethernet);
        shield.blocklist.sync(&[(0, &[host(addr)])], monotonic_s()).unwrap();
        let other = if role == Role::Wan { Role::Lan } else { Role::Wan };
        let inside = net(addr, 24);
        let outside = host(neighbour(addr));
        #[rustfmt::skip]
        let cases = [
            (vec![],                                XDP_DROP, Counter::XdpDropHost),
            (vec![(inside, other.bit())],           XDP_DROP, Counter::XdpDropHost),
            (vec![(outside, role.bit())],           XDP_DROP, Counter::XdpDropHost),
            (vec![(inside, role.bit())],            XDP_PASS, Counter::XdpAllowed),
            (vec![(host(addr), role.bit() | other.bit())], XDP_PASS, Counter::XdpAllowed),
        ];
        for (allowed, action, counter) in cases {
            shield.blocklist.sync_allowed(&allowed).unwrap();
            assert_eq!(shield.run(&frame, 1), (action, vec![(counter, 1)]), "{allowed:?}");
        }
        // R46: never a rate.
        let rate = Rate { per_second: 1, burst: 1 };
        shield.settings.set(limited(|limits| limits.source = rate)).unwrap();
        let (_, counted) = shield.run(&frame, 10);
        let limited = counted.contains(&(Counter::XdpDropSourceRate, 9));
        assert_eq!(limited, role == Role::Wan, "{counted:?}");
    }
}

/// R47: with nobody in user space doing anything.
#[test]
fn an_entry_with_a_deadline_ends_by_itself() {
    if without_programs() {
        return;
    }
    let frame = tcp(v4(ethernet())).bytes();
    let mut shield = Shield::enabled(Role::Wan, Link::Ethernet);
    let addr: IpAddr = SRC4.parse().unwrap();
    for net in [host(addr), net(addr, 24)] {
        let deadline = monotonic_s() + 2;
        shield.blocklist.block(net, 9, deadline).unwrap();
        let listed = shield.blocklist.lookup(addr, monotonic_s()).unwrap().unwrap();
        assert_eq!((listed.list, listed.net, listed.expires_s), (9, net, deadline));
        let mut dropped = 0;
        let passed_at = loop {
            let now = monotonic_ns();
            let (action, _) = shield.run(&frame, 1);
            if action == XDP_PASS {
                break now;
            }
            dropped += 1;
            assert!(now < (u64::from(deadline) + 1) * 1_000_000_000, "{net} never ends");
        };
        assert!(dropped > 0, "{net} was never in force");
        assert!(passed_at + TICK_NS >= u64::from(deadline) * 1_000_000_000, "{net} too early");
        assert_eq!(shield.blocklist.lookup(addr, monotonic_s() + 1).unwrap(), None);
        // A list that is loaded anew takes what is void with it, and nothing that is not.
        shield.blocklist.block(host(neighbour(addr)), 9, monotonic_s() + 100).unwrap();
        let synced = shield.blocklist.sync(&[], monotonic_s() + 1).unwrap();
        assert_eq!(synced.removed, 1);
        assert!(shield.blocklist.lookup(neighbour(addr), monotonic_s()).unwrap().is_some());
        assert!(shield.blocklist.unblock(host(neighbour(addr))).unwrap());
    }
}

/// R59, R124: off, never written, and written by an agent of another layout.
#[test]
fn without_valid_settings_everything_passes_unseen() {
    if without_programs() {
        return;
    }
    let frame = tcp(v4(ethernet())).bytes();
    let net = host(SRC4.parse().unwrap());
    let mut shield = Shield::new(Role::Wan, Link::Ethernet);
    shield.blocklist.sync(&[(0, &[net])], monotonic_s()).unwrap();
    let inert = (XDP_PASS, vec![(Counter::XdpInert, 1)]);
    assert_eq!(shield.run(&frame, 1), inert, "never written");
    let rate = Rate { per_second: 1, burst: 1 };
    shield.settings.set(limited(|limits| limits.source = rate)).unwrap();
    shield.settings.set_lists(true, true).unwrap();
    assert_eq!(shield.run(&frame, 1).0, XDP_DROP);
    shield.settings.enable(false).unwrap();
    assert_eq!(shield.run(&frame, 100), (XDP_PASS, vec![(Counter::XdpInert, 100)]), "off");
    shield.settings.enable(true).unwrap();
    assert_eq!(shield.run(&frame, 1).0, XDP_DROP, "on again");

    let mut path = FastPath::new(Link::Ethernet);
    let blocked = |direction| state(Verdict::Blocked, direction, 0, 0);
    path.decide(&frame, blocked);
    let pass = |counter| Outcome { action: TC_ACT_UNSPEC, mark: 0, counted: vec![(counter, 1)] };
    assert_eq!(path.run(Side::In, &frame, Buffer::default()), pass(Counter::TcInert));
    assert_eq!(path.run(Side::Out, &frame, Buffer::default()), pass(Counter::TcOutInert));
    path.settings.set(enabled()).unwrap();
    assert_eq!(path.run(Side::In, &frame, Buffer::default()).action, TC_ACT_SHOT);
}

/// The lists' switches in the settings.
#[test]
fn a_list_that_is_switched_off_is_not_looked_up() {
    if without_programs() {
        return;
    }
    let frame = tcp(v4(ethernet())).bytes();
    let addr: IpAddr = SRC4.parse().unwrap();
    let mut shield = Shield::enabled(Role::Wan, Link::Ethernet);
    let nets = [host(addr), net(addr, 24)];
    shield.blocklist.sync(&[(0, &nets)], monotonic_s()).unwrap();
    for (on, counter) in [
        ((true, true), Counter::XdpDropHost),
        ((false, true), Counter::XdpDropPrefix),
        ((false, false), Counter::XdpPass),
    ] {
        shield.settings.set_lists(on.0, on.1).unwrap();
        assert_eq!(shield.run(&frame, 1).1, [(counter, 1)], "{on:?}");
    }
}

fn rated(source_rate: Rate, syn_rate: Rate) -> Shield {
    let mut shield = Shield::enabled(Role::Wan, Link::Ethernet);
    let settings = limited(|limits| (limits.source, limits.source_syn) = (source_rate, syn_rate));
    shield.settings.set(settings).unwrap();
    shield
}

fn from(source: &str) -> Frame {
    match source.parse().unwrap() {
        IpAddr::V4(source) => ethernet().ipv4(source, DST4.parse().unwrap()),
        IpAddr::V6(source) => ethernet().ipv6(source, DST6.parse().unwrap()),
    }
}

fn count(seen: &[(Counter, u64)], counter: Counter) -> u64 {
    seen.iter().find(|(of, _)| *of == counter).map_or(0, |(_, times)| *times)
}

const OFF: Rate = Rate { per_second: 0, burst: 0 };

/// R50, R162: a new source is never dropped, whatever others did.
#[test]
fn the_first_packet_of_every_source_passes_and_its_burst_is_exact() {
    if without_programs() {
        return;
    }
    let shield = rated(Rate { per_second: 1, burst: 5 }, OFF);
    for source in 0..200_u32 {
        let frame = udp(from(&format!("203.0.{}.{}", source / 100, source % 100 + 1))).bytes();
        let (action, counted) = shield.run(&frame, 1);
        assert_eq!(action, XDP_PASS, "source {source}");
        assert_eq!(count(&counted, Counter::SourceNew), 1, "source {source}: {counted:?}");
        let (action, counted) = shield.run(&frame, 6);
        assert_eq!(action, XDP_DROP);
        let passed = count(&counted, Counter::XdpPass);
        assert!((4..=5).contains(&passed), "four tokens left, one a second: {counted:?}");
        assert_eq!(count(&counted, Counter::XdpDropSourceRate), 6 - passed);
    }
}

/// R50, R51.
#[test]
fn a_source_is_held_to_its_rate() {
    if without_programs() {
        return;
    }
    let frame = udp(from("203.0.113.5")).bytes();
    let innocent = udp(from("203.0.113.6")).bytes();
    for per_second in [200, 5_000, 50_000] {
        // A second's worth: this process may lose the CPU for a while, and nothing of the rate.
        let burst = per_second;
        let shield = rated(Rate { per_second, burst }, OFF);
        let start = Instant::now();
        let allowed = || f64::from(burst) + f64::from(per_second) * start.elapsed().as_secs_f64();
        let (mut passed, mut sent) = (0, 0);
        while start.elapsed() < Duration::from_secs(1) || f64::from(sent) < allowed() * 1.5 {
            // Repeated trials cost 20 ms of set-up: each sends more than comes in meanwhile.
            let batch = per_second / 5;
            let (_, counted) = shield.run(&frame, batch);
            passed += count(&counted, Counter::XdpPass);
            sent += batch;
            assert!(start.elapsed() < Duration::from_secs(30), "too slow to reach the rate");
        }
        let allowed = allowed();
        let error = (passed as f64 - allowed) / allowed;
        println!(
            "{per_second}/s: {sent} sent, {passed} of {allowed:.0} passed ({:+.2} %)",
            error * 100.0
        );
        assert!(error.abs() < 0.1, "{per_second}/s: {passed} of {allowed:.0}");
        assert_eq!(shield.run(&innocent, 1).0, XDP_PASS, "another source pays nothing");
    }
}

/// R50, R52: SYN packets have a bucket of their own, per source.
#[test]
fn syn_packets_have_their_own_rate() {
    if without_programs() {
        return;
    }
    let shield = rated(Rate { per_second: 1, burst: 100 }, Rate { per_second: 1, burst: 3 });
    let syn = |source| from(source).tcp(5, 80, tcp_flag::SYN).bytes();
    let ack = |source| from(source).tcp(5, 80, tcp_flag::SYN | tcp_flag::ACK).bytes();
    let (action, counted) = shield.run(&syn("203.0.113.5"), 50);
    assert_eq!(action, XDP_DROP);
    assert!(count(&counted, Counter::XdpDropSynRate) >= 46, "{counted:?}");
    assert_eq!(count(&counted, Counter::XdpDropSourceRate), 0);
    assert_eq!(shield.run(&ack("203.0.113.5"), 50).0, XDP_PASS, "its other packets pass");
    assert_eq!(shield.run(&syn("203.0.113.6"), 1).0, XDP_PASS, "SYNs of others pass");
    // Without a rate of their own they count as any packet.
    let shield = rated(Rate { per_second: 1, burst: 3 }, OFF);
    let (_, counted) = shield.run(&syn("203.0.113.5"), 50);
    assert!(count(&counted, Counter::XdpDropSourceRate) >= 46, "{counted:?}");
    let unlimited = rated(OFF, OFF);
    assert_eq!(unlimited.run(&syn("203.0.113.5"), 500).1, [(Counter::XdpPass, 500)]);
}

/// R50.
#[test]
fn ipv6_sources_of_one_prefix_share_a_bucket() {
    if without_programs() {
        return;
    }
    let shield = rated(Rate { per_second: 1, burst: 4 }, OFF);
    let run = |source| shield.run(&udp(from(source)).bytes(), 4);
    assert_eq!(run("2001:db8:5:6::1").0, XDP_PASS);
    assert_eq!(run("2001:db8:5:6:ffff::2").0, XDP_DROP, "the same /64");
    assert_eq!(run("2001:db8:5:7::1").0, XDP_PASS, "another /64");
}

const fn state(verdict: Verdict, direction: Direction, slot: u32, expires_s: u32) -> FlowState {
    FlowState::new(verdict, Reason::DomainRule, direction, slot, expires_s)
}

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

/// R48 in small: a thousand entries in batches, then others over them; the answer of `why`.
#[test]
fn lists_are_replaced_as_a_whole_and_found_again() {
    if without_programs() {
        return;
    }
    let mut shield = Shield::enabled(Role::Wan, Link::Ethernet);
    let addr = |number: u32| IpAddr::V4((0xcb00_0000 + number).into());
    let hosts = |range: std::ops::Range<u32>| range.map(|n| host(addr(n))).collect::<Vec<_>>();
    let now = monotonic_s();
    let synced = shield.blocklist.sync(&[(1, &hosts(0..1000))], now).unwrap();
    assert_eq!((synced.hosts, synced.written, synced.removed), (1000, 1000, 0));
    let found = |shield: &Shield, n| shield.blocklist.lookup(addr(n), now).unwrap();
    assert!((0..1000).all(|n| found(&shield, n).is_some_and(|listed| listed.list == 1)));
    // More than fits beside the old ones, so old ones go first, and none that both sets have.
    let synced = shield.blocklist.sync(&[(1, &hosts(500..1500))], now).unwrap();
    assert_eq!((synced.hosts, synced.written, synced.removed), (1000, 500, 500));
    assert!(found(&shield, 499).is_none() && found(&shield, 1499).is_some());
    let refused = shield.blocklist.sync(&[(1, &hosts(0..1025))], now).unwrap_err();
    assert!(refused.to_string().contains("room for 1024 entries, the lists have 1025"));
    assert!(found(&shield, 500).is_some(), "a set that does not fit changes nothing");

    let (wide, narrow) = (net("203.0.0.0", 8), net("203.0.2.0", 24));
    let v6 = net("2001:db8::", 32);
    shield.blocklist.sync(&[(2, &[wide, v6]), (3, &[narrow])], now).unwrap();
    shield.blocklist.sync_allowed(&[(net("203.0.2.128", 25), Role::Wan.bit())]).unwrap();
    let why = |text: &str| shield.blocklist.lookup(text.parse().unwrap(), now).unwrap();
    let listed = |text| why(text).map(|listed| (listed.list, listed.net, listed.allowed_roles));
    assert_eq!(listed("203.7.7.7"), Some((2, wide, 0)));
    assert_eq!(listed("203.0.2.1"), Some((3, narrow, 0)));
    assert_eq!(listed("203.0.2.129"), Some((3, narrow, Role::Wan.bit())));
    assert_eq!(listed("2001:db8:ffff::1"), Some((2, v6, 0)));
    assert_eq!(listed("198.51.100.1"), None);
    assert_eq!(shield.blocklist.has_entries().unwrap(), (false, true));
}

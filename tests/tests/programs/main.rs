//! The programs on tables of packets: what they return, what they mark, what they count.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

mod fast_path;
mod live;
mod rates;

use std::collections::BTreeMap;
use std::net::IpAddr;

use sluice::config::Net;
use sluice::sys::clock::{monotonic_ns, monotonic_s};
use sluice_abi::attach::{Link, Role};
use sluice_abi::counter::Counter;
use sluice_abi::flow::{Direction, FlowState};
use sluice_abi::shield::Rate;
use sluice_abi::verdict::{Reason, Verdict};
use sluice_datapath::parse::{NotIp, headers};
use sluice_tests::frame::{Frame, protocol};
use sluice_tests::packets::{
    SRC4, TC_ACT_SHOT, TC_ACT_UNSPEC, XDP_DROP, XDP_PASS, ethernet, tcp, udp, v4, v6,
};
use sluice_tests::plane::{
    Buffer, FastPath, Outcome, Shield, Side, enabled, limited, looked_up, without_programs,
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

const fn state(verdict: Verdict, direction: Direction, slot: u32, expires_s: u32) -> FlowState {
    FlowState::new(verdict, Reason::DomainRule, direction, slot, expires_s)
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

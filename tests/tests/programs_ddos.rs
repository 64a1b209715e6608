//! Checks and rates of the shield on tables of packets: what is dropped, what is not, what is counted.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::collections::BTreeSet;
use std::net::IpAddr;

use sluice_abi::attach::{Link, Role};
use sluice_abi::counter::Counter;
use sluice_abi::limits::{COOKIE_PORTS, KNOWN_SETS, KnownSet, Limits, prefix_mask};
use sluice_abi::reason::DropReason;
use sluice_abi::shield::Rate;
use sluice_datapath::parse::headers;
use sluice_datapath::sources::{Class, place};
use sluice_tests::frame::{Frame, tcp_flag};
use sluice_tests::packets::{XDP_DROP, XDP_PASS, ethernet};
use sluice_tests::plane::{Shield, enabled, has_cookies, limited, without_programs};
use sluice_tests::skip::skipped;

const XDP_TX: u32 = 3;

const GLOBAL: &str = "9.9.9.9";
const ROUTER: &str = "8.8.4.4";

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn between(src: &str, dst: &str) -> Frame {
    ethernet().addresses(ip(src), ip(dst))
}

fn from(src: &str) -> Frame {
    between(src, if src.contains(':') { "2600::1" } else { ROUTER })
}

fn to(dst: &str) -> Frame {
    between(if dst.contains(':') { "2600::9" } else { GLOBAL }, dst)
}

fn syn(frame: Frame) -> Vec<u8> {
    frame.tcp(40_000, 443, tcp_flag::SYN).bytes()
}

fn ack(frame: Frame) -> Vec<u8> {
    frame.tcp(40_000, 443, tcp_flag::ACK).payload(b"data").bytes()
}

fn udp(frame: Frame, sport: u16) -> Vec<u8> {
    frame.udp(sport, 40_000).payload(b"data").bytes()
}

fn shield(change: impl FnOnce(&mut Limits)) -> Shield {
    on(Role::Wan, change)
}

fn on(role: Role, change: impl FnOnce(&mut Limits)) -> Shield {
    let mut shield = Shield::enabled(role, Link::Ethernet);
    shield.settings.set(limited(change)).unwrap();
    shield
}

fn count(seen: &[(Counter, u64)], counter: Counter) -> u64 {
    seen.iter().find(|(of, _)| *of == counter).map_or(0, |(_, times)| *times)
}

/// What a limit of 3 at once, 1 a second lets through of 40, give or take what comes in meanwhile.
const SMALL: Rate = Rate { per_second: 1, burst: 3 };

fn assert_limited(shield: &Shield, frame: &[u8], drop: Counter) {
    let (action, counted) = shield.run(frame, 40);
    let (passed, dropped) = (count(&counted, Counter::XdpPass), count(&counted, drop));
    assert_eq!((action, passed + dropped), (XDP_DROP, 40), "{drop:?}: {counted:?}");
    assert!((3..=4).contains(&passed), "{drop:?}: {counted:?}");
}

fn assert_free(shield: &Shield, frame: &[u8], what: &str) {
    let (action, counted) = shield.run(frame, 40);
    assert_eq!((action, count(&counted, Counter::XdpPass)), (XDP_PASS, 40), "{what}: {counted:?}");
}

/// R55, R62, R162: each check drops what it is for and counts it, its switch lets it pass, and it
/// never concerns anything else.
#[test]
fn sources_that_cannot_be_are_dropped_by_the_check_that_is_for_them_only() {
    if without_programs() {
        return;
    }
    let checks = [
        (Limits::BOGON, Counter::XdpDropBogon),
        (Limits::PRIVATE, Counter::XdpDropPrivate),
        (Limits::MARTIAN, Counter::XdpDropMartian),
        (Limits::TCP_FLAGS, Counter::XdpDropTcpFlags),
    ];
    #[rustfmt::skip]
    let frames: Vec<(&str, Vec<u8>, u32)> = vec![
        ("a stranger",         ack(from(GLOBAL)),                                  0),
        ("a stranger, IPv6",   ack(from("2600::9")),                               0),
        ("documentation",      ack(from("192.0.2.1")),                             Limits::BOGON),
        ("benchmark",          udp(from("198.18.0.1"), 9),                         Limits::BOGON),
        ("reserved",           udp(from("240.0.0.1"), 9),                          Limits::BOGON),
        ("documentation, v6",  ack(from("2001:db8::1")),                           Limits::BOGON),
        ("not given out, v6",  ack(from("4000::1")),                               Limits::BOGON),
        ("own link, v6",       from("fe80::1").icmp(135, 0).bytes(),               0),
        ("ten",                ack(from("10.0.0.1")),                              Limits::PRIVATE),
        ("provider's NAT",     udp(from("100.64.0.1"), 9),                         Limits::PRIVATE),
        ("unique local",       ack(from("fd00::1")),                               Limits::PRIVATE),
        ("loopback",           ack(from("127.0.0.1")),                             Limits::MARTIAN),
        ("loopback, v6",       ack(from("::1")),                                   Limits::MARTIAN),
        ("group as source",    udp(from("224.0.0.1"), 9),                          Limits::MARTIAN),
        ("one as both ends",   syn(between(GLOBAL, GLOBAL)),                       Limits::MARTIAN),
        ("the router itself",  ack(from("8.8.8.8")),                               Limits::MARTIAN),
        ("the router, v6",     ack(from("2600:8::8")),                             Limits::MARTIAN),
        ("no address yet",     udp(from("0.0.0.0"), 68),                           0),
        ("no flags",           from(GLOBAL).tcp(1, 2, 0).bytes(),                  Limits::TCP_FLAGS),
        ("SYN and FIN",        from(GLOBAL).tcp(1, 2, tcp_flag::SYN | tcp_flag::FIN).bytes(), Limits::TCP_FLAGS),
        ("SYN and RST",        from(GLOBAL).tcp(1, 2, tcp_flag::SYN | tcp_flag::RST).bytes(), Limits::TCP_FLAGS),
        ("Xmas tree",          from("2600::9").tcp(1, 2, tcp_flag::FIN | tcp_flag::PSH | 0x20).bytes(), Limits::TCP_FLAGS),
        ("FIN out of nothing", from(GLOBAL).tcp(1, 2, tcp_flag::FIN).bytes(),      Limits::TCP_FLAGS),
        ("FIN of a flow",      from(GLOBAL).tcp(1, 2, tcp_flag::FIN | tcp_flag::ACK).bytes(), 0),
        ("reset",              from(GLOBAL).tcp(1, 2, tcp_flag::RST).bytes(),      0),
        ("handshake",          syn(from(GLOBAL)),                                  0),
        ("fragment",           from(GLOBAL).fragment(7, 1, true).raw(6).payload(&[0; 20]).bytes(), 0),
    ];
    let own = [ip("8.8.8.8"), ip("2600:8::8")];
    let all = checks.iter().fold(0, |bits, (bit, _)| bits | bit);
    for role in [Role::Wan, Role::Lan] {
        for (bit, counter) in checks {
            for (switched, what) in [(bit, "alone"), (all, "all"), (all & !bit, "but this")] {
                let mut shield = on(role, |limits| limits.checks = switched);
                let filter = shield.strangers.set_own(&own).unwrap();
                shield.settings.set_own(filter, 0).unwrap();
                for (name, frame, wrong) in &frames {
                    if *wrong != bit && *wrong != 0 {
                        continue;
                    }
                    let drops = *wrong & switched != 0 && role == Role::Wan;
                    let expected = if drops {
                        (XDP_DROP, vec![(counter, 1)])
                    } else {
                        (XDP_PASS, vec![(Counter::XdpPass, 1)])
                    };
                    let role = role.name();
                    assert_eq!(
                        shield.run(frame, 1),
                        expected,
                        "{name}, {role}, {counter:?} {what}"
                    );
                }
            }
        }
    }
}

/// R55: a private WAN address makes the check of private sources wait.
#[test]
fn checks_that_are_withheld_are_not_in_force_until_they_are_given_back() {
    if without_programs() {
        return;
    }
    let mut shield = shield(|limits| limits.checks = Limits::PRIVATE);
    let frame = ack(from("10.0.0.1"));
    assert_eq!(shield.run(&frame, 1).0, XDP_DROP);
    shield.settings.set_own(Default::default(), Limits::PRIVATE).unwrap();
    assert_eq!(shield.run(&frame, 1).0, XDP_PASS);
    shield.settings.set(limited(|limits| limits.checks = Limits::PRIVATE)).unwrap();
    assert_eq!(shield.run(&frame, 1).0, XDP_PASS, "still withheld after other settings");
    shield.settings.set_own(Default::default(), 0).unwrap();
    assert_eq!(shield.run(&frame, 1).0, XDP_DROP);
}

/// R55: television and what else is for groups.
#[test]
fn packets_to_groups_are_exempt_from_checks_and_rates_unless_that_is_off() {
    if without_programs() {
        return;
    }
    let frames = [
        udp(between("10.0.0.1", "239.1.2.3"), 5000),
        udp(between("10.0.0.2", "255.255.255.255"), 67),
        udp(between("fd00::1", "ff0e::1"), 5000),
    ];
    for exempt in [0, Limits::MULTICAST_EXEMPT] {
        let rated = shield(|limits| {
            limits.checks = exempt;
            limits.source = SMALL;
        });
        let checked = shield(|limits| limits.checks = exempt | Limits::PRIVATE);
        for frame in &frames {
            if exempt == 0 {
                assert_limited(&rated, frame, Counter::XdpDropSourceRate);
                assert_eq!(checked.run(frame, 1).1, [(Counter::XdpDropPrivate, 1)]);
            } else {
                assert_free(&rated, frame, "to a group");
                assert_free(&checked, frame, "to a group");
            }
        }
    }
}

/// R50, R162: ICMP has a rate of its own, in both families.
#[test]
fn icmp_is_held_to_its_rate_and_other_packets_are_not() {
    if without_programs() {
        return;
    }
    let shield = shield(|limits| limits.source_icmp = SMALL);
    for (src, kind) in [(GLOBAL, 8), ("2600::9", 128)] {
        assert_limited(&shield, &from(src).icmp(kind, 0).bytes(), Counter::XdpDropIcmpRate);
        assert_free(&shield, &udp(from(src), 9), "UDP");
        assert_free(&shield, &ack(from(src)), "TCP");
    }
    assert_eq!(shield.run(&from("9.9.9.8").icmp(8, 0).bytes(), 1).0, XDP_PASS, "another source");
}

/// R50, R162: by the minute, beside the rate of SYN packets.
#[test]
fn connections_are_held_to_their_rate_by_the_minute() {
    if without_programs() {
        return;
    }
    let by_minute = Rate { per_second: 3, burst: 3 };
    let shield = shield(|limits| limits.connections = by_minute);
    let frame = syn(from(GLOBAL));
    assert_limited(&shield, &frame, Counter::XdpDropConnectionRate);
    assert_free(&shield, &ack(from(GLOBAL)), "packets of connections");
    assert_free(&shield, &udp(from(GLOBAL), 9), "UDP");
    assert_eq!(shield.run(&syn(from("9.9.9.8")), 1).0, XDP_PASS, "another source");
}

/// R52, R162: a destination's rates are its own, and one that is attacked costs no other.
#[test]
fn an_attacked_destination_costs_no_other() {
    if without_programs() {
        return;
    }
    let shield = shield(|limits| {
        limits.destination = SMALL;
        limits.destination_syn = SMALL;
        limits.amplification = SMALL;
    });
    for dst in ["8.8.4.4", "2600:4::4"] {
        assert_limited(&shield, &syn(to(dst)), Counter::XdpDropDestinationSyn);
        assert_limited(&shield, &ack(to(dst)), Counter::XdpDropDestinationRate);
        for port in [53, 123, 1900, 11_211] {
            assert_limited(&shield, &udp(to(dst), port), Counter::XdpDropAmplification);
        }
        // All sources together have what there is.
        let another = if dst.contains(':') { "2600:ffff::1" } else { "9.9.9.8" };
        assert_eq!(shield.run(&syn(between(another, dst)), 1).0, XDP_DROP);
    }
    for dst in ["8.8.4.5", "2600:4::5"] {
        for frame in [syn(to(dst)), ack(to(dst)), udp(to(dst), 53), udp(to(dst), 123)] {
            assert_eq!(shield.run(&frame, 1).0, XDP_PASS, "{dst}");
        }
    }
}

/// R57: the size of a datagram never matters.
#[test]
fn large_and_small_answers_of_dns_count_alike() {
    if without_programs() {
        return;
    }
    let answer = |bytes: usize| to(ROUTER).udp(53, 40_000).payload(&vec![0; bytes]).bytes();
    let generous = Rate { per_second: 1000, burst: 1000 };
    let shield = shield(|limits| limits.amplification = generous);
    for bytes in [12, 512, 513, 1232, 1440] {
        assert_free(&shield, &answer(bytes), "an answer within the rate");
    }
}

fn known(shield: &mut Shield, sources: &[&str]) {
    let mut sets = vec![KnownSet::default(); KNOWN_SETS as usize];
    for source in sources {
        let key = enabled().hash_key;
        let place = place(&ip(source).into(), Class::Known.number(), &prefix_mask(64), key);
        let set = &mut sets[(place.set & (KNOWN_SETS - 1)) as usize];
        *set.tags.iter_mut().find(|tag| **tag == 0).unwrap() = place.tag;
    }
    shield.strangers.set_known(&sets).unwrap();
}

/// R52: what a destination's rates leave to strangers, they do not take from those who completed a
/// handshake.
#[test]
fn known_sources_are_not_limited_by_what_strangers_do_to_a_destination() {
    if without_programs() {
        return;
    }
    let mut shield = shield(|limits| {
        limits.destination = SMALL;
        limits.destination_syn = SMALL;
    });
    for (src, same, other) in
        [(GLOBAL, GLOBAL, "9.9.9.8"), ("2600::9", "2600::abcd", "2600:0:0:1::9")]
    {
        known(&mut shield, &[src]);
        let stranger = syn(from(other));
        assert_limited(&shield, &stranger, Counter::XdpDropDestinationSyn);
        assert_free(&shield, &syn(from(src)), "a known source");
        assert_free(&shield, &syn(from(same)), "one of its prefix");
        assert_free(&shield, &ack(from(src)), "its other packets");
        assert_eq!(shield.run(&stranger, 1).0, XDP_DROP);
        known(&mut shield, &[]);
        assert_eq!(shield.run(&syn(from(src)), 1).0, XDP_DROP, "forgotten");
    }
}

/// R53, R162: strangers' SYN packets to a destination under attack are held to a rate of their own,
/// those of known sources are not, nor anything else, and they are counted for the agent.
#[test]
fn strangers_are_held_to_a_low_rate_at_a_destination_under_attack() {
    if without_programs() {
        return;
    }
    let plenty = Rate { per_second: 1000, burst: 1000 };
    for usual in [Rate::default(), plenty] {
        let mut shield = shield(|limits| {
            limits.attacked_syn = SMALL;
            limits.destination_syn = usual;
        });
        for (src, dst, other) in [("9.9.9.8", ROUTER, "8.8.4.5"), ("2600::9", "2600::1", "2600::2")]
        {
            assert_free(&shield, &syn(to(dst)), "no attack");
            shield.strangers.set_attacked(&[(ip(dst), [0; COOKIE_PORTS])]).unwrap();
            assert_free(&shield, &syn(to(dst)), "without the bit nobody looks");
            shield.settings.set_attacked(true, (0, 0)).unwrap();
            assert_limited(&shield, &syn(to(dst)), Counter::XdpDropAttackedSyn);
            assert_eq!(shield.strangers.syns().unwrap(), [(ip(dst), 40)]);
            let again = syn(between(src, dst));
            assert_eq!(shield.run(&again, 1).0, XDP_DROP, "all strangers together");
            assert_free(&shield, &syn(to(other)), "another destination");
            assert_free(&shield, &ack(to(dst)), "no SYN");
            known(&mut shield, &[src]);
            assert_free(&shield, &again, "a known source");
            assert_eq!(shield.strangers.syns().unwrap(), [(ip(dst), 41)]);
            known(&mut shield, &[]);
            // What stays keeps its count; what goes is free again.
            shield.strangers.set_attacked(&[(ip(dst), [0; COOKIE_PORTS])]).unwrap();
            assert_eq!(shield.strangers.syns().unwrap(), [(ip(dst), 41)]);
            shield.strangers.set_attacked(&[]).unwrap();
            assert_free(&shield, &syn(to(dst)), "the attack is over");
            shield.settings.set_attacked(false, (0, 0)).unwrap();
        }
        let noted = shield.strangers.offenders().unwrap();
        let victims = noted.iter().filter(|note| note.reason == DropReason::AttackedSyn as u32);
        // Each processor notes for itself, and the test may have moved to another one.
        let victims: BTreeSet<_> = victims.map(|note| note.addr.words()).collect();
        assert_eq!(victims.len(), 2, "{noted:?}");
    }
}

/// A SYN packet with TCP options.
fn syn_with(frame: Frame, options: &[u8]) -> Vec<u8> {
    let mut bytes = frame.tcp(40_000, 443, tcp_flag::SYN).payload(options).bytes();
    let l4 = bytes.len() - options.len() - 20;
    bytes[l4 + 12] = ((20 + options.len()) << 2) as u8;
    bytes
}

/// Sum of 16-bit words, folded: 0xffff where a checksum among them is right.
fn sum(bytes: &[u8]) -> u32 {
    let word = |pair: &[u8]| u32::from(pair[0]) << 8 | u32::from(pair[1]);
    let sum: u32 = bytes.chunks(2).map(word).sum();
    (sum >> 16) + (sum & 0xffff)
}

/// R53: a SYN of a stranger to a port that is answered with cookies becomes its answer, in every
/// encapsulation, whatever it offers; other ports, known sources and other links are not answered.
#[test]
fn a_syn_becomes_its_answer_in_every_encapsulation() {
    const LINUX: [u8; 20] =
        [2, 4, 5, 0xb4, 4, 2, 8, 10, 0x12, 0x34, 0x56, 0x78, 0, 0, 0, 0, 1, 3, 3, 7];
    if without_programs() {
        return;
    }
    if !has_cookies() {
        return skipped("needs SYN cookies for programs (6.0)");
    }
    let ports = |port: u16| {
        let mut ports = [0; COOKIE_PORTS];
        ports[COOKIE_PORTS - 1] = port.to_be();
        ports
    };
    let change = |limits: &mut Limits| limits.attacked_syn = SMALL;
    let mut shield = shield(change);
    let attacked = [(ip(ROUTER), ports(443)), (ip("2600::1"), ports(443))];
    shield.strangers.set_attacked(&attacked).unwrap();
    shield.settings.set_attacked(true, (1452, 6)).unwrap();
    let link = || Frame::ethernet([2; 6], [4; 6]);
    let links = [link(), link().vlan(7), link().service_vlan(8).vlan(7), link().pppoe(9)];
    for link in links {
        for (src, dst) in [(GLOBAL, ROUTER), ("2600::9", "2600::1")] {
            for options in [&[][..], &[2, 4, 5, 0xb4], &LINUX] {
                let syn = syn_with(link.clone().addresses(ip(src), ip(dst)), options);
                let (action, answer) = shield.changed(&syn);
                assert_eq!(action, XDP_TX, "{src} {options:?}");
                let before = headers(syn.as_slice(), Link::Ethernet).unwrap();
                let after = headers(answer.as_slice(), Link::Ethernet).unwrap();
                assert_eq!((after.src, after.dst), (before.dst, before.src));
                assert_eq!((after.sport, after.dport), (before.dport, before.sport));
                assert_eq!(after.tcp_flags, tcp_flag::SYN | tcp_flag::ACK);
                assert_eq!((&answer[..6], &answer[6..12]), (&[4; 6][..], &[2; 6][..]));
                let tcp = &answer[after.l4..];
                let expected = if options.len() == 20 { 40 } else { 24 };
                assert_eq!((tcp.len(), usize::from(tcp[12] >> 4) * 4), (expected, expected));
                assert_eq!(tcp[8..12], [0, 0, 0, 2]);
                let mss = if src == GLOBAL { 1452_u16 } else { 1432 };
                assert_eq!(tcp[20..24], [2, 4, (mss >> 8) as u8, mss as u8]);
                if expected == 40 {
                    assert_eq!(tcp[24..28], [4, 2, 8, 10]);
                    assert_eq!(tcp[31] & 0x3f, 16 | 7);
                    assert_eq!(tcp[32..], [0x12, 0x34, 0x56, 0x78, 1, 3, 3, 6]);
                }
                let ends = if src == GLOBAL { after.l3 + 12 } else { after.l3 + 8 };
                let pseudo = [&answer[ends..], &[0, 6, 0, expected as u8]].concat();
                assert_eq!(sum(&pseudo), 0xffff, "checksum of TCP");
                if src == GLOBAL {
                    assert_eq!(sum(&answer[after.l3..after.l4]), 0xffff, "checksum of IP");
                }
                // Whatever is behind Ethernet stays, but for the length in a PPPoE session.
                let (mut kept, mut wanted) = (answer.clone(), syn.clone());
                if let Some(at) = (12..after.l3).find(|at| kept[*at..at + 2] == [0x88, 0x64]) {
                    let len = u16::from_be_bytes([kept[at + 6], kept[at + 7]]);
                    assert_eq!(usize::from(len), answer.len() - after.l3 + 2);
                    (kept[at + 6..at + 8]).copy_from_slice(&[0; 2]);
                    (wanted[at + 6..at + 8]).copy_from_slice(&[0; 2]);
                }
                assert_eq!(kept[12..after.l3], wanted[12..after.l3]);
                // The number is the cookie: the same for the same SYN, another for another.
                let number = |answer: &[u8]| answer[after.l4 + 4..after.l4 + 8].to_vec();
                assert_eq!(number(&shield.changed(&syn).1), number(&answer));
                let mut other = syn.clone();
                other[before.l4 + 1] ^= 1;
                assert_ne!(number(&shield.changed(&other).1), number(&answer));
            }
        }
    }
    for _ in 0..40 {
        assert_eq!(shield.run(&syn(to(ROUTER)), 1), (XDP_TX, vec![(Counter::XdpSynAnswered, 1)]));
    }
    let another = to(ROUTER).tcp(40_000, 80, tcp_flag::SYN).bytes();
    assert_limited(&shield, &another, Counter::XdpDropAttackedSyn);
    // Nothing stands for no port.
    let nowhere = to(ROUTER).tcp(40_000, 0, tcp_flag::SYN).bytes();
    assert_eq!(shield.run(&nowhere, 1).0, XDP_DROP);
    known(&mut shield, &[GLOBAL]);
    assert_free(&shield, &syn(to(ROUTER)), "a known source");
    // On a link without Ethernet addresses there is nobody to send it back to.
    let mut bare = Shield::enabled(Role::Wan, Link::Ip);
    bare.settings.set(limited(change)).unwrap();
    bare.strangers.set_attacked(&attacked).unwrap();
    bare.settings.set_attacked(true, (1452, 6)).unwrap();
    let frame = Frame::ip().addresses(ip(GLOBAL), ip(ROUTER));
    assert_limited(&bare, &syn(frame), Counter::XdpDropAttackedSyn);
}

/// R54, R172: who is over a rate is noted with the reason, on whichever CPU.
#[test]
fn who_is_over_a_rate_is_noted() {
    if without_programs() {
        return;
    }
    let shield = shield(|limits| {
        limits.source_syn = SMALL;
        limits.destination = SMALL;
    });
    assert_eq!(shield.strangers.offenders().unwrap(), []);
    let _ = shield.run(&syn(from(GLOBAL)), 10);
    let _ = shield.run(&ack(to("8.8.4.9")), 20);
    let found = shield.strangers.offenders().unwrap();
    let packets = |addr: &str, reason: DropReason| -> u32 {
        let is_it = |(of, why): (IpAddr, u32)| of == ip(addr) && why == reason as u32;
        let entries = found.iter().filter(|entry| is_it((entry.addr.into(), entry.reason)));
        entries.map(|entry| entry.packets).sum()
    };
    assert!((6..=7).contains(&packets(GLOBAL, DropReason::SynRate)), "{found:?}");
    assert!((16..=17).contains(&packets("8.8.4.9", DropReason::DestinationRate)), "{found:?}");
    let total: u32 = found.iter().map(|entry| entry.packets).sum();
    assert!(total <= 24, "nobody else: {found:?}");
}

/// R63: ports that are tried are noted, once each, and only while that is on.
#[test]
fn ports_that_a_source_tries_are_noted() {
    if without_programs() {
        return;
    }
    for on in [0, Limits::SCANS] {
        let shield = shield(|limits| limits.checks = on);
        for port in [22, 23, 80, 443, 22, 3389] {
            assert_eq!(
                shield.run(&from(GLOBAL).tcp(5, port, tcp_flag::SYN).bytes(), 2).0,
                XDP_PASS
            );
        }
        // Neither what belongs to a connection nor UDP is a trial.
        let _ = shield.run(&ack(from("9.9.9.8")), 1);
        let _ = shield.run(&udp(from("9.9.9.8"), 9), 1);
        let found = shield.strangers.scans(1).unwrap();
        if on == 0 {
            assert!(found.is_empty(), "{found:?}");
            continue;
        }
        let [scan] = found.as_slice() else { panic!("{found:?}") };
        assert_eq!((IpAddr::from(scan.addr), scan.count), (ip(GLOBAL), 5));
        assert_eq!(scan.ports[..5], [22, 23, 80, 443, 3389_u16].map(u16::to_be));
        assert!(shield.strangers.scans(6).unwrap().is_empty());
    }
}

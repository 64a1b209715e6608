extern crate std;
use std::net::IpAddr;

use sluice_abi::limits::own_bit;

use super::*;
use crate::parse::{self, TCP, UDP};
use sluice_abi::attach::Link;

fn addr(text: &str) -> Addr {
    text.parse::<IpAddr>().unwrap().into()
}

#[test]
fn sources_are_told_apart_at_both_ends_of_every_range() {
    #[rustfmt::skip]
    let cases = [
        (Source::Unspecified, &["0.0.0.0", "::"][..]),
        (Source::Bogon, &["0.0.0.1", "0.255.255.255", "192.0.2.0", "192.0.2.255", "198.18.0.0",
            "198.19.255.255", "198.51.100.0", "198.51.100.255", "203.0.113.0", "203.0.113.255",
            "240.0.0.0", "255.255.255.254", "2001:db8::", "2001:db8:ffff::1", "3fff::1", "3fff:fff::1",
            "::2", "100::1", "4000::1", "fec0::1", "64:ff9a::1"]),
        (Source::Private, &["10.0.0.0", "10.255.255.255", "172.16.0.0", "172.31.255.255", "192.168.0.0",
            "192.168.255.255", "100.64.0.0", "100.127.255.255", "fc00::1", "fdff::1"]),
        (Source::Link, &["169.254.0.0", "169.254.255.255", "fe80::1", "febf::1"]),
        (Source::Martian, &["127.0.0.0", "127.255.255.255", "224.0.0.0", "239.255.255.255",
            "255.255.255.255", "::1", "ff00::", "ff02::1"]),
        (Source::Global, &["1.0.0.0", "9.255.255.255", "11.0.0.0", "100.63.255.255", "100.128.0.0",
            "126.255.255.255", "128.0.0.0", "169.253.255.255", "169.255.0.0", "172.15.255.255",
            "172.32.0.0", "192.0.1.255", "192.0.3.0", "192.167.255.255", "192.169.0.0", "198.17.255.255",
            "198.20.0.0", "198.51.99.255", "198.51.101.0", "203.0.112.255", "203.0.114.0",
            "223.255.255.255", "2000::1", "2001:db7::1", "2001:db9::1", "2002::1", "3ffe:ffff::1",
            "3fff:1000::1", "64:ff9b::192.0.2.1"]),
    ];
    for (kind, addresses) in cases {
        for text in addresses {
            assert_eq!(source(&addr(text)), kind, "{text}");
        }
    }
}

#[test]
fn groups_are_multicast_and_broadcast() {
    let to = |text: &str| {
        let dst = addr(text);
        Brief { src: dst, dst, kind: u32::from(dst.is_v4()), ..Brief::default() }
    };
    for group in ["224.0.0.1", "239.255.255.255", "255.255.255.255", "ff02::1", "ff0e::1"] {
        assert!(to(group).is_to_group(), "{group}");
    }
    for host in ["223.255.255.255", "240.0.0.1", "192.168.1.255", "fe80::1", "2001:db8::1"] {
        assert!(!to(host).is_to_group(), "{host}");
    }
}

#[test]
fn each_check_of_addresses_is_a_switch_of_its_own() {
    let (own, other) = (addr("203.0.114.1"), addr("203.0.114.2"));
    let mut limits = Limits::default();
    for addr in [&own, &other] {
        let (word, bit) = own_bit(addr);
        limits.own[word] |= bit;
    }
    let to = addr("198.20.0.1");
    #[rustfmt::skip]
    let cases = [
        ("192.0.2.1",   to,  Limits::BOGON,   Some(DropReason::Bogon)),
        ("169.254.1.1", to,  Limits::BOGON,   Some(DropReason::Bogon)),
        ("fe80::1",     to,  Limits::BOGON,   None),
        ("10.1.1.1",    to,  Limits::PRIVATE, Some(DropReason::Private)),
        ("fd00::1",     to,  Limits::PRIVATE, Some(DropReason::Private)),
        ("127.0.0.1",   to,  Limits::MARTIAN, Some(DropReason::Martian)),
        ("224.0.0.1",   to,  Limits::MARTIAN, Some(DropReason::Martian)),
        ("203.0.114.1", to,  Limits::MARTIAN, Some(DropReason::Martian)),
        ("203.0.114.2", to,  Limits::MARTIAN, None),
        ("198.20.0.1",  to,  Limits::MARTIAN, Some(DropReason::Martian)),
        ("0.0.0.0",     addr("0.0.0.0"), Limits::ADDRESSES, None),
        ("8.8.8.8",     to,  Limits::ADDRESSES, None),
    ];
    for (src, dst, checks, reason) in cases {
        let src = addr(src);
        let brief = Brief { src, dst, kind: u32::from(src.is_v4()), ..Brief::default() };
        for others in [0, Limits::ADDRESSES & !checks] {
            let limits = Limits { checks: checks | others, ..limits };
            let found = addresses(&brief, &limits, |addr| *addr == own);
            assert_eq!(found, reason, "{src:?} {checks} {others}");
        }
        let off = Limits { checks: Limits::ADDRESSES & !checks, ..limits };
        assert_eq!(addresses(&brief, &off, |addr| *addr == own), None, "{src:?} off");
    }
}

#[test]
fn flags_that_stacks_send_are_valid_and_those_of_scanners_are_not() {
    const PSH: u8 = 8;
    const URG: u8 = 32;
    const ECN: u8 = 0xc0;
    for valid in [
        SYN,
        SYN | ECN,
        SYN | ACK,
        SYN | ACK | 0x40,
        ACK,
        ACK | PSH,
        ACK | PSH | URG,
        FIN | ACK,
        FIN | ACK | PSH,
        RST,
        RST | ACK,
        RST | ACK | PSH,
        SYN | PSH,
    ] {
        assert!(!are_flags_invalid(valid), "{valid:#x}");
    }
    for invalid in
        [0, ECN, FIN, FIN | PSH | URG, SYN | FIN, SYN | RST, SYN | FIN | ACK, 0xff, FIN | URG]
    {
        assert!(are_flags_invalid(invalid), "{invalid:#x}");
    }
}

#[test]
fn amplifiers_are_known_by_their_port_and_no_other_port_is_one() {
    for port in 0..=u16::MAX {
        assert_eq!(is_amplifier(port.to_be()), AMPLIFIERS.contains(&port), "{port}");
    }
}

fn packet(proto: u8, sport: u16, flags: u8) -> Brief {
    read(proto, sport, flags, 0)
}

fn read(proto: u8, sport: u16, flags: u8, fragment: u8) -> Brief {
    let mut bytes =
        std::vec![0x45, 0, 0, 40, 0, 0, 0, 0, 64, proto, 0, 0, 192, 0, 2, 1, 192, 0, 2, 2];
    bytes.extend(sport.to_be_bytes());
    bytes.extend([0, 80, 0, 0, 0, 0, 0, 0, 0, 0, 0x50, flags, 0, 0, 0, 0, 0, 0]);
    bytes[7] = fragment;
    let mut brief = Brief { kind: u32::MAX, sport: 9, dport: 9, ..Brief::default() };
    parse::read(bytes.as_slice(), Link::Ip, &mut brief).unwrap();
    brief
}

#[test]
fn the_most_particular_rate_that_is_a_limit_counts_a_packet() {
    let rate = |per_second| Rate { per_second, burst: 1 };
    let all = Limits {
        source: rate(1),
        source_syn: rate(2),
        source_icmp: rate(3),
        destination: rate(4),
        destination_syn: rate(5),
        amplification: rate(6),
        ..Limits::default()
    }
    .completed(1);
    let only = |checks: u32| -> Limits {
        let mut limits = all;
        limits.checks = checks;
        limits
    };
    let of = |counted: Option<Counted>| counted.map(|counted| counted.rate.per_second);
    let (syn, ack) = (packet(TCP, 1000, SYN), packet(TCP, 1000, ACK));
    let (echo, dns, quic) = (packet(ICMP, 0, 0), packet(UDP, 53, 0), packet(UDP, 443, 0));
    let both = |brief: &Brief, limits: &Limits| {
        (of(of_source(brief, limits)), of(of_destination(brief, limits)))
    };
    assert_eq!(both(&syn, &all), (Some(2), Some(5)));
    assert_eq!(both(&packet(TCP, 1000, SYN | ACK), &all), (Some(1), Some(4)));
    assert_eq!(both(&ack, &all), (Some(1), Some(4)));
    assert_eq!(both(&echo, &all), (Some(3), Some(4)));
    assert_eq!(both(&dns, &all), (Some(1), Some(6)));
    assert_eq!(both(&quic, &all), (Some(1), Some(4)));
    // TCP from port 53 is no amplifier.
    assert_eq!(both(&packet(TCP, 53, ACK), &all), (Some(1), Some(4)));
    let general = only(Limits::SOURCE | Limits::DESTINATION);
    for headers in [&syn, &ack, &echo, &dns] {
        assert_eq!(both(headers, &general), (Some(1), Some(4)));
    }
    let particular =
        only(Limits::RATES & !(Limits::SOURCE | Limits::DESTINATION | Limits::CONNECTIONS));
    assert_eq!(both(&ack, &particular), (None, None));
    assert_eq!(both(&syn, &particular), (Some(2), Some(5)));
    assert_eq!(both(&syn, &only(0)), (None, None));
    // Two ports of one destination do not share a bucket.
    let class = |port| of_destination(&packet(UDP, port, 0), &all).unwrap().class;
    assert_ne!(class(53), class(123));
    assert!(class(53) >= Class::Amplification.number());
}

#[test]
fn flags_count_only_where_there_is_a_whole_tcp_header() {
    assert!(packet(TCP, 1, 0).has_invalid_flags());
    assert!(packet(TCP, 1, FIN).has_invalid_flags() && !packet(TCP, 1, SYN).has_invalid_flags());
    assert!(!packet(UDP, 1, 0).has_invalid_flags());
    assert!(!read(TCP, 1, 0, 1).has_invalid_flags(), "a fragment");
    assert!(!read(TCP, 1, SYN, 1).is_syn(), "a fragment");
    assert!(packet(TCP, 1, SYN).is_syn() && !packet(TCP, 1, SYN | ACK).is_syn());
}

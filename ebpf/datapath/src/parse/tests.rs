extern crate std;
use std::net::IpAddr;
use std::vec::Vec;

use super::*;

const SRC4: [u8; 4] = [192, 0, 2, 1];
const DST4: [u8; 4] = [198, 51, 100, 7];

fn ipv4(ihl: u8, fragment: u16, proto: u8) -> Vec<u8> {
    let mut bytes = std::vec![0x40 | ihl, 0, 0, 60, 0, 1];
    bytes.extend(fragment.to_be_bytes());
    bytes.extend([64, proto, 0, 0]);
    bytes.extend(SRC4);
    bytes.extend(DST4);
    bytes.resize(usize::from(ihl) * 4, 1); // options: no operation
    bytes
}

fn ipv6(next: u8) -> Vec<u8> {
    let mut bytes = std::vec![0x60, 0, 0, 0, 0, 40, next, 64];
    for end in [1, 2] {
        bytes.extend([0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, end]);
    }
    bytes
}

fn tcp(flags: u8) -> Vec<u8> {
    let mut bytes = std::vec![0x12, 0x34, 0x01, 0xbb];
    bytes.extend([0; 8]);
    bytes.extend([0x50, flags, 0, 0, 0, 0, 0, 0]);
    bytes
}

fn udp() -> Vec<u8> {
    std::vec![0x12, 0x34, 0x01, 0xbb, 0, 8, 0, 0]
}

fn ethernet(tags: &[&[u8]], parts: &[&[u8]]) -> Vec<u8> {
    let mut bytes = std::vec![2; 12];
    for part in tags.iter().chain(parts) {
        bytes.extend(*part);
    }
    bytes
}

const E4: &[u8] = &[0x08, 0x00];
const E6: &[u8] = &[0x86, 0xdd];
const VLAN: &[u8] = &[0x81, 0x00, 0x00, 0x05];
const QINQ: &[u8] = &[0x88, 0xa8, 0x00, 0x06];
const PPP4: &[u8] = &[0x88, 0x64, 0x11, 0, 0, 9, 0, 42, 0x00, 0x21];
const PPP6: &[u8] = &[0x88, 0x64, 0x11, 0, 0, 9, 0, 42, 0x00, 0x57];

/// A frame, what it is, where its transport header lies.
#[rustfmt::skip]
fn frames() -> Vec<(&'static str, Vec<u8>, Link, u8, usize)> {
    let (t, u) = (tcp(SYN), udp());
    let extension = |next: u8| std::vec![next, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let auth = |next: u8| std::vec![next, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    std::vec![
        ("ipv4 tcp", ethernet(&[E4], &[&ipv4(5, 0, TCP), &t]), Link::Ethernet, TCP, 34),
        ("ipv4 udp", ethernet(&[E4], &[&ipv4(5, 0, UDP), &u]), Link::Ethernet, UDP, 34),
        ("ipv4 do not fragment", ethernet(&[E4], &[&ipv4(5, 0x4000, TCP), &t]), Link::Ethernet, TCP, 34),
        ("ipv4 options", ethernet(&[E4], &[&ipv4(15, 0, TCP), &t]), Link::Ethernet, TCP, 74),
        ("ipv6 tcp", ethernet(&[E6], &[&ipv6(TCP), &t]), Link::Ethernet, TCP, 54),
        ("ipv6 udp", ethernet(&[E6], &[&ipv6(UDP), &u]), Link::Ethernet, UDP, 54),
        ("ipv6 hop-by-hop, routing, destination", ethernet(&[E6], &[&ipv6(0), &extension(43), &extension(60), &extension(TCP), &t]), Link::Ethernet, TCP, 102),
        ("ipv6 authentication", ethernet(&[E6], &[&ipv6(51), &auth(UDP), &u]), Link::Ethernet, UDP, 66),
        ("vlan", ethernet(&[VLAN, E4], &[&ipv4(5, 0, TCP), &t]), Link::Ethernet, TCP, 38),
        ("qinq", ethernet(&[QINQ, VLAN, E6], &[&ipv6(TCP), &t]), Link::Ethernet, TCP, 62),
        ("pppoe ipv4", ethernet(&[PPP4], &[&ipv4(5, 0, TCP), &t]), Link::Ethernet, TCP, 42),
        ("vlan pppoe ipv6", ethernet(&[VLAN, PPP6], &[&ipv6(UDP), &u]), Link::Ethernet, UDP, 66),
        ("mtk tag", ethernet(&[&[0, 1, 0, 0], E4], &[&ipv4(5, 0, TCP), &t]), Link::Mtk, TCP, 38),
        ("mtk tag, vlan", ethernet(&[&[0, 1, 0, 0], VLAN, E4], &[&ipv4(5, 0, UDP), &u]), Link::Mtk, UDP, 42),
        ("no link header, ipv4", [ipv4(5, 0, TCP), t.clone()].concat(), Link::Ip, TCP, 20),
        ("no link header, ipv6", [ipv6(UDP), u.clone()].concat(), Link::Ip, UDP, 40),
    ]
}

#[test]
fn reads_every_supported_encapsulation() {
    for (name, frame, link, proto, l4) in frames() {
        let headers = headers(frame.as_slice(), link).unwrap_or_else(|e| panic!("{name}: {e:?}"));
        assert_eq!((headers.ports, headers.proto, headers.l4), (Ports::Known, proto, l4), "{name}");
        assert_eq!(
            (u16::from_be(headers.sport), u16::from_be(headers.dport)),
            (0x1234, 443),
            "{name}"
        );
        assert_eq!(headers.is_syn(), proto == TCP, "{name}");
        let (key, direction) = headers.flow().unwrap();
        let expected: IpAddr =
            if headers.src.is_v4() { SRC4.into() } else { "2001:db8::1".parse().unwrap() };
        assert_eq!(IpAddr::from(key.source(direction).0), expected, "{name}");
    }
}

#[test]
fn refuses_every_truncation() {
    for (name, frame, link, ..) in frames() {
        for len in 0..frame.len() {
            match headers(&frame[..len], link) {
                Err(NotIp::Truncated) => {}
                Ok(headers) => {
                    assert_eq!(headers.ports, Ports::Truncated, "{name}, {len} bytes");
                    assert!(headers.flow().is_none());
                }
                Err(other) => panic!("{name}, {len} bytes: {other:?}"),
            }
        }
    }
}

#[test]
fn bytes_behind_the_headers_change_nothing() {
    for (name, frame, link, ..) in frames() {
        let key = headers(frame.as_slice(), link).unwrap().flow();
        let longer = [frame, std::vec![0xff; 64]].concat();
        assert_eq!(headers(longer.as_slice(), link).unwrap().flow(), key, "{name}");
    }
}

#[test]
fn fragments_have_addresses_but_no_ports() {
    for fragment in [0x2000, 0x0001, 0x2001, 0x1fff] {
        let frame = ethernet(&[E4], &[&ipv4(5, fragment, UDP), &udp()]);
        let headers = headers(frame.as_slice(), Link::Ethernet).unwrap();
        assert_eq!((headers.ports, headers.flow()), (Ports::Fragment, None), "{fragment:#x}");
        assert_eq!(IpAddr::from(headers.src), IpAddr::from(SRC4));
    }
    let frame = ethernet(&[E6], &[&ipv6(44), &[UDP, 0, 0, 1, 0, 0, 0, 9], &udp()]);
    assert_eq!(headers(frame.as_slice(), Link::Ethernet).unwrap().ports, Ports::Fragment);
}

#[test]
fn contradictions_are_malformed_and_foreign_protocols_are_not() {
    let t = tcp(ACK);
    #[rustfmt::skip]
    let cases = [
        ("header length below 20", ethernet(&[E4], &[&ipv4(5, 0, TCP), &t]).tap(14, 0x44), NotIp::Malformed),
        ("version 6 in an IPv4 frame", ethernet(&[E4], &[&ipv4(5, 0, TCP), &t]).tap(14, 0x65), NotIp::Malformed),
        ("version 4 in an IPv6 frame", ethernet(&[E6], &[&ipv6(TCP), &t]).tap(14, 0x40), NotIp::Malformed),
        ("three VLAN tags", ethernet(&[VLAN, VLAN, VLAN, E4], &[&ipv4(5, 0, TCP), &t]), NotIp::Other),
        ("arp", ethernet(&[&[0x08, 0x06]], &[&[0; 28]]), NotIp::Other),
        ("ppp control", ethernet(&[PPP4], &[&[0; 40]]).tap(20, 0xc0), NotIp::Other),
        ("pppoe of another version", ethernet(&[PPP4], &[&ipv4(5, 0, TCP), &t]).tap(14, 0x22), NotIp::Malformed),
    ];
    for (name, frame, expected) in cases {
        assert_eq!(headers(frame.as_slice(), Link::Ethernet).err(), Some(expected), "{name}");
    }
    let neither = ethernet(&[], &[]).tap(0, 0x50);
    assert_eq!(headers(neither.as_slice(), Link::Ip).err(), Some(NotIp::Malformed));
}

#[test]
fn other_transports_and_long_extension_chains_have_no_ports() {
    let icmp = ethernet(&[E4], &[&ipv4(5, 0, 1), &[8, 0, 0, 0, 0, 1, 0, 1]]);
    assert_eq!(headers(icmp.as_slice(), Link::Ethernet).unwrap().ports, Ports::None);
    let mut chain = ipv6(60);
    for _ in 0..EXTENSIONS_MAX {
        chain.extend([60, 0, 0, 0, 0, 0, 0, 0]);
    }
    let mut walked = chain.clone();
    walked[40 + 8 * (EXTENSIONS_MAX - 1)] = TCP;
    walked.extend(tcp(SYN));
    assert_eq!(headers(walked.as_slice(), Link::Ip).unwrap().ports, Ports::Known);
    chain.extend([TCP, 0, 0, 0, 0, 0, 0, 0]);
    chain.extend(tcp(SYN));
    assert_eq!(headers(chain.as_slice(), Link::Ip).unwrap().ports, Ports::None);
}

trait Tap {
    fn tap(self, at: usize, byte: u8) -> Self;
}
impl Tap for Vec<u8> {
    fn tap(mut self, at: usize, byte: u8) -> Self {
        self[at] = byte;
        self
    }
}

/// What the linear part of a buffer must hold, asked of the linear part alone.
#[test]
fn headers_that_are_reached_are_read_as_of_the_whole_packet() {
    for (name, mut frame, link, ..) in frames().into_iter().filter(|case| case.1.len() <= LONGEST) {
        frame.resize(LONGEST, 0);
        let whole = headers(&frame[..], link);
        for len in 0..frame.len() {
            let linear = &frame[..len];
            if len >= reach(linear, link) {
                let read = headers(linear, link);
                assert_eq!(
                    std::format!("{read:?}"),
                    std::format!("{whole:?}"),
                    "{name} of {len} bytes"
                );
            }
        }
    }
}

/// A merged packet has exactly its headers in the linear part: were more asked for, each would be
/// copied.
#[test]
fn an_ordinary_packet_is_asked_for_no_more_than_its_headers() {
    let cases = [
        (ethernet(&[E4], &[&ipv4(5, 0, TCP), &tcp(ACK)]), Link::Ethernet, 54),
        (ethernet(&[E6], &[&ipv6(TCP), &tcp(ACK)]), Link::Ethernet, 74),
        (ethernet(&[E6], &[&ipv6(UDP), &udp(), &[0; 12]]), Link::Ethernet, 74),
        ([ipv4(5, 0, TCP), tcp(ACK)].concat(), Link::Ip, 40),
        ([ipv6(TCP), tcp(ACK)].concat(), Link::Ip, 60),
        // Not so ordinary ones: tags, options, extensions, the first bytes of a tag that look like IPv4.
        (ethernet(&[VLAN, E4], &[&ipv4(5, 0, TCP), &tcp(ACK)]), Link::Ethernet, LONGEST),
        (ethernet(&[E4], &[&ipv4(6, 0, TCP), &tcp(ACK)]), Link::Ethernet, LONGEST),
        (ethernet(&[E6], &[&ipv6(0), &tcp(ACK)]), Link::Ethernet, LONGEST),
        (ethernet(&[&[0x81, 0, 0x45, 5], E4], &[&ipv4(5, 0, TCP)]), Link::Ethernet, LONGEST),
        (std::vec![0x45; 7], Link::Ip, LONGEST),
    ];
    for (frame, link, bytes) in cases {
        assert_eq!(reach(&frame[..], link), bytes, "{link:?} {frame:x?}");
    }
}

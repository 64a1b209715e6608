//! DNS messages that the fast path tells the agent: which, how, and what is left of one that finds no
//! room.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::net::IpAddr;

use sluice::sys::clock::monotonic_ns;
use sluice_abi::attach::{Link, Role};
use sluice_abi::counter::Counter;
use sluice_abi::flow::{Direction, FlowState};
use sluice_abi::message::{COPY_MAX, Head, RING};
use sluice_abi::settings::Settings;
use sluice_abi::verdict::{Reason, Verdict};
use sluice_datapath::parse::headers;
use sluice_tests::frame::{Frame, tcp_flag};
use sluice_tests::packets::{DST4, DST6, SRC4, SRC6, TC_ACT_SHOT};
use sluice_tests::plane::{Buffer, FastPath, Side, enabled, without_programs};

/// Who sends the frames.
const SENDER: [u8; 6] = [2, 0, 0, 0, 0, 7];
/// Address of the device that programs are run for.
const US: [u8; 6] = [0; 6];

fn told() -> Settings {
    Settings { flags: Settings::ENABLED | Settings::DNS, ..enabled() }
}

fn path_of(role: Role, link: Link, settings: Settings) -> FastPath {
    let mut path = FastPath::of(role, link);
    path.settings.set(settings).unwrap();
    path
}

fn ends(is_v6: bool) -> (IpAddr, IpAddr) {
    let (src, dst) = if is_v6 { (SRC6, DST6) } else { (SRC4, DST4) };
    (src.parse().unwrap(), dst.parse().unwrap())
}

fn start(link: Link, dst: [u8; 6]) -> Frame {
    if link == Link::Ip { Frame::ip() } else { Frame::ethernet(dst, SENDER) }
}

/// A packet from port 40,000 to port 53.
fn question(link: Link, is_v6: bool, is_tcp: bool, payload: &[u8]) -> Vec<u8> {
    let (client, server) = ends(is_v6);
    let frame = start(link, US).addresses(client, server);
    let frame = if is_tcp { frame.tcp(40_000, 53, tcp_flag::ACK) } else { frame.udp(40_000, 53) };
    frame.payload(payload).bytes()
}

/// A packet from port 53 to port 40,000.
fn answer(link: Link, is_v6: bool, is_tcp: bool, payload: &[u8]) -> Vec<u8> {
    let (client, server) = ends(is_v6);
    let frame = start(link, US).addresses(server, client);
    let frame = if is_tcp { frame.tcp(53, 40_000, tcp_flag::ACK) } else { frame.udp(53, 40_000) };
    frame.payload(payload).bytes()
}

fn with_tag(mut frame: Vec<u8>, link: Link) -> Vec<u8> {
    if link == Link::Mtk {
        frame.splice(12..12, [0x00, 0x01, 0x00, 0x00]);
    }
    frame
}

/// What was told, read by a reader that is gone afterwards.
fn read(path: &FastPath, max: usize) -> Vec<(Head, Vec<u8>)> {
    let messages = path.messages();
    let mut all = Vec::new();
    while all.len() < max
        && messages.next(|head, packet| all.push((*head, packet.to_vec()))).unwrap()
    {}
    all
}

/// R40: what comes to port 53 and leaves from it on an interface of the LAN, whole, with its time, its
/// device, and the hardware address of who asks.
#[test]
fn questions_of_the_lan_and_answers_to_it_are_told() {
    if without_programs() {
        return;
    }
    for link in [Link::Ethernet, Link::Mtk, Link::Ip] {
        for (is_v6, is_tcp) in [(false, false), (false, true), (true, false), (true, true)] {
            let path = path_of(Role::Lan, link, told());
            // Odd, even, short, and as long as a packet of Ethernet is.
            for len in [0, 1, 30, 1432] {
                let payload: Vec<u8> = (0..len).map(|byte: u32| byte as u8).collect();
                // The kernel runs a program for a packet without Ethernet header as for a frame to
                // somebody else.
                let sides: &[Side] =
                    if link == Link::Ip { &[Side::Out] } else { &[Side::In, Side::Out] };
                for side in sides {
                    let packet = match side {
                        Side::In => question(link, is_v6, is_tcp, &payload),
                        Side::Out => answer(link, is_v6, is_tcp, &payload),
                    };
                    let frame = with_tag(packet, link);
                    let l3 = headers(frame.as_slice(), link).unwrap().l3;
                    let before = monotonic_ns();
                    let outcome = path.run(*side, &frame, Buffer::default());
                    let counter =
                        if *side == Side::In { Counter::TcUnknown } else { Counter::TcOutPass };
                    assert_eq!(outcome.counted, [(counter, 1)]);
                    let [(head, copy)] = &read(&path, 9)[..] else { panic!("{link:?} {side:?}") };
                    assert_eq!(copy, &frame[l3..], "{link:?} {side:?} {len}");
                    let bytes = copy.len() as u32;
                    let flags = if *side == Side::In { Head::MAC } else { Head::OUT };
                    let mac = if *side == Side::In { SENDER } else { [0; 6] };
                    assert_eq!((head.wire_len, head.copied, head.flags), (bytes, bytes, flags));
                    assert_eq!((bytemuck::cast(head.mac), head.ifindex), (mac, 1));
                    // The programs' clock is that of the last tick.
                    let after = monotonic_ns();
                    let earliest = before.saturating_sub(20_000_000);
                    assert!((earliest..=after).contains(&head.time_ns), "{head:?} {before}");
                }
            }
        }
    }
}

/// R40: nothing else is told: not where names are off or the kill switch is, on an interface towards the
/// provider, of another port or the other way, of a fragment, of somebody else's frame, of what is dropped.
#[test]
fn nothing_else_is_told() {
    if without_programs() {
        return;
    }
    let link = Link::Ethernet;
    let (ask, tell) =
        (question(link, false, false, &[1; 20]), answer(link, false, false, &[1; 20]));
    let count = |path: &FastPath, side, frame: &[u8]| {
        let outcome = path.run(side, frame, Buffer::default());
        (outcome.action, read(path, 9).len())
    };
    let lan = path_of(Role::Lan, link, told());
    assert_eq!((count(&lan, Side::In, &ask).1, count(&lan, Side::Out, &tell).1), (1, 1));
    assert_eq!((count(&lan, Side::In, &tell).1, count(&lan, Side::Out, &ask).1), (0, 0), "way");
    for (role, flags) in [
        (Role::Lan, Settings::ENABLED),
        (Role::Lan, Settings::DNS),
        (Role::Wan, Settings::ENABLED | Settings::DNS),
    ] {
        let path = path_of(role, link, Settings { flags, ..enabled() });
        let seen = (count(&path, Side::In, &ask).1, count(&path, Side::Out, &tell).1);
        assert_eq!(seen, (0, 0), "{role:?} {flags:#x}");
    }
    let mut silent = path_of(Role::Lan, link, told());
    silent.settings.copy_dns(false).unwrap();
    let seen = (count(&silent, Side::In, &ask).1, count(&silent, Side::Out, &tell).1);
    assert_eq!(seen, (0, 0), "somebody else copies them");
    let decided = |way: Direction| FlowState::new(Verdict::Trusted, Reason::DomainRule, way, 1, 0);
    silent.decide(&ask, decided);
    assert_eq!(silent.run(Side::In, &ask, Buffer::default()).mark, 0, "a mark leads past who does");
    silent.settings.copy_dns(true).unwrap();
    assert_eq!(count(&silent, Side::In, &ask).1, 1);
    let (client, server) = ends(false);
    let other = start(link, US).addresses(client, server).udp(40_000, 5353).payload(&[1; 20]);
    assert_eq!(count(&lan, Side::In, &other.bytes()).1, 0, "another port");
    let elsewhere = start(link, [2; 6]).addresses(client, server).udp(40_000, 53);
    assert_eq!(count(&lan, Side::In, &elsewhere.bytes()).1, 0, "a frame to somebody else");
    let mut fragment = ask.clone();
    fragment[14 + 6] |= 0x20;
    assert_eq!(count(&lan, Side::In, &fragment).1, 0, "a first fragment");

    let mut blocked = path_of(Role::Lan, link, told());
    let decided = |way: Direction| FlowState::new(Verdict::Blocked, Reason::DomainRule, way, 1, 0);
    blocked.decide(&ask, decided);
    assert_eq!(count(&blocked, Side::In, &ask), (TC_ACT_SHOT, 0));
    assert_eq!(count(&blocked, Side::Out, &tell), (TC_ACT_SHOT, 0));
}

/// R40: the mark of a trusted flow would lead its answers past the program that tells of them.
#[test]
fn a_trusted_flow_of_dns_is_counted_told_and_not_marked() {
    if without_programs() {
        return;
    }
    let link = Link::Ethernet;
    let web = start(link, US).addresses(ends(false).0, ends(false).1).udp(40_000, 443).bytes();
    let (ask, tell) =
        (question(link, false, false, &[1; 20]), answer(link, false, false, &[1; 20]));
    let trusted = |way: Direction| FlowState::new(Verdict::Trusted, Reason::DomainRule, way, 1, 0);
    for role in [Role::Lan, Role::Wan] {
        for (flags, frame, is_marked) in [
            (0, &ask, true),
            (0, &tell, true),
            (Settings::DNS, &ask, false),
            (Settings::DNS, &tell, false),
            (Settings::DNS, &web, true),
        ] {
            let settings = Settings { flags: Settings::ENABLED | flags, ..enabled() };
            let mut path = path_of(role, link, settings);
            path.decide(frame, trusted);
            let outcome = path.run(Side::In, frame, Buffer::default());
            assert_eq!(outcome.counted, [(Counter::TcTrusted, 1)], "{role:?}");
            let mark = if is_marked { settings.mark_trusted } else { 0 };
            assert_eq!(outcome.mark, mark, "{role:?} {flags:#x}");
            if role == Role::Lan && flags != 0 {
                let _question = read(&path, 1);
                let buffer = Buffer { mark: outcome.mark, ..Buffer::default() };
                let _passed = path.run(Side::Out, &tell, buffer);
                let seen = read(&path, 9).len();
                assert_eq!(seen, usize::from(!is_marked), "an answer with this mark");
            }
        }
    }
}

/// What is longer than the copy is cut, and how long it was is told.
#[test]
fn a_merged_packet_is_cut() {
    if without_programs() {
        return;
    }
    let path = path_of(Role::Lan, Link::Ethernet, told());
    for (len, copied) in [(COPY_MAX - 28, COPY_MAX), (COPY_MAX - 27, COPY_MAX), (3000, COPY_MAX)] {
        let frame = question(Link::Ethernet, false, false, &vec![7; len]);
        let _outcome = path.run(Side::In, &frame, Buffer::default());
        let [(head, copy)] = &read(&path, 9)[..] else { panic!("{len}") };
        assert_eq!((head.copied as usize, head.wire_len as usize), (copied, len + 28));
        assert_eq!(copy, &frame[14..14 + copied]);
    }
}

/// A full ring costs the packet nothing and is counted; who reads goes on where the reader before it ended.
#[test]
fn what_finds_no_room_is_counted_and_a_later_reader_goes_on() {
    const TIMES: u32 = 1000;
    if without_programs() {
        return;
    }
    let path = path_of(Role::Lan, Link::Ethernet, told());
    let frame = |byte: u8| question(Link::Ethernet, false, false, &[byte; 100]);
    // Twice: also where the ring begins anew in the midst of a record.
    for round in [1, 2] {
        let outcome = path.flood(Side::In, &frame(round), Buffer::default(), TIMES);
        let count = |wanted| {
            outcome.counted.iter().find(|(of, _)| *of == wanted).map_or(0, |(_, count)| *count)
        };
        assert_eq!(count(Counter::TcUnknown), u64::from(TIMES));
        let first = read(&path, 5);
        let all = [first, read(&path, usize::MAX)].concat();
        let packet = &frame(round)[14..];
        assert!(all.iter().all(|(_, copy)| copy == packet), "{round}");
        assert_eq!(count(Counter::TcDnsLost), u64::from(TIMES) - all.len() as u64);
        // 128 bytes of packet, 32 that are told of it, 8 of the ring's.
        let room = (RING / 168) as usize;
        assert!((room - 1..=room).contains(&all.len()), "{} of {room}", all.len());
    }
    for byte in 0..5 {
        let _outcome = path.run(Side::In, &frame(byte), Buffer::default());
    }
    let last = |some: Vec<(Head, Vec<u8>)>| -> Vec<u8> {
        some.iter().filter_map(|(_, copy)| copy.last().copied()).collect()
    };
    assert_eq!(last(read(&path, 2)), [0, 1]);
    assert_eq!(last(read(&path, 9)), [2, 3, 4], "another reader");
}

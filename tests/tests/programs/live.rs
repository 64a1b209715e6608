//! The filter in front of the entries that come and go one by one.

use std::net::IpAddr;
use std::os::fd::AsFd as _;

use aya::maps::{Array, Map, MapData};
use sluice::config::Net;
use sluice::sys::clock::monotonic_s;
use sluice_abi::attach::{Link, Role};
use sluice_abi::flow::Addr;
use sluice_abi::live::Live;
use sluice_abi::names;
use sluice_tests::frame::Frame;
use sluice_tests::lists::Random;
use sluice_tests::packets::{DST4, DST6, XDP_DROP, XDP_PASS, ethernet, udp};
use sluice_tests::plane::{Shield, without_programs};
use sluice_tests::testrun::freeze;

fn frame(source: IpAddr) -> Vec<u8> {
    let frame: Frame = match source {
        IpAddr::V4(source) => ethernet().ipv4(source, DST4.parse().unwrap()),
        IpAddr::V6(source) => ethernet().ipv6(source, DST6.parse().unwrap()),
    };
    udp(frame).bytes()
}

fn action(shield: &Shield, source: IpAddr) -> u32 {
    shield.run(&frame(source), 1).0
}

fn filter(shield: &Shield) -> Array<MapData, Live> {
    Array::try_from(Map::Array(shield.pinned(names::LIVE))).unwrap()
}

/// An address, and entries that list it.
const LISTED: [(&str, &[&str]); 2] = [
    ("203.0.113.9", &["203.0.113.9", "203.0.113.0/24", "203.0.0.0/9", "0.0.0.0/0"]),
    ("2001:db8:7::9", &["2001:db8:7::9", "2001:db8:7::/80", "2001:db8::/30", "2000::/3"]),
];

/// R46, R48: an entry that the filter does not have yet is in no map.
#[test]
fn an_entry_is_in_no_map_before_the_filter_has_it() {
    if without_programs() {
        return;
    }
    let mut shield = Shield::enabled(Role::Wan, Link::Ethernet);
    freeze(shield.pinned(names::LIVE).fd().as_fd()).unwrap();
    for (addr, entries) in LISTED {
        let addr: IpAddr = addr.parse().unwrap();
        for entry in entries {
            let net: Net = entry.parse().unwrap();
            let listed = |shield: &Shield| shield.blocklist.lookup(addr, monotonic_s()).unwrap();
            shield.blocklist.block(net, names::LIST_MANUAL, 0).unwrap_err();
            assert_eq!(listed(&shield), None, "{entry}, blocked");
            shield.blocklist.sync(&[(0, &[net])], monotonic_s()).unwrap_err();
            assert_eq!(listed(&shield), None, "{entry}, on a list");
        }
    }
}

/// R46: the same of what is allowed.
#[test]
fn nothing_is_allowed_before_the_filter_has_it() {
    if without_programs() {
        return;
    }
    let mut shield = Shield::enabled(Role::Wan, Link::Ethernet);
    let addr: IpAddr = LISTED[0].0.parse().unwrap();
    shield.blocklist.block(Net::host(addr), names::LIST_MANUAL, 0).unwrap();
    freeze(shield.pinned(names::LIVE).fd().as_fd()).unwrap();
    shield.blocklist.sync_allowed(&[(Net::host(addr), Role::Wan.bit())]).unwrap_err();
    let listed = shield.blocklist.lookup(addr, monotonic_s()).unwrap().unwrap();
    assert_eq!(listed.allowed_roles, 0);
}

/// R46, R48: what could not be removed is still found by packets.
#[test]
fn the_filter_has_an_entry_until_it_is_in_no_map() {
    if without_programs() {
        return;
    }
    for (name, number) in [(names::BLOCK_HOSTS, 0), (names::BLOCK_NETS, 1)] {
        let mut shield = Shield::enabled(Role::Wan, Link::Ethernet);
        for (_, entries) in LISTED {
            shield.blocklist.sync(&[(0, &[entries[number].parse().unwrap()])], 0).unwrap();
        }
        let (addr, entries) = LISTED[1];
        let addr = addr.parse().unwrap();
        freeze(shield.pinned(name).fd().as_fd()).unwrap();
        shield.blocklist.sync(&[], monotonic_s()).unwrap_err();
        assert_eq!(action(&shield, addr), XDP_DROP, "{name}, from a list");
        shield.blocklist.unblock(entries[number].parse().unwrap()).unwrap_err();
        assert_eq!(action(&shield, addr), XDP_DROP, "{name}, by hand");
    }
}

/// R47: an agent takes up entries that another one left, with a filter or without.
#[test]
fn a_filter_that_knows_nothing_is_made_anew_at_the_start() {
    if without_programs() {
        return;
    }
    let mut shield = Shield::enabled(Role::Wan, Link::Ethernet);
    let (addr, entries) = LISTED[1];
    let addr: IpAddr = addr.parse().unwrap();
    for entry in entries {
        let net: Net = entry.parse().unwrap();
        shield.blocklist.block(net, names::LIST_MANUAL, 0).unwrap();
        filter(&shield).set(0, &Live::EMPTY, 0).unwrap();
        assert_eq!(action(&shield, addr), XDP_PASS, "{entry}: the filter decides nothing");
        shield.blocklist = shield.blocklist_found();
        assert_eq!(action(&shield, addr), XDP_DROP, "{entry}");
        assert!(shield.blocklist.unblock(net).unwrap());
    }
}

/// Entries that are gone do not slow packets down for ever.
#[test]
fn a_filter_forgets_entries_that_are_gone() {
    if without_programs() {
        return;
    }
    let mut shield = Shield::enabled(Role::Wan, Link::Ethernet);
    let kept: Net = "198.51.100.77".parse().unwrap();
    shield.blocklist.block(kept, names::LIST_MANUAL, 0).unwrap();
    let mut expected = Live::EMPTY;
    expected.add_host(&kept.addr());
    for number in 0..2000_u32 {
        let net = Net::host(IpAddr::V4((0xcb00_0000 + number).into()));
        shield.blocklist.block(net, names::LIST_AUTOMATIC, u32::MAX).unwrap();
        assert!(shield.blocklist.unblock(net).unwrap());
    }
    let strangers = (0..2000_u32).map(|number| IpAddr::V4((0xcb00_0000 + number).into()));
    let live = filter(&shield).get(&0, 0).unwrap();
    let slow = strangers.filter(|addr| live.may_have_host(&(*addr).into())).count();
    assert!((1..400).contains(&slow), "{slow} of 2000");
    shield.blocklist.sync(&[(0, &[kept])], monotonic_s()).unwrap();
    shield.blocklist.unblock(kept).unwrap();
    shield.blocklist.block(kept, names::LIST_MANUAL, 0).unwrap();
    shield.blocklist = shield.blocklist_found();
    assert!(filter(&shield).get(&0, 0).unwrap() == expected, "more than what is left");
}

/// R46: with the filter as without it.
#[test]
fn packets_meet_what_the_maps_have() {
    const MAPPED: u128 = 0xffff << 32;
    if without_programs() {
        return;
    }
    let mut shield = Shield::enabled(Role::Wan, Link::Ethernet);
    let mut random = Random::new(7);
    let mut dropped = 0;
    for round in 0..90 {
        let mut bits = || (0..4).fold(0, |bits: u128, _| bits << 32 | u128::from(random.next()));
        // IPv4, IPv6 that begins with zeros, any IPv6.
        let (start, open) = match round % 3 {
            0 => (MAPPED | bits() >> 96, 32),
            1 => (bits() >> 80, 40),
            _ => (bits(), 128),
        };
        let mut near = || start ^ bits() >> (128 - open + bits() as u32 % open);
        let addr = |bits: u128| Addr::v6(bytemuck::cast(bits.to_be_bytes()));
        let nets: Vec<_> =
            (1..7).map(|number| Net::new(addr(near()), (128 - number * open / 7) as u8)).collect();
        shield.blocklist.sync(&[(3, &nets)], monotonic_s()).unwrap();
        for _ in 0..40 {
            let addr = addr(near()).into();
            let listed = shield.blocklist.lookup(addr, monotonic_s()).unwrap().is_some();
            let expected = if listed { XDP_DROP } else { XDP_PASS };
            assert_eq!(action(&shield, addr), expected, "{addr} among {nets:?}");
            dropped += u32::from(listed);
        }
    }
    assert!((600..3000).contains(&dropped), "{dropped} of 3600");
}

//! The copy of the shield that hands packets to other processors, by itself.

use std::net::Ipv4Addr;

use aya::maps::{Array, CpuMap};
use sluice::config::Net;
use sluice_abi::attach::{Link, Role};
use sluice_abi::counter::Counter;
use sluice_abi::names;
use sluice_abi::settings::Settings;
use sluice_tests::frame::Frame;
use sluice_tests::plane::{Shield, enabled, without_programs};

const XDP_DROP: u32 = 1;
const XDP_PASS: u32 = 2;
const XDP_REDIRECT: u32 = 4;
const LISTED: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 7);
const OTHER: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 8);

fn udp(source: Ipv4Addr) -> Vec<u8> {
    let frame = Frame::ethernet([2; 6], [4; 6]).ipv4(source, Ipv4Addr::new(203, 0, 113, 1));
    frame.udp(4000, 9).payload(b"probe").bytes()
}

/// R61: what passes is redirected once its part of the flows has a processor with a queue, and counted as
/// what it is either way; what is dropped, and what is no IP packet, is not.
#[test]
fn packets_that_pass_are_redirected_and_all_others_are_not() {
    if without_programs() {
        return;
    }
    let mut shield = Shield::spreading(Role::Wan, Link::Ethernet);
    shield.settings.set(enabled()).unwrap();
    shield.settings.set_lists(true, true).unwrap();
    shield.blocklist.block(Net::host(LISTED.into()), 0, 0).unwrap();
    let mut cpus = CpuMap::try_from(shield.take(names::CPUS)).unwrap();
    let mut slots = Array::<_, u32>::try_from(shield.take(names::SPREAD)).unwrap();
    let passed = vec![(Counter::XdpPass, 1)];
    assert_eq!(shield.run(&udp(OTHER), 1), (XDP_PASS, passed.clone()), "nobody has it");
    for slot in 0..names::SPREAD_SLOTS {
        slots.set(slot, 1, 0).unwrap();
    }
    assert_eq!(shield.run(&udp(OTHER), 1), (XDP_PASS, passed.clone()), "there is no queue");
    cpus.set(0, 64, None, 0).unwrap();
    assert_eq!(shield.run(&udp(OTHER), 1), (XDP_REDIRECT, passed));
    let dropped = vec![(Counter::XdpDropHost, 1)];
    assert_eq!(shield.run(&udp(LISTED), 1), (XDP_DROP, dropped));
    let mut arp = Frame::ethernet([0xff; 6], [4; 6]).payload(&[0; 46]).bytes();
    arp[12..14].copy_from_slice(&[8, 6]);
    assert_eq!(shield.run(&arp, 1), (XDP_PASS, vec![(Counter::XdpNotIp, 1)]));
    let off = Settings { flags: enabled().flags & !Settings::ENABLED, ..enabled() };
    shield.settings.set(off).unwrap();
    assert_eq!(shield.run(&udp(OTHER), 1), (XDP_PASS, vec![(Counter::XdpInert, 1)]));
}

/// R61: one flow has one slot, whichever way its packets go and whatever else is in them; many flows have
/// all of them.
#[test]
fn a_flow_has_one_slot_and_many_flows_have_all() {
    const HALF: u32 = names::SPREAD_SLOTS / 2;
    if without_programs() {
        return;
    }
    let mut shield = Shield::spreading(Role::Lan, Link::Ethernet);
    shield.settings.set(enabled()).unwrap();
    let mut cpus = CpuMap::try_from(shield.take(names::CPUS)).unwrap();
    cpus.set(0, 64, None, 0).unwrap();
    let mut slots = Array::<_, u32>::try_from(shield.take(names::SPREAD)).unwrap();
    for slot in 0..HALF {
        slots.set(slot, 1, 0).unwrap();
    }
    let (client, server) = (Ipv4Addr::new(192, 168, 77, 10), OTHER);
    let frame = || Frame::ethernet([2; 6], [4; 6]);
    let mut redirected = 0;
    for port in 1..=400 {
        let there = frame().ipv4(client, server).udp(port, 443);
        let back = frame().ipv4(server, client).udp(443, port);
        let (action, _) = shield.run(&there.bytes(), 1);
        assert_eq!(shield.run(&back.bytes(), 1).0, action, "port {port}, back");
        let long = frame().vlan(7).ipv4(client, server).udp(port, 443).payload(&[7; 900]);
        assert_eq!(shield.run(&long.bytes(), 1).0, action, "port {port}, another packet");
        redirected += u32::from(action == XDP_REDIRECT);
    }
    // Six deviations of the lot from a half.
    assert!((140..=260).contains(&redirected), "{redirected} of 400");
    // Fragments have no ports, so all of them go one way.
    let fragment = |port, offset| {
        let frame = frame().ipv4(client, server).fragment(port, offset, true);
        frame.udp(port, 443).payload(&[7; 64]).bytes()
    };
    let first = shield.run(&fragment(1, 0), 1).0;
    for port in 2..=40 {
        assert_eq!(shield.run(&fragment(port, port % 2 * 8), 1).0, first, "fragment {port}");
    }
}

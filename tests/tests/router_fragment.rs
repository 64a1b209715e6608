//! Fragments and the flow layer: ports of a fragment are never believed, and fragmenting is no way
//! around a block.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use sluice_abi::flow::{Addr, FlowKey, FlowState};
use sluice_abi::names;
use sluice_abi::verdict::{Reason, Verdict};
use sluice_tests::agent::{Agent, Setup};
use sluice_tests::frame::{Frame, protocol, tcp_flag};
use sluice_tests::hello::client_hello;
use sluice_tests::probe::Probe;
use sluice_tests::router::{Build, Router};
use sluice_tests::skip::without_root;
use sluice_tests::traffic::{TcpService, UdpService, connect, round_trip, udp};
use sluice_tests::wait;

const LIMIT: Duration = Duration::from_secs(5);

/// Writes a blocked entry for the flow between two sockets, as the agent would.
fn block(agent: &Agent, from: SocketAddr, to: SocketAddr, proto: u8) {
    let (key, original) = FlowKey::new(
        Addr::from(from.ip()),
        Addr::from(to.ip()),
        from.port().to_be(),
        to.port().to_be(),
        proto,
    );
    let map = aya::maps::Map::LruHashMap(agent.map(names::FLOWS).unwrap());
    let mut flows = aya::maps::HashMap::<_, FlowKey, FlowState>::try_from(map).unwrap();
    let state = FlowState::new(Verdict::Blocked, Reason::DomainRule, original, 0, 0);
    flows.insert(key, state, 0).unwrap();
}

/// R6: with a drop entry present, whole datagrams of the flow are dropped and fragmented ones pass.
#[test]
fn fragmented_datagrams_pass_the_flow_layer() {
    if without_root() {
        return;
    }
    let world = Router::new(Build::default()).unwrap();
    let agent = Agent::start(&world, Setup::default()).unwrap();
    for address in [IpAddr::from(world.server.v4), world.server.v6.into()] {
        let service = UdpService::start(&world.server, address, 4433, |_| None).unwrap();
        let socket = udp(world.client(), service.address()).unwrap();
        let from =
            SocketAddr::new(world.client().address(address), socket.local_addr().unwrap().port());
        block(&agent, from, service.address(), protocol::UDP);
        for _ in 0..5 {
            socket.send(&[1; 100]).unwrap();
            // Larger than a cable's packet: the client's kernel sends fragments.
            socket.send(&[2; 3000]).unwrap();
        }
        wait::until_true("five datagrams arrived", LIMIT, || service.count() == 5).unwrap();
        let seen = service.seen();
        assert!(seen.iter().all(|datagram| datagram.len() == 3000), "{address}");
    }
    let status = agent.status().unwrap();
    let dropped: u64 =
        status.interfaces.iter().filter_map(|i| i.counters.get("tc_drop_blocked")).sum();
    assert_eq!(dropped, 10, "whole datagrams: {status:#?}");
}

/// A TCP segment in two fragments, by hand.
fn fragments(world: &Router, port: u16, id: u16) -> [Vec<u8>; 2] {
    let client = world.client();
    let segment = Frame::ip()
        .ipv4(client.v4, world.server.v4)
        .tcp(port, 443, tcp_flag::ACK | tcp_flag::PSH)
        .sequence(1, 1)
        .payload(&[b'x'; 60])
        .bytes();
    // The checksum covers the whole segment, so the bytes are cut, not built twice.
    let (first, second) = segment[20..].split_at(40);
    let cut = |offset, more, bytes: &[u8]| {
        let ip = client.frame().ipv4(client.v4, world.server.v4).fragment(id, offset, more);
        ip.raw(protocol::TCP).payload(bytes).bytes()
    };
    [cut(0, true, first), cut(40, false, second)]
}

/// R6: conntrack puts fragments together, and the mark of the connection drops them.
#[test]
fn a_blocked_flow_does_not_escape_by_fragmenting() {
    const BLOCKED: u16 = 0x5151;
    const FREE: u16 = 0x5252;
    if without_root() {
        return;
    }
    let world = Router::new(Build::default()).unwrap();
    let agent = Agent::start(&world, Setup::default().rule("ads", "block", &["ads.test"])).unwrap();
    // The segments made by hand are outside of the connections' windows.
    world.netns.sysctl("net/netfilter/nf_conntrack_tcp_be_liberal", "1").unwrap();
    let echo = TcpService::echo(&world.server, world.server.v4.into(), 443).unwrap();
    let probe = Probe::new(
        &world.server.netns,
        &[("blocked", &format!("ip id {BLOCKED}")), ("free", &format!("ip id {FREE}"))],
    )
    .unwrap();

    let open = |name: &str| {
        let mut stream = connect(world.client(), echo.address()).unwrap();
        let hello = client_hello(name, 0);
        let answered = round_trip(&mut stream, &hello, hello.len()).is_ok();
        agent.wait_for_flow(name, |flow| flow.is_for(name)).unwrap();
        (stream.local_addr().unwrap().port(), stream, answered)
    };
    let (port, _stream, answered) = open("ads.test");
    assert!(!answered, "the blocked hello was answered");
    let (free_port, _free_stream, answered) = open("news.test");
    assert!(answered, "the other hello was not answered");

    let wire = world.client().injector().unwrap();
    let dropped = || {
        let status = agent.status().unwrap();
        status.netfilter.counters.get("dropped_blocked").copied().unwrap_or(0)
    };
    let before = dropped();
    for _ in 0..10 {
        for fragment in fragments(&world, port, BLOCKED) {
            wire.send(&fragment).unwrap();
        }
        for fragment in fragments(&world, free_port, FREE) {
            wire.send(&fragment).unwrap();
        }
    }
    wait::until_true("the free segments arrived", LIMIT, || probe.count("free").unwrap() >= 10)
        .unwrap();
    assert_eq!(probe.count("blocked").unwrap(), 0);
    assert!(dropped() >= before + 10, "not dropped by the connection's mark");
}

//! From a queued packet to its connection, both tuples and both keys.

use std::net::{IpAddr, SocketAddr};

use sluice::netfilter::conntrack::{Conntrack, Tuple};
use sluice::netfilter::nfqueue::Packet;
use sluice_datapath::parse;
use sluice_tests::router::{Build, Router, WAN_V4};
use sluice_tests::skip::without_root;
use sluice_tests::traffic::{TcpService, connect, round_trip};

use super::{PASS, headers, tuple, with_queues};

/// R14: from what the forward hook shows, whichever way a packet goes, both tuples and both keys.
#[test]
fn a_masqueraded_connection_is_found_from_either_side_with_both_keys() {
    if without_root() {
        return;
    }
    let world = Router::new(Build::default()).unwrap();
    let echo = TcpService::echo(&world.server, world.server.v4.into(), 7004).unwrap();
    let seen = std::sync::Mutex::new(Vec::new());
    let decide = |packet: Packet<'_>| {
        let (key, direction) = headers(&packet).flow().unwrap();
        seen.lock().unwrap().push(Tuple::of_flow(&key, direction));
        PASS
    };
    with_queues(&world, 1, true, decide, |_| {
        let mut stream = connect(world.client(), echo.address()).unwrap();
        round_trip(&mut stream, b"question", 8).unwrap();
        let local = stream.local_addr().unwrap();
        let tuples = seen.lock().unwrap().clone();
        let there = tuple(local, echo.address(), parse::TCP);
        assert!(tuples.contains(&there) && tuples.contains(&there.reversed()), "{tuples:?}");
        let mut conntrack = Conntrack::open().unwrap();
        for seen in [there, there.reversed()] {
            let connection = conntrack.lookup(&seen).unwrap().unwrap();
            assert_eq!(connection.original, there);
            assert!(connection.is_translated());
            assert_eq!(connection.reply.src, IpAddr::from(world.server.v4));
            assert_eq!(connection.reply.dst, IpAddr::from(WAN_V4), "the router's own address");
            let [before, behind] = connection.flows();
            assert_eq!(before, there.flow());
            assert_ne!(before.0, behind.0);
            let mut unknown = seen;
            unknown.sport ^= 1;
            unknown.dport ^= 1;
            assert_eq!(conntrack.lookup(&unknown).unwrap(), None);
        }
        let connection = conntrack.lookup(&there).unwrap().unwrap();
        assert!(conntrack.delete(&connection).unwrap());
        assert_eq!(conntrack.lookup(&there).unwrap(), None);
        assert!(!conntrack.delete(&connection).unwrap(), "it is gone already");
    });

    // Without translation of the source: IPv6 is routed.
    let echo = TcpService::echo(&world.server, world.server.v6.into(), 7004).unwrap();
    with_queues(
        &world,
        1,
        true,
        |_| PASS,
        |_| {
            let stream = connect(world.client(), echo.address()).unwrap();
            let there = tuple(stream.local_addr().unwrap(), echo.address(), parse::TCP);
            let connection = Conntrack::open().unwrap().lookup(&there).unwrap().unwrap();
            assert!(!connection.is_translated());
        },
    );
}

/// R14: a forwarded port. The queue shows the translated destination, which only the reply tuple
/// has.
#[test]
fn a_connection_to_a_forwarded_port_is_found() {
    if without_root() {
        return;
    }
    let world = Router::new(Build::default()).unwrap();
    let echo = TcpService::echo(world.client(), world.client().v4.into(), 8080).unwrap();
    with_queues(
        &world,
        1,
        true,
        |_| PASS,
        |_| {
            let outside = SocketAddr::new(WAN_V4.into(), 8080);
            let mut stream = connect(&world.server, outside).unwrap();
            round_trip(&mut stream, b"question", 8).unwrap();
            let seen = tuple(stream.local_addr().unwrap(), echo.address(), parse::TCP);
            let mut conntrack = Conntrack::open().unwrap();
            for seen in [seen, seen.reversed()] {
                let connection = conntrack.lookup(&seen).unwrap().unwrap();
                assert_eq!(connection.original.dst, IpAddr::from(WAN_V4));
                assert_eq!(
                    connection.reply,
                    tuple(echo.address(), stream.local_addr().unwrap(), 6)
                );
            }
        },
    );
}

//! QUIC on a router: the name inside its first packets decides.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::fs;
use std::path::Path;
use std::time::Duration;

use sluice_tests::agent::{Agent, Setup};
use sluice_tests::observe;
use sluice_tests::router::{Build, Router};
use sluice_tests::skip::without_root;
use sluice_tests::traffic::{UdpService, udp};
use sluice_tests::wait;

const LIMIT: Duration = Duration::from_secs(20);

/// The first datagrams in a capture of IPv4 on Ethernet.
fn datagrams(capture: &str, count: usize) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/quic");
    let bytes = fs::read(folder.join(capture)).unwrap();
    let mut rest = &bytes[24..];
    let mut found = Vec::new();
    while found.len() < count {
        let (header, tail) = rest.split_at(16);
        let len = u32::from_le_bytes(*header[8..].first_chunk().unwrap()) as usize;
        let (frame, tail) = tail.split_at(len);
        found.push(frame[14 + 20 + 8..].to_vec());
        rest = tail;
    }
    found
}

/// R36, R64: a browser's ClientHello comes in shuffled frames of two datagrams. The second one tells its
/// name, and nothing passes from there on; a client that names another server goes on without the queue.
#[test]
fn a_blocked_name_in_quic_fails_and_its_neighbour_works() {
    if without_root() {
        return;
    }
    let world = Router::new(Build::default()).unwrap();
    let setup = Setup::default().rule("ads", "block", &["chromium.sluice.test"]);
    let agent = Agent::start(&world, setup).unwrap();
    for like in [world.server.v4.into(), world.server.v6.into()] {
        let server = UdpService::echo(&world.server, like, 443).unwrap();
        let blocked = udp(world.client(), server.address()).unwrap();
        let port = blocked.local_addr().unwrap().port();
        let [first, second] = &datagrams("chromium.pcap", 2)[..] else { unreachable!() };
        blocked.send(first).unwrap();
        wait::until_true("the first datagram arrived", LIMIT, || server.count() == 1).unwrap();
        blocked.send(second).unwrap();
        let flow = agent.wait_for_flow("blocked", |flow| flow.sport == port).unwrap();
        assert_eq!((flow.verdict.as_str(), flow.rule.as_deref()), ("blocked", Some("ads")));
        assert_eq!(flow.sni.as_deref(), Some("chromium.sluice.test"));
        let ja4 = flow.ja4.as_deref().unwrap();
        assert!(ja4.starts_with("q13d0312h3_"), "{ja4}");

        let trusted = udp(world.client(), server.address()).unwrap();
        let port = trusted.local_addr().unwrap().port();
        let mut buffer = [0; 2000];
        trusted.set_read_timeout(Some(LIMIT)).unwrap();
        trusted.send(&datagrams("aioquic-v2.pcap", 1)[0]).unwrap();
        trusted.recv(&mut buffer).unwrap();
        let flow = agent.wait_for_flow("trusted", |flow| flow.sport == port).unwrap();
        assert_eq!(
            (flow.verdict.as_str(), flow.sni.as_deref()),
            ("trusted", Some("v2.sluice.test"))
        );
        let queued = observe::queued(&world.netns).unwrap();
        for _ in 0..50 {
            blocked.send(b"\x40 more").unwrap();
            trusted.send(b"\x40 more").unwrap();
            trusted.recv(&mut buffer).unwrap();
        }
        let queued = observe::queued(&world.netns).unwrap() - queued;
        assert!(queued < 10, "{queued} packets of decided flows went to the queue");
        // The first of the blocked flow, and all of the trusted one.
        let all = 1 + 1 + 50;
        wait::until_true("all arrived", LIMIT, || server.count() >= all).unwrap();
        assert_eq!(server.count(), all);
    }
    assert_eq!(agent.status().unwrap().queue.engine["quic_hellos"], 4);
}

//! The test world itself: what is true of it without Sluice, so that a later failure is Sluice's.

use std::net::IpAddr;
use std::time::Duration;

use sluice_tests::agent::mount_bpffs;
use sluice_tests::dns::{self, Kind};
use sluice_tests::observe;
use sluice_tests::probe::{ForeignXdp, Probe};
use sluice_tests::router::{Build, LAN_V4, Lan, Router, WAN, WAN_V4};
use sluice_tests::service::{self, Family, Iperf, fetch, page};
use sluice_tests::skip::without_root;
use sluice_tests::{traffic, wait};

#[test]
fn hosts_reach_each_other_through_the_router_in_both_families() {
    if without_root() {
        return;
    }
    for lan in [Lan::Bridge, Lan::Plain] {
        let world = Router::new(Build { lan, ..Build::default() }).unwrap();
        for address in [world.server.v4.into(), world.server.v6.into()] {
            assert!(world.client().ping(address).unwrap(), "{address}");
        }
    }
}

#[test]
fn a_client_finds_the_web_server_by_name_and_is_masqueraded_in_ipv4_only() {
    if without_root() {
        return;
    }
    let world = Router::new(Build::default()).unwrap();
    let (dns, web) = service::named(&world, &["news.test"]).unwrap();
    for (family, seen_as) in
        [(Family::V4, "203.0.113.1".to_owned()), (Family::V6, world.client().v6.to_string())]
    {
        let url = format!("https://news.test{}", page::MIB);
        let fetched = fetch(world.client(), family, &url, Duration::from_secs(10)).unwrap();
        assert!(fetched.is_success(), "{family:?}: {fetched:?}");
        assert_eq!(fetched.bytes, 1 << 20);
        let line = format!("{seen_as} news.test {} 200", page::MIB);
        assert!(web.requests().unwrap().contains(&line), "{line} in {:?}", web.requests());
    }
    assert!(dns.asked().iter().any(|name| name == "news.test"));
    let answer = dns::ask(world.client(), LAN_V4.into(), "www.news.test", Kind::Aaaa).unwrap();
    assert_eq!(dns::addresses(&answer), [world.server.v6]);
}

#[test]
fn throughput_is_measured_in_both_directions() {
    if without_root() {
        return;
    }
    let world = Router::new(Build::default()).unwrap();
    let iperf = Iperf::start(&world, false).unwrap();
    for download in [true, false] {
        assert!(iperf.measure(&world, download, 1).unwrap() > 1.0);
    }
}

#[test]
fn a_foreign_program_is_seen_where_it_is_attached() {
    if without_root() {
        return;
    }
    mount_bpffs().unwrap();
    let world = Router::new(Build::default()).unwrap();
    assert_eq!(observe::attached(&world.netns).unwrap(), []);
    let foreign = ForeignXdp::attach(&world.netns, WAN).unwrap();
    let attached = observe::attached(&world.netns).unwrap();
    let [only] = attached.as_slice() else { panic!("{attached:?}") };
    assert_eq!((only.device.as_str(), only.hook), (WAN, "xdp"));
    assert!(observe::is_loaded(only.id));
    // Traffic goes through it.
    assert!(world.client().ping(world.server.v4.into()).unwrap());
    drop(foreign);
    assert_eq!(observe::attached(&world.netns).unwrap(), []);
    wait::until_true("it was gone", Duration::from_secs(10), || !observe::is_loaded(only.id))
        .unwrap();
}

#[test]
fn witnesses_count_what_is_sent() {
    if without_root() {
        return;
    }
    let world = Router::new(Build::default()).unwrap();
    let probe = Probe::new(&world.netns, &[("seen", "udp dport 9")]).unwrap();
    let wire = world.attacker.injector().unwrap();
    let before = observe::received(&world.netns, WAN).unwrap();
    for source in ["198.51.100.7", "198.51.100.8"] {
        let frame =
            world.attacker.frame().ipv4(source.parse().unwrap(), WAN_V4).udp(1, 9).payload(b"x");
        for _ in 0..50 {
            wire.send(&frame.bytes()).unwrap();
        }
    }
    assert_eq!(probe.count("seen").unwrap(), 100);
    assert!(observe::received(&world.netns, WAN).unwrap() >= before + 100);
}

#[test]
fn services_of_this_process_talk_through_the_router() {
    if without_root() {
        return;
    }
    let world = Router::new(Build::default()).unwrap();
    for address in [IpAddr::from(world.server.v4), world.server.v6.into()] {
        let echo = traffic::TcpService::echo(&world.server, address, 4430).unwrap();
        let mut stream = traffic::connect(world.client(), echo.address()).unwrap();
        let bulk: Vec<u8> = (0..4 << 20).map(|n: u32| (n >> 8) as u8).collect();
        assert_eq!(traffic::round_trip(&mut stream, &bulk, 10_000).unwrap(), bulk);
        assert_eq!(echo.accepted(), 1);

        let echo = traffic::UdpService::echo(&world.server, address, 4431).unwrap();
        let socket = traffic::udp(world.client(), echo.address()).unwrap();
        // Fragmented on the way, both ways.
        socket.send(&[3; 5000]).unwrap();
        let mut buffer = [0; 6000];
        assert_eq!(socket.recv(&mut buffer).unwrap(), 5000);
    }
    // A port that the router forwards to the client.
    let client = world.client();
    let echo = traffic::TcpService::echo(client, client.v4.into(), 8080).unwrap();
    let forwarded = (IpAddr::from(WAN_V4), 8080).into();
    let mut stream = traffic::connect(&world.server, forwarded).unwrap();
    assert_eq!(traffic::round_trip(&mut stream, b"hello", 5).unwrap(), b"hello");
    assert_eq!(echo.accepted(), 1);
}

#[test]
fn super_packets_cross_the_router_only_when_asked_for() {
    if without_root() {
        return;
    }
    for super_packets in [true, false] {
        let world = Router::new(Build { super_packets, ..Build::default() }).unwrap();
        let large = Probe::new(&world.netns, &[("large", "meta length > 1500")]).unwrap();
        let echo = traffic::TcpService::echo(&world.server, world.server.v4.into(), 4430).unwrap();
        let mut stream = traffic::connect(world.client(), echo.address()).unwrap();
        let bulk = vec![5; 1 << 20];
        assert_eq!(traffic::round_trip(&mut stream, &bulk, 65_536).unwrap(), bulk);
        assert_eq!(large.count("large").unwrap() > 0, super_packets);
    }
}

//! The shield on a router: what XDP drops, what it must let through, and that both are counted.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::{Duration, Instant};

use sluice_tests::agent::{Agent, Setup};
use sluice_tests::frame::{Frame, tcp_flag};
use sluice_tests::host::Host;
use sluice_tests::observe;
use sluice_tests::probe::Probe;
use sluice_tests::router::{Build, LAN_V4, Router, WAN, WAN_V4, WAN_V6};
use sluice_tests::skip::without_root;
use sluice_tests::{traffic, wait};

/// A port where nobody listens; the witness counts what gets that far.
const DISCARD: u16 = 9;

fn v4(text: &str) -> Ipv4Addr {
    text.parse().unwrap()
}

fn v6(text: &str) -> Ipv6Addr {
    text.parse().unwrap()
}

/// Waits until the programs have seen what was put on the cable. On a busy machine they run a moment
/// after the frame was sent; the assertion that follows says what is wrong when they never do.
fn settled(seen: impl FnMut() -> bool) {
    wait::settles(Duration::from_secs(5), seen);
}

/// A UDP frame from a made-up source to the router.
fn udp_from(host: &Host, source: IpAddr) -> Frame {
    let router: IpAddr = if source.is_ipv4() { WAN_V4.into() } else { WAN_V6.into() };
    host.frame().addresses(source, router).udp(4000, DISCARD).payload(b"probe")
}

/// R46, R62, R162: by address and by prefix, in both families; the neighbour of what is listed, and
/// what the allowlist lifts, arrive. Every packet is counted under its reason.
#[test]
fn listed_sources_are_dropped_and_their_neighbours_are_not() {
    if without_root() {
        return;
    }
    let world = Router::new(Build::default()).unwrap();
    let setup = Setup::default()
        .blocklist(
            "bad",
            &["198.51.100.7", "198.18.0.0/15", "2001:db8:bad::7", "2001:db8:bad:8000::/49"],
        )
        .allowlist("good", "wan", &["198.18.5.5", "2001:db8:bad:8000::5"]);
    let agent = Agent::start(&world, setup).unwrap();
    let probe = Probe::new(&world.netns, &[("arrived", "udp dport 9")]).unwrap();
    let wire = world.attacker.injector().unwrap();

    #[rustfmt::skip]
    let cases: [(&str, IpAddr, &str); 8] = [
        ("listed address",            v4("198.51.100.7").into(),           "xdp_drop_listed"),
        ("neighbour of an address",   v4("198.51.100.8").into(),           "xdp_pass"),
        ("in a listed prefix",        v4("198.19.255.255").into(),         "xdp_drop_listed"),
        ("behind a listed prefix",    v4("198.20.0.0").into(),             "xdp_pass"),
        ("allowed inside a prefix",   v4("198.18.5.5").into(),             "xdp_allowed"),
        ("listed address, IPv6",      v6("2001:db8:bad::7").into(),        "xdp_drop_host"),
        ("in a listed prefix, IPv6",  v6("2001:db8:bad:8001::1").into(),   "xdp_drop_listed"),
        ("allowed in a prefix, IPv6", v6("2001:db8:bad:8000::5").into(),   "xdp_allowed"),
    ];
    for (name, source, counter) in cases {
        let before = (agent.count(WAN, counter).unwrap(), probe.count("arrived").unwrap());
        for _ in 0..20 {
            wire.send(&udp_from(&world.attacker, source).bytes()).unwrap();
        }
        let counted = || agent.count(WAN, counter).unwrap() - before.0;
        let arrived = || probe.count("arrived").unwrap() - before.1;
        settled(|| counted().max(arrived()) >= 20);
        let (counted, arrived) = (counted(), arrived());
        if counter.contains("drop") {
            assert_eq!((counted, arrived), (20, 0), "{name}: {counter} and arrivals");
        } else {
            assert_eq!(arrived, 20, "{name}: arrivals");
            // Neighbour discovery and the like may add to "passed".
            assert!(counted >= 20, "{name}: {counted} counted as {counter}");
        }
    }
}

/// R46: the allowlist is bound to a role: a source that is allowed on the LAN gains nothing on WAN.
#[test]
fn an_address_allowed_on_the_lan_is_still_dropped_on_wan() {
    if without_root() {
        return;
    }
    let world = Router::new(Build::default()).unwrap();
    let setup = Setup::default().blocklist("bad", &["198.51.100.7"]).allowlist(
        "inside",
        "lan",
        &["198.51.100.7"],
    );
    let agent = Agent::start(&world, setup).unwrap();
    let probe = Probe::new(&world.netns, &[("arrived", "udp dport 9")]).unwrap();
    let wire = world.attacker.injector().unwrap();
    for _ in 0..5 {
        wire.send(&udp_from(&world.attacker, v4("198.51.100.7").into()).bytes()).unwrap();
    }
    let dropped = || agent.count(WAN, "xdp_drop_listed").unwrap();
    settled(|| dropped() >= 5);
    assert_eq!(dropped(), 5);
    assert_eq!(probe.count("arrived").unwrap(), 0);
}

/// R46 from inside: on the LAN the destination is looked up, so a device cannot call a listed host.
#[test]
fn a_client_cannot_reach_a_listed_host_and_can_reach_another() {
    if without_root() {
        return;
    }
    let world = Router::new(Build::default()).unwrap();
    let listed = world.attacker.v4.to_string();
    let agent = Agent::start(&world, Setup::default().blocklist("bad", &[&listed])).unwrap();
    assert!(!world.client().ping(world.attacker.v4.into()).unwrap());
    assert!(world.client().ping(world.server.v4.into()).unwrap());
    assert_eq!(agent.count("lan", "xdp_drop_listed").unwrap(), 1, "one echo request");
}

/// R27, R172: a drop is never thinned out by a limit meant for messages, and the list that did it is
/// named.
#[test]
fn two_hundred_listed_packets_are_two_hundred_drops() {
    if without_root() {
        return;
    }
    let world = Router::new(Build::default()).unwrap();
    let agent = Agent::start(&world, Setup::default().blocklist("bad", &["198.51.100.7"])).unwrap();
    let probe = Probe::new(&world.netns, &[("arrived", "udp dport 9")]).unwrap();
    let wire = world.attacker.injector().unwrap();
    let dropped = || agent.count(WAN, "xdp_drop_listed").unwrap();
    for sent in 1..=200 {
        wire.send(&udp_from(&world.attacker, v4("198.51.100.7").into()).bytes()).unwrap();
        // The ring of a virtual cable holds 256.
        if sent % 50 == 0 {
            settled(|| dropped() >= sent);
        }
    }
    assert_eq!(probe.count("arrived").unwrap(), 0);
    assert_eq!(dropped(), 200);
    let list = agent.status().unwrap().lists.into_iter().find(|list| list.name == "bad").unwrap();
    assert_eq!((list.entries, list.packets), (1, 200));
    let why = agent.why("198.51.100.7").unwrap();
    let cause = why.causes.first().unwrap();
    assert!(cause.by.ends_with("bad"), "{cause:?}");
    assert_eq!(cause.entry, "198.51.100.7");
    assert_eq!(agent.why("198.51.100.8").unwrap().causes.len(), 0);
}

/// R50, R52: a source over its SYN rate is held to it within ten percent; another one at the same
/// time is not, and connects.
#[test]
fn a_syn_flood_is_held_to_the_rate_while_others_connect() {
    const RATE: u64 = 200;
    const BURST: u64 = 100;
    if without_root() {
        return;
    }
    let world = Router::new(Build::default()).unwrap();
    let setup = Setup::default().ddos("syn_pps", RATE).ddos("syn_burst", BURST);
    let agent = Agent::start(&world, setup).unwrap();
    let flood = format!("ip saddr {} tcp flags syn", world.attacker.v4);
    let probe = Probe::new(&world.netns, &[("flood", &flood)]).unwrap();
    let service =
        traffic::TcpService::echo(world.client(), world.client().v4.into(), 8080).unwrap();
    let wire = world.attacker.injector().unwrap();
    let syn = |port: u16| {
        world.attacker.frame().ipv4(world.attacker.v4, WAN_V4).tcp(port, 443, tcp_flag::SYN)
    };

    let start = Instant::now();
    let mut sent = 0_u16;
    let mut connections = 0;
    while start.elapsed() < Duration::from_secs(4) {
        // About 4,000 a second, twenty times what is allowed.
        for _ in 0..40 {
            wire.send(&syn(1024 + sent).bytes()).unwrap();
            sent += 1;
        }
        wait::pause(Duration::from_millis(9));
        if sent.is_multiple_of(4000) {
            let forwarded = (IpAddr::from(WAN_V4), 8080).into();
            let mut stream = traffic::connect(&world.server, forwarded).unwrap();
            assert_eq!(traffic::round_trip(&mut stream, b"hello", 5).unwrap(), b"hello");
            connections += 1;
        }
    }
    let seconds = start.elapsed().as_secs_f64();
    let passed = || probe.count("flood").unwrap();
    let dropped = || agent.count(WAN, "xdp_drop_syn_rate").unwrap();
    settled(|| passed() + dropped() >= u64::from(sent));
    let (passed, dropped) = (passed(), dropped());
    let allowed = BURST as f64 + RATE as f64 * seconds;
    println!("{sent} SYN in {seconds:.2} s: {passed} passed, {allowed:.0} allowed");
    assert!((passed as f64 - allowed).abs() < allowed * 0.1, "{passed} of {allowed:.0}");
    assert_eq!(passed + dropped, u64::from(sent), "every SYN passed or was counted");
    assert!(connections > 0, "the flood was too slow to try a connection: {sent}");
    assert_eq!(service.accepted(), connections);
}

/// R50: what nobody has seen before is never limited by its first packet.
#[test]
fn the_first_packet_of_every_source_passes() {
    if without_root() {
        return;
    }
    let world = Router::new(Build::default()).unwrap();
    let setup = Setup::default()
        .ddos("syn_pps", 1)
        .ddos("syn_burst", 1)
        .ddos("source_pps", 1)
        .ddos("source_burst", 1);
    let agent = Agent::start(&world, setup).unwrap();
    let probe = Probe::new(&world.netns, &[("arrived", "ip saddr 198.18.0.0/15")]).unwrap();
    let wire = world.attacker.injector().unwrap();
    let syn = |source: Ipv4Addr| {
        world.attacker.frame().ipv4(source, WAN_V4).tcp(4000, 443, tcp_flag::SYN).bytes()
    };
    let sources: Vec<Ipv4Addr> =
        (0..500_u16).map(|n| Ipv4Addr::from([198, 18, (n / 250) as u8, (n % 250) as u8])).collect();
    let arrived = || probe.count("arrived").unwrap();
    for (number, &source) in (1..).zip(&sources) {
        wire.send(&syn(source)).unwrap();
        if number % 50 == 0 {
            settled(|| arrived() >= number);
        }
    }
    assert_eq!(arrived(), 500);
    // The second ones come within the second for which the bucket is empty.
    for &source in &sources[..50] {
        wire.send(&syn(source)).unwrap();
        wire.send(&syn(source)).unwrap();
    }
    let dropped = || agent.count(WAN, "xdp_drop_syn_rate").unwrap();
    settled(|| arrived() + dropped() >= 600);
    assert_eq!(arrived() + dropped(), 600);
    assert!(dropped() > 0, "the limit is not in force at all");
}

/// R56: what cannot be read is not judged.
#[test]
fn truncated_frames_pass_and_are_counted() {
    if without_root() {
        return;
    }
    let world = Router::new(Build::default()).unwrap();
    let agent = Agent::start(&world, Setup::default().blocklist("bad", &["198.51.100.7"])).unwrap();
    let wire = world.attacker.injector().unwrap();
    let whole = udp_from(&world.attacker, v4("198.51.100.7").into()).bytes();
    let before = observe::received(&world.netns, WAN).unwrap();
    // Ends inside the IP header: the listed source is there but the header is not.
    for _ in 0..7 {
        wire.send(&whole[..14 + 19]).unwrap();
    }
    let truncated = || agent.count(WAN, "xdp_truncated").unwrap();
    settled(|| truncated() >= 7);
    assert_eq!(truncated(), 7);
    assert_eq!(agent.count(WAN, "xdp_drop_listed").unwrap(), 0);
    assert!(observe::received(&world.netns, WAN).unwrap() >= before + 7);
}

/// R57: large DNS answers, from outside through the router and from the router itself.
#[test]
fn dns_answers_of_1232_bytes_arrive() {
    use sluice_tests::dns::{self, Kind};
    if without_root() {
        return;
    }
    let world = Router::new(Build::default()).unwrap();
    let _agent = Agent::start(&world, Setup::default()).unwrap();
    for address in [IpAddr::from(world.server.v4), world.server.v6.into()] {
        let _service = traffic::UdpService::start(&world.server, address, 53, |question| {
            Some(dns::answer(question, usize::from(dns::EDNS_SIZE)))
        })
        .unwrap();
        for _ in 0..20 {
            let answer = dns::ask(world.client(), address, "big.test", Kind::Txt).unwrap();
            assert_eq!(answer.len(), usize::from(dns::EDNS_SIZE), "{address}");
        }
    }
}

/// R25: ICMP is none of the engine's business and passes.
#[test]
fn echo_requests_pass_in_both_families() {
    if without_root() {
        return;
    }
    let world = Router::new(Build::default()).unwrap();
    let _agent = Agent::start(&world, Setup::default()).unwrap();
    for address in [IpAddr::from(world.server.v4), world.server.v6.into(), LAN_V4.into()] {
        assert!(world.client().ping(address).unwrap(), "{address}");
    }
    // 1,000 bytes more than a cable takes: fragments.
    let line = format!("busybox ping -c 2 -W 2 -s 2400 {}", world.server.v4);
    world.client().netns.run(&line).unwrap();
}

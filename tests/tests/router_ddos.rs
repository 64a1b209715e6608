//! Attacks on a router: what they cost others, who is blocked for them and who is not.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use sluice_tests::agent::{Agent, Setup};
use sluice_tests::frame::tcp_flag;
use sluice_tests::host::Host;
use sluice_tests::probe::Probe;
use sluice_tests::router::{Build, Router, WAN, WAN_V4};
use sluice_tests::skip::without_root;
use sluice_tests::{traffic, wait};

/// Time for the agent to notice what takes it a few seconds.
const NOTICE: Duration = Duration::from_secs(30);

fn v4(text: &str) -> Ipv4Addr {
    text.parse().unwrap()
}

/// A world with a service behind the router that the WAN reaches.
fn world() -> (Router, traffic::TcpService) {
    let world = Router::new(Build::default()).unwrap();
    let service =
        traffic::TcpService::echo(world.client(), world.client().v4.into(), 8080).unwrap();
    (world, service)
}

fn service_address() -> std::net::SocketAddr {
    (IpAddr::from(WAN_V4), 8080).into()
}

/// SYN packets of `source` that go on until the guard is dropped.
struct Flood {
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicU32>,
    threads: Vec<std::thread::JoinHandle<()>>,
}

impl Flood {
    fn start(
        host: &Host,
        threads: usize,
        per_second: u64,
        frame: impl Fn(u32) -> Vec<u8> + Clone + Send + 'static,
    ) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let sent = Arc::new(AtomicU32::new(0));
        let threads = (0..threads)
            .map(|thread| {
                let wire = host.injector().unwrap();
                let (stop, sent, frame) = (Arc::clone(&stop), Arc::clone(&sent), frame.clone());
                std::thread::spawn(move || {
                    let start = Instant::now();
                    let mut number = 0_u64;
                    while !stop.load(Ordering::Relaxed) {
                        let due = start.elapsed().as_secs_f64() * per_second as f64;
                        while (number as f64) < due {
                            wire.send(&frame((number as u32) << 2 | thread as u32)).unwrap();
                            number += 1;
                            sent.fetch_add(1, Ordering::Relaxed);
                        }
                        wait::pause(Duration::from_millis(2));
                    }
                })
            })
            .collect();
        Self { stop, sent, threads }
    }

    fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed).into()
    }

    fn end(mut self) -> u64 {
        self.finish();
        self.sent()
    }

    fn finish(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            thread.join().unwrap();
        }
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// Connects and exchanges a word, again and again; how long each took, and how many failed.
fn well_behaved(host: &Host, times: usize) -> (Vec<Duration>, usize) {
    let (mut took, mut failed) = (Vec::new(), 0);
    for _ in 0..times {
        let start = Instant::now();
        let answered = traffic::connect(host, service_address())
            .and_then(|mut stream| traffic::round_trip(&mut stream, b"hello", 5));
        match answered {
            Ok(answer) if answer == b"hello" => took.push(start.elapsed()),
            _ => failed += 1,
        }
    }
    took.sort_unstable();
    (took, failed)
}

fn quantile(sorted: &[Duration], percent: usize) -> Duration {
    sorted[(sorted.len() - 1) * percent / 100]
}

/// R52, R172: an attacker at a hundred times what one source may costs others no connection and
/// little time.
#[test]
fn an_attacker_at_a_hundred_times_its_limit_costs_others_nothing() {
    const RATE: u64 = 50;
    const TIMES: usize = 150;
    if without_root() {
        return;
    }
    let (world, _service) = world();
    let setup = Setup::default().ddos("syn_pps", RATE).ddos("syn_burst", 50).ddos("block_s", 0);
    let agent = Agent::start(&world, setup.ddos("destination_syn_pps", 200)).unwrap();
    // 40 connections a second: below the limit of one source.
    let paced = |_: usize| {
        let mut all = (Vec::new(), 0);
        for _ in 0..TIMES / 10 {
            let (took, failed) = well_behaved(&world.server, 10);
            all.0.extend(took);
            all.1 += failed;
            wait::pause(Duration::from_millis(250));
        }
        all.0.sort_unstable();
        all
    };
    let (quiet, failed_quiet) = paced(0);
    let (frame, source) = (world.attacker.frame(), world.attacker.v4);
    let flood = Flood::start(&world.attacker, 1, RATE * 100, move |number| {
        frame.clone().ipv4(source, WAN_V4).tcp(number as u16, 8080, tcp_flag::SYN).bytes()
    });
    let (attacked, failed) = paced(1);
    let sent = flood.end();
    let dropped = agent.count(WAN, "xdp_drop_syn_rate").unwrap();
    for (name, took) in [("quiet", &quiet), ("attacked", &attacked)] {
        println!(
            "{name}: median {:?}, p99 {:?}, {} connections",
            quantile(took, 50),
            quantile(took, 99),
            took.len()
        );
    }
    let ratio =
        |part| quantile(&attacked, part).as_secs_f64() / quantile(&quiet, part).as_secs_f64();
    println!("{sent} SYN, {dropped} dropped; ratios {:.2} and {:.2}", ratio(50), ratio(99));
    assert_eq!((failed_quiet, failed), (0, 0), "connections of others that failed");
    assert!(dropped > sent / 2, "{dropped} of {sent}: no attack at all");
    assert!(ratio(50) < 3.0, "median");
    // A SYN that is lost comes again after a second: that is what must not happen.
    assert!(quantile(&attacked, 99) < Duration::from_millis(900), "p99");
}

/// R52: a flood with made-up sources takes what strangers may send to a destination, and a source
/// that has completed a handshake goes on connecting.
#[test]
fn who_completed_a_handshake_still_connects_during_a_flood_of_strangers() {
    if without_root() {
        return;
    }
    let (world, _service) = world();
    let setup = Setup::default().ddos("destination_syn_pps", 20).ddos("destination_syn_burst", 20);
    let agent = Agent::start(&world, setup).unwrap();
    let held = traffic::connect(&world.server, service_address()).unwrap();
    agent
        .wait_for_status("the source was known", NOTICE, |status| {
            (status.ddos.known > 0).then_some(())
        })
        .unwrap();
    let frame = world.attacker.frame();
    let flood = Flood::start(&world.attacker, 1, 4000, move |number| {
        let source = Ipv4Addr::from_bits(0x0b00_0000 | number.wrapping_mul(2_654_435_761) >> 9);
        frame.clone().ipv4(source, WAN_V4).tcp(4000, 8080, tcp_flag::SYN).bytes()
    });
    wait::until_true("the destination was limited", NOTICE, || {
        agent.count(WAN, "xdp_drop_destination_syn").unwrap() > 1000
    })
    .unwrap();
    let (took, failed) = well_behaved(&world.server, 60);
    println!("known source: {failed} failed, p99 {:?}", quantile(&took, 99));
    assert_eq!(failed, 0);
    assert!(quantile(&took, 99) < Duration::from_millis(900), "no SYN had to be repeated");
    let victims = agent
        .wait_for_status("the victim was told", NOTICE, |status| {
            let victims = status.ddos.victims.clone();
            (!victims.is_empty()).then_some(victims)
        })
        .unwrap();
    assert_eq!(victims[0].address, IpAddr::from(WAN_V4), "{victims:?}");
    assert_eq!(victims[0].reason, "destination_syn");
    assert!(agent.status().unwrap().ddos.blocked.is_empty(), "made-up sources are not blocked");
    drop((flood.end(), held));
}

/// R54: a flood with the address of the gateway, the name server, a server that we talk to, or
/// anybody who never completed a handshake with us only meets the rate.
#[test]
fn made_up_sources_are_never_blocked() {
    if without_root() {
        return;
    }
    let (world, _service) = world();
    // The default route leads to this host, so it is gateway and partner in one.
    let gateway = world.server.v4;
    let partner = traffic::TcpService::echo(&world.server, gateway.into(), 80).unwrap();
    let setup = Setup::default().ddos("syn_pps", 10).ddos("syn_burst", 10);
    let agent = Agent::start(&world, setup).unwrap();
    let kept = traffic::connect(world.client(), partner.address()).unwrap();
    let stranger = v4("198.51.100.77");
    let frame = world.attacker.frame();
    let flood = Flood::start(&world.attacker, 1, 1000, move |number| {
        let source = if number & 4 == 0 { gateway } else { stranger };
        frame.clone().ipv4(source, WAN_V4).tcp(number as u16, 8080, tcp_flag::SYN).bytes()
    });
    // Long enough to be a repetition, many times over.
    let mut looks = 0;
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(12) {
        let ddos = agent.status().unwrap().ddos;
        assert!(ddos.blocked.is_empty(), "{ddos:?}");
        looks += usize::from(ddos.offenders.len() == 2);
        wait::pause(Duration::from_millis(500));
    }
    flood.end();
    assert!(looks > 5, "the offenders were not even seen");
    assert!(agent.count(WAN, "xdp_drop_syn_rate").unwrap() > 5000);
    assert!(world.client().ping(gateway.into()).unwrap(), "the gateway still answers");
    drop(kept);
}

/// R54, R47: who goes on and completed a handshake is blocked, it is told why, and the kernel ends
/// the block by itself.
#[test]
fn a_proven_offender_is_blocked_until_the_deadline() {
    const BLOCK_S: u64 = 4;
    if without_root() {
        return;
    }
    let (world, _service) = world();
    let setup = Setup::default()
        .ddos("syn_pps", 10)
        .ddos("syn_burst", 20)
        .ddos("block_s", BLOCK_S)
        .ddos("block_max", 1);
    let mut agent = Agent::start(&world, setup).unwrap();
    let kept = traffic::connect(&world.attacker, service_address()).unwrap();
    let attacker = world.attacker.v4;
    let frame = world.attacker.frame();
    let flood = Flood::start(&world.attacker, 1, 1000, move |number| {
        frame.clone().ipv4(attacker, WAN_V4).tcp(number as u16, 8080, tcp_flag::SYN).bytes()
    });
    let blocked = agent
        .wait_for_status("the offender was blocked", NOTICE, |status| {
            status.ddos.blocked.first().cloned()
        })
        .unwrap();
    flood.end();
    assert_eq!((blocked.entry.as_str(), blocked.reason.as_str()), ("203.0.113.66", "syn_rate"));
    assert!(blocked.left_s <= BLOCK_S, "{blocked:?}");
    let why = agent.why("203.0.113.66").unwrap();
    assert!(why.causes.iter().any(|cause| cause.by.contains("automatic")), "{:?}", why.causes);
    assert!(agent.count(WAN, "xdp_drop_host").unwrap() > 0);
    // With nobody in user space doing anything.
    agent.sigstop().unwrap();
    let ended =
        wait::until_true("the block ended", NOTICE, || world.attacker.ping(WAN_V4.into()).unwrap());
    agent.sigcont().unwrap();
    ended.unwrap();
    agent
        .wait_for_status("the block was gone", NOTICE, |status| {
            status.ddos.blocked.is_empty().then_some(())
        })
        .unwrap();
    drop(kept);
}

/// R54: what the configuration spares is not blocked, whatever it proves.
#[test]
fn a_proven_offender_that_is_spared_is_only_limited() {
    if without_root() {
        return;
    }
    let (world, _service) = world();
    let mut setup = Setup::default().ddos("syn_pps", 10).ddos("syn_burst", 20);
    setup = setup.allowlist("partners", "wan", &["203.0.113.64/29"]);
    let agent = Agent::start(&world, setup).unwrap();
    let kept = traffic::connect(&world.attacker, service_address()).unwrap();
    let attacker = world.attacker.v4;
    let frame = world.attacker.frame();
    let flood = Flood::start(&world.attacker, 1, 1000, move |number| {
        frame.clone().ipv4(attacker, WAN_V4).tcp(number as u16, 8080, tcp_flag::SYN).bytes()
    });
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(10) {
        let ddos = agent.status().unwrap().ddos;
        assert!(ddos.blocked.is_empty(), "{ddos:?}");
        wait::pause(Duration::from_millis(500));
    }
    flood.end();
    assert!(agent.count(WAN, "xdp_drop_syn_rate").unwrap() > 5000);
    drop(kept);
}

/// R51: with packets of one source on two processors at once the rate holds.
#[test]
fn the_rate_of_a_source_holds_over_processors() {
    const RATE: u64 = 1000;
    if without_root() {
        return;
    }
    let (world, _service) = world();
    let setup = Setup::default().ddos("source_pps", RATE).ddos("source_burst", RATE);
    let agent = Agent::start(&world, setup.ddos("block_s", 0)).unwrap();
    let source = v4("198.51.100.20");
    let probe = Probe::new(&world.netns, &[("arrived", "ip saddr 198.51.100.20")]).unwrap();
    let frame = world.attacker.frame();
    let flood = Flood::start(&world.attacker, 2, 20_000, move |number| {
        frame.clone().ipv4(source, WAN_V4).udp(number as u16, 9).bytes()
    });
    let (before, start) = (cpus(&world), Instant::now());
    wait::pause(Duration::from_secs(5));
    let sent = flood.end();
    let seconds = start.elapsed().as_secs_f64();
    let passed = || probe.count("arrived").unwrap();
    let dropped = || agent.count(WAN, "xdp_drop_source_rate").unwrap();
    wait::settles(Duration::from_secs(5), || passed() + dropped() >= sent);
    let by_cpu: Vec<u64> = cpus(&world).iter().zip(&before).map(|(now, then)| now - then).collect();
    let allowed = RATE as f64 * (seconds + 1.0);
    println!(
        "{sent} sent in {seconds:.2} s, {} passed of {allowed:.0}, {} dropped, packets of the whole machine by CPU {by_cpu:?}",
        passed(),
        dropped()
    );
    assert!(sent as f64 > allowed * 5.0, "too slow");
    assert!((passed() as f64) < allowed * 1.2, "{} of {allowed:.0}", passed());
    assert!((passed() as f64) > allowed * 0.8, "{} of {allowed:.0}", passed());
}

/// Processors that took packets off the network, from the kernel's own counters.
fn cpus(world: &Router) -> Vec<u64> {
    let text = world.netns.run("cat /proc/net/softnet_stat").unwrap();
    let taken = text.lines().filter_map(|line| line.split(' ').next());
    taken.map(|hex| u64::from_str_radix(hex, 16).unwrap_or(0)).collect()
}

/// R57: answers of 1,232 bytes, more of them than any other datagram of their size would get, pass;
/// a flood of answers is held to the rate whatever the size.
#[test]
fn dns_answers_pass_and_a_flood_of_answers_is_held() {
    use sluice_tests::dns::{self, Kind};
    if without_root() {
        return;
    }
    let (world, _service) = world();
    let setup = Setup::default().ddos("amplification_pps", 200).ddos("amplification_burst", 200);
    let agent = Agent::start(&world, setup).unwrap();
    let _service =
        traffic::UdpService::start(&world.server, world.server.v4.into(), 53, |question| {
            Some(dns::answer(question, usize::from(dns::EDNS_SIZE)))
        })
        .unwrap();
    for _ in 0..50 {
        let answer =
            dns::ask(world.client(), world.server.v4.into(), "big.test", Kind::Txt).unwrap();
        assert_eq!(answer.len(), usize::from(dns::EDNS_SIZE));
    }
    assert_eq!(agent.count(WAN, "xdp_drop_amplification").unwrap(), 0);
    let wire = world.attacker.injector().unwrap();
    for number in 0..2000_u32 {
        let source = Ipv4Addr::from_bits(0x0b00_0000 + number);
        let frame = world.attacker.frame().ipv4(source, WAN_V4).udp(123, 40_000);
        wire.send(&frame.payload(&[0; 468]).bytes()).unwrap();
    }
    let dropped = || agent.count(WAN, "xdp_drop_amplification").unwrap();
    wait::settles(Duration::from_secs(5), || dropped() > 1500);
    assert!(dropped() > 1500, "{}", dropped());
    // Another port is another bucket: names are still resolved.
    dns::ask(world.client(), world.server.v4.into(), "big.test", Kind::Txt).unwrap();
}

/// R55: television comes from private sources, and passes where they do not.
#[test]
fn television_passes_the_checks_and_rates_that_others_meet() {
    if without_root() {
        return;
    }
    let (world, _service) = world();
    let setup =
        Setup::default().ddos("private_sources", 1).ddos("source_pps", 10).ddos("source_burst", 10);
    let agent = Agent::start(&world, setup).unwrap();
    let probe = Probe::new(
        &world.netns,
        &[
            ("television", "ip daddr 239.1.2.3"),
            ("other", "ip saddr 10.9.9.9 ip daddr 203.0.113.1"),
        ],
    )
    .unwrap();
    let wire = world.attacker.injector().unwrap();
    let send = |destination: Ipv4Addr| {
        let frame = world.attacker.frame().ipv4(v4("10.9.9.9"), destination).udp(5000, 5000);
        wire.send(&frame.payload(&[7; 1316]).bytes()).unwrap();
    };
    for _ in 0..100 {
        send(v4("239.1.2.3"));
        send(WAN_V4);
    }
    let counts = || (probe.count("television").unwrap(), probe.count("other").unwrap());
    let dropped = || agent.count(WAN, "xdp_drop_private").unwrap();
    wait::settles(Duration::from_secs(5), || counts().0 + dropped() >= 200);
    assert_eq!((counts(), dropped()), ((100, 0), 100));
}

/// R55: behind another router private sources are neighbours, and that is said; own addresses are
/// sources nowhere outside, also those that come later.
#[test]
fn private_sources_pass_where_the_wan_is_private_and_own_ones_never() {
    if without_root() {
        return;
    }
    let (world, _service) = world();
    let setup = || Setup::default().ddos("private_sources", 1).main("sweep_s", 1);
    let agent = Agent::start(&world, setup()).unwrap();
    let wire = world.attacker.injector().unwrap();
    let send = |source: &str| {
        let frame = world.attacker.frame().ipv4(v4(source), WAN_V4).udp(5000, 9);
        wire.send(&frame.bytes()).unwrap();
    };
    let count = |counter: &str| agent.count(WAN, counter).unwrap();
    let raised = |counter: &str, source: &str| {
        let before = count(counter);
        wait::until_true(&format!("{source} raised {counter}"), NOTICE, || {
            send(source);
            wait::settles(Duration::from_millis(300), || count(counter) > before)
        })
        .unwrap();
    };
    raised("xdp_drop_private", "10.9.9.9");
    raised("xdp_drop_martian", "203.0.113.1");
    world.netns.ip("addr add 10.64.0.2/24 dev wan\n").unwrap();
    let said = agent.wait_for_status("the check was withheld", NOTICE, |status| {
        let feature = status.features.iter().find(|feature| feature.name == "private sources")?;
        feature.reasons.first().cloned()
    });
    assert!(said.unwrap().contains("10.64.0.2"));
    let before = count("xdp_drop_private");
    for _ in 0..10 {
        send("10.9.9.9");
    }
    raised("xdp_drop_martian", "10.64.0.2");
    assert_eq!(count("xdp_drop_private"), before);
}

/// R63: who tries ten ports is told once, with the ports, and nothing is done to it.
#[test]
fn a_port_scan_is_told_once_and_passes() {
    if without_root() {
        return;
    }
    let (world, _service) = world();
    let agent = Agent::start(&world, Setup::default()).unwrap();
    let probe = Probe::new(&world.netns, &[("arrived", "ip saddr 198.51.100.9 tcp flags syn")]);
    let probe = probe.unwrap();
    let wire = world.attacker.injector().unwrap();
    let knock = |source: &str, port: u16| {
        let frame = world.attacker.frame().ipv4(v4(source), WAN_V4);
        wire.send(&frame.tcp(5, port, tcp_flag::SYN).bytes()).unwrap();
    };
    for round in 0..3 {
        for port in 1..=9 {
            knock("198.51.100.8", port);
            knock("198.51.100.9", port * 7);
        }
        knock("198.51.100.9", 7000 + round);
    }
    let scanners = agent
        .wait_for_status("a scanner was told", NOTICE, |status| {
            let scanners = status.ddos.scanners.clone();
            (!scanners.is_empty()).then_some(scanners)
        })
        .unwrap();
    let [scanner] = scanners.as_slice() else { panic!("{scanners:?}") };
    assert_eq!(scanner.address, IpAddr::from(v4("198.51.100.9")), "nine ports are no scan");
    assert_eq!(scanner.ports, [7, 14, 21, 28, 35, 42, 49, 56, 63, 7000, 7001, 7002]);
    for _ in 0..5 {
        knock("198.51.100.9", 7);
        wait::pause(Duration::from_secs(1));
    }
    let log = agent.log();
    assert_eq!(log.matches("198.51.100.9 tries ports").count(), 1, "{log}");
    assert_eq!(probe.count("arrived").unwrap(), 35, "every trial passed");
    assert!(agent.status().unwrap().ddos.blocked.is_empty());
}

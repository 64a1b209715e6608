//! Floods of SYN packets that nobody means to finish: which destination is under attack, and who
//! still connects to it.

#![expect(clippy::print_stdout, reason = "what was measured")]
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsFd as _;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use sluice::sys::{bpf, rtnetlink};
use sluice_tests::agent::{Agent, Setup};
use sluice_tests::frame::tcp_flag;
use sluice_tests::host::Host;
use sluice_tests::plane::has_cookies;
use sluice_tests::router::{Build, Router, WAN, WAN_V4, WAN_V6};
use sluice_tests::skip::{skipped, without_root};
use sluice_tests::{traffic, wait};

/// Time for the agent to notice what takes it a few seconds.
const NOTICE: Duration = Duration::from_secs(30);
/// One flood at a time: they share the processors with those who should still connect.
static ALONE: Mutex<()> = Mutex::new(());
/// SYN packets a second.
const FLOOD: u32 = 1000;

/// SYN packets of made-up sources that go on until the guard is dropped.
struct Flood {
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicU32>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Flood {
    fn start(host: &Host, to: SocketAddr) -> Self {
        let (stop, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
        let (wire, frame) = (host.injector().unwrap(), host.frame());
        let shared = (Arc::clone(&stop), Arc::clone(&sent));
        let thread = std::thread::spawn(move || {
            let (stop, sent) = shared;
            let start = Instant::now();
            while !stop.load(Ordering::Relaxed) {
                let due = (start.elapsed().as_millis() as u32).saturating_mul(FLOOD) / 1000;
                for number in sent.load(Ordering::Relaxed)..due {
                    let name = number.wrapping_mul(2_654_435_761) >> 9;
                    let source = if to.is_ipv4() {
                        Ipv4Addr::from_bits(0x0b00_0000 | name).into()
                    } else {
                        let network = 0x2001_0db8_00ff_u128 << 80;
                        IpAddr::from(Ipv6Addr::from_bits(network | u128::from(name) << 64 | 1))
                    };
                    let frame = frame.clone().addresses(source, to.ip());
                    let frame = frame.tcp(number as u16 | 1024, to.port(), tcp_flag::SYN);
                    wire.send(&frame.sequence(number, 0).bytes()).unwrap();
                    sent.fetch_add(1, Ordering::Relaxed);
                }
                wait::pause(Duration::from_millis(2));
            }
        });
        Self { stop, sent, thread: Some(thread) }
    }

    fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed).into()
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // What went wrong there, the test will see by what is missing.
            let _ended = thread.join();
        }
    }
}

fn at(port: u16) -> SocketAddr {
    (IpAddr::from(WAN_V4), port).into()
}

/// How many of so many connections carry a word both ways.
fn connects(host: &Host, to: SocketAddr, times: usize) -> usize {
    let exchange = |_: &usize| {
        let stream = traffic::connect(host, to);
        let answer = stream.and_then(|mut stream| traffic::round_trip(&mut stream, b"hello", 5));
        answer.is_ok_and(|answer| answer == b"hello")
    };
    (0..times).filter(exchange).count()
}

/// R53: a destination at which handshakes wait and few are completed is under attack: strangers are
/// held to a low rate there, who completed a handshake connects undisturbed, and it ends by itself.
#[test]
fn a_destination_under_attack_is_found_and_strangers_are_held_back() {
    if without_root() {
        return;
    }
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let world = Router::new(Build::default()).unwrap();
    // Takes the better rung away.
    world.netns.sysctl("net/ipv4/tcp_timestamps", "0").unwrap();
    let _service =
        traffic::TcpService::echo(world.client(), world.client().v4.into(), 8080).unwrap();
    let setup = Setup::default().ddos("syn_validation", 1).ddos("attacked_syn_pps", 5);
    let agent = Agent::start(&world, setup.ddos("syn_backlog", 100)).unwrap();
    assert_eq!(connects(&world.server, at(8080), 3), 3);
    agent
        .wait_for_status("the source was known", NOTICE, |status| {
            (status.ddos.known > 0).then_some(())
        })
        .unwrap();
    let status = agent.status().unwrap();
    assert_eq!(status.ddos.attacked, []);
    let ladder = status.features.iter().find(|feature| feature.name == "syn validation").unwrap();
    assert_eq!((ladder.rung.as_str(), ladder.state.as_str()), ("limit", "degraded"));
    let is_why = |reason: &String| reason.contains("tcp_timestamps is 0");
    assert!(ladder.reasons.iter().any(is_why), "{ladder:?}");
    let flood = Flood::start(&world.attacker, at(8080));
    let attacked = agent
        .wait_for_status("the attack was noticed", NOTICE, |status| {
            status.ddos.attacked.first().cloned()
        })
        .unwrap();
    assert_eq!(attacked.address, IpAddr::from(WAN_V4));
    assert!(attacked.half_open >= 100, "{attacked:?}");
    let dropped = || agent.count(WAN, "xdp_drop_attacked_syn").unwrap();
    let (sent, before) = (flood.sent(), dropped());
    let start = Instant::now();
    assert_eq!(connects(&world.server, at(8080), 60), 60, "who completed a handshake");
    wait::pause(Duration::from_secs(4).saturating_sub(start.elapsed()));
    let (sent, held) = (flood.sent() - sent, dropped() - before);
    println!("{held} of {sent} SYN packets of strangers were held back");
    assert!(held as f64 > 0.9 * sent as f64, "{held} of {sent}");
    // Where many connections take long to read the next look comes later.
    agent
        .wait_for_status("the SYN packets were shown", NOTICE, |status| {
            let [shown] = status.ddos.attacked.as_slice() else { return None };
            (shown.syns > held / 2).then_some(())
        })
        .unwrap();
    let log = agent.log();
    assert_eq!(log.matches("203.0.113.1 is under attack").count(), 1, "{log}");
}

/// The router's own firewall: of its services strangers may reach one.
fn firewall(world: &Router) {
    world
        .netns
        .nft(&format!(
            "table inet guard {{
                chain input {{
                    type filter hook input priority filter; policy drop;
                    ct state {{ established, related }} accept
                    iifname \"lo\" accept
                    meta l4proto {{ icmp, icmpv6 }} accept
                    iifname \"{WAN}\" tcp dport {OPEN} accept
                }}
            }}\n"
        ))
        .unwrap();
}

const OPEN: u16 = 8443;
const CLOSED: u16 = 2222;

fn tracked(world: &Router) -> u32 {
    let path = "cat /proc/sys/net/netfilter/nf_conntrack_count";
    world.netns.run(path).unwrap().trim().parse().unwrap()
}

fn loose(world: &Router) -> String {
    world.netns.run("cat /proc/sys/net/netfilter/nf_conntrack_tcp_loose").unwrap().trim().to_owned()
}

/// R53: a service of this router under attack is answered for with cookies: strangers connect and
/// exchange data, nothing is kept for who does not, and what the firewall closes stays closed.
#[test]
fn a_service_of_the_router_under_attack_is_reached_by_strangers() {
    under_attack("native", WAN_V4.into());
}

/// R53: the same with the hook in the network stack, and IPv6.
#[test]
fn a_service_under_attack_is_reached_over_ipv6_and_the_generic_hook() {
    under_attack("generic", WAN_V6.into());
}

fn under_attack(how: &'static str, address: IpAddr) {
    if without_root() {
        return;
    }
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    if !has_cookies() {
        return skipped("needs SYN cookies for programs (6.0)");
    }
    let world = &Router::new(Build::default()).unwrap();
    // The other end of a veth takes what a native program sends back when it has one, too.
    let _taker = (how == "native").then(|| {
        let attach = || {
            let uplink = rtnetlink::device_by_name("uplink").unwrap().unwrap();
            let passes = bpf::load_constant(bpf::ProgramKind::Xdp, 2).unwrap();
            bpf::link_create(passes.as_fd(), uplink.ifindex, bpf::Hook::XdpNative).unwrap()
        };
        world.switch().enter(attach).unwrap()
    });
    firewall(world);
    let services: Vec<_> = [OPEN, CLOSED]
        .map(|port| traffic::TcpService::echo_at(&world.netns, (address, port).into()).unwrap())
        .into();
    let setup = Setup::default().xdp(how).ddos("syn_validation", 1).ddos("attacked_syn_pps", 1);
    let mut agent = Agent::start(world, setup.ddos("attacked_syn_burst", 1)).unwrap();
    let rung = agent
        .wait_for_status("the ladder was known", NOTICE, |status| {
            status.features.iter().find(|feature| feature.name == "syn validation").cloned()
        })
        .unwrap();
    assert_eq!((rung.rung.as_str(), rung.reasons.as_slice()), ("cookies", [].as_slice()));
    let before = loose(world);
    let target = SocketAddr::new(address, OPEN);
    let flood = Flood::start(&world.attacker, target);
    let attacked = agent
        .wait_for_status("the attack was noticed", NOTICE, |status| {
            status.ddos.attacked.first().filter(|attack| !attack.cookie_ports.is_empty()).cloned()
        })
        .unwrap();
    assert_eq!((attacked.address, attacked.cookie_ports.as_slice()), (address, [OPEN].as_slice()));
    assert_eq!(loose(world), "0");
    let answered = || agent.count(WAN, "xdp_syn_answered").unwrap();
    wait::until_true("cookies are sent", NOTICE, || answered() > 500).unwrap();
    let (tracked_before, answered_before) = (tracked(world), answered());
    // Strangers: nobody connected before.
    let start = Instant::now();
    assert_eq!(connects(&world.server, target, 30), 30);
    println!("{how}: 30 connections in {:?}", start.elapsed());
    let mut stream = traffic::connect(&world.server, target).unwrap();
    let large: Vec<u8> = (0..300_000_u32).map(|number| number as u8).collect();
    let back = traffic::round_trip(&mut stream, &large, large.len()).unwrap();
    assert!(back == large, "what came back differs");
    wait::pause(Duration::from_secs(3));
    let (grown, more) =
        (tracked(world).saturating_sub(tracked_before), answered() - answered_before);
    println!("{how}: {more} SYN answered with cookies, {grown} connections more");
    assert!(more > 2000, "{more}");
    assert!(u64::from(grown) < more / 10, "{grown} of {more} are kept");
    let closed = SocketAddr::new(address, CLOSED);
    assert_eq!(connects(&world.server, closed, 1), 0, "the firewall closes it");
    drop(flood);
    // What a crash leaves the next agent takes away, and knows what was there before.
    let _killed = agent.kill9().unwrap();
    assert_eq!(loose(world), "0");
    agent.start_again(world).unwrap();
    assert!(agent.log().contains("of an earlier agent are taken away"), "{}", agent.log());
    let _stopped = agent.stop().unwrap();
    assert_eq!(loose(world), before);
    assert!(!world.netns.run("nft list tables").unwrap().contains("sluice_syn"));
    drop(services);
}

/// R53: the same for a port that is translated to a host behind the router.
#[test]
fn a_translated_service_under_attack_is_reached_by_strangers() {
    if without_root() {
        return;
    }
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    if !has_cookies() {
        return skipped("needs SYN cookies for programs (6.0)");
    }
    let world = Router::new(Build::default()).unwrap();
    // What the firewall translates its input chain need not let in.
    firewall(&world);
    let service =
        traffic::TcpService::echo(world.client(), world.client().v4.into(), 8080).unwrap();
    let setup = Setup::default().xdp("generic").ddos("syn_validation", 1);
    let setup = setup.ddos("attacked_syn_pps", 1).ddos("attacked_syn_burst", 1);
    let agent = Agent::start(&world, setup).unwrap();
    let flood = Flood::start(&world.attacker, at(8080));
    agent
        .wait_for_status("cookies were sent", NOTICE, |status| {
            status.ddos.attacked.iter().any(|attack| attack.cookie_ports == [8080]).then_some(())
        })
        .unwrap();
    let answered = || agent.count(WAN, "xdp_syn_answered").unwrap();
    wait::until_true("cookies are sent", NOTICE, || answered() > 500).unwrap();
    let (tracked_before, answered_before, served) =
        (tracked(&world), answered(), service.accepted());
    assert_eq!(connects(&world.server, at(8080), 30), 30);
    assert_eq!(service.accepted() - served, 30);
    let mut stream = traffic::connect(&world.server, at(8080)).unwrap();
    let large: Vec<u8> = (0..300_000_u32).map(|number| number as u8).collect();
    let back = traffic::round_trip(&mut stream, &large, large.len()).unwrap();
    assert!(back == large, "what came back differs");
    wait::pause(Duration::from_secs(3));
    let (grown, more) =
        (tracked(&world).saturating_sub(tracked_before), answered() - answered_before);
    println!("translated: {more} SYN answered with cookies, {grown} connections more");
    assert!(more > 2000 && u64::from(grown) < more / 10, "{grown} of {more} are kept");
    drop(flood);
}

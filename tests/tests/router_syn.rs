//! Floods of SYN packets that nobody means to finish: which destination is under attack, and who
//! still connects to it.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use sluice_tests::agent::{Agent, Setup};
use sluice_tests::frame::tcp_flag;
use sluice_tests::host::Host;
use sluice_tests::router::{Build, Router, WAN, WAN_V4};
use sluice_tests::skip::without_root;
use sluice_tests::{traffic, wait};

/// Time for the agent to notice what takes it a few seconds.
const NOTICE: Duration = Duration::from_secs(30);
/// SYN packets a second.
const FLOOD: u32 = 1000;

/// SYN packets of made-up sources that go on until the guard is dropped.
struct Flood {
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicU32>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Flood {
    fn start(host: &Host, port: u16) -> Self {
        let (stop, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
        let (wire, frame) = (host.injector().unwrap(), host.frame());
        let shared = (Arc::clone(&stop), Arc::clone(&sent));
        let thread = std::thread::spawn(move || {
            let (stop, sent) = shared;
            let start = Instant::now();
            while !stop.load(Ordering::Relaxed) {
                let due = (start.elapsed().as_millis() as u32).saturating_mul(FLOOD) / 1000;
                for number in sent.load(Ordering::Relaxed)..due {
                    let source =
                        Ipv4Addr::from_bits(0x0b00_0000 | number.wrapping_mul(2_654_435_761) >> 9);
                    let frame = frame.clone().ipv4(source, WAN_V4);
                    wire.send(&frame.tcp(number as u16 | 1024, port, tcp_flag::SYN).bytes())
                        .unwrap();
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
    let world = Router::new(Build::default()).unwrap();
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
    assert_eq!(agent.status().unwrap().ddos.attacked, []);
    let flood = Flood::start(&world.attacker, 8080);
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
    let shown = agent.status().unwrap().ddos.attacked;
    assert_eq!(shown.len(), 1, "{shown:?}");
    assert!(shown[0].syns > held / 2, "{shown:?}");
    let log = agent.log();
    assert_eq!(log.matches("203.0.113.1 is under attack").count(), 1, "{log}");
}

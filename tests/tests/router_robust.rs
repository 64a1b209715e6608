//! What must not break: agents that are killed, stopped or started twice while packets come in.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use sluice_tests::agent::{Agent, Setup};
use sluice_tests::host::Host;
use sluice_tests::probe::Probe;
use sluice_tests::router::{Build, Router, WAN_V4};
use sluice_tests::skip::without_root;
use sluice_tests::traffic::{TcpService, UdpService, connect, round_trip, udp};
use sluice_tests::wait;

const LIMIT: Duration = Duration::from_secs(10);
const LISTED: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 7);

fn setup() -> Setup {
    Setup::default().blocklist("bad", &["198.51.100.7", "203.0.113.128/25"])
}

/// A listed source that never stops sending, with a count of what it has sent.
struct Flood<'a> {
    stop: &'a AtomicBool,
    sent: &'a AtomicU32,
}

impl Flood<'_> {
    fn run(&self, host: &Host) {
        let wire = host.injector().unwrap();
        let frame = host.frame().addresses(IpAddr::from(LISTED), IpAddr::from(WAN_V4));
        let bytes = frame.udp(4000, 9).payload(b"flood").bytes();
        while !self.stop.load(Ordering::Relaxed) {
            for _ in 0..16 {
                wire.send(&bytes).unwrap();
            }
            self.sent.fetch_add(16, Ordering::Relaxed);
            wait::pause(Duration::from_millis(1));
        }
    }

    /// Waits until this many more were sent.
    fn more(&self, packets: u32) {
        let goal = self.sent.load(Ordering::Relaxed) + packets;
        let start = Instant::now();
        while self.sent.load(Ordering::Relaxed) < goal && start.elapsed() < LIMIT {
            wait::pause(Duration::from_millis(1));
        }
        assert!(self.sent.load(Ordering::Relaxed) >= goal, "the flood is too slow");
    }
}

/// Runs `act` while a listed source floods the router; how many packets were sent and how many
/// arrived behind the shield.
fn under_flood(world: &Router, act: impl FnOnce(&Flood<'_>)) -> (u32, u64) {
    let probe = Probe::new(&world.netns, &[("arrived", "udp dport 9")]).unwrap();
    let (stop, sent) = (AtomicBool::new(false), AtomicU32::new(0));
    let flood = Flood { stop: &stop, sent: &sent };
    std::thread::scope(|scope| {
        scope.spawn(|| flood.run(&world.attacker));
        // A panic in `act` must not leave the scope waiting for the flood.
        let acted = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| act(&flood)));
        stop.store(true, Ordering::Relaxed);
        if let Err(panic) = acted {
            std::panic::resume_unwind(panic);
        }
    });
    (sent.load(Ordering::Relaxed), probe.count("arrived").unwrap())
}

/// R59, R127: killed and started again three times in a flood: the shield never opens.
#[test]
fn a_kill_and_a_restart_in_a_flood_let_nothing_through() {
    if without_root() {
        return;
    }
    let world = Router::new(Build::default()).unwrap();
    let mut agent = Agent::start(&world, setup()).unwrap();
    let (sent, arrived) = under_flood(&world, |flood| {
        for _ in 0..3 {
            flood.more(200);
            agent.kill9().unwrap();
            flood.more(200);
            agent.start_again(&world).unwrap();
            flood.more(200);
        }
    });
    assert_eq!(arrived, 0, "of {sent} packets of a listed source");
}

/// The instrument above sees what passes: without the list everything arrives.
#[test]
fn without_the_list_the_flood_arrives() {
    if without_root() {
        return;
    }
    let world = Router::new(Build::default()).unwrap();
    let _agent = Agent::start(&world, Setup::default()).unwrap();
    let (sent, arrived) = under_flood(&world, |flood| flood.more(200));
    assert!(arrived >= 200 && arrived <= sent.into(), "{arrived} of {sent}");
}

/// R19, R59: an agent that is stopped in a flood: what is listed stays out, what is trusted goes on.
#[test]
fn a_stopped_agent_keeps_the_shield_and_the_fast_path() {
    if without_root() {
        return;
    }
    let world = Router::new(Build::default()).unwrap();
    let mut agent = Agent::start(&world, setup().main("window_packets", 3)).unwrap();
    let echo = TcpService::echo(&world.server, world.server.v4.into(), 7).unwrap();
    let mut stream = connect(world.client(), echo.address()).unwrap();
    for _ in 0..8 {
        round_trip(&mut stream, b"hello", 5).unwrap();
    }
    let port = stream.local_addr().unwrap().port();
    agent.wait_for_flow("trusted", |flow| flow.sport == port && flow.verdict == "trusted").unwrap();
    let (sent, arrived) = under_flood(&world, |flood| {
        agent.sigstop().unwrap();
        flood.more(500);
        for _ in 0..100 {
            stream.write_all(b"still here").unwrap();
            stream.read_exact(&mut [0; 10]).unwrap();
        }
        agent.sigcont().unwrap();
    });
    assert_eq!(arrived, 0, "of {sent} packets of a listed source");
    assert!(agent.status().is_ok(), "the agent goes on");
}

/// Of agents that start at the same instant in the same place one runs, and the others say so, also
/// when a killed one has left its socket.
#[test]
fn of_agents_that_start_together_exactly_one_runs() {
    if without_root() {
        return;
    }
    let world = Router::new(Build::default()).unwrap();
    let mut agent = Agent::start(&world, setup()).unwrap();
    for _ in 0..2 {
        agent.kill9().unwrap();
        let mut rivals: Vec<_> = (0..4)
            .map(|_| {
                let mut rival = world.netns.command(agent.program());
                rival.arg("run").arg("--config").arg(agent.config());
                rival.stderr(std::process::Stdio::null()).spawn().unwrap()
            })
            .collect();
        let ended = |rivals: &mut Vec<std::process::Child>| {
            let codes = rivals.iter_mut().map(|rival| rival.try_wait().unwrap());
            codes.flatten().map(|status| status.code()).collect::<Vec<_>>()
        };
        let start = Instant::now();
        while ended(&mut rivals).len() < 3 && start.elapsed() < LIMIT {
            wait::pause(Duration::from_millis(10));
        }
        let codes = ended(&mut rivals);
        for rival in &mut rivals {
            let _ = rival.kill();
            let _ = rival.wait();
        }
        assert_eq!(codes, [Some(6); 3], "three of four are refused");
        agent.start_again(&world).unwrap();
    }
}

/// R125, R153: the configuration is read again and again in a flood: a source that is listed before
/// and after never passes, and the neighbour that is never listed always does.
#[test]
fn reloads_in_a_flood_leave_no_window() {
    if without_root() {
        return;
    }
    let world = Router::new(Build::default()).unwrap();
    let mut agent = Agent::start(&world, setup()).unwrap();
    let echo = UdpService::echo(&world.server, world.server.v4.into(), 5000).unwrap();
    let socket = udp(world.client(), echo.address()).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    let (sent, arrived) = under_flood(&world, |flood| {
        for round in 0..10 {
            let entry = format!("203.0.113.{round}");
            let lists: &[&str] = &["198.51.100.7", &entry];
            agent.reload(&Setup::default().blocklist("bad", lists)).unwrap();
            socket.send(b"ping").unwrap();
            let mut answer = [0; 4];
            assert_eq!(socket.recv(&mut answer).unwrap(), 4, "round {round}");
            flood.more(50);
        }
    });
    assert_eq!(arrived, 0, "of {sent} packets of a listed source");
}

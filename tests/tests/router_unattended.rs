//! What packets see while the agent is stopped, killed or gone, and what becomes of their flows when it
//! is back.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, TcpStream};
use std::time::Duration;

use sluice_tests::agent::{Agent, Setup};
use sluice_tests::hello::client_hello;
use sluice_tests::report::Unattended;
use sluice_tests::router::{Build, Router};
use sluice_tests::skip::without_root;
use sluice_tests::traffic::{TcpService, connect, round_trip};
use sluice_tests::wait;

const LIMIT: Duration = Duration::from_secs(10);
/// Bytes of a download.
const DOWNLOAD: usize = 4 << 20;
/// Longer than the programs wait for a heartbeat, and the queue with them.
const SILENCE: Duration = Duration::from_millis(2500);

fn setup(policy: &str) -> Setup {
    Setup::default().main("policy", policy).rule("ads", "block", &["ads.test"])
}

/// Serves what it gets back, or a download for who asks with this byte.
fn serve(mut stream: TcpStream) {
    const ASKED: u8 = b'!';
    let mut buffer = vec![0; 65536];
    while let Ok(length @ 1..) = stream.read(&mut buffer) {
        let sent = if buffer[..length] == [ASKED] {
            stream.write_all(&vec![7; DOWNLOAD])
        } else {
            stream.write_all(&buffer[..length])
        };
        if sent.is_err() {
            break;
        }
    }
}

struct World {
    services: [TcpService; 2],
    router: Router,
}

impl World {
    fn new() -> Self {
        let router = Router::new(Build::default()).unwrap();
        let services = [IpAddr::from(router.server.v4), IpAddr::from(router.server.v6)]
            .map(|like| TcpService::start(&router.server, like, 443, serve).unwrap());
        Self { services, router }
    }

    /// A new connection in each family.
    fn connect(&self) -> Option<[TcpStream; 2]> {
        let streams: Option<Vec<_>> = std::thread::scope(|scope| {
            let threads: Vec<_> = self
                .services
                .iter()
                .map(|service| {
                    scope.spawn(|| connect(self.router.client(), service.address()).ok())
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        streams?.try_into().ok()
    }

    /// Whether new connections whose hellos name `name` are answered, in both families alike.
    fn answered(&self, name: &str) -> bool {
        let answers = self.connect().unwrap().map(|mut stream| says(&mut stream, name));
        assert_eq!(answers[0], answers[1], "IPv4 and IPv6 differ about {name}");
        answers[0]
    }
}

/// Whether a hello that names `name` is answered.
fn says(stream: &mut TcpStream, name: &str) -> bool {
    stream.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    let hello = client_hello(name, 0);
    let is_answered = round_trip(stream, &hello, hello.len()).is_ok();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    is_answered
}

fn download(stream: &mut TcpStream) {
    stream.write_all(b"!").unwrap();
    stream.read_exact(&mut vec![0; DOWNLOAD]).unwrap();
}

fn port(stream: &TcpStream) -> u16 {
    stream.local_addr().unwrap().port()
}

/// Asserts what holds when an agent is back: what passed is told, flows of then are looked at and not
/// trusted, and new ones are as ever.
fn assert_looks_again(agent: &Agent, world: &World, [kept, bad]: [[TcpStream; 2]; 2]) {
    let told = |away: Unattended| (away.times == 1 && away.packets > 0).then_some(away);
    let away = agent
        .wait_for_status("the silence was told", LIMIT, |status| told(status.queue.unattended))
        .unwrap();
    assert!((2..=30).contains(&away.seconds), "{away:?}");
    assert!(agent.log().contains("passed uninspected"), "{}", agent.log());
    for mut stream in kept {
        assert!(says(&mut stream, "news.test"), "what passed before still does");
        for _ in 0..20 {
            round_trip(&mut stream, b"more", 4).unwrap();
        }
        let port = port(&stream);
        assert!(!agent.flows().unwrap().iter().any(|flow| flow.sport == port), "trusted");
    }
    assert!(agent.status().unwrap().queue.unattended.flows >= 2, "{:?}", agent.status());
    for mut stream in bad {
        assert!(!says(&mut stream, "ads.test"), "a flow of then is not inspected");
    }
    assert!(world.answered("news.test"));
    assert!(!world.answered("ads.test"));
    agent.wait_for_flow("trusted", |flow| flow.verdict == "trusted").unwrap();
}

/// R19: an agent that is stopped: with policy open packets pass after two seconds, those of flows that
/// wait for a decision and new ones, in both families; what was trusted is not held up at all.
#[test]
fn with_an_open_policy_packets_pass_a_stopped_agent_and_are_not_trusted_for_that() {
    if without_root() {
        return;
    }
    stop_and_go_on(setup("open"));
}

/// R19: when an agent was stopped and nothing passed meanwhile, nobody is condemned: what was open is
/// decided as ever.
#[test]
fn a_silence_in_which_nothing_passed_costs_no_flow_its_trust() {
    if without_root() {
        return;
    }
    let world = World::new();
    let mut agent = Agent::start(&world.router, setup("open")).unwrap();
    let open = world.connect().unwrap();
    // What ends a handshake must not lie there: who waits for it sends again.
    let waiting = || agent.status().unwrap().queue.kernel.get("waiting").copied();
    wait::until_true("nothing waited", LIMIT, || waiting() == Some(0)).unwrap();
    agent.sigstop().unwrap();
    wait::pause(SILENCE);
    agent.sigcont().unwrap();
    let told = |away: Unattended| (away.times == 1).then_some(away.packets);
    let passed = agent
        .wait_for_status("the silence was told", LIMIT, |status| told(status.queue.unattended))
        .unwrap();
    assert_eq!(passed, 0);
    for mut stream in open {
        assert!(says(&mut stream, "news.test"));
        let port = port(&stream);
        let is_it = |flow: &sluice_tests::report::Flow| flow.sport == port;
        assert_eq!(agent.wait_for_flow("decided", is_it).unwrap().verdict, "trusted");
    }
}

/// R19: without a fast path a process beside the agent does it.
#[test]
fn without_a_fast_path_a_process_beside_the_agent_lets_packets_pass() {
    if without_root() {
        return;
    }
    stop_and_go_on(setup("open").without_tc());
}

/// R19: what two interfaces say counts, whatever the agent's own option says.
#[test]
fn an_interface_has_a_policy_of_its_own() {
    if without_root() {
        return;
    }
    stop_and_go_on(setup("closed").policy("lan", "open").policy("wan", "open"));
    for zone in ["lan", "wan"] {
        let world = World::new();
        let setup = setup("open").policy(zone, "closed");
        let mut agent = Agent::start(&world.router, setup).unwrap();
        assert!(world.answered("news.test"));
        assert!(!world.answered("ads.test"));
        for kill in [false, true] {
            if kill {
                agent.kill9().unwrap();
            } else {
                agent.sigstop().unwrap();
            }
            wait::pause(SILENCE);
            assert!(world.connect().is_none(), "passed, {zone} is closed, kill: {kill}");
            if !kill {
                agent.sigcont().unwrap();
                assert!(world.answered("news.test"));
            }
        }
    }
}

fn stop_and_go_on(setup: Setup) {
    let world = World::new();
    let mut agent = Agent::start(&world.router, setup).unwrap();
    let mut waiting = world.connect().unwrap();
    assert!(!world.answered("ads.test"));
    let mut trusted = world.connect().unwrap();
    for stream in &mut trusted {
        assert!(says(stream, "news.test"));
        agent.wait_for_flow("trusted", |flow| flow.sport == port(stream)).unwrap();
    }
    download(&mut trusted[0]);
    assert_eq!(agent.status().unwrap().queue.unattended.times, 0);
    agent.sigstop().unwrap();
    trusted.iter_mut().for_each(download);
    wait::pause(SILENCE);
    waiting.iter_mut().for_each(download);
    let (kept, bad) = (world.connect().unwrap(), world.connect().unwrap());
    let mut kept = kept;
    kept.iter_mut().for_each(download);
    agent.sigcont().unwrap();
    assert_looks_again(&agent, &world, [kept, bad]);
}

/// R19: the same when it is killed, and another one comes.
#[test]
fn with_an_open_policy_packets_pass_a_killed_agent_and_are_not_trusted_for_that() {
    if without_root() {
        return;
    }
    let world = World::new();
    let mut agent = Agent::start(&world.router, setup("open")).unwrap();
    let mut waiting = world.connect().unwrap();
    agent.kill9().unwrap();
    waiting.iter_mut().for_each(download);
    wait::pause(SILENCE);
    let (mut kept, bad) = (world.connect().unwrap(), world.connect().unwrap());
    kept.iter_mut().for_each(download);
    agent.start_again(&world.router).unwrap();
    assert_looks_again(&agent, &world, [kept, bad]);
}

/// R19: with policy closed nothing new passes, neither at once nor later; what was trusted goes on.
#[test]
fn with_a_closed_policy_nothing_new_passes_a_stopped_or_killed_agent() {
    if without_root() {
        return;
    }
    let world = World::new();
    let mut agent = Agent::start(&world.router, setup("closed")).unwrap();
    for kill in [false, true] {
        let mut trusted = world.connect().unwrap();
        for stream in &mut trusted {
            assert!(says(stream, "news.test"));
            agent.wait_for_flow("trusted", |flow| flow.sport == port(stream)).unwrap();
        }
        if kill {
            agent.kill9().unwrap();
        } else {
            agent.sigstop().unwrap();
        }
        wait::pause(SILENCE);
        // Five seconds for each.
        assert!(world.connect().is_none(), "a new connection passed, kill: {kill}");
        trusted.iter_mut().for_each(download);
        if kill {
            agent.start_again(&world.router).unwrap();
        } else {
            agent.sigcont().unwrap();
        }
        assert!(world.answered("news.test"));
        assert_eq!(agent.status().unwrap().queue.unattended.times, 0);
    }
}

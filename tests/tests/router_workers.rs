//! Several workers: each flow has one, in order, both ways; what they keep is bounded together; and one
//! that hangs does not look alive.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use sluice_tests::agent::{Agent, Setup};
use sluice_tests::hello::client_hello;
use sluice_tests::report::Flow;
use sluice_tests::router::{Build, Router};
use sluice_tests::service::{self, Family, curl, fetched};
use sluice_tests::skip::without_root;
use sluice_tests::traffic::{TcpService, UdpService, round_trip};
use sluice_tests::wait;

const LIMIT: Duration = Duration::from_secs(60);
const WORKERS: [u16; 3] = [1, 2, 4];
/// Addresses of one client, so many that they spread over four queues.
const SOURCES: std::ops::Range<u8> = 100..124;

fn setup(workers: u16) -> Setup {
    Setup::default().main("queues", 4).main("workers", workers)
}

fn source(last: u8) -> IpAddr {
    IpAddr::from([192, 168, 77, last])
}

/// A router whose client has many addresses.
fn world() -> Router {
    let world = Router::new(Build::default()).unwrap();
    let addresses: Vec<String> = SOURCES.map(|last| format!("{}/24", source(last))).collect();
    let addresses: Vec<&str> = addresses.iter().map(String::as_str).collect();
    world.client().add_addresses(&addresses).unwrap();
    world
}

/// Packets that came to each queue so far.
fn queued(world: &Router) -> Vec<u32> {
    let table = world.netns.run("cat /proc/net/netfilter/nfnetlink_queue").unwrap();
    let totals = table.lines().filter_map(|line| line.split_whitespace().nth(7)?.parse().ok());
    totals.collect()
}

/// R17: with four queues and one, two and four workers the packets of every flow arrive in the order in
/// which they were sent, both ways.
#[test]
fn every_flow_keeps_its_order_with_any_number_of_workers() {
    const PACKETS: u16 = 200;
    if without_root() {
        return;
    }
    let world = world();
    let client = world.client();
    for workers in WORKERS {
        // All of them are looked at.
        let setup = setup(workers).main("window_packets", 1000);
        let mut agent = Agent::start(&world, setup).unwrap();
        let echo = UdpService::echo(&world.server, world.server.v4.into(), 7008).unwrap();
        let sockets: Vec<UdpSocket> = SOURCES
            .map(|last| {
                let bind = || UdpSocket::bind(SocketAddr::new(source(last), 0));
                let socket = client.netns.enter(bind).unwrap().unwrap();
                socket.connect(echo.address()).unwrap();
                socket.set_read_timeout(Some(LIMIT)).unwrap();
                socket
            })
            .collect();
        let mut sent = 0;
        for number in 0..PACKETS {
            for (flow, socket) in (0_u8..).zip(&sockets) {
                let [high, low] = number.to_be_bytes();
                socket.send(&[flow, high, low]).unwrap();
                sent += 1;
            }
            // The first of a flow alone, or conntrack takes the next for another connection that wants
            // the same translation, and drops it. Then less than what the socket of the server holds.
            if number == 0 || number % 5 == 4 {
                let all = || echo.count() == sent;
                let came = wait::until_true("arrival", LIMIT, all);
                let queue = || agent.status().unwrap().queue;
                assert!(came.is_ok(), "{} of {sent}, {workers}: {:?}", echo.count(), queue());
            }
        }
        let mut next = vec![0; sockets.len()];
        for datagram in echo.seen() {
            let [flow, high, low] = datagram[..] else { panic!("{datagram:?}") };
            let expected = &mut next[usize::from(flow)];
            assert_eq!(u16::from_be_bytes([high, low]), *expected, "flow {flow}, {workers}");
            *expected += 1;
        }
        for (flow, socket) in (0_u8..).zip(&sockets) {
            for number in 0..PACKETS {
                let mut answer = [0; 3];
                assert_eq!(socket.recv(&mut answer).unwrap(), 3);
                let [high, low] = number.to_be_bytes();
                assert_eq!(answer, [flow, high, low], "answers of flow {flow}, {workers}");
            }
        }
        let queue = agent.status().unwrap().queue;
        assert_eq!(queue.workers, u64::from(workers));
        assert!(queue.engine["packets"] >= u64::from(2 * sent), "{queue:?}");
        let queued = queued(&world);
        assert!(queued.iter().filter(|count| **count > 0).count() >= 3, "{queued:?}");
        agent.stop().unwrap();
    }
}

/// R17: what a client says and what its server answers are seen by one worker, also behind translation:
/// a flow has the fingerprints of both.
#[test]
fn both_directions_of_a_flow_reach_one_worker() {
    const NOBODY: &str = "0000000000000000000000000000000000000000";
    if without_root() {
        return;
    }
    let world = world();
    let (_dns, _web) = service::named(&world, &["plain.test"]).unwrap();
    let mut setup = setup(4);
    setup.more = setup.more.section("rule", "server").option("action", "observe");
    setup.more = setup.more.list("certificate", &[NOBODY]);
    let agent = Agent::start(&world, setup).unwrap();
    for last in SOURCES.take(8) {
        let mut command = curl(world.client(), Family::V4, "https://plain.test/", LIMIT);
        command.args(["--tls-max", "1.2", "--interface", &source(last).to_string()]);
        let fetched = fetched(command).unwrap();
        assert!(fetched.is_success(), "{fetched:?}");
        let is_it = |flow: &Flow| flow.src == source(last) && flow.dport == 443;
        let flow = agent.wait_for_flow("decided", is_it).unwrap();
        let has_both = flow.ja3.is_some() && flow.ja3s.is_some() && flow.certificate.is_some();
        assert!(has_both && flow.sni.as_deref() == Some("plain.test"), "{flow:?}");
    }
    let queued = queued(&world);
    assert!(queued.iter().filter(|count| **count > 10).count() >= 2, "{queued:?}");
}

/// R17, R32: flows under inspection are bounded for all workers together.
#[test]
fn workers_share_the_limits_of_inspection() {
    const FLOWS: u64 = 400;
    if without_root() {
        return;
    }
    let world = world();
    let agent = Agent::start(&world, setup(4).main("inspect_flows", FLOWS)).unwrap();
    let client = world.client();
    let wire = client.injector().unwrap();
    let inspecting = || agent.status().unwrap().queue.inspecting;
    let mut most = 0;
    for round in 0..40_u16 {
        for last in SOURCES {
            let frame = client.frame().addresses(source(last), IpAddr::from(world.server.v4));
            for port in 0..4 {
                let port = 1024 + 4 * round + port;
                wire.send(&frame.clone().udp(port, 9).payload(b"?").bytes()).unwrap();
            }
        }
        most = most.max(inspecting());
    }
    let evicted = || agent.status().unwrap().queue.engine["undecided_memory"];
    // A flow that is given up in silence leaves nothing but this count.
    wait::until_true("flows were given up", LIMIT, || evicted() > 1000).unwrap();
    most = most.max(inspecting());
    assert!((FLOWS * 3 / 4..=FLOWS).contains(&most), "{most} under inspection");
}

/// Holds one thread of another process while it lives.
struct Frozen(libc::pid_t);

impl Frozen {
    /// The worker with this number.
    fn worker(agent: &Agent, number: usize) -> Self {
        let tasks = format!("/proc/{}/task", agent.pid());
        let is_it = |task: &std::fs::DirEntry| {
            let name = std::fs::read_to_string(task.path().join("comm")).unwrap_or_default();
            name.trim() == format!("sluice-queue{number}")
        };
        let tasks = std::fs::read_dir(tasks).unwrap().map(Result::unwrap);
        let task = tasks.filter(is_it).last().unwrap().file_name();
        let thread: libc::pid_t = task.to_str().unwrap().parse().unwrap();
        let null = std::ptr::null_mut::<libc::c_void>;
        // SAFETY: these requests take numbers only, and no memory of this process is touched.
        let done = unsafe {
            libc::ptrace(libc::PTRACE_SEIZE, thread, null(), null()) == 0
                && libc::ptrace(libc::PTRACE_INTERRUPT, thread, null(), null()) == 0
        };
        assert!(done, "hold thread {thread}: {}", std::io::Error::last_os_error());
        Self(thread)
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        let null = std::ptr::null_mut::<libc::c_void>;
        // A thread has to have come to rest before it can be let go.
        // SAFETY: the thread is one that this thread traces; nothing is written but a status nobody asks for.
        unsafe {
            libc::waitpid(self.0, std::ptr::null_mut(), libc::__WALL);
            libc::ptrace(libc::PTRACE_DETACH, self.0, null(), null());
        }
    }
}

/// Whether a hello from one of the client's addresses is answered; the port that it was sent from.
fn says(world: &Router, server: SocketAddr, last: u8, name: &str) -> (bool, u16) {
    let client = world.client();
    // The address is the router's to translate, and the client's to choose.
    let connect = || {
        let socket = nix::sys::socket::socket(
            nix::sys::socket::AddressFamily::Inet,
            nix::sys::socket::SockType::Stream,
            nix::sys::socket::SockFlag::SOCK_CLOEXEC,
            None,
        )?;
        let IpAddr::V4(from) = source(last) else { return Err(nix::Error::EAFNOSUPPORT) };
        let from = nix::sys::socket::SockaddrIn::from(std::net::SocketAddrV4::new(from, 0));
        nix::sys::socket::bind(std::os::fd::AsRawFd::as_raw_fd(&socket), &from)?;
        let SocketAddr::V4(to) = server else { return Err(nix::Error::EAFNOSUPPORT) };
        let to = nix::sys::socket::SockaddrIn::from(to);
        nix::sys::socket::connect(std::os::fd::AsRawFd::as_raw_fd(&socket), &to)?;
        Ok(TcpStream::from(socket))
    };
    let mut stream = client.netns.enter(connect).unwrap().unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    let port = stream.local_addr().unwrap().port();
    let hello = client_hello(name, 0);
    (round_trip(&mut stream, &hello, hello.len()).is_ok(), port)
}

/// R17, R19: while one of two workers hangs, the agent does not look alive: packets pass, and no flow is
/// trusted for that. The control socket answers, and afterwards everything is as ever.
#[test]
fn a_worker_that_hangs_stops_the_heartbeat() {
    if without_root() {
        return;
    }
    let world = world();
    let setup = setup(2).rule("ads", "block", &["ads.test"]);
    let agent = Agent::start(&world, setup).unwrap();
    let echo = TcpService::echo(&world.server, world.server.v4.into(), 443).unwrap();
    let answered = |last, name| says(&world, echo.address(), last, name);
    for last in SOURCES.take(4) {
        assert!(!answered(last, "ads.test").0 && answered(last, "news.test").0);
    }
    assert_eq!(agent.status().unwrap().queue.unattended.times, 0);
    let frozen = Frozen::worker(&agent, 1);
    wait::pause(Duration::from_millis(2500));
    let passed: Vec<u16> = SOURCES
        .map(|last| answered(last, "ads.test"))
        .map(|(is_answered, port)| {
            assert!(is_answered, "nobody would ever look at it");
            port
        })
        .collect();
    assert_eq!(agent.status().unwrap().queue.unattended.times, 0, "it is not over");
    drop(frozen);
    let packets = agent.wait_for_status("the silence was told", LIMIT, |status| {
        let away = status.queue.unattended;
        (away.times > 0).then_some(away.packets)
    });
    assert!(packets.unwrap() > 0);
    let flows = agent.flows().unwrap();
    let is_trusted =
        |port: &u16| flows.iter().any(|flow| flow.sport == *port && flow.verdict == "trusted");
    assert!(!passed.iter().any(is_trusted), "{flows:?}");
    for last in SOURCES.take(4) {
        assert!(!answered(last, "ads.test").0 && answered(last, "news.test").0);
    }
}

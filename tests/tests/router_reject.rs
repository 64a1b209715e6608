//! Flows that are rejected or marked on a router.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use sluice_tests::agent::{Agent, Setup};
use sluice_tests::directory::Directory;
use sluice_tests::hello::client_hello;
use sluice_tests::host::mac_text;
use sluice_tests::probe::Probe;
use sluice_tests::report::Flow;
use sluice_tests::router::{Build, Router};
use sluice_tests::service::{Dns, Family, Web, fetch, page};
use sluice_tests::skip::without_root;
use sluice_tests::traffic::{TcpService, UdpService, connect, echoed, round_trip, udp};
use sluice_tests::wait;

/// Limit of what works, and of what would end by a time-out.
const LIMIT: Duration = Duration::from_secs(10);
/// Longest time until a client knows that it is rejected, on an emulated machine with much else to do too. Who is
/// told nothing waits for [`LIMIT`].
const AT_ONCE: Duration = Duration::from_secs(4);

/// A router with rules, each a name and its options in words.
fn with_rules(rules: &[(&str, &str)]) -> Setup {
    let mut setup = Setup::default();
    for (name, options) in rules {
        setup.more = setup.more.section("rule", name);
        let words: Vec<&str> = options.split(' ').collect();
        for pair in words.chunks(2) {
            let [option, value] = pair else { continue };
            setup.more = match *option {
                "action" | "profile" => setup.more.option(option, value),
                _ => setup.more.list(option, &[value]),
            };
        }
    }
    setup
}

/// Runs `act`, which must not take its time.
fn at_once<T>(what: &str, act: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let done = act();
    assert!(start.elapsed() < AT_ONCE, "{what}: {:?}", start.elapsed());
    done
}

/// Both families of the server's address.
fn families(world: &Router) -> [(Family, IpAddr); 2] {
    [(Family::V4, world.server.v4.into()), (Family::V6, world.server.v6.into())]
}

/// R169: who opens a flow that its ends reject is told at once, over IPv4 and IPv6.
#[test]
fn a_first_packet_is_rejected_at_once() {
    if without_root() {
        return;
    }
    let world = Router::new(Build::default()).unwrap();
    let rules = [("ports", "action reject port tcp/7001 port udp/7002")];
    let agent = Agent::start(&world, with_rules(&rules)).unwrap();
    let client = world.client();
    for (family, like) in families(&world) {
        let closed = TcpService::echo(&world.server, like, 7001).unwrap();
        let refused = at_once("SYN", || connect(client, closed.address())).unwrap_err();
        assert!(refused.to_string().contains("refused"), "{refused}");
        assert_eq!(closed.accepted(), 0, "nothing reached the server");

        let socket = udp(client, (like, 7002).into()).unwrap();
        let told = at_once("datagram", || {
            socket.send(b"ask").unwrap();
            socket.recv(&mut [0; 8]).unwrap_err().kind()
        });
        // What Linux makes of "prohibited by administration".
        let expected = match family {
            Family::V4 => ErrorKind::HostUnreachable,
            Family::V6 => ErrorKind::PermissionDenied,
        };
        assert_eq!(told, expected);
        let echo = UdpService::echo(&world.server, like, 7003).unwrap();
        let other = udp(client, echo.address()).unwrap();
        other.send(b"ask").unwrap();
        assert_eq!(other.recv(&mut [0; 8]).unwrap(), 3);
    }
    assert_eq!(told(&agent), [4, 0, 0]);
}

/// Answers that were sent, held back, refused.
fn told(agent: &Agent) -> [u64; 3] {
    let engine = agent.status().unwrap().queue.engine;
    ["told", "held back", "failed"].map(|name| engine[&format!("rejects {name}")])
}

/// R169: the client of a rejected name is told at once, by what its program understands, behind
/// address translation (IPv4) and without; the server's end is closed; other names go on.
#[test]
fn both_ends_of_a_rejected_name_are_told_at_once() {
    static RESETS: AtomicU32 = AtomicU32::new(0);
    if without_root() {
        return;
    }
    let names = ["ads.test", "plain.test"];
    let world = Router::new(Build::default()).unwrap();
    let _dns = Dns::start(&world, &names).unwrap();
    let _web = Web::start(&world.server, &names).unwrap();
    let agent =
        Agent::start(&world, with_rules(&[("names", "action reject domain ads.test")])).unwrap();
    let client = world.client();
    for (family, like) in families(&world) {
        let get = |url: &str| fetch(client, family, url, LIMIT).unwrap();
        let tls = at_once("TLS", || get("https://ads.test/"));
        assert!(tls.exit == 35 && tls.error.contains("alert access denied"), "{tls:?}");
        let http = at_once("HTTP", || get("http://ads.test/"));
        assert!(http.exit == 56 && http.error.contains("reset by peer"), "{http:?}");
        assert!(get("https://plain.test/").is_success());

        let before = RESETS.load(Ordering::Relaxed);
        let service = TcpService::start(&world.server, like, 7004, |mut stream| {
            let read = stream.read(&mut [0; 64]);
            if read.is_err_and(|error| error.kind() == ErrorKind::ConnectionReset) {
                RESETS.fetch_add(1, Ordering::Relaxed);
            }
        })
        .unwrap();
        let mut stream = connect(client, service.address()).unwrap();
        wait::until_true("it is accepted", LIMIT, || service.accepted() == 1).unwrap();
        stream.write_all(&client_hello("ads.test", 0)).unwrap();
        let mut answer = Vec::new();
        at_once("the stream ends", || stream.read_to_end(&mut answer)).unwrap();
        assert_eq!(answer, [21, 3, 3, 0, 2, 2, 49]);
        wait::until_true("the server is reset", AT_ONCE, || {
            RESETS.load(Ordering::Relaxed) > before
        })
        .unwrap();
        let port = stream.local_addr().unwrap().port();
        let flow = agent.wait_for_flow("blocked", |flow| flow.sport == port).unwrap();
        assert_eq!((flow.verdict.as_str(), flow.rule.as_deref()), ("blocked", Some("names")));
    }
    assert_eq!(told(&agent), [12, 0, 0]);
}

/// R169: who comes from outside gets no answer by a first packet, and floods get few.
#[test]
fn strangers_are_not_answered_and_a_flood_gets_few_answers() {
    if without_root() {
        return;
    }
    let world = Router::new(Build::default()).unwrap();
    let agent = Agent::start(&world, with_rules(&[("ports", "action reject port 7001")])).unwrap();
    let service = TcpService::echo(world.client(), world.client().v6.into(), 7001).unwrap();
    let start = Instant::now();
    assert!(connect(&world.server, service.address()).is_err());
    assert!(start.elapsed() >= AT_ONCE, "it was told");
    assert_eq!(told(&agent), [0; 3]);
    let to = (world.server.v4, 7001).into();
    for _ in 0..600 {
        udp(world.client(), to).unwrap().send(b"ask").unwrap();
    }
    let limit = |status: &sluice_tests::report::Status| {
        let engine = &status.queue.engine;
        // Some take a port again that is blocked by then.
        (engine["rejects told"] + engine["rejects held back"] >= 500).then_some(())
    };
    agent.wait_for_status("all were judged", LIMIT, |status| limit(&status.clone())).unwrap();
    // A burst, and what comes with the seconds that this took.
    let most = 200 + 100 * (start.elapsed().as_secs() + 1);
    assert!((200..=most).contains(&told(&agent)[0]), "{:?}", told(&agent));
}

/// R169: a rule that marks lets flows pass with the code point of its profile; the bits of ECN stay.
#[test]
fn a_marked_flow_has_the_code_point_of_its_profile_and_keeps_ecn() {
    if without_root() {
        return;
    }
    let names = ["call.test", "plain.test"];
    let world = Router::new(Build::default()).unwrap();
    let _dns = Dns::start(&world, &names).unwrap();
    let _web = Web::start(&world.server, &names).unwrap();
    for host in [world.client(), &world.server] {
        host.netns.run("sysctl -q -w net.ipv4.tcp_ecn=1").unwrap();
    }
    let setup = with_rules(&[("calls", "action mark profile voice domain call.test")]);
    let agent = Agent::start(&world, setup).unwrap();
    let rules = [("v4", "ip"), ("v6", "ip6")].map(|(name, family)| {
        (name.to_owned(), format!("tcp sport 443 {family} dscp ef {family} ecn ect0"))
    });
    let rules: Vec<_> = rules.iter().map(|(name, rule)| (&**name, &**rule)).collect();
    let probe = Probe::new(&world.client().netns, &rules).unwrap();
    for (family, counter) in [(Family::V4, "v4"), (Family::V6, "v6")] {
        for (name, is_marked) in [("call.test", true), ("plain.test", false)] {
            let before = probe.count(counter).unwrap();
            let url = format!("https://{name}{}", page::MIB);
            let fetched = fetch(world.client(), family, &url, LIMIT).unwrap();
            assert!(fetched.is_success(), "{fetched:?}");
            let is_it = |flow: &Flow| flow.sport == fetched.port;
            let flow = agent.wait_for_flow("decided", is_it).unwrap();
            let rule = is_marked.then_some("calls");
            assert_eq!((flow.verdict.as_str(), flow.rule.as_deref()), ("trusted", rule));
            let more = probe.count(counter).unwrap() - before;
            assert_eq!(more > 700, is_marked, "{family:?} {name}: {more}");
            assert!(is_marked || more == 0, "{more}");
        }
    }
}

/// R68: the profile of a flow is chosen by its application, its port or its device as well.
#[test]
fn applications_ports_and_devices_give_flows_their_profile() {
    const TURNS: usize = 40;
    if without_root() {
        return;
    }
    let world = Router::new(Build { clients: 2, ..Build::default() }).unwrap();
    let tablet = format!("action mark profile bulk device {}", mac_text(world.clients[1].mac));
    let rules = with_rules(&[
        ("film", "action mark profile video app films"),
        ("phone", "action mark profile voice port udp/5004"),
        ("tablet", &tablet),
    ]);
    let directory = Directory::new("profiles").unwrap();
    let classes = directory.write("apps", "films: film.test\n").unwrap();
    let agent = Agent::start(&world, rules.main("app_file", classes.display())).unwrap();
    let like = IpAddr::from(world.server.v4);
    let tls = TcpService::echo(&world.server, like, 443).unwrap();
    let echo = |port| UdpService::echo(&world.server, like, port).unwrap();
    let (phone, other) = (echo(5004), echo(5005));
    let probe = Probe::new(
        &world.server.netns,
        &[
            ("video", "ip dscp af41"),
            ("voice", "ip dscp ef"),
            ("bulk", "ip dscp cs1"),
            ("none", "meta l4proto { tcp, udp } ip dscp cs0"),
        ],
    )
    .unwrap();
    let counts = || ["video", "voice", "bulk", "none"].map(|name| probe.count(name).unwrap());
    let talk = |client: usize, service: &UdpService| {
        let socket = udp(&world.clients[client], service.address()).unwrap();
        let talk = |turns| {
            for _ in 0..turns {
                echoed(&socket, b"hello").unwrap();
            }
        };
        // More than a window. A flow that its first packet decided has its other key a moment later.
        talk(11);
        let port = socket.local_addr().unwrap().port();
        let has_both = |flow: &Flow| flow.sport == port && flow.nat_reply.is_some();
        agent.wait_for_flow("with both keys", has_both).unwrap();
        talk(TURNS);
    };
    let browse = |name: &str| {
        let mut stream = connect(world.client(), tls.address()).unwrap();
        for message in [client_hello(name, 0)].into_iter().chain(vec![vec![b'?'; 64]; TURNS]) {
            round_trip(&mut stream, &message, message.len()).unwrap();
        }
    };
    let flows: [(&str, &dyn Fn()); 5] = [
        ("video", &|| browse("film.test")),
        ("voice", &|| talk(0, &phone)),
        ("bulk", &|| talk(1, &other)),
        ("none", &|| talk(0, &other)),
        ("none", &|| browse("plain.test")),
    ];
    for (expected, flow) in flows {
        let before = counts();
        flow();
        for ((name, now), then) in
            ["video", "voice", "bulk", "none"].iter().zip(counts()).zip(before)
        {
            let more = now - then;
            // The first few, until the decision, are as they were sent.
            let is_right = if *name == expected { more >= 30 } else { more < 20 };
            assert!(is_right, "{expected}: {more} of {name}");
        }
    }
}

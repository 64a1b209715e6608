//! What a person decides: written into the configuration as a person would have written it, in force
//! at once, and gone without a trace when it is taken back.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use serde_json::{Value as Json, json};
use sluice::ubus::message::Status;
use sluice_tests::agent::{Agent, Setup};
use sluice_tests::bus::Bus;
use sluice_tests::caller::{Answer, Caller};
use sluice_tests::host::mac_text;
use sluice_tests::router::{Build, LAN_V4, Router};
use sluice_tests::service::{Dns, Family, Web, fetch};
use sluice_tests::skip::without_root;
use sluice_tests::traffic::{TcpService, connect, round_trip};
use sluice_tests::wait;

/// Emulated and shared machines are slow.
const LIMIT: Duration = Duration::from_secs(120);
/// Time for a connection that is blocked.
const BLOCKED: Duration = Duration::from_secs(3);

fn call(bus: &Bus, method: &str, arguments: Json) -> Answer {
    let mut caller = Caller::connect(bus.path()).unwrap();
    caller.call("sluice", method, &arguments).unwrap()
}

/// Calls what must work and gives the section.
#[track_caller]
fn decide(bus: &Bus, method: &str, arguments: Json) -> String {
    let answer = call(bus, method, arguments);
    assert_eq!(answer.status, Status::Ok, "{answer:?}");
    answer.json()["section"].as_str().unwrap().to_owned()
}

/// Calls what must be refused and gives the reason.
#[track_caller]
fn refused(bus: &Bus, method: &str, arguments: Json) -> String {
    let answer = call(bus, method, arguments);
    assert_eq!(answer.status, Status::Unknown, "{answer:?}");
    answer.json()["error"].as_str().unwrap().to_owned()
}

fn start(router: &Router, setup: Setup) -> (Agent, Bus) {
    let socket = router.directory.path().join("ubus.sock");
    let bus = Bus::start(&socket).unwrap();
    let setup = setup.main("ubus", socket.display()).main("clock", "trust");
    let agent = Agent::start(router, setup).unwrap();
    wait::until_true("the object was offered", LIMIT, || bus.objects() == ["sluice"]).unwrap();
    (agent, bus)
}

fn text(agent: &Agent) -> String {
    std::fs::read_to_string(agent.config()).unwrap()
}

/// R151, R187: what is allowed or denied is a section of the file and in force; taken back, the file is
/// byte by byte what it was. What would lock out, or cannot be read, is refused and changes nothing.
#[test]
fn what_is_decided_is_written_in_force_and_taken_back_without_a_trace() {
    if without_root() {
        return;
    }
    let router = Router::new(Build::default()).unwrap();
    let names = ["news.test", "ads.test"];
    let _dns = Dns::start(&router, &names).unwrap();
    let _web = Web::start(&router.server, &names).unwrap();
    let bad = router.attacker.v4;
    let echo = TcpService::echo(&router.attacker, bad.into(), 7).unwrap();
    let list = bad.to_string();
    let setup = Setup::default().rule("no_ads", "block", &["ads.test"]).blocklist("bad", &[&list]);
    let (mut agent, bus) = start(&router, setup);
    let commented = format!("# mine, and it stays\n{}", text(&agent));
    std::fs::write(agent.config(), &commented).unwrap();
    let get = |name: &str, limit| {
        fetch(router.client(), Family::V4, &format!("http://{name}/"), limit).unwrap().is_success()
    };
    let reaches = |limit| {
        let to: SocketAddr = echo.address();
        let client = router.client();
        client.netns.enter(|| std::net::TcpStream::connect_timeout(&to, limit)).unwrap().is_ok()
    };

    // A name that a rule blocks: for this device, and only as a rule that is more particular.
    assert!(!get("ads.test", BLOCKED));
    let device = mac_text(router.client().mac);
    let allowed = decide(&bus, "allow", json!({"subject": "ads.test", "device": device}));
    assert!(allowed.starts_with("by_hand_allow_ads_test_"), "{allowed}");
    assert!(text(&agent).starts_with(&commented), "{}", text(&agent));
    assert!(get("ads.test", LIMIT));
    assert_eq!(decide(&bus, "forget", json!({"section": allowed})), allowed);
    assert_eq!(text(&agent), commented);
    assert!(!get("ads.test", BLOCKED));

    // An address that a list has: lifted for everyone, until a time that comes.
    assert!(!reaches(BLOCKED));
    let why = refused(&bus, "allow", json!({"subject": list, "device": device}));
    assert!(why.contains("blocklist bad, which counts for every device"), "{why}");
    let lifted = decide(&bus, "allow", json!({"subject": list, "device": "", "seconds": 8}));
    assert!(text(&agent).contains(&format!("config allowlist '{lifted}'")));
    assert!(reaches(LIMIT));
    wait::until_true("the time was over", LIMIT, || !reaches(BLOCKED)).unwrap();
    // The section is swept with the next write, and never alone.
    assert!(text(&agent).contains(&lifted));

    assert!(get("news.test", LIMIT));
    let denied = decide(&bus, "deny", json!({"subject": "news.test"}));
    assert!(!text(&agent).contains(&lifted));
    assert!(!get("news.test", BLOCKED));
    let allowed = agent.ask(&["allow", "news.test"]).unwrap();
    assert_eq!(allowed, "section by_hand_allow_news_test is written and in force\n");
    assert!(!text(&agent).contains(&denied));
    assert!(get("news.test", LIMIT));
    assert_eq!(
        agent.ask(&["forget", "by_hand_allow_news_test"]).unwrap(),
        "section by_hand_allow_news_test is taken away\n"
    );

    // A block without an end outlives the agent.
    agent.ask(&["block", "198.51.100.0/24"]).unwrap();
    assert!(text(&agent).contains("config blocklist 'by_hand'\n\tlist entry '198.51.100.0/24'\n"));
    agent.stop().unwrap();
    agent.start_again(&router).unwrap();
    assert_eq!(agent.why("198.51.100.7").unwrap().causes[0].by, "blocklist by_hand");
    agent.ask(&["unblock", "198.51.100.0/24"]).unwrap();
    assert!(agent.why("198.51.100.7").unwrap().causes.is_empty());
    assert_eq!(text(&agent), commented);
    wait::until_true("the object was back", LIMIT, || bus.objects() == ["sluice"]).unwrap();

    for (method, arguments, reason) in [
        ("deny", json!({"subject": LAN_V4.to_string()}), "an address of"),
        ("deny", json!({"subject": "0.0.0.0/0"}), "wider than"),
        ("deny", json!({"subject": "x\u{1b}[2J"}), "neither a domain"),
        ("deny", json!({"subject": "x.test", "device": "laptop"}), "laptop is not"),
        ("forget", json!({"section": "main"}), "was not made by hand"),
        ("forget", json!({"section": "by_hand_x"}), "there is no section"),
        ("resume", json!({"device": device}), "is not paused"),
        ("pause", json!({"device": LAN_V4.to_string()}), "an address of"),
    ] {
        let why = refused(&bus, method, arguments.clone());
        assert!(why.contains(reason), "{method} {arguments}: {why}");
    }
    assert_eq!(text(&agent), commented);
    let broken = commented.replace("option role 'wan'", "option role 'up'");
    assert_ne!(broken, commented);
    std::fs::write(agent.config(), &broken).unwrap();
    let generation = agent.status().unwrap().generation;
    let why = refused(&bus, "deny", json!({"subject": "x.test"}));
    assert!(why.contains("sluice.wan.role: 'up' is not one of"), "{why}");
    assert_eq!((text(&agent), agent.status().unwrap().generation), (broken, generation));

    // R150: more memory than is allowed is refused before any map is made.
    let more = "\toption memory_kib '1024'\n\toption pin_dir";
    let narrow = commented.replacen("\toption pin_dir", more, 1);
    assert_ne!(narrow, commented);
    std::fs::write(agent.config(), &narrow).unwrap();
    let why = refused(&bus, "reload", json!({}));
    assert!(why.contains("KiB are needed, 1024 are allowed: "), "{why}");
    assert_eq!(agent.status().unwrap().generation, generation);
    agent.stop().unwrap();
    assert!(agent.start_again(&router).is_err());
    assert!(!agent.pins().exists(), "{}", agent.log());
}

/// R171, R154: a paused device gets nothing more, also on connections that are going on, in both
/// families and against rules that allow; then they go on. Who manages the router is not paused.
#[test]
fn a_pause_stops_what_is_going_on_and_it_goes_on_after() {
    if without_root() {
        return;
    }
    let router = Router::new(Build { clients: 2, ..Build::default() }).unwrap();
    let managing = &router.clients[1];
    let device = mac_text(router.client().mac);
    // More particular than a pause would be by its rank.
    let setup = Setup::default().main("management", managing.v4);
    let (agent, bus) = start(&router, setup);
    let server = &router.server;
    let services: Vec<_> = [IpAddr::from(server.v4), server.v6.into()]
        .map(|address| TcpService::echo(server, address, 7).unwrap())
        .into();
    decide(&bus, "allow", json!({"subject": server.v4.to_string(), "device": device}));
    let mut streams: Vec<_> = services
        .iter()
        .map(|service| {
            let mut stream = connect(router.client(), service.address()).unwrap();
            for _ in 0..12 {
                round_trip(&mut stream, &[b'x'; 1000], 1000).unwrap();
            }
            stream
        })
        .collect();
    let mut other = connect(managing, services[0].address()).unwrap();
    round_trip(&mut other, b"x", 1).unwrap();

    let before = text(&agent);
    // Whoever is called by one of its addresses is meant with all of them.
    let address = json!({"device": router.client().v4.to_string()});
    let section = decide(&bus, "pause", address.clone());
    let paused = Instant::now();
    for stream in &mut streams {
        stream.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
        assert!(round_trip(stream, b"x", 1).is_err());
        stream.set_read_timeout(Some(LIMIT)).unwrap();
    }
    println!("stopped, looked at for {} ms", paused.elapsed().as_millis());
    round_trip(&mut other, b"x", 1).unwrap();
    let flow = agent.wait_for_flow("paused", |flow| flow.reason == "paused").unwrap();
    assert_eq!((flow.verdict.as_str(), flow.rule.as_deref()), ("blocked", Some(&*section)));
    assert!(text(&agent).contains(&device), "{}", text(&agent));
    assert_eq!(decide(&bus, "resume", address), section);
    assert_eq!(text(&agent), before);
    for stream in &mut streams {
        // What was sent meanwhile arrives now, with what is sent now.
        let resumed = Instant::now();
        stream.write_all(b"y").unwrap();
        let mut back = [0; 2];
        stream.read_exact(&mut back).unwrap();
        assert_eq!(&back, b"xy");
        println!("went on after {} ms", resumed.elapsed().as_millis());
    }

    // With a time it ends by itself, and the file is left alone.
    decide(&bus, "pause", json!({"device": device, "seconds": 6}));
    let file = text(&agent);
    let stream = &mut streams[0];
    stream.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    assert!(round_trip(stream, b"z", 1).is_err());
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    let mut back = [0];
    stream.read_exact(&mut back).unwrap();
    assert_eq!(&back, b"z");
    assert_eq!(text(&agent), file);

    let manager = json!({"device": managing.v4.to_string()});
    let why = refused(&bus, "pause", manager);
    assert!(why.contains("for management"), "{why}");
    let why = refused(&bus, "pause", json!({"device": mac_text(managing.mac)}));
    assert!(why.contains("for management"), "{why}");
    assert_eq!(text(&agent), file);
}

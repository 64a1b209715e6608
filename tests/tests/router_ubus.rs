//! The agent on a bus: its object answers, blocks and tells; it comes back with the bus, and works
//! without one.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value as Json, json};
use sluice::ubus::blobmsg::Value;
use sluice::ubus::message::Status;
use sluice_tests::agent::{Agent, Setup};
use sluice_tests::bus::Bus;
use sluice_tests::caller::{Answer, Caller};
use sluice_tests::directory::Directory;
use sluice_tests::report::Feature;
use sluice_tests::router::{Build, LAN_V4, Router};
use sluice_tests::service::{Dns, Family, Web, fetch};
use sluice_tests::skip::without_root;
use sluice_tests::traffic::{TcpService, connect, round_trip};
use sluice_tests::wait;

/// Emulated and shared machines are slow.
const LIMIT: Duration = Duration::from_secs(120);
/// Time for a connection that is blocked.
const BLOCKED: Duration = Duration::from_secs(3);

/// A router and a place for the bus.
struct World {
    router: Router,
    files: Directory,
}

impl World {
    fn new() -> Self {
        let router = Router::new(Build::default()).unwrap();
        Self { router, files: Directory::new("bus").unwrap() }
    }

    fn socket(&self) -> PathBuf {
        self.files.path().join("ubus.sock")
    }

    fn setup(&self) -> Setup {
        Setup::default().main("ubus", self.socket().display())
    }

    fn bus(&self) -> Bus {
        Bus::start(&self.socket()).unwrap()
    }
}

fn registered(bus: &Bus) {
    let is_there = || bus.objects() == ["sluice"];
    wait::until_true("the object was offered", LIMIT, is_there).unwrap();
}

fn feature(agent: &Agent) -> Feature {
    let features = agent.status().unwrap().features;
    features.into_iter().find(|feature| feature.name == "ubus").unwrap()
}

fn call(bus: &Bus, method: &str, arguments: Json) -> Answer {
    let mut caller = Caller::connect(bus.path()).unwrap();
    caller.call("sluice", method, &arguments).unwrap()
}

/// The same without its numbers: packets come between two questions.
fn shape(value: &Json) -> Json {
    match value {
        Json::Number(_) => Json::Null,
        Json::Array(all) => all.iter().map(shape).collect(),
        Json::Object(all) => all.iter().map(|(name, value)| (name.clone(), shape(value))).collect(),
        other => other.clone(),
    }
}

/// R151, R186: what the control socket tells is told on the bus, counters as 64 bits; what is wrong
/// has its status and a reason.
#[test]
fn the_object_answers_as_the_control_socket_does() {
    if without_root() {
        return;
    }
    let world = World::new();
    let bus = world.bus();
    let mut agent = Agent::start(&world.router, world.setup()).unwrap();
    registered(&bus);
    wait::until_true("it said so", LIMIT, || feature(&agent).state == "active").unwrap();
    let echo = TcpService::echo(&world.router.server, world.router.server.v4.into(), 7).unwrap();
    let mut streams: Vec<_> = (0..5)
        .map(|_| {
            let mut stream = connect(world.router.client(), echo.address()).unwrap();
            round_trip(&mut stream, &[b'x'; 4096], 4096).unwrap();
            stream
        })
        .collect();
    for stream in &mut streams {
        for _ in 0..12 {
            round_trip(stream, &[b'x'; 4096], 4096).unwrap();
        }
    }
    wait::until_true("five flows were decided", LIMIT, || agent.flows().unwrap().len() == 5)
        .unwrap();

    let interfaces = agent.status().unwrap().interfaces;
    for interface in &interfaces {
        // What was sent and answered passed both, whatever the programs saw of it.
        let bytes = Some(5 * 13 * 4096);
        let (rx, tx) = (interface.rx_bytes, interface.tx_bytes);
        assert!(rx >= bytes && tx >= bytes, "{interface:?}");
    }
    let status = call(&bus, "status", json!({"ubus_rpc_session": "00"}));
    assert_eq!(status.status, Status::Ok);
    let told = status.json();
    assert_eq!((&told["pid"], &told["generation"]), (&json!(agent.pid()), &json!(1)));
    let asked: Json = serde_json::from_str(&agent.ask(&["status", "--json"]).unwrap()).unwrap();
    let names = |status: &Json| status.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&told), names(&asked));
    assert_eq!(shape(&told["interfaces"]), shape(&asked["interfaces"]));
    let Some(Value::Table(flows)) = status.members.members().get("flows") else { panic!() };
    assert_eq!(flows.get("entries"), Some(Value::Int64(5)));
    let counted = call(&bus, "stats", json!({})).json();
    assert_eq!(counted["flows"]["entries"], json!(5));
    assert_eq!((shape(&counted["flows"]), counted.get("features")), (shape(&asked["flows"]), None));

    let page = |arguments| call(&bus, "flows", arguments).json();
    let all = page(json!({}));
    assert_eq!((&all["total"], &all["left_out"]), (&json!(5), &json!(0)));
    let first = page(json!({"limit": 2}));
    let rest = page(json!({"offset": 2, "limit": 100}));
    let ports = |pages: &[&Json]| -> Vec<Json> {
        let flows = pages.iter().flat_map(|page| page["flows"].as_array().unwrap());
        flows.map(|flow| flow["sport"].clone()).collect()
    };
    assert_eq!((ports(&[&first]).len(), ports(&[&rest]).len()), (2, 3));
    assert_eq!(ports(&[&first, &rest]), ports(&[&all]));
    let why = call(&bus, "why", json!({"subject": world.router.server.v4.to_string()})).json();
    assert_eq!(why["flows"].as_array().unwrap().len(), 5);
    assert_eq!(call(&bus, "alerts", json!({})).json(), json!({"alerts": []}));

    for (method, arguments, status, reason) in [
        ("explode", json!({}), Status::MethodNotFound, ""),
        ("why", json!({}), Status::InvalidArgument, "missing field"),
        ("why", json!({"subject": 5}), Status::InvalidArgument, "subject has another type"),
        ("flows", json!({"limit": "x"}), Status::InvalidArgument, "limit has another type"),
        ("flows", json!({"offset": -1}), Status::InvalidArgument, "invalid value"),
        ("block", json!({"subject": "x.test"}), Status::Unknown, "neither an address"),
        ("block", json!({"subject": LAN_V4.to_string()}), Status::Unknown, "is not blocked"),
        (
            "block",
            json!({"subject": world.router.server.v4.to_string()}),
            Status::Unknown,
            "the default gateway",
        ),
        ("block", json!({"subject": "0.0.0.0/0"}), Status::Unknown, "wider than"),
        ("unblock", json!({"subject": "192.0.2.9"}), Status::Unknown, "is not blocked"),
    ] {
        let answer = call(&bus, method, arguments.clone());
        assert_eq!(answer.status, status, "{method} {arguments}");
        let why = answer.json()["error"].as_str().unwrap_or_default().to_owned();
        assert!(why.contains(reason), "{method} {arguments}: {why}");
    }

    // A configuration that is refused is the caller's to hear of.
    let good = std::fs::read_to_string(agent.config()).unwrap();
    std::fs::write(agent.config(), good.clone() + "nonsense\n").unwrap();
    let refused = call(&bus, "reload", json!({}));
    assert_eq!(refused.status, Status::Unknown);
    assert!(refused.json()["error"].as_str().unwrap().contains("invalid command"), "{refused:?}");
    std::fs::write(agent.config(), good.replace("config sluice", "# another\nconfig sluice"))
        .unwrap();
    assert_eq!(call(&bus, "reload", json!({})).status, Status::Ok);
    assert!(agent.status().unwrap().config_errors.is_empty());
    agent.stop().unwrap();
    assert_eq!(bus.objects(), [""; 0]);
}

/// R151: a block cuts a connection that is trusted already, until it is lifted.
#[test]
fn a_block_cuts_and_lifting_it_lets_pass() {
    if without_root() {
        return;
    }
    let world = World::new();
    let bus = world.bus();
    let agent = Agent::start(&world.router, world.setup()).unwrap();
    registered(&bus);
    // The server is the default gateway, which nobody can block.
    let server = world.router.attacker.v4;
    let echo = TcpService::echo(&world.router.attacker, server.into(), 7).unwrap();
    let mut stream = connect(world.router.client(), echo.address()).unwrap();
    stream.set_read_timeout(Some(BLOCKED)).unwrap();
    for _ in 0..12 {
        round_trip(&mut stream, &[b'x'; 4096], 4096).unwrap();
    }
    let subject = json!({"subject": server.to_string()});
    let blocked = call(&bus, "block", subject.clone());
    let told = json!({"entry": server.to_string(), "section": "by_hand"});
    assert_eq!(blocked.json(), told, "{blocked:?}");
    assert!(round_trip(&mut stream, b"x", 1).is_err());
    let why = agent.why(&server.to_string()).unwrap();
    assert!(why.causes.iter().any(|cause| cause.by == "blocklist by_hand"), "{why:?}");

    assert_eq!(call(&bus, "unblock", subject.clone()).status, Status::Ok);
    assert!(agent.why(&server.to_string()).unwrap().causes.is_empty());
    let mut stream = connect(world.router.client(), echo.address()).unwrap();
    round_trip(&mut stream, b"x", 1).unwrap();
    assert_eq!(call(&bus, "unblock", subject).status, Status::Unknown, "twice");

    let timed = json!({"subject": "198.51.100.0/24", "seconds": 1});
    assert_eq!(call(&bus, "block", timed).json()["seconds"], json!(1));
    let is_over = || agent.why("198.51.100.7").unwrap().causes.is_empty();
    wait::until_true("the block was over", LIMIT, is_over).unwrap();
}

/// R186: alerts and blocked flows are told to who is subscribed, and to nobody else.
#[test]
fn subscribers_are_told_of_alerts_and_of_blocked_flows() {
    if without_root() {
        return;
    }
    let world = World::new();
    let bus = world.bus();
    let names = ["news.test", "ads.test"];
    let _dns = Dns::start(&world.router, &names).unwrap();
    let _web = Web::start(&world.router.server, &names).unwrap();
    let rules = r#"alert http any any -> any any (msg:"odd"; http.uri; content:"/odd"; sid:1;)"#;
    let file = world.files.write("a.rules", rules.to_owned() + "\n").unwrap();
    let setup = world.setup().rule("no_ads", "block", &["ads.test"]);
    let agent = Agent::start(&world.router, setup.ruleset("feed", false, &[&file])).unwrap();
    registered(&bus);
    let get = |url: &str, limit| fetch(world.router.client(), Family::V4, url, limit).unwrap();

    assert!(!get("http://ads.test/", BLOCKED).is_success());
    agent.wait_for_flow("blocked", |flow| flow.verdict == "blocked").unwrap();
    assert_eq!(bus.notified(), 0, "nobody is subscribed");

    let mut caller = Caller::connect(bus.path()).unwrap();
    caller.subscribe("sluice").unwrap();
    // An answer to this call shows that the agent knows of it.
    call(&bus, "names", json!({}));
    assert!(get("http://news.test/odd", LIMIT).is_success());
    let (name, alert) = caller.hear().unwrap();
    assert_eq!((name.as_str(), &alert["msg"], &alert["sid"]), ("alert", &json!("odd"), &json!(1)));
    let fetched = get("http://ads.test/", BLOCKED);
    assert!(!fetched.is_success());
    let (name, flow) = caller.hear().unwrap();
    assert_eq!((name.as_str(), &flow["rule"]), ("verdict", &json!("no_ads")), "{flow}");
    assert_eq!((&flow["host"], &flow["sport"]), (&json!("ads.test"), &json!(fetched.port)));

    let told = bus.notified();
    drop(caller);
    assert!(call(&bus, "names", json!({})).json()["names"]["capacity"].as_u64().is_some());
    assert!(!get("http://ads.test/", BLOCKED).is_success());
    assert_eq!(bus.notified(), told, "nobody is subscribed any more");
}

/// R186: a bus that goes and comes again has the object again; without it everything else works.
#[test]
fn the_object_comes_back_with_the_bus_and_nothing_needs_it() {
    if without_root() {
        return;
    }
    let world = World::new();
    let setup = world.setup().main("log_level", "debug");
    let mut agent = Agent::start(&world.router, setup).unwrap();
    let echo = TcpService::echo(&world.router.server, world.router.server.v4.into(), 7).unwrap();
    let works = || {
        let mut stream = connect(world.router.client(), echo.address()).unwrap();
        round_trip(&mut stream, b"x", 1).unwrap();
    };
    works();
    let missing = feature(&agent);
    assert_eq!((missing.state.as_str(), missing.rung.as_str()), ("degraded", "none"));
    assert!(missing.reasons[0].contains("ubus.sock"), "{missing:?}");

    for _ in 0..2 {
        let bus = world.bus();
        registered(&bus);
        wait::until_true("it said so", LIMIT, || feature(&agent).state == "active").unwrap();
        assert_eq!(call(&bus, "names", json!({})).status, Status::Ok);
        let hears = || bus.is_heard("network.interface");
        wait::until_true("it would hear of interfaces", LIMIT, hears).unwrap();
        let looks = || agent.log().matches("an interface changed").count();
        let before = looks();
        let mut netifd = Caller::connect(bus.path()).unwrap();
        netifd
            .send_event("network.interface", &json!({"action": "ifup", "interface": "wan"}))
            .unwrap();
        wait::until_true("it looked around", LIMIT, || looks() > before).unwrap();
        drop(bus);
        wait::until_true("it noticed", LIMIT, || feature(&agent).state == "degraded").unwrap();
        works();
    }

    // Where the option says so there is no bus, and a reload changes it.
    let bus = world.bus();
    registered(&bus);
    agent.reload(&Setup::default().main("ubus", "off")).unwrap();
    wait::until_true("the object was gone", LIMIT, || bus.objects().is_empty()).unwrap();
    let off = feature(&agent);
    assert_eq!((off.state.as_str(), &*off.reasons[0]), ("off", "option ubus is off"));
    agent.reload(&world.setup()).unwrap();
    registered(&bus);
    works();
}

//! Devices of the household: who is there, by whatever address, and what each carries.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use serde_json::{Value as Json, json};
use sluice_tests::agent::{Agent, Setup};
use sluice_tests::bus::Bus;
use sluice_tests::caller::Caller;
use sluice_tests::host::{ETH, Host, mac_text};
use sluice_tests::router::{Build, LAN_V4, LAN_V6, Router};
use sluice_tests::service::{Family, Web, fetch, page};
use sluice_tests::skip::without_root;
use sluice_tests::traffic::{TcpService, connect, round_trip};
use sluice_tests::wait;

/// Emulated and shared machines are slow.
const LIMIT: Duration = Duration::from_secs(120);
/// Bytes of the link's header, which interfaces count and the agent does not.
const LINK: u64 = 14;

/// All that is known of the devices.
fn devices(agent: &Agent) -> Json {
    serde_json::from_str(&agent.ask(&["devices", "--json"]).unwrap()).unwrap()
}

/// What is known of one of them.
#[track_caller]
fn of(answer: &Json, host: &Host) -> Json {
    let mac = mac_text(host.mac);
    let devices = answer["devices"].as_array().unwrap();
    let mut its = devices.iter().filter(|device| device["mac"] == mac);
    let device = its.next().unwrap_or_else(|| unreachable!("no {mac} in {answer}"));
    assert!(its.next().is_none(), "{mac} is there twice: {answer}");
    device.clone()
}

/// Bytes that a client sent and received, as the router's end of its cable counts them.
fn counted(router: &Router, client: usize) -> [u64; 2] {
    let shown = router.netns.run(&format!("ip -s -j link show lan{}", client + 1)).unwrap();
    let shown: Json = serde_json::from_str(&shown).unwrap();
    ["rx", "tx"].map(|side| shown[0]["stats64"][side]["bytes"].as_u64().unwrap())
}

/// Bytes on the cable of what a device sent and received.
fn carried(device: &Json) -> [u64; 2] {
    ["up", "down"].map(|way| {
        let number = |what: &str| device[format!("{way}_{what}")].as_u64().unwrap_or(0);
        number("bytes") + LINK * number("packets")
    })
}

/// Whether two numbers differ by less than so many thousandths of the second.
const fn agree(one: u64, other: u64, permille: u64) -> bool {
    one.abs_diff(other) * 1000 <= other * permille
}

/// A decided flow of a host from one of its addresses.
fn flow_from(host: &Host, from: Ipv6Addr, to: SocketAddr) {
    let route = format!("ip route replace {}/128 via {LAN_V6} dev {ETH} src {from}", to.ip());
    host.netns.run(&route).unwrap();
    let mut stream: TcpStream = connect(host, to).unwrap();
    assert_eq!(stream.local_addr().unwrap().ip(), IpAddr::from(from));
    for _ in 0..12 {
        round_trip(&mut stream, &[b'x'; 1000], 1000).unwrap();
    }
}

/// R95, R174: a device is its hardware address, whatever addresses it makes up; who else is there is
/// another one, and what is not known is absent.
#[test]
fn a_device_is_one_over_all_of_its_addresses() {
    if without_root() {
        return;
    }
    let router = Router::new(Build { clients: 2, ..Build::default() }).unwrap();
    let six = IpAddr::from(router.server.v6);
    let six = TcpService::echo(&router.server, six, 7).unwrap();
    let socket = router.directory.path().join("ubus.sock");
    let bus = Bus::start(&socket).unwrap();
    let mut setup = Setup::default().main("ubus", socket.display());
    let absent = "00:00:5e:00:53:77";
    setup.more = setup.more.section("group", "kids").list("device", &[absent]);
    let agent = Agent::start(&router, setup).unwrap();
    let (phone, tablet) = (&router.clients[0], &router.clients[1]);
    let rotated: Vec<Ipv6Addr> =
        (1..=5).map(|n| Ipv6Addr::new(0xfd77, 0, 0, 0, 0xabcd, 0x4711, 0x815, n)).collect();
    for address in &rotated {
        phone.add_addresses(&[&format!("{address}/64")]).unwrap();
        flow_from(phone, *address, six.address());
    }
    assert!(tablet.ping(LAN_V4.into()).unwrap());

    let answer = devices(&agent);
    assert_eq!(answer["total"], 3, "{answer}");
    let one = of(&answer, phone);
    let addresses = one["addresses"].as_array().unwrap();
    for address in &rotated {
        assert!(addresses.contains(&json!(address.to_string())), "{address}: {one}");
    }
    assert_eq!((&one["interface"], &one["random"]), (&json!("lan"), &json!(true)), "{one}");
    assert!(one["last_s_ago"].as_u64().unwrap() < 60, "{one}");
    // Each flow: twelve times a thousand bytes there and back, with 72 bytes of headers.
    let [up, down] = carried(&one);
    assert!(up > 5 * 11_000 && down > 5 * 11_000, "{one}");
    // It was there, and nothing of it was counted.
    let other = of(&answer, tablet);
    assert!(other["addresses"].as_array().unwrap().contains(&json!(tablet.v4.to_string())));
    assert!(other["last_s_ago"].is_u64(), "{other}");
    for unknown in ["up_bytes", "down_bytes", "up_bps", "down_bps", "name", "rules", "groups"] {
        assert!(other[unknown].is_null(), "{unknown}: {other}");
    }
    // Only the configuration knows it.
    let known = answer["devices"].as_array().unwrap();
    let wanted = json!({"mac": absent, "groups": ["kids"], "addresses": []});
    assert!(known.contains(&wanted), "{answer}");

    // The bus tells the same, in pages.
    wait::until_true("the object was offered", LIMIT, || bus.objects() == ["sluice"]).unwrap();
    let mut caller = Caller::connect(bus.path()).unwrap();
    let page = |caller: &mut Caller, offset: u32| {
        let arguments = json!({"offset": offset, "limit": 1});
        caller.call("sluice", "devices", &arguments).unwrap().json()
    };
    let first = page(&mut caller, 0);
    assert_eq!((&first["total"], &first["left_out"]), (&json!(3), &json!(0)), "{first}");
    assert_eq!(first["devices"].as_array().unwrap().len(), 1);
    assert_eq!(of(&first, phone)["mac"], one["mac"], "most bytes first");
    assert_ne!(page(&mut caller, 1)["devices"][0]["mac"], one["mac"]);
    let shown = agent.ask(&["devices"]).unwrap();
    assert!(shown.lines().any(|line| line.contains(&mac_text(tablet.mac))), "{shown}");
    assert!(shown.lines().all(|line| line.chars().count() <= 80), "{shown}");
}

/// R175: what a device carried is what its interface counted, its rate is that of the interval, and flows
/// that are over stay counted.
#[test]
fn what_a_device_carries_is_what_its_interface_counts() {
    if without_root() {
        return;
    }
    let router = Router::new(Build { clients: 2, ..Build::default() }).unwrap();
    let _web = Web::start(&router.server, &["big.test"]).unwrap();
    // Flows end and are forgotten while the test looks. Where XDP runs, veth counts what it receives
    // without the header of the link.
    let setup = Setup::default().main("sweep_s", 1).main("idle_tcp_s", 5).xdp("off");
    let agent = Agent::start(&router, setup).unwrap();
    let (phone, tablet) = (&router.clients[0], &router.clients[1]);
    let url = |path: &str| format!("https://{}{path}", router.server.v4);
    let before = counted(&router, 0);
    // Of a short flow much is inspected and little is left for the fast path.
    for _ in 0..20 {
        assert!(fetch(phone, Family::V4, &url("/"), LIMIT).unwrap().is_success());
    }
    for _ in 0..2 {
        assert!(fetch(phone, Family::V4, &url(page::MIB16), LIMIT).unwrap().is_success());
    }
    let after = counted(&router, 0);
    let one = of(&devices(&agent), phone);
    for ((now, then), seen) in after.iter().zip(before).zip(carried(&one)) {
        println!("interface {}, device {seen}", now - then);
        assert!(agree(seen, now - then, 10), "{seen} of {}: {one}", now - then);
    }
    let is_over = || agent.flows().unwrap().is_empty();
    wait::until_true("the flows were over", LIMIT, is_over).unwrap();
    let later = of(&devices(&agent), phone);
    assert_eq!((&later["down_bytes"], &later["up_bytes"]), (&one["down_bytes"], &one["up_bytes"]));

    // A megabyte a second.
    std::thread::scope(|scope| {
        let download = scope
            .spawn(|| fetch(tablet, Family::V4, &url(page::SLOW), LIMIT).unwrap().is_success());
        agent.wait_for_flow("decided", |flow| flow.src == IpAddr::from(tablet.v4)).unwrap();
        devices(&agent);
        let (begin, from) = (Instant::now(), counted(&router, 1));
        wait::pause(Duration::from_secs(5));
        let (answer, took, to) = (devices(&agent), begin.elapsed(), counted(&router, 1));
        let interval = Duration::from_millis(answer["interval_ms"].as_u64().unwrap());
        assert!(interval.abs_diff(took) < Duration::from_millis(500), "{interval:?} {took:?}");
        let device = of(&answer, tablet);
        for (way, at) in [("up_bps", 0), ("down_bps", 1)] {
            let bps = (to[at] - from[at]) * 8000 / took.as_millis() as u64;
            let seen = device[way].as_u64().unwrap();
            println!("{way}: interface {bps}, device {seen}");
            // Headers of the link are two tenths of what acknowledgements take.
            assert!(agree(seen, bps, 250), "{seen} of {bps}: {device}");
            assert!(way == "up_bps" || agree(seen, bps, 200), "{seen} of {bps}: {device}");
        }
        assert_eq!(of(&answer, phone)["down_bps"], 0);
        let shown = agent.ask(&["devices"]).unwrap();
        assert!(shown.contains("bits a second, over the last "), "{shown}");
        assert!(download.join().unwrap());
    });
}

/// R188, R171: what a device is called, and what holds all it does, is a section of the configuration, in
/// force at once and shown; taken back, the file is byte by byte what it was.
#[test]
fn a_device_is_renamed_held_back_and_let_go_without_a_trace() {
    if without_root() {
        return;
    }
    let router = Router::new(Build { clients: 2, ..Build::default() }).unwrap();
    let echo = TcpService::echo(&router.server, router.server.v4.into(), 7).unwrap();
    let socket = router.directory.path().join("ubus.sock");
    let bus = Bus::start(&socket).unwrap();
    let managing = &router.clients[1];
    let setup = Setup::default().main("ubus", socket.display()).main("clock", "trust");
    let agent = Agent::start(&router, setup.main("management", managing.v4)).unwrap();
    wait::until_true("the object was offered", LIMIT, || bus.objects() == ["sluice"]).unwrap();
    let mut caller = Caller::connect(&socket).unwrap();
    let mut call =
        |method: &str, arguments: Json| caller.call("sluice", method, &arguments).unwrap().json();
    let text = || std::fs::read_to_string(agent.config()).unwrap();
    let (phone, before) = (router.client(), text());
    let mac = mac_text(phone.mac);
    let talk = || {
        let mut stream = connect(phone, echo.address())?;
        (0..12).try_for_each(|_| round_trip(&mut stream, &[b'x'; 1000], 1000).map(drop))
    };
    talk().unwrap();
    assert!(of(&devices(&agent), phone)["name"].is_null());

    let hostile = "Mum's <b>\u{202e}phone";
    let section = call("rename", json!({"device": mac, "name": hostile}))["section"].clone();
    let named = of(&devices(&agent), phone);
    assert_eq!((&named["name"], &named["name_source"]), (&json!(hostile), &json!("configuration")));
    let flows = agent.flows().unwrap();
    assert!(flows.iter().any(|flow| flow.device_name.as_deref() == Some(hostile)), "{flows:?}");
    let shown = agent.ask(&["devices"]).unwrap();
    assert!(!shown.contains('\u{202e}') && shown.contains("Mum's <b>"), "{shown}");
    let refused = call("rename", json!({"device": mac, "name": "a\nb"}))["error"].clone();
    assert!(refused.as_str().is_some_and(|why| why.contains("on one line")), "{refused}");
    assert_eq!(call("rename", json!({"device": mac, "name": ""}))["section"], section);
    assert_eq!(text(), before);

    let rules = |device: &Json| {
        let rules = device["rules"].as_array().cloned().unwrap_or_default();
        let rule = |rule: &Json| (rule["action"].clone(), rule["kbit"].clone());
        rules.iter().map(rule).collect::<Vec<_>>()
    };
    let held = call("limit", json!({"device": mac, "kbit": 2000}))["section"].clone();
    assert_eq!(rules(&of(&devices(&agent), phone)), [(json!("limit"), json!(2000))]);
    talk().unwrap();
    let limited = |flow: &sluice_tests::report::Flow| flow.verdict == "limited";
    let flow = agent.wait_for_flow("limited", limited).unwrap();
    assert_eq!(flow.rule.as_deref(), held.as_str());
    call("limit", json!({"device": mac, "kbit": 0}));
    assert_eq!(text(), before);
    assert!(rules(&of(&devices(&agent), phone)).is_empty());
    let is_free = || agent.flows().unwrap().iter().all(|flow| !limited(flow));
    wait::until_true("nothing was limited any more", LIMIT, is_free).unwrap();
    let why = call("limit", json!({"device": mac, "kbit": 0}))["error"].clone();
    assert!(why.as_str().is_some_and(|why| why.contains("is not limited by hand")), "{why}");

    // The same by commands, which may call it by an address.
    let address = phone.v4.to_string();
    agent.ask(&["rename", &address, "phone"]).unwrap();
    agent.ask(&["limit", &address, "3000", "--for", "1h"]).unwrap();
    let named = of(&devices(&agent), phone);
    assert_eq!(
        (&named["name"], rules(&named)),
        (&json!("phone"), vec![(json!("limit"), json!(3000))])
    );
    agent.ask(&["rename", &address, ""]).unwrap();
    agent.ask(&["limit", &address, "0"]).unwrap();
    assert_eq!(text(), before);

    let blocked = call("deny", json!({"subject": "", "device": mac}))["section"].clone();
    assert_eq!(rules(&of(&devices(&agent), phone)), [(json!("block"), Json::Null)]);
    assert!(talk().is_err());
    call("pause", json!({"device": mac, "seconds": 600}));
    let both = of(&devices(&agent), phone);
    let left = both["rules"][1]["left_s"].as_u64().unwrap();
    assert!((500..=600).contains(&left), "{both}");
    call("resume", json!({"device": mac}));
    call("forget", json!({"section": blocked}));
    assert_eq!(text(), before);
    talk().unwrap();
    // Who manages is known by what it did.
    assert!(managing.ping(LAN_V4.into()).unwrap());
    for (method, arguments) in [
        ("deny", json!({"subject": "", "device": mac_text(managing.mac)})),
        ("deny", json!({"subject": ""})),
    ] {
        let why = call(method, arguments)["error"].clone();
        let is_told =
            |why: &str| why.contains("for management") || why.contains("neither a domain");
        assert!(why.as_str().is_some_and(is_told), "{why}");
    }
    assert_eq!(text(), before);
}

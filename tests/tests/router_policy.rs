//! Rules on a router: what each action does, for whom, and when.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::time::Duration;

use sluice_tests::agent::{Agent, Setup};
use sluice_tests::host::{Host, mac_text};
use sluice_tests::report::{Flow, RuleReport};
use sluice_tests::router::{Build, Router};
use sluice_tests::service::{self, Dns, Family, Fetched, Web, fetch};
use sluice_tests::skip::without_root;
use sluice_tests::traffic::{TcpService, UdpService, connect, round_trip, udp};
use sluice_tests::wait;

/// Limit of one download.
const LIMIT: Duration = Duration::from_secs(20);
/// Limit of one that is blocked: long enough for everything that is not.
const BLOCKED: Duration = Duration::from_secs(3);
const NAMES: [&str; 3] = ["ads.test", "good.ads.test", "plain.test"];

/// A router with two clients and a web server that they find by names.
struct Site {
    _web: Web,
    _dns: Dns,
    agent: Agent,
    world: Router,
}

impl Site {
    fn new(rules: &[&[(&str, &str)]]) -> Self {
        let world = Router::new(Build { clients: 2, ..Build::default() }).unwrap();
        let (dns, web) = service::named(&world, &NAMES).unwrap();
        let agent = Agent::start(&world, setup(rules)).unwrap();
        Self { _web: web, _dns: dns, agent, world }
    }

    /// Puts other rules into force.
    fn reload(&mut self, setup: &Setup) {
        self.agent.reloaded(setup).unwrap();
    }

    fn fetch(&self, client: usize, name: &str, limit: Duration) -> Fetched {
        fetch(&self.world.clients[client], Family::V4, &format!("https://{name}/"), limit).unwrap()
    }

    fn works(&self, client: usize, name: &str) -> Flow {
        let fetched = self.fetch(client, name, LIMIT);
        assert!(fetched.is_success(), "{name} for {client}: {fetched:?}");
        self.flow(fetched.port)
    }

    fn fails(&self, client: usize, name: &str) -> Flow {
        let fetched = self.fetch(client, name, BLOCKED);
        assert!(!fetched.is_success(), "{name} for {client}: {fetched:?}");
        // A connection that never came to be has no port to tell; the flow names its rule.
        let is_it = |flow: &Flow| {
            flow.verdict == "blocked" && (fetched.port == 0 || flow.sport == fetched.port)
        };
        self.agent.wait_for_flow("blocked", is_it).unwrap()
    }

    fn flow(&self, port: u16) -> Flow {
        self.agent.wait_for_flow("decided", |flow| flow.sport == port).unwrap()
    }

    fn rule(&self, name: &str) -> RuleReport {
        let rules = self.agent.status().unwrap().rules;
        rules.into_iter().find(|rule| rule.name == name).unwrap()
    }
}

/// One section each, `rule` unless `config` says otherwise; the first pair is its name.
fn setup(sections: &[&[(&str, &str)]]) -> Setup {
    let mut setup = Setup::default().main("clock", "trust");
    for section in sections {
        let [(kind, name), options @ ..] = section else { continue };
        setup.more = setup.more.section(kind, name);
        for (option, value) in options {
            let is_list = !matches!(*option, "action" | "until" | "kbit");
            setup.more = if is_list {
                setup.more.list(option, &[value])
            } else {
                setup.more.option(option, value)
            };
        }
    }
    setup
}

fn by(flow: &Flow) -> (&str, Option<&str>, Option<&str>) {
    (&flow.verdict, flow.rule.as_deref(), flow.entry.as_deref())
}

/// R169, R172: an allowed name below a blocked one works; each flow says which entry of which rule
/// decided.
#[test]
fn a_flow_says_which_entry_of_which_rule_decided() {
    if without_root() {
        return;
    }
    let site = Site::new(&[
        &[("rule", "block"), ("domain", "ads.test")],
        &[("rule", "allow"), ("action", "allow"), ("domain", "good.ads.test")],
    ]);
    assert_eq!(by(&site.fails(0, "ads.test")), ("blocked", Some("block"), Some("ads.test")));
    let good = site.works(0, "good.ads.test");
    assert_eq!(by(&good), ("trusted", Some("allow"), Some("good.ads.test")));
    assert_eq!(by(&site.works(0, "plain.test")), ("trusted", None, None));
    assert_eq!(site.rule("block").text, "block domain ads.test");
    assert!(site.rule("block").flows > 0 && site.rule("allow").flows == 1);
}

/// R169: rules about addresses and ports decide before anything is sent, over TCP and UDP.
#[test]
fn addresses_and_ports_are_blocked_with_the_first_packet() {
    if without_root() {
        return;
    }
    let world = Router::new(Build::default()).unwrap();
    let server = world.server.v4;
    let agent = Agent::start(
        &world,
        setup(&[
            &[("rule", "port"), ("port", "tcp/7001")],
            &[("rule", "datagrams"), ("port", "udp/7000-7001")],
            &[("rule", "six"), ("ip", &format!("{}/64", world.server.v6)), ("port", "7002")],
        ]),
    )
    .unwrap();
    let services =
        [7001, 7002].map(|port| TcpService::echo(&world.server, server.into(), port).unwrap());
    assert!(connect(world.client(), services[0].address()).is_err());
    assert_eq!(services[0].accepted(), 0, "nothing reached the server");
    let blocked = |rule: &str| {
        let flow = agent.wait_for_flow(rule, |flow| flow.rule.as_deref() == Some(rule)).unwrap();
        assert_eq!((flow.verdict.as_str(), flow.reason.as_str()), ("blocked", "rule"));
        assert_eq!(flow.inspected_packets, 1, "{flow:?}");
        flow.entry.unwrap()
    };
    assert_eq!(blocked("port"), "port tcp/7001");
    let mut stream = connect(world.client(), services[1].address()).unwrap();
    assert_eq!(round_trip(&mut stream, b"hello", 5).unwrap(), b"hello");
    let six = TcpService::echo(&world.server, world.server.v6.into(), 7002).unwrap();
    assert!(connect(world.client(), six.address()).is_err());
    let mut net: Vec<_> = world.server.v6.segments()[..4].to_vec();
    net.resize(8, 0);
    let net: [u16; 8] = net.try_into().unwrap();
    assert_eq!(blocked("six"), format!("{}/64", std::net::Ipv6Addr::from(net)));

    let other = UdpService::echo(&world.server, server.into(), 7002).unwrap();
    let held = UdpService::echo(&world.server, server.into(), 7001).unwrap();
    let ask = |to| {
        let socket = udp(world.client(), to).unwrap();
        socket.set_read_timeout(Some(BLOCKED)).unwrap();
        socket.send(b"ask").unwrap();
        socket.recv(&mut [0; 8]).is_ok()
    };
    assert!(ask(other.address()) && !ask(held.address()));
    assert_eq!(held.count(), 0, "nothing reached the server");
    assert_eq!(blocked("datagrams"), "port udp/7000-7001");
}

/// R43: a fingerprint of a client blocks it, from the configuration and from a file.
#[test]
fn a_fingerprint_blocks_whatever_the_name_is() {
    if without_root() {
        return;
    }
    let mut site = Site::new(&[]);
    let ja4 = site.works(0, "plain.test").ja4.unwrap();
    site.reload(&setup(&[&[("rule", "client"), ("ja4", &ja4)]]));
    assert_eq!(by(&site.fails(0, "plain.test")), ("blocked", Some("client"), Some(ja4.as_str())));
    let file = site.world.directory.path().join("fingerprints.csv");
    let text =
        format!("# fingerprint,why\n{ja4},a client\n00000000000000000000000000000000,none\n");
    std::fs::write(&file, text).unwrap();
    let file = file.display().to_string();
    site.reload(&setup(&[&[("rule", "listed"), ("fingerprint_file", &file)]]));
    assert_eq!(
        by(&site.fails(0, "good.ads.test")),
        ("blocked", Some("listed"), Some(ja4.as_str()))
    );
}

/// R169: a rule for a device holds for that one, known by hardware address, address or group, and
/// a rule for a device counts before one for everyone.
#[test]
fn a_rule_for_a_device_leaves_the_others_alone() {
    if without_root() {
        return;
    }
    let mut site = Site::new(&[]);
    let [first, second]: [&Host; 2] = [&site.world.clients[0], &site.world.clients[1]];
    let (mac, addr) = (mac_text(first.mac), first.v4.to_string());
    let other = second.v4.to_string();
    for who in [("device", mac.as_str()), ("device", &addr), ("group", "some")] {
        let rules = setup(&[
            &[("rule", "mine"), ("domain", "plain.test"), who],
            &[("group", "some"), ("device", &mac)],
        ]);
        site.reload(&rules);
        let flow = site.fails(0, "plain.test");
        assert_eq!(by(&flow), ("blocked", Some("mine"), Some("plain.test")), "{who:?}");
        assert_eq!(by(&site.works(1, "plain.test")), ("trusted", None, None), "{who:?}");
    }
    let rules = setup(&[
        &[("rule", "all"), ("port", "443"), ("zone", "lan")],
        &[("rule", "mine"), ("action", "allow"), ("domain", "plain.test"), ("device", &other)],
    ]);
    site.reload(&rules);
    assert_eq!(by(&site.fails(0, "plain.test")).1, Some("all"));
    assert_eq!(by(&site.works(1, "plain.test")).1, Some("mine"));
    assert_eq!(by(&site.fails(1, "ads.test")).1, Some("all"));
}

/// R173: a rule that observes drops nothing, and counts by device what it would have blocked.
#[test]
fn a_rule_that_observes_counts_and_drops_nothing() {
    if without_root() {
        return;
    }
    let site = Site::new(&[&[("rule", "watch"), ("action", "observe"), ("domain", "ads.test")]]);
    assert_eq!((site.rule("watch").flows, site.rule("watch").devices.len()), (0, 0));
    for (client, name) in
        [(0, "ads.test"), (0, "good.ads.test"), (1, "ads.test"), (1, "plain.test")]
    {
        let flow = site.works(client, name);
        assert_eq!((flow.verdict.as_str(), flow.rule.as_deref()), ("trusted", None), "{name}");
        let expected = (name != "plain.test").then_some("watch");
        assert_eq!(flow.observed.as_deref(), expected, "{name}");
    }
    let rule = site.rule("watch");
    let devices: Vec<_> =
        rule.devices.iter().map(|device| (device.address, device.flows)).collect();
    let clients = &site.world.clients;
    assert_eq!(devices, [(clients[0].v4.into(), 2), (clients[1].v4.into(), 1)]);
    assert_eq!(rule.flows, 3);
}

/// R42: a rule about a class of applications holds for the domains of its file, flows tell their
/// class, and another file takes effect with a reload.
#[test]
fn a_class_of_applications_is_blocked_and_shown() {
    if without_root() {
        return;
    }
    let mut site = Site::new(&[]);
    let file = site.world.directory.path().join("apps");
    let rules = setup(&[&[("rule", "films"), ("app", "video")]]).main("app_file", file.display());
    std::fs::write(&file, "video: ads.test\nbooks: good.ads.test plain.test\n").unwrap();
    site.reload(&rules);
    let flow = site.fails(0, "ads.test");
    assert_eq!(by(&flow), ("blocked", Some("films"), Some("app video")));
    assert_eq!(flow.app.as_deref(), Some("video"));
    let flow = site.works(0, "good.ads.test");
    assert_eq!((by(&flow), flow.app.as_deref()), (("trusted", None, None), Some("books")));
    std::fs::write(&file, "video: plain.test\n").unwrap();
    site.reload(&rules);
    assert_eq!(by(&site.fails(0, "plain.test")), ("blocked", Some("films"), Some("app video")));
    assert_eq!(site.works(0, "ads.test").app, None);
}

/// R169: a country is blocked with the first packet, but for an address that a rule allows; its file
/// counts with a reload.
#[test]
fn a_country_is_blocked_by_its_file() {
    if without_root() {
        return;
    }
    let mut site = Site::new(&[]);
    let directory = site.world.directory.path().join("countries");
    std::fs::create_dir(&directory).unwrap();
    let [here, elsewhere] = ["aa.zone", "bb.txt"].map(|name| directory.join(name));
    std::fs::write(&here, "203.0.113.0/24\n2001:db8:77::/48\n").unwrap();
    std::fs::write(&elsewhere, "198.51.100.0/24\n").unwrap();
    let block = [("rule", "abroad"), ("country", "AA"), ("country", "bb")];
    let rules = |more: &[&[(&str, &str)]]| {
        let all = [&[&block[..]], more].concat();
        setup(&all).main("country_dir", directory.display())
    };
    site.reload(&rules(&[]));
    assert_eq!(by(&site.fails(0, "plain.test")), ("blocked", Some("abroad"), Some("country aa")));
    let address = site.world.server.v4.to_string();
    site.reload(&rules(&[&[("rule", "known"), ("action", "allow"), ("ip", &address)]]));
    let flow = site.works(0, "plain.test");
    assert_eq!(by(&flow), ("trusted", Some("known"), Some(address.as_str())));
    // The country has other networks now.
    std::fs::write(&here, "192.0.2.0/24\n").unwrap();
    site.reload(&rules(&[]));
    assert_eq!(by(&site.works(0, "plain.test")), ("trusted", None, None));
}

/// R170: a schedule and an end take effect by themselves, on flows that live too.
#[test]
fn a_rule_begins_and_ends_by_itself() {
    if without_root() {
        return;
    }
    let seconds = |more: u64| {
        let now = sluice::sys::clock::wall_clock().duration_since(std::time::UNIX_EPOCH).unwrap();
        format!("@{}", now.as_secs() + more)
    };
    let date = |when: &str, form: &str| {
        let output = std::process::Command::new("date").args(["-u", "-d", when, form]).output();
        String::from_utf8(output.unwrap().stdout).unwrap().trim().to_owned()
    };
    let mut site = Site::new(&[]);
    // A live connection, and one of another device.
    let echo = TcpService::echo(&site.world.server, site.world.server.v4.into(), 7777).unwrap();
    let open = |client: &Host| {
        let mut stream = connect(client, echo.address()).unwrap();
        stream.set_read_timeout(Some(BLOCKED)).unwrap();
        (0..12).for_each(|_| drop(round_trip(&mut stream, b"hello", 5).unwrap()));
        let port = stream.local_addr().unwrap().port();
        assert_eq!(site.flow(port).verdict, "trusted");
        stream
    };
    let mut streams = site.world.clients.iter().map(open).collect::<Vec<_>>();
    let paused = site.world.clients[0].v4.to_string();
    let until = date(&seconds(15), "+%Y-%m-%dT%H:%M:%SZ");
    let rules = setup(&[&[("rule", "pause"), ("device", &paused), ("until", &until)]]);
    site.reload(&rules);
    assert!(round_trip(&mut streams[0], b"hello", 5).is_err(), "it goes on");
    assert!(round_trip(&mut streams[1], b"hello", 5).is_ok());
    assert!(site.rule("pause").in_force);
    assert_eq!(by(&site.fails(0, "plain.test")).1, Some("pause"));
    wait::until_true("it is over", LIMIT, || !site.rule("pause").in_force).unwrap();
    site.works(0, "plain.test");

    // A part of the day that is not now, and then one that is.
    let clock = |more: u64| date(&seconds(more), "+%H:%M");
    for (from, to, is_blocked) in [(3600, 7200, false), (86_400 - 3600, 3600, true)] {
        let slot = format!("{}-{}", clock(from), clock(to));
        let rules = setup(&[
            &[("rule", "night"), ("domain", "plain.test"), ("schedule", "hours")],
            &[("schedule", "hours"), ("slot", &slot)],
        ]);
        site.reload(&rules);
        assert_eq!(site.rule("night").in_force, is_blocked, "{slot}");
        if is_blocked {
            assert_eq!(by(&site.fails(0, "plain.test")).1, Some("night"));
        } else {
            site.works(0, "plain.test");
        }
    }
}

/// R24: a flow that its name allowed is not judged by less when it is looked at again without one.
#[test]
fn a_second_look_without_a_name_takes_nothing_back() {
    if without_root() {
        return;
    }
    let world = Router::new(Build::default()).unwrap();
    let rules = setup(&[
        &[("rule", "others"), ("port", "443")],
        &[("rule", "bank"), ("action", "allow"), ("domain", "bank.test")],
    ]);
    let agent = Agent::start(&world, rules.main("reinspect_age_s", 1).main("sweep_s", 1)).unwrap();
    let echo = TcpService::echo(&world.server, world.server.v4.into(), 443).unwrap();
    let mut stream = connect(world.client(), echo.address()).unwrap();
    let hello = sluice_tests::hello::client_hello("bank.test", 0);
    assert_eq!(round_trip(&mut stream, &hello, hello.len()).unwrap(), hello);
    let port = stream.local_addr().unwrap().port();
    let decided = || agent.wait_for_flow("decided", |flow| flow.sport == port).unwrap();
    assert_eq!(by(&decided()), ("trusted", Some("bank"), Some("bank.test")));
    let looked =
        |status: sluice_tests::report::Status| (status.flows.reinspected > 0).then_some(());
    let limit = Duration::from_secs(40);
    agent
        .wait_for_status("it was looked at again", limit, |status| looked(status.clone()))
        .unwrap();
    // More than a window.
    for _ in 0..20 {
        assert_eq!(round_trip(&mut stream, b"hello", 5).unwrap(), b"hello");
    }
    assert_eq!(by(&decided()), ("trusted", Some("bank"), Some("bank.test")));
}

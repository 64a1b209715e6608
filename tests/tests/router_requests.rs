//! Requests without TLS that name their flow, the first of a connection and those behind it.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::net::{IpAddr, TcpStream};
use std::time::Duration;

use sluice_tests::agent::{Agent, Setup};
use sluice_tests::observe;
use sluice_tests::report::Flow;
use sluice_tests::router::{Build, Router};
use sluice_tests::service::{self, Dns, Family, Fetched, Web, curl, fetched, page};
use sluice_tests::skip::without_root;
use sluice_tests::traffic::{TcpService, connect, round_trip};

/// Limit of one download.
const LIMIT: Duration = Duration::from_secs(20);
/// Limit of one that is blocked: long enough for everything that is not.
const BLOCKED: Duration = Duration::from_secs(3);

struct Site {
    _web: Web,
    _dns: Dns,
    agent: Agent,
    world: Router,
}

impl Site {
    fn get(&self, family: Family, name: &str, limit: Duration) -> Fetched {
        let url = format!("http://{name}:8080/a-path-that-is-coded");
        let mut command = curl(self.world.client(), family, &url, limit);
        command.arg("--http2-prior-knowledge");
        fetched(command).unwrap()
    }

    fn flow(&self, host: &str) -> Flow {
        let is_it = |flow: &Flow| flow.host.as_deref() == Some(host);
        self.agent.wait_for_flow("named by its request", is_it).unwrap()
    }
}

/// R39: HTTP/2 that begins without TLS is named by its first request, for rules and for lists.
#[test]
fn http2_without_tls_is_judged_by_its_first_request() {
    if without_root() {
        return;
    }
    let world = Router::new(Build::default()).unwrap();
    let (dns, web) = service::named(&world, &["ads.test", "plain.test", "listed.test"]).unwrap();
    let list = world.directory.path().join("names");
    std::fs::write(&list, "listed.test\n").unwrap();
    let setup = Setup::default().rule("ads", "block", &["ads.test"]).domainlist("names", &[&list]);
    let agent = Agent::start(&world, setup).unwrap();
    let site = Site { _web: web, _dns: dns, agent, world };
    for family in [Family::V4, Family::V6] {
        let fetched = site.get(family, "plain.test", LIMIT);
        assert!(fetched.is_success(), "{family:?}: {fetched:?}");
    }
    let flow = site.flow("plain.test");
    assert_eq!((&*flow.verdict, flow.protocol.as_deref()), ("trusted", Some("http2")), "{flow:?}");
    assert_eq!(flow.name.as_deref(), Some("plain.test"));
    for (name, rule, list) in
        [("ads.test", Some("ads"), None), ("listed.test", None, Some("names"))]
    {
        let fetched = site.get(Family::V4, name, BLOCKED);
        assert!(!fetched.is_success(), "{name}: {fetched:?}");
        let flow = site.flow(name);
        let by = (&*flow.verdict, flow.rule.as_deref(), flow.list.as_deref());
        assert_eq!(by, ("blocked", rule, list), "{flow:?}");
    }
}

/// Value under the default mask of a connection that is trusted.
const MARK_TRUSTED: u32 = 0x0100_0000;
/// The same of one that is undecided.
const MARK_UNDECIDED: u32 = 0x0300_0000;

/// Where a server says what it hears.
const ECHO: u16 = 8000;

/// A router with a rule about a domain, and a server behind it that says what it hears.
struct Kept {
    agent: Agent,
    services: [TcpService; 2],
    world: Router,
}

impl Kept {
    fn new(setup: Setup) -> Self {
        let world = Router::new(Build::default()).unwrap();
        let ends = [IpAddr::from(world.server.v4), world.server.v6.into()];
        let services = ends.map(|end| TcpService::echo(&world.server, end, ECHO).unwrap());
        let agent = Agent::start(&world, setup.rule("ads", "block", &["ads.test"])).unwrap();
        Self { agent, services, world }
    }

    /// A connection on which a harmless host was asked for.
    fn asked(&self, number: usize) -> TcpStream {
        let mut stream = connect(self.world.client(), self.services[number].address()).unwrap();
        assert!(ask(&mut stream, "fine.test"));
        let flow = self.flow(&stream, "fine.test");
        assert_eq!(
            (&*flow.verdict, flow.protocol.as_deref()),
            ("trusted", Some("http")),
            "{flow:?}"
        );
        stream
    }

    fn flow(&self, stream: &TcpStream, host: &str) -> Flow {
        let port = stream.local_addr().unwrap().port();
        let is_it = |flow: &Flow| flow.sport == port && flow.host.as_deref() == Some(host);
        self.agent.wait_for_flow("named by a request", is_it).unwrap()
    }

    /// The mark of its connection, of IPv4.
    fn mark(&self, stream: &TcpStream) -> u32 {
        let port = stream.local_addr().unwrap().port();
        let filter = format!("-p tcp --dport {ECHO} --sport {port}");
        observe::connections(&self.world.netns, &filter).unwrap()[0].mark
    }
}

/// Asks for a host on a connection; whether the server answered.
fn ask(stream: &mut TcpStream, host: &str) -> bool {
    let request = format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n");
    round_trip(stream, request.as_bytes(), request.len()).is_ok()
}

/// R24: what a client asks for later on a trusted connection is judged as what it asked first, in both
/// families, through NAT and without, with all that was counted kept.
#[test]
fn a_later_request_on_a_trusted_connection_is_judged_too() {
    if without_root() {
        return;
    }
    let kept = Kept::new(Setup::default());
    for number in 0..2 {
        let mut stream = kept.asked(number);
        for turn in 0..5 {
            let host = format!("other{turn}.test");
            assert!(ask(&mut stream, &host));
            let flow = kept.flow(&stream, &host);
            assert_eq!(flow.verdict, "trusted");
            assert!(flow.original_packets > turn, "{flow:?}");
        }
        stream.set_read_timeout(Some(BLOCKED)).unwrap();
        assert!(!ask(&mut stream, "x.ads.test"), "a listed host answered");
        let flow = kept.flow(&stream, "x.ads.test");
        assert_eq!((&*flow.verdict, flow.rule.as_deref()), ("blocked", Some("ads")), "{flow:?}");
        assert!(!ask(&mut stream, "fine.test"), "the connection goes on");
    }
    let kept = Kept::new(Setup::default().main("reinspect_requests", 0));
    let mut stream = kept.asked(0);
    assert_eq!(kept.mark(&stream), MARK_TRUSTED);
    assert!(ask(&mut stream, "x.ads.test"), "the option does nothing");
}

/// R15, R24: answers never meet the queue for that, an upload only for a window, and both take the short
/// way then.
#[test]
fn what_is_no_request_takes_the_short_way() {
    if without_root() {
        return;
    }
    let kept = Kept::new(Setup::default());
    let mut stream = kept.asked(0);
    assert_eq!(kept.mark(&stream), MARK_UNDECIDED, "a flowtable would hide the next request");
    let queued = observe::queued(&kept.world.netns).unwrap();
    for _ in 0..100 {
        round_trip(&mut stream, &[b'x'; 1000], 1000).unwrap();
    }
    let queued = observe::queued(&kept.world.netns).unwrap() - queued;
    assert!((1..=15).contains(&queued), "{queued} packets of an upload went to the queue");
    assert_eq!(kept.mark(&stream), MARK_TRUSTED);

    let (_dns, _web) = service::named(&kept.world, &["file.test"]).unwrap();
    let queued = observe::queued(&kept.world.netns).unwrap();
    let url = format!("http://file.test{}", page::MIB16);
    let fetched = service::fetch(kept.world.client(), Family::V4, &url, LIMIT).unwrap();
    assert!(fetched.is_success() && fetched.bytes == 16 << 20, "{fetched:?}");
    let queued = observe::queued(&kept.world.netns).unwrap() - queued;
    assert!(queued < 15, "{queued} packets of a download went to the queue");

    let mut stream = kept.asked(0);
    for _ in 0..20 {
        assert!(ask(&mut stream, "fine.test"));
    }
    assert_eq!(kept.mark(&stream), MARK_UNDECIDED, "requests stay requests");
}

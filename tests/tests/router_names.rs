//! Names of flows that say none: what a device asked before, whose answers count, and for whom.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use sluice_tests::agent::{Agent, Setup};
use sluice_tests::dns::{self, Kind, ask};
use sluice_tests::host::Host;
use sluice_tests::report::Flow;
use sluice_tests::router::{Build, LAN_V4, Router};
use sluice_tests::service::{Dns, Family, Web, fetch};
use sluice_tests::skip::without_root;
use sluice_tests::traffic::{UdpService, udp};

/// Emulated and shared machines are slow.
const LIMIT: Duration = Duration::from_secs(120);
const NAMES: [&str; 3] = ["first.test", "second.test", "third.test"];

/// A router with two clients, its own name server, and a web server beyond it.
struct World {
    _web: Web,
    _dns: Dns,
    router: Router,
}

impl World {
    fn new() -> Self {
        let router = Router::new(Build { clients: 2, ..Build::default() }).unwrap();
        let dns = Dns::start(&router, &NAMES).unwrap();
        let web = Web::start(&router.server, &NAMES).unwrap();
        Self { _web: web, _dns: dns, router }
    }

    fn asks(&self, client: usize, name: &str) {
        let answer = ask(&self.router.clients[client], LAN_V4.into(), name, Kind::A).unwrap();
        assert_eq!(dns::addresses(&answer), [IpAddr::from(self.router.server.v4)]);
    }

    /// The flow of a connection to the server by address: its ClientHello names nobody.
    fn nameless(&self, agent: &Agent, client: usize) -> Flow {
        let host = &self.router.clients[client];
        let url = format!("https://{}/", self.router.server.v4);
        flow_of(agent, host, Family::V4, &url)
    }
}

fn flow_of(agent: &Agent, host: &Host, family: Family, url: &str) -> Flow {
    let fetched = fetch(host, family, url, LIMIT).unwrap();
    assert!(fetched.is_success(), "{url}: {fetched:?}");
    agent.wait_for_flow("decided", |flow| flow.sport == fetched.port).unwrap()
}

/// R40, R41: the router's own answer names a flow that names nobody, the first one while it is fresh;
/// not the flow of another device; what the flow says itself counts more; `why` finds it.
#[test]
fn a_flow_without_a_name_gets_the_one_that_its_device_asked_for() {
    if without_root() {
        return;
    }
    let world = World::new();
    let agent = Agent::start(&world.router, Setup::default()).unwrap();
    assert_eq!(world.nameless(&agent, 0).named(), None, "nobody has asked");
    world.asks(0, "first.test");
    world.asks(0, "second.test");
    let flow = world.nameless(&agent, 0);
    assert_eq!(flow.named(), Some(("first.test", "dns")), "{flow:?}");
    assert_eq!((flow.sni, &*flow.verdict), (None, "trusted"));
    assert_eq!(world.nameless(&agent, 1).named(), None, "another device asked");
    world.asks(1, "third.test");
    assert_eq!(world.nameless(&agent, 1).named(), Some(("third.test", "dns")));

    let client = world.router.client();
    let flow = flow_of(&agent, client, Family::V4, "https://second.test/");
    assert_eq!(flow.named(), Some(("second.test", "tls")));
    let flow = flow_of(&agent, client, Family::V4, "http://second.test/");
    assert_eq!(flow.named(), Some(("second.test", "http")));

    let shown = agent.ask(&["flows"]).unwrap();
    let has_source = |line: &str| line.contains("first.test") && line.contains(" dns ");
    assert!(shown.lines().any(has_source), "{shown}");
    let why = agent.why("first.test").unwrap();
    assert_eq!(why.flows.len(), 1);
    let status = agent.status().unwrap();
    assert!(status.features.iter().any(|feature| {
        feature.name == "names from DNS"
            && (&*feature.rung, &*feature.state) == ("packet sockets", "active")
    }));
    let names = status.names;
    assert!(names.questions >= 3 && names.answers == names.questions, "{names:?}");
    assert_eq!((names.unasked, names.malformed), (0, 0));
}

/// R40: a real client that hides the name and has looked it up, in both families, asking in IPv4.
#[test]
fn a_client_that_names_nobody_is_named_in_both_families() {
    if without_root() {
        return;
    }
    let world = World::new();
    let agent = Agent::start(&world.router, Setup::default()).unwrap();
    for family in ["-4", "-6"] {
        let mut command = world.router.client().command("openssl");
        command.args(["s_client", "-noservername", family, "-connect", "third.test:443"]);
        command.stdin(std::process::Stdio::null());
        let output = sluice_tests::process::output(&mut command).unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(text.contains("CONNECTED"), "{text} {output:?}");
        let flow = agent
            .wait_for_flow("named", |flow| {
                flow.dst.is_ipv6() == (family == "-6") && flow.dport == 443
            })
            .unwrap();
        assert_eq!((flow.named(), &flow.sni), (Some(("third.test", "dns")), &None), "{flow:?}");
    }
}

/// R41: a name server beyond the router is heard as well, and its answer counts only for the question
/// that was asked.
#[test]
fn an_answer_from_beyond_counts_only_if_it_was_asked_for() {
    if without_root() {
        return;
    }
    let world = World::new();
    let (router, client) = (&world.router, world.router.client());
    let like = IpAddr::from(router.server.v4);
    let address = router.server.v4.octets();
    let service = UdpService::start(&router.server, like, 53, move |question| {
        if question[2] & 0x80 != 0 {
            return None;
        }
        let mut answer = question.get(..question.len() - 11)?.to_vec();
        answer[2..4].copy_from_slice(&[0x81, 0x80]);
        answer[6..8].copy_from_slice(&[0, 1]);
        answer[10..12].copy_from_slice(&[0, 0]);
        answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4]);
        answer.extend(address);
        // Another number than the question had.
        answer[0] ^= u8::from(question.windows(6).any(|label| label == b"forged"));
        Some(answer)
    })
    .unwrap();
    let agent = Agent::start(router, Setup::default()).unwrap();
    let lookup = |name: &str| {
        let socket = udp(client, service.address()).unwrap();
        socket.send(&dns::question(7, name, Kind::A)).unwrap();
        let mut answer = [0; 512];
        socket.recv(&mut answer).unwrap();
    };
    lookup("forged.test");
    agent
        .wait_for_status("the answer was seen", LIMIT, |status| {
            (status.names.unasked == 1).then_some(())
        })
        .unwrap();
    assert_eq!(world.nameless(&agent, 0).named(), None);
    lookup("honest.test");
    assert_eq!(world.nameless(&agent, 0).named(), Some(("honest.test", "dns")));
    // From port 53 of a device of the LAN to another: on its way in, no answer counts.
    let names = agent.status().unwrap().names;
    let from = SocketAddr::new(client.v4.into(), 53);
    let socket = client.netns.enter(|| std::net::UdpSocket::bind(from)).unwrap().unwrap();
    let mut answer = dns::question(7, "evil.test", Kind::A);
    answer[2] |= 0x80;
    socket.send_to(&answer, service.address()).unwrap();
    lookup("honest.test");
    // What the agent has read so far is for it to say; the client had its answer before.
    let after = agent
        .wait_for_status("the second answer was seen", LIMIT, |status| {
            (status.names.answers > names.answers).then_some(status.names)
        })
        .unwrap();
    assert_eq!((after.unasked, after.answers), (names.unasked, names.answers + 1));
}

/// Off is off: no socket, no name, and it says so.
#[test]
fn without_room_for_names_nothing_is_heard() {
    if without_root() {
        return;
    }
    let world = World::new();
    let mut agent = Agent::start(&world.router, Setup::default().main("dns_names", 0)).unwrap();
    world.asks(0, "first.test");
    assert_eq!(world.nameless(&agent, 0).named(), None);
    let packet_sockets = || world.router.netns.proc_net("packet").unwrap().lines().count() - 1;
    assert_eq!(packet_sockets(), 0);
    let status = agent.status().unwrap();
    let feature = status.features.iter().find(|feature| feature.name == "names from DNS").unwrap();
    assert_eq!((&*feature.state, feature.reasons.len()), ("off", 1));
    // A reload switches it on.
    agent.reload(&Setup::default()).unwrap();
    agent.wait_for_status("sockets", LIMIT, |_| (packet_sockets() == 1).then_some(())).unwrap();
    world.asks(0, "first.test");
    assert_eq!(world.nameless(&agent, 0).named(), Some(("first.test", "dns")));
}

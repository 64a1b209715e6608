//! Names of flows that say none: what a device asked before, whose answers count, and for whom.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use sluice::config::MarkMask;
use sluice_abi::message::RING;
use sluice_tests::agent::{Agent, Setup};
use sluice_tests::dns::{self, Kind, ask};
use sluice_tests::host::Host;
use sluice_tests::observe;
use sluice_tests::report::{Flow, Status};
use sluice_tests::router::{Build, LAN_V4, Router};
use sluice_tests::service::{Dns, Family, Web, fetch};
use sluice_tests::skip::without_root;
use sluice_tests::traffic::{UdpService, receive, udp};
use sluice_tests::wait;

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

/// With the fast path and without: where rules copy nothing packet sockets take its place.
fn setups() -> [Setup; 2] {
    [Setup::default(), Setup::default().without_tc()]
}

/// The rung of names from DNS. Checks that it is the best there can be, and that each better one has its reason.
fn rung(agent: &Agent) -> String {
    let status = agent.status().unwrap();
    let is = |name: &str| status.features.iter().find(|feature| feature.name == name).unwrap();
    let names = is("names from DNS");
    let has_tc = is("fast path lan").state != "off";
    let (rung, state, better) = match (&*status.netfilter.backend, has_tc) {
        ("nft", _) => ("nft log", "active", &[][..]),
        (_, true) => ("tc", "active", &["nft log: "][..]),
        (_, false) => ("packet sockets", "degraded", &["tc: ", "nft log: "][..]),
    };
    assert_eq!((&*names.rung, &*names.state), (rung, state), "{names:?}");
    assert_eq!(names.reasons.len(), better.len(), "{names:?}");
    for (reason, better) in names.reasons.iter().zip(better) {
        assert!(reason.contains(better), "{names:?}");
    }
    rung.to_owned()
}

/// Whether a program is on the LAN's way out, which every packet of a download pays for.
fn watches_the_way_out(router: &Router) -> bool {
    let attached = observe::attached(&router.netns).unwrap();
    attached.iter().any(|it| it.device == router.lan && it.hook.ends_with("/egress"))
}

fn packet_sockets(world: &World) -> usize {
    world.router.netns.proc_net("packet").unwrap().lines().count() - 1
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
    for setup in setups() {
        let world = World::new();
        let agent = Agent::start(&world.router, setup).unwrap();
        let rung = rung(&agent);
        assert_eq!(packet_sockets(&world), usize::from(rung == "packet sockets"));
        assert_eq!(watches_the_way_out(&world.router), rung == "tc", "{rung}");
        names_of_devices(&world, &agent);
    }
}

fn names_of_devices(world: &World, agent: &Agent) {
    assert_eq!(world.nameless(agent, 0).named(), None, "nobody has asked");
    world.asks(0, "first.test");
    world.asks(0, "second.test");
    let flow = world.nameless(agent, 0);
    assert_eq!(flow.named(), Some(("first.test", "dns")), "{flow:?}");
    assert_eq!((flow.sni, &*flow.verdict), (None, "trusted"));
    assert_eq!(world.nameless(agent, 1).named(), None, "another device asked");
    world.asks(1, "third.test");
    assert_eq!(world.nameless(agent, 1).named(), Some(("third.test", "dns")));

    let client = world.router.client();
    let flow = flow_of(agent, client, Family::V4, "https://second.test/");
    assert_eq!(flow.named(), Some(("second.test", "tls")));
    let flow = flow_of(agent, client, Family::V4, "http://second.test/");
    assert_eq!(flow.named(), Some(("second.test", "http")));

    let shown = agent.ask(&["flows"]).unwrap();
    let has_source = |line: &str| line.contains("first.test") && line.contains(" dns ");
    assert!(shown.lines().any(has_source), "{shown}");
    let why = agent.why("first.test").unwrap();
    assert_eq!(why.flows.len(), 1);
    let status = agent.status().unwrap();
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

/// A name server on `host` that answers with its address, to what is about forgers under another number
/// than the question had.
fn resolver(host: &Host) -> UdpService {
    let address = host.v4.octets();
    UdpService::start(host, host.v4.into(), 53, move |question| {
        if question[2] & 0x80 != 0 {
            return None;
        }
        let mut answer = question.get(..question.len() - 11)?.to_vec();
        answer[2..4].copy_from_slice(&[0x81, 0x80]);
        answer[6..8].copy_from_slice(&[0, 1]);
        answer[10..12].copy_from_slice(&[0, 0]);
        answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4]);
        answer.extend(address);
        answer[0] ^= u8::from(question.windows(6).any(|label| label == b"forged"));
        Some(answer)
    })
    .unwrap()
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
    let service = resolver(&router.server);
    for setup in setups() {
        let agent = Agent::start(router, setup).unwrap();
        rung(&agent);
        let lookup = |name: &str| {
            let socket = udp(client, service.address()).unwrap();
            socket.send(&dns::question(7, name, Kind::A)).unwrap();
            assert!(receive(&socket, &mut [0; 512]).unwrap() > 0);
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
        let socket = client.netns.enter(|| UdpSocket::bind(from)).unwrap().unwrap();
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
}

/// R40: a flow of DNS that is trusted is heard as long as it lasts.
#[test]
fn a_trusted_flow_of_dns_is_heard_to_its_end() {
    const TIMES: u64 = 40;
    if without_root() {
        return;
    }
    let world = World::new();
    let service = resolver(&world.router.server);
    let mut setup = Setup::default().main("sweep_s", 1);
    setup.more = setup.more.section("rule", "dns").option("action", "allow");
    setup.more = setup.more.list("port", &["udp/53"]);
    let agent = Agent::start(&world.router, setup).unwrap();
    let socket = udp(world.router.client(), service.address()).unwrap();
    let port = socket.local_addr().unwrap().port();
    let lookup = |id: u64| {
        socket.send(&dns::question(id as u16, "long.test", Kind::A)).unwrap();
        assert!(receive(&socket, &mut [0; 512]).unwrap() > 0);
    };
    let seen = |flow: &Flow| (flow.original_packets, flow.reply_packets);
    let flow = || agent.wait_for_flow("decided", |flow| flow.sport == port).unwrap();
    // A sweep finds out under which key the answers come.
    let mut asked = 0;
    let is_known = || {
        lookup(asked);
        asked += 1;
        flow().reply_packets > 0
    };
    wait::until_true("answers are counted", LIMIT, is_known).unwrap();
    let before = flow();
    assert_eq!(&*before.verdict, "trusted");
    (0..TIMES).for_each(lookup);
    asked += TIMES;
    let heard = |status: &Status| (status.names.answers == asked).then_some(status.names.questions);
    assert_eq!(agent.wait_for_status("all were heard", LIMIT, heard).unwrap(), asked);
    let (there, back) = seen(&before);
    assert_eq!(seen(&flow()), (there + TIMES, back + TIMES), "the fast path had all of them");
    let filter = format!("-f ipv4 -p udp --orig-port-src {port}");
    let [connection] = &observe::connections(&world.router.netns, &filter).unwrap()[..] else {
        panic!("one connection")
    };
    let marks = MarkMask::default();
    assert_eq!(connection.mark & marks.bits(), marks.undecided(), "it would be offloaded");
}

/// R40: what was told while no agent was there counts for the next one, with the time when it was told, where
/// programs tell of it; where rules copy it nobody was there for the copy.
#[test]
fn what_is_told_while_the_agent_is_gone_is_known_to_the_next() {
    if without_root() {
        return;
    }
    let world = World::new();
    let mut agent = Agent::start(&world.router, Setup::default()).unwrap();
    world.asks(0, "first.test");
    assert_eq!(world.nameless(&agent, 0).named(), Some(("first.test", "dns")));
    agent.kill9().unwrap();
    world.asks(0, "second.test");
    agent.start_again(&world.router).unwrap();
    let names = agent.status().unwrap().names;
    if rung(&agent) == "tc" {
        assert_eq!(world.nameless(&agent, 0).named(), Some(("second.test", "dns")));
        assert_eq!(
            (names.answers, names.unasked, names.lost),
            (names.questions, 0, 0),
            "{names:?}"
        );
    }
    world.asks(1, "third.test");
    assert_eq!(world.nameless(&agent, 1).named(), Some(("third.test", "dns")));
}

/// What finds no room is counted, and that is all: devices are answered, and what comes later is heard.
#[test]
fn messages_that_find_no_room_are_counted_and_nothing_else_happens() {
    if without_root() {
        return;
    }
    let world = World::new();
    let mut agent = Agent::start(&world.router, Setup::default()).unwrap();
    agent.sigstop().unwrap();
    let socket = udp(world.router.client(), SocketAddr::new(LAN_V4.into(), 53)).unwrap();
    // More than there is room for when each takes as few bytes as it can.
    for id in 0..RING / 64 {
        socket.send(&dns::question(id as u16, "first.test", Kind::A)).unwrap();
    }
    // The name server has a flood to answer.
    let is_answered = || ask(world.router.client(), LAN_V4.into(), "second.test", Kind::A).is_ok();
    wait::until_true("devices are answered", LIMIT, is_answered).unwrap();
    agent.sigcont().unwrap();
    // Of a log the numbers tell what is missing, with the next message.
    let is_counted = || is_answered() && agent.status().is_ok_and(|it| it.names.lost > 0);
    wait::until_true("some were lost", LIMIT, is_counted).unwrap();
    rung(&agent);
    let heard = |status: &Status| (status.names.questions > 100).then_some(());
    agent.wait_for_status("the others were read", LIMIT, heard).unwrap();
    let third = || ask(&world.router.clients[1], LAN_V4.into(), "third.test", Kind::A).is_ok();
    wait::until_true("later ones too", LIMIT, third).unwrap();
    let is_named = || world.nameless(&agent, 1).named() == Some(("third.test", "dns"));
    wait::until_true("what came later is known", LIMIT, is_named).unwrap();
}

/// Off is off: nothing is heard, no name, and it says so.
#[test]
fn without_room_for_names_nothing_is_heard() {
    if without_root() {
        return;
    }
    let world = World::new();
    let mut agent = Agent::start(&world.router, Setup::default().main("dns_names", 0)).unwrap();
    world.asks(0, "first.test");
    assert_eq!(world.nameless(&agent, 0).named(), None);
    assert_eq!(packet_sockets(&world), 0);
    let features = agent.status().unwrap().features;
    let names = features.iter().find(|feature| feature.name == "names from DNS").unwrap();
    assert_eq!((&*names.state, names.reasons.len()), ("off", 1));
    assert!(ring(&agent) < RING);
    // A reload switches it on.
    agent.reload(&Setup::default()).unwrap();
    // Another size of a map: the agent brings itself up anew, and does not answer meanwhile.
    let is_on = || agent.status().is_ok_and(|status| status.names.capacity > 0);
    wait::until_true("names", LIMIT, is_on).unwrap();
    rung(&agent);
    assert_eq!((packet_sockets(&world), ring(&agent)), (0, RING));
    world.asks(0, "first.test");
    assert_eq!(world.nameless(&agent, 0).named(), Some(("first.test", "dns")));
}

/// Bytes of the ring of messages.
fn ring(agent: &Agent) -> u32 {
    agent.map("MESSAGES").unwrap().info().unwrap().max_entries()
}

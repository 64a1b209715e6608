//! The share of the queue that each device has: runs where nft has its own queue expression, which the
//! kernels of the virtual machines do.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::io::Write as _;
use std::net::{IpAddr, TcpStream};
use std::time::Duration;

use serde_json::{Value as Json, json};
use sluice_tests::agent::{Agent, Setup};
use sluice_tests::hello::client_hello;
use sluice_tests::host::{Host, mac_text};
use sluice_tests::observe;
use sluice_tests::router::{Build, Router};
use sluice_tests::skip::without_nft_queue;
use sluice_tests::traffic::{TcpService, connect, round_trip};
use sluice_tests::wait;

const LIMIT: Duration = Duration::from_secs(60);
/// More than a queue holds, from one device.
const FLOOD: u64 = 2000;
/// Packets that a device may send at once.
const BURST: u64 = 512;

struct World {
    router: Router,
    echo: TcpService,
}

impl World {
    fn new() -> Self {
        let router = Router::new(Build { clients: 2, ..Build::default() }).unwrap();
        let echo = TcpService::echo(&router.server, router.server.v4.into(), 443).unwrap();
        Self { router, echo }
    }

    fn start(&self, policy: &str) -> Agent {
        let setup = Setup::default().main("policy", policy).main("queue_share", 100);
        Agent::start(&self.router, setup.rule("ads", "block", &["ads.test"])).unwrap()
    }

    fn flooder(&self) -> &Host {
        &self.router.clients[0]
    }

    fn connect(&self) -> TcpStream {
        let stream = connect(&self.router.clients[1], self.echo.address()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
        stream
    }

    /// Datagrams that open a flow each.
    fn flood(&self) {
        let flooder = self.flooder();
        let ends = (IpAddr::from(flooder.v4), IpAddr::from(self.router.server.v4));
        let (wire, frame) =
            (flooder.injector().unwrap(), flooder.frame().addresses(ends.0, ends.1));
        for port in (10_000..).take(FLOOD as usize) {
            wire.send(&frame.clone().udp(port, 9).payload(b"?").bytes()).unwrap();
        }
    }
}

fn rules(agent: &Agent, counter: &str) -> u64 {
    agent.status().unwrap().netfilter.counters.get(counter).copied().unwrap_or_default()
}

/// R19: while the agent does not get round to its queue, one device fills it for itself alone: what
/// another one sends still waits for its inspection. What passed uninspected is undecided and told.
#[test]
fn a_device_that_sends_more_than_its_share_pushes_nobody_past_the_inspection() {
    if without_nft_queue().unwrap() {
        return;
    }
    let world = World::new();
    let mut agent = world.start("open");
    let mut stream = world.connect();
    let hello = client_hello("ads.test", 0);
    agent.sigstop().unwrap();
    world.flood();
    let sent = stream.write_all(&hello);
    agent.sigcont().unwrap();
    sent.unwrap();
    let answer = round_trip(&mut stream, b"?", hello.len());
    assert!(answer.is_err(), "the hello went past a queue that somebody else had filled");

    let over = rules(&agent, "over_share");
    // What came back within the time of the flood, and nothing else, was queued beyond the burst.
    assert!((FLOOD - BURST - 500..=FLOOD - BURST).contains(&over), "{over}");
    let device = mac_text(world.flooder().mac);
    let told = || -> Vec<Json> {
        let lines = agent.ask(&["events", "--type", "health", "--grep", "its share"]).unwrap();
        lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    wait::until_true("the device was told", LIMIT, || !told().is_empty()).unwrap();
    let event = &told()[0];
    assert_eq!((&event["rung"], &event["severity"]), (&json!("queue_share"), &json!("warning")));
    let what = format!("{device} sent more than its share to the queue: {over} packets passed");
    assert!(event["reasons"][0].as_str().unwrap().starts_with(&what), "{event} {what}");
    let connections = observe::connections(&world.router.netns, "-p udp").unwrap();
    let is_undecided = |mark: u32| mark & 0x0700_0000 == 0x0300_0000;
    let undecided = connections.iter().filter(|one| is_undecided(one.mark)).count() as u64;
    assert!(undecided >= over, "{undecided} of {over}");
    // And who keeps within its share is inspected as ever.
    let mut next = world.connect();
    assert!(round_trip(&mut next, &hello, hello.len()).is_err());
    let other = client_hello("news.test", 0);
    round_trip(&mut world.connect(), &other, other.len()).unwrap();
}

/// R19: with a closed policy what is more than a share is dropped, for a reason of its own.
#[test]
fn with_a_closed_policy_what_is_more_than_a_share_is_dropped() {
    if without_nft_queue().unwrap() {
        return;
    }
    let world = World::new();
    let agent = world.start("closed");
    world.flood();
    let dropped = rules(&agent, "dropped_share");
    assert!((FLOOD - BURST - 500..=FLOOD - BURST).contains(&dropped), "{dropped}");
    let status = agent.status().unwrap();
    let reason = status.drops.iter().find(|drop| drop.reason == "queue_share").unwrap();
    assert_eq!((&*reason.place, reason.packets), ("netfilter", dropped));
    let hello = client_hello("news.test", 0);
    round_trip(&mut world.connect(), &hello, hello.len()).unwrap();
    assert_eq!(rules(&agent, "dropped_share"), dropped);
}

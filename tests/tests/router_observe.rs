//! Blocklists that only observe: what they count, what they leave alone, and what becomes of them when
//! they block.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::os::fd::AsFd as _;
use std::path::PathBuf;
use std::time::Duration;

use sluice::sys::bpf;
use sluice_abi::names;
use sluice_tests::agent::{Agent, Setup};
use sluice_tests::directory::Directory;
use sluice_tests::lists;
use sluice_tests::report::{Flow, List, Status};
use sluice_tests::router::{Build, Router, WAN};
use sluice_tests::service::{Family, Fetched, Web, fetch, page};
use sluice_tests::skip::without_root;

/// Emulated and shared machines are slow.
const LIMIT: Duration = Duration::from_secs(120);
/// More than a download of sixteen seconds takes.
const SLOW: Duration = Duration::from_secs(25);
/// Time for a connection that is blocked.
const BLOCKED: Duration = Duration::from_secs(3);

/// A router with two clients, a web server with several addresses, and a place for lists.
struct World {
    _web: Web,
    router: Router,
    files: Directory,
}

impl World {
    fn new() -> Self {
        let router = Router::new(Build { clients: 2, ..Build::default() }).unwrap();
        let more = ["203.0.113.20/24", "203.0.113.21/24", "203.0.113.22/24", "2001:db8:77::20/64"];
        router.server.add_addresses(&more).unwrap();
        let web = Web::start(&router.server, &["any.test"]).unwrap();
        Self { _web: web, router, files: Directory::new("observe").unwrap() }
    }

    fn write(&self, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
        self.files.write(name, text).unwrap()
    }

    fn fetch(&self, client: usize, host: &str, limit: Duration) -> Fetched {
        let family = if host.starts_with('[') { Family::V6 } else { Family::V4 };
        fetch(&self.router.clients[client], family, &format!("https://{host}/"), limit).unwrap()
    }

    /// What became of a flow to `host`, which works.
    fn works(&self, agent: &Agent, client: usize, host: &str) -> Flow {
        let fetched = self.fetch(client, host, LIMIT);
        assert!(fetched.is_success(), "{host}: {fetched:?}");
        agent.wait_for_flow("decided", |flow| flow.sport == fetched.port).unwrap()
    }
}

fn list<'a>(status: &'a Status, name: &str) -> &'a List {
    status.lists.iter().find(|list| list.name == name).unwrap()
}

/// Whether the kernel has an image of lists.
fn has_image(agent: &Agent) -> bool {
    let mut id = 0_u32;
    bpf::array_get(agent.map(names::BULK).unwrap().fd().as_fd(), 0, &mut id).is_ok()
}

/// R173: a blocklist that observes drops nothing, is not in the kernel, and counts by device what it
/// would have blocked, with the entry; with another action it blocks at once, also flows that live, and
/// what it counted stays.
#[test]
fn a_blocklist_that_observes_counts_and_drops_nothing() {
    if without_root() {
        return;
    }
    let world = World::new();
    // The first one has the router's own address, and is left out.
    let file = world.write("watched", "203.0.113.0/28\n203.0.113.20/31\n2001:db8:77::20 # six\n");
    let with = |action: &str| {
        let mut setup = Setup::default().blocklist_file("watched", &file, 10);
        setup.more = setup.more.option("action", action);
        setup
    };
    let mut agent = Agent::start(&world.router, with("observe")).unwrap();
    for (client, host, expected) in [
        (0, "203.0.113.20", Some("blocklist watched: 203.0.113.20/31")),
        (1, "203.0.113.20", Some("blocklist watched: 203.0.113.20/31")),
        (1, "203.0.113.21", Some("blocklist watched: 203.0.113.20/31")),
        (0, "[2001:db8:77::20]", Some("blocklist watched: 2001:db8:77::20")),
        (0, "203.0.113.22", None),
        (0, "203.0.113.10", None),
    ] {
        let flow = world.works(&agent, client, host);
        assert_eq!((&*flow.verdict, flow.observed.as_deref()), ("trusted", expected), "{host}");
    }
    let status = agent.status().unwrap();
    let watched = list(&status, "watched");
    assert_eq!((watched.observes, watched.entries, watched.packets), (true, 2, 0));
    assert_eq!(watched.flows, 4);
    let [first, second] = [0, 1].map(|client: usize| &world.router.clients[client]);
    let devices: Vec<_> = watched.devices.iter().map(|one| (one.address, one.flows)).collect();
    assert_eq!(devices, [(second.v4.into(), 2), (first.v4.into(), 1), (first.v6.into(), 1)]);
    assert!(!has_image(&agent), "the kernel has an image");
    assert_eq!(agent.count(WAN, "xdp_drop_listed").unwrap(), 0);
    let why = agent.why("203.0.113.21").unwrap();
    let [cause] = &why.causes[..] else { unreachable!("{why:?}") };
    assert_eq!((&*cause.action, &*cause.by), ("observe", "blocklist watched"));
    assert_eq!(cause.entry, format!("203.0.113.20/31, {}:2", file.display()));
    assert_eq!(agent.why("203.0.113.22").unwrap().causes.len(), 0);
    let shown = agent.ask(&["status"]).unwrap();
    assert!(shown.contains("203.0.113.0/28 is left out"), "{shown}");
    let metrics = agent.ask(&["metrics"]).unwrap();
    assert!(
        metrics.contains("sluice_list_observed_flows_total{list=\"watched\"} 4\n"),
        "{metrics}"
    );

    let url = format!("https://203.0.113.20{}", page::SLOW);
    std::thread::scope(|scope| {
        let slow = scope.spawn(|| fetch(world.router.client(), Family::V4, &url, SLOW).unwrap());
        agent.wait_for_flow("trusted", |flow| flow.reply_packets > 100).unwrap();
        let status = agent.reloaded(&with("block")).unwrap();
        let watched = list(&status, "watched");
        assert_eq!((watched.observes, watched.flows), (false, 5));
        assert!(has_image(&agent));
        assert!(!world.fetch(1, "203.0.113.21", BLOCKED).is_success());
        assert!(!slow.join().unwrap().is_success());
    });
    let blocked = list(&agent.status().unwrap(), "watched").packets;
    assert!(blocked > 0);
    assert_eq!(agent.why("203.0.113.21").unwrap().causes[0].action, "drop");

    // And back: nothing is dropped any more, and it goes on counting.
    agent.reloaded(&with("observe")).unwrap();
    assert!(!has_image(&agent));
    world.works(&agent, 1, "203.0.113.21");
    assert_eq!(list(&agent.status().unwrap(), "watched").flows, 6);
}

/// R173, R46: what an allowlist lifts for both roles, and what something blocks, is not counted; of two
/// lists that have an address the first counts; a list that blocks goes on beside one that observes.
#[test]
fn what_is_lifted_or_blocked_is_not_counted() {
    if without_root() {
        return;
    }
    let world = World::new();
    let mut setup = Setup::default();
    let uci = setup.more.section("blocklist", "watched").option("action", "observe");
    let uci = uci.list("entry", &["203.0.113.20", "203.0.113.21", "203.0.113.22"]);
    let uci = uci.section("blocklist", "second").option("action", "observe");
    let uci = uci.list("entry", &["203.0.113.20/30"]);
    let uci = uci.section("allowlist", "good").list("entry", &["203.0.113.21"]);
    setup.more = uci.section("rule", "no").option("action", "block").list("ip", &["203.0.113.22"]);
    let setup = setup.blocklist("bad", &["2001:db8:77::20"]);
    let agent = Agent::start(&world.router, setup).unwrap();
    let seen = world.works(&agent, 0, "203.0.113.20").observed;
    assert_eq!(seen.as_deref(), Some("blocklist watched: 203.0.113.20"));
    assert_eq!(world.works(&agent, 0, "203.0.113.21").observed, None);
    for host in ["203.0.113.22", "[2001:db8:77::20]"] {
        assert!(!world.fetch(0, host, BLOCKED).is_success(), "{host}");
    }
    let status = agent.status().unwrap();
    let flows = |name: &str| list(&status, name).flows;
    assert_eq!((flows("watched"), flows("second"), flows("bad")), (1, 0, 0));
    assert!(list(&status, "bad").packets > 0);
}

/// R182: lists that observe count for `list_memory_kib` as those do that block.
#[test]
fn lists_that_observe_beyond_their_memory_are_refused_and_the_old_ones_stay() {
    if without_root() {
        return;
    }
    let world = World::new();
    let file = world.write("watched", "203.0.113.20\n");
    let with = |kib: u32| {
        let mut setup = Setup::default().blocklist_file("watched", &file, 2_000_000);
        setup.more = setup.more.option("action", "observe");
        setup.main("list_memory_kib", kib)
    };
    let mut agent = Agent::start(&world.router, with(1024)).unwrap();
    // 200,000 addresses of six bytes.
    let large = lists::text(&lists::random(5, 200_000, 0));
    world.write("watched", format!("203.0.113.21\n{large}"));
    let status = agent.refused(&with(1024)).unwrap();
    let [refusal] = &status.config_errors[..] else { unreachable!("{:?}", status.config_errors) };
    println!("{refusal}");
    assert!(
        refusal.starts_with("the lists need 1,173 KiB beside 1 KiB in force and 96 KiB of"),
        "{refusal}"
    );
    assert!(refusal.ends_with("list_memory_kib allows 1,024 KiB"), "{refusal}");
    assert_eq!((status.generation, list(&status, "watched").entries), (1, 1));
    let seen = |host: &str| world.works(&agent, 0, host).observed;
    assert_eq!(seen("203.0.113.20").as_deref(), Some("blocklist watched: 203.0.113.20"));
    assert_eq!(seen("203.0.113.21"), None);

    let status = agent.reloaded(&with(2048)).unwrap();
    assert_eq!((status.config_errors.len(), list(&status, "watched").entries), (0, 200_001));
    println!(
        "200,001 addresses: {} KiB, loaded in {} ms",
        status.list_image.observing_kib, status.list_image.load_ms
    );
    assert!(status.list_image.observing_kib <= 1173);
    let seen = world.works(&agent, 0, "203.0.113.21").observed;
    assert_eq!(seen.as_deref(), Some("blocklist watched: 203.0.113.21"));
}

//! Devices that come, go and change while the agent runs: noticed at once, not with the next sweep.

#![expect(clippy::print_stdout, clippy::unwrap_used, reason = "helpers of tests")]

use std::time::{Duration, Instant};

use sluice_tests::agent::{Agent, Setup};
use sluice_tests::netns::Netns;
use sluice_tests::report::Status;
use sluice_tests::router::{Build, Router};
use sluice_tests::skip::without_root;

/// Far below the sweep of these tests, far above what a busy machine needs.
const LIMIT: Duration = Duration::from_secs(5);

struct World {
    router: Router,
    outside: Netns,
    agent: Agent,
}

impl World {
    /// An agent that sweeps once an hour, with an interface whose device is not there.
    fn new(setup: Setup) -> Self {
        let router = Router::new(Build::default()).unwrap();
        let mut setup = setup.main("sweep_s", 3600);
        setup.more = setup.more.section("interface", "late").option("device", "late0");
        setup.more = setup.more.option("role", "wan");
        let agent = Agent::start(&router, setup).unwrap();
        Self { router, outside: Netns::new("out").unwrap(), agent }
    }

    fn plug(&self) {
        let name = self.router.netns.name();
        self.outside
            .ip(&format!("link add far type veth peer name late0 netns {name}\nlink set far up\n"))
            .unwrap();
        self.router.netns.ip("link set late0 up").unwrap();
    }

    /// Waits until the shield of the device is on a rung.
    fn expect(&self, what: &str, rung: &str) {
        let start = Instant::now();
        let is_there = |status: &Status| {
            let shield = status.features.iter().find(|feature| feature.name == "shield late");
            shield.is_some_and(|shield| shield.rung == rung)
        };
        self.agent.wait_for_status(what, LIMIT, |status| is_there(status).then_some(())).unwrap();
        println!("{what}: {rung} after {} ms", start.elapsed().as_millis());
    }
}

/// R118, R125: plugged in, taken away, plugged in again, renamed and back.
#[test]
fn a_device_that_comes_is_shielded_at_once_whatever_it_was_before() {
    if without_root() {
        return;
    }
    let world = World::new(Setup::default());
    let inside = &world.router.netns;
    world.expect("not there", "none");
    world.plug();
    world.expect("plugged in", "native");
    inside.ip("link del late0").unwrap();
    world.expect("gone", "none");
    world.plug();
    world.expect("plugged in again", "native");
    inside.ip("link set late0 down\nlink set late0 name early0\n").unwrap();
    world.expect("renamed", "none");
    inside.ip("link set early0 name late0\nlink set late0 up\n").unwrap();
    world.expect("called so again", "native");
}

/// R58, R123: the driver refuses what is too long for it, and is asked again when that changes.
#[test]
fn a_driver_that_refused_for_its_mtu_is_asked_again_when_it_changes() {
    if without_root() {
        return;
    }
    let world = World::new(Setup::default());
    let name = world.router.netns.name();
    world
        .outside
        .ip(&format!(
            "link add far mtu 9000 type veth peer name late0 mtu 9000 netns {name}\nlink set far up\n"
        ))
        .unwrap();
    world.router.netns.ip("link set late0 up").unwrap();
    world.expect("too long for the driver", "tc");
    let status = world.agent.status().unwrap();
    let shield = status.features.iter().find(|feature| feature.name == "shield late").unwrap();
    assert_eq!(shield.state, "degraded");
    assert!(shield.reasons.iter().any(|reason| reason.starts_with("native: ")), "{shield:?}");
    world.outside.ip("link set far mtu 1500").unwrap();
    world.router.netns.ip("link set late0 mtu 1500").unwrap();
    world.expect("short enough", "native");
}

/// R178: an address that the router gets is spared from then on.
#[test]
fn an_address_that_the_router_gets_is_left_out_of_the_lists_at_once() {
    if without_root() {
        return;
    }
    let world = World::new(Setup::default().blocklist("bad", &["198.51.100.0/24", "192.0.2.9"]));
    let entries = |status: &Status| status.lists[0].entries;
    assert_eq!(entries(&world.agent.status().unwrap()), 2);
    world.router.netns.ip("addr add 198.51.100.9/32 dev lo").unwrap();
    let start = Instant::now();
    world
        .agent
        .wait_for_status("left out", LIMIT, |status| (entries(status) == 1).then_some(()))
        .unwrap();
    println!("left out after {} ms", start.elapsed().as_millis());
}

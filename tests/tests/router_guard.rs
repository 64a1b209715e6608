//! Lists that would cut the router off.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::net::Ipv4Addr;
use std::time::Duration;

use sluice_tests::agent::{Agent, Setup};
use sluice_tests::frame::Frame;
use sluice_tests::observe;
use sluice_tests::probe::Probe;
use sluice_tests::raw::Injector;
use sluice_tests::router::{Build, LAN_V4, Router, WAN, WAN_V4};
use sluice_tests::skip::without_root;
use sluice_tests::wait;

const LIMIT: Duration = Duration::from_secs(10);
const LISTED: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 7);
/// In the same listed prefix: somebody, and an address that the router gets later.
const NEIGHBOUR: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 66);
const LATER: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 100);

struct World {
    wire: Injector,
    router: Router,
}

impl World {
    /// How many of ten packets from `source` arrive at the router.
    fn arrivals(&self, source: Ipv4Addr) -> u64 {
        let count = || observe::counter(&self.router.netns, "inet probe", "arrived").unwrap();
        let before = count();
        let frame: Frame = self.router.attacker.frame().ipv4(source, WAN_V4).udp(4000, 9);
        for _ in 0..10 {
            self.wire.send(&frame.bytes()).unwrap();
        }
        count() - before
    }
}

/// Warnings, and entries in force.
fn shown(agent: &Agent) -> (Vec<String>, u64) {
    let text = agent.ask(&["status", "--json"]).unwrap();
    let status: serde_json::Value = serde_json::from_str(&text).unwrap();
    let warnings = status["config_warnings"].as_array().unwrap();
    let warnings = warnings.iter().map(|warning| warning.as_str().unwrap().to_owned()).collect();
    (warnings, status["lists"][0]["entries"].as_u64().unwrap())
}

/// R178: what covers the router or its gateway is left out and said, the rest is in force; when the
/// router's addresses change, so does what is left out.
#[test]
fn entries_that_would_cut_the_router_off_are_left_out_and_shown() {
    if without_root() {
        return;
    }
    let router = Router::new(Build::default()).unwrap();
    // The world's default route leads to it.
    let gateway = router.server.v4;
    Probe::new(&router.netns, &[("arrived", "udp dport 9")]).unwrap();
    let wire = router.attacker.injector().unwrap();
    let world = World { wire, router };
    let entries = [
        "192.168.0.0/16",
        "fd77::/64",
        &gateway.to_string(),
        &LISTED.to_string(),
        "203.0.113.64/26",
    ];
    let setup = Setup::default().blocklist("bad", &entries).main("sweep_s", 1);
    let mut agent = Agent::start(&world.router, setup.clone()).unwrap();
    let mut expected = vec![
        format!(
            "sluice.bad: 192.168.0.0/16 is left out: it would block {LAN_V4}, an address of br-lan"
        ),
        format!(
            "sluice.bad: {gateway} is left out: it would block {gateway}, the default gateway behind {WAN}"
        ),
        "sluice.bad: fd77::/64 is left out: it would block fd77::1, an address of br-lan"
            .to_owned(),
    ];
    let check = |agent: &Agent, expected: &[String], entries: u64| {
        let (mut warnings, in_force) = shown(agent);
        warnings.sort();
        assert_eq!((warnings, in_force), (expected.to_vec(), entries));
    };
    check(&agent, &expected, 2);
    assert!(world.router.client().ping(LAN_V4.into()).unwrap(), "locked out");
    assert!(world.router.client().ping(gateway.into()).unwrap());
    assert_eq!((world.arrivals(LISTED), world.arrivals(NEIGHBOUR)), (0, 0));

    world.router.netns.ip(&format!("addr add {LATER}/32 dev {WAN}")).unwrap();
    wait::until_true("the new address was seen", LIMIT, || shown(&agent).0.len() == 4).unwrap();
    expected.push(format!(
        "sluice.bad: 203.0.113.64/26 is left out: it would block {LATER}, an address of {WAN}"
    ));
    expected.sort();
    check(&agent, &expected, 1);
    assert_eq!((world.arrivals(LISTED), world.arrivals(NEIGHBOUR)), (0, 10));
    // A reload decides the same.
    agent.reloaded(&setup.main("block_s", 60)).unwrap();
    check(&agent, &expected, 1);
    assert_eq!(world.arrivals(NEIGHBOUR), 10);

    world.router.netns.ip(&format!("addr del {LATER}/32 dev {WAN}")).unwrap();
    wait::until_true("the address was gone", LIMIT, || shown(&agent).0.len() == 3).unwrap();
    assert_eq!((world.arrivals(LISTED), world.arrivals(NEIGHBOUR)), (0, 0));
}

//! Every drop has a reason, a place, an interface and a CPU, and all of them can be asked for.

#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use sluice_tests::agent::{Agent, Setup};
use sluice_tests::hello;
use sluice_tests::report::Drops;
use sluice_tests::router::{Build, Router, WAN, WAN_V4};
use sluice_tests::service::{Family, fetch};
use sluice_tests::site::Site;
use sluice_tests::skip::without_root;
use sluice_tests::traffic::{TcpService, connect, round_trip};

const LIMIT: Duration = Duration::from_secs(10);

fn wait_for(agent: &Agent, place: &str, reason: &str, least: u64) -> Drops {
    let what = format!("{least} packets dropped in {place} for {reason}");
    agent
        .wait_for_status(&what, LIMIT, |status| {
            let mut drops = status.drops.iter();
            drops
                .find(|drops| {
                    drops.place == place && drops.reason == reason && drops.packets >= least
                })
                .cloned()
        })
        .unwrap_or_else(|error| panic!("{error:?}\n{:#?}", agent.status().unwrap().drops))
}

/// R62, R172: the shield, inspection by policy, and the metrics that say the same.
#[test]
fn drops_are_told_by_place_reason_interface_and_cpu() {
    if without_root() {
        return;
    }
    let world = Router::new(Build::default()).unwrap();
    let setup = Setup::default().main("on_error", "drop").blocklist("bad", &["198.51.100.7"]);
    let agent = Agent::start(&world, setup).unwrap();
    assert!(agent.status().unwrap().drops.is_empty(), "nothing was dropped yet");

    let listed: IpAddr = Ipv4Addr::new(198, 51, 100, 7).into();
    let frame = world.attacker.frame().addresses(listed, IpAddr::from(WAN_V4)).udp(4000, 9);
    let wire = world.attacker.injector().unwrap();
    for _ in 0..20 {
        wire.send(&frame.clone().payload(b"probe").bytes()).unwrap();
    }
    let echo = TcpService::echo(&world.server, world.server.v4.into(), 443).unwrap();
    let mut stream = connect(world.client(), echo.address()).unwrap();
    let bad = hello::malformed("bad.test");
    assert!(round_trip(&mut stream, &bad, bad.len()).is_err());

    let undecided = wait_for(&agent, "engine", "undecided", 1);
    assert_eq!((undecided.interface, undecided.cpus.len()), (None, 0));
    let dropped = wait_for(&agent, "xdp", LISTED, 20);
    assert_eq!(dropped.interface.as_deref(), Some(WAN));
    assert_eq!(dropped.packets, 20, "{dropped:?}");
    assert_eq!(dropped.cpus.iter().sum::<u64>(), 20, "{dropped:?}");
    assert!(dropped.cpus.len() > 1 || std::thread::available_parallelism().unwrap().get() == 1);

    let metrics = agent.ask(&["metrics"]).unwrap();
    let start =
        format!("sluice_drops_total{{place=\"xdp\",reason=\"{LISTED}\",interface=\"{WAN}\"");
    let sum: u64 = metrics
        .lines()
        .filter(|line| line.starts_with(&start))
        .map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap())
        .sum();
    assert_eq!(sum, 20, "{metrics}");
    let table = agent.ask(&["status"]).unwrap();
    assert!(table.lines().any(|line| line.starts_with("xdp ") && line.contains(LISTED)), "{table}");
}

const LISTED: &str = "listed";

/// R62: a blocked flow is dropped in TC and, where TC did not see it, by the rules.
#[test]
fn a_blocked_flow_is_dropped_for_a_reason_in_tc_or_in_the_rules() {
    if without_root() {
        return;
    }
    let names = ["ads.test"];
    let site = Site::new(&names, Setup::default().rule("ads", "block", &names)).unwrap();
    let limit = Duration::from_secs(3);
    let fetched = fetch(site.world.client(), Family::V4, "https://ads.test/", limit).unwrap();
    assert!(!fetched.is_success(), "{fetched:?}");
    wait_for(&site.agent, "netfilter", "verdict_blocked", 1);
    let status = site.agent.status().unwrap();
    let tc = status.drops.iter().filter(|drops| drops.place == "tc");
    let of_flow = tc.filter(|drops| drops.reason.starts_with("flow_blocked")).map(|d| d.packets);
    let counted: u64 = status
        .interfaces
        .iter()
        .flat_map(|interface| {
            ["tc_drop_blocked", "tc_out_drop_blocked"]
                .into_iter()
                .filter_map(|name| interface.counters.get(name))
        })
        .sum();
    assert!(counted > 0, "{status:#?}");
    assert_eq!(of_flow.sum::<u64>(), counted, "{status:#?}");
}

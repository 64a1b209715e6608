//! The agent under the capabilities that its packages leave it.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::collections::BTreeMap;
use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;

use sluice_tests::agent::{Agent, Setup};
use sluice_tests::observe;
use sluice_tests::router::{Build, Router};
use sluice_tests::skip::without_root;

/// A listed source.
const LISTED: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 7);

/// Names as setpriv has them, from the file that procd gives to the jail.
fn capabilities() -> Vec<String> {
    let file = "../openwrt-package/sluice/files/sluice.capabilities.json";
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).unwrap();
    let sets: BTreeMap<String, Vec<String>> = serde_json::from_str(&text).unwrap();
    sets["bounding"].iter().map(|name| name.strip_prefix("CAP_").unwrap().to_lowercase()).collect()
}

/// A line of `/proc/PID/status`.
fn process(agent: &Agent, field: &str) -> String {
    let status = fs::read_to_string(format!("/proc/{}/status", agent.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(&format!("{field}:")));
    line.unwrap().trim().to_owned()
}

fn features(agent: &Agent) -> Vec<String> {
    let status = agent.status().unwrap();
    status.features.iter().map(|feature| format!("{feature:?}")).collect()
}

/// R155 (jail, unit): what is left is enough for every rung, a reload and a plain router afterwards.
#[test]
fn a_confined_agent_stands_on_the_rungs_of_a_free_one() {
    if without_root() {
        return;
    }
    let setup = || {
        let setup = Setup::default().blocklist("bad", &[&LISTED.to_string()]);
        setup.rule("ads", "block", &["ads.test"])
    };
    let free = {
        let world = Router::new(Build::default()).unwrap();
        let agent = Agent::start(&world, setup()).unwrap();
        assert_eq!(process(&agent, "NoNewPrivs"), "0");
        features(&agent)
    };
    let world = Router::new(Build::default()).unwrap();
    let names = capabilities();
    let mut agent = Agent::start_confined(&world, setup(), &names).unwrap();
    assert_eq!(process(&agent, "NoNewPrivs"), "1");
    let bits = u64::from_str_radix(&process(&agent, "CapBnd"), 16).unwrap();
    // A container may have taken some away before.
    assert!(bits.count_ones() as usize <= names.len(), "{bits:x}");
    let held = u64::from_str_radix(&process(&agent, "CapEff"), 16).unwrap();
    assert_eq!(held & !bits, 0);
    assert_eq!(features(&agent), free);

    agent.reload(&setup().rule("more", "block", &["more.test"])).unwrap();
    assert_eq!(features(&agent), free);
    assert!(agent.stop().unwrap().success());
    assert!(!agent.pins().exists());
    assert!(observe::attached(&world.netns).unwrap().is_empty());
}

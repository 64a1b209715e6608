//! Switching a part off takes its programs out of the kernel, and switching it on brings them back.

use std::collections::BTreeSet;
use std::time::Duration;

use sluice_tests::agent::{Agent, Setup};
use sluice_tests::observe::{self, Attached};
use sluice_tests::router::{Build, Router};
use sluice_tests::skip::without_root;
use sluice_tests::wait;

/// Emulated and shared machines are slow.
const LIMIT: Duration = Duration::from_secs(120);

fn ids(attached: &[Attached]) -> BTreeSet<u64> {
    attached.iter().map(|one| one.id).collect()
}

/// Where programs are attached: all of them, or those of the fast path alone.
fn places(attached: &[Attached], with_shield: bool) -> Vec<(String, &'static str)> {
    let chosen = attached.iter().filter(|one| with_shield || one.hook != "xdp");
    chosen.map(|one| (one.device.clone(), one.hook)).collect()
}

/// R121: the kernel's programs before, after shield and fast path are switched off one after the
/// other by the configuration, and after both are on again.
#[test]
fn what_is_switched_off_is_not_attached_and_not_even_loaded() {
    if without_root() {
        return;
    }
    let world = Router::new(Build::default()).unwrap();
    let setup = Setup::default();
    let mut agent = Agent::start(&world, setup.clone()).unwrap();
    let attached = || observe::attached(&world.netns).unwrap();
    let before = attached();
    assert!(places(&before, true).len() > places(&before, false).len(), "{before:?}");
    assert!(!places(&before, false).is_empty(), "{before:?}");
    let state = |agent: &Agent, name: &str| {
        let features = agent.status().unwrap().features;
        features.into_iter().find(|one| one.name == name).map(|one| one.state).unwrap_or_default()
    };

    agent.reloaded(&setup.clone().xdp("off")).unwrap();
    let fast = attached();
    assert_eq!(places(&fast, true), places(&before, false), "the fast path alone");
    assert_eq!(state(&agent, "shield wan"), "off");
    agent.reloaded(&setup.clone().xdp("off").without_tc()).unwrap();
    assert_eq!(attached(), [], "neither");
    assert_eq!(state(&agent, "fast path lan"), "off");
    // The kernel frees programs a grace period after their last user.
    let mut programs = ids(&before);
    programs.append(&mut ids(&fast));
    let is_loaded = || programs.iter().any(|program| observe::is_loaded(*program));
    wait::until_true("the programs were gone", LIMIT, || !is_loaded()).unwrap();

    agent.reloaded(&setup).unwrap();
    let after = attached();
    assert_eq!(places(&after, true), places(&before, true));
    assert!(ids(&after).is_disjoint(&programs), "they were loaded anew");
}

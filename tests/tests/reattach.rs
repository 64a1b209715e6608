//! What is on a device already, and a second look at it: nothing that works is taken away for something that does not.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::fs;
use std::path::PathBuf;

use sluice::dataplane::{
    Dataplane, DataplanePlan, FeatureState, Hook, InterfacePlan, Objects, State, XdpWish,
};
use sluice::kernel::Report;
use sluice_abi::names;
use sluice_tests::bare::{alone, cable, device};
use sluice_tests::plan::{interface, plan};
use sluice_tests::plane::{PinDir, without_programs};

fn cabled(pins: &PinDir, xdp: XdpWish) -> DataplanePlan {
    plan(pins, vec![InterfacePlan { xdp, ..interface("wan", 0) }])
}

fn start(plan: &DataplanePlan) -> (Dataplane, FeatureState) {
    let report = Report::of_this_kernel();
    let (dataplane, features) = Dataplane::start(plan, Objects::embedded(), report).unwrap();
    (dataplane, of(&features, Hook::Xdp))
}

fn of(features: &[FeatureState], hook: Hook) -> FeatureState {
    features.iter().find(|feature| feature.hook == hook).unwrap().clone()
}

/// R58, R127: a restart asks the driver again.
#[test]
fn a_generic_link_of_before_gives_way_to_the_driver() {
    if without_programs() {
        return;
    }
    alone(|| {
        cable(["wan", "far"]);
        let pins = PinDir::unmade();
        let (first, shield) = start(&cabled(&pins, XdpWish::Generic));
        assert_eq!(shield.rung, "generic");
        drop(first);
        assert_ne!(device("wan").xdp.generic, 0, "it is pinned");
        let (second, shield) = start(&cabled(&pins, XdpWish::Auto));
        assert_eq!((shield.state, shield.rung), (State::Active, "native"), "{shield}");
        assert!(shield.reasons.is_empty(), "{shield}");
        let xdp = device("wan").xdp;
        assert!(xdp.native != 0 && xdp.generic == 0, "{xdp:?}");
        second.stop(false).unwrap();
    });
}

/// R119: the programs of before go on, and are replaced as soon as that works.
#[test]
fn programs_that_cannot_be_loaded_leave_those_that_work() {
    if without_programs() {
        return;
    }
    alone(|| {
        cable(["wan", "far"]);
        let pins = PinDir::unmade();
        let mut plan = cabled(&pins, XdpWish::Auto);
        let (mut dataplane, _) = start(&plan);
        let before = device("wan").xdp.native;

        // In the places of maps that both objects share, something that cannot be removed.
        let maps = pins.path().join(format!("v{}/maps", sluice_abi::ABI_VERSION));
        let mut pinned = fs::read_dir(&maps).unwrap().map(|entry| entry.unwrap().path());
        let is_it =
            |path: &PathBuf| path.file_name().unwrap().to_string_lossy().starts_with(names::TOTALS);
        let obstacle = pinned.find(is_it).unwrap();
        let away = maps.join("away");
        fs::rename(&obstacle, &away).unwrap();
        fs::create_dir_all(obstacle.join("inside")).unwrap();
        plan.interfaces[0].slot = 7; // another program
        let features = dataplane.apply(&plan).unwrap();
        for hook in [Hook::Xdp, Hook::Tc] {
            let state = of(&features, hook);
            assert_eq!((state.state, state.rung), (State::Degraded, "earlier program"), "{state}");
            assert!(state.reasons[0].contains("the program of before goes on"), "{state}");
        }
        assert_eq!(device("wan").xdp.native, before);

        fs::remove_dir_all(&obstacle).unwrap();
        fs::rename(&away, &obstacle).unwrap();
        let features = dataplane.reattach().unwrap();
        assert_eq!(of(&features, Hook::Xdp).rung, "native");
        assert_ne!(device("wan").xdp.native, before);
        dataplane.stop(false).unwrap();
        assert_eq!(device("wan").xdp.native, 0);
    });
}

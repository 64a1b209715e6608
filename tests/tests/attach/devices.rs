//! Devices that come, go, change their names or are ports of a bridge.

use std::fs;

use sluice::dataplane::{Dataplane, Hook, InterfacePlan, State, TcWish};
use sluice_abi::attach::Role;
use sluice_tests::plan::interface;
use sluice_tests::plane::without_programs;
use sluice_tests::probe::ForeignXdp;

use super::{World, best, best_tc, feature, shown};

/// R118: named, the others work, and attached when it comes; also after it went and came again.
#[test]
fn a_missing_interface_is_named_and_attached_when_it_appears() {
    if without_programs() {
        return;
    }
    for wish in [TcWish::Auto, TcWish::Clsact] {
        let world = World::new();
        let mut plan = world.plan();
        plan.interfaces.push(InterfacePlan { tc: wish, ..interface("late0", 1) });
        let (mut dataplane, features) = world.start(&plan);
        assert_eq!(shown(&features, "wan"), best());
        for hook in [Hook::Xdp, Hook::Tc] {
            let state = feature(&features, "late0", hook);
            assert_eq!(state.state, State::Failed);
            assert!(state.reasons[0].contains("no device late0 yet"), "{state}");
        }
        let reattach = |dataplane: &mut Dataplane| {
            world.inside.enter(|| dataplane.reattach()).unwrap().unwrap()
        };
        let mut indexes = Vec::new();
        for _ in 0..2 {
            world.cable("late0", "far");
            let features = reattach(&mut dataplane);
            let [xdp, tc] = shown(&features, "late0");
            assert_eq!(xdp, (State::Active, "native"), "{features:?}");
            match wish {
                TcWish::Auto => assert_eq!(tc, best_tc()),
                TcWish::Clsact | TcWish::Off => assert_eq!(tc, (State::Active, "clsact")),
            }
            indexes.push(world.device("late0").ifindex);
            world.inside.ip("link del late0").unwrap();
            assert_eq!(shown(&reattach(&mut dataplane), "late0")[0].0, State::Failed);
        }
        assert_ne!(indexes[0], indexes[1]);
        let links = world.pins.path().join(format!("v{}/links", sluice_abi::ABI_VERSION));
        let left = fs::read_dir(links).unwrap().count();
        assert_eq!(left, 3, "pins of the device that went are gone");
        world.stop(dataplane, false);
        assert!(world.is_clean());
    }
}

/// Pins are named by index: a device that gets another name is the same device.
#[test]
fn a_renamed_device_loses_its_programs_and_its_successor_gets_them() {
    if without_programs() {
        return;
    }
    let world = World::new();
    let (mut dataplane, _) = world.start(&world.plan());
    world.inside.ip("link set wan down\nlink set wan name old\nlink set old up").unwrap();
    world.cable("wan", "second");
    let features = world.inside.enter(|| dataplane.reattach()).unwrap().unwrap();
    assert_eq!(shown(&features, "wan"), best());
    assert_ne!(world.device("wan").xdp.native, 0);
    assert_eq!(world.device("old").xdp.native, 0, "no interface names it any more");
    assert_eq!(world.classifiers("old"), 0);
    world.stop(dataplane, false);
}

/// R58, R119.
#[test]
fn a_bridge_is_shielded_at_all_its_ports_or_at_none() {
    if without_programs() {
        return;
    }
    let world = World::new();
    world.inside.ip("link add br-lan type bridge\nlink set br-lan up").unwrap();
    let mut plan = world.plan();
    plan.interfaces = vec![InterfacePlan { role: Role::Lan, ..interface("br-lan", 2) }];
    let (mut dataplane, features) = world.start(&plan);
    let xdp = feature(&features, "br-lan", Hook::Xdp);
    assert_eq!(xdp.reasons, ["bridge br-lan has no ports yet"]);
    assert_eq!(shown(&features, "br-lan")[1], best_tc(), "TC is on the bridge");

    let mut reattach = || world.inside.enter(|| dataplane.reattach()).unwrap().unwrap();
    for port in ["lan1", "lan2"] {
        world.cable(port, &format!("{port}-far"));
        world.inside.ip(&format!("link set {port} master br-lan")).unwrap();
        let features = reattach();
        assert_eq!(shown(&features, "br-lan")[0], (State::Active, "native"), "{features:?}");
        assert_ne!(world.device(port).xdp.native, 0, "{port}");
    }
    assert_eq!(world.device("br-lan").xdp.generic, 0);

    world.cable("lan3", "lan3-far");
    world.inside.ip("link set lan3 master br-lan").unwrap();
    let foreign = ForeignXdp::attach(&world.inside, "lan3").unwrap();
    let features = reattach();
    let xdp = feature(&features, "br-lan", Hook::Xdp);
    assert_eq!((xdp.state, xdp.rung), (State::Degraded, "tc"));
    assert!(xdp.reasons[0].starts_with("lan3: lan3 has the XDP program"), "{xdp}");
    for port in ["lan1", "lan2"] {
        assert_eq!(world.device(port).xdp.native, 0, "{port} was rolled back");
    }
    assert_eq!(shown(&features, "br-lan")[1], best_tc());
    drop(foreign);
    world.stop(dataplane, false);
}

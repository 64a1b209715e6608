//! What outlives the agent: restarts, crashes, upgrades, the end.

use std::fs;
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use sluice::config::OnCrash;
use sluice::dataplane::{
    Dataplane, DataplanePlan, Hook, InterfacePlan, Objects, State, TcWish, layout,
};
use sluice::kernel::Report;
use sluice::sys::rtnetlink::Side;
use sluice_abi::attach::Role;
use sluice_abi::flow::{Direction, FlowKey, FlowState};
use sluice_abi::names;
use sluice_abi::settings::Settings;
use sluice_abi::verdict::{Reason, Verdict};
use sluice_tests::plan::interface;
use sluice_tests::plane::without_programs;
use sluice_tests::probe::Probe;
use sluice_tests::wait;

use super::{
    LISTED, World, best, block, dropped, expect_dropped, feature, frame, shown, without_tcx,
};

/// R127, R59: no programs doubled, no decision or list lost.
#[test]
fn a_second_start_takes_up_what_the_first_left() {
    if without_programs() {
        return;
    }
    let world = World::new();
    let plan = world.plan();
    let (mut first, _) = world.start(&plan);
    block(&mut first);
    let key = |port: u16| {
        let addr = |text: &str| text.parse::<IpAddr>().unwrap().into();
        FlowKey::new(addr("192.0.2.1"), addr("192.0.2.2"), port.to_be(), 443_u16.to_be(), 6).0
    };
    let state = |verdict| FlowState::new(verdict, Reason::DomainRule, Direction::Up, 1, 0);
    let flows = first.flows.as_mut().unwrap();
    flows.set(&key(1), &state(Verdict::Blocked)).unwrap();
    flows.set(&key(2), &state(Verdict::Trusted)).unwrap();
    let generation = first.settings.current().generation;
    let native = world.device("wan").xdp.native;
    // As when the process is killed: descriptors close, nothing else happens.
    drop(first);
    assert_eq!(world.device("wan").xdp.native, native);

    let (mut second, features) = world.start(&plan);
    assert_eq!(shown(&features, "wan"), best());
    assert_ne!(world.device("wan").xdp.native, native, "the program is the new one");
    assert_eq!(world.classifiers("wan"), 2);
    assert!(second.settings.current().generation > generation);
    expect_dropped(&world, &second, 5);
    let adopted = second.flows.as_mut().unwrap().adopt(0).unwrap();
    assert_eq!((adopted.held.len(), adopted.forgotten), (1, 1));
    // Attaching again changes nothing.
    let before = world.device("wan").xdp;
    let again = world.inside.enter(|| second.reattach()).unwrap().unwrap();
    assert_eq!((again, world.device("wan").xdp), (features, before));
    world.stop(second, false);
    assert!(world.is_clean());
}

/// R59, R125: packets of a listed source arrive at no moment between the death of one agent and
/// the work of the next.
#[test]
fn protection_has_no_gap_over_a_restart() {
    if without_programs() {
        return;
    }
    let world = World::new();
    let plan = world.plan();
    let (mut dataplane, _) = world.start(&plan);
    block(&mut dataplane);
    let probe = Probe::new(&world.inside, &[("arrived", "ip saddr 198.51.100.7")]).unwrap();
    let (stop, sent) = (AtomicBool::new(false), AtomicU32::new(0));
    let injector = world.injector();
    let before = dropped(&dataplane);
    let dataplane = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                injector.send(&frame(LISTED)).unwrap();
                sent.fetch_add(1, Ordering::Relaxed);
            }
        });
        for _ in 0..5 {
            drop(dataplane);
            dataplane = world.start(&plan).0;
            block(&mut dataplane);
        }
        stop.store(true, Ordering::Relaxed);
        dataplane
    });
    let sent = u64::from(sent.load(Ordering::Relaxed));
    wait::until("all were dropped", Duration::from_secs(5), || {
        Ok((dropped(&dataplane) == before + sent).then_some(()))
    })
    .unwrap();
    assert_eq!(probe.count("arrived").unwrap(), 0);
    assert!(sent > 1000, "{sent} sent");
    println!("{sent} frames over five restarts, none arrived");
    world.stop(dataplane, false);
}

/// An upgrade of the agent: pins of another layout version, whose maps nobody can read any more.
/// The agent fills its own maps before it attaches, and the old programs work until then.
#[test]
fn links_of_another_layout_version_are_taken_over_without_a_gap() {
    if without_programs() {
        return;
    }
    let world = World::new();
    let plan = world.plan();
    let (mut dataplane, _) = world.start(&plan);
    block(&mut dataplane);
    drop(dataplane);
    let version = |number| world.pins.path().join(format!("v{number}"));
    fs::rename(version(sluice_abi::ABI_VERSION), version(4_000_000)).unwrap();
    let native = world.device("wan").xdp.native;
    let probe = Probe::new(&world.inside, &[("arrived", "ip saddr 198.51.100.7")]).unwrap();
    let stop = AtomicBool::new(false);
    let injector = world.injector();
    let dataplane = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                injector.send(&frame(LISTED)).unwrap();
            }
        });
        let report = Report::of_this_kernel();
        let dataplane = world.inside.enter(|| {
            let mut dataplane = Dataplane::load(&plan, Objects::embedded(), report).unwrap();
            block(&mut dataplane);
            assert_eq!(shown(&dataplane.reattach().unwrap(), "wan"), best());
            dataplane
        });
        stop.store(true, Ordering::Relaxed);
        dataplane.unwrap()
    });
    expect_dropped(&world, &dataplane, 20);
    assert_eq!(probe.count("arrived").unwrap(), 0);
    assert_ne!(world.device("wan").xdp.native, native);
    assert!(!version(4_000_000).exists());
    world.stop(dataplane, false);
    assert!(world.is_clean());
}

/// R196.
#[test]
fn a_pin_directory_that_is_not_ours_is_refused() {
    if without_programs() {
        return;
    }
    let world = World::new();
    let plan = world.plan();
    let refused = |plan: &DataplanePlan| match world.try_start(plan) {
        Ok(_) => panic!("started in {}", plan.pin_dir.display()),
        Err(error) => error.chain(),
    };
    let dir = world.pins.path();
    fs::create_dir(dir).unwrap();
    std::os::unix::fs::chown(dir, Some(1234), None).unwrap();
    let reason = refused(&plan);
    assert!(reason.contains("it belongs to user 1234, not to 0"), "{reason}");
    fs::remove_dir(dir).unwrap();

    std::os::unix::fs::symlink("/sys/fs/bpf", dir).unwrap();
    let reason = refused(&plan);
    assert!(reason.contains("it is not a directory"), "{reason}");
    fs::remove_file(dir).unwrap();

    let elsewhere = DataplanePlan { pin_dir: Path::new("/run/sluice-pins").into(), ..plan.clone() };
    let reason = refused(&elsewhere);
    assert!(reason.contains("it is not on bpffs; mount -t bpf"), "{reason}");
    assert!(!elsewhere.pin_dir.exists());

    // Open to others, but ours: made private.
    fs::create_dir(dir).unwrap();
    fs::set_permissions(dir, fs::Permissions::from_mode(0o755)).unwrap();
    let (dataplane, _) = world.start(&plan);
    assert_eq!(fs::metadata(dir).unwrap().permissions().mode() & 0o777, 0o700);
    world.stop(dataplane, false);
    assert!(world.is_clean());
}

/// R59: keep or detach.
#[test]
fn stop_can_leave_protection_behind_and_it_can_be_cleared_later() {
    if without_programs() {
        return;
    }
    let world = World::new();
    let (mut dataplane, _) = world.start(&world.plan());
    block(&mut dataplane);
    let probe = Probe::new(&world.inside, &[("arrived", "ip saddr 198.51.100.7")]).unwrap();
    world.stop(dataplane, true);
    let injector = world.injector();
    for _ in 0..20 {
        injector.send(&frame(LISTED)).unwrap();
    }
    let received = world.device("wan").rx_packets;
    assert!(received >= 20, "{received} received");
    assert_eq!(probe.count("arrived").unwrap(), 0, "the shield works without an agent");
    world.inside.enter(|| Dataplane::clear(world.pins.path())).unwrap().unwrap();
    assert!(world.is_clean());
    for _ in 0..20 {
        injector.send(&frame(LISTED)).unwrap();
    }
    wait::until("they arrive without the shield", Duration::from_secs(5), || {
        Ok((probe.count("arrived")? == 20).then_some(()))
    })
    .unwrap();
}

/// R59: without a pin a link ends with whoever holds its descriptor, which the kernel sees to.
#[test]
fn with_detach_programs_end_with_the_agent_and_maps_stay() {
    if without_programs() {
        return;
    }
    let world = World::new();
    let plan = DataplanePlan { on_crash: OnCrash::Detach, ..world.plan() };
    for round in ["first", "after a crash"] {
        let (mut dataplane, features) = world.start(&plan);
        assert_eq!(shown(&features, "wan"), best(), "{round}");
        assert!(world.pinned_links().iter().all(|name| !name.contains("xdp")), "{round}");
        assert!(world.pinned_links().iter().all(|name| !name.contains("tcx")), "{round}");
        block(&mut dataplane);
        expect_dropped(&world, &dataplane, 5);
        let programs = world.programs();
        world.inside.enter(|| dataplane.reattach()).unwrap().unwrap();
        assert_eq!(world.programs(), programs, "{round}: what works is left alone");
        drop(dataplane);
        wait::until("the programs went with their links", Duration::from_secs(5), || {
            Ok(world.programs().is_empty().then_some(()))
        })
        .unwrap();
        let maps = world.pins.path().join(format!("v{}/maps", sluice_abi::ABI_VERSION));
        assert!(maps.join(layout::pin(names::BLOCK_HOSTS)).exists(), "{round}");
    }
    let (dataplane, _) = world.start(&plan);
    world.stop(dataplane, false);
    assert!(world.is_clean());
}

/// R65, R125: on its way out a packet meets a program only where that has something to do.
#[test]
fn packets_that_leave_are_looked_at_only_where_that_is_needed() {
    if without_programs() || without_tcx() {
        return;
    }
    let world = World::new();
    let with = |role, flags| {
        let mut plan = world.plan();
        plan.settings.flags = Settings::ENABLED | flags;
        plan.interfaces = vec![InterfacePlan { role, ..interface("wan", 0) }];
        plan
    };
    let (mut dataplane, _) = world.start(&with(Role::Wan, Settings::DNS));
    assert_eq!(world.classifiers("wan"), 1);
    for (role, flags, classifiers) in [
        (Role::Wan, Settings::PROFILES, 2),
        (Role::Wan, Settings::DNS, 1),
        (Role::Lan, Settings::DNS, 2),
        (Role::Lan, 0, 1),
        (Role::Lan, Settings::PROFILES, 2),
    ] {
        let plan = with(role, flags);
        let features = world.inside.enter(|| dataplane.apply(&plan)).unwrap().unwrap();
        assert_eq!(world.classifiers("wan"), classifiers, "{role:?} {flags:#x}");
        assert_eq!(shown(&features, "wan"), best());
        let programs = world.programs();
        world.inside.enter(|| dataplane.reattach()).unwrap().unwrap();
        assert_eq!(world.programs(), programs, "what works is left alone");
    }
    world.stop(dataplane, false);
    assert!(world.is_clean());
}

/// R59, R125: the option changes while programs run, and a restart is no crash.
#[test]
fn on_crash_changes_without_touching_programs() {
    if without_programs() || without_tcx() {
        return;
    }
    let world = World::new();
    let keep = world.plan();
    let detach = DataplanePlan { on_crash: OnCrash::Detach, ..world.plan() };
    let ifindex = world.device("wan").ifindex;
    let pinned = ["tcx_in", "tcx_out", "xdp"].map(|hook| format!("{hook}-{ifindex}"));
    let (mut dataplane, _) = world.start(&keep);
    let programs = world.programs();
    assert_eq!(programs.len(), 3);
    for (plan, links) in [(&detach, &[][..]), (&keep, &pinned[..]), (&detach, &[][..])] {
        world.inside.enter(|| dataplane.apply(plan)).unwrap().unwrap();
        assert_eq!(world.programs(), programs);
        assert_eq!(world.pinned_links(), links);
    }
    // The next agent takes the links up, so between the two something has to hold them.
    world.stop(dataplane, true);
    assert_eq!(world.programs(), programs);
    assert_eq!(world.pinned_links(), pinned);
    let (dataplane, features) = world.start(&detach);
    assert_eq!(shown(&features, "wan"), best());
    assert_eq!((world.programs().len(), world.pinned_links().len()), (3, 0));

    // An interface that goes: its links are held nowhere but here.
    let mut dataplane = dataplane;
    let nowhere = DataplanePlan { interfaces: Vec::new(), ..detach };
    world.inside.enter(|| dataplane.apply(&nowhere)).unwrap().unwrap();
    assert!(world.programs().is_empty());
    world.stop(dataplane, false);
    assert!(world.is_clean());
}

/// R59: filters of clsact belong to the device.
#[test]
fn clsact_says_that_it_cannot_detach_on_a_crash() {
    if without_programs() {
        return;
    }
    let world = World::new();
    let mut plan = DataplanePlan { on_crash: OnCrash::Detach, ..world.plan() };
    plan.interfaces[0].tc = TcWish::Clsact;
    let (mut dataplane, features) = world.start(&plan);
    let tc = feature(&features, "wan", Hook::Tc);
    assert_eq!((tc.state, tc.rung), (State::Degraded, "clsact"));
    assert!(tc.reasons.iter().any(|reason| reason.contains("on_crash detach has no effect")));
    plan.on_crash = OnCrash::Keep;
    let features = world.inside.enter(|| dataplane.apply(&plan)).unwrap().unwrap();
    let tc = feature(&features, "wan", Hook::Tc);
    assert_eq!(tc.state, State::Active, "{tc}");
    plan.on_crash = OnCrash::Detach;
    world.inside.enter(|| dataplane.apply(&plan)).unwrap().unwrap();
    drop(dataplane);
    wait::until("the shield went", Duration::from_secs(5), || {
        Ok((world.device("wan").xdp.native == 0).then_some(()))
    })
    .unwrap();
    assert_eq!(world.filters("wan", Side::Ingress).len(), 1, "as it said");
    let (dataplane, _) = world.start(&plan);
    world.stop(dataplane, false);
    assert!(!world.has_clsact("wan"));
}

//! Which rung is taken, and what stands there already.

use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsFd as _, OwnedFd};
use std::time::Duration;

use sluice::dataplane::verify::{Seen, Verified, verify};
use sluice::dataplane::{Dataplane, Hook, State, TcWish, XdpWish};
use sluice::sys::bpf::{self, ProgramKind};
use sluice::sys::rtnetlink::{self, Side};
use sluice_abi::counter::Counter;
use sluice_abi::flow::{FlowKey, FlowState};
use sluice_abi::verdict::{Reason, Verdict};
use sluice_tests::plane::without_programs;
use sluice_tests::probe::ForeignXdp;
use sluice_tests::wait;

use super::{LISTED, World, best_tc, block, expect_dropped, feature, frame, shown, without_tcx};

/// R58, R123: the driver refuses for real, because frames of this size do not fit its buffers.
#[test]
fn a_driver_that_refuses_leaves_the_fast_path_and_without_that_the_generic_hook() {
    if without_programs() {
        return;
    }
    let world = World::new();
    world.outside.ip("link set outside mtu 9000").unwrap();
    for (tc, rung) in [(TcWish::Auto, "tc"), (TcWish::Clsact, "tc"), (TcWish::Off, "generic")] {
        let mut plan = world.plan();
        plan.interfaces[0].tc = tc;
        let (mut dataplane, features) = world.start(&plan);
        let xdp = feature(&features, "wan", Hook::Xdp);
        assert_eq!((xdp.state, xdp.rung), (State::Degraded, rung), "{xdp}");
        assert!(xdp.reasons[0].starts_with("native: "), "{xdp}");
        assert_eq!(world.device("wan").xdp.generic != 0, rung == "generic");
        block(&mut dataplane);
        expect_dropped(&world, &dataplane, 20);
        world.stop(dataplane, false);
        assert!(world.is_clean());
    }
    for (wish, rung) in [(XdpWish::Generic, "generic"), (XdpWish::Tc, "tc")] {
        let mut plan = world.plan();
        plan.interfaces[0].xdp = wish;
        let (mut dataplane, features) = world.start(&plan);
        let xdp = feature(&features, "wan", Hook::Xdp);
        assert_eq!((xdp.state, xdp.rung), (State::Active, rung), "as wanted: {xdp}");
        block(&mut dataplane);
        expect_dropped(&world, &dataplane, 20);
        world.stop(dataplane, false);
    }
    let mut plan = world.plan();
    (plan.interfaces[0].xdp, plan.interfaces[0].tc) = (XdpWish::Tc, TcWish::Off);
    let (dataplane, features) = world.start(&plan);
    let xdp = feature(&features, "wan", Hook::Xdp);
    assert_eq!((xdp.state, xdp.rung), (State::Failed, "none"), "{xdp}");
    world.stop(dataplane, false);
}

/// R46, R58, R167: in the fast path packets of a trusted flow pay for the shield once in a timer tick, and a list
/// that comes into force holds for them too.
#[test]
fn a_shield_in_the_fast_path_drops_packets_of_trusted_flows_as_well() {
    if without_programs() {
        return;
    }
    let world = World::new();
    let mut plan = world.plan();
    plan.interfaces[0].xdp = XdpWish::Tc;
    let (mut dataplane, _) = world.start(&plan);
    let gateway = Ipv4Addr::new(203, 0, 113, 1);
    let (key, direction) = FlowKey::new(
        IpAddr::V4(LISTED).into(),
        IpAddr::V4(gateway).into(),
        4000_u16.to_be(),
        9_u16.to_be(),
        17,
    );
    let trusted = FlowState::new(Verdict::Trusted, Reason::WindowEnd, direction, 0, 0);
    dataplane.flows.as_mut().unwrap().set(&key, &trusted).unwrap();
    let injector = world.injector();
    let passed = || dataplane.totals.count(0, Counter::TcTrusted).unwrap();
    wait::until("a hundred packets are trusted", Duration::from_secs(5), || {
        injector.send(&frame(LISTED)).unwrap();
        Ok((passed() >= 100).then_some(()))
    })
    .unwrap();
    block(&mut dataplane);
    wait::pause(Duration::from_millis(50));
    expect_dropped(&world, &dataplane, 20);
    world.stop(dataplane, false);
    assert!(world.is_clean());
}

/// R60.
#[test]
fn a_foreign_xdp_program_is_left_alone_and_named() {
    if without_programs() {
        return;
    }
    let world = World::new();
    let foreign = ForeignXdp::attach(&world.inside, "wan").unwrap();
    let before = world.device("wan").xdp;
    let id = before.native.max(before.generic);
    let (mut dataplane, features) = world.start(&world.plan());
    let [xdp, tc] = shown(&features, "wan");
    assert_eq!((xdp, tc), ((State::Degraded, "tc"), best_tc()), "its work is done behind it");
    let reason = feature(&features, "wan", Hook::Xdp).reasons.join("; ");
    assert!(reason.contains(&format!("(id {id})")) && reason.contains("not replaced"), "{reason}");
    assert_eq!(world.device("wan").xdp, before);
    block(&mut dataplane);
    expect_dropped(&world, &dataplane, 20);
    // Once it is gone, the next call attaches.
    world.inside.ip("link set wan xdp off\nlink set wan xdpgeneric off").unwrap();
    drop(foreign);
    let features = world.inside.enter(|| dataplane.reattach()).unwrap().unwrap();
    assert_eq!(shown(&features, "wan")[0], (State::Active, "native"), "{features:?}");
    world.stop(dataplane, false);
    assert!(world.is_clean());
}

fn foreign_classifier() -> OwnedFd {
    const TC_ACT_UNSPEC: i32 = -1;
    bpf::load_constant(ProgramKind::Tc, TC_ACT_UNSPEC).unwrap()
}

/// R60, R119, R123: the second side cannot be attached, for real: its hook is full.
#[test]
fn when_tcx_is_full_both_sides_go_to_clsact_and_foreign_programs_stay() {
    if without_programs() || without_tcx() {
        return;
    }
    let world = World::new();
    let ifindex = world.device("wan").ifindex;
    let link = |hook| {
        let program = foreign_classifier();
        bpf::link_create(program.as_fd(), ifindex, hook)
    };
    let (ingress, mut links): (OwnedFd, Vec<OwnedFd>) = world
        .inside
        .enter(|| {
            let ingress = link(bpf::Hook::TcxIngress).unwrap();
            (ingress, std::iter::from_fn(|| link(bpf::Hook::TcxEgress).ok()).collect())
        })
        .unwrap();
    assert!((60..100).contains(&links.len()), "{} fit on the hook", links.len());
    let foreign = world.tcx("wan", bpf::Hook::TcxIngress);
    let (mut dataplane, features) = world.start(&world.plan());
    let tc = feature(&features, "wan", Hook::Tc);
    assert_eq!((tc.state, tc.rung), (State::Degraded, "clsact"), "{tc}");
    assert!(tc.reasons[0].starts_with("tcx: "), "{tc}");
    assert_eq!(world.tcx("wan", bpf::Hook::TcxIngress), foreign, "ours was rolled back");
    assert_eq!(world.filters("wan", Side::Ingress)[0].name, "sluice_in");
    assert_eq!(world.filters("wan", Side::Egress)[0].name, "sluice_out");
    assert_eq!(shown(&features, "wan")[0], (State::Active, "native"), "the shield is not touched");

    // With room on the hook a restart climbs up again, and takes the filters away.
    links.truncate(2);
    wait::until_true("the hook has room", Duration::from_secs(5), || {
        world.tcx("wan", bpf::Hook::TcxEgress).len() == 2
    })
    .unwrap();
    drop(dataplane);
    (dataplane, _) = world.start(&world.plan());
    assert_eq!(shown(&dataplane.features(), "wan")[1], best_tc());
    assert_eq!(world.tcx("wan", bpf::Hook::TcxIngress).len(), 2, "the foreign one runs too");
    assert!(world.filters("wan", Side::Ingress).is_empty() && !world.has_clsact("wan"));
    world.stop(dataplane, false);
    assert_eq!(world.tcx("wan", bpf::Hook::TcxIngress), foreign);
    drop(ingress);
}

/// R65: the rung of kernels before 6.6.
#[test]
fn clsact_is_taken_up_again_and_removed_only_if_nobody_else_uses_it() {
    /// When somebody else puts a filter into the qdisc.
    #[derive(Clone, Copy, Debug, PartialEq)]
    enum Other {
        Never,
        Before,
        After,
    }
    if without_programs() {
        return;
    }
    for other in [Other::Never, Other::Before, Other::After] {
        let world = World::new();
        let add_other = || {
            let (ifindex, program) = (world.device("wan").ifindex, foreign_classifier());
            let place = (7, 1);
            let add = || {
                rtnetlink::add_clsact(ifindex).unwrap();
                rtnetlink::add_filter(
                    ifindex,
                    Side::Ingress,
                    place,
                    "other",
                    program.as_fd(),
                    false,
                )
            };
            world.inside.enter(add).unwrap().unwrap();
        };
        if other == Other::Before {
            add_other();
        }
        let mut plan = world.plan();
        plan.interfaces[0].tc = TcWish::Clsact;
        let (first, features) = world.start(&plan);
        assert_eq!(shown(&features, "wan")[1], (State::Active, "clsact"), "{features:?}");
        let ours = |side| {
            let filters = world.filters("wan", side);
            filters.into_iter().filter(|filter| filter.priority == 49).collect::<Vec<_>>()
        };
        let before = ours(Side::Ingress);
        assert_eq!((before.len(), ours(Side::Egress).len()), (1, 1));
        if other == Other::After {
            add_other();
        }
        drop(first);
        assert_eq!(ours(Side::Ingress), before, "filters outlive the agent");

        let (second, features) = world.start(&plan);
        assert_eq!(shown(&features, "wan")[1], (State::Active, "clsact"));
        let after = ours(Side::Ingress);
        assert_eq!(after.len(), 1, "replaced, not added");
        assert_ne!(after[0].prog_id, before[0].prog_id);
        world.stop(second, false);
        let left: Vec<_> =
            world.filters("wan", Side::Ingress).into_iter().map(|filter| filter.name).collect();
        let others = if other == Other::Never { vec![] } else { vec!["other".to_owned()] };
        assert_eq!(left, others, "{other:?}");
        assert_eq!(world.has_clsact("wan"), other != Other::Never, "{other:?}");
        assert!(world.is_clean());
    }
}

/// R60: a filter of others in our place.
#[test]
fn a_foreign_filter_in_our_place_is_left_alone() {
    if without_programs() {
        return;
    }
    let world = World::new();
    let ifindex = world.device("wan").ifindex;
    let program = foreign_classifier();
    world
        .inside
        .enter(|| {
            rtnetlink::add_clsact(ifindex).unwrap();
            let place = (49, 0x51);
            rtnetlink::add_filter(ifindex, Side::Egress, place, "foreign", program.as_fd(), false)
        })
        .unwrap()
        .unwrap();
    let mut plan = world.plan();
    plan.interfaces[0].tc = TcWish::Clsact;
    let (dataplane, features) = world.start(&plan);
    let tc = feature(&features, "wan", Hook::Tc);
    assert_eq!((tc.state, tc.rung), (State::Failed, "queue_only"), "{tc}");
    assert!(tc.reasons.join(";").contains("belongs to the filter 'foreign'"), "{tc}");
    assert!(world.filters("wan", Side::Ingress).is_empty(), "ours was rolled back");
    world.stop(dataplane, false);
    assert_eq!(world.filters("wan", Side::Egress)[0].name, "foreign");
}

/// R191 with a real counter on both sides; the step down is asked for.
#[test]
fn a_native_attachment_is_verified_by_traffic_or_steps_down() {
    if without_programs() {
        return;
    }
    let world = World::new();
    let (mut dataplane, features) = world.start(&world.plan());
    assert!(!feature(&features, "wan", Hook::Xdp).verified);
    let look = |dataplane: &Dataplane| {
        let received = world.inside.enter(|| dataplane.received("wan")).unwrap();
        let seen = Seen::new(|counter| dataplane.totals.count(0, counter).unwrap());
        (received, seen)
    };
    let before = look(&dataplane);
    let judge = |after: (u64, Seen)| verify((before.0, after.0), (before.1, after.1));
    let injector = world.injector();
    for _ in 0..30 {
        injector.send(&frame(Ipv4Addr::new(198, 51, 100, 8))).unwrap();
    }
    wait::until("the frames were received", Duration::from_secs(5), || {
        Ok((look(&dataplane).0 >= before.0 + 30).then_some(()))
    })
    .unwrap();
    assert_eq!(judge(look(&dataplane)), Verified::Verified);
    dataplane.set_verified("wan");
    assert!(feature(&dataplane.features(), "wan", Hook::Xdp).verified);

    let reason = "the driver took the program but does not run it";
    world.inside.enter(|| dataplane.step_down("wan", reason)).unwrap().unwrap();
    let xdp = feature(&dataplane.features(), "wan", Hook::Xdp);
    assert_eq!((xdp.state, xdp.rung, xdp.verified), (State::Degraded, "tc", false), "{xdp}");
    assert!(xdp.reasons.iter().any(|text| text.contains(reason)), "{xdp}");
    assert_eq!(world.device("wan").xdp.native, 0);
    block(&mut dataplane);
    expect_dropped(&world, &dataplane, 20);
    world.stop(dataplane, false);
    assert!(world.is_clean());
}

//! The data path on devices: the ladder, pins, programs of others, restarts.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use aya::util::KernelVersion;
use sluice::config::{Net, OnCrash};
use sluice::dataplane::bulk::Entries;
use sluice::dataplane::layout;
use sluice::dataplane::verify::{Seen, Verified, verify};
use sluice::dataplane::{
    Dataplane, DataplanePlan, Error, FeatureState, Hook, InterfacePlan, Objects, Sizes, State,
    TcWish, XdpWish,
};
use sluice::kernel::{Need, Report, Support};
use sluice::sys::bpf::{self, ProgramKind};
use sluice::sys::rtnetlink::{self, Device, Side};
use sluice_abi::attach::Role;
use sluice_abi::counter::Counter;
use sluice_abi::flow::{Direction, FlowKey, FlowState};
use sluice_abi::names;
use sluice_abi::verdict::{Reason, Verdict};
use sluice_tests::directory::unique;
use sluice_tests::frame::Frame;
use sluice_tests::netns::Netns;
use sluice_tests::plan::{interface, plan};
use sluice_tests::plane::{PinDir, without_programs};
use sluice_tests::probe::{ForeignXdp, Probe};
use sluice_tests::raw::Injector;
use sluice_tests::skip::skipped;
use sluice_tests::wait;

const LISTED: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 7);

/// A namespace with the device `wan`, whose cable ends at `outside` in another namespace.
struct World {
    inside: Netns,
    outside: Netns,
    pins: PinDir,
}

impl World {
    fn new() -> Self {
        let (inside, outside) = (Netns::new("in").unwrap(), Netns::new("out").unwrap());
        let world = Self { inside, outside, pins: PinDir::unmade() };
        world.cable("wan", "outside");
        world.inside.ip("addr add 203.0.113.1/24 dev wan").unwrap();
        world
    }

    fn cable(&self, inside: &str, outside: &str) {
        self.outside
            .ip(&format!(
                "link add {outside} type veth peer name {inside} netns {}\nlink set {outside} up\n",
                self.inside.name()
            ))
            .unwrap();
        self.inside.ip(&format!("link set {inside} address 02:00:00:00:00:01 up")).unwrap();
    }

    fn plan(&self) -> DataplanePlan {
        let sizes = Sizes {
            flows_keys: 512,
            flow_slots: 256,
            held_keys: 64,
            held_slots: 32,
            bucket_sets: 64,
            block_hosts: 128,
            block_nets: 64,
            allow_nets: 16,
        };
        DataplanePlan { sizes, ..plan(&self.pins, vec![interface("wan", 0)]) }
    }

    fn start(&self, plan: &DataplanePlan) -> (Dataplane, Vec<FeatureState>) {
        self.try_start(plan).unwrap()
    }

    fn try_start(&self, plan: &DataplanePlan) -> Result<(Dataplane, Vec<FeatureState>), Error> {
        let report = Report::of_this_kernel();
        self.inside.enter(|| Dataplane::start(plan, Objects::embedded(), report)).unwrap()
    }

    fn stop(&self, dataplane: Dataplane, keep: bool) {
        self.inside.enter(|| dataplane.stop(keep)).unwrap().unwrap();
    }

    fn device(&self, name: &str) -> Device {
        let device = self.inside.enter(|| rtnetlink::device_by_name(name)).unwrap().unwrap();
        device.unwrap()
    }

    fn tcx(&self, name: &str, hook: bpf::Hook) -> Vec<u32> {
        if best_tc().1 != "tcx" {
            return Vec::new();
        }
        let ifindex = self.device(name).ifindex;
        self.inside.enter(|| bpf::tcx_programs(ifindex, hook)).unwrap().unwrap()
    }

    fn filters(&self, name: &str, side: Side) -> Vec<rtnetlink::Filter> {
        let ifindex = self.device(name).ifindex;
        self.inside.enter(|| rtnetlink::filters(ifindex, side)).unwrap().unwrap()
    }

    fn has_clsact(&self, name: &str) -> bool {
        self.inside.run(&format!("tc qdisc show dev {name}")).unwrap().contains("clsact")
    }

    /// Classifiers on both sides, whichever way they are attached; without those of others.
    fn classifiers(&self, name: &str) -> usize {
        let tcx = [bpf::Hook::TcxIngress, bpf::Hook::TcxEgress];
        let filters = [Side::Ingress, Side::Egress].map(|side| self.filters(name, side));
        let ours = filters.iter().flatten().filter(|filter| filter.name.starts_with("sluice_"));
        tcx.iter().map(|hook| self.tcx(name, *hook).len()).sum::<usize>() + ours.count()
    }

    /// Names of the pinned links.
    fn pinned_links(&self) -> Vec<String> {
        let links = self.pins.path().join(format!("v{}/links", sluice_abi::ABI_VERSION));
        let names = |entry: fs::DirEntry| entry.file_name().into_string().unwrap();
        let mut names: Vec<_> = fs::read_dir(links).unwrap().map(|e| names(e.unwrap())).collect();
        names.sort();
        names
    }

    /// Every program of ours on the device `wan`.
    fn programs(&self) -> Vec<u32> {
        let xdp = self.device("wan").xdp;
        let mut programs = vec![xdp.native, xdp.generic];
        programs.extend(self.tcx("wan", bpf::Hook::TcxIngress));
        programs.extend(self.tcx("wan", bpf::Hook::TcxEgress));
        programs.retain(|id| *id != 0);
        programs
    }

    /// Nothing of ours: no programs on the devices, no pins.
    fn is_clean(&self) -> bool {
        let xdp = self.device("wan").xdp;
        (xdp.native, xdp.generic) == (0, 0)
            && self.classifiers("wan") == 0
            && !self.pins.path().exists()
    }

    fn injector(&self) -> Injector {
        Injector::new(&self.outside, "outside").unwrap()
    }
}

/// What an interface gets when nothing is in the way: tcx on every kernel that has it.
fn best_tc() -> (State, &'static str) {
    match Report::of_this_kernel().support(Need::Tcx) {
        Support::Yes => (State::Active, "tcx"),
        refusal => {
            let running = KernelVersion::current().unwrap();
            assert!(running < KernelVersion::new(6, 6, 0), "{running:?}: {refusal:?}");
            (State::Degraded, "clsact")
        }
    }
}

fn without_tcx() -> bool {
    let without = best_tc().1 != "tcx";
    if without {
        skipped("needs tcx, which Linux has since 6.6");
    }
    without
}

fn best() -> [(State, &'static str); 2] {
    [(State::Active, "native"), best_tc()]
}

fn feature(features: &[FeatureState], interface: &str, hook: Hook) -> FeatureState {
    let is_it = |state: &&FeatureState| state.interface == interface && state.hook == hook;
    features.iter().find(is_it).unwrap().clone()
}

fn shown(features: &[FeatureState], interface: &str) -> [(State, &'static str); 2] {
    [Hook::Xdp, Hook::Tc].map(|hook| {
        let state = feature(features, interface, hook);
        (state.state, state.rung)
    })
}

fn frame(source: Ipv4Addr) -> Vec<u8> {
    Frame::ethernet([2, 0, 0, 0, 0, 1], [4; 6])
        .ipv4(source, Ipv4Addr::new(203, 0, 113, 1))
        .udp(4000, 9)
        .payload(b"probe")
        .bytes()
}

fn dropped(dataplane: &Dataplane) -> u64 {
    dataplane.totals.count(0, Counter::XdpDropListed).unwrap()
}

fn block(dataplane: &mut Dataplane) {
    let list = [Net::host(IpAddr::V4(LISTED))];
    dataplane.set_lists(Entries::of(&[(0, &list)]), u32::MAX).unwrap();
}

/// Sends frames and waits until the shield has counted as many as it should.
fn expect_dropped(world: &World, dataplane: &Dataplane, sent: u64) {
    let before = dropped(dataplane);
    let injector = world.injector();
    for _ in 0..sent {
        injector.send(&frame(LISTED)).unwrap();
    }
    wait::until("the shield counted what was sent", Duration::from_secs(5), || {
        Ok((dropped(dataplane) == before + sent).then_some(()))
    })
    .unwrap();
}

/// R58, R65, R127, R196.
#[test]
fn native_xdp_and_tcx_are_attached_pinned_and_removed_without_a_trace() {
    if without_programs() {
        return;
    }
    let world = World::new();
    let plan = world.plan();
    let start = Instant::now();
    Report::of_this_kernel();
    println!("probed after {} ms", start.elapsed().as_millis());
    let start = Instant::now();
    let (mut dataplane, features) = world.start(&plan);
    println!("attached after {} ms", start.elapsed().as_millis());
    assert_eq!(shown(&features, "wan"), best(), "{features:?}");
    let no_reasons = |state: &FeatureState| state.reasons.is_empty();
    assert!(features.iter().all(|f| no_reasons(f) == (f.state == State::Active)), "{features:?}");
    assert!(dataplane.notes().is_empty(), "{:?}", dataplane.notes());
    assert_ne!(world.device("wan").xdp.native, 0);
    assert_eq!(world.classifiers("wan"), 2);
    let mode = fs::metadata(world.pins.path()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
    let pinned = |what: &str| {
        let dir = world.pins.path().join(format!("v{}", sluice_abi::ABI_VERSION)).join(what);
        fs::read_dir(dir).unwrap().count()
    };
    assert_eq!((pinned("maps"), pinned("links")), (20, 3));

    block(&mut dataplane);
    expect_dropped(&world, &dataplane, 20);
    // The neighbour passes.
    world.injector().send(&frame(Ipv4Addr::new(198, 51, 100, 8))).unwrap();
    wait::until("the neighbour passed", Duration::from_secs(5), || {
        let passed = dataplane.totals.count(0, Counter::XdpPass).unwrap();
        let seen = dataplane.totals.count(0, Counter::TcUnknown).unwrap();
        Ok((passed > 0 && seen > 0).then_some(()))
    })
    .unwrap();
    world.stop(dataplane, false);
    assert!(world.is_clean());
}

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

/// R58, R123: the driver refuses for real, because frames of this size do not fit its buffers.
#[test]
fn a_driver_that_refuses_leaves_the_generic_hook() {
    if without_programs() {
        return;
    }
    let world = World::new();
    world.outside.ip("link set outside mtu 9000").unwrap();
    let (mut dataplane, features) = world.start(&world.plan());
    let xdp = feature(&features, "wan", Hook::Xdp);
    assert_eq!((xdp.state, xdp.rung), (State::Degraded, "generic"), "{xdp}");
    assert!(xdp.reasons[0].starts_with("native: "), "{xdp}");
    assert_ne!(world.device("wan").xdp.generic, 0);
    block(&mut dataplane);
    expect_dropped(&world, &dataplane, 20);
    world.stop(dataplane, false);
    assert!(world.is_clean());

    let mut plan = world.plan();
    plan.interfaces[0].xdp = XdpWish::Generic;
    let (dataplane, features) = world.start(&plan);
    let xdp = feature(&features, "wan", Hook::Xdp);
    assert_eq!((xdp.state, xdp.rung), (State::Active, "generic"), "as wanted: {xdp}");
    world.stop(dataplane, false);
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
    assert_eq!((xdp, tc), ((State::Failed, "none"), best_tc()), "the rest works");
    let reason = feature(&features, "wan", Hook::Xdp).reasons.join("; ");
    assert!(reason.contains(&format!("(id {id})")) && reason.contains("not replaced"), "{reason}");
    assert_eq!(world.device("wan").xdp, before);
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
    assert_eq!((xdp.state, xdp.rung), (State::Failed, "none"));
    assert!(xdp.reasons[0].starts_with("lan3: lan3 has the XDP program"), "{xdp}");
    for port in ["lan1", "lan2"] {
        assert_eq!(world.device(port).xdp.native, 0, "{port} was rolled back");
    }
    assert_eq!(shown(&features, "br-lan")[1], best_tc());
    drop(foreign);
    world.stop(dataplane, false);
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
    assert_eq!((xdp.state, xdp.rung, xdp.verified), (State::Degraded, "generic", false), "{xdp}");
    assert!(xdp.reasons.iter().any(|text| text.contains(reason)), "{xdp}");
    assert_eq!(world.device("wan").xdp.native, 0);
    block(&mut dataplane);
    expect_dropped(&world, &dataplane, 20);
    world.stop(dataplane, false);
    assert!(world.is_clean());
}

/// R125.
#[test]
fn another_plan_changes_only_what_differs() {
    if without_programs() {
        return;
    }
    let world = World::new();
    world.cable("lan", "lan-far");
    let mut plan = world.plan();
    plan.interfaces.push(interface("lan", 1));
    let (mut dataplane, _) = world.start(&plan);
    block(&mut dataplane);
    let (wan, lan) = (world.device("wan").xdp, world.device("lan").xdp);
    plan.interfaces[1].role = Role::Lan;
    plan.settings.mark_trusted = 0x0200_0000;
    world.inside.enter(|| dataplane.apply(&plan)).unwrap().unwrap();
    assert_eq!(world.device("wan").xdp, wan, "untouched");
    assert_ne!(world.device("lan").xdp.native, lan.native, "another program");
    assert_eq!(dataplane.settings.current().mark_trusted, 0x0200_0000);
    expect_dropped(&world, &dataplane, 5);

    plan.interfaces[1].xdp = XdpWish::Off;
    plan.interfaces[1].tc = TcWish::Off;
    let features = world.inside.enter(|| dataplane.apply(&plan)).unwrap().unwrap();
    assert_eq!(shown(&features, "lan"), [(State::Off, "none"), (State::Off, "queue_only")]);
    assert_eq!(world.device("lan").xdp.native, 0);
    plan.interfaces.remove(1);
    world.inside.enter(|| dataplane.apply(&plan)).unwrap().unwrap();
    assert_eq!(world.device("wan").xdp, wan);
    world.stop(dataplane, false);
    assert!(world.is_clean());
}

/// R126.
#[test]
fn a_map_of_another_size_is_made_anew_and_the_others_are_kept() {
    if without_programs() {
        return;
    }
    let world = World::new();
    let mut plan = world.plan();
    let (mut dataplane, _) = world.start(&plan);
    block(&mut dataplane);
    expect_dropped(&world, &dataplane, 3);
    drop(dataplane);
    plan.sizes.flows_keys = 1024;
    let (dataplane, features) = world.start(&plan);
    assert_eq!(shown(&features, "wan"), best());
    assert_eq!(dataplane.notes(), ["map FLOWS: made anew, its entries are lost"]);
    assert_eq!(dropped(&dataplane), 3, "counters went on");
    expect_dropped(&world, &dataplane, 3);
    world.stop(dataplane, false);
}

/// R126: entries that mean something else are never taken up, also where they have the same size.
#[test]
fn a_map_of_another_layout_and_the_same_size_is_made_anew() {
    if without_programs() {
        return;
    }
    let world = World::new();
    let plan = world.plan();
    let addr = |text: &str| text.parse::<IpAddr>().unwrap().into();
    let (key, _) = FlowKey::new(addr("192.0.2.1"), addr("192.0.2.2"), 1, 2, 6);
    let state = FlowState::new(Verdict::Blocked, Reason::DomainRule, Direction::Up, 1, 0);
    let maps = world.pins.path().join(format!("v{}/maps", sluice_abi::ABI_VERSION));
    for (other, is_kept) in [
        (layout::pin(names::HELD), true),
        (format!("{}-00000000", names::HELD), false),
        (names::HELD.to_owned(), false),
    ] {
        let (mut first, _) = world.start(&plan);
        block(&mut first);
        first.flows.as_mut().unwrap().set(&key, &state).unwrap();
        drop(first);
        // What an agent with another layout would have left.
        fs::rename(maps.join(layout::pin(names::HELD)), maps.join(&other)).unwrap();
        let (second, _) = world.start(&plan);
        let kept = second.flows.as_ref().unwrap().get(&key).unwrap();
        assert_eq!(kept, is_kept.then_some(state), "{other}");
        let notes = if is_kept { &[][..] } else { &["map HELD: made anew, its entries are lost"] };
        assert_eq!(second.notes(), notes, "{other}");
        assert_eq!(maps.join(&other).exists(), is_kept, "{other}");
        expect_dropped(&world, &second, 3);
        world.stop(second, false);
        assert!(world.is_clean());
    }
}

/// A control group whose processes get at most so much memory, kernel memory included.
struct MemoryLimit(PathBuf);

impl MemoryLimit {
    /// `None` where no controller is to be had.
    fn new(bytes: u64) -> Option<Self> {
        let v1 = Path::new("/sys/fs/cgroup/memory");
        let v2 = Path::new("/sys/fs/cgroup");
        let (root, file) = if v1.join("memory.limit_in_bytes").exists() {
            (v1, "memory.limit_in_bytes")
        } else if fs::read_to_string(v2.join("cgroup.subtree_control")).ok()?.contains("memory") {
            (v2, "memory.max")
        } else {
            return None;
        };
        let limit = Self(root.join(unique("memory")));
        fs::create_dir(&limit.0).ok()?;
        fs::write(limit.0.join(file), bytes.to_string()).ok()?;
        Some(limit)
    }

    /// Runs one test of this file inside.
    fn run(&self, test: &str) -> std::process::Output {
        let join = r#"echo $$ > "$0/cgroup.procs" && exec "$@""#;
        Command::new("sh")
            .args(["-c", join])
            .arg(&self.0)
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", test, "--nocapture"])
            .env(INSIDE, "1")
            .output()
            .unwrap()
    }
}

impl Drop for MemoryLimit {
    fn drop(&mut self) {
        // Its processes have ended; the group is empty.
        let _left = fs::remove_dir(&self.0);
    }
}

/// Set in the process that [`MemoryLimit`] starts.
const INSIDE: &str = "SLUICE_TEST_INSIDE";

/// R123: the kernel refuses a map for real.
#[test]
fn a_map_that_does_not_fit_is_halved_until_it_does_and_that_is_said() {
    if without_programs() {
        return;
    }
    if std::env::var_os(INSIDE).is_none() {
        let Some(limit) = MemoryLimit::new(160 << 20) else {
            return skipped("needs the memory controller of control groups");
        };
        let name = "a_map_that_does_not_fit_is_halved_until_it_does_and_that_is_said";
        let output = limit.run(name);
        let text = String::from_utf8_lossy(&output.stdout);
        let errors = String::from_utf8_lossy(&output.stderr);
        let passed = output.status.success() && text.contains("1 passed");
        assert!(passed, "{}\n{text}\n{errors}", output.status);
        // Not all of it: the lines of its harness would be counted as ours.
        text.lines().filter(|line| line.contains("entries")).for_each(|line| println!("{line}"));
        return;
    }
    let world = World::new();
    let mut plan = world.plan();
    // Some 370 MB, and a quarter of it fits with room to spare.
    plan.sizes.block_hosts = 1 << 22;
    let (mut dataplane, features) = world.start(&plan);
    assert_eq!(shown(&features, "wan"), best());
    let hosts = dataplane.sizes().block_hosts;
    println!("{hosts} of {} entries: {:?}", plan.sizes.block_hosts, dataplane.notes());
    assert!((1 << 16..1 << 22).contains(&hosts), "{hosts}");
    let halvings = plan.sizes.block_hosts.ilog2() - hosts.ilog2();
    assert_eq!(dataplane.notes().len(), halvings as usize);
    let first = "map BLOCK_HOSTS: 2097152 entries instead of 4194304: Cannot allocate memory";
    assert!(dataplane.notes()[0].starts_with(first), "{:?}", dataplane.notes());
    assert_eq!(dataplane.sizes().flows_keys, plan.sizes.flows_keys, "others keep their size");
    block(&mut dataplane);
    expect_dropped(&world, &dataplane, 3);
    let nets = dataplane.sizes().block_nets;
    let too_many: Vec<Net> = (0..=u128::from(nets))
        .map(|n| Net::new(IpAddr::V6((0x2001 << 112 | n << 16).into()).into(), 112))
        .collect();
    let too_many = Entries::of(&[(0, &too_many)]);
    let refused = dataplane.set_lists(too_many, u32::MAX).unwrap_err().chain();
    assert!(refused.contains(&format!("has room for {nets} entries")), "{refused}");
    expect_dropped(&world, &dataplane, 3);
    world.stop(dataplane, false);
    assert!(world.is_clean());
}

/// R48: loaded, loaded again, and replaced by another half, within the time of R48 each.
#[test]
fn a_hundred_thousand_entries_are_loaded_within_five_seconds() {
    if without_programs() {
        return;
    }
    // The time is that of real machines; an emulated one only shows that it ends.
    let emulated = fs::read_to_string("/proc/cpuinfo").unwrap().contains("QEMU");
    let limit = Duration::from_secs(if emulated { 100 } else { 5 });
    let world = World::new();
    let mut plan = world.plan();
    plan.sizes.block_hosts = 1 << 17;
    plan.sizes.block_nets = 1 << 14;
    let (mut dataplane, _) = world.start(&plan);
    // IPv6 that no image can hold, entry by entry, which is the slow way.
    let addr = |n: u32| IpAddr::V6((0x2001 << 112 | u128::from(n)).into());
    let hosts = |from: u32| (from..from + 100_000).map(move |n| Net::host(addr(n)));
    let nets = (0..10_000).map(|n| Net::new(addr((1 << 24) + (n << 8)).into(), 120));
    let nets: Vec<Net> = nets.collect();
    let (first, second): (Vec<_>, Vec<_>) = (hosts(0).collect(), hosts(50_000).collect());
    for (what, list, changed) in [
        ("loaded", &first, (110_000, 0)),
        ("the same again", &first, (0, 0)),
        ("half of them others", &second, (50_000, 50_000)),
    ] {
        let start = Instant::now();
        let entries = Entries::of(&[(0, list), (1, &nets)]);
        let synced = dataplane.set_lists(entries, u32::MAX).unwrap();
        let taken = start.elapsed();
        println!("100,000 addresses and 10,000 prefixes, {what}: {} ms", taken.as_millis());
        assert_eq!((synced.written, synced.removed), changed, "{what}");
        assert!(taken < limit, "{what}: {taken:?}");
    }
    let blocklist = dataplane.blocklist.as_ref().unwrap();
    let found = |n| blocklist.lookup(addr(n), 0).unwrap().map(|listed| listed.list);
    assert_eq!((found(49_999), found(50_000), found(149_999), found(150_000)), {
        (None, Some(0), Some(0), None)
    });
    assert_eq!(found((1 << 24) + (9_999 << 8) + 7), Some(1));
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

#[test]
fn a_build_without_objects_is_refused_and_leaves_nothing() {
    if without_programs() {
        return;
    }
    let world = World::new();
    let empty = Objects { xdp_shield: &[], tc_flow: &[], xdp_device: &[] };
    let report = Report::of_this_kernel();
    let start = || Dataplane::start(&world.plan(), empty, report).err();
    let error = world.inside.enter(start).unwrap().unwrap().chain();
    assert!(error.contains("object xdp_shield is not in this build"), "{error}");
    assert!(world.is_clean());

    // One that is damaged costs its own feature.
    let damaged = Objects { xdp_shield: b"\x7fELF no object", ..Objects::embedded() };
    let start = || Dataplane::start(&world.plan(), damaged, report);
    let (dataplane, features) = world.inside.enter(start).unwrap().unwrap();
    let [xdp, tc] = shown(&features, "wan");
    assert_eq!((xdp.0, tc), (State::Failed, best_tc()));
    let reason = feature(&features, "wan", Hook::Xdp).reasons.join("; ");
    assert!(reason.contains("load object xdp_shield: "), "{reason}");
    assert!(dataplane.blocklist.is_none() && dataplane.flows.is_some());
    world.stop(dataplane, false);
    assert!(world.is_clean());
}

/// R117: on the kernel that the other tests of this file have just shown to have it.
#[test]
fn the_report_says_what_this_kernel_can_do() {
    if without_programs() {
        return;
    }
    let report = Report::of_this_kernel();
    for item in &report.items {
        println!("{:<18} {:?} {:?}", item.need.name(), item.support, item.note);
    }
    for need in [
        Need::Privileges,
        Need::ProgramXdp,
        Need::ProgramTc,
        Need::MapHash,
        Need::MapLruHash,
        Need::MapPerCpuArray,
        Need::MapLpmTrie,
        Need::Bpffs,
        Need::Jit,
        Need::XdpGeneric,
        Need::Clsact,
    ] {
        assert_eq!(*report.support(need), Support::Yes, "{}", need.name());
    }
    assert_eq!(report.obstacle(), None);
}

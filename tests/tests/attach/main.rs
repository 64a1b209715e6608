//! The data path on devices: the ladder, pins, programs of others, restarts.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

mod devices;
mod ladder;
mod lifetime;
mod maps;

use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::fs::PermissionsExt as _;
use std::time::{Duration, Instant};

use aya::util::KernelVersion;
use sluice::config::Net;
use sluice::dataplane::bulk::{Entries, Observing};
use sluice::dataplane::{
    Dataplane, DataplanePlan, Error, FeatureState, Hook, Objects, Sizes, State,
};
use sluice::kernel::{Need, Report, Support};
use sluice::sys::bpf;
use sluice::sys::rtnetlink::{self, Device, Side};
use sluice_abi::counter::Counter;
use sluice_tests::frame::Frame;
use sluice_tests::netns::Netns;
use sluice_tests::plan::{interface, plan};
use sluice_tests::plane::{PinDir, without_programs};
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
            messages: 4096,
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
        .payload(b"a longer probe")
        .bytes()
}

fn dropped(dataplane: &Dataplane) -> u64 {
    dataplane.totals.count(0, Counter::XdpDropListed).unwrap()
}

fn block(dataplane: &mut Dataplane) {
    let list = [Net::host(IpAddr::V4(LISTED))];
    dataplane.set_lists(Entries::of(&[(0, &list)]), Observing::default(), u32::MAX).unwrap();
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
    assert_eq!((pinned("maps"), pinned("links")), (25, 3));

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
    assert!(reason.contains("read object xdp_shield: "), "{reason}");
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

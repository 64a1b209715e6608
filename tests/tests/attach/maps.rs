//! Maps that are kept, made anew, or do not fit.

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use sluice::config::Net;
use sluice::dataplane::bulk::{Entries, Observing};
use sluice::dataplane::{State, TcWish, XdpWish, layout};
use sluice_abi::attach::Role;
use sluice_abi::flow::{Direction, FlowKey, FlowState};
use sluice_abi::names;
use sluice_abi::verdict::{Reason, Verdict};
use sluice_tests::directory::unique;
use sluice_tests::plan::interface;
use sluice_tests::plane::without_programs;
use sluice_tests::skip::skipped;

use super::{World, best, block, dropped, expect_dropped, shown};

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
        let name = "maps::a_map_that_does_not_fit_is_halved_until_it_does_and_that_is_said";
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
    let refused =
        dataplane.set_lists(too_many, Observing::default(), u32::MAX).unwrap_err().chain();
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
        let synced = dataplane.set_lists(entries, Observing::default(), u32::MAX).unwrap();
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

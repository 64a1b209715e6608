//! Configured lists of any size on a router: replaced as a whole, within their memory, or not at
//! all.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::collections::BTreeSet;
use std::fs;
use std::net::Ipv4Addr;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use sluice::sys::bpf;
use sluice_abi::names;
use sluice_tests::agent::{Agent, Setup};
use sluice_tests::directory::Directory;
use sluice_tests::lists::{self, Random};
use sluice_tests::observe;
use sluice_tests::probe::Probe;
use sluice_tests::raw::Injector;
use sluice_tests::router::{Build, Router, WAN, WAN_V4};
use sluice_tests::skip::without_root;
use sluice_tests::wait;

const NONE: [Ipv4Addr; 0] = [];
const LISTED: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 7);
/// Emulated and shared machines are slow; times are printed, and bounded by what is never right.
const LIMIT: Duration = Duration::from_secs(120);

/// A router, its outer cable, a count of what arrives, and a place for lists.
struct World {
    router: Router,
    wire: Injector,
    files: Directory,
}

impl World {
    fn new() -> Self {
        let router = Router::new(Build::default()).unwrap();
        Probe::new(&router.netns, &[("arrived", "udp dport 9")]).unwrap();
        let wire = router.attacker.injector().unwrap();
        Self { router, wire, files: Directory::new("lists").unwrap() }
    }

    fn arrived(&self) -> u64 {
        observe::counter(&self.router.netns, "inet probe", "arrived").unwrap()
    }

    fn frame(&self, source: Ipv4Addr) -> Vec<u8> {
        self.router.attacker.frame().ipv4(source, WAN_V4).udp(4000, 9).bytes()
    }

    /// Which of the sources arrive: five packets each.
    fn passing(&self, agent: &Agent, sources: &[Ipv4Addr]) -> Vec<Ipv4Addr> {
        let dropped = || agent.count(WAN, "xdp_drop_listed").unwrap();
        let arrived = || self.arrived();
        let one = |source: &Ipv4Addr| {
            let before = (dropped(), arrived());
            for _ in 0..5 {
                self.wire.send(&self.frame(*source)).unwrap();
            }
            wait::settles(Duration::from_secs(5), || {
                dropped() + arrived() >= before.0 + before.1 + 5
            });
            let passed = arrived() - before.1;
            assert!(passed == 0 || passed == 5, "{passed} of five from {source}");
            passed == 5
        };
        sources.iter().copied().filter(one).collect()
    }

    /// Puts a list where `setup` looks for it.
    fn write(&self, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
        self.files.write(name, text).unwrap()
    }
}

/// A blocklist of files.
fn with(files: &[&Path]) -> Setup {
    let mut setup = Setup::default();
    let files: Vec<_> = files.iter().map(|file| file.display().to_string()).collect();
    let files: Vec<&str> = files.iter().map(String::as_str).collect();
    setup.more = setup.more.section("blocklist", "bad").list("file", &files);
    setup
}

/// The image in force.
fn image(agent: &Agent) -> u32 {
    let mut id = 0_u32;
    bpf::array_get(agent.map(names::BULK).unwrap().fd().as_fd(), 0, &mut id).unwrap();
    id
}

/// Images that exist, in force or not.
fn images() -> BTreeSet<u32> {
    let named = aya::maps::loaded_maps().filter_map(Result::ok);
    named.filter(|map| map.name_as_str() == Some("bulk")).map(|map| map.id()).collect()
}

/// Peak and present resident memory in KiB.
fn memory(agent: &Agent) -> (u64, u64) {
    let status = fs::read_to_string(format!("/proc/{}/status", agent.pid())).unwrap();
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.split_ascii_whitespace().next().unwrap().parse().unwrap()
    };
    (field("VmHWM:"), field("VmRSS:"))
}

/// R48: a source that the old and the new list have is blocked all the time, through twenty
/// replacements.
#[test]
fn no_packet_passes_while_lists_are_replaced() {
    if without_root() {
        return;
    }
    let world = World::new();
    let others = [lists::random(1, 20_000, 0), lists::random(2, 20_000, 0)];
    let texts = others.each_ref().map(|list| format!("{LISTED}\n{}", lists::text(list)));
    let file = world.write("bad", &texts[0]);
    let setup = with(&[&file]);
    let mut agent = Agent::start(&world.router, setup.clone()).unwrap();
    let dropped = |agent: &Agent| agent.count(WAN, "xdp_drop_listed").unwrap();
    let before = dropped(&agent);
    let (stop, sent) = (AtomicBool::new(false), AtomicU32::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let frame = world.frame(LISTED);
            while !stop.load(Ordering::Relaxed) {
                world.wire.send(&frame).unwrap();
                sent.fetch_add(1, Ordering::Relaxed);
            }
        });
        for round in 1..=20 {
            let image_before = image(&agent);
            world.write("bad", &texts[round % 2]);
            let status = agent.reloaded(&setup).unwrap();
            assert_eq!(status.config_errors, [""; 0]);
            assert_ne!(image(&agent), image_before, "round {round} replaced nothing");
        }
        stop.store(true, Ordering::Relaxed);
    });
    let sent = u64::from(sent.load(Ordering::Relaxed));
    let settled = wait::settles(Duration::from_secs(10), || dropped(&agent) >= before + sent);
    assert!(settled && sent > 10_000, "{} of {sent} dropped", dropped(&agent) - before);
    assert_eq!(world.arrived(), 0, "passed, of {sent}");
    println!("{sent} packets during 20 replacements");
    // What was only in the list before is gone, what is only in this one is there.
    let of = |list: &[(Ipv4Addr, u8)]| list[..10].iter().map(|entry| entry.0).collect::<Vec<_>>();
    assert_eq!(world.passing(&agent, &of(&others[1])), of(&others[1]));
    assert_eq!(world.passing(&agent, &of(&others[0])), NONE);
}

/// R48: an agent that is killed while it loads leaves the old list in force, or the new one when it
/// was done, and never a part.
#[test]
fn a_load_that_is_cut_off_changes_nothing() {
    if without_root() {
        return;
    }
    let world = World::new();
    let list = lists::random(3, 800_000, 0);
    let large = lists::text(&list);
    let file = world.write("bad", format!("{LISTED}\n"));
    let mut sorted: Vec<Ipv4Addr> = list.iter().map(|entry| entry.0).collect();
    sorted.sort_unstable();
    // From everywhere in the image.
    let samples: Vec<Ipv4Addr> = sorted.iter().step_by(sorted.len() / 8).copied().collect();
    let setup = with(&[&file]);
    let mut agent = Agent::start(&world.router, setup.clone()).unwrap();
    let mut unchanged = 0;
    // While the file is read, while the image is written, and about when it is whole.
    for (is_written, after_ms) in [
        (false, 20),
        (false, 80),
        (true, 0),
        (true, 0),
        (true, 1),
        (true, 3),
        (true, 8),
        (true, 20),
    ] {
        world.write("bad", &large);
        let before = images();
        agent.reload(&setup).unwrap();
        if is_written {
            let begun = || !images().is_subset(&before);
            assert!(wait::settles(LIMIT, begun), "no image was begun");
        }
        wait::pause(Duration::from_millis(after_ms));
        agent.kill9().unwrap();
        let image_left = image(&agent);
        // The dead agent cannot be asked, so the programs are.
        let arrived = || world.arrived();
        let passes = |source: Ipv4Addr| {
            let before = arrived();
            for _ in 0..3 {
                world.wire.send(&world.frame(source)).unwrap();
            }
            wait::settles(Duration::from_millis(300), || arrived() >= before + 3)
        };
        let passing = samples.iter().filter(|source| passes(**source)).count();
        let is_old = !passes(LISTED);
        assert_eq!(
            passing,
            if is_old { samples.len() } else { 0 },
            "{is_written}, after {after_ms} ms"
        );
        unchanged += u32::from(is_old);
        // The next one begins with what is there and ends with its own.
        world.write("bad", format!("{LISTED}\n"));
        agent.start_again(&world.router).unwrap();
        assert_ne!(image(&agent), image_left);
        assert_eq!(world.passing(&agent, &[LISTED, samples[0]]), [samples[0]]);
    }
    println!("{unchanged} of 8 loads were cut off before they were done");
    assert!(unchanged > 0, "every load was done before the agent was killed");
}

/// R49, R182: a million addresses and 100,000 prefixes in the running agent, replaced by a million
/// others, exact, within their memory.
#[test]
fn a_million_entries_are_loaded_and_replaced_within_their_memory() {
    if without_root() {
        return;
    }
    let world = World::new();
    // With a small list first, so that what the start took was given back.
    let file = world.write("bad", format!("{LISTED}\n"));
    let setup = with(&[&file]).main("list_memory_kib", 16_384);
    let mut agent = Agent::start(&world.router, setup.clone()).unwrap();
    let idle = memory(&agent).1;
    for seed in [11, 12] {
        let list = lists::random(seed, 1_000_000, 100_000);
        world.write("bad", lists::text(&list));
        // The peak is counted anew from here on.
        fs::write(format!("/proc/{}/clear_refs", agent.pid()), "5").unwrap();
        let status = agent.reloaded(&setup).unwrap();
        let (peak, rest) = memory(&agent);
        println!(
            "1,000,000 addresses and 100,000 prefixes: image {} KiB, loaded in {} ms, resident {idle} \
             KiB idle, {peak} KiB at the peak, {rest} KiB after",
            status.list_image.kib, status.list_image.load_ms
        );
        assert_eq!(status.lists[0].entries, 1_100_000);
        assert!(status.list_image.kib <= 6_000_000 / 1024, "{} KiB", status.list_image.kib);
        let (over, stays) = (peak.saturating_sub(idle), rest.saturating_sub(idle));
        assert!(over <= 16 << 10, "{over} KiB over idle");
        assert!(stays <= 2 << 10, "{stays} KiB stay");

        let mut random = Random::new(seed + 100);
        let listed: Vec<Ipv4Addr> = (0..20).map(|n| list[n * 54_321].0).collect();
        let others = std::iter::repeat_with(|| random.address());
        let others: Vec<Ipv4Addr> =
            others.filter(|address| !lists::has(&list, *address)).take(20).collect();
        assert_eq!(world.passing(&agent, &listed), NONE);
        assert_eq!(world.passing(&agent, &others), others);
        let why = agent.why(&list[54_321].0.to_string()).unwrap();
        let [cause] = &why.causes[..] else { unreachable!("{why:?}") };
        assert!(cause.by.ends_with("bad"), "{cause:?}");
        // The first line that has it; a prefix further up may, but the prefixes come last.
        assert_eq!(cause.entry, format!("{}, {}:54322", list[54_321].0, file.display()));
        assert_eq!(agent.why(&others[0].to_string()).unwrap().causes.len(), 0);
    }
}

/// R182: what does not fit is refused with its arithmetic, and what was in force stays.
#[test]
fn lists_beyond_their_memory_are_refused_and_the_old_ones_stay() {
    if without_root() {
        return;
    }
    let world = World::new();
    let file = world.write("bad", format!("{LISTED}\n"));
    let setup = with(&[&file]).main("list_memory_kib", 1536);
    let mut agent = Agent::start(&world.router, setup.clone()).unwrap();
    let before = image(&agent);
    // 400,000 addresses take some 2 MiB.
    let large = lists::random(5, 400_000, 0);
    world.write("bad", lists::text(&large));
    let status = agent.refused(&setup).unwrap();
    let [refusal] = &status.config_errors[..] else { unreachable!("{:?}", status.config_errors) };
    println!("{refusal}");
    assert!(refusal.contains(" KiB beside 384 KiB in force and 96 KiB of live"), "{refusal}");
    assert!(refusal.ends_with("list_memory_kib allows 1,536 KiB"), "{refusal}");
    assert_eq!((status.generation, status.lists[0].entries, image(&agent)), (1, 1, before));
    assert_eq!(world.passing(&agent, &[LISTED, large[0].0]), [large[0].0]);

    // An agent that starts with it leaves what is in force, works otherwise, and says so.
    agent.kill9().unwrap();
    agent.start_again(&world.router).unwrap();
    let text = agent.ask(&["status"]).unwrap();
    assert!(text.contains("list_memory_kib allows 1,536 KiB"), "{text}");
    assert_eq!(image(&agent), before);
    assert_eq!(world.passing(&agent, &[LISTED, large[0].0]), [large[0].0]);
    // With room it is taken.
    let status = agent.reloaded(&with(&[&file]).main("list_memory_kib", 8192)).unwrap();
    assert_eq!((status.config_errors.len(), status.lists[0].entries), (0, 400_000));
    assert_eq!(world.passing(&agent, &[LISTED, large[0].0]), [LISTED]);
    assert!(!agent.ask(&["status"]).unwrap().contains("allows"));
}

/// A reload that leaves the lists alone does not make their image anew, and one that takes them away
/// leaves nothing.
#[test]
fn an_unchanged_list_is_not_loaded_again() {
    if without_root() {
        return;
    }
    let world = World::new();
    let file = world.write("bad", format!("{LISTED}\n203.0.113.64/26\n"));
    let setup = with(&[&file]);
    let mut agent = Agent::start(&world.router, setup.clone()).unwrap();
    let first = image(&agent);
    // The same bytes, written again.
    world.write("bad", format!("{LISTED}\n203.0.113.64/26\n"));
    agent.reloaded(&setup.clone().main("block_s", 60)).unwrap();
    assert_eq!(image(&agent), first);
    let managed = Ipv4Addr::new(203, 0, 113, 66);
    assert_eq!(world.passing(&agent, &[LISTED, managed]), NONE);

    // R178: a prefix from which the router is managed is not blocked by a part or a whole of it.
    let text = fs::read_to_string(agent.config()).unwrap();
    let text = text.replacen(
        "config sluice 'main'\n",
        "config sluice 'main'\n\tlist management '203.0.113.66'\n\tlist management '198.51.100.0/24'\n",
        1,
    );
    agent.reload_text(&text).unwrap();
    let status = agent
        .wait_for_status("the reload was in force", LIMIT, |status| {
            (status.generation == 3).then(|| status.clone())
        })
        .unwrap();
    assert_eq!(status.lists[0].entries, 0);
    let shown = agent.ask(&["status"]).unwrap();
    for left_out in [
        "198.51.100.7 is left out: it would block 198.51.100.0/24, for management",
        "203.0.113.64/26 is left out: it would block 203.0.113.66, for management",
    ] {
        assert!(shown.contains(left_out), "{shown}");
    }
    assert_eq!(world.passing(&agent, &[LISTED, managed]), [LISTED, managed]);
    let mut id = 0_u32;
    let map = agent.map(names::BULK).unwrap();
    assert!(bpf::array_get(map.fd().as_fd(), 0, &mut id).is_err(), "an image of nothing");
}

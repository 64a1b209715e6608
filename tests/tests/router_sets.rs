//! The shield's last rung on a router: where no program drops what lists block, sets of nftables do.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use sluice_tests::agent::{Agent, Setup};
use sluice_tests::directory::Directory;
use sluice_tests::probe::ForeignXdp;
use sluice_tests::raw::Injector;
use sluice_tests::report::Feature;
use sluice_tests::router::{Build, Router, WAN, WAN_V4, WAN_V6};
use sluice_tests::skip::without_root;
use sluice_tests::{lists, observe, wait};

const TABLE: &str = "inet sluice_shield";
const LISTED: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 7);
const OTHER: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 8);
const LIMIT: Duration = Duration::from_secs(30);
/// What an agent has that may do everything but call bpf(2).
const WITHOUT_BPF: [&str; 5] = ["chown", "dac_read_search", "net_admin", "net_raw", "sys_resource"];

/// A router, its outer cable, and a count of what passes the sets.
struct World {
    router: Router,
    wire: Injector,
}

impl World {
    fn new() -> Self {
        let router = Router::new(Build::default()).unwrap();
        let witness = "table inet witness {\ncounter arrived { }\nchain arrive {\n\
                       type filter hook prerouting priority -250\n\
                       udp dport 9 counter name arrived\n}\n}\n";
        router.netns.nft(witness).unwrap();
        let wire = router.attacker.injector().unwrap();
        Self { router, wire }
    }

    fn arrived(&self) -> u64 {
        observe::counter(&self.router.netns, "inet witness", "arrived").unwrap()
    }

    fn send(&self, source: IpAddr) {
        let router: IpAddr = if source.is_ipv4() { WAN_V4.into() } else { WAN_V6.into() };
        let frame = self.router.attacker.frame().addresses(source, router).udp(4000, 9);
        self.wire.send(&frame.bytes()).unwrap();
    }

    /// Whether five packets of a source arrive; otherwise none does.
    fn passes(&self, source: impl Into<IpAddr>) -> bool {
        let (source, before) = (source.into(), self.arrived());
        let last = Ipv4Addr::new(198, 51, 100, 200);
        (0..5).for_each(|_| self.send(source));
        // What comes after them on the same cable, and is never listed.
        self.send(last.into());
        wait::until_true("the last packet arrived", LIMIT, || self.arrived() > before).unwrap();
        wait::settles(Duration::from_millis(300), || self.arrived() == before + 6);
        let passed = self.arrived() - before - 1;
        assert!(passed == 0 || passed == 5, "{passed} of five from {source}");
        passed == 5
    }

    fn has_table(&self) -> bool {
        self.router.netns.succeeds(&format!("nft list table {TABLE}")).unwrap()
    }
}

fn dropped(agent: &Agent, interface: &str, reason: &str) -> u64 {
    let drops = agent.status().unwrap().drops.into_iter();
    let its = drops.filter(|drop| {
        drop.place == "nft" && drop.reason == reason && drop.interface.as_deref() == Some(interface)
    });
    its.map(|drop| drop.packets).sum()
}

fn feature(agent: &Agent, name: &str) -> Feature {
    let features = agent.status().unwrap().features;
    features.into_iter().find(|feature| feature.name == name).unwrap()
}

fn v6(text: &str) -> Ipv6Addr {
    text.parse().unwrap()
}

/// Every list in force, on both sides and in both families, and each drop counted by reason.
fn all_are_in_force(world: &World, agent: &Agent) {
    let before = dropped(agent, "wan", "listed");
    for (source, passes) in [
        (IpAddr::from(LISTED), false),
        (OTHER.into(), true),
        (Ipv4Addr::new(198, 19, 255, 255).into(), false),
        (Ipv4Addr::new(198, 20, 0, 0).into(), true),
        (Ipv4Addr::new(198, 18, 5, 5).into(), true),
        (Ipv4Addr::new(198, 18, 6, 6).into(), false),
        (v6("2001:db8:bad::7").into(), false),
        (v6("2001:db8:bad::8").into(), true),
        (v6("2001:db8:bad:8001::1").into(), false),
        (v6("2001:db8:bad:8000::5").into(), true),
    ] {
        assert_eq!(world.passes(source), passes, "{source}");
    }
    assert_eq!(dropped(agent, "wan", "listed") - before, 25);
    // From inside it is the destination that counts.
    let (client, attacker) = (world.router.client(), &world.router.attacker);
    let before = dropped(agent, "lan", "listed");
    for to in [IpAddr::from(attacker.v4), attacker.v6.into()] {
        assert!(!client.ping(to).unwrap(), "{to}");
    }
    assert_eq!(dropped(agent, "lan", "listed") - before, 2);
    assert!(client.ping(world.router.server.v4.into()).unwrap());
    assert!(client.ping(world.router.server.v6.into()).unwrap());
}

fn all_lists(world: &World) -> Setup {
    let (v4, v6) = (world.router.attacker.v4.to_string(), world.router.attacker.v6.to_string());
    Setup::default()
        .blocklist(
            "bad",
            &[
                &LISTED.to_string(),
                "198.18.0.0/15",
                "2001:db8:bad::7",
                "2001:db8:bad:8000::/49",
                &v4,
                &v6,
            ],
        )
        .allowlist("good", "wan", &["198.18.5.5", "2001:db8:bad:8000::5"])
        .allowlist("inside", "lan", &["198.18.6.6"])
}

/// R46, R58, R62: where sets of nftables are the rung, they drop what programs would, in both families
/// and roles, and the allowlist lifts it in its own; `status` says what is missing; stop takes them away.
#[test]
fn sets_drop_what_lists_block_and_go_with_the_agent() {
    if without_root() {
        return;
    }
    let world = World::new();
    let mut agent = Agent::start(&world.router, all_lists(&world).xdp("nft")).unwrap();
    let shield = feature(&agent, "shield wan");
    assert_eq!((&*shield.state, &*shield.rung), ("degraded", "nft sets"), "{shield:?}");
    assert!(shield.reasons.iter().any(|reason| reason.contains("rates")), "{shield:?}");
    assert_ne!(feature(&agent, "fast path wan").state, "failed");
    all_are_in_force(&world, &agent);
    wait::until_true("the contact was told", LIMIT, || {
        agent.ask(&["events"]).unwrap().lines().any(|line| line.contains("\"contact\""))
    })
    .unwrap();
    let why = agent.why(&LISTED.to_string()).unwrap();
    let cause = why.causes.first().unwrap();
    assert_eq!((&*cause.hook, &*cause.by), ("nft", "blocklist bad"), "{cause:?}");
    assert!(agent.stop().unwrap().success());
    assert!(!world.has_table());
    assert!(world.passes(LISTED));
}

/// R58, R46: an agent that may not call bpf(2) comes up, says so, and blocks by sets: lists, and what a
/// person blocks for a time or lets pass. An address ends by itself, whatever becomes of the agent.
#[test]
fn without_bpf_lists_block_and_so_does_a_person() {
    if without_root() {
        return;
    }
    let world = World::new();
    let capabilities = WITHOUT_BPF.map(str::to_owned);
    let setup = all_lists(&world).main("clock", "trust");
    let mut agent = Agent::start_confined(&world.router, setup.clone(), &capabilities).unwrap();
    assert_eq!(feature(&agent, "programs").state, "failed");
    let shield = feature(&agent, "shield wan");
    assert_eq!((&*shield.state, &*shield.rung), ("degraded", "nft sets"), "{shield:?}");
    assert!(shield.reasons.iter().any(|reason| reason.contains("CAP_BPF")), "{shield:?}");
    all_are_in_force(&world, &agent);
    let why = agent.why("198.19.0.1").unwrap();
    assert_eq!(why.causes[0].entry, "198.18.0.0/15");
    assert_eq!(why.causes[0].hook, "nft");

    // What does not fit its memory is refused, with the sum.
    let files = Directory::new("sets").unwrap();
    let large = files.write("large", lists::text(&lists::random(3, 20_000, 0))).unwrap();
    let larger =
        setup.clone().main("list_memory_kib", 1024).blocklist_file("large", &large, 100_000);
    let why = agent.refused(&larger).unwrap().config_errors.join("\n");
    assert!(why.contains("list_memory_kib allows 1,024 KiB"), "{why}");
    agent.reload(&setup).unwrap();

    let (net, inside) = (Ipv4Addr::new(203, 0, 112, 9), Ipv4Addr::new(203, 0, 112, 77));
    assert!(world.passes(OTHER) && world.passes(net));
    agent.ask(&["block", "198.51.100.8", "--for", "1h"]).unwrap();
    agent.ask(&["block", "203.0.112.0/24", "--for", "1h"]).unwrap();
    agent.ask(&["block", "203.0.112.64/26", "--for", "2h"]).unwrap();
    agent.ask(&["block", "2001:db8:77::7", "--for", "1h"]).unwrap();
    for source in [IpAddr::from(OTHER), net.into(), inside.into(), v6("2001:db8:77::7").into()] {
        assert!(!world.passes(source), "{source}");
    }
    assert_eq!(dropped(&agent, "wan", "address"), 10);
    assert_eq!(dropped(&agent, "wan", "prefix"), 10);
    assert!(agent.why("198.51.100.8").unwrap().causes[0].by.contains("by hand"));
    agent.ask(&["unblock", "203.0.112.0/24"]).unwrap();
    assert!(world.passes(net) && !world.passes(inside));
    assert!(agent.ask(&["unblock", "203.0.112.0/24"]).is_err());
    agent.ask(&["unblock", "198.51.100.8"]).unwrap();
    assert!(world.passes(OTHER));
    // For good it is a section of the configuration, as is what is allowed.
    agent.ask(&["block", "198.51.100.8"]).unwrap();
    assert!(!world.passes(OTHER));
    agent.ask(&["allow", "198.51.100.7"]).unwrap();
    assert!(world.passes(LISTED));
    agent.ask(&["unblock", "198.51.100.8"]).unwrap();
    assert!(world.passes(OTHER));

    // Killed, it blocks; started anew, what is left of the time goes on.
    agent.kill9().unwrap();
    assert!(!world.passes(inside));
    agent.start_again_confined(&world.router, &capabilities).unwrap();
    assert_eq!(feature(&agent, "shield wan").rung, "nft sets");
    assert!(!world.passes(inside) && world.passes(net));
    agent.ask(&["unblock", "203.0.112.64/26"]).unwrap();
    assert!(world.passes(inside));
    agent.kill9().unwrap();
    agent.start_again(&world.router).unwrap();
    assert_eq!(feature(&agent, "shield wan").rung, "native", "this one may call bpf(2)");
    assert!(!world.has_table(), "and needs no sets");
}

/// R47: what is blocked for a time ends in the kernel, while the agent is stopped.
#[test]
fn a_block_ends_by_itself_while_the_agent_is_stopped() {
    if without_root() {
        return;
    }
    let world = World::new();
    let mut agent = Agent::start(&world.router, Setup::default().xdp("nft")).unwrap();
    let prefix = Ipv4Addr::new(203, 0, 112, 9);
    agent.ask(&["block", "198.51.100.7", "--for", "6s"]).unwrap();
    agent.ask(&["block", "203.0.112.0/24", "--for", "6s"]).unwrap();
    let since = Instant::now();
    agent.sigstop().unwrap();
    assert!(!world.passes(LISTED) && !world.passes(prefix));
    assert!(since.elapsed() < Duration::from_secs(5), "too slow to tell");
    wait::until_true("the blocks ended", LIMIT, || world.passes(LISTED) && world.passes(prefix))
        .unwrap();
    assert!(since.elapsed() > Duration::from_secs(5), "{:?}", since.elapsed());
    agent.sigcont().unwrap();
}

/// R48: a source that the old and the new list have is blocked all the time, through replacements, and
/// counted without a gap; lists beyond their memory are refused and change nothing.
#[test]
fn no_packet_passes_while_sets_are_replaced() {
    const ROUNDS: usize = 12;
    if without_root() {
        return;
    }
    let world = World::new();
    let files = Directory::new("sets").unwrap();
    let others = [lists::random(1, 10_000, 0), lists::random(2, 10_000, 0)];
    let texts = others.each_ref().map(|list| format!("{LISTED}\n{}", lists::text(list)));
    let file = files.write("bad", &texts[0]).unwrap();
    let mut setup = Setup::default().xdp("nft").main("list_memory_kib", 8192);
    setup.more =
        setup.more.section("blocklist", "bad").list("file", &[&file.display().to_string()]);
    let mut agent = Agent::start(&world.router, setup.clone()).unwrap();
    let (stop, sent) = (AtomicBool::new(false), AtomicU32::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                world.send(LISTED.into());
                sent.fetch_add(1, Ordering::Relaxed);
            }
        });
        for round in 1..=ROUNDS {
            files.write("bad", &texts[round % 2]).unwrap();
            let status = agent.reloaded(&setup).unwrap();
            assert_eq!(status.config_errors, [""; 0]);
        }
        stop.store(true, Ordering::Relaxed);
    });
    let sent = u64::from(sent.load(Ordering::Relaxed));
    let all = || dropped(&agent, "wan", "listed") >= sent;
    assert!(
        wait::settles(Duration::from_secs(10), all),
        "{} of {sent}",
        dropped(&agent, "wan", "listed")
    );
    assert_eq!(world.arrived(), 0, "passed, of {sent}");
    println!("{sent} packets during {ROUNDS} replacements");
    let (then, now) = (others[1][0].0, others[0][0].0);
    assert!(world.passes(then) && !world.passes(now));
    let sets = world.router.netns.run("nft list sets inet").unwrap();
    assert_eq!(sets.matches("set listed4_").count(), 1, "those of before are gone");

    let large = format!("{LISTED}\n{}", lists::text(&lists::random(3, 60_000, 0)));
    files.write("bad", large).unwrap();
    let status = agent.refused(&setup).unwrap();
    let why = status.config_errors.join("\n");
    assert!(why.contains("list_memory_kib allows 8,192 KiB"), "{why}");
    assert!(!world.passes(now) && world.passes(then));
}

/// R46: who takes the sets away has them back, and what nobody names is left alone by others' reloads.
#[test]
fn sets_that_somebody_flushes_come_back() {
    if without_root() {
        return;
    }
    let world = World::new();
    let setup = Setup::default().xdp("nft").blocklist("bad", &[&LISTED.to_string()]);
    let agent = Agent::start(&world.router, setup).unwrap();
    agent.ask(&["block", "198.51.100.8", "--for", "1h"]).unwrap();
    world.router.netns.run("nft delete table inet sluice_shield").unwrap();
    wait::until_true("the table was back", LIMIT, || world.has_table()).unwrap();
    wait::until_true("the lists were back", LIMIT, || !world.passes(LISTED)).unwrap();
    assert!(!world.passes(OTHER), "and what is blocked for a time");
    let table = || world.router.netns.run(&format!("nft -a list chain {TABLE} shield")).unwrap();
    let before = table();
    world.router.firewall().unwrap();
    assert_eq!(table(), before);
    assert!(!world.passes(LISTED));
}

/// R58: one interface on this rung, the other on a better one: each has the lists, and what is blocked
/// for a time is on both. Who switches the shield off has none.
#[test]
fn an_interface_without_a_program_has_sets_beside_one_with() {
    if without_root() {
        return;
    }
    let world = World::new();
    let lists = Setup::default()
        .blocklist("bad", &[&LISTED.to_string(), &world.router.attacker.v4.to_string()]);
    let text = |xdp: &str| {
        let mut more = lists.more.text().to_owned();
        for (name, device, role, xdp) in
            [("lan", world.router.lan, "lan", "auto"), ("wan", WAN, "wan", xdp)]
        {
            let section = ["config interface", name, "\n\toption device", device];
            more.push_str(&section.join(" "));
            more.push_str(&["\n\toption role", role, "\n\toption xdp", xdp, "\n"].join(" "));
        }
        format!("config sluice 'main'\n{more}")
    };
    let mut agent = Agent::start_with(&world.router, &text("nft")).unwrap();
    assert_eq!(feature(&agent, "shield wan").rung, "nft sets");
    assert_eq!(feature(&agent, "shield lan").rung, "native");
    assert!(!world.passes(LISTED) && world.passes(OTHER));
    assert!(!world.router.client().ping(world.router.attacker.v4.into()).unwrap());
    assert_eq!(agent.count("lan", "xdp_drop_listed").unwrap(), 1);
    assert_eq!(dropped(&agent, "lan", "listed"), 0);
    assert!(world.router.client().ping(world.router.server.v4.into()).unwrap());
    agent.ask(&["block", &OTHER.to_string(), "--for", "1h"]).unwrap();
    assert!(!world.passes(OTHER));
    agent.ask(&["unblock", &OTHER.to_string()]).unwrap();
    assert!(world.passes(OTHER));

    let placed = std::fs::read_to_string(agent.config()).unwrap();
    agent.reload_text(&placed.replace("option xdp nft", "option xdp off")).unwrap();
    wait::until_true("the table was gone", LIMIT, || !world.has_table()).unwrap();
    assert!(world.passes(LISTED));
    agent.reload_text(&placed.replace("option xdp nft", "option xdp auto")).unwrap();
    wait::until_true("a program was there", LIMIT, || !world.passes(LISTED)).unwrap();
    assert!(!world.has_table());
}

/// R58, R60: the last rung comes of itself where somebody else's program is and there is no fast path, with
/// the reasons of the better ones, and goes when a program can be there.
#[test]
fn sets_come_and_go_as_programs_cannot_and_can() {
    if without_root() {
        return;
    }
    let world = World::new();
    let foreign = ForeignXdp::attach(&world.router.netns, WAN).unwrap();
    let setup = Setup::default().without_tc().blocklist("bad", &[&LISTED.to_string()]);
    let agent = Agent::start(&world.router, setup).unwrap();
    let shield = feature(&agent, "shield wan");
    assert_eq!((&*shield.state, &*shield.rung), ("degraded", "nft sets"), "{shield:?}");
    let reason = "of somebody else, which is not replaced";
    assert!(shield.reasons.iter().any(|one| one.contains(reason)), "{shield:?}");
    assert!(!world.passes(LISTED) && world.passes(OTHER));
    drop(foreign);
    wait::until_true("a program was there", LIMIT, || {
        feature(&agent, "shield wan").rung == "native" && !world.has_table()
    })
    .unwrap();
    assert!(!world.passes(LISTED) && world.passes(OTHER));
    assert!(agent.count(WAN, "xdp_drop_listed").unwrap() >= 5);
}

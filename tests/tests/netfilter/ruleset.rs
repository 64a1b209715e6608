//! The table: what it queues, copies, counts; how it is applied, taken away and watched.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use sluice::netfilter::apply::{Backend as _, Kind, Nft, Wish, choose};
use sluice::netfilter::conntrack::Conntrack;
use sluice::netfilter::nfqueue::Verdict;
use sluice::netfilter::queue::Queues;
use sluice::netfilter::rules::{Counted, Replace, Ruleset};
use sluice::netfilter::watch::Watch;
use sluice_datapath::parse;
use sluice_tests::netns::Netns;
use sluice_tests::router::{Build, LAN_V4, Router};
use sluice_tests::skip::without_root;
use sluice_tests::traffic::{TcpService, UdpService, connect, round_trip, udp};
use sluice_tests::{observe, wait};

use super::{FIRST, LIMIT, marks, options, rules, served, tuple, with_queues};

/// The kernel's own answer decides; on one without the queue expression the reason is told.
#[test]
fn the_backend_is_the_one_that_the_kernel_takes() {
    if without_root() {
        return;
    }
    let netns = Netns::new("choose").unwrap();
    let native = netns
        .nft("add table inet x\nadd chain inet x y\nadd rule inet x y queue num 1\ndelete table inet x\n")
        .is_ok();
    let (kind, reasons) = netns
        .enter(|| choose(Wish::Auto).map(|(backend, reasons)| (backend.kind(), reasons)))
        .unwrap()
        .unwrap();
    if native {
        assert_eq!((kind, reasons.len()), (Kind::Nft, 0));
    } else {
        assert_eq!(kind, Kind::Iptables);
        assert!(reasons[0].contains("kmod-nft-queue"), "{reasons:?}");
        let refused = netns.enter(|| choose(Wish::Only(Kind::Nft)).map(drop)).unwrap();
        assert!(refused.unwrap_err().to_string().contains("kmod-nft-queue"));
    }
    assert!(!observe::rule_mentions(&netns, "probe").unwrap(), "a probe leaves nothing");
    assert!(!observe::rule_mentions(&netns, "PROBE").unwrap(), "a probe leaves nothing");
}

/// The text of the product's own table on every kernel: only the queue expression is replaced, and
/// the verdict's mark comes from another table.
#[test]
fn the_nft_table_copies_marks_counts_and_drops() {
    if without_root() {
        return;
    }
    let world = Router::new(Build::default()).unwrap();
    let text = rules(&world, 4, true).nft(Replace::Flush);
    let text = text.replace("queue num 40-43 bypass", "accept");
    assert!(!text.contains("queue num"));
    world.netns.nft(&text).unwrap();
    world.netns.nft(&text).unwrap();
    let values =
        [(7101, marks().trusted()), (7102, marks().undecided()), (7103, marks().blocked())];
    for (port, value) in values {
        world
            .netns
            .nft(&format!(
                "table inet verdict {{
                    chain of{port} {{
                        type filter hook prerouting priority mangle; policy accept;
                        udp dport {port} udp length 11 meta mark set {}
                        udp dport {port} ct mark set ct mark | 0xff00
                    }}
                }}",
                value | marks().answered() | 0x00ee_0000
            ))
            .unwrap();
    }
    for (port, value) in values {
        for server in [IpAddr::from(world.server.v4), world.server.v6.into()] {
            let echo = UdpService::echo(&world.server, server, port).unwrap();
            let socket = udp(world.client(), echo.address()).unwrap();
            // Conntrack keeps a connection only when a packet of it has passed.
            socket.send(b"first question").unwrap();
            socket.recv(&mut [0; 64]).unwrap();
            let is_blocked = value == marks().blocked();
            for _ in 0..3 {
                socket.send(b"yes").unwrap(); // the length that the other table marks
                socket.send(b"no").unwrap();
            }
            if is_blocked {
                socket.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
                assert!(socket.recv(&mut [0; 64]).is_err());
                assert_eq!(echo.count(), 1);
            } else {
                served(&echo, 7);
            }
            let seen = tuple(socket.local_addr().unwrap(), echo.address(), parse::UDP);
            let looked_up = world.netns.enter(|| Conntrack::open().unwrap().lookup(&seen).unwrap());
            assert_eq!(looked_up.unwrap().unwrap().mark, value | 0xff00);
        }
    }
    let counts = world.netns.enter(|| Nft::new().counters()).unwrap().unwrap();
    let count = |counted| counts.iter().find(|count| count.counted == counted).unwrap().packets;
    // Two families. Of six questions behind the first one three are marked as answers of the queue.
    assert_eq!((count(Counted::DroppedVerdict), count(Counted::DroppedBlocked)), (2 * 3, 2 * 3));
    // Of the others each is counted, and the six that come back from the server.
    assert_eq!(count(Counted::PassedTrusted), 2 * 9);
    assert_eq!(count(Counted::PassedUndecided), 2 * 9);
    // The first question of each, and what came back.
    assert_eq!(count(Counted::Queued), 2 * 2 * 3);
}

/// R23: marks that somebody else gave the first packet of a connection do not spare it the queue.
#[test]
fn a_first_packet_with_a_foreign_mark_is_queued_in_the_nft_table() {
    if without_root() {
        return;
    }
    let world = Router::new(Build::default()).unwrap();
    let text = rules(&world, 1, true).nft(Replace::Flush);
    world.netns.nft(&text.replace("queue num 40 bypass", "accept")).unwrap();
    world
        .netns
        .nft(&format!(
            "table inet foreign {{
                chain before {{
                    type filter hook prerouting priority mangle; policy accept;
                    tcp dport 7104 meta mark set {0}
                    tcp sport 7104 meta mark set {0}
                }}
            }}",
            marks().trusted()
        ))
        .unwrap();
    for server in [IpAddr::from(world.server.v4), world.server.v6.into()] {
        let echo = TcpService::echo(&world.server, server, 7104).unwrap();
        let mut stream = connect(world.client(), echo.address()).unwrap();
        round_trip(&mut stream, b"question", 8).unwrap();
    }
    let counts = world.netns.enter(|| Nft::new().counters()).unwrap().unwrap();
    let count = |counted| counts.iter().find(|count| count.counted == counted).unwrap().packets;
    assert_eq!(count(Counted::Queued), 2);
    assert!(count(Counted::PassedTrusted) >= 2 * 3);
}

/// R26: rules come and go as a whole; what is not ours stays.
#[test]
fn removing_leaves_no_rule_and_applying_twice_leaves_one_set() {
    if without_root() {
        return;
    }
    let world = Router::new(Build::default()).unwrap();
    world.netns.run("iptables-nft -t filter -A FORWARD -p sctp -j ACCEPT").unwrap();
    world.netns.run("iptables-nft -t mangle -A FORWARD -p sctp -j ACCEPT").unwrap();
    let before = world.netns.run("nft -s list ruleset").unwrap();
    let inside = world.netns.enter(|| {
        let (mut backend, _) = choose(Wish::Auto).unwrap();
        backend.remove().unwrap();
        assert!(!backend.is_applied().unwrap(), "nothing was applied yet");
        backend.apply(&rules(&world, 2, true)).unwrap();
        assert!(backend.is_applied().unwrap());
        let once = world.netns.run("nft -s list ruleset").unwrap();
        backend.apply(&rules(&world, 2, true)).unwrap();
        assert_eq!(world.netns.run("nft -s list ruleset").unwrap(), once);
        // Another agent instance finds them and replaces them.
        let (mut second, _) = choose(Wish::Auto).unwrap();
        assert!(!second.is_applied().unwrap(), "they are not its own");
        second.apply(&rules(&world, 1, false)).unwrap();
        assert!(second.is_applied().unwrap());
        assert!(!backend.is_applied().unwrap());
        second.remove().unwrap();
        second.remove().unwrap();
        assert!(!second.is_applied().unwrap());
    });
    inside.unwrap();
    let after = world.netns.run("nft -s list ruleset").unwrap();
    assert!(!after.to_lowercase().contains("sluice"), "{after}");
    let rules = |text: &str| {
        // The tool of the fallback makes tables and base chains where there were none.
        let rules = text.lines().map(str::trim).filter(|line| {
            !line.is_empty()
                && *line != "}"
                && !line.starts_with("table ip6")
                && !line.starts_with("chain FORWARD")
                && !line.contains("type filter hook forward priority")
        });
        rules.map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(rules(&after), rules(&before));
}

/// R26: whoever takes the rules away, it is noticed at once; a change of others is told apart.
#[test]
fn a_flushed_ruleset_is_noticed_within_200_ms_and_applied_again() {
    if without_root() {
        return;
    }
    let world = Router::new(Build::default()).unwrap();
    let inside = world.netns.enter(|| {
        let (mut backend, _) = choose(Wish::Auto).unwrap();
        let rules = rules(&world, 1, true);
        let mut watch = Watch::open().unwrap();
        backend.apply(&rules).unwrap();
        // Our own changes wake too.
        let own = noticed(&mut watch).unwrap();
        assert!(own.generation.is_some() && own.pid.is_some(), "{own:?}");
        while noticed(&mut watch).is_some() {}
        assert!(backend.is_applied().unwrap());
        assert_eq!(noticed(&mut watch), None, "looking is no change");

        world.firewall().unwrap();
        let reload = noticed(&mut watch).expect("a reload of the firewall is noticed");
        assert_eq!(reload.program.as_deref(), Some("nft"));
        assert!(backend.is_applied().unwrap(), "the firewall's own table is not ours");
        while noticed(&mut watch).is_some() {}

        for attack in [
            "nft flush ruleset",
            match backend.kind() {
                Kind::Nft => "nft flush chain inet sluice inspect",
                Kind::Iptables => "iptables-nft -t mangle -F SLUICE_FLOW",
            },
            match backend.kind() {
                Kind::Nft => "nft delete table inet sluice",
                Kind::Iptables => "iptables-nft -t mangle -I FORWARD -j ACCEPT",
            },
        ] {
            world.netns.run(attack).unwrap();
            let start = Instant::now();
            let change = noticed(&mut watch);
            let noticed_after = start.elapsed();
            assert!(change.is_some(), "{attack} was not noticed");
            assert!(noticed_after < Duration::from_millis(200), "{noticed_after:?}");
            assert!(!backend.is_applied().unwrap(), "{attack}");
            backend.apply(&rules).unwrap();
            assert!(backend.is_applied().unwrap());
            println!("{attack}: noticed {noticed_after:?}, applied again {:?}", start.elapsed());
            while noticed(&mut watch).is_some() {}
        }
        backend.remove().unwrap();
    });
    inside.unwrap();
}

/// The next change, when one comes within 200 ms.
fn noticed(watch: &mut Watch) -> Option<sluice::netfilter::watch::Change> {
    smol::block_on(smol::future::or(async { Some(watch.changed().await.unwrap()) }, async {
        smol::Timer::after(Duration::from_millis(200)).await;
        None
    }))
}

/// Only what goes from one managed interface to another is queued, and ICMP never.
#[test]
fn traffic_of_other_interfaces_and_of_the_router_itself_is_not_queued() {
    if without_root() {
        return;
    }
    let world = Router::new(Build { clients: 2, ..Build::default() }).unwrap();
    let echo = UdpService::echo(&world.server, world.server.v4.into(), 7007).unwrap();
    let ((), totals) = with_queues(
        &world,
        1,
        false,
        |_| Verdict::Drop,
        |backend| {
            assert!(world.client().ping(world.server.v4.into()).unwrap());
            assert!(world.client().ping(LAN_V4.into()).unwrap());
            // Only `lan` and a device that does not exist: nothing goes between them.
            let other = Ruleset::new([world.lan, "other0"], marks(), FIRST, 1, false).unwrap();
            backend.apply(&other).unwrap();
            let socket = udp(world.client(), echo.address()).unwrap();
            socket.send(b"question").unwrap();
            assert_eq!(socket.recv(&mut [0; 64]).unwrap(), 8);
        },
    );
    assert_eq!(totals.packets, 0);
}

/// What the way of replacing rules rests on: a chain that goes takes every waiting packet of the
/// namespace along, a chain that is only emptied does not.
#[test]
fn the_kernel_drops_what_waits_when_any_chain_goes() {
    if without_root() {
        return;
    }
    let world = Router::new(Build::default()).unwrap();
    let chain = "chain x { type filter hook output priority 0; }";
    world.netns.nft(&format!("table inet other {{ {chain}\n}}")).unwrap();
    let inside = world.netns.enter(|| {
        let queues = Queues::open(FIRST, 1, options(false)).unwrap();
        let (mut backend, _) = choose(Wish::Auto).unwrap();
        backend.apply(&rules(&world, 1, false)).unwrap();
        let server = SocketAddr::new(world.server.v4.into(), 7013);
        udp(world.client(), server).unwrap().send(b"question").unwrap();
        let waiting = || queues.kernel_stats().unwrap()[0].waiting;
        wait::until("the packet in the queue", LIMIT, || Ok((waiting() == 1).then_some(())))
            .unwrap();
        world.netns.nft("flush table inet other").unwrap();
        backend.apply(&rules(&world, 1, true)).unwrap();
        assert_eq!(waiting(), 1);
        world.netns.nft("delete table inet other").unwrap();
        assert_eq!(waiting(), 0);
        backend.remove().unwrap();
    });
    inside.unwrap();
}

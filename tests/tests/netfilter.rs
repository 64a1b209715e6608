//! The agent's netfilter layer on a router: rules, queues, marks and conntrack, with the backend
//! that this kernel takes.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::collections::HashMap;
use std::io::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use sluice::config::MarkMask;
use sluice::netfilter::apply::{Backend, Kind, Nft, Wish, choose};
use sluice::netfilter::conntrack::{Conntrack, Tuple};
use sluice::netfilter::nfqueue::{Packet, Verdict};
use sluice::netfilter::queue::{Options, QueueError, Queues, Totals};
use sluice::netfilter::rules::{Counted, Replace, Ruleset};
use sluice::netfilter::watch::Watch;
use sluice_abi::attach::Link;
use sluice_datapath::parse::{self, Headers};
use sluice_tests::frame::tcp_flag;
use sluice_tests::netns::Netns;
use sluice_tests::router::{Build, LAN_V4, Router, WAN, WAN_V4};
use sluice_tests::skip::without_root;
use sluice_tests::traffic::{TcpService, UdpService, connect, round_trip, udp};
use sluice_tests::{observe, wait};

const FIRST: u16 = 40;
const PASS: Verdict = Verdict::Accept { mark: None };
const LIMIT: Duration = Duration::from_secs(5);

fn marks() -> MarkMask {
    MarkMask::try_from(0x0300_0000).unwrap()
}

const fn mark(value: u32) -> Verdict {
    Verdict::Accept { mark: Some(value) }
}

fn options(policy_open: bool) -> Options {
    Options { marks: marks(), policy_open, len_max: 1024 }
}

fn rules(world: &Router, queues: u16, policy_open: bool) -> Ruleset {
    Ruleset::new([world.lan, WAN], marks(), FIRST, queues, policy_open).unwrap()
}

fn headers(packet: &Packet<'_>) -> Headers {
    parse::headers(packet.l3, Link::Ip).unwrap()
}

fn payload<'a>(packet: &Packet<'a>) -> &'a [u8] {
    let headers = headers(packet);
    let header = match headers.proto {
        parse::TCP => usize::from(packet.l3[headers.l4 + 12] >> 4) * 4,
        _ => 8,
    };
    &packet.l3[headers.l4 + header..]
}

/// Runs `body` while a thread inside the router gives verdicts; rules are gone afterwards.
fn with_queues<T>(
    world: &Router,
    queues: u16,
    policy_open: bool,
    mut decide: impl FnMut(Packet<'_>) -> Verdict + Send,
    body: impl FnOnce(&mut dyn Backend) -> T + Send,
) -> (T, Totals)
where
    T: Send,
{
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let stops = StopOnDrop(&stop);
        let (opened, is_open) = mpsc::channel();
        let stop = &stop;
        let reader = scope.spawn(move || {
            let serve = || {
                let mut queues = Queues::open(FIRST, queues, options(policy_open)).unwrap();
                assert!(queues.burst() >= 1024, "root may force the size of a buffer");
                opened.send(()).unwrap();
                while !stop.load(Ordering::Relaxed) {
                    let tick = smol::Timer::after(Duration::from_millis(5));
                    smol::block_on(smol::future::or(
                        async { queues.readable().await.unwrap() },
                        async {
                            tick.await;
                        },
                    ));
                    while queues.receive(&mut decide).unwrap() > 0 {}
                }
                let kernel = queues.kernel_stats().unwrap();
                assert!(kernel.iter().all(|line| line.user_dropped == 0), "{kernel:?}");
                queues.totals()
            };
            world.netns.enter(serve).unwrap()
        });
        is_open.recv().unwrap();
        let done = world.netns.enter(|| {
            let (mut backend, _) = choose(Wish::Auto).unwrap();
            backend.apply(&rules(world, queues, policy_open)).unwrap();
            let done =
                std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| body(backend.as_mut())));
            backend.remove().unwrap();
            done
        });
        drop(stops);
        let totals = reader.join().unwrap();
        match done.unwrap() {
            Ok(done) => (done, totals),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

fn counted(backend: &dyn Backend, counted: Counted) -> u64 {
    let counts = backend.counters().unwrap();
    counts.iter().find(|count| count.counted == counted).map_or(0, |count| count.packets)
}

/// Foreign bits on every packet and connection that the router forwards.
fn foreign_bits(netns: &Netns) {
    netns
        .nft(
            "table inet foreign {
                chain before {
                    type filter hook prerouting priority mangle; policy accept;
                    meta mark set meta mark | 0xff00
                    ct state new ct mark set ct mark | 0xff00
                }
                chain behind {
                    type filter hook postrouting priority mangle; policy accept;
                    meta mark & 0xff00 == 0xff00 counter comment kept
                    meta l4proto tcp meta mark & 0xff00 != 0xff00 counter comment lost
                }
            }",
        )
        .unwrap();
}

/// Packets that kept, or lost, the foreign bits. Not by named counters: not every kernel has them.
fn foreign(netns: &Netns, name: &str) -> u64 {
    let table = netns.run("nft list table inet foreign").unwrap();
    let rule = table.lines().find(|line| line.contains(&format!("comment \"{name}\""))).unwrap();
    let (_, counter) = rule.split_once("counter packets ").unwrap();
    counter.split(' ').next().unwrap().parse().unwrap()
}

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

/// R16, R22, R25: the packets of a connection are queued until a verdict marks it; then no more,
/// and foreign bits of both marks stay. The connection is found from what the queue shows.
#[test]
fn a_trusted_or_undecided_connection_leaves_the_queue_and_keeps_foreign_bits() {
    if without_root() {
        return;
    }
    let world = Router::new(Build::default()).unwrap();
    foreign_bits(&world.netns);
    for (port, value, passed) in [
        (7001, marks().trusted(), Counted::PassedTrusted),
        (7002, marks().undecided(), Counted::PassedUndecided),
    ] {
        for server in [IpAddr::from(world.server.v4), world.server.v6.into()] {
            let echo = TcpService::echo(&world.server, server, port).unwrap();
            let with_data = AtomicU32::new(0);
            let decide = |packet: Packet<'_>| {
                assert_eq!(packet.mark & 0xffff, 0xff00, "the foreign bits come along");
                assert_ne!(packet.indev, packet.outdev);
                let headers = headers(&packet);
                let is_question = headers.dport == port.to_be() && !payload(&packet).is_empty();
                if !is_question {
                    return PASS;
                }
                with_data.fetch_add(1, Ordering::Relaxed);
                mark(value)
            };
            let ((), totals) = with_queues(&world, 1, true, decide, |backend| {
                let mut stream = connect(world.client(), echo.address()).unwrap();
                let local = stream.local_addr().unwrap();
                for _ in 0..20 {
                    assert_eq!(round_trip(&mut stream, b"question", 8).unwrap(), b"question");
                }
                assert_eq!(with_data.load(Ordering::Relaxed), 1, "the mark ends the queueing");
                assert!(counted(backend, passed) >= 39);
                assert_eq!(counted(backend, Counted::DroppedBlocked), 0);
                let mut conntrack = Conntrack::open().unwrap();
                let seen = tuple(local, echo.address(), parse::TCP);
                let connection = conntrack.lookup(&seen).unwrap().unwrap();
                assert_eq!(connection.mark, value | 0xff00);
            });
            assert!(totals.packets >= 4 && totals.packets < 12, "{totals:?}");
            assert_eq!((totals.malformed, totals.cut, totals.refused), (0, 0, 0));
        }
    }
    assert_eq!(foreign(&world.netns, "lost"), 0);
    assert!(foreign(&world.netns, "kept") > 100);
}

/// The service counts after it has answered; more than expected is an error at once.
fn served(service: &UdpService, count: u32) {
    wait::until("arrival", LIMIT, || {
        let now = service.count();
        assert!(now <= count, "{now} arrived, {count} should have");
        Ok((now == count).then_some(()))
    })
    .unwrap();
}

const fn tuple(src: SocketAddr, dst: SocketAddr, proto: u8) -> Tuple {
    Tuple { src: src.ip(), dst: dst.ip(), sport: src.port(), dport: dst.port(), proto }
}

/// R27, R162: a blocked verdict drops its packet and every later one of both directions, fragments
/// included (R6); each is counted, and a neighbour is untouched.
#[test]
fn a_blocked_connection_is_dropped_packet_by_packet_and_its_neighbour_is_not() {
    if without_root() {
        return;
    }
    let world = Router::new(Build::default()).unwrap();
    for server in [IpAddr::from(world.server.v4), world.server.v6.into()] {
        let echo = UdpService::echo(&world.server, server, 7003).unwrap();
        let decide = |packet: Packet<'_>| {
            if payload(&packet).starts_with(b"bad") { mark(marks().blocked()) } else { PASS }
        };
        with_queues(&world, 1, true, decide, |backend| {
            let victim = udp(world.client(), echo.address()).unwrap();
            let neighbour = udp(world.client(), echo.address()).unwrap();
            let mut buffer = [0; 8192];
            let mut asks = |socket: &std::net::UdpSocket, size: usize| {
                socket.send(&vec![b'g'; size]).unwrap();
                assert_eq!(socket.recv(&mut buffer).unwrap(), size);
            };
            asks(&victim, 10);
            // A fragmented datagram of a flow that is not blocked passes.
            asks(&victim, 4000);
            served(&echo, 2);
            victim.send(b"bad").unwrap();
            wait::until("the verdict", LIMIT, || {
                Ok((counted(backend, Counted::DroppedVerdict) == 1).then_some(()))
            })
            .unwrap();
            for _ in 0..200 {
                victim.send(b"good").unwrap();
            }
            victim.send(&[b'g'; 4000]).unwrap();
            // One for the reassembled datagram.
            wait::until("201 drops", LIMIT, || {
                Ok((counted(backend, Counted::DroppedBlocked) >= 201).then_some(()))
            })
            .unwrap();
            asks(&neighbour, 10);
            asks(&neighbour, 4000);
            served(&echo, 4);
            let bad = echo.seen().iter().filter(|datagram| datagram.starts_with(b"bad")).count();
            assert_eq!(bad, 0, "the packet that was refused is gone too");
            assert_eq!(counted(backend, Counted::DroppedBlocked), 201);
            assert_eq!(counted(backend, Counted::DroppedVerdict), 1);

            // The other direction: the server speaks to the blocked client.
            let local = victim.local_addr().unwrap();
            let mut conntrack = Conntrack::open().unwrap();
            let seen = tuple(local, echo.address(), parse::UDP);
            let connection = conntrack.lookup(&seen).unwrap().unwrap();
            assert_eq!(connection.mark, marks().blocked());
        });
    }
}

/// R14: from what the forward hook shows, whichever way a packet goes, both tuples and both keys.
#[test]
fn a_masqueraded_connection_is_found_from_either_side_with_both_keys() {
    if without_root() {
        return;
    }
    let world = Router::new(Build::default()).unwrap();
    let echo = TcpService::echo(&world.server, world.server.v4.into(), 7004).unwrap();
    let seen = std::sync::Mutex::new(Vec::new());
    let decide = |packet: Packet<'_>| {
        let (key, direction) = headers(&packet).flow().unwrap();
        seen.lock().unwrap().push(Tuple::of_flow(&key, direction));
        PASS
    };
    with_queues(&world, 1, true, decide, |_| {
        let mut stream = connect(world.client(), echo.address()).unwrap();
        round_trip(&mut stream, b"question", 8).unwrap();
        let local = stream.local_addr().unwrap();
        let tuples = seen.lock().unwrap().clone();
        let there = tuple(local, echo.address(), parse::TCP);
        assert!(tuples.contains(&there) && tuples.contains(&there.reversed()), "{tuples:?}");
        let mut conntrack = Conntrack::open().unwrap();
        for seen in [there, there.reversed()] {
            let connection = conntrack.lookup(&seen).unwrap().unwrap();
            assert_eq!(connection.original, there);
            assert!(connection.is_translated());
            assert_eq!(connection.reply.src, IpAddr::from(world.server.v4));
            assert_eq!(connection.reply.dst, IpAddr::from(WAN_V4), "the router's own address");
            let [before, behind] = connection.flows();
            assert_eq!(before, there.flow());
            assert_ne!(before.0, behind.0);
            let mut unknown = seen;
            unknown.sport ^= 1;
            unknown.dport ^= 1;
            assert_eq!(conntrack.lookup(&unknown).unwrap(), None);
        }
        let connection = conntrack.lookup(&there).unwrap().unwrap();
        assert!(conntrack.delete(&connection).unwrap());
        assert_eq!(conntrack.lookup(&there).unwrap(), None);
        assert!(!conntrack.delete(&connection).unwrap(), "it is gone already");
    });

    // Without translation of the source: IPv6 is routed.
    let echo = TcpService::echo(&world.server, world.server.v6.into(), 7004).unwrap();
    with_queues(
        &world,
        1,
        true,
        |_| PASS,
        |_| {
            let stream = connect(world.client(), echo.address()).unwrap();
            let there = tuple(stream.local_addr().unwrap(), echo.address(), parse::TCP);
            let connection = Conntrack::open().unwrap().lookup(&there).unwrap().unwrap();
            assert!(!connection.is_translated());
        },
    );
}

/// R14: a forwarded port. The queue shows the translated destination, which only the reply tuple
/// has.
#[test]
fn a_connection_to_a_forwarded_port_is_found() {
    if without_root() {
        return;
    }
    let world = Router::new(Build::default()).unwrap();
    let echo = TcpService::echo(world.client(), world.client().v4.into(), 8080).unwrap();
    with_queues(
        &world,
        1,
        true,
        |_| PASS,
        |_| {
            let outside = SocketAddr::new(WAN_V4.into(), 8080);
            let mut stream = connect(&world.server, outside).unwrap();
            round_trip(&mut stream, b"question", 8).unwrap();
            let seen = tuple(stream.local_addr().unwrap(), echo.address(), parse::TCP);
            let mut conntrack = Conntrack::open().unwrap();
            for seen in [seen, seen.reversed()] {
                let connection = conntrack.lookup(&seen).unwrap().unwrap();
                assert_eq!(connection.original.dst, IpAddr::from(WAN_V4));
                assert_eq!(
                    connection.reply,
                    tuple(echo.address(), stream.local_addr().unwrap(), 6)
                );
            }
        },
    );
}

/// R23: a SYN on a connection that conntrack takes for an old, trusted one goes to the queue, and
/// what follows is inspected again.
#[test]
fn a_bare_syn_of_a_trusted_connection_is_queued_and_ends_the_trust() {
    if without_root() {
        return;
    }
    let world = Router::new(Build::default()).unwrap();
    foreign_bits(&world.netns);
    let echo = TcpService::echo(&world.server, world.server.v4.into(), 7005).unwrap();
    let syns = AtomicU32::new(0);
    let decide = |packet: Packet<'_>| {
        let headers = headers(&packet);
        if headers.is_syn() {
            syns.fetch_add(1, Ordering::Relaxed);
            return PASS;
        }
        if payload(&packet).is_empty() { PASS } else { mark(marks().trusted()) }
    };
    with_queues(&world, 1, true, decide, |backend| {
        let mut stream = connect(world.client(), echo.address()).unwrap();
        round_trip(&mut stream, b"question", 8).unwrap();
        let local = stream.local_addr().unwrap();
        let there = tuple(local, echo.address(), parse::TCP);
        let mut conntrack = Conntrack::open().unwrap();
        let trusted = conntrack.lookup(&there).unwrap().unwrap();
        assert_eq!(trusted.mark, marks().trusted() | 0xff00);
        let queued = counted(backend, Counted::Queued);

        // Who restores marks without a mask gives the packet what its connection has.
        world
            .netns
            .nft(
                "table inet restore {
                    chain before {
                        type filter hook prerouting priority -140; policy accept;
                        tcp flags syn meta mark set ct mark
                    }
                }",
            )
            .unwrap();
        // Still established for conntrack: the same ends again, as after a crash of the client.
        let client = world.client();
        let frame = client
            .frame()
            .addresses(client.v4.into(), world.server.v4.into())
            .tcp(local.port(), echo.address().port(), tcp_flag::SYN)
            .sequence(7, 0);
        client.injector().unwrap().send(&frame.bytes()).unwrap();
        wait::until("the second SYN in the queue", LIMIT, || {
            Ok((syns.load(Ordering::Relaxed) == 2).then_some(()))
        })
        .unwrap();
        assert!(counted(backend, Counted::Queued) > queued);
        let connection = conntrack.lookup(&there).unwrap().unwrap();
        assert_eq!(connection.id, trusted.id, "conntrack keeps the entry");
        assert_eq!(connection.mark, 0xff00, "our bits are gone, the others stay");
    });
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
                    chain before {{
                        type filter hook prerouting priority mangle; policy accept;
                        udp dport {port} udp length 11 meta mark set {}
                        udp dport {port} ct mark set ct mark | 0xff00
                    }}
                }}",
                value | 0x00ee_0000
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
    // Two families; six packets behind the first one, one of which is marked and not yet decided.
    assert_eq!((count(Counted::DroppedVerdict), count(Counted::DroppedBlocked)), (2, 10));
    // Answers pass too: a question and its answer make two. The first marked packet is let pass by
    // its own mark when it says trusted, and by the queue when it says undecided.
    assert_eq!(count(Counted::PassedTrusted), 2 * 12);
    assert_eq!(count(Counted::PassedUndecided), 2 * 11);
    assert_eq!(count(Counted::Queued), 2 * (2 + 2 + 1 + 2 + 1));
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
                    tcp dport 7104 meta mark set {}
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
    // SYN, and the answer to it, which has no mark and no marked connection yet.
    assert_eq!(count(Counted::Queued), 2 * 2);
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
                Kind::Iptables => "iptables-nft -t filter -I FORWARD -j ACCEPT",
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

/// A queue that somebody else has: the error says which, and who, and what to do.
#[test]
fn a_queue_number_that_is_taken_is_an_error_that_names_it() {
    if without_root() {
        return;
    }
    let netns = Netns::new("taken").unwrap();
    let inside = netns.enter(|| {
        let first = Queues::open(FIRST, 2, options(true)).unwrap();
        let port = first.kernel_stats().unwrap()[1].port;
        let refused = Queues::open(FIRST + 1, 1, options(true)).unwrap_err();
        assert!(matches!(refused, QueueError::Taken { number: 41, port: found } if found == port));
        let text = refused.to_string();
        assert!(text.contains("queue 41 is taken") && text.contains(&port.to_string()), "{text}");
        drop(first);
        // Closing lets go of the numbers, and a failed attempt kept none.
        assert!(Queues::open(FIRST, 2, options(true)).is_ok());
        let text = Queues::open(65535, 2, options(true)).unwrap_err().to_string();
        assert!(text.contains("65535"), "{text}");
    });
    inside.unwrap();
}

/// R19: nobody listens. An open policy passes, a closed one drops; both count.
#[test]
fn without_a_listener_the_policy_decides() {
    if without_root() {
        return;
    }
    let world = Router::new(Build::default()).unwrap();
    let echo = UdpService::echo(&world.server, world.server.v4.into(), 7006).unwrap();
    for policy_open in [true, false] {
        let inside = world.netns.enter(|| {
            let (mut backend, _) = choose(Wish::Auto).unwrap();
            backend.apply(&rules(&world, 2, policy_open)).unwrap();
            let socket = udp(world.client(), echo.address()).unwrap();
            socket.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
            socket.send(b"question").unwrap();
            assert_eq!(socket.recv(&mut [0; 64]).is_ok(), policy_open);
            assert!(counted(backend.as_ref(), Counted::Queued) >= 1);
            // R25: other protocols are not queued at all.
            assert!(world.client().ping(world.server.v4.into()).unwrap());
            assert!(world.client().ping(world.server.v6.into()).unwrap());
            backend.remove().unwrap();
        });
        inside.unwrap();
    }
}

/// After a crash the rules are still there. Packets that arrive while the queues are opened again
/// get their answer too: none waits for ever.
#[test]
fn queues_opened_under_traffic_leave_no_packet_waiting() {
    if without_root() {
        return;
    }
    let world = Router::new(Build::default()).unwrap();
    let server = UdpService::start(&world.server, world.server.v4.into(), 7012, |_| None).unwrap();
    let socket = udp(world.client(), server.address()).unwrap();
    let stop = AtomicBool::new(false);
    // No two neighbours have the same answer: a batch would reach back to what was swallowed.
    let single =
        |packet: Packet<'_>| if packet.id.is_multiple_of(2) { PASS } else { Verdict::Drop };
    std::thread::scope(|scope| {
        let _stops = StopOnDrop(&stop);
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                socket.send(b"question").unwrap();
            }
        });
        let inside = world.netns.enter(|| {
            let (mut backend, _) = choose(Wish::Auto).unwrap();
            backend.apply(&rules(&world, 1, true)).unwrap();
            let mut early = 0;
            for _ in 0..8 {
                let mut queues = Queues::open(FIRST, 1, options(true)).unwrap();
                early += queues.kernel_stats().unwrap()[0].total;
                // Later packets than those of the set-up.
                let last = queues.kernel_stats().unwrap()[0].total;
                let (mut seen, start) = (0, Instant::now());
                while seen <= last {
                    assert!(start.elapsed() < LIMIT, "{last} was not reached, only {seen}");
                    queues
                        .receive(|packet| {
                            seen = packet.id;
                            single(packet)
                        })
                        .unwrap();
                }
                backend.remove().unwrap();
                while queues.receive(single).unwrap() > 0 {}
                let stats = queues.kernel_stats().unwrap()[0];
                assert_eq!(stats.waiting, 0, "{stats:?}");
                drop(queues);
                backend.apply(&rules(&world, 1, true)).unwrap();
            }
            backend.remove().unwrap();
            assert!(early > 0, "no packet came while a queue was opened");
        });
        inside.unwrap();
    });
}

/// Ends a thread also when the test fails.
struct StopOnDrop<'a>(&'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
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

/// R17: with several queues the packets of each flow are seen in the order in which they were sent.
#[test]
fn four_queues_keep_the_order_of_every_flow() {
    const FLOWS: u8 = 24;
    const PACKETS: u32 = 100;
    if without_root() {
        return;
    }
    let world = Router::new(Build::default()).unwrap();
    let client = world.client();
    let sources: Vec<String> =
        (0..FLOWS).map(|flow| format!("192.168.77.{}/24", 100 + flow)).collect();
    client.add_addresses(&sources.iter().map(String::as_str).collect::<Vec<_>>()).unwrap();
    let echo = UdpService::start(&world.server, world.server.v4.into(), 7008, |_| None).unwrap();
    let mut next = HashMap::new();
    let mut queues = HashMap::<u16, u32>::new();
    let decide = |packet: Packet<'_>| {
        let number = u32::from_be_bytes(payload(&packet).try_into().unwrap());
        let expected = next.entry(headers(&packet).src).or_insert(0);
        assert_eq!(number, *expected, "flow of {:?}", headers(&packet).src);
        *expected += 1;
        *queues.entry(packet.queue).or_default() += 1;
        PASS
    };
    let ((), totals) = with_queues(&world, 4, false, decide, |_| {
        let sockets: Vec<_> = sources
            .iter()
            .map(|source| {
                let source = source.trim_end_matches("/24");
                let socket = client.netns.enter(|| std::net::UdpSocket::bind((source, 0)));
                let socket = socket.unwrap().unwrap();
                socket.connect(echo.address()).unwrap();
                socket
            })
            .collect();
        for number in 0..PACKETS {
            for socket in &sockets {
                socket.send(&number.to_be_bytes()).unwrap();
            }
            if number % 10 == 9 {
                let sent = (number + 1) * u32::from(FLOWS);
                wait::until("arrival", LIMIT, || Ok((echo.count() == sent).then_some(()))).unwrap();
            }
        }
    });
    assert_eq!(totals.packets, u64::from(PACKETS) * u64::from(FLOWS));
    assert!(queues.len() >= 2, "the addresses spread: {queues:?}");
    assert!(next.values().all(|count| *count == PACKETS));
    assert!(totals.verdict_messages < totals.packets, "neighbours share a message: {totals:?}");
}

/// A burst of full-size packets while the agent is busy: all wait, none is lost.
#[test]
fn a_burst_of_1024_full_packets_is_not_lost() {
    const BURST: u32 = 1024;
    if without_root() {
        return;
    }
    let world = Router::new(Build::default()).unwrap();
    let server = UdpService::start(&world.server, world.server.v4.into(), 7009, |_| None).unwrap();
    let inside = world.netns.enter(|| {
        let mut queues = Queues::open(FIRST, 1, options(false)).unwrap();
        let (mut backend, _) = choose(Wish::Auto).unwrap();
        backend.apply(&rules(&world, 1, false)).unwrap();
        let socket = udp(world.client(), server.address()).unwrap();
        for _ in 0..BURST {
            socket.send(&[0; 1472]).unwrap();
        }
        wait::until("all packets in the queue", LIMIT, || {
            Ok((queues.kernel_stats().unwrap()[0].total == BURST).then_some(()))
        })
        .unwrap();
        let stats = queues.kernel_stats().unwrap()[0];
        assert_eq!((stats.waiting, stats.dropped, stats.user_dropped), (BURST, 0, 0), "{stats:?}");

        // Rules that are replaced meanwhile do not cost what waits.
        backend.apply(&rules(&world, 1, false)).unwrap();
        assert_eq!(queues.kernel_stats().unwrap()[0].waiting, BURST);

        let mut received = 0;
        while queues
            .receive(|packet| {
                assert_eq!((packet.l3.len(), packet.is_cut()), (1500, false));
                PASS
            })
            .unwrap()
            > 0
        {
            // The server's own buffer is not what is tested.
            received = u32::try_from(queues.totals().packets).unwrap();
            wait::until("arrival", LIMIT, || Ok((server.count() == received).then_some(())))
                .unwrap();
        }
        assert_eq!((received, queues.totals().overruns), (BURST, 0));
        assert_eq!(queues.kernel_stats().unwrap()[0].waiting, 0);
        backend.remove().unwrap();
    });
    inside.unwrap();
    assert_eq!(server.count(), BURST);
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

/// A full queue: the policy decides, and what is dropped is counted by the kernel.
#[test]
fn a_full_queue_passes_or_drops_by_policy() {
    const LEN: u32 = 16;
    if without_root() {
        return;
    }
    let world = Router::new(Build::default()).unwrap();
    for policy_open in [true, false] {
        let server =
            UdpService::start(&world.server, world.server.v4.into(), 7010, |_| None).unwrap();
        let inside = world.netns.enter(|| {
            let options = Options { len_max: LEN, ..options(policy_open) };
            let mut queues = Queues::open(FIRST, 1, options).unwrap();
            let (mut backend, _) = choose(Wish::Auto).unwrap();
            backend.apply(&rules(&world, 1, policy_open)).unwrap();
            let socket = udp(world.client(), server.address()).unwrap();
            for _ in 0..LEN + 10 {
                socket.send(b"question").unwrap();
            }
            wait::until("the rules to have seen all", LIMIT, || {
                let seen = counted(backend.as_ref(), Counted::Queued);
                Ok((seen == u64::from(LEN + 10)).then_some(()))
            })
            .unwrap();
            let stats = queues.kernel_stats().unwrap()[0];
            assert_eq!((stats.waiting, stats.dropped), (LEN, if policy_open { 0 } else { 10 }));
            while queues.receive(|_| PASS).unwrap() > 0 {}
            let arrives = LEN + if policy_open { 10 } else { 0 };
            wait::until("arrival", LIMIT, || Ok((server.count() == arrives).then_some(())))
                .unwrap();
            assert_eq!(queues.totals().packets, u64::from(LEN));
            backend.remove().unwrap();
        });
        inside.unwrap();
    }
}

/// R18, R28: super-packets come whole.
#[test]
fn packets_of_many_segments_are_seen_whole() {
    if without_root() {
        return;
    }
    let world = Router::new(Build { super_packets: true, ..Build::default() }).unwrap();
    // A slow machine would else send two segments at a time.
    world.client().netns.sysctl("net/ipv4/tcp_min_tso_segs", "44").unwrap();
    let echo = TcpService::echo(&world.server, world.server.v4.into(), 7011).unwrap();
    let longest = AtomicU32::new(0);
    let decide = |packet: Packet<'_>| {
        assert!(!packet.is_cut());
        let len = u32::try_from(payload(&packet).len()).unwrap();
        if packet.gso {
            longest.fetch_max(len, Ordering::Relaxed);
        }
        PASS
    };
    let (bytes, totals) = with_queues(&world, 1, true, decide, |_| {
        let mut stream = connect(world.client(), echo.address()).unwrap();
        let question: Vec<u8> = (0..400_000_u32).map(|at| at as u8).collect();
        stream.flush().unwrap();
        let answer = round_trip(&mut stream, &question, question.len()).unwrap();
        assert!(answer == question, "what passes the queue is unchanged");
        answer.len()
    });
    assert_eq!(bytes, 400_000);
    assert!(longest.load(Ordering::Relaxed) > 16 * 1024, "{longest:?}");
    assert!(totals.gso > 0 && totals.cut == 0, "{totals:?}");
}

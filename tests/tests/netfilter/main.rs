//! The agent's netfilter layer on a router: rules, queues, marks and conntrack, with the backend
//! that this kernel takes.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

mod connections;
mod queues;
mod ruleset;

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use sluice::config::MarkMask;
use sluice::netfilter::apply::{Backend, Wish, choose};
use sluice::netfilter::conntrack::{Conntrack, Tuple};
use sluice::netfilter::nfqueue::{Packet, Verdict};
use sluice::netfilter::queue::{Options, Queues, Totals};
use sluice::netfilter::rules::{Counted, Ruleset};
use sluice_abi::attach::Link;
use sluice_datapath::parse::{self, Headers};
use sluice_tests::frame::tcp_flag;
use sluice_tests::netns::Netns;
use sluice_tests::router::{Build, Router, WAN};
use sluice_tests::skip::without_root;
use sluice_tests::traffic::{TcpService, UdpService, connect, round_trip, udp};
use sluice_tests::wait;

const FIRST: u16 = 40;

const PASS: Verdict = Verdict::Accept { mark: None };

const LIMIT: Duration = Duration::from_secs(5);

fn marks() -> MarkMask {
    MarkMask::try_from(0x0700_0000).unwrap()
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
                    // Nobody wakes it when it is time to stop.
                    wait::pause(Duration::from_millis(1));
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

/// Ends a thread also when the test fails.
struct StopOnDrop<'a>(&'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

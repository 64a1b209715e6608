//! Queues: who listens, what waits, in which order, and what is too much.

use std::collections::HashMap;
use std::io::Write as _;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use sluice::netfilter::apply::{Wish, choose};
use sluice::netfilter::nfqueue::{Packet, Verdict};
use sluice::netfilter::queue::{Options, QueueError, Queues};
use sluice::netfilter::rules::Counted;
use sluice_tests::netns::Netns;
use sluice_tests::router::{Build, Router};
use sluice_tests::skip::without_root;
use sluice_tests::traffic::{TcpService, UdpService, connect, round_trip, udp};
use sluice_tests::wait;

use super::{
    FIRST, LIMIT, PASS, StopOnDrop, counted, headers, options, payload, rules, with_queues,
};

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
        // Closing lets go of the numbers, and a failed attempt kept none. A program that another test
        // starts at this moment has copies of the sockets until it is executed.
        let again = wait::until("free numbers", LIMIT, || {
            Ok(Queues::open(FIRST, 2, options(true)).is_ok().then_some(()))
        });
        again.unwrap();
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
            let (mut early, mut rounds, begun) = (0, 0, Instant::now());
            // On a busy machine the sender often sleeps just then.
            while rounds < 8 || early == 0 && begun.elapsed() < 4 * LIMIT {
                rounds += 1;
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

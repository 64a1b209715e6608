//! The queue as those behind the router see it: who floods it, and how long packets wait in it.

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use sluice_tests::agent::{Agent, Setup};
use sluice_tests::hello::client_hello;
use sluice_tests::router::{Build, Router};
use sluice_tests::skip::without_root;
use sluice_tests::traffic::{TcpService, UdpService, connect, echoed, round_trip, udp};
use sluice_tests::wait;

/// R19: a device that opens flows by the thousand, with room for a few, costs another one none of its
/// hellos.
#[test]
fn a_device_that_floods_the_inspection_costs_others_no_hello() {
    if without_root() {
        return;
    }
    let world = Router::new(Build { clients: 2, ..Build::default() }).unwrap();
    let setup = Setup::default().main("inspect_flows", 64).rule("ads", "block", &["ads.test"]);
    let agent = Agent::start(&world, setup).unwrap();
    let echo = TcpService::echo(&world.server, world.server.v4.into(), 443).unwrap();
    let (flooder, client) = (&world.clients[0], &world.clients[1]);
    let stop = AtomicBool::new(false);
    let evicted = || agent.status().unwrap().queue.engine["undecided_memory"];
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let wire = flooder.injector().unwrap();
            let frame =
                flooder.frame().addresses(IpAddr::from(flooder.v4), IpAddr::from(world.server.v4));
            // Datagrams that say nothing: their flows stay until their window ends, which it never does.
            for port in (1024..60_000).cycle() {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                let bytes = frame.clone().udp(port, 9).payload(b"?").bytes();
                wire.send(&bytes).unwrap();
                if port % 4 == 0 {
                    wait::pause(Duration::from_millis(1));
                }
            }
        });
        let tried = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            wait::until_true("the table was full", Duration::from_secs(10), || evicted() > 500)
                .unwrap();
            for turn in 0..20 {
                let mut stream = connect(client, echo.address()).unwrap();
                stream.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
                let hello = client_hello("ads.test", 0);
                // Time for the flood to push it out, had it no share of its own.
                wait::pause(Duration::from_millis(50));
                let (first, rest) = hello.split_at(40);
                assert!(std::io::Write::write_all(&mut stream, first).is_ok());
                wait::pause(Duration::from_millis(50));
                let answer = round_trip(&mut stream, rest, rest.len());
                assert!(answer.is_err(), "hello {turn} was not seen");
            }
        }));
        stop.store(true, Ordering::Relaxed);
        if let Err(panic) = tried {
            std::panic::resume_unwind(panic);
        }
    });
    assert!(evicted() > 1000, "the flood is too slow");
}

/// R31: each packet of the queue is in the histogram of waits, once; `metrics` tells it as well.
#[test]
fn the_wait_of_every_queued_packet_is_counted() {
    if without_root() {
        return;
    }
    let world = Router::new(Build::default()).unwrap();
    let agent = Agent::start(&world, Setup::default()).unwrap();
    let echo = TcpService::echo(&world.server, world.server.v4.into(), 443).unwrap();
    for _ in 0..5 {
        let mut stream = connect(world.client(), echo.address()).unwrap();
        let hello = client_hello("news.test", 0);
        round_trip(&mut stream, &hello, hello.len()).unwrap();
    }
    // Connections end and their last packets come when they like.
    let same = wait::until_true("every packet was counted", Duration::from_secs(5), || {
        let queue = agent.status().unwrap().queue;
        let waited: u64 = queue.latency.iter().map(|bucket| bucket.packets).sum();
        waited == queue.engine["packets"] && waited >= 20
    });
    assert!(same.is_ok(), "{:?}", agent.status().unwrap().queue);
    let queue = agent.status().unwrap().queue;
    let ends: Vec<_> = queue.latency.iter().map(|bucket| bucket.below_us).collect();
    assert!(ends.windows(2).all(|pair| pair[1].is_none_or(|next| pair[0] == Some(next / 2))));
    let waited = queue.latency.iter().map(|bucket| bucket.packets).sum::<u64>();
    let metrics = agent.ask(&["metrics"]).unwrap();
    for line in [
        format!("sluice_queue_latency_seconds_count {waited}"),
        format!("sluice_queue_latency_seconds_bucket{{le=\"+Inf\"}} {waited}"),
    ] {
        assert!(metrics.lines().any(|there| there == line), "{line}\n{metrics}");
    }
}

/// R31: every packet of the queue and every flow is in the counter of what became of it, and so is what
/// the kernel could not keep.
#[test]
fn what_becomes_of_packets_and_flows_is_counted() {
    if without_root() {
        return;
    }
    let world = Router::new(Build::default()).unwrap();
    let setup = Setup::default().main("policy", "closed").main("window_packets", 5);
    let setup = setup.rule("ads", "block", &["ads.test"]);
    let mut agent = Agent::start(&world, setup).unwrap();
    let echo = TcpService::echo(&world.server, world.server.v4.into(), 443).unwrap();
    let datagrams = UdpService::echo(&world.server, world.server.v4.into(), 9).unwrap();
    let counts = || {
        let status = agent.status().unwrap();
        let engine = ["blocked", "trusted", "window_end", "undecided_malformed_tls"]
            .map(|name| status.queue.engine[name]);
        (engine, status.netfilter.counters["queued"], status.queue.engine["packets"])
    };
    let became = |what: &str, act: &dyn Fn(), expected: [u64; 4]| {
        let (before, queued, packets) = counts();
        act();
        let is_so = wait::until_true(what, Duration::from_secs(10), || {
            let (now, now_queued, now_packets) = counts();
            let more: Vec<_> = now.iter().zip(before).map(|(now, then)| now - then).collect();
            // The rules and the agent count the same packets.
            more == expected && now_queued > queued && now_queued - queued == now_packets - packets
        });
        assert!(is_so.is_ok(), "{what}: {before:?}, {queued}, {packets}; then {:?}", counts());
    };
    let says = |bytes: &[u8]| {
        let mut stream = connect(world.client(), echo.address()).unwrap();
        stream.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
        let _may_be_blocked = round_trip(&mut stream, bytes, bytes.len());
    };
    became("trusted", &|| says(&client_hello("news.test", 0)), [0, 1, 0, 0]);
    became("blocked", &|| says(&client_hello("ads.test", 0)), [1, 0, 0, 0]);
    let mut broken = client_hello("news.test", 0);
    // The length of the message is not that of its record.
    broken[6..9].copy_from_slice(&[0, 0, 3]);
    became("malformed", &|| says(&broken), [0, 0, 0, 1]);
    let talk = || {
        let socket = udp(world.client(), datagrams.address()).unwrap();
        for _ in 0..6 {
            echoed(&socket, b"what is this").unwrap();
        }
    };
    became("the window ended", &talk, [0, 1, 1, 0]);

    // Nobody takes what is more than the queue holds.
    let full = || agent.status().unwrap().queue.kernel["queue full"];
    assert_eq!(full(), 0);
    let client = world.client();
    let ends = (IpAddr::from(client.v4), IpAddr::from(world.server.v4));
    let (wire, frame) = (client.injector().unwrap(), client.frame().addresses(ends.0, ends.1));
    agent.sigstop().unwrap();
    for port in 10_000..11_500 {
        wire.send(&frame.clone().udp(port, 9).payload(b"?").bytes()).unwrap();
    }
    agent.sigcont().unwrap();
    let full = || agent.status().unwrap().queue.kernel["queue full"];
    assert!((1..=1500 - 1024).contains(&full()), "{}", full());
}

//! Rates of sources.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use sluice_abi::attach::{Link, Role};
use sluice_abi::counter::Counter;
use sluice_abi::shield::Rate;
use sluice_tests::frame::{Frame, tcp_flag};
use sluice_tests::packets::{DST4, DST6, XDP_DROP, XDP_PASS, ethernet, udp};
use sluice_tests::plane::{Shield, limited, without_programs};

fn rated(source_rate: Rate, syn_rate: Rate) -> Shield {
    let mut shield = Shield::enabled(Role::Wan, Link::Ethernet);
    let settings = limited(|limits| (limits.source, limits.source_syn) = (source_rate, syn_rate));
    shield.settings.set(settings).unwrap();
    shield
}

fn from(source: &str) -> Frame {
    match source.parse().unwrap() {
        IpAddr::V4(source) => ethernet().ipv4(source, DST4.parse().unwrap()),
        IpAddr::V6(source) => ethernet().ipv6(source, DST6.parse().unwrap()),
    }
}

fn count(seen: &[(Counter, u64)], counter: Counter) -> u64 {
    seen.iter().find(|(of, _)| *of == counter).map_or(0, |(_, times)| *times)
}

const OFF: Rate = Rate { per_second: 0, burst: 0 };

/// R50, R162: a new source is never dropped, whatever others did.
#[test]
fn the_first_packet_of_every_source_passes_and_its_burst_is_exact() {
    if without_programs() {
        return;
    }
    let shield = rated(Rate { per_second: 1, burst: 5 }, OFF);
    for source in 0..200_u32 {
        let frame = udp(from(&format!("203.0.{}.{}", source / 100, source % 100 + 1))).bytes();
        let (action, counted) = shield.run(&frame, 1);
        assert_eq!(action, XDP_PASS, "source {source}");
        assert_eq!(count(&counted, Counter::SourceNew), 1, "source {source}: {counted:?}");
        let (action, counted) = shield.run(&frame, 6);
        assert_eq!(action, XDP_DROP);
        let passed = count(&counted, Counter::XdpPass);
        assert!((4..=5).contains(&passed), "four tokens left, one a second: {counted:?}");
        assert_eq!(count(&counted, Counter::XdpDropSourceRate), 6 - passed);
    }
}

/// R50, R51.
#[test]
fn a_source_is_held_to_its_rate() {
    if without_programs() {
        return;
    }
    let frame = udp(from("203.0.113.5")).bytes();
    let innocent = udp(from("203.0.113.6")).bytes();
    for per_second in [200, 5_000, 50_000] {
        // A second's worth: this process may lose the CPU for a while, and nothing of the rate.
        let burst = per_second;
        let shield = rated(Rate { per_second, burst }, OFF);
        let start = Instant::now();
        let allowed = || f64::from(burst) + f64::from(per_second) * start.elapsed().as_secs_f64();
        let (mut passed, mut sent) = (0, 0);
        while start.elapsed() < Duration::from_secs(1) || f64::from(sent) < allowed() * 1.5 {
            // Repeated trials cost 20 ms of set-up: each sends more than comes in meanwhile.
            let batch = per_second / 5;
            let (_, counted) = shield.run(&frame, batch);
            passed += count(&counted, Counter::XdpPass);
            sent += batch;
            assert!(start.elapsed() < Duration::from_secs(30), "too slow to reach the rate");
        }
        let allowed = allowed();
        let error = (passed as f64 - allowed) / allowed;
        println!(
            "{per_second}/s: {sent} sent, {passed} of {allowed:.0} passed ({:+.2} %)",
            error * 100.0
        );
        assert!(error.abs() < 0.1, "{per_second}/s: {passed} of {allowed:.0}");
        assert_eq!(shield.run(&innocent, 1).0, XDP_PASS, "another source pays nothing");
    }
}

/// R50, R52: SYN packets have a bucket of their own, per source.
#[test]
fn syn_packets_have_their_own_rate() {
    if without_programs() {
        return;
    }
    let shield = rated(Rate { per_second: 1, burst: 100 }, Rate { per_second: 1, burst: 3 });
    let syn = |source| from(source).tcp(5, 80, tcp_flag::SYN).bytes();
    let ack = |source| from(source).tcp(5, 80, tcp_flag::SYN | tcp_flag::ACK).bytes();
    let (action, counted) = shield.run(&syn("203.0.113.5"), 50);
    assert_eq!(action, XDP_DROP);
    assert!(count(&counted, Counter::XdpDropSynRate) >= 46, "{counted:?}");
    assert_eq!(count(&counted, Counter::XdpDropSourceRate), 0);
    assert_eq!(shield.run(&ack("203.0.113.5"), 50).0, XDP_PASS, "its other packets pass");
    assert_eq!(shield.run(&syn("203.0.113.6"), 1).0, XDP_PASS, "SYNs of others pass");
    // Without a rate of their own they count as any packet.
    let shield = rated(Rate { per_second: 1, burst: 3 }, OFF);
    let (_, counted) = shield.run(&syn("203.0.113.5"), 50);
    assert!(count(&counted, Counter::XdpDropSourceRate) >= 46, "{counted:?}");
    let unlimited = rated(OFF, OFF);
    assert_eq!(unlimited.run(&syn("203.0.113.5"), 500).1, [(Counter::XdpPass, 500)]);
}

/// R50.
#[test]
fn ipv6_sources_of_one_prefix_share_a_bucket() {
    if without_programs() {
        return;
    }
    let shield = rated(Rate { per_second: 1, burst: 4 }, OFF);
    let run = |source| shield.run(&udp(from(source)).bytes(), 4);
    assert_eq!(run("2001:db8:5:6::1").0, XDP_PASS);
    assert_eq!(run("2001:db8:5:6:ffff::2").0, XDP_DROP, "the same /64");
    assert_eq!(run("2001:db8:5:7::1").0, XDP_PASS, "another /64");
}

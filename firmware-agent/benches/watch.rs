//! What rulesets add to inspection, in nanoseconds of thread CPU time per packet, and memory.
//!
//! `cargo bench -p sluice --bench watch`. Rules and payloads come from a seed. A packet is one of a
//! whole flow, handshake included; engines take turns.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a program for developers")]

mod common;
#[path = "common/dice.rs"]
mod dice;

use std::fmt::Write as _;
use std::hint::black_box;
use std::path::Path;

use sluice::inspect::engine::{Engine, Limits, Watch};
use sluice::policy::Policy;
use sluice::signature::Ruleset;

use common::interleaved;
use dice::Dice;

/// Flows in a round.
const FLOWS: u32 = 200;

/// Rules as feeds have them: half about payload, the rest about paths, hosts and names.
fn rules(count: u32) -> String {
    let mut dice = Dice(u64::from(count));
    let mut text = String::new();
    for sid in 1..=count {
        let [one, two, three] = [dice.word(4), dice.word(4), dice.word(4)];
        let (protocol, options) = match dice.roll(10) {
            0..5 => (
                "tcp",
                format!("content:\"{one}-{two}\"; nocase; content:\"{three}\"; distance:0;"),
            ),
            5..7 => ("http", format!("http.uri; content:\"/{one}/{two}.php?{three}=\";")),
            7..8 => ("http", format!("http.host; content:\"{one}.{two}.test\";")),
            _ => ("tls", format!("tls.sni; content:\"{one}.{two}.test\"; endswith;")),
        };
        let _ = writeln!(
            text,
            "drop {protocol} any any -> any any (msg:\"rule {sid}\"; flow:established; {options} sid:{sid};)"
        );
    }
    text
}

/// The first TLS handshake record of a recorded client.
fn hello() -> Vec<u8> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data/tls");
    let bytes = std::fs::read(folder.join("curl-h2-tls13.pcap")).unwrap();
    let is_hello = |window: &[u8]| matches!(window, [22, 3, 1, _, _, 1, 0, _, _]);
    let start = bytes.windows(9).position(is_hello).unwrap();
    let len = usize::from(u16::from_be_bytes([bytes[start + 3], bytes[start + 4]]));
    bytes[start..start + 5 + len].to_vec()
}

/// A packet of TCP over IPv4; `up` is from the client.
fn packet(up: bool, port: u16, seq: u32, flags: u8, payload: &[u8]) -> Vec<u8> {
    let (client, server) = ([10, 0, 0, 1], [192, 0, 2, 1]);
    let mut packet = vec![0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, 6, 0, 0];
    packet[2..4].copy_from_slice(&(40 + payload.len() as u16).to_be_bytes());
    let (from, to) = if up { (client, server) } else { (server, client) };
    packet.extend([from, to].concat());
    let (from, to) = if up { (port, 443_u16) } else { (443, port) };
    packet.extend([from.to_be_bytes(), to.to_be_bytes()].concat());
    packet.extend(seq.to_be_bytes());
    packet.extend([0, 0, 0, 0, 0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
    packet.extend(payload);
    packet
}

/// A connection in which the client says this.
fn flow(segments: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let mut packets = vec![packet(true, 0, 0, 2, &[]), packet(false, 0, 0, 0x12, &[])];
    packets.push(packet(true, 0, 1, 0x10, &[]));
    let mut seq = 1;
    for segment in segments {
        packets.push(packet(true, 0, seq, 0x18, segment));
        seq += segment.len() as u32;
    }
    packets
}

/// Flows by name.
fn flows() -> [(&'static str, Vec<Vec<u8>>); 3] {
    let mut dice = Dice(99);
    let mut request = "GET /index.html HTTP/1.1\r\nHost: www.example.com\r\n".to_owned();
    while request.len() < 600 {
        let [name, one, two] = [dice.word(4), dice.word(4), dice.word(4)];
        let _ = write!(request, "X-{name}: {one}/{two}\r\n");
    }
    request += "\r\n";
    let mut random = || {
        let mut bytes: Vec<u8> = (0..1400).map(|_| dice.roll(256) as u8).collect();
        bytes[0] = 0;
        bytes
    };
    let others: Vec<_> = (0..10).map(|_| random()).collect();
    [
        ("TLS", flow(&[hello()])),
        ("HTTP", flow(&[request.into_bytes()])),
        ("ten packets of 1400 bytes", flow(&others)),
    ]
}

/// KiB of anonymous memory of this process: now, and at most so far.
fn memory() -> (u64, u64) {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.split_whitespace().next().unwrap().parse().unwrap()
    };
    (field("RssAnon:"), field("VmHWM:"))
}

fn engine(count: u32) -> Engine {
    let mut engine = Engine::new(Limits::default(), Policy::default(), [1, 2]);
    if count > 0 {
        let text = rules(count);
        let before = memory();
        let ruleset = Ruleset::of_text("bench", false, &text).unwrap();
        assert_eq!(ruleset.report().rules, count);
        let kib = ruleset.matcher().memory() >> 10;
        engine.set_watch(Watch::new(vec![ruleset]));
        let after = memory();
        println!(
            "{count} rules: {kib} KiB by their own account; process {} KiB before, {} KiB after, {} KiB at most",
            before.0, after.0, after.1
        );
    }
    engine
}

fn main() {
    const RULES: [u32; 3] = [0, 1_000, 10_000];
    let mut engines = RULES.map(engine);
    let mut port = 0_u32;
    for (name, mut packets) in flows() {
        let calls = FLOWS * packets.len() as u32;
        println!("{name}: {} packets", packets.len());
        let costs = interleaved::<{ RULES.len() }>(calls, |index| {
            for _ in 0..FLOWS {
                port += 1;
                for (number, packet) in packets.iter_mut().enumerate() {
                    // Another client for each flow.
                    let place = if number == 1 { 16 } else { 12 };
                    packet[place..place + 4].copy_from_slice(&(0x0a00_0000 + port).to_be_bytes());
                    let step = engines[index].packet(u64::from(port), packet, packet.len());
                    black_box(&step);
                }
            }
        });
        for (rules, cost) in RULES.iter().zip(costs) {
            println!("  {rules:6} rules {cost}");
        }
    }
}

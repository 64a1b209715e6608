//! Cost of comparing a packet with many rules, in nanoseconds of thread CPU time, and memory.
//!
//! `cargo bench -p sluice --bench signature`. Rules and payloads come from a seed. Each figure is the
//! least and the median of rounds.

#![expect(clippy::print_stdout, reason = "a program for developers")]

mod common;
#[path = "common/dice.rs"]
mod dice;

use std::fmt::Write as _;
use std::hint::black_box;

use sluice::signature::{Builder, Facts, Limits, Loader, Matcher, Transport, Variables};

use common::{interleaved, thread_ns};
use dice::Dice;

/// Packets in a round.
const CALLS: u32 = 400;
/// Bytes of a packet.
const PAYLOAD: usize = 1500;

/// A content of 8 to 30 bytes: a path, a name, a field of a header, or binary.
fn content(dice: &mut Dice) -> String {
    let [one, two, three] = [dice.word(2), dice.word(2), dice.word(2)];
    match dice.roll(4) {
        0 => format!("/{one}/{two}.php?{three}="),
        1 => format!("{one}-{two}.{three}"),
        2 => format!("X-{one}|3a 20|{two}{three}"),
        _ => {
            let mut text = "|".to_owned();
            for _ in 0..dice.roll(12) + 6 {
                let _ = write!(text, "{:02x} ", dice.roll(256));
            }
            text + "|"
        }
    }
}

/// A matcher with so many rules of two contents each.
fn matcher(rules: u32) -> Matcher {
    let mut dice = Dice(u64::from(rules));
    let mut loader = Loader::new(Variables::default());
    let mut builder = Builder::default();
    loader.file("bench");
    for sid in 1..=rules {
        let [one, two] = [content(&mut dice), content(&mut dice)];
        let rule = format!(
            "alert tcp any any -> any any (flow:established; content:\"{one}\"; nocase; \
             content:\"{two}\"; distance:0; sid:{sid};)"
        );
        if let Some(parsed) = loader.line(rule.as_bytes()) {
            builder.push(parsed);
        }
    }
    assert_eq!(loader.report().rules, rules);
    let signatures = builder.finish(loader.files(), loader.lists_memory(), usize::MAX);
    Matcher::new(signatures.unwrap_or_else(|_| unreachable!()), Limits::default(), 1)
}

/// Payloads by name: what is encrypted, a text, and a text made of pieces of the rules.
fn payloads(rules: u32) -> [(&'static str, Vec<u8>); 3] {
    let mut dice = Dice(99);
    let random = (0..PAYLOAD).map(|_| dice.roll(256) as u8).collect();
    let mut text = String::from("GET /index.html HTTP/1.1\r\n");
    while text.len() < PAYLOAD {
        let [name, one, two] = [dice.word(2), dice.word(2), dice.word(2)];
        let _ = write!(text, "X-{name}: {one}/{two}\r\n");
    }
    text.truncate(PAYLOAD);
    let mut dice = Dice(u64::from(rules));
    let mut pieces = String::new();
    while pieces.len() < PAYLOAD {
        let content = content(&mut dice).replace("|3a 20|", ": ");
        if !content.contains('|') {
            pieces += content.get(..7).unwrap_or_default();
        }
    }
    pieces.truncate(PAYLOAD);
    [
        ("random bytes", random),
        ("text", text.into_bytes()),
        ("starts of patterns", pieces.into_bytes()),
    ]
}

fn main() {
    for rules in [1_000, 10_000, 30_000] {
        let start = thread_ns();
        let mut matcher = matcher(rules);
        let built_ms = (thread_ns() - start) / 1_000_000;
        let memory = matcher.memory();
        println!(
            "{rules} rules: {} KiB, {} bytes a rule, read and built in {built_ms} ms",
            memory >> 10,
            memory / rules as usize
        );
        for (name, payload) in payloads(rules) {
            let facts = Facts {
                transport: Transport::Tcp,
                source: [192, 0, 2, 1].into(),
                source_port: 40_000,
                destination: [192, 0, 2, 2].into(),
                destination_port: 80,
                to_server: true,
                is_established: true,
                tcp_flags: 0x18,
                app: None,
                payload: &payload,
                stream: &[],
                buffers: &[],
            };
            let before = matcher.stats();
            let [cost] = interleaved(CALLS, |_| {
                for _ in 0..CALLS {
                    black_box(matcher.inspect(black_box(&facts), 0));
                }
            });
            let after = matcher.stats();
            let packets = f64::from(after.packets - before.packets);
            println!(
                "  {name:20} {cost}, {:.1} rules compared, {} cut",
                f64::from(after.compared - before.compared) / packets,
                after.cut - before.cut,
            );
        }
    }
}

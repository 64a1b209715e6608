//! Cost of reading one ClientHello, in nanoseconds of thread CPU time.
//!
//! `cargo bench -p sluice --bench hello`. Each figure is the least and the median of interleaved
//! rounds.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a program for developers")]

mod common;

use std::hint::black_box;
use std::path::Path;

use sluice::inspect::ja::{Ja3, Ja4, Transport};
use sluice::inspect::tls::{Answer, ClientHello, Finder, Joined, NAME_MAX, Sni, client_hello};

use common::interleaved;

/// Calls in a round.
const CALLS: u32 = 20_000;

/// The first TLS handshake record in a recorded capture.
fn record(capture: &str) -> Vec<u8> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data/tls");
    let bytes = std::fs::read(folder.join(capture)).unwrap();
    let is_hello = |window: &[u8]| matches!(window, [22, 3, 1, _, _, 1, 0, _, _]);
    let start = bytes.windows(9).position(is_hello).unwrap();
    let len = usize::from(u16::from_be_bytes([bytes[start + 3], bytes[start + 4]]));
    bytes[start..start + 5 + len].to_vec()
}

fn with_hello(bytes: &[u8], joined: &mut Joined, use_it: impl FnOnce(&ClientHello<'_>)) {
    match client_hello(&mut Finder::default(), black_box(bytes), joined) {
        Answer::Hello(hello) => use_it(&hello),
        other => unreachable!("{other:?}"),
    }
}

fn name(hello: &ClientHello<'_>) {
    let mut room = [0; NAME_MAX];
    if let Sni::Name(name) = hello.sni {
        black_box(name.to_lower(&mut room));
    }
}

/// What is measured, by name.
type Subject = (&'static str, fn(&[u8], &mut Joined));

const SUBJECTS: [Subject; 4] = [
    ("SNI", |bytes, joined| with_hello(bytes, joined, name)),
    ("SNI + JA4", |bytes, joined| {
        with_hello(bytes, joined, |hello| {
            name(hello);
            black_box(Ja4::new(hello, Transport::Tcp));
        });
    }),
    ("SNI + JA4 + JA3", |bytes, joined| {
        with_hello(bytes, joined, |hello| {
            name(hello);
            black_box(Ja4::new(hello, Transport::Tcp));
            black_box(Ja3::new(hello));
        });
    }),
    ("the same + JA3 text", |bytes, joined| {
        with_hello(bytes, joined, |hello| {
            name(hello);
            black_box(Ja4::new(hello, Transport::Tcp));
            black_box(Ja3::with_text(hello, 4096));
        });
    }),
];

fn main() {
    let mut joined = Joined::default();
    for capture in ["curl-h2-tls13.pcap", "openssl-tls1_2.pcap", "python-ssl.pcap"] {
        let bytes = record(capture);
        println!("{capture}: {} bytes", bytes.len());
        let costs = interleaved::<{ SUBJECTS.len() }>(CALLS, |index| {
            for _ in 0..CALLS {
                SUBJECTS[index].1(&bytes, &mut joined);
            }
        });
        for ((name, _), cost) in SUBJECTS.iter().zip(costs) {
            println!("  {name:20} {cost}");
        }
    }
}

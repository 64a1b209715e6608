//! Cost of one client Initial packet of QUIC, in nanoseconds of thread CPU time.
//!
//! `cargo bench -p sluice --bench quic`. Each figure is the least and the median of interleaved
//! rounds.

#![expect(clippy::print_stdout, reason = "a program for developers")]

mod common;

use std::hint::black_box;

use sluice::inspect::ja::{Ja4, Transport};
use sluice::inspect::quic::{Answer, Client, Limits};

use common::interleaved;

/// Calls in a round.
const CALLS: u32 = 5_000;
const LIMITS: Limits = Limits { bytes: 16 * 1024 + 4, pieces: 32 };

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> =
        text.chars().filter_map(|digit| digit.to_digit(16)).map(|digit| digit as u8).collect();
    digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

/// What is measured, by name.
type Subject = (&'static str, fn(&[u8], &mut [u8]));

const SUBJECTS: [Subject; 3] = [
    ("SNI", |datagram, room| {
        let mut client = Client::default();
        let answer = client.datagram(black_box(datagram), datagram.len(), room, LIMITS);
        assert!(matches!(answer, Answer::Hello(..)));
        let _ = black_box(answer);
    }),
    ("SNI + JA4", |datagram, room| {
        let mut client = Client::default();
        let Answer::Hello(hello, _) =
            client.datagram(black_box(datagram), datagram.len(), room, LIMITS)
        else {
            unreachable!()
        };
        black_box(Ja4::new(&hello, Transport::Quic));
    }),
    ("not authentic", |datagram, room| {
        // The last byte belongs to the tag.
        let mut changed = [0; 1200];
        changed.copy_from_slice(datagram);
        changed[1199] ^= 1;
        let mut client = Client::default();
        let answer = client.datagram(black_box(&changed), changed.len(), room, LIMITS);
        assert!(matches!(answer, Answer::Nothing));
    }),
];

fn main() {
    let mut room = vec![0; 16 * 1024];
    for (name, text) in [
        ("RFC 9001, A.2", include_str!("../../tests/data/quic/rfc9001-a2.hex")),
        ("RFC 9369, A.2", include_str!("../../tests/data/quic/rfc9369-a2.hex")),
    ] {
        let datagram = hex(text);
        println!("{name}: {} bytes", datagram.len());
        let costs = interleaved::<{ SUBJECTS.len() }>(CALLS, |index| {
            for _ in 0..CALLS {
                SUBJECTS[index].1(&datagram, &mut room);
            }
        });
        for ((name, _), cost) in SUBJECTS.iter().zip(costs) {
            println!("  {name:20} {cost}");
        }
    }
}

//! Cost of looking a name up among a million listed domains, in nanoseconds of thread CPU time.
//!
//! `cargo bench -p sluice --bench domains`. Each figure is the least and the median of interleaved
//! rounds; names that differ each time find the set outside of the processor's caches.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a program for developers")]

use std::hint::black_box;

use nix::time::{ClockId, clock_gettime};
use sluice::inspect::domain_set::{Counting, DomainSet, Key, Room};

/// Rounds of each subject.
const ROUNDS: usize = 15;
/// Names of a round.
const CALLS: usize = 100_000;
const LISTED: u32 = 1_000_000;

fn thread_ns() -> u64 {
    let now = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).unwrap();
    now.tv_sec().cast_unsigned() * 1_000_000_000 + now.tv_nsec().cast_unsigned()
}

fn listed(number: u64) -> String {
    format!("n{:x}.example{}.com", number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32, number % 1000)
}

fn build() -> DomainSet {
    let room = Room::new(LISTED, 1, 0, u64::MAX).unwrap();
    let start = thread_ns();
    let mut counting = Counting::new(Key::new([1, 2]), room);
    (0..u64::from(LISTED)).for_each(|number| counting.count(&listed(number)));
    let mut builder = counting.done();
    (0..u64::from(LISTED)).for_each(|number| builder.add(&listed(number), 0));
    let set = builder.finish();
    let ms = (thread_ns() - start) / 1_000_000;
    println!(
        "{} domains: {} bytes, built in {ms} ms, their texts included",
        set.len(),
        set.bytes()
    );
    set
}

fn main() {
    let set = build();
    let names = |name: &dyn Fn(u64) -> String| (0..CALLS as u64).map(name).collect::<Vec<_>>();
    let subjects: [(&str, Vec<String>); 4] = [
        ("miss, www.example.com again and again", names(&|_| "www.example.com".to_owned())),
        ("miss, www.exampleN.com", names(&|n| format!("www.example{}.com", n + 5_000_000))),
        ("miss, five labels", names(&|n| format!("a.b.cdn{n}.example{}.com", n + 5_000_000))),
        ("hit, a listed name", names(&|n| listed(n * 7))),
    ];
    let mut times = [const { Vec::new() }; 4];
    for round in 0..ROUNDS {
        for step in 0..subjects.len() {
            // There and back, so that a slow moment does not always meet the same subject.
            let index = if round % 2 == 0 { step } else { subjects.len() - 1 - step };
            let start = thread_ns();
            for name in &subjects[index].1 {
                black_box(set.lookup(black_box(name)));
            }
            times[index].push((thread_ns() - start) as f64 / CALLS as f64);
        }
    }
    for ((what, _), times) in subjects.iter().zip(&mut times) {
        times.sort_by(f64::total_cmp);
        let (least, median) = (times[0], times[ROUNDS / 2]);
        println!("  {what:40} {least:7.0} ns least {median:7.0} ns median");
    }
}

//! Cost of looking a name up among a million listed domains, in nanoseconds of thread CPU time.
//!
//! `cargo bench -p sluice --bench domains`. Each figure is the least and the median of interleaved
//! rounds; names that differ each time find the set outside of the processor's caches.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a program for developers")]

mod common;

use std::hint::black_box;

use sluice::inspect::domain_set::{Counting, DomainSet, Key, Room};

use common::{interleaved, thread_ns};

/// Names of a round.
const CALLS: u32 = 100_000;
const LISTED: u32 = 1_000_000;

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
    let names = |name: &dyn Fn(u64) -> String| (0..u64::from(CALLS)).map(name).collect::<Vec<_>>();
    let subjects: [(&str, Vec<String>); 4] = [
        ("miss, www.example.com again and again", names(&|_| "www.example.com".to_owned())),
        ("miss, www.exampleN.com", names(&|n| format!("www.example{}.com", n + 5_000_000))),
        ("miss, five labels", names(&|n| format!("a.b.cdn{n}.example{}.com", n + 5_000_000))),
        ("hit, a listed name", names(&|n| listed(n * 7))),
    ];
    let costs: [_; 4] = interleaved(CALLS, |index| {
        for name in &subjects[index].1 {
            black_box(set.lookup(black_box(name)));
        }
    });
    for ((what, _), cost) in subjects.iter().zip(costs) {
        println!("  {what:40} {cost}");
    }
}

//! Measuring in thread CPU time.

use nix::time::{ClockId, clock_gettime};

/// Rounds of each subject.
const ROUNDS: usize = 15;

/// CPU time of this thread in nanoseconds.
pub(crate) fn thread_ns() -> u64 {
    let now = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).unwrap_or_else(|_| unreachable!());
    now.tv_sec().cast_unsigned() * 1_000_000_000 + now.tv_nsec().cast_unsigned()
}

/// What one call costs, in nanoseconds.
#[derive(Clone, Copy)]
pub(crate) struct Cost {
    least: f64,
    median: f64,
}

impl std::fmt::Display for Cost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:7.0} ns least {:7.0} ns median", self.least, self.median)
    }
}

/// The cost of `N` subjects in rounds that take turns; `round` makes `calls` calls of the one with
/// the number that it is given.
pub(crate) fn interleaved<const N: usize>(calls: u32, mut round: impl FnMut(usize)) -> [Cost; N] {
    let mut times = [const { Vec::new() }; N];
    for number in 0..ROUNDS {
        for step in 0..N {
            // There and back, so that a slow moment does not always meet the same subject.
            let index = if number % 2 == 0 { step } else { N - 1 - step };
            let start = thread_ns();
            round(index);
            times[index].push((thread_ns() - start) as f64 / f64::from(calls));
        }
    }
    times.map(|mut times: Vec<f64>| {
        times.sort_by(f64::total_cmp);
        Cost { least: times[0], median: times[ROUNDS / 2] }
    })
}

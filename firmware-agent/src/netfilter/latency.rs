//! How long packets wait for their verdict. Pure.

/// Buckets: below 1 µs, 2 µs, 4 µs and so on; the last has no end.
const BUCKETS: usize = 24;

/// A histogram with powers of two.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Latency {
    buckets: [u64; BUCKETS],
    /// Microseconds of all packets together.
    sum_us: u64,
}

impl Latency {
    /// Counts `packets` that waited this long.
    pub fn add(&mut self, waited_ns: u64, packets: u64) {
        let us = waited_ns / 1000;
        let bucket = (u64::BITS - us.leading_zeros()) as usize;
        if let Some(count) = self.buckets.get_mut(bucket.min(BUCKETS - 1)) {
            *count += packets;
        }
        self.sum_us = self.sum_us.saturating_add(us.saturating_mul(packets));
    }

    /// Adds the packets of another histogram.
    pub fn join(&mut self, other: &Self) {
        for (sum, more) in self.buckets.iter_mut().zip(other.buckets) {
            *sum += more;
        }
        self.sum_us = self.sum_us.saturating_add(other.sum_us);
    }

    /// Packets that waited less than a number of microseconds and not less than half of it; `None`
    /// for the last, which has no end.
    pub fn rows(&self) -> impl Iterator<Item = (Option<u64>, u64)> {
        let below = |index| (index + 1 < BUCKETS).then(|| 1_u64 << index);
        self.buckets.iter().enumerate().map(move |(index, count)| (below(index), *count))
    }

    /// Microseconds of all packets together.
    #[must_use]
    pub const fn sum_us(&self) -> u64 {
        self.sum_us
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_wait_counts_once_below_the_next_power_of_two() {
        for (ns, below) in [
            (0, Some(1)),
            (999, Some(1)),
            (1000, Some(2)),
            (2000, Some(4)),
            (3999, Some(4)),
            (4000, Some(8)),
            (4_194_303_999, Some(1 << 22)),
            (4_194_304_000, None),
            (u64::MAX, None),
        ] {
            let mut latency = Latency::default();
            latency.add(ns, 3);
            let counted: Vec<_> = latency.rows().filter(|(_, count)| *count > 0).collect();
            assert_eq!(counted, [(below, 3)], "{ns}");
            assert_eq!(latency.sum_us(), (ns / 1000).saturating_mul(3));
        }
    }
}

//! Token bucket.

use sluice_abi::shield::Rate;

/// Tokens and when they were last counted, without an owner.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Bucket {
    /// Tokens left, in units of 1/1024.
    pub level: u32,
    /// Millisecond of the last packet, modulo 2³².
    pub stamp_ms: u32,
}

impl Bucket {
    /// Units of one token.
    const ONE: u64 = 1024;

    /// The bucket of a source that was quiet: it may send its burst.
    #[inline(always)]
    #[must_use]
    pub const fn full(now_ms: u32, rate: Rate) -> Self {
        Self { level: rate.burst * Self::ONE as u32, stamp_ms: now_ms }
    }

    /// Takes one token. `false` means the packet is over the limit.
    ///
    /// Only 32- and 64-bit unsigned arithmetic: BPF has no 128-bit and, before ISA v4, no signed
    /// division. The product stays below 2⁶³ for every rate up to [`Rate::MAX`].
    #[inline(always)]
    #[must_use]
    pub const fn take(&mut self, now_ms: u32, rate: Rate) -> bool {
        let delta = now_ms.wrapping_sub(self.stamp_ms);
        // Another CPU may have written a newer stamp: a "negative" difference counts as none.
        let (elapsed, stamp_ms) =
            if delta < 1 << 31 { (delta as u64, now_ms) } else { (0, self.stamp_ms) };
        let full = rate.burst as u64 * Self::ONE;
        let mut level = self.level as u64 + elapsed * rate.per_second as u64 * Self::ONE / 1000;
        if level > full {
            level = full;
        }
        let granted = level >= Self::ONE;
        if granted {
            level -= Self::ONE;
        }
        self.level = level as u32;
        self.stamp_ms = stamp_ms;
        granted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: Rate = Rate { per_second: 100, burst: 5 };

    fn granted(bucket: &mut Bucket, ms: u32, rate: Rate) -> usize {
        (0..10).filter(|_| bucket.take(ms, rate)).count()
    }

    #[test]
    fn grants_the_burst_then_the_rate() {
        let mut bucket = Bucket::full(10_000, RATE);
        assert_eq!(granted(&mut bucket, 10_000, RATE), 5, "a quiet source may send its burst");
        assert_eq!(granted(&mut bucket, 10_000, RATE), 0, "and nothing more at the same instant");
        assert_eq!(granted(&mut bucket, 10_020, RATE), 2, "20 ms at 100/s are two packets");
    }

    #[test]
    fn holds_the_rate_over_time() {
        for per_second in [1, 7, 100, 1000, 20_000, 400_000] {
            let rate = Rate { per_second, burst: per_second.div_ceil(20).max(2) };
            let mut bucket = Bucket::full(u32::MAX - 1000, rate);
            let (mut passed, seconds) = (0_u64, 20_u32);
            for ms in 0..seconds * 1000 {
                let now = (u32::MAX - 1000).wrapping_add(ms); // over the wrap of the clock
                for _ in 0..(per_second / 500).max(1) {
                    passed += u64::from(bucket.take(now, rate));
                }
            }
            let expected = f64::from(per_second * seconds + rate.burst);
            let error = (passed as f64 - expected).abs() / expected;
            assert!(error < 0.1, "{per_second}/s: {passed} of {expected}");
        }
    }

    #[test]
    fn a_stamp_of_the_future_refills_nothing_and_is_kept() {
        let mut bucket = Bucket { level: 0, stamp_ms: 5_000 };
        assert!(!bucket.take(4_999, RATE));
        assert_eq!(bucket.stamp_ms, 5_000);
        assert!(!bucket.take(5_000_u32.wrapping_sub(1 << 31).wrapping_add(1), RATE));
    }

    #[test]
    fn the_largest_rate_does_not_overflow() {
        let rate = Rate { per_second: Rate::MAX, burst: Rate::MAX };
        let mut bucket = Bucket::full(0, rate);
        assert!(bucket.take((1 << 31) - 1, rate));
        assert_eq!(bucket.level, (Rate::MAX - 1) * 1024);
    }
}

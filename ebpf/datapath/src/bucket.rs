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

/// What a [`Rate`] counts in.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Pace {
    /// Tokens a second, at most [`Rate::MAX`].
    Second,
    /// Tokens a minute, at most [`Pace::MINUTE_MAX`].
    Minute,
}

impl Pace {
    /// The largest rate and burst by the minute: a level in units of 1/65536 fits 32 bits.
    pub const MINUTE_MAX: u32 = 60_000;

    /// Units of one token.
    #[inline(always)]
    const fn one(self) -> u64 {
        match self {
            Self::Second => 1 << 10,
            Self::Minute => 1 << 16,
        }
    }

    /// Units that a rate of one gives in a millisecond, times 2¹⁶.
    #[inline(always)]
    const fn per_ms(self) -> u64 {
        match self {
            Self::Second => (self.one() << 16) / 1000 + 1,
            Self::Minute => (self.one() << 16) / 60_000 + 1,
        }
    }
}

impl Bucket {
    /// Longer silence is worth no more, so that the product below fits 64 bits: almost five hours.
    const SILENCE_MS: u32 = 1 << 24;

    /// The bucket of a source that was quiet: it may send its burst.
    #[inline(always)]
    #[must_use]
    pub const fn full(now_ms: u32, rate: Rate, pace: Pace) -> Self {
        Self { level: rate.burst * pace.one() as u32, stamp_ms: now_ms }
    }

    /// Takes one token. `false` means the packet is over the limit.
    ///
    /// No division, which costs more than everything else here, and only unsigned 64-bit
    /// arithmetic. The product stays below 2⁶³ for every rate up to [`Rate::MAX`].
    #[inline(always)]
    #[must_use]
    pub const fn take(&mut self, now_ms: u32, rate: Rate, pace: Pace) -> bool {
        let delta = now_ms.wrapping_sub(self.stamp_ms);
        let mut level = self.level as u64;
        // Another CPU may have written a newer stamp: a "negative" difference counts as none.
        if delta != 0 && delta < 1 << 31 {
            let elapsed = if delta < Self::SILENCE_MS { delta } else { Self::SILENCE_MS };
            level += (elapsed as u64 * rate.per_second as u64 * pace.per_ms()) >> 16;
            self.stamp_ms = now_ms;
        }
        let full = rate.burst as u64 * pace.one();
        if level > full {
            level = full;
        }
        let granted = level >= pace.one();
        if granted {
            level -= pace.one();
        }
        self.level = level as u32;
        granted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: Rate = Rate { per_second: 100, burst: 5 };

    fn granted(bucket: &mut Bucket, ms: u32, rate: Rate) -> usize {
        (0..10).filter(|_| bucket.take(ms, rate, Pace::Second)).count()
    }

    #[test]
    fn grants_the_burst_then_the_rate() {
        let mut bucket = Bucket::full(10_000, RATE, Pace::Second);
        assert_eq!(granted(&mut bucket, 10_000, RATE), 5, "a quiet source may send its burst");
        assert_eq!(granted(&mut bucket, 10_000, RATE), 0, "and nothing more at the same instant");
        assert_eq!(granted(&mut bucket, 10_020, RATE), 2, "20 ms at 100/s are two packets");
    }

    #[test]
    fn holds_the_rate_over_time() {
        for per_second in [1, 7, 100, 1000, 20_000, 400_000] {
            let rate = Rate { per_second, burst: per_second.div_ceil(20).max(2) };
            let mut bucket = Bucket::full(u32::MAX - 1000, rate, Pace::Second);
            let (mut passed, seconds) = (0_u64, 20_u32);
            for ms in 0..seconds * 1000 {
                let now = (u32::MAX - 1000).wrapping_add(ms); // over the wrap of the clock
                for _ in 0..(per_second / 500).max(1) {
                    passed += u64::from(bucket.take(now, rate, Pace::Second));
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
        assert!(!bucket.take(4_999, RATE, Pace::Second));
        assert_eq!(bucket.stamp_ms, 5_000);
        assert!(!bucket.take(5_000_u32.wrapping_sub(1 << 31).wrapping_add(1), RATE, Pace::Second));
    }

    #[test]
    fn the_largest_rate_does_not_overflow() {
        let rate = Rate { per_second: Rate::MAX, burst: Rate::MAX };
        let mut bucket = Bucket::full(0, rate, Pace::Second);
        assert!(bucket.take((1 << 31) - 1, rate, Pace::Second));
        assert_eq!(bucket.level, (Rate::MAX - 1) * 1024);
    }

    #[test]
    fn a_rate_by_the_minute_holds_however_often_packets_come() {
        for per_minute in [1, 3, 60, 1000, Pace::MINUTE_MAX] {
            for step in [1, 4, 10, 333] {
                let rate = Rate { per_second: per_minute, burst: per_minute };
                let mut bucket = Bucket::full(0, rate, Pace::Minute);
                let mut passed = 0_u64;
                for ms in (0..600_000_u32).step_by(step) {
                    let tries = per_minute * step as u32 / 30_000 + 1;
                    for _ in 0..tries.max(if ms == 0 { per_minute } else { 0 }) {
                        passed += u64::from(bucket.take(ms, rate, Pace::Minute));
                    }
                }
                let expected = f64::from(per_minute * 11);
                let error = (passed as f64 - expected).abs() / expected;
                assert!(
                    error < 0.1,
                    "{per_minute} a minute, every {step} ms: {passed}, {expected}"
                );
                // Ten minutes of silence are worth one burst.
                let after = (0..per_minute * 2)
                    .filter(|_| bucket.take(1_200_000, rate, Pace::Minute))
                    .count();
                assert_eq!(after, per_minute as usize);
            }
        }
    }
}

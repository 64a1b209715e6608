//! Holds a flow to a rate: a token bucket per direction, in bits.
//!
//! A packet passes while anything is left, and may leave less than nothing: so a merged packet that
//! is larger than the burst passes too, and those behind it pay for it. In the long run the rate is
//! exact.

use sluice_abi::flow::FlowLimit;

/// Largest packet that is billed, in bytes: a merged packet with the headers of all its segments.
const BYTES_MAX: u64 = 1 << 20;

/// Takes a packet of `bytes` from the bucket of a side, 0 or 1. `false` means over the rate.
#[inline(always)]
#[must_use]
pub fn take(limit: &mut FlowLimit, side: u32, now_ms: u32, bytes: u64) -> bool {
    // Two names for two places: an index that the verifier does not know costs more.
    let (level, stamp) = if side == 0 {
        (limit.level[0], limit.stamp_ms[0])
    } else {
        (limit.level[1], limit.stamp_ms[1])
    };
    let delta = now_ms.wrapping_sub(stamp);
    // Another CPU may have written a newer stamp: a "negative" difference counts as none.
    let (elapsed, stamp) = if delta < 1 << 31 { (delta, now_ms) } else { (0, stamp) };
    let mut level = i64::from(level) + (u64::from(elapsed) * u64::from(limit.kbit)).cast_signed();
    let full = i64::from(limit.burst);
    if level > full {
        level = full;
    }
    let granted = level > 0;
    if granted {
        level -= if bytes > BYTES_MAX { BYTES_MAX * 8 } else { bytes * 8 }.cast_signed();
    }
    if side == 0 {
        limit.level[0] = level as i32;
        limit.stamp_ms[0] = stamp;
    } else {
        limit.level[1] = level as i32;
        limit.stamp_ms[1] = stamp;
    }
    granted
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What passes in `seconds` of packets of `bytes` that come every `every_ms`, per second.
    fn rate(kbit: u32, burst: u32, bytes: u64, every_ms: u32, seconds: u32) -> f64 {
        let start = u32::MAX - 1000; // over the wrap of the clock
        let mut limit = FlowLimit::full(kbit, burst, start);
        let mut passed = 0;
        for step in 0..seconds * 1000 / every_ms {
            let now = start.wrapping_add(step * every_ms);
            // Many times what may pass, as a clock of ticks shows it: all at one instant.
            for _ in 0..(u64::from(kbit) * u64::from(every_ms) / 8 / bytes + 2) * 2 {
                passed += if take(&mut limit, 0, now, bytes) { bytes } else { 0 };
            }
        }
        (passed * 8) as f64 / f64::from(seconds)
    }

    #[test]
    fn the_rate_holds_for_small_large_and_merged_packets_and_coarse_clocks() {
        for (kbit, bytes) in
            [(64, 100), (1000, 1500), (20_000, 1500), (20_000, 65_000), (1_000_000, 1500)]
        {
            for every_ms in [1, 4, 10] {
                let burst = kbit * 10;
                let got = rate(kbit, burst, bytes, every_ms, 30);
                let expected = f64::from(kbit) * 1000.0 + f64::from(burst) / 30.0;
                let slack = (bytes * 8) as f64 / 30.0 / expected;
                let error = (got - expected) / expected;
                assert!(error.abs() < 0.01 + slack, "{kbit} kbit, {bytes}, {every_ms} ms: {error}");
            }
        }
    }

    #[test]
    fn directions_do_not_pay_for_each_other() {
        let mut limit = FlowLimit::full(8, 8000, 5);
        assert!(take(&mut limit, 0, 5, 1500));
        assert!(!take(&mut limit, 0, 5, 40), "less than nothing is left");
        assert!(take(&mut limit, 1, 5, 1500), "the other side has its own");
        assert_eq!(limit.level, [8000 - 12_000; 2]);
        // 4000 bits are 500 ms; one more makes it more than nothing.
        assert!(!take(&mut limit, 0, 505, 40));
        assert!(take(&mut limit, 0, 506, 40));
    }

    #[test]
    fn long_silence_and_a_clock_that_goes_back_fill_no_more_than_the_burst() {
        let mut limit = FlowLimit::full(FlowLimit::KBIT_MAX, FlowLimit::BURST_MAX, 0);
        assert!(take(&mut limit, 0, (1 << 31) - 1, u64::MAX));
        assert_eq!(limit.level[0], FlowLimit::BURST_MAX.cast_signed() - (8 << 20));
        let before = limit;
        assert!(take(&mut limit, 0, (1 << 31) - 2, 0));
        assert_eq!(limit, before, "an older stamp changes nothing");
        for _ in 0..1000 {
            let _ = take(&mut limit, 0, (1 << 31) - 1, u64::MAX);
        }
        assert!(limit.level[0] > -(9 << 20), "never further down than one packet");
    }
}

//! Clocks.
//!
//! Deadlines in maps and the kernel's time stamps are `CLOCK_MONOTONIC`; nothing may compare them
//! with the wall clock, which a router gets minutes after it starts and then jumps.

use std::time::SystemTime;

use nix::time::{ClockId, clock_gettime};

/// Nanoseconds of `CLOCK_MONOTONIC`, which is what the programs' `ktime` helpers return.
#[must_use]
pub fn monotonic_ns() -> u64 {
    // The clock exists on every kernel; a failure would need a bad pointer or clock number.
    clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(0, |time| {
        u64::try_from(time.tv_sec()).unwrap_or(0) * 1_000_000_000
            + u64::try_from(time.tv_nsec()).unwrap_or(0)
    })
}

/// Seconds of `CLOCK_MONOTONIC`, as in `expires_s` of map entries.
#[must_use]
pub fn monotonic_s() -> u32 {
    (monotonic_ns() / 1_000_000_000) as u32
}

/// Milliseconds of the kernel's timer tick in units of 1/65536: what `bpf_jiffies64` counts.
#[must_use]
pub fn tick() -> u32 {
    // The resolution of the coarse clock is the tick; without an answer, that of most routers.
    let tick = nix::time::clock_getres(ClockId::CLOCK_MONOTONIC_COARSE)
        .ok()
        .filter(|tick| tick.tv_sec() == 0)
        .and_then(|tick| u64::try_from(tick.tv_nsec()).ok())
        .unwrap_or(10_000_000);
    ((tick << 16) / 1_000_000) as u32
}

/// Whether the system's clock was set: from a network, as the kernel knows it, or at the start from
/// a clock with a battery.
#[must_use]
pub fn is_set() -> bool {
    // SAFETY: zeroes are a value of this plain structure, and mean that nothing is to be changed.
    let mut state: libc::timex = unsafe { std::mem::zeroed() };
    // SAFETY: the pointer is to a structure that lives through the call.
    let answer = unsafe { libc::adjtimex(&raw mut state) };
    let is_synchronised = answer >= 0 && answer != libc::TIME_ERROR;
    is_synchronised
        || std::fs::read_to_string("/sys/class/rtc/rtc0/hctosys")
            .is_ok_and(|text| text.trim_end() == "1")
}

/// Seconds since 1970 by the system's clock, which may be wrong and jump.
#[must_use]
pub fn unix_s() -> Option<i64> {
    let passed = wall_clock().duration_since(SystemTime::UNIX_EPOCH).ok()?;
    i64::try_from(passed.as_secs()).ok()
}

/// Microseconds since 1970 by the system's clock, to compare with the kernel's stamps of packets.
#[must_use]
pub fn unix_us() -> u64 {
    let passed = wall_clock().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(passed.as_micros()).unwrap_or_default()
}

/// The date, for people: never for a comparison.
#[must_use]
pub fn wall_clock() -> SystemTime {
    #[expect(clippy::disallowed_methods, reason = "the one place that shows a date")]
    SystemTime::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tick_is_one_of_those_that_kernels_have() {
        // 1000, 300, 250, 100 or, on old MIPS boards, 24 to 1024 a second.
        assert!((64_000..2_800_000).contains(&tick()), "{}", tick());
    }

    #[test]
    fn monotonic_time_moves_forward_in_nanoseconds() {
        let before = monotonic_ns();
        let start = std::time::Instant::now();
        while start.elapsed().as_millis() < 5 {}
        let passed = monotonic_ns() - before;
        assert!((5_000_000..2_000_000_000).contains(&passed), "{passed} ns");
        assert_eq!(u64::from(monotonic_s()), monotonic_ns() / 1_000_000_000);
    }
}

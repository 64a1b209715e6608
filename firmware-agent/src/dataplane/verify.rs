//! Whether an attached XDP program really runs: pure.
//!
//! Some drivers take a program and never run it (MediaTek before MT7986), and behind some the
//! frames carry tags that nobody can read. Both look like protection and are none.

use sluice_abi::counter::Counter;

/// What the shield counted on an interface between two moments.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Seen {
    /// Frames that it saw.
    pub frames: u64,
    /// Frames whose addresses it could read.
    pub classified: u64,
    /// Frames that it passed unseen because the kill switch was off.
    pub inert: u64,
}

impl Seen {
    /// From the counters of an interface.
    pub fn new(mut count: impl FnMut(Counter) -> u64) -> Self {
        let unread =
            count(Counter::XdpNotIp) + count(Counter::XdpTruncated) + count(Counter::XdpMalformed);
        let inert = count(Counter::XdpInert);
        let outcomes =
            Counter::ALL.into_iter().filter(|counter| counter.name().starts_with("xdp_"));
        let frames: u64 = outcomes.map(&mut count).sum();
        let classified = frames.saturating_sub(unread + inert);
        Self { frames, classified, inert }
    }

    const fn since(self, before: Self) -> Self {
        Self {
            frames: self.frames.saturating_sub(before.frames),
            classified: self.classified.saturating_sub(before.classified),
            inert: self.inert.saturating_sub(before.inert),
        }
    }
}

/// The answer.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Verified {
    /// The program sees frames and can read them.
    Verified,
    /// It does not: use the next rung of the ladder, for this reason.
    StepDown(String),
    /// Too little was received to tell: keep watching.
    NoTraffic,
}

/// Frames after which a program that saw none is taken not to run.
const FRAMES_MIN: u64 = 20;
/// Frames after which a program that could read none is taken to be unable to; a quiet network has
/// that many ARP frames in minutes, but not without a single IP packet.
const UNREAD_MIN: u64 = 200;

/// Judges a native attachment by what the device received and what the program saw since some
/// moment before. With several devices behind one interface, `rx` are the sums.
#[must_use]
pub fn verify(rx: (u64, u64), seen: (Seen, Seen)) -> Verified {
    let received = rx.1.saturating_sub(rx.0);
    let seen = seen.1.since(seen.0);
    if seen.classified > 0 {
        return Verified::Verified;
    }
    if seen.frames == 0 && received >= FRAMES_MIN {
        return Verified::StepDown(format!(
            "the driver took the program but does not run it: {received} frames received, none seen"
        ));
    }
    if seen.inert == 0 && seen.frames >= UNREAD_MIN {
        return Verified::StepDown(format!(
            "the frames of this device cannot be read: {} seen, no address found",
            seen.frames
        ));
    }
    Verified::NoTraffic
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn seen(frames: u64, classified: u64, inert: u64) -> Seen {
        Seen { frames, classified, inert }
    }

    #[test]
    fn a_program_that_reads_packets_is_verified() {
        assert_eq!(verify((0, 1), (Seen::default(), seen(1, 1, 0))), Verified::Verified);
        let before = seen(500, 100, 0);
        assert_eq!(verify((500, 600), (before, seen(600, 101, 0))), Verified::Verified);
    }

    #[test]
    fn a_driver_that_never_runs_the_program_is_found_out() {
        let answer = verify((1_000, 1_020), (seen(7, 7, 0), seen(7, 7, 0)));
        let Verified::StepDown(reason) = answer else { panic!("{answer:?}") };
        assert!(reason.contains("20 frames received, none seen"), "{reason}");
    }

    #[test]
    fn frames_that_cannot_be_read_are_found_out() {
        let answer = verify((0, 200), (Seen::default(), seen(200, 0, 0)));
        let Verified::StepDown(reason) = answer else { panic!("{answer:?}") };
        assert!(reason.contains("200 seen, no address found"), "{reason}");
    }

    #[test]
    fn silence_and_the_kill_switch_prove_nothing() {
        for (rx, now) in [(0, seen(0, 0, 0)), (19, seen(0, 0, 0)), (199, seen(199, 0, 0))] {
            assert_eq!(verify((0, rx), (Seen::default(), now)), Verified::NoTraffic, "{rx}");
        }
        let inert = seen(10_000, 0, 10_000);
        assert_eq!(verify((0, 10_000), (Seen::default(), inert)), Verified::NoTraffic);
        // Counters of a device that was made anew start at zero again.
        assert_eq!(verify((9_000, 5), (Seen::default(), Seen::default())), Verified::NoTraffic);
    }

    #[test]
    fn every_outcome_of_the_shield_is_taken_into_account() {
        let seen = Seen::new(|counter| u64::from(counter.name().starts_with("xdp_")));
        let outcomes = Counter::ALL.iter().filter(|counter| counter.name().starts_with("xdp_"));
        let outcomes = outcomes.count() as u64;
        assert_eq!((seen.frames, seen.inert, seen.classified), (outcomes, 1, outcomes - 4));
    }
}

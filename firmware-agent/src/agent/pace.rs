//! How many of something are told when there may be any number.

/// So many in a row, and in a second on average.
pub(super) const MOST: u64 = 20;
/// Time in which there may be one more.
const PAUSE_NS: u64 = 1_000_000_000 / MOST;

/// Counts what is told.
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// Before this time one more is too many.
    from_ns: u64,
}

impl Pace {
    /// Whether one more is not too many; then it counts.
    pub(super) fn take(&mut self, now_ns: u64) -> bool {
        let from_ns = self.from_ns.max(now_ns.saturating_sub(MOST * PAUSE_NS));
        if from_ns > now_ns {
            return false;
        }
        self.from_ns = from_ns + PAUSE_NS;
        true
    }
}

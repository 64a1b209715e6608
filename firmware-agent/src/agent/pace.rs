//! How many of something are told when there may be any number.

/// So many in a row, and in a second on average.
pub(super) const MOST: u64 = 20;

/// Counts what is told.
#[derive(Debug)]
pub(super) struct Pace {
    /// So many in a row.
    most: u64,
    /// Time in which there may be one more.
    pause_ns: u64,
    /// Before this time one more is too many.
    from_ns: u64,
}

impl Default for Pace {
    fn default() -> Self {
        Self::new(MOST, 1_000_000_000 / MOST)
    }
}

impl Pace {
    /// `most` in a row, and one in `pause_ns` on average.
    pub(super) const fn new(most: u64, pause_ns: u64) -> Self {
        Self { most, pause_ns, from_ns: 0 }
    }

    /// Whether one more is not too many; then it counts.
    pub(super) fn take(&mut self, now_ns: u64) -> bool {
        let from_ns = self.from_ns.max(now_ns.saturating_sub(self.most * self.pause_ns));
        if from_ns > now_ns {
            return false;
        }
        self.from_ns = from_ns + self.pause_ns;
        true
    }
}

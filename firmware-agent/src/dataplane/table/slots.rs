//! Places that are given out and come back. Pure.

/// Numbers of a range, each given out once at a time.
#[derive(Debug)]
pub struct Slots {
    free: Vec<u32>,
    fresh: u32,
    bound: u32,
}

impl Slots {
    /// All numbers from `first` on and below `bound` are free.
    #[must_use]
    pub const fn new(first: u32, bound: u32) -> Self {
        Self { free: Vec::new(), fresh: first, bound }
    }

    /// A free number, if there is one.
    pub fn take(&mut self) -> Option<u32> {
        self.free.pop().or_else(|| {
            let slot = self.fresh;
            (slot < self.bound).then(|| {
                self.fresh += 1;
                slot
            })
        })
    }

    /// Gives a number back that was taken.
    pub fn give(&mut self, slot: u32) {
        debug_assert!(slot < self.fresh && !self.free.contains(&slot), "slot {slot} was not taken");
        self.free.push(slot);
    }
}

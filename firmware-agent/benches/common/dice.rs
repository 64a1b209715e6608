//! Numbers and words from a seed.

/// A linear congruential generator: the same rules and payloads in every run.
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) const fn roll(&mut self, sides: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }

    /// A word of lower-case letters, as names and paths are made of, of `least` to seven more.
    pub(crate) fn word(&mut self, least: u64) -> String {
        (0..self.roll(8) + least).map(|_| char::from(b'a' + self.roll(26) as u8)).collect()
    }
}

//! What the agent tells about names from DNS, and of devices.

use serde::{Deserialize, Serialize};

/// What was seen of DNS, and how much of it is known.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Report {
    /// Pairs of a device and an address that have a name.
    pub entries: u64,
    /// How many fit.
    pub capacity: u64,
    /// Questions of devices of the LAN.
    pub questions: u64,
    /// Answers to those.
    pub answers: u64,
    /// Answers that nobody had asked for, or that came a second time.
    pub unasked: u64,
    /// Questions that waited too long.
    pub unanswered: u64,
    /// Messages that could not be read.
    pub malformed: u64,
    /// Packets that found no room on their way to the agent.
    pub lost: u64,
    /// Leases of devices, in which their names are.
    #[serde(default)]
    pub leases: u64,
}

impl Report {
    /// Name and value of each, for people.
    pub fn rows(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let Self { entries, capacity, questions, answers, .. } = *self;
        let Self { unasked, unanswered, malformed, lost, leases, .. } = *self;
        [
            ("addresses with a name", entries),
            ("addresses that fit", capacity),
            ("questions", questions),
            ("answers", answers),
            ("answers to nothing asked", unasked),
            ("questions without an answer", unanswered),
            ("malformed messages", malformed),
            ("packets lost", lost),
            ("leases of devices", leases),
        ]
        .into_iter()
    }
}

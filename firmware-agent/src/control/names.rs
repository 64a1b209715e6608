//! What the agent tells about names from DNS.

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
    /// Packets that found no room in the buffer of a socket.
    pub lost: u64,
}

//! What the agent tells about strangers. Field names are an interface: `--json` prints them.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// Who is over a rate, who is blocked for it, who tries ports.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Ddos {
    /// Destinations that get more than they may.
    pub victims: Vec<Offender>,
    /// Sources that send more than they may.
    pub offenders: Vec<Offender>,
    /// Sources that are blocked for a time.
    pub blocked: Vec<Blocked>,
    /// Blocks that were not made because there were too many.
    pub blocks_refused: u64,
    /// Sources that try ports.
    pub scanners: Vec<Scanner>,
    /// Ends that completed a handshake lately.
    pub known: u64,
    /// Destinations under attack by SYN packets.
    pub attacked: Vec<Attacked>,
}

/// A destination under attack by SYN packets.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Attacked {
    /// The destination.
    pub address: IpAddr,
    /// Ports of this router whose strangers are answered with cookies; strangers at all others are
    /// held to a rate.
    pub cookie_ports: Vec<u16>,
    /// Handshakes that wait.
    pub half_open: u32,
    /// SYN packets of strangers since it began.
    pub syns: u64,
    /// Seconds since it began.
    pub since_s_ago: u64,
}

/// An address over a rate.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Offender {
    /// The source, or the destination.
    pub address: IpAddr,
    /// Which rate, by the name of the drop reason.
    pub reason: String,
    /// Packets dropped, as far as they were noted for this address: less than there were when many
    /// addresses are over a rate.
    pub packets: u64,
    /// Seconds since the first one.
    pub since_s_ago: u64,
    /// Seconds since the last one.
    pub last_s_ago: u64,
}

/// A source that is blocked for a time.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Blocked {
    /// Address or prefix.
    pub entry: String,
    /// The rate that it was over.
    pub reason: String,
    /// Seconds that are left.
    pub left_s: u64,
}

/// A source that tries ports.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Scanner {
    /// The source.
    pub address: IpAddr,
    /// Ports that it tried, as many as are kept.
    pub ports: Vec<u16>,
    /// Notices in the log.
    pub notices: u32,
    /// Seconds since it was seen to go on.
    pub last_s_ago: u64,
}

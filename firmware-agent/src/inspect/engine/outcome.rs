//! What the engine answers.

use sluice_abi::flow::{Direction, FlowKey};
use sluice_abi::verdict::{Reason, Verdict};

use super::message::{Hello, News};
use crate::inspect::protocol::Seen;
use crate::inspect::tls::Malformed;
use crate::inspect::{http, http2, quic};
use crate::policy::{Ends, Entry, Match};
use crate::signature::Alert;

/// The answer to one packet.
#[derive(Debug)]
#[must_use = "the packet still needs its verdict"]
pub struct Step {
    /// The flow of the packet and which way it travels.
    pub flow: Option<(FlowKey, Direction)>,
    /// What to do.
    pub outcome: Outcome,
    /// What this packet completed.
    pub news: Option<News>,
    /// The ClientHello of an earlier packet that the outcome had to wait with.
    pub earlier: Option<Box<Hello>>,
    /// Which way the first packet of the connection travelled, as far as is known.
    pub original: Option<Direction>,
    /// Whether the outcome was reached by an earlier packet: nothing new to report.
    pub is_repeated: bool,
    /// The ends of a flow that is inspected.
    pub ends: Option<Ends>,
    /// What rulesets say about the packet.
    pub alerts: Vec<Alert>,
    /// Packets and bytes of a flow whose inspection this packet ended, by direction; bytes are counted
    /// from the IP header on. Zeroes otherwise.
    pub inspected: [[u32; 2]; 2],
}

impl From<Outcome> for Step {
    /// A new outcome about a flow that is not named.
    fn from(outcome: Outcome) -> Self {
        let original = match outcome {
            Outcome::Decided(decision) => Some(decision.original),
            _ => None,
        };
        Self {
            flow: None,
            outcome,
            news: None,
            earlier: None,
            original,
            is_repeated: false,
            ends: None,
            alerts: Vec::new(),
            inspected: [[0; 2]; 2],
        }
    }
}

impl Step {
    /// The ClientHello that this packet completed.
    #[must_use]
    pub fn hello(&self) -> Option<&Hello> {
        match &self.news {
            Some(News::Hello(hello)) => Some(hello),
            _ => None,
        }
    }
}

/// What to do with a packet and its flow.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Outcome {
    /// No flow that is inspected: a fragment, another protocol, no IP.
    NotAFlow,
    /// Let it pass and look at the next.
    Inspect,
    /// The flow is decided.
    Decided(Decision),
    /// The flow cannot be decided: handled by the error policy, never trusted.
    Undecided(Cause),
}

impl Outcome {
    /// Whether the flow is blocked.
    #[must_use]
    pub const fn is_blocked(self) -> bool {
        matches!(self, Self::Decided(decision) if matches!(decision.verdict, Verdict::Blocked))
    }
}

/// A decision about a flow.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Decision {
    /// Trusted or blocked.
    pub verdict: Verdict,
    /// Why.
    pub reason: Reason,
    /// Number of the rule that said so.
    pub rule: Option<u32>,
    /// Which way the first packet of the connection travelled.
    pub original: Direction,
    /// Packets of the flow that were inspected, both directions.
    pub packets: u32,
    /// Number of the domain list that said so.
    pub list: Option<u32>,
    /// What the flow speaks, as far as is known.
    pub protocol: Option<Seen>,
    /// The entry of the rule that fits.
    pub entry: Option<Entry>,
    /// The rule that would have blocked if it did more than observe.
    pub observed: Option<Match>,
    /// Number of the domain list that would have blocked if it did more than observe.
    pub watched: Option<u32>,
}

/// Why a flow cannot be decided. Append only: indices and names are in statistics.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Cause {
    /// It started as a ClientHello and went wrong.
    MalformedTls(Malformed),
    /// The server name is no host name.
    MalformedName,
    /// The queue's copy of a packet was cut, and the bytes are needed.
    Truncated,
    /// Bytes of the stream came twice with different values.
    Conflict,
    /// More pieces out of order than are kept.
    Pieces,
    /// The window ended inside a ClientHello or before a gap was filled.
    WindowMidHello,
    /// A ClientHello was not finished in time.
    Timeout,
    /// Its state had to make place for others.
    Memory,
    /// Data went on after the connection was closed.
    AfterClose,
    /// An Initial packet of QUIC was authentic and wrong.
    MalformedQuic(quic::Malformed),
    /// A version of QUIC whose first packets cannot be read.
    QuicVersion,
    /// First packets of QUIC, none of which could be authenticated.
    QuicUnreadable,
    /// It started as a request of HTTP and went wrong.
    MalformedHttp(http::Malformed),
    /// It started as HTTP/2 and went wrong.
    MalformedHttp2(http2::Malformed),
}

impl Cause {
    /// How many kinds there are.
    pub const COUNT: usize = 14;

    /// Names of the counters, in the order of [`Cause::index`].
    pub const COUNTERS: [&'static str; Self::COUNT] = [
        "undecided_malformed_tls",
        "undecided_malformed_name",
        "undecided_truncated_copy",
        "undecided_conflict",
        "undecided_pieces",
        "undecided_window_mid_hello",
        "undecided_timeout",
        "undecided_memory",
        "undecided_after_close",
        "undecided_malformed_quic",
        "undecided_quic_version",
        "undecided_quic_unreadable",
        "undecided_malformed_http",
        "undecided_malformed_http2",
    ];

    /// Its place in statistics.
    #[must_use]
    pub const fn index(self) -> usize {
        match self {
            Self::MalformedTls(_) => 0,
            Self::MalformedName => 1,
            Self::Truncated => 2,
            Self::Conflict => 3,
            Self::Pieces => 4,
            Self::WindowMidHello => 5,
            Self::Timeout => 6,
            Self::Memory => 7,
            Self::AfterClose => 8,
            Self::MalformedQuic(_) => 9,
            Self::QuicVersion => 10,
            Self::QuicUnreadable => 11,
            Self::MalformedHttp(_) => 12,
            Self::MalformedHttp2(_) => 13,
        }
    }

    /// The word used in status, logs and events.
    #[must_use]
    pub const fn name(self) -> &'static str {
        Self::COUNTERS[self.index()].split_at("undecided_".len()).1
    }

    /// What exactly was malformed.
    #[must_use]
    pub const fn detail(self) -> Option<&'static str> {
        match self {
            Self::MalformedTls(malformed) => Some(malformed.name()),
            Self::MalformedQuic(malformed) => Some(malformed.name()),
            Self::MalformedHttp(malformed) => Some(malformed.name()),
            Self::MalformedHttp2(malformed) => Some(malformed.name()),
            _ => None,
        }
    }
}

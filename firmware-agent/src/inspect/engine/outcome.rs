//! What the engine answers.

use std::net::IpAddr;

use sluice_abi::flow::{Direction, FlowKey};
use sluice_abi::verdict::{Reason, Verdict};

use crate::inspect::ja::{self, Ja3, Ja3s, Ja4, Transport};
use crate::inspect::protocol::{Protocol, Seen};
use crate::inspect::tls::{
    Certificate, CertificateHash, ClientHello, Malformed, NAME_MAX, ServerHello, Sni,
};
use crate::inspect::{http, quic};
use crate::policy::{Ends, Entry, Match};
use crate::signature::Alert;

/// Longest JA3 text that is kept; its length is the choice of the client.
pub const JA3_STRING_MAX: usize = 4096;
/// Most application protocols that are kept of one ClientHello.
pub const ALPN_MAX: usize = 16;

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
    /// Which way the first packet of the connection travelled, as far as is known.
    pub original: Option<Direction>,
    /// Whether the outcome was reached by an earlier packet: nothing new to report.
    pub is_repeated: bool,
    /// The ends of a flow that is inspected.
    pub ends: Option<Ends>,
    /// What rulesets say about the packet.
    pub alerts: Vec<Alert>,
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
            original,
            is_repeated: false,
            ends: None,
            alerts: Vec::new(),
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

/// A message that tells something about its flow.
#[derive(Clone, Debug)]
pub enum News {
    /// A ClientHello.
    Hello(Box<Hello>),
    /// A request of plain HTTP.
    Request(Box<Request>),
    /// What a TLS server answered.
    Answer(Box<Answer>),
}

impl News {
    /// What a flow with this message speaks.
    #[must_use]
    pub const fn protocol(&self) -> Protocol {
        match self {
            Self::Hello(hello) if hello.quic.is_some() => Protocol::Quic,
            Self::Hello(_) | Self::Answer(_) => Protocol::Tls,
            Self::Request(_) => Protocol::Http,
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
}

impl Cause {
    /// How many kinds there are.
    pub const COUNT: usize = 13;

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
            _ => None,
        }
    }
}

/// What a ClientHello said; owned and bounded.
#[derive(Clone, Debug)]
pub struct Hello {
    /// The flow.
    pub key: FlowKey,
    /// Which way the ClientHello travelled: its source is the client.
    pub direction: Direction,
    /// What carried it.
    pub transport: Transport,
    /// The server name, in lower case.
    pub sni: Option<Box<str>>,
    /// Whether there was a server name that is no host name.
    pub is_sni_malformed: bool,
    /// Whether the server name may be an outer one, with another ClientHello hidden behind it.
    pub has_ech: bool,
    /// The first [`ALPN_MAX`] application protocols; bytes that are not printable ASCII, quotes and
    /// backslashes are escaped as in Rust.
    pub alpn: Vec<Box<str>>,
    /// JA3.
    pub ja3: Ja3,
    /// The text that JA3 is the hash of, unless it is longer than [`JA3_STRING_MAX`].
    pub ja3_string: Option<Box<str>>,
    /// JA4.
    pub ja4: Ja4,
    /// The highest version offered, as on the wire.
    pub version: u16,
    /// Length of the message without its header.
    pub len: u32,
    /// The connection, when QUIC carried it.
    pub quic: Option<quic::Connection>,
}

impl Hello {
    /// The owned form of `hello`.
    #[must_use]
    pub fn new(
        hello: &ClientHello<'_>,
        key: FlowKey,
        direction: Direction,
        transport: Transport,
    ) -> Self {
        let sni = match hello.sni {
            Sni::Name(name) => Some(name.to_lower(&mut [0; NAME_MAX]).into()),
            Sni::Absent | Sni::Malformed => None,
        };
        let escape = |name: &[u8]| name.escape_ascii().to_string().into_boxed_str();
        Self {
            key,
            direction,
            transport,
            sni,
            is_sni_malformed: hello.sni == Sni::Malformed,
            has_ech: hello.has_ech,
            alpn: hello.alpn.iter().take(ALPN_MAX).map(escape).collect(),
            ja3: Ja3::new(hello),
            ja3_string: ja::ja3_string(hello, JA3_STRING_MAX),
            ja4: Ja4::new(hello, transport),
            version: hello.version(),
            len: hello.len as u32,
            quic: None,
        }
    }

    /// Address and port of the client.
    #[must_use]
    pub fn source(&self) -> (IpAddr, u16) {
        let (addr, port) = self.key.source(self.direction);
        (addr.into(), port)
    }

    /// Address and port of the server.
    #[must_use]
    pub fn destination(&self) -> (IpAddr, u16) {
        let (addr, port) = self.key.destination(self.direction);
        (addr.into(), port)
    }
}

/// Most bytes of a target and of a user agent that are kept, before they are escaped.
pub const TEXT_MAX: usize = 1024;

/// What a request of plain HTTP said; owned and bounded. Bytes that are not printable ASCII, quotes
/// and backslashes are escaped as in Rust.
#[derive(Clone, Debug)]
pub struct Request {
    /// The flow.
    pub key: FlowKey,
    /// Which way the request travelled: its source is the client.
    pub direction: Direction,
    /// Method.
    pub method: Box<str>,
    /// The host that it names, in lower case, or the address.
    pub host: Option<Box<str>>,
    /// The first [`TEXT_MAX`] bytes of its target.
    pub target: Box<str>,
    /// The first [`TEXT_MAX`] bytes of the user agent.
    pub user_agent: Option<Box<str>>,
    /// Minor version.
    pub minor: u8,
}

impl Request {
    /// The owned form of `request`.
    #[must_use]
    pub fn new(request: &http::Request<'_>, key: FlowKey, direction: Direction) -> Self {
        let escape = |text: &[u8]| {
            let kept = &text[..text.len().min(TEXT_MAX)];
            kept.escape_ascii().to_string().into_boxed_str()
        };
        Self {
            key,
            direction,
            method: request.method.into(),
            host: match request.host {
                http::Host::Absent => None,
                http::Host::Name(name) => Some(name.to_lower(&mut [0; NAME_MAX]).into()),
                http::Host::Address(address) => Some(address.to_string().into()),
            },
            target: escape(request.target),
            user_agent: request.user_agent.map(escape),
            minor: request.minor,
        }
    }
}

/// What a TLS server answered.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Answer {
    /// The flow.
    pub key: FlowKey,
    /// Which way the answer travelled: its source is the server.
    pub direction: Direction,
    /// The version that is spoken, as on the wire.
    pub version: u16,
    /// Cipher suite.
    pub cipher: u16,
    /// JA3S.
    pub ja3s: Ja3s,
    /// SHA-1 of the server's certificate, where it came in the clear.
    pub certificate: Option<CertificateHash>,
}

impl Answer {
    pub(super) fn new(
        hello: &ServerHello,
        certificate: Certificate,
        key: FlowKey,
        direction: Direction,
    ) -> Self {
        Self {
            key,
            direction,
            version: hello.version,
            cipher: hello.cipher,
            ja3s: Ja3s::new(hello),
            certificate: match certificate {
                Certificate::Sha1(hash) => Some(hash),
                Certificate::NeedMore | Certificate::None => None,
            },
        }
    }
}

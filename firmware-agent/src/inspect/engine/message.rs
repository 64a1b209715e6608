//! Messages that tell something about their flow; owned and bounded.

use std::net::IpAddr;

use sluice_abi::flow::{Direction, FlowKey};

use crate::inspect::ja::{Ja3, Ja3s, Ja4, Transport};
use crate::inspect::protocol::Protocol;
use crate::inspect::tls::{Certificate, CertificateHash, ClientHello, NAME_MAX, ServerHello, Sni};
use crate::inspect::{http, http2, quic};

/// Longest JA3 text that is kept; its length is the choice of the client.
pub const JA3_STRING_MAX: usize = 4096;
/// Most application protocols that are kept of one ClientHello.
pub const ALPN_MAX: usize = 16;

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
            Self::Request(request) => request.protocol(),
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
        let (ja3, ja3_string) = Ja3::with_text(hello, JA3_STRING_MAX);
        let escape = |name: &[u8]| name.escape_ascii().to_string().into_boxed_str();
        Self {
            key,
            direction,
            transport,
            sni,
            is_sni_malformed: hello.sni == Sni::Malformed,
            has_ech: hello.has_ech,
            alpn: hello.alpn.iter().take(ALPN_MAX).map(escape).collect(),
            ja3,
            ja3_string,
            ja4: Ja4::new(hello, transport),
            version: hello.version(),
            len: hello.len as u32,
            quic: None,
        }
    }

    /// Bytes of its texts, with what it takes to keep them.
    pub(super) fn text_len(&self) -> usize {
        let names = self.alpn.iter().map(|name| name.len() + size_of::<Box<str>>());
        let texts = [&self.sni, &self.ja3_string].into_iter().flatten().map(|text| text.len());
        names.chain(texts).sum()
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

fn kept(text: &[u8]) -> Box<str> {
    text[..text.len().min(TEXT_MAX)].escape_ascii().to_string().into()
}

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
    /// Major version: 1 or 2.
    pub major: u8,
    /// Minor version.
    pub minor: u8,
}

impl Request {
    /// The owned form of `request`.
    #[must_use]
    pub fn new(request: &http::Request<'_>, key: FlowKey, direction: Direction) -> Self {
        Self {
            key,
            direction,
            method: request.method.into(),
            host: match request.host {
                http::Host::Absent => None,
                http::Host::Name(name) => Some(name.to_lower(&mut [0; NAME_MAX]).into()),
                http::Host::Address(address) => Some(address.to_string().into()),
            },
            target: kept(request.target),
            user_agent: request.user_agent.map(kept),
            major: 1,
            minor: request.minor,
        }
    }

    /// The same of HTTP/2.
    pub(super) fn of_http2(request: &http2::Request, key: FlowKey, direction: Direction) -> Self {
        Self {
            key,
            direction,
            method: kept(request.method.as_bytes()),
            host: request.host.as_deref().map(Into::into),
            target: kept(&request.target),
            user_agent: request.user_agent.as_deref().map(kept),
            major: 2,
            minor: 0,
        }
    }

    /// What a flow with such requests speaks.
    #[must_use]
    pub const fn protocol(&self) -> Protocol {
        if self.major == 2 { Protocol::Http2 } else { Protocol::Http }
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

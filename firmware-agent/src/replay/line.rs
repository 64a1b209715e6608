//! The lines that are written.

use std::io::Write;
use std::net::IpAddr;

use serde::Serialize;
use sluice_abi::flow::{Direction, FlowKey};
use sluice_datapath::parse::TCP;

use super::ReplayError;
use crate::inspect::engine::{Answer, Hello, Outcome, Request};
use crate::inspect::quic::Connection;
use crate::inspect::tls::version_name;

/// A ClientHello.
#[derive(Serialize)]
pub(super) struct TlsLine<'a> {
    r#type: &'static str,
    time: Option<f64>,
    src: IpAddr,
    sport: u16,
    dst: IpAddr,
    dport: u16,
    transport: &'static str,
    sni: Option<&'a str>,
    sni_malformed: bool,
    alpn: &'a [Box<str>],
    version: Option<&'static str>,
    ja3: String,
    ja3_string: Option<&'a str>,
    ja4: &'a str,
}

impl<'a> TlsLine<'a> {
    pub(super) fn new(time: Option<f64>, hello: &'a Hello) -> Self {
        let ((src, sport), (dst, dport)) = (hello.source(), hello.destination());
        Self {
            r#type: "tls",
            time,
            src,
            sport,
            dst,
            dport,
            transport: hello.transport.name(),
            sni: hello.sni.as_deref(),
            sni_malformed: hello.is_sni_malformed,
            alpn: &hello.alpn,
            version: version_name(hello.version),
            ja3: hello.ja3.to_string(),
            ja3_string: hello.ja3_string.as_deref(),
            ja4: hello.ja4.as_str(),
        }
    }
}

/// A connection of QUIC whose ClientHello was read.
#[derive(Serialize)]
pub(super) struct QuicLine<'a> {
    r#type: &'static str,
    time: Option<f64>,
    src: IpAddr,
    sport: u16,
    dst: IpAddr,
    dport: u16,
    version: &'static str,
    dcid: String,
    scid: String,
    retry: bool,
    token: bool,
    sni: Option<&'a str>,
    alpn: &'a [Box<str>],
    ja4: &'a str,
}

impl<'a> QuicLine<'a> {
    pub(super) fn new(time: Option<f64>, hello: &'a Hello, connection: &Connection) -> Self {
        let ((src, sport), (dst, dport)) = (hello.source(), hello.destination());
        Self {
            r#type: "quic",
            time,
            src,
            sport,
            dst,
            dport,
            version: connection.version.name(),
            dcid: connection.destination_id.to_string(),
            scid: connection.source_id.to_string(),
            retry: connection.is_retried,
            token: connection.has_token,
            sni: hello.sni.as_deref(),
            alpn: &hello.alpn,
            ja4: hello.ja4.as_str(),
        }
    }
}

/// What a TLS server answered. Source and destination are those of the connection.
#[derive(Serialize)]
pub(super) struct AnswerLine {
    r#type: &'static str,
    time: Option<f64>,
    src: IpAddr,
    sport: u16,
    dst: IpAddr,
    dport: u16,
    version: Option<&'static str>,
    cipher: u16,
    ja3s: String,
    certificate_sha1: Option<String>,
}

impl AnswerLine {
    pub(super) fn new(time: Option<f64>, answer: &Answer) -> Self {
        let (src, sport) = answer.key.destination(answer.direction);
        let (dst, dport) = answer.key.source(answer.direction);
        Self {
            r#type: "tls_answer",
            time,
            src: src.into(),
            sport,
            dst: dst.into(),
            dport,
            version: version_name(answer.version),
            cipher: answer.cipher,
            ja3s: answer.ja3s.to_string(),
            certificate_sha1: answer.certificate.map(|hash| hash.to_string()),
        }
    }
}

/// A request of plain HTTP.
#[derive(Serialize)]
pub(super) struct HttpLine<'a> {
    r#type: &'static str,
    time: Option<f64>,
    src: IpAddr,
    sport: u16,
    dst: IpAddr,
    dport: u16,
    method: &'a str,
    host: Option<&'a str>,
    target: &'a str,
    user_agent: Option<&'a str>,
    version: String,
}

impl<'a> HttpLine<'a> {
    pub(super) fn new(time: Option<f64>, request: &'a Request) -> Self {
        let (src, sport) = request.key.source(request.direction);
        let (dst, dport) = request.key.destination(request.direction);
        Self {
            r#type: "http",
            time,
            src: src.into(),
            sport,
            dst: dst.into(),
            dport,
            method: &request.method,
            host: request.host.as_deref(),
            target: &request.target,
            user_agent: request.user_agent.as_deref(),
            version: format!("1.{}", request.minor),
        }
    }
}

/// The outcome of a flow. Source and destination are those of its first packet.
#[derive(Serialize)]
pub(super) struct VerdictLine {
    r#type: &'static str,
    time: Option<f64>,
    src: IpAddr,
    sport: u16,
    dst: IpAddr,
    dport: u16,
    transport: &'static str,
    verdict: &'static str,
    reason: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rule: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    packets: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    protocol: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    confidence: Option<&'static str>,
}

impl VerdictLine {
    pub(super) fn new(
        time: Option<f64>,
        key: &FlowKey,
        original: Direction,
        outcome: Outcome,
    ) -> Self {
        let ((src, sport), (dst, dport)) = (key.source(original), key.destination(original));
        let (verdict, reason, detail, rule, packets) = match outcome {
            Outcome::Decided(decision) => (
                decision.verdict.name(),
                decision.reason.name(),
                None,
                decision.rule,
                Some(decision.packets),
            ),
            Outcome::Undecided(cause) => ("undecided", cause.name(), cause.detail(), None, None),
            Outcome::NotAFlow | Outcome::Inspect => ("inspect", "inspect", None, None, None),
        };
        let protocol = match outcome {
            Outcome::Decided(decision) => decision.protocol,
            _ => None,
        };
        Self {
            r#type: "verdict",
            time,
            src: src.into(),
            sport,
            dst: dst.into(),
            dport,
            transport: if key.proto() == TCP { "tcp" } else { "udp" },
            verdict,
            reason,
            detail,
            rule,
            packets,
            protocol: protocol.map(|(protocol, _)| protocol.name()),
            confidence: protocol.map(|(_, confidence)| confidence.name()),
        }
    }
}

/// Seconds with microseconds: as much as the number keeps exactly for dates of this century.
pub(super) fn seconds((seconds, nanoseconds): (u64, u32)) -> f64 {
    seconds as f64 + f64::from(nanoseconds / 1000) / 1e6
}

/// Writes one object and a newline; the writer of JSON escapes what a line or a reader would obey.
pub(super) fn write(
    out: &mut (impl Write + ?Sized),
    line: &impl Serialize,
) -> Result<(), ReplayError> {
    let mut text = serde_json::to_vec(line).map_err(|error| ReplayError::Write(error.into()))?;
    text.push(b'\n');
    out.write_all(&text).map_err(ReplayError::Write)
}

//! The lines that are written.

use std::io::Write;
use std::net::IpAddr;

use serde::Serialize;
use sluice_abi::flow::{Direction, FlowKey};

use super::ReplayError;
use crate::inspect::engine::{Answer, Hello, Outcome, Request};
use crate::inspect::quic::Connection;
use crate::inspect::tls::version_name;
use crate::signature::Alert;
use crate::text::transport;

/// An object: what every one has, then what it is about.
#[derive(Serialize)]
pub(super) struct Line<B> {
    r#type: &'static str,
    time: Option<f64>,
    src: IpAddr,
    sport: u16,
    dst: IpAddr,
    dport: u16,
    #[serde(flatten)]
    body: B,
}

impl<B: Serialize> Line<B> {
    /// A line about the flow `key`, from the end whose packets travel in `direction`.
    pub(super) fn new(
        kind: &'static str,
        time: Option<f64>,
        key: &FlowKey,
        direction: Direction,
        body: B,
    ) -> Self {
        let ((src, sport), (dst, dport)) = (key.source(direction), key.destination(direction));
        Self { r#type: kind, time, src: src.into(), sport, dst: dst.into(), dport, body }
    }
}

#[derive(Serialize)]
struct Tls<'a> {
    transport: &'static str,
    sni: Option<&'a str>,
    sni_malformed: bool,
    ech: bool,
    alpn: &'a [Box<str>],
    version: Option<&'static str>,
    ja3: String,
    ja3_string: Option<&'a str>,
    ja4: &'a str,
}

/// A ClientHello.
pub(super) fn tls(time: Option<f64>, hello: &Hello) -> Line<impl Serialize> {
    let body = Tls {
        transport: hello.transport.name(),
        sni: hello.sni.as_deref(),
        sni_malformed: hello.is_sni_malformed,
        ech: hello.has_ech,
        alpn: &hello.alpn,
        version: version_name(hello.version),
        ja3: hello.ja3.to_string(),
        ja3_string: hello.ja3_string.as_deref(),
        ja4: hello.ja4.as_str(),
    };
    Line::new("tls", time, &hello.key, hello.direction, body)
}

#[derive(Serialize)]
struct Quic<'a> {
    version: &'static str,
    dcid: String,
    scid: String,
    retry: bool,
    token: bool,
    sni: Option<&'a str>,
    alpn: &'a [Box<str>],
    ja4: &'a str,
}

/// A connection of QUIC whose ClientHello was read.
pub(super) fn quic(
    time: Option<f64>,
    hello: &Hello,
    connection: &Connection,
) -> Line<impl Serialize> {
    let body = Quic {
        version: connection.version.name(),
        dcid: connection.destination_id.to_string(),
        scid: connection.source_id.to_string(),
        retry: connection.is_retried,
        token: connection.has_token,
        sni: hello.sni.as_deref(),
        alpn: &hello.alpn,
        ja4: hello.ja4.as_str(),
    };
    Line::new("quic", time, &hello.key, hello.direction, body)
}

#[derive(Serialize)]
struct TlsAnswer {
    version: Option<&'static str>,
    cipher: u16,
    ja3s: String,
    certificate_sha1: Option<String>,
}

/// What a TLS server answered. Source and destination are those of the connection.
pub(super) fn tls_answer(time: Option<f64>, answer: &Answer) -> Line<impl Serialize> {
    let body = TlsAnswer {
        version: version_name(answer.version),
        cipher: answer.cipher,
        ja3s: answer.ja3s.to_string(),
        certificate_sha1: answer.certificate.map(|hash| hash.to_string()),
    };
    Line::new("tls_answer", time, &answer.key, answer.direction.reversed(), body)
}

#[derive(Serialize)]
struct Http<'a> {
    method: &'a str,
    host: Option<&'a str>,
    target: &'a str,
    user_agent: Option<&'a str>,
    version: String,
}

/// A request of plain HTTP.
pub(super) fn http(time: Option<f64>, request: &Request) -> Line<impl Serialize> {
    let body = Http {
        method: &request.method,
        host: request.host.as_deref(),
        target: &request.target,
        user_agent: request.user_agent.as_deref(),
        version: format!("1.{}", request.minor),
    };
    Line::new("http", time, &request.key, request.direction, body)
}

#[derive(Serialize)]
struct Alerted<'a> {
    ruleset: &'a str,
    gid: u32,
    sid: u32,
    rev: u32,
    action: &'static str,
    msg: &'a str,
}

/// A rule that matched. Source and destination are those of the packet.
pub(super) fn alert(
    time: Option<f64>,
    key: &FlowKey,
    direction: Direction,
    alert: &Alert,
) -> Line<impl Serialize> {
    let body = Alerted {
        ruleset: &alert.ruleset,
        gid: alert.gid,
        sid: alert.sid,
        rev: alert.rev,
        action: alert.action.name(),
        msg: &alert.msg,
    };
    Line::new("alert", time, key, direction, body)
}

#[derive(Serialize)]
struct Concluded {
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

/// The outcome of a flow. Source and destination are those of its first packet.
pub(super) fn verdict(
    time: Option<f64>,
    key: &FlowKey,
    original: Direction,
    outcome: Outcome,
) -> Line<impl Serialize> {
    let transport = transport(key.proto());
    let nothing = Concluded {
        transport,
        verdict: "inspect",
        reason: "inspect",
        detail: None,
        rule: None,
        packets: None,
        protocol: None,
        confidence: None,
    };
    let body = match outcome {
        Outcome::Decided(decision) => Concluded {
            verdict: decision.verdict.name(),
            reason: decision.reason.name(),
            rule: decision.rule,
            packets: Some(decision.packets),
            protocol: decision.protocol.map(|(protocol, _)| protocol.name()),
            confidence: decision.protocol.map(|(_, confidence)| confidence.name()),
            ..nothing
        },
        Outcome::Undecided(cause) => Concluded {
            verdict: "undecided",
            reason: cause.name(),
            detail: cause.detail(),
            ..nothing
        },
        Outcome::NotAFlow | Outcome::Inspect => nothing,
    };
    Line::new("verdict", time, key, original, body)
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

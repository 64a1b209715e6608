//! Lines about DNS messages.

use std::fmt::Write as _;

use serde::Serialize;

use super::line::Line;
use crate::inspect::dns::{Data, Found, Malformed, Message, Record, Service, kind, rcode_name};
use crate::text::transport;

#[derive(Serialize)]
struct Dns {
    transport: &'static str,
    id: Option<u16>,
    response: Option<bool>,
    name: Option<String>,
    query: Option<String>,
    rcode: Option<String>,
    truncated: bool,
    answers: Vec<Answer>,
    malformed: Option<&'static str>,
}

#[derive(Serialize)]
struct Answer {
    name: String,
    r#type: String,
    ttl: u32,
    data: Option<String>,
}

/// A message, or what was found in its place. Source and destination are its own.
pub(super) fn message(time: Option<f64>, found: &Found<'_>) -> Line<impl Serialize> {
    let message = found.message.ok();
    let response = message.filter(Message::is_response);
    let question = message.and_then(|message| message.question());
    let body = Dns {
        transport: transport(found.key.proto()),
        id: message.map(|message| message.id()),
        response: message.map(|message| message.is_response()),
        name: question.map(|question| question.name.to_string()),
        query: question.map(|question| kind_name(question.kind)),
        rcode: response.map(|message| {
            let rcode = message.rcode();
            rcode_name(rcode).map_or_else(|| format!("RCODE{rcode}"), str::to_owned)
        }),
        truncated: message.is_some_and(|message| message.is_truncated()),
        answers: message.iter().flat_map(Message::answers).map(answer).collect(),
        malformed: found.message.err().map(Malformed::name),
    };
    Line::new("dns", time, &found.key, found.direction, body)
}

/// The word for a type; those without one as in RFC 3597.
fn kind_name(number: u16) -> String {
    kind::name(number).map_or_else(|| format!("TYPE{number}"), str::to_owned)
}

fn answer(record: Record<'_>) -> Answer {
    let data = match record.data {
        Data::A(address) => Some(address.to_string()),
        Data::Aaaa(address) => Some(address.to_string()),
        Data::Cname(name) | Data::Ptr(name) => Some(name.to_string()),
        Data::Service(service) => Some(parameters(&service)),
        Data::Other => None,
    };
    Answer { name: record.name.to_string(), r#type: kind_name(record.kind), ttl: record.ttl, data }
}

/// Priority, target and the parameters that are read, close to how zone files have them (RFC 9460,
/// section 2.1).
fn parameters(service: &Service<'_>) -> String {
    let mut text = format!("{} {}", service.priority, service.target);
    let list = |words: Vec<String>| words.join(",");
    let alpn = list(service.alpn().map(|name| name.escape_ascii().to_string()).collect());
    let hints: Vec<_> = service.hints().collect();
    let of = |is_v4: bool| {
        list(hints.iter().filter(|a| a.is_ipv4() == is_v4).map(ToString::to_string).collect())
    };
    for (key, value) in [("alpn", alpn), ("ipv4hint", of(true)), ("ipv6hint", of(false))] {
        if !value.is_empty() {
            let _ = write!(text, " {key}={value}");
        }
    }
    if service.has_ech {
        text.push_str(" ech");
    }
    text
}

//! Lines about DHCP messages.

use std::net::Ipv4Addr;

use serde::Serialize;
use sluice_abi::flow::{Direction, FlowKey};
use sluice_datapath::parse::Headers;

use super::line::Line;
use crate::config::Mac;
use crate::inspect::dhcp::{CLIENT, Malformed, Message, SERVER, kind_name};

const UDP: u8 = 17;

#[derive(Serialize)]
struct Dhcp {
    message: Option<String>,
    reply: Option<bool>,
    id: Option<u32>,
    mac: Option<String>,
    client: Option<Ipv4Addr>,
    yours: Option<Ipv4Addr>,
    requested: Option<Ipv4Addr>,
    relay: Option<Ipv4Addr>,
    server: Option<Ipv4Addr>,
    lease_s: Option<u32>,
    name: Option<String>,
    vendor: Option<String>,
    parameters: Vec<u8>,
    routers: Vec<Ipv4Addr>,
    name_servers: Vec<Ipv4Addr>,
    malformed: Option<&'static str>,
}

/// What a datagram between the ports of DHCP for IPv4 carries.
pub(super) fn payload<'a>(l3: &'a [u8], headers: &Headers) -> Option<&'a [u8]> {
    let is_port = |port: u16| matches!(u16::from_be(port), SERVER | CLIENT);
    let is_one = headers.proto == UDP
        && headers.src.is_v4()
        && headers.flow().is_some()
        && is_port(headers.sport)
        && is_port(headers.dport);
    l3.get(headers.payload..).filter(|_| is_one)
}

/// A message, or what was found in its place. Source and destination are its own.
pub(super) fn message(
    time: Option<f64>,
    key: &FlowKey,
    direction: Direction,
    bytes: &[u8],
) -> Line<impl Serialize> {
    let read = Message::parse(bytes);
    let message = read.as_ref().ok();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let body = Dhcp {
        message: message
            .and_then(Message::kind)
            .map(|kind| kind_name(kind).map_or_else(|| format!("TYPE{kind}"), str::to_owned)),
        reply: message.map(Message::is_reply),
        id: message.map(Message::id),
        mac: message.and_then(Message::mac).map(|mac| Mac(mac).to_string()),
        client: message.and_then(Message::client),
        yours: message.and_then(Message::yours),
        requested: message.and_then(Message::requested),
        relay: message.and_then(Message::relay),
        server: message.and_then(Message::server),
        lease_s: message.and_then(Message::lease_s),
        name: message.and_then(Message::host_name).map(text),
        vendor: message.and_then(Message::vendor).map(text),
        parameters: message.map(Message::parameters).unwrap_or_default().to_vec(),
        routers: message.into_iter().flat_map(Message::routers).collect(),
        name_servers: message.into_iter().flat_map(Message::name_servers).collect(),
        malformed: read.as_ref().err().copied().map(Malformed::name),
    };
    Line::new("dhcp", time, key, direction, body)
}

//! Packets of flows under inspection against rulesets.
//!
//! Owns what a ruleset is told about a packet: its payload, the start of its stream in order, and
//! what a message named, each with the packet that completed it.

use std::net::IpAddr;

use sluice_abi::flow::{Direction, FlowKey};
use sluice_abi::verdict::Reason;
use sluice_datapath::parse::{ACK, SYN, TCP};

use super::flow::Flow;
use super::message::{Hello, News};
use super::outcome::Outcome;
use super::segment::Segment;
use crate::inspect::protocol::{Confidence, Protocol};
use crate::inspect::{dns, http};
use crate::signature::{Alert, App, Buffer, Facts, Ruleset, Transport};

/// Bytes of a direction that are put in order for rulesets alone: where no message is looked for any
/// more.
pub(super) const STREAM_MAX: u32 = 4096;

/// Rulesets in force; never empty.
#[derive(Debug)]
pub struct Watch(Box<[Ruleset]>);

/// A packet that the flow has taken.
pub(super) struct Taken<'a> {
    pub(super) key: &'a FlowKey,
    pub(super) direction: Direction,
    pub(super) tcp_flags: u8,
    pub(super) segment: Segment<'a>,
    /// Bytes of its direction in order before it.
    pub(super) before: usize,
    pub(super) outcome: Outcome,
    pub(super) news: Option<&'a News>,
}

impl Watch {
    /// Nothing, where there are no rulesets.
    #[must_use]
    pub fn new(rulesets: Vec<Ruleset>) -> Option<Box<Self>> {
        (!rulesets.is_empty()).then(|| Box::new(Self(rulesets.into())))
    }

    /// The rulesets.
    pub fn iter(&self) -> impl Iterator<Item = &Ruleset> {
        self.0.iter()
    }

    /// Bytes in use.
    #[must_use]
    pub fn memory(&self) -> usize {
        self.0.iter().map(|one| one.matcher().memory()).sum()
    }

    /// Another one with the same rules, for packets of other flows.
    #[must_use]
    pub fn share(&self) -> Box<Self> {
        Box::new(Self(self.0.iter().map(Ruleset::share).collect()))
    }

    /// Goes on counting where rulesets of the same names stopped.
    pub fn inherit(&mut self, before: &Self) {
        for one in &mut self.0 {
            if let Some(before) = before.iter().find(|before| before.name() == one.name()) {
                one.inherit(before);
            }
        }
    }

    /// Compares a packet.
    pub(super) fn look(&mut self, now_ms: u64, flow: &mut Flow, taken: &Taken<'_>) -> Vec<Alert> {
        let Taken { key, direction, tcp_flags, segment, before, outcome, news } = *taken;
        let is_tcp = key.proto() == TCP;
        let is_met = flow.meet(direction);
        let is_middle = is_tcp && !flow.is_origin_known();
        let hash = hashes(news);
        let mut question = None;
        let to_server = direction == flow.original;
        let app = flow.protocol().filter(|(_, sure)| *sure > Confidence::Guess);
        let app = app.and_then(|(protocol, _)| app_of(protocol));
        let may_block = !is_allowed(outcome) && !outcome.is_blocked();
        let mut alerts = Vec::new();
        let mut told = flow.told.take();
        let (head, start) = flow.head(direction);
        // One packet that is a whole message is not kept by the flow.
        let stream = match head.len() {
            0 if is_tcp && news.is_some() => segment.payload,
            len if len > before => head,
            _ => &[],
        };
        if key.destination(direction).1 == dns::PORT {
            question = asked(if is_tcp { framed(stream, before) } else { segment.payload });
        }
        // The same bytes in the same place: the matcher compares pointers, and searches them once.
        let payload = if stream == segment.payload { stream } else { segment.payload };
        let mut buffers = [(Buffer::Payload, &[][..]); 4];
        let mut count =
            named(&mut buffers, news, hash.as_ref(), stream.get(start..).unwrap_or_default());
        if let (Some(question), 0, Some(place)) = (&question, count, buffers.first_mut()) {
            *place = (Buffer::DnsQuery, question);
            count = 1;
        }
        let ((source, source_port), (destination, destination_port)) =
            (key.source(direction), key.destination(direction));
        let facts = Facts {
            transport: if is_tcp { Transport::Tcp } else { Transport::Udp },
            source: IpAddr::from(source),
            source_port,
            destination: IpAddr::from(destination),
            destination_port,
            to_server,
            is_established: tcp_flags & SYN == 0
                && (is_met || is_middle)
                && (!is_tcp || tcp_flags & ACK != 0),
            tcp_flags,
            app,
            payload,
            stream,
            buffers: buffers.get(..count).unwrap_or_default(),
        };
        for (number, one) in (0..).zip(&mut self.0) {
            one.inspect(number, &facts, now_ms, may_block, &mut told, &mut alerts);
        }
        flow.told = told;
        alerts
    }
}

/// Fingerprints as text.
fn hashes(news: Option<&News>) -> Option<(String, &Hello)> {
    match news {
        Some(News::Hello(hello)) => Some((hello.ja3.to_string(), hello)),
        _ => None,
    }
}

/// Fills in what a message named; says how many buffers that are. `bytes` start with the message if
/// it is a request.
fn named<'a>(
    buffers: &mut [(Buffer, &'a [u8]); 4],
    news: Option<&'a News>,
    hash: Option<&'a (String, &'a Hello)>,
    bytes: &'a [u8],
) -> usize {
    let texts = match (news, hash) {
        (_, Some((ja3, hello))) => [
            (Buffer::Ja3, Some(ja3.as_bytes())),
            (Buffer::Ja4, Some(hello.ja4.as_str().as_bytes())),
            (Buffer::Sni, hello.sni.as_deref().map(str::as_bytes)),
            (Buffer::Payload, None),
        ],
        (Some(News::Request(request)), _) => {
            // What the flow remembers of it is escaped and cut.
            let (target, agent) = match http::request(bytes) {
                http::Answer::Request(whole) => (Some(whole.target), whole.user_agent),
                // Of HTTP/2 there is nothing else.
                _ if request.major == 2 => (
                    Some(request.target.as_bytes()),
                    request.user_agent.as_deref().map(str::as_bytes),
                ),
                _ => (None, None),
            };
            [
                (Buffer::HttpMethod, Some(request.method.as_bytes())),
                (Buffer::HttpHost, request.host.as_deref().map(str::as_bytes)),
                (Buffer::HttpUri, target),
                (Buffer::UserAgent, agent),
            ]
        }
        _ => return 0,
    };
    let mut count = 0;
    for (buffer, text) in texts {
        if let (Some(text), Some(place)) = (text, buffers.get_mut(count)) {
            *place = (buffer, text);
            count += 1;
        }
    }
    count
}

/// The first message of DNS in a stream, if it was not whole `before`.
fn framed(stream: &[u8], before: usize) -> &[u8] {
    let Some((len, rest)) = stream.split_first_chunk() else { return &[] };
    let len = usize::from(u16::from_be_bytes(*len));
    if before >= len + 2 { &[] } else { rest.get(..len).unwrap_or_default() }
}

/// The name that a message of DNS asks for, labels joined by dots.
fn asked(message: &[u8]) -> Option<Vec<u8>> {
    let message = dns::Message::parse(message).ok().filter(|message| !message.is_response())?;
    let labels: Vec<&[u8]> = message.question()?.name.labels().collect();
    Some(labels.join(&b'.'))
}

/// A rule of the configuration says that the flow may be. It comes before any ruleset.
const fn is_allowed(outcome: Outcome) -> bool {
    match outcome {
        Outcome::Decided(decision) => {
            matches!(decision.reason, Reason::RuleAllowed | Reason::DomainAllowed)
        }
        _ => false,
    }
}

const fn app_of(protocol: Protocol) -> Option<App> {
    Some(match protocol {
        Protocol::Http => App::Http1,
        Protocol::Http2 => App::Http2,
        Protocol::Tls => App::Tls,
        Protocol::Dns => App::Dns,
        Protocol::Quic => App::Quic,
        Protocol::Ssh => App::Ssh,
        Protocol::Smtp => App::Smtp,
        Protocol::Imap => App::Imap,
        Protocol::Pop3 => App::Pop3,
        Protocol::Ftp => App::Ftp,
        Protocol::Ntp => App::Ntp,
        Protocol::Dhcp => App::Dhcp,
        Protocol::Mqtt => App::Mqtt,
        Protocol::Sip => App::Sip,
        Protocol::Rdp => App::Rdp,
        Protocol::Vnc => App::Rfb,
        Protocol::Smb => App::Smb,
        _ => return None,
    })
}

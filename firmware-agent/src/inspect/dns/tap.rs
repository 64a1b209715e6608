//! Messages in packets: each datagram is one, and a stream of TCP has a length before each
//! (RFC 1035, section 4.2.2; RFC 7766, section 8).

use sluice_abi::attach::Link;
use sluice_abi::flow::{Direction, FlowKey};
use sluice_datapath::parse::{Headers, RST, SYN, TCP, UDP, headers};

use super::record::u16_at;
use super::{HEADER, Malformed, Message};
use crate::inspect::engine::segment::Segment;
use crate::inspect::stream::{Caps, Stream};
use crate::inspect::table::Table;

/// Where name servers are asked.
pub const PORT: u16 = u16::from_be(sluice_abi::message::PORT);

/// Connections of TCP that are read at once; of more, the one used longest ago is given up.
const STREAMS_MAX: u32 = 32;
/// What is read of each direction of a connection.
const CAPS: Caps = Caps { bytes: 8 * 1024, pieces: 8 };

/// A message that was found, or what was found in its place.
#[derive(Clone, Copy, Debug)]
pub struct Found<'a> {
    /// The flow.
    pub key: FlowKey,
    /// Which way the message travels.
    pub direction: Direction,
    /// The message.
    pub message: Result<Message<'a>, Malformed>,
}

impl<'a> Found<'a> {
    /// The message, if it travels towards a name server and asks.
    #[must_use]
    pub fn query(&self) -> Option<Message<'a>> {
        let is_to_server = self.key.destination(self.direction).1 == PORT;
        self.message.ok().filter(|message| is_to_server && !message.is_response())
    }

    /// The message, if it comes from a name server and answers.
    #[must_use]
    pub fn response(&self) -> Option<Message<'a>> {
        let is_of_server = self.key.source(self.direction).1 == PORT;
        self.message.ok().filter(|message| is_of_server && message.is_response())
    }
}

/// Finds messages. Its memory is bounded: half a mebibyte and some tables.
#[derive(Debug)]
pub struct Tap {
    streams: Table<[Side; 2]>,
}

#[derive(Debug, Default)]
struct Side {
    stream: Stream,
    /// Bytes of messages that were found.
    read: usize,
    /// What was read is no DNS, and what follows it cannot be found.
    is_lost: bool,
}

impl Tap {
    /// A tap. `seed` must be random and secret.
    #[must_use]
    pub fn new(seed: [u64; 2]) -> Self {
        Self { streams: Table::new(STREAMS_MAX, seed) }
    }

    /// Connections that are being read.
    #[must_use]
    pub const fn streams(&self) -> usize {
        self.streams.len()
    }

    /// Takes a packet that starts with its IP header, whose length on the wire was `original_len`,
    /// and calls `each` with every message that it completes. Packets of other ports cost nothing but
    /// a look at their headers.
    pub fn packet(&mut self, l3: &[u8], original_len: usize, mut each: impl FnMut(Found<'_>)) {
        let Some((headers, (key, direction))) =
            headers(l3, Link::Ip).ok().and_then(|headers| Some((headers, headers.flow()?)))
        else {
            return;
        };
        let ports = [key.source(direction).1, key.destination(direction).1];
        if !ports.contains(&PORT) {
            return;
        }
        let Some(segment) = Segment::read(l3, &headers, original_len) else { return };
        match headers.proto {
            UDP if segment.len > 0 => {
                each(Found { key, direction, message: Message::parse(segment.payload) });
            }
            TCP => self.segment((key, direction), &headers, segment, each),
            _ => {}
        }
    }

    fn segment(
        &mut self,
        (key, direction): (FlowKey, Direction),
        headers: &Headers,
        segment: Segment<'_>,
        mut each: impl FnMut(Found<'_>),
    ) {
        let flags = headers.tcp_flags;
        if headers.is_syn() {
            // Another connection of the same ports.
            self.streams.remove(&key);
        }
        if self.streams.get(&key).is_none() && (flags & SYN != 0 || segment.len > 0) {
            self.streams.insert(key, Default::default());
        }
        let Some(sides) = self.streams.get(&key) else { return };
        let [first, second] = sides;
        let side = if direction as usize == 0 { first } else { second };
        let mut seq = segment.seq;
        if flags & SYN != 0 {
            side.stream.anchor(seq);
            seq = seq.wrapping_add(1); // the SYN itself takes a number
        }
        if flags & RST == 0 {
            side.take(seq, segment.payload, |message| each(Found { key, direction, message }));
        } else {
            self.streams.remove(&key);
        }
    }
}

impl Side {
    fn take(
        &mut self,
        seq: u32,
        payload: &[u8],
        mut give: impl FnMut(Result<Message<'_>, Malformed>),
    ) {
        if self.is_lost {
            return;
        }
        if self.stream.push(seq, payload, CAPS).is_rebased {
            self.read = 0;
        }
        while let Some(rest) = self.stream.head().get(self.read..)
            && let Some(len) = u16_at(rest, 0).map(usize::from)
        {
            if len < HEADER {
                self.is_lost = true;
                give(Err(Malformed::Frame));
                break;
            }
            let Some(message) = rest.get(2..2 + len) else { break };
            self.read += 2 + len;
            give(Message::parse(message));
        }
        let is_full = self.stream.head().len() >= CAPS.bytes as usize;
        if self.is_lost || is_full {
            self.is_lost = true;
            self.stream.release();
        }
    }
}

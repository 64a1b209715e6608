//! What a client's datagrams say about its ClientHello.
//!
//! The keys come from the destination connection id of the client's first packet. The client goes
//! on under ids that its server has chosen, with the same keys; only a Retry, and a version that
//! had to be negotiated, make it begin again. Whoever else begins again before the message was
//! whole is not believed to say the same to everybody: that is a conflict.

use core::ops::Range;

use super::frame::{Crypto, CryptoFrames};
use super::header::{Kind, Long, Next, Packet};
use super::keys::Keys;
use super::{Connection, ConnectionId, DATAGRAM_MIN, Malformed, Version};
use crate::inspect::stream::{Caps, Fault, Stream};
use crate::inspect::tls::{self, ClientHello};

/// Packets of one datagram that may fail to be authenticated before the rest is left alone.
const FAILURES_MAX: u8 = 4;
/// The port of servers whose clients may speak versions that cannot be told from other protocols.
const PORT: u16 = 443;

/// How much one client may keep.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Limits {
    /// Bytes of the CRYPTO stream.
    pub bytes: u32,
    /// Pieces of it that wait behind gaps.
    pub pieces: usize,
}

/// What a datagram told.
#[derive(Debug)]
#[must_use]
pub enum Answer<'a> {
    /// Nothing new.
    Nothing,
    /// Bytes of an unfinished message.
    News,
    /// The message is whole.
    Hello(ClientHello<'a>, Connection),
    /// What was authenticated contradicts the protocol.
    Malformed(Malformed),
    /// The message itself went wrong.
    MalformedTls(tls::Malformed),
    /// More pieces out of order than are kept.
    Pieces,
    /// The copy of the datagram ends inside an Initial packet.
    Cut,
}

/// Whether a datagram is worth keeping a [`Client`] for: an Initial packet of a known version, or
/// what may be the first packet of another. `len` is its length on the wire, `server_port` where
/// it goes.
#[must_use]
pub fn looks_like(payload: &[u8], len: usize, server_port: u16) -> bool {
    let Some(long) = Long::read(payload) else { return false };
    // Servers may let clients clear this bit, of packets that are as long as they must be (RFC 9287).
    let is_fixed = long.first & 0x40 != 0;
    let is_long_enough = len >= DATAGRAM_MIN;
    match Version::from_wire(long.version) {
        Some(version) => {
            Kind::new(version, long.first) == Kind::Initial
                && ConnectionId::new(long.destination_id).is_some()
                && ConnectionId::new(long.source_id).is_some()
                && (is_fixed || is_long_enough)
        }
        None => long.version != 0 && server_port == PORT && is_fixed && is_long_enough,
    }
}

/// Keys that opened a packet, and where they come from.
#[derive(Debug)]
struct Opened {
    version: Version,
    id: ConnectionId,
    keys: Keys,
    /// The largest packet number.
    number: u64,
}

/// Whether the server wants the client to begin again; it can do so once (RFC 9000, section
/// 17.2.5.2).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Retry {
    No,
    /// With packets to this id.
    Asked(ConnectionId),
    Done,
}

/// One client that has not finished its ClientHello.
#[derive(Debug)]
pub struct Client {
    opened: Option<Opened>,
    retry: Retry,
    /// Whether the server offered other versions.
    is_negotiated: bool,
    /// Whether a message that was begun was given up for another.
    is_replaced: bool,
    /// Whether a packet of a version came that cannot be read.
    is_version_unknown: bool,
    crypto: Stream,
}

impl Default for Client {
    fn default() -> Self {
        Self {
            opened: None,
            retry: Retry::No,
            is_negotiated: false,
            is_replaced: false,
            is_version_unknown: false,
            crypto: stream(),
        }
    }
}

/// A CRYPTO stream, which starts at byte 0.
fn stream() -> Stream {
    let mut stream = Stream::default();
    stream.anchor(u32::MAX);
    stream
}

/// Where the message is, when it is whole.
enum Place {
    /// In the only CRYPTO frame, which was not copied.
    Room(Range<usize>),
    Stream,
}

/// What a packet told.
enum Told {
    Nothing,
    News,
    Whole(Place, Connection),
    Malformed(Malformed),
    Pieces,
}

impl Client {
    /// Heap bytes in use, this state not counted.
    #[must_use]
    pub fn memory(&self) -> usize {
        self.crypto.memory()
    }

    /// Bytes of the message that came without a gap.
    #[must_use]
    pub fn len(&self) -> usize {
        self.crypto.head().len()
    }

    /// Whether nothing of a message came yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.crypto.head().is_empty() && !self.crypto.has_gap()
    }

    /// Whether a packet was authenticated.
    #[must_use]
    pub const fn is_opened(&self) -> bool {
        self.opened.is_some()
    }

    /// Whether a packet of a version came that cannot be read.
    #[must_use]
    pub const fn is_version_unknown(&self) -> bool {
        self.is_version_unknown
    }

    /// Whether the message may have been another for the server: bytes came twice with different
    /// values, or it was begun twice.
    #[must_use]
    pub const fn has_conflict(&self) -> bool {
        self.is_replaced || self.crypto.has_conflict()
    }

    /// Takes a datagram from the server.
    ///
    /// What it says is not authenticated: all it can do is to let the client begin again, which is
    /// the server's choice anyway.
    pub fn server_datagram(&mut self, payload: &[u8]) {
        let Some(long) = Long::read(payload) else { return };
        if long.version == 0 {
            self.is_negotiated = true;
        } else if let Some(version) = Version::from_wire(long.version)
            && Kind::new(version, long.first) == Kind::Retry
            && self.retry != Retry::Done
            && let Some(id) = ConnectionId::new(long.source_id)
        {
            self.retry = Retry::Asked(id);
        }
    }

    /// Takes a datagram from the client, `len` bytes long on the wire. `room` is where its packets
    /// are opened; one that does not fit is not read.
    pub fn datagram<'a>(
        &'a mut self,
        payload: &[u8],
        len: usize,
        room: &'a mut [u8],
        limits: Limits,
    ) -> Answer<'a> {
        match self.packets(payload, len, room, limits) {
            Ok(Told::Whole(place, connection)) => {
                let message = match place {
                    Place::Room(range) => room.get(range).unwrap_or_default(),
                    Place::Stream => self.crypto.head(),
                };
                match tls::message(message) {
                    tls::Answer::Hello(hello) => Answer::Hello(hello, connection),
                    tls::Answer::Malformed(cause) => Answer::MalformedTls(cause),
                    tls::Answer::NotTls => Answer::Malformed(Malformed::NotClientHello),
                    tls::Answer::NeedMore => Answer::News,
                }
            }
            Ok(Told::Malformed(cause)) => Answer::Malformed(cause),
            Ok(Told::Pieces) => Answer::Pieces,
            Ok(Told::News) => Answer::News,
            Ok(Told::Nothing) => Answer::Nothing,
            Err(Cut) => Answer::Cut,
        }
    }

    /// Reads the packets of a datagram, until one completes the message.
    fn packets(
        &mut self,
        payload: &[u8],
        len: usize,
        room: &mut [u8],
        limits: Limits,
    ) -> Result<Told, Cut> {
        if len < DATAGRAM_MIN {
            return Ok(Told::Nothing);
        }
        let mut told = Told::Nothing;
        let mut failures = 0;
        let mut first_id = None;
        let mut rest = payload;
        loop {
            let packet = match Next::read(rest) {
                Next::Packet(packet, tail) => {
                    rest = tail;
                    packet
                }
                Next::Cut(Kind::Initial) if payload.len() < len => return Err(Cut),
                Next::Cut(_) => return Ok(told),
                Next::End => {
                    let version = Long::read(rest).map(|long| long.version);
                    self.is_version_unknown |= version
                        .is_some_and(|number| number != 0 && Version::from_wire(number).is_none());
                    return Ok(told);
                }
            };
            // Servers leave coalesced packets of another connection alone (RFC 9000, section 12.2).
            if packet.destination_id != *first_id.get_or_insert(packet.destination_id) {
                return Ok(told);
            }
            if packet.kind != Kind::Initial {
                continue;
            }
            let Some(start) = self.open(&packet, room) else {
                failures += 1;
                if failures == FAILURES_MAX {
                    return Ok(told);
                }
                continue;
            };
            match self.frames(&packet, start, room, limits) {
                Told::Nothing => {}
                news @ Told::News => told = news,
                end => return Ok(end),
            }
        }
    }

    /// Opens `packet` in `room`; says where its payload is.
    fn open(&mut self, packet: &Packet<'_>, room: &mut [u8]) -> Option<Range<usize>> {
        let Packet { version, destination_id, bytes, number_at, .. } = *packet;
        let place = |payload: &[u8]| {
            // Payload and tag are the end of the packet.
            let end = bytes.len() - super::keys::TAG;
            end - payload.len()..end
        };
        if let Some(opened) = &mut self.opened {
            // A server may choose the other version for the same connection (RFC 9369, section 4.1).
            let other = (version != opened.version)
                .then(|| Keys::new(version, opened.id.as_bytes()))
                .flatten();
            let keys = other.as_ref().unwrap_or(&opened.keys);
            if let Some((number, payload)) = keys.open(bytes, number_at, Some(opened.number), room)
            {
                let place = place(payload);
                opened.number = opened.number.max(number);
                if let Some(keys) = other {
                    (opened.version, opened.keys) = (version, keys);
                    // Else it is the same connection, which goes on where it was.
                    if core::mem::take(&mut self.is_negotiated) {
                        self.crypto = stream();
                    }
                }
                return Some(place);
            }
            if opened.id == destination_id {
                return None;
            }
        }
        let keys = Keys::new(version, destination_id.as_bytes())?;
        let (number, payload) = keys.open(bytes, number_at, None, room)?;
        let place = place(payload);
        if self.opened.is_some() {
            let is_retry = self.retry == Retry::Asked(destination_id);
            if is_retry {
                self.retry = Retry::Done;
            }
            let is_asked_for = is_retry || core::mem::take(&mut self.is_negotiated);
            self.is_replaced |= !is_asked_for && !self.is_empty();
            self.crypto = stream();
        }
        self.opened = Some(Opened { version, id: destination_id, keys, number });
        Some(place)
    }

    /// Reads the frames of the payload at `place` in `room`.
    fn frames(
        &mut self,
        packet: &Packet<'_>,
        place: Range<usize>,
        room: &[u8],
        limits: Limits,
    ) -> Told {
        let start = place.start;
        let payload = room.get(place).unwrap_or_default();
        let mut only = None;
        let mut count = 0;
        let mut frames = CryptoFrames::new(payload);
        // All of them are read before any counts: a server refuses the packet as a whole.
        loop {
            match frames.next() {
                Ok(Some(crypto)) => {
                    count += 1;
                    only = Some((crypto, payload.len() - frames.left() - crypto.data.len()));
                }
                Ok(None) => break,
                Err(cause) => return Told::Malformed(cause),
            }
        }
        // The common case: one frame holds the whole message, and nothing need be kept.
        if let (1, Some((Crypto { offset: 0, data }, at))) = (count, only)
            && self.crypto.starts_at(0)
            && tls::is_message_whole(data)
        {
            let at = start + at;
            return self.whole(packet, Place::Room(at..at + data.len()));
        }
        let caps = Caps { bytes: limits.bytes, pieces: limits.pieces };
        let (mut is_new, mut is_left_out) = (false, false);
        let mut frames = CryptoFrames::new(payload);
        while let Ok(Some(Crypto { offset, data })) = frames.next() {
            let Ok(offset) = u32::try_from(offset) else { continue };
            let pushed = self.crypto.push(offset, data, caps);
            is_left_out |= pushed.fault == Some(Fault::Pieces);
            is_new |= pushed.fresh > 0;
        }
        if is_left_out {
            // Also when the message is whole: later copies may stand for what the server took.
            Told::Pieces
        } else if tls::is_message_whole(self.crypto.head()) {
            self.whole(packet, Place::Stream)
        } else if is_new {
            Told::News
        } else {
            Told::Nothing
        }
    }

    fn whole(&self, packet: &Packet<'_>, place: Place) -> Told {
        let destination_id = self.opened.as_ref().map_or(packet.destination_id, |o| o.id);
        let connection = Connection {
            version: packet.version,
            destination_id,
            source_id: packet.source_id,
            is_retried: self.retry == Retry::Done,
            has_token: packet.has_token,
        };
        Told::Whole(place, connection)
    }
}

/// The copy ends too early.
struct Cut;

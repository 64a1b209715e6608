//! Long headers (RFC 8999, RFC 9000 section 17.2).

use super::{ConnectionId, Version};

/// Bytes that are taken from the front.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (head, tail) = self.0.split_at_checked(len)?;
        self.0 = tail;
        Some(head)
    }

    pub(super) fn u8(&mut self) -> Option<u8> {
        let (&byte, tail) = self.0.split_first()?;
        self.0 = tail;
        Some(byte)
    }

    fn u32(&mut self) -> Option<u32> {
        let (bytes, tail) = self.0.split_first_chunk()?;
        self.0 = tail;
        Some(u32::from_be_bytes(*bytes))
    }

    /// A variable-length integer (RFC 9000, section 16).
    pub(super) fn varint(&mut self) -> Option<u64> {
        let first = self.u8()?;
        let more = self.take((1 << (first >> 6)) - 1)?;
        Some(more.iter().fold(u64::from(first & 0x3f), |value, byte| value << 8 | u64::from(*byte)))
    }

    /// A variable-length integer that counts bytes in memory.
    pub(super) fn len(&mut self) -> Option<usize> {
        usize::try_from(self.varint()?).ok()
    }
}

/// What all versions have in common.
#[derive(Clone, Copy, Debug)]
pub(super) struct Long<'a> {
    pub(super) first: u8,
    pub(super) version: u32,
    pub(super) destination_id: &'a [u8],
    pub(super) source_id: &'a [u8],
    /// What follows.
    rest: Reader<'a>,
}

impl<'a> Long<'a> {
    /// The header at the start of `bytes`; `None` when it is none, or cut off.
    pub(super) fn read(bytes: &'a [u8]) -> Option<Self> {
        let mut rest = Reader(bytes);
        let first = rest.u8().filter(|first| first & 0x80 != 0)?;
        let version = rest.u32()?;
        let len = usize::from(rest.u8()?);
        let destination_id = rest.take(len)?;
        let len = usize::from(rest.u8()?);
        let source_id = rest.take(len)?;
        Some(Self { first, version, destination_id, source_id, rest })
    }
}

/// Which packet a long header begins.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Kind {
    Initial,
    ZeroRtt,
    Handshake,
    Retry,
}

impl Kind {
    pub(super) const fn new(version: Version, first: u8) -> Self {
        let bits = match version {
            Version::V1 => first >> 4,
            // RFC 9369, section 3.2: the same order, but begun one later.
            Version::V2 => (first >> 4).wrapping_sub(1),
        };
        match bits & 3 {
            0 => Self::Initial,
            1 => Self::ZeroRtt,
            2 => Self::Handshake,
            _ => Self::Retry,
        }
    }
}

/// A packet whose header says how long it is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Packet<'a> {
    pub(super) version: Version,
    pub(super) kind: Kind,
    pub(super) destination_id: ConnectionId,
    pub(super) source_id: ConnectionId,
    pub(super) has_token: bool,
    /// From the first byte of the header to the last of the payload.
    pub(super) bytes: &'a [u8],
    /// Where the packet number is.
    pub(super) number_at: usize,
}

/// What begins at a place in a datagram.
#[derive(Debug)]
pub(super) enum Next<'a> {
    /// A packet, and what follows it.
    Packet(Packet<'a>, &'a [u8]),
    /// The start of a packet that goes on behind the end of the bytes.
    Cut(Kind),
    /// Nothing that can be told apart: a short header, another version, padding.
    End,
}

impl<'a> Next<'a> {
    pub(super) fn read(bytes: &'a [u8]) -> Self {
        let Some(long) = Long::read(bytes) else { return Self::End };
        let Some(version) = Version::from_wire(long.version) else { return Self::End };
        let kind = Kind::new(version, long.first);
        let ids = (ConnectionId::new(long.destination_id), ConnectionId::new(long.source_id));
        let (Some(destination_id), Some(source_id)) = ids else { return Self::End };
        if kind == Kind::Retry {
            return Self::End;
        }
        let mut rest = long.rest;
        let mut has_token = false;
        let mut fields = || {
            if kind == Kind::Initial {
                let len = rest.len()?;
                has_token = !rest.take(len)?.is_empty();
            }
            let len = rest.len()?;
            let number_at = bytes.len() - rest.0.len();
            rest.take(len)?;
            Some((number_at, number_at + len))
        };
        let Some((number_at, end)) = fields() else { return Self::Cut(kind) };
        let (bytes, tail) = bytes.split_at(end);
        let packet =
            Packet { version, kind, destination_id, source_id, has_token, bytes, number_at };
        Self::Packet(packet, tail)
    }
}

//! The ClientHello inside QUIC versions 1 and 2 (RFC 9000, RFC 9001, RFC 9369).
//!
//! Owns the Initial packets of a client: headers, keys, frames, and putting the CRYPTO stream in
//! order. Keys of Initial packets come from a connection id that everybody on the path can read,
//! so nothing here is a secret and nothing has to be done in constant time. Does not own the
//! message itself (`tls`) or what follows from it (`engine`).
//!
//! Packets are authenticated before their bytes count: what a server drops must not say what a
//! flow is.

#[cfg(feature = "quic")]
mod client;
#[cfg(feature = "quic")]
mod frame;
#[cfg(feature = "quic")]
mod header;
#[cfg(feature = "quic")]
mod keys;

use core::fmt;

use crate::text::write_hex;

#[cfg(feature = "quic")]
pub use self::client::{Answer, Client, Limits, looks_like};
#[cfg(all(feature = "quic", any(test, fuzzing)))]
pub use self::keys::seal;

/// Longest connection id of versions 1 and 2 (RFC 9000, section 17.2).
pub const ID_MAX: usize = 20;
/// A client's datagram with an Initial packet has this many bytes at least; servers drop shorter
/// ones (RFC 9000, section 14.1).
pub const DATAGRAM_MIN: usize = 1200;

/// A version whose Initial packets can be read.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Version {
    /// RFC 9000.
    V1,
    /// RFC 9369.
    V2,
}

impl Version {
    /// The version of a number on the wire.
    #[must_use]
    pub const fn from_wire(number: u32) -> Option<Self> {
        match number {
            1 => Some(Self::V1),
            0x6b33_43cf => Some(Self::V2),
            _ => None,
        }
    }

    /// The number on the wire.
    #[must_use]
    pub const fn to_wire(self) -> u32 {
        match self {
            Self::V1 => 1,
            Self::V2 => 0x6b33_43cf,
        }
    }

    /// The word used in events.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::V1 => "v1",
            Self::V2 => "v2",
        }
    }
}

/// A connection id. Shown as hexadecimal digits.
#[derive(Clone, Copy, Default, Eq, PartialEq)]
pub struct ConnectionId {
    len: u8,
    bytes: [u8; ID_MAX],
}

impl ConnectionId {
    /// The id in `bytes`; `None` when it is longer than [`ID_MAX`].
    #[must_use]
    pub fn new(bytes: &[u8]) -> Option<Self> {
        let mut id = Self { len: bytes.len() as u8, bytes: [0; ID_MAX] };
        id.bytes.get_mut(..bytes.len())?.copy_from_slice(bytes);
        Some(id)
    }

    /// Its bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.len)).unwrap_or_default()
    }
}

impl fmt::Display for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(f, self.as_bytes(), "")
    }
}

impl fmt::Debug for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The connection that brought a ClientHello.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Connection {
    /// The version of the packet that completed the message.
    pub version: Version,
    /// The id that the keys come from: the client's choice, after a Retry the server's.
    pub destination_id: ConnectionId,
    /// The id that the client has chosen for itself.
    pub source_id: ConnectionId,
    /// Whether the server asked the client to begin again with a token.
    pub is_retried: bool,
    /// Whether the packet that completed the message carried a token.
    pub has_token: bool,
}

/// How an authenticated Initial packet of a client contradicts the protocol. Append only: names are
/// in statistics.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Malformed {
    /// A frame that is not allowed in Initial packets (RFC 9000, section 12.4).
    Frame,
    /// A frame that ends behind its packet.
    FrameOverrun,
    /// CRYPTO data that begins with another message than a ClientHello.
    NotClientHello,
    /// CRYPTO data behind 2⁶²-1 bytes (RFC 9000, section 19.6).
    CryptoOffset,
}

impl Malformed {
    /// The word used in status, logs and events.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Frame => "frame",
            Self::FrameOverrun => "frame_overrun",
            Self::NotClientHello => "not_client_hello",
            Self::CryptoOffset => "crypto_offset",
        }
    }
}

#[cfg(feature = "quic")]
#[cfg(test)]
pub(crate) mod tests;

//! The ClientHello of TLS over TCP: SSL 3.0 to TLS 1.3 (RFC 8446, RFC 5246, RFC 6066, RFC 7301), and
//! what a server answers in the clear.
//!
//! Owns finding the message in a byte stream and reading its fields. Nothing is copied, but for a
//! message that spans several records, which is joined in a buffer that the caller keeps. Does not
//! own reassembly of the stream (`stream`) or fingerprints (`ja`).

mod hello;
mod message;
mod name;
mod record;
pub(in crate::inspect) mod server;

pub use self::hello::{Alpn, ClientHello, Extensions, Sni, U16List};
pub use self::message::{is_message_whole, message};
pub use self::name::{HostName, NAME_MAX};
pub use self::record::{Finder, Found, Joined, Message};
pub use self::server::{Certificate, CertificateHash, ServerAnswer, ServerHello, server_hello};

/// Longest body of a ClientHello that is read.
pub const HELLO_MAX: usize = 16 * 1024;
/// Longest handshake message that is believed to be one.
pub const HANDSHAKE_MAX: usize = 64 * 1024;
/// Most extensions that are read.
pub const EXTENSIONS_MAX: usize = 100;

/// How bytes that started as a TLS handshake contradict the protocol. Append only: names are in
/// statistics.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Malformed {
    /// A handshake record without content (RFC 8446, section 5.1).
    EmptyRecord,
    /// A record longer than 2¹⁴ bytes.
    RecordTooLong,
    /// Another record type, or no TLS record, inside the ClientHello.
    Interrupted,
    /// A handshake message longer than [`HANDSHAKE_MAX`].
    HandshakeTooLong,
    /// A ClientHello longer than [`HELLO_MAX`].
    HelloTooLong,
    /// A field ends behind the message or list it is in.
    Overrun,
    /// Bytes behind the last field of the message or of an extension.
    Trailing,
    /// A list of 16-bit values with an odd length.
    OddLength,
    /// A session identifier of more than 32 bytes.
    SessionId,
    /// More than [`EXTENSIONS_MAX`] extensions.
    TooManyExtensions,
    /// An extension that decides the name or the fingerprint occurs twice (RFC 8446, section 4.2).
    DuplicateExtension,
    /// The server name extension holds no host name, or two.
    ServerNameList,
}

impl Malformed {
    /// The word used in status, logs and events.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::EmptyRecord => "empty_record",
            Self::RecordTooLong => "record_too_long",
            Self::Interrupted => "interrupted",
            Self::HandshakeTooLong => "handshake_too_long",
            Self::HelloTooLong => "hello_too_long",
            Self::Overrun => "overrun",
            Self::Trailing => "trailing",
            Self::OddLength => "odd_length",
            Self::SessionId => "session_id",
            Self::TooManyExtensions => "too_many_extensions",
            Self::DuplicateExtension => "duplicate_extension",
            Self::ServerNameList => "server_name_list",
        }
    }
}

/// What the bytes so far are.
#[derive(Clone, Debug)]
pub enum Answer<'a> {
    /// The start of a ClientHello, or too little to say.
    NeedMore,
    /// A whole ClientHello.
    Hello(ClientHello<'a>),
    /// Something else.
    NotTls,
    /// It started as a ClientHello and went wrong.
    Malformed(Malformed),
}

/// Reads the ClientHello at the start of a stream.
///
/// `finder` remembers how far earlier calls got; each call passes the same bytes and more. The
/// answer does not depend on what follows the message.
pub fn client_hello<'a>(
    finder: &mut Finder,
    bytes: &'a [u8],
    joined: &'a mut Joined,
) -> Answer<'a> {
    match finder.look(bytes) {
        Found::NeedMore => Answer::NeedMore,
        Found::NotTls => Answer::NotTls,
        Found::Malformed(cause) => Answer::Malformed(cause),
        Found::Whole(message) => match ClientHello::parse(joined.body(bytes, message)) {
            Ok(hello) => Answer::Hello(hello),
            Err(cause) => Answer::Malformed(cause),
        },
    }
}

/// Whether `value` is reserved to keep peers tolerant of unknown values (RFC 8701, section 2).
#[inline]
#[must_use]
pub const fn is_grease(value: u16) -> bool {
    value & 0x0f0f == 0x0a0a && value >> 8 == value & 0xff
}

/// The usual name of a version on the wire, such as `1.3`; `ssl3` for SSL 3.0.
#[must_use]
pub const fn version_name(version: u16) -> Option<&'static str> {
    Some(match version {
        0x0300 => "ssl3",
        0x0301 => "1.0",
        0x0302 => "1.1",
        0x0303 => "1.2",
        0x0304 => "1.3",
        _ => return None,
    })
}

#[cfg(test)]
pub(crate) mod tests;

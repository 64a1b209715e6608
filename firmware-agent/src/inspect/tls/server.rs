//! The first flight of a TLS server: its ServerHello, and the certificate where it is sent in the
//! clear (TLS 1.2 and before; RFC 5246, sections 7.4.1.3 and 7.4.2).
//!
//! Owns walking handshake messages over record borders. Nothing is joined: fields are read into
//! fixed room, and a certificate is hashed piece by piece.

use sha1::{Digest as _, Sha1};

use super::record::{HANDSHAKE, RECORD_HEADER, RECORD_MAX};
use super::{EXTENSIONS_MAX, HANDSHAKE_MAX, Malformed};
use crate::text::write_hex;

const SERVER_HELLO: u8 = 2;
const CERTIFICATE: u8 = 11;
const SUPPORTED_VERSIONS: u16 = 43;
const TLS_1_3: u16 = 0x0304;

/// The room for a ServerHello's fixed part: version, random, the longest session identifier, cipher
/// suite and compression.
const FIXED_MAX: usize = 2 + 32 + 1 + 32 + 2 + 1;

/// A ServerHello.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ServerHello {
    /// The version field of the message: 0x0303 also for TLS 1.3.
    pub legacy_version: u16,
    /// The version that is spoken.
    pub version: u16,
    /// Cipher suite.
    pub cipher: u16,
    extensions: [u16; EXTENSIONS_MAX],
    count: u8,
}

impl ServerHello {
    /// Types of its extensions in the order of the wire.
    #[must_use]
    pub fn extensions(&self) -> &[u16] {
        &self.extensions[..usize::from(self.count)]
    }
}

/// SHA-1 of a certificate as it was sent (DER): what lists of bad certificates are made of.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct CertificateHash(pub [u8; 20]);

impl core::fmt::Display for CertificateHash {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write_hex(f, &self.0, "")
    }
}

/// The server's own certificate.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Certificate {
    /// It has not come yet, or not as a whole.
    NeedMore,
    /// None comes in the clear: TLS 1.3, a resumed session, a suite without one.
    None,
    /// It has come.
    Sha1(CertificateHash),
}

/// What the bytes so far are.
#[expect(clippy::large_enum_variant, reason = "lives on the stack of one call")]
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum ServerAnswer {
    /// The start of a ServerHello, or too little to say.
    NeedMore,
    /// Something else, or a refusal.
    NotTls,
    /// It started as a ServerHello and went wrong.
    Malformed(Malformed),
    /// A ServerHello and what came behind it.
    Hello(ServerHello, Certificate),
}

/// Why a walk ends.
enum End {
    /// The bytes so far do.
    NeedMore,
    /// Another kind of record follows.
    Other,
    Malformed(Malformed),
}

/// Reads what a server has sent so far, from its first byte on.
#[must_use]
pub fn server_hello(bytes: &[u8]) -> ServerAnswer {
    let mut content = Content { rest: bytes, record: &[], left: 0 };
    let hello = match hello(&mut content) {
        Ok(Some(hello)) => hello,
        Ok(None) | Err(End::Other) => return ServerAnswer::NotTls,
        Err(End::NeedMore) => return ServerAnswer::NeedMore,
        Err(End::Malformed(cause)) => return ServerAnswer::Malformed(cause),
    };
    if hello.version >= TLS_1_3 {
        return ServerAnswer::Hello(hello, Certificate::None);
    }
    let certificate = match certificate(&mut content) {
        Ok(certificate) => certificate,
        Err(End::NeedMore) => Certificate::NeedMore,
        // A resumed session goes on with another kind of record.
        Err(End::Other) => Certificate::None,
        Err(End::Malformed(cause)) => return ServerAnswer::Malformed(cause),
    };
    ServerAnswer::Hello(hello, certificate)
}

/// The contents of handshake records, one behind the other.
struct Content<'a> {
    /// Behind the record.
    rest: &'a [u8],
    /// What of the record is there and not taken.
    record: &'a [u8],
    /// Bytes of the record that are not taken.
    left: usize,
}

impl<'a> Content<'a> {
    /// Up to `most` bytes; never none.
    fn piece(&mut self, most: usize) -> Result<&'a [u8], End> {
        if self.left == 0 {
            self.open()?;
        }
        let piece = &self.record[..self.record.len().min(most)];
        if piece.is_empty() {
            return Err(End::NeedMore);
        }
        self.record = &self.record[piece.len()..];
        self.left -= piece.len();
        Ok(piece)
    }

    /// Starts the next record.
    fn open(&mut self) -> Result<(), End> {
        let kind = *self.rest.first().ok_or(End::NeedMore)?;
        let is_tls = kind == HANDSHAKE && self.rest.get(1).is_none_or(|major| *major == 3);
        if !is_tls {
            return Err(End::Other);
        }
        let (header, rest) = self.rest.split_first_chunk::<RECORD_HEADER>().ok_or(End::NeedMore)?;
        let len = usize::from(u16::from_be_bytes([header[3], header[4]]));
        if len == 0 {
            return Err(End::Malformed(Malformed::EmptyRecord));
        }
        if len > RECORD_MAX {
            return Err(End::Malformed(Malformed::RecordTooLong));
        }
        self.record = &rest[..len.min(rest.len())];
        self.rest = &rest[self.record.len()..];
        self.left = len;
        Ok(())
    }

    fn fill(&mut self, mut room: &mut [u8]) -> Result<(), End> {
        while !room.is_empty() {
            let piece = self.piece(room.len())?;
            let (filled, rest) = room.split_at_mut(piece.len());
            filled.copy_from_slice(piece);
            room = rest;
        }
        Ok(())
    }

    fn skip(&mut self, mut len: usize) -> Result<(), End> {
        while len > 0 {
            len -= self.piece(len)?.len();
        }
        Ok(())
    }

    fn bytes<const N: usize>(&mut self) -> Result<[u8; N], End> {
        let mut bytes = [0; N];
        self.fill(&mut bytes)?;
        Ok(bytes)
    }

    /// Length of a message, behind its type.
    fn message(&mut self) -> Result<Left, End> {
        let [a, b, c] = self.bytes()?;
        let len = u32::from_be_bytes([0, a, b, c]) as usize;
        if len > HANDSHAKE_MAX {
            return Err(End::Malformed(Malformed::HandshakeTooLong));
        }
        Ok(Left(len))
    }
}

/// Bytes that are left of a message or a list.
struct Left(usize);

impl Left {
    const fn take(&mut self, len: usize) -> Result<(), End> {
        match self.0.checked_sub(len) {
            Some(left) => {
                self.0 = left;
                Ok(())
            }
            None => Err(End::Malformed(Malformed::Overrun)),
        }
    }
}

/// The ServerHello; `None` when the first message is another one.
fn hello(content: &mut Content<'_>) -> Result<Option<ServerHello>, End> {
    let [kind] = content.bytes()?;
    if kind != SERVER_HELLO {
        return Ok(None);
    }
    let mut left = content.message()?;
    let mut fixed = [0; FIXED_MAX];
    left.take(35)?;
    content.fill(&mut fixed[..35])?;
    let legacy_version = u16::from_be_bytes([fixed[0], fixed[1]]);
    let session = usize::from(fixed[34]);
    if session > 32 {
        return Err(End::Malformed(Malformed::SessionId));
    }
    left.take(session + 3)?;
    content.fill(&mut fixed[35..35 + session + 3])?;
    let cipher = u16::from_be_bytes([fixed[35 + session], fixed[36 + session]]);
    let mut hello = ServerHello {
        legacy_version,
        version: legacy_version,
        cipher,
        extensions: [0; EXTENSIONS_MAX],
        count: 0,
    };
    if left.0 > 0 {
        left.take(2)?;
        let list = usize::from(u16::from_be_bytes(content.bytes()?));
        if list != left.0 {
            let cause = if list > left.0 { Malformed::Overrun } else { Malformed::Trailing };
            return Err(End::Malformed(cause));
        }
        extensions(content, &mut left, &mut hello)?;
    }
    Ok(Some(hello))
}

fn extensions(
    content: &mut Content<'_>,
    left: &mut Left,
    hello: &mut ServerHello,
) -> Result<(), End> {
    while left.0 > 0 {
        left.take(4)?;
        let [a, b, c, d] = content.bytes()?;
        let (kind, len) = (u16::from_be_bytes([a, b]), usize::from(u16::from_be_bytes([c, d])));
        left.take(len)?;
        let slot = hello.extensions.get_mut(usize::from(hello.count));
        *slot.ok_or(End::Malformed(Malformed::TooManyExtensions))? = kind;
        hello.count += 1;
        if kind == SUPPORTED_VERSIONS && len == 2 {
            hello.version = u16::from_be_bytes(content.bytes()?);
        } else {
            content.skip(len)?;
        }
    }
    Ok(())
}

/// The first certificate of the message that follows.
fn certificate(content: &mut Content<'_>) -> Result<Certificate, End> {
    let [kind] = content.bytes()?;
    let mut left = content.message()?;
    if kind != CERTIFICATE {
        return Ok(Certificate::None);
    }
    left.take(3)?;
    content.skip(3)?;
    if left.0 == 0 {
        return Ok(Certificate::None);
    }
    left.take(3)?;
    let [a, b, c] = content.bytes()?;
    let len = u32::from_be_bytes([0, a, b, c]) as usize;
    left.take(len)?;
    let mut hash = Sha1::new();
    let mut rest = len;
    while rest > 0 {
        let piece = content.piece(rest)?;
        hash.update(piece);
        rest -= piece.len();
    }
    Ok(Certificate::Sha1(CertificateHash(hash.finalize().into())))
}

#[cfg(test)]
pub(in crate::inspect) mod tests;

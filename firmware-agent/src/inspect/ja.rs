//! Fingerprints of TLS: JA3 (string and MD5) and JA4 of clients, JA3S of servers.
//!
//! Owns turning a read ClientHello into the published texts. No heap: fixed buffers, and a string
//! only where the caller asks for one.

mod decimal;
mod hex;

use core::fmt;

use self::decimal::DecimalText;
use self::hex::HexText;
use super::tls::{ClientHello, EXTENSIONS_MAX, HELLO_MAX, ServerHello, Sni, is_grease};
use crate::text::write_hex;

/// What carries the ClientHello; the first letter of a JA4.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Transport {
    /// TLS over TCP.
    Tcp,
    /// QUIC.
    Quic,
    /// DTLS.
    Dtls,
}

impl Transport {
    const fn letter(self) -> u8 {
        match self {
            Self::Tcp => b't',
            Self::Quic => b'q',
            Self::Dtls => b'd',
        }
    }

    /// The word used in status, logs and events: the protocol below.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Quic | Self::Dtls => "udp",
        }
    }
}

/// Length of a JA4.
const JA4_LEN: usize = 36;
/// What stands for the hash of an empty list.
const NO_HASH: [u8; 12] = *b"000000000000";
/// Values of a list for which no large room is needed; real clients offer less than 100.
const FEW: usize = 128;
const _: () = assert!(EXTENSIONS_MAX <= FEW);

const SERVER_NAME: u16 = 0;
const ALPN: u16 = 16;

/// A JA4 fingerprint, such as `t13d1516h2_8daaf6152771_e5627efa2ab1`.
#[derive(Clone, Copy, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Ja4([u8; JA4_LEN]);

impl Ja4 {
    /// The fingerprint of `hello`.
    #[must_use]
    pub fn new(hello: &ClientHello<'_>, transport: Transport) -> Self {
        let is_short = hello.ciphers.len().max(hello.signature_algorithms.len()) <= FEW;
        let lists = if is_short { Lists::new(hello, &mut [0; FEW]) } else { long_lists(hello) };
        let mut text = [b'_'; JA4_LEN];
        text[0] = transport.letter();
        text[1..3].copy_from_slice(version(hello.version()));
        text[3] = if hello.sni == Sni::Absent { b'i' } else { b'd' };
        text[4..6].copy_from_slice(&decimal(lists.ciphers));
        text[6..8].copy_from_slice(&decimal(lists.extensions));
        text[8..10].copy_from_slice(&first_protocol(hello));
        text[11..23].copy_from_slice(&lists.hashes[0].unwrap_or(NO_HASH));
        text[24..36].copy_from_slice(&lists.hashes[1].unwrap_or(NO_HASH));
        Self(text)
    }

    /// The text, 36 ASCII characters.
    #[must_use]
    pub fn as_str(&self) -> &str {
        core::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl fmt::Display for Ja4 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Ja4 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

const fn version(version: u16) -> &'static [u8; 2] {
    match version {
        0x0304 => b"13",
        0x0303 => b"12",
        0x0302 => b"11",
        0x0301 => b"10",
        0x0300 => b"s3",
        0x0002 => b"s2",
        0xfeff => b"d1",
        0xfefd => b"d2",
        0xfefc => b"d3",
        _ => b"00",
    }
}

/// Two digits; more than 99 is shown as 99.
fn decimal(count: usize) -> [u8; 2] {
    let count = count.min(99) as u8;
    [b'0' + count / 10, b'0' + count % 10]
}

/// First and last character of the first protocol, or of its hexadecimal form.
fn first_protocol(hello: &ClientHello<'_>) -> [u8; 2] {
    // The definition ignores reserved values wherever they occur; those of ALPN have two bytes.
    let is_reserved = |name: &&[u8]| matches!(**name, [first, second] if is_grease(u16::from_be_bytes([first, second])));
    let Some(name) = hello.alpn.iter().find(|name| !is_reserved(name)) else { return *b"00" };
    let (Some(&first), Some(&last)) = (name.first(), name.last()) else { return *b"00" };
    if first.is_ascii_alphanumeric() && last.is_ascii_alphanumeric() {
        [first, last]
    } else {
        [hex(first >> 4), hex(last & 0x0f)]
    }
}

/// What a JA4 says of the lists in a ClientHello.
struct Lists {
    ciphers: usize,
    extensions: usize,
    /// Of the ciphers, and of the extensions with the signature algorithms.
    hashes: [Option<[u8; 12]>; 2],
}

impl Lists {
    /// `room` is for the longest of the lists, one after the other.
    fn new(hello: &ClientHello<'_>, room: &mut [u16]) -> Self {
        let mut of_ciphers = HexText::new();
        let mut of_extensions = HexText::new();
        let ciphers = known(hello.ciphers.iter(), room);
        ciphers.sort_unstable();
        of_ciphers.put(b',', ciphers);
        let ciphers = ciphers.len();
        let mut named = 0;
        let listed = hello.extensions.iter().map(|(kind, _)| kind).filter(|kind| {
            let is_named = matches!(*kind, SERVER_NAME | ALPN);
            named += usize::from(is_named);
            !is_named
        });
        let listed = known(listed, room);
        listed.sort_unstable();
        of_extensions.put(b',', listed);
        let extensions = listed.len() + named;
        if !listed.is_empty() {
            of_extensions.put(b'_', known(hello.signature_algorithms.iter(), room));
        }
        Self { ciphers, extensions, hashes: HexText::first_12(&mut of_ciphers, &mut of_extensions) }
    }
}

#[cold]
#[inline(never)]
fn long_lists(hello: &ClientHello<'_>) -> Lists {
    Lists::new(hello, &mut [0; HELLO_MAX / 2])
}

/// The values that are not reserved, in `room`.
fn known(values: impl Iterator<Item = u16>, room: &mut [u16]) -> &mut [u16] {
    let mut count = 0;
    for value in values {
        if let Some(slot) = room.get_mut(count) {
            *slot = value;
            count += usize::from(!is_grease(value));
        }
    }
    &mut room[..count]
}

/// A JA3 fingerprint: the MD5 of version, ciphers, extensions, groups and point formats in decimal.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Ja3([u8; 16]);

impl Ja3 {
    /// The fingerprint of `hello`.
    #[must_use]
    pub fn new(hello: &ClientHello<'_>) -> Self {
        Self::with_text(hello, 0).0
    }

    /// The fingerprint and the text that it is the hash of, unless that is longer than `max` bytes: its
    /// length is the choice of the client.
    #[must_use]
    pub fn with_text(hello: &ClientHello<'_>, max: usize) -> (Self, Option<Box<str>>) {
        let mut text = DecimalText::new(max);
        text.value(hello.legacy_version);
        text.list(hello.ciphers.known());
        text.list(hello.extensions.known());
        text.list(hello.groups.known());
        text.list(hello.point_formats.iter().copied().map(u16::from));
        let (hash, text) = text.finish();
        (Self(hash), text)
    }

    /// The hash.
    #[must_use]
    pub const fn bytes(&self) -> [u8; 16] {
        self.0
    }
}

impl fmt::Display for Ja3 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(f, &self.0, "")
    }
}

/// A JA3S fingerprint: the MD5 of version, cipher suite and extensions of a server's answer.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Ja3s([u8; 16]);

impl Ja3s {
    /// The fingerprint of `hello`.
    #[must_use]
    pub fn new(hello: &ServerHello) -> Self {
        let mut text = DecimalText::new(0);
        text.value(hello.legacy_version);
        text.list([hello.cipher].into_iter());
        text.list(hello.extensions().iter().copied());
        Self(text.finish().0)
    }

    /// The hash.
    #[must_use]
    pub const fn bytes(&self) -> [u8; 16] {
        self.0
    }
}

impl fmt::Display for Ja3s {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(f, &self.0, "")
    }
}

const fn hex(nibble: u8) -> u8 {
    b"0123456789abcdef"[(nibble & 15) as usize]
}

#[cfg(test)]
mod tests;

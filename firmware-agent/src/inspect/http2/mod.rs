//! The first request of a connection in HTTP/2 that begins without TLS and without an upgrade (RFC
//! 9113, section 3.3): preface, settings, and the header block of the first stream.
//!
//! Owns finding that block in the frames and reading what names its server. What servers may read
//! differently is malformed here, never guessed. Does not own later requests: each block changes the
//! table that the next one is read with.

mod hpack;
mod huffman;

use self::hpack::Fields;
use super::http::{HEAD_MAX, Host, host};
use super::tls::NAME_MAX;

/// What a client says first.
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Bytes before the content of a frame.
const FRAME_HEADER: usize = 9;
/// Longest frame that a client may send before it knows the server's settings (section 4.2).
const FRAME_MAX: usize = 16 * 1024;

/// Types of frames.
mod kind {
    pub(super) const DATA: u8 = 0;
    pub(super) const HEADERS: u8 = 1;
    pub(super) const SETTINGS: u8 = 4;
    pub(super) const PUSH_PROMISE: u8 = 5;
    pub(super) const CONTINUATION: u8 = 9;
}

/// Flags of frames.
mod flag {
    pub(super) const END_HEADERS: u8 = 4;
    pub(super) const PADDED: u8 = 8;
    pub(super) const PRIORITY: u8 = 32;
}

/// What the bytes so far are.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Answer {
    /// They may become a request.
    NeedMore,
    /// They are none.
    NotHttp2,
    /// They started as one and went wrong.
    Malformed(Malformed),
    /// A whole head.
    Request(Box<Request>),
}

/// How bytes that started as HTTP/2 contradict the protocol. Append only: names are in statistics.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Malformed {
    /// A frame that cannot be there, or whose content contradicts its length.
    Frame,
    /// A frame longer than a client may send.
    FrameTooLong,
    /// Longer than the longest head that is read.
    HeadTooLong,
    /// The header block cannot be decompressed.
    Compression,
    /// A field whose name or value has characters that none has.
    Field,
    /// A pseudo-header field that is unknown, missing, there twice or behind others.
    Pseudo,
    /// Two hosts.
    TwoHosts,
    /// A host that is neither a name nor an address.
    Host,
}

impl Malformed {
    /// The word used in status, logs and events.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Frame => "frame",
            Self::FrameTooLong => "frame_too_long",
            Self::HeadTooLong => "head_too_long",
            Self::Compression => "compression",
            Self::Field => "field",
            Self::Pseudo => "pseudo",
            Self::TwoHosts => "two_hosts",
            Self::Host => "host",
        }
    }
}

/// A request's head.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Request {
    /// Method: letters, digits, `-` and `_`.
    pub method: String,
    /// Path and query; empty for `CONNECT`. No control characters.
    pub target: Vec<u8>,
    /// The host that it names, in lower case, or the address.
    pub host: Option<String>,
    /// User agent; no control characters but tabs.
    pub user_agent: Option<Vec<u8>>,
    /// Bytes up to the end of the header block.
    pub len: usize,
}

/// Reads the first request of `bytes`: all that the client has sent so far.
#[must_use]
pub fn request(bytes: &[u8]) -> Answer {
    let (head, is_cut) =
        if bytes.len() > HEAD_MAX { (&bytes[..HEAD_MAX], true) } else { (bytes, false) };
    let Some(frames) = head.strip_prefix(PREFACE) else {
        return if PREFACE.starts_with(head) { Answer::NeedMore } else { Answer::NotHttp2 };
    };
    match read(frames) {
        Ok(Some(request)) => {
            let len = PREFACE.len() + request.len;
            Answer::Request(Box::new(Request { len, ..request }))
        }
        Ok(None) if is_cut => Answer::Malformed(Malformed::HeadTooLong),
        Ok(None) => Answer::NeedMore,
        Err(malformed) => Answer::Malformed(malformed),
    }
}

/// A frame.
struct Frame<'a> {
    kind: u8,
    flags: u8,
    stream: u32,
    content: &'a [u8],
}

impl<'a> Frame<'a> {
    /// Takes the first frame of `bytes`; `None` when it is not whole.
    const fn take(bytes: &mut &'a [u8]) -> Result<Option<Self>, Malformed> {
        let Some((header, rest)) = bytes.split_first_chunk::<FRAME_HEADER>() else {
            return Ok(None);
        };
        let [_, _, _, kind, flags, stream @ ..] = *header;
        let len = u32::from_be_bytes([0, header[0], header[1], header[2]]) as usize;
        if len > FRAME_MAX {
            return Err(Malformed::FrameTooLong);
        }
        let Some((content, rest)) = rest.split_at_checked(len) else { return Ok(None) };
        *bytes = rest;
        let stream = u32::from_be_bytes(stream) & (u32::MAX >> 1);
        Ok(Some(Self { kind, flags, stream, content }))
    }

    const fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// The part of a header block in a HEADERS frame.
    fn fragment(&self) -> Option<&'a [u8]> {
        let mut content = self.content;
        let mut padding = 0;
        if self.has(flag::PADDED) {
            let (len, rest) = content.split_first()?;
            (padding, content) = (usize::from(*len), rest);
        }
        if self.has(flag::PRIORITY) {
            content = content.get(5..)?;
        }
        content.get(..content.len().checked_sub(padding)?)
    }
}

/// The first request behind the preface; `None` when it is not whole.
fn read(bytes: &[u8]) -> Result<Option<Request>, Malformed> {
    let mut rest = bytes;
    let Some(first) = Frame::take(&mut rest)? else { return Ok(None) };
    if first.kind != kind::SETTINGS || first.stream != 0 {
        return Err(Malformed::Frame);
    }
    let headers = loop {
        let Some(frame) = Frame::take(&mut rest)? else { return Ok(None) };
        match frame.kind {
            kind::HEADERS => break frame,
            kind::DATA | kind::PUSH_PROMISE | kind::CONTINUATION => return Err(Malformed::Frame),
            // Others say nothing about a request, and unknown ones are overlooked (section 4.1).
            _ => {}
        }
    };
    // A client's streams have odd numbers.
    let fragment = headers.fragment().filter(|_| headers.stream & 1 == 1);
    let mut block = fragment.ok_or(Malformed::Frame)?.to_vec();
    let mut is_whole = headers.has(flag::END_HEADERS);
    while !is_whole {
        let Some(frame) = Frame::take(&mut rest)? else { return Ok(None) };
        if frame.kind != kind::CONTINUATION || frame.stream != headers.stream {
            return Err(Malformed::Frame);
        }
        block.extend_from_slice(frame.content);
        is_whole = frame.has(flag::END_HEADERS);
    }
    let request = Head::read(&block)?.request()?;
    Ok(Some(Request { len: bytes.len() - rest.len(), ..request }))
}

/// The fields that count.
#[derive(Default)]
struct Head {
    method: Option<Vec<u8>>,
    scheme: Option<Vec<u8>>,
    authority: Option<Vec<u8>>,
    path: Option<Vec<u8>>,
    protocol: Option<Vec<u8>>,
    host: Option<Vec<u8>>,
    user_agent: Option<Vec<u8>>,
}

impl Head {
    fn read(block: &[u8]) -> Result<Self, Malformed> {
        let mut head = Self::default();
        let mut fields = Fields::new(block);
        let mut is_behind = false;
        while let Some((name, value)) = fields.next()? {
            // RFC 9113, section 8.2.1.
            let is_odd = |byte: &u8| matches!(byte, 0..=0x20 | b'A'..=b'Z' | 0x7f..);
            if name.is_empty()
                || name.iter().any(is_odd)
                || value.iter().any(|byte| is_control(*byte))
            {
                return Err(Malformed::Field);
            }
            let is_pseudo = name.starts_with(b":");
            if is_pseudo && is_behind {
                return Err(Malformed::Pseudo);
            }
            is_behind |= !is_pseudo;
            let (place, twice) = match &name[..] {
                b":method" => (&mut head.method, Malformed::Pseudo),
                b":scheme" => (&mut head.scheme, Malformed::Pseudo),
                b":authority" => (&mut head.authority, Malformed::TwoHosts),
                b":path" => (&mut head.path, Malformed::Pseudo),
                // RFC 8441.
                b":protocol" => (&mut head.protocol, Malformed::Pseudo),
                b"host" => (&mut head.host, Malformed::TwoHosts),
                b"user-agent" => {
                    head.user_agent.get_or_insert(value);
                    continue;
                }
                _ if is_pseudo => return Err(Malformed::Pseudo),
                _ => continue,
            };
            if place.replace(value).is_some() {
                return Err(twice);
            }
        }
        Ok(head)
    }

    /// What it asks for.
    fn request(self) -> Result<Request, Malformed> {
        let method = self.method.ok_or(Malformed::Pseudo)?;
        let is_method = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        let method = String::from_utf8(method).ok().filter(|m| m.as_bytes().iter().all(is_method));
        let method = method.filter(|method| !method.is_empty()).ok_or(Malformed::Field)?;
        // Without a path only the host to connect to is named (section 8.5).
        let is_tunnel = method == "CONNECT" && self.protocol.is_none();
        let has_all = self.scheme.is_some() && self.path.as_ref().is_some_and(|p| !p.is_empty());
        let has_none = self.scheme.is_none() && self.path.is_none() && self.authority.is_some();
        if if is_tunnel { !has_none } else { !has_all } {
            return Err(Malformed::Pseudo);
        }
        // Who names two takes the one or the other (section 8.3.1).
        let host = match (named(self.authority.as_deref())?, named(self.host.as_deref())?) {
            (Some(authority), Some(host)) if authority != host => return Err(Malformed::TwoHosts),
            (authority, host) => authority.or(host),
        };
        let target = self.path.unwrap_or_default();
        Ok(Request { method, target, host, user_agent: self.user_agent, len: 0 })
    }
}

/// A character that no value has; a tab is one that it may have.
const fn is_control(byte: u8) -> bool {
    byte.is_ascii_control() && byte != b'\t'
}

/// The host of an authority, in lower case.
fn named(text: Option<&[u8]>) -> Result<Option<String>, Malformed> {
    Ok(match host(text.unwrap_or_default()).map_err(|_not_http1| Malformed::Host)? {
        Host::Absent => None,
        Host::Name(name) => Some(name.to_lower(&mut [0; NAME_MAX]).to_owned()),
        Host::Address(address) => Some(address.to_string()),
    })
}

#[cfg(test)]
pub(in crate::inspect) mod tests;

//! From a stream of TLS records to one whole handshake message.

use super::{HANDSHAKE_MAX, HELLO_MAX, Malformed};

/// Record type of handshake messages.
pub(super) const HANDSHAKE: u8 = 22;
/// Handshake type of the ClientHello.
pub(super) const CLIENT_HELLO: u8 = 1;
/// Bytes before the content of a record.
pub(super) const RECORD_HEADER: usize = 5;
/// Bytes before the body of a handshake message.
pub(super) const MESSAGE_HEADER: usize = 4;
/// Most bytes in a record (RFC 8446, section 5.1).
pub(super) const RECORD_MAX: usize = 1 << 14;

/// Where a whole ClientHello lies in the stream.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Message {
    /// Length of the body, without the message header.
    len: usize,
    /// Whether the first record holds all of it.
    single: bool,
}

impl Message {
    /// Length of the message with its header.
    #[must_use]
    pub const fn wire_len(self) -> usize {
        MESSAGE_HEADER + self.len
    }
}

/// What a [`Finder`] says about the bytes so far.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Found {
    /// The start of a ClientHello, or too little to say.
    NeedMore,
    /// A whole ClientHello.
    Whole(Message),
    /// Something else.
    NotTls,
    /// It started as a ClientHello and went wrong.
    Malformed(Malformed),
}

/// Walks the records of a stream that grows, each record once: a message in many small records
/// costs no more than one in a single record.
#[derive(Clone, Copy, Debug, Default)]
pub struct Finder {
    /// Offset of the first record that was not whole.
    at: u32,
    /// Handshake bytes in the records before it.
    have: u32,
    /// The first of them: the message header.
    header: [u8; MESSAGE_HEADER],
}

impl Finder {
    /// Looks at the stream from its first byte on; each call passes the same bytes and more.
    pub fn look(&mut self, bytes: &[u8]) -> Found {
        loop {
            let at = self.at as usize;
            let have = self.have as usize;
            let rest = bytes.get(at..).unwrap_or_default();
            let is_record = rest.first().is_none_or(|kind| *kind == HANDSHAKE)
                && rest.get(1).is_none_or(|major| *major == 3);
            if !is_record {
                return if at == 0 {
                    Found::NotTls
                } else {
                    Found::Malformed(Malformed::Interrupted)
                };
            }
            let Some((header, content)) = rest.split_first_chunk::<RECORD_HEADER>() else {
                return Found::NeedMore;
            };
            let len = usize::from(u16::from_be_bytes([header[3], header[4]]));
            if len == 0 {
                return Found::Malformed(Malformed::EmptyRecord);
            }
            if len > RECORD_MAX {
                return Found::Malformed(Malformed::RecordTooLong);
            }
            let content = &content[..len.min(content.len())];
            // Filled anew from an unfinished record each time: what it has is not counted yet.
            for (slot, byte) in self.header.iter_mut().skip(have).zip(content) {
                *slot = *byte;
            }
            let seen = have + content.len();
            if seen >= 1 && self.header[0] != CLIENT_HELLO {
                return Found::NotTls;
            }
            if seen >= MESSAGE_HEADER {
                let [_, a, b, c] = self.header;
                let body = u32::from_be_bytes([0, a, b, c]) as usize;
                if body > HANDSHAKE_MAX {
                    return Found::Malformed(Malformed::HandshakeTooLong);
                }
                if body > HELLO_MAX {
                    return Found::Malformed(Malformed::HelloTooLong);
                }
                if seen >= MESSAGE_HEADER + body {
                    return Found::Whole(Message { len: body, single: at == 0 });
                }
            }
            if content.len() < len {
                return Found::NeedMore;
            }
            self.at += (RECORD_HEADER + len) as u32;
            self.have += len as u32;
        }
    }
}

/// Room for a message that spans several records.
#[derive(Debug)]
pub struct Joined(Box<[u8]>);

impl Default for Joined {
    fn default() -> Self {
        Self(vec![0; MESSAGE_HEADER + HELLO_MAX].into_boxed_slice())
    }
}

impl Joined {
    /// Bytes it takes.
    pub const SIZE: usize = MESSAGE_HEADER + HELLO_MAX;

    /// The bytes themselves, for other work that needs room for a while.
    pub fn room(&mut self) -> &mut [u8] {
        &mut self.0
    }

    /// The body of the message that a [`Finder`] found in `bytes`: a part of `bytes` when one
    /// record holds it, else a copy without the record headers.
    #[must_use]
    pub fn body<'a>(&'a mut self, bytes: &'a [u8], message: Message) -> &'a [u8] {
        let whole = message.wire_len();
        if message.single {
            let start = RECORD_HEADER + MESSAGE_HEADER;
            return bytes.get(start..start + message.len).unwrap_or_default();
        }
        let mut filled = 0;
        let mut rest = bytes;
        while let Some((header, content)) = rest.split_first_chunk::<RECORD_HEADER>() {
            let len = usize::from(u16::from_be_bytes([header[3], header[4]]));
            let part = &content[..len.min(content.len()).min(whole - filled)];
            self.0[filled..filled + part.len()].copy_from_slice(part);
            filled += part.len();
            if filled == whole || part.len() < len {
                break;
            }
            rest = &content[len..];
        }
        &self.0[MESSAGE_HEADER..filled.max(MESSAGE_HEADER)]
    }
}

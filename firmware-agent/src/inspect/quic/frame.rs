//! The frames of a client's Initial packets (RFC 9000, section 19).

use super::Malformed;
use super::header::Reader;

const PADDING: u8 = 0x00;
const PING: u8 = 0x01;
const ACK: u8 = 0x02;
const ACK_ECN: u8 = 0x03;
const CRYPTO: u8 = 0x06;
const CONNECTION_CLOSE: u8 = 0x1c;
/// The largest offset of a stream.
const OFFSET_MAX: u64 = (1 << 62) - 1;

/// Data of the handshake.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Crypto<'a> {
    pub(super) offset: u64,
    pub(super) data: &'a [u8],
}

/// The CRYPTO frames among the frames of a payload.
#[derive(Clone, Copy, Debug)]
pub(super) struct CryptoFrames<'a>(Reader<'a>);

impl<'a> CryptoFrames<'a> {
    pub(super) const fn new(payload: &'a [u8]) -> Self {
        Self(Reader(payload))
    }

    /// Bytes behind the frame that came last.
    pub(super) const fn left(&self) -> usize {
        self.0.0.len()
    }

    /// The next one; `None` when the payload has no more.
    pub(super) fn next(&mut self) -> Result<Option<Crypto<'a>>, Malformed> {
        let rest = &mut self.0;
        // Types of one byte are written in one byte: RFC 9000, section 12.4.
        while let Some(kind) = rest.u8() {
            match kind {
                PADDING | PING => {}
                CRYPTO => {
                    return crypto(rest).and_then(|crypto| {
                        let last = crypto.offset.checked_add(crypto.data.len() as u64);
                        let fits = last.is_some_and(|last| last <= OFFSET_MAX);
                        if fits { Ok(Some(crypto)) } else { Err(Malformed::CryptoOffset) }
                    });
                }
                ACK | ACK_ECN => ack(rest, kind == ACK_ECN).ok_or(Malformed::FrameOverrun)?,
                CONNECTION_CLOSE => close(rest).ok_or(Malformed::FrameOverrun)?,
                _ => return Err(Malformed::Frame),
            }
        }
        Ok(None)
    }
}

fn crypto<'a>(rest: &mut Reader<'a>) -> Result<Crypto<'a>, Malformed> {
    let mut fields = || {
        let offset = rest.varint()?;
        let len = rest.len()?;
        Some(Crypto { offset, data: rest.take(len)? })
    };
    fields().ok_or(Malformed::FrameOverrun)
}

fn ack(rest: &mut Reader<'_>, has_ecn: bool) -> Option<()> {
    let (_largest, _delay) = (rest.varint()?, rest.varint()?);
    let ranges = rest.varint()?;
    let _first = rest.varint()?;
    // Each takes two bytes or more: the payload is the bound.
    for _ in 0..ranges {
        let (_gap, _len) = (rest.varint()?, rest.varint()?);
    }
    if has_ecn {
        let _counts = (rest.varint()?, rest.varint()?, rest.varint()?);
    }
    Some(())
}

fn close(rest: &mut Reader<'_>) -> Option<()> {
    let (_error, _frame) = (rest.varint()?, rest.varint()?);
    let len = rest.len()?;
    rest.take(len).map(|_reason| ())
}

//! The payload of a packet.

use sluice_datapath::parse::{Headers, TCP};

/// What follows the TCP or UDP header, without the padding of the link.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::inspect) struct Segment<'a> {
    /// The part of the payload that was copied.
    pub(in crate::inspect) payload: &'a [u8],
    /// Length of the payload on the wire.
    pub(in crate::inspect) len: usize,
    /// TCP sequence number.
    pub(in crate::inspect) seq: u32,
    /// Length of the packet on the wire, from its IP header on.
    pub(in crate::inspect) packet_len: usize,
}

impl<'a> Segment<'a> {
    /// The payload of the packet `l3` with these `headers`; `original_len` is its length on the
    /// wire. `None` when the lengths in the headers contradict each other.
    pub(in crate::inspect) fn read(
        l3: &'a [u8],
        headers: &Headers,
        original_len: usize,
    ) -> Option<Self> {
        let end = match l3.first()? >> 4 {
            4 => usize::from(u16_at(l3, 2)?),
            _ => match u16_at(l3, 4)? {
                0 => 0,
                len => 40 + usize::from(len),
            },
        };
        // A merged packet of more than 64 KiB has no length of its own.
        let end = if end == 0 { original_len.max(l3.len()) } else { end };
        let (seq, start) = if headers.proto == TCP {
            let words = l3.get(headers.l4 + 12)? >> 4;
            if words < 5 {
                return None;
            }
            let seq = l3.get(headers.l4 + 4..)?.first_chunk()?;
            (u32::from_be_bytes(*seq), headers.l4 + usize::from(words) * 4)
        } else {
            (0, headers.l4 + 8)
        };
        let len = end.checked_sub(start)?;
        let payload = l3.get(start..end.min(l3.len())).unwrap_or_default();
        Some(Self { payload, len, seq, packet_len: end })
    }

    /// Whether a part of the payload is missing from the copy.
    pub(in crate::inspect) const fn is_cut(&self) -> bool {
        self.payload.len() < self.len
    }
}

fn u16_at(bytes: &[u8], offset: usize) -> Option<u16> {
    bytes.get(offset..)?.first_chunk().map(|pair| u16::from_be_bytes(*pair))
}

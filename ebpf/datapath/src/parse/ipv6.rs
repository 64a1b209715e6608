//! IPv6 and its extension headers (RFC 8200).

use bytemuck::{Pod, Zeroable};

use super::{NotIp, Ports, Sink, ports};
use crate::packet::{Packet, word};

/// Extension headers that are walked. Real packets have none or one; a chain longer than this has
/// no ports for us.
pub const EXTENSIONS_MAX: usize = 6;

const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const AUTHENTICATION: u8 = 51;
const DESTINATION: u8 = 60;
const MOBILITY: u8 = 135;

#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub(super) struct Header {
    pub(super) version_class: u8,
    pub(super) class_label: u8,
    pub(super) label: u16,
    pub(super) payload_len: u16,
    pub(super) next: u8,
    pub(super) hop_limit: u8,
    pub(super) src: [[u16; 2]; 4],
    pub(super) dst: [[u16; 2]; 4],
}

/// Reads the headers of the IPv6 packet at `l3`.
#[inline(always)]
pub(super) fn read<P: Packet + ?Sized, S: Sink>(
    packet: &P,
    l3: usize,
    sink: &mut S,
) -> Result<(), NotIp> {
    let ip: Header = packet.load(l3).ok_or(NotIp::Truncated)?;
    if ip.version_class >> 4 != 6 {
        return Err(NotIp::Malformed);
    }
    sink.v6(words(ip.src), words(ip.dst), l3);
    let (mut proto, mut l4) = (ip.next, l3 + size_of::<Header>());
    for _ in 0..=EXTENSIONS_MAX {
        // Every extension starts with the next protocol and its own length.
        let scale = match proto {
            HOP_BY_HOP | ROUTING | DESTINATION | MOBILITY => 8,
            AUTHENTICATION => 4, // RFC 4302, section 2.2: in 4-byte words, minus two
            FRAGMENT => {
                // Also an "atomic" fragment (RFC 6946), which is whole: not worth a special case.
                sink.transport(proto, Ports::Fragment, l4);
                return Ok(());
            }
            _ => {
                ports::read(packet, proto, l4, sink);
                return Ok(());
            }
        };
        let Some([next, len]) = packet.load::<[u8; 2]>(l4) else {
            sink.transport(proto, Ports::Truncated, l4);
            return Ok(());
        };
        let len = usize::from(len);
        l4 += if scale == 8 { (len + 1) * 8 } else { (len + 2) * 4 };
        proto = next;
    }
    sink.transport(proto, Ports::None, l4);
    Ok(())
}

#[inline(always)]
const fn words(halves: [[u16; 2]; 4]) -> [u32; 4] {
    [word(halves[0]), word(halves[1]), word(halves[2]), word(halves[3])]
}

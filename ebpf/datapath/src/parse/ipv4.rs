//! IPv4 (RFC 791).

use bytemuck::{Pod, Zeroable};

use super::{NotIp, Ports, Sink, ports};
use crate::packet::{Packet, word};

#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub(super) struct Header {
    pub(super) version_ihl: u8,
    pub(super) tos: u8,
    pub(super) total_len: u16,
    pub(super) id: u16,
    pub(super) fragment: u16,
    pub(super) ttl: u8,
    pub(super) proto: u8,
    pub(super) checksum: u16,
    pub(super) src: [u16; 2],
    pub(super) dst: [u16; 2],
}

/// "More fragments" and the offset.
pub(super) const FRAGMENT_MASK: u16 = 0x3fff_u16.to_be();

/// Reads the headers of the IPv4 packet at `l3`.
#[inline(always)]
pub(super) fn read<P: Packet + ?Sized, S: Sink>(
    packet: &P,
    l3: usize,
    sink: &mut S,
) -> Result<(), NotIp> {
    let ip: Header = packet.load(l3).ok_or(NotIp::Truncated)?;
    // The mask keeps the length below 64 whatever the packet says, which is all that the verifier
    // needs to accept the variable-length header.
    let header_len = usize::from(ip.version_ihl & 0x0f) * 4;
    if ip.version_ihl >> 4 != 4 || header_len < size_of::<Header>() {
        return Err(NotIp::Malformed);
    }
    sink.v4(word(ip.src), word(ip.dst), l3);
    let l4 = l3 + header_len;
    if ip.fragment & FRAGMENT_MASK == 0 {
        ports::read(packet, ip.proto, l4, sink);
    } else {
        sink.transport(ip.proto, Ports::Fragment, l4);
    }
    Ok(())
}

//! The ports of TCP (RFC 9293) and UDP (RFC 768).

use core::mem::offset_of;

use bytemuck::{Pod, Zeroable};

use super::{Ports, Sink, TCP, UDP};
use crate::packet::Packet;

/// TCP flag: no more data.
pub const FIN: u8 = 0x01;
/// TCP flag: synchronise sequence numbers.
pub const SYN: u8 = 0x02;
/// TCP flag: reset.
pub const RST: u8 = 0x04;
/// TCP flag: the acknowledgement number counts.
pub const ACK: u8 = 0x10;

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct Tcp {
    sport: u16,
    dport: u16,
    seq: [u16; 2],
    ack: [u16; 2],
    offset: u8,
    flags: u8,
    window: u16,
    checksum: u16,
    urgent: u16,
}

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct Udp {
    sport: u16,
    dport: u16,
    len: u16,
    checksum: u16,
}

/// Reads the ports of a packet that is no fragment.
#[inline(always)]
pub(super) fn read<P: Packet + ?Sized, S: Sink>(packet: &P, proto: u8, l4: usize, sink: &mut S) {
    if proto == TCP {
        sink.transport(TCP, Ports::Truncated, l4);
        if let Some(tcp) = packet.load::<Tcp>(l4) {
            let payload = l4 + usize::from(tcp.offset >> 4) * 4;
            sink.tcp(tcp.sport, tcp.dport, tcp.flags, payload);
        }
    } else if proto == UDP {
        sink.transport(UDP, Ports::Truncated, l4);
        if let Some(udp) = packet.load::<Udp>(l4) {
            sink.udp(udp.sport, udp.dport, l4 + size_of::<Udp>());
        }
    } else {
        sink.transport(proto, Ports::None, l4);
    }
}

/// Length of the TCP or UDP header at `l4` of a packet in which it was read before.
#[inline(always)]
pub(crate) fn len<P: Packet + ?Sized>(packet: &P, proto: u8, l4: usize) -> usize {
    if proto != TCP {
        return size_of::<Udp>();
    }
    let words = packet.load::<[u8; 2]>(l4 + offset_of!(Tcp, offset));
    words.map_or(size_of::<Tcp>(), |[offset, _]| usize::from(offset >> 4) * 4)
}

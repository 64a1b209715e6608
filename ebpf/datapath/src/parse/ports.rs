//! The ports of TCP (RFC 9293) and UDP (RFC 768).

use bytemuck::{Pod, Zeroable};

use super::{Headers, Ports, TCP, UDP};
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

/// Fills in the ports of a packet that is no fragment.
#[inline(always)]
pub(super) fn read<P: Packet + ?Sized>(packet: &P, headers: &mut Headers) {
    headers.ports = Ports::None;
    if headers.proto == TCP {
        headers.ports = Ports::Truncated;
        if let Some(tcp) = packet.load::<Tcp>(headers.l4) {
            headers.ports = Ports::Known;
            headers.sport = tcp.sport;
            headers.dport = tcp.dport;
            headers.tcp_flags = tcp.flags;
            headers.payload = headers.l4 + usize::from(tcp.offset >> 4) * 4;
        }
    } else if headers.proto == UDP {
        headers.ports = Ports::Truncated;
        if let Some(udp) = packet.load::<Udp>(headers.l4) {
            headers.ports = Ports::Known;
            headers.sport = udp.sport;
            headers.dport = udp.dport;
            headers.payload = headers.l4 + size_of::<Udp>();
        }
    }
}

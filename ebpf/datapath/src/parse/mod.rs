//! From the first byte of a packet to the identity of its flow.
//!
//! Supported, outermost first: a MediaTek switch tag, up to two VLAN tags (802.1Q, 802.1ad), a
//! PPPoE session (RFC 2516), IPv4 with options, IPv6 with up to six extension headers, TCP, UDP.

mod ethernet;
mod glance;
mod ipv4;
mod ipv6;
mod ports;
mod reach;

use sluice_abi::attach::Link;
use sluice_abi::flow::{Addr, Direction, FlowKey};

pub use self::glance::{Glance, V4, V6, headers_len};
pub use self::ipv6::EXTENSIONS_MAX;
pub(crate) use self::ports::len as transport_len;
pub use self::ports::{ACK, FIN, RST, SYN};
pub use self::reach::{LONGEST, reach};
use crate::packet::Packet;

/// IP protocol number of ICMP.
pub const ICMP: u8 = 1;
/// IP protocol number of `ICMPv6`.
pub const ICMP_V6: u8 = 58;
/// IP protocol number of TCP.
pub const TCP: u8 = 6;
/// IP protocol number of UDP.
pub const UDP: u8 = 17;

/// Why a packet has no addresses.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum NotIp {
    /// Another protocol behind the link header (ARP, PPPoE control, a third VLAN tag, …).
    Other,
    /// The packet ends inside the link or IP header.
    Truncated,
    /// The IP header contradicts itself.
    Malformed,
}

/// What is known about the ports of a packet.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Ports {
    /// A TCP or UDP header was read.
    Known,
    /// A fragment, the first included: its ports are never matched (R6).
    Fragment,
    /// Neither TCP nor UDP, or more extension headers than are walked.
    None,
    /// The packet ends inside the extension, TCP or UDP header.
    Truncated,
}

/// The headers of an IP packet.
#[derive(Clone, Copy, Debug)]
pub struct Headers {
    /// Source address.
    pub src: Addr,
    /// Destination address.
    pub dst: Addr,
    /// Protocol behind the IP headers; of a fragment, what its header says.
    pub proto: u8,
    /// Whether the three fields below mean anything.
    pub ports: Ports,
    /// Source port, network byte order.
    pub sport: u16,
    /// Destination port, network byte order.
    pub dport: u16,
    /// TCP flags ([`SYN`], [`ACK`], …); 0 for UDP.
    pub tcp_flags: u8,
    /// Offset of the IP header.
    pub l3: usize,
    /// Offset of the TCP or UDP header.
    pub l4: usize,
    /// Offset of what the TCP or UDP header carries.
    pub payload: usize,
}

impl Headers {
    /// The flow of the packet and which way it travels, when its ports are known.
    #[inline(always)]
    #[must_use]
    pub const fn flow(&self) -> Option<(FlowKey, Direction)> {
        match self.ports {
            Ports::Known => {
                Some(FlowKey::new(self.src, self.dst, self.sport, self.dport, self.proto))
            }
            _ => None,
        }
    }

    /// Whether this opens a TCP connection: SYN without ACK.
    #[inline(always)]
    #[must_use]
    pub const fn is_syn(&self) -> bool {
        self.proto == TCP
            && matches!(self.ports, Ports::Known)
            && self.tcp_flags & (SYN | ACK) == SYN
    }
}

/// Takes what is read from a packet, in the order of the headers. Where a program keeps it in
/// memory of its own nothing has to be carried from one way through the headers to another.
pub trait Sink {
    /// The ends of an IPv4 packet whose header is at `l3`, as words of the wire.
    fn v4(&mut self, src: u32, dst: u32, l3: usize);
    /// The ends of an IPv6 packet whose header is at `l3`, as words of the wire.
    fn v6(&mut self, src: [u32; 4], dst: [u32; 4], l3: usize);
    /// What is behind the IP headers, at `l4`; [`Ports::Known`] comes with [`Sink::tcp`] or
    /// [`Sink::udp`].
    fn transport(&mut self, proto: u8, ports: Ports, l4: usize);
    /// The ports (network byte order), the flags, and where the payload starts.
    fn tcp(&mut self, sport: u16, dport: u16, flags: u8, payload: usize);
    /// The ports (network byte order), and where the payload starts.
    fn udp(&mut self, sport: u16, dport: u16, payload: usize);
}

impl Sink for Headers {
    #[inline(always)]
    fn v4(&mut self, src: u32, dst: u32, l3: usize) {
        (self.src, self.dst, self.l3) = (Addr::v4(src), Addr::v4(dst), l3);
    }

    #[inline(always)]
    fn v6(&mut self, src: [u32; 4], dst: [u32; 4], l3: usize) {
        (self.src, self.dst, self.l3) = (Addr::v6(src), Addr::v6(dst), l3);
    }

    #[inline(always)]
    fn transport(&mut self, proto: u8, ports: Ports, l4: usize) {
        (self.proto, self.ports, self.l4) = (proto, ports, l4);
    }

    #[inline(always)]
    fn tcp(&mut self, sport: u16, dport: u16, flags: u8, payload: usize) {
        self.ports = Ports::Known;
        (self.sport, self.dport, self.tcp_flags, self.payload) = (sport, dport, flags, payload);
    }

    #[inline(always)]
    fn udp(&mut self, sport: u16, dport: u16, payload: usize) {
        self.ports = Ports::Known;
        (self.sport, self.dport, self.payload) = (sport, dport, payload);
    }
}

/// Reads the headers of a packet that starts as `link` says.
#[inline(always)]
pub fn headers<P: Packet + ?Sized>(packet: &P, link: Link) -> Result<Headers, NotIp> {
    let mut headers = Headers {
        src: Addr::v4(0),
        dst: Addr::v4(0),
        proto: 0,
        ports: Ports::None,
        sport: 0,
        dport: 0,
        tcp_flags: 0,
        l3: 0,
        l4: 0,
        payload: 0,
    };
    read(packet, link, &mut headers)?;
    Ok(headers)
}

/// Reads the headers of a packet that starts as `link` says into `sink`, which has only some of
/// them when there are none.
#[inline(always)]
pub fn read<P: Packet + ?Sized, S: Sink>(
    packet: &P,
    link: Link,
    sink: &mut S,
) -> Result<(), NotIp> {
    match link {
        Link::Ip => ip(packet, sink),
        Link::Ethernet => ethernet::read(packet, 12, sink),
        Link::Mtk => ethernet::read(packet, 16, sink),
    }
}

/// Reads the headers of a packet without link header.
#[inline(always)]
fn ip<P: Packet + ?Sized, S: Sink>(packet: &P, sink: &mut S) -> Result<(), NotIp> {
    // Two bytes: the verifier learns nothing from a check that the packet is longer than none.
    let [first, _]: [u8; 2] = packet.load(0).ok_or(NotIp::Truncated)?;
    match first >> 4 {
        4 => ipv4::read(packet, 0, sink),
        6 => ipv6::read(packet, 0, sink),
        _ => Err(NotIp::Malformed),
    }
}

#[cfg(test)]
mod tests;

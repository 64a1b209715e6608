//! From the first byte of a packet to the identity of its flow.
//!
//! Supported, outermost first: a MediaTek switch tag, up to two VLAN tags (802.1Q, 802.1ad), a
//! PPPoE session (RFC 2516), IPv4 with options, IPv6 with up to six extension headers, TCP, UDP.

mod ethernet;
mod ipv4;
mod ipv6;
mod ports;

use sluice_abi::attach::Link;
use sluice_abi::flow::{Addr, Direction, FlowKey};

pub use self::ipv6::EXTENSIONS_MAX;
pub use self::ports::{ACK, FIN, RST, SYN};
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

/// Reads the headers of a packet that starts as `link` says.
#[inline(always)]
pub fn headers<P: Packet + ?Sized>(packet: &P, link: Link) -> Result<Headers, NotIp> {
    match link {
        Link::Ip => ip(packet),
        Link::Ethernet => ethernet::headers(packet, 12),
        Link::Mtk => ethernet::headers(packet, 16),
    }
}

/// Reads the headers of a packet without link header.
#[inline(always)]
fn ip<P: Packet + ?Sized>(packet: &P) -> Result<Headers, NotIp> {
    // Two bytes: the verifier learns nothing from a check that the packet is longer than none.
    let [first, _]: [u8; 2] = packet.load(0).ok_or(NotIp::Truncated)?;
    match first >> 4 {
        4 => ipv4::headers(packet, 0),
        6 => ipv6::headers(packet, 0),
        _ => Err(NotIp::Malformed),
    }
}

#[cfg(test)]
mod tests;

//! The packets that nearly all are, read no further than it takes to know their flow again: TCP or UDP straight
//! behind an IP header without options or extensions, straight behind the link header; whole, and of TCP what
//! neither opens nor closes its connection. UDP with less than six bytes of data that ends there is not among
//! them.

use bytemuck::{AnyBitPattern, Pod, Zeroable};
use sluice_abi::flow::{Addr, Recent};

use super::ethernet::{IPV4, IPV6};
use super::{FIN, RST, SYN, TCP, ipv4, ipv6, ports};
use crate::packet::{Packet, word};

/// IP in one of its versions, with what of TCP or UDP is looked at. Each has code of its own: what both have in
/// common would be carried through the stack, and the verifier would walk what follows for each of them.
pub trait Glance: AnyBitPattern {
    /// Bytes of the IP header.
    const IP_LEN: usize;
    /// The type of Ethernet frames.
    #[doc(hidden)]
    const ETHERTYPE: u16;
    /// Whether the header is of this version, without options, and of no fragment.
    #[doc(hidden)]
    fn is_plain(&self) -> bool;
    /// What is behind it.
    #[doc(hidden)]
    fn proto(&self) -> u8;
    #[doc(hidden)]
    fn transport(&self) -> Transport;
    /// Whether the packet is between these addresses.
    #[doc(hidden)]
    fn is_between(&self, src: &Addr, dst: &Addr) -> bool;

    /// Source and destination port (network byte order) of the packet whose IP header is at `l3`, if it is one of
    /// these, where it is TCP or UDP.
    #[inline(always)]
    fn ports<P: Packet + ?Sized>(packet: &P, l3: usize) -> Option<[u16; 2]> {
        let this: Self = packet.load(l3)?;
        let ethertype =
            if l3 == 0 { Self::ETHERTYPE } else { packet.load::<u16>(l3 - size_of::<u16>())? };
        if ethertype != Self::ETHERTYPE || !this.is_plain() {
            return None;
        }
        let Transport { sport, dport, flags, .. } = this.transport();
        if this.proto() == TCP && flags & (SYN | FIN | RST) != 0 {
            return None;
        }
        // Of another protocol these are no ports; but then no flow is of its kind.
        Some([sport, dport])
    }

    /// Whether `recent` is of the flow and direction of a packet that has such ports.
    #[inline(always)]
    fn is_of<P: Packet + ?Sized>(packet: &P, l3: usize, recent: &Recent) -> bool {
        // Ports are read again: to keep them until here would take more.
        let Some(this) = packet.load::<Self>(l3) else { return false };
        let Transport { sport, dport, .. } = this.transport();
        recent.kind == Recent::kind(Self::ETHERTYPE == IPV4, this.proto())
            && recent.ports == word([sport, dport])
            && this.is_between(&recent.src, &recent.dst)
    }
}

/// What every TCP or UDP header starts with, as far as the flags of TCP.
#[doc(hidden)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub struct Transport {
    sport: u16,
    dport: u16,
    numbers: [u16; 4],
    offset: u8,
    flags: u8,
}

/// IPv4.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub struct V4 {
    ip: ipv4::Header,
    transport: Transport,
}

impl Glance for V4 {
    const IP_LEN: usize = size_of::<ipv4::Header>();
    const ETHERTYPE: u16 = IPV4;

    #[inline(always)]
    fn is_plain(&self) -> bool {
        self.ip.version_ihl == 0x45 && self.ip.fragment & ipv4::FRAGMENT_MASK == 0
    }

    #[inline(always)]
    fn proto(&self) -> u8 {
        self.ip.proto
    }

    #[inline(always)]
    fn transport(&self) -> Transport {
        self.transport
    }

    #[inline(always)]
    fn is_between(&self, src: &Addr, dst: &Addr) -> bool {
        src.words()[3] == word(self.ip.src) && dst.words()[3] == word(self.ip.dst)
    }
}

/// IPv6.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub struct V6 {
    ip: ipv6::Header,
    transport: Transport,
}

impl Glance for V6 {
    const IP_LEN: usize = size_of::<ipv6::Header>();
    const ETHERTYPE: u16 = IPV6;

    #[inline(always)]
    fn is_plain(&self) -> bool {
        self.ip.version_class >> 4 == 6
    }

    #[inline(always)]
    fn proto(&self) -> u8 {
        self.ip.next
    }

    #[inline(always)]
    fn transport(&self) -> Transport {
        self.transport
    }

    #[inline(always)]
    fn is_between(&self, src: &Addr, dst: &Addr) -> bool {
        // Hosts of one network differ in the last words.
        let are = |ours: [u32; 4], theirs: [[u16; 2]; 4]| {
            ours[3] == word(theirs[3])
                && ours[2] == word(theirs[2])
                && ours[1] == word(theirs[1])
                && ours[0] == word(theirs[0])
        };
        are(src.words(), self.ip.src) && are(dst.words(), self.ip.dst)
    }
}

/// Length of all headers from that of IP, at `l3`, on; `recent` is of the packet's flow.
#[inline(always)]
pub fn headers_len<P: Packet + ?Sized>(packet: &P, l3: usize, recent: &Recent) -> usize {
    let is_v4 = recent.kind == Recent::kind(true, recent.kind as u8);
    let len = if is_v4 { V4::IP_LEN } else { V6::IP_LEN };
    len + ports::len(packet, recent.kind as u8, l3 + len)
}

//! What can be said against a packet without knowing any other: its addresses, its flags. And which
//! rates count it.
//!
//! Works on a [`Brief`], which a program keeps where its verifier forgets how the packet was parsed:
//! what follows is then walked once, not once for each way through the headers.

use sluice_abi::flow::{Addr, Direction, FlowKey};
use sluice_abi::limits::Limits;
use sluice_abi::reason::DropReason;
use sluice_abi::shield::Rate;

use crate::packet::Packet;
use crate::parse::{
    ACK, EXTENSIONS_MAX, FIN, ICMP, ICMP_V6, LONGEST, Ports, RST, SYN, Sink, TCP, UDP,
    transport_len,
};
use crate::sources::Class;

/// What checks and rates need to know about a packet. What is left of an earlier packet in the same
/// memory is never looked at: ports count only where `kind` says that there are some.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[repr(C, align(8))]
pub struct Brief {
    /// Source address.
    pub src: Addr,
    /// Destination address.
    pub dst: Addr,
    /// [`Brief::V4`] and the bits below it; the TCP flags from bit 8 on.
    kind: u32,
    /// Source port, network byte order, of TCP and UDP.
    pub sport: u16,
    /// Destination port, the same.
    pub dport: u16,
    /// Offset of the IP header.
    pub l3: u32,
    /// Offset of what is behind the IP headers.
    pub l4: u32,
}

impl Brief {
    const V4: u32 = 1;
    const TCP: u32 = 1 << 1;
    const UDP: u32 = 1 << 2;
    const ICMP: u32 = 1 << 3;
    const FLAGS: u32 = 8;

    /// Whether both ends have IPv4 addresses.
    #[inline(always)]
    #[must_use]
    pub const fn is_v4(&self) -> bool {
        self.kind & Self::V4 != 0
    }

    /// Whether this opens a TCP connection: SYN without ACK.
    #[inline(always)]
    #[must_use]
    pub const fn is_syn(&self) -> bool {
        const MASK: u32 = Brief::TCP | ((SYN | ACK) as u32) << Brief::FLAGS;
        self.kind & MASK == Self::TCP | (SYN as u32) << Self::FLAGS
    }

    /// Whether this ends a TCP connection.
    #[inline(always)]
    #[must_use]
    pub const fn closes(&self) -> bool {
        self.kind & Self::TCP != 0 && self.kind & ((FIN | RST) as u32) << Self::FLAGS != 0
    }

    /// Offset of the IP header, an even number that is small whatever the memory holds, as a verifier wants it.
    #[inline(always)]
    #[must_use]
    pub const fn l3(&self) -> usize {
        const { assert!(LONGEST < 128) }
        self.l3 as usize & 0x7e
    }

    /// Whether something is behind the TCP or UDP header of this packet. Its IP header says so: short frames
    /// are filled up.
    #[inline(always)]
    pub fn has_payload<P: Packet + ?Sized>(&self, packet: &P) -> bool {
        // Length of an IPv6 header without extensions, which the length in it does not count.
        const V6_HEADER: u32 = 40;
        let (at, before) = if self.is_v4() { (2, 0) } else { (4, V6_HEADER) };
        let Some([len]) = packet.load::<[u16; 1]>(self.l3() + at) else { return true };
        let len = u32::from(u16::from_be(len));
        // Merged packets beyond 64 KiB say 0 (Linux 5.19 for IPv6, 6.3 for IPv4).
        len == 0 || self.l3 + before + len > self.payload(packet)
    }

    /// Length of all headers from that of IP on.
    #[inline(always)]
    pub fn headers_len<P: Packet + ?Sized>(&self, packet: &P) -> usize {
        self.payload(packet).wrapping_sub(self.l3) as usize
    }

    /// Offset of what the TCP or UDP header carries.
    #[inline(always)]
    fn payload<P: Packet + ?Sized>(&self, packet: &P) -> u32 {
        // Extension headers of IPv6 can be long, those that are walked not as long as that.
        const { assert!(LONGEST + EXTENSIONS_MAX * 2048 < 0x4000) }
        let l4 = self.l4 as usize & 0x3ffe;
        let proto = if self.kind & Self::TCP == 0 { UDP } else { TCP };
        self.l4 + transport_len(packet, proto, l4) as u32
    }

    /// The flow of the packet and which way it travels, where its ports were read.
    #[inline(always)]
    #[must_use]
    pub const fn flow(&self) -> Option<(FlowKey, Direction)> {
        let Some(proto) = self.proto() else { return None };
        Some(FlowKey::new(self.src, self.dst, self.sport, self.dport, proto))
    }

    /// TCP or UDP, where its ports were read.
    #[inline(always)]
    #[must_use]
    pub const fn proto(&self) -> Option<u8> {
        match self.kind & (Self::TCP | Self::UDP) {
            0 => None,
            Self::TCP => Some(TCP),
            _ => Some(UDP),
        }
    }

    /// Whether this is a TCP packet with flags that no stack sends.
    #[inline(always)]
    #[must_use]
    pub const fn has_invalid_flags(&self) -> bool {
        self.kind & Self::TCP != 0 && are_flags_invalid((self.kind >> Self::FLAGS) as u8)
    }

    /// Source and destination port, where they were read: not of a fragment, not of other protocols.
    #[inline(always)]
    #[must_use]
    pub const fn ports(&self) -> Option<(u16, u16)> {
        if self.kind & (Self::TCP | Self::UDP) == 0 { None } else { Some((self.sport, self.dport)) }
    }

    /// Whether it is for a group, or for everybody on a link.
    #[inline(always)]
    #[must_use]
    pub const fn is_to_group(&self) -> bool {
        if self.is_v4() {
            let ip = u32::from_be(self.dst.words()[3]);
            ip >> 28 == 14 || ip == u32::MAX
        } else {
            u32::from_be(self.dst.words()[0]) >> 24 == 0xff
        }
    }
}

impl Sink for Brief {
    #[inline(always)]
    fn v4(&mut self, src: u32, dst: u32, l3: usize) {
        (self.src, self.dst, self.kind) = (Addr::v4(src), Addr::v4(dst), Self::V4);
        self.l3 = l3 as u32;
    }

    #[inline(always)]
    fn v6(&mut self, src: [u32; 4], dst: [u32; 4], l3: usize) {
        (self.src, self.dst, self.kind) = (Addr::v6(src), Addr::v6(dst), 0);
        self.l3 = l3 as u32;
    }

    #[inline(always)]
    fn transport(&mut self, proto: u8, _ports: Ports, l4: usize) {
        self.l4 = l4 as u32;
        if matches!(proto, ICMP | ICMP_V6) {
            self.kind |= Self::ICMP;
        }
    }

    #[inline(always)]
    fn tcp(&mut self, sport: u16, dport: u16, flags: u8, _payload: usize) {
        (self.sport, self.dport) = (sport, dport);
        self.kind |= Self::TCP | u32::from(flags) << Self::FLAGS;
    }

    #[inline(always)]
    fn udp(&mut self, sport: u16, dport: u16, _payload: usize) {
        (self.sport, self.dport) = (sport, dport);
        self.kind |= Self::UDP;
    }
}

/// What kind of source an address is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Source {
    /// One that packets from the Internet have.
    Global,
    /// No address yet (`0.0.0.0`, `::`): DHCP, duplicate address detection, queries of switches.
    Unspecified,
    /// The link itself (`169.254.0.0/16`, `fe80::/10`).
    Link,
    /// For private networks and those of providers.
    Private,
    /// Reserved, documentation, benchmarks: in use nowhere.
    Bogon,
    /// Cannot be a source at all: loopback, multicast, broadcast.
    Martian,
}

/// The kind of `addr` as a source.
#[inline(always)]
#[must_use]
pub const fn source(addr: &Addr) -> Source {
    let words = addr.words();
    if addr.is_v4() { source_v4(u32::from_be(words[3])) } else { source_v6(words) }
}

/// First octets of IPv4 that hold more than global addresses, one bit each.
const SPECIAL: [u32; 8] = {
    let octets = [0, 10, 100, 127, 169, 172, 192, 198, 203];
    let mut bits = [0; 8];
    let mut index = 0;
    while index < octets.len() {
        bits[octets[index] / 32] |= 1 << (octets[index] % 32);
        index += 1;
    }
    bits[7] = u32::MAX;
    bits
};

#[inline(always)]
const fn within(ip: u32, net: [u8; 4], bits: u32) -> bool {
    (ip ^ u32::from_be_bytes(net)) >> (32 - bits) == 0
}

#[inline(always)]
const fn source_v4(ip: u32) -> Source {
    let octet = ip >> 24;
    if SPECIAL[(octet >> 5) as usize] & 1 << (octet & 31) == 0 {
        return Source::Global;
    }
    match octet {
        0 if ip == 0 => Source::Unspecified,
        10 => Source::Private,
        100 if within(ip, [100, 64, 0, 0], 10) => Source::Private,
        127 | 224..=239 => Source::Martian,
        169 if within(ip, [169, 254, 0, 0], 16) => Source::Link,
        172 if within(ip, [172, 16, 0, 0], 12) => Source::Private,
        192 if within(ip, [192, 168, 0, 0], 16) => Source::Private,
        192 if within(ip, [192, 0, 2, 0], 24) => Source::Bogon,
        198 if within(ip, [198, 18, 0, 0], 15) || within(ip, [198, 51, 100, 0], 24) => {
            Source::Bogon
        }
        203 if within(ip, [203, 0, 113, 0], 24) => Source::Bogon,
        255 if ip == u32::MAX => Source::Martian,
        0 | 240..=255 => Source::Bogon,
        _ => Source::Global,
    }
}

#[inline(always)]
const fn source_v6(words: [u32; 4]) -> Source {
    let first = u32::from_be(words[0]);
    // 2000::/3 is what is given out (RFC 4291, IANA).
    if first >> 29 == 1 {
        let is_documentation = first == 0x2001_0db8 || first >> 12 == 0x0003_fff0;
        return if is_documentation { Source::Bogon } else { Source::Global };
    }
    if first >> 25 == 0xfc >> 1 {
        Source::Private
    } else if first >> 22 == 0xfe80 >> 6 {
        Source::Link
    } else if first >> 24 == 0xff {
        Source::Martian
    } else if first == 0 && words[1] == 0 && words[2] == 0 {
        match u32::from_be(words[3]) {
            0 => Source::Unspecified,
            1 => Source::Martian,
            _ => Source::Bogon,
        }
    } else if first == 0x0064_ff9b {
        // NAT64 (RFC 6052).
        Source::Global
    } else {
        Source::Bogon
    }
}

/// Why the source address of a packet speaks against it, among the checks that `limits` switches on.
/// `is_own` is asked only when the answer matters and may be `true`.
#[inline(always)]
pub fn addresses(
    brief: &Brief,
    limits: &Limits,
    is_own: impl FnOnce(&Addr) -> bool,
) -> Option<DropReason> {
    let checks = limits.checks;
    let (src, words) = (&brief.src, brief.src.words());
    let kind = if brief.is_v4() { source_v4(u32::from_be(words[3])) } else { source_v6(words) };
    let reason = match kind {
        Source::Private => Some((Limits::PRIVATE, DropReason::Private)),
        Source::Bogon => Some((Limits::BOGON, DropReason::Bogon)),
        // Routers and neighbours of IPv6 speak with such addresses.
        Source::Link if brief.is_v4() => Some((Limits::BOGON, DropReason::Bogon)),
        Source::Global | Source::Unspecified | Source::Link => None,
        Source::Martian => Some((Limits::MARTIAN, DropReason::Martian)),
    };
    if let Some((bit, reason)) = reason
        && checks & bit != 0
    {
        return Some(reason);
    }
    if checks & Limits::MARTIAN != 0
        && !matches!(kind, Source::Unspecified)
        && (same(src, &brief.dst) || limits.may_be_own(src) && is_own(src))
    {
        return Some(DropReason::Martian);
    }
    None
}

/// Whether two addresses are one. They differ in the last word most of the time.
#[inline(always)]
const fn same(a: &Addr, b: &Addr) -> bool {
    let (a, b) = (a.words(), b.words());
    a[3] == b[3] && a[2] == b[2] && a[1] == b[1] && a[0] == b[0]
}

/// Whether no TCP stack sends this combination of flags: none at all, SYN with FIN or RST, FIN
/// without ACK (which the "Xmas tree" is, too).
#[inline(always)]
#[must_use]
pub const fn are_flags_invalid(flags: u8) -> bool {
    // One bit for each combination of the six flags of RFC 9293 (the upper two are ECN's).
    const INVALID: u64 = {
        let mut invalid = 0;
        let mut flags = 0_u8;
        while flags < 64 {
            let nothing = flags == 0;
            let opens_and_ends = flags & SYN != 0 && flags & (FIN | RST) != 0;
            let ends_out_of_nothing = flags & FIN != 0 && flags & ACK == 0;
            if nothing || opens_and_ends || ends_out_of_nothing {
                invalid |= 1 << flags;
            }
            flags += 1;
        }
        invalid
    };
    INVALID >> (flags & 63) & 1 != 0
}

/// Source ports of services that answer a small question of UDP with much: QOTD, character
/// generator, DNS, TFTP, portmapper, NTP, `NetBIOS`, SNMP, LDAP, RIP, SSDP, Kad, WS-Discovery, SIP,
/// multicast DNS, CoAP, ARMS, memcached, games.
pub const AMPLIFIERS: [u16; 20] = [
    17, 19, 53, 69, 111, 123, 137, 161, 389, 520, 1900, 3283, 3702, 5060, 5353, 5683, 10_001,
    11_211, 27_015, 37_810,
];

/// Whether `port` (network byte order) is one of [`AMPLIFIERS`].
#[inline(always)]
#[must_use]
pub const fn is_amplifier(port: u16) -> bool {
    // Most ports fall through a filter of 64 bits; what is left is compared one by one.
    const fn bit(port: u16) -> u64 {
        1 << ((port as u32).wrapping_mul(0x9e37_79b1) >> 26)
    }
    const FILTER: u64 = {
        let mut bits = 0;
        let mut index = 0;
        while index < AMPLIFIERS.len() {
            bits |= bit(AMPLIFIERS[index]);
            index += 1;
        }
        bits
    };
    let port = u16::from_be(port);
    if FILTER & bit(port) == 0 {
        return false;
    }
    let mut index = 0;
    while index < AMPLIFIERS.len() {
        if AMPLIFIERS[index] == port {
            return true;
        }
        index += 1;
    }
    false
}

/// A rate that counts a packet.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Counted {
    /// [`Class`] of the bucket, as a number.
    pub class: u32,
    /// The rate.
    pub rate: Rate,
    /// What it means when the rate is used up.
    pub reason: DropReason,
}

/// The rate of its source that counts a packet: the most particular one that is a limit.
#[inline(always)]
#[must_use]
pub const fn of_source(brief: &Brief, limits: &Limits) -> Option<Counted> {
    let checks = limits.checks;
    let (class, rate, reason, bit) = if checks & Limits::SOURCE_SYN != 0 && brief.is_syn() {
        (Class::Syn, limits.source_syn, DropReason::SynRate, Limits::SOURCE_SYN)
    } else if checks & Limits::SOURCE_ICMP != 0 && brief.kind & Brief::ICMP != 0 {
        (Class::Icmp, limits.source_icmp, DropReason::IcmpRate, Limits::SOURCE_ICMP)
    } else {
        (Class::Any, limits.source, DropReason::SourceRate, Limits::SOURCE)
    };
    if checks & bit == 0 {
        return None;
    }
    Some(Counted { class: class.number(), rate, reason })
}

/// The rate of its destination that counts a packet of a stranger: the most particular one that is
/// a limit.
#[inline(always)]
#[must_use]
pub const fn of_destination(brief: &Brief, limits: &Limits) -> Option<Counted> {
    let checks = limits.checks;
    if checks & Limits::DESTINATION_SYN != 0 && brief.is_syn() {
        let class = Class::DestinationSyn.number();
        let reason = DropReason::DestinationSyn;
        return Some(Counted { class, rate: limits.destination_syn, reason });
    }
    if checks & Limits::AMPLIFICATION != 0
        && brief.kind & Brief::UDP != 0
        && is_amplifier(brief.sport)
    {
        let class = Class::Amplification.number() + brief.sport as u32;
        let reason = DropReason::Amplification;
        return Some(Counted { class, rate: limits.amplification, reason });
    }
    if checks & Limits::DESTINATION == 0 {
        return None;
    }
    let class = Class::Destination.number();
    Some(Counted { class, rate: limits.destination, reason: DropReason::DestinationRate })
}

/// The rate that counts the SYN packets of strangers to a destination under attack.
#[inline(always)]
#[must_use]
pub const fn of_attacked(limits: &Limits) -> Counted {
    Counted {
        class: Class::AttackedSyn.number(),
        rate: limits.attacked_syn,
        reason: DropReason::AttackedSyn,
    }
}

#[cfg(test)]
mod tests;

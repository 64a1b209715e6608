//! The identity of a flow, and what the agent decided about it.

use bytemuck::{Pod, Zeroable};

use crate::verdict::{Reason, Verdict};

/// An IPv6 or IPv4-mapped address; in memory, the sixteen bytes of the wire.
///
/// An IPv4 address is always stored as `::ffff:a.b.c.d` (RFC 4291, section 2.5.5.2), so an
/// IPv4-mapped IPv6 address and the IPv4 address are the same value.
///
/// Words rather than bytes: clearing or copying a byte array this long makes the compiler call
/// `memset` or `memcpy`, and a program for a MIPS router must not contain calls.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq, Pod, Zeroable)]
#[repr(transparent)]
pub struct Addr([u32; 4]);
abi_type!(Addr, size = 16, align = 4);

impl Addr {
    const MAPPED: u32 = 0xffff_u32.to_be();

    /// From an IPv4 address whose bytes in memory are those of the header.
    #[inline(always)]
    #[must_use]
    pub const fn v4(word: u32) -> Self {
        Self([0, 0, Self::MAPPED, word])
    }

    /// From the words of an IPv6 address, whose bytes in memory are those of the header.
    #[inline(always)]
    #[must_use]
    pub const fn v6(words: [u32; 4]) -> Self {
        Self(words)
    }

    /// From the four octets of an IPv4 address.
    #[inline(always)]
    #[must_use]
    pub const fn from_v4_octets(octets: [u8; 4]) -> Self {
        Self::v4(u32::from_ne_bytes(octets))
    }

    /// The words; their bytes in memory are those of the wire.
    #[inline(always)]
    #[must_use]
    pub const fn words(&self) -> [u32; 4] {
        self.0
    }

    /// Whether this is an IPv4 address.
    #[inline(always)]
    #[must_use]
    pub const fn is_v4(&self) -> bool {
        // One comparison: of three the verifier would follow every combination.
        self.0[0] | self.0[1] | (self.0[2] ^ Self::MAPPED) == 0
    }

    /// Whether the bytes of `self` sort before those of `other`.
    #[inline(always)]
    #[must_use]
    const fn is_before(&self, other: &Self) -> bool {
        // Spelled out, last word last: a loop over an array that lives on the stack costs a copy.
        if self.0[0] != other.0[0] {
            return u32::from_be(self.0[0]) < u32::from_be(other.0[0]);
        }
        if self.0[1] != other.0[1] {
            return u32::from_be(self.0[1]) < u32::from_be(other.0[1]);
        }
        if self.0[2] != other.0[2] {
            return u32::from_be(self.0[2]) < u32::from_be(other.0[2]);
        }
        u32::from_be(self.0[3]) < u32::from_be(other.0[3])
    }
}

impl From<core::net::IpAddr> for Addr {
    fn from(ip: core::net::IpAddr) -> Self {
        match ip {
            core::net::IpAddr::V4(ip) => Self::from_v4_octets(ip.octets()),
            core::net::IpAddr::V6(ip) => Self(bytemuck::cast(ip.octets())),
        }
    }
}

impl From<Addr> for core::net::IpAddr {
    fn from(addr: Addr) -> Self {
        if addr.is_v4() {
            let octets: [u8; 4] = addr.0[3].to_ne_bytes();
            Self::V4(octets.into())
        } else {
            let octets: [u8; 16] = bytemuck::cast(addr.0);
            Self::V6(octets.into())
        }
    }
}

/// Which way a packet travels between the two ends of a [`FlowKey`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u8)]
pub enum Direction {
    /// From the low end to the high end.
    Up = 0,
    /// From the high end to the low end.
    Down = 1,
}

impl Direction {
    /// The other way.
    #[inline(always)]
    #[must_use]
    pub const fn reversed(self) -> Self {
        match self {
            Self::Up => Self::Down,
            Self::Down => Self::Up,
        }
    }
}

/// Identifies both directions of a transport flow.
///
/// The two ends are ordered by address, then port, as unsigned big-endian numbers, so both
/// directions of a connection have one key. All fields are as on the wire: the same packet gives
/// the same forty bytes on big- and little-endian routers. The interface is not part of the key.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq, Pod, Zeroable)]
#[repr(C)]
pub struct FlowKey {
    low: Addr,
    high: Addr,
    low_port: u16,
    high_port: u16,
    proto: u8,
    // Padding is named, private and zero: the kernel hashes every byte of a key.
    pad0: u8,
    pad1: u16,
}
abi_type!(FlowKey, size = 40, align = 4, low @ 0, high @ 16, low_port @ 32, high_port @ 34, proto @ 36);

impl FlowKey {
    /// The key of a packet, and which way the packet travels.
    ///
    /// Ports are in network byte order, as loaded from the header. A packet whose two ends are
    /// equal travels [`Direction::Up`].
    #[inline(always)]
    #[must_use]
    pub const fn new(src: Addr, dst: Addr, sport: u16, dport: u16, proto: u8) -> (Self, Direction) {
        if dst.is_before(&src)
            || (!src.is_before(&dst) && u16::from_be(dport) < u16::from_be(sport))
        {
            (Self::ordered(dst, src, dport, sport, proto), Direction::Down)
        } else {
            (Self::ordered(src, dst, sport, dport, proto), Direction::Up)
        }
    }

    #[inline(always)]
    const fn ordered(low: Addr, high: Addr, low_port: u16, high_port: u16, proto: u8) -> Self {
        Self { low, high, low_port, high_port, proto, pad0: 0, pad1: 0 }
    }

    /// Source address and port of a packet of this flow that travels in `direction`; the port in
    /// host byte order.
    #[must_use]
    pub const fn source(&self, direction: Direction) -> (Addr, u16) {
        match direction {
            Direction::Up => (self.low, u16::from_be(self.low_port)),
            Direction::Down => (self.high, u16::from_be(self.high_port)),
        }
    }

    /// Destination address and port of a packet of this flow that travels in `direction`; the
    /// port in host byte order.
    #[must_use]
    pub const fn destination(&self, direction: Direction) -> (Addr, u16) {
        self.source(direction.reversed())
    }

    /// IP protocol number: 6 for TCP, 17 for UDP.
    #[inline(always)]
    #[must_use]
    pub const fn proto(&self) -> u8 {
        self.proto
    }
}

/// What the agent decided about a flow. Only the agent writes it; what the kernel observes goes to
/// [`FlowCount`].
#[derive(Clone, Copy, Debug, Eq, PartialEq, Pod, Zeroable)]
#[repr(C)]
pub struct FlowState {
    verdict: u8,
    reason: u8,
    /// Profile of the flow; 0 is the default.
    profile: u8,
    flags: u8,
    /// Index of the flow's [`FlowCount`]. The keys that NAT gives one connection share it.
    pub slot: u32,
    /// `CLOCK_MONOTONIC` second from which on the decision is void; 0 means never.
    pub expires_s: u32,
}
abi_type!(FlowState, size = 12, align = 4, verdict @ 0, reason @ 1, profile @ 2, flags @ 3, slot @ 4, expires_s @ 8);

impl FlowState {
    const REVERSED: u8 = 1;
    const REQUESTS: u8 = 2;

    /// A decision. `original` is the way the connection's first packet travels under the key that
    /// this state is stored under: NAT can order the two ends differently before and behind it.
    #[must_use]
    pub const fn new(
        verdict: Verdict,
        reason: Reason,
        original: Direction,
        slot: u32,
        expires_s: u32,
    ) -> Self {
        let flags = match original {
            Direction::Up => 0,
            Direction::Down => Self::REVERSED,
        };
        Self {
            verdict: verdict.to_wire(),
            reason: reason.to_wire(),
            profile: 0,
            flags,
            slot,
            expires_s,
        }
    }

    /// The same decision for a flow of the profile with this number.
    #[must_use]
    pub const fn with_profile(self, profile: u8) -> Self {
        Self { profile, ..self }
    }

    /// The same decision about a flow whose client may ask for something else at any time: what it
    /// sends is to be inspected, what it gets is decided.
    #[must_use]
    pub const fn with_requests(self) -> Self {
        Self { flags: self.flags | Self::REQUESTS, ..self }
    }

    /// Whether what its client sends is to be inspected whatever was decided.
    #[inline(always)]
    #[must_use]
    pub const fn has_requests(&self) -> bool {
        self.flags & Self::REQUESTS != 0
    }

    /// Number of the flow's [`Profile`](crate::profile::Profile).
    #[inline(always)]
    #[must_use]
    pub const fn profile(&self) -> u8 {
        self.profile
    }

    /// The decision.
    #[inline(always)]
    pub const fn verdict(&self) -> Verdict {
        Verdict::from_wire(self.verdict)
    }

    /// Why it was taken; `None` when a newer agent wrote a reason this one does not know.
    #[must_use]
    pub const fn reason(&self) -> Option<Reason> {
        Reason::from_wire(self.reason)
    }

    /// Index into the fields of [`FlowCount`] for a packet that travels in `direction`.
    #[inline(always)]
    #[must_use]
    pub const fn side(&self, direction: Direction) -> u32 {
        (direction as u32) ^ (self.flags & Self::REVERSED) as u32
    }

    /// Whether the decision is void at `now_s` (`CLOCK_MONOTONIC` seconds).
    #[inline(always)]
    #[must_use]
    pub const fn is_expired(&self, now_s: u32) -> bool {
        self.expires_s != 0 && now_s >= self.expires_s
    }
}

/// What the kernel saw of a decided flow, one copy per CPU. Only `tc_flow_in` writes it.
///
/// Sides: `original` is the way of the connection's first packet, `reply` the other.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Pod, Zeroable)]
#[repr(C)]
pub struct FlowCount {
    /// Packets as on the wire: a merged packet counts its segments.
    pub original_packets: u64,
    /// Bytes from the IP header on.
    pub original_bytes: u64,
    /// Packets of the other direction.
    pub reply_packets: u64,
    /// Bytes of the other direction.
    pub reply_bytes: u64,
    /// `CLOCK_MONOTONIC` nanoseconds of the last packet.
    pub last_seen_ns: u64,
    /// The same of the last FIN or RST of a trusted flow; 0 means never.
    pub closing_ns: u64,
}
abi_type!(FlowCount, size = 48, align = 8, original_packets @ 0, original_bytes @ 8, reply_packets @ 16, reply_bytes @ 24, last_seen_ns @ 32, closing_ns @ 40);

impl FlowCount {
    /// Adds what was seen of one side: 0 for the original one, 1 for the reply.
    #[inline(always)]
    pub fn add(&mut self, side: u64, packets: u64, bytes: u64) {
        const {
            assert!(core::mem::offset_of!(Self, original_packets) == 0);
            assert!(core::mem::offset_of!(Self, reply_packets) == 16);
        }
        // The place is computed: a way for each side costs more.
        let words: &mut [u64; 6] = bytemuck::must_cast_mut(self);
        let place = (side & 1) as usize * 2;
        words[place] = words[place].wrapping_add(packets);
        words[place + 1] = words[place + 1].wrapping_add(bytes);
    }
}

/// A trusted flow that `tc_flow_in` has looked up lately, as packets of one direction show it: the next
/// one that comes in the same timer tick need not be looked up. One copy per CPU, written by `tc_flow_in`
/// alone.
///
/// It ends with the tick, so that the flow goes on to look used to the kernel, which forgets the decision
/// used longest ago, and with the epoch, so that no packet finds a decision that was taken back.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Pod, Zeroable)]
#[repr(C)]
pub struct Recent {
    /// Source address.
    pub src: Addr,
    /// Destination address.
    pub dst: Addr,
    /// Source and destination port as they follow each other in the header.
    pub ports: u32,
    /// [`Recent::kind`] of the packets; 0 where nothing is remembered.
    pub kind: u32,
    /// [`EPOCH`](crate::names::EPOCH) before it was looked up.
    pub epoch: u32,
    /// Index of the flow's [`FlowCount`].
    pub slot: u32,
    /// [`FlowState::side`] of the direction.
    pub side: u64,
    /// Timer tick in which it was looked up.
    pub tick: u64,
}
abi_type!(Recent, size = 64, align = 8, dst @ 16, ports @ 32, kind @ 36, epoch @ 40, slot @ 44, side @ 48, tick @ 56);

impl Recent {
    /// How many are remembered, by their ports: a power of two. As many flows send at once where a household has
    /// bulk; what is not remembered is looked up.
    pub const COUNT: u32 = 16;

    /// IP version and protocol number of packets.
    #[inline(always)]
    #[must_use]
    pub const fn kind(is_v4: bool, proto: u8) -> u32 {
        proto as u32 | if is_v4 { 4 << 8 } else { 6 << 8 }
    }

    /// Where packets with these ports (network byte order) are remembered: both directions of a flow, which
    /// come in turns, in places of their own, but for one pair of ports in two thousand.
    #[inline(always)]
    #[must_use]
    pub const fn index(sport: u16, dport: u16) -> u32 {
        // A difference, which is another one the other way. Bits in which ports that a host gives away differ,
        // whichever byte of them comes first in memory.
        (sport as u32).wrapping_sub(dport as u32) >> 8 & (Self::COUNT - 1)
    }
}

/// The rate that a flow is held to, and how much of it each direction has left. The agent writes
/// all of it when it decides, `tc_flow_in` the buckets from then on.
///
/// Programs on several CPUs write a bucket without a lock: two packets of one direction at the same
/// instant can cost one.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Pod, Zeroable)]
#[repr(C)]
pub struct FlowLimit {
    /// Thousands of bits a second, which is bits a millisecond.
    pub kbit: u32,
    /// Most bits that a direction can have left.
    pub burst: u32,
    /// Bits left for each side; less than nothing after a packet that was larger than what was left.
    pub level: [i32; 2],
    /// Millisecond of the last packet of each side, modulo 2³².
    pub stamp_ms: [u32; 2],
}
abi_type!(FlowLimit, size = 24, align = 4, kbit @ 0, burst @ 4, level @ 8, stamp_ms @ 16);

impl FlowLimit {
    /// Largest rate.
    pub const KBIT_MAX: u32 = 1_000_000;
    /// Largest burst: half of what a level can hold, so that no sum overflows.
    pub const BURST_MAX: u32 = 1 << 30;

    /// A limit whose buckets are full. What is beyond the largest rate or burst is cut off.
    #[must_use]
    pub const fn full(kbit: u32, burst: u32, now_ms: u32) -> Self {
        let kbit = if kbit > Self::KBIT_MAX { Self::KBIT_MAX } else { kbit };
        let burst = if burst > Self::BURST_MAX { Self::BURST_MAX } else { burst };
        Self { kbit, burst, level: [burst.cast_signed(); 2], stamp_ms: [now_ms; 2] }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    extern crate std;
    use std::net::IpAddr;
    use std::vec::Vec;

    fn addr(text: &str) -> Addr {
        text.parse::<IpAddr>().unwrap().into()
    }

    #[test]
    fn directions_of_a_flow_are_remembered_in_places_of_their_own() {
        let (mut places, mut alike) = ([0; Recent::COUNT as usize], 0);
        for port in 32_768..61_000_u16 {
            let [here, there] = [port.to_be(), 443_u16.to_be()];
            let indices = [Recent::index(here, there), Recent::index(there, here)];
            alike += u32::from(indices[0] == indices[1]);
            for index in indices {
                places[index as usize] += 1;
            }
        }
        assert!(alike <= (61_000 - 32_768) / 1000, "{alike}");
        let fair = 2 * (61_000 - 32_768) / Recent::COUNT;
        assert!(places.iter().all(|flows| (fair / 2..fair * 2).contains(flows)), "{places:?}");
    }

    #[test]
    fn each_side_of_a_flow_is_counted_for_itself() {
        let mut count = FlowCount { last_seen_ns: 7, closing_ns: 8, ..FlowCount::default() };
        count.add(0, 1, 10);
        count.add(1, 2, 20);
        count.add(1, 3, 30);
        let expected = FlowCount {
            original_packets: 1,
            original_bytes: 10,
            reply_packets: 5,
            reply_bytes: 50,
            last_seen_ns: 7,
            closing_ns: 8,
        };
        assert_eq!(count, expected);
    }

    #[test]
    fn key_bytes_do_not_depend_on_the_host() {
        let (key, direction) = FlowKey::new(
            addr("198.51.100.7"),
            addr("192.0.2.1"),
            443_u16.to_be(),
            0x1234_u16.to_be(),
            6,
        );
        #[rustfmt::skip]
        assert_eq!(bytemuck::bytes_of(&key), [
            0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 192, 0, 2, 1, // low end, IPv4-mapped
            0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 198, 51, 100, 7, // high end
            0x12, 0x34, 0x01, 0xbb, // ports
            6, 0, 0, 0, // TCP, padding
        ]);
        assert_eq!(direction, Direction::Down);
        assert_eq!(key.source(direction), (addr("198.51.100.7"), 443));
        assert_eq!(key.destination(direction), (addr("192.0.2.1"), 0x1234));
    }

    /// xorshift: the same tuples in every run, on every machine.
    struct Random(u64);
    impl Random {
        fn next(&mut self) -> u32 {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            (self.0 >> 16) as u32
        }
        fn addr(&mut self) -> Addr {
            // Few distinct words, so that equal prefixes and equal addresses happen.
            let word = |this: &mut Self| {
                [0, 1, 0xffff_ffff, 0x0100_0000, 0x8000_0000][this.next() as usize % 5]
            };
            if self.next().is_multiple_of(2) {
                Addr::v4(word(self))
            } else {
                Addr::v6([word(self), word(self), word(self), word(self)])
            }
        }
    }

    #[test]
    fn both_directions_have_one_key_and_opposite_direction_bits() {
        let mut random = Random(0x5151_2026);
        for _ in 0..200_000 {
            let (a, b) = (random.addr(), random.addr());
            let (ap, bp) = ((random.next() % 3) as u16, (random.next() % 3) as u16);
            let (there, up) = FlowKey::new(a, b, ap.to_be(), bp.to_be(), 6);
            let (back, down) = FlowKey::new(b, a, bp.to_be(), ap.to_be(), 6);
            assert_eq!(there, back);
            if (a, ap) == (b, bp) {
                assert_eq!((up, down), (Direction::Up, Direction::Up));
            } else {
                assert_eq!(up, down.reversed());
            }
            assert_eq!((there.source(up), there.destination(up)), ((a, ap), (b, bp)));
        }
    }

    #[test]
    fn different_tuples_have_different_keys() {
        let (a, b, c) = (addr("192.0.2.1"), addr("192.0.2.2"), addr("2001:db8::1"));
        let keys: Vec<_> =
            [(a, b, 1, 2, 6), (a, b, 2, 1, 6), (a, b, 1, 2, 17), (a, c, 1, 2, 6), (c, b, 1, 2, 6)]
                .into_iter()
                .map(|(s, d, sp, dp, p)| FlowKey::new(s, d, u16::to_be(sp), u16::to_be(dp), p).0)
                .collect();
        for (i, x) in keys.iter().enumerate() {
            for y in &keys[i + 1..] {
                assert_ne!(x, y);
            }
        }
    }

    #[test]
    fn an_ipv4_mapped_address_is_the_ipv4_address() {
        assert_eq!(addr("::ffff:192.0.2.1"), addr("192.0.2.1"));
        assert!(addr("::ffff:192.0.2.1").is_v4());
        assert!(!addr("::1:192.0.2.1").is_v4());
        assert_eq!(IpAddr::from(addr("::ffff:192.0.2.1")), "192.0.2.1".parse::<IpAddr>().unwrap());
    }

    #[test]
    fn the_original_side_is_index_zero_whichever_way_the_key_is_ordered() {
        for original in [Direction::Up, Direction::Down] {
            let state = FlowState::new(Verdict::Trusted, Reason::WindowEnd, original, 7, 0);
            assert_eq!(state.side(original), 0);
            assert_eq!(state.side(original.reversed()), 1);
        }
    }

    #[test]
    fn a_decision_is_void_from_its_deadline_on_and_never_without_one() {
        let at = |expires| {
            FlowState::new(Verdict::Blocked, Reason::DomainRule, Direction::Up, 0, expires)
        };
        assert!(!at(100).is_expired(99));
        assert!(at(100).is_expired(100));
        assert!(!at(0).is_expired(u32::MAX));
    }
}

//! What the shield allows: rates per source and per destination, and checks of single packets.

use bytemuck::{Pod, Zeroable};

use crate::flow::Addr;
use crate::shield::Rate;

/// The part of [`Settings`](crate::settings::Settings) that the checks of the shield read. Zeroed, it
/// allows everything.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Pod, Zeroable)]
#[repr(C)]
pub struct Limits {
    /// [`Limits::BOGON`] and the bits below it: which checks are on. Those of the rates follow from
    /// the rates, see [`Limits::completed`].
    pub checks: u32,
    /// Milliseconds of a timer tick of this kernel, in units of 1/65536.
    pub tick: u32,
    /// The bits of an IPv6 address that name one source, see [`prefix_mask`].
    pub source_mask_v6: [u32; 4],
    /// Packets per source that no other rate of a source counts.
    pub source: Rate,
    /// TCP SYN packets per source.
    pub source_syn: Rate,
    /// ICMP and `ICMPv6` packets per source.
    pub source_icmp: Rate,
    /// TCP SYN packets per source in a minute, not a second, beside any other rate.
    pub connections: Rate,
    /// Packets per destination that no other rate of a destination counts.
    pub destination: Rate,
    /// TCP SYN packets per destination from sources that never completed a handshake.
    pub destination_syn: Rate,
    /// Packets per destination and well-known source port of a UDP amplifier.
    pub amplification: Rate,
    /// Bits that [`own_bit`] names, one for each address of the router at least.
    pub own: [u32; OWN_WORDS],
    /// TCP SYN packets per destination in `ATTACKED` from sources that never completed a handshake,
    /// instead of [`Limits::destination_syn`].
    pub attacked_syn: Rate,
    /// Maximum segment size that answers with cookies name over IPv4; at least 536.
    pub answer_mss: u32,
    /// The window scale that they name: that of the services of this router.
    pub answer_scale: u32,
}
abi_type!(Limits, size = 160, align = 4, source_mask_v6 @ 8, source @ 24, own @ 80, attacked_syn @ 144);

/// Words of the filter of own addresses.
pub const OWN_WORDS: usize = 16;

impl Limits {
    /// Sources that are never routed are dropped.
    pub const BOGON: u32 = 1;
    /// Private sources are dropped.
    pub const PRIVATE: u32 = 1 << 1;
    /// Sources that cannot come from outside are dropped: own addresses, loopback, multicast, and
    /// packets whose two ends are one.
    pub const MARTIAN: u32 = 1 << 2;
    /// TCP flags that no stack sends are dropped.
    pub const TCP_FLAGS: u32 = 1 << 3;
    /// Packets to multicast and broadcast addresses are left alone.
    pub const MULTICAST_EXEMPT: u32 = 1 << 4;
    /// Ports that sources try are noted in `SCANS`.
    pub const SCANS: u32 = 1 << 5;
    /// `ATTACKED` has entries.
    pub const ATTACKED: u32 = 1 << 6;
    /// [`Limits::source`] is a limit.
    pub const SOURCE: u32 = 1 << 8;
    /// [`Limits::source_syn`] is a limit.
    pub const SOURCE_SYN: u32 = 1 << 9;
    /// [`Limits::source_icmp`] is a limit.
    pub const SOURCE_ICMP: u32 = 1 << 10;
    /// [`Limits::connections`] is a limit.
    pub const CONNECTIONS: u32 = 1 << 11;
    /// [`Limits::destination`] is a limit.
    pub const DESTINATION: u32 = 1 << 12;
    /// [`Limits::destination_syn`] is a limit.
    pub const DESTINATION_SYN: u32 = 1 << 13;
    /// [`Limits::amplification`] is a limit.
    pub const AMPLIFICATION: u32 = 1 << 14;

    /// The bits that stand for a rate.
    pub const RATES: u32 = 0x7f << 8;
    /// The bits that look at the source address.
    pub const ADDRESSES: u32 = Self::BOGON | Self::PRIVATE | Self::MARTIAN;
    /// The bits that concern a source's rate.
    pub const SOURCES: u32 = Self::SOURCE | Self::SOURCE_SYN | Self::SOURCE_ICMP;
    /// The bits that concern a destination's rate.
    pub const DESTINATIONS: u32 = Self::DESTINATION | Self::DESTINATION_SYN | Self::AMPLIFICATION;

    /// With the bits of the rates that are limits, and no other bits of rates.
    #[must_use]
    pub const fn completed(mut self, tick: u32) -> Self {
        let rates = [
            (self.source, Self::SOURCE),
            (self.source_syn, Self::SOURCE_SYN),
            (self.source_icmp, Self::SOURCE_ICMP),
            (self.connections, Self::CONNECTIONS),
            (self.destination, Self::DESTINATION),
            (self.destination_syn, Self::DESTINATION_SYN),
            (self.amplification, Self::AMPLIFICATION),
        ];
        self.checks &= !Self::RATES;
        let mut index = 0;
        while index < rates.len() {
            if rates[index].0.per_second != 0 {
                self.checks |= rates[index].1;
            }
            index += 1;
        }
        self.tick = tick;
        self
    }

    /// Whether an address may be one of the router's: never `false` for one of them.
    #[inline(always)]
    #[must_use]
    pub const fn may_be_own(&self, addr: &Addr) -> bool {
        let (word, bit) = own_bit(addr);
        self.own[word] & bit != 0
    }
}

/// The word and the bit of [`Limits::own`] for an address.
#[inline(always)]
#[must_use]
pub const fn own_bit(addr: &Addr) -> (usize, u32) {
    let [a, b, c, d] = addr.words();
    let hash = (a ^ b ^ c ^ d).wrapping_mul(0x9e37_79b1) >> 16;
    ((hash >> 5) as usize & (OWN_WORDS - 1), 1 << (hash & 31))
}

/// The mask of the first `prefix` bits of an IPv6 address, as words of the wire.
#[must_use]
pub const fn prefix_mask(prefix: u32) -> [u32; 4] {
    let mut mask = [0; 4];
    let mut word = 0;
    while word < mask.len() {
        let before = word as u32 * 32;
        mask[word] = if prefix >= before + 32 {
            u32::MAX
        } else if prefix <= before {
            0
        } else {
            (u32::MAX << (before + 32 - prefix)).to_be()
        };
        word += 1;
    }
    mask
}

/// A source over its rate, or a destination over its own: what the last such packets were. One copy
/// per CPU; only `xdp_shield` writes it.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Pod, Zeroable)]
#[repr(C)]
pub struct Offender {
    /// Source, or destination if the reason is a rate of destinations.
    pub addr: Addr,
    /// All words of the address combined: another value means that the entry is being written.
    pub check: u32,
    /// Number of the [`DropReason`](crate::reason::DropReason).
    pub reason: u32,
    /// Packets dropped since the entry is this address's.
    pub packets: u32,
    /// Millisecond of the last one, on the clock of the rates.
    pub last_ms: u32,
}
abi_type!(Offender, size = 32, align = 4, check @ 16, packets @ 24);

/// Entries of [`Offenders`].
pub const OFFENDERS: usize = 64;

/// The one value of `OFFENDERS`.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Pod, Zeroable)]
#[repr(C)]
pub struct Offenders {
    /// By hash.
    pub entries: [Offender; OFFENDERS],
}
abi_type!(Offenders, size = 2048, align = 4);

/// Ports of one source that are kept.
pub const SCAN_PORTS: usize = 12;

/// Ports that one source has tried. Only `xdp_shield` writes it.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Pod, Zeroable)]
#[repr(C)]
pub struct Scan {
    /// The source that tried last of those that share a prefix.
    pub addr: Addr,
    /// Hash of the source; 0 means free.
    pub tag: u32,
    /// As in [`Offender::check`].
    pub check: u32,
    /// Millisecond of the first SYN that counts here.
    pub first_ms: u32,
    /// Millisecond of the last one.
    pub last_ms: u32,
    /// Ports that were tried, at most [`SCAN_PORTS`].
    pub count: u32,
    pad: u32,
    /// The first `count` of them, network byte order.
    pub ports: [u16; SCAN_PORTS],
}
abi_type!(Scan, size = 64, align = 4, tag @ 16, count @ 32, ports @ 40);

/// Entries of `SCANS`, a power of two.
pub const SCANS: u32 = 512;

/// Sources that have completed a handshake lately, by tag; 0 means free. Only the agent writes it.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Pod, Zeroable)]
#[repr(C)]
pub struct KnownSet {
    /// Hashes of sources.
    pub tags: [u32; KNOWN_WAYS],
}
abi_type!(KnownSet, size = 32, align = 4);

/// Sources in a [`KnownSet`].
pub const KNOWN_WAYS: usize = 8;
/// Sets of `KNOWN`, a power of two.
pub const KNOWN_SETS: u32 = 512;
/// A destination under attack. The agent inserts and removes it, `xdp_shield` counts.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Pod, Zeroable)]
#[repr(C)]
pub struct Attacked {
    /// TCP SYN packets of strangers since the entry was written, modulo 2³².
    pub syns: u32,
    /// Ports of this router, network byte order, whose SYN packets are answered with a cookie; 0 is
    /// none.
    pub ports: [u16; COOKIE_PORTS],
}
abi_type!(Attacked, size = 20, align = 4, ports @ 4);

/// Ports of one destination that are answered with cookies.
pub const COOKIE_PORTS: usize = 8;
/// Destinations that `ATTACKED` has room for.
pub const ATTACKED_MAX: u32 = 64;
/// Addresses of the router that `OWN` has room for.
pub const OWN_MAX: u32 = 256;

/// All words of an address combined.
#[inline(always)]
#[must_use]
pub const fn check(addr: &Addr) -> u32 {
    let [a, b, c, d] = addr.words();
    a ^ b.rotate_left(8) ^ c.rotate_left(16) ^ d.rotate_left(24) ^ 0x5a5a_a5a5
}

#[cfg(test)]
mod tests {
    use super::*;
    extern crate std;
    use std::net::IpAddr;

    fn addr(text: &str) -> Addr {
        text.parse::<IpAddr>().unwrap().into()
    }

    #[test]
    fn the_bits_of_rates_follow_the_rates() {
        type Field = fn(&mut Limits) -> &mut Rate;
        let rate = Rate { per_second: 5, burst: 5 };
        let limits = Limits { checks: Limits::MARTIAN | Limits::SOURCE, ..Limits::default() };
        assert_eq!(limits.completed(7).checks, Limits::MARTIAN);
        assert_eq!(limits.completed(7).tick, 7);
        let fields: [(Field, u32); 7] = [
            (|limits| &mut limits.source, Limits::SOURCE),
            (|limits| &mut limits.source_syn, Limits::SOURCE_SYN),
            (|limits| &mut limits.source_icmp, Limits::SOURCE_ICMP),
            (|limits| &mut limits.connections, Limits::CONNECTIONS),
            (|limits| &mut limits.destination, Limits::DESTINATION),
            (|limits| &mut limits.destination_syn, Limits::DESTINATION_SYN),
            (|limits| &mut limits.amplification, Limits::AMPLIFICATION),
        ];
        let mut all = 0;
        for (field, bit) in fields {
            let mut limits = Limits::default();
            *field(&mut limits) = rate;
            assert_eq!(limits.completed(1).checks, bit);
            all |= bit;
        }
        assert_eq!(all, Limits::RATES);
        let checks = Limits::ADDRESSES
            | Limits::TCP_FLAGS
            | Limits::MULTICAST_EXEMPT
            | Limits::SCANS
            | Limits::ATTACKED;
        assert_eq!(checks & all, 0);
    }

    #[test]
    fn a_mask_has_the_leading_bits_of_the_wire() {
        let bytes = |prefix| -> [u8; 16] { bytemuck::cast(prefix_mask(prefix)) };
        for prefix in 0..=128_u32 {
            let ones: u32 = bytes(prefix).iter().map(|byte| byte.count_ones()).sum();
            assert_eq!(ones, prefix);
            assert_eq!(u128::from_be_bytes(bytes(prefix)).leading_ones(), prefix);
        }
    }

    #[test]
    fn own_addresses_are_never_missed_and_others_mostly_are() {
        let mut limits = Limits::default();
        let own = ["192.0.2.1", "10.0.0.1", "2001:db8::1", "fe80::1", "::1", "127.0.0.1"];
        for own in own {
            let (word, bit) = own_bit(&addr(own));
            limits.own[word] |= bit;
        }
        assert!(own.iter().all(|own| limits.may_be_own(&addr(own))));
        let hits = (0..10_000_u32)
            .filter(|n| {
                limits.may_be_own(&IpAddr::from((0x5000_0000 + n * 7919).to_be_bytes()).into())
            })
            .count();
        assert!(hits < 250, "{hits} of 10000 strangers need a look");
    }
}

//! Prefixes as the tries store them.

use std::net::IpAddr;

use aya::maps::lpm_trie::Key;
use sluice_abi::flow::Addr;

/// A prefix, or an address as a prefix of 128 bits; IPv4 lies behind `::ffff:0:0/96`.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Net {
    // Compared first: prefixes sort directly before what they contain.
    octets: [u8; 16],
    bits: u8,
}

impl Net {
    /// Bits in front of an IPv4 address.
    const MAPPED: u8 = 96;
    const ALL_V4: Self =
        Self { octets: [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0, 0, 0, 0], bits: Self::MAPPED };

    /// The prefix with the leading `len` bits of `addr`; `None` when there are not so many. An
    /// IPv6 prefix that contains all of IPv4 (shorter than 96 bits of `::ffff:0:0`) contains no
    /// IPv4 packet on the wire, but the trie could not tell: it is refused, too.
    #[must_use]
    pub fn new(addr: IpAddr, len: u8) -> Option<Self> {
        let (octets, bits) = match addr {
            IpAddr::V4(addr) => (addr.to_ipv6_mapped().octets(), len.checked_add(Self::MAPPED)?),
            IpAddr::V6(addr) => (addr.octets(), len),
        };
        if bits > 128 {
            return None;
        }
        let net = Self { octets, bits: 128 }.leading(bits);
        let covers_v4 = bits < Self::MAPPED && net.contains(&Self::ALL_V4);
        (!covers_v4).then_some(net)
    }

    /// One address.
    #[must_use]
    pub fn host(addr: IpAddr) -> Self {
        Self::of(&addr.into(), 128)
    }

    /// The address and the number of leading bits, as people write them.
    #[must_use]
    pub fn parts(&self) -> (IpAddr, u8) {
        match IpAddr::from(self.addr()) {
            addr @ IpAddr::V4(_) if self.bits >= Self::MAPPED => (addr, self.bits - Self::MAPPED),
            _ => (IpAddr::V6(self.octets.into()), self.bits),
        }
    }

    /// Whether every address of `other` is one of this.
    #[must_use]
    pub const fn contains(&self, other: &Self) -> bool {
        let shift = 128 - self.bits as u32;
        let (ours, theirs) = (u128::from_be_bytes(self.octets), u128::from_be_bytes(other.octets));
        self.bits <= other.bits && (shift == 128 || ours >> shift == theirs >> shift)
    }

    /// Whether this is one address.
    #[must_use]
    pub const fn is_host(&self) -> bool {
        self.bits == 128
    }

    pub(super) fn of(addr: &Addr, bits: u8) -> Self {
        let octets = match IpAddr::from(*addr) {
            IpAddr::V4(addr) => addr.to_ipv6_mapped().octets(),
            IpAddr::V6(addr) => addr.octets(),
        };
        Self { octets, bits }
    }

    /// Number of leading bits.
    pub(super) const fn bits(&self) -> u8 {
        self.bits
    }

    /// The prefix with the leading `bits` of this one.
    pub(super) fn leading(&self, bits: u8) -> Self {
        let mask = u128::MAX.checked_shl(128 - u32::from(bits)).unwrap_or(0);
        Self { octets: (u128::from_be_bytes(self.octets) & mask).to_be_bytes(), bits }
    }

    pub(super) fn addr(&self) -> Addr {
        IpAddr::V6(self.octets.into()).into()
    }

    pub(super) fn key(&self) -> Key<Addr> {
        Key::new(u32::from(self.bits), self.addr())
    }

    pub(super) fn of_key(key: &Key<Addr>) -> Self {
        Self::of(&key.data(), key.prefix_len() as u8)
    }
}

impl std::fmt::Display for Net {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (addr, bits) = self.parts();
        if self.is_host() { write!(f, "{addr}") } else { write!(f, "{addr}/{bits}") }
    }
}

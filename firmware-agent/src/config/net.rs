//! Addresses and prefixes, and which of them a blocklist must never hold.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use sluice_abi::flow::Addr;

/// A prefix of IPv4 or IPv6 addresses; a single address is a prefix of full length.
///
/// The bits behind the prefix are zero. Sorted by address; a prefix comes before what lies in it.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Net {
    /// IPv4 lies behind `::ffff:0:0/96`. Bytes, because lists have tens of thousands of these.
    octets: [u8; 16],
    /// Leading bits of 128. An IPv4 prefix has 96 more than its user wrote.
    prefix: u8,
}

/// Bits in front of an IPv4 address.
const MAPPED: u8 = 96;

impl Net {
    /// The prefix of `addr` with this many of 128 bits; more than 128 count as 128.
    #[must_use]
    pub fn new(addr: Addr, prefix: u8) -> Self {
        let prefix = prefix.min(128);
        Self { octets: (bits(addr) & mask(prefix)).to_be_bytes(), prefix }
    }

    /// One address.
    #[must_use]
    pub fn host(addr: IpAddr) -> Self {
        Self::new(addr.into(), 128)
    }

    /// The first address.
    #[must_use]
    pub fn addr(&self) -> Addr {
        IpAddr::V6(self.octets.into()).into()
    }

    /// Leading bits of 128, as the kernel's tries count them.
    #[must_use]
    pub const fn prefix(&self) -> u8 {
        self.prefix
    }

    /// Whether this is one address.
    #[must_use]
    pub const fn is_host(&self) -> bool {
        self.prefix == 128
    }

    /// Whether this is IPv4.
    #[must_use]
    pub const fn is_v4(&self) -> bool {
        self.prefix >= MAPPED && self.bits() >> 32 == 0xffff
    }

    /// Leading bits as a user of the address family writes them.
    #[must_use]
    pub const fn family_prefix(&self) -> u8 {
        if self.is_v4() { self.prefix - MAPPED } else { self.prefix }
    }

    /// Whether every address of `other` lies in it.
    #[must_use]
    pub const fn contains(&self, other: &Self) -> bool {
        self.prefix <= other.prefix && (self.bits() ^ other.bits()) & mask(self.prefix) == 0
    }

    /// Whether some address lies in both.
    #[must_use]
    pub const fn overlaps(&self, other: &Self) -> bool {
        self.contains(other) || other.contains(self)
    }

    /// The first address as a number; IPv4 lies behind `::ffff:0:0/96`.
    #[must_use]
    pub const fn bits(&self) -> u128 {
        u128::from_be_bytes(self.octets)
    }

    /// Reads `192.0.2.1`, `192.0.2.0/24`, `2001:db8::1` or `2001:db8::/32`; the second value says
    /// whether bits behind the prefix were set and have been cleared.
    pub fn from_text(text: &str) -> Result<(Self, bool), NetError> {
        let (ip, len) = match text.split_once('/') {
            Some((ip, len)) => (ip, Some(len)),
            None => (text, None),
        };
        let ip: IpAddr = ip.parse().ok().ok_or(NetError::Address)?;
        let addr = Addr::from(ip);
        let prefix = match len {
            None => 128,
            // A sign or an empty text is no number here.
            Some(len) if len.is_empty() || !len.bytes().all(|b| b.is_ascii_digit()) => {
                return Err(NetError::Prefix);
            }
            Some(len) => {
                let len: u8 = len.parse().ok().ok_or(NetError::Prefix)?;
                let most = if ip.is_ipv4() { 128 - MAPPED } else { 128 };
                if len > most {
                    return Err(NetError::Prefix);
                }
                128 - most + len
            }
        };
        let net = Self::new(addr, prefix);
        // IPv4 addresses are kept as ::ffff:0:0/96: a wider IPv6 prefix over it would cover them.
        let ipv4 = Self::new(Addr::from_v4_octets([0; 4]), MAPPED);
        if net.prefix < MAPPED && net.overlaps(&ipv4) {
            return Err(NetError::Mapped);
        }
        Ok((net, net.bits() != bits(addr)))
    }

    /// Sorts entries with a number each: a prefix comes before what lies in it.
    pub fn sort(entries: &mut [(Self, u32)]) {
        entries.sort_unstable();
    }

    /// Why this must not be in a blocklist, if so: it would cut off the router, its neighbours, or
    /// a large part of the Internet.
    #[must_use]
    pub fn lock_out(&self) -> Option<String> {
        let (least, family) = if self.is_v4() { (8, "IPv4") } else { (19, "IPv6") };
        if self.family_prefix() < least {
            return Some(format!("is wider than /{least}, the widest {family} prefix of a list"));
        }
        let never = NEVER.iter().find(|never| {
            let shared = mask(self.prefix.min(never.prefix));
            (self.bits() ^ never.bits) & shared == 0
        })?;
        let shown = Self { octets: never.bits.to_be_bytes(), prefix: never.prefix };
        Some(format!("overlaps {shown} ({}), which is never blocked", never.what))
    }
}

/// What carries the router's own and its neighbours' traffic, whatever a list says.
const NEVER: [Never; 9] = [
    Never::v4([0, 0, 0, 0], 8, "this network, DHCP"),
    Never::v4([127, 0, 0, 0], 8, "loopback"),
    Never::v4([169, 254, 0, 0], 16, "link-local"),
    Never::v4([224, 0, 0, 0], 4, "multicast"),
    Never::v4([255, 255, 255, 255], 32, "broadcast"),
    Never { bits: 0, prefix: 128, what: "unspecified" },
    Never { bits: 1, prefix: 128, what: "loopback" },
    Never { bits: 0xfe80 << 112, prefix: 10, what: "link-local, neighbour discovery" },
    Never { bits: 0xff << 120, prefix: 8, what: "multicast, neighbour discovery" },
];

struct Never {
    bits: u128,
    prefix: u8,
    what: &'static str,
}

impl Never {
    const fn v4(octets: [u8; 4], prefix: u8, what: &'static str) -> Self {
        let bits = 0xffff << 32 | u32::from_be_bytes(octets) as u128;
        Self { bits, prefix: MAPPED + prefix, what }
    }
}

fn bits(addr: Addr) -> u128 {
    match IpAddr::from(addr) {
        IpAddr::V4(ip) => ip.to_ipv6_mapped().to_bits(),
        IpAddr::V6(ip) => ip.to_bits(),
    }
}

const fn mask(prefix: u8) -> u128 {
    match prefix {
        0 => 0,
        1..=127 => u128::MAX << (128 - prefix),
        128.. => u128::MAX,
    }
}

impl FromStr for Net {
    type Err = NetError;

    /// Like [`Net::from_text`]; bits behind the prefix are cleared.
    fn from_str(text: &str) -> Result<Self, NetError> {
        Self::from_text(text).map(|(net, _)| net)
    }
}

impl fmt::Display for Net {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ip = IpAddr::from(self.addr());
        if self.is_host() { write!(f, "{ip}") } else { write!(f, "{ip}/{}", self.family_prefix()) }
    }
}

/// Why a text is no address or prefix.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum NetError {
    /// The part before the `/`.
    #[error("is not an IPv4 or IPv6 address or prefix")]
    Address,
    /// The part behind it.
    #[error("has a prefix length that is not 0 to 32 (IPv4) or 0 to 128 (IPv6)")]
    Prefix,
    /// IPv6 notation that covers IPv4.
    #[error("is an IPv6 prefix that covers every IPv4 address: write IPv4 prefixes as such")]
    Mapped,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net(text: &str) -> Net {
        text.parse().unwrap()
    }

    #[test]
    fn prefixes_are_read_and_written_in_their_family() {
        for (text, prefix, shown) in [
            ("192.0.2.1", 128, "192.0.2.1"),
            ("192.0.2.1/32", 128, "192.0.2.1"),
            ("192.0.2.0/24", 120, "192.0.2.0/24"),
            ("10.0.0.0/8", 104, "10.0.0.0/8"),
            ("0.0.0.0/0", 96, "0.0.0.0/0"),
            ("::ffff:192.0.2.0/120", 120, "192.0.2.0/24"),
            ("::ffff:0.0.0.0/96", 96, "0.0.0.0/0"),
            ("2001:DB8::1", 128, "2001:db8::1"),
            ("2001:db8::/32", 32, "2001:db8::/32"),
        ] {
            let (net, cleared) = Net::from_text(text).unwrap();
            assert_eq!((net.prefix(), net.to_string().as_str()), (prefix, shown), "{text}");
            assert!(!cleared, "{text}");
            assert_eq!(shown.parse(), Ok(net));
        }
    }

    #[test]
    fn bits_behind_the_prefix_are_cleared_and_reported() {
        assert_eq!(Net::from_text("192.0.2.77/24"), Ok((net("192.0.2.0/24"), true)));
        assert_eq!(Net::from_text("2001:db8::1/32"), Ok((net("2001:db8::/32"), true)));
    }

    #[test]
    fn what_is_no_prefix_is_refused() {
        for text in [
            "",
            "/",
            "/24",
            "192.0.2",
            "192.0.2.256",
            "192.0.02.1",
            "example.com",
            " 192.0.2.1",
            "192.0.2.1 ",
            "2001:db8:::",
            "fe80::1%eth0",
            "1.2.3.4-1.2.3.9",
        ] {
            assert_eq!(Net::from_text(text), Err(NetError::Address), "{text}");
        }
        for text in [
            "192.0.2.0/33",
            "192.0.2.0/",
            "192.0.2.0/+8",
            "192.0.2.0/-1",
            "::/129",
            "192.0.2.0/8/8",
            "192.0.2.0/255.255.255.0",
            "::/99999999999",
        ] {
            assert_eq!(Net::from_text(text), Err(NetError::Prefix), "{text}");
        }
        for text in ["::/0", "::/80", "::fffe:0:0/95"] {
            assert_eq!(Net::from_text(text), Err(NetError::Mapped), "{text}");
        }
    }

    #[test]
    fn containment_is_by_leading_bits() {
        for (outer, inner, contains) in [
            ("0.0.0.0/0", "192.0.2.1", true),
            ("192.0.2.0/24", "192.0.2.0/25", true),
            ("192.0.2.0/24", "192.0.2.0/24", true),
            ("192.0.2.0/25", "192.0.2.0/24", false),
            ("192.0.2.0/24", "192.0.3.1", false),
            ("0.0.0.0/0", "2001:db8::1", false),
            ("2001:db8::/32", "2001:db8:ffff::/48", true),
        ] {
            assert_eq!(net(outer).contains(&net(inner)), contains, "{outer} {inner}");
        }
    }

    #[test]
    fn a_prefix_sorts_before_what_lies_in_it() {
        let sorted = ["10.0.0.0/8", "192.0.2.0/24", "192.0.2.0/25", "192.0.2.0", "192.0.2.1"];
        let mut nets = sorted.map(net);
        nets.reverse();
        nets.sort();
        assert_eq!(nets.map(|net| net.to_string()), sorted);
    }

    #[test]
    fn overlap_is_one_prefix_inside_the_other() {
        let overlap = |a, b| {
            assert_eq!(net(a).overlaps(&net(b)), net(b).overlaps(&net(a)));
            net(a).overlaps(&net(b))
        };
        assert!(overlap("192.0.2.0/24", "192.0.2.7"));
        assert!(overlap("192.0.2.0/24", "192.0.0.0/16"));
        assert!(!overlap("192.0.2.0/24", "192.0.3.0/24"));
        assert!(!overlap("192.0.2.0/24", "2001:db8::/32"));
        assert!(overlap("::1", "::1"));
    }

    #[test]
    fn own_addresses_and_wide_prefixes_are_never_for_a_blocklist() {
        for text in [
            "127.0.0.1",
            "127.0.0.0/8",
            "0.0.0.0/8",
            "0.0.0.0",
            "169.254.1.1",
            "224.0.0.251",
            "239.1.1.1",
            "255.255.255.255",
            "255.0.0.0/8",
            "::1",
            "fe80::1",
            "fe80::/64",
            "ff02::1",
            "0.0.0.0/0",
            "8.0.0.0/7",
            "2000::/18",
            "2000::/3",
            "fc00::/7",
        ] {
            assert!(net(text).lock_out().is_some(), "{text}");
        }
        for text in ["8.0.0.0/8", "192.0.2.1", "10.0.0.0/8", "2000::/19", "2001:db8::1", "::2"] {
            assert_eq!(net(text).lock_out(), None, "{text}");
        }
        assert_eq!(
            net("127.0.0.0/9").lock_out().unwrap(),
            "overlaps 127.0.0.0/8 (loopback), which is never blocked"
        );
        assert_eq!(
            net("8.0.0.0/7").lock_out().unwrap(),
            "is wider than /8, the widest IPv4 prefix of a list"
        );
    }
}

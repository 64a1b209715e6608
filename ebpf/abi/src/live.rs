//! A filter in front of the entries that come and go one by one: most packets belong to none of
//! them, and learn that from a bit or two instead of a lookup in a hash map and in tries.
//!
//! It says "perhaps" of more addresses than there are entries for, and never "no" of one that has
//! one. The agent sets a bit before it inserts an entry, and clears it after it has removed the last
//! one that needs it.

use bytemuck::{Pod, Zeroable};

use crate::flow::Addr;

/// The one value of `LIVE`. Zeroed, it has no entry.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Pod, Zeroable)]
#[repr(C)]
pub struct Live {
    hosts: [u32; HOST_WORDS],
    nets: Covers,
    allowed: Covers,
}
abi_type!(Live, size = 12_288, align = 4, nets @ 8192, allowed @ 10_240);

const HOST_WORDS: usize = 2048;

impl Live {
    /// A filter of no entries.
    pub const EMPTY: Self =
        Self { hosts: [0; HOST_WORDS], nets: Covers::EMPTY, allowed: Covers::EMPTY };

    /// Whether `BLOCK_HOSTS` may have `addr`.
    #[inline(always)]
    #[must_use]
    pub const fn may_have_host(&self, addr: &Addr) -> bool {
        let (word, bit) = host_bit(addr);
        self.hosts[word] & bit != 0
    }

    /// Whether `BLOCK_NETS` may have a prefix of `addr`.
    #[inline(always)]
    #[must_use]
    pub const fn may_have_net(&self, addr: &Addr) -> bool {
        self.nets.may_have(addr)
    }

    /// Whether `ALLOW_NETS` may have a prefix of `addr`.
    #[inline(always)]
    #[must_use]
    pub const fn may_be_allowed(&self, addr: &Addr) -> bool {
        self.allowed.may_have(addr)
    }

    /// Adds an address of `BLOCK_HOSTS`.
    pub const fn add_host(&mut self, addr: &Addr) {
        let (word, bit) = host_bit(addr);
        self.hosts[word] |= bit;
    }

    /// Adds a prefix of `BLOCK_NETS`, of 128 bits.
    pub const fn add_net(&mut self, addr: &Addr, prefix: u32) {
        self.nets.add(addr, prefix);
    }

    /// Adds a prefix of `ALLOW_NETS`, of 128 bits.
    pub const fn add_allowed(&mut self, addr: &Addr, prefix: u32) {
        self.allowed.add(addr, prefix);
    }
}

/// Multiplied with it, every bit of a word gets into the upper ones.
const SPREAD: u32 = 0x9e37_79b1;

#[inline(always)]
const fn host_bit(addr: &Addr) -> (usize, u32) {
    let [a, b, c, d] = addr.words();
    let hash = (a ^ b ^ c ^ d).wrapping_mul(SPREAD) >> 16;
    ((hash >> 5) as usize, 1 << (hash & 31))
}

const COVER_WORDS: usize = 512;

/// Prefixes by what their addresses begin with: 16 bits of IPv4, 32 bits of IPv6.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Pod, Zeroable)]
#[repr(C)]
struct Covers([u32; COVER_WORDS]);

impl Covers {
    const EMPTY: Self = Self([0; COVER_WORDS]);
    /// A prefix that covers more beginnings than two to the power of this is about everybody.
    const OPEN_MAX: u32 = 12;

    #[inline(always)]
    const fn may_have(&self, addr: &Addr) -> bool {
        let (word, bit) = cover_bit(cover(addr));
        self.0[word] & bit != 0
    }

    const fn add(&mut self, addr: &Addr, prefix: u32) {
        let end: u32 = if addr.words()[0] == 0 { 112 } else { 32 };
        let open = end.saturating_sub(prefix);
        if open > Self::OPEN_MAX {
            self.0 = [u32::MAX; COVER_WORDS];
            return;
        }
        let first = cover(addr) & (u32::MAX << open);
        let mut number = 0;
        while number < 1 << open {
            let (word, bit) = cover_bit(first | number);
            self.0[word] |= bit;
            number += 1;
        }
    }
}

/// What an address begins with. IPv4 addresses, and the few of IPv6 that begin with as many zeros, by
/// the half-word where the former differ.
#[inline(always)]
const fn cover(addr: &Addr) -> u32 {
    let words = addr.words();
    if words[0] == 0 { u32::from_be(words[3]) >> 16 } else { u32::from_be(words[0]) }
}

#[inline(always)]
const fn cover_bit(cover: u32) -> (usize, u32) {
    let hash = cover.wrapping_mul(SPREAD) >> 18;
    ((hash >> 5) as usize, 1 << (hash & 31))
}

#[cfg(test)]
mod tests {
    extern crate std;
    use core::net::{IpAddr, Ipv6Addr};

    use super::*;

    fn addr(text: &str) -> Addr {
        text.parse::<IpAddr>().unwrap().into()
    }

    fn random(state: &mut u64) -> u64 {
        *state ^= *state << 13;
        *state ^= *state >> 7;
        *state ^= *state << 17;
        *state
    }

    #[test]
    fn an_address_in_a_prefix_is_never_missed() {
        let mut state = 0x5eed;
        let starts =
            ["0.0.0.0", "192.0.2.0", "255.255.255.255", "::", "::1", "2001:db8::", "ff02::"];
        for start in starts {
            for prefix in 0..=128_u32 {
                let mask = u128::MAX.checked_shl(128 - prefix).unwrap_or(0);
                let start = u128::from_be_bytes(bytemuck::cast(addr(start).words())) & mask;
                let of = |bits: u128| Addr::from(IpAddr::from(Ipv6Addr::from_bits(bits)));
                let mut live = Live::EMPTY;
                live.add_net(&of(start), prefix);
                for _ in 0..100 {
                    let noise =
                        u128::from(random(&mut state)) << 64 | u128::from(random(&mut state));
                    let inside = of(start | noise & !mask);
                    assert!(live.may_have_net(&inside), "{start:x}/{prefix} {inside:?}");
                    assert!(!live.may_be_allowed(&inside) && !live.may_have_host(&inside));
                }
                for end in [start, start | !mask] {
                    assert!(live.may_have_net(&of(end)), "{start:x}/{prefix}");
                }
            }
        }
    }

    #[test]
    fn entries_are_never_missed_and_strangers_mostly_are() {
        let mut state = 0x5eed;
        let mut live = Live::EMPTY;
        let mut random = || Addr::from(IpAddr::from((random(&mut state) as u32).to_be_bytes()));
        let entries: std::vec::Vec<_> = (0..500).map(|_| random()).collect();
        for entry in &entries {
            live.add_host(entry);
            live.add_allowed(entry, 120);
        }
        assert!(entries.iter().all(|entry| live.may_have_host(entry)));
        assert!(entries.iter().all(|entry| live.may_be_allowed(entry)));
        let strangers: std::vec::Vec<_> = (0..10_000).map(|_| random()).collect();
        let hosts = strangers.iter().filter(|addr| live.may_have_host(addr)).count();
        let allowed = strangers.iter().filter(|addr| live.may_be_allowed(addr)).count();
        assert!(hosts < 200, "{hosts} of 10000 strangers need a look");
        assert!(allowed < 600, "{allowed} of 10000 strangers need a look");
        assert!(!strangers.iter().any(|addr| live.may_have_net(addr)));
    }

    #[test]
    fn a_prefix_of_everything_makes_everything_worth_a_look() {
        let mut live = Live::EMPTY;
        live.add_net(&addr("::"), 0);
        assert!(
            live.may_have_net(&addr("198.51.100.1")) && live.may_have_net(&addr("2001:db8::1"))
        );
        assert_eq!(live.allowed, Covers::EMPTY);
    }
}

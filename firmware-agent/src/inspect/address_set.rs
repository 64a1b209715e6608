//! Addresses and prefixes with a number each, packed: which of them has an address. Pure.
//!
//! An entry of IPv4 takes six bytes, one of IPv6 eighteen: its first address, its length, its number.
//! They are sorted, so a prefix stands before what lies in it, and the lowest number before others with
//! the same prefix. What has an address is looked for with each length that occurs.

use sluice_abi::flow::Addr;

use crate::config::Net;

/// Prefixes with numbers.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct AddressSet {
    v4: Packed<6>,
    v6: Packed<18>,
}

/// A prefix that has an address.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Found {
    /// The prefix.
    pub net: Net,
    /// Its number.
    pub number: u8,
}

impl AddressSet {
    /// With room for this many prefixes of IPv4 and IPv6, and none yet: [`AddressSet::finish`] has to
    /// follow what is added.
    #[must_use]
    pub fn with_capacity(v4: usize, v6: usize) -> Self {
        Self { v4: Packed::with_capacity(v4), v6: Packed::with_capacity(v6) }
    }

    /// Most bytes that this many prefixes of IPv4 and IPv6 take.
    #[must_use]
    pub const fn bytes_max(v4: u64, v6: u64) -> u64 {
        v4 * 6 + v6 * 18 + 2 * LENGTHS
    }

    /// Adds a prefix.
    pub fn push(&mut self, net: &Net, number: u8) {
        if net.is_v4() {
            self.v4.push(left(net), net.family_prefix(), number);
        } else {
            self.v6.push(left(net), net.prefix(), number);
        }
    }

    /// Brings everything into order, for [`AddressSet::lowest`] alone: what lies in a prefix with the
    /// same number or a lower one is left out.
    #[must_use]
    pub fn finish(mut self) -> Self {
        self.v4.finish();
        self.v6.finish();
        self
    }

    /// A set for [`AddressSet::longest`]: prefixes that occur several times have all bits of their
    /// numbers.
    #[must_use]
    pub fn united(nets: impl Iterator<Item = (Net, u8)>) -> Self {
        let mut set = Self::default();
        nets.for_each(|(net, bits)| set.push(&net, bits));
        set.v4.unite();
        set.v6.unite();
        set
    }

    /// Of the prefixes that have `addr` one with the lowest number.
    #[must_use]
    pub fn lowest(&self, addr: Addr) -> Option<Found> {
        self.find(addr, |found| found.min_by_key(|(_, number)| *number))
    }

    /// The longest prefix that has `addr`.
    #[must_use]
    pub fn longest(&self, addr: Addr) -> Option<Found> {
        self.find(addr, |found| found.last())
    }

    fn find(
        &self,
        addr: Addr,
        choose: impl FnOnce(&mut dyn Iterator<Item = (u8, u8)>) -> Option<(u8, u8)>,
    ) -> Option<Found> {
        let host = Net::new(addr, 128);
        let (length, number) = if host.is_v4() {
            let (length, number) = choose(&mut self.v4.having(left(&host)))?;
            (128 - V4_BITS + length, number)
        } else {
            choose(&mut self.v6.having(left(&host)))?
        };
        Some(Found { net: Net::new(addr, length), number })
    }

    /// How many prefixes are told apart.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.v4.entries.len() + self.v6.entries.len()
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of the heap that it takes.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.v4.bytes() + self.v6.bytes()
    }
}

/// Bits of an IPv4 address.
const V4_BITS: u8 = 32;
/// Most lengths of one family.
const LENGTHS: u64 = 129;

/// The first address, its first bit on the left.
const fn left(net: &Net) -> u128 {
    if net.is_v4() { net.bits() << 96 } else { net.bits() }
}

/// The bits behind a prefix of this length.
fn behind(length: u8) -> u128 {
    u128::MAX.checked_shr(length.into()).unwrap_or(0)
}

/// Entries of one family, `N` bytes each: the address, its length, its number.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Packed<const N: usize> {
    entries: Vec<[u8; N]>,
    /// Lengths that occur, shortest first.
    lengths: Vec<u8>,
}

impl<const N: usize> Default for Packed<N> {
    fn default() -> Self {
        Self::with_capacity(0)
    }
}

impl<const N: usize> Packed<N> {
    fn with_capacity(entries: usize) -> Self {
        Self { entries: Vec::with_capacity(entries), lengths: Vec::new() }
    }

    fn push(&mut self, first: u128, length: u8, number: u8) {
        self.entries.push(pack(first, length, number));
    }

    /// Sorts, and leaves out what lies in a prefix with the same number or a lower one.
    fn finish(&mut self) {
        self.entries.sort_unstable();
        // Last addresses and numbers of the prefixes around the current one, the lowest number last.
        let mut open: Vec<(u128, u8)> = Vec::new();
        self.entries.retain(|entry| {
            let (first, length, number) = unpack(entry);
            while open.pop_if(|(last, _)| *last < first).is_some() {}
            if open.last().is_some_and(|(_, outer)| *outer <= number) {
                return false;
            }
            open.push((first | behind(length), number));
            true
        });
        self.settle();
    }

    /// Sorts, and makes one of prefixes that occur several times.
    fn unite(&mut self) {
        self.entries.sort_unstable();
        self.entries.dedup_by(|later, kept| {
            let ((first, length, bits), of) = (unpack(later), unpack(kept));
            let is_same = (first, length) == (of.0, of.1);
            if is_same {
                *kept = pack(first, length, bits | of.2);
            }
            is_same
        });
        self.settle();
    }

    fn settle(&mut self) {
        self.entries.shrink_to_fit();
        let mut seen = [false; LENGTHS as usize];
        for entry in &self.entries {
            seen.get_mut(usize::from(unpack(entry).1)).into_iter().for_each(|seen| *seen = true);
        }
        self.lengths = (0..).zip(seen).filter_map(|(len, seen)| seen.then_some(len)).collect();
        self.lengths.shrink_to_fit();
    }

    /// Length and number of each prefix that has an address, the shortest first; of one that occurs
    /// several times the lowest number.
    fn having(&self, addr: u128) -> impl Iterator<Item = (u8, u8)> {
        self.lengths.iter().filter_map(move |length| {
            let first = addr & !behind(*length);
            let wanted = pack(first, *length, 0);
            let place = self.entries.partition_point(|entry| *entry < wanted);
            let (found, of, number) = unpack(self.entries.get(place)?);
            ((found, of) == (first, *length)).then_some((of, number))
        })
    }

    const fn bytes(&self) -> u64 {
        (self.entries.capacity() * N + self.lengths.capacity()) as u64
    }
}

fn pack<const N: usize>(first: u128, length: u8, number: u8) -> [u8; N] {
    let mut entry = [0; N];
    let address = first.to_be_bytes().into_iter().take(N.saturating_sub(2));
    entry.iter_mut().zip(address.chain([length, number])).for_each(|(place, byte)| *place = byte);
    entry
}

/// First address, length and number.
fn unpack<const N: usize>(entry: &[u8; N]) -> (u128, u8, u8) {
    let [address @ .., length, number] = entry.as_slice() else { return (0, 0, 0) };
    let mut first = [0; 16];
    first.iter_mut().zip(address).for_each(|(place, byte)| *place = *byte);
    (u128::from_be_bytes(first), *length, *number)
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;
    use crate::policy::tests::Random;

    fn net(text: &str) -> Net {
        text.parse().unwrap()
    }

    fn addr(text: &str) -> Addr {
        text.parse::<IpAddr>().unwrap().into()
    }

    fn set(nets: &[(Net, u8)]) -> AddressSet {
        let mut set = AddressSet::with_capacity(nets.len(), nets.len());
        for (net, number) in nets {
            set.push(net, *number);
        }
        set.finish()
    }

    fn found(set: &AddressSet, text: &str) -> Option<(String, u8)> {
        set.lowest(addr(text)).map(|found| (found.net.to_string(), found.number))
    }

    #[test]
    fn an_address_is_found_by_the_prefix_that_has_it() {
        let set = set(&[
            (net("192.0.2.0/24"), 3),
            (net("192.0.2.7"), 1),
            (net("192.0.2.9"), 3),
            (net("255.255.255.0/24"), 0),
            (net("2001:db8::/32"), 2),
            (net("2001:db8:1::1"), 2),
            (net("2001:db8:2::1"), 0),
        ]);
        let is = |text: &str, net: &str, number| {
            assert_eq!(found(&set, text), Some((net.to_owned(), number)), "{text}");
        };
        is("192.0.2.7", "192.0.2.7", 1);
        is("192.0.2.8", "192.0.2.0/24", 3);
        is("192.0.2.9", "192.0.2.0/24", 3);
        is("192.0.2.255", "192.0.2.0/24", 3);
        is("255.255.255.255", "255.255.255.0/24", 0);
        is("2001:db8:1::1", "2001:db8::/32", 2);
        is("2001:db8:2::1", "2001:db8:2::1", 0);
        for text in ["192.0.1.255", "192.0.3.0", "::ffff:0:1", "2001:db9::", "::c000:207"] {
            assert_eq!(found(&set, text), None, "{text}");
        }
        // What lies in a prefix of the same list takes no room.
        assert_eq!(set.len(), 5);
        assert!(set.bytes() <= AddressSet::bytes_max(3, 2));
        assert_eq!(found(&AddressSet::default(), "192.0.2.1"), None);
    }

    /// Both searches agree with a look at every prefix, where they lie in each other and touch.
    #[test]
    fn the_search_agrees_with_a_look_at_every_prefix() {
        let mut random = Random(7);
        for round in 0..400 {
            let is_v4 = round % 2 == 0;
            let base: u128 = if is_v4 { 0xffff_c000_0200 } else { 0x2001_0db8 << 96 };
            let at = |random: &mut Random| {
                Addr::from(IpAddr::from(std::net::Ipv6Addr::from_bits(
                    base | u128::from(random.below(64)),
                )))
            };
            let count = random.below(24);
            let nets: Vec<(Net, u8)> = (0..count)
                .map(|_| {
                    let first = at(&mut random);
                    (Net::new(first, 122 + random.below(7) as u8), random.below(4) as u8)
                })
                .collect();
            let lists = set(&nets);
            let bits = AddressSet::united(nets.iter().copied());
            assert!(lists.bytes() <= AddressSet::bytes_max(nets.len() as u64, nets.len() as u64));
            for last in 0..64 {
                let at = Addr::from(IpAddr::from(std::net::Ipv6Addr::from_bits(base | last)));
                let host = Net::new(at, 128);
                let having = || nets.iter().filter(|(net, _)| net.contains(&host));
                let lowest = having().map(|(_, number)| *number).min();
                let found = lists.lowest(at);
                assert_eq!(found.map(|found| found.number), lowest, "{at:?} {nets:?}");
                if let Some(found) = found {
                    assert!(nets.contains(&(found.net, found.number)) && found.net.contains(&host));
                }
                let longest = having().map(|(net, _)| *net).max_by_key(Net::prefix);
                let all = longest.map(|longest| {
                    let same = nets.iter().filter(|(net, _)| *net == longest);
                    (longest, same.fold(0, |all, (_, bits)| all | bits))
                });
                let found = bits.longest(at).map(|found| (found.net, found.number));
                assert_eq!(found, all, "{at:?} {nets:?}");
            }
        }
    }
}

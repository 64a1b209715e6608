//! Buckets of sources and destinations: a set-associative table of fixed size.
//!
//! A new source never costs an insertion into a kernel map: its hash names a set of four ways, and
//! it takes the way of its own tag, a free one, or the one that was quiet longest. An attacker who
//! does not know the boot-time key cannot aim at the set of a victim.

use sluice_abi::flow::Addr;
use sluice_abi::shield::{BucketSet, Rate, Way};

use crate::bucket::{Bucket, Pace};
use crate::mix::{mix, pair};

/// What an address is looked up for; each has a bucket of its own. Numbers from
/// [`Class::Amplification`] on are that class with a port.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u32)]
pub enum Class {
    /// A source's packets but those below.
    Any,
    /// A source's TCP SYN without ACK.
    Syn,
    /// A source's ICMP.
    Icmp,
    /// A source's connections.
    Connection,
    /// A destination's packets but those below.
    Destination,
    /// A destination's TCP SYN from strangers.
    DestinationSyn,
    /// Whether a source is known: no bucket, a place in `KNOWN`.
    Known,
    /// The ports that a source tried: no bucket, a place in `SCANS`.
    Scan,
    /// A destination's TCP SYN from strangers while it is under attack.
    AttackedSyn,
    /// A destination's packets from one source port of UDP.
    Amplification = 1 << 16,
}

impl Class {
    /// The number that goes into the hash.
    #[inline(always)]
    #[must_use]
    pub const fn number(self) -> u32 {
        self as u32
    }
}

/// Where the bucket of an address lies.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Place {
    /// Number of the set, 24 bits, before masking with the size of the table.
    pub set: u32,
    /// Tag in the set; never 0.
    pub tag: u32,
}

/// How the table changed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Change {
    /// The source had a bucket.
    Known,
    /// It got a free way.
    New,
    /// It got the way of another source.
    Evicted,
}

/// Names every bit of an IPv6 address.
pub const WHOLE: [u32; 4] = [u32::MAX; 4];

/// What of an address goes into hashes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Id {
    high: u64,
    low: u64,
}

impl Id {
    /// Of an address, of which the bits of `mask_v6` count when it is none of IPv4.
    #[inline(always)]
    #[must_use]
    pub const fn new(addr: &Addr, is_v4: bool, mask_v6: &[u32; 4]) -> Self {
        let [a, b, c, d] = addr.words();
        if is_v4 {
            Self { high: 0, low: d as u64 }
        } else {
            Self {
                high: pair(a & mask_v6[0], b & mask_v6[1]),
                low: pair(c & mask_v6[2], d & mask_v6[3]),
            }
        }
    }

    /// Where what is kept about the address for `class` lies.
    #[inline(always)]
    #[must_use]
    pub const fn place(self, class: u32, key: u32) -> Place {
        let hash = mix(self.high, self.low, key, class);
        // The upper bits of a product depend on every bit of its factors, the lower ones do not:
        // neighbouring addresses in network byte order would crowd some sets on big-endian machines.
        Place { set: (hash >> 40) as u32, tag: (hash ^ hash >> 20) as u32 | 1 }
    }
}

/// Where what is kept about `addr` for `class` lies. The bits of `mask_v6` name an IPv6 source.
#[must_use]
pub const fn place(addr: &Addr, class: u32, mask_v6: &[u32; 4], key: u32) -> Place {
    Id::new(addr, addr.is_v4(), mask_v6).place(class, key)
}

/// The way of a set that is for the source with `tag`, and how the table changes by that: index and
/// [`Change`] in one word, so that a program can keep it where its verifier forgets which way it was.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Chosen(u32);

impl Chosen {
    const NEW: u32 = 1 << 2;
    const EVICTED: u32 = 1 << 3;

    /// Looks for the tag, a free way, or the way that was quiet longest.
    #[inline(always)]
    #[must_use]
    pub fn find(set: &BucketSet, tag: u32, now_ms: u32) -> Self {
        // Nearly every packet is of a source that has a way.
        for index in 0..4 {
            if set.ways[index].tag == tag {
                return Self(index as u32);
            }
        }
        Self::to_replace(set, now_ms)
    }

    /// A free way, or the one that was quiet longest.
    #[inline(always)]
    fn to_replace(set: &BucketSet, now_ms: u32) -> Self {
        let (mut chosen, mut quiet) = (0, 0);
        // Counted down, so that of several candidates the first way is taken.
        for index in (0..4).rev() {
            let way = &set.ways[index];
            let (since, change) = if way.tag == 0 {
                (u32::MAX, Self::NEW)
            } else {
                (now_ms.wrapping_sub(way.stamp_ms) & 0x7fff_ffff, Self::EVICTED)
            };
            if since >= quiet {
                quiet = since;
                chosen = index as u32 | change;
            }
        }
        Self(chosen)
    }

    /// The word.
    #[inline(always)]
    #[must_use]
    pub const fn word(self) -> u32 {
        self.0
    }

    /// From the word.
    #[inline(always)]
    #[must_use]
    pub const fn from_word(word: u32) -> Self {
        Self(word)
    }

    /// How the table changes.
    #[inline(always)]
    #[must_use]
    pub const fn change(self) -> Change {
        if self.0 & (Self::NEW | Self::EVICTED) == 0 {
            Change::Known
        } else if self.0 & Self::NEW != 0 {
            Change::New
        } else {
            Change::Evicted
        }
    }

    /// Takes a token of the source with `tag`.
    #[inline(always)]
    pub const fn take(
        self,
        set: &mut BucketSet,
        tag: u32,
        now_ms: u32,
        rate: Rate,
        pace: Pace,
    ) -> bool {
        let way = &mut set.ways[(self.0 & 3) as usize];
        let mut bucket = match self.change() {
            Change::Known => Bucket { level: way.level, stamp_ms: way.stamp_ms },
            Change::New | Change::Evicted => Bucket::full(now_ms, rate, pace),
        };
        let granted = bucket.take(now_ms, rate, pace);
        *way = Way::new(tag, bucket.level, bucket.stamp_ms);
        granted
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use std::collections::HashSet;
    use std::net::{IpAddr, Ipv4Addr};

    use sluice_abi::limits::prefix_mask;

    use super::*;

    const RATE: Rate = Rate { per_second: 10, burst: 3 };

    fn addr(text: &str) -> Addr {
        text.parse::<IpAddr>().unwrap().into()
    }

    fn take(set: &mut BucketSet, tag: u32, now_ms: u32, rate: Rate, pace: Pace) -> (bool, Change) {
        let chosen = Chosen::from_word(Chosen::find(set, tag, now_ms).word());
        (chosen.take(set, tag, now_ms, rate, pace), chosen.change())
    }

    #[test]
    fn ipv6_sources_share_the_bucket_of_their_prefix() {
        let of = |text, prefix| place(&addr(text), Class::Any.number(), &prefix_mask(prefix), 42);
        assert_eq!(of("2001:db8:1:2::1", 64), of("2001:db8:1:2:ffff::9", 64));
        assert_ne!(of("2001:db8:1:2::1", 64), of("2001:db8:1:3::1", 64));
        assert_eq!(of("2001:db8:1:2::1", 56), of("2001:db8:1:3::1", 56));
        assert_ne!(of("2001:db8:1:2::1", 128), of("2001:db8:1:2::2", 128));
        assert_ne!(of("192.0.2.1", 64), of("192.0.2.2", 64));
    }

    #[test]
    fn the_key_moves_sources_and_classes_are_apart() {
        let source = addr("192.0.2.1");
        let of = |class: Class, key| place(&source, class.number(), &WHOLE, key);
        assert_ne!(of(Class::Any, 1), of(Class::Any, 2));
        assert_ne!(of(Class::Any, 1), of(Class::Syn, 1));
    }

    #[test]
    fn places_spread_over_sets_and_tags() {
        let places: HashSet<_> = (0..50_000_u32)
            .map(|n| place(&Ipv4Addr::from(0xc000_0000 + n).pipe(), Class::Any.number(), &WHOLE, 7))
            .map(|place| (place.set & 0xfff, place.tag))
            .collect();
        assert!(places.len() > 49_990, "{} of 50000 places differ", places.len());
        let sets: HashSet<_> = places.iter().map(|(set, _)| *set).collect();
        assert_eq!(sets.len(), 4096, "every set is used");
    }

    trait Pipe {
        fn pipe(self) -> Addr;
    }
    impl Pipe for Ipv4Addr {
        fn pipe(self) -> Addr {
            IpAddr::V4(self).into()
        }
    }

    #[test]
    fn a_new_source_is_granted_and_a_known_one_keeps_its_bucket() {
        let mut set = BucketSet::default();
        for tag in [1, 3, 5, 7] {
            assert_eq!(take(&mut set, tag, 1000, RATE, Pace::Second), (true, Change::New));
        }
        let granted = (0..10).filter(|_| take(&mut set, 5, 1000, RATE, Pace::Second).0).count();
        assert_eq!(granted, 2, "three tokens, one taken above");
        assert_eq!(take(&mut set, 5, 1000, RATE, Pace::Second), (false, Change::Known));
    }

    #[test]
    fn a_full_set_gives_up_the_way_that_was_quiet_longest() {
        let mut set = BucketSet::default();
        for (tag, now) in [(1, 100), (3, 400), (5, 200), (7, 300)] {
            let _ = take(&mut set, tag, now, RATE, Pace::Second);
        }
        assert_eq!(take(&mut set, 9, 500, RATE, Pace::Second), (true, Change::Evicted));
        let tags = set.ways.map(|way| way.tag);
        assert!(!tags.contains(&1) && tags.contains(&9), "{tags:?}");
    }
}

//! Buckets of sources: a set-associative table of fixed size.
//!
//! A new source never costs an insertion into a kernel map: its hash names a set of four ways, and
//! it takes the way of its own tag, a free one, or the one that was quiet longest. An attacker who
//! does not know the boot-time key cannot aim at the set of a victim.

use sluice_abi::flow::Addr;
use sluice_abi::shield::{BucketSet, Rate, Way};

use crate::bucket::Bucket;

/// What the bucket is for; sources have one of each.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Class {
    /// Every packet but those below.
    Any,
    /// TCP SYN without ACK.
    Syn,
}

/// Where the bucket of a source lies.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Place {
    /// Number of the set, before masking with the size of the table.
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

/// Where the bucket of `source` lies. `prefix_v6` (1 to 128) leading bits name an IPv6 source.
#[inline(always)]
#[must_use]
pub const fn place(source: &Addr, class: Class, prefix_v6: u32, key: u32) -> Place {
    let words = source.words();
    let mut hash = mix(key as u64 ^ 0x9e37_79b9_7f4a_7c15, class as u32);
    if source.is_v4() {
        hash = mix(hash, words[3]);
    } else {
        hash = mix(hash, leading(words[0], prefix_v6, 0));
        hash = mix(hash, leading(words[1], prefix_v6, 32));
        hash = mix(hash, leading(words[2], prefix_v6, 64));
        hash = mix(hash, leading(words[3], prefix_v6, 96));
    }
    hash ^= hash >> 29;
    Place { set: hash as u32, tag: (hash >> 32) as u32 | 1 }
}

/// Takes a token of the source with `tag`.
#[inline(always)]
pub fn take(set: &mut BucketSet, tag: u32, now_ms: u32, rate: Rate) -> (bool, Change) {
    let mut chosen = 0;
    let mut quiet = 0;
    let mut change = Change::Evicted;
    // Counted down, so that of several candidates the first way is taken.
    for index in (0..4).rev() {
        let way = &set.ways[index];
        if way.tag == tag {
            chosen = index;
            change = Change::Known;
            break;
        }
        let since =
            if way.tag == 0 { u32::MAX } else { now_ms.wrapping_sub(way.stamp_ms) & 0x7fff_ffff };
        if since >= quiet {
            quiet = since;
            chosen = index;
            change = if way.tag == 0 { Change::New } else { Change::Evicted };
        }
    }
    let way = &mut set.ways[chosen & 3];
    let mut bucket = match change {
        Change::Known => Bucket { level: way.level, stamp_ms: way.stamp_ms },
        Change::New | Change::Evicted => Bucket::full(now_ms, rate),
    };
    let granted = bucket.take(now_ms, rate);
    *way = Way::new(tag, bucket.level, bucket.stamp_ms);
    (granted, change)
}

/// `word` (of an address, as on the wire) without the bits behind the prefix; `before` bits of the
/// address precede it.
#[inline(always)]
const fn leading(word: u32, prefix: u32, before: u32) -> u32 {
    if prefix >= before + 32 {
        word
    } else if prefix <= before {
        0
    } else {
        word & (u32::MAX << (before + 32 - prefix)).to_be()
    }
}

#[inline(always)]
const fn mix(hash: u64, word: u32) -> u64 {
    let hash = (hash ^ word as u64).wrapping_mul(0xd6e8_feb8_6659_fd93);
    hash ^ hash >> 32
}

#[cfg(test)]
mod tests {
    extern crate std;
    use std::collections::HashSet;
    use std::net::{IpAddr, Ipv4Addr};

    use super::*;

    const RATE: Rate = Rate { per_second: 10, burst: 3 };

    fn addr(text: &str) -> Addr {
        text.parse::<IpAddr>().unwrap().into()
    }

    #[test]
    fn ipv6_sources_share_the_bucket_of_their_prefix() {
        let of = |text, prefix| place(&addr(text), Class::Any, prefix, 42);
        assert_eq!(of("2001:db8:1:2::1", 64), of("2001:db8:1:2:ffff::9", 64));
        assert_ne!(of("2001:db8:1:2::1", 64), of("2001:db8:1:3::1", 64));
        assert_eq!(of("2001:db8:1:2::1", 56), of("2001:db8:1:3::1", 56));
        assert_ne!(of("2001:db8:1:2::1", 128), of("2001:db8:1:2::2", 128));
        assert_ne!(of("192.0.2.1", 64), of("192.0.2.2", 64));
    }

    #[test]
    fn the_key_moves_sources_and_classes_are_apart() {
        let source = addr("192.0.2.1");
        assert_ne!(place(&source, Class::Any, 64, 1), place(&source, Class::Any, 64, 2));
        assert_ne!(place(&source, Class::Any, 64, 1), place(&source, Class::Syn, 64, 1));
    }

    #[test]
    fn places_spread_over_sets_and_tags() {
        let places: HashSet<_> = (0..50_000_u32)
            .map(|n| place(&Ipv4Addr::from(0xc000_0000 + n).pipe(), Class::Any, 64, 7))
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
            assert_eq!(take(&mut set, tag, 1000, RATE), (true, Change::New));
        }
        let granted = (0..10).filter(|_| take(&mut set, 5, 1000, RATE).0).count();
        assert_eq!(granted, 2, "three tokens, one taken above");
        assert_eq!(take(&mut set, 5, 1000, RATE), (false, Change::Known));
    }

    #[test]
    fn a_full_set_gives_up_the_way_that_was_quiet_longest() {
        let mut set = BucketSet::default();
        for (tag, now) in [(1, 100), (3, 400), (5, 200), (7, 300)] {
            let _ = take(&mut set, tag, now, RATE);
        }
        assert_eq!(take(&mut set, 9, 500, RATE), (true, Change::Evicted));
        let tags = set.ways.map(|way| way.tag);
        assert!(!tags.contains(&1) && tags.contains(&9), "{tags:?}");
    }
}

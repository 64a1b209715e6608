//! Building a set within a bound of memory.
//!
//! Names are read twice: the first time they are counted by the upper bits of their fingerprints, the
//! second time each goes where its count says, into the memory that the finished set will have. There
//! each small heap is sorted and packed, in place because packed they are shorter.

use super::DomainSet;
use super::fingerprint::{Key, fingerprint};
use super::packed::{Packed, Row};
use crate::config::DOMAINLISTS_MAX;
use crate::text::{Kib, grouped};

/// Most lists in a set.
const LISTS_MAX: u32 = DOMAINLISTS_MAX;
/// Most upper bits that names are counted by: 256 KiB of counts.
const HEAP_BITS_MAX: u32 = 16;
/// Buckets of the finished set in a heap, as a power of two.
const HEAP_BUCKETS_LOG: u32 = 4;

/// What building a set takes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Room {
    names: u32,
    lists: u32,
}

/// Lists that need more memory than they may have.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error(
    "the domain lists need {} for {} names and {} to sort them beside {} in force, \
     domain_memory_kib allows {}",
    Kib(*.set), grouped(u64::from(*.names)), Kib(*.sort), Kib(*.in_force), Kib(*.cap)
)]
pub struct TooLarge {
    /// Names, counted as written.
    pub names: u32,
    /// Bytes of the new set.
    pub set: u64,
    /// Bytes for sorting.
    pub sort: u64,
    /// Bytes of the set that stays in force until the new one is whole.
    pub in_force: u64,
    /// Bytes that may be used.
    pub cap: u64,
}

impl Room {
    /// For at most `names` names of `lists` lists, next to a set of `in_force` bytes, within `cap`
    /// bytes.
    pub fn new(names: u32, lists: u32, in_force: u64, cap: u64) -> Result<Self, TooLarge> {
        let room = Self { names, lists: lists.clamp(1, LISTS_MAX) };
        let (set, sort) = (room.set_bytes(), room.sort_bytes());
        // Without names there is nothing to make room for.
        if names == 0 || set.saturating_add(sort).saturating_add(in_force) <= cap {
            Ok(room)
        } else {
            Err(TooLarge { names, set, sort, in_force, cap })
        }
    }

    /// Bytes of the set, or less where names come twice.
    #[must_use]
    pub fn set_bytes(self) -> u64 {
        if self.names == 0 {
            return 0;
        }
        let lists = Row::bytes_for(self.list_bits(), self.names as usize);
        Packed::bytes_for(self.names) + lists
    }

    /// Bytes that are needed beside those while the set is built.
    #[must_use]
    pub fn sort_bytes(self) -> u64 {
        let low_bits = 64 - Packed::bucket_bits(self.names);
        let unpacked = Row::bytes_for(self.rest_bits(), self.names as usize);
        let packed = Row::bytes_for(low_bits, self.names as usize);
        (4 << self.heap_bits()) + unpacked - packed
    }

    /// Upper bits that names are counted by.
    fn heap_bits(self) -> u32 {
        (Packed::bucket_bits(self.names) - HEAP_BUCKETS_LOG).min(HEAP_BITS_MAX)
    }

    /// What is left of a fingerprint behind those.
    fn rest_bits(self) -> u32 {
        64 - self.heap_bits()
    }

    const fn list_bits(self) -> u32 {
        if self.lists == 1 { 0 } else { (self.lists - 1).ilog2() + 1 }
    }
}

/// The first reading: how many names go where.
#[derive(Debug)]
pub struct Counting {
    key: Key,
    room: Room,
    heaps: Vec<u32>,
}

impl Counting {
    /// Nothing is counted yet.
    #[must_use]
    pub fn new(key: Key, room: Room) -> Self {
        Self { key, room, heaps: vec![0; 1 << room.heap_bits()] }
    }

    /// Counts a name.
    pub fn count(&mut self, name: &str) {
        let heap = fingerprint(self.key, name) >> self.room.rest_bits();
        if let Some(count) = self.heaps.get_mut(heap as usize) {
            *count += 1;
        }
    }

    /// All names are counted.
    #[must_use]
    pub fn done(self) -> Builder {
        let Self { key, room, mut heaps } = self;
        // Where each heap begins; while it is filled, where its next name goes.
        let mut place = 0;
        for heap in &mut heaps {
            place += std::mem::replace(heap, place);
        }
        let names = room.names as usize;
        Builder {
            key,
            room,
            heaps,
            rests: Row::with_room(room.rest_bits(), names),
            lists: Row::with_room(room.list_bits(), names),
        }
    }
}

/// The second reading: every name goes where it belongs.
///
/// With other names than those that were counted the set is worth nothing, and nothing worse comes of
/// it.
#[derive(Debug)]
pub struct Builder {
    key: Key,
    room: Room,
    heaps: Vec<u32>,
    rests: Row,
    lists: Row,
}

impl Builder {
    /// Adds a name of the list `list`. Of several lists that have it, the one with the lowest number
    /// counts.
    pub fn add(&mut self, name: &str, list: u32) {
        let fingerprint = fingerprint(self.key, name);
        let heap = fingerprint >> self.room.rest_bits();
        let Some(place) = self.heaps.get_mut(heap as usize) else { return };
        self.rests.set(*place as usize, fingerprint);
        self.lists.set(*place as usize, u64::from(list));
        *place += 1;
    }

    /// The set.
    #[must_use]
    pub fn finish(self) -> DomainSet {
        let Self { key, room, heaps, rests, mut lists } = self;
        let mut names = Packed::into_room(room.names, rests);
        let mut sorted: Vec<(u64, u64)> = Vec::new();
        let mut start = 0;
        // A heap ends where the next one began.
        for (heap, end) in (0..).zip(heaps) {
            let places = start as usize..(end as usize).min(room.names as usize);
            sorted.clear();
            sorted.extend(
                places.map(|place| (names.room(room.rest_bits(), place), lists.get(place))),
            );
            sorted.sort_unstable();
            sorted.dedup_by_key(|(rest, _)| *rest);
            for (rest, list) in &sorted {
                names.push(heap << room.rest_bits() | rest);
                lists.push(*list);
            }
            start = end;
        }
        names.finish();
        lists.finish();
        DomainSet { key, names, lists, observing_from: u32::MAX }
    }
}

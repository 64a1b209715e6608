//! Building a set within a bound of memory.
//!
//! Fingerprints are sorted before they are packed. Where there is no room to sort them all at once,
//! the names are read several times, and each time those are taken whose fingerprints begin with the
//! same few bits.

use super::DomainSet;
use super::fingerprint::{Key, fingerprint};
use super::packed::{Packed, Row};
use crate::config::DOMAINLISTS_MAX;

/// Most lists in a set.
const LISTS_MAX: u32 = DOMAINLISTS_MAX;
/// Most parts that a set is built in.
pub(super) const PARTS_MAX: u32 = 16;
/// Memory for sorting that is taken even if there is more: a set and the image of the addresses are
/// replaced one after the other, and neither should need more than the other.
const SORT_MAX: u64 = 5 << 20;

/// A fingerprint from its highest byte to its lowest, and the number of a list.
type Raw = [u8; 9];

/// What building a set takes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Room {
    pub(super) names: u32,
    pub(super) lists: u32,
    pub(super) parts: u32,
}

/// Lists that need more memory than they may have.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error(
    "the domain lists need {} for {} names and {} to sort a part of them beside {} in force, \
     domain_memory_kib allows {}",
    Kib(*.set), grouped(*.names), Kib(*.sort), Kib(*.in_force), Kib(*.cap)
)]
pub struct TooLarge {
    /// Names, counted as written.
    pub names: u32,
    /// Bytes of the new set.
    pub set: u64,
    /// Bytes for sorting, in as many parts as there can be.
    pub sort: u64,
    /// Bytes of the set that stays in force until the new one is whole.
    pub in_force: u64,
    /// Bytes that may be used.
    pub cap: u64,
}

impl Room {
    /// For at most `names` names of `lists` lists, next to a set of `in_force` bytes, within `cap`
    /// bytes. The fewest parts that fit are chosen.
    pub fn new(names: u32, lists: u32, in_force: u64, cap: u64) -> Result<Self, TooLarge> {
        let mut room = Self { names, lists: lists.clamp(1, LISTS_MAX), parts: 1 };
        let fits = |room: &Self| {
            let all = room.set_bytes().saturating_add(in_force).saturating_add(room.sort_bytes());
            all <= cap && room.sort_bytes() <= SORT_MAX.max(cap / 4)
        };
        // Without names there is nothing to make room for.
        while names > 0 && !fits(&room) {
            if room.parts == PARTS_MAX {
                let (set, sort) = (room.set_bytes(), room.sort_bytes());
                return Err(TooLarge { names, set, sort, in_force, cap });
            }
            room.parts *= 2;
        }
        Ok(room)
    }

    /// How often the names have to be read.
    #[must_use]
    pub const fn parts(&self) -> u32 {
        self.parts
    }

    /// Bytes of the set, or less where names come twice.
    #[must_use]
    pub fn set_bytes(&self) -> u64 {
        if self.names == 0 {
            return 0;
        }
        let lists = Row::bytes_for(self.list_bits(), self.names as usize);
        Packed::bytes_for(self.names) + lists
    }

    /// Bytes for sorting a part.
    #[must_use]
    pub const fn sort_bytes(&self) -> u64 {
        self.part_len() as u64 * size_of::<Raw>() as u64
    }

    /// Names of a part. The keyed fingerprints spread them evenly: 3 % more than the mean of a part of
    /// 100,000 is ten times the standard deviation, and small parts have the fixed surplus.
    const fn part_len(&self) -> u32 {
        let mean = self.names / self.parts;
        let most = mean.saturating_add(mean / 32 + 1024);
        if most < self.names { most } else { self.names }
    }

    const fn list_bits(&self) -> u32 {
        if self.lists == 1 { 0 } else { (self.lists - 1).ilog2() + 1 }
    }
}

/// Builds a set: for each part, [`add`](Self::add) every name of every list, then
/// [`end_part`](Self::end_part).
#[derive(Debug)]
pub struct Builder {
    key: Key,
    room: Room,
    part: u32,
    pub(super) raw: Vec<Raw>,
    names: Packed,
    lists: Row,
}

impl Builder {
    /// Takes the room.
    #[must_use]
    pub fn new(key: Key, room: Room) -> Self {
        let mut raw = Vec::new();
        raw.reserve_exact(room.part_len() as usize);
        Self {
            key,
            room,
            part: 0,
            raw,
            names: Packed::with_capacity(room.names),
            lists: Row::with_capacity(room.list_bits(), room.names as usize),
        }
    }

    /// Adds a name of the list `list`, if it belongs to this part. Of several lists that have it, the
    /// one with the lowest number counts.
    pub fn add(&mut self, name: &str, list: u32) {
        let fingerprint = fingerprint(self.key, name);
        // One part has no bits in common.
        let part = fingerprint.checked_shr(64 - self.room.parts.ilog2()).unwrap_or(0);
        if part != u64::from(self.part) {
            return;
        }
        if self.raw.len() == self.raw.capacity() {
            // Names that come twice may have taken the room.
            self.sort();
            if self.raw.len() == self.raw.capacity() {
                self.raw.reserve_exact(1024);
            }
        }
        let mut raw = [0; 9];
        raw[..8].copy_from_slice(&fingerprint.to_be_bytes());
        raw[8] = list.min(LISTS_MAX - 1) as u8;
        self.raw.push(raw);
    }

    /// Packs the names of this part.
    pub fn end_part(&mut self) {
        self.sort();
        for [fingerprint @ .., list] in &self.raw {
            self.names.push(u64::from_be_bytes(*fingerprint));
            self.lists.push(u64::from(*list));
        }
        self.raw.clear();
        self.part += 1;
    }

    /// The set.
    #[must_use]
    pub fn finish(self) -> DomainSet {
        let Self { key, mut names, mut lists, raw, .. } = self;
        drop(raw);
        names.finish();
        lists.finish();
        DomainSet { key, names, lists }
    }

    fn sort(&mut self) {
        self.raw.sort_unstable();
        self.raw.dedup_by(|[later @ .., _], [first @ .., _]| later == first);
    }
}

/// A number with separators.
fn grouped(number: u32) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + 3);
    for (index, digit) in digits.char_indices() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Bytes as KiB, rounded up.
struct Kib(u64);

impl std::fmt::Display for Kib {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} KiB", grouped(self.0.div_ceil(1024).min(u32::MAX.into()) as u32))
    }
}

//! Lines of the table of IPv4, and whether a list is better kept in lines or in an index.

use std::convert::Infallible;

use bytemuck::cast_slice;
use sluice_abi::bulk::{INDEX_SHIFT, LINE_BITS, LINE_SHIFTS, line, table_chunks};

use super::buckets::{Bucket, split};
use super::entries::Entries;

/// Addresses of a line.
const ADDRESSES: usize = 1 << LINE_BITS;
/// The lower bits of an address that a line tells.
const LOW: u16 = (ADDRESSES - 1) as u16;

/// Lanes that the entries of a bucket take: one for a single address, otherwise one for each boundary.
fn lanes(bucket: &Bucket) -> usize {
    let ends = bucket
        .intervals()
        .filter(|(addresses, _)| addresses.len() > 1 && addresses.end % ADDRESSES != 0);
    bucket.lists.len() + ends.count()
}

/// First lane of a line with an entry.
fn first_lane(bucket: &Bucket) -> usize {
    if bucket.is_uniform() { 1 } else { line::TAGGED_LANES as usize }
}

/// What a line holds.
pub(super) struct Line {
    lanes: Vec<u16>,
    /// Tags of the lanes with entries, when they differ.
    tags: Vec<u8>,
}

impl Line {
    /// A line of this many bytes with what is listed in a bucket, when it fits.
    pub(super) fn of(bucket: &Bucket, bytes: usize) -> Option<Self> {
        let (first, count) = (first_lane(bucket), bytes / 2);
        // Entries and their lists: what is more than one address, then single ones.
        let mut entries = Vec::with_capacity(count);
        for (addresses, list) in bucket.intervals().filter(|(addresses, _)| addresses.len() > 1) {
            entries.push((addresses.start as u16 & LOW | line::BOUNDARY, list));
            if addresses.end % ADDRESSES != 0 {
                entries.push((addresses.end as u16 & LOW | line::BOUNDARY, list));
            }
        }
        let is_single = |(addresses, _): &(std::ops::Range<usize>, u8)| addresses.len() == 1;
        let single = bucket.intervals().filter(is_single);
        entries.extend(single.map(|(addresses, list)| (addresses.start as u16 & LOW, list)));
        if first + entries.len() > count {
            return None;
        }
        // Lanes that are left repeat a single address, be it the first one of an interval.
        let last = entries.last().filter(|(lane, _)| lane & line::BOUNDARY == 0);
        let (lane, list) = *last.or(entries.first())?;
        entries.resize(count - first, (lane & LOW, list));
        let mut lanes = vec![0; first];
        lanes.extend(entries.iter().map(|(lane, _)| lane));
        let (kind, tags) = if bucket.is_uniform() {
            (line::HERE | u16::from(list), Vec::new())
        } else {
            (line::HERE | line::TAGGED, entries.iter().map(|(_, list)| *list).collect())
        };
        if let Some(start) = lanes.first_mut() {
            *start = kind;
        }
        Some(Self { lanes, tags })
    }

    /// The line of this many bytes for a bucket with this index word.
    pub(super) fn elsewhere(word: u32, bytes: usize) -> Self {
        let mut line = Self { lanes: vec![0; bytes / 2], tags: Vec::new() };
        line.set_word(word);
        line
    }

    /// The tags to put behind the table; none when one does for all.
    pub(super) fn tags(&self) -> &[u8] {
        &self.tags
    }

    /// Writes the second word.
    pub(super) fn set_word(&mut self, word: u32) {
        if let Some(place) = self.lanes.get_mut(2..4) {
            place.copy_from_slice(cast_slice(&word.to_ne_bytes()));
        }
    }

    /// What is written into the table.
    pub(super) fn bytes(&self) -> &[u8] {
        cast_slice(&self.lanes)
    }
}

/// What each kind of table would take.
pub(super) struct Census {
    /// With an index.
    index: u64,
    /// With lines of each size.
    lines: [u64; SIZES],
}

const SIZES: usize = (LINE_SHIFTS[1] - LINE_SHIFTS[0] + 1) as usize;

impl Census {
    /// Of sorted entries.
    pub(super) fn of(entries: &Entries) -> Self {
        let bytes = |shift| u64::from(table_chunks(shift)) << 16;
        let shifts = LINE_SHIFTS[0]..;
        let mut census = Self { index: bytes(INDEX_SHIFT), lines: [0; SIZES] };
        census.lines.iter_mut().zip(shifts).for_each(|(lines, shift)| *lines = bytes(shift));
        let counted = split(entries.v4(), LINE_BITS, |bucket| {
            census.add(bucket);
            Ok::<(), Infallible>(())
        });
        counted.map_or_else(|never| match never {}, |()| census)
    }

    fn add(&mut self, bucket: &Bucket) {
        let bytes = bucket.bytes() as u64;
        // All that are listed as a whole share one.
        let is_whole = bucket.intervals().all(|(addresses, _)| addresses.len() == ADDRESSES);
        self.index += if is_whole { 0 } else { bytes };
        let (first, lanes) = (first_lane(bucket), lanes(bucket));
        for (lines, shift) in self.lines.iter_mut().zip(LINE_SHIFTS[0]..) {
            let count = (1 << shift) / 2;
            *lines += match first + lanes <= count {
                true if bucket.is_uniform() => 0,
                true => (count - first) as u64,
                false => bytes,
            };
        }
    }

    /// The table to write: lines, which are faster, where they take no more than an index.
    pub(super) fn shift(&self) -> u32 {
        let smallest = self.lines.iter().zip(LINE_SHIFTS[0]..).min_by_key(|(bytes, _)| **bytes);
        match smallest {
            Some((bytes, shift)) if *bytes <= self.index => shift,
            _ => INDEX_SHIFT,
        }
    }
}

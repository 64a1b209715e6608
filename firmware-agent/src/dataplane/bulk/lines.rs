//! Lines of IPv4, and whether what is listed is better kept in lines or in a bucket.

use std::convert::Infallible;

use bytemuck::cast_slice;
use sluice_abi::bulk::{Chunk, LINES, line};

use super::buckets::Bucket;

/// The lower bits of an address that a line tells.
const LOW: u16 = line::LOW;

/// Lanes that the entries of a bucket take: one for a single address, otherwise one for each boundary.
fn lanes(bucket: &Bucket) -> usize {
    let ends = bucket
        .intervals()
        .filter(|(addresses, _)| addresses.len() > 1 && !bucket.is_end(addresses.end));
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
            if !bucket.is_end(addresses.end) {
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
        let repeated = entries.last().filter(|(lane, _)| lane & line::BOUNDARY == 0);
        let (lane, list) = *repeated.or(entries.first())?;
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
        Self { lanes: vec![0; bytes / 2], tags: Vec::new() }.with_word(word)
    }

    /// The tags to put elsewhere; none when one does for all.
    pub(super) fn tags(&self) -> &[u8] {
        &self.tags
    }

    /// The line with this second word.
    pub(super) fn with_word(mut self, word: u32) -> Self {
        let [a, b, c, d] = word.to_ne_bytes();
        if let Some([low, high]) = self.lanes.get_mut(2..4) {
            (*low, *high) = (u16::from_ne_bytes([a, b]), u16::from_ne_bytes([c, d]));
        }
        self
    }

    /// What is written.
    pub(super) fn bytes(&self) -> &[u8] {
        cast_slice(&self.lanes)
    }
}

/// How many lines there are for a bucket, and how many double words each has, as powers of two.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Shape {
    pub(super) split: u32,
    longs: u32,
}

impl Shape {
    /// What takes the least memory for a bucket: `None` is the bucket itself, unless lines, which are
    /// several times faster, take no more than a quarter more.
    pub(super) fn of(bucket: &Bucket) -> Option<Self> {
        let alone = bucket.bytes().min(Chunk::BYTES);
        let (mut best, mut least) = (None, alone + alone / 4 + 1);
        let (first, lanes) = (first_lane(bucket), lanes(bucket));
        let short = (0..line::LONGS_MAX).map(|longs| Self { split: 1, longs });
        let long = (1..=line::SPLIT_MAX).map(|split| Self { split, longs: line::LONGS_MAX });
        for shape in short.chain(long) {
            if shape.bytes() >= least {
                break;
            }
            // Lines that would all be full are too short.
            if lanes > (shape.line() / 2).saturating_sub(first) << shape.split {
                continue;
            }
            if let Some(bytes) = shape.takes(bucket).filter(|bytes| *bytes < least) {
                (best, least) = (Some(shape), bytes);
            }
        }
        best
    }

    /// Bytes of a line.
    pub(super) const fn line(self) -> usize {
        8 << self.longs
    }

    /// Bytes of all lines.
    pub(super) const fn bytes(self) -> usize {
        self.line() << self.split
    }

    /// Bytes of all lines and what belongs to them; `None` when more than one of four is too short.
    fn takes(self, bucket: &Bucket) -> Option<usize> {
        let (mut bytes, mut elsewhere) = (self.bytes(), 0_usize);
        let parts = bucket.parts(self.split, |part| {
            let (first, count) = (first_lane(part), self.line() / 2);
            bytes += if first + lanes(part) > count {
                elsewhere += 1;
                part.bytes().min(Chunk::BYTES)
            } else if part.is_uniform() {
                0
            } else {
                count - first
            };
            Ok::<(), Infallible>(())
        });
        match parts {
            Ok(()) => (elsewhere * 4 <= 1 << self.split).then_some(bytes),
            Err(never) => match never {},
        }
    }

    /// The index word of lines that begin `at` bytes into a chunk.
    pub(super) const fn word(self, chunk: u32, at: usize) -> u32 {
        let position = chunk * (Chunk::BYTES / 8) as u32 + (at / 8) as u32;
        LINES | self.longs << line::LONGS_SHIFT | self.split << line::SPLIT_SHIFT | position
    }
}

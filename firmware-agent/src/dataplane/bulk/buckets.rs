//! What is listed among addresses that begin alike.

use std::ops::Range;

use sluice_abi::bulk::{INDEX_SHIFT, LINE_BITS};

use super::entries::{Interval, sweep};

/// What is listed among addresses with the same upper bits.
#[derive(Default)]
pub(super) struct Bucket {
    /// The upper bits.
    pub(super) upper: u32,
    /// How many bits the others are.
    bits: u32,
    /// Where listed intervals start and, but for the end of the bucket, end: lower sixteen bits.
    pub(super) boundaries: Vec<u16>,
    /// The list of each interval.
    pub(super) lists: Vec<u8>,
}

/// Bits of an address that a bucket tells, in an image with a table of this shift.
pub(super) const fn bits(shift: u32) -> u32 {
    if shift == INDEX_SHIFT { 16 } else { LINE_BITS }
}

/// Shows the buckets of `bits` bits of sorted prefixes that have something listed, in their order.
pub(super) fn split<E>(
    prefixes: impl Iterator<Item = Interval>,
    bits: u32,
    mut emit: impl FnMut(&Bucket) -> Result<(), E>,
) -> Result<(), E> {
    let mut bucket = Bucket { bits, ..Bucket::default() };
    sweep(prefixes, |Interval { mut start, end, list }| {
        while start < end {
            let upper = (start >> bits) as u32;
            if upper != bucket.upper {
                bucket.emit(&mut emit)?;
                bucket.upper = upper;
            }
            let bucket_end = u64::from(upper + 1) << bits;
            bucket.boundaries.push(start as u16);
            if end < bucket_end {
                bucket.boundaries.push(end as u16);
            }
            bucket.lists.push(list);
            start = end.min(bucket_end);
        }
        Ok(())
    })?;
    bucket.emit(&mut emit)
}

impl Bucket {
    fn emit<E>(&mut self, mut emit: impl FnMut(&Self) -> Result<(), E>) -> Result<(), E> {
        if !self.lists.is_empty() {
            emit(self)?;
        }
        self.boundaries.clear();
        self.lists.clear();
        Ok(())
    }

    /// Whether one list has all of it.
    pub(super) fn is_uniform(&self) -> bool {
        self.lists.iter().all(|list| self.lists.first() == Some(list))
    }

    /// The lists to write: one when there is no other.
    pub(super) fn tags(&self) -> &[u8] {
        if self.is_uniform() { &self.lists[..1] } else { &self.lists }
    }

    /// Bytes that it takes in an image.
    pub(super) fn bytes(&self) -> usize {
        2 + self.boundaries.len() * 2 + self.tags().len().next_multiple_of(2)
    }

    /// The intervals by the lower sixteen bits of their addresses, with their lists.
    pub(super) fn intervals(&self) -> impl Iterator<Item = (Range<usize>, u8)> {
        let last = (((self.upper as usize + 1) << self.bits) - 1) & 0xffff;
        self.boundaries.chunks(2).zip(&self.lists).filter_map(move |(pair, list)| {
            let (start, rest) = pair.split_first()?;
            let end = rest.first().map_or(last + 1, |end| usize::from(*end));
            Some((usize::from(*start)..end, *list))
        })
    }
}

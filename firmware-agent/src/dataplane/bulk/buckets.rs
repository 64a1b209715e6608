//! What is listed among addresses that begin alike.

use std::ops::Range;

use super::entries::{Interval, sweep};

/// What is listed among addresses with the same upper bits.
#[derive(Default)]
pub(super) struct Bucket {
    /// The upper bits; of a part, those of the lower sixteen.
    pub(super) upper: u32,
    /// How many bits the others are, at most sixteen.
    bits: u32,
    /// Where listed intervals start and, but for the end of the bucket, end: lower sixteen bits.
    pub(super) boundaries: Vec<u16>,
    /// The list of each interval.
    pub(super) lists: Vec<u8>,
}

/// Shows the buckets of sorted prefixes that have something listed, in their order.
pub(super) fn split<E>(
    prefixes: impl Iterator<Item = Interval>,
    emit: impl FnMut(&Bucket) -> Result<(), E>,
) -> Result<(), E> {
    let mut cutter = Cutter::new(16, emit);
    sweep(prefixes, |interval| cutter.add(&interval))?;
    cutter.end()
}

/// Cuts intervals into buckets.
struct Cutter<F> {
    bucket: Bucket,
    emit: F,
}

impl<E, F: FnMut(&Bucket) -> Result<(), E>> Cutter<F> {
    fn new(bits: u32, emit: F) -> Self {
        Self { bucket: Bucket { bits, ..Bucket::default() }, emit }
    }

    fn add(&mut self, interval: &Interval) -> Result<(), E> {
        let (mut start, end, bits) = (interval.start, interval.end, self.bucket.bits);
        while start < end {
            let upper = (start >> bits) as u32;
            if upper != self.bucket.upper {
                self.end()?;
                self.bucket.upper = upper;
            }
            let bucket_end = u64::from(upper + 1) << bits;
            self.bucket.boundaries.push(start as u16);
            if end < bucket_end {
                self.bucket.boundaries.push(end as u16);
            }
            self.bucket.lists.push(interval.list);
            start = end.min(bucket_end);
        }
        Ok(())
    }

    fn end(&mut self) -> Result<(), E> {
        if !self.bucket.lists.is_empty() {
            (self.emit)(&self.bucket)?;
        }
        self.bucket.boundaries.clear();
        self.bucket.lists.clear();
        Ok(())
    }
}

impl Bucket {
    /// Whether one list has all that is listed.
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
        // Of the highest bucket the end is 0 where a word has 32 bits.
        let last = ((self.upper as usize + 1) << self.bits).wrapping_sub(1) & 0xffff;
        self.boundaries.chunks(2).zip(&self.lists).filter_map(move |(pair, list)| {
            let (start, rest) = pair.split_first()?;
            let end = rest.first().map_or(last + 1, |end| usize::from(*end));
            Some((usize::from(*start)..end, *list))
        })
    }

    /// Whether an interval with this end goes on to the end of the bucket.
    pub(super) const fn is_end(&self, end: usize) -> bool {
        end & ((1 << self.bits) - 1) == 0
    }

    /// Shows those of two to the power of `split` parts that have something listed.
    pub(super) fn parts<E>(
        &self,
        split: u32,
        emit: impl FnMut(&Self) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut cutter = Cutter::new(self.bits - split, emit);
        for (addresses, list) in self.intervals() {
            let (start, end) = (addresses.start as u64, addresses.end as u64);
            cutter.add(&Interval { start, end, list })?;
        }
        cutter.end()
    }
}

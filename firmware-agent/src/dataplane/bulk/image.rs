//! Writes an image chunk by chunk. Pure: where the chunks go is the caller's.

use bytemuck::Zeroable as _;
use sluice_abi::bulk::{
    BITS_SHIFT, BLOCK_BOUNDARIES, BLOCK_BYTES, CHUNKS_MAX, Chunk, DENSE, Header, INDEX_CHUNKS,
    INDEX_FIRST, SAMPLE_FIRST, SAMPLES_MAX, UNIFORM,
};

use super::entries::{Entries, Interval, sweep};

/// Addresses of a bucket.
const BUCKET: u64 = 1 << 16;
/// Intervals of an IPv6 block.
const BLOCK_INTERVALS: usize = BLOCK_BOUNDARIES as usize / 2;

/// Why an image was not written.
#[derive(Debug, thiserror::Error)]
pub enum ImageError<E: std::error::Error> {
    /// More IPv6 prefixes than an image can hold.
    #[error(
        "has more IPv6 prefixes than the {} intervals that an image can hold",
        SAMPLES_MAX as usize * BLOCK_INTERVALS
    )]
    TooManyV6,
    /// More chunks than can be numbered.
    #[error("needs more than {CHUNKS_MAX} chunks of 64 KiB")]
    TooLarge,
    /// A chunk could not be put where it belongs.
    #[error(transparent)]
    Sink(#[from] E),
}

/// Writes the image of sorted `entries`; every chunk below the number in the header goes to `sink`
/// once, in no order, with the header's chunk last.
pub fn write<E: std::error::Error>(
    entries: &Entries,
    sink: impl FnMut(u32, &Chunk) -> Result<(), E>,
) -> Result<Header, ImageError<E>> {
    let mut writer = Writer {
        sink,
        chunk: Box::new(Chunk::zeroed()),
        number: 0,
        used: Chunk::BYTES,
        next: INDEX_FIRST + INDEX_CHUNKS,
        index: vec![0; 1 << 16],
        buckets: 0,
        full: [0; 256],
        bucket: Bucket::default(),
        samples: Vec::new(),
        intervals: BLOCK_INTERVALS,
    };
    sweep(entries.v4(), |interval| writer.add_v4(interval))?;
    writer.end_bucket()?;
    writer.end_chunk()?;
    let first_block = writer.next;
    sweep(entries.v6(), |interval| writer.add_v6(interval))?;
    writer.end_chunk()?;
    writer.finish(first_block)
}

/// Bytes of the image of sorted `entries`; nothing is kept.
pub fn measure(entries: &Entries) -> Result<u64, ImageError<std::convert::Infallible>> {
    let header = write(entries, |_, _| Ok(()))?;
    Ok(u64::from(header.chunks) * Chunk::BYTES as u64)
}

/// What is listed among addresses with the same upper half.
#[derive(Default)]
struct Bucket {
    upper: u64,
    boundaries: Vec<u16>,
    lists: Vec<u8>,
}

const fn position(number: u32, offset: usize) -> u32 {
    number * (Chunk::BYTES / 2) as u32 + (offset / 2) as u32
}

struct Writer<S> {
    sink: S,
    /// The chunk that is being filled, its number and how much of it is used.
    chunk: Box<Chunk>,
    number: u32,
    used: usize,
    /// Number of the next chunk that is begun.
    next: u32,
    index: Vec<u32>,
    buckets: u32,
    /// Position of the bucket that is listed as a whole, by list.
    full: [u32; 256],
    bucket: Bucket,
    samples: Vec<u64>,
    /// Intervals in the last block.
    intervals: usize,
}

impl<S, E> Writer<S>
where
    S: FnMut(u32, &Chunk) -> Result<(), E>,
    E: std::error::Error,
{
    fn add_v4(&mut self, interval: Interval) -> Result<(), ImageError<E>> {
        let Interval { mut start, end, list } = interval;
        while start < end {
            let upper = start / BUCKET;
            if upper != self.bucket.upper {
                self.end_bucket()?;
                self.bucket.upper = upper;
            }
            let bucket_end = (upper + 1) * BUCKET;
            self.bucket.boundaries.push(start as u16);
            if end < bucket_end {
                self.bucket.boundaries.push(end as u16);
            }
            self.bucket.lists.push(list);
            start = end.min(bucket_end);
        }
        Ok(())
    }

    fn end_bucket(&mut self) -> Result<(), ImageError<E>> {
        let Bucket { upper, mut boundaries, mut lists } = std::mem::take(&mut self.bucket);
        let Some(&list) = lists.first() else { return Ok(()) };
        self.buckets += 1;
        let is_full = boundaries == [0];
        let known = self.full[usize::from(list)];
        let word = if is_full && known != 0 {
            known
        } else {
            let is_uniform = lists.iter().all(|other| *other == list);
            let tags = if is_uniform { &lists[..1] } else { &lists[..] };
            let bytes = 2 + boundaries.len() * 2 + tags.len().next_multiple_of(2);
            if bytes > Chunk::BYTES - 2 {
                self.dense(&boundaries, &lists)?
            } else {
                let at = self.room(bytes)?;
                let count = boundaries.len() as u16 | if is_uniform { UNIFORM } else { 0 };
                let place = &mut self.chunk.bytes_mut()[at..at + bytes];
                place[..2].copy_from_slice(&count.to_ne_bytes());
                let (halves, rest) = place[2..].split_at_mut(boundaries.len() * 2);
                halves.copy_from_slice(bytemuck::cast_slice(&boundaries));
                rest[..tags.len()].copy_from_slice(tags);
                let bits = usize::BITS - boundaries.len().leading_zeros();
                bits << BITS_SHIFT | position(self.number, at)
            }
        };
        if is_full {
            self.full[usize::from(list)] = word;
        }
        self.index[upper as usize] = word;
        boundaries.clear();
        lists.clear();
        self.bucket = Bucket { upper, boundaries, lists };
        Ok(())
    }

    /// A chunk with a byte for each address.
    fn dense(&mut self, boundaries: &[u16], lists: &[u8]) -> Result<u32, ImageError<E>> {
        let mut chunk = Box::new(Chunk::zeroed());
        for (pair, list) in boundaries.chunks(2).zip(lists) {
            let [start, end @ ..] = pair else { continue };
            let end = end.first().map_or(Chunk::BYTES, |end| usize::from(*end));
            chunk.bytes_mut()[usize::from(*start)..end].fill(list + 1);
        }
        let number = self.begin()?;
        (self.sink)(number, &chunk)?;
        Ok(DENSE << BITS_SHIFT | position(number, 0))
    }

    fn add_v6(&mut self, interval: Interval) -> Result<(), ImageError<E>> {
        if self.intervals == BLOCK_INTERVALS {
            if self.samples.len() == SAMPLES_MAX as usize {
                return Err(ImageError::TooManyV6);
            }
            self.samples.push(interval.start);
            self.intervals = 0;
            let at = self.room(BLOCK_BYTES as usize)?;
            self.chunk.bytes_mut()[at..at + BLOCK_BOUNDARIES as usize * 8].fill(0xff);
        }
        let block = self.used - BLOCK_BYTES as usize;
        let boundaries = block + self.intervals * 16;
        let tag = block + BLOCK_BOUNDARIES as usize * 8 + self.intervals;
        let bytes = self.chunk.bytes_mut();
        bytes[boundaries..boundaries + 8].copy_from_slice(&interval.start.to_ne_bytes());
        bytes[boundaries + 8..boundaries + 16].copy_from_slice(&interval.end.to_ne_bytes());
        bytes[tag] = interval.list;
        self.intervals += 1;
        Ok(())
    }

    /// Where `bytes` go that must not lie in two chunks.
    fn room(&mut self, bytes: usize) -> Result<usize, ImageError<E>> {
        if self.used + bytes > Chunk::BYTES {
            self.end_chunk()?;
            self.number = self.begin()?;
            self.used = 0;
        }
        let at = self.used;
        self.used += bytes;
        Ok(at)
    }

    /// The number of a new chunk.
    const fn begin(&mut self) -> Result<u32, ImageError<E>> {
        if self.next == CHUNKS_MAX {
            return Err(ImageError::TooLarge);
        }
        self.next += 1;
        Ok(self.next - 1)
    }

    fn end_chunk(&mut self) -> Result<(), ImageError<E>> {
        if self.number != 0 {
            (self.sink)(self.number, &self.chunk)?;
            self.chunk.bytes_mut().fill(0);
        }
        self.number = 0;
        self.used = Chunk::BYTES;
        Ok(())
    }

    fn finish(mut self, first_block: u32) -> Result<Header, ImageError<E>> {
        for (number, words) in
            (INDEX_FIRST..).zip(self.index.chunks_exact(1 << 16 >> INDEX_CHUNKS.trailing_zeros()))
        {
            self.chunk.bytes_mut().copy_from_slice(bytemuck::cast_slice(words));
            (self.sink)(number, &self.chunk)?;
        }
        let header = Header::new(self.next, self.buckets, self.samples.len() as u32, first_block);
        let bytes = self.chunk.bytes_mut();
        bytes.fill(0);
        bytes[..size_of::<Header>()].copy_from_slice(bytemuck::bytes_of(&header));
        let samples: &[u8] = bytemuck::cast_slice(&self.samples);
        let first = SAMPLE_FIRST as usize * 8;
        bytes[first..first + samples.len()].copy_from_slice(samples);
        (self.sink)(0, &self.chunk)?;
        Ok(header)
    }
}

//! Writes an image chunk by chunk. Pure: where the chunks go is the caller's.

use bytemuck::Zeroable as _;
use sluice_abi::bulk::{
    BITS_SHIFT, BLOCK_BOUNDARIES, BLOCK_BYTES, CHUNKS_MAX, Chunk, DENSE, Header, INDEX_CHUNKS,
    INDEX_FIRST, SAMPLE_FIRST, SAMPLES_MAX, UNIFORM,
};

use super::buckets::{Bucket, split};
use super::entries::{Entries, Interval, sweep};
use super::lines::{Line, Shape};

/// Bytes of a line of a processor's cache, more or less.
const CACHE_LINE: usize = 64;
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
        lines: Open::new(),
        others: Open::new(),
        next: INDEX_FIRST + INDEX_CHUNKS,
        index: vec![0; 1 << 16],
        buckets: 0,
        full: [0; 256],
        samples: Vec::new(),
        intervals: BLOCK_INTERVALS,
    };
    split(entries.v4(), |bucket| writer.add_bucket(bucket))?;
    writer.end_chunks()?;
    let first_block = writer.next;
    sweep(entries.v6(), |interval| writer.add_v6(interval))?;
    writer.end_chunks()?;
    writer.finish(first_block)
}

/// Bytes of the image of sorted `entries`; nothing is kept.
pub fn measure(entries: &Entries) -> Result<u64, ImageError<std::convert::Infallible>> {
    let header = write(entries, |_, _| Ok(()))?;
    Ok(u64::from(header.chunks) * Chunk::BYTES as u64)
}

const fn position(number: u32, offset: usize) -> u32 {
    number * (Chunk::BYTES / 2) as u32 + (offset / 2) as u32
}

/// A chunk that is being filled.
struct Open {
    chunk: Box<Chunk>,
    /// 0 for none.
    number: u32,
    used: usize,
}

impl Open {
    fn new() -> Self {
        Self { chunk: Box::new(Chunk::zeroed()), number: 0, used: Chunk::BYTES }
    }

    /// The bytes from `at` on.
    fn place(&mut self, at: usize, bytes: usize) -> &mut [u8] {
        &mut self.chunk.bytes_mut()[at..at + bytes]
    }

    /// Where `bytes` go that must not lie in two chunks.
    fn room<E: std::error::Error>(
        &mut self,
        bytes: usize,
        align: usize,
        next: &mut u32,
        sink: &mut impl FnMut(u32, &Chunk) -> Result<(), E>,
    ) -> Result<usize, ImageError<E>> {
        let mut at = self.used.next_multiple_of(align);
        if at + bytes > Chunk::BYTES {
            self.end(sink)?;
            self.number = begin(next)?;
            at = 0;
        }
        self.used = at + bytes;
        Ok(at)
    }

    fn end<E>(&mut self, sink: &mut impl FnMut(u32, &Chunk) -> Result<(), E>) -> Result<(), E> {
        if self.number != 0 {
            sink(self.number, &self.chunk)?;
            self.chunk.bytes_mut().fill(0);
        }
        self.number = 0;
        self.used = Chunk::BYTES;
        Ok(())
    }
}

/// The number of a new chunk.
const fn begin<E: std::error::Error>(next: &mut u32) -> Result<u32, ImageError<E>> {
    if *next == CHUNKS_MAX {
        return Err(ImageError::TooLarge);
    }
    *next += 1;
    Ok(*next - 1)
}

struct Writer<S> {
    sink: S,
    /// Lines are aligned to those of a cache, so they have chunks of their own.
    lines: Open,
    others: Open,
    /// Number of the next chunk that is begun.
    next: u32,
    index: Vec<u32>,
    buckets: u32,
    /// Index word of the bucket that is listed as a whole, by list.
    full: [u32; 256],
    samples: Vec<u64>,
    /// Intervals in the last block.
    intervals: usize,
}

impl<S, E> Writer<S>
where
    S: FnMut(u32, &Chunk) -> Result<(), E>,
    E: std::error::Error,
{
    fn add_bucket(&mut self, bucket: &Bucket) -> Result<(), ImageError<E>> {
        self.buckets += 1;
        self.index[bucket.upper as usize] = match Shape::of(bucket) {
            Some(shape) => self.lines(bucket, shape)?,
            None => self.bucket(bucket)?,
        };
        Ok(())
    }

    /// The index word of a bucket's lines.
    fn lines(&mut self, bucket: &Bucket, shape: Shape) -> Result<u32, ImageError<E>> {
        let mut lines = vec![0; shape.bytes()];
        bucket.parts(shape.split, |part| {
            let bytes = shape.line();
            let line = match Line::of(part, bytes) {
                Some(line) if line.tags().is_empty() => line,
                Some(line) => {
                    let position = self.tags(line.tags())?;
                    line.with_word(position)
                }
                None => Line::elsewhere(self.bucket(part)?, bytes),
            };
            let at = part.upper as usize * bytes;
            lines[at..at + bytes].copy_from_slice(line.bytes());
            Ok::<(), ImageError<E>>(())
        })?;
        let align = lines.len().min(CACHE_LINE);
        let at = self.lines.room(lines.len(), align, &mut self.next, &mut self.sink)?;
        self.lines.place(at, lines.len()).copy_from_slice(&lines);
        Ok(shape.word(self.lines.number, at))
    }

    /// The position of the tags of a line.
    fn tags(&mut self, tags: &[u8]) -> Result<u32, ImageError<E>> {
        let at = self.room(tags.len().next_multiple_of(2))?;
        self.others.place(at, tags.len()).copy_from_slice(tags);
        Ok(position(self.others.number, at))
    }

    /// The index word of a bucket.
    fn bucket(&mut self, bucket: &Bucket) -> Result<u32, ImageError<E>> {
        let list = usize::from(bucket.lists.first().copied().unwrap_or_default());
        let is_full = bucket.boundaries == [0];
        if is_full && self.full[list] != 0 {
            return Ok(self.full[list]);
        }
        let bytes = bucket.bytes();
        let word = if bytes > Chunk::BYTES - 2 {
            self.dense(bucket)?
        } else {
            let (boundaries, tags) = (&bucket.boundaries, bucket.tags());
            let at = self.room(bytes)?;
            let count = boundaries.len() as u16 | if bucket.is_uniform() { UNIFORM } else { 0 };
            let place = self.others.place(at, bytes);
            place[..2].copy_from_slice(&count.to_ne_bytes());
            let (halves, rest) = place[2..].split_at_mut(boundaries.len() * 2);
            halves.copy_from_slice(bytemuck::cast_slice(boundaries));
            rest[..tags.len()].copy_from_slice(tags);
            let bits = usize::BITS - boundaries.len().leading_zeros();
            bits << BITS_SHIFT | position(self.others.number, at)
        };
        if is_full {
            self.full[list] = word;
        }
        Ok(word)
    }

    /// A chunk with a byte for each address.
    fn dense(&mut self, bucket: &Bucket) -> Result<u32, ImageError<E>> {
        let mut chunk = Box::new(Chunk::zeroed());
        for (addresses, list) in bucket.intervals() {
            chunk.bytes_mut()[addresses].fill(list + 1);
        }
        let number = begin(&mut self.next)?;
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
            self.others.chunk.bytes_mut()[at..at + BLOCK_BOUNDARIES as usize * 8].fill(0xff);
        }
        let block = self.others.used - BLOCK_BYTES as usize;
        let boundaries = block + self.intervals * 16;
        let tag = block + BLOCK_BOUNDARIES as usize * 8 + self.intervals;
        let bytes = self.others.chunk.bytes_mut();
        bytes[boundaries..boundaries + 8].copy_from_slice(&interval.start.to_ne_bytes());
        bytes[boundaries + 8..boundaries + 16].copy_from_slice(&interval.end.to_ne_bytes());
        bytes[tag] = interval.list;
        self.intervals += 1;
        Ok(())
    }

    /// Where `bytes` go that are no lines.
    fn room(&mut self, bytes: usize) -> Result<usize, ImageError<E>> {
        self.others.room(bytes, 1, &mut self.next, &mut self.sink)
    }

    fn end_chunks(&mut self) -> Result<(), ImageError<E>> {
        self.lines.end(&mut self.sink)?;
        self.others.end(&mut self.sink)?;
        Ok(())
    }

    fn finish(mut self, first_block: u32) -> Result<Header, ImageError<E>> {
        for (number, words) in
            (INDEX_FIRST..).zip(self.index.chunks_exact(1 << 16 >> INDEX_CHUNKS.trailing_zeros()))
        {
            self.others.chunk.bytes_mut().copy_from_slice(bytemuck::cast_slice(words));
            (self.sink)(number, &self.others.chunk)?;
        }
        let header = Header::new(self.next, self.buckets, self.samples.len() as u32, first_block);
        let bytes = self.others.chunk.bytes_mut();
        bytes.fill(0);
        bytes[..size_of::<Header>()].copy_from_slice(bytemuck::bytes_of(&header));
        let samples: &[u8] = bytemuck::cast_slice(&self.samples);
        let first = SAMPLE_FIRST as usize * 8;
        bytes[first..first + samples.len()].copy_from_slice(samples);
        (self.sink)(0, &self.others.chunk)?;
        Ok(header)
    }
}

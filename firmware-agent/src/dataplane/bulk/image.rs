//! Writes an image chunk by chunk. Pure: where the chunks go is the caller's.

use bytemuck::Zeroable as _;
use sluice_abi::bulk::{
    BITS_SHIFT, BLOCK_BOUNDARIES, BLOCK_BYTES, CHUNKS_MAX, Chunk, DENSE, Header, INDEX_SHIFT,
    SAMPLE_FIRST, SAMPLES_MAX, TABLE_FIRST, UNIFORM, table_chunks,
};

use super::buckets::{Bucket, bits, split};
use super::entries::{Entries, Interval, sweep};
use super::lines::{Census, Line};

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
    write_as(Census::of(entries).shift(), entries, sink)
}

/// Writes an image with a table of this [`Header::shift`].
pub(super) fn write_as<E: std::error::Error>(
    shift: u32,
    entries: &Entries,
    sink: impl FnMut(u32, &Chunk) -> Result<(), E>,
) -> Result<Header, ImageError<E>> {
    let mut writer = Writer {
        sink,
        shift,
        table: Box::new(Chunk::zeroed()),
        row: TABLE_FIRST,
        chunk: Box::new(Chunk::zeroed()),
        number: 0,
        used: Chunk::BYTES,
        next: TABLE_FIRST + table_chunks(shift),
        buckets: 0,
        full: [0; 256],
        samples: Vec::new(),
        intervals: BLOCK_INTERVALS,
    };
    split(entries.v4(), bits(shift), |bucket| writer.add_bucket(bucket))?;
    writer.rows_before(TABLE_FIRST + table_chunks(shift))?;
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

const fn position(number: u32, offset: usize) -> u32 {
    number * (Chunk::BYTES / 2) as u32 + (offset / 2) as u32
}

struct Writer<S> {
    sink: S,
    /// [`Header::shift`].
    shift: u32,
    /// The chunk of the table that is being filled, and its number.
    table: Box<Chunk>,
    row: u32,
    /// The chunk of what comes behind the table that is being filled, its number and how much of it
    /// is used.
    chunk: Box<Chunk>,
    number: u32,
    used: usize,
    /// Number of the next chunk that is begun.
    next: u32,
    buckets: u32,
    /// Position of the bucket that is listed as a whole, by list.
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
        self.rows_before(TABLE_FIRST + (bucket.upper >> (16 - self.shift)))?;
        let place = (bucket.upper << self.shift) as usize % Chunk::BYTES;
        let bytes = 1 << self.shift;
        if self.shift == INDEX_SHIFT {
            let word = self.bucket(bucket)?;
            self.table.bytes_mut()[place..place + bytes].copy_from_slice(&word.to_ne_bytes());
            return Ok(());
        }
        let line = match Line::of(bucket, bytes) {
            Some(mut line) => {
                if !line.tags().is_empty() {
                    let position = self.tags(line.tags())?;
                    line.set_word(position);
                }
                line
            }
            None => Line::elsewhere(self.bucket(bucket)?, bytes),
        };
        self.table.bytes_mut()[place..place + bytes].copy_from_slice(line.bytes());
        Ok(())
    }

    /// Ends the chunks of the table before the one with this number.
    fn rows_before(&mut self, number: u32) -> Result<(), ImageError<E>> {
        while self.row < number {
            (self.sink)(self.row, &self.table)?;
            self.table.bytes_mut().fill(0);
            self.row += 1;
        }
        Ok(())
    }

    /// The position of the tags of a line.
    fn tags(&mut self, tags: &[u8]) -> Result<u32, ImageError<E>> {
        let at = self.room(tags.len().next_multiple_of(2))?;
        self.chunk.bytes_mut()[at..at + tags.len()].copy_from_slice(tags);
        Ok(position(self.number, at))
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
            let place = &mut self.chunk.bytes_mut()[at..at + bytes];
            place[..2].copy_from_slice(&count.to_ne_bytes());
            let (halves, rest) = place[2..].split_at_mut(boundaries.len() * 2);
            halves.copy_from_slice(bytemuck::cast_slice(boundaries));
            rest[..tags.len()].copy_from_slice(tags);
            let bits = usize::BITS - boundaries.len().leading_zeros();
            bits << BITS_SHIFT | position(self.number, at)
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
        let header = Header::new(
            self.next,
            self.buckets,
            self.samples.len() as u32,
            first_block,
            self.shift,
        );
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

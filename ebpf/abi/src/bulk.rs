//! The image of the configured lists: chunks of 64 KiB, written once by the agent and swapped as a
//! whole.
//!
//! Chunk 0 holds the [`Header`] and a sample of the IPv6 boundaries. Chunks 1 to 4 are the index of
//! IPv4: a word for each upper sixteen bits, 0 when nothing there is listed, else where its lines or
//! its bucket lie. Lines, buckets, tags of lines and blocks of IPv6 boundaries follow. Everything has the machine's byte order.

use bytemuck::{Pod, Zeroable};

const CHUNK_BYTES: usize = 1 << 16;

/// One value of an image's map.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub struct Chunk([u64; CHUNK_BYTES / 8]);
abi_type!(Chunk, size = 65_536, align = 8);

impl Chunk {
    /// Bytes of a chunk.
    pub const BYTES: usize = CHUNK_BYTES;

    /// The byte at `offset` modulo the size.
    #[inline(always)]
    #[must_use]
    pub const fn byte(&self, offset: u32) -> u8 {
        let bytes: &[u8; Self::BYTES] = bytemuck::must_cast_ref(&self.0);
        bytes[(offset & 0xffff) as usize]
    }

    /// The half-word number `index` modulo their number.
    #[inline(always)]
    #[must_use]
    pub const fn half(&self, index: u32) -> u16 {
        let halves: &[u16; Self::BYTES / 2] = bytemuck::must_cast_ref(&self.0);
        halves[(index & 0x7fff) as usize]
    }

    /// The word number `index` modulo their number.
    #[inline(always)]
    #[must_use]
    pub const fn word(&self, index: u32) -> u32 {
        let words: &[u32; Self::BYTES / 4] = bytemuck::must_cast_ref(&self.0);
        words[(index & 0x3fff) as usize]
    }

    /// The double word number `index` modulo their number.
    #[inline(always)]
    #[must_use]
    pub const fn long(&self, index: u32) -> u64 {
        self.0[(index & 0x1fff) as usize]
    }

    /// All bytes, to be written.
    #[must_use]
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        bytemuck::cast_slice_mut(&mut self.0)
    }
}

/// The start of chunk 0.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Pod, Zeroable)]
#[repr(C)]
pub struct Header {
    /// [`Header::MAGIC`].
    pub magic: u32,
    /// [`ABI_VERSION`](crate::ABI_VERSION) of the agent that wrote it.
    pub abi: u32,
    /// Chunks of the image.
    pub chunks: u32,
    /// Buckets of IPv4; 0 when no IPv4 address is listed.
    pub buckets: u32,
    /// Blocks of IPv6 boundaries, as many as there are samples.
    pub blocks: u32,
    /// Bits that this number has.
    pub bits: u32,
    /// Chunk of the first block.
    pub first_block: u32,
    pad: u32,
}
abi_type!(Header, size = 32, align = 4, blocks @ 16, bits @ 20, first_block @ 24);

impl Header {
    /// Tells an image from something else.
    pub const MAGIC: u32 = 0x5150_1ca7;

    /// Word of chunk 0 that is [`Header::blocks`].
    pub const BLOCKS_WORD: u32 = 4;
    /// Word of chunk 0 that is [`Header::bits`].
    pub const BITS_WORD: u32 = 5;
    /// Word of chunk 0 that is [`Header::first_block`].
    pub const FIRST_BLOCK_WORD: u32 = 6;

    /// The header of an image of this version.
    #[must_use]
    pub const fn new(chunks: u32, buckets: u32, blocks: u32, first_block: u32) -> Self {
        Self {
            magic: Self::MAGIC,
            abi: crate::ABI_VERSION,
            chunks,
            buckets,
            blocks,
            bits: u32::BITS - blocks.leading_zeros(),
            first_block,
            pad: 0,
        }
    }

    /// The header of a chunk 0 that an agent of this version wrote.
    #[must_use]
    pub fn of(chunk: &Chunk) -> Option<Self> {
        let header: Self = bytemuck::pod_read_unaligned(&bytemuck::bytes_of(chunk)[..32]);
        (header.magic == Self::MAGIC && header.abi == crate::ABI_VERSION).then_some(header)
    }
}

/// First chunk of the IPv4 index.
pub const INDEX_FIRST: u32 = 1;
/// Chunks of the IPv4 index.
pub const INDEX_CHUNKS: u32 = 4;
/// Bit of an index word that leads to lines; see [`line`]. Without it the word leads to a bucket.
pub const LINES: u32 = 1 << 31;
/// Bits of a bucket's index word that are its position in units of two bytes, counted from the start
/// of the image. The bits above say how many bits the number of its boundaries has, or [`DENSE`].
pub const POSITION: u32 = (1 << BITS_SHIFT) - 1;
/// Where the bits above start.
pub const BITS_SHIFT: u32 = 27;
/// Most chunks of an image: further positions cannot be written.
pub const CHUNKS_MAX: u32 = (1 << BITS_SHIFT) / (Chunk::BYTES / 2) as u32;
/// Most bits of a number of boundaries.
pub const BITS_MAX: u32 = 15;
/// Instead of a bucket there is a chunk with a byte for each address: 0 for not listed, else the
/// number of the list and one.
pub const DENSE: u32 = 0;
const _: () = assert!(BITS_MAX < LINES >> BITS_SHIFT);

/// Lines: what is listed among addresses with the same upper sixteen bits, in as many parts of the
/// same number of addresses as there are lines, each of a few bytes that lie in one line of a cache.
///
/// A line is read in lanes of a half-word. Lane 0 says how; the others hold boundaries, sorted, with the
/// highest bit set, each with the lower fifteen bits of an address, then single addresses, in the
/// same way without that bit. Lanes that are left repeat an entry. Lane 0 is the tag of all entries
/// and [`HERE`](line::HERE), unless [`TAGGED`](line::TAGGED) is set too. A line of zeros has no entries.
pub mod line {
    /// Bits of an index word that are the position of the first line in units of eight bytes.
    pub const POSITION: u32 = (1 << SPLIT_SHIFT) - 1;
    /// Where the four bits start that say how many lines there are, as a power of two.
    pub const SPLIT_SHIFT: u32 = 25;
    /// Where the two bits start that say how many double words a line has, as a power of two.
    pub const LONGS_SHIFT: u32 = 29;
    /// The most of the former.
    pub const SPLIT_MAX: u32 = 10;
    /// The most of the latter.
    pub const LONGS_MAX: u32 = 2;

    /// Lane 0: there are entries. Otherwise the second word is that of a bucket, or 0.
    pub const HERE: u16 = 1 << 15;
    /// Lane 0: lanes from [`TAGGED_LANES`] on hold entries, and the second word is the position of
    /// their tags in units of two bytes, one byte for each lane: of a boundary that starts an interval, and
    /// of a single address.
    pub const TAGGED: u16 = 1 << 14;
    /// First lane with an entry in a line with tags.
    pub const TAGGED_LANES: u32 = 4;
    /// A lane that is a boundary.
    pub const BOUNDARY: u16 = 1 << 15;
    /// The bits of an address that a lane has.
    pub const LOW: u16 = BOUNDARY - 1;
}

/// Bit of a bucket's first half-word: one tag for all of its intervals. The rest of the half-word is
/// the number of boundaries; the boundaries follow, sorted lower halves of addresses, and behind
/// them the tags, one byte for each interval.
pub const UNIFORM: u16 = 1 << 15;

/// Double word of chunk 0 that is the first sample.
pub const SAMPLE_FIRST: u32 = 8;
/// Most samples, and so most blocks.
pub const SAMPLES_MAX: u32 = (Chunk::BYTES / 8) as u32 - SAMPLE_FIRST;
/// Boundaries of a block, upper halves of addresses, sorted; unused ones are all ones.
pub const BLOCK_BOUNDARIES: u32 = 56;
/// Bits that this number has.
pub const BLOCK_BITS: u32 = u32::BITS - BLOCK_BOUNDARIES.leading_zeros();
/// Bytes of a block: the boundaries, then a tag for each interval between two of them.
pub const BLOCK_BYTES: u32 = 512;
/// Blocks of a chunk.
pub const BLOCKS_PER_CHUNK: u32 = Chunk::BYTES as u32 / BLOCK_BYTES;
const _: () = assert!(SAMPLES_MAX < 1 << BITS_MAX);
const _: () = assert!(BLOCK_BOUNDARIES * 8 + BLOCK_BOUNDARIES / 2 <= BLOCK_BYTES);

//! The image of the configured lists: chunks of 64 KiB, written once by the agent and swapped as a
//! whole.
//!
//! Chunk 0 holds the [`Header`] and a sample of the IPv6 boundaries. The table of IPv4 starts with
//! chunk 1, and is one of two, whatever takes less memory for the entries:
//!
//! * an index: a word for each upper sixteen bits, 0 when nothing there is listed, else where the
//!   bucket lies;
//! * lines: for each upper seventeen bits a line of 8 to 64 bytes that holds what is listed there or,
//!   when that is too much, the word of a bucket.
//!
//! Buckets, tags of lines and blocks of IPv6 boundaries follow. Everything has the machine's byte
//! order.

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
    /// Bytes of an entry of the IPv4 table as a power of two: [`INDEX_SHIFT`], or that of a line.
    pub shift: u32,
}
abi_type!(Header, size = 32, align = 4, blocks @ 16, bits @ 20, first_block @ 24, shift @ 28);

impl Header {
    /// Tells an image from something else.
    pub const MAGIC: u32 = 0x5150_1ca7;

    /// Word of chunk 0 that is [`Header::blocks`].
    pub const BLOCKS_WORD: u32 = 4;
    /// Word of chunk 0 that is [`Header::bits`].
    pub const BITS_WORD: u32 = 5;
    /// Word of chunk 0 that is [`Header::first_block`].
    pub const FIRST_BLOCK_WORD: u32 = 6;
    /// Word of chunk 0 that is [`Header::shift`].
    pub const SHIFT_WORD: u32 = 7;

    /// The header of an image of this version.
    #[must_use]
    pub const fn new(chunks: u32, buckets: u32, blocks: u32, first_block: u32, shift: u32) -> Self {
        Self {
            magic: Self::MAGIC,
            abi: crate::ABI_VERSION,
            chunks,
            buckets,
            blocks,
            bits: u32::BITS - blocks.leading_zeros(),
            first_block,
            shift,
        }
    }

    /// The header of a chunk 0 that an agent of this version wrote.
    #[must_use]
    pub fn of(chunk: &Chunk) -> Option<Self> {
        let header: Self = bytemuck::pod_read_unaligned(&bytemuck::bytes_of(chunk)[..32]);
        (header.magic == Self::MAGIC && header.abi == crate::ABI_VERSION).then_some(header)
    }
}

/// First chunk of the IPv4 table.
pub const TABLE_FIRST: u32 = 1;
/// [`Header::shift`] of a table that is an index.
pub const INDEX_SHIFT: u32 = 2;
/// Chunks of the index.
pub const INDEX_CHUNKS: u32 = 4;
/// Smallest and largest [`Header::shift`] of a table of lines.
pub const LINE_SHIFTS: [u32; 2] = [3, 6];
/// Bits of an address that its line need not tell.
pub const LINE_BITS: u32 = 15;

/// Chunks of a table with this [`Header::shift`].
#[must_use]
pub const fn table_chunks(shift: u32) -> u32 {
    if shift == INDEX_SHIFT { INDEX_CHUNKS } else { 1 << (32 - LINE_BITS + shift - 16) }
}

/// Where an address lies in a table of lines: number of the chunk, and of the line's first double
/// word in it.
#[inline(always)]
#[must_use]
pub const fn line_place(address: u32, shift: u32) -> (u32, u32) {
    let line = address >> LINE_BITS;
    let chunk = TABLE_FIRST + (line >> ((16_u32.wrapping_sub(shift)) & 31));
    (chunk, (line << (shift.wrapping_sub(3) & 31)) & 0x1fff)
}

/// Bits of a line's first half-word; the rest of it is the tag of all entries. A line of zeros has none.
///
/// A line is read in lanes of a half-word. Lane 0 is this one. The others hold boundaries, sorted,
/// with the highest bit set, each with the lower fifteen bits of an address; then single addresses,
/// in the same way without that bit. Lanes that are left repeat an entry.
pub mod line {
    /// There are entries. Otherwise the second word is that of a bucket, as in an index.
    pub const HERE: u16 = 1 << 15;
    /// Lanes from [`TAGGED_LANES`] on hold entries, and the second word is the position of their
    /// tags, one byte for each lane: where intervals start, and of single addresses.
    pub const TAGGED: u16 = 1 << 14;
    /// First lane with an entry in a line with tags.
    pub const TAGGED_LANES: u32 = 4;
    /// Highest bit of a lane that is a boundary.
    pub const BOUNDARY: u16 = 1 << 15;
}

/// Bits of an index word that are the position of a bucket in units of two bytes, counted from the
/// start of the image. The bits above say how many bits the number of its boundaries has, or
/// [`DENSE`].
pub const POSITION: u32 = (1 << BITS_SHIFT) - 1;
/// Where the bits above start.
pub const BITS_SHIFT: u32 = 27;
/// Most chunks of an image: further positions cannot be written.
pub const CHUNKS_MAX: u32 = (1 << BITS_SHIFT) / (Chunk::BYTES / 2) as u32;
/// Most bits of a number of boundaries.
pub const BITS_MAX: u32 = 15;
/// Instead of a bucket there is a chunk with a byte for each address: 0 for not listed, else the
/// number of the list and one.
pub const DENSE: u32 = BITS_MAX + 1;
const _: () = assert!(DENSE <= u32::MAX >> BITS_SHIFT);
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

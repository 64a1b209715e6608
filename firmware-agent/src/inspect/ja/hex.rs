//! Lists of 16-bit values as JA4 hashes them: four hexadecimal digits each, commas between, SHA-256.
//!
//! Owns the text and its padding (FIPS 180-4, section 5.1.1). No heap: a text that is longer than its
//! room is hashed piece by piece.

use core::slice;

use sha2::compress256;
use sha2::digest::generic_array::GenericArray;

/// Bytes that are hashed at a time.
const BLOCK: usize = 64;
/// Blocks that are kept.
const KEPT: usize = 5;
/// A separator and four digits.
const PIECE: usize = 5;
/// The padding ends with the length in bits.
const LENGTH: usize = 8;
/// The least there is of it: a bit that is set, in a byte of its own, and the length.
const PADDING: usize = 1 + LENGTH;
/// The room is for the separator before the first value, which is no part of the text, and for blocks.
const ROOM: usize = 1 + KEPT * BLOCK;
/// Values that have room, with the padding behind them, where whole blocks have been hashed.
const VALUES: usize = 32;
const _: () = assert!(BLOCK + VALUES * PIECE + PADDING <= ROOM);
/// FIPS 180-4, section 5.3.3.
#[rustfmt::skip]
const START: [u32; 8] = [
    0x6a09_e667, 0xbb67_ae85, 0x3c6e_f372, 0xa54f_f53a,
    0x510e_527f, 0x9b05_688c, 0x1f83_d9ab, 0x5be0_cd19,
];

/// A text that grows value by value.
pub(super) struct HexText {
    state: [u32; 8],
    /// What is not hashed yet.
    room: [u8; ROOM],
    /// Where the next separator goes.
    end: usize,
    /// Bytes that are hashed already: whole blocks.
    hashed: usize,
}

impl HexText {
    pub(super) const fn new() -> Self {
        Self { state: START, room: [0; ROOM], end: 0, hashed: 0 }
    }

    /// Appends `values` with commas between, behind `separator` unless the first of them is the first
    /// of all.
    pub(super) fn put(&mut self, mut separator: u8, values: &[u16]) {
        for values in values.chunks(VALUES) {
            if self.end + values.len() * PIECE + PADDING > ROOM {
                self.make_room();
            }
            let (room, _) = self.room[self.end..].as_chunks_mut::<PIECE>();
            for (piece, value) in room.iter_mut().zip(values) {
                let [high, low] = value.to_be_bytes();
                let [a, b] = DIGITS[usize::from(high)];
                let [c, d] = DIGITS[usize::from(low)];
                *piece = [separator, a, b, c, d];
                separator = b',';
            }
            self.end += values.len() * PIECE;
        }
    }

    /// Hashes the whole blocks of what is kept.
    #[cold]
    #[inline(never)]
    fn make_room(&mut self) {
        let whole = self.end.saturating_sub(1) / BLOCK;
        for block in 0..whole {
            self.compress(block);
        }
        let len = whole * BLOCK;
        self.room.copy_within(1 + len..self.end, 1);
        self.end -= len;
        self.hashed += len;
    }

    /// Ends two texts and hashes them: the first twelve hexadecimal digits of each, `None` of an empty one.
    pub(super) fn first_12(one: &mut Self, other: &mut Self) -> [Option<[u8; 12]>; 2] {
        let blocks = [one.pad(), other.pad()];
        // In turns: neither waits for the other, and a processor that hashes a block in few long
        // instructions does both at a time.
        for block in 0..blocks[0].max(blocks[1]) {
            if block < blocks[0] {
                one.compress(block);
            }
            if block < blocks[1] {
                other.compress(block);
            }
        }
        [one.digits(), other.digits()]
    }

    /// Pads the text and returns how many blocks it has.
    fn pad(&mut self) -> usize {
        let len = self.end.saturating_sub(1);
        let blocks = (len + PADDING).div_ceil(BLOCK);
        let end = 1 + blocks * BLOCK;
        let bits = (self.hashed + len) as u64 * 8;
        self.room[1 + len] = 0x80;
        self.room[2 + len..end - LENGTH].fill(0);
        self.room[end - LENGTH..end].copy_from_slice(&bits.to_be_bytes());
        blocks
    }

    fn compress(&mut self, block: usize) {
        let (blocks, _) = self.room[1..].as_chunks::<BLOCK>();
        if let Some(block) = blocks.get(block) {
            let block = GenericArray::from_slice(block);
            compress256(&mut self.state, slice::from_ref(block));
        }
    }

    fn digits(&self) -> Option<[u8; 12]> {
        if self.end == 0 {
            return None;
        }
        let [first, second, ..] = self.state;
        let bytes = (u64::from(first) << 32 | u64::from(second)).to_be_bytes();
        let mut text = [0; 12];
        for (pair, byte) in text.as_chunks_mut().0.iter_mut().zip(bytes) {
            *pair = DIGITS[usize::from(byte)];
        }
        Some(text)
    }
}

/// The digits of every byte, in lower case.
static DIGITS: [[u8; 2]; 256] = {
    let digits = b"0123456789abcdef";
    let mut all = [[0; 2]; 256];
    let mut byte = 0;
    while byte < all.len() {
        all[byte] = [digits[byte >> 4], digits[byte & 15]];
        byte += 1;
    }
    all
};

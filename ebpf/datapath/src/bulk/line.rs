//! Finds an address in a line of the image: all of a line's lanes are compared at once, four in each
//! double word, and no branch depends on what they hold.

use core::hint::black_box;

use sluice_abi::bulk::{Chunk, LINES, line};

use super::Image;

/// One in every lane.
const ONES: u64 = 0x0001_0001_0001_0001;
/// The highest bit of every lane.
const TOPS: u64 = ONES << 15;
/// All other bits.
const VALUES: u64 = !TOPS;
/// All lanes but the first one in memory.
const BUT_FIRST: u64 = u64::from_ne_bytes([0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]);
/// Double words of the longest line.
const LONGS_MAX: u32 = 1 << line::LONGS_MAX;

/// What a line says about an address.
pub(super) enum Found {
    /// A list has it.
    List(u32),
    /// The bucket with this index word tells.
    Bucket(u32),
}

/// Looks for an address in its line of those that an index word leads to; `None` when no list has it.
#[inline(always)]
pub(super) fn lookup(image: &impl Image, address: u32, word: u32) -> Option<Found> {
    let (bits, split) = (word >> line::LONGS_SHIFT & 3, word >> line::SPLIT_SHIFT & 15);
    let part = (address & 0xffff) >> 16_u32.wrapping_sub(split);
    let first = (word & line::POSITION).wrapping_add(part << bits);
    let number = first >> 13;
    let chunk = image.chunk(number)?;
    let kind = chunk.half(first * 4);
    if kind & line::HERE == 0 {
        return Some(Found::Bucket(chunk.word(first * 2 + 1) & !LINES));
    }
    let longs = 1 << bits;
    let low = black_box(address & u32::from(line::LOW));
    if !has(chunk, first, longs, kind, low) {
        return None;
    }
    if kind & line::TAGGED == 0 {
        return Some(Found::List(u32::from(kind) & 0xff));
    }
    let lane = lane(chunk, first * 4, longs.wrapping_mul(4), u64::from(low));
    let position = chunk.word(first * 2 + 1);
    let tags = image.chunk(position >> 15)?;
    let tag = (position << 1).wrapping_add(lane).wrapping_sub(line::TAGGED_LANES);
    Some(Found::List(u32::from(tags.byte(tag))))
}

/// Whether a line of `longs` double words from number `first` on has the address that ends with
/// `low`: it is one of the single ones, or behind an odd number of boundaries.
#[inline(always)]
fn has(chunk: &Chunk, first: u32, longs: u32, kind: u16, low: u32) -> bool {
    let here = u64::from(low) * ONES;
    let above = here | TOPS;
    // Of each lane the highest bit counts: whether it has a boundary that is not above, the parity
    // of them in all double words; and whether it has no single address that is the same, in all.
    let (mut behind, mut others) = (0, u64::MAX);
    let mut compare = |long: u64| {
        let value = long & VALUES;
        behind ^= above.wrapping_sub(value) & long;
        others &= (value ^ here).wrapping_add(VALUES) | long;
    };
    // What is no entry becomes an address that is another one.
    let entries = if kind & line::TAGGED == 0 { BUT_FIRST } else { 0 };
    compare(chunk.long(first) & entries | (here ^ ONES) & !entries);
    for number in 1..LONGS_MAX {
        if number >= longs {
            break;
        }
        compare(chunk.long(first.wrapping_add(number)));
    }
    behind ^= behind >> 32;
    behind ^= behind >> 16;
    !others & TOPS | behind & 1 << 15 != 0
}

/// The last lane that has the address, or a boundary not above it: single addresses stand behind
/// boundaries.
#[inline(always)]
fn lane(chunk: &Chunk, first: u32, lanes: u32, low: u64) -> u32 {
    // A bit for each lane that is it: of a number the compiler would make a branch.
    let (mut found, lanes) = (1_u64, u64::from(lanes));
    for lane in u64::from(line::TAGGED_LANES)..u64::from(LONGS_MAX) * 4 {
        let held = u64::from(chunk.half(first.wrapping_add(lane as u32)));
        let is_same = (held ^ low).wrapping_sub(1);
        let is_behind = (held ^ u64::from(line::BOUNDARY)).wrapping_sub(low + 1);
        found |= ((is_same | is_behind) & lane.wrapping_sub(lanes)) >> 63 << lane;
    }
    found.leading_zeros() ^ 63
}

//! Finds an address in the image of the configured lists.
//!
//! Two chunks for nearly any address: index and line or bucket of IPv4, samples and block of IPv6. What does
//! not fit its line, and the tags of a line with several, are in a third one. Offsets are
//! masked, so a damaged image gives a wrong answer, never a wrong access, and the verifier needs no
//! proof about what an image holds.

mod line;

use core::hint::black_box;

use sluice_abi::bulk::{
    BITS_MAX, BITS_SHIFT, BLOCK_BITS, BLOCK_BOUNDARIES, BLOCK_BYTES, BLOCKS_PER_CHUNK, Chunk,
    DENSE, Header, INDEX_FIRST, LINES, POSITION, SAMPLE_FIRST, UNIFORM,
};
use sluice_abi::flow::Addr;

/// The chunks of an image.
pub trait Image {
    /// The chunk with this number; `None` when the image has fewer.
    fn chunk(&self, number: u32) -> Option<&Chunk>;
}

/// Number of the list that has `address`.
#[inline(always)]
pub fn lookup(image: &impl Image, address: &Addr) -> Option<u32> {
    let words = address.words();
    if address.is_v4() {
        lookup_v4(image, u32::from_be(words[3]))
    } else {
        let upper = u64::from(u32::from_be(words[0])) << 32 | u64::from(u32::from_be(words[1]));
        lookup_v6(image, upper)
    }
}

#[inline(always)]
fn lookup_v4(image: &impl Image, address: u32) -> Option<u32> {
    let mut word = image.chunk(INDEX_FIRST + (address >> 30))?.word(address >> 16);
    if word & LINES != 0 {
        word = match line::lookup(image, address, word)? {
            line::Found::List(list) => return Some(list),
            line::Found::Bucket(word) => word,
        };
    }
    if word == 0 {
        return None;
    }
    let low = address & 0xffff;
    let position = word & POSITION;
    let chunk = image.chunk(position >> 15)?;
    let bits = word >> BITS_SHIFT;
    if bits == DENSE {
        return u32::from(chunk.byte(low)).checked_sub(1);
    }
    let place = position & 0x7fff;
    let count = u32::from(chunk.half(place));
    let is_uniform = count & u32::from(UNIFORM) != 0;
    let count = count & !u32::from(UNIFORM);
    let above = black_box(u64::from(low) + 1);
    let rank = rank(bits, count, |number| {
        u64::from(chunk.half(place.wrapping_add(number))).wrapping_sub(above)
    });
    if rank & 1 == 0 {
        return None;
    }
    let interval = if is_uniform { 0 } else { rank >> 1 };
    Some(u32::from(chunk.byte((place + 1 + count) * 2 + interval)))
}

#[inline(always)]
fn lookup_v6(image: &impl Image, upper: u64) -> Option<u32> {
    // The end of the address space is multicast and marks what a block does not use.
    if upper == u64::MAX {
        return None;
    }
    let start = image.chunk(0)?;
    let upper = black_box(upper);
    let sample = rank(start.word(Header::BITS_WORD), start.word(Header::BLOCKS_WORD), |number| {
        is_not_above(start.long((SAMPLE_FIRST - 1).wrapping_add(number)), upper)
    });
    let block = sample.checked_sub(1)?;
    let first = start.word(Header::FIRST_BLOCK_WORD);
    let chunk = image.chunk(first.wrapping_add(block / BLOCKS_PER_CHUNK))?;
    // The compiler would see that no offset in a block leaves the chunk, drop the masks and put sums
    // together bit by bit, of which the verifier of 6.1 understands nothing.
    let place = black_box(block % BLOCKS_PER_CHUNK * BLOCK_BYTES);
    let rank = rank(BLOCK_BITS, BLOCK_BOUNDARIES, |number| {
        is_not_above(chunk.long((place / 8).wrapping_add(number).wrapping_sub(1)), upper)
    });
    if rank & 1 == 0 {
        return None;
    }
    Some(u32::from(chunk.byte(place + BLOCK_BOUNDARIES * 8 + (rank >> 1))))
}

/// How many of `count` sorted boundaries are not above what is looked for; of the boundary with a
/// number, from 1 on, `is_not_above` sets the highest bit. `count` has `bits` bits.
///
/// Without a branch on what is read: the verifier would follow both ways at every step, which is two
/// to the power of the steps. For the same reason what is compared goes through `black_box` before:
/// a compiler that knows how small it is makes a branch of a difference's sign.
#[inline(always)]
fn rank(bits: u32, count: u32, is_not_above: impl Fn(u32) -> u64) -> u32 {
    let limit = u64::from(count) + 1;
    let mut rank = 0_u64;
    for step in 0..BITS_MAX {
        if step >= bits {
            break;
        }
        let bit = (bits - 1 - step) & 63;
        let number = rank + (1 << bit);
        let is_inside = number.wrapping_sub(limit);
        rank += (is_inside & is_not_above(number as u32)) >> 63 << bit;
    }
    rank as u32
}

/// The highest bit is set when `boundary` is not above `value`: there is no borrow in their
/// difference.
#[inline(always)]
const fn is_not_above(boundary: u64, value: u64) -> u64 {
    !((!value & boundary) | ((!value | boundary) & value.wrapping_sub(boundary)))
}

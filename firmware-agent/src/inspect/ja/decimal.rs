//! Lists of 16-bit values as JA3 hashes them: decimal, `-` between values, `,` between lists, MD5.
//!
//! Owns the text. No heap, unless the text is wanted too.

use md5::{Digest as _, Md5};

/// Most bytes that are written before they are hashed: the text of most clients is shorter.
const ROOM: usize = 256;
/// Most digits of a value.
const DIGITS: usize = 5;

/// A text that grows value by value.
pub(super) struct DecimalText {
    hash: Md5,
    room: [u8; ROOM],
    len: usize,
    /// What was hashed, while it is wanted and not too long.
    kept: Option<Vec<u8>>,
    max: usize,
}

impl DecimalText {
    /// A text that is kept up to `max` bytes; its length is the choice of who sent the values.
    pub(super) fn new(max: usize) -> Self {
        let kept = (max > 0).then(Vec::new);
        Self { hash: Md5::new(), room: [0; ROOM], len: 0, kept, max }
    }

    /// Appends the list that follows what is there.
    pub(super) fn list(&mut self, values: impl Iterator<Item = u16>) {
        self.byte(b',');
        let mut is_first = true;
        for value in values {
            if !is_first {
                self.byte(b'-');
            }
            is_first = false;
            self.value(value);
        }
    }

    /// Appends a value.
    pub(super) fn value(&mut self, mut value: u16) {
        if self.len + DIGITS > ROOM {
            self.make_room();
        }
        let above = |least: u16| usize::from(value >= least);
        let count = 1 + above(10) + above(100) + above(1000) + above(10_000);
        let end = self.len + count;
        for digit in self.room[self.len..end].iter_mut().rev() {
            let tenth = tenth(value);
            *digit = b'0' + (value - tenth * 10) as u8;
            value = tenth;
        }
        self.len = end;
    }

    fn byte(&mut self, byte: u8) {
        if self.len == ROOM {
            self.make_room();
        }
        self.room[self.len] = byte;
        self.len += 1;
    }

    fn make_room(&mut self) {
        let text = &self.room[..self.len];
        self.hash.update(text);
        let max = self.max;
        self.kept.take_if(|kept| kept.len() + text.len() > max);
        if let Some(kept) = &mut self.kept {
            kept.extend_from_slice(text);
        }
        self.len = 0;
    }

    /// The hash, and the text where it is wanted and not too long.
    pub(super) fn finish(mut self) -> ([u8; 16], Option<Box<str>>) {
        self.make_room();
        let text = self.kept.and_then(|kept| String::from_utf8(kept).ok());
        (self.hash.finalize().into(), text.map(String::into_boxed_str))
    }
}

/// A tenth, rounded down, without the division that a compiler takes to save bytes.
const fn tenth(value: u16) -> u16 {
    // 2¹⁹ / 10, rounded up: exact for every value of 16 bits.
    ((value as u32 * 52_429) >> 19) as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenth_is_a_division() {
        assert!((0..=u16::MAX).all(|value| tenth(value) == value / 10));
    }
}

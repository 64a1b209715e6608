//! Sorted fingerprints in an Elias–Fano code: the upper bits of each as the place of a one in a bit
//! vector, the lower ones side by side. A million fingerprints of 64 bits take 46 bits each.

/// Buckets between two samples of the bit vector.
const SAMPLE: u32 = 64;
/// Fewest bits of the number of a bucket.
const BUCKET_BITS_MIN: u32 = 6;

/// Numbers of the same width, one behind the other.
#[derive(Debug, Default)]
pub(super) struct Row {
    words: Vec<u64>,
    width: u32,
    len: usize,
}

impl Row {
    /// Empty, with room for `len` numbers of `width` bits, which is less than 64.
    pub(super) fn with_room(width: u32, len: usize) -> Self {
        Self { words: vec![0; Self::words(width, len)], width, len: 0 }
    }

    /// Words that `len` numbers of `width` bits take.
    const fn words(width: u32, len: usize) -> usize {
        (len as u64 * width as u64).div_ceil(64) as usize
    }

    /// Bytes that `len` numbers of `width` bits take.
    pub(super) const fn bytes_for(width: u32, len: usize) -> u64 {
        Self::words(width, len) as u64 * 8
    }

    /// Bytes in use.
    pub(super) const fn bytes(&self) -> u64 {
        self.words.capacity() as u64 * 8
    }

    /// Gives back what was not needed.
    pub(super) fn finish(&mut self) {
        self.words.truncate(Self::words(self.width, self.len));
        self.words.shrink_to_fit();
    }

    /// Writes the number at `index`, of which the lower bits count; nothing where there is no room.
    pub(super) fn set(&mut self, index: usize, number: u64) {
        let mask = mask(self.width);
        let (word, bit) = place(self.width, index);
        let number = number & mask;
        if let Some(first) = self.words.get_mut(word) {
            *first = *first & !(mask << bit) | number << bit;
        }
        if bit + self.width > 64
            && let Some(second) = self.words.get_mut(word + 1)
        {
            let behind = 64 - bit;
            *second = *second & !(mask >> behind) | number >> behind;
        }
    }

    /// Appends a number, of which the lower bits count.
    pub(super) fn push(&mut self, number: u64) {
        self.set(self.len, number);
        self.len += 1;
    }

    /// The number at `index`; 0 where there is none.
    #[inline(always)]
    pub(super) fn get(&self, index: usize) -> u64 {
        Self::at(&self.words, self.width, index)
    }

    /// The number at `index` of words that hold numbers of `width` bits.
    #[inline(always)]
    fn at(words: &[u64], width: u32, index: usize) -> u64 {
        let (word, bit) = place(width, index);
        let Some(first) = words.get(word) else { return 0 };
        let mut number = first >> bit;
        if bit + width > 64 {
            number |= words.get(word + 1).copied().unwrap_or_default() << (64 - bit);
        }
        number & mask(width)
    }
}

/// The word and the bit where the number at `index` begins.
#[inline(always)]
const fn place(width: u32, index: usize) -> (usize, u32) {
    let at = index as u64 * width as u64;
    ((at / 64) as usize, (at % 64) as u32)
}

const fn mask(width: u32) -> u64 {
    (1 << width) - 1
}

/// Distinct fingerprints in ascending order.
#[derive(Debug)]
pub(super) struct Packed {
    /// A fingerprint's upper bits are the number of its bucket, these many lower ones are in `low`.
    low_bits: u32,
    low: Row,
    /// For each bucket a one for each fingerprint in it, then a zero.
    upper: Vec<u64>,
    /// Bits of `upper`.
    bits: u32,
    /// Where each [`SAMPLE`]th bucket begins in `upper`.
    samples: Vec<u32>,
    /// The bucket that is being filled, of all.
    bucket: u32,
    buckets: u32,
}

impl Packed {
    /// Empty, for at most `len` fingerprints, whose lower bits go to the front of `room`, bit by bit.
    /// What lies there is kept where nothing was written yet.
    pub(super) fn into_room(len: u32, room: Row) -> Self {
        let shape = Shape::of(len);
        let (mut upper, mut samples) = (Vec::new(), Vec::new());
        upper.reserve_exact(shape.upper_words);
        samples.reserve_exact(shape.samples);
        // The first bucket begins at the front.
        samples.push(0);
        Self {
            low_bits: shape.low_bits,
            low: Row { words: room.words, width: shape.low_bits, len: 0 },
            upper,
            bits: 0,
            samples,
            bucket: 0,
            buckets: shape.buckets,
        }
    }

    /// What stood at `index` of the room, in numbers of `width` bits.
    pub(super) fn room(&self, width: u32, index: usize) -> u64 {
        Row::at(&self.low.words, width, index)
    }

    /// Bits of the number of a bucket, for `len` fingerprints.
    pub(super) fn bucket_bits(len: u32) -> u32 {
        64 - Shape::of(len).low_bits
    }

    /// Bytes that `len` fingerprints take at most.
    pub(super) fn bytes_for(len: u32) -> u64 {
        let shape = Shape::of(len);
        let low = Row::bytes_for(shape.low_bits, len as usize);
        low + shape.upper_words as u64 * 8 + shape.samples as u64 * 4
    }

    /// Appends a fingerprint that is greater than all before.
    pub(super) fn push(&mut self, fingerprint: u64) {
        self.skip_to((fingerprint >> self.low_bits) as u32);
        self.bit(true);
        self.low.push(fingerprint);
    }

    /// Closes the last buckets, and gives back what was not needed.
    pub(super) fn finish(&mut self) {
        self.skip_to(self.buckets);
        self.upper.shrink_to_fit();
        self.low.finish();
    }

    fn skip_to(&mut self, bucket: u32) {
        while self.bucket < bucket {
            self.bit(false);
            self.bucket += 1;
            if self.bucket.is_multiple_of(SAMPLE) && self.bucket < self.buckets {
                self.samples.push(self.bits);
            }
        }
    }

    fn bit(&mut self, bit: bool) {
        let place = self.bits % 64;
        if place == 0 {
            self.upper.push(0);
        }
        if let Some(last) = self.upper.last_mut() {
            *last |= u64::from(bit) << place;
        }
        self.bits += 1;
    }

    /// How many there are.
    pub(super) const fn len(&self) -> usize {
        self.low.len
    }

    /// Bytes in use.
    pub(super) const fn bytes(&self) -> u64 {
        self.low.bytes() + self.upper.capacity() as u64 * 8 + self.samples.capacity() as u64 * 4
    }

    /// The place of `fingerprint` among all.
    #[inline(always)]
    pub(super) fn find(&self, fingerprint: u64) -> Option<usize> {
        let bucket = (fingerprint >> self.low_bits) as u32;
        let mut place = *self.samples.get((bucket / SAMPLE) as usize)?;
        let mut zeros = bucket % SAMPLE;
        let word_at = |place: u32| self.upper.get((place / 64) as usize);
        if zeros > 0 {
            // Behind the last of so many zeros the bucket begins.
            let mut word = !*word_at(place)? & (u64::MAX << (place % 64));
            let mut base = place / 64 * 64;
            loop {
                let count = word.count_ones();
                if count >= zeros {
                    break;
                }
                zeros -= count;
                base += 64;
                word = !*word_at(base)?;
            }
            for _ in 1..zeros {
                word &= word - 1;
            }
            place = base + word.trailing_zeros() + 1;
        }
        let wanted = fingerprint & mask(self.low_bits);
        let mut index = (place - bucket) as usize;
        while word_at(place)? >> (place % 64) & 1 == 1 {
            let low = self.low.get(index);
            if low >= wanted {
                return (low == wanted).then_some(index);
            }
            place += 1;
            index += 1;
        }
        None
    }
}

/// What the parts of the code measure.
struct Shape {
    low_bits: u32,
    buckets: u32,
    upper_words: usize,
    samples: usize,
}

impl Shape {
    fn of(len: u32) -> Self {
        // Between one and two buckets for each is where the sum of both parts is least.
        let bits = u32::BITS - len.saturating_sub(1).leading_zeros();
        let bucket_bits = bits.clamp(BUCKET_BITS_MIN, 30);
        let buckets = 1_u32 << bucket_bits;
        Self {
            low_bits: 64 - bucket_bits,
            buckets,
            upper_words: (u64::from(len) + u64::from(buckets)).div_ceil(64) as usize,
            samples: buckets.div_ceil(SAMPLE) as usize,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packed(fingerprints: &[u64]) -> Packed {
        let len = fingerprints.len();
        let room = Row::with_room(64 - Packed::bucket_bits(len as u32), len);
        let mut packed = Packed::into_room(len as u32, room);
        for fingerprint in fingerprints {
            packed.push(*fingerprint);
        }
        packed.finish();
        packed
    }

    #[test]
    fn numbers_of_every_width_come_back() {
        for width in 0..64 {
            let number = |n: u64| n.wrapping_mul(0x9e37_79b9_7f4a_7c15) & mask(width);
            let mut row = Row::with_room(width, 1000);
            let room = row.words.capacity();
            (0..1000).for_each(|n| row.push(number(n)));
            assert!((0..1000).all(|n| row.get(n as usize) == number(n)), "{width}");
            row.finish();
            assert_eq!(row.words.capacity(), room, "{width}: the room was not what it takes");
            // What is written over is not seen any more, and its neighbours are.
            row.set(500, !number(500));
            assert!(
                (0..1000).all(|n| (row.get(n) == number(n as u64)) == (n != 500 || width == 0))
            );
        }
    }

    #[test]
    fn edges_and_crowded_buckets_are_found_and_their_neighbours_are_not() {
        let crowd = (0..300).map(|n| 0x1234_5678_0000_0000 + n * 2);
        let mut all: Vec<u64> = [0, 1, u64::MAX, u64::MAX - 1, 1 << 63].into_iter().collect();
        all.extend(crowd);
        all.sort_unstable();
        let packed = packed(&all);
        assert_eq!(packed.len(), all.len());
        for (index, fingerprint) in all.iter().enumerate() {
            assert_eq!(packed.find(*fingerprint), Some(index));
            for near in [fingerprint.wrapping_sub(1), fingerprint.wrapping_add(1)] {
                assert_eq!(packed.find(near), all.binary_search(&near).ok(), "{near:#x}");
            }
        }
        let none = Packed::into_room(0, Row::default());
        assert!([0, 1, u64::MAX].iter().all(|n| none.find(*n).is_none()));
    }

    #[test]
    fn it_agrees_with_a_search_and_takes_the_bytes_that_were_foretold() {
        let mut state = 1_u64;
        let mut random = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state ^ state >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9)
        };
        for len in [1, 2, 63, 64, 65, 1000, 4095, 4096, 4097, 100_000] {
            let mut all: Vec<u64> = (0..len).map(|_| random()).collect();
            all.sort_unstable();
            all.dedup();
            let packed = packed(&all);
            assert!(all.iter().enumerate().all(|(n, f)| packed.find(*f) == Some(n)), "{len}");
            for _ in 0..10_000 {
                let one = random();
                assert_eq!(packed.find(one), all.binary_search(&one).ok(), "{len}");
            }
            assert_eq!(packed.bytes(), Packed::bytes_for(len), "{len}");
        }
        assert!(Packed::bytes_for(1_000_000) < 5_830_000);
    }
}

//! SipHash-1-3, a keyed hash of short input: who does not know the key cannot aim at collisions.

/// The hash of whole words, little-endian as they lie in memory.
pub(super) fn of_words<const N: usize>(key: [u64; 2], words: [u64; N]) -> u64 {
    let mut sip = Sip::new(key);
    for word in words {
        sip.word(u64::from_le(word));
    }
    // The last word holds the length and what does not fill a word: here nothing.
    sip.finish((size_of::<[u64; N]>() as u64) << 56)
}

/// The hash of bytes that come one by one.
#[derive(Clone, Copy)]
pub(super) struct Bytes {
    sip: Sip,
    /// Bytes that are not a whole word yet.
    tail: u64,
    len: u32,
}

impl Bytes {
    pub(super) const fn new(key: [u64; 2]) -> Self {
        Self { sip: Sip::new(key), tail: 0, len: 0 }
    }

    #[inline(always)]
    pub(super) const fn push(&mut self, byte: u8) {
        self.tail |= (byte as u64) << (8 * (self.len % 8));
        self.len += 1;
        if self.len.is_multiple_of(8) {
            self.sip.word(self.tail);
            self.tail = 0;
        }
    }

    #[inline(always)]
    pub(super) const fn finish(self) -> u64 {
        self.sip.finish((self.len as u64) << 56 | self.tail)
    }
}

#[derive(Clone, Copy)]
struct Sip([u64; 4]);

impl Sip {
    const fn new([k0, k1]: [u64; 2]) -> Self {
        Self([
            k0 ^ 0x736f_6d65_7073_6575,
            k1 ^ 0x646f_7261_6e64_6f6d,
            k0 ^ 0x6c79_6765_6e65_7261,
            k1 ^ 0x7465_6462_7974_6573,
        ])
    }

    #[inline(always)]
    const fn word(&mut self, word: u64) {
        self.0[3] ^= word;
        self.round();
        self.0[0] ^= word;
    }

    #[inline(always)]
    const fn finish(mut self, last: u64) -> u64 {
        self.word(last);
        self.0[2] ^= 0xff;
        self.round();
        self.round();
        self.round();
        self.0[0] ^ self.0[1] ^ self.0[2] ^ self.0[3]
    }

    #[inline(always)]
    const fn round(&mut self) {
        let [mut v0, mut v1, mut v2, mut v3] = self.0;
        v0 = v0.wrapping_add(v1);
        v2 = v2.wrapping_add(v3);
        v1 = v1.rotate_left(13) ^ v0;
        v3 = v3.rotate_left(16) ^ v2;
        v0 = v0.rotate_left(32);
        v2 = v2.wrapping_add(v1);
        v0 = v0.wrapping_add(v3);
        v1 = v1.rotate_left(17) ^ v2;
        v3 = v3.rotate_left(21) ^ v0;
        v2 = v2.rotate_left(32);
        self.0 = [v0, v1, v2, v3];
    }
}

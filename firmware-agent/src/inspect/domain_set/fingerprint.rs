//! Keyed fingerprints of domain names: SipHash-1-3 over the name from its end to its start.
//!
//! Read backwards, a name and every domain above it share one pass: at each border of labels the
//! state so far, finished, is the fingerprint of what lies behind that border.

/// The secret that fingerprints are made with. Who does not know it cannot find two names with one
/// fingerprint.
#[derive(Clone, Copy, Eq, PartialEq)]
pub struct Key {
    k0: u64,
    k1: u64,
}

impl Key {
    /// From 128 random bits.
    #[must_use]
    pub const fn new([k0, k1]: [u64; 2]) -> Self {
        Self { k0, k1 }
    }
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key(secret)")
    }
}

/// The fingerprint of a whole name; letters of both cases count alike.
pub(super) fn fingerprint(key: Key, name: &str) -> u64 {
    let mut state = State::new(key);
    name.bytes().rev().for_each(|byte| state.push(byte));
    state.finish()
}

/// Calls `each` with the fingerprint and the start of `name` and of every domain above it that has a
/// dot, the shortest first.
#[inline]
pub(super) fn suffixes(key: Key, name: &str, mut each: impl FnMut(u64, usize)) {
    let mut state = State::new(key);
    let mut has_dot = false;
    for (place, byte) in name.bytes().enumerate().rev() {
        if byte == b'.' {
            if has_dot {
                each(state.finish(), place + 1);
            }
            has_dot = true;
        }
        state.push(byte);
    }
    if has_dot {
        each(state.finish(), 0);
    }
}

/// SipHash-1-3 of bytes that come one by one.
#[derive(Clone, Copy)]
struct State {
    v: [u64; 4],
    /// Bytes that are not a whole word yet.
    tail: u64,
    len: u32,
}

impl State {
    const fn new(Key { k0, k1 }: Key) -> Self {
        let v = [
            k0 ^ 0x736f_6d65_7073_6575,
            k1 ^ 0x646f_7261_6e64_6f6d,
            k0 ^ 0x6c79_6765_6e65_7261,
            k1 ^ 0x7465_6462_7974_6573,
        ];
        Self { v, tail: 0, len: 0 }
    }

    #[inline(always)]
    const fn push(&mut self, byte: u8) {
        self.tail |= (byte.to_ascii_lowercase() as u64) << (8 * (self.len % 8));
        self.len += 1;
        if self.len.is_multiple_of(8) {
            self.word(self.tail);
            self.tail = 0;
        }
    }

    #[inline(always)]
    const fn word(&mut self, word: u64) {
        self.v[3] ^= word;
        self.round();
        self.v[0] ^= word;
    }

    #[inline(always)]
    const fn finish(mut self) -> u64 {
        self.word((self.len as u64) << 56 | self.tail);
        self.v[2] ^= 0xff;
        self.round();
        self.round();
        self.round();
        self.v[0] ^ self.v[1] ^ self.v[2] ^ self.v[3]
    }

    #[inline(always)]
    const fn round(&mut self) {
        let [mut v0, mut v1, mut v2, mut v3] = self.v;
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
        self.v = [v0, v1, v2, v3];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_siphash_1_3_of_the_reversed_name() {
        // What the standard library computes with an all-zero key, which is SipHash-1-3.
        use std::hash::{DefaultHasher, Hasher as _};
        let key = Key::new([0, 0]);
        let names = ["a.b", "example.com", "x", "", "12345678", "www.a-long-name.example.co.uk"];
        for name in names {
            let mut other = DefaultHasher::new();
            let reversed: Vec<u8> = name.bytes().rev().collect();
            other.write(&reversed);
            assert_eq!(fingerprint(key, name), other.finish(), "{name}");
        }
        assert_ne!(fingerprint(key, "a.b"), fingerprint(Key::new([1, 0]), "a.b"));
        assert_ne!(fingerprint(key, "a.b"), fingerprint(Key::new([0, 1]), "a.b"));
    }

    #[test]
    fn suffixes_are_the_fingerprints_of_the_domains_above() {
        let key = Key::new([3, 4]);
        let of = |name: &str| {
            let mut found = Vec::new();
            suffixes(key, name, |fingerprint, start| found.push((fingerprint, start)));
            found
        };
        let name = "Www.Shop.Example.Com";
        let expected = ["example.com", "shop.example.com", "www.shop.example.com"];
        let expected: Vec<_> =
            expected.iter().map(|s| (fingerprint(key, s), name.len() - s.len())).collect();
        assert_eq!(of(name), expected);
        assert_eq!(of("com"), [], "a whole top-level domain is in no set");
        assert_eq!(of(""), []);
    }
}

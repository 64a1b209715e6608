//! Keyed fingerprints of domain names: SipHash-1-3 over the name from its end to its start.
//!
//! Read backwards, a name and every domain above it share one pass: at each border of labels the
//! state so far, finished, is the fingerprint of what lies behind that border.

use crate::inspect::sip::Bytes;

/// The secret that fingerprints are made with. Who does not know it cannot find two names with one
/// fingerprint.
#[derive(Clone, Copy, Eq, PartialEq)]
pub struct Key([u64; 2]);

impl Key {
    /// From 128 random bits.
    #[must_use]
    pub const fn new(random: [u64; 2]) -> Self {
        Self(random)
    }
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key(secret)")
    }
}

/// The fingerprint of a whole name; letters of both cases count alike.
pub(super) fn fingerprint(key: Key, name: &str) -> u64 {
    let mut state = Bytes::new(key.0);
    name.bytes().rev().for_each(|byte| state.push(byte.to_ascii_lowercase()));
    state.finish()
}

/// Calls `each` with the fingerprint and the start of `name` and of every domain above it that has a
/// dot, the shortest first.
#[inline]
pub(super) fn suffixes(key: Key, name: &str, mut each: impl FnMut(u64, usize)) {
    let mut state = Bytes::new(key.0);
    let mut has_dot = false;
    for (place, byte) in name.bytes().enumerate().rev() {
        if byte == b'.' {
            if has_dot {
                each(state.finish(), place + 1);
            }
            has_dot = true;
        }
        state.push(byte.to_ascii_lowercase());
    }
    if has_dot {
        each(state.finish(), 0);
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

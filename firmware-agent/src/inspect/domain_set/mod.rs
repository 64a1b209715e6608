//! Domain lists of any size: which list has a name, or a domain above it.
//!
//! Owns a set that a million names take 5.8 MB in, and how it is built within a bound of memory.
//! A name is its keyed fingerprint of 64 bits. For strangers two names with one fingerprint cannot be
//! found without the key; that some name of a network is taken for a listed one by chance has a
//! probability of one in 2^64 for each listed name. Does not own the files that names come from.

mod build;
mod fingerprint;
mod packed;

pub use self::build::{Builder, Counting, Room, TooLarge};
pub use self::fingerprint::Key;
use self::fingerprint::suffixes;
use self::packed::{Packed, Row};

/// Which lists have which domains.
#[derive(Debug)]
pub struct DomainSet {
    key: Key,
    names: Packed,
    /// The list of each, where there are several.
    lists: Row,
    /// Lists from this number on only observe.
    observing_from: u32,
}

/// A domain of a list that covers a name.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Found<'a> {
    /// Number of the list.
    pub list: u32,
    /// Whether that only observes.
    pub observes: bool,
    /// The domain.
    pub domain: &'a str,
}

impl Default for DomainSet {
    fn default() -> Self {
        Self {
            key: Key::new([0, 0]),
            names: Packed::into_room(0, Row::default()),
            lists: Row::default(),
            observing_from: u32::MAX,
        }
    }
}

impl DomainSet {
    /// The set whose lists from this number on only observe.
    #[must_use]
    pub const fn observing_from(mut self, first: u32) -> Self {
        self.observing_from = first;
        self
    }

    /// The longest listed domain that is `name` or above it, of a list that blocks where there is one,
    /// else of one that observes. Letters of both cases are alike. Takes
    /// nothing from the heap.
    #[must_use]
    pub fn lookup<'a>(&self, name: &'a str) -> Option<Found<'a>> {
        if self.is_empty() {
            return None;
        }
        let (mut blocking, mut observing) = (None, None);
        suffixes(self.key, name, |fingerprint, start| {
            if let Some(place) = self.names.find(fingerprint) {
                let list = self.lists.get(place) as u32;
                let longest =
                    if list < self.observing_from { &mut blocking } else { &mut observing };
                *longest = Some((list, start));
            }
        });
        let (list, start) = blocking.or(observing)?;
        Some(Found { list, observes: list >= self.observing_from, domain: name.get(start..)? })
    }

    /// How many domains there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.names.len()
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of the heap that it takes.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.names.bytes() + self.lists.bytes()
    }
}

#[cfg(test)]
pub(in crate::inspect) mod tests;

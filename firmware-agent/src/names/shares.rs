//! A bounded map in which nobody takes the room of all.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;

/// At most a fixed number of entries, of which one owner has a quarter at most. What was touched
/// longest ago makes place: of the owner who is over its share, else of all.
#[derive(Debug)]
pub(super) struct Shares<O, K, V> {
    max: usize,
    entries: HashMap<(O, K), Entry<V>>,
    /// Entries in the order in which they were touched.
    order: BTreeMap<u64, (O, K)>,
    owners: HashMap<O, BTreeMap<u64, K>>,
    next: u64,
}

#[derive(Debug)]
struct Entry<V> {
    touched: u64,
    value: V,
}

impl<O: Copy + Eq + Hash, K: Copy + Eq + Hash, V> Shares<O, K, V> {
    /// For at most `max` entries; 0 keeps none.
    pub(super) fn new(max: usize) -> Self {
        Self {
            max,
            entries: HashMap::new(),
            order: BTreeMap::new(),
            owners: HashMap::new(),
            next: 0,
        }
    }

    /// Most entries of one owner.
    pub(super) const fn share(max: usize) -> usize {
        max.div_ceil(4)
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn get(&self, owner: O, key: K) -> Option<&V> {
        self.entries.get(&(owner, key)).map(|entry| &entry.value)
    }

    /// The value there, made if there is none, which becomes the one touched last.
    pub(super) fn touch(&mut self, owner: O, key: K, make: impl FnOnce() -> V) -> Option<&mut V> {
        if self.max == 0 {
            return None;
        }
        let value = if let Some(value) = self.remove(owner, key) {
            value
        } else {
            let own = self.owners.get(&owner);
            if own.map_or(0, BTreeMap::len) >= Self::share(self.max) {
                let oldest = own.and_then(BTreeMap::first_key_value).map(|(_, key)| *key);
                oldest.and_then(|key| self.remove(owner, key));
            } else if self.entries.len() >= self.max {
                self.pop_oldest(|_| true);
            }
            make()
        };
        let touched = self.next;
        self.next += 1;
        self.order.insert(touched, (owner, key));
        self.owners.entry(owner).or_default().insert(touched, key);
        let entry = self.entries.entry((owner, key)).insert_entry(Entry { touched, value });
        Some(&mut entry.into_mut().value)
    }

    pub(super) fn remove(&mut self, owner: O, key: K) -> Option<V> {
        let entry = self.entries.remove(&(owner, key))?;
        self.order.remove(&entry.touched);
        if let Some(own) = self.owners.get_mut(&owner) {
            own.remove(&entry.touched);
            if own.is_empty() {
                self.owners.remove(&owner);
            }
        }
        Some(entry.value)
    }

    /// Forgets what was touched longest ago, if it `is_over`. Says whether there was one.
    pub(super) fn pop_oldest(&mut self, is_over: impl FnOnce(&V) -> bool) -> bool {
        let Some((_, &(owner, key))) = self.order.first_key_value() else { return false };
        self.get(owner, key).is_some_and(is_over) && self.remove(owner, key).is_some()
    }
}

//! A bounded map from flow to state that knows which entry was used longest ago.
//!
//! Owns places, hashing and order. A slab with indices: no entry moves, the memory is known before,
//! and a hash keyed by a random seed keeps strangers from aiming at one chain.

use bytemuck::cast;
use sluice_abi::flow::FlowKey;

use super::sip;

/// No slot.
const NONE: u32 = u32::MAX;

/// At most a fixed number of flows.
#[derive(Debug)]
pub(super) struct Table<V> {
    seed: [u64; 2],
    /// First slot of each chain; the length is a power of two.
    heads: Box<[u32]>,
    slots: Vec<Slot<V>>,
    max: u32,
    len: u32,
    free: u32,
    oldest: u32,
    newest: u32,
}

#[derive(Debug)]
struct Slot<V> {
    /// `None` in a free slot.
    entry: Option<(FlowKey, V)>,
    /// The next of the chain, or of the free slots.
    next: u32,
    older: u32,
    newer: u32,
}

impl<V> Table<V> {
    /// A table of at most `max` flows, at least one.
    pub(super) fn new(max: u32, seed: [u64; 2]) -> Self {
        let max = max.clamp(1, 1 << 24);
        let heads = vec![NONE; Self::chains(max)].into_boxed_slice();
        let slots = Vec::new();
        Self { seed, heads, slots, max, len: 0, free: NONE, oldest: NONE, newest: NONE }
    }

    const fn chains(max: u32) -> usize {
        max.next_power_of_two() as usize
    }

    /// Most bytes that a table of `max` flows takes, without what the states own.
    pub(super) const fn memory_max(max: u32) -> usize {
        Self::chains(max) * size_of::<u32>() + max as usize * size_of::<Slot<V>>()
    }

    /// Bytes in use, without what the states own.
    pub(super) const fn memory(&self) -> usize {
        self.heads.len() * size_of::<u32>() + self.slots.capacity() * size_of::<Slot<V>>()
    }

    /// The states, in no order.
    #[cfg(test)]
    pub(super) fn values(&self) -> impl Iterator<Item = &V> {
        self.slots.iter().filter_map(|slot| slot.entry.as_ref()).map(|(_, value)| value)
    }

    pub(super) const fn len(&self) -> usize {
        self.len as usize
    }

    /// The most flows it holds.
    pub(super) const fn max(&self) -> u32 {
        self.max
    }

    pub(super) const fn is_full(&self) -> bool {
        self.len >= self.max
    }

    fn chain(&self, key: &FlowKey) -> usize {
        hash(self.seed, key) as usize & (self.heads.len() - 1)
    }

    fn find(&self, key: &FlowKey) -> Option<u32> {
        if self.len == 0 {
            return None;
        }
        let mut index = self.heads[self.chain(key)];
        while let Some(slot) = self.slots.get(index as usize) {
            if slot.entry.as_ref().is_some_and(|(there, _)| there == key) {
                return Some(index);
            }
            index = slot.next;
        }
        None
    }

    /// The state of a flow, which becomes the newest.
    pub(super) fn get(&mut self, key: &FlowKey) -> Option<&mut V> {
        let index = self.find(key)?;
        self.unlink(index);
        self.link_newest(index);
        self.value(index)
    }

    /// The flow used longest ago.
    pub(super) fn oldest(&self) -> Option<(&FlowKey, &V)> {
        let (key, value) = self.slots.get(self.oldest as usize)?.entry.as_ref()?;
        Some((key, value))
    }

    /// All flows, the one used longest ago first.
    pub(super) fn by_age(&self) -> impl Iterator<Item = (&FlowKey, &V)> {
        let slot = |index: u32| self.slots.get(index as usize);
        let slots = core::iter::successors(slot(self.oldest), move |at| slot(at.newer));
        slots.filter_map(|slot| slot.entry.as_ref()).map(|(key, value)| (key, value))
    }

    /// Stores a flow that is not there, as the newest. In a full table the oldest makes place and
    /// is returned.
    pub(super) fn insert(&mut self, key: FlowKey, value: V) -> Option<(FlowKey, V)> {
        let evicted = if self.is_full() { self.pop_oldest() } else { None };
        let chain = self.chain(&key);
        let index = self.take_slot();
        let next = core::mem::replace(&mut self.heads[chain], index);
        self.slots[index as usize] =
            Slot { entry: Some((key, value)), next, older: NONE, newer: NONE };
        self.link_newest(index);
        self.len += 1;
        evicted
    }

    /// Forgets a flow.
    pub(super) fn remove(&mut self, key: &FlowKey) -> Option<V> {
        let index = self.find(key)?;
        self.unlink(index);
        let chain = self.chain(key);
        let next = self.slots[index as usize].next;
        let mut at = self.heads[chain];
        if at == index {
            self.heads[chain] = next;
        } else {
            while let Some(slot) = self.slots.get_mut(at as usize) {
                if slot.next == index {
                    slot.next = next;
                    break;
                }
                at = slot.next;
            }
        }
        let slot = &mut self.slots[index as usize];
        slot.next = core::mem::replace(&mut self.free, index);
        self.len -= 1;
        slot.entry.take().map(|(_, value)| value)
    }

    /// Forgets the flow used longest ago.
    pub(super) fn pop_oldest(&mut self) -> Option<(FlowKey, V)> {
        let key = *self.oldest()?.0;
        self.remove(&key).map(|value| (key, value))
    }

    fn value(&mut self, index: u32) -> Option<&mut V> {
        self.slots.get_mut(index as usize)?.entry.as_mut().map(|(_, value)| value)
    }

    fn take_slot(&mut self) -> u32 {
        let index = self.free;
        if let Some(slot) = self.slots.get(index as usize) {
            self.free = slot.next;
            return index;
        }
        if self.slots.len() == self.slots.capacity() {
            // Never more than the most: the memory was promised.
            let left = self.max as usize - self.slots.len();
            self.slots.reserve_exact((self.slots.len() / 2).max(64).min(left));
        }
        let index = self.slots.len() as u32;
        self.slots.push(Slot { entry: None, next: NONE, older: NONE, newer: NONE });
        index
    }

    fn unlink(&mut self, index: u32) {
        let Slot { older, newer, .. } = self.slots[index as usize];
        match self.slots.get_mut(older as usize) {
            Some(slot) => slot.newer = newer,
            None => self.oldest = newer,
        }
        match self.slots.get_mut(newer as usize) {
            Some(slot) => slot.older = older,
            None => self.newest = older,
        }
    }

    fn link_newest(&mut self, index: u32) {
        let older = core::mem::replace(&mut self.newest, index);
        match self.slots.get_mut(older as usize) {
            Some(slot) => slot.newer = index,
            None => self.oldest = index,
        }
        let slot = &mut self.slots[index as usize];
        (slot.older, slot.newer) = (older, NONE);
    }
}

fn hash(seed: [u64; 2], key: &FlowKey) -> u64 {
    sip::of_words(seed, cast::<_, [u64; 5]>(*key))
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::hash::Hasher as _;

    use sluice_abi::flow::Addr;

    use super::*;

    fn key(n: u32) -> FlowKey {
        let (source, target) = (Addr::from_v4_octets(n.to_be_bytes()), Addr::v6([1, 2, 3, 4]));
        FlowKey::new(source, target, 1, 2, 6).0
    }

    #[test]
    fn the_hash_is_the_one_of_the_standard_library() {
        for n in 0..100 {
            // With a key of zero: `DefaultHasher` takes no other.
            let mut theirs = std::hash::DefaultHasher::new();
            theirs.write(bytemuck::bytes_of(&key(n)));
            assert_eq!(hash([0, 0], &key(n)), theirs.finish());
        }
        assert_ne!(hash([0, 1], &key(1)), hash([1, 0], &key(1)));
    }

    #[test]
    fn agrees_with_a_list_ordered_by_use() {
        let mut table = Table::new(16, [7, 9]);
        let mut model = VecDeque::new();
        let mut state = 1_u64;
        for step in 0..200_000_u32 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695);
            let n = (state >> 40) as u32 % 40;
            let there = model.iter().position(|(k, _)| *k == n);
            match (state >> 60, there) {
                (0..=8, Some(index)) => {
                    let entry = model.remove(index).unwrap();
                    model.push_back(entry);
                    assert_eq!(table.get(&key(n)).copied(), Some(entry.1));
                }
                (0..=8, None) => assert_eq!(table.get(&key(n)), None),
                (9..=13, None) => {
                    let evicted = if model.len() == 16 { model.pop_front() } else { None };
                    model.push_back((n, step));
                    let evicted: Option<(u32, u32)> = evicted;
                    let expected = evicted.map(|(n, value)| (key(n), value));
                    assert_eq!(table.insert(key(n), step), expected);
                }
                (_, index) => {
                    let value = index.and_then(|index| model.remove(index)).map(|(_, v)| v);
                    assert_eq!(table.remove(&key(n)), value);
                }
            }
            assert_eq!(table.len(), model.len());
            let oldest = model.front().map(|(n, v)| (key(*n), *v));
            assert_eq!(table.oldest().map(|(k, v)| (*k, *v)), oldest);
            assert!(table.memory() <= Table::<u32>::memory_max(16));
        }
    }
}

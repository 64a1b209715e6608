//! Which flow makes place in a full table: one of the device that has most of it.
//!
//! So a device that opens flows by the thousand loses its own, and others, whose flows are few, keep
//! theirs until they are decided. No book is kept of who has how many: of the flows that were silent
//! longest, where in a flood most are the flooder's, the device with the most gives up its oldest.

use sluice_abi::flow::Addr;

/// Flows that are looked at.
pub(super) const WINDOW: usize = 16;

/// The first of those whose owner has the most; of owners alike, the first.
///
/// In the order of their use, the oldest first; at most [`WINDOW`].
pub(super) fn victim<K: Copy>(oldest: impl Iterator<Item = (K, Addr)>) -> Option<K> {
    let flows: Vec<(K, Addr)> = oldest.take(WINDOW).collect();
    let mut found: Option<(usize, K)> = None;
    for (index, (key, owner)) in flows.iter().enumerate() {
        // Those before it were counted with their first.
        let count = flows.iter().skip(index).filter(|(_, other)| other == owner).count();
        if found.is_none_or(|(most, _)| count > most) {
            found = Some((count, *key));
        }
    }
    found.map(|(_, key)| key)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(owners: &[u8]) -> Option<usize> {
        let owners = owners.iter().map(|owner| Addr::from_v4_octets([192, 0, 2, *owner]));
        victim(owners.enumerate())
    }

    #[test]
    fn the_oldest_of_who_has_most_makes_place() {
        assert_eq!(of(&[]), None);
        assert_eq!(of(&[1]), Some(0));
        assert_eq!(of(&[1, 2, 3]), Some(0), "alike");
        assert_eq!(of(&[1, 2, 3, 2]), Some(1));
        assert_eq!(of(&[1, 1, 2, 2, 2]), Some(2));
        // What lies behind is not looked at.
        assert_eq!(of(&[&[1, 1][..], &(10..24).collect::<Vec<_>>(), &[9; 9]].concat()), Some(0));
    }
}

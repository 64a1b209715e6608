//! Which addresses a card holds, when it cannot hold all: pure.

use std::collections::BTreeSet;

use sluice_abi::flow::Addr;

/// An address in the card.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Entry {
    pub(super) addr: Addr,
    /// Whether packets of it were dropped since it was looked at last.
    pub(super) is_hot: bool,
}

/// What to hold from now on: of what is held, what is still listed and hot; then listed addresses in
/// turn from `turn` on, so that each of them gets a chance to show that it is hot; then the rest of
/// what is held. The second part is where the next turn begins.
pub(super) fn choose(
    held: &[Entry],
    listed: &[Addr],
    room: usize,
    turn: usize,
) -> (Vec<Addr>, usize) {
    let wanted: BTreeSet<[u8; 16]> = listed.iter().map(octets).collect();
    let stays = |entry: &&Entry| wanted.contains(&octets(&entry.addr));
    let (hot, cold): (Vec<&Entry>, Vec<&Entry>) =
        held.iter().filter(stays).partition(|entry| entry.is_hot);
    let mut chosen: Vec<Addr> = hot.iter().map(|entry| entry.addr).take(room).collect();
    let mut taken: BTreeSet<[u8; 16]> =
        held.iter().filter(stays).map(|entry| octets(&entry.addr)).collect();
    let mut next = turn;
    for offset in 0..listed.len() {
        if chosen.len() >= room {
            break;
        }
        let index = (turn + offset) % listed.len();
        let Some(addr) = listed.get(index) else { break };
        if taken.insert(octets(addr)) {
            chosen.push(*addr);
            next = index + 1;
        }
    }
    let free = room.saturating_sub(chosen.len());
    chosen.extend(cold.iter().map(|entry| entry.addr).take(free));
    (chosen, next)
}

fn octets(addr: &Addr) -> [u8; 16] {
    bytemuck::cast(*addr)
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    fn addr(last: u8) -> Addr {
        IpAddr::from([192, 0, 2, last]).into()
    }

    fn entry(last: u8, is_hot: bool) -> Entry {
        Entry { addr: addr(last), is_hot }
    }

    #[test]
    fn a_hot_address_stays_and_cold_ones_make_room_in_turn() {
        let listed: Vec<Addr> = (1..=5).map(addr).collect();
        let (chosen, turn) = choose(&[], &listed, 2, 0);
        assert_eq!((chosen, turn), (vec![addr(1), addr(2)], 2));
        let (chosen, turn) = choose(&[entry(1, true), entry(2, false)], &listed, 2, turn);
        assert_eq!((chosen, turn), (vec![addr(1), addr(3)], 3));
        let (chosen, turn) = choose(&[entry(1, true), entry(3, false)], &listed, 2, turn);
        assert_eq!((chosen, turn), (vec![addr(1), addr(4)], 4));
        let (chosen, turn) = choose(&[entry(1, false), entry(4, false)], &listed, 2, turn);
        assert_eq!((chosen, turn), (vec![addr(5), addr(2)], 2), "around the end");
    }

    #[test]
    fn what_is_not_listed_any_more_goes_and_what_fits_stays() {
        let listed = [addr(1), addr(2)];
        let (chosen, _) = choose(&[entry(9, true), entry(2, false)], &listed, 4, 7);
        assert_eq!(chosen, [addr(1), addr(2)]);
        assert_eq!(choose(&[entry(9, true)], &[], 4, 0), (Vec::new(), 0));
        assert_eq!(choose(&[], &listed, 0, 0).0, []);
    }
}

use super::*;

fn net(text: &str) -> Net {
    text.parse().unwrap()
}

fn nets(texts: &[&str]) -> Vec<Net> {
    texts.iter().copied().map(net).collect()
}

fn shown<V>(entries: &[(Net, V)]) -> Vec<String> {
    entries.iter().map(|(net, _)| net.to_string()).collect()
}

const fn listed(list: u32) -> BlockEntry {
    BlockEntry { list, expires_s: 0 }
}

fn wanted_of(lists: &[(u32, &[Net])]) -> (Entries<BlockEntry>, Entries<BlockEntry>) {
    wanted(lists.iter().flat_map(|(list, nets)| nets.iter().map(|net| (*net, *list))))
}

#[test]
fn lists_are_merged_sorted_and_without_what_changes_nothing() {
    let first = nets(&["192.0.2.0/24", "192.0.2.128/25", "198.51.100.7", "2001:db8::/32"]);
    let second = nets(&["192.0.2.0/25", "198.51.100.7", "203.0.113.9", "192.0.2.0/26"]);
    let (hosts, prefixes) = wanted_of(&[(4, &first), (5, &second)]);
    assert_eq!(shown(&hosts), ["198.51.100.7", "203.0.113.9"]);
    assert_eq!(hosts[0].1, listed(4), "the lowest list wins");
    // 192.0.2.128/25 lies in a prefix of its own list, 192.0.2.0/26 as well; 192.0.2.0/25 lies in
    // one of another list, so its hits count for its own.
    assert_eq!(shown(&prefixes), ["192.0.2.0/24", "192.0.2.0/25", "2001:db8::/32"]);
    assert_eq!(prefixes[1].1, listed(5));
}

#[test]
fn only_what_differs_is_written_or_removed() {
    let entry = |text, list| (net(text), listed(list));
    let wanted = vec![entry("192.0.2.1", 0), entry("192.0.2.2", 0), entry("192.0.2.3", 0)];
    let present = [
        entry("192.0.2.3", 0),
        entry("192.0.2.2", 1),
        entry("192.0.2.9", 0),
        (net("192.0.2.10"), BlockEntry { list: 7, expires_s: 100 }),
        (net("192.0.2.11"), BlockEntry { list: 7, expires_s: 99 }),
        entry("192.0.2.12", names::LIST_MANUAL),
        (net("192.0.2.13"), BlockEntry { list: names::LIST_AUTOMATIC, expires_s: 99 }),
    ];
    let change = diff(wanted, &present, 99);
    assert_eq!(shown(&change.insert), ["192.0.2.1", "192.0.2.2"]);
    assert_eq!(change.remove, nets(&["192.0.2.9", "192.0.2.11", "192.0.2.13"]), "live ones stay");
}

/// A map with room for `room` entries that keeps a record of what happened.
struct Fake {
    entries: std::collections::BTreeMap<Net, BlockEntry>,
    room: usize,
    /// The smallest set of entries seen after each step.
    always: Option<std::collections::BTreeSet<Net>>,
}

impl Fake {
    fn new(room: usize, present: &[&str]) -> Self {
        let entries = nets(present).into_iter().map(|net| (net, listed(0))).collect();
        Self { entries, room, always: None }
    }

    fn step(&mut self) {
        let now = self.entries.keys().copied().collect();
        self.always = Some(match self.always.take() {
            Some(always) => always.intersection(&now).copied().collect(),
            None => now,
        });
    }
}

impl Table<BlockEntry> for Fake {
    const NAME: &'static str = "FAKE";
    type Key = u32;

    fn fd(&self) -> std::os::fd::BorrowedFd<'_> {
        unreachable!("insert_all is replaced")
    }

    fn key(_net: &Net) -> u32 {
        unreachable!("insert_all is replaced")
    }

    fn net(_key: &u32) -> Net {
        unreachable!("entries is replaced")
    }

    fn insert(&mut self, net: &Net, value: BlockEntry) -> Result<(), Error> {
        self.entries.insert(*net, value);
        assert!(self.entries.len() <= self.room, "the map is full");
        self.step();
        Ok(())
    }

    fn insert_all(&mut self, entries: &[(Net, BlockEntry)]) -> Result<(), Error> {
        entries.iter().try_for_each(|(net, value)| self.insert(net, *value))
    }

    fn remove(&mut self, net: &Net) -> Result<bool, Error> {
        let removed = self.entries.remove(net).is_some();
        self.step();
        Ok(removed)
    }

    fn remove_all(&mut self, nets: &[Net]) -> Result<(), Error> {
        nets.iter().try_for_each(|net| self.remove(net).map(drop))
    }

    fn walk(&self) -> Result<Entries<BlockEntry>, Error> {
        unreachable!("entries is replaced")
    }

    fn entries(&self) -> Result<Entries<BlockEntry>, Error> {
        Ok(self.entries.iter().map(|(net, value)| (*net, *value)).collect())
    }
}

#[test]
fn a_reload_keeps_what_both_sets_have_and_writes_before_it_removes() {
    // With ample room the old entries go last; with little room just enough go first.
    for (room, old_first) in [(10, 0), (4, 1), (3, 2)] {
        let mut map = Fake::new(room, &["192.0.2.1", "192.0.2.2", "192.0.2.3"]);
        let new = nets(&["192.0.2.1", "192.0.2.4", "192.0.2.5"]);
        let (hosts, _) = wanted_of(&[(0, &new)]);
        let change = diff(hosts, &map.entries().unwrap(), 0);
        let left = change.write(&mut map, room as u32).unwrap();
        assert_eq!(change.remove.len() - left.len(), old_first, "room for {room}");
        map.remove_all(left).unwrap();
        assert_eq!(map.entries.keys().copied().collect::<Vec<_>>(), new);
        assert!(map.always.unwrap().contains(&net("192.0.2.1")), "never away");
    }
}

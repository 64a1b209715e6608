//! `BLOCK_HOSTS`, `BLOCK_NETS`, `ALLOW_NETS`: the lists in the kernel. Only the agent writes them.
//!
//! Configured lists have here what their image cannot hold: IPv6 longer than /64. A new set is
//! written over the old one entry by entry, new ones first: what both have is blocked all the time.
//! Entries with a deadline are not part of a set and stay until they are void.

mod live;
mod maps;

use std::net::IpAddr;

use aya::maps::lpm_trie::{Key, LpmTrie};
use aya::maps::{HashMap, Map, MapData, MapError};
use sluice_abi::flow::Addr;
use sluice_abi::live::Live;
use sluice_abi::names;
use sluice_abi::shield::{AllowEntry, BlockEntry};

use self::live::LiveMap;
use self::maps::{AllowMap, Entries, HostMap, NetMap, Table};
use super::error::Error;
use super::plan::Sizes;
use crate::config::Net;

/// What the lists say about an address.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Listed {
    /// Number of the list.
    pub list: u32,
    /// The entry that matched.
    pub net: Net,
    /// `CLOCK_MONOTONIC` second at which it ends; 0 for never.
    pub expires_s: u32,
    /// Roles of the interfaces on which the allowlist lifts it.
    pub allowed_roles: u32,
}

/// What a change of the lists did.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Synced {
    /// Listed addresses.
    pub hosts: usize,
    /// Listed prefixes.
    pub nets: usize,
    /// Entries written.
    pub written: usize,
    /// Entries removed.
    pub removed: usize,
    /// Bytes of the image.
    pub image: u64,
}

/// The lists in the kernel.
pub struct Blocklist {
    hosts: HashMap<MapData, Addr, BlockEntry>,
    nets: LpmTrie<MapData, Addr, BlockEntry>,
    allow: LpmTrie<MapData, Addr, AllowEntry>,
    live: LiveMap,
    room: Room,
}

/// Entries that fit.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Room {
    /// In `BLOCK_HOSTS`.
    pub hosts: u32,
    /// In `BLOCK_NETS`.
    pub nets: u32,
    /// In `ALLOW_NETS`.
    pub allow: u32,
}

impl Room {
    /// That of maps of these sizes.
    pub(super) const fn of(sizes: &Sizes) -> Self {
        Self { hosts: sizes.block_hosts, nets: sizes.block_nets, allow: sizes.allow_nets }
    }
}

impl Blocklist {
    /// Takes the maps, with the entries that are in them: the filter may be of another agent, or of
    /// none.
    pub fn new(hosts: Map, nets: Map, allow: Map, live: Map, room: Room) -> Result<Self, Error> {
        let mut list = Self {
            hosts: HashMap::try_from(hosts).map_err(Error::map(names::BLOCK_HOSTS, "open"))?,
            nets: LpmTrie::try_from(nets).map_err(Error::map(names::BLOCK_NETS, "open"))?,
            allow: LpmTrie::try_from(allow).map_err(Error::map(names::ALLOW_NETS, "open"))?,
            live: LiveMap::new(live)?,
            room,
        };
        list.refilter()?;
        Ok(list)
    }

    /// Makes the filter that of the entries in the maps.
    fn refilter(&mut self) -> Result<(), Error> {
        let mut wanted = Box::new(Live::EMPTY);
        for (net, _) in HostMap(&mut self.hosts).entries()? {
            live::add_blocked(&mut wanted, &net);
        }
        for (net, _) in NetMap(&mut self.nets).entries()? {
            live::add_blocked(&mut wanted, &net);
        }
        for (net, _) in AllowMap(&mut self.allow).entries()? {
            live::add_allowed(&mut wanted, &net);
        }
        self.live.replace(wanted)
    }

    /// Makes `lists` (number, entries) what is blocked. An entry on several lists counts for the
    /// one with the lowest number; an entry inside another of the same list is left out.
    ///
    /// Nothing changes when they do not fit.
    pub fn sync(&mut self, lists: &[(u32, &[Net])], now_s: u32) -> Result<Synced, Error> {
        let entries = lists.iter().flat_map(|(list, nets)| nets.iter().map(|net| (*net, *list)));
        self.sync_entries(entries, now_s)
    }

    /// Makes `entries`, each with the number of its list, what lists block; see [`Blocklist::sync`].
    pub fn sync_entries(
        &mut self,
        entries: impl Iterator<Item = (Net, u32)>,
        now_s: u32,
    ) -> Result<Synced, Error> {
        let (hosts, nets) = wanted(entries);
        fits(names::BLOCK_HOSTS, self.room.hosts, hosts.len())?;
        fits(names::BLOCK_NETS, self.room.nets, nets.len())?;
        let mut synced = Synced { hosts: hosts.len(), nets: nets.len(), ..Synced::default() };
        let hosts_change = diff(hosts, &HostMap(&mut self.hosts).entries()?, now_s);
        let nets_change = diff(nets, &NetMap(&mut self.nets).entries()?, now_s);
        self.live.add(|live| {
            let new = hosts_change.insert.iter().chain(&nets_change.insert);
            new.for_each(|(net, _)| live::add_blocked(live, net));
        })?;
        // Prefixes can cover addresses and the other way round: everything new comes before
        // anything old goes, unless there is no room for both.
        let hosts_left = hosts_change.write(&mut HostMap(&mut self.hosts), self.room.hosts)?;
        let nets_left = nets_change.write(&mut NetMap(&mut self.nets), self.room.nets)?;
        synced.written = hosts_change.insert.len() + nets_change.insert.len();
        synced.removed = hosts_change.remove.len() + nets_change.remove.len();
        HostMap(&mut self.hosts).remove_all(hosts_left)?;
        NetMap(&mut self.nets).remove_all(nets_left)?;
        if synced.removed > 0 {
            self.refilter()?;
        }
        Ok(synced)
    }

    /// Makes `nets` (prefix, roles of the interfaces where it counts) what no list blocks.
    pub fn sync_allowed(&mut self, nets: &[(Net, u32)]) -> Result<(), Error> {
        let mut wanted: Vec<_> =
            nets.iter().map(|(net, roles)| (*net, AllowEntry { roles: *roles })).collect();
        wanted.sort_unstable_by_key(|(net, _)| *net);
        wanted.dedup_by(|later, kept| {
            let same = later.0 == kept.0;
            if same {
                kept.1.roles |= later.1.roles;
            }
            same
        });
        fits(names::ALLOW_NETS, self.room.allow, wanted.len())?;
        let change = diff(wanted, &AllowMap(&mut self.allow).entries()?, 0);
        self.live.add(|live| {
            change.insert.iter().for_each(|(net, _)| live::add_allowed(live, net));
        })?;
        let left = change.write(&mut AllowMap(&mut self.allow), self.room.allow)?;
        AllowMap(&mut self.allow).remove_all(left)?;
        if change.remove.is_empty() { Ok(()) } else { self.refilter() }
    }

    /// Blocks `net` on account of `list` until `expires_s`.
    pub fn block(&mut self, net: Net, list: u32, expires_s: u32) -> Result<(), Error> {
        let entry = BlockEntry { list, expires_s };
        self.live.add(|live| live::add_blocked(live, &net))?;
        if net.is_host() {
            HostMap(&mut self.hosts).insert(&net, entry)
        } else {
            NetMap(&mut self.nets).insert(&net, entry)
        }
    }

    /// Lifts a block; `false` when there was none for exactly this prefix.
    pub fn unblock(&mut self, net: Net) -> Result<bool, Error> {
        let was_there = if net.is_host() {
            HostMap(&mut self.hosts).remove(&net)?
        } else {
            NetMap(&mut self.nets).remove(&net)?
        };
        if was_there && self.live.removed() {
            self.refilter()?;
        }
        Ok(was_there)
    }

    /// What is blocked by hand or automatically, with the second at which it ends; [`u32::MAX`] is
    /// never.
    pub fn live(&mut self, now_s: u32) -> Result<Vec<(Net, u32)>, Error> {
        let mut entries = HostMap(&mut self.hosts).entries()?;
        entries.extend(NetMap(&mut self.nets).entries()?);
        entries.retain(|(_, entry)| entry.list >= names::LIST_MANUAL);
        let ends = |entry: &BlockEntry| match entry.expires_s {
            0 => u32::MAX,
            ends => ends,
        };
        let live = entries.iter().map(|(net, entry)| (*net, ends(entry)));
        Ok(live.filter(|(_, ends)| *ends > now_s).collect())
    }

    /// What the programs find when they look `addr` up at `now_s`.
    pub fn lookup(&self, addr: IpAddr, now_s: u32) -> Result<Option<Listed>, Error> {
        let host = Net::host(addr);
        let live = |entry: &BlockEntry| entry.expires_s == 0 || now_s < entry.expires_s;
        let found = optional(self.hosts.get(&host.addr(), 0))
            .map_err(Error::map(names::BLOCK_HOSTS, "read"))?
            .filter(live)
            .map(|entry| (host, entry));
        let found = match found {
            Some(found) => Some(found),
            None => self.longest(&host)?.filter(|(_, entry)| live(entry)),
        };
        let Some((net, entry)) = found else { return Ok(None) };
        let allowed_roles = optional(self.allow.get(&maps::key(&host), 0))
            .map_err(Error::map(names::ALLOW_NETS, "read"))?
            .map_or(0, |entry| entry.roles);
        let BlockEntry { list, expires_s } = entry;
        Ok(Some(Listed { list, net, expires_s, allowed_roles }))
    }

    /// Whether there are listed addresses, and listed prefixes.
    pub fn has_entries(&self) -> Result<(bool, bool), Error> {
        let hosts = self.hosts.keys().next().transpose();
        let nets = self.nets.keys().next().transpose();
        Ok((
            hosts.map_err(Error::map(names::BLOCK_HOSTS, "list"))?.is_some(),
            nets.map_err(Error::map(names::BLOCK_NETS, "list"))?.is_some(),
        ))
    }

    /// The longest prefix that covers `host`. The trie answers with the value alone; its length is
    /// where a shorter question gets another answer, which is exact because no prefix lies in
    /// another with the same value.
    fn longest(&self, host: &Net) -> Result<Option<(Net, BlockEntry)>, Error> {
        let ask = |bits: u8| {
            optional(self.nets.get(&Key::new(u32::from(bits), host.addr()), 0))
                .map_err(Error::map(names::BLOCK_NETS, "read"))
        };
        let Some(entry) = ask(128)? else { return Ok(None) };
        let mut bits = 128;
        while bits > 0 && ask(bits - 1)? == Some(entry) {
            bits -= 1;
        }
        Ok(Some((Net::new(host.addr(), bits), entry)))
    }
}

/// What the entries of lists ask for, sorted: addresses and prefixes.
fn wanted(all: impl Iterator<Item = (Net, u32)>) -> (Entries<BlockEntry>, Entries<BlockEntry>) {
    let (mut hosts, mut nets) = (Vec::new(), Vec::new());
    for (net, list) in all {
        let entry = (net, BlockEntry { list, expires_s: 0 });
        if net.is_host() { hosts.push(entry) } else { nets.push(entry) }
    }
    for entries in [&mut hosts, &mut nets] {
        entries.sort_unstable_by_key(|(net, entry)| (*net, entry.list));
        entries.dedup_by_key(|(net, _)| *net);
    }
    // Sorted, a prefix comes directly before what it contains: the enclosing ones form a stack.
    let mut around: Entries<BlockEntry> = Vec::new();
    nets.retain(|(net, entry)| {
        while around.last().is_some_and(|(outer, _)| !outer.contains(net)) {
            around.pop();
        }
        let redundant = around.last().is_some_and(|(_, outer)| outer == entry);
        if !redundant {
            around.push((*net, *entry));
        }
        !redundant
    });
    (hosts, nets)
}

/// What has to be done to a map.
#[derive(Debug, Eq, PartialEq)]
struct Change<V> {
    insert: Entries<V>,
    remove: Vec<Net>,
    /// Entries in the map before.
    present: usize,
}

impl<V: Copy + bytemuck::Pod> Change<V> {
    /// Writes the new entries; returns the old ones that are still to be removed.
    fn write<'a>(&'a self, map: &mut impl Table<V>, room: u32) -> Result<&'a [Net], Error> {
        // At most as many as there are: entries that replace one need no room.
        let lacking = (self.present + self.insert.len()).saturating_sub(room as usize);
        let (first, left) = self.remove.split_at(lacking.min(self.remove.len()));
        map.remove_all(first)?;
        map.insert_all(&self.insert)?;
        Ok(left)
    }
}

/// Compares sorted `wanted` entries with those in the map. Entries with a deadline that is still to
/// come are nobody's to remove.
fn diff<V: Value>(wanted: Entries<V>, present: &[(Net, V)], now_s: u32) -> Change<V> {
    let mut same = vec![false; wanted.len()];
    let mut remove = Vec::new();
    for (net, value) in present {
        match wanted.binary_search_by_key(net, |(net, _)| *net) {
            Ok(index) => same[index] = wanted[index].1 == *value,
            Err(_) if value.is_temporary(now_s) => {}
            Err(_) => remove.push(*net),
        }
    }
    let mut same = same.into_iter();
    let mut insert = wanted;
    insert.retain(|_| !same.next().unwrap_or(false));
    Change { insert, remove, present: present.len() }
}

const fn fits(map: &'static str, room: u32, entries: usize) -> Result<(), Error> {
    if entries > room as usize { Err(Error::TooMany { map, room, entries }) } else { Ok(()) }
}

fn optional<V>(result: Result<V, MapError>) -> Result<Option<V>, MapError> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(MapError::KeyNotFound) => Ok(None),
        Err(error) => Err(error),
    }
}

trait Value: aya::Pod + Eq {
    fn is_temporary(&self, now_s: u32) -> bool;
}

impl Value for BlockEntry {
    fn is_temporary(&self, now_s: u32) -> bool {
        // What was blocked by hand may have no deadline, and is no list's either.
        self.expires_s > now_s || (self.list >= names::LIST_MANUAL && self.expires_s == 0)
    }
}

impl Value for AllowEntry {
    fn is_temporary(&self, _now_s: u32) -> bool {
        false
    }
}

#[cfg(test)]
mod tests;

//! `OFFENDERS`, `SCANS`, `KNOWN`, `OWN`: what the shield saw of strangers, and what it is told about
//! them. It writes the first two, the agent the others.

use std::net::IpAddr;
use std::os::fd::AsFd as _;

use aya::maps::{Array, HashMap, IterableMap, Map, MapData, MapError, PerCpuArray};
use sluice_abi::flow::Addr;
use sluice_abi::limits::{
    ATTACKED_MAX, Attacked, COOKIE_PORTS, KNOWN_SETS, KnownSet, OWN_MAX, OWN_WORDS, Offender,
    Offenders, Scan, check, own_bit,
};
use sluice_abi::names;

use super::error::Error;
use super::totals::values;
use crate::sys::bpf;

/// Entries that go into one system call.
const BATCH: usize = 128;

/// What the shield knows of strangers.
pub struct Strangers {
    offenders: PerCpuArray<MapData, Offenders>,
    scans: Array<MapData, Scan>,
    known: Array<MapData, KnownSet>,
    own: HashMap<MapData, Addr, u32>,
    attacked: HashMap<MapData, Addr, Attacked>,
    /// What `known` holds.
    sets: Vec<KnownSet>,
}

impl Strangers {
    /// Takes the maps. Whom an earlier agent knew is forgotten: the hash has another key.
    pub fn new(
        offenders: Map,
        scans: Map,
        known: Map,
        own: Map,
        attacked: Map,
    ) -> Result<Self, Error> {
        let mut strangers = Self {
            offenders: PerCpuArray::try_from(offenders)
                .map_err(Error::map(names::OFFENDERS, "open"))?,
            scans: Array::try_from(scans).map_err(Error::map(names::SCANS, "open"))?,
            known: Array::try_from(known).map_err(Error::map(names::KNOWN, "open"))?,
            own: HashMap::try_from(own).map_err(Error::map(names::OWN, "open"))?,
            attacked: HashMap::try_from(attacked).map_err(Error::map(names::ATTACKED, "open"))?,
            sets: vec![KnownSet { tags: [u32::MAX; _] }; KNOWN_SETS as usize],
        };
        strangers.set_known(&vec![KnownSet::default(); KNOWN_SETS as usize])?;
        strangers.set_attacked(&[])?;
        Ok(strangers)
    }

    /// Who was over a rate, by CPU: an address can be there more than once. Entries that a program
    /// writes at the moment are left out.
    pub fn offenders(&self) -> Result<Vec<Offender>, Error> {
        let mut found = Vec::new();
        values(&self.offenders, 0, names::OFFENDERS, |all: Offenders| {
            let whole = |entry: &&Offender| entry.packets > 0 && entry.check == check(&entry.addr);
            found.extend(all.entries.iter().filter(whole).copied());
        })?;
        Ok(found)
    }

    /// Sources that tried `ports` ports at least.
    pub fn scans(&self, ports: u32) -> Result<Vec<Scan>, Error> {
        let fd = IterableMap::map(&self.scans).fd().as_fd();
        let entries = bpf::map_entries::<u32, Scan>(fd, BATCH)
            .map_err(|error| Error::map(names::SCANS, "read")(MapError::IoError(error)))?;
        let wanted =
            |scan: &Scan| scan.tag != 0 && scan.count >= ports && scan.check == check(&scan.addr);
        Ok(entries.into_iter().map(|(_, scan)| scan).filter(wanted).collect())
    }

    /// Makes `sets` what is known; only those that differ are written.
    pub fn set_known(&mut self, sets: &[KnownSet]) -> Result<(), Error> {
        for ((index, set), before) in (0..).zip(sets).zip(&mut self.sets) {
            if set != before {
                self.known.set(index, set, 0).map_err(Error::map(names::KNOWN, "write"))?;
                *before = *set;
            }
        }
        Ok(())
    }

    /// Makes these the destinations under attack, with the ports that are answered with cookies, as
    /// many as fit. An entry that stays as it is keeps its count.
    pub fn set_attacked(
        &mut self,
        attacked: &[(IpAddr, [u16; COOKIE_PORTS])],
    ) -> Result<(), Error> {
        let wanted: Vec<(Addr, [u16; COOKIE_PORTS])> = attacked
            .iter()
            .take(ATTACKED_MAX as usize)
            .map(|(addr, ports)| (Addr::from(*addr), *ports))
            .collect();
        let there: Vec<(Addr, Attacked)> = self.attacked.iter().filter_map(Result::ok).collect();
        for (addr, _) in &there {
            if !wanted.iter().any(|(wanted, _)| wanted == addr) {
                self.attacked.remove(addr).map_err(Error::map(names::ATTACKED, "remove from"))?;
            }
        }
        for (addr, ports) in wanted {
            let is_there =
                |(there, entry): &(Addr, Attacked)| *there == addr && entry.ports == ports;
            if !there.iter().any(is_there) {
                let entry = Attacked { syns: 0, ports };
                self.attacked
                    .insert(addr, entry, 0)
                    .map_err(Error::map(names::ATTACKED, "insert into"))?;
            }
        }
        Ok(())
    }

    /// SYN packets of strangers to each destination under attack, since its entry was written.
    pub fn syns(&self) -> Result<Vec<(IpAddr, u32)>, Error> {
        let read = |entry: Result<(Addr, Attacked), MapError>| {
            entry.map(|(addr, attacked)| (IpAddr::from(addr), attacked.syns))
        };
        let entries: Result<Vec<_>, MapError> = self.attacked.iter().map(read).collect();
        entries.map_err(Error::map(names::ATTACKED, "read"))
    }

    /// Makes `addresses` the router's, as many as fit; returns the filter for the settings. A new
    /// address is there before one goes.
    pub fn set_own(&mut self, addresses: &[IpAddr]) -> Result<[u32; OWN_WORDS], Error> {
        let mut filter = [0; OWN_WORDS];
        let addresses: Vec<Addr> =
            addresses.iter().take(OWN_MAX as usize / 2).map(|addr| Addr::from(*addr)).collect();
        for addr in &addresses {
            self.own.insert(addr, 0, 0).map_err(Error::map(names::OWN, "insert into"))?;
            let (word, bit) = own_bit(addr);
            if let Some(word) = filter.get_mut(word) {
                *word |= bit;
            }
        }
        let there: Vec<Addr> = self.own.keys().filter_map(Result::ok).collect();
        for addr in there.iter().filter(|addr| !addresses.contains(addr)) {
            self.own.remove(addr).map_err(Error::map(names::OWN, "remove from"))?;
        }
        Ok(filter)
    }
}

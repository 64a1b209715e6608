//! `TOTALS` and `LIST_HITS`: what the programs counted, summed over CPUs. Only programs write them.

use std::collections::BTreeMap;

use aya::maps::{Map, MapData, PerCpuArray};
use sluice_abi::counter::Counter;
use sluice_abi::names;
use sluice_abi::shield::ListHits;

use super::error::Error;

/// Packet counters of the interfaces.
pub struct Totals {
    map: PerCpuArray<MapData, u64>,
}

impl Totals {
    /// Takes the map.
    pub fn new(map: Map) -> Result<Self, Error> {
        let map = PerCpuArray::try_from(map).map_err(Error::map(names::TOTALS, "open"))?;
        Ok(Self { map })
    }

    /// One counter of the interface in `slot`.
    pub fn count(&self, slot: u32, counter: Counter) -> Result<u64, Error> {
        let values =
            self.map.get(&counter.index(slot), 0).map_err(Error::map(names::TOTALS, "read"))?;
        Ok(values.iter().fold(0, |sum: u64, value| sum.wrapping_add(*value)))
    }

    /// Every counter of the interface in `slot`, by its name.
    pub fn of(&self, slot: u32) -> Result<BTreeMap<&'static str, u64>, Error> {
        Counter::ALL
            .into_iter()
            .map(|counter| Ok((counter.name(), self.count(slot, counter)?)))
            .collect()
    }
}

/// What each list dropped.
pub struct Hits {
    map: PerCpuArray<MapData, ListHits>,
}

impl Hits {
    /// Takes the map.
    pub fn new(map: Map) -> Result<Self, Error> {
        let map = PerCpuArray::try_from(map).map_err(Error::map(names::LIST_HITS, "open"))?;
        Ok(Self { map })
    }

    /// What the list with this number dropped.
    pub fn of(&self, list: u32) -> Result<ListHits, Error> {
        let values = self.map.get(&list, 0).map_err(Error::map(names::LIST_HITS, "read"))?;
        Ok(values.iter().fold(ListHits::default(), |sum, hits| ListHits {
            packets: sum.packets.wrapping_add(hits.packets),
            bytes: sum.bytes.wrapping_add(hits.bytes),
            last_ns: sum.last_ns.max(hits.last_ns),
        }))
    }
}

//! `TOTALS` and `LIST_HITS`: what the programs counted, summed over CPUs. Only programs write them.

use std::collections::BTreeMap;
use std::os::fd::AsFd as _;

use aya::maps::{IterableMap, Map, MapData, MapError, PerCpuArray};
use sluice_abi::counter::Counter;
use sluice_abi::names;
use sluice_abi::shield::ListHits;

use super::error::Error;
use crate::sys::bpf;

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
        let mut sum = 0_u64;
        values(&self.map, counter.index(slot), names::TOTALS, |value: u64| {
            sum = sum.wrapping_add(value);
        })?;
        Ok(sum)
    }

    /// One counter of the interface in `slot`, by CPU.
    pub fn per_cpu(&self, slot: u32, counter: Counter) -> Result<Vec<u64>, Error> {
        let mut cpus = Vec::new();
        values(&self.map, counter.index(slot), names::TOTALS, |value: u64| cpus.push(value))?;
        Ok(cpus)
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
        let mut sum = ListHits::default();
        values(&self.map, list, names::LIST_HITS, |hits: ListHits| {
            sum.packets = sum.packets.wrapping_add(hits.packets);
            sum.bytes = sum.bytes.wrapping_add(hits.bytes);
            sum.last_ns = sum.last_ns.max(hits.last_ns);
        })?;
        Ok(sum)
    }
}

/// What each CPU has at `index`.
pub(super) fn values<V: bytemuck::Pod + aya::Pod>(
    map: &PerCpuArray<MapData, V>,
    index: u32,
    name: &'static str,
    each: impl FnMut(V),
) -> Result<(), Error> {
    let fd = IterableMap::map(map).fd().as_fd();
    bpf::per_cpu_values(fd, index, each)
        .map_err(|error| Error::map(name, "read")(MapError::IoError(error)))
}

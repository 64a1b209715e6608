//! `TOTALS` and `LIST_HITS`: what the programs counted, summed over CPUs. Only programs write them.

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
        Ok(sum(&self.by_cpu(slot, counter)?))
    }

    /// Every counter of the interface in `slot`.
    pub fn of(&self, slot: u32) -> Result<Counts, Error> {
        let read = |counter| self.by_cpu(slot, counter);
        Ok(Counts { by_cpu: Counter::ALL.into_iter().map(read).collect::<Result<_, _>>()? })
    }

    fn by_cpu(&self, slot: u32, counter: Counter) -> Result<Vec<u64>, Error> {
        let mut cpus = Vec::new();
        values(&self.map, counter.index(slot), names::TOTALS, |value: u64| cpus.push(value))?;
        Ok(cpus)
    }
}

/// What the programs counted on one interface, read once. Without any, every count is 0.
#[derive(Clone, Debug, Default)]
pub struct Counts {
    /// In the order of [`Counter::ALL`].
    by_cpu: Vec<Vec<u64>>,
}

impl Counts {
    /// Packets of all CPUs.
    #[must_use]
    pub fn count(&self, counter: Counter) -> u64 {
        sum(self.cpus(counter))
    }

    /// Packets of each CPU.
    #[must_use]
    pub fn cpus(&self, counter: Counter) -> &[u64] {
        self.by_cpu.get(counter as usize).map_or(&[], Vec::as_slice)
    }
}

fn sum(cpus: &[u64]) -> u64 {
    cpus.iter().fold(0, |sum, cpu| sum.wrapping_add(*cpu))
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

//! `TOTALS` and `LIST_HITS`: what the programs counted, summed over CPUs. Only programs write them.

use std::os::fd::AsFd as _;

use aya::maps::{IterableMap, Map, MapData, MapError, PerCpuArray};
use sluice_abi::counter::{Counter, Tally};
use sluice_abi::flow::Addr;
use sluice_abi::names;
use sluice_abi::shield::ListHits;

use super::error::Error;
use crate::sys::bpf;

/// Packet counters of the interfaces.
pub struct Totals {
    map: PerCpuArray<MapData, Tally>,
}

impl Totals {
    /// Takes the map.
    pub fn new(map: Map) -> Result<Self, Error> {
        let map = PerCpuArray::try_from(map).map_err(Error::map(names::TOTALS, "open"))?;
        Ok(Self { map })
    }

    /// One counter of the interface in `slot`.
    pub fn count(&self, slot: u32, counter: Counter) -> Result<u64, Error> {
        Ok(self.of(slot)?.count(counter))
    }

    /// Every counter of the interface in `slot`.
    pub fn of(&self, slot: u32) -> Result<Counts, Error> {
        let mut by_cpu = Vec::new();
        values(&self.map, slot, names::TOTALS, |Tally(tally)| by_cpu.push(tally))?;
        Ok(Counts { by_cpu })
    }
}

/// What the programs counted on one interface, read once. Without any, every count is 0.
#[derive(Clone, Debug, Default)]
pub struct Counts {
    by_cpu: Vec<[u64; Counter::PLACES]>,
}

impl Counts {
    /// Packets of all CPUs.
    #[must_use]
    pub fn count(&self, counter: Counter) -> u64 {
        self.cpus(counter).fold(0, u64::wrapping_add)
    }

    /// Packets of each CPU.
    pub fn cpus(&self, counter: Counter) -> impl Iterator<Item = u64> {
        self.by_cpu.iter().map(move |tally| tally[counter as usize])
    }
}

/// How often the ends are read until they are the same twice: they change once a tick.
const TRIES: u8 = 3;

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

    /// What the list with this number dropped, on all processors. The ends and the interface are those
    /// of a packet of the last moment.
    pub fn of(&self, list: u32) -> Result<ListHits, Error> {
        let mut before = self.read(list)?;
        // A program may write the ends while they are read: what is the same twice is whole.
        for _ in 0..TRIES {
            let now = self.read(list)?;
            if (now.src, now.dst, now.slot) == (before.src, before.dst, before.slot) {
                return Ok(now);
            }
            before = now;
        }
        Ok(ListHits { src: Addr::default(), dst: Addr::default(), ..before })
    }

    fn read(&self, list: u32) -> Result<ListHits, Error> {
        let mut sum = ListHits::default();
        values(&self.map, list, names::LIST_HITS, |hits: ListHits| add(&mut sum, &hits))?;
        Ok(sum)
    }
}

/// Adds what another processor dropped.
const fn add(sum: &mut ListHits, hits: &ListHits) {
    sum.packets = sum.packets.wrapping_add(hits.packets);
    sum.bytes = sum.bytes.wrapping_add(hits.bytes);
    if hits.first_ns != 0 && (sum.first_ns == 0 || hits.first_ns < sum.first_ns) {
        sum.first_ns = hits.first_ns;
    }
    if hits.last_ns > sum.last_ns {
        sum.last_ns = hits.last_ns;
        (sum.src, sum.dst, sum.slot) = (hits.src, hits.dst, hits.slot);
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

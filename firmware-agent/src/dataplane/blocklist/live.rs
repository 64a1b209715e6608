//! `LIVE`: the filter in front of the three maps. It has a bit before an entry is inserted, and loses
//! it after the entry is gone: a packet never finds a filter that knows less than the maps.

use aya::maps::{Array, Map, MapData};
use sluice_abi::live::Live;
use sluice_abi::names;

use crate::config::Net;
use crate::dataplane::error::Error;

/// Entries that may be gone from the maps and not from the filter: they cost time, nothing else, and
/// to make the filter anew is to read all that are there.
const STALE_MAX: usize = 256;

/// The one value of `LIVE`.
pub(super) struct LiveMap {
    map: Array<MapData, Live>,
    /// What is there.
    now: Box<Live>,
    stale: usize,
}

impl LiveMap {
    /// Takes the map.
    pub(super) fn new(map: Map) -> Result<Self, Error> {
        let map = Array::try_from(map).map_err(Error::map(names::LIVE, "open"))?;
        let now = Box::new(map.get(&0, 0).map_err(Error::map(names::LIVE, "read"))?);
        Ok(Self { map, now, stale: 0 })
    }

    /// Lets the filter know entries that are going to be inserted.
    pub(super) fn add(&mut self, change: impl FnOnce(&mut Live)) -> Result<(), Error> {
        let mut wanted = self.now.clone();
        change(&mut wanted);
        self.write(wanted)
    }

    /// Makes a filter of all entries that are left the one that counts.
    pub(super) fn replace(&mut self, wanted: Box<Live>) -> Result<(), Error> {
        self.write(wanted)?;
        self.stale = 0;
        Ok(())
    }

    /// Notes that an entry was removed. Whether the filter should be made anew.
    pub(super) const fn removed(&mut self) -> bool {
        self.stale += 1;
        self.stale > STALE_MAX
    }

    fn write(&mut self, wanted: Box<Live>) -> Result<(), Error> {
        if wanted != self.now {
            self.map.set(0, &*wanted, 0).map_err(Error::map(names::LIVE, "write"))?;
            self.now = wanted;
        }
        Ok(())
    }
}

/// Adds what is listed, an address or a prefix.
pub(super) fn add_blocked(live: &mut Live, net: &Net) {
    if net.is_host() {
        live.add_host(&net.addr());
    } else {
        live.add_net(&net.addr(), u32::from(net.prefix()));
    }
}

/// Adds what is allowed.
pub(super) fn add_allowed(live: &mut Live, net: &Net) {
    live.add_allowed(&net.addr(), u32::from(net.prefix()));
}

//! `SETTINGS`: what running programs are told. Only the agent writes it.

use aya::maps::{Array, Map, MapData};
use sluice_abi::settings::Settings;
use sluice_abi::{ABI_VERSION, names};

use super::error::Error;

/// The one entry of `SETTINGS`.
pub struct SettingsMap {
    map: Array<MapData, Settings>,
    current: Settings,
}

impl SettingsMap {
    /// Takes the map as it is; its generation goes on from there.
    pub fn new(map: Map) -> Result<Self, Error> {
        let map = Array::try_from(map).map_err(Error::map(names::SETTINGS, "open"))?;
        let current = map.get(&0, 0).map_err(Error::map(names::SETTINGS, "read"))?;
        Ok(Self { map, current })
    }

    /// What the programs were told last.
    #[must_use]
    pub const fn current(&self) -> &Settings {
        &self.current
    }

    /// Tells the programs something new. ABI version, generation and the bits that say which lists
    /// have entries are not taken from `settings`.
    pub fn set(&mut self, mut settings: Settings) -> Result<(), Error> {
        settings.flags = settings.flags & !Self::LISTS | self.current.flags & Self::LISTS;
        self.write(settings)
    }

    /// Tells the programs which lists are worth a lookup.
    pub fn set_lists(&mut self, hosts: bool, nets: bool) -> Result<(), Error> {
        let mut settings = self.current;
        settings.flags &= !(Settings::BLOCK_HOSTS | Settings::BLOCK_NETS);
        if hosts {
            settings.flags |= Settings::BLOCK_HOSTS;
        }
        if nets {
            settings.flags |= Settings::BLOCK_NETS;
        }
        if settings == self.current { Ok(()) } else { self.write(settings) }
    }

    /// Tells the programs whether the image of the lists has IPv4 addresses, and IPv6 prefixes.
    pub fn set_bulk(&mut self, (v4, v6): (bool, bool)) -> Result<(), Error> {
        let mut settings = self.current;
        settings.flags &= !(Settings::BULK_V4 | Settings::BULK_V6);
        if v4 {
            settings.flags |= Settings::BULK_V4;
        }
        if v6 {
            settings.flags |= Settings::BULK_V6;
        }
        if settings == self.current { Ok(()) } else { self.write(settings) }
    }

    /// The kill switch.
    pub fn enable(&mut self, on: bool) -> Result<(), Error> {
        let mut settings = self.current;
        settings.flags &= !Settings::ENABLED;
        if on {
            settings.flags |= Settings::ENABLED;
        }
        if settings == self.current { Ok(()) } else { self.write(settings) }
    }

    const LISTS: u32 =
        Settings::BLOCK_HOSTS | Settings::BLOCK_NETS | Settings::BULK_V4 | Settings::BULK_V6;

    fn write(&mut self, mut settings: Settings) -> Result<(), Error> {
        settings.abi = ABI_VERSION;
        settings.generation = self.current.generation.wrapping_add(1);
        self.map.set(0, settings, 0).map_err(Error::map(names::SETTINGS, "write"))?;
        self.current = settings;
        Ok(())
    }
}

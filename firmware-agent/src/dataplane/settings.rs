//! `SETTINGS`: what running programs are told. Only the agent writes it.

use std::time::Duration;

use aya::maps::{Array, Map, MapData};
use sluice_abi::limits::{Limits, OWN_WORDS};
use sluice_abi::settings::Settings;
use sluice_abi::{ABI_VERSION, names};

use super::error::Error;
use super::messages::Messages;
use crate::sys::clock;

/// The one entry of `SETTINGS`.
pub struct SettingsMap {
    map: Array<MapData, Settings>,
    current: Settings,
    /// Which checks are wanted; some are not in force while [`Self::withheld`] says so.
    wanted: u32,
    withheld: u32,
    /// Checks that are in force beside those that are wanted.
    added: u32,
    /// Maximum segment size and window scale of answers with cookies.
    offer: (u32, u32),
    /// Whether programs copy DNS messages where those are wanted.
    copies_dns: bool,
    /// What an earlier agent left.
    found: Settings,
}

impl SettingsMap {
    /// Takes the map as it is; its generation goes on from there.
    pub fn new(map: Map) -> Result<Self, Error> {
        let map = Array::try_from(map).map_err(Error::map(names::SETTINGS, "open"))?;
        let current = map.get(&0, 0).map_err(Error::map(names::SETTINGS, "read"))?;
        Ok(Self {
            map,
            current,
            wanted: current.limits.checks,
            withheld: 0,
            added: 0,
            offer: (0, 0),
            copies_dns: true,
            found: current,
        })
    }

    /// What the programs were told last.
    #[must_use]
    pub const fn current(&self) -> &Settings {
        &self.current
    }

    /// Tells the programs something new. ABI version, generation, the bits that say which lists
    /// have entries and who copies DNS messages, own addresses and the kernel's clock are not taken from `settings`.
    pub fn set(&mut self, mut settings: Settings) -> Result<(), Error> {
        settings.flags = settings.flags & !Self::LISTS | self.current.flags & Self::LISTS;
        settings.flags = self.with_copies(settings.flags);
        settings.limits.own = self.current.limits.own;
        self.wanted = settings.limits.checks;
        self.write(settings)
    }

    /// Whether programs copy DNS messages where those are wanted, or somebody else does.
    pub fn copy_dns(&mut self, yes: bool) -> Result<(), Error> {
        self.copies_dns = yes;
        let settings = Settings { flags: self.with_copies(self.current.flags), ..self.current };
        if settings == self.current { Ok(()) } else { self.write(settings) }
    }

    const fn with_copies(&self, flags: u32) -> u32 {
        let copies = self.copies_dns && Messages::OBSTACLE.is_none() && flags & Settings::DNS != 0;
        flags & !Settings::COPY_DNS | if copies { Settings::COPY_DNS } else { 0 }
    }

    /// Tells the programs which addresses may be the router's, and which checks cannot
    /// be in force with the addresses that it has.
    pub fn set_own(&mut self, own: [u32; OWN_WORDS], withheld: u32) -> Result<(), Error> {
        self.withheld = withheld;
        let mut settings = self.current;
        settings.limits.own = own;
        if self.completed(settings) == self.current { Ok(()) } else { self.write(settings) }
    }

    /// Tells the programs whether `ATTACKED` is worth a lookup, and what answers with cookies say.
    pub fn set_attacked(&mut self, attacked: bool, offer: (u32, u32)) -> Result<(), Error> {
        self.offer = offer;
        self.added = if attacked { Limits::ATTACKED } else { 0 };
        let settings = self.current;
        if self.completed(settings) == settings { Ok(()) } else { self.write(settings) }
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

    /// Tells the programs that the agent is alive.
    pub fn beat(&mut self) -> Result<(), Error> {
        self.current.heartbeat = Settings::beat(clock::monotonic_ns());
        self.map.set(0, self.current, 0).map_err(Error::map(names::SETTINGS, "write"))
    }

    /// How long the agent before this one was gone, as the programs saw it; `None` when there was
    /// none that they watched, or it ended as it should.
    #[must_use]
    pub fn absence(&self, now_ns: u64) -> Option<Duration> {
        let found = &self.found;
        let was_watched = found.is_enabled() && found.flags & Settings::WATCHED != 0;
        let beats = Settings::beat(now_ns).wrapping_sub(found.heartbeat);
        (was_watched && found.is_unattended(now_ns))
            .then(|| Duration::from_nanos(u64::from(beats) << 20))
    }

    const LISTS: u32 =
        Settings::BLOCK_HOSTS | Settings::BLOCK_NETS | Settings::BULK_V4 | Settings::BULK_V6;

    fn completed(&self, mut settings: Settings) -> Settings {
        settings.limits.checks = self.wanted & !self.withheld | self.added;
        (settings.limits.answer_mss, settings.limits.answer_scale) = self.offer;
        settings.limits = settings.limits.completed(clock::tick());
        settings
    }

    fn write(&mut self, settings: Settings) -> Result<(), Error> {
        let mut settings = self.completed(settings);
        settings.abi = ABI_VERSION;
        settings.heartbeat = Settings::beat(clock::monotonic_ns());
        settings.generation = self.current.generation.wrapping_add(1);
        self.map.set(0, settings, 0).map_err(Error::map(names::SETTINGS, "write"))?;
        self.current = settings;
        Ok(())
    }
}

//! `PROFILES`: what flows of each profile look like when they leave. Only the agent writes it.

use aya::maps::{Array, Map, MapData};
use sluice_abi::names;
use sluice_abi::profile::Profile;

use super::error::Error;
use super::plan::Profiles;

/// The profiles as the programs see them.
pub struct ProfileMap(Array<MapData, Profile>);

impl ProfileMap {
    /// Takes the map.
    pub fn new(map: Map) -> Result<Self, Error> {
        Array::try_from(map).map(Self).map_err(Error::map(names::PROFILES, "open"))
    }

    /// Puts these into force.
    pub fn set(&mut self, profiles: &Profiles) -> Result<(), Error> {
        for (number, profile) in (0..).zip(profiles) {
            self.0.set(number, profile, 0).map_err(Error::map(names::PROFILES, "write"))?;
        }
        Ok(())
    }
}

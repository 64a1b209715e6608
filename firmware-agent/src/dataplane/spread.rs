//! Which shields hand the packets that pass to other processors, and to which.
//!
//! A shield is attached as one that passes packets where they are. Where spreading is of use and
//! nothing speaks against it, another copy takes its place behind the same link; the device is never
//! without.

mod choose;
mod cpus;

use std::io;
use std::os::fd::AsFd as _;

use aya::maps::xdp::XdpMapError;
use aya::maps::{Array, CpuMap, MapData, MapError};
use sluice_abi::attach::Attachment;
use sluice_abi::names;

use self::choose::{Driver, Situation, assign, obstacle};
use super::Dataplane;
use super::error::Error;
use super::feature::Hook;
use super::ladder::attachment;
use super::object::open;
use super::pins::{Mark, Pins};
use super::plan::SpreadWish;
use super::programs::load_shield;
use super::topology::{Place, Places, Target};
use crate::sys::rtnetlink::{self, Device};
use crate::sys::{bpf, ethtool, genetlink};

/// Frames that wait for a processor at most. Behind that the kernel drops them: it is a few
/// milliseconds of what such a router forwards, and as much as packet steering lets wait.
const QUEUE: u32 = 1024;
/// Takes the entry out of the map.
const NO_QUEUE: u32 = 0;

/// How packets of an interface are spread.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Spreading {
    /// Name of the interface in the configuration.
    pub interface: String,
    /// Processors that take packets of it; 0 where its packets stay where they arrive.
    pub cpus: usize,
    /// Why it is not done, by device.
    pub reasons: Vec<String>,
}

impl Spreading {
    /// Whether packets of all its devices are spread.
    #[must_use]
    pub const fn is_everywhere(&self) -> bool {
        self.cpus > 0 && self.reasons.is_empty()
    }
}

/// The maps, and who uses them.
#[derive(Default)]
pub(super) struct Spread {
    /// `None` when the shield cannot run.
    maps: Option<Maps>,
    /// Device and id of the copies that spread.
    running: Vec<(u32, u32)>,
    shown: Vec<Spreading>,
    /// Whether the maps are known to hold nothing.
    is_clear: bool,
}

struct Maps {
    cpus: CpuMap<MapData>,
    slots: Array<MapData, u32>,
}

impl Spread {
    /// With the maps, if there is a shield to use them, as an earlier agent may have left them.
    pub(super) fn open(pins: &Pins, has_shield: bool) -> Result<Self, Error> {
        if !has_shield {
            return Ok(Self::default());
        }
        let (cpus, slots) = (open(pins, names::CPUS)?, open(pins, names::SPREAD)?);
        let cpus = CpuMap::try_from(cpus).map_err(Error::map(names::CPUS, "open"))?;
        let slots = Array::try_from(slots).map_err(Error::map(names::SPREAD, "open"))?;
        Ok(Self { maps: Some(Maps { cpus, slots }), ..Self::default() })
    }
}

impl Maps {
    /// Shares the flows out to these processors, none of them twice; none of them at all is the end
    /// of it. A flow changes its processor only when that one has gone, or another one has come.
    fn set(&mut self, online: &[u32]) -> Result<(), Error> {
        for &cpu in online {
            // One that is replaced would run beside the new one for a moment.
            if self.cpus.get(cpu, 0).is_err() {
                self.set_queue(cpu, QUEUE)?;
            }
        }
        let slots = 0..names::SPREAD_SLOTS;
        let read = |slot| self.slots.get(&slot, 0).map_err(Error::map(names::SPREAD, "read"));
        let before = slots.clone().map(read).collect::<Result<Vec<_>, _>>()?;
        let after = assign(&before, online);
        for (slot, (before, after)) in slots.zip(before.into_iter().zip(after)) {
            if before != after {
                self.slots.set(slot, after, 0).map_err(Error::map(names::SPREAD, "write"))?;
            }
        }
        // What waits there still passes: the kernel empties a queue before it ends.
        for cpu in (0..self.cpus.len()).filter(|cpu| !online.contains(cpu)) {
            if self.cpus.get(cpu, 0).is_ok() {
                self.set_queue(cpu, NO_QUEUE)?;
            }
        }
        Ok(())
    }

    fn set_queue(&mut self, cpu: u32, frames: u32) -> Result<(), Error> {
        self.cpus.set(cpu, frames, None, 0).map_err(|error| {
            let source = match error {
                XdpMapError::MapError(source) => source,
                other @ XdpMapError::ChainedProgramNotSupported => {
                    MapError::IoError(io::Error::other(other))
                }
            };
            Error::map(names::CPUS, "write")(source)
        })
    }
}

/// A device that a shield is on, and what is to become of it.
struct Candidate {
    interface: String,
    ifindex: u32,
    attachment: Attachment,
    obstacle: Option<String>,
}

impl Dataplane {
    /// How packets are spread, for each interface with a shield where that is wanted.
    #[must_use]
    pub fn spreading(&self) -> &[Spreading] {
        &self.spread.shown
    }

    /// Brings what should be spread and what is spread together. Called when everything is attached.
    pub(super) fn spread_out(&mut self, places: &[Places]) -> Result<(), Error> {
        let is_wanted = self.plan.spread != SpreadWish::Off;
        if !is_wanted && self.spread.is_clear {
            return Ok(());
        }
        let online = cpus::online();
        let candidates = self.candidates(places, online.len());
        let wants_any = candidates.iter().any(|candidate| candidate.obstacle.is_none());
        let Some(maps) = &mut self.spread.maps else { return Ok(()) };
        if wants_any {
            // Before the first packet comes for them.
            self.spread.is_clear = false;
            maps.set(&online)?;
        }
        let mut shown: Vec<Spreading> = Vec::new();
        let mut running = Vec::new();
        for candidate in candidates {
            let done = self.exchange(&candidate);
            let name = candidate.interface;
            if shown.last().is_none_or(|last| last.interface != name) {
                shown.push(Spreading { interface: name, ..Spreading::default() });
            }
            let Some(last) = shown.last_mut() else { continue };
            match done {
                Ok(Some(id)) => {
                    running.push((candidate.ifindex, id));
                    last.cpus = online.len();
                }
                Ok(None) => last.reasons.extend(candidate.obstacle),
                Err(error) => last.reasons.push(error.chain()),
            }
        }
        if !is_wanted {
            shown.clear();
        }
        (self.spread.running, self.spread.shown) = (running, shown);
        if let (true, Some(maps)) = (self.spread.running.is_empty(), &mut self.spread.maps) {
            // Also what an agent before this one left: its copies have made way for ours by now.
            maps.set(&[])?;
        }
        self.spread.is_clear = self.spread.running.is_empty();
        Ok(())
    }

    /// Devices that a shield is on.
    fn candidates(&self, places: &[Places], cpus: usize) -> Vec<Candidate> {
        // Read again: which hook a program got is known only now.
        let devices = rtnetlink::devices().unwrap_or_default();
        let mut candidates = Vec::new();
        for (interface, places) in self.plan.interfaces.iter().zip(places) {
            let held = self.held.iter().find(|held| {
                held.state.interface == interface.name && held.state.hook == Hook::Xdp
            });
            let (Some(held), Place::At(targets)) = (held, &places.xdp) else { continue };
            let is_held = |ifindex| held.marks.contains(&(Mark::Xdp, ifindex)) && !held.is_stale;
            for target in targets.iter().filter(|target| is_held(target.device.ifindex)) {
                let ifindex = target.device.ifindex;
                let Some(device) = devices.iter().find(|device| device.ifindex == ifindex) else {
                    continue;
                };
                let obstacle = match self.plan.spread {
                    SpreadWish::Off => Some("not wanted".to_owned()),
                    wish => obstacle(&situation(target, device, cpus), wish)
                        .map(|reason| format!("{}: {reason}", device.name)),
                };
                let attachment = attachment(interface, target);
                let interface = interface.name.clone();
                candidates.push(Candidate { interface, ifindex, attachment, obstacle });
            }
        }
        candidates
    }

    /// Puts the right copy of the shield on a device, if another one is there. The id of the copy
    /// that spreads, if it is that one.
    fn exchange(&mut self, candidate: &Candidate) -> Result<Option<u32>, Error> {
        let ifindex = candidate.ifindex;
        let path = self.links.pins().link(Mark::Xdp, ifindex);
        let failed = |operation| {
            let path = path.clone();
            move |source| Error::Pin { path, operation, source }
        };
        let link = self.links.get(Mark::Xdp, ifindex).map_err(failed("open"))?;
        let now = bpf::link_info(link.as_fd()).map_err(failed("look at"))?.prog_id;
        // Whatever has been put there since is one that does not spread.
        let spreads = self.spread.running.contains(&(ifindex, now));
        let wanted = candidate.obstacle.is_none();
        if spreads == wanted {
            return Ok(wanted.then_some(now));
        }
        let attachment =
            if wanted { candidate.attachment.spreading() } else { candidate.attachment };
        let prog = load_shield(&mut self.loader, self.links.pins(), self.objects, attachment)?;
        bpf::link_update(link.as_fd(), prog.as_fd()).map_err(failed("replace"))?;
        let id = bpf::prog_info(prog.as_fd()).map_err(failed("look at"))?.id;
        Ok(wanted.then_some(id))
    }
}

/// What the kernel says about a device with a shield. What it does not say is no obstacle, or one that
/// says so.
fn situation(target: &Target, device: &Device, cpus: usize) -> Situation {
    let driver = (device.xdp.native != 0).then(|| Driver {
        is_veth: device.kind == "veth",
        strips_tags: ethtool::strips_tags(&device.name).unwrap_or_default(),
        redirects: genetlink::redirects(device.ifindex).ok().flatten(),
    });
    Situation {
        link: target.link,
        driver,
        cpus,
        queues: ethtool::rx_queues(&device.name).ok().flatten(),
        is_steered: cpus::steered(device),
    }
}

//! The programs in the kernel and their maps.
//!
//! Owns loading, attaching, pinning and every map. Decides nothing about flows: it writes what it
//! is told and reports what the kernel counted.

mod attach;
pub mod blocklist;
mod device;
pub mod error;
pub mod feature;
pub mod flows;
pub mod layout;
mod links;
pub mod object;
pub mod offenders;
pub mod pins;
pub mod plan;
pub mod profiles;
mod programs;
pub mod settings;
pub mod table;
pub mod totals;
pub mod verify;

use std::collections::HashMap;
use std::net::IpAddr;
use std::os::fd::AsFd as _;
use std::path::Path;

use sluice_abi::attach::{Attachment, Link, Role};
use sluice_abi::names;

pub use self::blocklist::{Blocklist, Synced};
pub use self::error::Error;
pub use self::feature::{FeatureState, Hook, State};
pub use self::flows::{Adopted, FlowMaps, Flows};
pub use self::object::Objects;
pub use self::offenders::Strangers;
pub use self::plan::{DataplanePlan, InterfacePlan, Sizes, TcWish, XdpWish};
pub use self::settings::SettingsMap;
pub use self::totals::{Hits, Totals};

use self::attach::TcPrograms;
use self::blocklist::Room;
use self::device::Target;
use self::feature::Held;
use self::links::Links;
use self::object::{Loader, open};
use self::pins::{Mark, Pins};
use self::profiles::ProfileMap;
use self::programs::Programs;
use crate::config::{Net, OnCrash};
use crate::kernel::Report;
use crate::kernel::choose::{TcRung, XdpRung};
use crate::sys::clock;
use crate::sys::rtnetlink::{self, Device};

/// The programs in the kernel and their maps.
///
/// Dropping it is what a crash is: links that are pinned stay in force, others end. [`Dataplane::stop`]
/// takes all of it away, or none.
pub struct Dataplane {
    plan: DataplanePlan,
    objects: Objects,
    links: Links,
    loader: Loader,
    /// Loaded, and not attached yet.
    programs: Programs,
    held: Vec<Held>,
    /// Devices where the driver does not run the shield, and how that showed.
    stepped_down: HashMap<u32, String>,
    /// Why the shield cannot run anywhere.
    no_shield: Option<String>,
    /// Why the fast path cannot run anywhere.
    no_fast_path: Option<String>,
    /// What the programs are told.
    pub settings: SettingsMap,
    /// Packet counters.
    pub totals: Totals,
    /// Decided flows, unless the fast path cannot run.
    pub flows: Option<Flows>,
    /// The profiles, unless the fast path cannot run.
    profiles: Option<ProfileMap>,
    /// The lists, unless the shield cannot run.
    pub blocklist: Option<Blocklist>,
    /// What the lists dropped, unless the shield cannot run.
    pub hits: Option<Hits>,
    /// What the shield knows of strangers, unless it cannot run.
    pub strangers: Option<Strangers>,
}

impl Dataplane {
    /// Loads the programs, attaches them to the interfaces that exist, and says how each feature
    /// fares: [`Dataplane::load`] and [`Dataplane::reattach`] in one, for who has no lists.
    pub fn start(
        plan: &DataplanePlan,
        objects: Objects,
        report: &Report,
    ) -> Result<(Self, Vec<FeatureState>), Error> {
        let mut dataplane = Self::load(plan, objects, report)?;
        let features = dataplane.reattach()?;
        Ok((dataplane, features))
    }

    /// Loads the programs and puts the settings in force, but attaches nothing yet, so that lists
    /// can be written before the first packet is seen. What an earlier agent attached goes on.
    ///
    /// An error means that nothing new was left behind.
    pub fn load(plan: &DataplanePlan, objects: Objects, report: &Report) -> Result<Self, Error> {
        if let Some(obstacle) = report.obstacle() {
            return Err(Error::Kernel(obstacle));
        }
        let pins = Pins::open(&plan.pin_dir)?;
        let mut loader = Loader::new(plan.sizes);
        // Whether the verifier takes the programs, and the maps, do not depend on which devices
        // exist at the moment. What is loaded here is what the first interface most likely needs.
        let likely = plan
            .interfaces
            .first()
            .map_or(Attachment::new(0, Role::Lan, Link::Ethernet), |interface| {
                Attachment::new(interface.slot, interface.role, Link::Ethernet)
            });
        let mut programs = Programs::default();
        let shield = programs.shield(&mut loader, &pins, objects, likely).map(drop);
        let fast_path = programs.fast_path(&mut loader, &pins, objects, likely).map(drop);
        let (shield, fast_path) = match (shield, fast_path) {
            (Err(error), Err(_)) => {
                // What an earlier agent attached goes on; what this one made goes.
                if pins.marks()?.is_empty() {
                    pins.clear()?;
                }
                return Err(error);
            }
            both => both,
        };
        let failed = |result: &Result<(), Error>| result.as_ref().err().map(Error::chain);
        let mut settings = SettingsMap::new(open(&pins, names::SETTINGS)?)?;
        let totals = Totals::new(open(&pins, names::TOTALS)?)?;
        let (flows, profiles) = match &fast_path {
            Ok(()) => {
                let maps = FlowMaps {
                    flows: open(&pins, names::FLOWS)?,
                    held: open(&pins, names::HELD)?,
                    limits: open(&pins, names::LIMITS)?,
                    counts: open(&pins, names::FLOW_COUNTS)?,
                };
                let mut profiles = ProfileMap::new(open(&pins, names::PROFILES)?)?;
                profiles.set(&plan.profiles)?;
                (Some(Flows::new(maps)?), Some(profiles))
            }
            Err(_) => (None, None),
        };
        let (blocklist, hits) = match &shield {
            Ok(()) => {
                let sizes = loader.sizes();
                let room = Room {
                    hosts: sizes.block_hosts,
                    nets: sizes.block_nets,
                    allow: sizes.allow_nets,
                };
                let list = Blocklist::new(
                    open(&pins, names::BLOCK_HOSTS)?,
                    open(&pins, names::BLOCK_NETS)?,
                    open(&pins, names::ALLOW_NETS)?,
                    room,
                )?;
                (Some(list), Some(Hits::new(open(&pins, names::LIST_HITS)?)?))
            }
            Err(_) => (None, None),
        };
        let strangers = match &shield {
            Ok(()) => Some(Strangers::new(
                open(&pins, names::OFFENDERS)?,
                open(&pins, names::SCANS)?,
                open(&pins, names::KNOWN)?,
                open(&pins, names::OWN)?,
            )?),
            Err(_) => None,
        };
        // Before anything is attached: the first packet meets settings and lists in force.
        if let Some(list) = &blocklist {
            let (hosts, nets) = list.has_entries()?;
            settings.set_lists(hosts, nets)?;
        }
        settings.set(plan.settings)?;
        Ok(Self {
            plan: plan.clone(),
            objects,
            links: Links::new(pins, plan.on_crash),
            loader,
            programs,
            held: Vec::new(),
            stepped_down: HashMap::new(),
            no_shield: failed(&shield),
            no_fast_path: failed(&fast_path),
            settings,
            totals,
            flows,
            profiles,
            blocklist,
            hits,
            strangers,
        })
    }

    /// Attaches to interfaces that have appeared, renews what has been taken away, and removes what
    /// is on devices that no interface names any more. Whatever works already is left alone.
    pub fn reattach(&mut self) -> Result<Vec<FeatureState>, Error> {
        let devices = rtnetlink::devices().map_err(|source| Error::Devices(Box::new(source)))?;
        let mut programs = std::mem::take(&mut self.programs);
        let mut held = Vec::new();
        for interface in self.plan.interfaces.clone() {
            let device = devices.iter().find(|device| device.name == interface.device);
            held.push(match self.still_held(&interface, Hook::Xdp, device, &devices) {
                Some(before) => before,
                None => self.attach_shield(&interface, device, &devices, &mut programs),
            });
            held.push(match self.still_held(&interface, Hook::Tc, device, &devices) {
                Some(before) => before,
                None => self.attach_fast_path(&interface, device, &mut programs),
            });
        }
        let keeps = |mark| held.iter().any(|held| held.marks.contains(&mark));
        attach::detach_others(&mut self.links, |mark, ifindex| keeps((mark, ifindex)))?;
        self.held = held;
        Ok(self.features())
    }

    /// Puts another plan into force: settings at once, then the interfaces that differ. The pin
    /// directory and the sizes of maps stay as they are: for others, start anew.
    pub fn apply(&mut self, plan: &DataplanePlan) -> Result<Vec<FeatureState>, Error> {
        self.settings.set(plan.settings)?;
        if let Some(profiles) = &mut self.profiles {
            profiles.set(&plan.profiles)?;
        }
        self.held.retain(|held| {
            let of = |plan: &DataplanePlan| {
                plan.interfaces.iter().find(|plan| plan.name == held.state.interface).cloned()
            };
            of(plan) == of(&self.plan)
        });
        if plan.on_crash != self.plan.on_crash {
            self.links.set_on_crash(plan.on_crash)?;
        }
        let DataplanePlan { pin_dir, sizes, .. } = &self.plan;
        self.plan = DataplanePlan { pin_dir: pin_dir.clone(), sizes: *sizes, ..plan.clone() };
        self.reattach()
    }

    /// How each feature fares.
    #[must_use]
    pub fn features(&self) -> Vec<FeatureState> {
        let detaches = self.links.on_crash() == OnCrash::Detach;
        self.held.iter().map(|held| held.shown(detaches)).collect()
    }

    /// What was not as planned when objects were loaded: smaller maps, maps made anew.
    #[must_use]
    pub fn notes(&self) -> &[String] {
        self.loader.notes()
    }

    /// Sizes of the maps: the plan's, or less when memory was short.
    #[must_use]
    pub const fn sizes(&self) -> &Sizes {
        self.loader.sizes()
    }

    /// Frames that the devices behind an interface's shield received.
    #[must_use]
    pub fn received(&self, interface: &str) -> u64 {
        let Some(plan) = self.plan.interfaces.iter().find(|plan| plan.name == interface) else {
            return 0;
        };
        let devices = rtnetlink::devices().unwrap_or_default();
        let device = devices.iter().find(|device| device.name == plan.device);
        device
            .and_then(|device| device::entrances(device, &devices).ok())
            .unwrap_or_default()
            .iter()
            .fold(0, |sum, target| sum.saturating_add(target.device.rx_packets))
    }

    /// Notes that the shield of an interface was seen to read packets.
    pub fn set_verified(&mut self, interface: &str) {
        for held in &mut self.held {
            if held.state.interface == interface && held.state.hook == Hook::Xdp {
                held.state.verified = true;
            }
        }
    }

    /// Moves the shield of an interface from the driver into the network stack, because the driver
    /// does not run it as `reason` says.
    pub fn step_down(&mut self, interface: &str, reason: &str) -> Result<(), Error> {
        let devices = rtnetlink::devices().unwrap_or_default();
        let plans = self.plan.interfaces.iter().filter(|plan| plan.name == interface);
        for plan in plans {
            let device = devices.iter().find(|device| device.name == plan.device);
            for target in device
                .and_then(|device| device::entrances(device, &devices).ok())
                .unwrap_or_default()
            {
                self.stepped_down.insert(target.device.ifindex, reason.to_owned());
            }
        }
        self.held.retain(|held| held.state.interface != interface || held.state.hook != Hook::Xdp);
        self.reattach().map(drop)
    }

    /// Replaces what is blocked, and tells the programs which lists are worth a lookup. Nothing
    /// changes when the lists do not fit.
    pub fn set_lists(&mut self, lists: &[(u32, &[Net])]) -> Result<Synced, Error> {
        let Some(blocklist) = &mut self.blocklist else { return Ok(Synced::default()) };
        let wanted = |host| lists.iter().any(|(_, nets)| nets.iter().any(|n| n.is_host() == host));
        // On before the first entry, off after the last.
        let (hosts, nets) = blocklist.has_entries()?;
        self.settings.set_lists(hosts || wanted(true), nets || wanted(false))?;
        let synced = blocklist.sync(lists, clock::monotonic_s());
        let (hosts, nets) = blocklist.has_entries()?;
        self.settings.set_lists(hosts, nets)?;
        synced
    }

    /// Blocks `net` for a time on account of `list`.
    pub fn block(&mut self, net: Net, list: u32, expires_s: u32) -> Result<(), Error> {
        let Some(blocklist) = &mut self.blocklist else { return Ok(()) };
        blocklist.block(net, list, expires_s)?;
        let (hosts, nets) = blocklist.has_entries()?;
        self.settings.set_lists(hosts, nets)
    }

    /// Lifts the block of exactly `net`.
    pub fn unblock(&mut self, net: Net) -> Result<(), Error> {
        let Some(blocklist) = &mut self.blocklist else { return Ok(()) };
        blocklist.unblock(net)?;
        let (hosts, nets) = blocklist.has_entries()?;
        self.settings.set_lists(hosts, nets)
    }

    /// Tells the programs which addresses are the router's, and which checks cannot be in force with
    /// them.
    pub fn set_own(&mut self, addresses: &[IpAddr], withheld: u32) -> Result<(), Error> {
        let Some(strangers) = &mut self.strangers else { return Ok(()) };
        let filter = strangers.set_own(addresses)?;
        self.settings.set_own(filter, withheld)
    }

    /// Ends it. With `keep` programs and maps stay in force until the next start.
    pub fn stop(mut self, keep: bool) -> Result<(), Error> {
        if keep {
            // Also where a crash detaches: this is none, and the next start takes the pins away.
            return self.links.set_on_crash(OnCrash::Keep);
        }
        attach::detach_others(&mut self.links, |_, _| false)?;
        self.links.into_pins().clear()
    }

    /// Takes away what an agent that is gone has left in `pin_dir`.
    pub fn clear(pin_dir: &Path) -> Result<(), Error> {
        if !pin_dir.exists() {
            return Ok(());
        }
        let mut links = Links::new(Pins::open(pin_dir)?, OnCrash::Keep);
        attach::detach_others(&mut links, |_, _| false)?;
        links.into_pins().clear()
    }

    /// The feature as it was, when it works and is where it should be.
    fn still_held(
        &self,
        interface: &InterfacePlan,
        hook: Hook,
        device: Option<&Device>,
        devices: &[Device],
    ) -> Option<Held> {
        let is_it =
            |held: &&Held| held.state.interface == interface.name && held.state.hook == hook;
        let held = self.held.iter().find(is_it)?;
        let places: Vec<u32> = match hook {
            Hook::Xdp => {
                let targets = device::entrances(device?, devices).ok()?;
                targets.iter().map(|target| target.device.ifindex).collect()
            }
            Hook::Tc => vec![device?.ifindex],
        };
        let everywhere = |of: &dyn Fn(u32) -> bool| places.iter().all(|ifindex| of(*ifindex));
        let held_there = |ifindex| held.marks.iter().any(|(_, at)| *at == ifindex);
        let only_there = held.marks.iter().all(|(_, ifindex)| places.contains(ifindex));
        let attached = held
            .marks
            .iter()
            .all(|(mark, ifindex)| attach::is_attached(&self.links, *mark, *ifindex));
        (everywhere(&held_there) && only_there && attached).then(|| held.clone())
    }

    fn attach_shield(
        &mut self,
        interface: &InterfacePlan,
        device: Option<&Device>,
        devices: &[Device],
        programs: &mut Programs,
    ) -> Held {
        let mut state = FeatureState::new(interface, Hook::Xdp, XdpRung::None.name());
        if interface.xdp == XdpWish::Off {
            return state.without_marks();
        }
        let Some(device) = device else { return state.failed(missing(interface)) };
        if let Some(reason) = &self.no_shield {
            return state.failed(reason.clone());
        }
        let targets = match device::entrances(device, devices) {
            Ok(targets) => targets,
            Err(reason) => return state.failed(reason),
        };
        let mut worst = XdpRung::Native;
        for target in &targets {
            let (rung, mut reasons) = match self.attach_shield_to(interface, target, programs) {
                Ok(done) => done,
                Err(error) => (XdpRung::None, vec![error.chain()]),
            };
            if targets.len() > 1 {
                for reason in &mut reasons {
                    *reason = format!("{}: {reason}", target.device.name);
                }
            }
            state.reasons.extend(reasons);
            match rung {
                XdpRung::None => {
                    // All entrances or none: an interface that is half protected looks protected.
                    // What is not held is taken away at the end of the round.
                    state.state = State::Failed;
                    return state.without_marks();
                }
                XdpRung::Generic => worst = XdpRung::Generic,
                XdpRung::Native => {}
            }
        }
        let marks = targets.iter().map(|target| (Mark::Xdp, target.device.ifindex)).collect();
        state.rung = worst.name();
        let wanted = worst == XdpRung::Native || interface.xdp == XdpWish::Generic;
        state.state = if wanted { State::Active } else { State::Degraded };
        state.reasons.extend(programs.interpreted(target_attachment(interface, &targets[0]), true));
        Held { state, marks }
    }

    fn attach_shield_to(
        &mut self,
        interface: &InterfacePlan,
        target: &Target,
        programs: &mut Programs,
    ) -> Result<(XdpRung, Vec<String>), Error> {
        let ifindex = target.device.ifindex;
        let stepped_down = self.stepped_down.get(&ifindex);
        let wish = match (stepped_down, interface.xdp) {
            (Some(_), XdpWish::Auto) => XdpWish::Generic,
            (Some(_), XdpWish::Native) => XdpWish::Off,
            (_, wish) => wish,
        };
        let attachment = target_attachment(interface, target);
        let prog =
            programs.shield(&mut self.loader, self.links.pins(), self.objects, attachment)?;
        let (rung, mut reasons) =
            attach::attach_xdp(prog.as_fd(), &target.device, &mut self.links, wish)?;
        reasons.extend(stepped_down.map(|reason| format!("native: {reason}")));
        Ok((rung, reasons))
    }

    fn attach_fast_path(
        &mut self,
        interface: &InterfacePlan,
        device: Option<&Device>,
        programs: &mut Programs,
    ) -> Held {
        let mut state = FeatureState::new(interface, Hook::Tc, TcRung::QueueOnly.name());
        if interface.tc == TcWish::Off {
            return state.without_marks();
        }
        let Some(device) = device else { return state.failed(missing(interface)) };
        if let Some(reason) = &self.no_fast_path {
            return state.failed(reason.clone());
        }
        let target = match device::target(device) {
            Ok(target) => target,
            Err(reason) => return state.failed(reason),
        };
        let attachment = target_attachment(interface, &target);
        let attached = programs
            .fast_path(&mut self.loader, self.links.pins(), self.objects, attachment)
            .map(|(ingress, egress)| {
                let programs = TcPrograms { ingress: ingress.as_fd(), egress: egress.as_fd() };
                attach::attach_tc(programs, &target.device, &mut self.links, interface.tc)
            });
        let (rung, reasons) = match attached {
            Ok(done) => done,
            Err(error) => return state.failed(error.chain()),
        };
        let ifindex = target.device.ifindex;
        let marks: &[Mark] = match rung {
            TcRung::Tcx => &[Mark::TcxIn, Mark::TcxOut],
            TcRung::Clsact if self.links.pins().link(Mark::Qdisc, ifindex).exists() => {
                &[Mark::Filters, Mark::Qdisc]
            }
            TcRung::Clsact => &[Mark::Filters],
            TcRung::QueueOnly => &[],
        };
        let marks = marks.iter().map(|mark| (*mark, ifindex)).collect();
        state.rung = rung.name();
        state.state = match (rung, interface.tc) {
            (TcRung::Tcx, _) | (TcRung::Clsact, TcWish::Clsact) => State::Active,
            (TcRung::Clsact, _) => State::Degraded,
            (TcRung::QueueOnly, _) => State::Failed,
        };
        state.reasons = reasons;
        state.reasons.extend(programs.interpreted(attachment, false));
        Held { state, marks }
    }
}

fn missing(interface: &InterfacePlan) -> String {
    format!("there is no device {} yet; it is attached to when it appears", interface.device)
}

const fn target_attachment(interface: &InterfacePlan, target: &Target) -> Attachment {
    Attachment::new(interface.slot, interface.role, target.link)
}

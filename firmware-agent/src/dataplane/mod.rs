//! The programs in the kernel and their maps.
//!
//! Owns loading, attaching, pinning and every map. Decides nothing about flows: it writes what it
//! is told and reports what the kernel counted.

mod attach;
pub mod blocklist;
pub mod bulk;
mod device;
pub mod error;
pub mod feature;
pub mod flows;
mod hardware;
mod ladder;
pub mod layout;
mod links;
pub mod messages;
pub mod object;
pub mod offenders;
pub mod pins;
pub mod plan;
pub mod profiles;
mod programs;
pub mod settings;
mod spread;
pub mod table;
mod topology;
pub mod totals;
pub mod values;
pub mod verify;

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::Path;

use sluice_abi::attach::{Attachment, Link, Role};
use sluice_abi::limits::COOKIE_PORTS;
use sluice_abi::names;
use sluice_abi::reason::Place;

pub use self::blocklist::{Blocklist, Synced};
pub use self::bulk::Bulk;
pub use self::error::Error;
pub use self::feature::{FeatureState, Hook, State};
pub use self::flows::{Adopted, FlowMaps, Flows};
pub use self::messages::Messages;
pub use self::object::Objects;
pub use self::offenders::Strangers;
pub use self::plan::{DataplanePlan, InterfacePlan, Sizes, TcWish, XdpWish};
pub use self::settings::SettingsMap;
pub use self::spread::Spreading;
pub use self::totals::{Counts, Hits, Totals};

use self::blocklist::Room;
use self::bulk::{Entries, Live, Observing};
use self::feature::Held;
use self::hardware::Hardware;
use self::links::Links;
use self::object::{Loader, open};
use self::pins::{Mark, Pins};
use self::profiles::ProfileMap;
use self::programs::Programs;
use self::spread::Spread;
use crate::config::{Net, OnCrash};
use crate::kernel::choose::XdpRung;
use crate::kernel::{Need, Report};
use crate::sys::clock;
use crate::sys::rtnetlink;

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
    /// Reduced shields in cards, by device.
    hardware: HashMap<u32, Hardware>,
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
    /// The image of the lists, unless the shield cannot run.
    pub bulk: Option<Bulk>,
    /// What the shield knows of strangers, unless it cannot run.
    pub strangers: Option<Strangers>,
    /// Which copies of the shield hand packets to other processors.
    spread: Spread,
    /// How often live entries were changed.
    changes: u32,
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
        let cookies = report.support(Need::SynCookies).is_yes();
        let mut loader = Loader::new(plan.sizes, cookies);
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
                    epoch: open(&pins, names::EPOCH)?,
                };
                let mut profiles = ProfileMap::new(open(&pins, names::PROFILES)?)?;
                profiles.set(&plan.profiles)?;
                (Some(Flows::new(maps)?), Some(profiles))
            }
            Err(_) => (None, None),
        };
        let (blocklist, hits, bulk) = match &shield {
            Ok(()) => {
                let room = Room::of(loader.sizes());
                let list = Blocklist::new(
                    open(&pins, names::BLOCK_HOSTS)?,
                    open(&pins, names::BLOCK_NETS)?,
                    open(&pins, names::ALLOW_NETS)?,
                    open(&pins, names::LIVE)?,
                    room,
                )?;
                let hits = Hits::new(open(&pins, names::LIST_HITS)?)?;
                (Some(list), Some(hits), Some(Bulk::new(open(&pins, names::BULK)?)?))
            }
            Err(_) => (None, None, None),
        };
        let strangers = match &shield {
            Ok(()) => Some(Strangers::new(
                open(&pins, names::OFFENDERS)?,
                open(&pins, names::SCANS)?,
                open(&pins, names::KNOWN)?,
                open(&pins, names::OWN)?,
                open(&pins, names::ATTACKED)?,
            )?),
            Err(_) => None,
        };
        let spread = Spread::open(&pins, shield.is_ok())?;
        // Before anything is attached: the first packet meets settings and lists in force.
        if let Some(list) = &blocklist {
            let (hosts, nets) = list.has_entries()?;
            settings.set_lists(hosts, nets)?;
        }
        if let Some(bulk) = &bulk {
            settings.set_bulk(bulk.has_entries())?;
        }
        settings.set(plan.settings)?;
        Ok(Self {
            plan: plan.clone(),
            objects,
            links: Links::new(pins, plan.on_crash),
            loader,
            programs,
            held: Vec::new(),
            hardware: HashMap::new(),
            stepped_down: HashMap::new(),
            no_shield: failed(&shield),
            no_fast_path: failed(&fast_path),
            settings,
            totals,
            flows,
            profiles,
            blocklist,
            hits,
            bulk,
            strangers,
            spread,
            changes: 0,
        })
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

    /// The kill switch.
    pub fn enable(&mut self, on: bool) -> Result<(), Error> {
        self.settings.enable(on)?;
        self.fill_hardware()
    }

    /// How each feature fares.
    #[must_use]
    pub fn features(&self) -> Vec<FeatureState> {
        let detaches = self.links.on_crash() == OnCrash::Detach;
        self.held.iter().map(|held| held.shown(detaches)).collect()
    }

    /// Whether the fast path is on a device.
    #[must_use]
    pub fn has_fast_path(&self, device: &str) -> bool {
        self.held.iter().any(|held| {
            let state = &held.state;
            state.hook == Hook::Tc
                && state.device == device
                && matches!(state.state, State::Active | State::Degraded)
        })
    }

    /// Whether programs copy the DNS messages of the LAN where names are wanted, which costs a second
    /// hook for every packet there, or somebody else does.
    pub fn copy_dns(&mut self, yes: bool) -> Result<(), Error> {
        let before = self.settings.current().flags;
        self.settings.copy_dns(yes)?;
        if self.settings.current().flags == before { Ok(()) } else { self.reattach().map(drop) }
    }

    /// Whether classifiers of this agent tell of DNS on a device of the LAN; or how it is instead.
    pub fn tells_messages(&self, ifindex: u32) -> Result<(), String> {
        if let Some(obstacle) = Messages::OBSTACLE {
            return Err(format!("tc: {obstacle}"));
        }
        let device = |held: &&Held| {
            let plan = self.plan.interfaces.iter().find(|plan| plan.name == held.state.interface);
            held.state.hook == Hook::Tc
                && plan.is_some_and(|plan| plan.role == Role::Lan)
                && held.marks.iter().any(|(_, at)| *at == ifindex)
        };
        match self.held.iter().find(device) {
            Some(held) if !held.is_stale => Ok(()),
            Some(held) => Err(format!("tc: {}", held.state.rung)),
            None => Err("tc: not attached".to_owned()),
        }
    }

    /// The DNS messages that the classifiers tell. There is one reader at a time.
    pub fn messages(&self) -> Result<Messages, Error> {
        if let Some(reason) = &self.no_fast_path {
            return Err(Error::Kernel(reason.clone()));
        }
        Messages::open(&self.links.pins().map(names::MESSAGES))
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

    /// Frames that the devices behind an interface's shield received and did not drop in their cards.
    #[must_use]
    pub fn received(&self, interface: &str) -> u64 {
        let shielded = self.shielded(interface);
        let devices = rtnetlink::devices().unwrap_or_default();
        let behind = devices.iter().filter(|device| shielded.contains(&device.ifindex));
        let received: u64 = behind.fold(0, |sum, device| sum.saturating_add(device.rx_packets));
        let (dropped, ..) = self.in_hardware(interface).unwrap_or_default();
        received.saturating_sub(dropped)
    }

    /// Devices that the shield of an interface is on.
    fn shielded(&self, interface: &str) -> Vec<u32> {
        let of = |held: &&Held| held.state.interface == interface && held.state.hook == Hook::Xdp;
        let marks = self.held.iter().filter(of).flat_map(|held| &held.marks);
        marks.filter(|(mark, _)| *mark == Mark::Xdp).map(|(_, ifindex)| *ifindex).collect()
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
        for ifindex in self.shielded(interface) {
            self.stepped_down.insert(ifindex, reason.to_owned());
        }
        self.held.retain(|held| held.state.interface != interface || held.state.hook != Hook::Xdp);
        self.reattach().map(drop)
    }

    /// Replaces what lists block, and tells the programs which are worth a lookup. Nothing changes
    /// when the lists do not fit, or need more than `cap_kib` while old and new ones are in memory,
    /// those of the agent that observe included.
    pub fn set_lists(
        &mut self,
        mut entries: Entries,
        observing: Observing,
        cap_kib: u32,
    ) -> Result<Synced, Error> {
        let (Some(blocklist), Some(bulk)) = (&mut self.blocklist, &mut self.bulk) else {
            return Ok(Synced::default());
        };
        entries.sort();
        let size = if entries.is_empty() {
            0
        } else {
            bulk::measure(&entries).map_err(|error| Error::Image {
                operation: "size",
                source: std::io::Error::other(error),
            })?
        };
        let long = entries.take_long();
        let live = Live { hosts: self.loader.sizes().block_hosts, nets: long.len() as u32 };
        bulk::check(size, bulk.bytes(), observing, live, cap_kib)?;
        let prepared = Bulk::prepare(&entries, size)?;
        drop(entries);
        // On before the first entry, off after the last.
        let (hosts, nets) = blocklist.has_entries()?;
        let wanted = |host| long.iter().any(|(net, _)| net.is_host() == host);
        self.settings.set_lists(hosts || wanted(true), nets || wanted(false))?;
        let synced = blocklist.sync_entries(long.into_iter(), clock::monotonic_s());
        let (hosts, nets) = blocklist.has_entries()?;
        self.settings.set_lists(hosts, nets)?;
        let synced = synced?;
        let (before, after) = (bulk.has_entries(), prepared.has_entries());
        self.settings.set_bulk((before.0 || after.0, before.1 || after.1))?;
        bulk.replace(prepared)?;
        self.settings.set_bulk(bulk.has_entries())?;
        self.fill_hardware()?;
        Ok(Synced { image: size, ..synced })
    }

    /// Blocks `net` for a time on account of `list`.
    pub fn block(&mut self, net: Net, list: u32, expires_s: u32) -> Result<(), Error> {
        let Some(blocklist) = &mut self.blocklist else { return Ok(()) };
        blocklist.block(net, list, expires_s)?;
        self.live_entries_changed()
    }

    /// Lifts a block of exactly this prefix; `false` when there was none.
    pub fn unblock(&mut self, net: Net) -> Result<bool, Error> {
        let Some(blocklist) = &mut self.blocklist else { return Ok(false) };
        let was_blocked = blocklist.unblock(net)?;
        self.live_entries_changed()?;
        Ok(was_blocked)
    }

    /// A number that is another one when live entries were changed.
    #[must_use]
    pub const fn changes(&self) -> u32 {
        self.changes
    }

    /// Tells programs and cards.
    fn live_entries_changed(&mut self) -> Result<(), Error> {
        self.changes = self.changes.wrapping_add(1);
        if let Some(blocklist) = &self.blocklist {
            let (hosts, nets) = blocklist.has_entries()?;
            self.settings.set_lists(hosts, nets)?;
        }
        self.fill_hardware()
    }

    /// Tells the programs which addresses are the router's, and which checks cannot be in force with
    /// them.
    pub fn set_own(&mut self, addresses: &[IpAddr], withheld: u32) -> Result<(), Error> {
        let Some(strangers) = &mut self.strangers else { return Ok(()) };
        let filter = strangers.set_own(addresses)?;
        self.settings.set_own(filter, withheld)
    }

    /// Tells the programs which destinations are under attack, with the ports that are answered with
    /// cookies, and what those answers say: maximum segment size and window scale.
    pub fn set_attacked(
        &mut self,
        attacked: &[(IpAddr, [u16; COOKIE_PORTS])],
        offer: (u32, u32),
    ) -> Result<(), Error> {
        let Some(strangers) = &mut self.strangers else { return Ok(()) };
        strangers.set_attacked(attacked)?;
        self.settings.set_attacked(!attacked.is_empty(), offer)
    }

    /// Whether the shields towards the provider can answer with SYN cookies.
    #[must_use]
    pub fn has_cookies(&self) -> bool {
        let mut wans = self.plan.interfaces.iter().filter(|plan| plan.role == Role::Wan);
        let can_answer = |wan: &InterfacePlan| !self.shielded(&wan.name).is_empty();
        self.no_shield.is_none() && self.loader.cookies() && wans.all(can_answer)
    }

    /// Where the shield of an interface drops packets.
    #[must_use]
    pub fn shield_place(&self, interface: &str) -> Place {
        let is_in_tc = self.held.iter().any(|Held { state, .. }| {
            state.interface == interface
                && state.hook == Hook::Xdp
                && state.rung == XdpRung::Tc.name()
        });
        if is_in_tc { Place::Tc } else { Place::Xdp }
    }

    /// Ends it. With `keep` programs and maps stay in force until the next start.
    pub fn stop(mut self, keep: bool) -> Result<(), Error> {
        if keep {
            // Also where a crash detaches: this is none, and the next start takes the pins away.
            return self.links.set_on_crash(OnCrash::Keep);
        }
        attach::detach_others(&mut self.links, &device::facts()?, |_, _| false)?;
        self.links.into_pins().clear()
    }

    /// Takes away what an agent that is gone has left in `pin_dir`.
    pub fn clear(pin_dir: &Path) -> Result<(), Error> {
        if !pin_dir.exists() {
            return Ok(());
        }
        let mut links = Links::new(Pins::open(pin_dir)?, OnCrash::Keep);
        attach::detach_others(&mut links, &device::facts()?, |_, _| false)?;
        links.into_pins().clear()
    }
}

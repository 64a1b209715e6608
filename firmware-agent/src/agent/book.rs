//! What engines judge by. Every worker has it, and all of them the same: it is replaced while none of
//! them is between a packet and its decision.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use sluice_abi::verdict::Reason;

use crate::config::Mac;
use crate::inspect::domain_set::DomainSet;
use crate::inspect::engine::{self, Sentence, Watch};
use crate::netfilter::nfqueue::Packet;
use crate::policy::{Ends, Path, Policy, Seen, Zone};

/// Rules, lists and rulesets in force, and the devices that the interfaces are.
#[derive(Clone, Debug)]
pub(super) struct Book {
    pub(super) rules: Arc<Policy>,
    pub(super) lists: Arc<DomainSet>,
    /// Only shared out, never asked.
    pub(super) watch: Option<Arc<Watch>>,
    /// The interfaces of the configuration by index of their devices.
    zones: Arc<[(u32, Zone)]>,
    /// Grows with each change of zones, which workers take over with their next packets.
    edition: Arc<AtomicU32>,
}

impl Book {
    pub(super) fn new(rules: Policy) -> Self {
        Self {
            rules: Arc::new(rules),
            lists: Arc::default(),
            watch: None,
            zones: Arc::default(),
            edition: Arc::default(),
        }
    }

    pub(super) fn zones(&self) -> &[(u32, Zone)] {
        &self.zones
    }

    /// Whether the device of a flow is known to be behind an interface of the household.
    pub(super) fn is_lan(&self, ends: &Ends) -> bool {
        let mut zones = self.zones.iter().map(|(_, zone)| zone);
        zones.any(|zone| zone.is_lan && Some(zone.number) == ends.zone)
    }

    /// Takes over where the interfaces are. A packet may be taken for one that came before that.
    pub(super) fn set_zones(&mut self, zones: Vec<(u32, Zone)>) {
        if *self.zones != *zones {
            self.zones = zones.into();
            self.edition.fetch_add(1, Ordering::Release);
        }
    }

    /// The number of the last change of zones.
    pub(super) fn edition(&self) -> u32 {
        self.edition.load(Ordering::Acquire)
    }

    /// Where a queued packet comes from and goes.
    pub(super) fn path(&self, packet: &Packet<'_>) -> Path {
        let zone = |ifindex: u32| {
            let found = self.zones.iter().find(|(known, _)| *known == ifindex);
            found.map(|(_, zone)| *zone)
        };
        Path { mac: packet.mac.map(Mac), from: zone(packet.indev), to: zone(packet.outdev) }
    }

    /// What rules and lists say about a flow that showed this; `clean` is the reason when they say
    /// nothing.
    pub(super) fn judge(&self, ends: Ends, seen: Seen<'_>, clean: Reason) -> Sentence {
        engine::judge(&self.rules, &self.lists, ends, seen, clean)
    }
}

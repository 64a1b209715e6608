//! What was dropped and why, gathered from everything that drops.

use sluice_abi::counter::Counter;
use sluice_abi::reason::{DropReason, Place};

use super::running::State;
use crate::control::report::{Drops, Netfilter, Queue};
use crate::dataplane::Counts;
use crate::netfilter::rules::Counted;

impl State {
    /// Every reason that occurred, in the order of their numbers, by interface where it has one.
    pub(super) fn drops(
        &self,
        counts: &[Counts],
        netfilter: &Netfilter,
        queue: &Queue,
    ) -> Vec<Drops> {
        let mut drops = Vec::new();
        for reason in DropReason::ALL.iter().copied() {
            match reason.place() {
                Place::Xdp | Place::Tc => self.program_drops(counts, reason, &mut drops),
                Place::Netfilter | Place::Engine | Place::Nft => {
                    drops.push(entry(reason, None, self.other_drops(reason, netfilter, queue)));
                }
            }
        }
        drops.extend(self.set_drops());
        drops.retain(|drop| drop.packets != 0);
        drops
    }

    fn program_drops(&self, counts: &[Counts], reason: DropReason, drops: &mut Vec<Drops>) {
        let (Some(dataplane), Some(counter)) = (&self.dataplane, reason.counter()) else { return };
        for (plan, counts) in self.plan.dataplane.interfaces.iter().zip(counts) {
            let mut packets = counts.count(counter);
            // What a card dropped, no CPU has seen.
            if counter == Counter::XdpDropHost
                && let Some((by_card, ..)) = dataplane.in_hardware(&plan.name)
            {
                packets = packets.wrapping_add(by_card);
            }
            let place = match reason.place() {
                Place::Xdp => dataplane.shield_place(&plan.name),
                place => place,
            };
            drops.push(Drops {
                place: place.name().to_owned(),
                cpus: counts.cpus(counter).collect(),
                ..entry(reason, Some(plan.name.clone()), packets)
            });
        }
    }

    /// What sets of nftables dropped.
    fn set_drops(&self) -> Vec<Drops> {
        let interfaces = &self.plan.dataplane.interfaces;
        let dropped = self.sets.dropped().into_iter();
        dropped
            .map(|one| {
                let interface = interfaces.iter().find(|plan| plan.slot == one.slot);
                Drops {
                    place: Place::Nft.name().to_owned(),
                    ..entry(one.reason, interface.map(|plan| plan.name.clone()), one.packets)
                }
            })
            .collect()
    }

    fn other_drops(&self, reason: DropReason, netfilter: &Netfilter, queue: &Queue) -> u64 {
        let rule = |counted: Counted| netfilter.counters.get(counted.name()).copied();
        let packets = match reason {
            DropReason::ConnectionBlocked => rule(Counted::DroppedBlocked),
            DropReason::VerdictBlocked => rule(Counted::DroppedVerdict),
            DropReason::QueueShare => rule(Counted::DroppedShare),
            DropReason::Undecided => Some(self.inspector.totals.dropped_undecided),
            // With an open policy the kernel forwards what does not fit.
            DropReason::QueueFull
                if self.plan.policy_open && self.plan.ruleset.closed_queues().is_none() =>
            {
                None
            }
            DropReason::QueueFull => {
                let full = ["queue full", "socket full"];
                Some(full.iter().filter_map(|name| queue.kernel.get(*name)).sum())
            }
            _ => None,
        };
        packets.unwrap_or_default()
    }
}

fn entry(reason: DropReason, interface: Option<String>, packets: u64) -> Drops {
    Drops {
        place: reason.place().name().to_owned(),
        reason: reason.name().to_owned(),
        interface,
        packets,
        cpus: Vec::new(),
    }
}

//! What the agent looks at, from time to time, to find out what happened.

use sluice_abi::attach::Role;
use sluice_abi::counter::Counter;
use sluice_abi::flow::Addr;
use sluice_abi::reason::DropReason;

use super::changes::{Look, Picture, differences};
use super::contacts::Dropped;
use crate::agent::running::State;
use crate::control::events::Event;
use crate::netfilter::apply::Count;
use crate::netfilter::queue::kernel_stats;
use crate::netfilter::rules::Counted;
use crate::netfilter::shield;

/// How late the clock of the shields may be: it moves with the timer tick (`CONFIG_HZ=100`).
const TICK_NS: u64 = 10_000_000;

impl State {
    /// What is different from the last look.
    pub(super) fn look_for_events(&mut self, now_ns: u64) -> Vec<Event> {
        let (mut events, picture) = {
            let look = self.look(now_ns);
            (differences(self.events.picture.as_ref(), &look), Picture::of(&look))
        };
        self.events.picture = Some(picture);
        let contacts = self.contacts();
        let now = self.now();
        let Self { events: known, dataplane, plan, devices, .. } = self;
        let hits = dataplane.as_ref().and_then(|dataplane| dataplane.hits.as_ref());
        let lists = |since_ns: u64| {
            let since_ns = since_ns.saturating_sub(TICK_NS);
            let lists = (0..).zip(&plan.lists);
            let dropped = lists.filter_map(|(number, list)| {
                let hits = hits?.of(number).ok().filter(|hits| hits.last_ns >= since_ns)?;
                let interfaces = &plan.dataplane.interfaces;
                let interface = interfaces.iter().find(|one| one.slot == hits.slot);
                let is_known = hits.src != Addr::default();
                let name = devices.leases.name_of(now, hits.src, None).filter(|_| is_known);
                Some(Dropped {
                    list: list.name.to_string(),
                    interface: interface.map(|one| one.name.clone()),
                    ends: is_known.then(|| (hits.src.into(), hits.dst.into())),
                    device_name: name.map(str::to_owned),
                })
            });
            dropped.collect()
        };
        events.extend(known.contacts.look(now_ns, contacts, lists));
        events.extend(self.look_for_greedy());
        events
    }

    /// What is to be told of devices that sent more than their share to the queue.
    fn look_for_greedy(&mut self) -> Option<Event> {
        let share = self.plan.ruleset.share()?;
        let backend = self.backend.as_ref()?;
        let queued = kernel_stats(self.plan.ruleset.queues()).ok()?;
        let queued = queued.iter().fold(0_u32, |sum, queue| sum.wrapping_add(queue.total));
        if !self.events.shares.may_be_used_up(queued, share) {
            return None;
        }
        let counts = backend.counters().ok()?;
        let is_over =
            |count: &&Count| matches!(count.counted, Counted::OverShare | Counted::DroppedShare);
        let turned_away = counts.iter().filter(is_over).map(|count| count.packets).sum();
        let is_open =
            counts.iter().any(|count| count.counted == Counted::OverShare && count.packets != 0);
        self.events.shares.look(turned_away, is_open, || backend.greedy().unwrap_or_default())
    }

    fn look(&self, now_ns: u64) -> Look<'_> {
        let refused = self.lists.refused().into_iter().chain(self.inspector.domains.refused());
        let blocklists = self.plan.lists.iter().filter(|list| !list.files.is_empty());
        let blocklists = blocklists.map(|list| {
            let of_files = list.files.iter().map(|file| u64::from(file.counts.sum()));
            (&*list.name, list.entries.len() as u64 + of_files.sum::<u64>())
        });
        let domainlists =
            self.plan.domainlists.iter().map(|list| (&*list.name, u64::from(list.names())));
        Look {
            features: self.features(),
            attacked: self.strangers.half_open().collect(),
            refused: refused.chain(self.inspector.alarms.refused()).collect(),
            mistakes: &self.mistakes,
            lists: blocklists.chain(domainlists).collect(),
            away: self.attendance.report(now_ns),
        }
    }

    /// Packets of devices that shields of the LAN dropped for a blocklist, by interface.
    fn contacts(&self) -> Vec<(String, u64)> {
        let in_sets = self.sets.dropped();
        let lans = self.plan.dataplane.interfaces.iter().filter(|one| one.role == Role::Lan);
        lans.filter_map(|lan| {
            let its =
                |one: &&shield::Dropped| one.slot == lan.slot && one.reason == DropReason::Listed;
            let in_sets = in_sets.iter().find(its).map(|one| one.packets);
            let by_programs = self.dataplane.as_ref().and_then(|dataplane| {
                dataplane.totals.count(lan.slot, Counter::XdpDropListed).ok()
            });
            let packets = by_programs.into_iter().chain(in_sets).reduce(u64::wrapping_add)?;
            Some((lan.name.clone(), packets))
        })
        .collect()
    }
}

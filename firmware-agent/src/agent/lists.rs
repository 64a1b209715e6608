//! The lists on their way into the kernel, or to who observes, without the entries that would cut the
//! router off.
//!
//! Addresses come and go with leases and links, so what is left out is decided again when they do.
//! Files are read entry by entry; nothing of them stays in memory.

use std::net::IpAddr;
use std::path::Path;

use super::observing::Observing;
use super::sets::Sets;
use crate::config::{Counts, Net};
use crate::dataplane::bulk::{self, Bulk, Entries, Live, default_cap_kib};
use crate::dataplane::{Dataplane, Error};
use crate::inspect::address_set::AddressSet;
use crate::plan::guard::{Guard, LeftOut, Own};
use crate::plan::{ListPlan, Plan};
use crate::sys::{clock, memory};

/// Entries that are shown one by one; the rest is counted.
const SHOWN_MAX: usize = 16;

/// What is known about the router's addresses, and what the lists do without because of it.
#[derive(Debug, Default)]
pub(super) struct Lists {
    own: Vec<Own>,
    /// What of each list is in force; `None` before the first time.
    in_force: Option<InForce>,
    /// What `status` shows of it.
    warnings: Vec<String>,
    /// Why the lists that are wanted are not those in force.
    refused: Option<String>,
    /// How long the last change took.
    load_ms: u64,
    /// Bytes of the image.
    image: u64,
}

/// What the lists in force were made of.
#[derive(Debug)]
struct InForce {
    lists: Vec<ListPlan>,
    own: Vec<Own>,
    /// Entries of each list that are left out.
    left_out: Vec<u32>,
}

impl Lists {
    /// Takes what lists have to spare from now on. `true` when that has changed, so that the lists
    /// should be set again.
    pub(super) fn spare(&mut self, own: Vec<Own>) -> bool {
        let is_new = own != self.own;
        self.own = own;
        is_new
    }

    /// Puts the lists of `plan` into force, and what lifts them before that. With an error nothing
    /// has changed; nothing has to be done either when they are in force already. Where there is no
    /// dataplane lists still observe.
    pub(super) fn set(
        &mut self,
        mut dataplane: Option<&mut Dataplane>,
        sets: &mut Sets,
        observing: &mut Observing,
        plan: &Plan,
    ) -> Result<(), Error> {
        if let Some(blocklist) = dataplane.as_mut().and_then(|all| all.blocklist.as_mut()) {
            // What lifts a list is there before the list.
            blocklist.sync_allowed(&plan.allowed)?;
        }
        sets.allow(&plan.allowed)?;
        let same = |now: &InForce| now.lists == plan.lists && now.own == self.own;
        if self.in_force.as_ref().is_some_and(same) {
            observing.allow(plan);
            self.refused = None;
            return Ok(());
        }
        let start_ns = clock::monotonic_ns();
        let result = self.put(dataplane, sets, observing, plan);
        memory::give_back();
        let Put { image, left_out, shown } = result?;
        self.refused = None;
        self.image = image;
        self.load_ms = (clock::monotonic_ns() - start_ns) / 1_000_000;
        let warnings = warnings(&shown, left_out.iter().sum(), plan);
        for warning in warnings.iter().filter(|warning| !self.warnings.contains(warning)) {
            log::warn!("{warning}");
        }
        self.warnings = warnings;
        self.in_force =
            Some(InForce { lists: plan.lists.clone(), own: self.own.clone(), left_out });
        Ok(())
    }

    /// Puts into sets of nftables what is in force elsewhere, or nowhere yet.
    pub(super) fn set_in(
        &mut self,
        sets: &mut Sets,
        observing: &Observing,
        plan: &Plan,
    ) -> Result<(), Error> {
        // Until they are, what is wanted is not in force.
        let before = self.in_force.take();
        let start_ns = clock::monotonic_ns();
        let in_force = observing.bytes() + self.image;
        sets.allow(&plan.allowed)?;
        let mut entries = self.read(plan)?.entries;
        let most = bulk::Observing { new: 0, in_force };
        sets.fill(&mut entries, most, cap_kib(plan.list_memory_kib))?;
        drop(entries);
        sets.put()?;
        memory::give_back();
        self.image += sets.bytes();
        self.load_ms = (clock::monotonic_ns() - start_ns) / 1_000_000;
        self.in_force = before;
        Ok(())
    }

    /// Notes why lists that should be in force are not; until some are.
    pub(super) fn refuse(&mut self, error: &Error) {
        log::error!("{}", error.chain());
        self.refused = Some(error.chain());
    }

    /// Why `net` is not to be blocked.
    pub(super) fn spared(&self, net: &Net) -> Option<String> {
        let own = Guard::new(&self.own).hit(net)?;
        Some(format!("{net} is not blocked: it would block {}, {}", own.addr, own.what))
    }

    /// What is left out and why lists are refused, for people.
    pub(super) fn warnings(&self) -> impl Iterator<Item = &String> {
        self.warnings.iter().chain(&self.refused)
    }

    /// Why the lists that are wanted are not in force.
    pub(super) const fn refused(&self) -> Option<&String> {
        self.refused.as_ref()
    }

    /// How many entries of the list `number` are in force.
    pub(super) fn entries(&self, number: u32) -> u64 {
        let Some(in_force) = &self.in_force else { return 0 };
        let counts = in_force.lists.get(number as usize).map(ListPlan::counts);
        let left_out = in_force.left_out.get(number as usize).copied().unwrap_or(0);
        counts.map_or(0, |counts| counts.sum().saturating_sub(left_out).into())
    }

    /// Bytes of the image in force, and how long it took to put it there.
    pub(super) const fn image(&self) -> (u64, u64) {
        (self.image, self.load_ms)
    }

    /// Reads the lists and puts them where they belong.
    fn put(
        &self,
        dataplane: Option<&mut Dataplane>,
        sets: &mut Sets,
        observing: &mut Observing,
        plan: &Plan,
    ) -> Result<Put, Error> {
        let cap_kib = cap_kib(plan.list_memory_kib);
        let in_force = observing.bytes();
        let image = dataplane.as_ref().and_then(|all| all.bulk.as_ref()).map_or(0, Bulk::bytes);
        // Before any of it is in memory. What blocks is measured when it has been read.
        let most = bulk::Observing { new: Observing::bytes_max(plan), in_force };
        let hosts = dataplane.as_ref().map_or(0, |all| all.sizes().block_hosts);
        bulk::check(0, image, most, Live { hosts, nets: 0 }, cap_kib)?;
        let read = self.read(plan)?;
        let observed = read.observed.finish();
        let mut entries = read.entries;
        // Filled and not in force before what else may be refused is.
        let most = sets.fill(&mut entries, most, cap_kib)?;
        let image = match dataplane {
            Some(dataplane) => match dataplane.set_lists(entries, most, cap_kib) {
                Ok(synced) => synced.image,
                Err(error) => {
                    sets.give_up();
                    return Err(error);
                }
            },
            None => 0,
        };
        sets.put()?;
        let image = image + sets.bytes();
        observing.set(observed, plan);
        Ok(Put { image, left_out: read.left_out, shown: read.shown })
    }

    /// The entries that may be in force.
    fn read(&self, plan: &Plan) -> Result<Read, Error> {
        let guard = Guard::new(&self.own);
        let mut counts = Counts::default();
        let blocking = plan.lists.iter().filter(|list| !list.observes);
        blocking.for_each(|list| counts.join(&list.counts()));
        let mut read = Read {
            entries: Entries::with_capacity(counts.v4 as usize, counts.v6 as usize),
            observed: Observing::empty_set(plan),
            left_out: vec![0; plan.lists.len()],
            shown: Vec::new(),
        };
        for (number, list) in (0..).zip(&plan.lists) {
            let of = (number, list.observes);
            for net in &list.entries {
                read.add(&guard, of, *net);
            }
            for file in &list.files {
                file.entries(|net, _| read.add(&guard, of, net))
                    .map_err(|source| Error::ListFile { path: file.path.clone(), source })?;
            }
        }
        Ok(read)
    }
}

/// What became of the lists.
struct Put {
    /// Bytes of the image.
    image: u64,
    /// How many entries of each list are left out.
    left_out: Vec<u32>,
    /// The first of those.
    shown: Vec<(u32, LeftOut)>,
}

/// Entries on their way.
struct Read {
    entries: Entries,
    /// Of lists that observe.
    observed: AddressSet,
    /// By list.
    left_out: Vec<u32>,
    /// The first of those.
    shown: Vec<(u32, LeftOut)>,
}

impl Read {
    fn add(&mut self, guard: &Guard<'_>, (number, observes): (u32, bool), net: Net) {
        let Some(own) = guard.hit(&net) else {
            if observes {
                self.observed.push(&net, number as u8);
            } else {
                self.entries.push(&net, number);
            }
            return;
        };
        if let Some(count) = self.left_out.get_mut(number as usize) {
            *count += 1;
        }
        if self.shown.len() < SHOWN_MAX {
            self.shown.push((number, LeftOut { net, own: own.clone() }));
        }
    }
}

/// The entry of `list` that has `addr`, and the file and line where it stands when it does not stand
/// in the section.
pub(super) fn find(list: &ListPlan, addr: IpAddr) -> Option<(Net, Option<(&Path, u32)>)> {
    let host = Net::host(addr);
    let has = |net: &Net| net.contains(&host);
    list.entries.iter().find(|net| has(net)).map(|net| (*net, None)).or_else(|| {
        list.files.iter().find_map(|file| {
            let (net, line) = file.find(has)?;
            Some((net, Some((file.path.as_path(), line))))
        })
    })
}

/// KiB that lists may take: what the configuration says, or a part of the machine's memory.
pub(super) fn cap_kib(configured: u32) -> u32 {
    match configured {
        0 => default_cap_kib(memory::total_kib()),
        kib => kib,
    }
}

fn warnings(shown: &[(u32, LeftOut)], left_out: u32, plan: &Plan) -> Vec<String> {
    let more = (left_out as usize).saturating_sub(shown.len());
    let shown = shown.iter().map(|(number, LeftOut { net, own })| {
        let list = plan.lists.get(*number as usize).map_or("", |list| &list.name);
        let (addr, what) = (own.addr, &own.what);
        format!("sluice.{list}: {net} is left out: it would block {addr}, {what}")
    });
    let rest = (more > 0).then(|| format!("{more} more entries are left out of the lists"));
    shown.chain(rest).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn a_flood_of_entries_that_are_left_out_is_counted() {
        let text = "config interface a\noption device a\noption role wan\n\
                    config interface b\noption device b\noption role lan\n\
                    config blocklist bad\nlist entry 192.0.2.1\n";
        let (config, _) = Config::parse(text.as_bytes(), "f").unwrap();
        let plan = Plan::new(&config, 0).unwrap();
        let own = Own { addr: "192.0.2.1".parse().unwrap(), what: "an address of wan".to_owned() };
        let entry = (0, LeftOut { net: "192.0.2.0/24".parse().unwrap(), own });
        assert_eq!(warnings(&[], 0, &plan), [""; 0]);
        let one = warnings(std::slice::from_ref(&entry), 1, &plan);
        assert_eq!(
            one,
            ["sluice.bad: 192.0.2.0/24 is left out: it would block 192.0.2.1, an address of wan"]
        );
        let many = warnings(&vec![entry; SHOWN_MAX], SHOWN_MAX as u32 + 3, &plan);
        assert_eq!(many.len(), SHOWN_MAX + 1);
        assert_eq!(many[SHOWN_MAX], "3 more entries are left out of the lists");
    }
}

//! The domain lists on their way into inspection, and what they did there.
//!
//! Files are read name by name, twice; nothing of them stays in memory but fingerprints. The set in force answers until the new one is whole.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use super::inspector::Inspector;
use super::ledger::{Hits, Ledger};
use super::lists::cap_kib;
use super::running::random;
use crate::cli::chain;
use crate::control::report::RuleDevice;
use crate::inspect::domain_set::{Counting, DomainSet, Key, Room, TooLarge};
use crate::plan::{DomainListPlan, Plan};
use crate::policy::Ends;
use crate::sys::clock;

/// What is known about the domain lists.
#[derive(Debug, Default)]
pub(super) struct Domains {
    /// The lists in force, by number.
    lists: Vec<DomainListPlan>,
    /// What each of them did.
    ledger: Ledger,
    /// Why the lists that are wanted are not those in force.
    refused: Option<String>,
    /// How long the last change took.
    load_ms: u64,
}

/// Domain lists that were read to be put into force.
pub(super) struct Read {
    built: Result<DomainSet, Refused>,
    start_ns: u64,
}

impl Read {
    /// Reads the domain lists of `plan`, if there is room. Takes its time.
    pub(super) fn new(plan: &Plan, room: Result<Room, TooLarge>) -> Self {
        let start_ns = clock::monotonic_ns();
        let room = room.map_err(Refused::from);
        Self { built: room.and_then(|room| build(&plan.domainlists, room)), start_ns }
    }
}

/// Why domain lists are not put into force.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refused {
    #[error(transparent)]
    TooLarge(#[from] TooLarge),
    #[error("the domain list {}", path.display())]
    File { path: PathBuf, source: io::Error },
}

impl Domains {
    /// Counts a flow that the list `number` blocked; returns the list's name.
    pub(super) fn hit(&mut self, number: u32, ends: Option<&Ends>, now_ns: u64) -> Option<&str> {
        self.ledger.hit(number, ends, now_ns);
        self.list(number).map(|list| &*list.name)
    }

    /// Counts a flow that the list `number` would have blocked; returns the list's name.
    pub(super) fn observed(
        &mut self,
        number: u32,
        ends: Option<&Ends>,
        now_ns: u64,
    ) -> Option<&str> {
        self.ledger.observed(number, ends, now_ns);
        self.list(number).map(|list| &*list.name)
    }

    /// The list of this number.
    pub(super) fn list(&self, number: u32) -> Option<&DomainListPlan> {
        self.lists.get(number as usize)
    }

    /// Every list, and what it did.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&DomainListPlan, Hits)> {
        (0..).zip(&self.lists).map(|(number, list)| (list, self.ledger.hits(number)))
    }

    /// What the list `number` did.
    pub(super) fn hits(&self, number: u32) -> Hits {
        self.ledger.hits(number)
    }

    /// Whose flows the list `number` would have blocked.
    pub(super) fn devices(&self, number: u32) -> Vec<RuleDevice> {
        self.ledger.devices(number)
    }

    /// Why the lists that are wanted are not in force, for people.
    pub(super) const fn refused(&self) -> Option<&String> {
        self.refused.as_ref()
    }

    /// How long the last change took.
    pub(super) const fn load_ms(&self) -> u64 {
        self.load_ms
    }
}

impl Inspector {
    /// Whether the domain lists of `plan` can be put into force within their memory.
    pub(super) fn check_domain_lists(&self, plan: &Plan) -> Result<Room, TooLarge> {
        let names = plan.domainlists.iter().fold(0, |sum: u32, l| sum.saturating_add(l.names()));
        let in_force = self.book.lists.bytes();
        Room::new(
            names,
            plan.domainlists.len() as u32,
            in_force,
            u64::from(cap_kib(plan.domain_memory_kib)) * 1024,
        )
    }

    /// Whether the domain lists of `plan` are others than those in force.
    pub(super) fn has_other_domain_lists(&self, plan: &Plan) -> bool {
        self.domains.lists != plan.domainlists
    }

    /// Puts the domain lists of `plan` into force, or leaves those of before there and notes why.
    pub(super) fn set_domain_lists(&mut self, plan: &Plan, read: Option<Read>) {
        self.domains.refused = None;
        let Some(Read { built, start_ns }) = read else { return };
        match built {
            Ok(set) => {
                self.book.lists = Arc::new(set);
                let names = plan.domainlists.iter().map(|list| &*list.name);
                let Domains { lists, ledger, .. } = &mut self.domains;
                ledger.renumber(lists.iter().map(|list| &*list.name), names);
                self.domains.lists.clone_from(&plan.domainlists);
                self.domains.load_ms = (clock::monotonic_ns() - start_ns) / 1_000_000;
            }
            Err(error) => {
                let why = chain(&error);
                log::error!("{why}");
                self.domains.refused = Some(why);
            }
        }
    }
}

fn build(lists: &[DomainListPlan], room: Room) -> Result<DomainSet, Refused> {
    // Another key for each set: what somebody learned about one says nothing about the next.
    let mut counting = Counting::new(Key::new([random(), random()]), room);
    names(lists, |name, _| counting.count(name))?;
    let mut builder = counting.done();
    names(lists, |name, list| builder.add(name, list))?;
    let blocking = lists.iter().take_while(|list| !list.observes).count();
    Ok(builder.finish().observing_from(blocking as u32))
}

/// Reads all files and calls `each` with the names and the number of their list.
fn names(lists: &[DomainListPlan], mut each: impl FnMut(&str, u32)) -> Result<(), Refused> {
    for (number, list) in (0..).zip(lists) {
        for file in &list.files {
            file.entries(|name, _| each(name, number))
                .map_err(|source| Refused::File { path: file.path.clone(), source })?;
        }
    }
    Ok(())
}

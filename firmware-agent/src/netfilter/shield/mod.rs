//! The last rung of the shield: sets of nftables, where no program can drop what lists block.
//!
//! A table of its own, `inet sluice_shield`, before conntrack. The tool `nft` writes sets and chains;
//! elements go to the kernel by netlink, a message at a time, into sets that no rule asks yet. One
//! transaction then lets the rules ask them and takes those of before away, so a packet meets the old
//! sets or the new ones, each whole. What is blocked for a time is in sets whose elements the kernel
//! ends by itself.

mod elements;
mod rules;
mod text;

use std::hash::Hasher as _;

use sluice_abi::attach::Role;

use self::elements::{CHUNK, Element, Range, is_v4};
pub use self::rules::Dropped;
use self::rules::Rules;
use self::text::{Chains, FAMILIES, Kind, LIVE};
use super::apply::{ApplyError, NFT};
use super::offload::kernel::Kernel;
use super::offload::wire::{self, message};
use super::rules::is_device;
use crate::config::Net;
use crate::sys::netlink::{Builder, RequestError, flag};

/// The table.
pub const TABLE: &str = "sluice_shield";
/// Kernel memory of a range, whose two borders are nodes of a tree: 170 bytes measured for IPv4 and
/// 150 for IPv6 (`x86_64`, 6.18).
pub const RANGE_BYTES: u64 = 176;
/// Bits of the roles that an allowlist may have.
const ROLES: [Role; 2] = [Role::Wan, Role::Lan];

/// An interface whose packets meet the sets.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Guarded {
    /// Its number.
    pub slot: u32,
    /// The device, as packets have it that the stack takes.
    pub device: Box<str>,
    /// Which side of the router it is on.
    pub role: Role,
}

/// Why lists cannot be in sets.
#[derive(Debug, thiserror::Error)]
pub enum SetsError {
    /// The tool, or the kernel behind it, says no.
    #[error(transparent)]
    Apply(#[from] ApplyError),
    /// The kernel says no.
    #[error("{what} in sets of nftables")]
    Kernel {
        /// What was tried.
        what: &'static str,
        /// The kernel's answer.
        source: RequestError,
    },
    /// A name that cannot stand in a rule.
    #[error("interface name `{0}` cannot stand in a firewall rule")]
    Device(Box<str>),
}

fn failed(what: &'static str) -> impl FnOnce(RequestError) -> SetsError {
    move |source| SetsError::Kernel { what, source }
}

/// Whether the tool and the kernel have what it takes; changes nothing.
pub fn probe() -> Result<(), ApplyError> {
    let guarded = [Guarded { slot: 0, device: "lo".into(), role: Role::Wan }];
    let chains = Chains { guarded: &guarded, numbers: (1, 1), known: &[], stale: &[] };
    let all = text::stage(&Kind::ALL, 1) + &chains.text();
    NFT.run("try sets", &["-c", "-f", "-"], &all).map(drop)
}

/// Takes the table away; none there is as good.
pub fn remove() -> Result<(), ApplyError> {
    let text = format!("add table inet {TABLE}\ndelete table inet {TABLE}\n");
    NFT.run("remove sets", &["-f", "-"], &text).map(drop)
}

/// Whether there is such a table, as an agent leaves it that crashed.
#[must_use]
pub fn is_there() -> bool {
    // Answered with all names, or with a refusal.
    Kernel::open().is_ok_and(|mut kernel| names(&mut kernel).is_ok_and(|names| !names.is_empty()))
}

/// Names of the sets in the table.
fn names(kernel: &mut Kernel) -> Result<Vec<String>, RequestError> {
    let mut names = Vec::new();
    let of_table = |builder: &mut Builder| wire::text(builder, wire::SET_TABLE, TABLE);
    let asked = kernel.ask(message::GET_SET, wire::DUMP, wire::INET, of_table, |answer| {
        let find = |kind| answer.attrs(wire::FAMILY_HEADER).find(|attr| attr.kind == kind);
        if answer.kind == message::NEW_SET
            && find(wire::SET_TABLE).is_some_and(|table| *table.text() == *TABLE)
        {
            names.extend(find(wire::SET_NAME).map(|name| name.text().into_string()));
        }
    });
    match asked {
        Err(error) if error.errno() == Some(libc::ENOENT) => Ok(Vec::new()),
        asked => asked.map(|()| names),
    }
}

/// The number in the name of a set.
fn number(name: &str) -> Option<u32> {
    name.rsplit_once('_').and_then(|(_, number)| number.parse().ok())
}

/// Sets, and what is in force of them.
#[derive(Debug)]
pub struct Sets {
    kernel: Kernel,
    guarded: Vec<Guarded>,
    /// Number of the last sets that others had made.
    first: u32,
    /// Number of the last sets that were made.
    last: u32,
    /// Of those that rules ask, or will with the next [`Sets::put`].
    listed: Numbered,
    /// What [`Sets::listed`] was before.
    before: Numbered,
    allowed: Numbered,
    /// Slots that have chains.
    known: Vec<u32>,
    /// Sets that go with the next [`Sets::put`].
    stale: Vec<String>,
    /// The number of what was put in force.
    put: Option<u64>,
}

/// Sets of one number.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
struct Numbered {
    /// 0 for none.
    number: u32,
    /// Ranges in them.
    ranges: u64,
}

impl Sets {
    /// Nothing in force yet. What an earlier agent has left stays so until [`Sets::put`].
    pub fn open() -> Result<Self, SetsError> {
        let what = "look for what is";
        let open = |error| failed(what)(RequestError::Socket(error));
        let mut kernel = Kernel::open().map_err(open)?;
        let names = names(&mut kernel).map_err(failed(what))?;
        let is_live = |name: &String| {
            LIVE.iter().any(|live| {
                name.strip_prefix(live)
                    .is_some_and(|family| FAMILIES.iter().any(|(digit, ..)| *digit == family))
            })
        };
        let stale: Vec<String> = names.into_iter().filter(|name| !is_live(name)).collect();
        let last = stale.iter().filter_map(|name| number(name)).max().unwrap_or(0);
        Ok(Self {
            kernel,
            guarded: Vec::new(),
            first: last,
            last,
            listed: Numbered::default(),
            before: Numbered::default(),
            allowed: Numbered::default(),
            known: Vec::new(),
            stale,
            put: None,
        })
    }

    /// What is blocked for a time, each with the seconds left, [`u32::MAX`] for good: what an
    /// earlier agent has left, too.
    pub fn live(&mut self) -> Result<Vec<(Net, u32)>, SetsError> {
        let mut found = Vec::new();
        for (family, ..) in FAMILIES {
            for (live, is_interval) in LIVE.into_iter().zip([false, true]) {
                let set = format!("{live}{family}");
                let mut told = Vec::new();
                let of_set = |builder: &mut Builder| {
                    wire::text(builder, wire::ELEMENTS_TABLE, TABLE);
                    wire::text(builder, wire::ELEMENTS_SET, &set);
                };
                let kind = message::GET_ELEMENTS;
                let asked = self.kernel.ask(kind, wire::DUMP, wire::INET, of_set, |answer| {
                    if answer.kind == message::NEW_ELEMENTS {
                        let lists = answer.attrs(wire::FAMILY_HEADER);
                        let lists = lists.filter(|attr| attr.kind == wire::ELEMENTS_LIST);
                        let elements = lists.flat_map(|list| list.nested());
                        told.extend(elements.filter_map(|element| elements::told(&element)));
                    }
                });
                match asked {
                    Err(error) if error.errno() == Some(libc::ENOENT) => {}
                    asked => asked.map_err(failed("read what is blocked"))?,
                }
                elements::prefixes(told, is_interval, &mut found);
            }
        }
        Ok(found)
    }

    /// Makes `nets`, each with the second at which it ends ([`u32::MAX`] for never), what is blocked
    /// for a time, in one transaction.
    pub fn set_live(&mut self, nets: &[(Net, u32)], now_s: u32) -> Result<(), SetsError> {
        NFT.run("make sets", &["-f", "-"], &text::base())?;
        let mut waiting: Vec<(String, bool, Vec<Element>)> = Vec::new();
        for (family, ..) in FAMILIES {
            waiting.push((format!("{}{family}", LIVE[0]), false, Vec::new()));
            waiting.push((format!("{}{family}", LIVE[1]), true, Vec::new()));
        }
        let mut wait = |range: Range, until: u32, is_interval: bool| {
            let left_ms = (until != u32::MAX).then(|| u64::from(until - now_s) * 1000);
            let family = if is_v4(*range.start()) { 0 } else { 2 };
            waiting[family + usize::from(is_interval)].2.push(Element { range, left_ms });
        };
        let mut wide = Vec::new();
        for (net, until) in nets.iter().filter(|(_, until)| *until > now_s) {
            if net.is_host() {
                wait(elements::range(net), *until, false);
            } else {
                wide.push((*net, *until));
            }
        }
        for (range, until) in elements::apart(wide) {
            wait(range, until, true);
        }
        // Each set is emptied and filled; the last message asks for an answer.
        let mut left: usize = waiting.iter().map(|(.., all)| 1 + all.chunks(CHUNK).len()).sum();
        let mut ack = || {
            left -= 1;
            if left == 0 { flag::ACK } else { 0 }
        };
        self.kernel
            .transact(|builder, sequence| {
                for (set, is_interval, all) in &waiting {
                    // Without elements: all of them.
                    head(builder, message::DELETE_ELEMENTS, sequence, ack(), set);
                    for chunk in all.chunks(CHUNK) {
                        add(builder, sequence, ack(), set, *is_interval, chunk);
                    }
                }
            })
            .map_err(failed("block for a time"))
    }

    /// Fills sets with ranges apart from each other, in order, that lists block; [`Sets::put`] lets
    /// rules ask them.
    pub fn set_listed(&mut self, ranges: &mut dyn Iterator<Item = Range>) -> Result<(), SetsError> {
        self.before = self.listed;
        self.listed = self.fill(&[Kind::Listed], &mut [ranges])?;
        self.stale(&[Kind::Listed], self.before.number);
        Ok(())
    }

    /// Takes away what [`Sets::set_listed`] made last: rules go on to ask what they ask. Only before
    /// [`Sets::put`], and once.
    pub fn give_up(&mut self) {
        let new = std::mem::replace(&mut self.listed, self.before);
        let kept = sets_of(&[Kind::Listed], self.before.number);
        self.stale.retain(|name| !kept.contains(name));
        discard(&sets_of(&[Kind::Listed], new.number));
    }

    /// The same for what no list blocks, with bits of roles; nothing has to be in order.
    pub fn set_allowed(&mut self, nets: &[(Net, u32)]) -> Result<(), SetsError> {
        let kinds = ROLES.map(Kind::Allowed);
        let before = self.allowed;
        self.allowed = if nets.is_empty() {
            Numbered::default()
        } else {
            let mut ranges = ROLES.map(|role| {
                let its = nets.iter().filter(|(_, roles)| roles & role.bit() != 0);
                let its = elements::apart(its.map(|(net, _)| (*net, u32::MAX)).collect());
                its.into_iter().map(|(range, _)| range)
            });
            let [wan, lan] = &mut ranges;
            self.fill(&kinds, &mut [wan, lan])?
        };
        self.stale(&kinds, before.number);
        Ok(())
    }

    /// The packets of these interfaces meet the sets with the next [`Sets::put`].
    pub fn guard(&mut self, guarded: &[Guarded]) -> Result<(), SetsError> {
        if let Some(bad) = guarded.iter().find(|one| !is_device(&one.device)) {
            return Err(SetsError::Device(bad.device.clone()));
        }
        self.guarded = guarded.to_vec();
        Ok(())
    }

    /// The interfaces whose packets meet the sets.
    #[must_use]
    pub fn guarded(&self) -> &[Guarded] {
        &self.guarded
    }

    /// Whether [`Sets::put`] has put something in force.
    #[must_use]
    pub const fn is_put(&self) -> bool {
        self.put.is_some()
    }

    /// Puts everything in force, by one transaction.
    pub fn put(&mut self) -> Result<(), SetsError> {
        let chains = Chains {
            guarded: &self.guarded,
            numbers: (self.listed.number, self.allowed.number),
            known: &self.known,
            stale: &self.stale,
        };
        NFT.run("put sets in force", &["-f", "-"], &chains.text())?;
        self.stale.clear();
        for slot in self.guarded.iter().map(|one| one.slot) {
            if !self.known.contains(&slot) {
                self.known.push(slot);
            }
        }
        self.put = Some(self.rules()?.number.finish());
        Ok(())
    }

    /// Takes away what was made and nothing asks.
    pub fn abandon(mut self) {
        let mut names = names(&mut self.kernel).unwrap_or_default();
        names.retain(|name| number(name).is_some_and(|number| number > self.first));
        discard(&names);
    }

    /// Bytes of kernel memory of what lists block.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.listed.ranges * RANGE_BYTES
    }

    /// Whether the rules in force are still those of the last [`Sets::put`].
    pub fn is_applied(&mut self) -> Result<bool, SetsError> {
        let number = self.rules()?.number.finish();
        Ok(self.put == Some(number))
    }

    /// What was dropped, by interface and reason.
    pub fn dropped(&mut self) -> Result<Vec<Dropped>, SetsError> {
        Ok(self.rules()?.dropped)
    }

    fn rules(&mut self) -> Result<Rules, SetsError> {
        let mut rules = Rules::default();
        let of_table = |builder: &mut Builder| wire::text(builder, wire::RULE_TABLE, TABLE);
        let kind = message::GET_RULE;
        let asked = self.kernel.ask(kind, wire::DUMP, wire::INET, of_table, |answer| {
            // What is not ours is none.
            let _read = rules.read(&answer);
        });
        match asked {
            Err(error) if error.errno() == Some(libc::ENOENT) => Ok(Rules::default()),
            asked => asked.map(|()| rules).map_err(failed("read the rules")),
        }
    }

    /// Sets of this number go with the next [`Sets::put`].
    fn stale(&mut self, kinds: &[Kind], number: u32) {
        if number != 0 {
            self.stale.extend(sets_of(kinds, number));
        }
    }

    /// Makes sets of a new number and fills them, message by message. What fails leaves none.
    fn fill(
        &mut self,
        kinds: &[Kind],
        ranges: &mut [&mut dyn Iterator<Item = Range>],
    ) -> Result<Numbered, SetsError> {
        self.last += 1;
        let number = self.last;
        NFT.run("make sets", &["-f", "-"], &text::stage(kinds, number))?;
        let mut filled = 0;
        for (kind, ranges) in kinds.iter().zip(ranges) {
            match self.fill_one(*kind, number, *ranges) {
                Ok(count) => filled += count,
                Err(error) => {
                    discard(&sets_of(kinds, number));
                    return Err(failed("put the lists")(error));
                }
            }
        }
        Ok(Numbered { number, ranges: filled })
    }

    fn fill_one(
        &mut self,
        kind: Kind,
        number: u32,
        ranges: &mut dyn Iterator<Item = Range>,
    ) -> Result<u64, RequestError> {
        let sets = FAMILIES.map(|(family, ..)| kind.set(family, number));
        let mut waiting = [const { Vec::<Element>::new() }; 2];
        let mut filled = 0;
        for range in ranges {
            filled += 1;
            let family = usize::from(!is_v4(*range.start()));
            waiting[family].push(range.into());
            if waiting[family].len() == CHUNK {
                self.send(&sets[family], &waiting[family])?;
                waiting[family].clear();
            }
        }
        for (set, waiting) in sets.iter().zip(&waiting).filter(|(_, waiting)| !waiting.is_empty()) {
            self.send(set, waiting)?;
        }
        Ok(filled)
    }

    fn send(&mut self, set: &str, elements: &[Element]) -> Result<(), RequestError> {
        self.kernel.transact(|builder, sequence| {
            add(builder, sequence, flag::ACK, set, true, elements);
        })
    }
}

/// Names of sets of one number.
fn sets_of(kinds: &[Kind], number: u32) -> Vec<String> {
    let mut names = Vec::new();
    for kind in kinds {
        names.extend(FAMILIES.map(|(family, ..)| kind.set(family, number)));
    }
    names
}

/// Takes sets away that nobody asks.
fn discard(names: &[String]) {
    if let Err(error) = NFT.run("take sets away", &["-f", "-"], &text::discard(names)) {
        log::warn!("{error}");
    }
}

/// Begins a message about elements of a set.
fn head(builder: &mut Builder, kind: u16, sequence: u32, ack: u16, set: &str) {
    let create = if kind == message::NEW_ELEMENTS { wire::CREATE } else { 0 };
    let flags = flag::REQUEST | create | ack;
    builder.message(kind, flags, sequence, &wire::header(wire::INET));
    wire::text(builder, wire::ELEMENTS_TABLE, TABLE);
    wire::text(builder, wire::ELEMENTS_SET, set);
}

/// Adds elements to a set.
fn add(
    builder: &mut Builder,
    sequence: u32,
    ack: u16,
    set: &str,
    is_interval: bool,
    elements: &[Element],
) {
    head(builder, message::NEW_ELEMENTS, sequence, ack, set);
    builder.nested(wire::ELEMENTS_LIST, |builder| {
        for element in elements {
            element.write(builder, is_interval);
        }
    });
}

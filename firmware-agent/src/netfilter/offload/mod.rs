//! The firewall's flow offload, held back until a flow is decided.
//!
//! firewall4's `flow add @ft` stands first in its forward chain and hands every connection over at
//! its third packet, so no queue ever sees a ClientHello. Here that rule is put under the trusted bit
//! of the ct mark, in its place in firewall4's chain: its flowtable, devices and flags stay what the
//! user configured. Nothing is written to a file, so a reload of the firewall brings its own rule
//! back; [`Guard`] hears of it and looks again.
//!
//! The tool `nft` is not needed: a look takes a few netlink messages, not a process, because it
//! happens between two packets of the queue.

mod guard;
pub(super) mod kernel;
pub mod own;
mod rule;
mod sets;
pub(super) mod wire;

#[cfg(test)]
mod tests;

use std::io;

pub use self::guard::Guard;
pub use self::kernel::Flowtable;
use self::kernel::{Kernel, Place, Rewrite, hands_over};
pub use self::rule::{Handing, MARKER, Rule};
use crate::config::MarkMask;
use crate::sys::netlink::RequestError;

/// Where firewall4 hands flows over.
const FORWARD: Place = Place { table: "fw4", chain: "forward" };
/// Where Sluice does.
const OWN: Place = Place { table: own::TABLE, chain: "forward" };
/// Looks until the rules did not change meanwhile. Each is as long as a few system calls.
const ATTEMPTS: usize = 8;

/// What should become of the rules.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Wish {
    /// Flows are handed over once their connection has the trusted mark.
    Guard(MarkMask),
    /// The rules are the firewall's own.
    Plain,
}

/// How packets take the short way.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Mode {
    /// No rule hands flows over.
    #[default]
    None,
    /// Through a flowtable of the kernel.
    Software,
    /// Through a flowtable that may give them to the hardware.
    Hardware,
}

impl Mode {
    /// The word used in status.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Software => "software",
            Self::Hardware => "hardware",
        }
    }
}

/// What was found and what is left after a look.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Seen {
    /// How packets take the short way.
    pub mode: Mode,
    /// Devices of the flowtables in use.
    pub devices: Vec<Box<str>>,
    /// Rules of the firewall that hand over trusted flows only.
    pub guarded: usize,
    /// Rules of the firewall that hand over any flow.
    pub open: usize,
    /// Devices of Sluice's own flowtable, when it is in force.
    pub own: Option<Vec<Box<str>>>,
    /// Flowtables of other tables, whose rules are not looked at.
    pub foreign: Vec<String>,
    /// Why a rule is left as it is, or what was left in the flowtable.
    pub obstacles: Vec<String>,
}

/// Keeps the rules as they are wished.
#[derive(Debug, Default)]
pub struct Offload {
    /// Kept open: closing such a socket waits, with the lock of all rules held, for what earlier
    /// transactions removed to be freed.
    kernel: Option<Kernel>,
    seen: Seen,
    guards: u64,
    /// Of the last look that failed.
    failure: Option<String>,
}

impl Offload {
    /// What the last look found.
    #[must_use]
    pub const fn seen(&self) -> &Seen {
        &self.seen
    }

    /// How often rules were put under guard.
    #[must_use]
    pub const fn guards(&self) -> u64 {
        self.guards
    }

    /// Why the last look failed, if it did.
    #[must_use]
    pub fn failure(&self) -> Option<&str> {
        self.failure.as_deref()
    }

    /// Looks at the rules of the calling thread's namespace and makes them as wished. Returns how
    /// many were changed; none is the usual answer, and costs one message where there is no
    /// flowtable.
    ///
    /// With a new guard the flowtable is made anew in the same transaction: flows that were handed
    /// over unseen come back to the forward chain with their connection, address translation and
    /// marks, and those that are trusted are handed over again with their next packet.
    pub fn look(&mut self, wish: Wish) -> Result<usize, OffloadError> {
        let looked = self.try_look(wish, false);
        self.failure = looked.as_ref().err().map(ToString::to_string);
        looked
    }

    /// Empties the flowtables of guarded rules: every flow comes back to the forward chain, and goes
    /// again from there if it is trusted still. Returns how many rules that took.
    pub fn empty(&mut self, wish: Wish) -> Result<usize, OffloadError> {
        self.try_look(wish, true)
    }

    fn try_look(&mut self, wish: Wish, renew: bool) -> Result<usize, OffloadError> {
        let mut kernel = match self.kernel.take() {
            Some(kernel) => kernel,
            None => Kernel::open()?,
        };
        let looked = self.look_with(&mut kernel, wish, renew);
        if looked.is_ok() {
            self.kernel = Some(kernel);
        }
        looked
    }

    fn look_with(
        &mut self,
        kernel: &mut Kernel,
        wish: Wish,
        mut renew: bool,
    ) -> Result<usize, OffloadError> {
        let mut changed = 0;
        let mut empty = true;
        let mut obstacle = None;
        for _ in 0..ATTEMPTS {
            let state = match read(kernel) {
                // A kernel or a namespace without `nf_tables`.
                Err(error) if is_absent(&error) => State::default(),
                state => state?,
            };
            let (mut new, obstacles) = decide(&state.rules, wish);
            if renew {
                // With the same rule again, so that nothing holds on to the flowtable.
                new = state.rules.iter().filter_map(|rule| renewed(rule, &new)).collect();
            }
            self.seen = state.seen(wish, &obstacles);
            self.seen.obstacles.extend(obstacle.clone());
            if new.is_empty() {
                return Ok(changed);
            }
            let emptied = match wish {
                Wish::Guard(_) if empty => state.used_by(&new),
                _ => Vec::new(),
            };
            let mut sets = Vec::new();
            for (_, rule) in &new {
                sets.extend(kernel.sets(FORWARD, rule)?);
            }
            let rewrite = Rewrite {
                rules: &state.rules,
                new: &new,
                emptied: &emptied,
                sets: &sets,
                generation: state.generation,
            };
            match kernel.commit(FORWARD, &rewrite) {
                Ok(()) => {
                    changed += new.len();
                    self.guards += u64::from(matches!(wish, Wish::Guard(_)) && !renew);
                    renew = false;
                }
                // Somebody was faster: what was read is of yesterday.
                Err(error) if error.errno() == Some(libc::ERESTART) => {}
                Err(error) if !emptied.is_empty() => {
                    obstacle = Some(format!(
                        "flows handed over before stay there until they are idle: {error}"
                    ));
                    empty = false;
                }
                Err(error) => return Err(error.into()),
            }
        }
        Err(OffloadError::Busy)
    }
}

/// What matters of the rules, all of one generation unless the kernel refuses the rewrite.
#[derive(Debug, Default)]
struct State {
    generation: u32,
    flowtables: Vec<Flowtable>,
    rules: Vec<Rule>,
}

fn read(kernel: &mut Kernel) -> Result<State, RequestError> {
    let generation = kernel.generation()?;
    let flowtables = kernel.flowtables()?;
    let is_used = flowtables.iter().any(|flowtable| flowtable.is_in(FORWARD));
    let rules = if is_used { kernel.rules(FORWARD)? } else { Vec::new() };
    Ok(State { generation, flowtables, rules })
}

impl Flowtable {
    fn is_in(&self, place: Place) -> bool {
        self.family == wire::INET && &*self.table == place.table
    }
}

impl State {
    fn seen(&self, wish: Wish, obstacles: &[String]) -> Seen {
        let mut seen = Seen { obstacles: obstacles.to_vec(), ..Seen::default() };
        let names: Vec<_> =
            self.rules.iter().filter(|rule| hands_over(rule)).map(Rule::flowtable).collect();
        for flowtable in &self.flowtables {
            if flowtable.is_in(OWN) {
                let mut devices = flowtable.devices.clone();
                devices.sort_unstable();
                seen.devices.extend(devices.iter().cloned());
                seen.own = Some(devices);
                if seen.mode == Mode::None {
                    seen.mode = Mode::Software;
                }
                continue;
            }
            if !flowtable.is_in(FORWARD) {
                seen.foreign.push(format!("{} of table {}", flowtable.name, flowtable.table));
                continue;
            }
            if !names.iter().flatten().any(|name| *name == flowtable.name) {
                continue;
            }
            seen.devices.extend(flowtable.devices.iter().cloned());
            let mode = if flowtable.is_hardware { Mode::Hardware } else { Mode::Software };
            if seen.mode != Mode::Hardware {
                seen.mode = mode;
            }
        }
        seen.devices.sort_unstable();
        seen.devices.dedup();
        for rule in &self.rules {
            match (rule.handing(), wish) {
                (Handing::None, _) => {}
                (Handing::Guarded { mask, value }, Wish::Guard(marks))
                    if (mask, value) == (marks.bits(), marks.trusted()) =>
                {
                    seen.guarded += 1;
                }
                (Handing::Guarded { .. }, Wish::Plain) => seen.guarded += 1,
                (Handing::Open | Handing::Guarded { .. }, _) => seen.open += 1,
            }
        }
        seen
    }

    /// The flowtables that the new rules hand flows to.
    fn used_by(&self, new: &[(u64, Rule)]) -> Vec<Flowtable> {
        let is_used = |flowtable: &&Flowtable| {
            flowtable.is_in(FORWARD)
                && new.iter().any(|(_, rule)| rule.flowtable().as_ref() == Some(&flowtable.name))
        };
        self.flowtables.iter().filter(is_used).cloned().collect()
    }
}

/// The rules that should take the place of others, by their handles, and why others stay.
fn decide(rules: &[Rule], wish: Wish) -> (Vec<(u64, Rule)>, Vec<String>) {
    let (mut new, mut obstacles) = (Vec::new(), Vec::new());
    for rule in rules {
        let wanted = match (rule.handing(), wish) {
            (Handing::None, _) | (Handing::Open, Wish::Plain) => continue,
            (Handing::Guarded { .. }, Wish::Plain) => rule.plain(),
            (Handing::Guarded { mask, value }, Wish::Guard(marks))
                if (mask, value) == (marks.bits(), marks.trusted()) =>
            {
                continue;
            }
            (Handing::Open | Handing::Guarded { .. }, Wish::Guard(marks)) => {
                if let Some(obstacle) = rule.obstacle() {
                    obstacles.push(obstacle);
                    continue;
                }
                rule.guarded(marks)
            }
        };
        new.push((rule.handle, wanted));
    }
    (new, obstacles)
}

/// The rule that takes this one's place, which may be the same.
fn renewed(rule: &Rule, new: &[(u64, Rule)]) -> Option<(u64, Rule)> {
    let changed = new.iter().find(|(handle, _)| *handle == rule.handle).cloned();
    let same = || {
        let is_guarded = matches!(rule.handing(), Handing::Guarded { .. });
        is_guarded.then(|| (rule.handle, rule.clone()))
    };
    changed.or_else(same)
}

/// Whether nobody answers for `nf_tables`.
fn is_absent(error: &RequestError) -> bool {
    matches!(error.errno(), Some(libc::EINVAL | libc::EOPNOTSUPP | libc::EPROTONOSUPPORT))
}

/// Why the rules cannot be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum OffloadError {
    /// No socket.
    #[error("look at the firewall's offload rules: {0}")]
    Socket(#[from] io::Error),
    /// The kernel says no.
    #[error("change the firewall's offload rules: {0}")]
    Refused(#[from] RequestError),
    /// Somebody changes rules all the time.
    #[error("the firewall's rules changed each time they were looked at")]
    Busy,
}

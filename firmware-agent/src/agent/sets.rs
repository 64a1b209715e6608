//! The shield's last rung: where no program drops what lists block, sets of nftables do.
//!
//! What is in them is what programs would have. Where these have the blocks for a time, on other
//! interfaces, that is what counts, and the sets follow; otherwise the agent remembers them.

use std::cell::RefCell;
use std::net::IpAddr;

use sluice_abi::names::LIST_MANUAL;

use super::running::State;
use crate::cli::chain;
use crate::config::{Net, OnCrash};
use crate::control::report::{Feature, State as Health};
use crate::dataplane::blocklist::Listed;
use crate::dataplane::bulk::{self, Entries, Live, Observing};
use crate::dataplane::{Error, FeatureState, Hook, InterfacePlan, State as HookState};
use crate::netfilter::apply::ApplyError;
use crate::netfilter::shield::{self, Dropped, Guarded, RANGE_BYTES, SetsError};
use crate::sys::clock;
use crate::sys::rtnetlink::{self, Device};

/// The rung as `status` names it.
pub(super) const RUNG: &str = "nft sets";
/// What programs do beside lists.
const MISSING: &str = "missing here: rates, checks of flags and sources, SYN cookies, scans, numbers \
                       by list and processor";

/// The sets.
#[derive(Debug, Default)]
pub(super) struct Sets {
    /// `None` while no interface needs them. Counters are read for `status`, which changes nothing.
    kernel: Option<RefCell<shield::Sets>>,
    /// What is blocked for a time, with the second at which it ends; where programs know, a copy.
    live: Vec<(Net, u32)>,
    /// What is allowed in them.
    allowed: Vec<(Net, u32)>,
    /// The number of changes of the programs' blocks that they have.
    mirrored: Option<u32>,
    /// Why they are not in force where they should be.
    refused: Option<String>,
    /// An earlier agent's table was looked for.
    has_looked: bool,
    /// Sets were filled that no rule asks yet.
    is_filled: bool,
    /// Something is blocked that was not.
    has_new: bool,
}

fn error(error: SetsError) -> Error {
    Error::Sets(Box::new(error))
}

impl Sets {
    /// Whether an interface is on this rung.
    pub(super) const fn is_active(&self) -> bool {
        self.kernel.is_some()
    }

    /// Whether that one is.
    pub(super) fn guards(&self, slot: u32) -> bool {
        self.kernel
            .as_ref()
            .is_some_and(|sets| sets.borrow().guarded().iter().any(|guarded| guarded.slot == slot))
    }

    /// What was dropped; nothing where it cannot be read.
    pub(super) fn dropped(&self) -> Vec<Dropped> {
        let dropped = self.kernel.as_ref().map(|sets| sets.borrow_mut().dropped());
        dropped.and_then(Result::ok).unwrap_or_default()
    }

    /// Makes `allowed` what no list blocks, unless it is that.
    pub(super) fn allow(&mut self, allowed: &[(Net, u32)]) -> Result<(), Error> {
        let Some(sets) = &mut self.kernel else { return Ok(()) };
        if self.allowed == allowed {
            return Ok(());
        }
        let sets = sets.get_mut();
        sets.set_allowed(allowed).map_err(error)?;
        self.allowed = allowed.to_vec();
        // Before there are lists nothing asks.
        if sets.is_put() { sets.put().map_err(error) } else { Ok(()) }
    }

    /// Fills sets with what lists block, that no rule asks yet. Gives what lists take beside an
    /// image, these included; refused when that is more than they may have.
    pub(super) fn fill(
        &mut self,
        entries: &mut Entries,
        most: Observing,
        cap_kib: u32,
    ) -> Result<Observing, Error> {
        let Some(sets) = &mut self.kernel else { return Ok(most) };
        let sets = sets.get_mut();
        entries.sort();
        let ranges: &mut dyn Iterator<Item = _> = &mut entries.ranges();
        let needs = ranges.count() as u64 * RANGE_BYTES;
        let most = Observing { new: most.new + needs, in_force: most.in_force + sets.bytes() };
        bulk::check(0, 0, most, Live::default(), cap_kib)?;
        sets.set_listed(&mut entries.ranges()).map_err(error)?;
        self.is_filled = true;
        Ok(most)
    }

    /// Lets rules ask what was filled.
    pub(super) fn put(&mut self) -> Result<(), Error> {
        let Some(sets) = &mut self.kernel else { return Ok(()) };
        if std::mem::take(&mut self.is_filled) {
            sets.get_mut().put().map_err(error)?;
            self.has_new = true;
        }
        Ok(())
    }

    /// Puts sets in force that have no list.
    fn empty(&mut self) -> Result<(), Error> {
        let Some(sets) = &mut self.kernel else { return Ok(()) };
        let sets = sets.get_mut();
        sets.set_listed(&mut std::iter::empty()).and_then(|()| sets.put()).map_err(error)
    }

    /// Bytes of kernel memory that lists take in them.
    pub(super) fn bytes(&self) -> u64 {
        self.kernel.as_ref().map_or(0, |sets| sets.borrow().bytes())
    }

    /// Nothing asks what was filled: it goes.
    pub(super) fn give_up(&mut self) {
        if std::mem::take(&mut self.is_filled)
            && let Some(sets) = &mut self.kernel
        {
            sets.get_mut().give_up();
        }
    }

    /// Blocks for a time.
    pub(super) fn block(&mut self, net: Net, until_s: u32) -> Result<(), SetsError> {
        let before = self.live.clone();
        self.live.retain(|(known, _)| *known != net);
        self.live.push((net, until_s));
        let done = self.write_live();
        if done.is_err() {
            self.live = before;
        }
        done
    }

    /// Whether something is blocked since the last question that was not before.
    pub(super) const fn has_new(&mut self) -> bool {
        std::mem::replace(&mut self.has_new, false)
    }

    /// Ends that.
    pub(super) fn unblock(&mut self, net: &Net) -> Result<(), SetsError> {
        self.live.retain(|(known, _)| known != net);
        self.write_live()
    }

    /// What is blocked for a time and has this address, by the longest prefix.
    pub(super) fn lookup(&self, address: IpAddr, now_s: u32) -> Option<Listed> {
        let host = Net::host(address);
        let found = self.live.iter().filter(|(net, until)| net.contains(&host) && *until > now_s);
        let (net, until) = found.max_by_key(|(net, _)| net.prefix())?;
        let expires_s = if *until == u32::MAX { 0 } else { *until };
        Some(Listed { list: LIST_MANUAL, net: *net, expires_s, allowed_roles: 0 })
    }

    /// Takes them out of the kernel.
    pub(super) fn remove(&mut self) -> Result<(), ApplyError> {
        let is_there = self.kernel.take().is_some() || shield::is_there();
        *self = Self { has_looked: self.has_looked, ..Self::default() };
        if is_there { shield::remove() } else { Ok(()) }
    }

    fn write_live(&mut self) -> Result<(), SetsError> {
        let now_s = clock::monotonic_s();
        self.live.retain(|(_, until)| *until > now_s);
        let Some(sets) = &mut self.kernel else { return Ok(()) };
        self.has_new |= !self.live.is_empty();
        sets.get_mut().set_live(&self.live, now_s)
    }

    /// Takes over what an earlier agent has blocked for a time.
    fn adopt(&mut self, sets: &mut shield::Sets) -> Result<(), SetsError> {
        let now_s = clock::monotonic_s();
        self.live = sets.live()?;
        self.live.iter_mut().for_each(|(_, until)| *until = now_s.saturating_add(*until));
        Ok(())
    }
}

impl State {
    /// Puts lists where no program drops what they block, puts back what somebody took away, and
    /// takes it all away where it is not needed any more.
    pub(super) fn look_after_sets(&mut self) {
        let wanted = self.guarded();
        if wanted.is_empty() {
            // The table may be that of an agent that crashed.
            let is_first = !std::mem::replace(&mut self.sets.has_looked, true);
            if (is_first || self.sets.is_active() || self.sets.refused.is_some())
                && let Err(error) = self.sets.remove()
            {
                log::warn!("{}", chain(&error));
            }
            return;
        }
        self.sets.has_looked = true;
        let done = match &mut self.sets.kernel {
            None => self.start_sets(&wanted),
            Some(sets) => match sets.get_mut().is_applied() {
                Ok(true) if sets.get_mut().guarded() == wanted => return,
                Ok(true) => {
                    let sets = sets.get_mut();
                    sets.guard(&wanted).and_then(|()| sets.put()).map_err(error)
                }
                Ok(false) => {
                    log::warn!("somebody changed our sets: put back");
                    self.start_sets(&wanted)
                }
                Err(reason) => Err(error(reason)),
            },
        };
        match done {
            Ok(()) => self.sets.refused = None,
            Err(reason) => {
                let reason = reason.chain();
                if self.sets.refused.as_ref() != Some(&reason) {
                    log::error!("{reason}");
                }
                self.sets.refused = Some(reason);
            }
        }
    }

    /// The same, where somebody changed rules. What could not be put in force waits for its turn.
    pub(super) fn restore_sets(&mut self) {
        if self.sets.is_active() {
            self.look_after_sets();
        }
    }

    /// Everything anew, in the place of what is there.
    fn start_sets(&mut self, wanted: &[Guarded]) -> Result<(), Error> {
        let Self { sets, dataplane, .. } = self;
        let is_first = sets.kernel.is_none();
        let mut kernel = shield::Sets::open().map_err(error)?;
        let knows_blocks = dataplane.as_ref().is_some_and(|all| all.blocklist.is_some());
        if is_first && !knows_blocks {
            sets.adopt(&mut kernel).map_err(error)?;
        }
        kernel.guard(wanted).map_err(error)?;
        sets.kernel = Some(RefCell::new(kernel));
        (sets.mirrored, sets.allowed) = (None, Vec::new());
        if knows_blocks {
            self.mirror_blocks();
        } else {
            sets.write_live().map_err(error)?;
        }
        let Self { sets, lists, inspector, plan, .. } = self;
        let done = match lists.set_in(sets, &inspector.observing, plan) {
            Ok(()) => Ok(()),
            Err(refusal) => {
                // What is blocked by hand is, all the same.
                lists.refuse(&refusal);
                sets.empty()
            }
        };
        if done.is_err()
            && let Some(kernel) = sets.kernel.take()
        {
            kernel.into_inner().abandon();
        }
        done
    }

    /// Brings blocks for a time that programs have into the sets.
    pub(super) fn mirror_blocks(&mut self) {
        let Self { sets, dataplane, .. } = self;
        let Some(dataplane) = dataplane.as_mut().filter(|_| sets.is_active()) else { return };
        let changes = dataplane.changes();
        let Some(blocklist) = dataplane.blocklist.as_mut() else { return };
        if sets.mirrored == Some(changes) {
            return;
        }
        let live = blocklist.live(clock::monotonic_s()).map_err(|error| error.chain());
        let done = live.and_then(|live| {
            sets.live = live;
            sets.write_live().map_err(|error| chain(&error))
        });
        match done {
            Ok(()) => sets.mirrored = Some(changes),
            Err(reason) => log::error!("{reason}"),
        }
    }

    /// The interfaces that need sets: their shield is wanted, and nowhere.
    fn guarded(&self) -> Vec<Guarded> {
        if !self.plan.enabled {
            return Vec::new();
        }
        let shields = self.shields();
        let plans = self.plan.dataplane.interfaces.iter();
        let mut plans: Vec<_> = plans.filter(|plan| needs_sets(plan, shields.as_deref())).collect();
        if !plans.is_empty() {
            let devices = rtnetlink::devices().unwrap_or_default();
            plans.retain(|plan| obstacle(plan, &devices).is_none());
        }
        plans
            .iter()
            .map(|plan| Guarded {
                slot: plan.slot,
                device: plan.device.as_str().into(),
                role: plan.role,
            })
            .collect()
    }

    /// How the programs' shields fare; `None` without programs.
    fn shields(&self) -> Option<Vec<FeatureState>> {
        let mut features = self.dataplane.as_ref()?.features();
        features.retain(|feature| feature.hook == Hook::Xdp);
        Some(features)
    }

    /// The shields of interfaces that no program guards, instead of what is told of programs.
    pub(super) fn set_features(&self, features: &mut Vec<Feature>) {
        let shields = self.shields();
        let devices = rtnetlink::devices().unwrap_or_default();
        let plans = self.plan.dataplane.interfaces.iter();
        for plan in plans.filter(|plan| self.plan.enabled && needs_sets(plan, shields.as_deref())) {
            let name = format!("shield {}", plan.name);
            let at = features.iter().position(|feature| feature.name == name);
            let at = at.unwrap_or_else(|| {
                features.push(Feature {
                    name,
                    state: Health::Failed,
                    rung: "none".to_owned(),
                    reasons: self.no_dataplane.iter().cloned().collect(),
                });
                features.len() - 1
            });
            let feature = &mut features[at];
            if self.sets.guards(plan.slot) {
                feature.state = Health::Degraded;
                RUNG.clone_into(&mut feature.rung);
                feature.reasons.push(MISSING.to_owned());
                if self.plan.dataplane.on_crash == OnCrash::Detach {
                    feature.reasons.push(
                        "on_crash detach has no effect here: the table stays when the agent dies"
                            .to_owned(),
                    );
                }
            }
            let obstacle = obstacle(plan, &devices).or_else(|| self.sets.refused.clone());
            feature.reasons.extend(obstacle.map(|reason| format!("{RUNG}: {reason}")));
        }
    }

    /// What drops what lists block that no program knows: blocks for a time, and lists.
    pub(super) fn dropping_in_sets(&self, address: IpAddr) -> Vec<(u32, Option<Net>)> {
        if !self.sets.is_active() {
            return Vec::new();
        }
        let live = self.sets.lookup(address, clock::monotonic_s());
        let live = live.map(|found| (found.list, Some(found.net)));
        let mut lists = (0..).zip(&self.plan.lists).filter(|(_, list)| !list.observes);
        let found = lists.find_map(|(number, list)| {
            let (net, _) = super::lists::find(list, address)?;
            self.lists.spared(&net).is_none().then_some((number, None))
        });
        live.into_iter().chain(found).collect()
    }
}

/// Whether the shield of an interface is wanted, no program does its work, and sets may.
fn needs_sets(plan: &InterfacePlan, shields: Option<&[FeatureState]>) -> bool {
    let is_failed = |shields: &[FeatureState]| {
        let mut its = shields.iter().filter(|shield| shield.interface == plan.name);
        its.all(|shield| shield.state == HookState::Failed)
    };
    plan.xdp.may_be_in_nft() && shields.is_none_or(is_failed)
}

/// Why nftables sees no packets of an interface.
fn obstacle(plan: &InterfacePlan, devices: &[Device]) -> Option<String> {
    let Some(device) = devices.iter().find(|device| device.name == plan.device) else {
        return Some(format!("device {} is not there", plan.device));
    };
    let master = devices.iter().find(|one| one.ifindex == device.master)?;
    Some(format!("packets of {} are those of {} there", plan.device, master.name))
}

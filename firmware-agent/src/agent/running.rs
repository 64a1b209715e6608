//! The parts while they run: the way up, and the way down.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::around::Around;
use super::book::Book;
use super::bus::Bus;
use super::ddos::Strangers;
use super::desk::Desk;
use super::domains;
use super::events::Events;
use super::inspector::{Inspector, Policy, Room, Rule};
use super::leases::Devices;
use super::lists::Lists;
use super::lock::Lock;
use super::names::Resolutions;
use super::rules::compiled;
use super::scrape::Scrape;
use super::sets::Sets;
use super::trial::Trial;
use super::unattended::Attendance;
use super::workers::{self, Workers};
use crate::cli::{Exit, Failed, chain};
use crate::config::in_force;
use crate::dataplane::flows::Flows;
use crate::dataplane::object::Objects;
use crate::dataplane::verify::Seen;
use crate::dataplane::{Dataplane, Sizes};
use crate::inspect::engine::{Engine, Limits};
use crate::kernel::Report;
use crate::netfilter::apply::Backend;
use crate::netfilter::conntrack::Conntrack;
use crate::netfilter::offload::Guard;
use crate::netfilter::queue::{LEN_MAX, Options, QueueError, Queues};
use crate::plan::Plan;
use crate::sys::{clock, memory};

/// A configuration that needs everything brought up anew.
pub(super) struct Anew {
    pub(super) plan: Plan,
    pub(super) warnings: Vec<String>,
    pub(super) generation: u32,
}

/// What outlives bringing everything up anew in the same process.
#[derive(Debug, Default)]
pub(super) struct Legacy {
    pub(super) trial: Trial,
    pub(super) events: Events,
    pub(super) devices: Devices,
}

/// Why the tasks ended.
pub(super) enum Next {
    /// Somebody asked for it.
    Stop,
    /// Bring everything up with another configuration.
    Restart(Box<Anew>),
    /// Something broke that cannot be worked around.
    Fail(Failed),
}

/// Everything that runs; shared by the tasks.
pub(super) struct Running {
    pub(super) state: Arc<Lock<State>>,
    pub(super) workers: Workers,
    pub(super) restart: (smol::channel::Sender<Box<Anew>>, smol::channel::Receiver<Box<Anew>>),
}

/// What the tasks share.
pub(super) struct State {
    pub(super) plan: Plan,
    pub(super) generation: u32,
    /// The configuration, unless another file overrides it: [`State::file`].
    file: PathBuf,
    pub(super) warnings: Vec<String>,
    pub(super) lists: Lists,
    /// Those in sets of nftables.
    pub(super) sets: Sets,
    pub(super) strangers: Strangers,
    /// Mistakes of the file that was refused last; empty when the file is in force.
    pub(super) mistakes: Vec<String>,
    pub(super) started_ns: u64,
    pub(super) ready_ns: u64,
    /// `None` when programs cannot run here at all.
    pub(super) dataplane: Option<Dataplane>,
    pub(super) no_dataplane: Option<String>,
    /// `None` when nothing can bring rules into the kernel.
    pub(super) backend: Option<Box<dyn Backend>>,
    /// Why inspection is off or works with less.
    pub(super) inspection_notes: Vec<String>,
    pub(super) reapplied: u64,
    /// Bytes that the programs had marked as trusted when the rules were last applied.
    pub(super) marked_before_rules: u64,
    pub(super) inspector: Inspector,
    /// Packets of full size that the queue's buffer holds; `None` without queues.
    pub(super) queue_burst: Option<usize>,
    /// Received and seen per interface, when its shield was attached.
    pub(super) unverified: HashMap<String, (u64, Seen)>,
    /// The firewall's rules that offload flows.
    pub(super) offload: Guard,
    /// Why there is no flowtable of our own though it is wanted.
    pub(super) no_flowtable: Option<String>,
    /// The marks that it was last put in force for.
    pub(super) flowtable_marks: Option<crate::config::MarkMask>,
    /// The time of day was believed once.
    pub(super) knows_time: bool,
    /// Whether the agent was there to inspect.
    pub(super) attendance: Attendance,
    /// What is known of ubus.
    pub(super) bus: Bus,
    /// What devices are called.
    pub(super) devices: Devices,
    /// What happened, and who is told.
    pub(super) events: Events,
    /// Where figures are offered.
    pub(super) scrape: Scrape,
    /// A configuration that waits to be confirmed.
    pub(super) trial: Trial,
}

impl State {
    /// Fills the lists and attaches the programs, where there are some.
    fn protect(&mut self, mut dataplane: Option<Dataplane>, around: Option<&Around>) {
        if let Some(around) = around {
            self.lists.spare(around.own(&self.plan.management));
        }
        // What an earlier agent left stays in force, and `status` says why; everything else
        // protects meanwhile.
        let Self { lists, sets, inspector, plan, .. } = self;
        if let Err(error) = lists.set(dataplane.as_mut(), sets, &mut inspector.observing, plan) {
            lists.refuse(&error);
        }
        let Some(mut dataplane) = dataplane else {
            self.look_after_sets();
            return;
        };
        self.strangers.look_around(around, &mut dataplane, &self.plan);
        let attached = dataplane.reattach();
        self.dataplane = Some(dataplane);
        if let Err(error) = attached {
            log::warn!("{}", error.chain());
        }
        self.look_after_sets();
    }
}

/// What an earlier agent has left in the flow map.
fn adopted(dataplane: Option<&mut Dataplane>) -> Result<crate::dataplane::Adopted, String> {
    match dataplane.and_then(|dataplane| dataplane.flows.as_mut()) {
        Some(flows) => flows.adopt(clock::monotonic_s()).map_err(|error| error.chain()),
        None => Ok(crate::dataplane::Adopted::default()),
    }
}

impl Running {
    /// Brings everything up: programs and lists first, queues before the rules that feed them.
    ///
    /// What this kernel cannot do is left out with a reason. A queue number that somebody else uses
    /// is an error, because the rules would send our packets there.
    pub(super) fn start(
        mut plan: Plan,
        objects: Objects,
        report: &'static Report,
        warnings: Vec<String>,
        generation: u32,
        started_ns: u64,
        file: &Path,
    ) -> Result<Self, Failed> {
        plan.dataplane.settings.generation = generation;
        let mut inspection_notes = Vec::new();
        let queues = queues_if_any(&plan, &mut inspection_notes)?;
        let (mut dataplane, no_dataplane) = match Dataplane::load(&plan.dataplane, objects, report)
        {
            Ok(dataplane) => (Some(dataplane), None),
            Err(error) => (None, Some(error.chain())),
        };
        let adopted = adopted(dataplane.as_mut());
        let conntrack = Conntrack::open()
            .map_err(|error| inspection_notes.push(format!("conntrack netlink: {error}")))
            .ok();
        let room = room(&plan, dataplane.as_ref().map(Dataplane::sizes));
        let resolutions = Resolutions::new(plan.names, [random(), random()]);
        let (rules, policy) = (rules(&plan), policy(&plan));
        let inspector = Inspector::new(
            Book::new(compiled(&plan)),
            room,
            rules,
            policy,
            conntrack,
            resolutions,
            random(),
        );
        let strangers = Strangers::new(&plan);
        let mut state = State {
            plan,
            generation,
            file: file.to_owned(),
            warnings,
            lists: Lists::default(),
            sets: Sets::default(),
            strangers,
            mistakes: Vec::new(),
            started_ns,
            ready_ns: 0,

            dataplane: None,
            no_dataplane,
            backend: None,
            inspection_notes,
            reapplied: 0,
            marked_before_rules: 0,
            inspector,
            queue_burst: queues.as_ref().and_then(|queues| queues.iter().map(Queues::burst).min()),
            unverified: HashMap::new(),
            offload: Guard::start(),
            no_flowtable: None,
            flowtable_marks: None,
            knows_time: false,
            attendance: Attendance::default(),
            bus: Bus::default(),
            devices: Devices::default(),
            events: Events::default(),
            scrape: Scrape::default(),
            trial: Trial::default(),
        };
        match adopted {
            Ok(adopted) => {
                let flows = dataplane.as_mut().and_then(|dataplane| dataplane.flows.as_mut());
                state.inspector.adopt(clock::monotonic_ns(), adopted, flows);
            }
            Err(error) => log::warn!("{error}"),
        }
        state.inspector.notices.wake(state.events.waker());
        let around = Around::look();
        state.protect(dataplane, around.as_ref());
        // Before the rules bring the first hello.
        if state.inspector.has_other_domain_lists(&state.plan) {
            let room = state.inspector.check_domain_lists(&state.plan);
            let read = domains::Read::new(&state.plan, room);
            state.inspector.set_domain_lists(&state.plan, Some(read));
        }
        state.inspector.start_rulesets(&state.plan);
        memory::give_back();
        if let Some(around) = &around {
            state.look_at_zones(&around.devices);
        }
        state.end_allowed();
        state.look_at_clock();
        if queues.is_some() {
            state.apply_rules();
            state.seed();
        }
        state.look_after_offload();
        state.look_after_flowtable();
        state.ready_ns = clock::monotonic_ns();
        log::info!(
            "protection in force after {} ms, generation {generation}",
            (state.ready_ns - state.started_ns) / 1_000_000
        );
        Self::with_workers(state, queues)
    }

    /// Lets workers read the queues from now on.
    fn with_workers(state: State, queues: Option<Vec<Queues>>) -> Result<Self, Failed> {
        // Without rules nothing would ever come.
        let queues = queues.filter(|_| state.backend.is_some()).unwrap_or_default();
        let (book, held) = (&state.inspector.book, state.inspector.table.held_elsewhere());
        let seed = [random(), random()];
        let limits = share(&state.plan.limits, queues.len());
        let engine = || Engine::new(limits, Arc::clone(&book.rules), seed);
        let desks: Vec<_> =
            queues.iter().map(|_| Desk::new(engine(), book, Arc::clone(&held))).collect();
        let state = Arc::new(Lock::new(state));
        let workers = Workers::start(queues.into_iter().zip(desks), &state);
        let workers = workers.map_err(|error| Failed {
            exit: Exit::Failure,
            message: format!("start a worker: {error}"),
        })?;
        Ok(Self { state, workers, restart: smol::channel::bounded(1) })
    }

    /// Ends the workers; what they shared is nobody's then.
    fn end(self) -> Result<State, Failed> {
        drop(self.workers);
        Arc::into_inner(self.state).map(Lock::into_inner).ok_or_else(|| Failed {
            exit: Exit::Failure,
            message: "a worker outlived its end".to_owned(),
        })
    }

    /// Takes everything out of the kernel.
    pub(super) fn stop(self) -> Result<(), Failed> {
        log::info!("stopping");
        let errors = self.end()?.take_down(false);
        if errors.is_empty() {
            Ok(())
        } else {
            Err(Failed { exit: Exit::Failure, message: errors.join("\n") })
        }
    }

    /// Leaves programs and rules as they are, for the agent that comes next. Gives what that takes over.
    pub(super) fn hand_over(self, next: &Plan) -> Result<Legacy, Failed> {
        let mut state = self.end()?;
        state.collect();
        let legacy = Legacy {
            trial: std::mem::take(&mut state.trial),
            events: std::mem::take(&mut state.events),
            devices: std::mem::take(&mut state.devices),
        };
        let keep = state.plan.dataplane.pin_dir == next.dataplane.pin_dir;
        for error in state.take_down(keep) {
            log::warn!("{error}");
        }
        Ok(legacy)
    }

    /// After a failure: what the configuration wants to stay, stays.
    pub(super) fn abandon(self) {
        let Ok(state) = self.end() else { return };
        if state.plan.dataplane.on_crash == crate::config::OnCrash::Detach {
            for error in state.take_down(false) {
                log::warn!("{error}");
            }
        }
    }
}

impl State {
    /// The file that is the configuration now.
    pub(super) fn file(&self) -> PathBuf {
        in_force(&self.file)
    }

    /// Takes over what was before.
    pub(super) fn inherit(&mut self, legacy: Legacy) {
        let Legacy { trial, events, devices } = legacy;
        self.trial = trial;
        self.events.inherit(events);
        self.devices = devices;
        self.devices.no_bus();
    }

    pub(super) fn flow_map(&self) -> Option<&Flows> {
        self.dataplane.as_ref().and_then(|dataplane| dataplane.flows.as_ref())
    }

    /// Removes rules and, unless `keep`, programs; returns what did not work.
    fn take_down(mut self, keep: bool) -> Vec<String> {
        let mut errors = Vec::new();
        // Handed over, the guard stays until the next agent knows what it wants.
        if !keep {
            let has_own = self.offload.with(|offload| offload.seen().own.is_some());
            if has_own && let Err(error) = crate::netfilter::offload::own::remove() {
                errors.push(chain(&error));
            }
            if let Err(error) = self.offload.restore() {
                errors.push(chain(&error));
            }
        }
        if let Some(dataplane) = &mut self.dataplane {
            self.strangers.end_attacks(dataplane, &self.plan);
        }
        if let Some(mut backend) = self.backend.take()
            && let Err(error) = backend.remove()
        {
            errors.push(chain(&error));
        }
        // As programs do, it stays for the next agent.
        if !keep && let Err(error) = self.sets.remove() {
            errors.push(chain(&error));
        }
        if let Some(dataplane) = self.dataplane.take()
            && let Err(error) = dataplane.stop(keep)
        {
            errors.push(error.chain());
        }
        errors
    }
}

/// The queues of an agent that is switched on, dealt out to workers; notes why there are none.
fn queues_if_any(plan: &Plan, notes: &mut Vec<String>) -> Result<Option<Vec<Queues>>, Failed> {
    if !plan.enabled || !plan.ruleset.inspects() {
        return Ok(None);
    }
    match open_queues(plan) {
        Ok(queues) => Ok(Some(queues)),
        Err(error @ QueueError::Taken { .. }) => Err(Failed::new(Exit::Failure, &error)),
        Err(error) => {
            notes.push(chain(&error));
            Ok(None)
        }
    }
}

/// The queues, dealt out to workers.
fn open_queues(plan: &Plan) -> Result<Vec<Queues>, QueueError> {
    let options =
        Options { marks: plan.ruleset.marks(), policy_open: plan.policy_open, len_max: LEN_MAX };
    let readers = workers::count(plan.workers, plan.queue.1);
    let mut hands = Queues::open(plan.queue.0, plan.queue.1, options)?.deal(readers);
    if let Some(closed) = plan.ruleset.closed_queues() {
        let closed = Queues::open(*closed.start(), plan.queue.1, options.closed())?.deal(readers);
        for (hand, closed) in hands.iter_mut().zip(closed) {
            hand.join(closed);
        }
    }
    Ok(hands)
}

/// What each of so many engines may keep.
fn share(limits: &Limits, engines: usize) -> Limits {
    let engines = engines.max(1);
    Limits {
        flows_max: limits.flows_max.div_ceil(engines as u32),
        bytes_max: limits.bytes_max / engines,
        ..*limits
    }
}

/// 64 bits that nobody can guess.
pub(super) fn random() -> u64 {
    std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), 0_u8)
}

pub(super) const fn policy(plan: &Plan) -> Policy {
    Policy {
        marks: plan.ruleset.marks(),
        on_error: plan.on_error,
        idle_tcp: plan.idle.0,
        idle_udp: plan.idle.1,
        block: plan.block,
        reinspection: plan.reinspection,
        hears_dns: plan.names != 0,
    }
}

/// Room for decisions: what the plan wants, or less where the maps are smaller.
fn room(plan: &Plan, sizes: Option<&Sizes>) -> Room {
    let Some(sizes) = sizes else { return Room { held: plan.held, flows: plan.flows } };
    let held = plan.held.min(sizes.held_slots).min(sizes.held_keys / 2);
    Room { held, flows: plan.flows.min(sizes.flow_slots.saturating_sub(held)) }
}

pub(super) fn rules(plan: &Plan) -> Vec<Rule> {
    let pairs = plan.rules.iter().zip(&plan.treatments);
    pairs
        .map(|(rule, treatment)| Rule {
            name: rule.name.as_str().into(),
            treatment: *treatment,
            rejects: rule.action == crate::config::RuleAction::Reject,
        })
        .collect()
}

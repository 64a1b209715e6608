//! From the configuration in force to the next one.

use std::path::Path;

use super::around::Around;
use super::domains;
use super::rules::compiled;
use super::running::{Anew, Running, State, policy, rules};
use super::workers::Held;
use crate::cli::chain;
use crate::config::{Config, ConfigError, Warning};
use crate::control::hand::Applied;
use crate::inspect::domain_set::Room;
use crate::plan::{Change, Plan};
use crate::signature::Ruleset;
use crate::sys::{clock, memory};

/// What a reload comes to.
enum Outcome {
    /// Nothing is left to do.
    Done,
    /// Engines have to judge by something else: [`State::switch_over`].
    SwitchOver(Box<Next>),
    /// Everything has to be brought up anew.
    Restart(Box<Anew>),
}

/// A configuration of which everything but inspection is in force.
struct Next {
    plan: Plan,
    warnings: Vec<String>,
    generation: u32,
    around: Option<Around>,
    /// For domain lists, where they are others.
    room: Option<Room>,
    rulesets: Option<Vec<Ruleset>>,
}

impl Next {
    /// Reads the domain lists, if they are others. Takes its time.
    fn read_domains(&mut self) -> Option<domains::Read> {
        let room = self.room.take()?;
        Some(domains::Read::new(&self.plan, Ok(room)))
    }
}

/// A configuration that was read as a whole and fits the machine.
pub(super) struct Prepared {
    pub(super) config: Config,
    pub(super) plan: Plan,
    warnings: Vec<String>,
}

impl Prepared {
    /// Reads a text as that file, and the files that it names.
    pub(super) fn read(text: &[u8], file: &Path, hash_key: u32) -> Result<Self, Vec<String>> {
        let ram = super::budget::ram();
        Self::of(Config::load_text(text, &file.to_string_lossy(), ram), hash_key)
    }

    fn of(
        read: Result<(Config, Vec<Warning>), ConfigError>,
        hash_key: u32,
    ) -> Result<Self, Vec<String>> {
        let (config, warnings) = read
            .map_err(|error| error.mistakes.iter().map(ToString::to_string).collect::<Vec<_>>())?;
        let warnings = warnings.iter().map(ToString::to_string).collect();
        let plan = Plan::new(&config, hash_key).map_err(|error| vec![error.to_string()])?;
        super::budget::of(&plan).check().map_err(|error| vec![error.to_string()])?;
        Ok(Self { config, plan, warnings })
    }

    /// Lets its warnings be about another file, which has the same text by now.
    pub(super) fn rename(&mut self, from: &Path, to: &Path) {
        let (from, to) = (from.to_string_lossy(), to.to_string_lossy());
        for warning in &mut self.warnings {
            if let Some(rest) = warning.strip_prefix(&*from) {
                *warning = format!("{to}{rest}");
            }
        }
    }
}

impl Running {
    /// Reads the configuration again. With mistakes in it the old one stays in force.
    pub(super) fn reload(&self) -> Result<Applied, Vec<String>> {
        let (file, hash_key) = {
            let state = self.state.lock();
            (state.file(), state.plan.dataplane.settings.hash_key)
        };
        let read = Config::load_for(&file, super::budget::ram());
        self.put_into_force(Prepared::of(read, hash_key))
    }

    /// Puts into force what was read. With mistakes in it the old one stays in force.
    pub(super) fn put_into_force(
        &self,
        read: Result<Prepared, Vec<String>>,
    ) -> Result<Applied, Vec<String>> {
        // One that has not begun: what was read by now counts.
        let pending = self.restart.1.try_recv().ok();
        let outcome = read.and_then(|prepared| self.state.lock().reload(prepared));
        if outcome.is_err()
            && let Some(pending) = pending
        {
            let _ = self.restart.0.try_send(pending);
        }
        let outcome = outcome.map(|(outcome, reloaded)| match outcome {
            Outcome::Done => (None, reloaded),
            Outcome::Restart(anew) => (Some(anew), reloaded),
            Outcome::SwitchOver(next) => {
                self.switch_over(*next);
                (None, reloaded)
            }
        });
        let mut state = self.state.lock();
        match &outcome {
            Ok((_, reloaded)) => {
                state.mistakes.clear();
                state.trial.forget();
                let Applied { cost, changed, generation, .. } = reloaded;
                let changed = changed.join(", ");
                log::info!("configuration read, generation {generation}: {cost} ({changed})");
            }
            Err(mistakes) => {
                for mistake in mistakes {
                    log::error!("{mistake}");
                }
                log::error!(
                    "the new configuration is refused, generation {} stays in force",
                    state.generation
                );
                state.mistakes.clone_from(mistakes);
            }
        }
        state.bus.look_again();
        state.scrape.look_again();
        let (anew, reloaded) = outcome?;
        if let Some(anew) = anew {
            let _ = self.restart.0.try_send(anew);
        }
        Ok(reloaded)
    }

    /// Puts a configuration into force that was read.
    fn switch_over(&self, mut next: Next) {
        let domains = next.read_domains();
        let mut held = self.workers.hold();
        let mut state = self.state.lock();
        let around = state.switch_over(next, domains, &mut held);
        drop(held);
        state.look_after_reload(around.as_ref());
    }
}

impl State {
    /// Does what takes its time. Flows are decided as before until [`State::switch_over`].
    fn reload(&mut self, prepared: Prepared) -> Result<(Outcome, Applied), Vec<String>> {
        let Prepared { config, mut plan, warnings } = prepared;
        plan.dataplane.settings.generation = self.generation;
        if let Some(now_s) = self.time_of_day() {
            plan.end_allowed(now_s);
        }
        let differences = self.plan.differences(&plan);
        let change = Change::dearest(&differences);
        let mut reloaded = Applied {
            cost: change.name(),
            changed: differences.iter().map(|part| part.what).collect(),
            generation: self.generation,
            ..Applied::default()
        };
        crate::sys::log::start(config.main.log_level);
        // Before anything else, which may take its time or fail. With no change it undoes what a
        // reload that has been overtaken did.
        self.switch(plan.enabled);
        // Lists that could not be read when they should have been put into force are tried again.
        let is_retried =
            self.inspector.domains.refused().is_some() || self.inspector.alarms.refused().is_some();
        if change == Change::None && !is_retried {
            self.warnings = warnings;
            return Ok((Outcome::Done, reloaded));
        }
        let generation = self.generation + 1;
        reloaded.generation = generation;
        plan.dataplane.settings.generation = generation;
        if change == Change::Reload {
            let anew = Anew { plan, warnings, generation };
            return Ok((Outcome::Restart(Box::new(anew)), reloaded));
        }
        let room = self.inspector.check_domain_lists(&plan);
        let room = room.map_err(|error| vec![error.to_string()])?;
        let room = self.inspector.has_other_domain_lists(&plan).then_some(room);
        let rulesets = self.inspector.new_rulesets(&plan).map_err(|error| vec![chain(&error)])?;
        let around = Around::look();
        // The lists first: they are what can be refused, and then nothing has changed.
        if let Some(around) = &around {
            self.lists.spare(around.own(&plan.management));
        }
        self.lists
            .set(self.dataplane.as_mut(), &mut self.sets, &mut self.inspector.observing, &plan)
            .map_err(|error| vec![error.chain()])?;
        if let Some(dataplane) = &mut self.dataplane
            && let Err(error) = dataplane.apply(&plan.dataplane)
        {
            return Err(vec![error.chain()]);
        }
        if let Some(backend) = &mut self.backend
            && plan.ruleset != self.plan.ruleset
        {
            backend.apply(&plan.ruleset).map_err(|error| vec![chain(&error)])?;
            self.note_rules_applied();
        }
        let next = Next { plan, warnings, generation, around, room, rulesets };
        Ok((Outcome::SwitchOver(Box::new(next)), reloaded))
    }

    /// Puts rules, lists and rulesets into force. Nothing is between an engine and its decision, which
    /// would be half by the one and half by the other.
    fn switch_over(
        &mut self,
        next: Next,
        domains: Option<domains::Read>,
        held: &mut Held<'_>,
    ) -> Option<Around> {
        let Next { plan, warnings, generation, around, room: _, rulesets } = next;
        self.plan.clock = plan.clock;
        let time_of_day = self.time_of_day();
        let Self { inspector, dataplane, .. } = &mut *self;
        let flows = dataplane.as_mut().and_then(|dataplane| dataplane.flows.as_mut());
        inspector.set_domain_lists(&plan, domains);
        inspector.set_rulesets(&plan, rulesets);
        inspector.set_rules(
            clock::monotonic_ns(),
            compiled(&plan),
            time_of_day,
            rules(&plan),
            policy(&plan),
            flows,
        );
        self.plan = plan;
        if let Some(around) = &around {
            self.look_at_zones(&around.devices);
        }
        held.take(&mut self.inspector);
        memory::give_back();
        self.warnings = warnings;
        self.generation = generation;
        log::info!("configuration in force, generation {generation}");
        around
    }

    /// What is looked at again once a configuration is in force.
    fn look_after_reload(&mut self, around: Option<&Around>) {
        self.look_after_sets();
        if let Some(dataplane) = &mut self.dataplane {
            self.strangers.look_around(around, dataplane, &self.plan);
        }
        self.look_after_offload();
        self.look_after_flowtable();
        self.empty_offload();
    }

    /// Tells the programs about the kill switch; on only where it is on already, because bringing
    /// everything up is what switches it on.
    fn switch(&mut self, on: bool) {
        let Some(dataplane) = &mut self.dataplane else { return };
        if let Err(error) = dataplane.enable(on && self.plan.enabled) {
            log::error!("{}", error.chain());
        }
    }
}

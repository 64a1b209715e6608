//! From the configuration in force to the next one.

use super::around::Around;
use super::domains;
use super::rules::compiled;
use super::running::{Anew, State, policy, rules};
use super::workers::Held;
use crate::cli::chain;
use crate::config::Config;
use crate::inspect::domain_set::Room;
use crate::plan::{Change, Plan};
use crate::signature::Ruleset;
use crate::sys::{clock, memory};

/// What a reload comes to.
pub(super) enum Outcome {
    /// Nothing is left to do.
    Done,
    /// Engines have to judge by something else: [`State::switch_over`].
    SwitchOver(Box<Next>),
    /// Everything has to be brought up anew.
    Restart(Box<Anew>),
}

/// A configuration of which everything but inspection is in force.
pub(super) struct Next {
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
    pub(super) fn read_domains(&mut self) -> Option<domains::Read> {
        let room = self.room.take()?;
        Some(domains::Read::new(&self.plan, Ok(room)))
    }
}

impl State {
    /// Reads the file and does what takes its time. Flows are decided as before until
    /// [`State::switch_over`].
    pub(super) fn reload(&mut self) -> Result<Outcome, Vec<String>> {
        let (config, warnings) = Config::load(&self.file)
            .map_err(|error| error.mistakes.iter().map(ToString::to_string).collect::<Vec<_>>())?;
        let warnings = warnings.iter().map(ToString::to_string).collect();
        let mut plan = Plan::new(&config, self.plan.dataplane.settings.hash_key)
            .map_err(|error| vec![error.to_string()])?;
        super::budget::of(&plan).check().map_err(|error| vec![error.to_string()])?;
        plan.dataplane.settings.generation = self.generation;
        if let Some(now_s) = self.time_of_day() {
            plan.end_allowed(now_s);
        }
        let change = self.plan.change(&plan);
        crate::sys::log::start(config.main.log_level);
        // Before anything else, which may take its time or fail. With no change it undoes what a
        // reload that has been overtaken did.
        self.switch(plan.enabled);
        // Lists that could not be read when they should have been put into force are tried again.
        let is_retried =
            self.inspector.domains.refused().is_some() || self.inspector.alarms.refused().is_some();
        if change == Change::None && !is_retried {
            self.warnings = warnings;
            return Ok(Outcome::Done);
        }
        let generation = self.generation + 1;
        plan.dataplane.settings.generation = generation;
        if change == Change::Restart {
            return Ok(Outcome::Restart(Box::new(Anew { plan, warnings, generation })));
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
            .set(self.dataplane.as_mut(), &mut self.inspector.observing, &plan)
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
        Ok(Outcome::SwitchOver(Box::new(next)))
    }

    /// Puts rules, lists and rulesets into force. Nothing is between an engine and its decision, which
    /// would be half by the one and half by the other.
    pub(super) fn switch_over(
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
    pub(super) fn look_after_reload(&mut self, around: Option<&Around>) {
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

//! From the configuration in force to the next one.

use super::around::Around;
use super::rules::compiled;
use super::running::{Anew, State, policy, rules};
use crate::cli::chain;
use crate::config::Config;
use crate::plan::{Change, Plan};
use crate::sys::clock;

impl State {
    /// Puts the file into force. `Some` when that needs everything brought up anew.
    pub(super) fn reload(&mut self) -> Result<Option<Box<Anew>>, Vec<String>> {
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
            return Ok(None);
        }
        let generation = self.generation + 1;
        plan.dataplane.settings.generation = generation;
        if change == Change::Restart {
            return Ok(Some(Box::new(Anew { plan, warnings, generation })));
        }
        self.inspector.check_domain_lists(&plan).map_err(|error| vec![error.to_string()])?;
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
        self.plan.clock = plan.clock;
        let time_of_day = self.time_of_day();
        let Self { inspector, dataplane, .. } = &mut *self;
        let flows = dataplane.as_mut().and_then(|dataplane| dataplane.flows.as_mut());
        inspector.set_domain_lists(&plan);
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
        if let Some(dataplane) = &mut self.dataplane {
            self.strangers.look_around(around.as_ref(), dataplane, &self.plan);
        }
        self.look_after_offload();
        self.look_after_flowtable();
        self.empty_offload();
        self.warnings = warnings;
        self.generation = generation;
        log::info!("configuration in force, generation {generation}");
        Ok(None)
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

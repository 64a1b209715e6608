//! What differs between two plans, and what it costs to get from one to the other. Pure.

use sluice_abi::settings::Settings;

use super::Plan;
use crate::config::Change;
use crate::dataplane::plan::DataplanePlan;

/// A part of the plan that is another one.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Difference {
    /// The option or the type of section that says so.
    pub what: &'static str,
    /// What it costs.
    pub cost: Change,
}

impl Change {
    /// What differences cost together.
    #[must_use]
    pub fn dearest(differences: &[Difference]) -> Self {
        differences.iter().map(|part| part.cost).max().unwrap_or_default()
    }
}

impl Plan {
    /// What it takes to get from this plan to `new`.
    #[must_use]
    pub fn change(&self, new: &Self) -> Change {
        Change::dearest(&self.differences(new))
    }

    /// What is different in `new`, each part once.
    #[must_use]
    pub fn differences(&self, new: &Self) -> Vec<Difference> {
        // Naming every field makes a new one a compile error here, not a change that is forgotten.
        let Self {
            dataplane:
                DataplanePlan { pin_dir, interfaces, sizes, settings, on_crash, profiles, spread },
            ruleset,
            backend,
            queue,
            workers,
            limits,
            rules,
            treatments,
            reinspection,
            lists,
            allowed,
            allowed_until,
            flows,
            held,
            on_error,
            policy_open,
            idle,
            block,
            sweep,
            answer,
            run_dir,
            enabled,
            memory_kib,
            list_memory_kib,
            management,
            guard_offload,
            own_offload,
            domainlists,
            domain_memory_kib,
            groups,
            devices,
            schedules,
            clock,
            // Counts at a start only.
            established: _,
            apps,
            countries,
            names,
            rulesets,
            signature_memory_kib,
            dhcp_config,
            ubus,
            notify,
        } = new;
        let old = &self.dataplane;
        let of_marks = ruleset.marks() != self.ruleset.marks();
        let of_policy = *policy_open != self.policy_open || !ruleset.has_queues_of(&self.ruleset);
        let of_settings = Settings { limits: old.settings.limits, ..*settings } != old.settings;
        let reload = [
            ("enabled", *enabled != self.enabled),
            ("pin_dir", *pin_dir != old.pin_dir),
            ("run_dir", *run_dir != self.run_dir),
            ("flows", (*flows, *held) != (self.flows, self.held)),
            ("sizes of maps", *sizes != old.sizes),
            ("netfilter", *backend != self.backend),
            ("queue", *queue != self.queue),
            ("workers", *workers != self.workers),
            ("inspection", *limits != self.limits),
            ("policy", of_policy),
            ("mark_mask", of_marks),
        ];
        let reattach = [("interface", *interfaces != old.interfaces)];
        let update = [
            ("rule", (rules, treatments) != (&self.rules, &self.treatments)),
            ("group", *groups != self.groups),
            ("device", *devices != self.devices),
            ("schedule", *schedules != self.schedules),
            ("profile", *profiles != old.profiles),
            ("blocklist", *lists != self.lists),
            ("allowlist", (allowed, allowed_until) != (&self.allowed, &self.allowed_until)),
            ("domainlist", *domainlists != self.domainlists),
            ("ruleset", *rulesets != self.rulesets),
            ("ddos", settings.limits != old.settings.limits || *answer != self.answer),
            ("settings", of_settings),
            ("rules of the kernel", *ruleset != self.ruleset),
            ("apps", *apps != self.apps),
            ("countries", *countries != self.countries),
            ("management", *management != self.management),
            ("reinspection", *reinspection != self.reinspection),
            ("times", (*idle, *block, *sweep) != (self.idle, self.block, self.sweep)),
            ("on_error", *on_error != self.on_error),
            ("on_crash", *on_crash != old.on_crash),
            ("clock", *clock != self.clock),
            ("dns_names", *names != self.names),
            ("spread", *spread != old.spread),
            ("offload", (*guard_offload, *own_offload) != (self.guard_offload, self.own_offload)),
            ("device_names", *dhcp_config != self.dhcp_config),
            ("ubus", *ubus != self.ubus),
            ("notify", *notify != self.notify),
            ("memory_kib", *memory_kib != self.memory_kib),
            ("list_memory_kib", *list_memory_kib != self.list_memory_kib),
            ("domain_memory_kib", *domain_memory_kib != self.domain_memory_kib),
            ("signature_memory_kib", *signature_memory_kib != self.signature_memory_kib),
        ];
        let mut all = of(&reload, Change::Reload);
        all.extend(of(&reattach, Change::Reattach));
        all.extend(of(&update, Change::Update));
        all
    }
}

/// Those that differ, with this cost.
fn of(parts: &[(&'static str, bool)], cost: Change) -> Vec<Difference> {
    let differ = parts.iter().filter(|(_, differs)| *differs);
    differ.map(|(what, _)| Difference { what, cost }).collect()
}

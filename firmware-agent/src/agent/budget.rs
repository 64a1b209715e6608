//! The memory that a plan may take on this machine.

use super::running::State;
use crate::config::Ram;
use crate::control::report::{Budget as Report, BudgetPart};
use crate::plan::Plan;
use crate::plan::budget::{Budget, Part};
use crate::sys::memory;

/// The class of this machine.
pub(super) fn ram() -> Ram {
    Ram::of(memory::total_kib())
}

/// The budget of a plan on this machine.
pub(super) fn of(plan: &Plan) -> Budget {
    let cpus = aya::util::nr_cpus().map_or(1, |cpus| cpus as u32);
    Budget::new(plan, memory::total_kib(), cpus)
}

/// What is told of a budget.
pub(super) fn report(budget: &Budget) -> Report {
    let parts = budget.parts.iter();
    let part = |part: &Part| BudgetPart {
        what: part.what.to_owned(),
        options: part.options.to_owned(),
        kib: part.kib,
    };
    Report {
        kib: budget.kib(),
        cap_kib: budget.cap_kib,
        class: ram().name().to_owned(),
        parts: parts.map(part).collect(),
    }
}

impl State {
    /// The budget in force.
    pub(super) fn budget(&self) -> Report {
        report(&of(&self.plan))
    }
}

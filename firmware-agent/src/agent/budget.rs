//! The memory that a plan may take on this machine.

use super::running::State;
use crate::control::report::{Budget as Report, BudgetPart};
use crate::plan::Plan;
use crate::plan::budget::Budget;
use crate::sys::memory;

/// The budget of a plan on this machine.
pub(super) fn of(plan: &Plan) -> Budget {
    let cpus = aya::util::nr_cpus().map_or(1, |cpus| cpus as u32);
    Budget::new(plan, memory::total_kib(), cpus)
}

impl State {
    /// The budget in force.
    pub(super) fn budget(&self) -> Report {
        let budget = of(&self.plan);
        let parts = budget.parts.iter();
        Report {
            kib: budget.kib(),
            cap_kib: budget.cap_kib,
            parts: parts
                .map(|part| BudgetPart { what: part.what.to_owned(), kib: part.kib })
                .collect(),
        }
    }
}

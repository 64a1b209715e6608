//! Budgets of the objects: bytes of each, instructions of each program. They are recorded, so that growth is a
//! line in a change and not a surprise on a router.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use anyhow::{Context as _, Result};
use serde::Deserialize;

use super::object::Object;

/// What one object may be.
#[derive(Debug, Default, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
struct Budget {
    /// Bytes of the stripped object, the larger of both endiannesses.
    size: u64,
    /// Instruction slots by program, the larger of both endiannesses.
    insns: BTreeMap<String, u64>,
}

/// The budgets of all objects, by name.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Budgets(BTreeMap<String, Budget>);

impl Budgets {
    /// From the text of `cross/budgets.toml`.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        toml::from_str(text).map(Self).context("cross/budgets.toml is wrong")
    }

    /// What the objects take today.
    pub(crate) fn of(objects: &[Object]) -> Self {
        let mut budgets = BTreeMap::<String, Budget>::new();
        for object in objects {
            let budget = budgets.entry(object.name.clone()).or_default();
            budget.size = budget.size.max(object.size);
            for (program, slots) in &object.programs {
                let known = budget.insns.entry(program.clone()).or_default();
                *known = (*known).max(*slots);
            }
        }
        Self(budgets)
    }

    /// The text of `cross/budgets.toml`.
    pub(crate) fn to_toml(&self) -> String {
        let mut text = String::from(
            "# What the stripped objects may take: bytes, and instructions of each program before the verifier.\n\
             # Compared by `cargo xtask check`, written by `cargo xtask check --record`.\n",
        );
        for (name, budget) in &self.0 {
            let _ = write!(text, "\n[{name}]\nsize = {}\n\n[{name}.insns]\n", budget.size);
            for (program, slots) in &budget.insns {
                let _ = writeln!(text, "{program} = {slots}");
            }
        }
        text
    }

    /// Compares: a table for people, and what is over its budget, has none, or is not there any more.
    pub(crate) fn compare(&self, objects: &[Object]) -> (String, Vec<String>) {
        let mut table = format!("{:<32}{:>10}{:>10}{:>10}\n", "", "now", "budget", "diff");
        let mut faults = Vec::new();
        for object in objects {
            let label = object.label();
            let budget = self.0.get(&object.name);
            let mut row = |name: String, now: u64, budget: Option<u64>| {
                let Some(budget) = budget else {
                    let _ = writeln!(table, "{name:<32}{now:>10}{:>10}", "none");
                    faults.push(format!("{name}: no budget; cargo xtask check --record writes it"));
                    return;
                };
                let diff = now.cast_signed() - budget.cast_signed();
                let _ = writeln!(table, "{name:<32}{now:>10}{budget:>10}{diff:>+10}");
                if now > budget {
                    faults.push(format!("{name}: {now} is over its budget of {budget}"));
                }
            };
            row(format!("{label} bytes"), object.size, budget.map(|b| b.size));
            for (program, slots) in &object.programs {
                let known = budget.and_then(|b| b.insns.get(program).copied());
                row(format!("{label}:{program} insns"), *slots, known);
            }
        }
        faults.extend(self.stale(objects));
        (table, faults)
    }

    fn stale(&self, objects: &[Object]) -> Vec<String> {
        let exist: BTreeSet<(&str, &str)> = objects
            .iter()
            .flat_map(|o| o.programs.iter().map(|(program, _)| (o.name.as_str(), program.as_str())))
            .collect();
        self.0
            .iter()
            .flat_map(|(name, b)| {
                b.insns.keys().map(move |program| (name.as_str(), program.as_str()))
            })
            .filter(|key| !exist.contains(key))
            .map(|(name, program)| format!("{name}:{program} has a budget but does not exist"))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(endianness: &str, size: u64, slots: u64) -> Object {
        Object {
            name: "tc".to_owned(),
            endianness: endianness.to_owned(),
            size,
            programs: vec![("tc_in".to_owned(), slots)],
            faults: Vec::new(),
        }
    }

    #[test]
    fn what_is_recorded_is_read_back_and_is_the_larger_of_both_endiannesses() {
        let objects = [object("bpfel", 100, 20), object("bpfeb", 90, 25)];
        let budgets = Budgets::parse(&Budgets::of(&objects).to_toml()).unwrap();
        assert_eq!(budgets, Budgets::of(&objects));
        assert_eq!(budgets.0["tc"].size, 100);
        assert_eq!(budgets.0["tc"].insns["tc_in"], 25);
        assert_eq!(budgets.compare(&objects).1, [""; 0]);
    }

    #[test]
    fn one_instruction_or_byte_too_many_is_a_fault_and_shown_as_a_difference() {
        let budgets = Budgets::of(&[object("bpfel", 100, 20)]);
        let (table, faults) = budgets.compare(&[object("bpfel", 99, 21)]);
        assert_eq!(faults, ["bpfel/tc:tc_in insns: 21 is over its budget of 20"]);
        assert!(table.contains("-1") && table.contains("+1"), "{table}");
        let (_, faults) = budgets.compare(&[object("bpfel", 101, 20)]);
        assert_eq!(faults, ["bpfel/tc bytes: 101 is over its budget of 100"]);
    }

    #[test]
    fn no_budget_and_a_budget_for_nothing_are_faults() {
        let (_, faults) = Budgets::default().compare(&[object("bpfel", 1, 1)]);
        assert_eq!(faults.len(), 2, "{faults:?}");
        let (_, faults) = Budgets::of(&[object("bpfel", 1, 1)]).compare(&[]);
        assert_eq!(faults, ["tc:tc_in has a budget but does not exist"]);
    }

    #[test]
    fn an_unknown_field_in_the_file_is_refused() {
        assert!(Budgets::parse("[tc]\nsize = 1\nbytes = 2\n[tc.insns]\n").is_err());
    }
}

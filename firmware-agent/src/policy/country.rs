//! Which country the other end is in, and the rules about it.

use std::rc::Rc;

use sluice_abi::flow::Addr;

use super::{Entry, Hit, kind, need};
use crate::config::{Countries, Rule};

/// Countries, and who asks for them.
#[derive(Clone, Debug, Default)]
pub(super) struct Places {
    countries: Rc<Countries>,
    /// Countries and rules about them, sorted.
    rules: Box<[(u16, u32)]>,
}

impl Places {
    pub(super) fn new(countries: &Rc<Countries>, rules: &[Rule]) -> Self {
        let place = |name: &String| (0..).zip(countries.names()).find(|(_, known)| *known == name);
        let mut of_rules: Vec<(u16, u32)> = (0..)
            .zip(rules)
            .flat_map(|(number, rule)| {
                rule.countries.iter().filter_map(move |name| Some((place(name)?.0, number)))
            })
            .collect();
        of_rules.sort_unstable();
        of_rules.dedup();
        Self { countries: Rc::clone(countries), rules: of_rules.into() }
    }

    pub(super) fn find(&self, addr: Addr, hits: &mut Vec<Hit>) {
        if self.rules.is_empty() {
            return;
        }
        let Some(country) = self.countries.find(addr) else { return };
        let first = self.rules.partition_point(|(other, _)| *other < country);
        let rules = self.rules.iter().skip(first).take_while(|(other, _)| *other == country);
        hits.extend(rules.map(|(_, rule)| Hit {
            rule: *rule,
            need: need::COUNTRY,
            kind: kind::COUNTRY,
            len: 0,
            entry: Entry::Country(country),
        }));
    }

    pub(super) fn name(&self, country: u16) -> Option<&str> {
        self.countries.name(country)
    }

    pub(super) fn memory(&self) -> usize {
        self.countries.memory() + size_of_val(&*self.rules)
    }
}

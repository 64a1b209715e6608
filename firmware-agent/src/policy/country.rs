//! Which country the other end is in, and the rules about it.

use std::sync::Arc;

use sluice_abi::flow::Addr;

use super::index::ByPlace;
use super::{Entry, Hit, kind, need};
use crate::config::{Countries, Rule};

/// Countries, and who asks for them.
#[derive(Clone, Debug, Default)]
pub(super) struct Places {
    countries: Arc<Countries>,
    rules: ByPlace<u16>,
}

impl Places {
    pub(super) fn new(countries: &Arc<Countries>, rules: &[Rule]) -> Self {
        let place =
            |name: &str| Some((0..).zip(countries.names()).find(|(_, known)| *known == name)?.0);
        let rules = ByPlace::new(rules, |rule| &rule.countries, place);
        Self { countries: Arc::clone(countries), rules }
    }

    pub(super) fn find(&self, addr: Addr, hits: &mut Vec<Hit>) {
        if self.rules.is_empty() {
            return;
        }
        let Some(country) = self.countries.find(addr) else { return };
        hits.extend(self.rules.of(country).map(|rule| Hit {
            rule,
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
        self.countries.memory() + self.rules.memory()
    }
}

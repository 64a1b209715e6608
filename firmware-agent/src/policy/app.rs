//! Which class of applications a name belongs to, and the rules about it.

use super::index::{ByPlace, Suffixes};
use super::{Entry, Hit, kind, need};
use crate::config::{Apps, Rule};

/// Classes, their domains, and who asks for them.
#[derive(Clone, Debug, Default)]
pub(super) struct Classes {
    names: Box<[Box<str>]>,
    /// Domains; what they lead to is a class.
    domains: Suffixes,
    rules: ByPlace<u32>,
}

impl Classes {
    pub(super) fn new(apps: &Apps, rules: &[Rule]) -> Self {
        let place = |name: &str| Some((0..).zip(&apps.names).find(|(_, known)| *known == name)?.0);
        let domains = apps.domains.iter().map(|(domain, class)| (domain.as_str(), *class));
        Self {
            names: apps.names.iter().map(|name| name.as_str().into()).collect(),
            domains: Suffixes::new(domains.collect()),
            rules: ByPlace::new(rules, |rule| &rule.apps, place),
        }
    }

    /// The class that has the longest domain which is `name` or above it.
    fn of(&self, name: &str) -> Option<u32> {
        self.domains.longest(name)
    }

    pub(super) fn find(&self, name: &str, hits: &mut Vec<Hit>) {
        if self.rules.is_empty() {
            return;
        }
        let Some(class) = self.of(name) else { return };
        hits.extend(self.rules.of(class).map(|rule| Hit {
            rule,
            need: need::APP,
            kind: kind::APP,
            len: 0,
            entry: Entry::App(class),
        }));
    }

    /// The name of the class of a name.
    pub(super) fn name_of(&self, name: &str) -> Option<&str> {
        self.name(self.of(name)?)
    }

    pub(super) fn name(&self, class: u32) -> Option<&str> {
        self.names.get(class as usize).map(|name| &**name)
    }

    pub(super) fn memory(&self) -> usize {
        let names: usize = self.names.iter().map(|name| name.len() + size_of::<Box<str>>()).sum();
        names + self.domains.memory() + self.rules.memory()
    }
}

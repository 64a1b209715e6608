//! What happened, in one form for everybody who is told. Field names are an interface: see
//! `config/events.md`.

#[cfg(test)]
pub(crate) mod document;
pub mod filter;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

pub use crate::config::EventKind as Kind;

/// How much it matters.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Severity {
    /// As the configuration wants it.
    Info,
    /// Something is over.
    Notice,
    /// Somebody should have a look.
    Warning,
    /// Something does not work.
    Error,
}

impl Severity {
    /// Each of them, the least first.
    pub const ALL: [Self; 4] = [Self::Info, Self::Notice, Self::Warning, Self::Error];
    /// Their names.
    pub const NAMES: [&'static str; 4] = ["info", "notice", "warning", "error"];

    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        Self::NAMES[self as usize]
    }

    /// The one with this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.name() == name)
    }
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// What it is about.
    pub kind: Kind,
    /// How much it matters.
    pub severity: Severity,
    /// In words, on one line. Names in it are as the network sent them: every sink escapes.
    pub what: String,
    /// What is known about it, by name.
    pub facts: Map<String, Value>,
}

impl Event {
    /// One without facts.
    #[must_use]
    pub fn new(kind: Kind, severity: Severity, what: String) -> Self {
        Self { kind, severity, what, facts: Map::new() }
    }

    /// With one more fact.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.facts.insert(name.to_owned(), value.into());
        self
    }

    /// With one more fact, when it is known.
    #[must_use]
    pub fn with_some(self, name: &str, value: Option<impl Into<Value>>) -> Self {
        match value {
            Some(value) => self.with(name, value),
            None => self,
        }
    }

    /// As an object; `time` in seconds since 1970, where that is known.
    #[must_use]
    pub fn object(&self, time: Option<f64>) -> Map<String, Value> {
        let mut all = self.facts.clone();
        for (name, value) in [
            ("type", self.kind.name().into()),
            ("time", time.map_or(Value::Null, Value::from)),
            ("severity", self.severity.name().into()),
            ("what", self.what.as_str().into()),
        ] {
            all.insert(name.to_owned(), value);
        }
        all
    }
}

/// How many there were since the agent started.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Totals {
    /// By type.
    pub kinds: BTreeMap<String, u64>,
    /// Those that were too many to keep.
    pub left_out: u64,
    /// Those that nobody was told of because the same was told within a minute.
    pub repeated: u64,
}

/// Events that are told when it is not said how many.
pub const DEFAULT: u32 = 64;

/// Some of the events that are kept, the last first.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Page {
    /// How many there are of those that were asked for.
    pub total: u64,
    /// How many later ones are left out.
    pub offset: u64,
    /// How many of all that are kept are not archived, by type.
    pub open: BTreeMap<String, u64>,
    /// Types that nobody is told of.
    pub muted: Vec<String>,
    /// The events.
    pub events: Vec<Value>,
}

/// Which events have been dealt with.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Which {
    /// This one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub id: Option<u32>,
    /// Those of this type.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub kind: Option<String>,
    /// Those up to this number: later ones nobody has seen.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub until: Option<u32>,
}

/// How many events were archived.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Archived {
    /// That many.
    pub archived: u64,
}

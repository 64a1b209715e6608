//! Parts of long answers.

use serde::{Deserialize, Serialize};

use super::report::Flow;

/// Flows or devices that are told when it is not said how many.
pub const DEFAULT: u32 = 256;
/// Flows or devices that are told at a time.
pub const MAX: u32 = 1024;

/// Which part.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Part {
    /// How many of the first are left out.
    #[serde(default)]
    pub offset: u32,
    /// How many are told at most; [`DEFAULT`] where absent.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub limit: Option<u32>,
}

impl Part {
    /// What is in this part of a whole.
    pub fn of<T>(self, whole: impl Iterator<Item = T>) -> impl Iterator<Item = T> {
        let limit = self.limit.unwrap_or(DEFAULT).min(MAX);
        whole.skip(self.offset as usize).take(limit as usize)
    }
}

/// Decided flows, the most recent first.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct FlowPage {
    /// How many there are.
    pub total: u64,
    /// How many more recent ones are left out.
    pub offset: u64,
    /// The flows.
    pub flows: Vec<Flow>,
}

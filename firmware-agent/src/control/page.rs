//! A part of the decided flows.

use serde::{Deserialize, Serialize};

use super::report::Flow;

/// Flows or devices that are told when it is not said how many.
pub const DEFAULT: u32 = 256;
/// Flows or devices that are told at a time.
pub const MAX: u32 = 1024;

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

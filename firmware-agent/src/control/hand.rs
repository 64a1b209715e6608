//! What the agent tells about a block that somebody asked for.

use serde::{Deserialize, Serialize};

/// A block was made.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Blocked {
    /// Address or prefix.
    pub entry: String,
    /// Seconds until it ends by itself; absent when it does not.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub seconds: Option<u32>,
}

/// A block was lifted.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Unblocked {
    /// Address or prefix.
    pub entry: String,
}

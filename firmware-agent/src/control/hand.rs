//! What the agent tells about what somebody decided.

use serde::{Deserialize, Serialize};

/// A block was made.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Blocked {
    /// Address or prefix.
    pub entry: String,
    /// Seconds until it ends by itself; absent when it does not.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub seconds: Option<u32>,
    /// The section that keeps it; absent for one that ends.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub section: Option<String>,
}

/// A decision was written into the configuration, or taken out of it.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Written {
    /// The section.
    pub section: String,
}

/// A block was lifted.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Unblocked {
    /// Address or prefix.
    pub entry: String,
}

/// What a decision is about.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct About {
    /// Domain, address or prefix.
    pub subject: String,
    /// Hardware address, address or prefix of the devices; without it, or empty, every device.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub device: Option<String>,
    /// For how long; without it, or with 0, for good.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub seconds: Option<u32>,
}

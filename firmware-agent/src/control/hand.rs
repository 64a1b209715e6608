//! What the agent tells about what somebody decided.

use serde::{Deserialize, Serialize};

/// A configuration was put into force.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize)]
pub struct Applied {
    /// What that took: `none`, `update`, `reattach` or `reload`.
    pub cost: &'static str,
    /// What is another one now: options and types of sections.
    pub changed: Vec<&'static str>,
    /// Counts configurations.
    pub generation: u32,
    /// Seconds within which it has to be confirmed; absent where it stays anyway.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub confirm_s: Option<u32>,
    /// How it could lock somebody out.
    pub risks: Vec<String>,
}

/// A file that is to be the configuration.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Apply {
    /// Its absolute path.
    pub file: String,
    /// Seconds within which it has to be confirmed; 0 is not at all. Without it, 60 where it could
    /// lock somebody out.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub confirm: Option<u32>,
    /// Address of who asks, if he is not at the router itself.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub from: Option<String>,
}

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

/// What becomes of everything of a device.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Hold {
    /// Hardware address or address.
    pub device: String,
    /// The rate that it is held to, where it is; 0 ends that.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub kbit: Option<u32>,
    /// For how long; without it, or with 0, until it is lifted.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub seconds: Option<u32>,
}

/// What a decision is about.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct About {
    /// Domain, address or prefix; empty, with a device, for everything of that.
    pub subject: String,
    /// Hardware address, address or prefix of the devices; without it, or empty, every device.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub device: Option<String>,
    /// For how long; without it, or with 0, for good.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub seconds: Option<u32>,
}

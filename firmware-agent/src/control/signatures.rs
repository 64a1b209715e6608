//! What the agent tells about rulesets and their alerts.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::report::Tuple;

/// The rulesets together.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Signatures {
    /// Each of them.
    pub rulesets: Vec<Ruleset>,
    /// Memory that they take.
    pub kib: u64,
    /// Memory that they may take.
    pub cap_kib: u64,
    /// Milliseconds that loading took at the start of the agent, reading of files included.
    pub load_ms: u64,
    /// Alerts that were not logged because there were too many.
    pub unlogged: u64,
}

/// A ruleset in force.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Ruleset {
    /// Name of the section.
    pub name: String,
    /// Whether rules that drop block.
    pub enforce: bool,
    /// Rules in force.
    pub rules: u32,
    /// Rules left out because they use something outside the subset.
    pub unsupported: u32,
    /// Rules left out because they are wrong.
    pub wrong: u32,
    /// How many rules each keyword kept out.
    pub keywords: BTreeMap<String, u32>,
    /// The first rules that were left out, with file, line and reason.
    pub left_out: Vec<String>,
    /// Memory that it takes.
    pub kib: u64,
    /// Packets that were compared. Wraps.
    pub packets: u32,
    /// Rules whose contents were compared. Wraps.
    pub compared: u32,
    /// Packets for which the work for one packet was not enough. Wraps.
    pub cut: u32,
    /// Alerts told.
    pub alerts: u64,
    /// Flows that it blocked.
    pub blocked: u64,
}

/// A rule that matched.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Alert {
    /// Seconds since then.
    pub s_ago: u64,
    /// Name of the ruleset.
    pub ruleset: String,
    /// The group of the rule's number.
    pub gid: u32,
    /// Its number.
    pub sid: u32,
    /// Its revision.
    pub rev: u32,
    /// What it asks for: `alert`, `drop`, `reject`.
    pub action: String,
    /// Whether its flow was blocked.
    pub blocked: bool,
    /// What it is about.
    pub msg: String,
    /// `tcp` or `udp`.
    pub transport: String,
    /// The packet.
    #[serde(flatten)]
    pub tuple: Tuple,
    /// What the device of the household at one of its ends calls itself, as the server of its lease
    /// knows.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub device_name: Option<String>,
}

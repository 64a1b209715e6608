//! What the agent tells about what can be switched.

use serde::Serialize;

use super::report::State;

/// Why a feature does not work, or not as well as it could.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// The configuration switches it off.
    Configuration,
    /// The configuration has nothing that it could do.
    Unconfigured,
    /// The agent as a whole is switched off.
    KillSwitch,
    /// Something that it needs is not there.
    Dependency,
    /// The kernel lacks what [`Row::missing`] names.
    Missing,
    /// Something else; the reasons say what.
    Environment,
}

/// A feature.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Row {
    /// Its name, for `enable` and `disable`.
    pub name: &'static str,
    /// What it does.
    pub about: &'static str,
    /// What the configuration says: `on`, `off`, `partly`, or `absent` where there is nothing to switch.
    pub wanted: &'static str,
    /// How far it got.
    pub state: State,
    /// Why it is not active.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cause: Option<Cause>,
    /// What it needs.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub needs: Vec<&'static str>,
    /// What is on and needs it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub needed_by: Vec<&'static str>,
    /// Why no better state, for people.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub reasons: Vec<String>,
    /// Packages with modules of the kernel, and options of the kernel, that would help.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<String>,
}

/// All of them.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize)]
pub struct Features {
    /// In the order of the table.
    pub features: Vec<Row>,
}

/// A feature was switched.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Switched {
    /// Its name.
    pub feature: &'static str,
    /// Whether it is on now.
    pub on: bool,
    /// What changed, in the order in which it did; empty when it was so already.
    pub changed: Vec<&'static str>,
    /// What was written, as `wan.xdp='off' (was 'auto')`.
    pub written: Vec<String>,
}

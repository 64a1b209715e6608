//! How a feature fares on an interface.

use std::fmt;

use super::pins::Mark;
use super::plan::InterfacePlan;
use crate::kernel::choose::XdpRung;

/// What is attached to an interface.
#[derive(Clone, Copy, Debug, Eq, PartialEq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Hook {
    /// The shield.
    Xdp,
    /// The fast path.
    Tc,
}

/// How well a feature works on an interface.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// As well as it can.
    Active,
    /// With less than the best.
    Degraded,
    /// Not at all, though it is wanted.
    Failed,
    /// Not wanted.
    Off,
}

/// A feature on an interface.
#[derive(Clone, Debug, Eq, PartialEq, serde::Serialize)]
pub struct FeatureState {
    /// Name of the interface in the configuration.
    pub interface: String,
    /// Its network device.
    pub device: String,
    /// Which feature.
    pub hook: Hook,
    /// How well it works.
    pub state: State,
    /// The rung of the ladder in use.
    pub rung: &'static str,
    /// Why it is no better one.
    pub reasons: Vec<String>,
    /// Whether the program was seen to read packets; see [`verify::verify`].
    pub verified: bool,
    /// Why the network card does not drop listed addresses by itself, where that was tried. Hardly
    /// any card does: it takes nothing from the state.
    pub card: Option<String>,
}

impl fmt::Display for FeatureState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hook = match self.hook {
            Hook::Xdp => "xdp",
            Hook::Tc => "tc",
        };
        write!(f, "{hook} on {} ({}): {}", self.interface, self.device, self.rung)?;
        for reason in &self.reasons {
            write!(f, "; {reason}")?;
        }
        Ok(())
    }
}

/// A feature, and what it holds in the kernel.
#[derive(Clone, Debug)]
pub(super) struct Held {
    pub(super) state: FeatureState,
    pub(super) marks: Vec<(Mark, u32)>,
    /// Whether the programs are those of before: newer ones could not be loaded.
    pub(super) is_stale: bool,
    /// MTUs of the devices, where a driver refused: with others it may not.
    pub(super) mtus: Option<Vec<u32>>,
    /// Whether the fast path does the shield's work as well.
    pub(super) shields: bool,
}

impl Held {
    /// Whether there is such an attachment.
    pub(super) fn has(&self, mark: Mark) -> bool {
        self.marks.iter().any(|(kind, _)| *kind == mark)
    }

    /// Whether it looks at packets on their way out too.
    pub(super) fn has_egress(&self) -> bool {
        self.has(Mark::TcxOut) || self.has(Mark::FilterOut)
    }

    /// The feature, with what it cannot do when a crash `detaches`.
    pub(super) fn shown(&self, detaches: bool) -> FeatureState {
        let mut state = self.state.clone();
        if detaches && self.has(Mark::FilterIn) {
            state.state = state.state.max(State::Degraded);
            state.reasons.push(
                "on_crash detach has no effect here: filters of clsact belong to the device, not to \
                 the agent, and stay when it dies"
                    .to_owned(),
            );
        }
        if detaches && self.has(Mark::Device) {
            state.state = state.state.max(State::Degraded);
            state.reasons.push(
                "on_crash detach has no effect in the card: its program stays when the agent dies"
                    .to_owned(),
            );
        }
        state
    }
}

impl FeatureState {
    pub(super) fn new(interface: &InterfacePlan, hook: Hook, rung: &'static str) -> Self {
        Self {
            interface: interface.name.clone(),
            device: interface.device.clone(),
            hook,
            state: State::Off,
            rung,
            reasons: Vec::new(),
            verified: false,
            card: None,
        }
    }

    pub(super) fn failed(mut self, reason: String) -> Held {
        self.state = State::Failed;
        self.reasons.push(reason);
        self.without_marks()
    }

    /// Another interface's program does the work.
    pub(super) fn within(mut self, reason: String) -> Held {
        self.state = State::Active;
        self.rung = "shared";
        self.reasons.push(reason);
        self.without_marks()
    }

    /// The fast path does the work, after drivers of devices with these MTUs refused.
    pub(super) fn in_tc(mut self, mtus: Option<Vec<u32>>) -> Held {
        self.state = if self.reasons.is_empty() { State::Active } else { State::Degraded };
        self.rung = XdpRung::Tc.name();
        Held { mtus, ..self.without_marks() }
    }

    pub(super) const fn without_marks(self) -> Held {
        Held { state: self, marks: Vec::new(), is_stale: false, mtus: None, shields: false }
    }
}

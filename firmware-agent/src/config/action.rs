//! What a rule does.

use super::reader::words;

/// What a rule does.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum RuleAction {
    /// The flow is trusted, whatever other rules say that are not more particular.
    Allow,
    /// The flow is blocked.
    #[default]
    Block,
    /// The flow is blocked, and its ends are told.
    Reject,
    /// The flow is held to a rate.
    Limit,
    /// The flow is trusted, and its packets leave as its profile says.
    Mark,
    /// What blocking would do is counted, and nothing is done.
    Observe,
    /// The flow is blocked as long as the rule holds, whatever other rules say, and goes on after.
    Pause,
}

/// The words of actions.
pub(super) const WORDS: &[&str] =
    &["allow", "block", "reject", "limit", "mark", "observe", "pause"];

words!(RuleAction,
    "allow" => Self::Allow, "block" => Self::Block, "reject" => Self::Reject,
    "limit" => Self::Limit, "mark" => Self::Mark, "observe" => Self::Observe,
    "pause" => Self::Pause,
);

impl RuleAction {
    /// Every action.
    pub const ALL: [Self; 7] = [
        Self::Allow,
        Self::Block,
        Self::Reject,
        Self::Limit,
        Self::Mark,
        Self::Observe,
        Self::Pause,
    ];

    /// Its word.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Block => "block",
            Self::Reject => "reject",
            Self::Limit => "limit",
            Self::Mark => "mark",
            Self::Observe => "observe",
            Self::Pause => "pause",
        }
    }

    /// Whether the flow ends.
    #[must_use]
    pub const fn is_blocking(self) -> bool {
        matches!(self, Self::Block | Self::Reject | Self::Pause)
    }

    /// Whether packets go on as a profile says.
    #[must_use]
    pub const fn has_profile(self) -> bool {
        matches!(self, Self::Allow | Self::Limit | Self::Mark)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_action_has_its_word() {
        assert_eq!(RuleAction::ALL.map(RuleAction::name), WORDS);
    }
}

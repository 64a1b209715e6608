//! What a change of the configuration costs.

use std::fmt;

/// What it takes to get from one configuration to another, cheapest first.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub enum Change {
    /// Nothing of what packets meet is touched.
    #[default]
    None,
    /// Map writes and one transaction of rules: no packet notices.
    Update,
    /// Programs come to and go from interfaces; maps, and so flows, survive.
    Reattach,
    /// Sizes, directories or queues changed, or the kill switch was used: the agent brings itself up
    /// anew, and leaves what it has decided in the kernel meanwhile.
    Reload,
}

impl Change {
    /// Its word.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Update => "update",
            Self::Reattach => "reattach",
            Self::Reload => "reload",
        }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What the change of one option costs.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Cost {
    /// In the usual course.
    pub usual: Change,
    /// At most: where more has to be done for some values than for others.
    pub most: Change,
}

impl Cost {
    pub(super) const fn of(change: Change) -> Self {
        Self { usual: change, most: change }
    }
}

impl fmt::Display for Cost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.usual.fmt(f)?;
        if self.most != self.usual {
            write!(f, ", {} at most", self.most)?;
        }
        Ok(())
    }
}

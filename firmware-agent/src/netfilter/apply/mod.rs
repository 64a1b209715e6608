//! Brings the rules into the kernel and out of it, by the tool that the kernel suits.
//!
//! Which rule does what is the business of [`super::rules`]; here only transactions, checks and
//! counters.

mod choose;
mod command;
mod iptables;
mod nft;
mod watchdog;

use std::fmt;
use std::io;

pub use self::choose::{Wish, choose, ladder};
pub use self::iptables::Iptables;
pub(super) use self::nft::NFT;
pub use self::nft::Nft;
pub use self::watchdog::{COMMAND as WATCHDOG, Watchdog, watch};
use super::rules::{Counted, Ruleset};
use crate::config::Mac;

/// Packets and bytes that a kind of rule has seen since the rules were last applied.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Count {
    /// What is counted.
    pub counted: Counted,
    /// Packets.
    pub packets: u64,
    /// Bytes from the IP header on.
    pub bytes: u64,
}

/// Adds to the counter of the same kind.
fn add(counts: &mut Vec<Count>, new: Count) {
    match counts.iter_mut().find(|count| count.counted == new.counted) {
        Some(count) => {
            count.packets = count.packets.saturating_add(new.packets);
            count.bytes = count.bytes.saturating_add(new.bytes);
        }
        None => counts.push(new),
    }
}

/// A way to bring rules into the kernel. Its calls run a program and wait for it, usually a few
/// milliseconds and at most ten seconds.
pub trait Backend: fmt::Debug + Send {
    /// Which one it is.
    fn kind(&self) -> Kind;

    /// Puts the rules in force; those of an earlier call, or of an earlier agent, are replaced in
    /// the same transaction.
    fn apply(&mut self, rules: &Ruleset) -> Result<(), ApplyError>;

    /// Takes the rules away; none there is as good.
    fn remove(&mut self) -> Result<(), ApplyError>;

    /// Whether the rules in force are still, word for word, those that [`Backend::apply`] left.
    fn is_applied(&self) -> Result<bool, ApplyError>;

    /// Whether the rules in force copy DNS messages for who listens to their log group, or why not.
    fn copies_dns(&self) -> Result<(), String>;

    /// What the rules have counted; nothing when they are not in force.
    fn counters(&self) -> Result<Vec<Count>, ApplyError>;

    /// The devices that sent more than their share to the queue within ten minutes; at most 64.
    fn greedy(&self) -> Result<Vec<Mac>, ApplyError>;
}

/// The ways there are, best first.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// A table of our own.
    Nft,
    /// Chains of our own in the tables that `iptables-nft` keeps.
    Iptables,
}

impl Kind {
    /// The word used in configuration and status.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Nft => "nft",
            Self::Iptables => "iptables-nft",
        }
    }

    /// The kind with this word.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Nft, Self::Iptables].into_iter().find(|kind| kind.name() == name)
    }

    /// A new backend of this kind.
    #[must_use]
    pub fn backend(self) -> Box<dyn Backend> {
        match self {
            Self::Nft => Box::new(Nft::new()),
            Self::Iptables => Box::new(Iptables::new()),
        }
    }
}

/// Why rules cannot be brought into the kernel.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// The tool is not there.
    #[error("`{program}` is missing: install {package}")]
    Missing {
        /// Name of the tool.
        program: &'static str,
        /// Package that has it.
        package: &'static str,
    },
    /// The tool cannot be run.
    #[error("run `{program}`")]
    Run {
        /// Name of the tool.
        program: &'static str,
        /// The system's answer.
        source: io::Error,
    },
    /// The tool does not come to an end.
    #[error("`{program}` did not end within {seconds} seconds and was killed")]
    Slow {
        /// Name of the tool.
        program: &'static str,
        /// The time limit.
        seconds: u64,
    },
    /// The tool says more than any of our rules could make it say.
    #[error("`{program}` wrote more than {bytes} bytes")]
    Long {
        /// Name of the tool.
        program: &'static str,
        /// The limit.
        bytes: usize,
    },
    /// The tool, or the kernel behind it, says no.
    #[error("`{program}` failed to {what}: {output}{}", hint(output))]
    Refused {
        /// Name of the tool.
        program: &'static str,
        /// What it was asked to do.
        what: &'static str,
        /// What it wrote to standard error.
        output: Box<str>,
    },
    /// No rung of the ladder holds.
    #[error("no way to queue packets: {}", .0.join("; "))]
    NoBackend(
        /// Why not, one for each rung.
        Vec<String>,
    ),
}

/// What the user can do about it.
fn hint(output: &str) -> &'static str {
    if output.contains("Operation not permitted") || output.contains("you must be root") {
        " (needs root or CAP_NET_ADMIN)"
    } else {
        ""
    }
}

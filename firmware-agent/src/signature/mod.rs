//! A subset of the rule language that intrusion detection has in common: reading, compiling, matching.
//!
//! Owns the text of the rules, one automaton for each kind of buffer, and the counts behind
//! `threshold`. Pure: no files, no clock, bounded memory and bounded work for each packet. Does not
//! own what buffers are made of, nor what is done about a match.
//!
//! A rule that uses anything outside the subset is left out as a whole and counted by keyword.

mod automaton;
mod build;
mod condition;
mod content;
mod contents;
mod error;
mod line;
mod list;
mod load;
mod matcher;
mod options;
mod ranges;
mod rule;
mod ruleset;
mod threshold;

pub use self::build::{Builder, Signatures, TooLarge};
pub use self::condition::{FlowWants, Sizes, TcpFlags, Threshold, ThresholdKind, Track};
pub use self::content::{CONTENT_MAX, Content};
pub use self::error::{Invalid, Refusal};
pub use self::list::Variables;
pub use self::load::{LeftOut, Loader, Mistake, Report};
pub use self::matcher::{Facts, Found, Limits, Match, Matcher, Stats};
pub use self::options::{Group, MSG_MAX, Parsed};
pub use self::ranges::{Point, Ranges, number};
pub use self::rule::{Action, App, Apps, Buffer, Header, Protocol, Rule, Transport};
pub use self::ruleset::{Alert, Ruleset, Told};

#[cfg(test)]
mod tests;

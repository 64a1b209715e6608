//! What the engine counted.

use super::message::News;
use super::outcome::{Cause, Outcome};
use sluice_abi::verdict::{Reason, Verdict};

/// Counters since the engine was made. A flow counts once under the first answer it got.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Stats {
    /// Packets given to the engine.
    pub packets: u64,
    /// Packets that belong to no flow that is inspected.
    pub not_a_flow: u64,
    /// Packets whose copy was cut.
    pub truncated: u64,
    /// Packets whose headers contradict each other: their receiver ignores them too.
    pub malformed: u64,
    /// Flows whose inspection began.
    pub flows: u64,
    /// ClientHellos read.
    pub hellos: u64,
    /// Those of them that QUIC carried.
    pub quic_hellos: u64,
    /// Requests of plain HTTP read.
    pub requests: u64,
    /// Answers of TLS servers read.
    pub answers: u64,
    /// Flows trusted.
    pub trusted: u64,
    /// Flows blocked.
    pub blocked: u64,
    /// Flows that were trusted because their window ended.
    pub window_end: u64,
    /// Flows not decided, by [`Cause::index`].
    pub undecided: [u64; Cause::COUNT],
    /// Flows that closed before a decision.
    pub closed: u64,
    /// Flows forgotten because nothing came.
    pub expired: u64,
    /// Flows inspected anew because their addresses and ports opened another connection.
    pub reopened: u64,
    /// Packets of flows that were decided before.
    pub repeated: u64,
}

impl Stats {
    /// Counts a message that was read.
    pub(super) fn take(&mut self, news: Option<&News>) {
        match news {
            Some(News::Hello(hello)) => {
                self.hellos += 1;
                self.quic_hellos += u64::from(hello.quic.is_some());
            }
            Some(News::Request(_)) => self.requests += 1,
            Some(News::Answer(_)) => self.answers += 1,
            None => {}
        }
    }

    /// Counts the first answer about a flow.
    pub(super) const fn count(&mut self, outcome: Outcome) {
        match outcome {
            Outcome::NotAFlow => self.not_a_flow += 1,
            Outcome::Inspect => {}
            Outcome::Undecided(cause) => self.undecided[cause.index()] += 1,
            Outcome::Decided(decision) => {
                match decision.verdict {
                    Verdict::Blocked => self.blocked += 1,
                    _ => self.trusted += 1,
                }
                if matches!(decision.reason, Reason::WindowEnd) {
                    self.window_end += 1;
                }
            }
        }
    }

    /// Adds what another engine counted.
    pub fn join(&mut self, other: &Self) {
        for ((_, sum), (_, more)) in self.counters().into_iter().zip(other.clone().counters()) {
            *sum += *more;
        }
    }

    /// Name and value of each counter.
    #[must_use]
    pub fn rows(&self) -> Vec<(&'static str, u64)> {
        self.clone().counters().into_iter().map(|(name, value)| (name, *value)).collect()
    }

    fn counters(&mut self) -> Vec<(&'static str, &mut u64)> {
        // Naming every field makes a new one a compile error here.
        let Self {
            packets,
            not_a_flow,
            truncated,
            malformed,
            flows,
            hellos,
            quic_hellos,
            requests,
            answers,
            trusted,
            blocked,
            window_end,
            undecided,
            closed,
            expired,
            reopened,
            repeated,
        } = self;
        let mut counters = vec![
            ("packets", packets),
            ("not_a_flow", not_a_flow),
            ("truncated", truncated),
            ("malformed", malformed),
            ("flows", flows),
            ("hellos", hellos),
            ("quic_hellos", quic_hellos),
            ("requests", requests),
            ("answers", answers),
            ("trusted", trusted),
            ("blocked", blocked),
            ("window_end", window_end),
            ("closed", closed),
            ("expired", expired),
            ("reopened", reopened),
            ("repeated", repeated),
        ];
        counters.extend(Cause::COUNTERS.into_iter().zip(undecided));
        counters
    }
}

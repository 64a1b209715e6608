//! Connections that are older than the agent, and those that nobody has decided about.

use super::inspector::Inspector;
use super::running::State;
use crate::cli::chain;
use crate::config::{Established, MarkMask};
use crate::netfilter::conntrack::{Connection, Conntrack, Tuple};

impl State {
    /// Trusts the connections that are there, if that is wanted: once, at the start of this process.
    /// Later it would trust what is under inspection.
    pub(super) fn seed(&mut self) {
        if self.generation != 1 || self.plan.established != Established::Trust {
            return;
        }
        let trusted = self.inspector.seed(self.plan.flows as usize);
        log::info!("{trusted} connections that are older than the agent are trusted");
    }
}

impl Inspector {
    /// Marks connections that nobody has decided about as trusted, `max` at most; says how many. They
    /// have no entry in the map of flows: nothing is known of them that could be told.
    fn seed(&mut self, max: usize) -> usize {
        let Some(conntrack) = &mut self.conntrack else { return 0 };
        let marks = self.policy.marks;
        let unseen = &self.unseen;
        let mut found: Vec<Tuple> = Vec::new();
        undecided(conntrack, marks, |connection| {
            let is_unseen =
                connection.flows().iter().any(|(key, _)| unseen.get(key) == Some(connection.id));
            if connection.is_established() && !is_unseen && found.len() < max {
                found.push(connection.original);
            }
        });
        for original in &found {
            // The mark alone: what is trusted may be offloaded or not.
            if let Err(error) = conntrack.set_mark(original, marks.bits(), marks.trusted()) {
                log::debug!("mark a connection: {error}");
            }
        }
        found.len()
    }
}

/// Calls `each` with the connections that nobody has decided about.
pub(super) fn undecided(
    conntrack: &mut Conntrack,
    marks: MarkMask,
    mut each: impl FnMut(&Connection),
) {
    let listed = conntrack.each(|connection| {
        if connection.mark & marks.bits() == 0 {
            each(connection);
        }
    });
    if let Err(error) = listed {
        log::warn!("{}", chain(&error));
    }
}

//! Connections that are older than the agent.

use sluice_abi::flow::{Direction, FlowKey};

use super::inspector::Inspector;
use super::running::State;
use crate::cli::chain;
use crate::config::Established;

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
        let mut found: Vec<(FlowKey, Direction)> = Vec::new();
        let listed = conntrack.each(|connection| {
            let [own, other] = connection.flows();
            let is_unseen = |key| unseen.get(key) == Some(connection.id);
            if connection.is_established()
                && connection.mark & marks.bits() == 0
                && !is_unseen(&own.0)
                && !is_unseen(&other.0)
                && found.len() < max
            {
                found.push(own);
            }
        });
        if let Err(error) = listed {
            log::warn!("{}", chain(&error));
        }
        for own in &found {
            self.mark_connection(*own, marks.trusted());
        }
        found.len()
    }
}

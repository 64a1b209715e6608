//! Times when nobody inspected: the agent was stopped, gone, or too busy, and the policy let packets
//! go past the queue.
//!
//! The programs see it by a heartbeat. Back again, the agent takes down which connections are not
//! decided: packets of them may have passed, so none of them is ever trusted.

use std::collections::HashMap;
use std::time::Duration;

use sluice_abi::flow::FlowKey;
use sluice_abi::settings::Settings;

use super::inspector::Inspector;
use super::running::State;
use super::seed::undecided;
use crate::cli::chain;
use crate::control::report::Unattended;
use crate::netfilter::apply::{Backend, Watchdog};
use crate::netfilter::rules::Counted;
use crate::sys::clock;

/// Time between two heartbeats: four fit into the silence that the programs allow.
pub(super) const BEAT: Duration = Duration::from_millis(450);
/// Silence after which packets have passed, as the programs count it.
///
/// Less by what it takes to be told and by their coarse clock: to take silence for longer than it was
/// costs a look at conntrack, to miss one would trust what passed.
const SILENCE_MAX: Duration = Duration::from_nanos(Settings::SILENCE_NS as u64 - 100_000_000);

/// Connections of which packets may have passed while nobody inspected, with the number by which
/// conntrack tells one from a later one between the same ends.
#[derive(Debug, Default)]
pub(super) struct Unseen {
    connections: HashMap<FlowKey, u32>,
    /// Nobody inspects at present what another worker should.
    pub(super) is_going_on: bool,
}

impl Unseen {
    /// The connection's number, if it is one of them.
    pub(super) fn get(&self, key: &FlowKey) -> Option<u32> {
        if self.connections.is_empty() { None } else { self.connections.get(key).copied() }
    }

    pub(super) fn forget(&mut self, key: &FlowKey) {
        self.connections.remove(key);
    }
}

/// When the agent was last alive, and how often it was not.
#[derive(Debug, Default)]
pub(super) struct Attendance {
    last_ns: u64,
    /// What the rules had counted when this was last looked at.
    counted: u64,
    report: Unattended,
    /// When it ended last.
    returned_ns: u64,
    /// A worker did not turn to its queues when this was looked at last.
    is_stuck: bool,
    /// Where the programs do not look for the heartbeat.
    watchdog: Option<Watchdog>,
}

/// Whether somebody had the queue open.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Listener {
    Was,
    /// The first packets went past the queue by the queue's own rule, uncounted.
    WasNot,
}

impl Attendance {
    pub(super) fn report(&self, now_ns: u64) -> Unattended {
        Unattended { last_s_ago: super::report::ago(now_ns, self.returned_ns), ..self.report }
    }
}

impl State {
    /// To be called before anything that counts on what was decided, because the heartbeat may have
    /// its turn later.
    pub(super) fn notice_silence(&mut self) {
        let silence = clock::monotonic_ns().saturating_sub(self.attendance.last_ns);
        if Duration::from_nanos(silence) > SILENCE_MAX {
            if self.attendance.is_stuck {
                self.inspector.unseen.is_going_on = true;
            } else {
                self.beat();
            }
        }
    }

    /// Tells the programs that packets of the queue are answered, if every worker has turned to its
    /// own. What one leaves lying is not for another to answer.
    pub(super) fn attend(&mut self, have_turned: bool) {
        self.attendance.is_stuck = !have_turned;
        if have_turned {
            self.beat();
        } else {
            log::debug!("a worker is late");
        }
    }

    /// Tells the programs that the agent is alive, and looks after what passed if it was not.
    pub(super) fn beat(&mut self) {
        let now_ns = clock::monotonic_ns();
        let silence = Duration::from_nanos(now_ns.saturating_sub(self.attendance.last_ns));
        self.attendance.last_ns = now_ns;
        self.inspector.unseen.is_going_on = false;
        // First of all: from now on what is not decided waits for an answer, and is not confirmed
        // before it gets one. So what conntrack knows a moment later is what passed.
        if let Some(Err(error)) = self.dataplane.as_mut().map(|dataplane| dataplane.settings.beat())
        {
            log::warn!("{}", error.chain());
        }
        self.look_after_watchdog();
        if silence > SILENCE_MAX && self.plan.enabled && self.plan.policy_open {
            let Some(mut backend) = self.backend.take() else { return };
            self.was_away(&mut *backend, silence, now_ns, Listener::Was);
            self.backend = Some(backend);
        }
    }

    /// Keeps a process that watches over this one where the programs do not.
    fn look_after_watchdog(&mut self) {
        let wanted = self.plan.enabled && self.plan.policy_open && !self.is_watched();
        let Some(backend) = self.backend.as_ref().filter(|_| wanted) else {
            self.attendance.watchdog = None;
            return;
        };
        let watchdog = &mut self.attendance.watchdog;
        if let Some(Err(error)) = watchdog.as_mut().map(Watchdog::feed) {
            log::warn!("the process that watches over the agent is gone: {error}");
            *watchdog = None;
        }
        if watchdog.is_none() {
            match Watchdog::start(backend.kind(), self.plan.ruleset.marks()) {
                Ok(started) => *watchdog = Some(started),
                Err(error) => log::warn!("nothing watches over the agent: {error}"),
            }
        }
    }

    /// Whether the fast path is on every interface whose packets are inspected.
    fn is_watched(&self) -> bool {
        let Some(dataplane) = &self.dataplane else { return false };
        self.plan.ruleset.devices().all(|device| dataplane.has_fast_path(device))
    }

    /// Looks after what passed before the start, while an earlier agent was gone. To be called
    /// before the rules are applied, because their counters begin anew then.
    pub(super) fn look_back(&mut self, backend: &mut dyn Backend) {
        let now_ns = clock::monotonic_ns();
        self.attendance.last_ns = now_ns;
        let settings = self.dataplane.as_ref().map(|dataplane| &dataplane.settings);
        if let Some(silence) = settings.and_then(|settings| settings.absence(now_ns)) {
            self.was_away(backend, silence, now_ns, Listener::WasNot);
        }
    }

    fn was_away(
        &mut self,
        backend: &mut dyn Backend,
        silence: Duration,
        now_ns: u64,
        listener: Listener,
    ) {
        let counters = backend.counters();
        let is_known = counters.is_ok();
        let counters = counters.unwrap_or_default();
        let counted = counters.iter().filter(|count| count.counted == Counted::Unattended);
        let counted = counted.map(|count| count.packets).sum::<u64>();
        // What the watchdog did ends here, and before it is looked what passed.
        if self.attendance.watchdog.is_some() {
            match backend.apply(&self.plan.ruleset) {
                Ok(()) => self.note_rules_applied(),
                Err(error) => log::error!("{}", chain(&error)),
            }
        }
        let Attendance { report, counted: before, returned_ns, .. } = &mut self.attendance;
        // The counter begins anew when the rules are put back.
        let packets = counted.checked_sub(*before).unwrap_or(counted);
        *before = counted;
        // Where the queue had its listener every packet that passed is counted: a router that was only
        // slow for a moment condemns nobody.
        let nothing_passed = listener == Listener::Was && is_known && packets == 0;
        let unseen =
            if nothing_passed { 0 } else { self.inspector.note_unseen(self.plan.flows as usize) };
        *returned_ns = now_ns;
        let seconds = silence.as_secs();
        report.times += 1;
        report.seconds += seconds;
        report.packets += packets;
        log::warn!(
            "{seconds} s without the agent, {packets} packets passed uninspected: \
             {unseen} connections are not decided and will not be trusted"
        );
    }
}

impl Inspector {
    /// Takes down the keys of every connection that is not decided, about `max` at most; says how
    /// many connections these are.
    fn note_unseen(&mut self, max: usize) -> usize {
        let Some(conntrack) = &mut self.conntrack else { return 0 };
        let connections = &mut self.unseen.connections;
        connections.clear();
        let mut count = 0;
        undecided(conntrack, self.policy.marks, |connection| {
            if connections.len() < max {
                count += 1;
                // Which of both the queue shows depends on which end is translated.
                connections.extend(connection.flows().map(|(key, _)| (key, connection.id)));
            }
        });
        count
    }
}

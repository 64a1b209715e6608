//! Where the packets of a worker are looked at: its engine, and when it takes that to the state.
//!
//! Most packets of a flow under inspection change nothing but the engine. They pass without the state,
//! which others may hold meanwhile.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use sluice_abi::flow::{Direction, FlowKey};

use super::book::Book;
use super::inspector::is_syn;
use super::lock::Lock;
use super::pause::Orders;
use super::running::State;
use crate::inspect::dns::PORT;
use crate::inspect::engine::{Engine, Outcome, Step, Watch};
use crate::netfilter::latency::Latency;
use crate::netfilter::nfqueue::{Packet, Verdict};
use crate::netfilter::queue::{QueueError, Queues, Totals};
use crate::sys::clock;

/// What a worker has for itself.
pub(super) struct Desk {
    engine: Engine,
    book: Book,
    edition: u32,
    /// Blocked and limited flows that the state knows.
    held: Arc<AtomicU32>,
    totals: Totals,
    latency: Latency,
}

impl Desk {
    pub(super) fn new(engine: Engine, book: &Book, held: Arc<AtomicU32>) -> Self {
        let mut desk = Self {
            engine,
            edition: book.edition(),
            book: book.clone(),
            held,
            totals: Totals::default(),
            latency: Latency::default(),
        };
        desk.engine.set_rules(Arc::clone(&book.rules));
        desk.engine.set_lists(Arc::clone(&book.lists));
        desk.engine.set_watch(book.watch.as_deref().map(Watch::share));
        desk
    }

    /// Judges by another book from now on.
    pub(super) fn take(&mut self, book: &Book) {
        let is_same = match (&self.book.watch, &book.watch) {
            (Some(old), Some(new)) => Arc::ptr_eq(old, new),
            (old, new) => old.is_none() && new.is_none(),
        };
        if !is_same {
            self.engine.set_watch(book.watch.as_deref().map(Watch::share));
        }
        self.engine.set_rules(Arc::clone(&book.rules));
        self.engine.set_lists(Arc::clone(&book.lists));
        self.edition = book.edition();
        self.book = book.clone();
    }

    /// Does what a change of the rules asks for, once they are taken.
    pub(super) fn follow(&mut self, orders: &Orders) {
        for key in &orders.forget {
            self.engine.forget_answer(key);
        }
        if orders.looks_for_pauses {
            self.engine.look_for_pauses();
        }
    }

    /// Answers the packets that are there.
    pub(super) fn receive(
        &mut self,
        queues: &mut Queues,
        state: &Lock<State>,
    ) -> Result<(), QueueError> {
        if self.book.edition() != self.edition {
            self.take(&state.lock().inspector.book);
        }
        let mut turn = Turn { now_ns: clock::monotonic_ns(), has_asked: false };
        let received = queues.receive(|packet| self.packet(&mut turn, &packet, state));
        self.totals = queues.totals();
        self.latency = *queues.latency();
        received.map(drop)
    }

    /// Ends what was silent for too long.
    pub(super) fn expire(&mut self) {
        self.engine.expire(clock::monotonic_ns() / 1_000_000);
    }

    fn packet(&mut self, turn: &mut Turn, packet: &Packet<'_>, state: &Lock<State>) -> Verdict {
        let path = self.book.path(packet);
        let now_ms = turn.now_ns / 1_000_000;
        let step = self.engine.packet_on(now_ms, packet.l3, packet.wire_len, &path);
        if step.alerts.is_empty() && !self.concerns_others(packet, &step) {
            return Verdict::Accept { mark: None };
        }
        let mut state = state.lock();
        if !std::mem::replace(&mut turn.has_asked, true) {
            state.notice_silence();
            // What a device was told before it sent these packets.
            state.inspector.resolutions.hear(now_ms);
        }
        let State { inspector, dataplane, .. } = &mut *state;
        let flows = dataplane.as_mut().and_then(|dataplane| dataplane.flows.as_mut());
        inspector.packet(turn.now_ns, packet, &path, &step, flows)
    }

    /// Whether a packet is of interest beyond its engine.
    fn concerns_others(&self, packet: &Packet<'_>, step: &Step) -> bool {
        match step.outcome {
            Outcome::NotAFlow => false,
            Outcome::Inspect => {
                self.held.load(Ordering::Acquire) != 0
                    || is_syn(packet.l3)
                    || step.flow.as_ref().is_some_and(|(key, _)| is_dns(key))
            }
            Outcome::Decided(_) | Outcome::Undecided(_) => true,
        }
    }
}

/// The packets that were there at one time.
struct Turn {
    now_ns: u64,
    /// The state has been brought up to this time.
    has_asked: bool,
}

pub(super) fn is_dns(key: &FlowKey) -> bool {
    [Direction::Up, Direction::Down].iter().any(|way| key.source(*way).1 == PORT)
}

/// What all desks did together.
#[derive(Debug, Default)]
pub(super) struct Work {
    pub(super) workers: usize,
    pub(super) engine: crate::inspect::engine::Stats,
    pub(super) inspecting: usize,
    pub(super) totals: Totals,
    pub(super) latency: Latency,
    /// By ruleset.
    pub(super) compared: Vec<Compared>,
}

/// What became of packets that a ruleset was shown.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Compared {
    pub(super) packets: u32,
    pub(super) rules: u32,
    pub(super) cut: u32,
    pub(super) alerts: u64,
    pub(super) blocked: u64,
}

impl Work {
    /// Counts a desk in.
    pub(super) fn add(&mut self, desk: &Desk) {
        self.workers += 1;
        self.engine.join(desk.engine.stats());
        self.inspecting += desk.engine.inspecting();
        self.totals.join(&desk.totals);
        self.latency.join(&desk.latency);
        let rulesets = desk.engine.watch().into_iter().flat_map(Watch::iter);
        for (place, one) in rulesets.enumerate() {
            if self.compared.len() <= place {
                self.compared.push(Compared::default());
            }
            let Some(sum) = self.compared.get_mut(place) else { continue };
            let (stats, (alerts, blocked)) = (one.matcher().stats(), one.counts());
            sum.packets = sum.packets.wrapping_add(stats.packets);
            sum.rules = sum.rules.wrapping_add(stats.compared);
            sum.cut = sum.cut.wrapping_add(stats.cut);
            sum.alerts += alerts;
            sum.blocked += blocked;
        }
    }
}

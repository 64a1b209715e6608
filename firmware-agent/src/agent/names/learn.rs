//! What messages teach: who asked what, and which answers fit.

use sluice_abi::flow::{Direction, FlowKey};

use crate::config::Mac;
use crate::control::names::Report;
use crate::inspect::dns::{CLASS_IN, Found, Message, Tap};
use crate::names::{Asked, Names, Questions, Source};

/// What is known about names, and what it is learned by.
pub(super) struct Lessons {
    pub(super) known: Names,
    questions: Questions,
    tap: Tap,
    totals: Totals,
}

/// What was seen.
#[derive(Clone, Copy, Debug, Default)]
struct Totals {
    questions: u64,
    answers: u64,
    unasked: u64,
    unanswered: u64,
    malformed: u64,
    lost: u64,
}

impl Lessons {
    /// Room for so many pairs of a device and an address; 0 is off. `seed` is secret.
    pub(super) fn new(max: usize, seed: [u64; 2]) -> Self {
        Self {
            known: Names::new(max),
            questions: Questions::default(),
            tap: Tap::new(seed),
            totals: Totals::default(),
        }
    }

    /// Takes a packet, from its IP header on.
    pub(super) fn take(&mut self, now_ms: u64, l3: &[u8], wire_len: usize, way: Way) {
        let Self { known, questions, tap, totals } = self;
        tap.packet(l3, wire_len, |found| {
            totals.malformed += u64::from(found.message.is_err());
            match way {
                Way::In(mac) => {
                    if let Some(query) = found.query() {
                        totals.questions += 1;
                        let key = (found.key, found.direction);
                        with_question(&query, key, |asked| questions.ask(now_ms, asked, mac));
                    }
                }
                Way::Out => {
                    if let Some(response) = found.response() {
                        let learned = learn(now_ms, &found, &response, questions, known);
                        totals.answers += u64::from(learned);
                        totals.unasked += u64::from(!learned);
                    }
                }
            }
        });
    }

    /// Makes room for another number of pairs, empty; keeps all when it is the same.
    pub(super) fn resize(&mut self, max: usize) {
        if max != self.known.max() {
            self.known = Names::new(max);
        }
    }

    /// Forgets what is old, and counts packets that were `lost`.
    pub(super) fn expire(&mut self, now_ms: u64, lost: u64) {
        self.known.expire(now_ms);
        self.totals.unanswered += self.questions.expire(now_ms);
        self.totals.lost += lost;
    }

    /// What was seen, for `status`.
    pub(super) fn report(&self) -> Report {
        let Totals { questions, answers, unasked, unanswered, malformed, lost } = self.totals;
        Report {
            entries: self.known.len() as u64,
            capacity: self.known.max() as u64,
            questions,
            answers,
            unasked,
            unanswered,
            malformed,
            lost,
            leases: 0,
        }
    }
}

/// Which way a packet goes, seen from the router.
#[derive(Clone, Copy)]
pub(super) enum Way {
    /// From a device of the LAN, with its hardware address.
    In(Option<Mac>),
    /// To a device of the LAN.
    Out,
}

/// Calls `each` with what `message` asks or answers, its flow as the client sees it.
fn with_question<T>(
    message: &Message<'_>,
    (key, direction): (FlowKey, Direction),
    each: impl FnOnce(&Asked<'_>) -> T,
) -> Option<T> {
    let question = message.question().filter(|question| question.class == CLASS_IN)?;
    let towards = if message.is_response() { direction.reversed() } else { direction };
    Some(each(&Asked {
        client: key.source(towards),
        server: key.destination(towards),
        transport: key.proto(),
        id: message.id(),
        name: &question.name.to_string(),
        kind: question.kind,
    }))
}

/// Learns from an answer. Says whether anybody had asked.
fn learn(
    now_ms: u64,
    found: &Found<'_>,
    response: &Message<'_>,
    questions: &mut Questions,
    known: &mut Names,
) -> bool {
    let key = (found.key, found.direction);
    let asked = with_question(response, key, |asked| {
        Some((questions.answer(now_ms, asked)?, asked.client.0, asked.name.to_owned()))
    });
    let Some((answered, client, name)) = asked.flatten() else { return false };
    if response.rcode() != 0 {
        return true;
    }
    let who = (client, answered.mac);
    if response.question().is_some_and(|question| question.name.is_host()) {
        response.addresses(|address| {
            // What block lists answer leads nowhere.
            if !address.is_unspecified() {
                known.learn(now_ms, who, address.into(), &name, Source::Dns);
            }
        });
        response.reverse(|address, name| {
            if name.is_host() {
                known.learn(now_ms, who, address.into(), &name.to_string(), Source::Ptr);
            }
        });
    }
    true
}

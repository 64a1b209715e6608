//! What the server of a TLS connection answers, after its ClientHello.

use sluice_abi::flow::{Direction, FlowKey};
use sluice_datapath::parse::{FIN, RST};

use super::flow::Flow;
use super::message::{Answer, Hello, News};
use super::outcome::{Outcome, Step};
use super::segment::Segment;
use super::{Engine, PIECES_MAX};
use crate::inspect::stream::{Caps, Stream};
use crate::inspect::tls::{Certificate, ServerAnswer, server_hello};

/// Packets of a server with payload that are looked at: its certificates take up to four.
const PACKETS_MAX: u8 = 16;

/// The search for an answer.
#[derive(Debug)]
pub(super) struct Reading {
    /// Which way the server's packets travel.
    pub(super) direction: Direction,
    packets: u8,
}

/// What a packet told.
pub(super) enum Told {
    /// The answer is still to come.
    Nothing,
    /// It came, or never will.
    Over(Option<Box<Answer>>),
}

impl Reading {
    /// Awaits what travels in `direction`.
    pub(super) const fn new(direction: Direction) -> Self {
        Self { direction, packets: 0 }
    }

    /// Takes a packet of either side; `stream` has what the server has sent.
    pub(super) fn look(
        &mut self,
        stream: &mut Stream,
        (key, direction): (FlowKey, Direction),
        segment: Segment<'_>,
        bytes_max: u32,
    ) -> Told {
        if direction != self.direction || segment.len == 0 {
            return Told::Nothing;
        }
        self.packets += 1;
        let caps = Caps { bytes: bytes_max, pieces: PIECES_MAX };
        let pushed = stream.push(segment.seq, segment.payload, caps);
        let is_over = self.packets >= PACKETS_MAX || pushed.fault.is_some() || segment.is_cut();
        match server_hello(stream.head()) {
            ServerAnswer::NeedMore if is_over => Told::Over(None),
            ServerAnswer::NeedMore => Told::Nothing,
            ServerAnswer::Hello(_, Certificate::NeedMore) if !is_over => Told::Nothing,
            ServerAnswer::Hello(hello, certificate) => {
                let answer = Answer::new(&hello, certificate, key, direction);
                Told::Over(Some(Box::new(answer)))
            }
            ServerAnswer::NotTls | ServerAnswer::Malformed(_) => Told::Over(None),
        }
    }
}

/// What a flow has to wait with until its server has answered.
#[derive(Debug)]
pub(super) struct Awaited {
    pub(super) reading: Reading,
    pub(super) hello: Box<Hello>,
    /// When the ClientHello was whole.
    pub(super) since_ms: u64,
    /// What the ClientHello alone leads to.
    pub(super) outcome: Outcome,
}

impl Awaited {
    /// Waits for the answer to `hello`.
    pub(super) fn new(hello: &Hello, outcome: Outcome, now_ms: u64) -> Self {
        // The long text is of use to nobody later.
        let hello = Hello { ja3_string: None, ..hello.clone() };
        let reading = Reading::new(hello.direction.reversed());
        Self { reading, hello: Box::new(hello), since_ms: now_ms, outcome }
    }

    /// Heap bytes in use, with its own.
    pub(super) fn memory(&self) -> usize {
        size_of::<Self>() + size_of::<Hello>() + self.hello.text_len()
    }
}

/// A connection that is decided and whose server has not answered yet.
#[derive(Debug)]
pub(super) struct Answering {
    reading: Reading,
    stream: Stream,
    packets: u8,
    /// What its ClientHello led to.
    outcome: Outcome,
}

impl Answering {
    /// Awaits what travels in `direction`, of which `stream` may have the start.
    pub(super) const fn new(direction: Direction, stream: Stream, outcome: Outcome) -> Self {
        Self { reading: Reading::new(direction), stream, packets: 0, outcome }
    }

    /// Heap bytes in use.
    pub(super) fn memory(&self) -> usize {
        self.stream.memory()
    }

    /// Counts a packet of either side; says whether more are looked at.
    const fn goes_on(&mut self) -> bool {
        self.packets += 1;
        self.packets < PACKETS_MAX
    }
}

impl Engine {
    /// Awaits the answer of the server of a flow that a ClientHello has decided.
    pub(super) fn await_answer(
        &mut self,
        key: FlowKey,
        direction: Direction,
        flow: Option<Flow>,
        outcome: Outcome,
    ) {
        let Some(flow) = flow else { return };
        let answering = flow.answering(direction, outcome);
        self.stop_awaiting(&key);
        self.kept += answering.memory();
        if let Some((_, oldest)) = self.answers.insert(key, answering) {
            self.kept -= oldest.memory();
        }
    }

    /// Takes a packet of a flow whose server has not answered yet. `None` when there is nothing to
    /// say about it that is not remembered anyway.
    pub(super) fn answer(
        &mut self,
        (key, direction): (FlowKey, Direction),
        flags: u8,
        segment: Segment<'_>,
    ) -> Option<Step> {
        let answering = self.answers.get(&key)?;
        let before = answering.memory();
        let Answering { reading, stream, .. } = answering;
        let told = reading.look(stream, (key, direction), segment, self.limits.window_bytes);
        self.kept = self.kept + answering.memory() - before;
        let answer = match told {
            Told::Over(answer) => answer,
            // Both sides count: nothing is decided by it, and others need the place.
            Told::Nothing if flags & (FIN | RST) == 0 && answering.goes_on() => return None,
            Told::Nothing => None,
        };
        let outcome = self.stop_awaiting(&key)?.outcome;
        let news = News::Answer(answer?);
        self.stats.take(Some(&news));
        self.stats.repeated += 1;
        Some(Step { news: Some(news), is_repeated: true, ..outcome.into() })
    }

    pub(super) fn stop_awaiting(&mut self, key: &FlowKey) -> Option<Answering> {
        let answering = self.answers.remove(key)?;
        self.kept -= answering.memory();
        Some(answering)
    }
}

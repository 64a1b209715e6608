//! What the server of a TLS connection answers, after its ClientHello.

use sluice_abi::flow::{Direction, FlowKey};

use super::PIECES_MAX;
use super::outcome::{Answer, Outcome};
use super::segment::Segment;
use crate::inspect::stream::{Caps, Stream};
use crate::inspect::tls::{Certificate, ServerAnswer, server_hello};

/// Packets of a server that are looked at: its certificates take up to four, acknowledgements come
/// between.
const PACKETS_MAX: u8 = 16;

/// A connection whose server has not answered yet.
#[derive(Debug)]
pub(super) struct Answering {
    /// Which way the server's packets travel.
    direction: Direction,
    stream: Stream,
    packets: u8,
    /// What its ClientHello led to.
    pub(super) outcome: Outcome,
}

/// What a packet told.
pub(super) enum Told {
    /// The answer is still to come.
    Nothing,
    /// It came, or never will.
    Over(Option<Box<Answer>>),
}

impl Answering {
    /// Awaits what travels in `direction`, of which `stream` may have the start.
    pub(super) const fn new(direction: Direction, stream: Stream, outcome: Outcome) -> Self {
        Self { direction, stream, packets: 0, outcome }
    }

    /// Heap bytes in use.
    pub(super) fn memory(&self) -> usize {
        self.stream.memory()
    }

    /// Takes a packet of either side. `is_end` says that it closes the connection.
    pub(super) fn look(
        &mut self,
        key: FlowKey,
        direction: Direction,
        segment: Segment<'_>,
        is_end: bool,
        bytes_max: u32,
    ) -> Told {
        self.packets += 1;
        let mut is_over = is_end || self.packets >= PACKETS_MAX;
        if direction == self.direction && segment.len > 0 {
            let caps = Caps { bytes: bytes_max, pieces: PIECES_MAX };
            let pushed = self.stream.push(segment.seq, segment.payload, caps);
            is_over |= pushed.fault.is_some() || segment.is_cut();
            match server_hello(self.stream.head()) {
                ServerAnswer::NeedMore => {}
                ServerAnswer::Hello(_, Certificate::NeedMore) if !is_over => {}
                ServerAnswer::Hello(hello, certificate) => {
                    let answer = Answer::new(&hello, certificate, key, direction);
                    return Told::Over(Some(Box::new(answer)));
                }
                ServerAnswer::NotTls | ServerAnswer::Malformed(_) => is_over = true,
            }
        }
        if is_over { Told::Over(None) } else { Told::Nothing }
    }
}

//! ClientHellos of QUIC in a flow of UDP.

use sluice_abi::flow::{Direction, FlowKey};

use super::PIECES_MAX;
use super::flow::Context;
use super::judge::with_doubt;
use super::message::{Hello, News};
use super::outcome::Cause;
use super::segment::Segment;
use super::side::Found;
use crate::inspect::ja::Transport;
use crate::inspect::quic::{Answer, Client, Limits, looks_like};
use crate::inspect::tls::HELLO_MAX;

/// The search in one direction of a flow; empty for flows of other protocols.
#[derive(Debug, Default)]
pub(super) struct Quic(Option<Box<Client>>);

impl Quic {
    /// Heap bytes in use.
    pub(super) fn memory(&self) -> usize {
        self.0.as_ref().map_or(0, |client| size_of::<Client>() + client.memory())
    }

    /// Whether a ClientHello was begun.
    pub(super) fn is_unfinished(&self) -> bool {
        self.0.as_ref().is_some_and(|client| !client.is_empty())
    }

    /// Bytes of the ClientHello that came without a gap.
    pub(super) fn len(&self) -> usize {
        self.0.as_ref().map_or(0, |client| client.len())
    }

    /// Why a flow that began as QUIC cannot be trusted when its window ends.
    pub(super) fn pending(&self) -> Option<Cause> {
        let client = self.0.as_ref()?;
        Some(if client.is_opened() {
            Cause::WindowMidHello
        } else if client.is_version_unknown() {
            Cause::QuicVersion
        } else {
            Cause::QuicUnreadable
        })
    }

    /// Takes what the other side sent. Says whether this side is known to be the client.
    pub(super) fn answered(&mut self, segment: Segment<'_>) -> bool {
        self.0.as_mut().is_some_and(|client| {
            client.server_datagram(segment.payload);
            client.is_opened()
        })
    }

    /// Takes a datagram. Also says whether it brought bytes.
    pub(super) fn look(
        &mut self,
        key: FlowKey,
        direction: Direction,
        segment: Segment<'_>,
        context: &mut Context<'_>,
    ) -> (Found, bool) {
        if self.0.is_none() {
            let (_, port) = key.destination(direction);
            if !looks_like(segment.payload, segment.len, port) {
                return (Found::Nothing, false);
            }
        }
        let client = self.0.get_or_insert_default();
        let limits = Limits {
            // The message with its header; more is never one.
            bytes: context.limits.window_bytes.min(HELLO_MAX as u32 + 4),
            pieces: PIECES_MAX,
        };
        let judge = context.judge;
        let room = context.joined.room();
        let found = match client.datagram(segment.payload, segment.len, room, limits) {
            Answer::Nothing => return (Found::Nothing, false),
            Answer::News => Found::Nothing,
            Answer::Malformed(cause) => Found::Failed(Cause::MalformedQuic(cause)),
            Answer::MalformedTls(cause) => Found::Failed(Cause::MalformedTls(cause)),
            Answer::Pieces => Found::Failed(Cause::Pieces),
            Answer::Cut => Found::Failed(Cause::Truncated),
            Answer::Hello(hello, connection) => {
                let mut hello = Box::new(Hello::new(&hello, key, direction, Transport::Quic));
                hello.quic = Some(connection);
                let judgement = judge.hello(&hello);
                Found::News(News::Hello(hello), with_doubt(judgement, client.has_conflict()))
            }
        };
        (found, true)
    }
}

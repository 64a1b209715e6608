//! One direction of a TCP flow under inspection: the search for a message that names its server.

use sluice_abi::flow::{Direction, FlowKey};

use super::flow::Context;
use super::judge::{Judgement, with_doubt};
use super::message::News;
use super::opening::{Opening, protocol};
use super::outcome::Cause;
use super::quic::Quic;
use super::segment::Segment;
use super::{Limits, PIECES_MAX};
use crate::inspect::http;
use crate::inspect::protocol::Seen;
use crate::inspect::stream::{Caps, Fault, Stream};
use crate::inspect::tls::Finder;

#[derive(Debug, Default)]
pub(super) struct Side {
    /// Packets that count for the window.
    pub(super) packets: u16,
    /// Their bytes.
    bytes: u32,
    pub(super) search: Search,
    /// Where in the stream TLS may begin: behind the line that asked for it.
    pub(super) start: u32,
    pub(super) stream: Stream,
    finder: Finder,
    pub(super) quic: Quic,
}

/// The search for a ClientHello in one direction.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) enum Search {
    /// Nothing contradicts one so far.
    #[default]
    Open,
    /// Lines of text so far, which may ask for TLS.
    Lines,
    /// These bytes are none, but earlier ones may still arrive: no SYN was seen.
    Doubtful,
    /// There is none.
    Over,
}

/// What a segment told about its direction.
pub(super) enum Found {
    Nothing,
    Failed(Cause),
    /// No message that names a server, but this.
    Protocol(Seen),
    News(News, Judgement),
}

impl Side {
    /// Counts a packet for the window.
    pub(super) fn count(&mut self, len: usize) {
        self.packets = self.packets.saturating_add(1);
        self.bytes = self.bytes.saturating_add(u32::try_from(len).unwrap_or(u32::MAX));
    }

    pub(super) const fn is_ended(&self, limits: &Limits) -> bool {
        self.packets >= limits.window_packets || self.bytes >= limits.window_bytes
    }

    pub(super) fn is_full(&self, limits: &Limits) -> bool {
        let len = self.stream.head().len().max(self.quic.len());
        len as u64 >= u64::from(limits.window_bytes)
    }

    pub(super) fn is_unfinished(&self) -> bool {
        self.quic.is_unfinished()
            || self.search == Search::Open
                && (!self.stream.head().is_empty() || self.stream.has_gap())
    }

    /// Begins anew with a segment that may begin a request, where one has been read before: what came
    /// between was its body.
    pub(super) fn begin_again(&mut self, segment: Segment<'_>) {
        let is_over = self.search != Search::Open;
        if is_over && !matches!(http::request(segment.payload), http::Answer::NotHttp) {
            *self = Self { packets: self.packets, bytes: self.bytes, ..Self::default() };
        }
    }

    /// Takes a segment whose first byte has the number `seq`. Also says whether it brought bytes.
    pub(super) fn look(
        &mut self,
        seq: u32,
        key: FlowKey,
        direction: Direction,
        segment: Segment<'_>,
        context: &mut Context<'_>,
    ) -> (Found, bool) {
        if segment.len == 0 {
            return (Found::Nothing, false);
        }
        let caps = Caps { bytes: context.limits.window_bytes, pieces: PIECES_MAX };
        // The common case: one segment holds the whole message, and nothing need be kept.
        if self.stream.starts_at(seq) {
            let opening = Opening::read(&mut Finder::default(), segment.payload, context.joined);
            if let Some((news, judgement)) = opening.news(key, direction, context.judge) {
                self.count(segment.len);
                return (Found::News(news, judgement), true);
            }
        }
        let pushed = self.stream.push(seq, segment.payload, caps);
        let is_new = pushed.fresh > 0 || pushed.fault.is_some() || segment.is_cut();
        if is_new {
            self.count(segment.len);
        }
        if pushed.is_rebased {
            self.finder = Finder::default();
            self.search = Search::Open;
            self.start = 0;
        }
        let mut found = Found::Nothing;
        while matches!(self.search, Search::Open | Search::Lines) {
            let head = self.stream.head().get(self.start as usize..).unwrap_or_default();
            if head.is_empty() {
                break;
            }
            let opening = Opening::read(&mut self.finder, head, context.joined);
            if let Some((news, judgement)) = opening.news(key, direction, context.judge) {
                let judgement = with_doubt(judgement, self.stream.has_conflict());
                return (Found::News(news, judgement), is_new);
            }
            match opening {
                Opening::Failed(cause) => return (Found::Failed(cause), is_new),
                Opening::Upgraded(start) => {
                    // What was seen before is told by the flow's first lines.
                    found = protocol(head, &key, direction).map_or(found, Found::Protocol);
                    self.start += start as u32;
                    self.finder = Finder::default();
                    self.search = Search::Open;
                    continue;
                }
                Opening::Other | Opening::Lines if self.stream.has_conflict() => {
                    return (Found::Failed(Cause::Conflict), is_new);
                }
                Opening::Lines if self.stream.is_anchored() => {
                    found = protocol(head, &key, direction).map_or(found, Found::Protocol);
                    self.search = Search::Lines;
                }
                Opening::Other if self.stream.is_anchored() => {
                    found = protocol(head, &key, direction).map_or(found, Found::Protocol);
                    self.search = Search::Over;
                    if !context.is_watched {
                        self.stream.release();
                    }
                }
                Opening::Other | Opening::Lines => self.search = Search::Doubtful,
                Opening::NeedMore
                | Opening::Hello(_)
                | Opening::Request(_)
                | Opening::Request2(_) => {}
            }
            break;
        }
        let found = if self.search != Search::Open {
            found
        } else if pushed.fault == Some(Fault::Pieces) {
            Found::Failed(Cause::Pieces)
        } else if segment.is_cut() {
            Found::Failed(Cause::Truncated)
        } else {
            found
        };
        (found, pushed.fresh > 0 && self.search != Search::Lines)
    }
}

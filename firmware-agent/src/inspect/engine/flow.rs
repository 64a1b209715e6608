//! The state of one flow under inspection.

use sluice_abi::flow::{Direction, FlowKey};
use sluice_abi::verdict::{Reason, Verdict};
use sluice_datapath::parse::{ACK, SYN, TCP};

use super::answer::Answering;
use super::judge::{Judge, Judgement, Sentence, with_doubt};
use super::opening::{Opening, protocol};
use super::outcome::{Cause, Decision, News, Outcome};
use super::quic::Quic;
use super::segment::Segment;
use super::watch::STREAM_MAX;
use super::{Limits, PIECES_MAX};
use crate::inspect::protocol::{Confidence, Seen, of_datagram};
use crate::inspect::stream::{Caps, Fault, Stream};
use crate::inspect::tls::{Finder, Joined};
use crate::policy::{Ends, Path};
use crate::signature::Told;

/// Packets behind the window that may come between two that bring bytes of an unfinished
/// ClientHello: acknowledgements and repetitions.
const STALLED_MAX: u16 = 64;

/// What inspection needs besides the flow.
pub(super) struct Context<'a> {
    pub(super) now_ms: u64,
    pub(super) limits: &'a Limits,
    pub(super) judge: Judge<'a>,
    pub(super) joined: &'a mut Joined,
    /// Whether rulesets want to see streams in which no message is looked for any more.
    pub(super) is_watched: bool,
}

/// A flow that is not decided.
#[derive(Debug)]
pub(super) struct Flow {
    pub(super) last_ms: u64,
    /// When the first bytes of the unfinished ClientHello came.
    since_ms: Option<u64>,
    packets: u32,
    pub(super) original: Direction,
    /// Whether `original` comes from a SYN and not from what happened to come first.
    is_origin_known: bool,
    stalled: u16,
    /// What it speaks, as far as is known.
    protocol: Option<Seen>,
    sides: [Side; 2],
    pub(super) ends: Ends,
    /// Whether rules have not been asked since something was learned about its ends.
    has_news: bool,
    /// Directions that rulesets have seen packets of, a bit for each.
    met: u8,
    /// What rulesets told about it.
    pub(super) told: Option<Box<Told>>,
}

#[derive(Debug, Default)]
struct Side {
    /// Packets that count for the window.
    packets: u16,
    /// Their bytes.
    bytes: u32,
    search: Search,
    /// Where in the stream TLS may begin: behind the line that asked for it.
    start: u32,
    stream: Stream,
    finder: Finder,
    quic: Quic,
}

/// The search for a ClientHello in one direction.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
enum Search {
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

impl Flow {
    /// The flow of a first packet with these TCP flags (0 for UDP), seen in `direction`.
    pub(super) fn new(
        key: &FlowKey,
        direction: Direction,
        tcp_flags: u8,
        now_ms: u64,
        path: &Path,
    ) -> Self {
        let is_answer = tcp_flags & (SYN | ACK) == SYN | ACK;
        let original = if is_answer { direction.reversed() } else { direction };
        let is_origin_known = tcp_flags & SYN != 0;
        let mut ends = Ends::new(key, direction, original, path);
        if key.proto() == TCP && !is_origin_known {
            // Clients take high ports.
            ends.port = key.source(direction).1.min(key.destination(direction).1);
        }
        Self {
            last_ms: now_ms,
            since_ms: None,
            packets: 0,
            original,
            is_origin_known,
            stalled: 0,
            protocol: None,
            sides: Default::default(),
            ends,
            has_news: true,
            met: 0,
            told: None,
        }
    }

    /// Learns where a packet comes from.
    pub(super) fn follow(&mut self, key: &FlowKey, direction: Direction, path: &Path) {
        self.has_news |= self.ends.learn(key, direction, path);
    }

    /// Awaits what the server answers to the ClientHello that travelled in `direction`.
    pub(super) fn answering(mut self, direction: Direction, outcome: Outcome) -> Answering {
        let direction = direction.reversed();
        let stream = core::mem::take(&mut self.sides[direction as usize].stream);
        Answering::new(direction, stream, outcome)
    }

    /// Heap bytes in use.
    pub(super) fn memory(&self) -> usize {
        let told = self.told.as_ref().map_or(0, |told| size_of::<Told>() + told.memory());
        let sides = self.sides.iter().map(|side| side.stream.memory() + side.quic.memory());
        told + sides.sum::<usize>()
    }

    /// The bytes of a direction that are kept in order, and where in them a message may begin.
    pub(super) fn head(&self, direction: Direction) -> (&[u8], usize) {
        let side = &self.sides[direction as usize];
        (side.stream.head(), side.start as usize)
    }

    /// Notes that rulesets see a packet; says whether they have seen both directions by now.
    pub(super) const fn meet(&mut self, direction: Direction) -> bool {
        self.met |= 1 << direction as u8;
        self.met == 3
    }

    /// Whether its first packet is known.
    pub(super) const fn is_origin_known(&self) -> bool {
        self.is_origin_known
    }

    /// What it speaks, as far as is known.
    pub(super) const fn protocol(&self) -> Option<Seen> {
        self.protocol
    }

    /// Blocks it, whatever rules and lists say.
    pub(super) fn block(&self, reason: Reason) -> Outcome {
        self.conclude(Ok(Sentence {
            verdict: Verdict::Blocked,
            reason,
            rule: None,
            list: None,
            observed: None,
            watched: None,
        }))
    }

    /// Whether a ClientHello was begun, or may hide behind a gap.
    pub(super) fn is_unfinished(&self) -> bool {
        self.sides.iter().any(Side::is_unfinished)
    }

    /// Whether any payload was seen.
    pub(super) fn has_payload(&self) -> bool {
        self.is_unfinished() || self.sides.iter().any(|side| side.packets > 0)
    }

    /// Whether a SYN with this sequence number opens another connection than this one.
    pub(super) const fn contradicts(&self, direction: Direction, syn_seq: u32) -> bool {
        self.sides[direction as usize].stream.contradicts(syn_seq)
    }

    /// Takes a packet of the flow.
    pub(super) fn packet(
        &mut self,
        key: FlowKey,
        direction: Direction,
        tcp_flags: u8,
        segment: Segment<'_>,
        context: &mut Context<'_>,
    ) -> (Outcome, Option<News>) {
        self.last_ms = context.now_ms;
        self.packets = self.packets.saturating_add(1);
        if std::mem::take(&mut self.has_news)
            && let Some(sentence) = context.judge.first()
        {
            return (self.conclude(Ok(sentence)), None);
        }
        if key.proto() != TCP {
            return self.datagram(key, direction, segment, context);
        }
        let side = &mut self.sides[direction as usize];
        let mut seq = segment.seq;
        if tcp_flags & SYN != 0 {
            side.stream.anchor(seq);
            seq = seq.wrapping_add(1); // the SYN itself takes a number
        }
        let mut has_news = false;
        if side.search != Search::Over {
            let (found, fresh) = side.look(seq, key, direction, segment, context);
            has_news = fresh;
            match found {
                Found::Nothing => {}
                Found::Failed(cause) => return (Outcome::Undecided(cause), None),
                Found::Protocol(seen) => self.learn(seen),
                Found::News(news, judgement) => {
                    if !self.is_origin_known {
                        self.original = direction;
                    }
                    return self.tell(news, judgement);
                }
            }
        } else if segment.len > 0 {
            side.count(segment.len);
            if context.is_watched {
                // What does not fit any more is seen packet by packet.
                let caps = Caps { bytes: STREAM_MAX, pieces: PIECES_MAX };
                let _ = side.stream.push(seq, segment.payload, caps);
            }
        }
        (self.window(has_news, context), None)
    }

    /// Takes a datagram of UDP.
    fn datagram(
        &mut self,
        key: FlowKey,
        direction: Direction,
        segment: Segment<'_>,
        context: &mut Context<'_>,
    ) -> (Outcome, Option<News>) {
        self.sides[direction as usize].count(segment.len);
        let ports = [key.source(direction).1, key.destination(direction).1];
        if let Some(seen) = of_datagram(segment.payload, ports) {
            self.learn(seen);
        }
        let mut has_news = false;
        // Only one of them is the client.
        if !self.sides[direction.reversed() as usize].quic.answered(segment) {
            let side = &mut self.sides[direction as usize];
            let (found, fresh) = side.quic.look(key, direction, segment, context);
            has_news = fresh;
            match found {
                Found::Nothing => {}
                Found::Protocol(seen) => self.learn(seen),
                Found::Failed(cause) => return (Outcome::Undecided(cause), None),
                Found::News(news, judgement) => {
                    self.original = direction;
                    return self.tell(news, judgement);
                }
            }
        }
        (self.window(has_news, context), None)
    }

    /// Takes what the flow seems to speak. What is surer counts, then what came first.
    fn learn(&mut self, seen: Seen) {
        if self.protocol.is_none_or(|(_, sure)| sure < seen.1) {
            self.protocol = Some(seen);
        }
    }

    fn tell(&mut self, news: News, judgement: Judgement) -> (Outcome, Option<News>) {
        // Also of a protocol that went over to TLS.
        self.protocol = Some((news.protocol(), Confidence::Certain));
        (self.conclude(judgement), Some(news))
    }

    /// What the window says after a packet that decided nothing by itself. `has_news` says that it
    /// brought bytes to a search.
    fn window(&mut self, has_news: bool, context: &Context<'_>) -> Outcome {
        if !self.is_unfinished() {
            self.since_ms = None;
            return if self.sides.iter().any(|side| side.is_ended(context.limits)) {
                match self.sides.iter().find_map(|side| side.quic.pending()) {
                    Some(cause) => Outcome::Undecided(cause),
                    None => self.conclude(Ok(context.judge.end(self.protocol))),
                }
            } else {
                Outcome::Inspect
            };
        }
        let since_ms = *self.since_ms.get_or_insert(context.now_ms);
        if context.now_ms.saturating_sub(since_ms) > context.limits.hello_ms {
            return Outcome::Undecided(Cause::Timeout);
        }
        if self.sides.iter().any(|side| side.is_unfinished() && side.is_full(context.limits)) {
            return Outcome::Undecided(Cause::WindowMidHello);
        }
        if has_news {
            self.stalled = 0;
        } else if self.sides.iter().any(|side| side.is_ended(context.limits)) {
            self.stalled += 1;
            if self.stalled > STALLED_MAX {
                return Outcome::Undecided(Cause::WindowMidHello);
            }
        }
        Outcome::Inspect
    }

    fn conclude(&self, judgement: Judgement) -> Outcome {
        match judgement {
            Ok(Sentence { verdict, reason, rule, list, watched, observed }) => {
                Outcome::Decided(Decision {
                    verdict,
                    reason,
                    rule: rule.map(|found| found.rule),
                    original: self.original,
                    packets: self.packets,
                    list,
                    protocol: self.protocol,
                    entry: rule.map(|found| found.entry),
                    observed,
                    watched,
                })
            }
            Err(cause) => Outcome::Undecided(cause),
        }
    }
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
    fn count(&mut self, len: usize) {
        self.packets = self.packets.saturating_add(1);
        self.bytes = self.bytes.saturating_add(u32::try_from(len).unwrap_or(u32::MAX));
    }

    const fn is_ended(&self, limits: &Limits) -> bool {
        self.packets >= limits.window_packets || self.bytes >= limits.window_bytes
    }

    fn is_full(&self, limits: &Limits) -> bool {
        let len = self.stream.head().len().max(self.quic.len());
        len as u64 >= u64::from(limits.window_bytes)
    }

    fn is_unfinished(&self) -> bool {
        self.quic.is_unfinished()
            || self.search == Search::Open
                && (!self.stream.head().is_empty() || self.stream.has_gap())
    }

    /// Takes a segment whose first byte has the number `seq`. Also says whether it brought bytes.
    fn look(
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
                Opening::NeedMore | Opening::Hello(_) | Opening::Request(_) => {}
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

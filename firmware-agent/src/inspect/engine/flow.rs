//! The state of one flow under inspection.

use sluice_abi::flow::{Direction, FlowKey};
use sluice_abi::verdict::{Reason, Verdict};
use sluice_datapath::parse::{ACK, SYN, TCP};

use super::answer::{Answering, Awaited, Told as Answered};
use super::judge::{Judge, Judgement, Sentence, with_doubt};
use super::message::{Hello, News};
use super::outcome::{Cause, Decision, Outcome};
use super::segment::Segment;
use super::side::{Found, Search, Side};
use super::watch::STREAM_MAX;
use super::{Limits, PIECES_MAX};
use crate::inspect::protocol::{Confidence, Seen, of_datagram};
use crate::inspect::stream::Caps;
use crate::inspect::tls::Joined;
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
    /// Packets and their bytes in each direction.
    inspected: [[u32; 2]; 2],
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
    /// Whether its client has made requests before, so that any segment may begin another one.
    asks_again: bool,
    /// What it waits with until its server has answered.
    awaited: Option<Box<Awaited>>,
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
            inspected: [[0; 2]; 2],
            original,
            is_origin_known,
            stalled: 0,
            protocol: None,
            sides: Default::default(),
            ends,
            has_news: true,
            met: 0,
            told: None,
            asks_again: false,
            awaited: None,
        }
    }

    /// The same on a connection on which requests were made before.
    pub(super) fn asking_again(self) -> Self {
        Self { asks_again: true, ..self }
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
        let awaited = self.awaited.as_ref().map_or(0, |awaited| awaited.memory());
        let sides = self.sides.iter().map(|side| side.stream.memory() + side.quic.memory());
        told + awaited + sides.sum::<usize>()
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

    /// What its ClientHello led to, where its server has not answered yet.
    pub(super) fn pending(&self) -> Option<Outcome> {
        self.awaited.as_ref().map(|awaited| awaited.outcome)
    }

    /// The ClientHello that it waited with.
    pub(super) fn into_hello(self) -> Option<Box<Hello>> {
        self.awaited.map(|awaited| awaited.hello)
    }

    /// Packets and bytes that were inspected in each direction, as far as nothing else counts them: what
    /// the client of a decided flow asks is counted where that is decided.
    pub(super) const fn inspected(&self) -> [[u32; 2]; 2] {
        if self.asks_again { [[0; 2]; 2] } else { self.inspected }
    }

    /// Whether a ClientHello was begun, may hide behind a gap, or waits for its answer.
    pub(super) fn is_unfinished(&self) -> bool {
        self.awaited.is_some() || self.sides.iter().any(Side::is_unfinished)
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
        let [packets, bytes] = &mut self.inspected[direction as usize];
        *packets = packets.saturating_add(1);
        *bytes = bytes.saturating_add(segment.packet_len as u32);
        if std::mem::take(&mut self.has_news)
            && let Some(sentence) = context.judge.first()
        {
            return (self.conclude(Ok(sentence)), None);
        }
        if self.awaited.is_some() {
            return self.answer(key, direction, segment, context);
        }
        if key.proto() != TCP {
            return self.datagram(key, direction, segment, context);
        }
        let side = &mut self.sides[direction as usize];
        if self.asks_again {
            side.begin_again(segment);
        }
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
                    return self.tell(news, judgement, context);
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
                    return self.tell(news, judgement, context);
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

    fn tell(
        &mut self,
        news: News,
        judgement: Judgement,
        context: &Context<'_>,
    ) -> (Outcome, Option<News>) {
        // Also of a protocol that went over to TLS.
        self.protocol = Some((news.protocol(), Confidence::Certain));
        if let (News::Hello(hello), Ok(sentence)) = (&news, &judgement)
            && context.judge.awaits(hello, sentence)
        {
            let outcome = self.conclude(judgement);
            self.awaited = Some(Box::new(Awaited::new(hello, outcome, context.now_ms)));
            return (Outcome::Inspect, Some(news));
        }
        (self.conclude(judgement), Some(news))
    }

    /// Takes a packet behind the ClientHello of a flow whose server has not answered yet.
    fn answer(
        &mut self,
        key: FlowKey,
        direction: Direction,
        segment: Segment<'_>,
        context: &Context<'_>,
    ) -> (Outcome, Option<News>) {
        let Some(awaited) = &mut self.awaited else { return (Outcome::Inspect, None) };
        let Context { now_ms, limits, judge, .. } = context;
        let stream = &mut self.sides[awaited.reading.direction as usize].stream;
        let told = awaited.reading.look(stream, (key, direction), segment, limits.window_bytes);
        let is_late = now_ms.saturating_sub(awaited.since_ms) > limits.hello_ms;
        let answer = match told {
            Answered::Nothing if !is_late => return (Outcome::Inspect, None),
            Answered::Nothing => None,
            Answered::Over(answer) => answer,
        };
        let judgement = judge.answered(&awaited.hello, answer.as_deref());
        let judgement = with_doubt(judgement, stream.has_conflict());
        (self.conclude(judgement), answer.map(News::Answer))
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
                    packets: self
                        .inspected
                        .iter()
                        .fold(0, |sum, [more, _]| sum.saturating_add(*more)),
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

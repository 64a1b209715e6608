//! The state of one flow under inspection.

use sluice_abi::flow::{Direction, FlowKey};
use sluice_abi::verdict::{Reason, Verdict};
use sluice_datapath::parse::{ACK, SYN, TCP};

use super::outcome::{Cause, Decision, Hello, Outcome};
use super::quic::Quic;
use super::segment::Segment;
use super::{Limits, PIECES_MAX};
use crate::config::RuleAction;
use crate::inspect::domain_set::DomainSet;
use crate::inspect::domains::DomainRules;
use crate::inspect::ja::Transport;
use crate::inspect::stream::{Caps, Fault, Stream};
use crate::inspect::tls::{Answer, ClientHello, Finder, Joined, NAME_MAX, Sni, client_hello};

/// Packets behind the window that may come between two that bring bytes of an unfinished
/// ClientHello: acknowledgements and repetitions.
const STALLED_MAX: u16 = 64;

/// What inspection needs besides the flow.
pub(super) struct Context<'a> {
    pub(super) now_ms: u64,
    pub(super) limits: &'a Limits,
    pub(super) rules: &'a DomainRules,
    pub(super) joined: &'a mut Joined,
    pub(super) lists: &'a DomainSet,
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
    sides: [Side; 2],
}

#[derive(Debug, Default)]
struct Side {
    /// Packets that count for the window.
    packets: u16,
    /// Their bytes.
    bytes: u32,
    search: Search,
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
    /// These bytes are none, but earlier ones may still arrive: no SYN was seen.
    Doubtful,
    /// There is none.
    Over,
}

impl Flow {
    /// The flow of a first packet with these TCP flags (0 for UDP), seen in `direction`.
    pub(super) fn new(direction: Direction, tcp_flags: u8, now_ms: u64) -> Self {
        let is_answer = tcp_flags & (SYN | ACK) == SYN | ACK;
        Self {
            last_ms: now_ms,
            since_ms: None,
            packets: 0,
            original: if is_answer { direction.reversed() } else { direction },
            is_origin_known: tcp_flags & SYN != 0,
            stalled: 0,
            sides: Default::default(),
        }
    }

    /// Heap bytes in use.
    pub(super) fn memory(&self) -> usize {
        self.sides.iter().map(|side| side.stream.memory() + side.quic.memory()).sum()
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
    ) -> (Outcome, Option<Box<Hello>>) {
        self.last_ms = context.now_ms;
        self.packets = self.packets.saturating_add(1);
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
                Found::Hello(hello, judgement) => {
                    if !self.is_origin_known {
                        self.original = direction;
                    }
                    return (self.conclude(judgement), Some(hello));
                }
            }
        } else if segment.len > 0 {
            side.count(segment.len);
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
    ) -> (Outcome, Option<Box<Hello>>) {
        self.sides[direction as usize].count(segment.len);
        let mut has_news = false;
        // Only one of them is the client.
        if !self.sides[direction.reversed() as usize].quic.answered(segment) {
            let side = &mut self.sides[direction as usize];
            let (found, fresh) = side.quic.look(key, direction, segment, context);
            has_news = fresh;
            match found {
                Found::Nothing => {}
                Found::Failed(cause) => return (Outcome::Undecided(cause), None),
                Found::Hello(hello, judgement) => {
                    self.original = direction;
                    return (self.conclude(judgement), Some(hello));
                }
            }
        }
        (self.window(has_news, context), None)
    }

    /// What the window says after a packet that decided nothing by itself. `has_news` says that it
    /// brought bytes to a search.
    fn window(&mut self, has_news: bool, context: &Context<'_>) -> Outcome {
        if !self.is_unfinished() {
            self.since_ms = None;
            return if self.sides.iter().any(|side| side.is_ended(context.limits)) {
                match self.sides.iter().find_map(|side| side.quic.pending()) {
                    Some(cause) => Outcome::Undecided(cause),
                    None => self.conclude(Ok((Verdict::Trusted, Reason::WindowEnd, None))),
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

    const fn conclude(&self, judgement: Judgement) -> Outcome {
        match judgement {
            Ok((verdict, reason, by)) => {
                let is_list = matches!(reason, Reason::DomainList);
                let (rule, list) = if is_list { (None, by) } else { (by, None) };
                let (original, packets) = (self.original, self.packets);
                Outcome::Decided(Decision { verdict, reason, rule, original, packets, list })
            }
            Err(cause) => Outcome::Undecided(cause),
        }
    }
}

/// What a ClientHello means for its flow, and the number of the rule or list that says so.
pub(super) type Judgement = Result<(Verdict, Reason, Option<u32>), Cause>;

pub(super) fn judge(hello: &ClientHello<'_>, rules: &DomainRules, lists: &DomainSet) -> Judgement {
    let name = match hello.sni {
        Sni::Absent => return Ok((Verdict::Trusted, Reason::HelloClean, None)),
        Sni::Malformed => return Err(Cause::MalformedName),
        Sni::Name(name) => name,
    };
    let mut room = [0; NAME_MAX];
    let name = name.to_lower(&mut room);
    Ok(match rules.lookup(name) {
        None => match lists.lookup(name) {
            None => (Verdict::Trusted, Reason::HelloClean, None),
            Some(found) => (Verdict::Blocked, Reason::DomainList, Some(found.list)),
        },
        Some(found) => match found.action {
            RuleAction::Allow => (Verdict::Trusted, Reason::DomainAllowed, Some(found.rule)),
            RuleAction::Block => (Verdict::Blocked, Reason::DomainRule, Some(found.rule)),
            RuleAction::Limit => (Verdict::Limited, Reason::DomainRule, Some(found.rule)),
            RuleAction::Observe => (Verdict::Trusted, Reason::HelloClean, Some(found.rule)),
        },
    })
}

/// What is left of a judgement when the server may have taken another copy of the bytes.
pub(super) const fn with_doubt(judgement: Judgement, has_conflict: bool) -> Judgement {
    match judgement {
        Ok((verdict, ..)) if has_conflict && !matches!(verdict, Verdict::Blocked) => {
            Err(Cause::Conflict)
        }
        judgement => judgement,
    }
}

/// What a segment told about the ClientHello of its direction.
pub(super) enum Found {
    Nothing,
    Failed(Cause),
    Hello(Box<Hello>, Judgement),
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
        let meet = |hello: &ClientHello<'_>| {
            let owned = Hello::new(hello, key, direction, Transport::Tcp);
            (Box::new(owned), judge(hello, context.rules, context.lists))
        };
        let caps = Caps { bytes: context.limits.window_bytes, pieces: PIECES_MAX };
        // The common case: one segment holds the whole message, and nothing need be kept.
        if self.stream.starts_at(seq) {
            let mut finder = Finder::default();
            if let Answer::Hello(hello) = client_hello(&mut finder, segment.payload, context.joined)
            {
                self.count(segment.len);
                let (hello, judgement) = meet(&hello);
                return (Found::Hello(hello, judgement), true);
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
        }
        if self.search == Search::Open && !self.stream.head().is_empty() {
            match client_hello(&mut self.finder, self.stream.head(), context.joined) {
                Answer::NeedMore => {}
                Answer::Malformed(cause) => {
                    return (Found::Failed(Cause::MalformedTls(cause)), is_new);
                }
                Answer::Hello(hello) => {
                    let (hello, judgement) = meet(&hello);
                    let judgement = with_doubt(judgement, self.stream.has_conflict());
                    return (Found::Hello(hello, judgement), is_new);
                }
                Answer::NotTls if self.stream.has_conflict() => {
                    return (Found::Failed(Cause::Conflict), is_new);
                }
                Answer::NotTls if self.stream.is_anchored() => {
                    self.search = Search::Over;
                    self.stream.release();
                }
                Answer::NotTls => self.search = Search::Doubtful,
            }
        }
        let failed = if self.search != Search::Open {
            Found::Nothing
        } else if pushed.fault == Some(Fault::Pieces) {
            Found::Failed(Cause::Pieces)
        } else if segment.is_cut() {
            Found::Failed(Cause::Truncated)
        } else {
            Found::Nothing
        };
        (failed, pushed.fresh > 0)
    }
}

//! From what an engine says about a queued packet to its verdict.
//!
//! A decision is in the flow map, under both keys that NAT gives the connection, before the packet
//! that brought it gets its verdict (R21).

use std::time::Duration;

use sluice_abi::flow::{Direction, FlowKey};
use sluice_abi::verdict::Verdict;
use sluice_datapath::parse::{TCP, headers};

use super::book::Book;
use super::desk::is_dns;
use super::domains::Domains;
use super::ledger::Ledger;
use super::names::Resolutions;
use super::notices::Notices;
use super::observing::Observing;
use super::pause::Orders;
use super::requests::is_request;
use super::rules::treated;
use super::signatures::Alarms;
use super::sweep::Lone;
use super::tally::{Part, Tally, owner};
use super::unattended::Unseen;
use crate::config::{MarkMask, OnError};
use crate::dataplane::flows::Flows;
use crate::dataplane::table::{self, FlowTable, Reinspection, Treatment};
use crate::inspect::engine::{self, Hello, News, Outcome, Step};
use crate::netfilter::conntrack::{Conntrack, Tuple};
use crate::netfilter::nfqueue::{self, Packet};
use crate::netfilter::reject;
use crate::policy::{Ends, Path};
use crate::signature::Alert;

/// What becomes of flows.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Policy {
    /// The claimed bits.
    pub(super) marks: MarkMask,
    /// What to do with packets of undecided flows.
    pub(super) on_error: OnError,
    /// How long a TCP flow may be silent before it is inspected again.
    pub(super) idle_tcp: Duration,
    /// The same for UDP.
    pub(super) idle_udp: Duration,
    /// How long a blocked flow stays blocked.
    pub(super) block: Duration,
    /// When trusted flows are looked at once more.
    pub(super) reinspection: Reinspection,
    /// Whether flows of DNS are heard to their end.
    pub(super) hears_dns: bool,
}

impl Policy {
    /// How long a flow may be silent before it is forgotten.
    pub(super) const fn idle(&self, key: &FlowKey) -> Duration {
        if key.proto() == TCP { self.idle_tcp } else { self.idle_udp }
    }
}

/// A rule as it is applied.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Rule {
    /// Its name.
    pub(super) name: Box<str>,
    /// What flows that match it get.
    pub(super) treatment: Treatment,
    /// Whether the ends of a flow that it blocks are told.
    pub(super) rejects: bool,
}

/// Seconds for which a flow is remembered that its first packet blocks.
const FIRST_BLOCK_S: u32 = 30;

/// Room for decisions.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Room {
    /// Blocked and limited flows.
    pub(super) held: u32,
    /// Others.
    pub(super) flows: u32,
}

/// Counters beside those of engine and table.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Totals {
    /// Flows that ended: idle, or past their deadline.
    pub(super) expired: u64,
    /// Flows that were forgotten for want of room, by the kernel or by the table.
    pub(super) evicted: u64,
    /// Writes of decisions that the kernel refused.
    pub(super) write_errors: u64,
    /// Decisions about connections that conntrack did not know: their other key is missing.
    pub(super) without_connection: u64,
    /// Trusted flows that were looked at once more.
    pub(super) reinspected: u64,
    /// Packets of undecided flows that `on_error` dropped.
    pub(super) dropped_undecided: u64,
    /// Flows that nothing objects to and that are not trusted, because part of them passed while
    /// nobody inspected.
    pub(super) unseen: u64,
}

/// Owns everything between queue and flow map.
pub(super) struct Inspector {
    pub(super) book: Book,
    pub(super) table: FlowTable,
    /// The rules, by the number that the engine knows them by.
    pub(super) rules: Vec<Rule>,
    pub(super) policy: Policy,
    pub(super) totals: Totals,
    /// `None` where the kernel has no conntrack netlink.
    pub(super) conntrack: Option<Conntrack>,
    lot: Lot,
    /// Flows that are not trusted any more take the short way still.
    pub(super) has_stale_offload: bool,
    pub(super) domains: Domains,
    pub(super) ledger: Ledger,
    pub(super) alarms: Alarms,
    /// Tells the ends of rejected flows.
    pub(super) rejects: reject::socket::Sender,
    /// Connections of which packets may have passed while nobody inspected.
    pub(super) unseen: Unseen,
    pub(super) resolutions: Resolutions,
    pub(super) lone: Lone,
    /// What flows that are over carried.
    pub(super) tally: Tally,
    /// What is told at once.
    pub(super) notices: Notices,
    pub(super) observing: Observing,
    /// Whether flows were paused when rules were last looked at.
    pub(super) has_paused: bool,
    /// For the engines, which are told with the next book.
    pub(super) orders: Orders,
}

impl Inspector {
    /// An inspector that knows no flow yet. `seed` is secret: who knows it knows which flows are
    /// looked at again.
    pub(super) fn new(
        book: Book,
        room: Room,
        rules: Vec<Rule>,
        policy: Policy,
        conntrack: Option<Conntrack>,
        resolutions: Resolutions,
        seed: u64,
    ) -> Self {
        let table = FlowTable::new(room.held, room.flows);
        let lot = Lot(seed | 1);
        let ledger = Ledger::new(rules.len());
        Self {
            book,
            table,
            rules,
            policy,
            totals: Totals::default(),
            conntrack,
            lot,
            has_stale_offload: false,
            has_paused: false,
            orders: Orders::default(),
            domains: Domains::default(),
            ledger,
            alarms: Alarms::default(),
            rejects: reject::socket::Sender::new(policy.marks.trusted()),
            unseen: Unseen::default(),
            resolutions,
            lone: Lone::default(),
            tally: Tally::default(),
            notices: Notices::default(),
            observing: Observing::default(),
        }
    }

    /// The verdict about one packet of which an engine says `step`. `flows` is the flow map, when
    /// there is one.
    pub(super) fn packet(
        &mut self,
        now_ns: u64,
        packet: &Packet<'_>,
        path: &Path,
        step: &Step,
        flows: Option<&mut Flows>,
    ) -> nfqueue::Verdict {
        self.resolutions.queued(now_ns / 1_000_000, packet.l3, packet.wire_len, path);
        if !step.alerts.is_empty() {
            self.alarms.take(now_ns, step);
            self.notices.alerts(now_ns, step);
        }
        let marks = self.policy.marks;
        if let Some((key, _)) = &step.flow
            && self.is_blocked(key, now_ns)
        {
            // Also where no program drops it: what is blocked stays so until its deadline.
            self.renew(key, flows);
            return nfqueue::Verdict::Accept { mark: Some(marks.blocked()) };
        }
        self.note_inspected(now_ns, step);
        match step.outcome {
            Outcome::NotAFlow => nfqueue::Verdict::Accept { mark: None },
            Outcome::Inspect => {
                if let Some((key, _)) = &step.flow
                    && is_syn(packet.l3)
                    && !self.is_limited(key)
                {
                    // The ports are another connection now: what was decided is about the old one.
                    // A limited flow stays so, or a SYN in its midst would set it free.
                    self.forget(key, flows);
                }
                nfqueue::Verdict::Accept { mark: None }
            }
            Outcome::Decided(decision) => {
                let mut verdict = self.verdict(&decision).0;
                if verdict == Verdict::Trusted
                    && let Some((key, direction)) = step.flow
                    && self.is_unseen(&key, direction)
                {
                    self.totals.unseen += 1;
                    self.forget(&key, flows);
                    return self.undecided("passed while nobody inspected", step.flow);
                }
                if let Some((key, direction)) = step.flow {
                    let is_known = self.table.get(&key).is_some();
                    // Without a message nothing new was learned about it, also where a rule is about
                    // less than was known before; a SYN is another connection.
                    let by = step.alerts.iter().find(|alert| alert.blocks);
                    let has_news = step.news.is_some() || step.earlier.is_some();
                    let is_nameless = !has_news && by.is_none() && !is_syn(packet.l3);
                    if is_known && is_nameless && self.is_limited(&key) {
                        verdict = Verdict::Limited;
                        self.renew(&key, flows);
                    } else if is_known && self.is_limited_again(&key, &decision) {
                        self.renew(&key, flows);
                    } else if is_known
                        && (step.is_repeated
                            || is_nameless
                                && (self.table.confirm(&key, now_ns) || self.is_asking(&key)))
                    {
                        // It was in the queue already when the flow was decided, or it was looked at
                        // again and has not changed.
                        self.stop_asking(&key, flows);
                    } else if self.has_asked_again(now_ns, &key, &decision, step) {
                        self.renew(&key, flows);
                    } else {
                        self.tell(now_ns, packet, path, &decision, step.news.as_ref());
                        let asks = self.policy.reinspection.requests && is_request(step);
                        let shown = Shown { hello: said(step), ends: step.ends, by, asks };
                        self.decide(now_ns, key, direction, &decision, shown, flows);
                    }
                }
                let key = step.flow.as_ref().map(|(key, _)| key);
                nfqueue::Verdict::Accept { mark: Some(self.mark(verdict, key)) }
            }
            Outcome::Undecided(cause) => {
                if let Some((key, _)) = &step.flow
                    && self.table.get(key).is_some_and(|it| it.is_reopened() || it.decision.asks)
                {
                    self.forget(key, flows);
                }
                self.undecided(cause.name(), step.flow)
            }
        }
    }

    /// Counts what was let through while it was inspected.
    fn note_inspected(&mut self, now_ns: u64, step: &Step) {
        let is_let_through = match &step.outcome {
            Outcome::Decided(decision) => decision.verdict != Verdict::Blocked,
            Outcome::Undecided(_) => self.policy.on_error != OnError::Drop,
            Outcome::Inspect | Outcome::NotAFlow => false,
        };
        if let (true, Some((key, _)), Some(ends)) = (is_let_through, &step.flow, &step.ends)
            && self.book.is_lan(ends)
        {
            self.tally.add(owner(ends), &Part::of_inspection(key, ends, step.inspected, now_ns));
        }
    }

    /// The mark of the connection with this key, when it has this verdict.
    pub(super) fn mark(&self, verdict: Verdict, key: Option<&FlowKey>) -> u32 {
        let Policy { marks, hears_dns, .. } = &self.policy;
        let is_dns = key.is_some_and(is_dns);
        let asks = key.is_some_and(|key| self.is_asking(key));
        match verdict {
            Verdict::Blocked => marks.blocked(),
            // Leaves the queue and is never given to a flowtable, where nothing limits it.
            Verdict::Limited => marks.undecided(),
            // The same: a flowtable takes packets past the programs that tell of them, or that mark
            // what is asked.
            Verdict::Trusted if is_dns && *hears_dns || asks => marks.undecided(),
            _ => marks.trusted(),
        }
    }

    /// The verdict about a packet of a flow that cannot be decided.
    fn undecided(&mut self, cause: &str, flow: Option<(FlowKey, Direction)>) -> nfqueue::Verdict {
        match self.policy.on_error {
            OnError::Drop => {
                self.totals.dropped_undecided += 1;
                return nfqueue::Verdict::Drop;
            }
            OnError::Alert => log::warn!("passed uninspected: {cause}: {}", describe(flow)),
            OnError::Pass => log::debug!("passed uninspected: {cause}: {}", describe(flow)),
        }
        nfqueue::Verdict::Accept { mark: Some(self.policy.marks.undecided()) }
    }

    /// Whether part of the connection that a packet belongs to may have passed while nobody
    /// inspected. Another one between the same ends is not meant.
    fn is_unseen(&mut self, key: &FlowKey, direction: Direction) -> bool {
        if self.unseen.is_going_on {
            return true;
        }
        let Some(id) = self.unseen.get(key) else { return false };
        let Some(conntrack) = &mut self.conntrack else { return true };
        let found = conntrack.lookup(&Tuple::of_flow(key, direction));
        let is_it = found.map_or(true, |found| found.is_some_and(|now| now.id == id));
        if !is_it {
            self.unseen.forget(key);
        }
        is_it
    }

    /// Writes a decision under every key of the connection and remembers it.
    fn decide(
        &mut self,
        now_ns: u64,
        key: FlowKey,
        direction: Direction,
        decision: &engine::Decision,
        Shown { hello, ends, by, asks }: Shown<'_>,
        flows: Option<&mut Flows>,
    ) {
        let keys = self.keys(key, direction, decision.original);
        let (verdict, treatment) = self.verdict(decision);
        let (entry, observed) = self.note(now_ns, decision, ends.as_ref());
        let expires_s = match verdict {
            // Its rule needs no more than the next packet, and others need the room.
            Verdict::Blocked if decision.packets == 1 && by.is_none() => {
                self.deadline(now_ns).min((now_ns / 1_000_000_000) as u32 + FIRST_BLOCK_S)
            }
            Verdict::Blocked => self.deadline(now_ns),
            _ => 0,
        };
        let record = table::Decision {
            key: keys.own,
            nat_key: keys.nat,
            verdict,
            treatment,
            reason: decision.reason,
            idle_timeout: self.policy.idle(&key),
            expires_s,
            hello,
            spoken: decision.protocol.map(|(protocol, confidence)| table::Spoken {
                protocol: protocol.name(),
                confidence: confidence.name(),
            }),
            rule: by.map_or_else(
                || self.name(now_ns, decision, ends.as_ref()),
                |by| Some(by.title().into()),
            ),
            entry,
            observed,
            learned: self.learned(now_ns, ends.as_ref(), (&key, decision.original)),
            ends,
            inspected_packets: decision.packets,
            is_partial: keys.is_partial,
            // Of a connection without its other key not all packets would be decided.
            asks: asks && verdict == Verdict::Trusted && !keys.is_partial,
        };
        let is_chosen = verdict == Verdict::Trusted
            && self.lot.draw(u64::from(self.policy.reinspection.percent));
        self.record(now_ns, record, flows);
        if verdict == Verdict::Blocked {
            self.notices.blocked(now_ns, keys.own.0);
        }
        if is_chosen {
            let after = self.policy.reinspection.after.as_nanos() as u64;
            self.table.draw(&keys.own.0, now_ns.saturating_add(after));
        }
    }

    /// The name of the rule or list that decided; for a list, this counts.
    fn name(
        &mut self,
        now_ns: u64,
        decision: &engine::Decision,
        ends: Option<&Ends>,
    ) -> Option<Box<str>> {
        match decision.list {
            Some(list) => self.domains.hit(list, ends, now_ns).map(Box::from),
            None => self.rule(decision.rule).map(|rule| rule.name.clone()),
        }
    }

    pub(super) fn rule(&self, number: Option<u32>) -> Option<&Rule> {
        self.rules.get(number? as usize)
    }

    /// What a decision of the engine means.
    pub(super) fn verdict(&self, decision: &engine::Decision) -> (Verdict, Treatment) {
        treated(decision.verdict, self.rule(decision.rule))
    }

    fn is_blocked(&self, key: &FlowKey, now_ns: u64) -> bool {
        self.table.held() > 0
            && self.table.get(key).is_some_and(|record| {
                let decision = &record.decision;
                decision.verdict == Verdict::Blocked
                    && now_ns / 1_000_000_000 < u64::from(decision.expires_s)
            })
    }

    fn is_limited(&self, key: &FlowKey) -> bool {
        self.table.held() > 0
            && self.table.get(key).is_some_and(|record| record.decision.verdict == Verdict::Limited)
    }

    pub(super) const fn deadline(&self, now_ns: u64) -> u32 {
        ((now_ns / 1_000_000_000) as u32).saturating_add(self.policy.block.as_secs() as u32)
    }

    /// The keys of the connection that a packet with `key` belongs to, each with the way that the
    /// connection's first packet travels under it.
    fn keys(&mut self, key: FlowKey, direction: Direction, original: Direction) -> Keys {
        let mut keys = Keys { own: (key, original), nat: None, is_partial: false };
        let Some(conntrack) = &mut self.conntrack else { return keys };
        match conntrack.lookup(&Tuple::of_flow(&key, direction)) {
            Ok(Some(connection)) => {
                let [before, behind] = connection.flows();
                keys.own = before;
                keys.nat = (before.0 != behind.0).then_some(behind);
            }
            Ok(None) => {
                self.totals.without_connection += 1;
                keys.is_partial = true;
            }
            Err(error) => {
                self.totals.without_connection += 1;
                log::debug!("ask conntrack: {error}");
            }
        }
        keys
    }
}

/// The keys of a connection.
struct Keys {
    own: (FlowKey, Direction),
    nat: Option<(FlowKey, Direction)>,
    /// Whether there may be another that nobody knows yet.
    is_partial: bool,
}

/// What a decision is taken on.
struct Shown<'a> {
    hello: Option<table::Hello>,
    ends: Option<Ends>,
    /// A rule of a ruleset that blocks.
    by: Option<&'a Alert>,
    /// Whether its client may ask for something else.
    asks: bool,
}

/// Draws lots.
struct Lot(u64);

impl Lot {
    /// Whether one of a hundred is among the first `percent`.
    const fn draw(&mut self, percent: u64) -> bool {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 20) % 100 < percent
    }
}

pub(super) fn is_syn(l3: &[u8]) -> bool {
    headers(l3, sluice_abi::attach::Link::Ip).is_ok_and(|headers| headers.is_syn())
}

pub(super) fn describe(flow: Option<(FlowKey, Direction)>) -> String {
    flow.map_or_else(String::new, |(key, direction)| {
        let end = |(addr, port): (sluice_abi::flow::Addr, u16)| {
            std::net::SocketAddr::new(addr.into(), port)
        };
        format!("{} > {}", end(key.source(direction)), end(key.destination(direction)))
    })
}

/// What is kept of a client's first message, and of the answer that was awaited with it.
pub(super) fn said(step: &Step) -> Option<table::Hello> {
    let of = |hello: &Hello| table::Hello {
        sni: hello.sni.clone(),
        ech: hello.has_ech,
        ja4: Some(hello.ja4.as_str().into()),
        ja3: Some(hello.ja3.to_string().into()),
        alpn: hello.alpn.clone().into(),
        ..table::Hello::default()
    };
    Some(match (&step.news, &step.earlier) {
        (Some(News::Answer(answer)), Some(hello)) => table::Hello {
            ja3s: Some(answer.ja3s.to_string().into()),
            certificate: answer.certificate.map(|hash| hash.to_string().into()),
            ..of(hello)
        },
        (Some(News::Hello(hello)), _) | (_, Some(hello)) => of(hello),
        (Some(News::Request(request)), None) => {
            table::Hello { host: request.host.clone(), ..table::Hello::default() }
        }
        (Some(News::Answer(_)) | None, None) => return None,
    })
}

//! From a queued packet to its verdict: asks the engine, writes decisions to the kernel, remembers
//! them.
//!
//! A decision is in the flow map, under both keys that NAT gives the connection, before the packet
//! that brought it gets its verdict (R21).

use std::time::Duration;

use sluice_abi::flow::{Direction, FlowCount, FlowKey, FlowState};
use sluice_abi::verdict::{Reason, Verdict};
use sluice_datapath::parse::{TCP, headers};

use crate::config::{MarkMask, OnError, RuleAction};
use crate::dataplane::flows::{Adopted, Flows};
use crate::dataplane::table::{self, Action, FlowTable};
use crate::inspect::domains::DomainRules;
use crate::inspect::engine::{self, Engine, Outcome};
use crate::netfilter::conntrack::{Conntrack, Tuple};
use crate::netfilter::nfqueue::{self, Packet};

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
}

/// A flow and the way that the connection's first packet travels under its key.
pub(super) type Flow = (FlowKey, Direction);

/// Owns everything between queue and flow map.
pub(super) struct Inspector {
    pub(super) engine: Engine,
    pub(super) table: FlowTable,
    /// Names of the rules, by the number that the engine knows them by.
    pub(super) rules: Vec<Box<str>>,
    pub(super) policy: Policy,
    pub(super) totals: Totals,
    /// `None` where the kernel has no conntrack netlink.
    pub(super) conntrack: Option<Conntrack>,
}

impl Inspector {
    /// An inspector that knows no flow yet, for at most `flows` decided ones.
    pub(super) fn new(
        engine: Engine,
        flows: u32,
        rules: Vec<Box<str>>,
        policy: Policy,
        conntrack: Option<Conntrack>,
    ) -> Self {
        let table = FlowTable::new(flows);
        Self { engine, table, rules, policy, totals: Totals::default(), conntrack }
    }

    /// The verdict about one packet. `flows` is the flow map, when there is one.
    pub(super) fn packet(
        &mut self,
        now_ns: u64,
        packet: &Packet<'_>,
        flows: Option<&mut Flows>,
    ) -> nfqueue::Verdict {
        let step = self.engine.packet(now_ns / 1_000_000, packet.l3, packet.wire_len);
        if let Some((key, _)) = &step.flow
            && self.is_cut(key, packet.l3)
        {
            // Its connection and the mark on it are gone, the decision is not.
            self.renew(key, flows);
            return nfqueue::Verdict::Accept { mark: Some(self.policy.marks.blocked()) };
        }
        match step.outcome {
            Outcome::NotAFlow => nfqueue::Verdict::Accept { mark: None },
            Outcome::Inspect => {
                if let Some((key, _)) = &step.flow
                    && is_syn(packet.l3)
                {
                    // The ports are another connection now: what was decided is about the old one.
                    self.forget(key, flows);
                }
                nfqueue::Verdict::Accept { mark: None }
            }
            Outcome::Decided(decision) => {
                if let Some((key, direction)) = step.flow {
                    if step.is_repeated && self.table.get(&key).is_some() {
                        // It was in the queue already when the flow was decided.
                        self.renew(&key, flows);
                    } else {
                        self.decide(
                            now_ns,
                            key,
                            direction,
                            &decision,
                            step.hello.as_deref(),
                            flows,
                        );
                    }
                }
                let marks = self.policy.marks;
                let mark = match decision.verdict {
                    Verdict::Blocked => marks.blocked(),
                    _ => marks.trusted(),
                };
                nfqueue::Verdict::Accept { mark: Some(mark) }
            }
            Outcome::Undecided(cause) => {
                match self.policy.on_error {
                    OnError::Drop => return nfqueue::Verdict::Drop,
                    OnError::Alert => {
                        log::warn!("passed uninspected: {}: {}", cause.name(), describe(step.flow));
                    }
                    OnError::Pass => {
                        log::debug!(
                            "passed uninspected: {}: {}",
                            cause.name(),
                            describe(step.flow)
                        );
                    }
                }
                nfqueue::Verdict::Accept { mark: Some(self.policy.marks.undecided()) }
            }
        }
    }

    /// Writes a decision under every key of the connection and remembers it.
    fn decide(
        &mut self,
        now_ns: u64,
        key: FlowKey,
        direction: Direction,
        decision: &engine::Decision,
        hello: Option<&engine::Hello>,
        flows: Option<&mut Flows>,
    ) {
        let (own, nat) = self.keys(key, direction, decision.original);
        let expires_s = match decision.verdict {
            Verdict::Blocked => self.deadline(now_ns),
            _ => 0,
        };
        let record = table::Decision {
            key: own,
            nat_key: nat,
            verdict: decision.verdict,
            reason: decision.reason,
            idle_timeout: if key.proto() == TCP {
                self.policy.idle_tcp
            } else {
                self.policy.idle_udp
            },
            expires_s,
            hello: hello.map(|hello| table::Hello {
                sni: hello.sni.clone(),
                ja4: Some(hello.ja4.as_str().into()),
                ja3: Some(hello.ja3.to_string().into()),
                alpn: hello.alpn.clone().into(),
            }),
            rule: decision.rule.and_then(|rule| self.rules.get(rule as usize)).cloned(),
            inspected_packets: decision.packets,
        };
        self.record(now_ns, record, flows);
    }

    /// Puts a decision into the table and the kernel.
    fn record(&mut self, now_ns: u64, decision: table::Decision, mut flows: Option<&mut Flows>) {
        let keys: Vec<FlowKey> =
            std::iter::once(decision.key).chain(decision.nat_key).map(|(key, _)| key).collect();
        let placed = self.table.insert(decision, now_ns, |slot| count(flows.as_deref(), slot));
        // What stays is overwritten: between removing and writing a packet could slip through.
        self.remove(placed.ended, &keys, flows.as_deref_mut());
        if let (Some(key), Some(flows)) = (keys.first(), flows) {
            self.write(key, flows, |_, _| true);
        }
    }

    /// Writes the decision about the flow `key` again where the kernel has lost it.
    fn renew(&mut self, key: &FlowKey, flows: Option<&mut Flows>) {
        if let Some(flows) = flows {
            self.write(key, flows, |flows, key| matches!(flows.get(key), Ok(None)));
        }
    }

    /// Writes the recorded decision about the flow `key` under those of its keys that `wanted` says.
    fn write(
        &mut self,
        key: &FlowKey,
        flows: &mut Flows,
        wanted: impl Fn(&Flows, &FlowKey) -> bool,
    ) {
        let Some(record) = self.table.get(key) else { return };
        let decision = &record.decision;
        for (key, original) in std::iter::once(&decision.key).chain(&decision.nat_key) {
            let state = FlowState::new(
                decision.verdict,
                decision.reason,
                *original,
                record.slot,
                decision.expires_s,
            );
            if wanted(flows, key)
                && let Err(error) = flows.set(key, &state)
            {
                self.totals.write_errors += 1;
                log::warn!("{}", error.chain());
            }
        }
    }

    /// Takes up blocked flows that an earlier agent left in the map.
    pub(super) fn adopt(&mut self, now_ns: u64, adopted: Adopted, mut flows: Option<&mut Flows>) {
        for (key, state) in adopted.blocked {
            let Some(reason) = state.reason() else { continue };
            let original =
                if state.side(Direction::Up) == 0 { Direction::Up } else { Direction::Down };
            let decision = table::Decision {
                key: (key, original),
                nat_key: None,
                verdict: Verdict::Blocked,
                reason,
                idle_timeout: Duration::ZERO,
                expires_s: state.expires_s,
                hello: None,
                rule: None,
                inspected_packets: 0,
            };
            self.record(now_ns, decision, flows.as_deref_mut());
        }
    }

    /// Puts other rules into force. Flows that are known by a name which is blocked now are blocked
    /// at once; what was blocked stays so until its deadline.
    pub(super) fn set_rules(
        &mut self,
        now_ns: u64,
        domains: DomainRules,
        rules: Vec<Box<str>>,
        policy: Policy,
        mut flows: Option<&mut Flows>,
    ) {
        self.rules = rules;
        self.policy = policy;
        let blocked: Vec<table::Decision> = self
            .table
            .iter()
            .filter(|record| record.decision.verdict == Verdict::Trusted)
            .filter_map(|record| {
                let name = record.decision.hello.as_ref()?.sni.as_deref()?;
                let found =
                    domains.lookup(name).filter(|found| found.action == RuleAction::Block)?;
                Some(table::Decision {
                    verdict: Verdict::Blocked,
                    reason: Reason::DomainRule,
                    rule: self.rules.get(found.rule as usize).cloned(),
                    expires_s: self.deadline(now_ns),
                    ..record.decision.clone()
                })
            })
            .collect();
        for decision in blocked {
            let flow = decision.key;
            self.record(now_ns, decision, flows.as_deref_mut());
            // Its connection is marked trusted, and may be offloaded.
            self.cut(&flow);
        }
        self.engine.set_rules(domains);
    }

    const fn deadline(&self, now_ns: u64) -> u32 {
        ((now_ns / 1_000_000_000) as u32).saturating_add(self.policy.block.as_secs() as u32)
    }

    /// The keys of the connection that a packet with `key` belongs to, each with the way that the
    /// connection's first packet travels under it.
    fn keys(
        &mut self,
        key: FlowKey,
        direction: Direction,
        original: Direction,
    ) -> ((FlowKey, Direction), Option<(FlowKey, Direction)>) {
        let seen = (key, original);
        let Some(conntrack) = &mut self.conntrack else { return (seen, None) };
        match conntrack.lookup(&Tuple::of_flow(&key, direction)) {
            Ok(Some(connection)) => {
                let [before, behind] = connection.flows();
                if before.0 == behind.0 { (before, None) } else { (before, Some(behind)) }
            }
            Ok(None) => {
                self.totals.without_connection += 1;
                (seen, None)
            }
            Err(error) => {
                self.totals.without_connection += 1;
                log::debug!("ask conntrack: {error}");
                (seen, None)
            }
        }
    }

    /// Forgets the decision about a flow.
    fn forget(&mut self, key: &FlowKey, flows: Option<&mut Flows>) {
        if let Some(action) = self.table.remove(key) {
            self.remove([action], &[], flows);
        }
    }

    /// Ends what is over. Called every sweep interval.
    pub(super) fn sweep(&mut self, now_ns: u64, flows: Option<&mut Flows>) {
        self.engine.expire(now_ns / 1_000_000);
        let ended = self.table.sweep(
            now_ns,
            |slot| count(flows.as_deref(), slot),
            |key| flows.as_deref().is_none_or(|flows| !matches!(flows.get(key), Ok(None))),
        );
        self.remove(ended, &[], flows);
    }

    /// Removes what ended from the kernel, except the keys in `keep`.
    fn remove(
        &mut self,
        ended: impl IntoIterator<Item = Action>,
        keep: &[FlowKey],
        mut flows: Option<&mut Flows>,
    ) {
        for action in ended {
            match action.cause {
                table::Cause::Expired => self.totals.expired += 1,
                table::Cause::Evicted | table::Cause::Displaced => self.totals.evicted += 1,
                table::Cause::Replaced => {}
            }
            let Some(flows) = flows.as_deref_mut() else { continue };
            for key in action.record.keys().filter(|key| !keep.contains(key)) {
                if let Err(error) = flows.remove(key) {
                    self.totals.write_errors += 1;
                    log::warn!("{}", error.chain());
                }
            }
        }
    }
}

fn count(flows: Option<&Flows>, slot: u32) -> FlowCount {
    flows.and_then(|flows| flows.count(slot).ok()).unwrap_or_default()
}

pub(super) fn is_syn(l3: &[u8]) -> bool {
    headers(l3, sluice_abi::attach::Link::Ip).is_ok_and(|headers| headers.is_syn())
}

fn describe(flow: Option<(FlowKey, Direction)>) -> String {
    flow.map_or_else(String::new, |(key, direction)| {
        let end = |(addr, port): (sluice_abi::flow::Addr, u16)| {
            std::net::SocketAddr::new(addr.into(), port)
        };
        format!("{} > {}", end(key.source(direction)), end(key.destination(direction)))
    })
}

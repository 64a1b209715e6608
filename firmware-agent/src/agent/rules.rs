//! The rules among the parts: where their facts come from, what they did, and what happens to flows
//! that are decided when other rules come into force.

use std::sync::Arc;

use sluice_abi::attach::Role;
use sluice_abi::flow::FlowKey;
use sluice_abi::verdict::{Reason, Verdict};

use super::inspector::{Inspector, Policy, Rule};
use super::running::State;
use crate::config::{Clock, Fingerprint, RuleAction, in_force};
use crate::control::report::RuleReport;
use crate::dataplane::flows::Flows;
use crate::dataplane::table::{self, Treatment};
use crate::inspect::engine::{self, News, Sentence};
use crate::inspect::protocol::Confidence;
use crate::netfilter::nfqueue::Packet;
use crate::netfilter::reject;
use crate::plan::Plan;
use crate::policy::{self, Ends, Path, Seen, Surroundings, TimeZone, Zone, grammar};
use crate::sys::{clock, rtnetlink};

/// Where OpenWrt keeps the time zone, the first that is there.
const TIME_ZONES: [&str; 2] = ["/etc/TZ", "/etc/config/system"];

impl Inspector {
    /// Counts the rules of a decision. The second value is the entry of the rule that decided, the
    /// third the name of one, or of a list, that observes.
    pub(super) fn note(
        &mut self,
        now_ns: u64,
        decision: &engine::Decision,
        ends: Option<&Ends>,
    ) -> (Option<Box<str>>, Option<Box<str>>) {
        let rules = &self.book.rules;
        let entry = decision.entry.map(|entry| rules.text(entry).into());
        if let Some(rule) = decision.rule {
            self.ledger.hit(rule, ends, now_ns);
        }
        if let Some(found) = decision.observed {
            self.ledger.observed(found.rule, ends, now_ns);
        }
        let listed = ends.filter(|_| decision.verdict != Verdict::Blocked);
        let listed = listed.and_then(|ends| self.observing.look(ends, now_ns));
        let domain = decision.watched.and_then(|list| self.domains.observed(list, ends, now_ns));
        let domain = domain.map(|name| format!("domainlist {name}").into());
        let rule = decision.observed.and_then(|found| self.rules.get(found.rule as usize));
        // In the order in which they would have blocked.
        (entry, listed.or(domain).or_else(|| rule.map(|rule| rule.name.clone())))
    }

    /// Tells the ends of a flow that a rule rejects. Before the decision is in the kernel, where it
    /// would stop that too.
    pub(super) fn tell(
        &mut self,
        now_ns: u64,
        packet: &Packet<'_>,
        path: &Path,
        decision: &engine::Decision,
        news: Option<&News>,
    ) {
        if decision.verdict != Verdict::Blocked
            || !self.rule(decision.rule).is_some_and(|rule| rule.rejects)
        {
            return;
        }
        let is_hello = matches!(news, Some(News::Hello(hello)) if hello.quic.is_none());
        let is_from_home = path.from.is_some_and(|zone| zone.is_lan);
        let told = reject::Told { is_from_home, is_hello };
        self.rejects.send(now_ns, &reject::answers(packet.l3, packet.wire_len, told));
    }

    /// Puts other rules into force. Flows that are known get at once what the rules say about them;
    /// what was blocked stays so until its deadline, what was paused as long as a rule pauses it.
    pub(super) fn set_rules(
        &mut self,
        now_ns: u64,
        mut compiled: policy::Policy,
        time_of_day: Option<i64>,
        rules: Vec<Rule>,
        policy: Policy,
        flows: Option<&mut Flows>,
    ) {
        compiled.inherit(&self.book.rules);
        compiled.update(time_of_day);
        self.ledger.renumber(names(&self.rules), names(&rules));
        self.rules = rules;
        self.policy = policy;
        self.book.rules = Arc::new(compiled);
        self.judge_anew(now_ns, flows);
    }

    /// Gives flows that are decided what rules and lists say about them now.
    fn judge_anew(&mut self, now_ns: u64, mut flows: Option<&mut Flows>) {
        self.resume(now_ns, flows.as_deref_mut());
        let known = self.table.iter().filter(|r| r.decision.verdict != Verdict::Blocked);
        let changed: Vec<_> = known.filter_map(|r| self.judged_anew(now_ns, &r.decision)).collect();
        for (mut decision, sentence) in changed {
            let ends = decision.ends.as_ref();
            if let Some(list) = sentence.list {
                decision.rule = self.domains.hit(list, ends, now_ns).map(Box::from);
            }
            if let Some(found) = sentence.rule {
                self.ledger.hit(found.rule, decision.ends.as_ref(), now_ns);
            }
            let (key, verdict) = (decision.key, decision.verdict);
            self.record(now_ns, decision, flows.as_deref_mut());
            self.mark_connection(key, self.mark(verdict, Some(&key.0)));
        }
    }

    /// What rules and lists say now about a flow, if that is something else, and what says it.
    pub(super) fn judged_anew(
        &self,
        now_ns: u64,
        old: &table::Decision,
    ) -> Option<(table::Decision, Sentence)> {
        let ends = old.ends?;
        let hello = old.hello.as_ref();
        let name = hello.and_then(table::Hello::name);
        let read = |text: Option<&Box<str>>,
                    read: fn(&str) -> Result<Fingerprint, &'static str>| {
            text.and_then(|text| read(text).ok())
        };
        let ja3 = read(hello.and_then(|hello| hello.ja3.as_ref()), Fingerprint::ja3);
        let ja4 = read(hello.and_then(|hello| hello.ja4.as_ref()), Fingerprint::ja4);
        let ja3s = read(hello.and_then(|hello| hello.ja3s.as_ref()), Fingerprint::ja3s);
        let certificate =
            read(hello.and_then(|hello| hello.certificate.as_ref()), Fingerprint::certificate);
        let fingerprints: Vec<Fingerprint> =
            [ja3, ja4, ja3s, certificate].into_iter().flatten().collect();
        let sure = old.spoken.filter(|spoken| spoken.confidence != Confidence::Guess.name());
        let protocol = sure.map(|spoken| spoken.protocol);
        let seen = Seen { names: name.as_slice(), fingerprints: &fingerprints, protocol };
        let clean = match hello {
            None => Reason::WindowEnd,
            Some(hello) if hello.host.is_some() => Reason::RequestClean,
            Some(_) => Reason::HelloClean,
        };
        let sentence = self.book.judge(ends, seen, clean);
        let rule = self.rule(sentence.rule.map(|found| found.rule));
        let (verdict, treatment) = treated(sentence.verdict, rule);
        if (verdict, treatment) == (old.verdict, old.treatment) {
            return None;
        }
        let decision = table::Decision {
            verdict,
            treatment,
            reason: sentence.reason,
            rule: rule.map(|rule| rule.name.clone()),
            entry: sentence.rule.map(|found| self.book.rules.text(found.entry).into()),
            expires_s: if verdict == Verdict::Blocked { self.deadline(now_ns) } else { 0 },
            asks: old.asks && verdict == Verdict::Trusted,
            ..old.clone()
        };
        Some((decision, sentence))
    }

    /// Whether a decision repeats what holds for a limited flow: its bucket must not be filled anew.
    pub(super) fn is_limited_again(&self, key: &FlowKey, decision: &engine::Decision) -> bool {
        decision.verdict == Verdict::Limited
            && self.table.get(key).is_some_and(|record| {
                let name = self.rules.get(decision.rule.unwrap_or(u32::MAX) as usize);
                record.decision.verdict == Verdict::Limited
                    && record.decision.rule.as_ref() == name.map(|rule| &rule.name)
            })
    }
}

fn names(rules: &[Rule]) -> impl Iterator<Item = &str> {
    rules.iter().map(|rule| &*rule.name)
}

/// What a verdict of the engine means with the rule that said so: the profile of an allowed flow may
/// have a rate.
pub(super) fn treated(verdict: Verdict, rule: Option<&Rule>) -> (Verdict, Treatment) {
    let treatment = rule.map(|rule| rule.treatment).unwrap_or_default();
    match verdict {
        Verdict::Trusted if treatment.kbit != 0 => (Verdict::Limited, treatment),
        verdict => (verdict, treatment),
    }
}

impl State {
    /// Seconds since 1970, once that can be believed: a router without a battery starts with the
    /// date of its youngest file.
    pub(super) fn time_of_day(&mut self) -> Option<i64> {
        self.knows_time |= self.plan.clock == Clock::Trust || clock::is_set();
        if self.knows_time { clock::unix_s() } else { None }
    }

    /// Whether the time of day changes which rules are in force.
    pub(super) fn is_time(&mut self) -> bool {
        let now_s = self.time_of_day();
        self.inspector.book.rules.changes(now_s)
    }

    /// Ends what an allowlist lifts only until now.
    pub(super) fn end_allowed(&mut self) {
        let now_s = self.time_of_day();
        let Self { inspector, dataplane, lists, sets, plan, .. } = self;
        if now_s.is_some_and(|now_s| plan.end_allowed(now_s))
            && let Err(error) = lists.set(dataplane.as_mut(), sets, &mut inspector.observing, plan)
        {
            lists.refuse(&error);
        }
    }

    /// Brings the rules to where the time of day has them. Engines are not told.
    pub(super) fn look_at_clock(&mut self) {
        let now_s = self.time_of_day();
        let Self { inspector, dataplane, .. } = self;
        if Arc::make_mut(&mut inspector.book.rules).update(now_s) {
            let flows = dataplane.as_mut().and_then(|dataplane| dataplane.flows.as_mut());
            inspector.judge_anew(clock::monotonic_ns(), flows);
        }
    }

    /// Finds out which devices the interfaces are.
    pub(super) fn look_at_zones(&mut self, devices: &[rtnetlink::Device]) {
        let plans = (0..).zip(&self.plan.dataplane.interfaces);
        let zones = plans
            .filter_map(|(number, plan)| {
                let device = devices.iter().find(|device| device.name == plan.device)?;
                Some((device.ifindex, Zone { number, is_lan: plan.role == Role::Lan }))
            })
            .collect();
        self.inspector.book.set_zones(zones);
        self.look_at_resolutions();
    }

    /// Rules that did something, that observe, or whose time comes and goes.
    pub(super) fn rules(&self) -> Vec<RuleReport> {
        let now_ns = clock::monotonic_ns();
        let ledger = &self.inspector.ledger;
        let rules = (0..).zip(&self.plan.rules);
        rules
            .filter_map(|(number, rule)| {
                let hits = ledger.hits(number);
                let comes_and_goes = rule.until.is_some() || !rule.schedules.is_empty();
                if hits.flows == 0 && !comes_and_goes && rule.action != RuleAction::Observe {
                    return None;
                }
                Some(RuleReport {
                    name: rule.name.clone(),
                    text: grammar::print(rule),
                    in_force: self.inspector.book.rules.is_in_force(number),
                    flows: hits.flows,
                    last_s_ago: super::report::ago(now_ns, hits.last_ns),
                    devices: self.named(ledger.devices(number)),
                })
            })
            .collect()
    }
}

/// The rules of a plan, in the form in which they are looked up.
pub(super) fn compiled(plan: &Plan) -> policy::Policy {
    let interfaces = plan.dataplane.interfaces.iter();
    policy::Policy::new(
        &plan.rules,
        &Surroundings {
            zones: interfaces.map(|interface| interface.name.as_str()).collect(),
            groups: &plan.groups,
            schedules: &plan.schedules,
            apps: &plan.apps,
            countries: &plan.countries,
            time_zone: if plan.schedules.is_empty() { TimeZone::UTC } else { time_zone() },
        },
    )
}

/// The time zone of this router; universal time where it has none that can be read.
fn time_zone() -> TimeZone {
    let files = TIME_ZONES.into_iter().map(|file| in_force(file.as_ref()));
    let mut texts = files.filter_map(|file| std::fs::read_to_string(file).ok());
    texts.find_map(|text| TimeZone::of_system(&text)).unwrap_or_else(|| {
        log::warn!("no time zone in {}: schedules are in universal time", TIME_ZONES.join(", "));
        TimeZone::UTC
    })
}

//! Which rule counts for a flow.
//!
//! Owns the text of rules, the time at which they hold, and the choice among them. A rule holds when
//! all its conditions do: of the target, of whose flow it is, and of the time. Of those that hold,
//! one that pauses; then the one for the most particular of device, group, zone and everyone counts; then the one with the
//! most particular target (longest domain, class of applications, fingerprint of either side, address, longer prefix, country, one port,
//! range of ports, protocol, anything); then one that allows; then the one that stands first. A rule that only
//! observes is told when it would have counted, and lets the others decide.
//!
//! Pure: facts and time are arguments. Does not own what is done about a decision.

mod app;
mod compile;
mod country;
mod facts;
pub mod grammar;
mod index;
mod late;
mod schedule;
mod who;
mod zone;

use sluice_abi::flow::Addr;
use sluice_datapath::parse::TCP;

use self::app::Classes;
pub use self::compile::{Surroundings, of_domains};
use self::country::Places;
pub use self::facts::{Ends, Facts, Path, Seen, Zone};
use self::index::{Fingerprints, Nets, Suffixes};
pub use self::schedule::Schedules;
use self::who::Who;
pub use self::zone::{Local, TimeZone};
use crate::config::{Moment, Ports, RuleAction};

/// The entry of a rule that fits a flow.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Entry {
    /// A domain, by its number.
    Domain(u32),
    /// A class of applications, by its number.
    App(u32),
    /// A fingerprint of client or server, by its number.
    Fingerprint(u32),
    /// A prefix, by its number.
    Net(u32),
    /// A country, by its number.
    Country(u16),
    /// Ports.
    Ports(Ports),
    /// A protocol.
    Protocol(&'static str),
    /// The rule names no target.
    Any,
}

/// A rule that holds for a flow.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Match {
    /// Its number.
    pub rule: u32,
    /// What it does.
    pub action: RuleAction,
    /// Its entry that fits.
    pub entry: Entry,
}

/// What rules say about a flow.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Judgement {
    /// The rule that counts.
    pub decides: Option<Match>,
    /// The rule that would count if it did more than observe.
    pub observes: Option<Match>,
}

/// How much of an answer there is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Answer {
    /// Nothing that is still to be learned changes it.
    Final(Judgement),
    /// It depends on what the payload says.
    Open,
}

/// Rules in the form in which they are looked up.
///
/// Memory: 12 bytes for each domain, also of a class of applications, and its text, 41 for each fingerprint, 24 for each prefix, and
/// [`RULE_SIZE`](Self::RULE_SIZE) with the lists of ports, protocols and schedules for each rule.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    rules: Box<[Compiled]>,
    domains: Suffixes,
    apps: Classes,
    nets: Nets,
    places: Places,
    fingerprints: Fingerprints,
    /// Rules that no index leads to.
    open: Box<[u32]>,
    /// Rules that wait for what a server answers.
    answered: Box<[u32]>,
    who: Box<[Who]>,
    /// By who is concerned: the highest rank, but for the tier, that a rule in force can have which
    /// waits for the payload.
    late: Vec<(u32, u64)>,
    /// The same of rules that wait for the answer of a TLS server: flows of TCP alone have one.
    late_answered: Vec<(u32, u64)>,
    schedules: Schedules,
}

/// A rule without what the indices know of it.
#[derive(Clone, Debug)]
struct Compiled {
    action: RuleAction,
    /// Kinds of indices that have to lead to it, one bit each.
    needs: u8,
    is_over: bool,
    has_schedule: bool,
    /// Length of its longest domain.
    longest: u8,
    who: u32,
    until: Option<Moment>,
    ports: Box<[Ports]>,
    protocols: Box<[&'static str]>,
    schedules: Box<[u32]>,
}

/// Kinds of targets, the least particular first.
mod kind {
    pub(super) const ANY: u8 = 0;
    pub(super) const PROTOCOL: u8 = 1;
    pub(super) const PORTS: u8 = 2;
    pub(super) const COUNTRY: u8 = 3;
    pub(super) const PREFIX: u8 = 4;
    pub(super) const ADDRESS: u8 = 5;
    pub(super) const FINGERPRINT: u8 = 6;
    pub(super) const APP: u8 = 7;
    pub(super) const DOMAIN: u8 = 8;
}

/// Bits of [`Compiled::needs`].
mod need {
    pub(super) const DOMAIN: u8 = 1;
    pub(super) const FINGERPRINT: u8 = 2;
    pub(super) const NET: u8 = 4;
    pub(super) const APP: u8 = 8;
    pub(super) const COUNTRY: u8 = 16;
    pub(super) const JA3S: u8 = 32;
    pub(super) const CERTIFICATE: u8 = 64;
    /// What a server answers.
    pub(super) const ANSWER: u8 = JA3S | CERTIFICATE;
}

/// What an index found.
#[derive(Clone, Copy, Debug)]
struct Hit {
    rule: u32,
    need: u8,
    kind: u8,
    len: u8,
    entry: Entry,
}

/// Where a rule stands among others, but for who it is for: higher counts.
const fn rank(action: RuleAction, kind: u8, len: u8, rule: u32) -> u64 {
    let allows = matches!(action, RuleAction::Allow) as u64;
    let pauses = matches!(action, RuleAction::Pause) as u64;
    pauses << 48
        | (kind as u64) << 41
        | (len as u64) << 33
        | allows << 32
        | (u32::MAX - rule) as u64
}

/// The same with who it is for.
const fn with_tier(tier: u8, rank: u64) -> u64 {
    (tier as u64) << 45 | rank
}

impl Policy {
    /// Bytes of a rule beside its entries.
    pub const RULE_SIZE: usize = size_of::<Compiled>();

    /// How many rules there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.rules.len()
    }

    /// Whether there is no rule.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// Whether the rule with this number is in force at this time.
    #[must_use]
    pub fn is_in_force(&self, rule: u32) -> bool {
        self.rules.get(rule as usize).is_some_and(|rule| self.holds(rule))
    }

    /// Whether a rule with this action is in force.
    #[must_use]
    pub fn holds_any(&self, action: RuleAction) -> bool {
        self.rules.iter().any(|rule| rule.action == action && self.holds(rule))
    }

    fn holds(&self, rule: &Compiled) -> bool {
        !rule.is_over
            && (!rule.has_schedule || rule.schedules.iter().any(|one| self.schedules.is_on(*one)))
    }

    /// Whether [`update`](Self::update) would change which rules are in force.
    #[must_use]
    pub fn changes(&self, now_s: Option<i64>) -> bool {
        now_s.is_some_and(|now_s| {
            let is_other = |rule: &Compiled| schedule::is_over(rule.until, now_s) != rule.is_over;
            self.schedules.changes(now_s) || self.rules.iter().any(is_other)
        })
    }

    /// Brings schedules and ends of rules to where they are at `now_s` seconds since 1970; without a
    /// time they stay as they are. Says whether that changed which rules are in force.
    pub fn update(&mut self, now_s: Option<i64>) -> bool {
        let Some(now_s) = now_s else { return false };
        let mut is_changed = self.schedules.update(now_s);
        for rule in &mut self.rules {
            let is_over = schedule::is_over(rule.until, now_s);
            is_changed |= is_over != rule.is_over;
            rule.is_over = is_over;
        }
        if is_changed {
            self.find_late();
        }
        is_changed
    }

    /// Takes over the states of schedules that `old` has as well.
    pub fn inherit(&mut self, old: &Self) {
        self.schedules.inherit(&old.schedules);
        self.find_late();
    }

    /// What indices lead to, rule by rule.
    fn hits(&self, facts: &Facts<'_>) -> Vec<Hit> {
        let mut hits = Vec::new();
        if let Some(seen) = &facts.seen {
            for name in seen.names {
                self.domains.find(name, &mut hits);
                self.apps.find(name, &mut hits);
            }
            seen.fingerprints.iter().for_each(|one| self.fingerprints.find(one, &mut hits));
        }
        self.nets.find(facts.ends.peer, &mut hits);
        self.places.find(facts.ends.peer, &mut hits);
        hits.sort_unstable_by_key(|hit| hit.rule);
        hits
    }

    /// The best of the rules that hold.
    fn best(&self, facts: &Facts<'_>, hits: &[Hit]) -> Best {
        let mut best = Best::default();
        for hits in hits.chunk_by(|a, b| a.rule == b.rule) {
            let found = hits.iter().fold(0, |found, hit| found | hit.need);
            let most = hits.iter().max_by_key(|hit| (hit.kind, hit.len));
            if let Some(hit) = most {
                self.weigh(facts, hit.rule, found, (hit.kind, hit.len, hit.entry), &mut best);
            }
        }
        for rule in &self.open {
            self.weigh(facts, *rule, 0, (kind::ANY, 0, Entry::Any), &mut best);
        }
        best
    }

    /// What the rules say about a flow.
    #[must_use]
    pub fn decide(&self, facts: &Facts<'_>) -> Answer {
        let best = self.best(facts, &self.hits(facts));
        if facts.seen.is_none() {
            let answered: &[_] =
                if facts.ends.transport == TCP { &self.late_answered } else { &[] };
            let is_final = best.decides.is_some_and(|(decided, _)| {
                self.late.iter().chain(answered).all(|(who, rank)| {
                    let tier = self.who.get(*who as usize).and_then(|who| who.tier(&facts.ends));
                    tier.is_none_or(|tier| with_tier(tier, *rank) < decided)
                })
            });
            if !is_final {
                return Answer::Open;
            }
        }
        let decided = best.decides.map_or(0, |(rank, _)| rank);
        Answer::Final(Judgement {
            decides: best.decides.map(|(_, found)| found),
            observes: best.observes.filter(|(rank, _)| *rank > decided).map(|(_, found)| found),
        })
    }

    /// Looks at a rule that indices of the kinds `found` led to; keeps it if it holds and is the best
    /// so far.
    fn weigh(
        &self,
        facts: &Facts<'_>,
        number: u32,
        found: u8,
        (mut kind, mut len, mut entry): (u8, u8, Entry),
        best: &mut Best,
    ) {
        let Some(rule) = self.rules.get(number as usize) else { return };
        if rule.needs & !found != 0 || !self.holds(rule) {
            return;
        }
        let mut raise = |other, other_len, fits| {
            if other > kind {
                (kind, len, entry) = (other, other_len, fits);
            }
        };
        if !rule.protocols.is_empty() {
            let protocol = facts.seen.as_ref().and_then(|seen| seen.protocol);
            let fits = rule.protocols.iter().find(|known| Some(**known) == protocol);
            let Some(fits) = fits else { return };
            raise(kind::PROTOCOL, 0, Entry::Protocol(fits));
        }
        if !rule.ports.is_empty() {
            let fitting =
                rule.ports.iter().filter(|p| p.contain(facts.ends.transport, facts.ends.port));
            let Some(fits) = fitting.min_by_key(|ports| ports.last - ports.first) else { return };
            raise(kind::PORTS, u8::from(fits.first == fits.last), Entry::Ports(*fits));
        }
        let who = self.who.get(rule.who as usize);
        let Some(tier) = who.and_then(|who| who.tier(&facts.ends)) else { return };
        let rank = with_tier(tier, rank(rule.action, kind, len, number));
        let found = Match { rule: number, action: rule.action, entry };
        let place = match rule.action {
            RuleAction::Observe => &mut best.observes,
            _ => &mut best.decides,
        };
        if place.is_none_or(|(other, _)| other < rank) {
            *place = Some((rank, found));
        }
    }

    /// The rule that counts for a name alone, whoever asks: one that is for everyone.
    #[must_use]
    pub fn of_name(&self, name: &str) -> Option<Match> {
        let seen = Seen { names: &[name], ..Seen::default() };
        let nobody = Addr::from_v4_octets([0; 4]);
        let ends =
            Ends { device: nobody, mac: None, zone: None, peer: nobody, port: 443, transport: 6 };
        let facts = Facts { ends, seen: Some(seen) };
        match self.decide(&facts) {
            Answer::Final(judgement) => judgement.decides.or(judgement.observes),
            Answer::Open => None,
        }
    }

    /// The class of applications that a name belongs to.
    #[must_use]
    pub fn app(&self, name: &str) -> Option<&str> {
        self.apps.name_of(name)
    }

    /// The text of an entry.
    #[must_use]
    pub fn text(&self, entry: Entry) -> String {
        match entry {
            Entry::Domain(number) => self.domains.text(number).to_owned(),
            Entry::Country(country) => {
                format!("country {}", self.places.name(country).unwrap_or_default())
            }
            Entry::App(class) => format!("app {}", self.apps.name(class).unwrap_or_default()),
            Entry::Fingerprint(number) => self.fingerprints.text(number),
            Entry::Net(number) => self.nets.text(number),
            Entry::Ports(ports) => format!("port {ports}"),
            Entry::Protocol(name) => format!("protocol {name}"),
            Entry::Any => "any".to_owned(),
        }
    }

    /// Bytes in use.
    #[must_use]
    pub fn memory(&self) -> usize {
        let parts: usize = self
            .rules
            .iter()
            .map(|rule| {
                size_of_val(&*rule.ports)
                    + size_of_val(&*rule.protocols)
                    + size_of_val(&*rule.schedules)
            })
            .sum();
        parts
            + size_of_val(&*self.rules)
            + self.domains.memory()
            + self.apps.memory()
            + self.places.memory()
            + self.nets.memory()
            + self.fingerprints.memory()
            + size_of_val(&*self.open)
            + size_of_val(&*self.answered)
            + size_of_val(&*self.late)
            + size_of_val(&*self.late_answered)
            + self.who.iter().map(Who::memory).sum::<usize>()
    }
}

/// The best rules so far, with their ranks.
#[derive(Default)]
struct Best {
    decides: Option<(u64, Match)>,
    observes: Option<(u64, Match)>,
}

#[cfg(test)]
pub(crate) mod tests;

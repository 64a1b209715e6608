//! What rules and lists say about a flow: before its payload, by a message that names its server, and
//! when its window has ended.
//!
//! Rules come before lists. A flow that no rule is about waits for its payload, because a list may
//! have the name in it.

use sluice_abi::verdict::{Reason, Verdict};

use super::message::{Answer as Told, Hello, Request};
use super::outcome::Cause;
use crate::config::{Fingerprint, RuleAction};
use crate::inspect::domain_set::DomainSet;
use crate::inspect::ja::Transport;
use crate::inspect::protocol::{Confidence, Protocol, Seen as Spoken};
use crate::policy::{Answer, Ends, Entry, Facts, Judgement as Rules, Match, Policy, Seen};

/// What becomes of a flow, and by what.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sentence {
    pub(crate) verdict: Verdict,
    pub(crate) reason: Reason,
    pub(crate) rule: Option<Match>,
    /// Number of the domain list that says so.
    pub(crate) list: Option<u32>,
    /// Number of the domain list that would have blocked if it did more than observe.
    pub(crate) watched: Option<u32>,
    /// The rule that would have blocked if it did more than observe.
    pub(crate) observed: Option<Match>,
}

/// A sentence, or why there can be none.
pub(super) type Judgement = Result<Sentence, Cause>;

/// What the two sides of a TLS connection said.
struct Said<'a> {
    name: Option<&'a str>,
    fingerprints: Vec<Fingerprint>,
    protocol: Protocol,
}

impl<'a> Said<'a> {
    fn new(hello: &'a Hello, answer: Option<&Told>) -> Self {
        let certificate = answer.and_then(|answer| answer.certificate);
        let is_quic = hello.transport == Transport::Quic;
        let fingerprints = [
            Some(Fingerprint::Ja3(hello.ja3.bytes())),
            Fingerprint::ja4(hello.ja4.as_str()).ok(),
            answer.map(|answer| Fingerprint::Ja3s(answer.ja3s.bytes())),
            certificate.map(|hash| Fingerprint::Certificate(hash.0)),
        ];
        Self {
            name: hello.sni.as_deref(),
            fingerprints: fingerprints.into_iter().flatten().collect(),
            protocol: if is_quic { Protocol::Quic } else { Protocol::Tls },
        }
    }

    fn seen(&self) -> Seen<'_> {
        Seen {
            names: self.name.as_slice(),
            fingerprints: &self.fingerprints,
            protocol: Some(self.protocol.name()),
        }
    }
}

/// What decides.
#[derive(Clone, Copy)]
pub(super) struct Judge<'a> {
    pub(super) rules: &'a Policy,
    pub(super) lists: &'a DomainSet,
    /// The flow's ends.
    pub(super) ends: Ends,
}

impl Sentence {
    /// What the rules say; `clean` is the reason when they say nothing.
    fn new(rules: Rules, clean: Reason) -> Self {
        let (verdict, reason) =
            rules.decides.as_ref().map_or((Verdict::Trusted, clean), verdict_of);
        Self {
            verdict,
            reason,
            rule: rules.decides,
            list: None,
            watched: None,
            observed: rules.observes,
        }
    }
}

/// What a rule does to a flow, and under which reason.
const fn verdict_of(found: &Match) -> (Verdict, Reason) {
    let by_domain = matches!(found.entry, Entry::Domain(_));
    let (allowed, other) = if by_domain {
        (Reason::DomainAllowed, Reason::DomainRule)
    } else {
        (Reason::RuleAllowed, Reason::Rule)
    };
    match found.action {
        RuleAction::Allow | RuleAction::Mark | RuleAction::Observe => (Verdict::Trusted, allowed),
        RuleAction::Block | RuleAction::Reject => (Verdict::Blocked, other),
        RuleAction::Pause => (Verdict::Blocked, Reason::Paused),
        RuleAction::Limit => (Verdict::Limited, other),
    }
}

impl Judge<'_> {
    /// What rules say before any payload; `None` when they have to wait for it.
    pub(super) fn first(self) -> Option<Sentence> {
        match self.rules.decide(&Facts { ends: self.ends, seen: None }) {
            Answer::Final(rules) => Some(Sentence::new(rules, Reason::WindowEnd)),
            Answer::Open => None,
        }
    }

    /// What rules say about a flow that named no server and seems to speak this.
    pub(super) fn end(self, spoken: Option<Spoken>) -> Sentence {
        // What is only guessed decides nothing.
        let sure = spoken.filter(|(_, confidence)| *confidence > Confidence::Guess);
        let protocol = sure.map(|(protocol, _)| protocol.name());
        self.message(Seen { protocol, ..Seen::default() }, Reason::WindowEnd)
    }

    /// What a ClientHello means.
    pub(super) fn hello(self, hello: &Hello) -> Judgement {
        self.answered(hello, None)
    }

    /// What a ClientHello means with what the server answered to it.
    pub(super) fn answered(self, hello: &Hello, answer: Option<&Told>) -> Judgement {
        let said = Said::new(hello, answer);
        let sentence = self.to(hello).message(said.seen(), Reason::HelloClean);
        if hello.is_sni_malformed && sentence.verdict != Verdict::Blocked {
            return Err(Cause::MalformedName);
        }
        Ok(sentence)
    }

    /// Whether what the server answers to a ClientHello can still change its sentence.
    pub(super) fn awaits(self, hello: &Hello, sentence: &Sentence) -> bool {
        if hello.transport != Transport::Tcp {
            return false;
        }
        let said = Said::new(hello, None);
        let facts = Facts { ends: self.to(hello).ends, seen: Some(said.seen()) };
        self.rules.awaits_answer(&facts, sentence.verdict == Verdict::Blocked)
    }

    /// With the port that the ClientHello went to.
    const fn to(mut self, hello: &Hello) -> Self {
        self.ends.port = hello.key.destination(hello.direction).1;
        self
    }

    /// What a request of plain HTTP means.
    pub(super) fn request(mut self, request: &Request) -> Sentence {
        self.ends.port = request.key.destination(request.direction).1;
        let protocol = Some(request.protocol().name());
        let is_name = |host: &&str| host.parse::<std::net::IpAddr>().is_err();
        let names = request.host.as_deref().filter(is_name);
        self.message(
            Seen { names: names.as_slice(), protocol, ..Seen::default() },
            Reason::RequestClean,
        )
    }

    /// What a message means; `clean` is the reason when nothing speaks about it.
    pub(super) fn message(self, seen: Seen<'_>, clean: Reason) -> Sentence {
        let mut sentence = Sentence::new(self.decided(seen), clean);
        let names = seen.names.iter().filter(|_| sentence.rule.is_none());
        let found = names.filter_map(|name| self.lists.lookup(name));
        match found.min_by_key(|found| found.observes) {
            Some(found) if found.observes => sentence.watched = Some(found.list),
            Some(found) => {
                sentence.verdict = Verdict::Blocked;
                sentence.reason = Reason::DomainList;
                sentence.list = Some(found.list);
            }
            None => {}
        }
        sentence
    }

    fn decided(self, seen: Seen<'_>) -> Rules {
        match self.rules.decide(&Facts { ends: self.ends, seen: Some(seen) }) {
            Answer::Final(rules) => rules,
            // With all facts there is nothing to wait for.
            Answer::Open => Rules::default(),
        }
    }
}

/// What is left of a judgement when the server may have taken another copy of the bytes.
pub(super) fn with_doubt(judgement: Judgement, has_conflict: bool) -> Judgement {
    judgement.and_then(|sentence| {
        if has_conflict && sentence.verdict != Verdict::Blocked {
            Err(Cause::Conflict)
        } else {
            Ok(sentence)
        }
    })
}

//! What rules and lists say about a flow: before its payload, by its ClientHello, and when its
//! window has ended.
//!
//! Rules come before lists. A flow that no rule mentions waits for its payload, because a list may
//! have the name in it.

use sluice_abi::verdict::{Reason, Verdict};

use super::outcome::{Cause, Hello};
use crate::config::{Fingerprint, RuleAction};
use crate::inspect::domain_set::DomainSet;
use crate::inspect::ja::Transport;
use crate::policy::{Answer, Ends, Entry, Facts, Judgement as Rules, Match, Policy, Seen};

/// What a flow is judged by.
#[derive(Clone, Copy)]
pub(super) struct About<'a> {
    pub(super) rules: &'a Policy,
    pub(super) lists: &'a DomainSet,
    /// The flow's ends.
    pub(super) ends: Ends,
}

/// What becomes of a flow, and by what.
#[derive(Clone, Copy, Debug)]
pub(super) struct Judged {
    pub(super) verdict: Verdict,
    pub(super) reason: Reason,
    pub(super) rule: Option<Match>,
    pub(super) list: Option<u32>,
    /// The rule that would have blocked if it did more than observe.
    pub(super) observed: Option<Match>,
}

/// The same, or why nothing can be said.
pub(super) type Judgement = Result<Judged, Cause>;

impl Judged {
    /// What the rules say; `reason` is that of trust where they say nothing.
    fn new(rules: Rules, reason: Reason) -> Self {
        let (verdict, reason) =
            rules.decides.as_ref().map_or((Verdict::Trusted, reason), verdict_of);
        Self { verdict, reason, rule: rules.decides, list: None, observed: rules.observes }
    }
}

/// What a rule does to a flow, and under which reason.
pub(crate) const fn verdict_of(found: &Match) -> (Verdict, Reason) {
    let by_domain = matches!(found.entry, Entry::Domain(_));
    let (allowed, other) = if by_domain {
        (Reason::DomainAllowed, Reason::DomainRule)
    } else {
        (Reason::RuleAllowed, Reason::Rule)
    };
    match found.action {
        RuleAction::Allow | RuleAction::Observe => (Verdict::Trusted, allowed),
        RuleAction::Block => (Verdict::Blocked, other),
        RuleAction::Limit => (Verdict::Limited, other),
    }
}

/// What rules say before any payload; `None` when they have to wait for it.
pub(super) fn at_first(about: &About<'_>) -> Option<Judged> {
    match about.rules.decide(&Facts { ends: about.ends, seen: None }) {
        Answer::Final(rules) => Some(Judged::new(rules, Reason::WindowEnd)),
        Answer::Open => None,
    }
}

/// What rules say about a flow whose payload said nothing that is understood.
pub(super) fn at_end(about: &About<'_>) -> Judged {
    let facts = Facts { ends: about.ends, seen: Some(Seen::default()) };
    Judged::new(decided(about, &facts), Reason::WindowEnd)
}

fn decided(about: &About<'_>, facts: &Facts<'_>) -> Rules {
    match about.rules.decide(facts) {
        Answer::Final(rules) => rules,
        // With all facts there is nothing to wait for.
        Answer::Open => Rules::default(),
    }
}

/// What rules and lists say about the sender of a ClientHello.
pub(super) fn judge(hello: &Hello, about: &About<'_>) -> Judgement {
    let mut ends = about.ends;
    ends.port = hello.key.destination(hello.direction).1;
    let ja3 = Fingerprint::Ja3(hello.ja3.bytes());
    let both = Fingerprint::ja4(hello.ja4.as_str()).map(|ja4| [ja3, ja4]);
    let fingerprints = both.as_ref().map_or(std::slice::from_ref(&ja3), |both| &both[..]);
    let name = hello.sni.as_deref();
    let seen = Seen {
        names: name.as_slice(),
        fingerprints,
        protocol: Some(if hello.transport == Transport::Quic { "quic" } else { "tls" }),
    };
    let rules = decided(about, &Facts { ends, seen: Some(seen) });
    let mut judged = Judged::new(rules, Reason::HelloClean);
    if hello.is_sni_malformed && judged.verdict != Verdict::Blocked {
        return Err(Cause::MalformedName);
    }
    if judged.rule.is_none()
        && let Some(found) = name.and_then(|name| about.lists.lookup(name))
    {
        judged.verdict = Verdict::Blocked;
        judged.reason = Reason::DomainList;
        judged.list = Some(found.list);
    }
    Ok(judged)
}

/// What is left of a judgement when the server may have taken another copy of the bytes.
pub(super) fn with_doubt(judgement: Judgement, has_conflict: bool) -> Judgement {
    judgement.and_then(|judged| {
        if has_conflict && judged.verdict != Verdict::Blocked {
            Err(Cause::Conflict)
        } else {
            Ok(judged)
        }
    })
}

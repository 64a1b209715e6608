//! What a named server means for its flow.

use sluice_abi::verdict::{Reason, Verdict};

use super::outcome::Cause;
use crate::config::RuleAction;
use crate::inspect::domain_set::DomainSet;
use crate::inspect::domains::DomainRules;
use crate::inspect::http::{Host, Request};
use crate::inspect::tls::{ClientHello, HostName, NAME_MAX, Sni};

/// The verdict about a flow, why, and the number of the rule or list that says so.
pub(super) type Sentence = (Verdict, Reason, Option<u32>);

/// A sentence, or why there can be none.
pub(super) type Judgement = Result<Sentence, Cause>;

/// What decides.
#[derive(Clone, Copy)]
pub(super) struct Judge<'a> {
    pub(super) rules: &'a DomainRules,
    pub(super) lists: &'a DomainSet,
}

impl Judge<'_> {
    /// What a ClientHello means.
    pub(super) fn hello(self, hello: &ClientHello<'_>) -> Judgement {
        match hello.sni {
            Sni::Absent => Ok((Verdict::Trusted, Reason::HelloClean, None)),
            Sni::Malformed => Err(Cause::MalformedName),
            Sni::Name(name) => Ok(self.name(name, Reason::HelloClean)),
        }
    }

    /// What a request of plain HTTP means.
    pub(super) fn request(self, request: &Request<'_>) -> Sentence {
        match request.host {
            Host::Name(name) => self.name(name, Reason::RequestClean),
            Host::Absent | Host::Address(_) => (Verdict::Trusted, Reason::RequestClean, None),
        }
    }

    /// What a name means; `clean` is the reason when nothing speaks about it.
    fn name(self, name: HostName<'_>, clean: Reason) -> Sentence {
        let mut room = [0; NAME_MAX];
        let name = name.to_lower(&mut room);
        match self.rules.lookup(name) {
            None => match self.lists.lookup(name) {
                None => (Verdict::Trusted, clean, None),
                Some(found) => (Verdict::Blocked, Reason::DomainList, Some(found.list)),
            },
            Some(found) => match found.action {
                RuleAction::Allow => (Verdict::Trusted, Reason::DomainAllowed, Some(found.rule)),
                RuleAction::Block => (Verdict::Blocked, Reason::DomainRule, Some(found.rule)),
                RuleAction::Limit => (Verdict::Limited, Reason::DomainRule, Some(found.rule)),
            },
        }
    }
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

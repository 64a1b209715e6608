//! A ruleset in force: its rules, whether they block, and what they did.

use std::sync::Arc;

use super::load::Report;
use super::matcher::{Facts, Limits, Matcher};
use super::options::Parsed;
use super::rule::Action;
use super::{Builder, Loader, TooLarge, Variables};

/// Alerts of one flow that are remembered, so that none is told twice.
const TOLD_MAX: usize = 64;

/// A match that is to be told, or that blocks.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Alert {
    /// Name of the ruleset.
    pub ruleset: Box<str>,
    /// Number of the rule.
    pub sid: u32,
    /// The group of its number.
    pub gid: u32,
    /// Its revision.
    pub rev: u32,
    /// What it asks for.
    pub action: Action,
    /// What it is about; text from a stranger's feed.
    pub msg: Box<str>,
    /// Whether it is to be told; if not, it blocks and its threshold keeps it quiet.
    pub is_told: bool,
    /// Whether the flow is to be blocked.
    pub blocks: bool,
}

impl Alert {
    /// Ruleset, number and message, as a flow that it blocked shows them.
    #[must_use]
    pub fn title(&self) -> String {
        format!("{}:{} {}", self.ruleset, self.sid, self.msg)
    }
}

/// What was told about a flow.
#[derive(Debug, Default)]
pub struct Told(Vec<(u16, u32, u32)>);

impl Told {
    /// Heap bytes in use.
    #[must_use]
    pub const fn memory(&self) -> usize {
        self.0.capacity() * size_of::<(u16, u32, u32)>()
    }

    /// Whether this is the first time. When too many are remembered, nothing is.
    fn is_first(&mut self, one: (u16, u32, u32)) -> bool {
        if self.0.contains(&one) || self.0.len() >= TOLD_MAX {
            return false;
        }
        self.0.push(one);
        true
    }
}

/// A ruleset.
#[derive(Debug)]
pub struct Ruleset {
    name: Box<str>,
    enforces: bool,
    matcher: Matcher,
    report: Arc<Report>,
    alerts: u64,
    blocked: u64,
}

impl Ruleset {
    /// Starts a ruleset. `home` is what `$HOME_NET` stands for.
    #[must_use]
    pub fn variables(home: &str) -> Variables {
        let mut variables = Variables::default();
        variables.set("HOME_NET", home);
        variables.set("EXTERNAL_NET", "!$HOME_NET");
        for name in [
            "HTTP_SERVERS",
            "SMTP_SERVERS",
            "SQL_SERVERS",
            "DNS_SERVERS",
            "TELNET_SERVERS",
            "DC_SERVERS",
        ] {
            variables.set(name, "$HOME_NET");
        }
        for (name, ports) in [
            ("HTTP_PORTS", "80"),
            ("SHELLCODE_PORTS", "!80"),
            ("ORACLE_PORTS", "1521"),
            ("SSH_PORTS", "22"),
            ("FTP_PORTS", "21"),
            ("FILE_DATA_PORTS", "[$HTTP_PORTS,110,143]"),
        ] {
            variables.set(name, ports);
        }
        variables
    }

    /// The ruleset of the rules in `builder`, which `loader` read, in at most `max` bytes.
    pub fn new(
        name: &str,
        enforces: bool,
        loader: &Loader,
        builder: Builder,
        (limits, max, seed): (Limits, usize, u64),
    ) -> Result<Self, TooLarge> {
        let signatures = builder.finish(loader.files(), loader.lists_memory(), max)?;
        Ok(Self {
            name: name.into(),
            enforces,
            matcher: Matcher::new(signatures, limits, seed),
            report: Arc::new(loader.report().clone()),
            alerts: 0,
            blocked: 0,
        })
    }

    /// A ruleset of one text, for tests and small sets.
    pub fn of_text(name: &str, enforces: bool, text: &str) -> Result<Self, TooLarge> {
        let mut loader = Loader::new(Self::variables("192.168.0.0/16"));
        let mut builder = Builder::default();
        loader.text(name, text.as_bytes(), |parsed: Parsed| builder.push(parsed));
        Self::new(name, enforces, &loader, builder, (Limits::default(), usize::MAX, 1))
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether rules that drop block.
    #[must_use]
    pub const fn enforces(&self) -> bool {
        self.enforces
    }

    /// What became of its rules.
    #[must_use]
    pub fn report(&self) -> &Report {
        &self.report
    }

    /// What compares packets.
    #[must_use]
    pub const fn matcher(&self) -> &Matcher {
        &self.matcher
    }

    /// Alerts told, and flows blocked.
    #[must_use]
    pub const fn counts(&self) -> (u64, u64) {
        (self.alerts, self.blocked)
    }

    /// Another one with the same rules, for packets of other flows, which has done nothing yet.
    #[must_use]
    pub fn share(&self) -> Self {
        Self {
            name: self.name.clone(),
            enforces: self.enforces,
            matcher: self.matcher.share(),
            report: Arc::clone(&self.report),
            alerts: 0,
            blocked: 0,
        }
    }

    /// Goes on counting where the ruleset before it stopped.
    pub const fn inherit(&mut self, before: &Self) {
        (self.alerts, self.blocked) = before.counts();
    }

    /// Compares a packet, and adds to `alerts` what is new for its flow. `number` tells the rulesets
    /// of a flow apart; where `may_block` is false nothing is blocked.
    pub fn inspect(
        &mut self,
        number: u16,
        facts: &Facts<'_>,
        now_ms: u64,
        may_block: bool,
        told: &mut Option<Box<Told>>,
        alerts: &mut Vec<Alert>,
    ) {
        let before = alerts.len();
        // The signatures are asked for messages when the matcher is done with them.
        let mut hits = Vec::new();
        for hit in self.matcher.inspect(facts, now_ms).matches {
            let is_drop = matches!(hit.action, Action::Drop | Action::Reject);
            let blocks = is_drop && self.enforces && may_block;
            let is_new = hit.action != Action::Pass
                && hit.is_told
                && told.get_or_insert_default().is_first((number, hit.gid, hit.sid));
            if is_new || blocks {
                hits.push((*hit, is_new, blocks));
            }
        }
        let signatures = self.matcher.signatures();
        alerts.extend(hits.into_iter().map(|(hit, is_told, blocks)| Alert {
            ruleset: self.name.clone(),
            sid: hit.sid,
            gid: hit.gid,
            rev: hit.rev,
            action: hit.action,
            msg: signatures.msg(hit.rule).into(),
            is_told,
            blocks,
        }));
        let fresh = alerts.get(before..).unwrap_or_default();
        self.alerts += fresh.iter().filter(|alert| alert.is_told).count() as u64;
        self.blocked += u64::from(fresh.iter().any(|alert| alert.blocks));
    }
}

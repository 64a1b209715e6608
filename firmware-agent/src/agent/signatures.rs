//! Rulesets on their way into inspection, and what becomes of their alerts.
//!
//! Files are read once more when rulesets come into force. The rulesets in force answer until the new
//! ones are whole.

use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use sluice_abi::flow::{Direction, FlowKey};

use super::desk::Compared;
use super::inspector::Inspector;
use super::lists::cap_kib;
use super::pace::Pace;
use super::report::tuple;
use super::running::{State, random};
use crate::cli::chain;
use crate::config::{EventKind, RulesetSection};
use crate::control::signatures as report;
use crate::inspect::engine::{Step, Watch};
use crate::plan::Plan;
use crate::signature::{Alert, Builder, Limits, Loader, Ruleset, TooLarge};
use crate::sys::clock;
use crate::text::{plain, transport};

/// Alerts that are kept.
const KEPT_MAX: usize = 256;
/// Wrong rules that `status` shows.
const SHOWN_MAX: usize = 10;

/// Why rulesets are not put into force.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// They need more memory than they may have.
    #[error("ruleset {name}: {source}")]
    TooLarge {
        /// The first that did not fit.
        name: String,
        /// The sum.
        source: TooLarge,
    },
    /// A file cannot be read.
    #[error("ruleset {name}: {}", path.display())]
    File {
        /// Whose file it is.
        name: String,
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// An alert and when it was.
#[derive(Debug)]
pub(super) struct Kept {
    pub(super) at_ns: u64,
    pub(super) flow: (FlowKey, Direction),
    pub(super) alert: Alert,
}

/// What is known about rulesets and their alerts.
#[derive(Debug, Default)]
pub(super) struct Alarms {
    /// Rulesets in force, as the configuration has them.
    in_force: Vec<RulesetSection>,
    /// The last alerts.
    kept: VecDeque<Kept>,
    /// Of the log.
    pace: Pace,
    /// Nobody is told of alerts.
    is_muted: bool,
    /// Alerts that were not logged since the last one that was, and all of them.
    unlogged: (u64, u64),
    refused: Option<String>,
    load_ms: u64,
}

impl Alarms {
    /// The alerts that are kept, the last first.
    pub(super) fn kept(&self) -> impl Iterator<Item = &Kept> {
        self.kept.iter().rev()
    }

    /// Alerts that were not logged because there were too many.
    pub(super) const fn unlogged(&self) -> u64 {
        self.unlogged.1
    }

    /// Why the rulesets that are wanted are not in force, for people.
    pub(super) const fn refused(&self) -> Option<&String> {
        self.refused.as_ref()
    }

    /// How long the last change took.
    pub(super) const fn load_ms(&self) -> u64 {
        self.load_ms
    }

    /// Keeps and logs the alerts of a packet. Nothing that is done to the packet depends on it.
    pub(super) fn take(&mut self, now_ns: u64, step: &Step) {
        let Some(flow) = step.flow else { return };
        for alert in step.alerts.iter().filter(|alert| alert.is_told) {
            if !self.is_muted && self.may_log(now_ns) {
                let (ends, msg) = (super::inspector::describe(Some(flow)), alert.title());
                let action = if alert.blocks { "blocked" } else { "alert" };
                log::warn!("{action}: {}: {ends}", plain(&msg));
            }
            if self.kept.len() >= KEPT_MAX {
                self.kept.pop_front();
            }
            self.kept.push_back(Kept { at_ns: now_ns, flow, alert: alert.clone() });
        }
    }

    /// Whether one more line is not too many; says so of those that were.
    fn may_log(&mut self, now_ns: u64) -> bool {
        if !self.pace.take(now_ns) {
            self.unlogged = (self.unlogged.0 + 1, self.unlogged.1 + 1);
            return false;
        }
        match std::mem::take(&mut self.unlogged.0) {
            0 => {}
            many => log::warn!("{many} alerts were not logged"),
        }
        true
    }
}

impl Inspector {
    /// The rulesets of `plan`, when they are others than those in force.
    pub(super) fn new_rulesets(&self, plan: &Plan) -> Result<Option<Vec<Ruleset>>, Refused> {
        if self.alarms.in_force == plan.rulesets && self.alarms.refused.is_none() {
            return Ok(None);
        }
        let cap = cap_kib(plan.signature_memory_kib) as usize * 1024;
        rulesets(&plan.rulesets, cap, random).map(Some)
    }

    /// Puts rulesets into force, if they are others.
    pub(super) fn set_rulesets(&mut self, plan: &Plan, rulesets: Option<Vec<Ruleset>>) {
        self.alarms.refused = None;
        self.alarms.is_muted = plan.notify.mutes(EventKind::Alert);
        if let Some(rulesets) = rulesets {
            self.book.watch = Watch::new(rulesets).map(Arc::from);
            self.alarms.in_force.clone_from(&plan.rulesets);
        }
    }

    /// Puts the rulesets of `plan` into force, or leaves those of before there and notes why.
    pub(super) fn start_rulesets(&mut self, plan: &Plan) {
        let start_ns = clock::monotonic_ns();
        match self.new_rulesets(plan) {
            Ok(rulesets) => self.set_rulesets(plan, rulesets),
            Err(error) => {
                let why = chain(&error);
                log::error!("{}", plain(&why));
                self.alarms.refused = Some(why);
                self.alarms.is_muted = plan.notify.mutes(EventKind::Alert);
            }
        }
        self.alarms.load_ms = (clock::monotonic_ns() - start_ns) / 1_000_000;
    }
}

/// Reads rulesets that may take `max` bytes together.
pub fn rulesets(
    sections: &[RulesetSection],
    max: usize,
    seed: impl Fn() -> u64,
) -> Result<Vec<Ruleset>, Refused> {
    let mut left = max;
    let mut rulesets = Vec::with_capacity(sections.len());
    for section in sections {
        let name = || section.name.clone();
        let home: Vec<String> = section.home_net.iter().map(ToString::to_string).collect();
        let variables = Ruleset::variables(&format!("[{}]", home.join(",")));
        let mut loader = Loader::new(variables).without_icmp();
        let mut builder = Builder::default();
        for file in &section.sources {
            loader.file(file.path.display().to_string());
            file.lines(|line| loader.line(line).into_iter().for_each(|rule| builder.push(rule)))
                .map_err(|source| Refused::File {
                    name: name(),
                    path: file.path.clone(),
                    source,
                })?;
        }
        loader.end();
        let bounds = (Limits::default(), left, seed());
        let one = Ruleset::new(&section.name, section.enforce, &loader, builder, bounds)
            .map_err(|source| Refused::TooLarge { name: name(), source })?;
        left = left.saturating_sub(one.matcher().memory());
        rulesets.push(one);
    }
    Ok(rulesets)
}

impl State {
    /// The last alerts.
    pub(super) fn alerts(&self) -> Vec<report::Alert> {
        let now_ns = clock::monotonic_ns();
        let alerts = self.inspector.alarms.kept();
        alerts.map(|kept| self.told(kept, now_ns)).collect()
    }

    /// An alert as it is told.
    pub(super) fn told(&self, kept: &Kept, now_ns: u64) -> report::Alert {
        let Kept { at_ns, flow: (key, direction), alert } = kept;
        let addrs = [key.source(*direction).0, key.destination(*direction).0];
        report::Alert {
            s_ago: now_ns.saturating_sub(*at_ns) / 1_000_000_000,
            ruleset: alert.ruleset.to_string(),
            gid: alert.gid,
            sid: alert.sid,
            rev: alert.rev,
            action: alert.action.name().to_owned(),
            blocked: alert.blocks,
            msg: alert.msg.to_string(),
            transport: transport(key.proto()).to_owned(),
            tuple: tuple(key, *direction),
            device_name: self.device_of(None, addrs),
        }
    }

    /// The rulesets in force, and what they did.
    pub(super) fn signatures(&self, compared: &[Compared]) -> report::Signatures {
        let watch = self.inspector.book.watch.as_deref();
        let rulesets = watch.into_iter().flat_map(Watch::iter).enumerate();
        let did = |place: usize| compared.get(place).copied().unwrap_or_default();
        report::Signatures {
            rulesets: rulesets.map(|(place, one)| shown(one, did(place))).collect(),
            kib: watch.map_or(0, Watch::memory).div_ceil(1024) as u64,
            cap_kib: cap_kib(self.plan.signature_memory_kib).into(),
            load_ms: self.inspector.alarms.load_ms(),
            unlogged: self.inspector.alarms.unlogged(),
        }
    }
}

fn shown(one: &Ruleset, did: Compared) -> report::Ruleset {
    let said = one.report();
    let left_out = said.left_out.iter().map(ToString::to_string);
    let mistakes = said.mistakes.iter().map(ToString::to_string);
    report::Ruleset {
        name: one.name().to_owned(),
        enforce: one.enforces(),
        rules: said.rules,
        unsupported: said.unsupported,
        wrong: said.wrong,
        keywords: said.keywords.clone(),
        left_out: left_out.chain(mistakes.take(SHOWN_MAX)).collect(),
        kib: one.matcher().memory().div_ceil(1024) as u64,
        packets: did.packets,
        compared: did.rules,
        cut: did.cut,
        alerts: did.alerts,
        blocked: did.blocked,
    }
}

#[cfg(test)]
mod tests {
    use sluice_abi::flow::Addr;
    use sluice_datapath::parse::TCP;

    use super::*;
    use crate::agent::pace::MOST;
    use crate::inspect::engine::Outcome;
    use crate::signature::Action;

    fn step(sid: u32) -> Step {
        let [one, two] = [1, 2].map(|last| Addr::from_v4_octets([192, 0, 2, last]));
        let alert = Alert {
            ruleset: "feed".into(),
            sid,
            gid: 1,
            rev: 1,
            action: Action::Alert,
            msg: "a\nb".into(),
            is_told: true,
            blocks: false,
        };
        let flow = Some(FlowKey::new(one, two, 1, 2, TCP));
        Step { flow, alerts: vec![alert], ..Outcome::Inspect.into() }
    }

    /// The last are kept, some are logged, and of the rest is said how many.
    #[test]
    fn alerts_are_kept_and_logged_within_bounds() {
        const SECOND: u64 = 1_000_000_000;
        let mut alarms = Alarms::default();
        for sid in 0..1000 {
            alarms.take(100 * SECOND, &step(sid));
        }
        let kept: Vec<_> = alarms.kept().map(|kept| kept.alert.sid).collect();
        assert_eq!(kept, (744..1000).rev().collect::<Vec<_>>());
        assert_eq!(alarms.unlogged(), 1000 - MOST - 1);
        for n in 1..=100 {
            alarms.take(100 * SECOND + n * SECOND / 10, &step(7));
        }
        assert_eq!(alarms.unlogged(), 1000 - MOST - 1, "two a pause are logged");
    }
}

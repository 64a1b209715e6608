//! The firewall's flow offload while the agent runs: when to look, and what `status` says about it.

use sluice_abi::counter::Counter;

use super::running::State;
use crate::cli::chain;
use crate::config::{MarkMask, OwnOffload};
use crate::control::report::{self, Feature, State as Health};
use crate::dataplane::Counts;
use crate::netfilter::apply::Count;
use crate::netfilter::conntrack::{Connection, Conntrack, ConntrackError, Tuple};
use crate::netfilter::offload::{Mode, Seen, Wish, own};
use crate::netfilter::rules::Counted;
use crate::sys::rtnetlink;

impl State {
    /// Makes the firewall's offload rules as the plan wants them.
    ///
    /// Without rules of our own no flow ever becomes trusted, so then they are left as they are.
    pub(super) fn look_after_offload(&self) {
        let is_inspecting = self.plan.enabled && self.backend.is_some();
        self.offload.set(if is_inspecting && self.plan.guard_offload {
            Wish::Guard(self.plan.ruleset.marks())
        } else {
            Wish::Plain
        });
    }

    /// Has a flowtable of our own where that is wanted and the firewall has none.
    pub(super) fn look_after_flowtable(&mut self) {
        let (own, is_firewalls) = self.offload.with(|offload| {
            let seen = offload.seen();
            (seen.own.clone(), seen.guarded + seen.open > 0)
        });
        let is_wanted = self.plan.enabled
            && self.backend.is_some()
            && self.plan.own_offload == OwnOffload::Software;
        let done = if is_wanted && !is_firewalls {
            let devices = match rtnetlink::devices() {
                Ok(devices) => own::entrances(self.plan.ruleset.devices(), &devices),
                Err(error) => {
                    log::warn!("list the devices: {error}");
                    return;
                }
            };
            let marks = self.plan.ruleset.marks();
            // One that an earlier agent left may be for other marks.
            let is_there = self.flowtable_marks == Some(marks) && own.as_ref() == Some(&devices);
            if devices.len() < 2 || is_there {
                return;
            }
            self.flowtable_marks = Some(marks);
            own::apply(&devices, marks)
        } else if own.is_some() {
            own::remove()
        } else {
            return;
        };
        let failure = done.err().map(|error| chain(&error));
        if let Some(failure) = failure.as_ref().filter(|_| self.no_flowtable.is_none()) {
            log::warn!("{failure}");
        }
        self.no_flowtable = failure;
        self.look_after_offload();
    }

    /// Brings every flow back from the flowtable when there are some that no longer belong there.
    pub(super) fn empty_offload(&mut self) {
        // Sets see no packet on the short way.
        let has_new_sets = self.sets.has_new();
        if std::mem::take(&mut self.inspector.has_stale_offload) || has_new_sets {
            self.offload.empty();
            // Our own is made anew.
            self.flowtable_marks = None;
            self.look_after_flowtable();
        }
    }

    /// What `status` says about offload.
    pub(super) fn offload(&self, counts: &[Counts], rules: &[Count]) -> report::Offload {
        let (seen, guards) =
            self.offload.with(|offload| (offload.seen().clone(), offload.guards()));
        report::Offload {
            mode: seen.mode.name().to_owned(),
            guarded: seen.guarded + usize::from(seen.own.is_some()) > 0 && seen.open == 0,
            guards,
            devices: seen.devices.iter().map(ToString::to_string).collect(),
            permille: short_way(
                marked(counts).wrapping_sub(self.marked_before_rules),
                rules.iter().filter(|count| count.counted == Counted::PassedTrusted),
            ),
            blind: self.blind(&seen),
        }
    }

    /// The rules in force count from now on.
    pub(super) fn note_rules_applied(&mut self) {
        self.marked_before_rules = marked(&self.counts());
    }

    /// Why the counters of flows miss packets.
    pub(super) fn uncounted(&self) -> Vec<String> {
        let is_hidden = self.offload.with(|offload| offload.seen().mode == Mode::Hardware);
        let why = || "hardware offload: packets that it forwards are not counted".to_owned();
        is_hidden.then(why).into_iter().collect()
    }

    /// What loses sight of packets on the short way.
    fn blind(&self, seen: &Seen) -> Vec<String> {
        if seen.mode == Mode::None {
            return Vec::new();
        }
        let mut blind = vec!["rules: packets of offloaded flows are not counted".to_owned()];
        if seen.open > 0 {
            blind.push(
                "inspection: the handshake of a TCP flow or two packets of a UDP flow are seen, \
                 no ClientHello"
                    .to_owned(),
            );
        }
        if seen.mode == Mode::Hardware {
            blind.push(
                "shield and fast path: flows in the hardware reach no program; neither counters nor \
                 lists and rates see them"
                    .to_owned(),
            );
        }
        for device in &seen.devices {
            let known = |plan: &crate::dataplane::plan::InterfacePlan| *plan.device == **device;
            if !self.plan.dataplane.interfaces.iter().any(known) {
                blind.push(format!(
                    "fast path: packets of offloaded flows that arrive on {device} are not counted"
                ));
            }
        }
        blind
    }

    /// Offload as a ladder.
    pub(super) fn offload_feature(&self) -> Feature {
        let (seen, failure) = self
            .offload
            .with(|offload| (offload.seen().clone(), offload.failure().map(str::to_owned)));
        let mut reasons: Vec<String> = failure.into_iter().collect();
        reasons.extend(self.no_flowtable.as_ref().map(|why| {
            format!("{why} (where flowtables are missing: the package kmod-nft-offload)")
        }));
        reasons.extend(seen.obstacles.iter().cloned());
        reasons.extend(
            seen.foreign.iter().map(|flowtable| format!("flowtable {flowtable} is not looked at")),
        );
        if seen.open > 0 && !self.plan.guard_offload {
            reasons.push("option manage_offload is off".to_owned());
        }
        let guarded = seen.guarded + usize::from(seen.own.is_some());
        let (state, how) = match (guarded, seen.open) {
            _ if !self.plan.enabled => (Health::Off, ""),
            (0, 0) if reasons.is_empty() => (Health::Off, ""),
            (0, 0) => (Health::Degraded, ""),
            (_, 0) if reasons.is_empty() && seen.mode == Mode::Software => {
                (Health::Active, ", trusted flows only")
            }
            (_, 0) => (Health::Degraded, ", trusted flows only"),
            (_, _) => (Health::Degraded, ", any flow"),
        };
        if state == Health::Degraded {
            reasons.extend(self.blind(&seen));
        }
        let rung = format!("{}{how}", seen.mode.name());
        Feature { name: "flow offload".to_owned(), state, rung, reasons }
    }
}

/// Bytes that got the mark of trusted packets.
fn marked(counts: &[Counts]) -> u64 {
    counts.iter().map(|counts| counts.count(Counter::TcMarkedBytes)).sum()
}

/// Thousandths of `marked` bytes that no rule has seen; nothing when there are none.
fn short_way<'a>(marked: u64, seen: impl Iterator<Item = &'a Count>) -> Option<u32> {
    // Where a connection passes by its own mark, rules count packets that no program has marked.
    let long_way: u64 = seen.map(|count| count.bytes).sum();
    let short = u128::from(marked.saturating_sub(long_way));
    (short * 1000).checked_div(marked.into()).map(|permille| permille as u32)
}

/// Sets the claimed bits in the mark of a connection that was trusted. Returns whether it is offloaded
/// still, so that nobody looks at its mark: then the flowtable must be emptied.
///
/// One that is blocked is deleted instead when it is offloaded: the short way ends at once for it
/// alone. Its decision stands in the flow map and in the table, so what its ends send afterwards is
/// dropped by the programs, or by the mark that it gets from the queue.
pub(super) fn mark(
    conntrack: &mut Conntrack,
    tuple: &Tuple,
    marks: MarkMask,
    value: u32,
) -> Result<bool, ConntrackError> {
    let Some(connection) = conntrack.lookup(tuple)? else { return Ok(false) };
    conntrack.set_mark(&connection.original, marks.bits(), value)?;
    // After the mark, which ends that it becomes offloaded.
    let connection = conntrack.lookup(tuple)?;
    match connection.filter(Connection::is_offloaded) {
        Some(connection) if value == marks.blocked() => {
            conntrack.delete(&connection).map(|_there| false)
        }
        offloaded => Ok(offloaded.is_some() && value != marks.trusted()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_rule_has_seen_took_the_short_way() {
        let seen = |bytes| Count { counted: Counted::PassedTrusted, packets: 1, bytes };
        assert_eq!(short_way(0, [].iter()), None);
        assert_eq!(short_way(0, [seen(5)].iter()), None);
        assert_eq!(short_way(1000, [].iter()), Some(1000));
        assert_eq!(short_way(3000, [seen(500), seen(500)].iter()), Some(666));
        assert_eq!(short_way(1000, [seen(1000)].iter()), Some(0));
        // Some passed by the mark of their connection.
        assert_eq!(short_way(1000, [seen(1500)].iter()), Some(0));
        assert_eq!(short_way(u64::MAX, [seen(0)].iter()), Some(1000));
    }
}

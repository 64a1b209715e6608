//! Names for flows that do not say whom they are for: DNS messages on their way, and what flows get
//! of them.
//!
//! What devices of the LAN ask, whoever answers, is copied by rules; else it is told by the programs on their
//! device, or by a packet socket there. Where there is neither, the queue shows what is forwarded. A question counts on its way
//! in, an answer on its way out to the LAN, so that no device can answer for the router.

mod ears;
mod learn;
#[cfg(test)]
mod tests;

use std::future::poll_fn;

use sluice_abi::attach::Role;
use sluice_abi::counter::Counter;
use sluice_abi::flow::{Addr, Direction, FlowKey};
use smol::future;

use self::ears::{Device, Ears};
use self::learn::{Lessons, Way};
use super::inspector::Inspector;
use super::running::{Running, State};
use crate::control::names::Report;
use crate::control::report::{Feature, State as Health};
use crate::dataplane::{Counts, table};
use crate::policy::{Ends, Path, Zone};
use crate::sys::clock;

/// Owns what is known about names, and where that comes from.
pub(super) struct Resolutions {
    lessons: Lessons,
    ears: Ears,
}

impl Resolutions {
    /// Room for so many pairs of a device and an address; 0 is off. `seed` is secret.
    pub(super) fn new(max: usize, seed: [u64; 2]) -> Self {
        Self { lessons: Lessons::new(max, seed), ears: Ears::default() }
    }

    /// Takes a queued packet, if nothing else shows its device's.
    pub(super) fn queued(&mut self, now_ms: u64, l3: &[u8], wire_len: usize, path: &Path) {
        let Self { lessons, ears } = self;
        let lan = |zone: Option<Zone>| zone.filter(|zone| zone.is_lan);
        match (lan(path.from), lan(path.to)) {
            (Some(from), _) if ears.is_deaf(from.number) => {
                lessons.take(now_ms, l3, wire_len, Way::In(path.mac));
            }
            (_, Some(to)) if ears.is_deaf(to.number) => {
                lessons.take(now_ms, l3, wire_len, Way::Out);
            }
            _ => {}
        }
    }

    /// Takes what was heard by now.
    pub(super) fn hear(&mut self, now_ms: u64) {
        let Self { lessons, ears } = self;
        ears.hear(now_ms, |at_ms, l3, wire_len, way| lessons.take(at_ms, l3, wire_len, way));
    }

    /// Forgets what is old, and counts what found no room.
    pub(super) fn expire(&mut self, now_ms: u64) {
        let lost = self.ears.lost();
        self.lessons.expire(now_ms, lost);
    }

    /// The name of the other end of a flow that its device opened, as that device was told it.
    pub(super) fn name(&self, now_ms: u64, ends: &Ends, opener: Addr) -> Option<table::Learned> {
        if ends.device != opener {
            return None;
        }
        let (name, source) = self.lessons.known.find(now_ms, (ends.device, ends.mac), ends.peer)?;
        Some(table::Learned { name: name.into(), source: source.name() })
    }
}

impl Inspector {
    /// What DNS said about the other end of a flow.
    pub(super) fn learned(
        &self,
        now_ns: u64,
        ends: Option<&Ends>,
        (key, original): (&FlowKey, Direction),
    ) -> Option<table::Learned> {
        self.resolutions.name(now_ns / 1_000_000, ends?, key.source(original).0)
    }
}

impl State {
    /// Listens on the devices that the interfaces of the LAN are now.
    pub(super) fn look_at_resolutions(&mut self) {
        let max = if self.plan.enabled { self.plan.names } else { 0 };
        let Self { inspector, dataplane, no_dataplane, backend, plan, .. } = self;
        let Inspector { resolutions, book, .. } = inspector;
        let group = match (backend, plan.ruleset.dns_group()) {
            (Some(backend), Some(group)) => backend.copies_dns().map(|()| group),
            _ => Err("no rules are in force".to_owned()),
        };
        resolutions.lessons.resize(max);
        let lan = book.zones().iter().filter(|(_, zone)| zone.is_lan && max != 0);
        let nowhere = || no_dataplane.clone().unwrap_or_default();
        let devices = lan.map(|&(ifindex, zone)| Device {
            ifindex,
            number: zone.number,
            told: dataplane
                .as_ref()
                .map_or_else(|| Err(nowhere()), |it| it.tells_messages(ifindex)),
        });
        resolutions.ears.listen(clock::monotonic_ns(), devices.collect(), group, || {
            let dataplane = dataplane.as_ref().ok_or_else(nowhere)?;
            dataplane.messages().map_err(|error| error.chain())
        });
        if let Some(dataplane) = dataplane
            && let Err(error) = dataplane.copy_dns(!resolutions.ears.has_log())
        {
            log::warn!("{}", error.chain());
        }
    }

    /// What was seen of DNS, for `status`.
    pub(super) fn names_report(&self, counts: &[Counts]) -> Report {
        let mut report = self.inspector.resolutions.lessons.report();
        let of_lan = self.plan.dataplane.interfaces.iter().zip(counts);
        let of_lan = of_lan.filter(|(interface, _)| interface.role == Role::Lan);
        report.leases = self.leases();
        report.lost += of_lan.map(|(_, counts)| counts.count(Counter::TcDnsLost)).sum::<u64>();
        report
    }

    /// How names are found out.
    pub(super) fn names_feature(&self) -> Feature {
        let Resolutions { lessons, ears } = &self.inspector.resolutions;
        let name = |number: u8| {
            let plan = self.plan.dataplane.interfaces.get(usize::from(number));
            plan.map(|plan| plan.name.as_str()).unwrap_or_default()
        };
        let why = ears.why_not_better();
        let mut reasons: Vec<_> =
            why.map(|(number, why)| format!("{}: {why}", name(number))).collect();
        let has_queue = self.backend.is_some();
        // Programs hear as much: that rules do not is no lack, but it is told.
        let lacks_nothing = reasons.is_empty();
        reasons.extend(ears.why_no_log());
        let (state, rung) = match (ears.rung(), lacks_nothing) {
            _ if lessons.known.max() == 0 => {
                reasons.push("option dns_names is 0".to_owned());
                (Health::Off, "none")
            }
            (Some(rung), true) => (Health::Active, rung),
            (Some(rung), false) => (Health::Degraded, rung),
            (None, false) if has_queue => (Health::Degraded, "queue: forwarded DNS alone"),
            (None, false) => (Health::Failed, "none"),
            (None, true) => {
                reasons.push("no device of the LAN is there".to_owned());
                (Health::Off, "none")
            }
        };
        Feature { name: "names from DNS".to_owned(), state, rung: rung.to_owned(), reasons }
    }
}

impl Running {
    /// Follows what the devices of the LAN ask and are told.
    pub(super) async fn follow_names(&self) -> super::running::Next {
        let news = self.state.lock().inspector.resolutions.ears.news();
        loop {
            let ready = poll_fn(|context| {
                self.state.lock().inspector.resolutions.ears.poll_readable(context)
            });
            future::or(ready, async {
                if news.recv().await.is_err() {
                    future::pending::<()>().await;
                }
            })
            .await;
            let now_ms = clock::monotonic_ns() / 1_000_000;
            self.state.lock().inspector.resolutions.hear(now_ms);
            future::yield_now().await;
        }
    }
}

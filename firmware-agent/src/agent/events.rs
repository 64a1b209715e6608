//! What happened: kept for `sluice events`, and told to the log, the bus and the program of the
//! configuration.
//!
//! Packets leave notices, everything else is found by looking twice. Nothing that is done to a packet
//! waits for any of it.

mod changes;
mod contacts;
mod hook;
mod kept;
mod look;
mod share;
mod told;

use std::collections::VecDeque;
use std::time::Duration;

use serde::Serialize;
use serde_json::{Map, Value};
use smol::channel::{Receiver, Sender, bounded};
use smol::{Timer, future};

use self::changes::Picture;
use self::contacts::Contacts;
use self::hook::Hook;
use self::kept::Kept;
use self::share::Shares;
use self::told::{Told, alert, verdict};
use super::notices::Notice;
use super::pace::MOST;
use super::running::{Next, Running, State};
use crate::control::Answer;
use crate::control::events::filter::{self, Question};
use crate::control::events::{Archived, Event, Kind, Page, Severity, Totals, Which};
use crate::control::hand::Written;
use crate::control::report::{Feature, State as Health};
use crate::dataplane::table::Record;
use crate::sys::clock;
use crate::ubus::blobmsg::Writer;
use crate::ubus::json;

/// Time between two looks.
const LOOK: Duration = Duration::from_secs(2);

/// Notifications of the bus, by name.
type ForBus = VecDeque<(&'static str, Writer)>;

/// Events, and who is told of them.
#[derive(Debug)]
pub(super) struct Events {
    kept: Kept,
    counts: [u64; Kind::ALL.len()],
    told: Told,
    picture: Option<Picture>,
    contacts: Contacts,
    shares: Shares,
    looked_ns: u64,
    /// What subscribers on the bus are told, and how they hear that there is something; `None`
    /// without any.
    bus: Option<(Sender<()>, ForBus)>,
    hook: Hook,
    /// Wakes up who collects notices, and who starts the program.
    woken: (Sender<()>, Receiver<()>),
    hooked: (Sender<()>, Receiver<()>),
    /// What found no room on its way to the bus.
    left_out: u64,
}

impl Default for Events {
    fn default() -> Self {
        Self {
            kept: Kept::default(),
            counts: [0; Kind::ALL.len()],
            told: Told::default(),
            picture: None,
            contacts: Contacts::default(),
            shares: Shares::default(),
            looked_ns: 0,
            bus: None,
            hook: Hook::default(),
            woken: bounded(1),
            hooked: bounded(1),
            left_out: 0,
        }
    }
}

impl Events {
    /// Takes over what an agent before this one in the same process has kept and told. What differs
    /// from then is found anew.
    pub(super) fn inherit(&mut self, old: Self) {
        let Self { kept, counts, told, hook, left_out, .. } = old;
        (self.kept, self.counts, self.told) = (kept, counts, told);
        (self.hook, self.left_out) = (hook, left_out);
    }

    /// Who collects notices hears of them here.
    pub(super) fn waker(&self) -> Sender<()> {
        self.woken.0.clone()
    }

    /// From now on the bus is told, and `waker` hears of it; or no more.
    pub(super) fn subscribe(&mut self, waker: Option<Sender<()>>) {
        self.bus = waker.map(|waker| (waker, VecDeque::new()));
    }

    /// What the bus is to be told.
    pub(super) fn for_bus(&mut self) -> ForBus {
        self.bus.as_mut().map(|(_, waiting)| std::mem::take(waiting)).unwrap_or_default()
    }

    /// What found no room on its way to the bus.
    pub(super) const fn left_out(&self) -> u64 {
        self.left_out
    }

    fn tell_bus(&mut self, name: &'static str, members: &Map<String, Value>) {
        let Some((waker, waiting)) = &mut self.bus else { return };
        if waiting.len() as u64 > MOST {
            self.left_out += 1;
            return;
        }
        let mut writer = Writer::default();
        json::write_all(&mut writer, members);
        waiting.push_back((name, writer));
        let _ = waker.try_send(());
    }
}

/// A report as it crosses the bus.
fn value(report: &impl Serialize) -> Option<Value> {
    Answer::new(report).and_then(|answer| answer.value()).ok()
}

impl State {
    /// Takes notices of packets and, from time to time, what else is different.
    pub(super) fn collect(&mut self) {
        let now_ns = clock::monotonic_ns();
        let waiting: Vec<Notice> = std::iter::from_fn(|| self.inspector.notices.pop()).collect();
        for notice in waiting {
            match notice {
                Notice::Alert(kept) => {
                    let report = self.told(&kept, now_ns);
                    self.announce(now_ns, alert(&report), value(&report));
                }
                Notice::Blocked(key) => {
                    // It may be over by now.
                    let Some(record) = self.inspector.table.get(&key) else { continue };
                    let record: &Record = record;
                    let (flow, reason) = (self.flow(record, now_ns), record.decision.reason);
                    let event = verdict(&flow, reason, record.decision.ends.as_ref());
                    self.announce(now_ns, event, value(&flow));
                }
            }
        }
        if now_ns.saturating_sub(self.events.looked_ns) >= LOOK.as_nanos() as u64 {
            self.events.looked_ns = now_ns;
            for event in self.look_for_events(now_ns) {
                self.announce(now_ns, event, None);
            }
        }
    }

    /// Keeps an event and tells of it; the bus hears `report`, where there is one.
    fn announce(&mut self, now_ns: u64, event: Event, report: Option<Value>) {
        let time = self.knows_time.then(|| clock::unix_us() as f64 / 1e6);
        let is_muted = self.plan.notify.mutes(event.kind);
        let events = &mut self.events;
        events.counts[event.kind as usize] += 1;
        events.kept.push(now_ns, &event, time);
        if is_muted {
            return;
        }
        match &report {
            Some(Value::Object(report)) => events.tell_bus(event.kind.name(), report),
            _ => events.tell_bus(event.kind.name(), &event.object(time)),
        }
        // What the configuration wants is nobody's surprise.
        if event.severity == Severity::Info || !events.told.is_news(now_ns, &event) {
            return;
        }
        log(&event);
        if self.plan.notify.script.is_some() {
            events.hook.push(now_ns, &event, time);
            let _ = events.hooked.0.try_send(());
        }
    }

    /// The last events, the last first.
    pub(super) fn events(&self) -> Vec<Value> {
        self.events.kept.all(clock::monotonic_ns())
    }

    /// Some of them.
    pub(super) fn event_page(&self, question: &Question) -> Result<Page, String> {
        let mut page = self.events.kept.page(clock::monotonic_ns(), question)?;
        let muted = self.plan.notify.mute.iter();
        page.muted = muted.map(|kind| kind.name().to_owned()).collect();
        Ok(page)
    }

    /// Puts events away that have been dealt with.
    pub(super) fn archive(&mut self, which: &Which) -> Result<Archived, String> {
        self.events.kept.archive(which).map(|archived| Archived { archived })
    }

    pub(super) fn event_totals(&self) -> Totals {
        let events = &self.events;
        Totals {
            kinds: Kind::ALL
                .iter()
                .zip(events.counts)
                .map(|(kind, count)| (kind.name().to_owned(), count))
                .collect(),
            left_out: self.inspector.notices.left_out(),
            repeated: events.told.repeated(),
        }
    }

    /// How the program of the configuration fares, where there is one.
    pub(super) fn hook_feature(&self) -> Option<Feature> {
        let script = self.plan.notify.script.as_ref()?;
        let hook = &self.events.hook;
        let left_out =
            (hook.left_out != 0).then(|| format!("{} events were left out", hook.left_out));
        Some(Feature {
            name: "notify_script".to_owned(),
            state: if hook.trouble.is_some() { Health::Degraded } else { Health::Active },
            rung: script.display().to_string(),
            reasons: hook.trouble.iter().cloned().chain(left_out).collect(),
        })
    }
}

/// A line, where none says it already.
fn log(event: &Event) {
    let Event { kind, severity, what, .. } = event;
    // By those who found it.
    let is_told = match kind {
        Kind::Alert => true,
        Kind::Attack => *severity >= Severity::Warning,
        Kind::List => event.facts.get("reason").is_some_and(|reason| *reason != *what),
        Kind::Health => {
            let feature = event.facts.get("feature").and_then(Value::as_str);
            matches!(feature, Some("configuration" | "attendance"))
        }
        Kind::Verdict | Kind::Contact => false,
    };
    match (is_told, severity) {
        (true, _) => {}
        (_, Severity::Error) => log::error!("{what}"),
        (_, Severity::Warning) => log::warn!("{what}"),
        _ => log::info!("{what}"),
    }
}

impl Running {
    /// Lets nobody be told of a type of events, or everybody again.
    pub(super) fn mute(&self, kind: &str, is: bool) -> Result<Written, String> {
        let kind = filter::kind(kind)?;
        self.write(|page, _| {
            let section = page.mute(kind.name(), is).map_err(|error| error.to_string())?;
            Ok(Written { section })
        })
    }

    /// Collects what happened.
    pub(super) async fn tell(&self) -> Next {
        let woken = self.state.lock().events.woken.1.clone();
        loop {
            future::or(async { _ = Timer::after(LOOK).await }, async { _ = woken.recv().await })
                .await;
            self.state.lock().collect();
        }
    }

    /// Starts the program for one event after the other.
    pub(super) async fn run_hook(&self) -> Next {
        let hooked = self.state.lock().events.hooked.1.clone();
        loop {
            let next = {
                let mut state = self.state.lock();
                let script = state.plan.notify.script.clone();
                if script.is_none() {
                    state.events.hook.clear();
                }
                script.and_then(|script| state.events.hook.pop().map(|event| (script, event)))
            };
            let Some((script, event)) = next else {
                _ = hooked.recv().await;
                continue;
            };
            let outcome = hook::run(&script, event).await;
            if let Err(why) = &outcome {
                log::warn!("notify_script {why}");
            }
            self.state.lock().events.hook.trouble = outcome.err();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use sluice_abi::verdict::Reason;

    use super::changes::{Look, differences};
    use super::told::tests::{flow, told_alert};
    use super::*;
    use crate::control::events::document::{Documented, check, check_all, documented};
    use crate::policy::Ends;

    fn look(state: Health) -> Look<'static> {
        Look {
            features: vec![Feature {
                name: "shield wan".to_owned(),
                state,
                rung: "generic XDP".to_owned(),
                reasons: vec!["native XDP: no".to_owned()],
            }],
            ..Look::default()
        }
    }

    /// R114: events of the agent have the fields of `config/events.md`, and all of them occur.
    #[test]
    fn events_of_the_agent_and_their_document_have_the_same_fields() {
        let refused = "ruleset feed: too large".to_owned();
        let troubled = Look {
            attacked: vec![([192, 0, 2, 1].into(), 100)],
            refused: vec![&refused],
            mistakes: &["f:1: bad".to_owned()],
            ..look(Health::Degraded)
        };
        let calm = look(Health::Active);
        let ends = Ends {
            device: std::net::IpAddr::from([192, 168, 1, 9]).into(),
            mac: Some(crate::config::Mac([2, 0, 0x5e, 0, 0, 1])),
            zone: None,
            peer: std::net::IpAddr::from([203, 0, 113, 5]).into(),
            port: 443,
            transport: 6,
        };
        let mut all = differences(Some(&Picture::of(&calm)), &troubled);
        all.extend(differences(Some(&Picture::of(&troubled)), &calm));
        let dropped = contacts::Dropped {
            ends: Some(([192, 168, 1, 5].into(), [203, 0, 113, 66].into())),
            device_name: Some("phone".to_owned()),
            ..contacts::Dropped::default()
        };
        all.push(contacts::event("lan", 3, &["bad"], Some(&dropped)));
        all.push(alert(&told_alert()));
        all.push(verdict(&flow(), Reason::DomainList, Some(&ends)));
        let documented = documented();
        let mut printed = BTreeSet::new();
        let mut kept = Kept::default();
        for event in &all {
            kept.push(1, event, Some(1.5));
        }
        for event in kept.all(3_000_000_001) {
            check(&documented, &event, true, &mut printed);
        }
        check_all(&documented, &printed, Documented::is_of_the_agent);
    }

    #[test]
    fn the_bus_is_told_while_somebody_listens_and_not_more_than_it_takes() {
        let mut events = Events::default();
        let members = Event::new(Kind::List, Severity::Notice, "x".to_owned()).object(None);
        events.tell_bus("list", &members);
        assert!(events.for_bus().is_empty() && events.left_out() == 0);
        let (waker, woken) = bounded(1);
        events.subscribe(Some(waker));
        for _ in 0..100 {
            events.tell_bus("list", &members);
        }
        assert_eq!((events.for_bus().len(), events.left_out(), woken.len()), (21, 79, 1));
        events.subscribe(None);
        events.tell_bus("list", &members);
        assert!(events.for_bus().is_empty());
    }
}

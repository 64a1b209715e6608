//! What happened: kept for `sluice events`, and told to the log, the bus and the program of the
//! configuration.
//!
//! Packets leave notices, everything else is found by looking twice. Nothing that is done to a packet
//! waits for any of it.

mod changes;
mod hook;
mod told;

use std::collections::VecDeque;
use std::time::Duration;

use serde_json::{Map, Value};
use smol::channel::{Receiver, Sender, bounded};
use smol::{Timer, future};

use self::changes::{Picture, differences};
use self::hook::Hook;
use self::told::{Told, alert, verdict};
use super::notices::Notice;
use super::pace::MOST;
use super::running::{Next, Running, State};
use super::signatures;
use crate::control::events::{Event, Kind, Severity, Totals};
use crate::control::report::{Feature, State as Health};
use crate::dataplane::table::Record;
use crate::sys::clock;
use crate::ubus::blobmsg::Writer;
use crate::ubus::json;

/// Events that are kept.
const KEPT_MAX: usize = 256;
/// Bytes of them.
const BYTES_MAX: usize = 128 << 10;
/// Time between two looks.
const LOOK: Duration = Duration::from_secs(2);

/// An event as it is kept.
#[derive(Debug)]
struct Line {
    at_ns: u64,
    json: Box<str>,
}

/// Notifications of the bus, by name.
type ForBus = VecDeque<(&'static str, Writer)>;

/// Events, and who is told of them.
#[derive(Debug)]
pub(super) struct Events {
    lines: VecDeque<Line>,
    bytes: usize,
    counts: [u64; Kind::ALL.len()],
    told: Told,
    picture: Option<Picture>,
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
            lines: VecDeque::new(),
            bytes: 0,
            counts: [0; Kind::ALL.len()],
            told: Told::default(),
            picture: None,
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

    fn keep(&mut self, at_ns: u64, event: &Event, time: Option<f64>) {
        self.counts[event.kind as usize] += 1;
        let Ok(json) = serde_json::to_string(&event.object(time)) else { return };
        self.bytes += json.len();
        self.lines.push_back(Line { at_ns, json: json.into() });
        while self.lines.len() > KEPT_MAX || self.bytes > BYTES_MAX {
            let Some(first) = self.lines.pop_front() else { return };
            self.bytes -= first.json.len();
        }
    }
}

impl State {
    /// Takes notices of packets and, from time to time, what else is different.
    fn collect(&mut self) {
        let now_ns = clock::monotonic_ns();
        let waiting: Vec<Notice> = std::iter::from_fn(|| self.inspector.notices.pop()).collect();
        for notice in waiting {
            match notice {
                Notice::Alert(kept) => {
                    let report = signatures::told(&kept, now_ns);
                    self.announce(now_ns, alert(&report), serde_json::to_value(report).ok());
                }
                Notice::Blocked(key) => {
                    // It may be over by now.
                    let Some(record) = self.inspector.table.get(&key) else { continue };
                    let record: &Record = record;
                    let (flow, reason) = (self.flow(record, now_ns), record.decision.reason);
                    let event = verdict(&flow, reason, record.decision.ends.as_ref());
                    self.announce(now_ns, event, serde_json::to_value(flow).ok());
                }
            }
        }
        if now_ns.saturating_sub(self.events.looked_ns) >= LOOK.as_nanos() as u64 {
            self.events.looked_ns = now_ns;
            let picture = self.picture();
            let events = differences(self.events.picture.as_ref(), &picture);
            self.events.picture = Some(picture);
            for event in events {
                self.announce(now_ns, event, None);
            }
        }
    }

    /// Keeps an event and tells of it; the bus hears `report`, where there is one.
    fn announce(&mut self, now_ns: u64, event: Event, report: Option<Value>) {
        let time = self.knows_time.then(|| clock::unix_us() as f64 / 1e6);
        let is_muted = self.plan.notify.mutes(event.kind);
        let events = &mut self.events;
        events.keep(now_ns, &event, time);
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

    fn picture(&self) -> Picture {
        let attacked = self.strangers.report().attacked;
        let refused = self.lists.refused();
        let refused = refused.into_iter().chain(self.inspector.domains.refused());
        Picture {
            features: self.features(),
            attacked: attacked.iter().map(|one| (one.address, one.half_open)).collect(),
            refused: refused.chain(self.inspector.alarms.refused()).cloned().collect(),
            mistakes: self.mistakes.clone(),
        }
    }

    /// The last events, the last first.
    pub(super) fn events(&self) -> Vec<Value> {
        let now_ns = clock::monotonic_ns();
        let lines = self.events.lines.iter().rev();
        let objects = lines.filter_map(|line| {
            let mut object: Map<String, Value> =
                serde_json::from_slice(line.json.as_bytes()).ok()?;
            let s_ago = now_ns.saturating_sub(line.at_ns) / 1_000_000_000;
            object.insert("s_ago".to_owned(), s_ago.into());
            Some(Value::Object(object))
        });
        objects.collect()
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
        Kind::Attack | Kind::List => *severity >= Severity::Warning,
        Kind::Health => event.facts.get("feature").is_some_and(|it| it == "configuration"),
        Kind::Verdict => false,
    };
    match (is_told, severity) {
        (true, _) => {}
        (_, Severity::Error) => log::error!("{what}"),
        (_, Severity::Warning) => log::warn!("{what}"),
        _ => log::info!("{what}"),
    }
}

impl Running {
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
    use std::collections::{BTreeMap, BTreeSet};

    use sluice_abi::verdict::Reason;

    use super::told::tests::{flow, told_alert};
    use super::*;
    use crate::control::events::document::{Documented, check, check_all, documented};
    use crate::policy::Ends;

    fn picture(state: Health) -> Picture {
        Picture {
            features: vec![Feature {
                name: "shield wan".to_owned(),
                state,
                rung: "generic XDP".to_owned(),
                reasons: vec!["native XDP: no".to_owned()],
            }],
            ..Picture::default()
        }
    }

    /// R114: events of the agent have the fields of `config/events.md`, and all of them occur.
    #[test]
    fn events_of_the_agent_and_their_document_have_the_same_fields() {
        let mut troubled = picture(Health::Degraded);
        troubled.attacked = BTreeMap::from([([192, 0, 2, 1].into(), 100)]);
        troubled.refused.push("ruleset feed: too large".to_owned());
        troubled.mistakes.push("f:1: bad".to_owned());
        let calm = picture(Health::Active);
        let ends = Ends {
            device: std::net::IpAddr::from([192, 168, 1, 9]).into(),
            mac: Some(crate::config::Mac([2, 0, 0x5e, 0, 0, 1])),
            zone: None,
            peer: std::net::IpAddr::from([203, 0, 113, 5]).into(),
            port: 443,
            transport: 6,
        };
        let mut all = differences(Some(&calm), &troubled);
        all.extend(differences(Some(&troubled), &calm));
        all.push(alert(&told_alert()));
        all.push(verdict(&flow(), Reason::DomainList, Some(&ends)));
        let documented = documented();
        let mut printed = BTreeSet::new();
        for event in all {
            let mut object = event.object(Some(1.5));
            object.insert("s_ago".to_owned(), 3.into());
            check(&documented, &Value::Object(object), true, &mut printed);
        }
        check_all(&documented, &printed, Documented::is_of_the_agent);
    }

    #[test]
    fn memory_of_events_is_bounded() {
        let event = |n: u32, len| {
            let what = format!("{n} {}", "x".repeat(len));
            Event::new(Kind::Attack, Severity::Warning, what)
        };
        let mut events = Events::default();
        for n in 0..1000 {
            events.keep(u64::from(n), &event(n, 10), None);
        }
        assert_eq!((events.lines.len(), events.lines[0].at_ns), (KEPT_MAX, 1000 - 256));
        let bytes: usize = events.lines.iter().map(|line| line.json.len()).sum();
        assert_eq!(events.bytes, bytes);
        for n in 0..100 {
            events.keep(2000, &event(n, 10_000), None);
        }
        assert!(events.bytes <= BYTES_MAX && events.lines.len() == 13, "{}", events.lines.len());
        assert_eq!(events.counts[Kind::Attack as usize], 1100);
        events.keep(1, &event(0, 1 << 20), None);
        assert_eq!((events.lines.len(), events.bytes), (0, 0), "one that is too large");
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

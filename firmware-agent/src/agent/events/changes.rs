//! What became different between two looks at the agent. Pure.

use std::net::IpAddr;

use crate::control::events::{Event, Kind, Severity};
use crate::control::report::{Feature, State as Health, Unattended};

/// What there is to look at.
#[derive(Debug, Default)]
pub(super) struct Look<'a> {
    /// Every feature.
    pub(super) features: Vec<Feature>,
    /// Destinations under attack, and the handshakes that wait there.
    pub(super) attacked: Vec<(IpAddr, u32)>,
    /// Why lists that are wanted are not in force.
    pub(super) refused: Vec<&'a String>,
    /// Mistakes of a configuration that is not in force.
    pub(super) mistakes: &'a [String],
    /// Lists that come from files, and what they have.
    pub(super) lists: Vec<(&'a str, u64)>,
    /// Times when nobody inspected.
    pub(super) away: Unattended,
}

/// What of it is compared with the next look.
#[derive(Debug, Default)]
pub(super) struct Picture {
    features: Vec<(String, Health)>,
    attacked: Vec<IpAddr>,
    refused: Vec<String>,
    mistakes: Vec<String>,
    /// Lists that have something.
    filled: Vec<String>,
    away: u64,
}

impl Picture {
    pub(super) fn of(look: &Look<'_>) -> Self {
        let filled = look.lists.iter().filter(|(_, count)| *count != 0);
        Self {
            features: look.features.iter().map(|one| (one.name.clone(), one.state)).collect(),
            attacked: look.attacked.iter().map(|(address, _)| *address).collect(),
            refused: look.refused.iter().copied().cloned().collect(),
            mistakes: look.mistakes.to_vec(),
            filled: filled.map(|(name, _)| (*name).to_owned()).collect(),
            away: look.away.packets,
        }
    }
}

/// What has to be told when `new` follows `old`. At the first look only what does not work at all, and
/// what passed uninspected.
pub(super) fn differences(old: Option<&Picture>, new: &Look<'_>) -> Vec<Event> {
    let mut events = Vec::new();
    for feature in &new.features {
        let known = old.map(|old| old.features.as_slice()).unwrap_or_default();
        let before = known.iter().find(|(name, _)| *name == feature.name);
        // What works with less from the start is in `status`.
        let first = match feature.state {
            Health::Degraded => Health::Degraded,
            _ => Health::Starting,
        };
        events.extend(of_feature(feature, before.map_or(first, |(_, state)| *state)));
    }
    let none = Picture::default();
    let old = old.unwrap_or(&none);
    for (address, half_open) in &new.attacked {
        if !old.attacked.contains(address) {
            let what = format!("{address} is under attack, {half_open} handshakes wait");
            let event = Event::new(Kind::Attack, Severity::Warning, what);
            let event = event.with("address", address.to_string()).with("state", "begins");
            events.push(event.with("half_open", *half_open));
        }
    }
    for address in &old.attacked {
        if new.attacked.iter().any(|(one, _)| one == address) {
            continue;
        }
        let what = format!("{address} is not under attack any more");
        let event = Event::new(Kind::Attack, Severity::Notice, what);
        events.push(event.with("address", address.to_string()).with("state", "ends"));
    }
    for reason in new.refused.iter().filter(|one| !old.refused.contains(one)) {
        let what = format!("not in force: {reason}");
        events.push(broken(what, reason));
    }
    for (name, _) in new
        .lists
        .iter()
        .filter(|(name, count)| *count == 0 && old.filled.iter().any(|one| one == name))
    {
        let what = format!("{name} has no entries any more");
        events.push(broken(what.clone(), &what));
    }
    if new.refused.is_empty() && !old.refused.is_empty() {
        let what = "what was refused is in force".to_owned();
        let event = Event::new(Kind::List, Severity::Notice, what);
        events.push(event.with("state", "works"));
    }
    events.extend(of_configuration(old, new));
    events.extend(of_absence(old, &new.away));
    events
}

/// What is told of a feature that was in state `before`.
fn of_feature(feature: &Feature, before: Health) -> Option<Event> {
    let Feature { name, state, rung, reasons } = feature;
    let why = reasons.first().map(|why| format!(": {why}")).unwrap_or_default();
    let (severity, what) = match (before, state) {
        (before, state) if before == *state => return None,
        (_, Health::Failed) => (Severity::Error, format!("{name} does not work{why}")),
        (Health::Failed, Health::Degraded) => {
            (Severity::Notice, format!("{name} works again, with less ({rung}){why}"))
        }
        (Health::Active | Health::Off | Health::Starting, Health::Degraded) => {
            (Severity::Warning, format!("{name} works with less ({rung}){why}"))
        }
        (Health::Failed | Health::Degraded, Health::Active) => {
            (Severity::Notice, format!("{name} works again ({rung})"))
        }
        _ => return None,
    };
    let event = Event::new(Kind::Health, severity, what);
    let event = event.with("feature", name.as_str()).with("state", state.to_string());
    Some(event.with("rung", rung.as_str()).with("reasons", reasons.clone()))
}

fn of_configuration(old: &Picture, new: &Look<'_>) -> Option<Event> {
    let (severity, state, what) = match (new.mistakes.first(), old.mistakes.is_empty()) {
        (Some(first), _) if *new.mistakes != *old.mistakes => {
            (Severity::Error, Health::Failed, format!("the new configuration is refused: {first}"))
        }
        (None, false) => {
            (Severity::Notice, Health::Active, "the configuration is in force".to_owned())
        }
        _ => return None,
    };
    let event = Event::new(Kind::Health, severity, what).with("feature", "configuration");
    let event = event.with("state", state.to_string()).with("rung", "file");
    Some(event.with("reasons", new.mistakes.to_vec()))
}

fn broken(what: String, reason: &str) -> Event {
    let event = Event::new(Kind::List, Severity::Warning, what);
    event.with("state", "broken").with("reason", reason)
}

/// What is told of a time when nobody inspected, if something passed meanwhile.
fn of_absence(old: &Picture, away: &Unattended) -> Option<Event> {
    let packets = away.packets.checked_sub(old.away).filter(|packets| *packets != 0)?;
    let what = format!("inspection was away: {packets} packets passed uninspected");
    Some(uninspected("heartbeat", what))
}

/// What is told where policy took the place of inspection.
pub(super) fn uninspected(rung: &str, what: String) -> Event {
    let event = Event::new(Kind::Health, Severity::Warning, what.clone());
    let event = event.with("feature", "attendance").with("state", Health::Active.to_string());
    event.with("rung", rung).with("reasons", vec![what])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(state: Health) -> Look<'static> {
        let feature = |name: &str, state| Feature {
            name: name.to_owned(),
            state,
            rung: "generic XDP".to_owned(),
            reasons: vec!["native XDP: no".to_owned()],
        };
        Look {
            features: vec![feature("ubus", Health::Off), feature("shield wan", state)],
            ..Look::default()
        }
    }

    /// R177: the agent degraded and recovered, each once.
    #[test]
    fn a_feature_that_gets_worse_or_better_is_told_once() {
        use Health::{Active, Degraded, Failed, Off, Starting};
        for (before, after, expected) in [
            (Active, Degraded, Some((Severity::Warning, "works with less (generic XDP): native"))),
            (Active, Failed, Some((Severity::Error, "does not work: native XDP: no"))),
            (Degraded, Failed, Some((Severity::Error, "does not work"))),
            (Degraded, Active, Some((Severity::Notice, "works again (generic XDP)"))),
            (Failed, Active, Some((Severity::Notice, "works again"))),
            (Failed, Degraded, Some((Severity::Notice, "works again, with less"))),
            (Off, Degraded, Some((Severity::Warning, "works with less"))),
            (Off, Active, None),
            (Active, Off, None),
            (Starting, Active, None),
            (Starting, Degraded, Some((Severity::Warning, "works with less"))),
            (Degraded, Degraded, None),
        ] {
            let events = differences(Some(&Picture::of(&with(before))), &with(after));
            let told = events.first().map(|event| (event.severity, event.what.as_str()));
            match expected {
                Some((severity, what)) => {
                    let (told, text) = told.unwrap();
                    assert_eq!((told, events.len()), (severity, 1), "{before} {after}");
                    assert!(text.contains(what) && text.starts_with("shield wan "), "{text}");
                    assert_eq!(events[0].facts["state"], after.to_string());
                }
                None => assert_eq!(told, None, "{before} {after}"),
            }
        }
        assert_eq!(differences(None, &with(Degraded)).len(), 0, "no rung is lost at a start");
        assert_eq!(differences(None, &with(Failed)).len(), 1);
    }

    /// R177: a list that is broken and one that works again, a refused configuration, an attack.
    #[test]
    fn attacks_lists_and_configurations_are_told_when_they_begin_and_end() {
        let calm = Look { lists: vec![("blocklist bad", 5)], ..Look::default() };
        let refused = "ruleset feed: too large".to_owned();
        let bad = Look {
            attacked: vec![([192, 0, 2, 1].into(), 100)],
            refused: vec![&refused],
            mistakes: &["f:1: bad".to_owned()],
            lists: vec![("blocklist bad", 0), ("blocklist new", 0)],
            away: Unattended { times: 2, packets: 7, ..Unattended::default() },
            ..Look::default()
        };
        let told = |old: Option<&Look<'_>>, new: &Look<'_>| -> Vec<String> {
            let old = old.map(Picture::of);
            let events = differences(old.as_ref(), new);
            events.iter().map(|event| format!("{} {}", event.kind.name(), event.what)).collect()
        };
        assert_eq!(
            told(Some(&calm), &bad),
            [
                "attack 192.0.2.1 is under attack, 100 handshakes wait",
                "list not in force: ruleset feed: too large",
                "list blocklist bad has no entries any more",
                "health the new configuration is refused: f:1: bad",
                "health inspection was away: 7 packets passed uninspected",
            ]
        );
        assert_eq!(told(None, &bad).len(), 4);
        assert_eq!(told(Some(&bad), &bad), [""; 0]);
        assert_eq!(
            told(Some(&bad), &calm),
            [
                "attack 192.0.2.1 is not under attack any more",
                "list what was refused is in force",
                "health the configuration is in force",
            ]
        );
    }
}

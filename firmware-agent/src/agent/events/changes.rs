//! What became different between two looks at the agent. Pure.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::control::events::{Event, Kind, Severity};
use crate::control::report::{Feature, State as Health};

/// What is looked at.
#[derive(Clone, Debug, Default)]
pub(super) struct Picture {
    /// Every feature.
    pub(super) features: Vec<Feature>,
    /// Destinations under attack, and the handshakes that wait there.
    pub(super) attacked: BTreeMap<IpAddr, u32>,
    /// Why lists that are wanted are not in force.
    pub(super) refused: Vec<String>,
    /// Mistakes of a configuration that is not in force.
    pub(super) mistakes: Vec<String>,
}

/// What has to be told when `new` follows `old`. At the first look only what does not work at all.
pub(super) fn differences(old: Option<&Picture>, new: &Picture) -> Vec<Event> {
    let mut events = Vec::new();
    for feature in &new.features {
        let before = old.and_then(|old| old.features.iter().find(|one| one.name == feature.name));
        let before = before.map_or(Health::Starting, |before| before.state);
        events.extend(of_feature(feature, before));
    }
    let none = Picture::default();
    let old = old.unwrap_or(&none);
    for (address, half_open) in &new.attacked {
        if !old.attacked.contains_key(address) {
            let what = format!("{address} is under attack, {half_open} handshakes wait");
            let event = Event::new(Kind::Attack, Severity::Warning, what);
            let event = event.with("address", address.to_string()).with("state", "begins");
            events.push(event.with("half_open", *half_open));
        }
    }
    for address in old.attacked.keys().filter(|one| !new.attacked.contains_key(*one)) {
        let what = format!("{address} is not under attack any more");
        let event = Event::new(Kind::Attack, Severity::Notice, what);
        events.push(event.with("address", address.to_string()).with("state", "ends"));
    }
    for reason in new.refused.iter().filter(|one| !old.refused.contains(one)) {
        let what = format!("not in force: {reason}");
        let event = Event::new(Kind::List, Severity::Warning, what);
        events.push(event.with("state", "broken").with("reason", reason.as_str()));
    }
    if new.refused.is_empty() && !old.refused.is_empty() {
        let what = "what was refused is in force".to_owned();
        let event = Event::new(Kind::List, Severity::Notice, what);
        events.push(event.with("state", "works"));
    }
    events.extend(of_configuration(old, new));
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
        (Health::Active | Health::Off, Health::Degraded) => {
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

fn of_configuration(old: &Picture, new: &Picture) -> Option<Event> {
    let (severity, state, what) = match (new.mistakes.first(), old.mistakes.is_empty()) {
        (Some(first), _) if new.mistakes != old.mistakes => {
            (Severity::Error, Health::Failed, format!("the new configuration is refused: {first}"))
        }
        (None, false) => {
            (Severity::Notice, Health::Active, "the configuration is in force".to_owned())
        }
        _ => return None,
    };
    let event = Event::new(Kind::Health, severity, what).with("feature", "configuration");
    let event = event.with("state", state.to_string()).with("rung", "file");
    Some(event.with("reasons", new.mistakes.clone()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(state: Health) -> Picture {
        let feature = |name: &str, state| Feature {
            name: name.to_owned(),
            state,
            rung: "generic XDP".to_owned(),
            reasons: vec!["native XDP: no".to_owned()],
        };
        Picture {
            features: vec![feature("ubus", Health::Off), feature("shield wan", state)],
            ..Picture::default()
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
            (Degraded, Degraded, None),
        ] {
            let events = differences(Some(&with(before)), &with(after));
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
        let calm = Picture::default();
        let mut bad = Picture::default();
        bad.attacked.insert([192, 0, 2, 1].into(), 100);
        bad.refused.push("ruleset feed: too large".to_owned());
        bad.mistakes.push("f:1: bad".to_owned());
        let told = |old: Option<&Picture>, new: &Picture| -> Vec<String> {
            let events = differences(old, new);
            events.iter().map(|event| format!("{} {}", event.kind.name(), event.what)).collect()
        };
        assert_eq!(
            told(Some(&calm), &bad),
            [
                "attack 192.0.2.1 is under attack, 100 handshakes wait",
                "list not in force: ruleset feed: too large",
                "health the new configuration is refused: f:1: bad",
            ]
        );
        assert_eq!(told(None, &bad).len(), 3);
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

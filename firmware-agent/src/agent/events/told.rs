//! Alerts and verdicts as events, and what was told lately.

use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::net::IpAddr;

use sluice_abi::verdict::Reason;

use crate::control::events::{Event, Kind, Severity};
use crate::control::report::{Flow, Tuple};
use crate::control::signatures::Alert;
use crate::policy::Ends;

/// Time in which nobody is told the same again.
const AGAIN_NS: u64 = 60_000_000_000;
/// So much is remembered of it.
const REMEMBERED: usize = 128;

/// What was told lately.
#[derive(Debug, Default)]
pub(super) struct Told {
    lately: VecDeque<(u64, u64)>,
    repeated: u64,
}

impl Told {
    /// Whether nobody was told the same lately; then it counts as told.
    pub(super) fn is_news(&mut self, now_ns: u64, event: &Event) -> bool {
        let mut hasher = DefaultHasher::new();
        (event.kind.name(), event.severity.name(), &event.what).hash(&mut hasher);
        let hash = hasher.finish();
        while self.lately.front().is_some_and(|(_, at)| at.saturating_add(AGAIN_NS) <= now_ns) {
            self.lately.pop_front();
        }
        if self.lately.iter().any(|(known, _)| *known == hash) {
            self.repeated += 1;
            return false;
        }
        if self.lately.len() >= REMEMBERED {
            self.lately.pop_front();
        }
        self.lately.push_back((hash, now_ns));
        true
    }

    /// How often there was nothing new.
    pub(super) const fn repeated(&self) -> u64 {
        self.repeated
    }
}

/// An address, and what its device calls itself.
fn with_name(address: IpAddr, name: Option<&str>) -> String {
    name.map_or_else(|| address.to_string(), |name| format!("{address} ({name})"))
}

/// With the ends of a packet or a connection.
fn between(event: Event, transport: &str, tuple: &Tuple) -> Event {
    event
        .with("transport", transport)
        .with("src", tuple.src.to_string())
        .with("sport", tuple.sport)
        .with("dst", tuple.dst.to_string())
        .with("dport", tuple.dport)
}

/// A rule of a ruleset that matched.
pub(super) fn alert(alert: &Alert) -> Event {
    let Tuple { src, dst, dport, .. } = alert.tuple;
    let what =
        format!("{} ({}:{}) {src} to {dst} port {dport}", alert.msg, alert.ruleset, alert.sid);
    let event = Event::new(Kind::Alert, Severity::Warning, what);
    between(event, &alert.transport, &alert.tuple)
        .with("ruleset", alert.ruleset.as_str())
        .with("gid", alert.gid)
        .with("sid", alert.sid)
        .with("rev", alert.rev)
        .with("action", alert.action.as_str())
        .with("msg", alert.msg.as_str())
        .with("blocked", alert.blocked)
        .with_some("device_name", alert.device_name.clone())
}

/// A flow that was blocked. By a list or a ruleset: somebody should know; by a rule: somebody wanted it.
pub(super) fn verdict(flow: &Flow, reason: Reason, ends: Option<&Ends>) -> Event {
    let by = match (&flow.list, &flow.rule) {
        (Some(list), _) => Some(format!("domainlist {list}")),
        (None, Some(rule)) if reason == Reason::Signature => Some(format!("ruleset {rule}")),
        (None, Some(rule)) => Some(format!("rule {rule}")),
        (None, None) => None,
    };
    let is_contact = matches!(reason, Reason::DomainList | Reason::Signature);
    let severity = if is_contact { Severity::Warning } else { Severity::Info };
    let device = ends.map_or(flow.tuple.src, |ends| ends.device.into());
    let peer = ends.map_or(flow.tuple.dst, |ends| ends.peer.into());
    let whom = flow.name.clone().unwrap_or_else(|| format!("{peer} port {}", flow.tuple.dport));
    let shown = with_name(device, flow.device_name.as_deref());
    let what = match &by {
        Some(by) => format!("{shown} was kept from {whom} by {by}"),
        None => format!("{shown} was kept from {whom}"),
    };
    let event = Event::new(Kind::Verdict, severity, what);
    between(event, &flow.transport, &flow.tuple)
        .with("verdict", flow.verdict.as_str())
        .with("reason", flow.reason.as_str())
        .with("packets", flow.inspected_packets)
        .with("device", device.to_string())
        .with_some("device_name", flow.device_name.clone())
        .with_some("mac", ends.and_then(|ends| ends.mac).map(|mac| mac.to_string()))
        .with_some("by", by)
        .with_some("entry", flow.entry.clone())
        .with_some("name", flow.name.clone())
        .with_some("protocol", flow.protocol.clone())
        .with_some("confidence", flow.confidence.clone())
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::agent::events) fn flow() -> Flow {
        serde_json::from_value(serde_json::json!({
            "src": "192.168.1.9", "sport": 40000, "dst": "203.0.113.5", "dport": 443,
            "transport": "tcp", "verdict": "blocked", "reason": "domain_list", "list": "ads",
            "device_name": "phone", "entry": "ads.test", "name": "www.ads.test", "protocol": "tls",
            "confidence": "certain", "inspected_packets": 4, "original_packets": 0,
            "original_bytes": 0, "reply_packets": 0, "reply_bytes": 0, "age_s": 0, "idle_s": 0,
        }))
        .unwrap()
    }

    pub(in crate::agent::events) fn told_alert() -> Alert {
        serde_json::from_value(serde_json::json!({
            "src": "192.168.1.9", "sport": 40000, "dst": "203.0.113.5", "dport": 80,
            "transport": "tcp", "s_ago": 0, "ruleset": "feed", "gid": 1, "sid": 7, "rev": 2,
            "action": "alert", "blocked": false, "msg": "odd", "device_name": "phone",
        }))
        .unwrap()
    }

    /// R177: what a list or a ruleset blocked is told, what a rule blocked is only kept.
    #[test]
    fn blocked_flows_say_who_was_kept_from_what_and_by_what() {
        let event = verdict(&flow(), Reason::DomainList, None);
        let what = "192.168.1.9 (phone) was kept from www.ads.test by domainlist ads";
        assert_eq!((&*event.what, &event.facts["device_name"]), (what, &"phone".into()));
        assert_eq!(
            (event.severity, &event.facts["device"]),
            (Severity::Warning, &"192.168.1.9".into())
        );
        let by_rule = Flow {
            list: None,
            rule: Some("no_ads".to_owned()),
            name: None,
            device_name: None,
            ..flow()
        };
        let event = verdict(&by_rule, Reason::DomainRule, None);
        assert_eq!(event.what, "192.168.1.9 was kept from 203.0.113.5 port 443 by rule no_ads");
        assert_eq!(event.severity, Severity::Info);
        let event = verdict(&by_rule, Reason::Signature, None);
        assert_eq!(
            (event.severity, &event.facts["by"]),
            (Severity::Warning, &"ruleset no_ads".into())
        );
        assert_eq!(alert(&told_alert()).what, "odd (feed:7) 192.168.1.9 to 203.0.113.5 port 80");
    }

    #[test]
    fn the_same_is_told_once_a_minute() {
        let event = |what: &str| Event::new(Kind::Verdict, Severity::Warning, what.to_owned());
        let mut told = Told::default();
        assert!(told.is_news(1, &event("a")) && told.is_news(1, &event("b")));
        assert!(!told.is_news(AGAIN_NS, &event("a")));
        assert!(told.is_news(AGAIN_NS + 1, &event("a")));
        assert_eq!(told.repeated(), 1);
        for n in 0..1000 {
            told.is_news(AGAIN_NS + 2, &event(&n.to_string()));
        }
        assert_eq!(told.lately.len(), REMEMBERED);
    }
}

//! Reports of an agent that there is not, with names as hostile as the network can make them.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use serde_json::{Value as Json, json};
use sluice::control::ddos::{Blocked, Ddos};
use sluice::control::events::{Kind, Page, Severity};
use sluice::control::page::FlowPage;
use sluice::control::report::{Drops, Feature, Flow, FlowMap, Interface, State, Status, Why};

/// What strangers may call themselves. Markup, quotes, control characters, other directions.
pub const HOSTILE: [&str; 6] = [
    "<img src=x onerror=\"window.hit='name'\">",
    "<script>window.hit='script'</script>",
    "\"><svg onload=window.hit='quote'>",
    "'; window.hit = 'code'; '$(reboot)",
    "red\u{1b}[31m line\nbreak \u{202e}sdrawkcab",
    "&lt;b&gt; %s %d %h \\u003c",
];

fn value(report: impl serde::Serialize) -> Json {
    serde_json::to_value(report).unwrap_or_default()
}

/// A state of things in which every text from outside is hostile.
#[must_use]
pub fn status() -> Json {
    let hostile = |at: usize| HOSTILE[at % HOSTILE.len()].to_owned();
    let feature = |name: &str, state, at| Feature {
        name: format!("{name}{}", hostile(at)),
        state,
        rung: hostile(at + 1),
        reasons: vec![hostile(at + 2)],
    };
    value(Status {
        version: hostile(0),
        uptime_s: 7200,
        state: State::Degraded,
        config_warnings: HOSTILE.map(str::to_owned).to_vec(),
        config_errors: vec![hostile(1)],
        features: vec![
            feature("shield ", State::Degraded, 0),
            feature("fast path ", State::Failed, 2),
            feature("", State::Active, 4),
        ],
        interfaces: vec![Interface {
            name: hostile(0),
            device: hostile(1),
            role: "wan".to_owned(),
            counters: [("xdp_pass".to_owned(), 9000), ("tc_trusted".to_owned(), 8000)].into(),
            rx_bytes: Some(5_000_000),
            tx_bytes: Some(1_000_000),
        }],
        drops: vec![drops("listed", 1_234_567), drops(HOSTILE[0], 12), drops("__proto__", 7)],
        ddos: Ddos {
            blocked: vec![Blocked { entry: hostile(0), reason: hostile(1), left_s: 90 }],
            ..Ddos::default()
        },
        flows: FlowMap { entries: 12, capacity: 8192, ..FlowMap::default() },
        ..Status::default()
    })
}

fn drops(reason: &str, packets: u64) -> Drops {
    Drops {
        place: "xdp".to_owned(),
        reason: reason.to_owned(),
        interface: None,
        packets,
        cpus: Vec::new(),
    }
}

/// A page of connections, of `total`.
#[must_use]
pub fn flows(total: u16, offset: u16, limit: u16) -> Json {
    let last = total.min(offset.saturating_add(limit));
    let flows = (offset..last).map(flow).collect();
    value(FlowPage { total: total.into(), offset: offset.into(), flows })
}

fn flow(number: u16) -> Flow {
    let name = HOSTILE[usize::from(number) % HOSTILE.len()];
    let flow = json!({
        "src": IpAddr::from(Ipv4Addr::new(192, 168, 77, 10)),
        "sport": 40_000 + number,
        "dst": IpAddr::from(Ipv4Addr::new(203, 0, 113, (number % 250) as u8)),
        "dport": 443, "transport": "tcp",
        "verdict": if number.is_multiple_of(3) { "blocked" } else { "trusted" },
        "reason": name, "rule": name, "entry": name, "name": name, "name_source": name,
        "protocol": name, "ja4": name, "observed": name, "device_name": name,
        "inspected_packets": 3, "original_packets": 5, "original_bytes": 500, "reply_packets": 7,
        "reply_bytes": 70_000, "age_s": number, "idle_s": 1,
    });
    serde_json::from_value(flow).unwrap_or_else(|error| unreachable!("{error}"))
}

/// Devices, each called as hostile as can be.
#[must_use]
pub fn devices(total: u16) -> Json {
    let device = |number: u16| {
        let name = HOSTILE[usize::from(number) % HOSTILE.len()];
        json!({
            "mac": format!("02:00:00:00:{:02x}:{:02x}", number >> 8, number & 255), "random": true,
            "name": name, "name_source": name, "groups": [name], "interface": name,
            "addresses": [name, "192.168.77.10"], "last_s_ago": number, "up_packets": 1,
            "up_bytes": 1000, "down_packets": 2, "down_bytes": 2_000_000, "up_bps": 1000,
            "down_bps": 1_234_567,
            "rules": [{"name": name, "action": name, "left_s": 90}, {"name": name, "action": "limit", "kbit": 1500}],
        })
    };
    let devices: Vec<Json> = (0..total.min(100)).map(device).collect();
    json!({"total": total, "offset": 0, "interval_ms": 5002, "blind": [HOSTILE[0]], "left_out": 0, "devices": devices})
}

/// Events about names as hostile as names can be.
#[must_use]
pub fn events() -> Json {
    let event = |(at, name): (usize, &&str)| {
        json!({
            "type": Kind::ALL[at % Kind::ALL.len()].name(), "severity": Severity::ALL[at % 4].name(),
            "what": name, "time": 1_700_000_000.5, "s_ago": at, "id": HOSTILE.len() - at,
            "archived": false, "name": name, "lists": [name, name], "by": name, "dport": 443,
        })
    };
    let events: Vec<Json> = HOSTILE.iter().enumerate().map(event).collect();
    let strange = json!({
        "type": HOSTILE[0], "severity": HOSTILE[1], "what": HOSTILE[2], "time": null, "s_ago": 9,
        "id": 100, "archived": false, HOSTILE[3]: {"x": HOSTILE[0]},
    });
    let events = [events, vec![strange]].concat();
    value(Page {
        total: events.len() as u64,
        offset: 0,
        open: BTreeMap::new(),
        muted: vec![HOSTILE[0].to_owned()],
        events,
    })
}

/// Why something is blocked, in words of others.
#[must_use]
pub fn why() -> Json {
    let cause = json!({
        "hook": "inspect", "action": HOSTILE[1], "by": HOSTILE[0], "entry": HOSTILE[2], "packets": 3,
    });
    let causes = serde_json::from_value(cause).into_iter().collect();
    let device_name = Some(HOSTILE[1].to_owned());
    value(Why { subject: HOSTILE[0].to_owned(), device_name, causes, flows: Vec::new() })
}

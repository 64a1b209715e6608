//! Text from the network through every sink: it stays text.

use serde_json::{Map, Value, json};

use super::{devices, events, show, signatures};
use crate::control::events::{Event, Kind, Severity};
use crate::control::metrics::metrics;
use crate::control::report::{Flow, Status, Why};
use crate::control::signatures::Alert;
use crate::text::{environment, plain, plain_json};
use crate::ubus::blobmsg::{Members, Writer};

/// Markup, another line, a terminal, a shell, another field, an end, another direction, and what was no
/// UTF-8.
const HOSTILE: [&str; 12] = [
    "<img src=x onerror=alert(1)>",
    "a\nerror: forged line",
    "a\r\n\r\nb",
    "\u{1b}[2J\u{1b}]0;title\u{7}",
    "\u{9b}31m\u{90}q\u{9c}",
    "\";reboot;\"",
    "'; config rule 'x'\n\toption action 'allow",
    "$(reboot)`reboot`&&|",
    "a\0b",
    "moc.\u{202e}elpmaxe\u{2066}\u{200b}\u{feff}",
    "{a=\"b\"} 1\\",
    "\u{fffd}\u{2028}\u{7f}",
];

/// Whether a terminal, a log or a reader of lines would do something else than show it.
fn acts(text: &str) -> bool {
    let is_format = |c: char| matches!(c, '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}');
    text.chars().any(|c| c != '\n' && c.is_control() || is_format(c))
}

fn flow(name: &str) -> Flow {
    let mut flow = json!({
        "src": "192.168.1.9", "sport": 40000, "dst": "203.0.113.5", "dport": 443,
        "transport": "tcp", "verdict": "blocked", "reason": "domain_list",
        "inspected_packets": 4, "original_packets": 0, "original_bytes": 0, "reply_packets": 0,
        "reply_bytes": 0, "age_s": 0, "idle_s": 0, "alpn": [name],
    });
    let names = [
        "name",
        "sni",
        "host",
        "rule",
        "list",
        "entry",
        "observed",
        "app",
        "protocol",
        "ja4",
        "name_source",
        "confidence",
        "ja3",
        "ja3s",
        "certificate",
        "device_name",
    ];
    for field in names {
        flow[field] = name.into();
    }
    serde_json::from_value(flow).unwrap()
}

fn alert(name: &str) -> Alert {
    serde_json::from_value(json!({
        "src": "192.168.1.9", "sport": 40000, "dst": "203.0.113.5", "dport": 80,
        "transport": "tcp", "s_ago": 0, "ruleset": name, "gid": 1, "sid": 7, "rev": 2,
        "action": name, "blocked": false, "msg": name, "device_name": name,
    }))
    .unwrap()
}

/// Devices whose every text is `name`.
fn devices_called(name: &str) -> Value {
    let device = json!({
        "mac": name, "name": name, "addresses": [name], "groups": [name], "interface": name,
        "rules": [{"name": name, "action": name, "kbit": 1, "left_s": 1}],
    });
    json!({"total": 1, "offset": 0, "blind": [name], "devices": [device]})
}

/// A status in which every text is `name`, made from one that has something of everything.
fn status(name: &str) -> Status {
    let mut status = serde_json::to_value(Status::default()).unwrap();
    let feature = json!({"name": name, "state": "degraded", "rung": name, "reasons": [name]});
    let list = json!({"name": name, "entries": 1, "packets": 1, "bytes": 1, "flows": 1});
    let domains = json!({"name": name, "names": 1, "flows": 1});
    let drops = json!({"place": name, "reason": name, "interface": name, "packets": 1});
    let interface = json!({"name": name, "device": name, "role": name, "counters": {(name): 1}});
    for (field, value) in [
        ("version", name.into()),
        ("config_file", name.into()),
        ("config_errors", json!([name])),
        ("config_warnings", json!([name])),
        ("features", json!([feature])),
        ("lists", json!([list])),
        ("domain_lists", json!([domains])),
        ("drops", json!([drops])),
        ("interfaces", json!([interface])),
    ] {
        status[field] = value;
    }
    status["netfilter"]["backend"] = name.into();
    status["netfilter"]["counters"] = json!({(name): 1});
    status["queue"]["engine"] = json!({(name): 1});
    status["queue"]["kernel"] = json!({(name): 1});
    status["events"]["kinds"] = json!({(name): 1});
    let ruleset = json!({
        "name": name, "enforce": true, "rules": 1, "unsupported": 0, "wrong": 0,
        "keywords": {(name): 1}, "left_out": [name], "kib": 1, "packets": 0, "compared": 0,
        "cut": 0, "alerts": 1, "blocked": 0,
    });
    status["signatures"]["rulesets"] = json!([ruleset]);
    serde_json::from_value(status).unwrap()
}

/// Whether every line is a comment or one sample: a name, labels whose values end where they should, a
/// number.
fn is_exposition(text: &str) -> bool {
    text.lines().all(|line| {
        let Some((series, number)) = line.rsplit_once(' ') else { return false };
        let Some((name, labels)) = series.split_once('{') else {
            return line.starts_with('#') || number.parse::<f64>().is_ok();
        };
        let is_name = name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
        let mut rest = labels;
        loop {
            let Some((label, value)) = rest.split_once("=\"") else { return false };
            let mut is_escaped = false;
            let end = value.bytes().position(|b| {
                let is_end = b == b'"' && !is_escaped;
                is_escaped = b == b'\\' && !is_escaped;
                is_end
            });
            let Some(end) = end else { return false };
            if !label.bytes().all(|b| b.is_ascii_lowercase()) {
                return false;
            }
            match &value[end + 1..] {
                "}" => return is_name && number.parse::<f64>().is_ok(),
                more => rest = more.strip_prefix(',').unwrap_or("no label"),
            }
        }
    })
}

/// R195: each hostile text through each sink.
#[test]
fn hostile_text_is_text_in_every_sink() {
    let calm = "calm";
    let tables = |name: &str| {
        let why = Why {
            subject: name.to_owned(),
            device_name: Some(name.to_owned()),
            causes: Vec::new(),
            flows: vec![flow(name)],
        };
        let status = status(name);
        [
            show::flows(&[flow(name)]),
            show::why(&why),
            signatures::alerts(&[alert(name)]),
            devices::show(&devices_called(name)),
            show::status(&status),
            show::features(&status.features),
        ]
    };
    let expected: Vec<usize> = tables(calm).iter().map(|text| text.lines().count()).collect();
    let samples = metrics(&status(calm)).lines().count();
    for name in HOSTILE {
        for (text, lines) in tables(name).iter().zip(&expected) {
            assert!(!acts(text), "{text:?}");
            assert_eq!(text.lines().count(), *lines, "{name:?} makes lines: {text}");
        }
        // The log escapes a line as a whole.
        let line = plain(name);
        assert!(!acts(&line) && !line.contains('\n'), "{line:?}");
        // JSON means the same, and is quiet on a terminal.
        let event = Event::new(Kind::Alert, Severity::Warning, name.to_owned()).with("msg", name);
        let event = Value::Object(event.object(None));
        let line = events::line(&event);
        assert!(!acts(&line) && line.lines().count() == 1, "{line:?}");
        assert_eq!(serde_json::from_str::<Value>(&line).unwrap(), event);
        let pretty = serde_json::to_string_pretty(&flow(name)).unwrap();
        let shown = plain_json(&pretty);
        assert!(!acts(&shown), "{shown:?}");
        assert_eq!(serde_json::from_str::<Flow>(&shown).unwrap(), flow(name));
        // Figures: one sample a line, whatever the name is.
        let figures = metrics(&status(name));
        assert!(is_exposition(&figures), "{figures}");
        assert_eq!(figures.lines().count(), samples, "{figures}");
        assert!(!acts(&figures), "{figures:?}");
        // The environment: no end of the value before its end.
        let value = environment(name);
        assert!(!acts(&value) && !value.contains(['\0', '\n']), "{value:?}");
        // The bus: a value of its type; a text ends at the first zero byte, so it has none.
        let mut writer = Writer::default();
        let members: Map<String, Value> =
            json!({"name": name, "after": 7}).as_object().unwrap().clone();
        crate::ubus::json::write_all(&mut writer, &members);
        let read = Members::new(writer.bytes());
        assert_eq!(read.text("name"), Some(&*name.replace('\0', "")));
        assert_eq!(read.number("after"), Some(7));
    }
    assert!(environment(&"x".repeat(5000)).len() <= 1024);
}

//! `config/events.md`, and whether events are as it says.

use std::collections::BTreeSet;

use serde_json::Value;

/// A field as `config/events.md` has it.
pub(crate) struct Documented {
    pub(crate) event: String,
    pub(crate) field: String,
    kind: String,
}

pub(crate) fn documented() -> Vec<Documented> {
    let text = include_str!("../../../../config/events.md");
    let mut event = String::new();
    let mut fields = Vec::new();
    for line in text.lines() {
        if let Some(name) = line.strip_prefix("## ") {
            name.clone_into(&mut event);
        } else if let Some((field, rest)) =
            line.strip_prefix("| `").and_then(|rest| rest.split_once("` | "))
        {
            let [kind, example, _] =
                rest.splitn(3, " | ").collect::<Vec<_>>().try_into().expect(line);
            let example = serde_json::from_str(example.trim_matches('`')).expect(line);
            assert!(fits(&example, kind), "the example of {event}.{field}");
            fields.push(Documented {
                event: event.clone(),
                field: field.into(),
                kind: kind.into(),
            });
        }
    }
    fields
}

fn fits(value: &Value, kind: &str) -> bool {
    let (kind, may_be_null) = match kind.strip_suffix(" or null") {
        Some(kind) => (kind, true),
        None => (kind.split(", ").next().unwrap(), false),
    };
    match kind {
        _ if value.is_null() => may_be_null,
        "string" => value.is_string(),
        "number" => value.is_number(),
        "flag" => value.is_boolean(),
        "list" => value.is_array(),
        "list of numbers" => value.as_array().is_some_and(|list| list.iter().all(Value::is_number)),
        "list of strings" => value.as_array().is_some_and(|list| list.iter().all(Value::is_string)),
        _ => panic!("no type: {kind}"),
    }
}

/// Every field of a line, those of lists of objects too.
fn fields(line: &Value) -> Vec<(String, Value)> {
    let mut all = Vec::new();
    for (name, value) in line.as_object().unwrap() {
        all.push((name.clone(), value.clone()));
        for item in value.as_array().into_iter().flatten().filter_map(Value::as_object) {
            all.extend(
                item.iter().map(|(inner, value)| (format!("{name}[].{inner}"), value.clone())),
            );
        }
    }
    all
}

/// Types of events that are about no packet.
const NO_PACKET: [&str; 4] = ["attack", "list", "health", "contact"];

impl Documented {
    /// Whether this is a field of events of the type `event`.
    fn is_of(&self, event: &str, is_live: bool) -> bool {
        match self.event.as_str() {
            "every event" => true,
            "every event of a packet or flow" => !NO_PACKET.contains(&event),
            "every event of the agent" => is_live,
            own => own == event && (is_live || !self.kind.ends_with(", live")),
        }
    }

    /// Whether it may be missing.
    fn is_optional(&self) -> bool {
        self.field.contains("[]") || self.kind.contains(", ")
    }
}

/// Checks that an event, of the agent or of a capture, has the fields of the document; those that it
/// has go to `printed`.
pub(crate) fn check(
    documented: &[Documented],
    event: &Value,
    is_live: bool,
    printed: &mut BTreeSet<(String, String)>,
) {
    let kind = event["type"].as_str().unwrap();
    for (field, value) in fields(event) {
        let row = documented.iter().find(|row| row.field == field && row.is_of(kind, is_live));
        let row = row.unwrap_or_else(|| panic!("{kind}.{field} is not in events.md"));
        assert!(fits(&value, &row.kind), "{kind}.{field}: {value} is no {}", row.kind);
        printed.insert((row.event.clone(), field));
    }
    let missing = documented.iter().find(|row| {
        row.is_of(kind, is_live) && !row.is_optional() && event.get(&row.field).is_none()
    });
    assert!(missing.is_none(), "{kind} without {}", missing.unwrap().field);
}

/// Checks that every field is printed of which `is_meant` says that it can be.
pub(crate) fn check_all(
    documented: &[Documented],
    printed: &BTreeSet<(String, String)>,
    is_meant: impl Fn(&Documented) -> bool,
) {
    for row in documented.iter().filter(|row| is_meant(row)) {
        let field = (row.event.clone(), row.field.clone());
        assert!(printed.contains(&field), "{} of {} is never printed", row.field, row.event);
    }
}

impl Documented {
    /// Whether the agent tells it.
    pub(crate) fn is_of_the_agent(&self) -> bool {
        let own = [&NO_PACKET[..], &["every event of the agent"]].concat();
        own.contains(&&*self.event) || self.kind.ends_with(", live")
    }

    /// Whether captures have it.
    pub(crate) fn is_replayed(&self) -> bool {
        let own = self.event != "every event of the agent" && !NO_PACKET.contains(&&*self.event);
        own && !self.kind.ends_with(", live")
    }
}

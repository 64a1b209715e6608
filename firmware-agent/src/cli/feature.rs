//! Commands about features. Answers are shown as they come: what is in them is described in
//! [`control::feature`](crate::control::feature).

use std::fmt::Write as _;

use serde_json::Value;

use super::table::Table;
use super::texts;
use crate::text::plain;

pub(super) const HELP: [(&str, &str); 3] = [
    (
        "features",
        "usage: sluice [--socket PATH] [--json] features\n\nWhat can be switched on and off: what the configuration says, how it fares and why, what it needs.\n",
    ),
    (
        "enable",
        "usage: sluice [--socket PATH] [--json] enable FEATURE\n\nSwitches a feature on, and what it needs: written into the configuration, in force at once. Needs root.\n",
    ),
    (
        "disable",
        "usage: sluice [--socket PATH] [--json] disable FEATURE [--force]\n\nSwitches a feature off. While others need it that is refused; with --force they are switched off with it. Needs root.\n",
    ),
];

fn text<'a>(of: &'a Value, name: &str) -> &'a str {
    of[name].as_str().unwrap_or_default()
}

/// `features`.
pub(super) fn features(all: &Value) -> String {
    let rows = all["features"].as_array().map(Vec::as_slice).unwrap_or_default();
    let mut table = Table::new(&["feature", "wanted", "state", "needs", "what it does"]);
    for row in rows {
        let needs = texts(row, "needs").join(", ");
        let needs = if needs.is_empty() { "-" } else { &needs };
        let [name, wanted, state, about] =
            ["name", "wanted", "state", "about"].map(|name| text(row, name));
        table.row([name, wanted, state, needs, about]);
    }
    let mut shown = table.to_string();
    for row in rows {
        let reasons = texts(row, "reasons");
        if !reasons.is_empty() {
            let _ = writeln!(shown, "\n{}:", plain(text(row, "name")));
            for reason in reasons {
                let _ = writeln!(shown, "  {}", plain(reason));
            }
        }
    }
    shown
}

/// What was switched.
pub(super) fn switched(of: &Value) -> String {
    let on = of["on"] == true;
    let (word, feature) = (if on { "on" } else { "off" }, plain(text(of, "feature")));
    let changed = texts(of, "changed");
    let mut shown = String::new();
    for name in &changed {
        let why = match (*name == feature, on) {
            (true, _) => String::new(),
            (false, true) => format!(": {feature} needs it"),
            (false, false) => format!(": it needs {feature}"),
        };
        let _ = writeln!(shown, "{} is {word}{why}", plain(name));
    }
    if !changed.contains(&&*feature) {
        let _ = writeln!(shown, "{feature} is {word} already");
    }
    for line in texts(of, "written") {
        let _ = writeln!(shown, "  {}", plain(line));
    }
    shown
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_was_switched_is_told_with_its_reason() {
        let answer = json!({"feature": "rules", "on": true, "changed": ["inspection", "rules"],
            "written": ["lan.inspect='1' (was '0')"]});
        assert_eq!(
            switched(&answer),
            "inspection is on: rules needs it\nrules is on\n  lan.inspect='1' (was '0')\n"
        );
        let answer = json!({"feature": "shield", "on": false, "changed": ["spread"]});
        assert_eq!(switched(&answer), "spread is off: it needs shield\nshield is off already\n");
    }

    #[test]
    fn features_are_a_table_with_reasons_below() {
        let row = json!({"name": "limits", "wanted": "on", "state": "failed", "about": "holds",
            "needs": ["fast_path"], "reasons": ["needs fast_path\u{1b}"]});
        let shown = features(&json!({"features": [row]}));
        assert!(shown.contains("limits   on      failed  fast_path  holds\n"), "{shown}");
        assert!(shown.ends_with("\nlimits:\n  needs fast_path\\u{1b}\n"), "{shown}");
    }
}

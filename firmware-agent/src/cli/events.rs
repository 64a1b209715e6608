//! Which events are shown.

use serde_json::Value;

use crate::control::events::{Kind, Severity};
use crate::text::pattern::Pattern;
use crate::text::{plain, plain_json};

/// What an event has to be.
#[derive(Debug, Default, Eq, PartialEq)]
pub(super) struct Filter {
    severity: Option<Severity>,
    kinds: Vec<&'static str>,
    since_s: Option<u64>,
    grep: Option<Pattern>,
}

impl Filter {
    /// At least this severe.
    pub(super) fn severity(&mut self, name: &str) -> Result<(), String> {
        let severity =
            Severity::from_name(name).ok_or_else(|| unknown(name, "severity", &Severity::NAMES))?;
        self.severity = Some(severity);
        Ok(())
    }

    /// One of these types.
    pub(super) fn kinds(&mut self, names: &str) -> Result<(), String> {
        for name in names.split(',') {
            let known = Kind::NAMES.iter().find(|known| **known == name);
            self.kinds.push(known.ok_or_else(|| unknown(name, "type", &Kind::NAMES))?);
        }
        Ok(())
    }

    /// Not older than this.
    pub(super) fn since(&mut self, text: &str) -> Result<(), String> {
        self.since_s =
            Some(seconds(text).ok_or_else(|| {
                format!("`{}` is no time: a number and s, m, h or d", plain(text))
            })?);
        Ok(())
    }

    /// With this in its line.
    pub(super) fn grep(&mut self, pattern: &str) -> Result<(), String> {
        self.grep = Some(Pattern::new(pattern)?);
        Ok(())
    }

    /// Whether an event is that.
    pub(super) fn fits(&self, event: &Value) -> bool {
        let text = |name: &str| event[name].as_str().unwrap_or_default();
        self.severity.is_none_or(|least| Severity::from_name(text("severity")) >= Some(least))
            && (self.kinds.is_empty() || self.kinds.contains(&text("type")))
            && self.since_s.is_none_or(|most| event["s_ago"].as_u64().is_some_and(|s| s <= most))
            && self.grep.as_ref().is_none_or(|pattern| pattern.is_in(&json(event)))
    }
}

fn unknown(name: &str, what: &str, known: &[&str]) -> String {
    format!("`{}` is no {what}: {}", plain(name), known.join(", "))
}

/// Seconds of `90`, `90s`, `10m`, `2h`, `1d`.
fn seconds(text: &str) -> Option<u64> {
    let (digits, unit) = match text.char_indices().last()? {
        (_, '0'..='9') => (text, 1),
        (at, 's') => (&text[..at], 1),
        (at, 'm') => (&text[..at], 60),
        (at, 'h') => (&text[..at], 3600),
        (at, 'd') => (&text[..at], 86_400),
        _ => return None,
    };
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    digits.parse::<u64>().ok().filter(|_| is_number)?.checked_mul(unit)
}

fn json(event: &Value) -> String {
    // A value can always be written.
    serde_json::to_string(event).unwrap_or_default()
}

/// An event as it is printed.
pub(super) fn line(event: &Value) -> String {
    plain_json(&json(event)).into_owned() + "\n"
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// R114: by severity, type, time and pattern.
    #[test]
    fn events_are_chosen_by_each_filter_and_by_all_together() {
        let events = [
            json!({"type": "alert", "severity": "warning", "s_ago": 5, "msg": "odd"}),
            json!({"type": "verdict", "severity": "info", "s_ago": 100, "name": "ads.test"}),
            json!({"type": "health", "severity": "error", "s_ago": 4000, "what": "ads"}),
        ];
        let chosen = |make: &dyn Fn(&mut Filter) -> Result<(), String>| -> Vec<usize> {
            let mut filter = Filter::default();
            make(&mut filter).unwrap();
            (0..events.len()).filter(|at| filter.fits(&events[*at])).collect()
        };
        assert_eq!(chosen(&|_| Ok(())), [0, 1, 2]);
        assert_eq!(chosen(&|filter| filter.severity("warning")), [0, 2]);
        assert_eq!(chosen(&|filter| filter.severity("error")), [2]);
        assert_eq!(chosen(&|filter| filter.kinds("alert,verdict")), [0, 1]);
        assert_eq!(chosen(&|filter| filter.since("100")), [0, 1]);
        assert_eq!(chosen(&|filter| filter.since("99s")), [0]);
        assert_eq!(chosen(&|filter| filter.since("2h")), [0, 1, 2]);
        assert_eq!(chosen(&|filter| filter.grep("ads\\.test|odd")), [0, 1]);
        assert_eq!(
            chosen(&|filter| {
                filter.severity("notice")?;
                filter.since("1d")?;
                filter.kinds("health")?;
                filter.grep("\"what\":\"ads\"")
            }),
            [2]
        );
    }

    #[test]
    fn times_have_a_unit_or_are_seconds() {
        for (text, expected) in [
            ("90", Some(90)),
            ("90s", Some(90)),
            ("10m", Some(600)),
            ("2h", Some(7200)),
            ("1d", Some(86_400)),
            ("", None),
            ("m", None),
            ("-1s", None),
            ("1.5h", None),
            ("1w", None),
            ("99999999999999999999d", None),
            ("1\u{fc}", None),
        ] {
            assert_eq!(seconds(text), expected, "{text}");
        }
    }

    #[test]
    fn a_line_is_the_same_json_without_anything_that_a_terminal_obeys() {
        let name = "a\u{1b}[2J\n\u{9b}31m\u{202e}\u{feff}ü";
        let line = line(&json!({"name": name}));
        assert!(
            line.ends_with("}\n")
                && line.trim_end().chars().all(|c| c.is_ascii_graphic() || c == 'ü'),
            "{line}"
        );
        let read: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(read["name"], name);
    }
}

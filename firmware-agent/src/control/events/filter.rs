//! Which events are shown.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Kind, Severity};
use crate::text::pattern::Pattern;
use crate::text::plain;

/// What an event has to be.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Filter {
    severity: Option<Severity>,
    kinds: Vec<&'static str>,
    since_s: Option<u64>,
    grep: Option<Pattern>,
    part: Option<String>,
    is_archived: Option<bool>,
}

/// What somebody asks of the events that are kept; what is absent is no condition.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Question {
    /// How many of the last ones are left out.
    #[serde(default)]
    pub offset: u32,
    /// How many are told at most.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub limit: Option<u32>,
    /// The least severity.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub severity: Option<String>,
    /// Types, with commas between.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub kinds: Option<String>,
    /// The greatest age: seconds, or a number and s, m, h or d.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub since: Option<String>,
    /// Text that is somewhere in it; ASCII letters of either case.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub part: Option<String>,
    /// 0 for those that are not archived, 1 for those that are.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub archived: Option<u32>,
}

impl TryFrom<&Question> for Filter {
    type Error = String;

    fn try_from(question: &Question) -> Result<Self, String> {
        let mut filter = Self {
            part: question.part.as_ref().map(|part| part.to_ascii_lowercase()),
            is_archived: question.archived.map(|archived| archived != 0),
            ..Self::default()
        };
        let set = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
        if let Some(name) = set(&question.severity) {
            filter.severity(&name)?;
        }
        if let Some(names) = set(&question.kinds) {
            filter.kinds(&names)?;
        }
        if let Some(text) = set(&question.since) {
            filter.since(&text)?;
        }
        Ok(filter)
    }
}

impl Filter {
    /// At least this severe.
    pub fn severity(&mut self, name: &str) -> Result<(), String> {
        let severity =
            Severity::from_name(name).ok_or_else(|| unknown(name, "severity", &Severity::NAMES))?;
        self.severity = Some(severity);
        Ok(())
    }

    /// One of these types.
    pub fn kinds(&mut self, names: &str) -> Result<(), String> {
        for name in names.split(',') {
            self.kinds.push(kind(name)?.name());
        }
        Ok(())
    }

    /// Not older than this.
    pub fn since(&mut self, text: &str) -> Result<(), String> {
        self.since_s =
            Some(seconds(text).ok_or_else(|| {
                format!("`{}` is no time: a number and s, m, h or d", plain(text))
            })?);
        Ok(())
    }

    /// With this in its line.
    pub fn grep(&mut self, pattern: &str) -> Result<(), String> {
        self.grep = Some(Pattern::new(pattern)?);
        Ok(())
    }

    /// Whether an event is that.
    #[must_use]
    pub fn fits(&self, event: &Value) -> bool {
        let text = |name: &str| event[name].as_str().unwrap_or_default();
        self.severity.is_none_or(|least| Severity::from_name(text("severity")) >= Some(least))
            && (self.kinds.is_empty() || self.kinds.contains(&text("type")))
            && self.since_s.is_none_or(|most| event["s_ago"].as_u64().is_some_and(|s| s <= most))
            && self.is_archived.is_none_or(|is| event["archived"].as_bool() == Some(is))
            && self.part.as_ref().is_none_or(|part| json(event).to_ascii_lowercase().contains(part))
            && self.grep.as_ref().is_none_or(|pattern| pattern.is_in(&json(event)))
    }
}

/// The type with this name.
pub fn kind(name: &str) -> Result<Kind, String> {
    let found = Kind::ALL.into_iter().find(|kind| kind.name() == name);
    found.ok_or_else(|| unknown(name, "type", &Kind::NAMES))
}

fn unknown(name: &str, what: &str, known: &[&str]) -> String {
    format!("`{}` is no {what}: {}", plain(name), known.join(", "))
}

/// Seconds of a number alone, or with a unit.
fn seconds(text: &str) -> Option<u64> {
    if text.ends_with(|last: char| last.is_ascii_digit()) {
        return text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?;
    }
    crate::text::seconds(text)
}

fn json(event: &Value) -> String {
    // A value can always be written.
    serde_json::to_string(event).unwrap_or_default()
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

    /// R151: a question on the bus has the same conditions.
    #[test]
    fn a_question_is_read_or_refused_with_the_reason() {
        let event = json!({"type": "alert", "severity": "warning", "s_ago": 5, "msg": "Odd", "archived": true});
        let ask = |question: Value| {
            let question: Question = serde_json::from_value(question).unwrap();
            Filter::try_from(&question).map(|filter| filter.fits(&event))
        };
        for (question, expected) in [
            (json!({}), true),
            (json!({"severity": "", "kinds": "", "since": ""}), true),
            (
                json!({"severity": "warning", "kinds": "list,alert", "since": "5", "part": "oDD", "archived": 1}),
                true,
            ),
            (json!({"severity": "error"}), false),
            (json!({"kinds": "list"}), false),
            (json!({"since": "4s"}), false),
            (json!({"part": "even"}), false),
            (json!({"archived": 0}), false),
        ] {
            assert_eq!(ask(question.clone()), Ok(expected), "{question}");
        }
        for question in [json!({"severity": "x"}), json!({"kinds": "x"}), json!({"since": "x"})] {
            assert!(ask(question).unwrap_err().contains("`x` is no "));
        }
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
}

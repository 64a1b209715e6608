//! Rulesets and their alerts as text for people.

use std::fmt::Write as _;

use super::show::{ago, tuple};
use super::table::Table;
use crate::control::signatures::{Alert, Signatures};
use crate::text::plain;

/// Keywords that `status` shows; `--json` has all of them.
const KEYWORDS_SHOWN: usize = 8;

/// The part of `status` about rulesets.
#[must_use]
pub(super) fn rulesets(signatures: &Signatures) -> String {
    let mut text = String::new();
    if signatures.rulesets.is_empty() {
        return text;
    }
    let mut table =
        Table::new(&["ruleset", "enforce", "rules", "unsupported", "wrong", "alerts", "blocked"]);
    for one in &signatures.rulesets {
        table.row([
            one.name.clone(),
            if one.enforce { "yes" } else { "no" }.to_owned(),
            one.rules.to_string(),
            one.unsupported.to_string(),
            one.wrong.to_string(),
            one.alerts.to_string(),
            one.blocked.to_string(),
        ]);
    }
    let _ = write!(text, "\n{table}");
    for one in &signatures.rulesets {
        if !one.keywords.is_empty() {
            let mut keywords: Vec<_> = one.keywords.iter().collect();
            keywords.sort_by_key(|(_, rules)| std::cmp::Reverse(**rules));
            let shown = keywords.iter().take(KEYWORDS_SHOWN);
            let shown: Vec<_> = shown.map(|(word, rules)| format!("{word} {rules}")).collect();
            let _ = writeln!(
                text,
                "{} is without rules for: {}",
                plain(&one.name),
                plain(&shown.join(", "))
            );
        }
        for line in &one.left_out {
            let _ = writeln!(text, "  {}", plain(line));
        }
    }
    let _ = writeln!(
        text,
        "rulesets take {} KiB of {} KiB, loaded in {} ms",
        signatures.kib, signatures.cap_kib, signatures.load_ms
    );
    text
}

/// `alerts`.
#[must_use]
pub(super) fn alerts(alerts: &[Alert]) -> String {
    if alerts.is_empty() {
        return "no alerts\n".to_owned();
    }
    let mut table = Table::new(&["when", "rule", "message", "action", "flow", "device"]);
    for alert in alerts {
        table.row([
            ago(Some(alert.s_ago)),
            format!("{}:{}", alert.ruleset, alert.sid),
            alert.msg.clone(),
            if alert.blocked { "blocked".to_owned() } else { alert.action.clone() },
            format!("{} {}", alert.transport, tuple(&alert.tuple)),
            alert.device_name.clone().unwrap_or_default(),
        ]);
    }
    table.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::report::Tuple;

    #[test]
    fn a_hostile_message_stays_on_its_line() {
        let [src, dst] = [[192, 0, 2, 1].into(), [192, 0, 2, 2].into()];
        let shown = alerts(&[Alert {
            s_ago: 3,
            ruleset: "feed".to_owned(),
            gid: 1,
            sid: 7,
            rev: 1,
            action: "drop".to_owned(),
            blocked: true,
            msg: "a\x1b[2J\nb".to_owned(),
            transport: "tcp".to_owned(),
            tuple: Tuple { src, sport: 1, dst, dport: 80 },
            device_name: Some("pho\x1bne".to_owned()),
        }]);
        assert_eq!(shown.lines().count(), 2, "{shown}");
        assert!(shown.contains("feed:7") && shown.contains("a\\u{1b}[2J\\u{a}b"), "{shown}");
    }
}

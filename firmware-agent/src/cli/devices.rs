//! `devices`: who is in the household, and what they carry just now.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use super::show::{ago, duration};
use super::table::Table;
use crate::control::Request;
use crate::control::client::{AskError, ask};
use crate::control::page::{self, Part};
use crate::text::plain;

/// Time between two questions where nobody has asked lately: rates need two readings.
const PAUSE: Duration = Duration::from_millis(1500);
/// Most characters of a name in the table, so that a row fits a terminal.
const NAME_MAX: usize = 16;

/// Asks, and once more where the first answer has no rates.
pub(super) fn devices(socket: &Path) -> Result<Value, AskError> {
    let request = Request::Devices(Part { offset: 0, limit: Some(page::MAX) });
    let first: Value = ask(socket, &request)?;
    if !first["interval_ms"].is_null() {
        return Ok(first);
    }
    #[expect(clippy::disallowed_methods, reason = "a command has no executor")]
    std::thread::sleep(PAUSE);
    ask(socket, &request)
}

/// The answer, for people.
pub(super) fn show(answer: &Value) -> String {
    let devices = answer["devices"].as_array().map(Vec::as_slice).unwrap_or_default();
    if devices.is_empty() {
        return "no device was seen\n".to_owned();
    }
    let mut table = Table::new(&["name", "device", "address", "down", "up", "seen"]);
    let mut below = String::new();
    for device in devices {
        let text = |name: &str| device[name].as_str().unwrap_or_default();
        let addresses = super::texts(device, "addresses");
        let four = addresses.iter().find(|address| !address.contains(':'));
        // Those of IPv6 are as wide as half a row; all of them are in the JSON.
        let address = four.copied().unwrap_or(if addresses.is_empty() { "-" } else { "IPv6" });
        table.row([
            &short(text("name")),
            text("mac"),
            address,
            &rate(&device["down_bps"]),
            &rate(&device["up_bps"]),
            &ago(device["last_s_ago"].as_u64()),
        ]);
        for rule in device["rules"].as_array().into_iter().flatten() {
            let who = if text("name").is_empty() { text("mac") } else { text("name") };
            let action = rule["action"].as_str().unwrap_or_default();
            let _ = write!(below, "{}: {} by rule ", plain(who), plain(action));
            below.push_str(&plain(rule["name"].as_str().unwrap_or_default()));
            if let Some(kbit) = rule["kbit"].as_u64() {
                let _ = write!(below, ", {kbit} kbit/s");
            }
            if let Some(left_s) = rule["left_s"].as_u64() {
                let _ = write!(below, ", {} left", duration(left_s));
            }
            below.push('\n');
        }
    }
    let mut text = table.to_string();
    if !below.is_empty() {
        let _ = write!(text, "\n{below}");
    }
    let _ = match answer["interval_ms"].as_u64() {
        Some(ms) => {
            writeln!(text, "\nbits a second, over the last {}.{} s", ms / 1000, ms / 100 % 10)
        }
        None => writeln!(text, "\nrates are not known yet"),
    };
    for blind in super::texts(answer, "blind") {
        let _ = writeln!(text, "{}", plain(blind));
    }
    text
}

fn short(name: &str) -> String {
    if name.chars().count() <= NAME_MAX {
        return name.to_owned();
    }
    let mut text: String = name.chars().take(NAME_MAX - 1).collect();
    text.push('…');
    text
}

/// Bits a second in three digits and a unit.
fn rate(bps: &Value) -> String {
    let Some(bps) = bps.as_u64() else { return "-".to_owned() };
    let (mut tenths, mut units) = (bps.saturating_mul(10), ["", "k", "M", "G", "T"].into_iter());
    let mut unit = units.next().unwrap_or_default();
    while tenths >= 10_000 {
        let Some(next) = units.next() else { break };
        (tenths, unit) = (tenths / 1000, next);
    }
    if unit.is_empty() || tenths >= 1000 {
        format!("{}{unit}", tenths / 10)
    } else {
        format!("{}.{}{unit}", tenths / 10, tenths % 10)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_have_three_digits_and_a_unit() {
        let bps = [0, 7, 999, 1000, 15_360, 999_999, 1_250_000, 940_000_000, 12_000_000_000_u64];
        let shown = bps.map(|bps| rate(&bps.into()));
        assert_eq!(shown, ["0", "7", "999", "1.0k", "15.3k", "999k", "1.2M", "940M", "12.0G"]);
        assert_eq!(rate(&Value::Null), "-");
    }

    /// R183: a row fits a terminal of 80 columns, whatever a device calls itself.
    #[test]
    fn a_row_fits_a_terminal_and_what_is_not_known_is_no_number() {
        let answer = serde_json::json!({"total": 2, "offset": 0, "interval_ms": 1501, "devices": [
            {"mac": "02:00:5e:10:00:01", "name": "a name of more than sixteen characters",
                "addresses": ["2001:db8:1234:5678:9abc:def0:1234:5678", "192.168.100.200"],
                "down_bps": 123_456_789, "up_bps": 999_999, "last_s_ago": 86_399,
                "rules": [{"name": "by_hand_pause", "action": "pause", "left_s": 61},
                    {"name": "slow", "action": "limit", "kbit": 512}]},
            {"mac": "02:00:5e:10:00:02", "addresses": []}]});
        let shown = show(&answer);
        let widest = shown.lines().map(|line| line.chars().count()).max().unwrap();
        assert!(widest <= 80, "{widest}\n{shown}");
        for line in [
            "a name of more …  02:00:5e:10:00:01  192.168.100.200  123M  999k  23h 59m ago",
            "                  02:00:5e:10:00:02  -                -     -     never",
            "a name of more than sixteen characters: pause by rule by_hand_pause, 1m 1s left",
            "a name of more than sixteen characters: limit by rule slow, 512 kbit/s",
            "bits a second, over the last 1.5 s",
        ] {
            assert!(shown.lines().any(|one| one == line), "{line}\n{shown}");
        }
    }
}

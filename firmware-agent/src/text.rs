//! Text for a terminal or a log: what the network sent, numbers, bytes.

pub mod pattern;

use std::borrow::Cow;
use std::fmt::{self, Write as _};

use sluice_datapath::parse::TCP;

/// `text` without anything a terminal would obey: control characters (ESC, newline, C1), and marks
/// that reorder or hide text, become `\u{…}`.
#[must_use]
pub fn plain(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_hostile) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if is_hostile(c) {
            let _ = write!(escaped, "\\u{{{:x}}}", u32::from(c));
        } else {
            escaped.push(c);
        }
    }
    Cow::Owned(escaped)
}

/// `text` line by line as [`plain`] gives it: for messages of our own that have several lines.
#[must_use]
pub fn plain_lines(text: &str) -> String {
    text.lines().map(plain).collect::<Vec<_>>().join("\n")
}

/// `text` for the value of an environment variable: as [`plain`] gives it, which leaves no NUL, and
/// not longer than a program has to expect.
#[must_use]
pub fn environment(text: &str) -> String {
    /// Characters.
    const LEN_MAX: usize = 1024;
    plain(text).chars().take(LEN_MAX).collect()
}

/// JSON as it was written, with what a terminal would obey written as `\u` and digits: it stays the
/// same JSON, since such characters only stand in strings.
#[must_use]
pub fn plain_json(json: &str) -> Cow<'_, str> {
    // Newlines between members are the writer's own; those in strings are escaped already.
    let acts = |c: char| c != '\n' && is_hostile(c);
    if !json.chars().any(acts) {
        return Cow::Borrowed(json);
    }
    let mut escaped = String::with_capacity(json.len() + 16);
    for c in json.chars() {
        if acts(c) {
            for unit in c.encode_utf16(&mut [0; 2]) {
                let _ = write!(escaped, "\\u{unit:04x}");
            }
        } else {
            escaped.push(c);
        }
    }
    Cow::Owned(escaped)
}

/// JSON of one line over several: a member or an element each, two spaces deeper than what it is in.
#[must_use]
pub fn indented_json(json: &str) -> String {
    let mut indented = String::with_capacity(json.len() * 2);
    let (mut depth, mut is_text) = (0, false);
    let mut chars = json.chars().peekable();
    while let Some(c) = chars.next() {
        if !is_text && matches!(c, '}' | ']') {
            depth = usize::saturating_sub(depth, 1);
            indented.push('\n');
            indented.extend(std::iter::repeat_n("  ", depth));
        }
        indented.push(c);
        match c {
            '"' => is_text = !is_text,
            '\\' if is_text => indented.extend(chars.next()),
            ':' if !is_text => indented.push(' '),
            '{' | '[' | ',' if !is_text => {
                if let Some(end) = chars.next_if(|next| matches!(next, '}' | ']')) {
                    indented.push(end);
                    continue;
                }
                depth += usize::from(c != ',');
                indented.push('\n');
                indented.extend(std::iter::repeat_n("  ", depth));
            }
            _ => {}
        }
    }
    indented
}

/// Whether a terminal would obey `c`: control characters, and the format characters of Unicode that change how other text looks.
#[must_use]
pub fn is_hostile(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// The name of the transport of a flow, which is TCP or UDP.
#[must_use]
pub const fn transport(proto: u8) -> &'static str {
    if proto == TCP { "tcp" } else { "udp" }
}

/// A number with separators: `1,002,003`.
#[must_use]
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.char_indices() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Bytes as KiB with separators, rounded up.
#[derive(Clone, Copy, Debug)]
pub struct Kib(pub u64);

impl fmt::Display for Kib {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} KiB", grouped(self.0.div_ceil(1024)))
    }
}

/// Writes each byte as two lower-case digits, with `between` them.
pub fn write_hex(f: &mut fmt::Formatter<'_>, bytes: &[u8], between: &str) -> fmt::Result {
    for (place, byte) in bytes.iter().enumerate() {
        let separator = if place == 0 { "" } else { between };
        write!(f, "{separator}{byte:02x}")?;
    }
    Ok(())
}

/// Seconds of a length of time: a number and its unit, such as `90s`, `15m`, `2h`, `1d`.
pub(crate) fn seconds(text: &str) -> Option<u64> {
    const UNITS: [(char, u64); 4] = [('s', 1), ('m', 60), ('h', 3600), ('d', 86_400)];
    let (digits, unit) =
        UNITS.iter().find_map(|(unit, seconds)| Some((text.strip_suffix(*unit)?, seconds)))?;
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    if is_number { digits.parse::<u64>().ok()?.checked_mul(*unit) } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indented_json_is_what_the_writer_of_json_would_indent() {
        let value = serde_json::json!({
            "empty": [{}, [], ""], "text": "a\"b\\", "marks": "{[:,]}\\\"", "deep": [[{"a": [1, -2.5, null]}], true],
            "": {"b": {"c": "d"}}, "line": "a\nb\u{1b}ü",
        });
        for value in [&value, &value["deep"], &value["empty"][0], &value["text"], &value["deep"][1]]
        {
            let pretty = serde_json::to_string_pretty(value).unwrap();
            assert_eq!(indented_json(&value.to_string()), pretty);
        }
        // What is no JSON is no reason to stop.
        assert_eq!(indented_json("]}\"\\"), "\n]\n}\"\\");
    }

    #[test]
    fn numbers_are_grouped_by_thousands() {
        for (number, text) in [
            (0, "0"),
            (999, "999"),
            (1000, "1,000"),
            (100_007, "100,007"),
            (1_002_003, "1,002,003"),
            (u64::MAX, "18,446,744,073,709,551,615"),
        ] {
            assert_eq!(grouped(number), text);
        }
        assert_eq!(Kib(1).to_string(), "1 KiB");
        assert_eq!(Kib(1_002_003 * 1024).to_string(), "1,002,003 KiB");
    }

    #[test]
    fn nothing_that_a_terminal_obeys_survives() {
        assert_eq!(plain("www.example.com"), "www.example.com");
        assert_eq!(plain("naïve–ü"), "naïve–ü");
        assert_eq!(plain("a\x1b[2Jb"), "a\\u{1b}[2Jb");
        assert_eq!(plain("a\nb\r\t\u{9b}"), "a\\u{a}b\\u{d}\\u{9}\\u{9b}");
        assert_eq!(plain("evil\u{202e}moc"), "evil\\u{202e}moc");
        for c in (0..0x20).chain(0x7f..0xa0).filter_map(char::from_u32) {
            assert!(!plain(&c.to_string()).contains(c));
        }
    }
}

//! Text from the network on its way to a terminal or a log.

use std::borrow::Cow;
use std::fmt::Write as _;

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

/// Control characters, and the format characters of Unicode that change how other text looks.
fn is_hostile(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

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

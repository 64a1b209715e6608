//! Events as they are printed.

use serde_json::Value;

use crate::text::plain_json;

/// An event on a line.
pub(super) fn line(event: &Value) -> String {
    // A value can always be written.
    let json = serde_json::to_string(event).unwrap_or_default();
    plain_json(&json).into_owned() + "\n"
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

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

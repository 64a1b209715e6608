//! The parts of a rule's text.

use super::error::Invalid;

/// Longest rule that is read, with the lines that continue it. The longest published rules have
/// some four thousand bytes.
pub(super) const LINE_MAX: usize = 16 * 1024;

/// A rule's text in parts.
#[derive(Debug, Eq, PartialEq)]
pub(super) struct Line<'a> {
    /// Action, protocol, addresses, port, arrow, addresses, port.
    pub(super) head: [&'a str; 7],
    /// Keywords with what is behind their colon, both without spaces around them.
    pub(super) options: Vec<(&'a str, Option<&'a str>)>,
}

impl<'a> Line<'a> {
    /// Takes a rule apart. Nothing is looked up yet.
    pub(super) fn new(text: &'a str) -> Result<Self, Invalid> {
        const NO_OPTIONS: Invalid = Invalid::Shape("options in parentheses are missing");
        let (head, rest) = text.split_once('(').ok_or(NO_OPTIONS)?;
        let body = rest.trim_end().strip_suffix(')').ok_or(NO_OPTIONS)?;
        Ok(Self { head: head_of(head)?, options: options_of(body)? })
    }

    /// The number of the rule, if it has one that can be read.
    pub(super) fn sid(&self) -> Option<u32> {
        let (_, value) = self.options.iter().find(|(keyword, _)| *keyword == "sid")?;
        super::list::decimal((*value)?)
    }
}

/// The number of a rule that could not be taken apart, for the message about it.
pub(super) fn sid_of(text: &str) -> Option<u32> {
    let (_, rest) = text.rsplit_once("sid:")?;
    let rest = rest.trim_start();
    let end = rest.bytes().position(|byte| !byte.is_ascii_digit()).unwrap_or(rest.len());
    super::list::decimal(rest.get(..end)?)
}

/// Seven words; spaces inside brackets do not end one, nor does the space behind `!`.
fn head_of(text: &str) -> Result<[&str; 7], Invalid> {
    const WRONG: Invalid =
        Invalid::Shape("a rule starts with action, protocol, addresses, port, ->, addresses, port");
    let mut words = [""; 7];
    let mut found = 0;
    let mut rest = text.trim();
    while !rest.is_empty() {
        let mut open = 0_i32;
        let mut is_blank_inside = false;
        let end = rest.bytes().position(|byte| {
            match byte {
                b'[' => open += 1,
                b']' => open -= 1,
                _ => {}
            }
            let is_end = byte.is_ascii_whitespace() && open <= 0 && !is_blank_inside;
            is_blank_inside = byte == b'!' || (is_blank_inside && byte.is_ascii_whitespace());
            is_end
        });
        let (word, tail) = rest.split_at(end.unwrap_or(rest.len()));
        *words.get_mut(found).ok_or(WRONG)? = word;
        found += 1;
        rest = tail.trim_start();
    }
    if found == words.len() { Ok(words) } else { Err(WRONG) }
}

/// Options up to the semicolon that ends each; one behind a backslash ends nothing.
fn options_of(body: &str) -> Result<Vec<(&str, Option<&str>)>, Invalid> {
    let mut options = Vec::new();
    let mut rest = body.trim();
    while !rest.is_empty() {
        let mut is_escaped = false;
        let end = rest.bytes().position(|byte| {
            let is_end = byte == b';' && !is_escaped;
            is_escaped = byte == b'\\' && !is_escaped;
            is_end
        });
        let end = end.ok_or(Invalid::Shape("an option does not end with a semicolon"))?;
        let (option, tail) = rest.split_at(end);
        rest = tail.get(1..).unwrap_or_default().trim_start();
        let (keyword, value) = match option.split_once(':') {
            Some((keyword, value)) => (keyword, Some(value.trim())),
            None => (option, None),
        };
        let keyword = keyword.trim();
        if !is_keyword(keyword) {
            return Err(Invalid::Shape("an option has no keyword"));
        }
        options.push((keyword, value));
    }
    Ok(options)
}

/// What a keyword is made of. Keywords are shown and counted, so nothing else gets through.
fn is_keyword(text: &str) -> bool {
    let is_letter = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
    (1..=48).contains(&text.len()) && text.bytes().all(is_letter)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_is_taken_apart() {
        let line = Line::new(concat!(
            "alert tcp [10.0.0.0/8, !10.0.0.1]  ! 80 ->\t$HOME_NET [80: 82] ",
            r#"(msg:"a (b\; c"; content: "x\"y\\" ; nocase;flow : to_server,established;)"#
        ));
        let line = line.unwrap();
        let head =
            ["alert", "tcp", "[10.0.0.0/8, !10.0.0.1]", "! 80", "->", "$HOME_NET", "[80: 82]"];
        assert_eq!(line.head, head);
        let options = [
            ("msg", Some(r#""a (b\; c""#)),
            ("content", Some(r#""x\"y\\""#)),
            ("nocase", None),
            ("flow", Some("to_server,established")),
        ];
        assert_eq!(line.options, options);
        assert_eq!(line.sid(), None);
    }

    #[test]
    fn a_broken_rule_still_tells_its_number() {
        for text in [
            "alert tcp any any -> any any",
            "alert tcp any any -> any (sid:1;)",
            "alert tcp any any -> any any any (sid:1;)",
            "alert tcp any any -> any any (sid:1)",
            "alert tcp any any -> any any (sid:1;",
            "alert tcp any any -> any any (;)",
            "alert tcp any any -> any any (msg:\"a\\;)",
            "alert tcp any any -> any any (b\u{e4}d; sid:1;)",
            "alert tcp any any -> any any (:\"a\"; sid:1;)",
            "(sid:1;)",
            "(",
            "",
        ] {
            assert!(Line::new(text).is_err(), "{text}");
        }
        assert_eq!(sid_of("alert tcp any (msg:\"sid:7;\"; sid: 12; rev:1;"), Some(12));
        assert_eq!(sid_of("alert sid:"), None);
        assert_eq!(sid_of("alert sid:99999999999;"), None);
    }
}

//! One `content` and its modifiers.

use super::error::{Refusal, option};

/// Longest content that is read. Published rules have some hundred bytes at most.
pub const CONTENT_MAX: usize = 1024;
/// Farthest place that a modifier names: the rule language's own limit.
const PLACE_MAX: i32 = 1 << 20;

/// Bytes to find, and where.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
#[expect(clippy::struct_excessive_bools, reason = "each is one modifier")]
pub struct Content {
    /// What to find; in lower case when `is_nocase`.
    pub bytes: Vec<u8>,
    /// The rule matches when it is not found.
    pub is_negated: bool,
    /// Letters of either case are the same.
    pub is_nocase: bool,
    /// It ends where the buffer ends.
    pub is_at_end: bool,
    /// The rule asks for this one to be looked for first.
    pub is_fast: bool,
    /// It starts here or later.
    pub offset: Option<i32>,
    /// It lies within this many bytes behind `offset`.
    pub depth: Option<i32>,
    /// It starts this far behind the end of the content before it, or later; before it if negative.
    pub distance: Option<i32>,
    /// It lies within this many bytes behind that place.
    pub within: Option<i32>,
}

impl Content {
    /// Reads the value of `content`.
    pub(super) fn new(value: Option<&str>) -> Result<Self, Refusal> {
        let value = value.ok_or(option("content", "a text in quotes is missing"))?;
        let (is_negated, value) = match value.strip_prefix('!') {
            Some(rest) => (true, rest.trim_start()),
            None => (false, value),
        };
        let bytes = unescape(unquote(value).ok_or(option("content", "no text in quotes"))?)?;
        if bytes.is_empty() {
            return Err(option("content", "is empty"));
        }
        if bytes.len() > CONTENT_MAX {
            return Err(option("content", "is longer than 1024 bytes"));
        }
        Ok(Self { bytes, is_negated, ..Self::default() })
    }

    /// Whether its place depends on the content before it.
    #[must_use]
    pub const fn is_relative(&self) -> bool {
        self.distance.is_some() || self.within.is_some()
    }

    /// Applies a modifier; `None` when the keyword is none.
    pub(super) fn modify(
        &mut self,
        keyword: &str,
        value: Option<&str>,
    ) -> Option<Result<(), Refusal>> {
        Some(match (keyword, value) {
            ("nocase", None) => {
                self.bytes.make_ascii_lowercase();
                self.is_nocase = true;
                Ok(())
            }
            ("startswith", None) => {
                let len = i32::try_from(self.bytes.len()).unwrap_or(i32::MAX);
                let is_free = self.offset.is_none() && self.depth.is_none();
                (self.offset, self.depth) = (Some(0), Some(len));
                if is_free { Ok(()) } else { Err(option("startswith", "the place is given twice")) }
            }
            ("endswith", None) => {
                self.is_at_end = true;
                Ok(())
            }
            // How it is found makes no difference to what is found.
            ("fast_pattern", _) => {
                self.is_fast = true;
                Ok(())
            }
            ("rawbytes", None) => Ok(()),
            ("offset", value) => {
                place("offset", value, 0).and_then(|n| once("offset", &mut self.offset, n))
            }
            ("depth", value) => {
                place("depth", value, 1).and_then(|n| once("depth", &mut self.depth, n))
            }
            ("within", value) => {
                place("within", value, 1).and_then(|n| once("within", &mut self.within, n))
            }
            ("distance", value) => place("distance", value, -PLACE_MAX)
                .and_then(|n| once("distance", &mut self.distance, n)),
            ("nocase" | "startswith" | "endswith" | "rawbytes", Some(_)) => {
                Err(option("content", "a modifier has a value that takes none"))
            }
            _ => return None,
        })
    }

    /// Checks the modifiers against each other, when all of them are known.
    pub(super) fn check(&self) -> Result<(), Refusal> {
        let len = i32::try_from(self.bytes.len()).unwrap_or(i32::MAX);
        let is_absolute = self.offset.is_some() || self.depth.is_some();
        if is_absolute && self.is_relative() {
            return Err(option("content", "places from the start and from the content before"));
        }
        if self.depth.is_some_and(|depth| depth < len) {
            return Err(option("depth", "is less than the content has"));
        }
        if self.within.is_some_and(|within| within < len) {
            return Err(option("within", "is less than the content has"));
        }
        Ok(())
    }
}

const fn once(keyword: &'static str, place: &mut Option<i32>, value: i32) -> Result<(), Refusal> {
    if place.replace(value).is_some() {
        return Err(option(keyword, "is given twice for one content"));
    }
    Ok(())
}

fn place(keyword: &'static str, value: Option<&str>, least: i32) -> Result<i32, Refusal> {
    let value = value.unwrap_or_default();
    let (sign, digits) = value.strip_prefix('-').map_or((1, value), |digits| (-1, digits));
    // A name stands for a number that another keyword reads from the packet.
    if digits.starts_with(|c: char| c.is_ascii_alphabetic()) {
        return Err(Refusal::unsupported(format!("{keyword}:name")));
    }
    let number = super::list::decimal::<i32>(digits).map(|number| sign * number);
    let number = number.filter(|number| (least..=PLACE_MAX).contains(number));
    number.ok_or(option(keyword, "no number in its range"))
}

/// What is between quotes.
pub(super) fn unquote(text: &str) -> Option<&str> {
    text.strip_prefix('"')?.strip_suffix('"')
}

/// The bytes that a text means: `\` before quotes, semicolons, colons and itself, hexadecimal
/// numbers between pipes.
fn unescape(text: &str) -> Result<Vec<u8>, Refusal> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        match byte {
            b'\\' => match rest.next() {
                Some(byte @ (b'"' | b';' | b':' | b'\\')) => bytes.push(byte),
                _ => {
                    return Err(option(
                        "content",
                        "a backslash before something it does not escape",
                    ));
                }
            },
            b'|' => loop {
                let wrong = || option("content", "no pairs of hexadecimal digits between pipes");
                let high = match rest.next().ok_or_else(wrong)? {
                    b'|' => break,
                    b' ' => continue,
                    digit => nibble(digit).ok_or_else(wrong)?,
                };
                let low = rest.next().and_then(nibble).ok_or_else(wrong)?;
                bytes.push(high << 4 | low);
            },
            b'"' => return Err(option("content", "a quote inside the text")),
            byte => bytes.push(byte),
        }
    }
    Ok(bytes)
}

fn nibble(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).map(|value| value as u8)
}

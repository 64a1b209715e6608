//! Conditions that are no bytes: `flow`, `flags`, `dsize`, `bsize`, `threshold`, `detection_filter`.

use super::error::{Refusal, option};
use super::list::decimal;

/// What `flow` asks for.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct FlowWants {
    /// To the server, or to the client.
    pub to_server: Option<bool>,
    /// Established, or not.
    pub is_established: Option<bool>,
    /// Contents lie in the stream, or in a packet.
    pub in_stream: Option<bool>,
}

impl FlowWants {
    pub(super) fn new(value: Option<&str>) -> Result<Self, Refusal> {
        const TWICE: Refusal = option("flow", "two words contradict or repeat each other");
        let mut wants = Self::default();
        let mut is_stateless = false;
        for word in value.unwrap_or_default().split(',') {
            let (place, value) = match word.trim() {
                "to_server" | "from_client" => (&mut wants.to_server, true),
                "to_client" | "from_server" => (&mut wants.to_server, false),
                "established" => (&mut wants.is_established, true),
                "not_established" => (&mut wants.is_established, false),
                "only_stream" => (&mut wants.in_stream, true),
                "no_stream" => (&mut wants.in_stream, false),
                "stateless" if !is_stateless => {
                    is_stateless = true;
                    continue;
                }
                "stateless" => return Err(TWICE),
                word @ ("only_frag" | "no_frag") => {
                    return Err(Refusal::unsupported(format!("flow:{word}")));
                }
                _ => return Err(option("flow", "an unknown word")),
            };
            if place.replace(value).is_some() {
                return Err(TWICE);
            }
        }
        if is_stateless && wants.is_established.is_some() { Err(TWICE) } else { Ok(wants) }
    }
}

/// How `flags` compares.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Compare {
    /// These and no other.
    Exact,
    /// These and perhaps others (`+`).
    All,
    /// One of these (`*`).
    Any,
    /// Not this one (`!`).
    Not,
}

/// What `flags` asks for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct TcpFlags {
    compare: Compare,
    flags: u8,
    /// Flags that are looked at.
    mask: u8,
}

impl TcpFlags {
    pub(super) fn new(value: Option<&str>) -> Result<Self, Refusal> {
        const WRONG: Refusal = option("flags", "not of the form [+*!]FSRPAUCE0[,CE]");
        let value = value.unwrap_or_default();
        let (value, ignored) = match value.split_once(',') {
            Some((value, ignored)) => (value.trim(), letters(ignored.trim()).ok_or(WRONG)?),
            None => (value, 0),
        };
        let (compare, value) = match value.bytes().next() {
            Some(b'+') => (Compare::All, value.get(1..)),
            Some(b'*') => (Compare::Any, value.get(1..)),
            Some(b'!') => (Compare::Not, value.get(1..)),
            _ => (Compare::Exact, Some(value)),
        };
        let flags = letters(value.unwrap_or_default().trim()).ok_or(WRONG)?;
        if compare == Compare::Not && flags.count_ones() != 1 {
            // The documents leave open whether one of them may be set.
            return Err(Refusal::unsupported("flags:several_not"));
        }
        if flags & ignored != 0 {
            return Err(option("flags", "a flag is asked for and ignored"));
        }
        Ok(Self { compare, flags, mask: !ignored })
    }

    /// Whether the flags of a packet are as asked for.
    #[must_use]
    pub const fn matches(self, flags: u8) -> bool {
        let flags = flags & self.mask;
        match self.compare {
            Compare::Exact => flags == self.flags,
            Compare::All => flags & self.flags == self.flags,
            Compare::Any => flags & self.flags != 0,
            Compare::Not => flags & self.flags == 0,
        }
    }
}

/// Flags by letter; `0` is none of them.
fn letters(text: &str) -> Option<u8> {
    if text == "0" {
        return Some(0);
    }
    let mut flags = 0;
    for letter in text.bytes() {
        let flag = match letter.to_ascii_uppercase() {
            b'F' => 0x01,
            b'S' => 0x02,
            b'R' => 0x04,
            b'P' => 0x08,
            b'A' => 0x10,
            b'U' => 0x20,
            b'E' | b'2' => 0x40,
            b'C' | b'1' => 0x80,
            _ => return None,
        };
        flags |= flag;
    }
    if text.is_empty() { None } else { Some(flags) }
}

/// What `dsize` and `bsize` ask for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Sizes {
    least: u32,
    most: u32,
    is_negated: bool,
}

impl Sizes {
    pub(super) fn new(keyword: &'static str, value: Option<&str>) -> Result<Self, Refusal> {
        let value = value.unwrap_or_default();
        let wrong =
            || option(keyword, "no size, nor <, <=, >, >=, ! and a size, nor two with <> between");
        let number = |text: &str| decimal::<u32>(text.trim()).ok_or_else(wrong);
        let below = |size: u32| size.checked_sub(1).ok_or_else(wrong);
        let above = |size: u32| size.checked_add(1).ok_or_else(wrong);
        let between = |least, most| Self { least, most, is_negated: false };
        let sizes = if let Some((low, high)) = value.split_once("<>") {
            between(above(number(low)?)?, below(number(high)?)?)
        } else if let Some(size) = value.strip_prefix("<=") {
            between(0, number(size)?)
        } else if let Some(size) = value.strip_prefix('<') {
            between(0, below(number(size)?)?)
        } else if let Some(size) = value.strip_prefix(">=") {
            between(number(size)?, u32::MAX)
        } else if let Some(size) = value.strip_prefix('>') {
            between(above(number(size)?)?, u32::MAX)
        } else if let Some(size) = value.strip_prefix("!=").or_else(|| value.strip_prefix('!')) {
            let size = number(size)?;
            Self { is_negated: true, ..between(size, size) }
        } else {
            let size = number(value.strip_prefix('=').unwrap_or(value))?;
            between(size, size)
        };
        if sizes.least > sizes.most { Err(option(keyword, "no size is both")) } else { Ok(sizes) }
    }

    /// Whether a size is as asked for.
    #[must_use]
    pub const fn matches(self, size: usize) -> bool {
        let is_between = self.least as usize <= size && size <= self.most as usize;
        is_between != self.is_negated
    }

    /// Whether a size of `len` or more can be as asked for.
    pub(super) const fn reaches(self, len: usize) -> bool {
        self.is_negated || self.most as usize >= len
    }
}

/// How matches are counted.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ThresholdKind {
    /// Each time that many came together.
    Threshold,
    /// That many at most.
    Limit,
    /// Once, when that many came together.
    Both,
    /// Each one behind that many (`detection_filter`).
    Filter,
}

/// Whose matches are counted together.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Track {
    /// Those from one source.
    Source,
    /// Those to one destination.
    Destination,
    /// Those between two addresses, whichever way.
    Both,
    /// All of the rule.
    Rule,
}

/// What `threshold` or `detection_filter` asks for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Threshold {
    /// How matches are counted.
    pub kind: ThresholdKind,
    /// Which together.
    pub track: Track,
    /// How many.
    pub count: u32,
    /// In which time.
    pub seconds: u32,
}

impl Threshold {
    pub(super) fn new(keyword: &'static str, value: Option<&str>) -> Result<Self, Refusal> {
        let wrong = |reason| move || option(keyword, reason);
        let twice = wrong("a part is given twice");
        let (mut kind, mut track, mut count, mut seconds) = (None, None, None, None);
        for part in value.unwrap_or_default().split(',') {
            let (name, value) = part.trim().split_once(char::is_whitespace).unwrap_or_default();
            let value = value.trim();
            let is_second = match name {
                "type" if keyword == "threshold" => kind
                    .replace(match value {
                        "threshold" => ThresholdKind::Threshold,
                        "limit" => ThresholdKind::Limit,
                        "both" => ThresholdKind::Both,
                        "backoff" => return Err(Refusal::unsupported("threshold:backoff")),
                        _ => return Err(wrong("an unknown type")()),
                    })
                    .is_some(),
                "track" => track
                    .replace(match value {
                        "by_src" => Track::Source,
                        "by_dst" => Track::Destination,
                        "by_both" => Track::Both,
                        "by_rule" => Track::Rule,
                        "by_flow" => {
                            return Err(Refusal::unsupported(format!("{keyword}:by_flow")));
                        }
                        _ => return Err(wrong("nothing that can be tracked")()),
                    })
                    .is_some(),
                "count" => count.replace(number(value).ok_or_else(wrong("no count"))?).is_some(),
                "seconds" => {
                    seconds.replace(number(value).ok_or_else(wrong("no seconds"))?).is_some()
                }
                "multiplier" => return Err(Refusal::unsupported(format!("{keyword}:multiplier"))),
                "unique_on" => return Err(Refusal::unsupported(format!("{keyword}:unique_on"))),
                _ => return Err(wrong("an unknown part")()),
            };
            if is_second {
                return Err(twice());
            }
        }
        if keyword != "threshold" {
            kind = Some(ThresholdKind::Filter);
        }
        match (kind, track, count, seconds) {
            (Some(kind), Some(track), Some(count), Some(seconds)) => {
                Ok(Self { kind, track, count, seconds })
            }
            _ => Err(wrong("type, track, count or seconds is missing")()),
        }
    }
}

/// A number that is not zero.
fn number(text: &str) -> Option<u32> {
    decimal(text).filter(|number| *number > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flow_has_words() {
        let wants = |text| FlowWants::new(Some(text));
        let parts =
            |text| wants(text).map(|w| (w.to_server, w.is_established, w.in_stream)).unwrap();
        assert_eq!(parts("to_server,established"), (Some(true), Some(true), None));
        assert_eq!(parts("established , from_server"), (Some(false), Some(true), None));
        assert_eq!(parts("from_client,not_established"), (Some(true), Some(false), None));
        assert_eq!(parts("stateless"), (None, None, None));
        assert_eq!(parts("to_client,only_stream"), (Some(false), None, Some(true)));
        assert_eq!(parts("no_stream"), (None, None, Some(false)));
        for text in [
            "",
            "to_server,to_client",
            "established,not_established",
            "established,stateless",
            "to_server,to_server",
            "to_server,",
            "stateless,stateless",
            "TO_SERVER",
            "to server",
        ] {
            assert!(matches!(wants(text), Err(Refusal::Invalid(_))), "{text}");
        }
        assert_eq!(wants("to_server,no_frag"), Err(Refusal::unsupported("flow:no_frag")));
    }

    #[test]
    fn flags_compare_in_four_ways() {
        const S: u8 = 0x02;
        const A: u8 = 0x10;
        const ECE: u8 = 0x40;
        const CWR: u8 = 0x80;
        for (text, matching, other) in [
            ("S", S, S | A),
            ("S", S, S | ECE),
            ("SA", S | A, S),
            ("+S", S | A, A),
            ("+SA", S | A | ECE, S),
            ("*SA", A, ECE),
            ("!S", A, S | A),
            ("S,12", S | ECE | CWR, S | A),
            ("S,CE", S | CWR, S | 1),
            ("s", S, 0),
            ("0", 0, S),
            ("C", CWR, ECE),
            ("E", ECE, CWR),
            ("FPU", 0x29, 0x28),
        ] {
            let flags = TcpFlags::new(Some(text)).unwrap();
            assert!(flags.matches(matching), "{text}");
            assert!(!flags.matches(other), "{text}");
        }
        for text in ["", "X", "+", "S,", "S,S", "S 12", "S+"] {
            assert!(matches!(TcpFlags::new(Some(text)), Err(Refusal::Invalid(_))), "{text}");
        }
        assert_eq!(TcpFlags::new(Some("!SA")), Err(Refusal::unsupported("flags:several_not")));
    }

    #[test]
    fn sizes_end_where_they_say() {
        for (text, matching, others) in [
            ("10", vec![10], vec![9, 11]),
            ("=10", vec![10], vec![9, 11]),
            ("<10", vec![0, 9], vec![10]),
            ("<=10", vec![0, 10], vec![11]),
            (">10", vec![11, 1 << 20], vec![10]),
            (">= 10", vec![10, 99], vec![9]),
            ("!10", vec![9, 11], vec![10]),
            ("!=10", vec![9, 11], vec![10]),
            ("8<>20", vec![9, 19], vec![8, 20]),
            ("8 <> 20", vec![9, 19], vec![8, 20]),
        ] {
            let sizes = Sizes::new("dsize", Some(text)).unwrap();
            assert!(matching.iter().all(|size| sizes.matches(*size)), "{text}");
            assert!(!others.iter().any(|size| sizes.matches(*size)), "{text}");
        }
        for text in ["", "<", "<0", "8<>9", "9<>8", "-1", "a", "5000000000", ">4294967295", "1-5"] {
            assert!(Sizes::new("dsize", Some(text)).is_err(), "{text}");
        }
    }

    #[test]
    fn thresholds_have_parts_in_any_order() {
        let threshold = |text| Threshold::new("threshold", Some(text));
        let expected =
            Threshold { kind: ThresholdKind::Limit, track: Track::Source, count: 1, seconds: 60 };
        assert_eq!(threshold("type limit, track by_src, count 1, seconds 60"), Ok(expected));
        assert_eq!(threshold("seconds  60,count 1,track by_src ,type limit"), Ok(expected));
        for text in [
            "",
            "type limit, track by_src, count 1",
            "type limit, track by_src, count 0, seconds 60",
            "type limit, track by_src, count 1, seconds 60, seconds 60",
            "type some, track by_src, count 1, seconds 60",
            "type limit, track me, count 1, seconds 60",
            "type limit, track by_src, count x, seconds 60",
            "type limit, track by_src, count 1, seconds 60,",
        ] {
            assert!(matches!(threshold(text), Err(Refusal::Invalid(_))), "{text}");
        }
        let by_flow = threshold("type limit, track by_flow, count 1, seconds 60");
        assert_eq!(by_flow, Err(Refusal::unsupported("threshold:by_flow")));
        let filter = |text| Threshold::new("detection_filter", Some(text));
        let expected = Threshold {
            kind: ThresholdKind::Filter,
            track: Track::Destination,
            count: 5,
            seconds: 2,
        };
        assert_eq!(filter("track by_dst, count 5, seconds 2"), Ok(expected));
        assert!(filter("type limit, track by_dst, count 5, seconds 2").is_err());
        let unique = filter("track by_dst, count 5, seconds 2, unique_on dst_port");
        assert_eq!(unique, Err(Refusal::unsupported("detection_filter:unique_on")));
    }
}

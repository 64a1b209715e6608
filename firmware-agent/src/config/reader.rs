//! Reads the options of one section.
//!
//! Owns the conversion of texts to values and the wording of what is wrong with them. Which options
//! exist is in [`schema`](super::schema).

use std::path::PathBuf;
use std::str::FromStr as _;

use sluice_abi::attach::Role;

use super::mark::MarkMask;
use super::net::Net;
use super::remark::{Remarks, shown};
use super::schema::{Fallback, Kind, OptionSpec, SectionSpec, nearest};
use super::uci::{Entry, Section, Value};

/// A value that an option can have.
pub(super) trait FromUci: Sized {
    /// Reads `text`, which is of this kind, or says why not; the reason follows the quoted text.
    fn from_uci(text: &str, kind: Kind) -> Result<Self, String>;
}

/// A value of a list, with the line it stands on.
#[derive(Debug)]
pub(super) struct Placed<T> {
    pub(super) value: T,
    pub(super) line: u32,
}

/// The options of a section, each read by name.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    section: &'a Section,
    spec: &'static SectionSpec,
    /// `sluice.wan`
    path: String,
    remarks: &'a mut Remarks,
}

#[cfg(test)]
thread_local! {
    /// Options that were asked for, for the test that compares them with the table.
    static ASKED: std::cell::RefCell<Vec<&'static str>> = const { std::cell::RefCell::new(Vec::new()) };
}

impl<'a> Reader<'a> {
    /// A reader that has already warned about the options that `spec` does not know.
    pub(super) fn new(
        section: &'a Section,
        shown_name: &str,
        spec: &'static SectionSpec,
        remarks: &'a mut Remarks,
    ) -> Self {
        let path = format!("{}.{shown_name}", super::PACKAGE);
        let reader = Self { section, spec, path, remarks };
        for entry in &section.entries {
            if !spec.options.iter().any(|option| option.name == entry.name) {
                let meant = nearest(&entry.name, spec.options.iter().map(|option| option.name));
                let hint = meant.map_or_else(String::new, |name| format!("; did you mean {name}?"));
                let reason = format!("unknown option, not used{hint}");
                let line = entry.values.last().map_or(section.line, |value| value.line);
                reader.remarks.warning(line, format!("{}.{}", reader.path, entry.name), reason);
            }
        }
        reader
    }

    /// Line of the section.
    pub(super) const fn line(&self) -> u32 {
        self.section.line
    }

    /// Whether a line of the section could not be read.
    pub(super) const fn is_broken(&self) -> bool {
        self.section.is_broken
    }

    /// Whether the option stands in the file.
    pub(super) fn has(&self, option: &str) -> bool {
        self.section.entry(option).is_some()
    }

    /// The option's value; when it is absent or wrong, its default; without one, `T`'s.
    pub(super) fn get<T: FromUci + Default>(&mut self, option: &'static str) -> T {
        self.find(option).unwrap_or_default()
    }

    /// The option's value; when it is absent or wrong, its default, if it has one.
    pub(super) fn find<T: FromUci>(&mut self, option: &'static str) -> Option<T> {
        let spec = self.spec(option)?;
        let section = self.section;
        let read = match section.entry(option) {
            None => {
                // A line that could not be read may have been the one.
                if spec.fallback == Fallback::Required && !section.is_broken {
                    self.reject(section.line, option, "is required".to_owned());
                }
                None
            }
            Some(Entry { is_list: true, .. }) => {
                self.reject_value(option, "is one value, not a list".to_owned());
                None
            }
            Some(Entry { values, .. }) => values.last().and_then(|value| self.value(spec, value)),
        };
        read.or_else(|| match spec.fallback {
            Fallback::Value(text) => T::from_uci(text, spec.kind).ok(),
            Fallback::ByRam(texts) => texts
                .get(self.remarks.ram as usize)
                .and_then(|text| T::from_uci(text, spec.kind).ok()),
            Fallback::Required | Fallback::Empty => None,
        })
    }

    /// The elements of a list that are right; its default when it is absent.
    pub(super) fn list<T: FromUci>(&mut self, option: &'static str) -> Vec<Placed<T>> {
        let Some(spec) = self.spec(option) else { return Vec::new() };
        let section = self.section;
        let line = section.line;
        let Some(entry) = section.entry(option) else {
            return match spec.fallback {
                Fallback::Value(texts) => texts
                    .split(' ')
                    .filter_map(|text| T::from_uci(text, spec.kind).ok())
                    .map(|value| Placed { value, line })
                    .collect(),
                Fallback::Required => {
                    if !section.is_broken {
                        self.reject(line, option, "is required".to_owned());
                    }
                    Vec::new()
                }
                Fallback::Empty | Fallback::ByRam(_) => Vec::new(),
            };
        };
        let mut list = Vec::with_capacity(entry.values.len());
        for text in &entry.values {
            if let Some(value) = self.value(spec, text) {
                list.push(Placed { value, line: text.line });
            }
        }
        list
    }

    /// Like [`Reader::list`], without the lines.
    pub(super) fn values<T: FromUci>(&mut self, option: &'static str) -> Vec<T> {
        self.list(option).into_iter().map(|placed| placed.value).collect()
    }

    /// Records a mistake in `option`.
    pub(super) fn reject(&mut self, line: u32, option: &str, reason: String) {
        self.remarks.mistake(line, format!("{}.{option}", self.path), reason);
    }

    /// Records a mistake in the value of `option`, on the line of the value.
    pub(super) fn reject_value(&mut self, option: &str, reason: String) {
        let line = self.line_of(option);
        self.reject(line, option, reason);
    }

    /// Records something odd in `option`.
    pub(super) fn warn(&mut self, line: u32, option: &str, reason: String) {
        self.remarks.warning(line, format!("{}.{option}", self.path), reason);
    }

    /// Line of the last value of `option`, or of the section.
    pub(super) fn line_of(&self, option: &str) -> u32 {
        let value = self.section.entry(option).and_then(|entry| entry.values.last());
        value.map_or(self.section.line, |value| value.line)
    }

    fn value<T: FromUci>(&mut self, spec: &OptionSpec, value: &Value) -> Option<T> {
        let read = match str::from_utf8(&value.bytes) {
            Ok(text) => {
                T::from_uci(text, spec.kind).map_err(|why| format!("{} {why}", shown(text)))
            }
            Err(_) => Err("is not UTF-8".to_owned()),
        };
        match read {
            Ok(value) => Some(value),
            Err(reason) => {
                self.reject(value.line, spec.name, reason);
                None
            }
        }
    }

    fn spec(&self, option: &'static str) -> Option<&'static OptionSpec> {
        #[cfg(test)]
        ASKED.with_borrow_mut(|asked| asked.push(option));
        let spec = self.spec.options.iter().find(|spec| spec.name == option);
        debug_assert!(spec.is_some(), "{option} is not in the table of options");
        spec
    }
}

fn is_not(kind: Kind) -> String {
    match kind {
        Kind::Word(_) => format!("is not one of {kind}"),
        Kind::Path => format!("is not an {kind}"),
        kind => format!("is not {kind}"),
    }
}

impl FromUci for bool {
    fn from_uci(text: &str, kind: Kind) -> Result<Self, String> {
        match text {
            "1" | "on" | "true" | "yes" | "enabled" => Ok(true),
            "0" | "off" | "false" | "no" | "disabled" => Ok(false),
            _ => Err(is_not(kind)),
        }
    }
}

impl FromUci for u32 {
    fn from_uci(text: &str, kind: Kind) -> Result<Self, String> {
        // `parse` takes a sign, which no option wants.
        let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        let number = if digits { text.parse().ok() } else { None };
        let fits = |number: &Self| match kind {
            Kind::Number { min, max } => (min..=max).contains(number),
            Kind::PowerOfTwo { min, max } => {
                (min..=max).contains(number) && number.is_power_of_two()
            }
            _ => false,
        };
        number.filter(fits).ok_or_else(|| is_not(kind))
    }
}

impl FromUci for u16 {
    fn from_uci(text: &str, kind: Kind) -> Result<Self, String> {
        u32::from_uci(text, kind)?.try_into().ok().ok_or_else(|| is_not(kind))
    }
}

impl FromUci for u8 {
    fn from_uci(text: &str, kind: Kind) -> Result<Self, String> {
        u32::from_uci(text, kind)?.try_into().ok().ok_or_else(|| is_not(kind))
    }
}

impl FromUci for MarkMask {
    fn from_uci(text: &str, _: Kind) -> Result<Self, String> {
        Self::from_str(text).map_err(|err| err.to_string())
    }
}

impl FromUci for Net {
    fn from_uci(text: &str, _: Kind) -> Result<Self, String> {
        Self::from_str(text).map_err(|err| err.to_string())
    }
}

impl FromUci for PathBuf {
    fn from_uci(text: &str, kind: Kind) -> Result<Self, String> {
        let path = Self::from(text);
        // `..` could lead anywhere, and what is shown is not what is used.
        let plain = path.components().all(|part| {
            matches!(part, std::path::Component::RootDir | std::path::Component::Normal(_))
        });
        if path.is_absolute() && plain { Ok(path) } else { Err(is_not(kind)) }
    }
}

/// Implements [`FromUci`] for an enum by the words of its variants.
macro_rules! words {
    ($ty:ty, $($word:literal => $variant:expr),+ $(,)?) => {
        impl $crate::config::reader::FromUci for $ty {
            fn from_uci(text: &str, kind: $crate::config::schema::Kind) -> Result<Self, String> {
                match text {
                    $($word => Ok($variant),)+
                    _ => Err(format!("is not one of {kind}")),
                }
            }
        }
    };
}
pub(super) use words;

words!(Role, "lan" => Self::Lan, "wan" => Self::Wan);

#[cfg(test)]
mod tests;

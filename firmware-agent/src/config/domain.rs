//! Section `domainlist`, and what a domain name is.
//!
//! Owns the section, the form of names, and which lines of a list name one. Its files are read by
//! [`file`](super::file), and not kept: they are read again when their names are needed.

use std::borrow::Cow;
use std::io;
use std::path::{Path, PathBuf};

use super::cost::Change;
use super::file::{self, FileError, Read};
use super::list::{Action, ENABLED, Source};
use super::reader::{Placed, Reader};
use super::schema::{Fallback, Kind, OptionSpec, SectionSpec};

/// Most sections of type `domainlist`.
pub const DOMAINLISTS_MAX: u32 = 16;

/// Domains whose flows are blocked.
#[derive(Clone, Debug, PartialEq)]
pub struct DomainList {
    /// Name of the section, or `@domainlist[0]`.
    pub name: String,
    /// Whether it counts.
    pub enabled: bool,
    /// Files of names.
    pub files: Vec<PathBuf>,
    /// The files as they were when the configuration was read; empty when it was read as text only.
    pub sources: Vec<DomainFile>,
    /// Most names; with more the configuration is refused.
    pub max_entries: u32,
    /// Whether flows are only counted that it would block.
    pub observes: bool,
}

/// A file of a domain list, as it was when the configuration was read.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct DomainFile {
    /// The file.
    pub path: PathBuf,
    /// Names, counted as written.
    pub names: u32,
    /// Tells its bytes from others, not from those of somebody who tries.
    hash: u64,
}

pub(super) const SPEC: SectionSpec = SectionSpec {
    kind: "domainlist",
    example: "ads",
    about: "Files of domains: a flow whose ClientHello names one of them, or a name below it, is blocked, unless a rule says otherwise.",
    options: &[
        ENABLED,
        OptionSpec::list(
            "file",
            Kind::Path,
            Fallback::Required,
            "Files with one name on a line, alone, as *.name, or behind 0.0.0.0 or 127.0.0.1 as in a hosts file; comments behind #. Sub-domains are included.",
        ),
        OptionSpec::new(
            "max_entries",
            Kind::Number { min: 1, max: 2_000_000 },
            "2000000",
            "Most names, counted as written; with more the configuration is refused. What fits is a question of domain_memory_kib.",
        ).costs(Change::None),
        OptionSpec::new(
            "action",
            Kind::Word(&["block", "observe"]),
            "block",
            "What happens to flows to these names: blocked, or only counted, with their devices, as such that would be.",
        ),
    ],
};

impl DomainList {
    pub(super) fn read(name: String, mut uci: Reader<'_>) -> (Self, Vec<Source>) {
        let files: Vec<Placed<PathBuf>> = uci.list("file");
        let list = Self {
            name,
            enabled: uci.get("enabled"),
            files: files.iter().map(|file| file.value.clone()).collect(),
            sources: Vec::new(),
            max_entries: uci.get("max_entries"),
            observes: uci.get::<Action>("action") == Action::Observe,
        };
        let sources = files.into_iter().map(|Placed { value, line }| Source { file: value, line });
        (list, sources.collect())
    }
}

impl DomainFile {
    /// Reads a file of at most `most` names for the first time.
    pub(super) fn new(path: &Path, most: usize) -> Result<(Self, Read), FileError> {
        let mut names = 0;
        let read = names_of(path, most, |_, _| {
            names += 1;
            true
        })?;
        Ok((Self { path: path.to_owned(), names, hash: read.hash }, read))
    }

    /// Reads the file again and calls `each` with its names, in letters of both cases, and their
    /// lines. An error when it is not the file any more that the configuration was read with.
    pub fn entries(&self, mut each: impl FnMut(&str, u32)) -> io::Result<()> {
        let read = names_of(&self.path, self.names as usize, |name, line| {
            each(name, line);
            true
        });
        file::unchanged(read, self.hash)
    }

    /// The line of the file, as it is now, that has `name`, which is in lower case.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<u32> {
        let mut found = None;
        let _ = names_of(&self.path, usize::MAX, |one, line| {
            if one.eq_ignore_ascii_case(name) {
                found = Some(line);
            }
            found.is_none()
        });
        found
    }
}

fn names_of(
    path: &Path,
    most: usize,
    mut each: impl FnMut(&str, u32) -> bool,
) -> Result<Read, FileError> {
    file::read(path, "domain name", most, |text, line| {
        Ok(each(listed(text).map_err(Cow::Borrowed)?, line))
    })
}

/// The name on a line of a list.
fn listed(text: &str) -> Result<&str, &'static str> {
    // Nearly every line of millions is a name and nothing else.
    if labels(text).is_some_and(|count| count > 1) && !ends_in_digit(text) {
        return Ok(text);
    }
    let mut words = text.split_ascii_whitespace();
    let name = match (words.next(), words.next(), words.next()) {
        (Some(name), None, _)
        | (Some("0.0.0.0" | "127.0.0.1" | "::" | "::1"), Some(name), None) => name,
        (_, Some(_), None) => {
            return Err("is not a name behind 0.0.0.0 or 127.0.0.1, as hosts files have it");
        }
        _ => return Err("has more than one name"),
    };
    let name = plain(name.strip_prefix("*.").unwrap_or(name))?;
    if name.contains('.') {
        Ok(name)
    } else {
        Err("has no dot: a whole top-level domain is the business of a rule")
    }
}

/// A domain name without its final dot; letters of both cases.
pub(super) fn plain(text: &str) -> Result<&str, &'static str> {
    if !text.is_ascii() {
        return Err("is not ASCII: write the form that starts with xn--");
    }
    let name = text.strip_suffix('.').unwrap_or(text);
    if name.starts_with("*.") || name.starts_with('.') {
        return Err("has a wildcard: write the domain alone, its sub-domains are included");
    }
    if name.contains(['/', ':']) {
        return Err("is not a domain name: write the host alone, without scheme, port or path");
    }
    if ends_in_digit(name) && name.parse::<std::net::Ipv4Addr>().is_ok() {
        return Err("is an address: put it in a blocklist");
    }
    if name.is_empty() || name.len() > 253 {
        return Err("is not a domain name: it has 1 to 253 characters");
    }
    if labels(name).is_none() {
        return Err("is not a domain name: between dots are 1 to 63 letters, digits, - or _");
    }
    Ok(name)
}

fn ends_in_digit(name: &str) -> bool {
    name.as_bytes().last().is_some_and(u8::is_ascii_digit)
}

/// How many labels there are, if this is a domain name.
fn labels(name: &str) -> Option<u32> {
    let (mut count, mut len, mut last) = (0, 0, b'-');
    for byte in name.bytes().chain([b'.']) {
        match byte {
            b'.' if (1..=63).contains(&len) && last != b'-' => {
                count += 1;
                len = 0;
            }
            b'-' if len == 0 => return None,
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' => len += 1,
            _ => return None,
        }
        last = byte;
    }
    (name.len() <= 253).then_some(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_names_a_domain_in_every_form_that_lists_have() {
        for (line, name) in [
            ("example.com", "example.com"),
            ("Example.COM.", "Example.COM"),
            ("*.example.com", "example.com"),
            ("0.0.0.0 ads.example.com", "ads.example.com"),
            ("127.0.0.1\tads.example.com", "ads.example.com"),
            ("::  ads.example.com.", "ads.example.com"),
            ("_dmarc.xn--bcher-kva.example", "_dmarc.xn--bcher-kva.example"),
            ("1.2.3.4.example", "1.2.3.4.example"),
        ] {
            assert_eq!(listed(line), Ok(name), "{line}");
        }
        let long = format!("{}.test", "a".repeat(64));
        let longer = ["a23456789.", &"b23456789.".repeat(23), "testtests.test"].concat();
        assert_eq!(listed(&longer[1..]), Ok(&longer[1..]), "253 characters");
        for (line, why) in [
            ("b\u{fc}cher.example", "is not ASCII"),
            ("192.0.2.1", "is an address"),
            ("192.0.2.1 ads.example.com", "is not a name behind 0.0.0.0"),
            ("0.0.0.0 a.example b.example", "more than one name"),
            ("localhost", "has no dot"),
            ("*.com", "has no dot"),
            ("*.*.example.com", "has a wildcard"),
            (".example.com", "has a wildcard"),
            ("ads*.example.com", "between dots"),
            ("https://example.com/", "without scheme"),
            ("||example.com^", "between dots"),
            ("a..b", "between dots"),
            ("-a.test", "between dots"),
            ("a-.test", "between dots"),
            (long.as_str(), "between dots"),
            (longer.as_str(), "1 to 253"),
            (".", "1 to 253"),
        ] {
            assert!(
                listed(line).is_err_and(|found| found.contains(why)),
                "{line}: {:?}",
                listed(line)
            );
        }
    }
}

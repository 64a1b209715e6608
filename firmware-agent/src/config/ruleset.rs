//! Section `ruleset`: files in the rule language of intrusion detection.
//!
//! Owns the section and reading its files line by line. What a line means is decided by
//! [`signature`](crate::signature).

use std::fs::File;
use std::hash::{DefaultHasher, Hasher as _};
use std::io::{self, BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};

use super::list::Source;
use super::net::Net;
use super::reader::{Placed, Reader};
use super::schema::{Fallback, Kind, OptionSpec, SectionSpec};

/// Most sections of type `ruleset`.
pub const RULESETS_MAX: u32 = 8;
/// Largest file that is read: all published rules together have some thirty megabytes.
const SIZE_MAX: u64 = 64 << 20;
/// Longest line that is handed on in one piece; more than any rule may have.
const LINE_MAX: u64 = 32 << 10;
/// What is at home unless the configuration says otherwise: private, unique local and link-local.
const HOME: &str = "10.0.0.0/8 172.16.0.0/12 192.168.0.0/16 fc00::/7 fe80::/10";

/// Signatures that packets are compared with.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RulesetSection {
    /// Name of the section, or `@ruleset[0]`.
    pub name: String,
    /// Whether it counts.
    pub enabled: bool,
    /// Whether rules that drop block.
    pub enforce: bool,
    /// What `$HOME_NET` stands for.
    pub home_net: Vec<Net>,
    /// Files of rules.
    pub files: Vec<PathBuf>,
    /// The files as they were when the configuration was read; empty when it was read as text only.
    pub sources: Vec<RulesetFile>,
}

/// A file of rules, as it was when the configuration was read.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RulesetFile {
    /// The file.
    pub path: PathBuf,
    /// Tells its bytes from others, not from those of somebody who tries.
    hash: u64,
}

pub(super) const SPEC: SectionSpec = SectionSpec {
    kind: "ruleset",
    example: "signatures",
    about: "Files in the rule language of intrusion detection, of which a subset is read: each packet that is inspected is compared with them. Only the first packets of a flow are, until it is decided: what comes later on a trusted flow, ICMP and fragments are never seen. A rule outside the subset is left out as a whole and counted by keyword in status. What an allow rule lets through is never blocked by a ruleset.",
    options: &[
        OptionSpec::new("enabled", Kind::Flag, "1", "Whether the rules count."),
        OptionSpec::list(
            "file",
            Kind::Path,
            Fallback::Required,
            "Files with rules; a number (sid) that comes twice counts once.",
        ),
        OptionSpec::new(
            "enforce",
            Kind::Flag,
            "0",
            "With 1 a match of a rule that drops or rejects blocks its flow; nothing is sent to its ends. With 0 every match is only told.",
        ),
        OptionSpec::list(
            "home_net",
            Kind::Net,
            Fallback::Value(HOME),
            "What $HOME_NET stands for, and what $EXTERNAL_NET does not. The default is every private network, whatever the interfaces have.",
        ),
    ],
};

impl RulesetSection {
    /// A ruleset of these files that only tells; home is what it is by default.
    pub fn of_files(paths: &[PathBuf]) -> io::Result<Self> {
        let named = |path: &PathBuf| {
            RulesetFile::new(path)
                .map_err(|error| io::Error::other(format!("{}: {error}", path.display())))
        };
        Ok(Self {
            name: "rules".to_owned(),
            enabled: true,
            enforce: false,
            home_net: HOME.split(' ').filter_map(|net| net.parse().ok()).collect(),
            files: paths.to_vec(),
            sources: paths.iter().map(named).collect::<io::Result<_>>()?,
        })
    }

    pub(super) fn read(name: String, mut uci: Reader<'_>) -> (Self, Vec<Source>) {
        let files: Vec<Placed<PathBuf>> = uci.list("file");
        let section = Self {
            name,
            enabled: uci.get("enabled"),
            enforce: uci.get("enforce"),
            home_net: uci.values("home_net"),
            files: files.iter().map(|file| file.value.clone()).collect(),
            sources: Vec::new(),
        };
        let sources = files.into_iter().map(|Placed { value, line }| Source { file: value, line });
        (section, sources.collect())
    }
}

impl RulesetFile {
    /// Reads a file for the first time.
    pub fn new(path: &Path) -> io::Result<Self> {
        Ok(Self { path: path.to_owned(), hash: lines(path, |_| ())? })
    }

    /// Reads the file again and calls `each` with its lines. An error when it is not the file any
    /// more that the configuration was read with.
    pub fn lines(&self, each: impl FnMut(&[u8])) -> io::Result<()> {
        if lines(&self.path, each)? == self.hash {
            Ok(())
        } else {
            Err(io::Error::other("has changed since the configuration was read"))
        }
    }
}

/// Calls `each` with the lines of a file, their ends included; returns the hash of its bytes.
fn lines(path: &Path, mut each: impl FnMut(&[u8])) -> io::Result<u64> {
    // Opening a pipe would wait for its writer.
    let meta = std::fs::metadata(path)?;
    if !meta.is_file() {
        return Err(io::Error::other("is not a regular file"));
    }
    if meta.len() > SIZE_MAX {
        return Err(io::Error::other(format!("is larger than {} MiB", SIZE_MAX >> 20)));
    }
    // The file may grow while it is read.
    let mut file = BufReader::new(File::open(path)?.take(SIZE_MAX));
    let mut hasher = DefaultHasher::new();
    let mut line = Vec::new();
    while file.by_ref().take(LINE_MAX).read_until(b'\n', &mut line)? > 0 {
        hasher.write(&line);
        each(&line);
        line.clear();
    }
    Ok(hasher.finish())
}

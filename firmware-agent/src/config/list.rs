//! Sections `blocklist` and `allowlist`: addresses and prefixes.
//!
//! Owns the sections and what is kept out of them. Files of addresses are read by
//! [`file`](super::file).

use std::path::PathBuf;

use sluice_abi::attach::Role;

use super::condition::Moment;
use super::cost::Change;
use super::file::ListFile;
use super::net::Net;
use super::reader::{FromUci, Placed, Reader, words};
use super::remark::shown;
use super::schema::{Fallback, Kind, OptionSpec, SectionSpec};

/// Addresses and prefixes that are dropped.
#[derive(Clone, Debug, PartialEq)]
pub struct Blocklist {
    /// Name of the section, or `@blocklist[0]`.
    pub name: String,
    /// Whether it counts.
    pub enabled: bool,
    /// Entries of the section, each once.
    pub entries: Vec<Net>,
    /// Files with more entries.
    pub files: Vec<PathBuf>,
    /// The files as they were when the configuration was read; empty when it was read as text only.
    pub sources: Vec<ListFile>,
    /// Most entries; with more the configuration is refused.
    pub max_entries: u32,
    /// Whether flows are only counted that it would block.
    pub observes: bool,
}

/// What becomes of what a list has.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) enum Action {
    #[default]
    Block,
    Observe,
}
words!(Action, "block" => Self::Block, "observe" => Self::Observe);

/// Addresses and prefixes that no blocklist drops.
#[derive(Clone, Debug, PartialEq)]
pub struct Allowlist {
    /// Name of the section, or `@allowlist[0]`.
    pub name: String,
    /// Whether it counts.
    pub enabled: bool,
    /// Entries of the section and of its files, each once.
    pub entries: Vec<Net>,
    /// Files with more entries.
    pub files: Vec<PathBuf>,
    /// Most entries; with more the configuration is refused.
    pub max_entries: u32,
    /// Interfaces on which it counts.
    pub roles: Vec<Role>,
    /// When it ends.
    pub until: Option<Moment>,
}

impl Allowlist {
    /// The bits of its roles, as the kernel's entries hold them.
    #[must_use]
    pub fn role_bits(&self) -> u32 {
        self.roles.iter().fold(0, |bits, role| bits | role.bit())
    }
}

pub(super) const ENABLED: OptionSpec =
    OptionSpec::new("enabled", Kind::Flag, "1", "Whether the list counts.");
const ENTRY: OptionSpec =
    OptionSpec::list("entry", Kind::Net, Fallback::Empty, "Addresses and prefixes.")
        .up_to(Change::Reload);
const FILE: OptionSpec = OptionSpec::list(
    "file",
    Kind::Path,
    Fallback::Empty,
    "Files with more entries: one address or prefix on a line, comments behind #.",
)
.up_to(Change::Reload);
const MAX_BLOCKED: OptionSpec = OptionSpec::new(
    "max_entries",
    Kind::Number { min: 1, max: 2_000_000 },
    "2000000",
    "Most entries, counted as written; with more the configuration is refused. What fits is a question of list_memory_kib.",
).costs(Change::None);
const MAX_ENTRIES: OptionSpec = OptionSpec::new(
    "max_entries",
    Kind::Number { min: 1, max: 262_144 },
    "65536",
    "Most entries; with more the configuration is refused.",
)
.costs(Change::None);

pub(super) const BLOCKLIST: SectionSpec = SectionSpec {
    kind: "blocklist",
    example: "bad",
    about: "Addresses that are dropped: as the source on wan interfaces, as the destination on lan interfaces.",
    options: &[
        ENABLED.up_to(Change::Reload),
        ENTRY,
        FILE,
        MAX_BLOCKED,
        OptionSpec::new(
            "action",
            Kind::Word(&["block", "observe"]),
            "block",
            "What happens to packets from and to these addresses: dropped, or nothing; then flows that are inspected are counted, with their devices, as such that would be blocked.",
        )
        .up_to(Change::Reload),
    ],
};

pub(super) const ALLOWLIST: SectionSpec = SectionSpec {
    kind: "allowlist",
    example: "good",
    about: "Addresses that no blocklist drops. Rate limits still hold for them.",
    options: &[
        ENABLED.up_to(Change::Reload),
        ENTRY,
        FILE,
        MAX_ENTRIES,
        OptionSpec::list(
            "role",
            Kind::Word(&["lan", "wan"]),
            Fallback::Value("lan wan"),
            "Interfaces on which the list counts.",
        ),
        OptionSpec::optional("until", Kind::Moment, "When the list ends, in universal time."),
    ],
};

/// A file of a list and where the configuration names it.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) file: PathBuf,
    pub(super) line: u32,
}

/// A prefix as written.
struct Written {
    net: Net,
    has_host_bits: bool,
}

impl FromUci for Written {
    fn from_uci(text: &str, _: Kind) -> Result<Self, String> {
        let (net, has_host_bits) = Net::from_text(text).map_err(|err| err.to_string())?;
        Ok(Self { net, has_host_bits })
    }
}

/// What both kinds of list have.
struct Common {
    enabled: bool,
    entries: Vec<Net>,
    files: Vec<PathBuf>,
    max_entries: u32,
    sources: Vec<Source>,
}

fn read(uci: &mut Reader<'_>, is_blocklist: bool) -> Common {
    let mut entries = Vec::new();
    for Placed { value: Written { net, has_host_bits }, line } in uci.list("entry") {
        if has_host_bits {
            let reason = format!("is used as {net}: bits behind the prefix are cleared");
            uci.warn(line, "entry", reason);
        }
        match net.lock_out() {
            Some(why) if is_blocklist => {
                uci.reject(line, "entry", format!("{} {why}", shown(&net.to_string())));
            }
            _ => entries.push(net),
        }
    }
    let files: Vec<Placed<PathBuf>> = uci.list("file");
    if files.is_empty() && !uci.has("entry") && !uci.has("file") {
        uci.warn(uci.line(), "entry", "is empty, and so is file: the list does nothing".to_owned());
    }
    Common {
        enabled: uci.get("enabled"),
        entries,
        files: files.iter().map(|file| file.value.clone()).collect(),
        max_entries: uci.get("max_entries"),
        sources: files
            .into_iter()
            .map(|Placed { value, line }| Source { file: value, line })
            .collect(),
    }
}

impl Blocklist {
    pub(super) fn read(name: String, mut uci: Reader<'_>) -> (Self, Vec<Source>) {
        let Common { enabled, entries, files, max_entries, sources } = read(&mut uci, true);
        let observes = uci.get::<Action>("action") == Action::Observe;
        (
            Self { name, enabled, entries, files, sources: Vec::new(), max_entries, observes },
            sources,
        )
    }
}

impl Allowlist {
    pub(super) fn read(name: String, mut uci: Reader<'_>) -> (Self, Vec<Source>) {
        let Common { enabled, entries, files, max_entries, sources } = read(&mut uci, false);
        let mut roles: Vec<Role> = Vec::new();
        for role in uci.values("role") {
            if !roles.contains(&role) {
                roles.push(role);
            }
        }
        let until = uci.find("until");
        (Self { name, enabled, entries, files, max_entries, roles, until }, sources)
    }
}

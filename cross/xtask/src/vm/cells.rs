//! The matrix of `tests/vm/kernels.toml`.

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;

use crate::run;

/// Cells and what runs in each.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Matrix {
    /// Test programs, in their order.
    pub(crate) guests: Vec<String>,
    /// Files and directories of the workspace that the guest has at the same path.
    #[serde(default)]
    pub(crate) workspace: Vec<String>,
    /// The machines.
    #[serde(rename = "cell")]
    pub(crate) cells: Vec<Cell>,
}

/// One machine.
#[derive(Debug, Deserialize)]
pub(crate) struct Cell {
    /// What it is called.
    pub(crate) name: String,
    /// Where its kernel comes from.
    #[serde(flatten)]
    pub(crate) kernel: Source,
    /// Test programs of this cell, behind those that every cell has; on a foreign or bare machine these alone.
    #[serde(default)]
    pub(crate) guests: Vec<String>,
    /// Guests of every cell that this one does without.
    #[serde(default)]
    pub(crate) without: Vec<String>,
    /// After so many seconds the machine is stopped and has failed.
    pub(crate) limit_s: u64,
    /// Memory in MiB.
    #[serde(default = "memory")]
    pub(crate) memory_mib: u32,
    /// Has nothing of the host: static guests and the agent as a router has it, as on a foreign machine.
    #[serde(default)]
    pub(crate) bare: bool,
}

/// Where a kernel comes from.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Source {
    /// A package: `*` stands for the part that changes with each update.
    Package(String),
    /// Built here, with a router's options (`tests/vm/router-*.config`), for this machine.
    Router(Machine),
}

impl std::fmt::Display for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Package(package) => f.write_str(package),
            Self::Router(machine) => write!(f, "built here for {}", machine.name()),
        }
    }
}

/// A kind of machine.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Machine {
    /// A PC with two processors: runs the host's programs.
    #[serde(rename = "x86_64")]
    X86_64,
    /// A MIPS Malta board, big-endian, 32 bits: runs what is cross-built for it and nothing else.
    Mips,
}

impl Machine {
    /// Its name in files.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::X86_64 => "x86_64",
            Self::Mips => "mips",
        }
    }

    /// The target of `cross/targets.toml` whose programs it runs, unless those of the host.
    pub(crate) const fn target(self) -> Option<&'static str> {
        match self {
            Self::X86_64 => None,
            Self::Mips => Some("mips"),
        }
    }
}

const fn memory() -> u32 {
    1024
}

impl Cell {
    /// What kind of machine it is.
    pub(crate) const fn machine(&self) -> Machine {
        match self.kernel {
            Source::Package(_) => Machine::X86_64,
            Source::Router(machine) => machine,
        }
    }

    /// The target of `cross/targets.toml` whose programs it runs, unless those of the host.
    pub(crate) const fn target(&self) -> Option<&'static str> {
        if self.bare { Some(self.machine().name()) } else { self.machine().target() }
    }
}

impl Matrix {
    /// The guests of a cell, in their order.
    pub(crate) fn guests<'a>(&'a self, cell: &'a Cell) -> impl Iterator<Item = &'a String> {
        let common: &[String] = if cell.target().is_none() { &self.guests } else { &[] };
        common.iter().filter(|guest| !cell.without.contains(guest)).chain(&cell.guests)
    }

    /// From the file.
    pub(crate) fn read() -> Result<Self> {
        let path = run::root().join("tests/vm/kernels.toml");
        let text = std::fs::read_to_string(&path)
            .with_context(|| format!("could not read {}", path.display()))?;
        toml::from_str(&text).with_context(|| format!("{} is wrong", path.display()))
    }

    /// The cells of these names, or all.
    pub(crate) fn select(&self, names: &[String]) -> Result<Vec<&Cell>> {
        if names.is_empty() {
            return Ok(self.cells.iter().collect());
        }
        names
            .iter()
            .map(|name| match self.cells.iter().find(|cell| cell.name == *name) {
                Some(cell) => Ok(cell),
                None => bail!("no cell {name}: cargo xtask vm --list"),
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_foreign_machine_runs_its_own_guests_alone() {
        let matrix = Matrix::read().unwrap();
        let cell = |name: &str| matrix.cells.iter().find(|cell| cell.name == name).unwrap();
        let guests = |name| matrix.guests(cell(name)).cloned().collect::<Vec<_>>();
        assert!(guests("router-mips").iter().all(|guest| guest.starts_with("cargo:")));
        assert!(guests("debian-6.12").contains(&"tests/vm/guest.sh".to_owned()));
        assert_eq!(guests("small"), ["cargo:list_memory"]);
        assert_eq!((cell("small").target(), cell("small").memory_mib), (Some("x86_64"), 128));
        assert_eq!(cell("router-mips").machine(), Machine::Mips);
        assert_eq!(cell("debian-6.12").machine(), Machine::X86_64);
    }
}

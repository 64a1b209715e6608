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
#[serde(deny_unknown_fields)]
pub(crate) struct Cell {
    /// What it is called.
    pub(crate) name: String,
    /// The kernel's package: `*` stands for the part that changes with each update.
    pub(crate) package: String,
    /// Test programs of this cell, behind those that every cell has.
    #[serde(default)]
    pub(crate) guests: Vec<String>,
    /// After so many seconds the machine is stopped and has failed.
    pub(crate) limit_s: u64,
    /// Memory in MiB.
    #[serde(default = "memory")]
    pub(crate) memory_mib: u32,
}

const fn memory() -> u32 {
    1024
}

impl Matrix {
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

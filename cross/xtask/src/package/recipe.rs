//! What a package says of itself and what is in it: `openwrt-package/package.toml` and the files that it names.

use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;

use crate::run;

/// What has no source of its own: it is built.
const AGENT: &str = "/usr/sbin/sluice";

/// A package, ready to be written in either format.
#[derive(Clone, Debug)]
pub(super) struct Package {
    pub(super) name: String,
    /// With the release: both formats accept `1.2.3-r4`.
    pub(super) version: String,
    pub(super) section: String,
    pub(super) description: String,
    pub(super) licence: String,
    pub(super) user: String,
    /// Sorted.
    pub(super) depends: Vec<String>,
    pub(super) conffiles: Vec<String>,
    pub(super) postrm: Option<Vec<u8>>,
    /// Sorted by path.
    pub(super) files: Vec<File>,
    /// Seconds since 1970 that all files are said to be from.
    pub(super) time: u32,
}

/// A file of a package.
#[derive(Clone, Debug)]
pub(super) struct File {
    /// Absolute.
    pub(super) path: String,
    pub(super) mode: u32,
    pub(super) content: Vec<u8>,
}

impl File {
    /// What it is called.
    pub(super) fn name(&self) -> &str {
        self.path.rsplit_once('/').map_or(&self.path, |(_, name)| name)
    }

    /// Where it is; `/` in the root.
    pub(super) fn directory(&self) -> &str {
        match self.path.rsplit_once('/') {
            None | Some(("", _)) => "/",
            Some((directory, _)) => directory,
        }
    }
}

/// The recipe as it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Recipe {
    name: String,
    release: u32,
    section: String,
    description: String,
    licence: String,
    user: String,
    depends: Vec<String>,
    conffiles: Vec<String>,
    postrm: Option<PathBuf>,
    file: Vec<Entry>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    path: String,
    /// From the directory of the recipe.
    source: Option<PathBuf>,
    mode: String,
}

/// The package of the agent around this binary.
pub(super) fn read(agent: &[u8], time: u32) -> Result<Package> {
    let directory = run::root().join("openwrt-package/sluice");
    let content = |path: &PathBuf| {
        let path = directory.join(path);
        std::fs::read(&path).with_context(|| format!("could not read {}", path.display()))
    };
    let text = std::fs::read_to_string(directory.join("package.toml"))?;
    let recipe: Recipe = toml::from_str(&text).context("package.toml is wrong")?;
    let mut files = Vec::new();
    for Entry { path, source, mode } in recipe.file {
        let mode = u32::from_str_radix(&mode, 8).with_context(|| format!("{path}: mode {mode}"))?;
        let content = match source {
            Some(source) => content(&source)?,
            None if path == AGENT => agent.to_vec(),
            None => bail!("{path} has no source"),
        };
        if content.is_empty() {
            bail!("{path} would be empty");
        }
        files.push(File { path, mode, content });
    }
    files.sort_unstable_by(|a, b| a.path.cmp(&b.path));
    if let Some(path) =
        recipe.conffiles.iter().find(|path| !files.iter().any(|file| file.path == **path))
    {
        bail!("conffile {path} is not in the package");
    }
    let mut depends = recipe.depends;
    depends.sort_unstable();
    Ok(Package {
        name: recipe.name,
        version: format!("{}-r{}", env!("CARGO_PKG_VERSION"), recipe.release),
        section: recipe.section,
        description: recipe.description,
        licence: recipe.licence,
        user: recipe.user,
        depends,
        conffiles: recipe.conffiles,
        postrm: recipe.postrm.as_ref().map(content).transpose()?,
        files,
        time,
    })
}

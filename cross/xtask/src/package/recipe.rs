//! What a package says of itself and what is in it: `openwrt-package/NAME/package.toml` and the files that it names.

use std::path::{Path, PathBuf};

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
    /// `all`, or nothing where there is one for each.
    pub(super) arch: Option<String>,
    /// Name and group that it needs.
    pub(super) user: Option<String>,
    /// Sorted.
    pub(super) depends: Vec<String>,
    pub(super) conffiles: Vec<String>,
    /// What is done besides what OpenWrt does with every package.
    pub(super) postinst: Option<Vec<u8>>,
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
    arch: Option<String>,
    user: Option<String>,
    depends: Vec<String>,
    #[serde(default)]
    conffiles: Vec<String>,
    postinst: Option<PathBuf>,
    postrm: Option<PathBuf>,
    #[serde(default)]
    file: Vec<Entry>,
    #[serde(default)]
    folder: Vec<Folder>,
}

/// Every file below a directory, with its path there.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Folder {
    path: String,
    /// From the directory of the recipe.
    source: PathBuf,
    mode: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    path: String,
    /// From the directory of the recipe.
    source: Option<PathBuf>,
    mode: String,
}

impl Recipe {
    /// Its files, sorted; the agent's binary is given.
    fn files(&self, directory: &Path, agent: &[u8]) -> Result<Vec<File>> {
        let mut files = Vec::new();
        for Entry { path, source, mode } in &self.file {
            let content = match source {
                Some(source) => content(&directory.join(source))?,
                None if path == AGENT => agent.to_vec(),
                None => bail!("{path} has no source"),
            };
            files.push(File { path: path.clone(), mode: octal(mode)?, content });
        }
        for Folder { path, source, mode } in &self.folder {
            let source = directory.join(source);
            let below = below(&source)?;
            if below.is_empty() {
                bail!("{} has no files", source.display());
            }
            for file in below {
                let name = file.strip_prefix(&source)?.to_str().context("a name of bytes")?;
                let path = format!("{}/{name}", path.trim_end_matches('/'));
                files.push(File { path, mode: octal(mode)?, content: content(&file)? });
            }
        }
        files.sort_unstable_by(|a, b| a.path.cmp(&b.path));
        if let Some(file) = files.iter().find(|file| file.content.is_empty()) {
            bail!("{} would be empty", file.path);
        }
        let number = files.len();
        files.dedup_by(|a, b| a.path == b.path);
        if files.len() < number {
            bail!("a file is there twice");
        }
        Ok(files)
    }
}

/// The recipes of `openwrt-package` that are the same for every router.
pub(super) fn for_all() -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(run::root().join("openwrt-package"))? {
        let entry = entry?;
        let recipe = entry.path().join("package.toml");
        if recipe.is_file() && parse(&content(&recipe)?)?.arch.is_some() {
            names.push(entry.file_name().into_string().ok().context("a name of bytes")?);
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// A package of `openwrt-package`, around this agent where it has one.
pub(super) fn read(name: &str, agent: &[u8], time: u32) -> Result<Package> {
    read_from(&run::root().join("openwrt-package").join(name), agent, time)
        .with_context(|| format!("package {name}"))
}

fn read_from(directory: &Path, agent: &[u8], time: u32) -> Result<Package> {
    let recipe = parse(&content(&directory.join("package.toml"))?)?;
    let files = recipe.files(directory, agent)?;
    let script = |path: &Option<PathBuf>| {
        path.as_ref().map(|path| content(&directory.join(path))).transpose()
    };
    let (postinst, postrm) = (script(&recipe.postinst)?, script(&recipe.postrm)?);
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
        arch: recipe.arch,
        user: recipe.user,
        depends,
        conffiles: recipe.conffiles,
        postinst,
        postrm,
        files,
        time,
    })
}

fn parse(text: &[u8]) -> Result<Recipe> {
    toml::from_str(std::str::from_utf8(text)?).context("package.toml is wrong")
}

fn content(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).with_context(|| format!("could not read {}", path.display()))
}

fn octal(mode: &str) -> Result<u32> {
    u32::from_str_radix(mode, 8).with_context(|| format!("{mode} is no mode"))
}

/// All files in a directory and in those below it.
pub(super) fn below(directory: &Path) -> Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(directory)
        .with_context(|| format!("could not read {}", directory.display()))?;
    let mut found = Vec::new();
    for entry in entries {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(below(&path)?);
        } else {
            found.push(path);
        }
    }
    found.sort_unstable();
    Ok(found)
}

//! Kernels: packages of Debian's archive, downloaded once and kept in the cache by package and version, or built.

use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};

use super::cells::Source;
use super::package::{available, download, matches, newest, version};
use super::{modules, source};
use crate::run;

/// A kernel to boot.
pub(crate) struct Kernel {
    /// The image.
    pub(crate) image: PathBuf,
    /// What `uname -r` says there.
    release: String,
    /// Its modules, unless everything is built in.
    modules: Option<PathBuf>,
}

/// The kernel of a cell.
pub(crate) fn get(from: &Source) -> Result<Kernel> {
    match from {
        Source::Package(pattern) => packaged(pattern),
        Source::Router(machine) => {
            let (image, release) = source::router(*machine)?;
            Ok(Kernel { image, release, modules: None })
        }
    }
}

/// The newest kernel whose package matches the pattern.
fn packaged(pattern: &str) -> Result<Kernel> {
    let cache = run::cache()?.join("kernels");
    if let Some(package) = newest(available(pattern)?) {
        let version = version(&package)?;
        let directory = cache.join(format!("{package}_{}", version.replace([':', '/'], "_")));
        if !directory.is_dir() {
            download(&package, &directory)?;
        }
        return Kernel::open(directory);
    }
    // Without lists of packages, what an earlier run has kept will do.
    let kept: Vec<String> = std::fs::read_dir(&cache)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    let matching = kept
        .into_iter()
        .filter(|name| name.split_once('_').is_some_and(|(package, _)| matches(pattern, package)));
    match newest(matching.collect()) {
        Some(name) => Kernel::open(cache.join(name)),
        None => bail!(
            "apt knows no {pattern}: is bookworm-security among the sources? run cross/setup.sh test"
        ),
    }
}

impl Kernel {
    fn open(directory: PathBuf) -> Result<Self> {
        let modules = directory.join("lib/modules");
        let release = std::fs::read_dir(&modules)
            .ok()
            .and_then(|mut entries| entries.next()?.ok())
            .with_context(|| format!("no modules in {}", modules.display()))?
            .file_name()
            .to_string_lossy()
            .into_owned();
        let image = directory.join("boot").join(format!("vmlinuz-{release}"));
        let modules = Some(modules.join(&release));
        Ok(Self { image, release, modules })
    }

    /// Its release, for people.
    pub(crate) fn label(&self) -> &str {
        &self.release
    }

    /// Modules by name with all that they depend on, in an order that can be loaded.
    pub(crate) fn modules(&self, names: &[String]) -> Result<Vec<(String, Vec<u8>)>> {
        self.modules.as_ref().map_or_else(|| Ok(Vec::new()), |at| modules::collect(at, names))
    }
}

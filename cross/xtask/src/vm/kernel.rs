//! Kernels: packages of Debian's archive, downloaded once and kept in the cache by package and version, or built.

use std::cmp::Ordering;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use super::cells::Source;
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

fn available(pattern: &str) -> Result<Vec<String>> {
    let prefix = pattern.split('*').next().unwrap_or_default();
    let names = run::output(Command::new("apt-cache").args(["pkgnames", prefix]))?;
    Ok(names.lines().filter(|name| matches(pattern, name)).map(str::to_owned).collect())
}

/// Whether a name matches a pattern with at most one `*`, which begins with a digit: `6.1.*` is no pattern for the
/// meta package, nor for one with another word in between.
fn matches(pattern: &str, name: &str) -> bool {
    let Some((prefix, suffix)) = pattern.split_once('*') else {
        return pattern == name;
    };
    name.strip_prefix(prefix)
        .and_then(|rest| rest.strip_suffix(suffix))
        .is_some_and(|middle| middle.starts_with(|c: char| c.is_ascii_digit()))
}

fn newest(names: Vec<String>) -> Option<String> {
    names.into_iter().max_by(|a, b| natural(a, b))
}

/// Compares names so that numbers in them count by their value.
fn natural(a: &str, b: &str) -> Ordering {
    fn parts(text: &str) -> Vec<(u64, &str)> {
        text.split_inclusive(|c: char| !c.is_ascii_digit())
            .map(|part| {
                let digits = part.bytes().take_while(u8::is_ascii_digit).count();
                (part[..digits].parse().unwrap_or(0), &part[digits..])
            })
            .collect()
    }
    parts(a).cmp(&parts(b))
}

fn version(package: &str) -> Result<String> {
    let table = run::output(Command::new("apt-cache").args(["madison", package]))?;
    table
        .lines()
        .next()
        .and_then(|line| line.split('|').nth(1))
        .map(|version| version.trim().to_owned())
        .with_context(|| format!("apt has no version of {package}"))
}

/// Downloads and unpacks a package. The directory appears only when it is complete.
fn download(package: &str, directory: &Path) -> Result<()> {
    let scratch = directory.with_extension(format!("{}.partial", std::process::id()));
    std::fs::create_dir_all(&scratch)?;
    println!("vm: downloading {package}");
    let result = unpack(package, &scratch).and_then(|tree| {
        std::fs::rename(tree, directory)?;
        Ok(())
    });
    std::fs::remove_dir_all(&scratch)?;
    result
}

/// Downloads a package into a directory and unpacks it there; returns where its files lie.
pub(crate) fn unpack(package: &str, scratch: &Path) -> Result<PathBuf> {
    fetch(package, scratch)?;
    let archive = std::fs::read_dir(scratch)?
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.extension().is_some_and(|extension| extension == "deb"))
        .context("apt-get download left no package")?;
    let tree = scratch.join("tree");
    run::run(Command::new("dpkg-deb").arg("-x").args([&archive, &tree]))?;
    std::fs::remove_file(archive)?;
    Ok(tree)
}

fn fetch(package: &str, directory: &Path) -> Result<()> {
    // The sandbox user of apt may not write into a cache in a home directory.
    let apt = |args: &[&str]| {
        let mut command = Command::new("apt-get");
        command.args(["-qq", "-o", "APT::Sandbox::User=root"]).args(args).current_dir(directory);
        run::run(&mut command)
    };
    if apt(&["download", package]).is_ok() {
        return Ok(());
    }
    // The lists may name a version that has left the archive.
    apt(&["update"])?;
    apt(&["download", package])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_kernel_is_found_by_value_and_meta_packages_are_none() {
        let pattern = "linux-image-6.12.*-cloud-amd64";
        let names = [
            "linux-image-6.12.9+deb12-cloud-amd64",
            "linux-image-6.12.117+deb12-cloud-amd64",
            "linux-image-6.12.99+deb12-cloud-amd64",
            "linux-image-6.12-cloud-amd64",
            "linux-image-6.12.117+deb12-cloud-amd64-unsigned",
            "linux-image-6.12.dbg-cloud-amd64",
        ];
        let matching: Vec<String> =
            names.iter().filter(|name| matches(pattern, name)).map(ToString::to_string).collect();
        assert_eq!(matching.len(), 3);
        assert_eq!(newest(matching).as_deref(), Some(names[1]));
        assert!(natural("linux-image-6.1.0-9-cloud", "linux-image-6.1.0-10-cloud").is_lt());
    }
}

//! Packages of Debian's archive: which there are, and what is in them.

use std::cmp::Ordering;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::run;

/// Packages whose names match a pattern.
pub(super) fn available(pattern: &str) -> Result<Vec<String>> {
    let prefix = pattern.split('*').next().unwrap_or_default();
    let names = run::output(Command::new("apt-cache").args(["pkgnames", prefix]))?;
    Ok(names.lines().filter(|name| matches(pattern, name)).map(str::to_owned).collect())
}

/// Whether a name matches a pattern with at most one `*`, which begins with a digit: `6.1.*` is no pattern for the
/// meta package, nor for one with another word in between.
pub(super) fn matches(pattern: &str, name: &str) -> bool {
    let Some((prefix, suffix)) = pattern.split_once('*') else {
        return pattern == name;
    };
    name.strip_prefix(prefix)
        .and_then(|rest| rest.strip_suffix(suffix))
        .is_some_and(|middle| middle.starts_with(|c: char| c.is_ascii_digit()))
}

/// The one with the highest numbers.
pub(super) fn newest(names: Vec<String>) -> Option<String> {
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

/// The version that the archive has.
pub(super) fn version(package: &str) -> Result<String> {
    let table = run::output(Command::new("apt-cache").args(["madison", package]))?;
    table
        .lines()
        .next()
        .and_then(|line| line.split('|').nth(1))
        .map(|version| version.trim().to_owned())
        .with_context(|| format!("apt has no version of {package}"))
}

/// Downloads and unpacks a package. The directory appears only when it is complete.
pub(super) fn download(package: &str, directory: &Path) -> Result<()> {
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
pub(super) fn unpack(package: &str, scratch: &Path) -> Result<PathBuf> {
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

//! `.ipk` and `.apk` of the agent and of its pages for LuCI, without an SDK: the same bytes from the same files.
//!
//! Owns the two formats and what is put into them; the recipe and its files are in `openwrt-package`.

mod adb;
mod apk;
mod deflate;
pub(crate) mod feed;
mod ipk;
mod recipe;
mod tar;
#[cfg(test)]
mod tests;

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use lexopt::Arg::Long;
use lexopt::ValueExt as _;

use self::recipe::Package;
use crate::targets::{self, Target};
use crate::{agent, ebpf, run};

/// Bytes that the package of pages may take, in either format: a sixth of room above what they take.
const MAX_PAGES: u64 = 38_000;

/// `package [--source | --target T…]`.
pub(crate) fn main(mut parser: lexopt::Parser) -> Result<()> {
    let mut names = Vec::new();
    let mut is_source = false;
    while let Some(arg) = parser.next()? {
        match arg {
            Long("source") => is_source = true,
            Long("target") => names.push(parser.value()?.string()?),
            other => return Err(other.unexpected().into()),
        }
    }
    let targets = targets::read()?;
    if names.is_empty() {
        names = targets.keys().cloned().collect();
    }
    ebpf::build()?;
    if is_source {
        return source();
    }
    for name in names {
        let target = targets.get(&name).with_context(|| format!("no target {name}"))?;
        let agent = std::fs::read(agent::cross(&name, target)?)?;
        build(target, &agent)?;
    }
    for_all()
}

/// Both packages of the agent for routers of a kind.
pub(crate) fn build(target: &Target, agent: &[u8]) -> Result<()> {
    save(&recipe::read("sluice", agent, time()?)?, &target.openwrt, target.max_package)
}

/// Both packages of each recipe that is the same for every router.
pub(crate) fn for_all() -> Result<()> {
    for name in recipe::for_all()? {
        save(&recipe::read(&name, &[], time()?)?, ipk::ALL, MAX_PAGES)?;
    }
    Ok(())
}

fn save(package: &Package, arch: &str, max_size: u64) -> Result<()> {
    let packages = [
        (ipk::name(package, arch), ipk::build(package, arch)?),
        (apk::name(package, arch), apk::build(package, arch)?),
    ];
    for (name, bytes) in packages {
        let path = run::root().join("target/package").join(name);
        write(&path, &bytes)?;
        println!("package: {} {} bytes", run::relative(&path), bytes.len());
        if bytes.len() as u64 > max_size {
            bail!("allowed are {max_size}");
        }
    }
    Ok(())
}

/// The archive that the feed's Makefile builds from: what is committed, and the objects.
fn source() -> Result<()> {
    let name = concat!("sluice-", env!("CARGO_PKG_VERSION"));
    let directory = run::root().join("target/package");
    std::fs::create_dir_all(&directory)?;
    let tar = directory.join(name).with_extension("tar");
    let mut git = Command::new("git");
    git.current_dir(run::root()).args(["archive", "--format", "tar"]);
    for endianness in ["bpfel", "bpfeb"] {
        git.arg(format!("--prefix={name}/prebuilt/{endianness}/"));
        let objects = std::fs::read_dir(ebpf::directory().join(endianness))?;
        let mut objects = objects.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
        objects.sort_unstable();
        for object in objects {
            git.arg(format!("--add-file={}", object.display()));
        }
    }
    run::run(git.arg(format!("--prefix={name}/")).arg("--output").arg(&tar).arg("HEAD"))?;
    let bytes = deflate::gzip(&std::fs::read(&tar)?);
    std::fs::remove_file(&tar)?;
    let path = directory.join(format!("{name}.tar.gz"));
    write(&path, &bytes)?;
    println!("package: {} {} bytes", run::relative(&path), bytes.len());
    Ok(())
}

fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    let directory = path.parent().context("a package without a directory")?;
    std::fs::create_dir_all(directory)?;
    std::fs::write(path, bytes).with_context(|| format!("could not write {}", path.display()))
}

/// What files are said to be from: `SOURCE_DATE_EPOCH`, or the last commit.
fn time() -> Result<u32> {
    let given = std::env::var_os("SOURCE_DATE_EPOCH").and_then(|text| text.into_string().ok());
    let text = match given {
        Some(text) => text,
        None => run::output(
            Command::new("git").args(["log", "-1", "--format=%ct"]).current_dir(run::root()),
        )?,
    };
    text.trim().parse().with_context(|| format!("{text} is no time"))
}

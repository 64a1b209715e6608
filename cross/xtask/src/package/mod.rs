//! `.ipk` and `.apk` of the agent, without an SDK: the same bytes from the same agent.
//!
//! Owns the two formats and what is put into them; the recipe and its files are in `openwrt-package`.

mod adb;
mod apk;
mod deflate;
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

use crate::targets::{self, Target};
use crate::{agent, ebpf, run};

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
    Ok(())
}

/// Both packages for routers of a kind.
pub(crate) fn build(target: &Target, agent: &[u8]) -> Result<()> {
    let package = recipe::read(agent, time()?)?;
    let arch = &target.openwrt;
    let packages = [
        (ipk::name(&package, arch), ipk::build(&package, arch)?),
        (apk::name(&package, arch), apk::build(&package, arch)?),
    ];
    for (name, bytes) in packages {
        let path = run::root().join("target/package").join(name);
        write(&path, &bytes)?;
        println!("package: {} {} bytes", run::relative(&path), bytes.len());
        if bytes.len() as u64 > target.max_package {
            bail!("allowed are {}", target.max_package);
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

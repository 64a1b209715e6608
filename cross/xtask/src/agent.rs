//! Release builds of the agent, with the objects inside.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use lexopt::Arg::Long;
use lexopt::ValueExt as _;

use crate::targets::{self, Target};
use crate::toolchain::Toolchain;
use crate::{ebpf, run, trim};

/// `agent [--target T]…`.
pub(crate) fn main(mut parser: lexopt::Parser) -> Result<()> {
    let mut names = Vec::new();
    while let Some(arg) = parser.next()? {
        match arg {
            Long("target") => names.push(parser.value()?.string()?),
            other => return Err(other.unexpected().into()),
        }
    }
    let targets = targets::read()?;
    if names.is_empty() {
        names.push("host".to_owned());
    } else if names.iter().any(|name| name == "all") {
        names = std::iter::once("host".to_owned()).chain(targets.keys().cloned()).collect();
    }
    ebpf::build()?;
    for name in names {
        let known = || targets.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
        if name == "host" {
            host()?;
        } else {
            let target = targets
                .get(&name)
                .with_context(|| format!("no target {name}: host, {}, all", known()))?;
            cross(&name, target)?;
        }
    }
    Ok(())
}

/// The agent for this machine. The objects must have been built.
pub(crate) fn host() -> Result<PathBuf> {
    let mut cargo = run::host_cargo();
    let agent = build(cargo.arg("build"))?;
    report("host", &agent)?;
    Ok(agent)
}

/// The agent for a router. The objects must have been built.
pub(crate) fn cross(name: &str, target: &Target) -> Result<PathBuf> {
    let linked = build(&mut target.cargo(&Toolchain::find()?, "zigbuild")?)?;
    let agent = run::root().join("target/agent").join(name).join("sluice");
    std::fs::create_dir_all(agent.with_file_name(""))?;
    std::fs::write(&agent, trim::executable(std::fs::read(&linked)?)?)?;
    std::fs::set_permissions(&agent, std::fs::metadata(&linked)?.permissions())?;
    let size = report(name, &agent)?;
    if size > target.max_size {
        bail!("the agent for {name} has {size} bytes, allowed are {}", target.max_size);
    }
    Ok(agent)
}

fn build(cargo: &mut Command) -> Result<PathBuf> {
    let messages = run::output(
        cargo
            .args(["--release", "--quiet", "--package", "sluice", "--bin", "sluice"])
            .args(["--message-format", "json-render-diagnostics"])
            .env("SLUICE_EBPF_DIR", ebpf::directory()),
    )?;
    ebpf::executables(&messages).pop().context("cargo names no executable of the agent")
}

fn report(name: &str, agent: &Path) -> Result<u64> {
    let size = std::fs::metadata(agent)?.len();
    println!("agent: {name}: {} {size} bytes", run::relative(agent));
    Ok(size)
}

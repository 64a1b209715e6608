//! The initial RAM disk of a machine that cannot run the host's programs, or shall not: a PID 1 of the workspace and tests,
//! all static and cross-built, with the agent's code inside. There is no shell and no `ip`.

use std::ffi::OsString;
use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};

use super::initramfs::Tree;
use super::{LIBTEST, push_args, without_symbols};
use crate::targets::{self, Target};
use crate::toolchain::Toolchain;
use crate::{agent, ebpf, run};

/// The RAM disk with `guests`, each `cargo:NAME`, for a target of `cross/targets.toml`; with the agent's program
/// beside them on demand.
pub(crate) fn archive(
    target: &str,
    with_agent: bool,
    guests: &[&String],
    args: &[OsString],
) -> Result<Vec<u8>> {
    let targets = targets::read()?;
    let of = targets.get(target).with_context(|| format!("no target {target}"))?;
    let mut tree = Tree::bare();
    let init = built(of, &["build", "--bin", "init"], |name| name == "init")?;
    tree.file("/init", 0o755, without_symbols(&init)?);
    if with_agent {
        tree.file("/guests/sluice", 0o755, std::fs::read(agent::cross(target, of)?)?);
    }
    let mut start = String::new();
    for guest in guests {
        let Some(test) = guest.strip_prefix("cargo:") else {
            bail!("{guest} is no test of crate sluice-tests, and {target} has no shell");
        };
        let prefix = format!("{test}-");
        let path =
            built(of, &["test", "--no-run", "--test", test], |name| name.starts_with(&prefix))?;
        let place = format!("/guests/{test}");
        tree.file(&place, 0o755, without_symbols(&path)?);
        for part in [test, " / ", &place, LIBTEST] {
            start.push_str(part);
        }
        push_args(&mut start, args);
    }
    tree.file("/guests/start", 0o644, start.into_bytes());
    Ok(tree.into_cpio())
}

/// An executable of crate `sluice-tests`.
fn built(target: &Target, args: &[&str], is_it: impl Fn(&str) -> bool) -> Result<PathBuf> {
    let (subcommand, rest) = args.split_first().context("no cargo command")?;
    // `cargo-zigbuild zigbuild` is its name of build.
    let subcommand = if *subcommand == "build" { "zigbuild" } else { subcommand };
    let mut cargo = target.cargo(&Toolchain::find()?, subcommand)?;
    cargo.args(["--quiet", "--package", "sluice-tests"]).args(rest);
    cargo.args(["--message-format", "json-render-diagnostics"]);
    cargo.env("SLUICE_EBPF_DIR", ebpf::directory());
    let messages = run::output(&mut cargo)?;
    ebpf::executables(&messages)
        .into_iter()
        .find(|path| path.file_name().is_some_and(|name| is_it(&name.to_string_lossy())))
        .with_context(|| format!("cargo names no such executable: {}", args.join(" ")))
}

//! The targets of `cross/targets.toml` and how cargo is called for them.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result};
use serde::Deserialize;

use crate::ebpf;
use crate::run;
use crate::toolchain::Toolchain;

/// A kind of router.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Target {
    /// Rust's name of it.
    pub(crate) triple: String,
    /// OpenWrt's name of the architecture.
    pub(crate) openwrt: String,
    /// Bytes that a package of the agent may take.
    pub(crate) max_package: u64,
    rustflags: Vec<String>,
    /// The emulator that runs its programs.
    pub(crate) qemu: String,
    /// Bytes that the stripped agent may take.
    pub(crate) max_size: u64,
    /// Whether unit tests are run on it.
    #[serde(default)]
    pub(crate) run_tests: bool,
}

/// All targets, by the names that users say.
pub(crate) fn read() -> Result<BTreeMap<String, Target>> {
    let path = run::root().join("cross/targets.toml");
    let text = std::fs::read_to_string(&path)
        .with_context(|| format!("could not read {}", path.display()))?;
    toml::from_str(&text).with_context(|| format!("{} is wrong", path.display()))
}

impl Target {
    /// `cargo zigbuild` (or `cargo test` through it) for this target, with the standard library from source.
    pub(crate) fn cargo(&self, toolchain: &Toolchain, subcommand: &str) -> Result<Command> {
        let (zigbuild, zig) = tools()?;
        let mut flags = self.rustflags.clone();
        // A panic ends the process and symbols are stripped: tables to unwind by are of no use to anybody.
        flags.extend(
            ["-Cforce-unwind-tables=no", "--cfg", "without_unwind_tables"].map(str::to_owned),
        );
        flags.extend(ebpf::remap());
        let mut command = toolchain.subcommand(&zigbuild);
        command
            .args([subcommand, "--target", &self.triple])
            .args(["-Zbuild-std=std,panic_abort", "-Zbuild-std-features=optimize_for_size"])
            .arg("--target-dir")
            .arg(run::root().join("target/cross"))
            .env("CARGO_ZIGBUILD_ZIG_PATH", zig)
            .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"));
        Ok(command)
    }
}

/// cargo-zigbuild and zig, where `cross/setup.sh cross` puts them or from `PATH`.
fn tools() -> Result<(PathBuf, PathBuf)> {
    let tools = run::cache()?.join("tools");
    let find = |cached: &str, name: &str| {
        Some(tools.join(cached))
            .filter(|path| path.is_file())
            .or_else(|| run::find(name))
            .with_context(|| format!("no {name}: run cross/setup.sh cross"))
    };
    Ok((find("bin/cargo-zigbuild", "cargo-zigbuild")?, find("zig/bin/zig", "zig")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_32_bit_target_has_the_cure_for_timers_that_never_fire() {
        let targets = read().unwrap();
        for name in ["mips", "mipsel"] {
            let flags = targets[name].rustflags.join(" ");
            assert!(flags.contains("--cfg fix_y2038"), "{name}: {flags}");
            assert!(targets[name].run_tests, "{name}");
        }
        assert!(targets.contains_key("aarch64"));
    }
}

//! Builds the eBPF objects: crate `sluice-ebpf` for both endiannesses, linked with BTF, stripped of DWARF and of line
//! information (which stays in `target/ebpf-build`, for whoever has to read a verifier log).

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;

use crate::toolchain::{self, Toolchain};
use crate::{btf, run};

/// The endiannesses, as their directories and the architecture part of their triples.
pub(crate) const ENDIANNESSES: [&str; 2] = ["bpfel", "bpfeb"];

/// Where the stripped objects of both endiannesses lie.
pub(crate) fn directory() -> PathBuf {
    run::root().join("target/ebpf")
}

/// Builds every object of both endiannesses and returns their paths.
pub(crate) fn build() -> Result<Vec<PathBuf>> {
    let toolchain = Toolchain::find()?;
    let strip = toolchain::llvm_strip()?;
    println!("ebpf: {}", toolchain.describe());
    let mut objects = Vec::new();
    for endianness in ENDIANNESSES {
        for linked in link(&toolchain, endianness)? {
            objects.push(stripped(&strip, &linked, &directory().join(endianness))?);
        }
    }
    remove_stale(&objects)?;
    for object in &objects {
        println!("ebpf: {} {} bytes", run::relative(object), std::fs::metadata(object)?.len());
    }
    Ok(objects)
}

fn link(toolchain: &Toolchain, endianness: &str) -> Result<Vec<PathBuf>> {
    let triple = format!("{endianness}-unknown-none");
    let target = run::root().join("target/ebpf-build");
    let mut cargo = toolchain.cargo();
    cargo
        .args(["build", "--quiet", "--package", "sluice-ebpf", "--bins", "--profile", "bpf"])
        .args(["--target", &triple, "--message-format", "json-render-diagnostics"])
        .arg("--target-dir")
        .arg(target)
        .env("CARGO_ENCODED_RUSTFLAGS", flags(toolchain)?.join("\x1f"));
    if !toolchain.has_core(&triple) {
        cargo.arg("-Zbuild-std=core");
    }
    let messages = run::output(&mut cargo)?;
    let linked = executables(&messages);
    if linked.is_empty() {
        bail!("sluice-ebpf has no binaries");
    }
    Ok(linked)
}

fn flags(toolchain: &Toolchain) -> Result<Vec<String>> {
    let linker = toolchain.bpf_linker().to_str().context("the linker's path is not UTF-8")?;
    let mut flags = vec![
        "-Clink-arg=--btf".to_owned(),
        "-Cdebuginfo=2".to_owned(),
        format!("-Clinker={linker}"),
    ];
    flags.extend(remap());
    Ok(flags)
}

/// Flags that keep the machine's paths out of debug information, so out of BTF, and out of panic messages.
pub(crate) fn remap() -> Vec<String> {
    let home = std::env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| std::env::var_os("HOME").map(|home| Path::new(&home).join(".cargo")));
    let mut flags = vec![format!("--remap-path-prefix={}=.", run::root().display())];
    flags.extend(home.map(|home| format!("--remap-path-prefix={}=cargo", home.display())));
    flags
}

/// The executables that a cargo with JSON messages says it has built.
pub(crate) fn executables(messages: &str) -> Vec<PathBuf> {
    #[derive(Deserialize)]
    struct Message {
        executable: Option<PathBuf>,
    }
    messages
        .lines()
        .filter_map(|line| serde_json::from_str::<Message>(line).ok()?.executable)
        .collect()
}

fn stripped(strip: &Path, linked: &Path, directory: &Path) -> Result<PathBuf> {
    let name = linked.file_stem().context("an object without a name")?;
    let scratch = linked.with_extension("stripped");
    let mut elf = std::fs::read(linked)?;
    btf::shorten(&mut elf).with_context(|| format!("{}: .BTF", linked.display()))?;
    std::fs::write(&scratch, elf)?;
    run::run(
        Command::new(strip)
            .args(["--strip-debug", "--remove-section=.BTF.ext", "--remove-section=.rel.BTF.ext"])
            .arg(&scratch)
            .stdin(Stdio::null()),
    )?;
    let object = directory.join(name).with_extension("o");
    run::write_if_changed(&object, &std::fs::read(scratch)?)?;
    Ok(object)
}

/// Removes objects whose program is gone: they would still be checked and shipped.
fn remove_stale(objects: &[PathBuf]) -> Result<()> {
    for endianness in ENDIANNESSES {
        for entry in std::fs::read_dir(directory().join(endianness))? {
            let path = entry?.path();
            if !objects.contains(&path) {
                std::fs::remove_file(path)?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_messages_with_an_executable_name_one() {
        let messages = "{\"reason\":\"compiler-artifact\",\"executable\":null}\nnoise\n\
            {\"reason\":\"compiler-artifact\",\"executable\":\"/t/bpfel/xdp_shield\"}\n\
            {\"reason\":\"build-finished\",\"success\":true}\n";
        assert_eq!(executables(messages), [PathBuf::from("/t/bpfel/xdp_shield")]);
    }
}

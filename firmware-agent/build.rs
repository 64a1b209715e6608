//! Puts the eBPF objects into the agent.
//!
//! They come from the directory that `SLUICE_EBPF_DIR` names, where both must be, else from `target/ebpf` as far as
//! `cargo xtask ebpf` has put them there. One that is missing becomes empty, so that `cargo check` and clippy
//! need no toolchain for BPF; the loader refuses an empty object by name.

use std::error::Error;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs};

const OBJECTS: [(&str, &str); 3] =
    [("XDP_SHIELD", "xdp_shield"), ("TC_FLOW", "tc_flow"), ("XDP_DEVICE", "xdp_device")];

fn main() -> Result<(), Box<dyn Error>> {
    let out = PathBuf::from(set("OUT_DIR")?);
    let endianness = if set("CARGO_CFG_TARGET_ENDIAN")? == "big" { "bpfeb" } else { "bpfel" };
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=SLUICE_EBPF_DIR");
    let given = env::var_os("SLUICE_EBPF_DIR").map(PathBuf::from);
    let directory = match &given {
        Some(given) => given.join(endianness),
        None => Path::new(&set("CARGO_MANIFEST_DIR")?).join("../target/ebpf").join(endianness),
    };
    if given.is_none() {
        // Cargo takes a path that does not exist for changed, each time. A directory that is there tells when
        // an object appears.
        let _ = fs::create_dir_all(&directory);
    }
    println!("cargo::rerun-if-changed={}", directory.display());

    let mut source = String::from(
        "/// Gives an object the alignment of the headers that are read from it.\n\
         #[repr(C, align(8))]\n\
         struct Aligned<const N: usize>([u8; N]);\n",
    );
    for (constant, name) in OBJECTS {
        let path = directory.join(name).with_extension("o");
        let object = match fs::read(&path) {
            Ok(object) => object,
            Err(error) if given.is_some() => {
                return Err(
                    format!("SLUICE_EBPF_DIR: could not read {}: {error}", path.display()).into()
                );
            }
            Err(_) => Vec::new(),
        };
        if object.is_empty() && set("PROFILE")? == "release" {
            println!(
                "cargo::warning=the agent is built without object {name}: run cargo xtask agent"
            );
        }
        let file = format!("{name}.o");
        write(&out.join(&file), &object)?;
        let length = object.len();
        write!(
            source,
            "\n/// Object `{name}` ({endianness}); empty when the agent was built without it.\n\
             pub static {constant}: &[u8] = &{constant}_ALIGNED.0;\n\
             static {constant}_ALIGNED: Aligned<{length}> = Aligned(*include_bytes!({file:?}));\n"
        )?;
    }
    write(&out.join("objects.rs"), source.as_bytes())?;
    Ok(())
}

/// Writes a file unless it holds that already: its time says when the agent has to be built anew.
fn write(path: &Path, content: &[u8]) -> std::io::Result<()> {
    if fs::read(path).is_ok_and(|old| old == content) { Ok(()) } else { fs::write(path, content) }
}

/// A variable that cargo always sets.
fn set(name: &str) -> Result<OsString, Box<dyn Error>> {
    env::var_os(name).ok_or_else(|| format!("{name} is not set").into())
}

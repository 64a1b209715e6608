//! Finding a compiler for the BPF target and for targets whose standard library has to be built.
//!
//! Two kinds will do: a rustup toolchain with its own source of `core` and a bpf-linker on `PATH`, or Debian's,
//! which brings both precompiled and as source. `cross/setup.sh` installs the second when it does not see the
//! first, and looks in the same way.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result};

use crate::run;

/// A compiler with the source of its standard library, and a linker for eBPF.
pub(crate) struct Toolchain {
    name: String,
    cargo: PathBuf,
    rustc: PathBuf,
    sysroot: PathBuf,
    bpf_linker: PathBuf,
}

impl Toolchain {
    /// Rustup's, if one is complete, else Debian's.
    pub(crate) fn find() -> Result<Self> {
        rustup().or_else(debian).context(
            "no compiler for the BPF target and no source of the standard library: run cross/setup.sh build",
        )
    }

    /// What is used, for people.
    pub(crate) fn describe(&self) -> String {
        let version = run::output(run::clean(&self.rustc).arg("--version")).unwrap_or_default();
        format!("{} ({}), {}", version.trim(), self.name, self.bpf_linker.display())
    }

    /// This toolchain's cargo, with the unstable options open.
    pub(crate) fn cargo(&self) -> Command {
        self.with_rustc(&self.cargo)
    }

    /// A cargo subcommand that starts this toolchain's cargo itself.
    pub(crate) fn subcommand(&self, program: &Path) -> Command {
        let mut command = self.with_rustc(program);
        command.env("CARGO", &self.cargo);
        command
    }

    /// The linker for eBPF.
    pub(crate) fn bpf_linker(&self) -> &Path {
        &self.bpf_linker
    }

    /// Whether a `core` for the target was delivered with the compiler.
    pub(crate) fn has_core(&self, triple: &str) -> bool {
        self.sysroot.join("lib/rustlib").join(triple).join("lib").is_dir()
    }

    fn with_rustc(&self, program: &Path) -> Command {
        let mut command = run::clean(program);
        command.env("RUSTC", &self.rustc).env("RUSTC_BOOTSTRAP", "1");
        command
    }
}

fn rustup() -> Option<Toolchain> {
    let rustup = run::find("rustup")?;
    let bpf_linker = run::find("bpf-linker")?;
    let list = run::output(Command::new(&rustup).args(["toolchain", "list"])).ok()?;
    list.lines().filter_map(|line| line.split_whitespace().next()).find_map(|name| {
        let sysroot = sysroot(run::clean(&rustup).args(["run", name, "rustc"]))?;
        let source = sysroot.join("lib/rustlib/src/rust/library/core/Cargo.toml");
        source.is_file().then(|| Toolchain {
            name: format!("rustup {name}"),
            cargo: sysroot.join("bin/cargo"),
            rustc: sysroot.join("bin/rustc"),
            sysroot,
            bpf_linker: bpf_linker.clone(),
        })
    })
}

fn debian() -> Option<Toolchain> {
    let rustc = PathBuf::from("/usr/bin/rustc");
    let sysroot = sysroot(&mut run::clean(&rustc))?;
    let cached = run::cache().ok()?.join("tools/bin/bpf-linker");
    let bpf_linker = Some(cached).filter(|p| p.is_file()).or_else(|| run::find("bpf-linker"))?;
    let toolchain = Toolchain {
        name: "Debian".to_owned(),
        cargo: "/usr/bin/cargo".into(),
        rustc,
        sysroot,
        bpf_linker,
    };
    toolchain.has_core("bpfel-unknown-none").then_some(toolchain)
}

fn sysroot(rustc: &mut Command) -> Option<PathBuf> {
    let output = rustc.args(["--print", "sysroot"]).stderr(Stdio::null()).output().ok()?;
    let path = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| PathBuf::from(path.trim()))
}

/// The newest `llvm-strip` of the machine: Debian adds the major version to the name.
pub(crate) fn llvm_strip() -> Result<PathBuf> {
    (15..=30)
        .rev()
        .find_map(|major| run::find(&format!("llvm-strip-{major}")))
        .or_else(|| run::find("llvm-strip"))
        .context("no llvm-strip: run cross/setup.sh build")
}

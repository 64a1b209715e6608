//! Running other programs: where the workspace is, clean environments, output that is watched while it is shown.

use std::ffi::OsStr;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

use crate::libtest::{Failure, Output};

/// The root of the workspace.
pub(crate) fn root() -> PathBuf {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.ancestors().nth(2).unwrap_or(manifest).to_owned()
}

/// The cache directory that `cross/setup.sh` shares with xtask.
pub(crate) fn cache() -> Result<PathBuf> {
    let absolute = |name| std::env::var_os(name).map(PathBuf::from).filter(|p| p.is_absolute());
    absolute("XDG_CACHE_HOME")
        .or_else(|| absolute("HOME").map(|home| home.join(".cache")))
        .map(|cache| cache.join("sluice"))
        .context("neither XDG_CACHE_HOME nor HOME is set")
}

/// A program of `PATH`, or of the directories that only root has there.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from))
        .map(|directory| directory.join(program))
        .find(|candidate| candidate.is_file())
}

/// A command that does not inherit what the cargo running xtask has put into the environment: its own
/// variables, the library path of its toolchain, and flags meant for the host.
pub(crate) fn clean(program: impl AsRef<OsStr>) -> Command {
    let mut command = inner(program);
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(is_inherited_flag) {
            command.env_remove(&name);
        }
    }
    command
}

/// The host's own cargo, the one that runs xtask, with the flags that the user gave it.
pub(crate) fn host_cargo() -> Command {
    inner(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

fn inner(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    command.current_dir(root());
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(is_inherited) {
            command.env_remove(&name);
        }
    }
    command
}

/// Variables that cargo sets for the programs it runs.
fn is_inherited(name: &str) -> bool {
    name == "LD_LIBRARY_PATH"
        || name == "CARGO"
        || ["CARGO_MANIFEST_", "CARGO_PKG_", "CARGO_BIN_", "CARGO_CRATE_", "CARGO_CFG_"]
            .iter()
            .any(|prefix| name.starts_with(prefix))
}

/// Variables that choose compilers or flags.
fn is_inherited_flag(name: &str) -> bool {
    matches!(
        name,
        "RUSTC"
            | "RUSTDOC"
            | "RUSTFLAGS"
            | "RUSTDOCFLAGS"
            | "RUSTC_WRAPPER"
            | "RUSTC_WORKSPACE_WRAPPER"
            | "RUSTC_BOOTSTRAP"
            | "RUSTUP_TOOLCHAIN"
            | "CARGO_ENCODED_RUSTFLAGS"
            | "CARGO_BUILD_TARGET"
            | "CARGO_BUILD_RUSTFLAGS"
            | "CARGO_TARGET_DIR"
    ) || name.starts_with("CARGO_TARGET_")
        || name.starts_with("CARGO_PROFILE_")
        || name.starts_with("CARGO_UNSTABLE_")
}

/// Runs a command to its end with its output on ours.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("could not run {}", shown(command)))?;
    if !status.success() {
        bail!("{} failed: {status}", shown(command));
    }
    Ok(())
}

/// What a command prints.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let output = command
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("could not run {}", shown(command)))?;
    if !output.status.success() {
        bail!("{} failed: {}", shown(command), output.status);
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Runs test programs and hands each line that they print to `watch`; shows what is worth it and keeps what failed
/// ([`libtest::Output`](crate::libtest::Output)). The caller looks at the result after it has counted: a failed test
/// is a failed command.
pub(crate) fn watched(
    command: &mut Command,
    mut watch: impl FnMut(&str),
    failed: &mut Vec<Failure>,
) -> Result<()> {
    let mut output = Output::default();
    let mut child = command
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("could not run {}", shown(command)))?;
    let stdout = child.stdout.take().context("the child has no output")?;
    for line in BufReader::new(stdout).split(b'\n') {
        let line = line?;
        let line = String::from_utf8_lossy(&line);
        if let Some(shown) = output.line(&line) {
            println!("{shown}");
        }
        watch(&line);
    }
    failed.append(&mut output.into_failed());
    let status = child.wait()?;
    if !status.success() {
        bail!("{} failed: {status}", shown(command));
    }
    Ok(())
}

/// Writes a file unless it has this content already, so that what depends on it is not built again.
pub(crate) fn write_if_changed(path: &Path, content: &[u8]) -> Result<()> {
    if std::fs::read(path).is_ok_and(|old| old == content) {
        return Ok(());
    }
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent)?;
    }
    std::fs::write(path, content).with_context(|| format!("could not write {}", path.display()))
}

/// A path as it is shown: from the root of the workspace.
pub(crate) fn relative(path: &Path) -> String {
    path.strip_prefix(root()).unwrap_or(path).display().to_string()
}

fn shown(command: &Command) -> String {
    let mut text = command.get_program().to_string_lossy().into_owned();
    for arg in command.get_args() {
        text.push(' ');
        text.push_str(&arg.to_string_lossy());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clean_command_loses_the_callers_compiler_but_keeps_its_network_settings() {
        for name in ["RUSTFLAGS", "RUSTUP_TOOLCHAIN", "CARGO_TARGET_X_RUNNER", "CARGO_PROFILE_A_B"]
        {
            assert!(is_inherited_flag(name), "{name}");
        }
        for name in
            ["CARGO_HOME", "CARGO_NET_OFFLINE", "CARGO_HTTP_PROXY", "HOME", "CARGO_BUILD_JOBS"]
        {
            assert!(!is_inherited_flag(name) && !is_inherited(name), "{name}");
        }
    }

    #[test]
    fn a_file_with_the_same_content_is_not_touched() {
        let path = std::env::temp_dir().join(format!("xtask-unchanged-{}", std::process::id()));
        write_if_changed(&path, b"a").unwrap();
        let mut permissions = std::fs::metadata(&path).unwrap().permissions();
        let before = std::fs::metadata(&path).unwrap().modified().unwrap();
        permissions.set_readonly(true);
        std::fs::set_permissions(&path, permissions).unwrap();
        write_if_changed(&path, b"a").unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().modified().unwrap(), before);
        std::fs::remove_file(&path).unwrap();
    }
}

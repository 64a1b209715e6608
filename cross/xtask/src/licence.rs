//! Licences: what each crate and each dependency declares, the files that have to be there, and names and files that
//! must not be.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;

use crate::run;

/// User space and shared crates; the programs need GPL-only helpers besides.
const LICENCE: &str = "Apache-2.0 OR MIT";
const PROGRAMS: (&str, &str) = ("sluice-ebpf", "(Apache-2.0 OR MIT) AND GPL-2.0-only");

/// Files that say so, and a phrase of each.
const FILES: [(&str, &str); 6] = [
    ("LICENSE", "Apache-2.0 OR MIT"),
    ("LICENSE-APACHE", "Apache License"),
    ("LICENSE-MIT", "Permission is hereby granted"),
    ("ebpf/programs/LICENSE-GPL-2.0", "GNU GENERAL PUBLIC LICENSE"),
    ("NOTICE", "JA3"),
    // Its licence asks for its text.
    ("NOTICE", "JA4"),
];

/// Projects whose licences do not go with ours: their names in a source file would mean that something came from there.
/// Written in two parts, so that this file is none that names them.
const FOREIGN: [&str; 9] = [
    concat!("fly", "wall"),
    concat!("dae", "universe"),
    concat!("fire", "walla"),
    concat!("ad", "block-fast"),
    concat!("suri", "cata"),
    concat!("libre", "qos"),
    concat!("open", "snitch"),
    concat!("neti", "fy"),
    concat!("snort", "3"),
];
/// Fingerprints of the JA4 family that are not free.
const NOT_FREE: [&str; 7] = [
    concat!("ja", "4s"),
    concat!("ja", "4h"),
    concat!("ja", "4l"),
    concat!("ja", "4x"),
    concat!("ja", "4ssh"),
    concat!("ja", "4t"),
    concat!("ja", "4d"),
];

/// `licence`.
pub(crate) fn main() -> Result<()> {
    let mut faults = crates()?;
    faults.extend(licence_files());
    let files = tracked()?;
    faults.extend(build_products(&files));
    let sources = sources(&files);
    for path in &sources {
        let text = std::fs::read_to_string(run::root().join(path))
            .with_context(|| format!("could not read {}", path.display()))?;
        faults.extend(names(path, &text));
    }
    if faults.is_empty() {
        println!("licence: crates, files and {} sources are clean", sources.len());
        return Ok(());
    }
    bail!("{} faults\n  {}", faults.len(), faults.join("\n  "))
}

/// The lists of `deny.toml`, enforced here too because cargo-deny is not everywhere.
#[derive(Deserialize)]
struct Policy {
    licenses: Licences,
    bans: Bans,
}

#[derive(Deserialize)]
struct Licences {
    allow: Vec<String>,
}

#[derive(Deserialize)]
struct Bans {
    deny: Vec<Ban>,
}

#[derive(Deserialize)]
struct Ban {
    #[serde(rename = "crate")]
    name: String,
    reason: String,
}

impl Policy {
    fn read() -> Result<Self> {
        toml::from_str(&std::fs::read_to_string(run::root().join("deny.toml"))?)
            .context("deny.toml is wrong")
    }

    /// What is wrong with a dependency.
    fn fault(&self, name: &str, licence: Option<&str>) -> Option<String> {
        if let Some(ban) = self.bans.deny.iter().find(|ban| ban.name == name) {
            return Some(format!("dependency {name} is refused: {}", ban.reason));
        }
        let licence = licence.unwrap_or("none");
        (!self.allows(licence)).then(|| format!("dependency {name}: licence {licence}"))
    }

    /// Whether one of the alternatives is allowed. Not all of SPDX: what crates write.
    fn allows(&self, expression: &str) -> bool {
        let allowed = |text: &str| {
            let text = text.trim_matches(|c| matches!(c, ' ' | '(' | ')'));
            self.licenses.allow.iter().any(|allow| allow == text)
        };
        let every = |text: &str| text.split(" AND ").all(|part| part.split(" OR ").any(allowed));
        if expression.contains(" AND ") {
            every(expression)
        } else {
            expression.split(" OR ").flat_map(|part| part.split('/')).any(allowed)
        }
    }
}

fn crates() -> Result<Vec<String>> {
    #[derive(Deserialize)]
    struct Metadata {
        packages: Vec<Package>,
    }
    #[derive(Deserialize)]
    struct Package {
        name: String,
        license: Option<String>,
        /// `None` for crates of the workspace.
        source: Option<String>,
    }
    let json = run::output(run::host_cargo().args([
        "metadata",
        "--quiet",
        "--format-version",
        "1",
        "--locked",
    ]))?;
    let metadata: Metadata = serde_json::from_str(&json)?;
    let policy = Policy::read()?;
    Ok(metadata
        .packages
        .iter()
        .filter_map(|Package { name, license, source }| match source {
            None => crate_fault(name, license.as_deref()),
            Some(_) => policy.fault(name, license.as_deref()),
        })
        .collect())
}

fn crate_fault(name: &str, licence: Option<&str>) -> Option<String> {
    let wanted = if name == PROGRAMS.0 { PROGRAMS.1 } else { LICENCE };
    let found = licence.unwrap_or("none");
    (found != wanted).then(|| format!("crate {name}: licence is {found}, not {wanted}"))
}

fn licence_files() -> Vec<String> {
    FILES
        .iter()
        .filter(|(file, phrase)| {
            !std::fs::read_to_string(run::root().join(file)).is_ok_and(|text| text.contains(phrase))
        })
        .map(|(file, phrase)| format!("{file} is missing or does not say \"{phrase}\""))
        .collect()
}

/// Every file of the repository, with those that are about to become one.
fn tracked() -> Result<Vec<PathBuf>> {
    let list = run::output(
        Command::new("git")
            .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
            .current_dir(run::root()),
    )?;
    Ok(list.split('\0').filter(|name| !name.is_empty()).map(PathBuf::from).collect())
}

/// What belongs to a build, or is far larger than anything that people write.
fn build_products(files: &[PathBuf]) -> Vec<String> {
    const LARGEST: u64 = 1 << 20;
    files
        .iter()
        .filter_map(|path| {
            let size = std::fs::metadata(run::root().join(path)).map_or(0, |file| file.len());
            if path.ends_with("CACHEDIR.TAG") {
                Some(format!("{} marks a directory of build products", path.display()))
            } else {
                (size > LARGEST).then(|| format!("{} has {size} bytes", path.display()))
            }
        })
        .collect()
}

/// Files that hold code or configuration. Documents may name other projects.
fn sources(files: &[PathBuf]) -> Vec<&PathBuf> {
    let is_source = |path: &Path| {
        let known = ["rs", "sh", "toml", "txt", "uci", "js", "json", "nft", "yml"];
        path.extension().and_then(|e| e.to_str()).is_none_or(|e| known.contains(&e))
    };
    files
        .iter()
        .filter(|path| is_source(path) && !is_text_of_a_licence(path))
        .filter(|path| is_text(&run::root().join(path)))
        .collect()
}

fn is_text_of_a_licence(path: &Path) -> bool {
    path.file_name().is_some_and(|name| {
        let name = name.to_string_lossy();
        name.starts_with("LICENSE") || name == "NOTICE"
    })
}

fn is_text(path: &Path) -> bool {
    std::fs::read(path).is_ok_and(|bytes| std::str::from_utf8(&bytes).is_ok())
}

fn names(path: &Path, text: &str) -> Vec<String> {
    let lower = text.to_lowercase();
    let mut faults = Vec::new();
    for word in lower.split(|c: char| !(c.is_ascii_alphanumeric() || c == '-')) {
        if FOREIGN.iter().any(|name| word.contains(name)) || NOT_FREE.contains(&word) {
            faults.push(format!("{} names {word}", path.display()));
        }
    }
    faults.dedup();
    faults
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_found_in_any_case_and_inside_a_word_but_ja4_is_free() {
        let path = Path::new("a.rs");
        for name in FOREIGN {
            let text = format!("// as in {}_rules", name.to_uppercase());
            assert_eq!(names(path, &text).len(), 1, "{name}");
        }
        let text = format!("fn {}() {{}}", NOT_FREE[0]);
        assert_eq!(names(path, &text).len(), 1);
        assert_eq!(names(path, "ja4, JA4 and ja3s are implemented; a daemon"), [""; 0]);
    }

    #[test]
    fn a_dependency_needs_one_allowed_alternative_and_no_ban() {
        let policy = Policy::read().unwrap();
        for licence in
            ["MIT", "GPL-3.0 OR MIT", "MIT/Apache-2.0", "(MIT OR Apache-2.0) AND Unicode-3.0"]
        {
            assert_eq!(policy.fault("x", Some(licence)), None, "{licence}");
        }
        for licence in ["AGPL-3.0", "MIT AND GPL-3.0", "(MIT OR Apache-2.0) AND AGPL-3.0"] {
            assert!(policy.fault("x", Some(licence)).is_some(), "{licence}");
        }
        assert!(policy.fault("x", None).is_some());
        assert!(policy.fault("tokio", Some("MIT")).unwrap().contains("smol"));
    }

    #[test]
    fn only_the_programs_are_under_the_gpl_as_well() {
        assert_eq!(crate_fault("sluice", Some(LICENCE)), None);
        assert_eq!(crate_fault(PROGRAMS.0, Some(PROGRAMS.1)), None);
        assert!(crate_fault(PROGRAMS.0, Some(LICENCE)).is_some());
        assert!(crate_fault("sluice", None).is_some());
    }
}

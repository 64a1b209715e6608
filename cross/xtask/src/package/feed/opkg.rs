//! `Packages`: the control of each package, with the name, size and digest of its file.

use std::fmt::Write as _;

use anyhow::{Context as _, Result, ensure};
use sha2::{Digest as _, Sha256};

use super::super::apk::hex;
use super::super::{deflate, tar};

/// What the index says of a package.
#[derive(Clone)]
pub(super) struct Entry {
    pub(super) arch: String,
    /// Fields, and the one that is last because it may have several lines.
    fields: String,
    description: String,
}

/// Reads an `.ipk`.
pub(super) fn read(file: &str, bytes: &[u8]) -> Result<Entry> {
    let outer = deflate::gunzip(bytes)?;
    let control = tar::file(&outer, "control.tar.gz").context("no control.tar.gz in it")?;
    let control = deflate::gunzip(control)?;
    let control = tar::file(&control, "control").context("no control in it")?;
    let control = std::str::from_utf8(control)?;
    let (fields, description) =
        control.split_once("\nDescription:").context("a package without a description")?;
    let field =
        |name: &str| fields.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
    ensure!(field("Package").is_some() && field("Version").is_some(), "a package without a name");
    let arch = field("Architecture").context("a package for no architecture")?.to_owned();
    let digest = hex(&Sha256::digest(bytes));
    let size = bytes.len();
    let fields = format!("{fields}\nFilename: {file}\nSize: {size}\nSHA256sum: {digest}\n");
    Ok(Entry { arch, fields, description: description.trim_end().to_owned() })
}

/// The text of the index.
pub(super) fn index(packages: &[&Entry]) -> String {
    packages.iter().fold(String::new(), |mut text, package| {
        let _ = write!(text, "{}Description:{}\n\n", package.fields, package.description);
        text
    })
}

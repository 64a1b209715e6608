//! Packages for apk-tools 3: a tree that says everything, and blocks with the content of the files, deflated together.
//! They are not signed: a feed's index is.

use std::fmt::Write as _;

use anyhow::{Context as _, Result};
use sha2::{Digest as _, Sha256};

use super::adb::{self, Tree, Value};
use super::deflate;
use super::recipe::{File, Package};
use super::tar::parents;

/// Block types, in the upper two bits of a block's size.
pub(super) const BLOCK_TREE: u32 = 0;
pub(super) const BLOCK_SIGNATURE: u32 = 1;
const BLOCK_DATA: u32 = 2;
/// The part of the digest that a package is known by.
const IDENTITY: usize = 20;

/// What apk calls the architecture of a package for all of them.
pub(super) const NOARCH: &str = "noarch";

/// The file that apk installs.
pub(super) fn build(package: &Package, arch: &str) -> Result<Vec<u8>> {
    let mut bytes = b"ADBd".to_vec();
    bytes.extend(deflate::raw(&plain(package, arch)?));
    Ok(bytes)
}

/// What it is called. apk's names say no architecture.
pub(super) fn name(package: &Package, arch: &str) -> String {
    format!("{}/{}-{}.apk", architecture(package, arch), package.name, package.version)
}

const fn architecture<'a>(package: &Package, arch: &'a str) -> &'a str {
    if package.arch.is_some() { NOARCH } else { arch }
}

/// The package before it is compressed.
pub(super) fn plain(package: &Package, arch: &str) -> Result<Vec<u8>> {
    let directories = directories(package);
    let mut bytes = b"ADB.pckg".to_vec();
    block(&mut bytes, BLOCK_TREE, &[&tree(package, arch, &directories)?])?;
    for (path, directory) in directories.iter().enumerate() {
        for (file, content) in directory.files.iter().enumerate() {
            if content.content.is_empty() {
                continue;
            }
            let number = |index: usize| u32::try_from(index + 1).map(u32::to_le_bytes);
            block(&mut bytes, BLOCK_DATA, &[&number(path)?, &number(file)?, &content.content])?;
        }
    }
    Ok(bytes)
}

/// Appends a block.
pub(super) fn block(bytes: &mut Vec<u8>, kind: u32, parts: &[&[u8]]) -> Result<()> {
    let size: usize = 4 + parts.iter().map(|part| part.len()).sum::<usize>();
    let size = u32::try_from(size).ok().filter(|size| size >> 30 == 0).context("a huge block")?;
    bytes.extend((kind << 30 | size).to_le_bytes());
    bytes.extend(parts.concat());
    bytes.resize(bytes.len().next_multiple_of(8), 0);
    Ok(())
}

/// A directory of the package, without the leading slash; the root has no name.
struct Directory {
    path: String,
    files: Vec<File>,
}

/// All directories in apk's order, with the files that a router's own tools look for besides the package's.
fn directories(package: &Package) -> Vec<Directory> {
    let mut files = package.files.clone();
    files.extend(lists(package));
    let mut paths = parents(files.iter().map(|file| file.path.as_str()));
    paths.insert(0, "/".to_owned());
    let directory = |path: String| {
        let mut files: Vec<File> =
            files.iter().filter(|file| file.directory() == path).cloned().collect();
        files.sort_unstable_by(|a, b| a.name().cmp(b.name()));
        Directory { path: path.trim_start_matches('/').to_owned(), files }
    };
    paths.into_iter().map(directory).collect()
}

/// What opkg keeps in its own database: the files, which of them are configuration, and the user.
fn lists(package: &Package) -> Vec<File> {
    let list = |kind: &str, content: String| File {
        path: format!("/lib/apk/packages/{}.{kind}", package.name),
        mode: 0o644,
        content: content.into_bytes(),
    };
    let mut paths: Vec<&str> = package.files.iter().map(|file| file.path.as_str()).collect();
    paths.sort_unstable();
    let rusers = package.user.as_ref().map(|user| list("rusers", format!("{user}\n")));
    paths.extend(rusers.as_ref().map(|file| file.path.as_str()));
    paths.sort_unstable();
    let mut sums = String::new();
    for path in &package.conffiles {
        if let Some(file) = package.files.iter().find(|file| file.path == *path) {
            let _ = writeln!(sums, "{path} {}", hex(&Sha256::digest(&file.content)));
        }
    }
    let files = list("list", paths.join("\n") + "\n");
    let mut lists = vec![files];
    lists.extend(rusers);
    if !package.conffiles.is_empty() {
        lists.push(list("conffiles", package.conffiles.join("\n") + "\n"));
        lists.push(list("conffiles_static", sums));
    }
    lists
}

/// Bytes as digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn tree(package: &Package, arch: &str, directories: &[Directory]) -> Result<Vec<u8>> {
    let mut tree = Tree::new();
    let text = |tree: &mut Tree, text: &str| tree.blob(text.as_bytes());
    let name = text(&mut tree, &package.name)?;
    let version = text(&mut tree, &package.version)?;
    let description = text(&mut tree, &package.description)?;
    let architecture = text(&mut tree, architecture(package, arch))?;
    let licence = text(&mut tree, &package.licence)?;
    let origin = text(&mut tree, &package.name)?;
    let mut depends = Vec::new();
    for dependency in &package.depends {
        let name = text(&mut tree, dependency)?;
        depends.push(tree.object(&[name])?);
    }
    let depends = tree.object(&depends)?;

    let mut paths = Vec::new();
    for directory in directories {
        paths.push(entry(&mut tree, directory, package.time)?);
    }
    let size: usize = directories.iter().flat_map(|d| &d.files).map(|f| f.content.len()).sum();
    let size = tree.number(u32::try_from(size)?)?;
    let identity = tree.own_blob(&[0; IDENTITY])?;
    let none = Value::NONE;
    #[rustfmt::skip]
    let info = tree.object(&[
        name, version, identity, description, architecture, licence, origin,
        none, none, none, none, // maintainer, address, commit, time of the build
        size,
        none, none, // size of the file, priority as a provider
        depends,
    ])?;
    let paths = tree.object(&paths)?;
    let scripts = scripts(&mut tree, package)?;
    let root = tree.object(&[info, paths, scripts])?;
    let mut bytes = tree.finish(root);
    let digest = Sha256::digest(&bytes);
    adb::overwrite(&mut bytes, identity, digest.get(..IDENTITY).context("a short digest")?)?;
    Ok(bytes)
}

fn entry(tree: &mut Tree, directory: &Directory, time: u32) -> Result<Value> {
    let mut files = Vec::new();
    for file in &directory.files {
        let name = tree.blob(file.name().as_bytes())?;
        let digest = tree.blob(&Sha256::digest(&file.content))?;
        let changed = tree.number(time)?;
        let size = tree.number(u32::try_from(file.content.len())?)?;
        let owner = owner(tree, file.mode)?;
        files.push(tree.object(&[name, owner, size, changed, digest])?);
    }
    let name = tree.blob(directory.path.as_bytes())?;
    let owner = owner(tree, 0o755)?;
    let files = tree.object(&files)?;
    tree.object(&[name, owner, files])
}

fn owner(tree: &mut Tree, mode: u32) -> Result<Value> {
    let mode = tree.number(mode)?;
    let root = tree.blob(b"root")?;
    tree.object(&[mode, root, root])
}

fn scripts(tree: &mut Tree, package: &Package) -> Result<Value> {
    let install = script(package, "add_group_and_user\ndefault_postinst\n");
    let install =
        install.replacen("#!/bin/sh\n", "#!/bin/sh\n[ \"${IPKG_NO_SCRIPT}\" = 1 ] && exit 0\n", 1);
    // Whether the service is started at boot is the user's choice by then.
    let upgrade = install.replacen("#!/bin/sh\n", "#!/bin/sh\nexport PKG_UPGRADE=1\n", 1);
    let own = package.postinst.as_deref().map(String::from_utf8_lossy).unwrap_or_default();
    // One file has one first line.
    let own = own.strip_prefix("#!/bin/sh\n").unwrap_or(&own);
    let (install, upgrade) = (install + own, upgrade + own);
    let remove = script(package, "default_prerm\n");
    let none = Value::NONE;
    let install = tree.blob(install.as_bytes())?;
    let remove = tree.blob(remove.as_bytes())?;
    let removed = tree.blob(package.postrm.as_deref().unwrap_or_default())?;
    let upgrade = tree.blob(upgrade.as_bytes())?;
    tree.object(&[none, none, install, remove, removed, none, upgrade])
}

/// A script that hands over to the one that every package of OpenWrt uses.
fn script(package: &Package, calls: &str) -> String {
    format!(
        "#!/bin/sh\n\
         [ -s \"${{IPKG_INSTROOT}}/lib/functions.sh\" ] || exit 0\n\
         . \"${{IPKG_INSTROOT}}/lib/functions.sh\"\n\
         export root=\"${{IPKG_INSTROOT}}\"\n\
         export pkgname=\"{}\"\n\
         {calls}",
        package.name
    )
}

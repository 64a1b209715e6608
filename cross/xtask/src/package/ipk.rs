//! Packages for opkg: an archive of archives.

use std::fmt::Write as _;

use anyhow::Result;

use super::deflate::gzip;
use super::recipe::{File, Package};
use super::tar::{Tar, parents};

/// What opkg calls the architecture of a package for all of them.
pub(super) const ALL: &str = "all";

/// The file that opkg installs.
pub(super) fn build(package: &Package, arch: &str) -> Result<Vec<u8>> {
    let mut outer = Tar::new(package.time);
    outer.file("./debian-binary", 0o644, b"2.0\n")?;
    outer.file("./data.tar.gz", 0o644, &gzip(&data(package)?))?;
    outer.file("./control.tar.gz", 0o644, &gzip(&control(package, arch)?))?;
    Ok(gzip(&outer.finish()))
}

/// What it is called.
pub(super) fn name(package: &Package, arch: &str) -> String {
    format!("{}_{}_{}.ipk", package.name, package.version, package.arch.as_deref().unwrap_or(arch))
}

fn data(package: &Package) -> Result<Vec<u8>> {
    let mut tar = Tar::new(package.time);
    tar.directory(".", 0o755)?;
    let directories = parents(package.files.iter().map(|file| file.path.as_str()));
    let mut entries: Vec<(&str, Option<&File>)> =
        directories.iter().map(|path| (path.as_str(), None)).collect();
    entries.extend(package.files.iter().map(|file| (file.path.as_str(), Some(file))));
    entries.sort_unstable_by_key(|(path, _)| *path);
    for (path, file) in entries {
        let path = format!(".{path}");
        match file {
            None => tar.directory(&path, 0o755)?,
            Some(file) => tar.file(&path, file.mode, &file.content)?,
        }
    }
    Ok(tar.finish())
}

fn control(package: &Package, arch: &str) -> Result<Vec<u8>> {
    let mut tar = Tar::new(package.time);
    tar.directory(".", 0o755)?;
    if !package.conffiles.is_empty() {
        let conffiles = package.conffiles.join("\n") + "\n";
        tar.file("./conffiles", 0o644, conffiles.as_bytes())?;
    }
    tar.file("./control", 0o644, fields(package, arch).as_bytes())?;
    tar.file(
        "./postinst",
        0o755,
        script("[ \"${IPKG_NO_SCRIPT}\" = 1 ] && exit 0\n", "default_postinst").as_bytes(),
    )?;
    // default_postinst runs it.
    if let Some(postinst) = &package.postinst {
        tar.file("./postinst-pkg", 0o755, postinst)?;
    }
    if let Some(postrm) = &package.postrm {
        tar.file("./postrm", 0o755, postrm)?;
    }
    tar.file("./prerm", 0o755, script("", "default_prerm").as_bytes())?;
    Ok(tar.finish())
}

fn fields(package: &Package, arch: &str) -> String {
    let size: usize = package.files.iter().map(|file| file.content.len()).sum();
    let mut text = String::new();
    let mut field = |name: &str, value: &str| {
        let _ = writeln!(text, "{name}: {value}");
    };
    field("Package", &package.name);
    field("Version", &package.version);
    field("Depends", &package.depends.join(", "));
    field("License", &package.licence);
    field("Section", &package.section);
    if let Some(user) = &package.user {
        field("Require-User", user);
    }
    field("SourceDateEpoch", &package.time.to_string());
    field("Architecture", package.arch.as_deref().unwrap_or(arch));
    field("Installed-Size", &size.to_string());
    field("Description", &package.description);
    text
}

/// A script that hands over to the one that every package of OpenWrt uses.
fn script(first: &str, function: &str) -> String {
    format!(
        "#!/bin/sh\n{first}\
         [ -s \"${{IPKG_INSTROOT}}/lib/functions.sh\" ] || exit 0\n\
         . \"${{IPKG_INSTROOT}}/lib/functions.sh\"\n\
         {function} \"$0\" \"$@\"\n"
    )
}

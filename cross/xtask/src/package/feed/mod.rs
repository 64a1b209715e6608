//! Feeds: directories of packages with signed indexes, as opkg and apk look for them.
//!
//! An index says what is in the files of packages, so these are read again: nothing is taken from the recipes.

mod adb;
mod keys;
mod opkg;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use lexopt::Arg::{Long, Value};

use self::keys::Keys;
use super::{apk, deflate, ipk, recipe, write};
use crate::run;

/// `key DIRECTORY`.
pub(crate) fn key(mut parser: lexopt::Parser) -> Result<()> {
    let mut directory = None;
    while let Some(arg) = parser.next()? {
        match arg {
            Value(path) if directory.is_none() => directory = Some(PathBuf::from(path)),
            other => return Err(other.unexpected().into()),
        }
    }
    let directory = directory.context("key DIRECTORY: where the keys shall lie")?;
    let keys = Keys::random()?;
    keys.save(&directory)?;
    println!("key: {} has two pairs of keys", directory.display());
    println!("key: on routers opkg.pub is /etc/opkg/keys/{}", keys.opkg_name());
    println!("key: on routers apk.pem is in /etc/apk/keys, under any name");
    Ok(())
}

/// `feed --keys DIRECTORY [FROM [TO]]`.
pub(crate) fn main(mut parser: lexopt::Parser) -> Result<()> {
    let (mut keys, mut places) = (None, Vec::new());
    while let Some(arg) = parser.next()? {
        match arg {
            Long("keys") => keys = Some(PathBuf::from(parser.value()?)),
            Value(path) if places.len() < 2 => places.push(PathBuf::from(path)),
            other => return Err(other.unexpected().into()),
        }
    }
    let keys = keys.context("feed --keys DIRECTORY: made by cargo xtask key")?;
    let keys = Keys::load(&keys)?;
    let mut places = places.into_iter();
    let mut place = |usual: &str| places.next().unwrap_or_else(|| run::root().join(usual));
    let (from, to) = (place("target/package"), place("target/feed"));
    for (arch, packages) in build(&keys, &from, &to)? {
        println!("feed: {} with {packages} packages", to.join(arch).display());
    }
    Ok(())
}

/// Makes a feed for each architecture that there are packages for, those for all of them in each; returns how many
/// packages it has. Nothing is written before every package has been read.
fn build(keys: &Keys, from: &Path, to: &Path) -> Result<BTreeMap<String, usize>> {
    let mut feeds: BTreeMap<String, Feed> = BTreeMap::new();
    let mut shared = Feed::default();
    for path in packages(from)? {
        let bytes = std::fs::read(&path)?;
        let name = path.file_name().and_then(|name| name.to_str()).context("a name of bytes")?;
        let wrong = || format!("{} is no package", path.display());
        let (arch, package) = if path.extension().is_some_and(|kind| kind == "ipk") {
            let package = opkg::read(name, &bytes).with_context(wrong)?;
            (package.arch.clone(), Package::Opkg(package))
        } else {
            let package = adb::read(&bytes).with_context(wrong)?;
            if package.file() != name {
                bail!(
                    "{} has to be named {}: apk will ask for that",
                    path.display(),
                    package.file()
                );
            }
            (package.arch.clone(), Package::Apk(package))
        };
        let feed = if [ipk::ALL, apk::NOARCH].contains(&arch.as_str()) {
            &mut shared
        } else {
            feeds.entry(arch).or_default()
        };
        feed.add(name, bytes, package)?;
    }
    if feeds.is_empty() {
        bail!("{} has no packages: cargo xtask package makes some", from.display());
    }
    let mut sizes = BTreeMap::new();
    for (arch, mut feed) in feeds {
        for (name, (bytes, package)) in &shared.packages {
            feed.add(name, bytes.clone(), package.clone())?;
        }
        feed.save(keys, &to.join(&arch))?;
        sizes.insert(arch, feed.packages.len());
    }
    Ok(sizes)
}

/// What an index says of a package.
#[derive(Clone)]
enum Package {
    Opkg(opkg::Entry),
    Apk(adb::Entry),
}

/// A directory of packages, by their files' names.
#[derive(Default)]
struct Feed {
    packages: BTreeMap<String, (Vec<u8>, Package)>,
}

impl Feed {
    fn add(&mut self, name: &str, bytes: Vec<u8>, package: Package) -> Result<()> {
        match self.packages.insert(name.to_owned(), (bytes, package)) {
            Some((other, _))
                if self.packages.get(name).is_some_and(|(bytes, _)| *bytes != other) =>
            {
                bail!("there are two {name}")
            }
            _ => Ok(()),
        }
    }

    fn save(&self, keys: &Keys, directory: &Path) -> Result<()> {
        let (mut opkg, mut apk) = (Vec::new(), Vec::new());
        for (name, (bytes, package)) in &self.packages {
            match package {
                Package::Opkg(entry) => opkg.push(entry),
                Package::Apk(entry) => apk.push(entry),
            }
            write(&directory.join(name), bytes)?;
        }
        if !opkg.is_empty() {
            let text = opkg::index(&opkg);
            write(&directory.join("Packages"), text.as_bytes())?;
            write(&directory.join("Packages.gz"), &deflate::gzip(text.as_bytes()))?;
            write(&directory.join("Packages.sig"), keys.sign_opkg(text.as_bytes()).as_bytes())?;
        }
        if !apk.is_empty() {
            write(&directory.join("packages.adb"), &adb::index(&apk, keys)?)?;
        }
        Ok(())
    }
}

/// All packages of a directory and of those in it, in the order of their names.
fn packages(directory: &Path) -> Result<Vec<PathBuf>> {
    let mut found = recipe::below(directory)?;
    found.retain(|path| path.extension().is_some_and(|kind| kind == "ipk" || kind == "apk"));
    Ok(found)
}

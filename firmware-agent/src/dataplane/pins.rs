//! The directory on bpffs where maps and links outlive the agent.
//!
//! `<dir>/v<ABI>/maps/<NAME>-<layout>` and `<dir>/v<ABI>/links/<hook>-<ifindex>`. A device is named by its
//! index: it stays when the device is renamed and is never given out twice in a namespace, and
//! bpffs refuses names with a dot, which VLAN devices have. Two agents with one directory are kept
//! apart elsewhere (by the control socket): bpffs has no files to lock.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use nix::unistd::geteuid;
use sluice_abi::ABI_VERSION;

use super::error::Error;
use super::layout;
use crate::sys::bpffs;

/// What a pin under `links` holds, or what an empty directory there reminds of.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Mark {
    /// XDP link.
    Xdp,
    /// tcx link, ingress.
    TcxIn,
    /// tcx link, egress.
    TcxOut,
    /// A directory: the device has a `cls_bpf` filter of ours on its ingress, which needs no pin to live.
    FilterIn,
    /// The same on its egress.
    FilterOut,
    /// A directory: the device's clsact qdisc was added by us.
    Qdisc,
    /// A directory: the card behind the device runs a program of ours, which needs no pin to live.
    Device,
}

impl Mark {
    const ALL: [Self; 7] = [
        Self::Xdp,
        Self::TcxIn,
        Self::TcxOut,
        Self::FilterIn,
        Self::FilterOut,
        Self::Qdisc,
        Self::Device,
    ];

    /// Whether it is the pin of a link, not a reminder.
    #[must_use]
    pub const fn is_link(self) -> bool {
        match self {
            Self::Xdp | Self::TcxIn | Self::TcxOut => true,
            Self::FilterIn | Self::FilterOut | Self::Qdisc | Self::Device => false,
        }
    }

    const fn prefix(self) -> &'static str {
        match self {
            Self::Xdp => "xdp",
            Self::TcxIn => "tcx_in",
            Self::TcxOut => "tcx_out",
            Self::FilterIn => "filter_in",
            Self::FilterOut => "filter_out",
            Self::Qdisc => "qdisc",
            Self::Device => "device",
        }
    }

    fn file(self, ifindex: u32) -> String {
        format!("{}-{ifindex}", self.prefix())
    }

    fn parse(file: &str) -> Option<(Self, u32)> {
        let (prefix, ifindex) = file.rsplit_once('-')?;
        let mark = Self::ALL.into_iter().find(|mark| mark.prefix() == prefix)?;
        Some((mark, ifindex.parse().ok()?))
    }
}

/// The pin directory of this agent's layout version.
#[derive(Clone, Debug)]
pub struct Pins {
    root: PathBuf,
    maps: PathBuf,
    links: PathBuf,
}

impl Pins {
    /// Makes the directory usable, or says why it is not.
    ///
    /// Mounts bpffs at its usual place when nothing is mounted there. Links of other layout
    /// versions are taken over, so that an upgrade leaves no moment without protection; their maps
    /// are removed.
    pub fn open(root: &Path) -> Result<Self, Error> {
        let refuse = |reason: String| Error::PinDir { path: root.to_owned(), reason };
        mount_if_needed(root)
            .map_err(|error| refuse(format!("mount bpffs at {}: {error}", bpffs::MOUNT_POINT)))?;
        let existing = root.ancestors().find(|path| path.exists());
        match existing.map(bpffs::is_bpffs) {
            Some(Ok(true)) => {}
            Some(Err(error)) => return Err(refuse(error.to_string())),
            Some(Ok(false)) | None => {
                return Err(refuse("it is not on bpffs; mount -t bpf bpf /sys/fs/bpf".to_owned()));
            }
        }
        let version = root.join(format!("v{ABI_VERSION}"));
        let pins = Self {
            root: root.to_owned(),
            maps: version.join("maps"),
            links: version.join("links"),
        };
        for dir in [root, &version, &pins.maps, &pins.links] {
            claim(dir)?;
        }
        pins.take_over_other_versions()?;
        Ok(pins)
    }

    /// Path of a pinned map.
    #[must_use]
    pub fn map(&self, name: &str) -> PathBuf {
        self.maps.join(layout::pin(name))
    }

    /// Paths of pins of the map called `name` in other layouts than ours.
    pub fn other_layouts(&self, name: &str) -> Result<Vec<PathBuf>, Error> {
        let ours = self.map(name);
        let mut others = entries(&self.maps)?;
        others.retain(|path| {
            let file = path.file_name().and_then(|file| file.to_str());
            *path != ours && file.is_some_and(|file| layout::is_pin_of(file, name))
        });
        Ok(others)
    }

    /// Path of a pinned link.
    #[must_use]
    pub fn link(&self, mark: Mark, ifindex: u32) -> PathBuf {
        self.links.join(mark.file(ifindex))
    }

    /// Everything under `links`, in the order of [`Mark`].
    pub fn marks(&self) -> Result<Vec<(Mark, u32)>, Error> {
        let mut marks: Vec<_> = entries(&self.links)?
            .iter()
            .filter_map(|path| Mark::parse(path.file_name()?.to_str()?))
            .collect();
        marks.sort_unstable();
        Ok(marks)
    }

    /// Leaves a reminder.
    pub fn remind(&self, mark: Mark, ifindex: u32) -> Result<(), Error> {
        let path = self.link(mark, ifindex);
        match fs::create_dir(&path) {
            Err(source) if source.kind() != io::ErrorKind::AlreadyExists => {
                Err(Error::Pin { path, operation: "create", source })
            }
            _ => Ok(()),
        }
    }

    /// Removes a pin or reminder; without it is fine too.
    pub fn remove(&self, mark: Mark, ifindex: u32) -> Result<(), Error> {
        remove(&self.link(mark, ifindex))
    }

    /// Removes a map's pin; without it is fine too.
    pub fn remove_map(&self, name: &str) -> Result<(), Error> {
        remove(&self.map(name))
    }

    /// Removes the pin of a map in another layout.
    pub fn remove_other(&self, path: &Path) -> Result<(), Error> {
        remove(path)
    }

    /// Removes everything, the directory included. Whatever else lies in it stays, and so does it.
    pub fn clear(self) -> Result<(), Error> {
        let version = self.maps.parent().map(Path::to_owned).unwrap_or_default();
        remove_tree(&version)?;
        match fs::remove_dir(&self.root) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => Ok(()),
            Err(source) => Err(Error::Pin { path: self.root, operation: "remove", source }),
        }
    }

    fn take_over_other_versions(&self) -> Result<(), Error> {
        for path in entries(&self.root)? {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let number = name.strip_prefix('v').and_then(|number| number.parse::<u32>().ok());
            if number.is_none_or(|number| number == ABI_VERSION) {
                continue;
            }
            for link in entries(&path.join("links")).unwrap_or_default() {
                if let Some(name) = link.file_name() {
                    let ours = self.links.join(name);
                    if !ours.exists() {
                        // What cannot be moved is removed with the rest below.
                        let _ = fs::rename(&link, &ours);
                    }
                }
            }
            remove_tree(&path)?;
        }
        Ok(())
    }
}

fn mount_if_needed(root: &Path) -> io::Result<()> {
    let mount_point = Path::new(bpffs::MOUNT_POINT);
    if !root.starts_with(mount_point)
        || !mount_point.exists()
        || bpffs::is_bpffs(mount_point)?
        || fs::read_dir(mount_point)?.next().is_some()
    {
        return Ok(());
    }
    bpffs::mount_bpffs(mount_point)
}

/// Makes `dir` a directory that is ours alone.
fn claim(dir: &Path) -> Result<(), Error> {
    let refuse = |reason: String| Error::PinDir { path: dir.to_owned(), reason };
    match fs::DirBuilder::new().mode(0o700).create(dir) {
        Ok(()) => return Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) if dir.to_string_lossy().contains('.') => {
            return Err(refuse(format!("{error}; bpffs allows no dot in a name")));
        }
        Err(error) => return Err(refuse(error.to_string())),
    }
    // Not following links: one of somebody else's making would lead us elsewhere.
    let metadata = fs::symlink_metadata(dir).map_err(|error| refuse(error.to_string()))?;
    if !metadata.is_dir() {
        return Err(refuse("it is not a directory; remove it or choose another".to_owned()));
    }
    let us = geteuid().as_raw();
    if metadata.uid() != us {
        return Err(refuse(format!(
            "it belongs to user {}, not to {us}; remove it or choose another",
            metadata.uid()
        )));
    }
    if metadata.mode() & 0o077 != 0 {
        fs::set_permissions(dir, fs::Permissions::from_mode(0o700))
            .map_err(|error| refuse(format!("make it private: {error}")))?;
    }
    Ok(())
}

fn entries(dir: &Path) -> Result<Vec<PathBuf>, Error> {
    let read = || fs::read_dir(dir)?.map(|entry| Ok(entry?.path())).collect::<io::Result<_>>();
    read().map_err(|source| Error::Pin { path: dir.to_owned(), operation: "list", source })
}

fn remove(path: &Path) -> Result<(), Error> {
    let result = match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => fs::remove_dir(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match result {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(Error::Pin { path: path.to_owned(), operation: "remove", source })
        }
        _ => Ok(()),
    }
}

fn remove_tree(path: &Path) -> Result<(), Error> {
    match fs::remove_dir_all(path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(Error::Pin { path: path.to_owned(), operation: "remove", source })
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_links_are_read_back_and_others_are_ignored() {
        for mark in Mark::ALL {
            let file = mark.file(4_294_967_295);
            assert_eq!(Mark::parse(&file), Some((mark, u32::MAX)), "{file}");
            assert!(!file.contains('.'), "bpffs refuses dots");
        }
        for foreign in ["xdp", "xdp-", "xdp-x", "tcx-3", "xdp-4294967296", ""] {
            assert_eq!(Mark::parse(foreign), None, "{foreign}");
        }
    }

    #[test]
    fn a_directory_that_is_not_on_bpffs_is_refused_with_the_next_step() {
        let dir = std::env::temp_dir().join(format!("sluice-pins-{}", std::process::id()));
        fs::create_dir(&dir).unwrap();
        let error = Pins::open(&dir.join("sluice")).unwrap_err().to_string();
        assert!(error.contains("not on bpffs") && error.contains("mount -t bpf"), "{error}");
        assert!(fs::read_dir(&dir).unwrap().next().is_none(), "nothing was left behind");
        fs::remove_dir(&dir).unwrap();
    }
}

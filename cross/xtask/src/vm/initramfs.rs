//! The initial RAM disk: an archive in cpio's `newc` format with the host's programs and their libraries.

use std::collections::{BTreeMap, HashSet};
use std::fmt::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

use crate::run;

const DIRECTORY: u32 = 0o040_000;
const FILE: u32 = 0o100_000;
const LINK: u32 = 0o120_000;

/// The files of a guest.
pub(crate) struct Tree {
    /// Mode and content by absolute path, without `/`.
    entries: BTreeMap<String, (u32, Vec<u8>)>,
    /// Files whose libraries are there.
    linked: HashSet<PathBuf>,
}

impl Tree {
    /// Empty but for the places that PID 1 mounts on.
    pub(crate) fn bare() -> Self {
        let mut tree = Self { entries: BTreeMap::new(), linked: HashSet::new() };
        for name in ["/proc", "/sys", "/dev", "/run", "/tmp"] {
            tree.directory(name);
        }
        tree
    }

    /// Empty but for the links that a merged `/usr` has.
    pub(crate) fn new() -> Self {
        let mut tree = Self { entries: BTreeMap::new(), linked: HashSet::new() };
        for name in ["bin", "sbin", "lib", "lib64"] {
            tree.directory(&format!("/usr/{name}"));
            let target = format!("usr/{name}").into_bytes();
            tree.entries.insert(name.to_owned(), (LINK | 0o777, target));
        }
        tree
    }

    /// What every system has.
    pub(crate) fn system(&mut self) -> Result<()> {
        for name in
            ["/proc", "/sys", "/dev", "/run", "/tmp", "/root", "/var/lib", "/var/log", "/busybox"]
        {
            self.directory(name);
        }
        let files = [
            (
                "/etc/passwd",
                "root:x:0:0::/root:/bin/sh\nwww-data:x:33:33::/:/bin/false\nnobody:x:65534:65534::/:/bin/false\n",
            ),
            ("/etc/group", "root:x:0:\nwww-data:x:33:\nnogroup:x:65534:\n"),
            ("/etc/hosts", "127.0.0.1 localhost\n::1 localhost\n"),
        ];
        for (path, content) in files {
            self.file(path, 0o644, content.into());
        }
        // Not busybox's shell: Debian's runs its own `ip` whatever PATH says.
        self.program("/bin/sh", Path::new("/bin/dash"))?;
        self.host_entry("busybox")
    }

    /// A file with this content.
    pub(crate) fn file(&mut self, path: &str, permissions: u32, content: Vec<u8>) {
        let path = normal(path);
        if let Some((parent, _)) = path.rsplit_once('/') {
            self.directory(parent);
        }
        self.entries.insert(path, (FILE | permissions, content));
    }

    fn directory(&mut self, path: &str) {
        let path = normal(path);
        for (end, _) in path.match_indices('/').chain(std::iter::once((path.len(), ""))) {
            self.entries
                .entry(path[..end].to_owned())
                .or_insert_with(|| (DIRECTORY | 0o755, Vec::new()));
        }
    }

    /// A program of the host, at any place, with its libraries.
    pub(crate) fn program(&mut self, place: &str, path: &Path) -> Result<()> {
        let content =
            std::fs::read(path).with_context(|| format!("could not read {}", path.display()))?;
        self.file(place, 0o755, content);
        self.libraries(path)
    }

    /// An entry of the list of programs: a name of `PATH`, or a file or directory by its absolute path. With `?` before
    /// it, it may be missing.
    pub(crate) fn host_entry(&mut self, entry: &str) -> Result<()> {
        let (optional, name) = entry.strip_prefix('?').map_or((false, entry), |name| (true, name));
        let path = if name.starts_with('/') {
            Some(PathBuf::from(name)).filter(|path| path.exists())
        } else {
            run::find(name)
        };
        match path {
            Some(path) => self.host_tree(&path, &path.to_string_lossy()),
            None if optional => Ok(()),
            None => bail!("no {name} on this machine: run cross/setup.sh test"),
        }
    }

    /// A file or directory of the host, at any place, with the libraries of its programs.
    pub(crate) fn host_tree(&mut self, path: &Path, place: &str) -> Result<()> {
        let metadata = std::fs::metadata(path)
            .with_context(|| format!("could not read {}", path.display()))?;
        if metadata.is_dir() {
            self.directory(place);
            for entry in std::fs::read_dir(path)? {
                let entry = entry?;
                let name = entry.file_name();
                self.host_tree(&entry.path(), &format!("{place}/{}", name.to_string_lossy()))?;
            }
            return Ok(());
        }
        self.file(place, metadata.permissions().mode() & 0o777, std::fs::read(path)?);
        self.libraries(path)
    }

    /// Adds the shared libraries of an ELF file at the places where its loader looks.
    fn libraries(&mut self, path: &Path) -> Result<()> {
        let path = path.canonicalize()?;
        if !self.linked.insert(path.clone()) || !is_dynamic(&path)? {
            return Ok(());
        }
        let output = Command::new("ldd").arg(&path).stderr(Stdio::null()).output()?;
        for line in String::from_utf8_lossy(&output.stdout).lines() {
            let library = library(line).with_context(|| format!("ldd {}", path.display()))?;
            let Some(library) = library else {
                continue;
            };
            let place = library.to_string_lossy().into_owned();
            if !self.entries.contains_key(&normal(&place)) {
                self.file(&place, 0o755, std::fs::read(&library)?);
            }
        }
        Ok(())
    }

    /// The archive.
    pub(crate) fn into_cpio(mut self) -> Vec<u8> {
        // The kernel opens the console before PID 1 can mount anything.
        let mut archive = Vec::new();
        self.directory("/dev");
        for (index, (path, (mode, content))) in self.entries.iter().enumerate() {
            append(&mut archive, index as u32 + 1, path, *mode, (0, 0), content);
        }
        append(&mut archive, 0, "dev/console", 0o020_600, (5, 1), &[]);
        append(&mut archive, 0, "TRAILER!!!", 0, (0, 0), &[]);
        archive
    }
}

/// A path without its first `/` and with `/usr` where the merged directories point to.
fn normal(path: &str) -> String {
    let path = path.trim_matches('/');
    let first = path.split('/').next().unwrap_or_default();
    if path.contains('/') && matches!(first, "bin" | "sbin" | "lib" | "lib64") {
        format!("usr/{path}")
    } else {
        path.to_owned()
    }
}

/// Whether a file is an ELF file that a loader completes.
fn is_dynamic(path: &Path) -> Result<bool> {
    use object::{Object as _, ObjectSection as _};
    let content = std::fs::read(path)?;
    if !content.starts_with(b"\x7fELF") {
        return Ok(false);
    }
    // An object for another machine is data here.
    let file = object::File::parse(&*content)?;
    Ok(file.architecture() != object::Architecture::Bpf
        && file.section_by_name(".dynamic").is_some_and(|section| section.size() > 0))
}

/// The library that a line of `ldd` names, if it names one.
fn library(line: &str) -> Result<Option<PathBuf>> {
    let line = line.trim();
    if line.ends_with("=> not found") {
        bail!("not on this machine: {line}");
    }
    let path = line.split_once("=> ").map_or(line, |(_, path)| path);
    let path = path.split(" (").next().unwrap_or_default();
    Ok(Some(PathBuf::from(path)).filter(|path| path.is_absolute()))
}

fn append(
    archive: &mut Vec<u8>,
    inode: u32,
    path: &str,
    mode: u32,
    device: (u32, u32),
    content: &[u8],
) {
    let size = content.len() as u32;
    let name = path.len() as u32 + 1;
    let mut header = String::from("070701");
    // Inode, mode, owner, group, links, time, size, device of the file, device that it is, length of name, checksum.
    for field in [inode, mode, 0, 0, 1, 0, size, 0, 0, device.0, device.1, name, 0] {
        let _ = write!(header, "{field:08x}");
    }
    archive.extend_from_slice(header.as_bytes());
    archive.extend_from_slice(path.as_bytes());
    archive.push(0);
    pad(archive);
    archive.extend_from_slice(content);
    pad(archive);
}

fn pad(archive: &mut Vec<u8>) {
    archive.resize(archive.len().next_multiple_of(4), 0);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_archive_is_what_cpio_reads() {
        let mut tree = Tree::new();
        tree.file("/lib/x/deep.txt", 0o640, b"12345".to_vec());
        let archive = tree.into_cpio();
        let mut rest = &archive[..];
        let mut seen = Vec::new();
        while !rest.is_empty() {
            let field = |index: usize| {
                let start = 6 + index * 8;
                let text = std::str::from_utf8(&rest[start..start + 8]).unwrap();
                u32::from_str_radix(text, 16).unwrap() as usize
            };
            assert_eq!(&rest[..6], b"070701");
            let (mode, size, name) = (field(1), field(6), field(11));
            let path = std::str::from_utf8(&rest[110..110 + name - 1]).unwrap();
            let data = (110 + name).next_multiple_of(4);
            seen.push((path.to_owned(), mode, rest[data..data + size].to_vec()));
            rest = &rest[(data + size).next_multiple_of(4)..];
        }
        assert!(seen.contains(&("usr/lib/x/deep.txt".to_owned(), 0o100_640, b"12345".to_vec())));
        assert!(seen.contains(&("lib".to_owned(), 0o120_777, b"usr/lib".to_vec())));
        let position = |path: &str| seen.iter().position(|(p, ..)| p == path).unwrap();
        assert!(position("usr/lib") < position("usr/lib/x"));
        assert!(position("dev") < position("dev/console"));
        assert_eq!(seen.last().unwrap().0, "TRAILER!!!");
    }

    #[test]
    fn libraries_are_read_from_what_ldd_prints() {
        let found = |line| library(line).unwrap();
        assert_eq!(found("\tlinux-vdso.so.1 (0x00007ffc)"), None);
        assert_eq!(found("\tlibc.so.6 => /lib/libc.so.6 (0x0)"), Some("/lib/libc.so.6".into()));
        assert_eq!(found("\t/lib64/ld-linux.so.2 (0x0)"), Some("/lib64/ld-linux.so.2".into()));
        assert_eq!(found("\tstatically linked"), None);
        assert!(library("\tlibnone.so => not found").is_err());
    }
}

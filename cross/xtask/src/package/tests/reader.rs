//! Packages as others read them: `.ipk` by the system's own tar, `.apk` by a reader that shares nothing with the
//! writer.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use sha2::{Digest as _, Sha256};

/// A file of a package: `0755 root root /path`, and what is in it.
pub(super) type Files = BTreeMap<String, Vec<u8>>;

/// What an `.apk` holds.
pub(super) struct Apk {
    /// Directories have no content and end with a slash.
    pub(super) files: Files,
    pub(super) info: BTreeMap<&'static str, String>,
    pub(super) depends: Vec<String>,
    pub(super) scripts: BTreeMap<&'static str, String>,
}

const INFO: [(usize, &str); 6] =
    [(1, "name"), (2, "version"), (4, "description"), (5, "arch"), (6, "license"), (7, "origin")];
const SCRIPTS: [(usize, &str); 4] =
    [(3, "post-install"), (4, "pre-deinstall"), (5, "post-deinstall"), (7, "post-upgrade")];

/// Reads an `.apk`; every digest in it is computed again.
pub(super) fn apk(bytes: &[u8]) -> Apk {
    let packed = bytes.strip_prefix(b"ADBd").unwrap();
    let plain = miniz_oxide::inflate::decompress_to_vec(packed).unwrap();
    let mut rest = plain.strip_prefix(b"ADB.pckg").unwrap();
    let mut blocks = Vec::new();
    while !rest.is_empty() {
        let word = word(rest, 0);
        let size = (word & 0x3fff_ffff) as usize;
        blocks.push((word >> 30, &rest[4..size]));
        rest = &rest[size.next_multiple_of(8)..];
    }
    let (kind, tree) = blocks.remove(0);
    assert_eq!((kind, word(tree, 0)), (0, 0), "a tree of version 0");
    let mut data: BTreeMap<(u32, u32), &[u8]> = BTreeMap::new();
    for (kind, block) in blocks {
        assert_eq!(kind, 2);
        data.insert((word(block, 0), word(block, 4)), &block[8..]);
    }

    let root = slots(tree, word(tree, 4));
    let info = slots(tree, root[1]);
    assert_identity(tree, info[3]);
    let text = |value: u32| String::from_utf8(blob(tree, value).to_vec()).unwrap();
    let mut files = Files::new();
    let mut size = 0;
    for (path, directory) in (1..).zip(&slots(tree, root[2])[1..]) {
        let directory = slots(tree, *directory);
        let name = text(directory[1]);
        let prefix = if name.is_empty() { "/".to_owned() } else { format!("/{name}/") };
        files.insert(format!("{} {prefix}", owner(tree, directory[2])), Vec::new());
        let entries = directory.get(3).map_or(vec![], |list| slots(tree, *list)[1..].to_vec());
        for (number, file) in (1..).zip(entries) {
            let file = slots(tree, file);
            let content = data.remove(&(path, number)).unwrap();
            assert_eq!(number_of(tree, file[3]) as usize, content.len());
            assert_eq!(blob(tree, file[5]), Sha256::digest(content).as_slice());
            size += content.len();
            files.insert(
                format!("{} {prefix}{}", owner(tree, file[2]), text(file[1])),
                content.into(),
            );
        }
    }
    assert!(data.is_empty(), "content without a file");
    assert_eq!(number_of(tree, info[12]) as usize, size);
    let scripts = slots(tree, root[3]);
    Apk {
        files,
        info: INFO.map(|(slot, name)| (name, text(info[slot]))).into(),
        depends: slots(tree, info[15])[1..].iter().map(|d| text(slots(tree, *d)[1])).collect(),
        scripts: SCRIPTS.map(|(slot, name)| (name, text(scripts[slot]))).into(),
    }
}

/// The identity is the digest of the tree in which it is zero.
fn assert_identity(tree: &[u8], value: u32) {
    let identity = blob(tree, value);
    let start = (value & 0x0fff_ffff) as usize + 1;
    let mut without = tree.to_vec();
    without[start..start + identity.len()].fill(0);
    assert_eq!(identity, &Sha256::digest(&without)[..20]);
}

fn owner(tree: &[u8], value: u32) -> String {
    let owner = slots(tree, value);
    let text = |value| String::from_utf8_lossy(blob(tree, value)).into_owned();
    format!("{:04o} {} {}", number_of(tree, owner[1]), text(owner[2]), text(owner[3]))
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
}

fn slots(tree: &[u8], value: u32) -> Vec<u32> {
    assert!(matches!(value >> 28, 0xd | 0xe), "{value:x} is no object");
    let at = (value & 0x0fff_ffff) as usize;
    assert!(at.is_multiple_of(4));
    (0..word(tree, at) as usize).map(|slot| word(tree, at + 4 * slot)).collect()
}

fn blob(tree: &[u8], value: u32) -> &[u8] {
    let at = (value & 0x0fff_ffff) as usize;
    let (start, size) = match value >> 28 {
        0 => return &[],
        8 => (at + 1, usize::from(tree[at])),
        9 => (at + 2, usize::from(u16::from_le_bytes([tree[at], tree[at + 1]]))),
        0xa => (at + 4, word(tree, at) as usize),
        _ => panic!("{value:x} is no blob"),
    };
    &tree[start..start + size]
}

fn number_of(tree: &[u8], value: u32) -> u32 {
    match value >> 28 {
        1 => value & 0x0fff_ffff,
        2 => word(tree, (value & 0x0fff_ffff) as usize),
        _ => panic!("{value:x} is no number"),
    }
}

/// Unpacks an `.ipk` with tar: what it installs into `directory/data`, what opkg needs into `directory/control`.
pub(super) fn unpack_ipk(bytes: &[u8], directory: &Path) {
    std::fs::write(directory.join("package"), bytes).unwrap();
    tar(directory, &["-xzf", "package"]);
    assert_eq!(std::fs::read(directory.join("debian-binary")).unwrap(), b"2.0\n");
    for part in ["data", "control"] {
        std::fs::create_dir(directory.join(part)).unwrap();
        let archive = format!("../{part}.tar.gz");
        tar(&directory.join(part), &["-xpzf", &archive]);
    }
}

/// `MODE USER/GROUP SIZE DAY TIME PATH` of each entry of an archive.
pub(super) fn tar(directory: &Path, args: &[&str]) -> String {
    let output =
        Command::new("tar").current_dir(directory).env("TZ", "UTC").args(args).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && error.is_empty(), "tar {args:?}: {error}");
    String::from_utf8(output.stdout).unwrap()
}

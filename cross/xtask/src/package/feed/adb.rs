//! `packages.adb`: what each package says of itself, with the size and digest of its file, signed as
//! `apk mkndx --sign` does.

use anyhow::{Context as _, Result, bail, ensure};
use sha2::{Digest as _, Sha256, Sha512};

use super::super::adb::{Tree, Value, View};
use super::super::{apk, deflate};
use super::keys::Keys;

/// apk's number for SHA-512.
const SHA_512: u8 = 4;
/// Version and digest of a signature; a key's name follows.
const SIGNATURE: [u8; 2] = [0, SHA_512];
/// What an index is, as apk's digests have it.
const SCHEMA: &[u8; 4] = b"indx";
/// Fields of a package, from 1.
const NAME: usize = 1;
const VERSION: usize = 2;
const DIGEST: usize = 3;
const ARCHITECTURE: usize = 5;
const FILE_SIZE: usize = 13;

/// What the index says of a package.
#[derive(Clone)]
pub(super) struct Entry {
    pub(super) arch: String,
    name: String,
    version: String,
    size: usize,
    digest: [u8; 32],
    tree: Vec<u8>,
}

impl Entry {
    /// The name under which apk asks for it.
    pub(super) fn file(&self) -> String {
        format!("{}-{}.apk", self.name, self.version)
    }
}

/// Reads an `.apk`.
pub(super) fn read(bytes: &[u8]) -> Result<Entry> {
    let plain = match bytes.strip_prefix(b"ADBd") {
        Some(packed) => deflate::inflate(packed)?,
        None => bytes.to_vec(),
    };
    let rest = plain.strip_prefix(b"ADB.pckg").context("no package of apk 3")?;
    let (size, rest) = rest.split_first_chunk().context("it is empty")?;
    // Its upper bits are the type of the block: a tree's is 0.
    let size = u32::from_le_bytes(*size) as usize;
    let tree = size.checked_sub(4).and_then(|size| rest.get(..size)).context("it ends early")?;
    let view = View::new(tree);
    let info = view.fields(*view.fields(view.root()?)?.first().context("it has no fields")?)?;
    let text = |field: usize| -> Result<String> {
        let blob = view.blob(*info.get(field - 1).context("a field is missing")?)?;
        Ok(std::str::from_utf8(blob)?.to_owned())
    };
    let entry = Entry {
        arch: text(ARCHITECTURE)?,
        name: text(NAME)?,
        version: text(VERSION)?,
        size: bytes.len(),
        digest: Sha256::digest(tree).into(),
        tree: tree.to_vec(),
    };
    ensure!(!entry.name.is_empty() && !entry.arch.is_empty(), "it has no name");
    Ok(entry)
}

/// The index of packages, which have to be in the order of their names.
pub(super) fn index(packages: &[&Entry], keys: &Keys) -> Result<Vec<u8>> {
    let tree = tree(packages)?;
    let head = [SIGNATURE.as_slice(), &keys.apk_id()?].concat();
    let message = [SCHEMA.as_slice(), &head, &Sha512::digest(&tree)].concat();
    let mut bytes = plain(&tree)?;
    apk::block(&mut bytes, apk::BLOCK_SIGNATURE, &[&head, &keys.sign_apk(&message)?])?;
    Ok([b"ADBd".as_slice(), &deflate::raw(&bytes)].concat())
}

/// The index before it is signed and compressed.
pub(super) fn plain(tree: &[u8]) -> Result<Vec<u8>> {
    let mut bytes = b"ADB.indx".to_vec();
    apk::block(&mut bytes, apk::BLOCK_TREE, &[tree])?;
    Ok(bytes)
}

/// What the index says.
pub(super) fn tree(packages: &[&Entry]) -> Result<Vec<u8>> {
    let mut tree = Tree::new();
    let mut entries = Vec::new();
    for package in packages {
        let view = View::new(&package.tree);
        let info = *view.fields(view.root()?)?.first().context("a package without fields")?;
        let mut fields = Vec::new();
        for field in view.fields(info)? {
            fields.push(view.copy(field, &mut tree)?);
        }
        if fields.len() < FILE_SIZE {
            fields.resize(FILE_SIZE, Value::NONE);
        }
        let size = tree.number(u32::try_from(package.size)?)?;
        let digest = tree.blob(&package.digest)?;
        for (field, value) in [(FILE_SIZE, size), (DIGEST, digest)] {
            let Some(place) = fields.get_mut(field - 1) else { bail!("too few fields") };
            *place = value;
        }
        entries.push(tree.object(&fields)?);
    }
    let entries = tree.object(&entries)?;
    let root = tree.object(&[Value::NONE, entries])?;
    Ok(tree.finish(root))
}

//! Trees of values as apk-tools 3 writes them: little-endian words with a type in their upper four bits, which hold a
//! small number or say where the rest is. What is written twice is kept once.

use std::collections::HashMap;

use anyhow::{Context as _, Result, bail};

const INT: u32 = 0x1000_0000;
const INT_32: u32 = 0x2000_0000;
const BLOB_8: u32 = 0x8000_0000;
const BLOB_16: u32 = 0x9000_0000;
const BLOB_32: u32 = 0xa000_0000;
const ARRAY: u32 = 0xd000_0000;
const OBJECT: u32 = 0xe000_0000;
/// What a word can hold besides its type.
const VALUE: u32 = 0x0fff_ffff;
const SHORT: &str = "a tree that ends early";

/// A word of the tree.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Value(u32);

impl Value {
    /// Nothing: a field that is not there.
    pub(super) const NONE: Self = Self(0);

    /// Its type, in its place.
    const fn kind(self) -> u32 {
        self.0 & !VALUE
    }

    /// Where the value begins.
    pub(super) const fn offset(self) -> usize {
        (self.0 & VALUE) as usize
    }
}

/// A tree that is being written, from its leaves to its root.
pub(super) struct Tree {
    bytes: Vec<u8>,
    /// Where content is.
    seen: HashMap<Vec<u8>, usize>,
}

impl Tree {
    /// A tree of nothing: version 0, compatible with version 0, root not known yet.
    pub(super) fn new() -> Self {
        Self { bytes: vec![0; 8], seen: HashMap::new() }
    }

    /// A number.
    pub(super) fn number(&mut self, number: u32) -> Result<Value> {
        if number <= VALUE {
            return Ok(Value(INT | number));
        }
        self.keep(INT_32, &number.to_le_bytes(), 4)
    }

    /// Bytes; none at all are nothing.
    pub(super) fn blob(&mut self, content: &[u8]) -> Result<Value> {
        let Some((kind, bytes, align)) = counted(content) else { return Ok(Value::NONE) };
        self.keep(kind, &bytes, align)
    }

    /// Bytes with a place of their own, which [`Self::overwrite`] may change.
    pub(super) fn own_blob(&mut self, content: &[u8]) -> Result<Value> {
        let Some((kind, bytes, align)) = counted(content) else { return Ok(Value::NONE) };
        self.append(kind, &bytes, align)
    }

    /// The tree under `root`.
    pub(super) fn finish(mut self, root: Value) -> Vec<u8> {
        self.bytes.splice(4..8, root.0.to_le_bytes());
        self.bytes
    }

    /// Fields, the first with number 1, or items: apk-tools has a type of its own for lists, and does not use it.
    pub(super) fn object(&mut self, values: &[Value]) -> Result<Value> {
        let used =
            values.iter().rposition(|value| *value != Value::NONE).map_or(0, |last| last + 1);
        let Some(values) = values.get(..used).filter(|values| !values.is_empty()) else {
            return Ok(Value::NONE);
        };
        // Their number counts itself.
        let mut bytes = u32::try_from(values.len() + 1)?.to_le_bytes().to_vec();
        bytes.extend(values.iter().flat_map(|value| value.0.to_le_bytes()));
        self.keep(OBJECT, &bytes, 4)
    }

    fn keep(&mut self, kind: u32, content: &[u8], align: usize) -> Result<Value> {
        if let Some(at) = self.seen.get(content).filter(|at| at.is_multiple_of(align)) {
            return Ok(Value(kind | u32::try_from(*at)?));
        }
        let value = self.append(kind, content, align)?;
        self.seen.insert(content.to_vec(), value.offset());
        Ok(value)
    }

    fn append(&mut self, kind: u32, content: &[u8], align: usize) -> Result<Value> {
        self.bytes.resize(self.bytes.len().next_multiple_of(align), 0);
        let at = u32::try_from(self.bytes.len())?;
        if at > VALUE {
            bail!("the tree is too large");
        }
        self.bytes.extend(content);
        Ok(Value(kind | at))
    }
}

/// A tree that is read. Whatever is wrong with it is an error.
pub(super) struct View<'a>(&'a [u8]);

impl<'a> View<'a> {
    /// The tree of a block.
    pub(super) const fn new(tree: &'a [u8]) -> Self {
        Self(tree)
    }

    /// Where it begins.
    pub(super) fn root(&self) -> Result<Value> {
        self.word(4).map(Value)
    }

    /// Fields, the first with number 1, or items.
    pub(super) fn fields(&self, value: Value) -> Result<Vec<Value>> {
        if !matches!(value.kind(), ARRAY | OBJECT) {
            bail!("{value:?} has no fields");
        }
        let count = self.word(value.offset())? as usize;
        (1..count).map(|field| self.word(value.offset() + 4 * field).map(Value)).collect()
    }

    /// Bytes.
    pub(super) fn blob(&self, value: Value) -> Result<&'a [u8]> {
        let width = match value.kind() {
            0 => return Ok(&[]),
            BLOB_8 => 1,
            BLOB_16 => 2,
            BLOB_32 => 4,
            _ => bail!("{value:?} is no text"),
        };
        let (size, rest) =
            self.0.get(value.offset()..).context(SHORT)?.split_at_checked(width).context(SHORT)?;
        let size = size.iter().rev().fold(0, |size, byte| size << 8 | usize::from(*byte));
        rest.get(..size).context(SHORT)
    }

    /// The same in another tree.
    pub(super) fn copy(&self, value: Value, to: &mut Tree) -> Result<Value> {
        match value.kind() {
            0 | INT => Ok(value),
            INT_32 => to.number(self.word(value.offset())?),
            ARRAY | OBJECT => {
                let fields = self.fields(value)?;
                let fields: Result<Vec<Value>> =
                    fields.into_iter().map(|field| self.copy(field, to)).collect();
                to.object(&fields?)
            }
            _ => to.blob(self.blob(value)?),
        }
    }

    fn word(&self, at: usize) -> Result<u32> {
        let bytes = self.0.get(at..).and_then(<[u8]>::first_chunk).context(SHORT)?;
        Ok(u32::from_le_bytes(*bytes))
    }
}

/// Changes bytes behind a short blob's length.
pub(super) fn overwrite(tree: &mut [u8], blob: Value, content: &[u8]) -> Result<()> {
    let start = blob.offset() + 1;
    let place = tree.get_mut(start..start + content.len()).context("no such blob")?;
    place.copy_from_slice(content);
    Ok(())
}

/// Bytes behind their number, which is aligned to its own size.
fn counted(content: &[u8]) -> Option<(u32, Vec<u8>, usize)> {
    let size = content.len();
    let (kind, mut bytes) = match size {
        0 => return None,
        1..=0xff => (BLOB_8, vec![size as u8]),
        0x100..=0xffff => (BLOB_16, (size as u16).to_le_bytes().to_vec()),
        _ => (BLOB_32, (size as u32).to_le_bytes().to_vec()),
    };
    let align = bytes.len();
    bytes.extend(content);
    Some((kind, bytes, align))
}

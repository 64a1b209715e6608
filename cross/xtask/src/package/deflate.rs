//! Compressed streams that depend on nothing but their content.

use anyhow::{Context as _, Result, anyhow, bail, ensure};

/// More than any package here has; what says more of itself is not read.
const LARGEST: usize = 64 << 20;

/// The best that zlib offers, too.
const LEVEL: u8 = 9;

/// Bytes in the form of gzip: without a name, at no time, of no system.
pub(super) fn gzip(content: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 2, 0xff];
    bytes.extend(raw(content));
    bytes.extend(crc32fast::hash(content).to_le_bytes());
    // The size is modulo 2^32 by definition.
    bytes.extend((content.len() as u32).to_le_bytes());
    bytes
}

/// Bytes without a header.
pub(super) fn raw(content: &[u8]) -> Vec<u8> {
    miniz_oxide::deflate::compress_to_vec(content, LEVEL)
}

/// What [`gzip`] was given, or another that gives its files no name.
pub(super) fn gunzip(bytes: &[u8]) -> Result<Vec<u8>> {
    let [0x1f, 0x8b, 8, 0, _, _, _, _, _, _, rest @ ..] = bytes else {
        bail!("not gzip, or with a name");
    };
    let (packed, tail) = rest.split_last_chunk::<8>().context("it ends early")?;
    let content = inflate(packed)?;
    let [a, b, c, d, ..] = *tail;
    ensure!(crc32fast::hash(&content) == u32::from_le_bytes([a, b, c, d]), "its sum is wrong");
    Ok(content)
}

/// What [`raw`] was given.
pub(super) fn inflate(packed: &[u8]) -> Result<Vec<u8>> {
    miniz_oxide::inflate::decompress_to_vec_with_limit(packed, LARGEST)
        .map_err(|error| anyhow!("damaged: {error}"))
}

//! Compressed streams that depend on nothing but their content.

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

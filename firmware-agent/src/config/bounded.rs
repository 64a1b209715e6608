//! Files that are read whole, up to a size.

use std::io::{self, Read as _};
use std::path::Path;

use super::uci::FILE_MAX;

/// Why there is no text.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unread {
    /// The file cannot be read.
    #[error("cannot be read: {0}")]
    Io(#[from] io::Error),
    /// It is too large.
    #[error("is larger than {FILE_MAX} bytes")]
    Size,
    /// It is no text.
    #[error("is not UTF-8")]
    Utf8,
}

/// The first bytes of a file, one more than [`FILE_MAX`] when it is larger.
pub(super) fn read_bounded(path: &Path) -> io::Result<Vec<u8>> {
    // Opening a pipe would wait for its writer.
    if !std::fs::metadata(path)?.is_file() {
        return Err(io::Error::other("not a regular file"));
    }
    let mut text = Vec::new();
    std::fs::File::open(path)?.take(FILE_MAX as u64 + 1).read_to_end(&mut text)?;
    Ok(text)
}

/// The bytes of a file that is not too large.
pub(crate) fn read_whole(path: &Path) -> Result<Vec<u8>, Unread> {
    let bytes = read_bounded(path)?;
    if bytes.len() > FILE_MAX { Err(Unread::Size) } else { Ok(bytes) }
}

/// The text of a file that is not too large.
pub(super) fn read_text(path: &Path) -> Result<String, Unread> {
    String::from_utf8(read_whole(path)?).ok().ok_or(Unread::Utf8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_read_or_the_reason_is_named() {
        let path = std::env::temp_dir().join(format!("sluice-{}-bounded", std::process::id()));
        let read = |bytes: &[u8]| {
            std::fs::write(&path, bytes).unwrap();
            read_text(&path).map_err(|why| why.to_string())
        };
        let longest = vec![b'x'; FILE_MAX];
        assert_eq!(read(&longest).map(|text| text.len()), Ok(FILE_MAX));
        let longer = [&longest[..], b"x"].concat();
        assert_eq!(read(&longer), Err(format!("is larger than {FILE_MAX} bytes")));
        assert_eq!(read(b"\xff"), Err("is not UTF-8".to_owned()));
        std::fs::remove_file(&path).unwrap();
        let gone = read_text(&path).map_err(|why| why.to_string());
        assert!(gone.is_err_and(|why| why.starts_with("cannot be read: No such file")));
        let device = read_text(Path::new("/dev/zero")).map_err(|why| why.to_string());
        assert_eq!(device, Err("cannot be read: not a regular file".to_owned()));
    }
}

//! Archives in the ustar format: entries of root, with the modes and the one time that they are given.

use std::path::Path;

use anyhow::{Context as _, Result, bail};

const BLOCK: usize = 512;

/// An archive that is being written.
pub(super) struct Tar {
    bytes: Vec<u8>,
    time: u32,
}

impl Tar {
    /// An empty archive, all of whose entries were changed at `time`.
    pub(super) const fn new(time: u32) -> Self {
        Self { bytes: Vec::new(), time }
    }

    /// Adds a directory.
    pub(super) fn directory(&mut self, path: &str, mode: u32) -> Result<()> {
        self.header(&format!("{path}/"), mode, 0, b'5')
    }

    /// Adds a file.
    pub(super) fn file(&mut self, path: &str, mode: u32, content: &[u8]) -> Result<()> {
        self.header(path, mode, content.len(), b'0')?;
        self.bytes.extend(content);
        self.pad(BLOCK);
        Ok(())
    }

    /// The archive, with the two empty blocks that end it.
    pub(super) fn finish(mut self) -> Vec<u8> {
        self.bytes.resize(self.bytes.len() + 2 * BLOCK, 0);
        self.bytes
    }

    fn header(&mut self, path: &str, mode: u32, size: usize, kind: u8) -> Result<()> {
        let start = self.bytes.len();
        self.text(path, 100)?;
        self.octal(mode, 8)?;
        self.octal(0, 8)?;
        self.octal(0, 8)?;
        self.octal(u32::try_from(size)?, 12)?;
        self.octal(self.time, 12)?;
        // The sum is taken with blanks in its own place.
        self.bytes.extend([b' '; 8]);
        self.bytes.push(kind);
        self.text("", 100)?;
        self.bytes.extend(b"ustar\x0000");
        self.text("root", 32)?;
        self.text("root", 32)?;
        self.pad(BLOCK);
        let header = self.bytes.get_mut(start..).context("no header")?;
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        let sum = format!("{sum:06o}\0 ");
        header.get_mut(148..156).context("no sum")?.copy_from_slice(sum.as_bytes());
        Ok(())
    }

    fn text(&mut self, text: &str, width: usize) -> Result<()> {
        if text.len() >= width {
            bail!("{text} is too long for an archive");
        }
        self.bytes.extend(text.as_bytes());
        self.bytes.resize(self.bytes.len() + width - text.len(), 0);
        Ok(())
    }

    fn octal(&mut self, number: u32, width: usize) -> Result<()> {
        let digits = format!("{number:0width$o}", width = width - 1);
        self.text(&digits, width)
    }

    fn pad(&mut self, to: usize) {
        self.bytes.resize(self.bytes.len().next_multiple_of(to), 0);
    }
}

/// The directories above some files, each before what is in it.
pub(super) fn parents<'a>(files: impl Iterator<Item = &'a str>) -> Vec<String> {
    let above = |file: &'a str| Path::new(file).ancestors().skip(1);
    let mut all: Vec<String> = files
        .flat_map(above)
        .map(|path| path.to_string_lossy().into_owned())
        .filter(|path| !path.is_empty() && path != "/")
        .collect();
    all.sort_unstable();
    all.dedup();
    all
}

/// What a file has in it, by its path; a leading `./` is of no account.
pub(super) fn file<'a>(archive: &'a [u8], path: &str) -> Option<&'a [u8]> {
    let mut rest = archive;
    loop {
        let (header, after) = rest.split_at_checked(BLOCK)?;
        let text = |at: std::ops::Range<usize>| {
            let text = header.get(at)?.split(|byte| *byte == 0).next()?;
            std::str::from_utf8(text).ok()
        };
        let name = text(0..100)?;
        let size = usize::from_str_radix(text(124..136)?.trim(), 8).ok()?;
        if name.strip_prefix("./").unwrap_or(name) == path {
            return after.get(..size);
        }
        rest = after.get(size.next_multiple_of(BLOCK)..)?;
    }
}

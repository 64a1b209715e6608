//! Bytes of a file, and where in it they are.

use std::io::{self, Read};

use super::ReplayError;

/// A file that is read from front to back.
pub(super) struct Source<R> {
    inner: R,
    offset: u64,
}

impl<R: Read> Source<R> {
    pub(super) const fn new(inner: R) -> Self {
        Self { inner, offset: 0 }
    }

    /// How many bytes were read.
    pub(super) const fn offset(&self) -> u64 {
        self.offset
    }

    /// Reads until `buffer` is full or the file ends; says how many bytes there were.
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, ReplayError> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.inner.read(&mut buffer[filled..]) {
                Ok(0) => break,
                Ok(len) => {
                    filled += len;
                    self.offset += len as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => return Err(ReplayError::Read { offset: self.offset, source }),
            }
        }
        Ok(filled)
    }

    /// Fills `buffer`; `false` when the file ended before.
    pub(super) fn try_fill(&mut self, buffer: &mut [u8]) -> Result<bool, ReplayError> {
        Ok(self.read(buffer)? == buffer.len())
    }

    /// Fills `buffer`, or returns `false` when the file ended exactly here. A file that ends in
    /// the middle of it is cut off inside `what`.
    pub(super) fn fill_or_end(
        &mut self,
        buffer: &mut [u8],
        what: &'static str,
    ) -> Result<bool, ReplayError> {
        match self.read(buffer)? {
            0 => Ok(false),
            len if len == buffer.len() => Ok(true),
            _ => Err(ReplayError::Truncated { offset: self.offset, what }),
        }
    }

    /// Fills `buffer`; a file that ends before is cut off inside `what`.
    pub(super) fn fill(
        &mut self,
        buffer: &mut [u8],
        what: &'static str,
    ) -> Result<(), ReplayError> {
        if self.try_fill(buffer)? {
            Ok(())
        } else {
            Err(ReplayError::Truncated { offset: self.offset, what })
        }
    }

    /// Skips `len` bytes, which may be more than fit in memory.
    pub(super) fn skip(&mut self, mut len: u64, what: &'static str) -> Result<(), ReplayError> {
        let mut buffer = [0; 4096];
        while len > 0 {
            let part = len.min(buffer.len() as u64) as usize;
            self.fill(&mut buffer[..part], what)?;
            len -= part as u64;
        }
        Ok(())
    }
}

/// Which way the numbers of a file are written.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Order {
    Big,
    Little,
}

impl Order {
    pub(super) const fn u16(self, bytes: [u8; 2]) -> u16 {
        match self {
            Self::Big => u16::from_be_bytes(bytes),
            Self::Little => u16::from_le_bytes(bytes),
        }
    }

    pub(super) const fn u32(self, bytes: [u8; 4]) -> u32 {
        match self {
            Self::Big => u32::from_be_bytes(bytes),
            Self::Little => u32::from_le_bytes(bytes),
        }
    }

    /// The 32-bit numbers that `bytes` are.
    pub(super) fn words<const N: usize>(self, bytes: &[u8]) -> [u32; N] {
        let mut words = [0; N];
        for (word, bytes) in words.iter_mut().zip(bytes.as_chunks().0) {
            *word = self.u32(*bytes);
        }
        words
    }
}

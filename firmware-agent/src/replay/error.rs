//! Why a capture cannot be read, or not to its end.

use std::io;
use std::path::PathBuf;

/// Why a replay stopped.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// The file cannot be opened.
    #[error("open capture {}", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        #[source]
        source: io::Error,
    },
    /// Reading failed.
    #[error("read capture at byte {offset}")]
    Read {
        /// How far reading got.
        offset: u64,
        /// The system's reason.
        #[source]
        source: io::Error,
    },
    /// The file is empty, or shorter than the magic number.
    #[error("the capture is empty")]
    Empty,
    /// The magic number is of another kind of file.
    #[error("not a capture: the file starts with {magic:08x}, which is neither pcap nor pcapng")]
    NotACapture {
        /// The first four bytes.
        magic: u32,
    },
    /// The file ends in the middle of something.
    #[error("the capture is cut off at byte {offset}, inside {what}")]
    Truncated {
        /// Where the file ends.
        offset: u64,
        /// What was being read.
        what: &'static str,
    },
    /// The file contradicts its format.
    #[error("the capture is damaged at byte {offset}: {what}")]
    Invalid {
        /// Where the damaged part starts.
        offset: u64,
        /// What is wrong.
        what: &'static str,
    },
    /// The link type of the whole file is not known here.
    #[error("the capture has link type {link}, which is not supported")]
    LinkType {
        /// The number, as registered for captures.
        link: u32,
    },
    /// Writing failed.
    #[error("write the result")]
    Write(#[source] io::Error),
}

//! Why the data path is not doing its work.

use std::io;
use std::path::PathBuf;

use aya::EbpfError;
use aya::maps::MapError;
use aya::programs::ProgramError;

use crate::sys::netlink::RequestError;

/// Why the data path, or a part of it, is not doing its work.
///
/// Messages say what was being done, the source says why it failed; log the whole chain. A kernel
/// that lacks something is not an error: see [`Support`](crate::kernel::Support).
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The binary was built without objects.
    #[error("object {object} is not in this build; build it with `cargo xtask ebpf`")]
    NoObject {
        /// Object name.
        object: &'static str,
    },
    /// The object was refused as a whole.
    #[error("load object {object}")]
    Load {
        /// Object name.
        object: &'static str,
        /// The loader's reason.
        #[source]
        source: Box<EbpfError>,
    },
    /// The object is no ELF file as programs are in.
    #[error("read object {object}")]
    Object {
        /// Object name.
        object: &'static str,
        /// The parser's reason.
        #[source]
        source: object::Error,
    },
    /// The kernel refused a program.
    #[error("load program {program}")]
    Program {
        /// Program name.
        program: &'static str,
        /// Holds the verifier's log when the verifier refused.
        #[source]
        source: Box<ProgramError>,
    },
    /// A program or map is not in the object.
    #[error("object {object} has no {name}")]
    Missing {
        /// Object name.
        object: &'static str,
        /// What was looked for.
        name: &'static str,
    },
    /// A map could not be read or written.
    #[error("{operation} map {map}")]
    Map {
        /// Map name.
        map: &'static str,
        /// What was done to it.
        operation: &'static str,
        /// The kernel's reason.
        #[source]
        source: Box<MapError>,
    },
    /// A list has more entries than its map.
    #[error(
        "map {map} has room for {room} entries, the lists have {entries}; raise its size or use fewer lists"
    )]
    TooMany {
        /// Map name.
        map: &'static str,
        /// Entries that fit.
        room: u32,
        /// Entries of the lists.
        entries: usize,
    },
    /// The pin directory may not be used.
    #[error("use pin directory {}: {reason}", path.display())]
    PinDir {
        /// The directory.
        path: PathBuf,
        /// Why, and what to do.
        reason: String,
    },
    /// A pin could not be read, made or removed.
    #[error("{operation} {}", path.display())]
    Pin {
        /// The pin.
        path: PathBuf,
        /// What was done to it.
        operation: &'static str,
        /// The kernel's reason.
        #[source]
        source: io::Error,
    },
    /// A device refused something.
    #[error("{operation} device {ifindex}")]
    Device {
        /// Index of the device.
        ifindex: u32,
        /// What was done to it.
        operation: &'static str,
        /// The kernel's reason.
        #[source]
        source: Box<RequestError>,
    },
    /// The devices could not be listed.
    #[error("list network devices")]
    Devices(#[source] Box<RequestError>),
    /// The kernel cannot run the programs at all.
    #[error("start the data path: {0}")]
    Kernel(String),
    /// The image of the lists could not be made or read.
    #[error("{operation} the image of the lists")]
    Image {
        /// What was done.
        operation: &'static str,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// A file of a list could not be read again.
    #[error("read list {}", path.display())]
    ListFile {
        /// The file.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// The lists could not be put where no program asks for them.
    #[error("use sets of nftables")]
    Sets(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The lists need more memory than they may have.
    #[error(transparent)]
    Memory(#[from] super::bulk::TooLarge),
}

impl Error {
    pub(super) fn map(map: &'static str, operation: &'static str) -> impl FnOnce(MapError) -> Self {
        move |source| Self::Map { map, operation, source: Box::new(source) }
    }

    /// The message with all its causes, on one line.
    #[must_use]
    pub fn chain(&self) -> String {
        let mut text = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            let next = error.to_string();
            // aya repeats the message of the cause in its own.
            if !text.ends_with(&next) {
                text.push_str(": ");
                text.push_str(&next);
            }
            cause = error.source();
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_chain_names_what_and_why() {
        let error = Error::map("FLOWS", "insert into")(MapError::KeyNotFound);
        assert_eq!(error.chain(), "insert into map FLOWS: key not found");
        let error = Error::Pin {
            path: "/sys/fs/bpf/x".into(),
            operation: "remove",
            source: io::Error::from_raw_os_error(libc::EPERM),
        };
        assert_eq!(error.chain(), "remove /sys/fs/bpf/x: Operation not permitted (os error 1)");
    }
}

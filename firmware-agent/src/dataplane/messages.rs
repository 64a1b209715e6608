//! `MESSAGES`: DNS messages that the classifiers saw on interfaces of the LAN. Only programs write it.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use sluice_abi::message::Head;

use super::error::Error;
use crate::sys::bpf;
use crate::sys::ring::Ring;

/// The reader of the messages. Ready to be read when there is one.
#[derive(Debug)]
pub struct Messages(Ring);

impl Messages {
    /// Why the ring cannot be read on this kind of machine.
    ///
    /// The kernel writes it through a mapping of its own. Data caches of MIPS cores are indexed by virtual addresses
    /// and may keep two copies of a line that two mappings share; `mmap` makes sure that they do not only for
    /// mappings of processes.
    pub const OBSTACLE: Option<&str> = if cfg!(target_arch = "mips") {
        Some("the caches of this processor may keep the agent from seeing what programs tell")
    } else {
        None
    };

    /// The reader of the map that is pinned at `path`.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let failed = |source| Error::Pin { path: path.to_owned(), operation: "read", source };
        bpf::pinned(path).and_then(Self::new).map_err(failed)
    }

    /// The reader of this map.
    pub fn new(map: OwnedFd) -> io::Result<Self> {
        Ring::open(map).map(Self)
    }

    /// Gives the next packet to `take`, from its IP header on, with what is told of it; `false` when
    /// there is none. After an error there is nothing more to be had.
    pub fn next(&self, take: impl FnOnce(&Head, &[u8])) -> io::Result<bool> {
        let mut is_whole = true;
        let is_there = self.0.next(|record| match read(record) {
            Some((head, packet)) => take(&head, packet),
            None => is_whole = false,
        })?;
        if is_whole {
            return Ok(is_there);
        }
        Err(io::Error::new(io::ErrorKind::InvalidData, "a message contradicts itself"))
    }
}

impl AsFd for Messages {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// What is told of a packet, and the packet; `None` for what no program writes.
fn read(record: &[u8]) -> Option<(Head, &[u8])> {
    let (head, packet) = record.split_at_checked(size_of::<Head>())?;
    let head: Head = bytemuck::try_pod_read_unaligned(head).ok()?;
    let is_right = head.copied as usize == packet.len()
        && head.copied <= head.wire_len
        && head.flags & !(Head::OUT | Head::MAC) == 0
        && head.reserved == 0
        && head.ifindex != 0;
    is_right.then_some((head, packet))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_that_contradicts_itself_is_none() {
        let head = Head { ifindex: 3, wire_len: 40, copied: 2, ..Head::default() };
        let record = |head: Head| [bytemuck::bytes_of(&head), &[0x45, 0]].concat();
        assert_eq!(read(&record(head)), Some((head, &[0x45, 0][..])));
        for wrong in [
            Head { copied: 3, ..head },
            Head { copied: 1, ..head },
            Head { wire_len: 1, ..head },
            Head { flags: 4, ..head },
            Head { ifindex: 0, ..head },
            Head { reserved: 1, ..head },
            Head::default(),
        ] {
            assert_eq!(read(&record(wrong)), None, "{wrong:?}");
        }
        assert_eq!(read(&record(head)[..33]), None);
        assert_eq!(read(&[]), None);
    }
}

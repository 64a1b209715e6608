//! `BULK`: the configured lists as one image in the kernel, replaced as a whole.
//!
//! A new image is complete before a single packet sees it, and a packet sees one image from its
//! first look to its last. What is not finished goes with the agent; what is in force stays.

mod buckets;
mod entries;
mod image;
mod lines;
mod memory;

use std::cell::OnceCell;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::path::Path;

use aya::maps::{Map, MapData, MapError};
use bytemuck::Zeroable as _;
use sluice_abi::bulk::{Chunk, Header};
use sluice_abi::names;
use sluice_datapath::bulk::{Image, lookup};

pub use self::entries::{Entries, Kind};
pub use self::image::{ImageError, measure, write};
pub use self::memory::{Live, Observing, TooLarge, check, default_cap_kib};

use super::error::Error;
use crate::sys::bpf;

/// The entry of the map: 32-bit kernels find others where they were not stored.
const ENTRY: u32 = 0;

/// The map and what it holds.
pub struct Bulk {
    outer: MapData,
    image: Option<(OwnedFd, Header)>,
}

impl Bulk {
    /// Takes the map, with the image that an earlier agent left in it.
    pub fn new(map: Map) -> Result<Self, Error> {
        let Map::ArrayOfMaps(outer) = map else {
            let error = MapError::InvalidMapType { map_type: 0 };
            return Err(Error::map(names::BULK, "open")(error));
        };
        let image = in_force(outer.fd().as_fd());
        Ok(Self { outer, image })
    }

    /// Bytes of the image in force.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.image.as_ref().map_or(0, |(_, header)| bytes(header))
    }

    /// Whether the image has IPv4 addresses, and IPv6 prefixes.
    #[must_use]
    pub fn has_entries(&self) -> (bool, bool) {
        has_entries(self.image.as_ref())
    }

    /// Makes the map that images are put into and pins it at `path`, unless it is there.
    ///
    /// Not left to the loader, which gives the map that images must resemble the types of its key
    /// and value. Kernels before 6.3 then refuse every map without (`bpf_map_meta_equal`).
    pub fn make(path: &Path) -> Result<(), Error> {
        if path.exists() {
            return Ok(());
        }
        let failed = |source| Error::Image { operation: "make the place of", source };
        let like = bpf::array_of_any_size("bulk", Chunk::BYTES as u32, 1).map_err(failed)?;
        let outer = bpf::array_of_one_map(names::BULK, like.as_fd()).map_err(failed)?;
        let outer = MapData::from_fd(outer).map_err(Error::map(names::BULK, "make"))?;
        outer.pin(path).map_err(|source| failed(io::Error::other(source)))
    }

    /// Writes an image of sorted `entries`, of `bytes` bytes as [`measure`] says. It is not in force
    /// yet.
    pub fn prepare(entries: &Entries, bytes: u64) -> Result<Prepared, Error> {
        if entries.is_empty() {
            return Ok(Prepared(None));
        }
        let failed = |operation| move |source| Error::Image { operation, source };
        let chunks = (bytes / Chunk::BYTES as u64) as u32;
        let map = bpf::array_of_any_size("bulk", Chunk::BYTES as u32, chunks)
            .map_err(failed("make a map for"))?;
        let header = write(entries, |number, chunk| bpf::array_set(map.as_fd(), number, chunk))
            .map_err(|error| failed("write")(io::Error::other(error)))?;
        Ok(Prepared(Some((map, header))))
    }

    /// Puts an image into force instead of the one before.
    pub fn replace(&mut self, Prepared(image): Prepared) -> Result<(), Error> {
        let outer = self.outer.fd().as_fd();
        let failed = |source| Error::Image { operation: "put into force", source };
        match &image {
            Some((map, _)) => {
                let fd = map.as_raw_fd().cast_unsigned();
                bpf::array_set(outer, ENTRY, &fd).map_err(failed)?;
            }
            None => match bpf::array_delete(outer, ENTRY) {
                Err(error) if error.raw_os_error() != Some(libc::ENOENT) => {
                    return Err(failed(error));
                }
                _ => {}
            },
        }
        self.image = image;
        Ok(())
    }

    /// Number of the list that the programs find for `addr`.
    #[must_use]
    pub fn lookup(&self, addr: IpAddr) -> Option<u32> {
        let (map, _) = self.image.as_ref()?;
        lookup(&Copies { map: map.as_fd(), chunks: [const { OnceCell::new() }; 4] }, &addr.into())
    }
}

/// An image that is whole and not in force.
pub struct Prepared(Option<(OwnedFd, Header)>);

impl Prepared {
    pub(super) fn has_entries(&self) -> (bool, bool) {
        has_entries(self.0.as_ref())
    }
}

fn has_entries(image: Option<&(OwnedFd, Header)>) -> (bool, bool) {
    image.map_or((false, false), |(_, header)| (header.buckets != 0, header.blocks != 0))
}

fn bytes(header: &Header) -> u64 {
    u64::from(header.chunks) * Chunk::BYTES as u64
}

/// The image in `outer`, when this version can read it.
fn in_force(outer: BorrowedFd<'_>) -> Option<(OwnedFd, Header)> {
    let mut id = 0_u32;
    bpf::array_get(outer, ENTRY, &mut id).ok()?;
    let map = bpf::map_by_id(id).ok()?;
    let (value_size, chunks) = bpf::map_size(map.as_fd()).ok()?;
    if value_size as usize != Chunk::BYTES {
        return None;
    }
    let mut first = Box::new(Chunk::zeroed());
    bpf::array_get(map.as_fd(), 0, &mut *first).ok()?;
    let header = Header::of(&first).filter(|header| header.chunks == chunks)?;
    Some((map, header))
}

/// Copies of the chunks that one lookup needs.
struct Copies<'a> {
    map: BorrowedFd<'a>,
    chunks: [OnceCell<(u32, Box<Chunk>)>; 4],
}

impl Image for Copies<'_> {
    fn chunk(&self, number: u32) -> Option<&Chunk> {
        let known = self.chunks.iter().filter_map(OnceCell::get).find(|(of, _)| *of == number);
        if let Some((_, chunk)) = known {
            return Some(chunk);
        }
        let mut chunk = Box::new(Chunk::zeroed());
        bpf::array_get(self.map, number, &mut *chunk).ok()?;
        let free = self.chunks.iter().find(|cell| cell.get().is_none())?;
        Some(&free.get_or_init(|| (number, chunk)).1)
    }
}

#[cfg(test)]
mod tests;

//! The image of the configured lists, as programs read it.

use aya_ebpf::btf_maps::{Array, ArrayOfMaps};
use sluice_abi::bulk::Chunk;
use sluice_abi::flow::Addr;
use sluice_datapath::bulk::{self, Image};

/// Images may differ in their number of chunks (`BPF_F_INNER_MAP`, kernel 5.10).
const ANY_SIZE: usize = 0x1000;

/// An image.
pub type Chunks = Array<Chunk, 1, ANY_SIZE>;

/// The map of the image in force. Only its entry 0 is used: 32-bit kernels look others up where
/// they were not stored.
pub type Bulk = ArrayOfMaps<Chunks, 1>;

/// An image, of which no part is replaced while a program looks at it.
struct InForce<'a>(&'a Chunks);

impl Image for InForce<'_> {
    #[inline(always)]
    fn chunk(&self, number: u32) -> Option<&Chunk> {
        self.0.get(number)
    }
}

/// Number of the list that has `address`.
#[inline(always)]
#[must_use]
pub fn lookup(map: &Bulk, address: &Addr) -> Option<u32> {
    bulk::lookup(&InForce(map.get(0)?), address)
}

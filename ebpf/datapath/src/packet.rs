//! Bounds-checked access to packet bytes.

use bytemuck::AnyBitPattern;

/// Bytes that can only be read after a bounds check.
pub trait Packet {
    /// Reads a `T` at `offset`, or `None` when the packet ends before it does.
    ///
    /// Every header of the Internet lies at an even offset, so types with an alignment of one or
    /// two are read without splitting them into bytes, also where the kernel insists on aligned
    /// access (MIPS). Larger alignments do not compile.
    fn load<T: AnyBitPattern>(&self, offset: usize) -> Option<T>;
}

impl Packet for [u8] {
    #[inline]
    fn load<T: AnyBitPattern>(&self, offset: usize) -> Option<T> {
        const { assert!(align_of::<T>() <= 2, "a packet is aligned to two bytes at most") }
        let end = offset.checked_add(size_of::<T>())?;
        Some(bytemuck::pod_read_unaligned(self.get(offset..end)?))
    }
}

/// The 32 bits that two 16-bit halves form in memory.
#[inline(always)]
#[must_use]
pub const fn word(halves: [u16; 2]) -> u32 {
    if cfg!(target_endian = "little") {
        halves[0] as u32 | (halves[1] as u32) << 16
    } else {
        (halves[0] as u32) << 16 | halves[1] as u32
    }
}

//! Types whose bytes cross the boundary between the kernel programs and the agent.
//!
//! Every type here is `repr(C)`, has no hidden padding and asserts its size and alignment when it
//! is compiled, for the host and for both BPF targets. Packet fields keep the byte order of the
//! wire; counters, times and indices have the byte order of the machine, which kernel and agent
//! share.
#![no_std]

/// Asserts the layout of an ABI type and, for the agent, makes it usable as a map key or value.
///
/// `bytemuck::Pod` is the proof (no padding, every bit pattern valid); `aya::Pod` only repeats it.
macro_rules! abi_type {
    ($ty:ty, size = $size:literal, align = $align:literal $(, $field:ident @ $offset:literal)* $(,)?) => {
        const _: () = assert!(core::mem::size_of::<$ty>() == $size);
        const _: () = assert!(core::mem::align_of::<$ty>() == $align);
        $(const _: () = assert!(core::mem::offset_of!($ty, $field) == $offset);)*

        impl $crate::layout::Layout for $ty {
            const HASH: u32 = $crate::layout::hash(
                stringify!($ty),
                &[$size, $align $(, $offset)*],
                &["" $(, stringify!($field))*],
            );
        }

        // SAFETY: the bound is checked here: `bytemuck::Pod` rules out padding and niches.
        #[cfg(feature = "user")]
        unsafe impl aya::Pod for $ty where $ty: bytemuck::Pod {}
    };
}

pub mod attach;
pub mod bulk;
pub mod counter;
pub mod device;
pub mod flow;
pub mod layout;
pub mod limits;
pub mod live;
pub mod message;
pub mod names;
pub mod profile;
pub mod reason;
pub mod settings;
pub mod shield;
pub mod verdict;

/// Version of every layout in this crate; part of the name of the pin directory, so that an agent
/// never takes up maps of another layout.
pub const ABI_VERSION: u32 = 2;

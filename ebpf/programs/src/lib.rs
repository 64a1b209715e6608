//! What the programs share: access to packet bytes, counters, the panic handler.
#![cfg_attr(target_arch = "bpf", no_std)]

pub mod bulk;
pub mod counters;
pub mod guard;
pub mod mem;
pub mod message;
pub mod shield;
pub mod spread;
pub mod syncookie;
pub mod values;

/// Programs contain no panicking path; the compiler still wants a handler.
#[cfg(target_arch = "bpf")]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

//! The kernel's interfaces that have no crate of their own here: system calls, netlink, clocks.
//!
//! Owns no decisions: a function does one thing and returns what the kernel said.

pub mod bpf;
pub mod bpffs;
pub mod clock;
pub mod ethtool;
pub mod genetlink;
pub mod log;
pub mod memory;
pub mod netlink;
pub mod nfnetlink;
pub mod packet;
pub mod peer;
pub mod priority;
pub mod rights;
pub mod ring;
pub mod rtnetlink;
#[cfg(all(without_unwind_tables, panic = "abort"))]
mod unwind;

//! Decisions about packets, without the kernel.
//!
//! The XDP and TC programs, the agent, the tests and the fuzzers all run this code, so the key that
//! the agent builds for a queued packet cannot differ from the one that a program looks up. Nothing
//! here allocates, calls into the kernel or can panic.
#![no_std]

pub mod bucket;
pub mod bulk;
pub mod checks;
pub mod dscp;
pub mod limit;
mod mix;
pub mod packet;
pub mod parse;
pub mod scan;
pub mod sources;
pub mod spread;
pub mod syncookie;

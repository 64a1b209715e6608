//! The programs in the kernel and their maps.
//!
//! Owns loading, attaching, pinning and every map. Decides nothing about flows: it writes what it
//! is told and reports what the kernel counted.

pub mod blocklist;
pub mod error;
pub mod flows;
pub mod pins;
pub mod plan;
pub mod settings;
pub mod table;
pub mod totals;

//! The world that Sluice is tested in: namespaces as router and hosts, real programs in them,
//! frames made by hand, and the agent itself under a guard.
//!
//! Everything made here is removed by the guard that made it; nothing outside of it is touched.

pub mod agent;
pub mod bare;
pub mod bus;
pub mod caller;
pub mod capture;
pub mod demo;
pub mod directory;
pub mod dns;
pub mod error;
pub mod frame;
pub mod hello;
pub mod host;
pub mod lists;
pub mod luci;
pub mod netns;
pub mod observe;
pub mod packets;
pub mod plan;
pub mod plane;
pub mod ppp;
pub mod probe;
pub mod process;
pub mod raw;
pub mod report;
pub mod router;
pub mod service;
pub mod site;
pub mod skip;
pub mod testrun;
pub mod throughput;
pub mod traffic;
pub mod uci;
pub mod wait;

pub use crate::error::{Error, Result};

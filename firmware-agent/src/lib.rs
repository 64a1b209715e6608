//! The agent of Sluice: inspection, verdicts, configuration and control.

pub mod agent;
pub mod cli;
pub mod config;
pub mod control;
pub mod dataplane;
#[cfg(test)]
mod directory;
pub mod inspect;
pub mod kernel;
pub mod names;
pub mod netfilter;
pub mod plan;
pub mod policy;
pub mod replay;
pub mod signature;
pub mod sys;
pub mod text;
pub mod ubus;

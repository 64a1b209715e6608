//! ubus, the bus of OpenWrt, spoken natively: its messages, a client, and the object `sluice`.
//!
//! Does not know what the answers of the object mean: `agent` gives them, as it does to the control
//! socket. Everything but [`client`] is pure.

pub mod blob;
pub mod blobmsg;
pub mod client;
pub mod inbox;
pub mod json;
pub mod message;
pub mod object;

#[cfg(test)]
mod recorded;
#[cfg(test)]
mod tests;

//! What the agent concludes from the first packets of a flow.
//!
//! Owns the parsers, the reassembly and the first-N engine. Everything here is pure: no input or
//! output, no clock (the monotonic time is an argument), bounded memory, and no panic on any bytes.
//! Does not own the queue that packets come from, nor what is done about a decision.

pub mod address_set;
pub mod dhcp;
pub mod dns;
pub mod domain_set;
pub mod engine;
pub mod http;
pub mod http2;
pub mod ja;
pub mod protocol;
pub mod quic;
mod sip;
pub mod stream;
mod table;
pub mod tls;
pub mod upgrade;

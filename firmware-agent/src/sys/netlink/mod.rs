//! Netlink: sockets, messages and attributes.
//!
//! Knows the envelope that all netlink families share. What is inside a message belongs to its
//! user: `netfilter` for queues, conntrack and nftables.

mod batch;
mod listener;
mod message;
mod socket;

pub use self::batch::{Batch, Datagram};
pub use self::listener::{Heard, Listener};
pub use self::message::{Attr, Attrs, Builder, Message, Messages, Refusal, attr, flag, kind};
pub use self::socket::{RequestError, Socket, adopt};

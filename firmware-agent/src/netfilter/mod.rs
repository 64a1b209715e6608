//! Everything that talks to netfilter: the rules that send packets to the queues, the queues, and
//! conntrack.
//!
//! Knows marks and packets, not flows or policies: what to do with a packet is decided by whoever
//! calls [`queue::Queues::receive`].

pub mod apply;
pub mod conntrack;
pub mod latency;
pub mod log;
pub mod nfqueue;
pub mod offload;
pub mod queue;
pub mod reject;
pub mod rules;
pub mod shield;
pub mod synproxy;
pub mod watch;

//! Whether netfilter's netlink subsystems answer.

use std::io;

use nix::sys::socket::SockProtocol;

use super::request::{Request, Socket};

const SUBSYSTEM_CONNTRACK: u16 = 1;
const SUBSYSTEM_QUEUE: u16 = 3;
const CONNTRACK_GET_STATS: u16 = 5;
const QUEUE_CONFIG: u16 = 2;
const NFQA_CFG_CMD: u16 = 1;
const BIND: u8 = 1;

/// Binds a queue of the calling thread's network namespace and lets go of it.
pub fn bind_queue(number: u16) -> io::Result<()> {
    let mut request = Request::new(SUBSYSTEM_QUEUE << 8 | QUEUE_CONFIG, 0);
    request.push(&[&[0, 0][..], &number.to_be_bytes()].concat()); // struct nfgenmsg
    request.attribute(NFQA_CFG_CMD, &[BIND, 0, 0, 0]);
    Socket::open(SockProtocol::NetlinkNetFilter)?.ask(request, |_, _| {})
}

/// Asks connection tracking for its global statistics.
pub fn conntrack_stats() -> io::Result<()> {
    let mut request = Request::new(SUBSYSTEM_CONNTRACK << 8 | CONNTRACK_GET_STATS, 0);
    request.push(&[0; 4]);
    Socket::open(SockProtocol::NetlinkNetFilter)?.ask(request, |_, _| {})
}

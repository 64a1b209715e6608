//! Whether netfilter's netlink subsystems answer.

use nix::sys::socket::SockProtocol;

use super::netlink::{Builder, RequestError, Socket, flag};

const SUBSYSTEM_CONNTRACK: u16 = 1;
const SUBSYSTEM_QUEUE: u16 = 3;
const CONNTRACK_GET_STATS: u16 = 5;
const QUEUE_CONFIG: u16 = 2;
const NFQA_CFG_CMD: u16 = 1;
const BIND: u8 = 1;
/// Number of the only request on a socket.
const SEQUENCE: u32 = 1;

/// Binds a queue of the calling thread's network namespace and lets go of it.
pub fn bind_queue(number: u16) -> Result<(), RequestError> {
    let mut request = Builder::default();
    let header = [&[0, 0][..], &number.to_be_bytes()].concat(); // struct nfgenmsg
    let kind = SUBSYSTEM_QUEUE << 8 | QUEUE_CONFIG;
    request.message(kind, flag::REQUEST | flag::ACK, SEQUENCE, &header);
    request.attr(NFQA_CFG_CMD, &[BIND, 0, 0, 0]);
    ask(&request)
}

/// Asks connection tracking for its global statistics.
pub fn conntrack_stats() -> Result<(), RequestError> {
    let mut request = Builder::default();
    let kind = SUBSYSTEM_CONNTRACK << 8 | CONNTRACK_GET_STATS;
    request.message(kind, flag::REQUEST | flag::ACK, SEQUENCE, &[0; 4]);
    ask(&request)
}

fn ask(request: &Builder) -> Result<(), RequestError> {
    let mut buffer = vec![0; 8192];
    let socket = Socket::open(SockProtocol::NetlinkNetFilter, 0)?;
    socket.request(request.bytes(), SEQUENCE, &mut buffer, |_| {})
}

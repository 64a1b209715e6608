//! Frames put on an interface as they are, by a packet socket.

use std::os::fd::{AsRawFd as _, OwnedFd};

use nix::net::if_::if_nametoindex;
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, send, socket};

use crate::error::{Attempt as _, Result};
use crate::netns::Netns;

/// A packet socket bound to one interface of one namespace.
#[derive(Debug)]
pub struct Injector {
    socket: OwnedFd,
    what: String,
}

impl Injector {
    /// Opens it; the socket stays in the namespace wherever it is used.
    pub fn new(netns: &Netns, interface: &str) -> Result<Self> {
        let what = format!("packet socket on {interface}");
        let opened = netns.enter(|| {
            let index = if_nametoindex(interface)?;
            let kind = SockType::Raw;
            let flags = SockFlag::SOCK_CLOEXEC;
            let none: Option<SockProtocol> = None;
            let socket = socket(AddressFamily::Packet, kind, flags, none)?;
            bind(&socket, index)?;
            Ok::<_, nix::Error>(socket)
        })?;
        Ok(Self { socket: opened.attempt(|| what.clone())?, what })
    }

    /// With a packet socket of its own namespace.
    pub fn bound(socket: OwnedFd, ifindex: u32) -> Result<Self> {
        let what = format!("packet socket on device {ifindex}");
        bind(&socket, ifindex).attempt(|| what.clone())?;
        Ok(Self { socket, what })
    }

    /// Sends one frame.
    pub fn send(&self, frame: &[u8]) -> Result<()> {
        loop {
            match send(self.socket.as_raw_fd(), frame, MsgFlags::empty()) {
                // The queue of the interface is full for a moment.
                Err(nix::Error::ENOBUFS) => std::thread::yield_now(),
                sent => return sent.map(drop).attempt(|| self.what.clone()),
            }
        }
    }
}

/// Binds to an interface without receiving from it (protocol 0).
fn bind(socket: &OwnedFd, index: u32) -> nix::Result<()> {
    let address = libc::sockaddr_ll {
        sll_family: libc::AF_PACKET as u16,
        sll_protocol: 0,
        sll_ifindex: index.cast_signed(),
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    };
    let length = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
    // SAFETY: the kernel copies `length` bytes of `address`, which live until the call returns;
    // nix has no safe constructor for a link address.
    let result = unsafe {
        libc::bind(socket.as_raw_fd(), (&raw const address).cast::<libc::sockaddr>(), length)
    };
    nix::Error::result(result).map(drop)
}

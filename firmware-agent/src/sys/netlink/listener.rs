//! Hears what the kernel tells the members of a group.

use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, BorrowedFd};
use std::task::{Context, Poll};

use nix::sys::socket::{SockProtocol, setsockopt, sockopt};
use smol::Async;

use super::Socket;

/// The kernel packs messages into datagrams of up to 8 KiB, longer only for a single one that is.
const DATAGRAM_MAX: usize = 1 << 16;
/// Datagrams looked at for one report, so that a flood of changes leaves time for other tasks.
const DATAGRAMS: usize = 256;

/// A listener in the namespace of the thread that opened it.
#[derive(Debug)]
pub struct Listener {
    socket: Async<Socket>,
    buffer: Box<[u8]>,
}

/// What is heard.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Heard<'a> {
    /// Messages.
    Datagram(&'a [u8]),
    /// There was more than the socket holds.
    Lost,
}

impl Listener {
    /// Starts to listen to `groups`, as bits, with so much room for what is not looked at yet.
    pub fn open(protocol: SockProtocol, groups: u32, room: usize) -> io::Result<Self> {
        Self::on(Socket::open(protocol, groups)?, room)
    }

    /// Hears what the kernel sends to `socket`, with so much room.
    pub fn on(socket: Socket, room: usize) -> io::Result<Self> {
        setsockopt(&socket, sockopt::RcvBuf, &room)?;
        Ok(Self { socket: Async::new(socket)?, buffer: vec![0; DATAGRAM_MAX].into() })
    }

    /// Waits until there is something to hear.
    pub async fn readable(&self) -> io::Result<()> {
        self.socket.readable().await
    }

    /// Wakes the task of `context` when there is something to hear.
    pub fn poll_readable(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.socket.poll_readable(context)
    }

    /// Hears what is there, without waiting.
    pub fn hear(&mut self, mut each: impl FnMut(Heard<'_>)) -> io::Result<()> {
        for _ in 0..DATAGRAMS {
            match self.socket.get_ref().receive(&mut self.buffer) {
                Ok(datagram) => each(Heard::Datagram(datagram)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error)
                    if error.raw_os_error() == Some(libc::ENOBUFS)
                        || error.kind() == ErrorKind::FileTooLarge =>
                {
                    each(Heard::Lost);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

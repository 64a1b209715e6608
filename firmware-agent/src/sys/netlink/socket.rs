//! The socket: open, send, receive, ask.

use std::ffi::c_int;
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, getsockname,
    recvfrom, send, setsockopt, socket, sockopt,
};
use nix::sys::time::TimeVal;

use super::message::{Message, Messages, kind};

/// Datagrams looked at for one answer before it is given up.
const ANSWER_DATAGRAMS: usize = 4096;

/// A netlink socket of the calling thread's network namespace.
#[derive(Debug)]
pub struct Socket {
    fd: OwnedFd,
    port: u32,
}

impl Socket {
    /// Opens a socket that also hears the multicast `groups`, one bit each, group 1 lowest.
    ///
    /// Waits at most a second when it receives, so that a kernel that does not answer is an error.
    pub fn open(protocol: SockProtocol, groups: u32) -> io::Result<Self> {
        let fd = socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol)?;
        bind(fd.as_raw_fd(), &NetlinkAddr::new(0, groups))?;
        setsockopt(&fd, sockopt::ReceiveTimeout, &TimeVal::new(1, 0))?;
        // Words in refusals. Kernels that do not know the options still send the number.
        let _numbers_only = set_flag(&fd, libc::NETLINK_EXT_ACK);
        let _request_cut_off = set_flag(&fd, libc::NETLINK_CAP_ACK);
        let port = getsockname::<NetlinkAddr>(fd.as_raw_fd())?.pid();
        Ok(Self { fd, port })
    }

    /// The port by which the kernel knows this socket.
    #[must_use]
    pub const fn port(&self) -> u32 {
        self.port
    }

    /// How long to wait for an answer.
    pub fn set_timeout(&self, timeout: Duration) -> io::Result<()> {
        let seconds = timeout.as_secs().try_into().map_err(io::Error::other)?;
        let micros = timeout.subsec_micros().cast_signed().into();
        Ok(setsockopt(&self.fd, sockopt::ReceiveTimeout, &TimeVal::new(seconds, micros))?)
    }

    /// Sends whole messages to the kernel.
    pub fn send(&self, messages: &[u8]) -> io::Result<()> {
        send_to_kernel(self.fd.as_fd(), messages)
    }

    /// Receives one datagram of the kernel. One that does not fit is an error, not cut.
    pub fn receive<'a>(&self, buffer: &'a mut [u8]) -> io::Result<&'a [u8]> {
        loop {
            let (len, from) = match recvfrom::<NetlinkAddr>(self.fd.as_raw_fd(), buffer) {
                Err(Errno::EINTR) => continue,
                other => other?,
            };
            // Processes can send to a port too.
            if from.is_some_and(|from| from.pid() == 0) {
                // Without MSG_TRUNC the length is what was stored: a full buffer may be a cut one.
                if len == buffer.len() {
                    return Err(ErrorKind::FileTooLarge.into());
                }
                return Ok(&buffer[..len]);
            }
        }
    }

    /// Sends one request with number `sequence` and gives each answer to `each`, until the
    /// acknowledgement or the end of the list.
    pub fn request(
        &self,
        request: &[u8],
        sequence: u32,
        buffer: &mut [u8],
        mut each: impl FnMut(Message<'_>),
    ) -> Result<(), RequestError> {
        self.send(request)?;
        for _ in 0..ANSWER_DATAGRAMS {
            let datagram = self.receive(buffer)?;
            for message in Messages::new(datagram) {
                // What an earlier request left behind, after it timed out.
                if message.sequence != sequence {
                    continue;
                }
                match message.kind {
                    kind::DONE => return Ok(()),
                    kind::ERROR => {
                        let refusal = message.refusal();
                        let refusal = refusal.ok_or(RequestError::Nonsense)?;
                        if refusal.errno == 0 {
                            return Ok(());
                        }
                        let error = io::Error::from_raw_os_error(refusal.errno);
                        return Err(RequestError::Refused { error, text: refusal.text });
                    }
                    _ => each(message),
                }
            }
        }
        Err(RequestError::Nonsense)
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Why a request has no answer.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// The kernel says no.
    #[error("{error}{}", text.as_ref().map(|text| format!(" ({text})")).unwrap_or_default())]
    Refused {
        /// The kernel's number.
        error: io::Error,
        /// The kernel's words.
        text: Option<Box<str>>,
    },
    /// The answer contradicts itself or does not end.
    #[error("the kernel's answer makes no sense")]
    Nonsense,
    /// The socket failed.
    #[error(transparent)]
    Socket(#[from] io::Error),
}

impl RequestError {
    /// The error number, when there is one.
    #[must_use]
    pub fn errno(&self) -> Option<i32> {
        match self {
            Self::Refused { error, .. } | Self::Socket(error) => error.raw_os_error(),
            Self::Nonsense => None,
        }
    }
}

/// Sends whole messages to the kernel, which has handled them when this returns.
pub(super) fn send_to_kernel(fd: BorrowedFd<'_>, messages: &[u8]) -> io::Result<()> {
    loop {
        match send(fd.as_raw_fd(), messages, MsgFlags::empty()) {
            Err(Errno::EINTR) => {}
            Ok(len) if len == messages.len() => return Ok(()),
            // A datagram goes whole or not at all.
            Ok(_) => return Err(ErrorKind::WriteZero.into()),
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// Switches a netlink option on.
fn set_flag(fd: &OwnedFd, option: c_int) -> io::Result<()> {
    let on: c_int = 1;
    // SAFETY: `on` lives through the call, its size is given, and the kernel only reads it.
    let done = unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            libc::SOL_NETLINK,
            option,
            (&raw const on).cast(),
            size_of::<c_int>() as libc::socklen_t,
        )
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Reads a socket option that is a number of the type `T`.
fn option<T: Copy + Default + bytemuck::Pod>(fd: BorrowedFd<'_>, option: c_int) -> io::Result<T> {
    let mut value = T::default();
    let mut len = size_of::<T>() as libc::socklen_t;
    // SAFETY: the kernel writes at most `len` bytes, the size of `value`, which lives through the
    // call and for which any bytes are valid.
    let done = unsafe {
        libc::getsockopt(
            fd.as_raw_fd(),
            libc::SOL_SOCKET,
            option,
            (&raw mut value).cast(),
            &raw mut len,
        )
    };
    if done == 0 { Ok(value) } else { Err(io::Error::last_os_error()) }
}

/// Whether `fd` is the netlink socket that the kernel knows as `port` of `protocol` in the namespace
/// of `like`.
fn is_socket_of(fd: BorrowedFd<'_>, protocol: SockProtocol, port: u32, like: &Socket) -> bool {
    let int = |name, wanted| option::<c_int>(fd, name).is_ok_and(|value| value == wanted);
    // Ports are numbers of a namespace. Kernels before 5.14 have no cookie; there, and nowhere else,
    // a process with sockets in several namespaces is not served.
    let namespace = |fd| option::<u64>(fd, libc::SO_NETNS_COOKIE).unwrap_or(0);
    int(libc::SO_DOMAIN, libc::AF_NETLINK)
        && int(libc::SO_PROTOCOL, protocol as c_int)
        && getsockname::<NetlinkAddr>(fd.as_raw_fd()).is_ok_and(|own| own.pid() == port)
        && namespace(fd) == namespace(like.as_fd())
}

/// A second descriptor of this process's netlink socket that the kernel knows as `port` in the
/// calling thread's network namespace.
///
/// For sockets inside a library that does not give its descriptor away. Nothing is guessed: each
/// descriptor is first duplicated, and the duplicate, which nobody else can close, is compared.
pub fn adopt(protocol: SockProtocol, port: u32) -> io::Result<OwnedFd> {
    let like = Socket::open(protocol, 0)?;
    for entry in std::fs::read_dir("/proc/thread-self/fd")? {
        let Some(number) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        // SAFETY: only used for the call below, which fails with EBADF when another thread closed
        // the descriptor meanwhile; a number that was reused gives a duplicate of something else,
        // which the comparison refuses.
        let other = unsafe { BorrowedFd::borrow_raw(number) };
        let Ok(copy) = fcntl(other, FcntlArg::F_DUPFD_CLOEXEC(3)) else { continue };
        // SAFETY: the call above made this descriptor, and nothing else owns it.
        let copy: OwnedFd = unsafe { std::os::fd::FromRawFd::from_raw_fd(copy) };
        if is_socket_of(copy.as_fd(), protocol, port, &like) {
            return Ok(copy);
        }
    }
    Err(ErrorKind::NotFound.into())
}

#[cfg(test)]
mod tests {
    use super::super::message::{Builder, flag};
    use super::*;

    #[test]
    fn the_kernel_acknowledges_and_refuses_requests() {
        // Route netlink needs no privilege and exists under every kernel and under qemu-user.
        let socket = Socket::open(SockProtocol::NetlinkRoute, 0).unwrap();
        let mut buffer = [0; 4096];
        let mut builder = Builder::default();
        // RTM_GETLINK of the loopback, interface 1: struct ifinfomsg.
        let mut header = [0_u8; 16];
        header[4..8].copy_from_slice(&1_i32.to_ne_bytes());
        builder.message(18, flag::REQUEST | flag::ACK, 5, &header);
        let mut names = Vec::new();
        let answer = socket.request(builder.bytes(), 5, &mut buffer, |message| {
            names.extend(message.attrs(16).filter(|attr| attr.kind == 3).map(|attr| attr.text()));
        });
        if cfg!(target_arch = "mips") {
            return; // qemu-user does not swap what is inside; the socket is what was tested
        }
        answer.unwrap();
        assert_eq!(names, ["lo".into()]);

        builder.clear();
        header[4..8].copy_from_slice(&i32::MAX.to_ne_bytes());
        builder.message(18, flag::REQUEST | flag::ACK, 6, &header);
        let refused = socket.request(builder.bytes(), 6, &mut buffer, |_| ()).unwrap_err();
        assert_eq!(refused.errno(), Some(libc::ENODEV), "{refused}");
    }

    #[test]
    fn a_socket_is_adopted_by_its_port_and_by_nothing_else() {
        let (route, generic) = (SockProtocol::NetlinkRoute, SockProtocol::NetlinkUserSock);
        let socket = Socket::open(route, 0).unwrap();
        let copy = adopt(route, socket.port()).unwrap();
        assert!(is_socket_of(copy.as_fd(), route, socket.port(), &socket));
        assert!(!is_socket_of(copy.as_fd(), route, socket.port() ^ 1, &socket));
        assert!(!is_socket_of(copy.as_fd(), generic, socket.port(), &socket));
        let nobody = adopt(route, socket.port() ^ 0x7fff_0000).unwrap_err();
        assert_eq!(nobody.kind(), ErrorKind::NotFound);
    }

    #[test]
    fn the_same_port_of_another_namespace_is_another_socket() {
        use nix::sched::{CloneFlags, unshare};
        if !nix::unistd::geteuid().is_root() {
            println!("SKIPPED: needs root for a network namespace");
            return;
        }
        // A thread each, so that this one stays where it is.
        let (ports, opened) = std::sync::mpsc::channel();
        let (finish, finished) = std::sync::mpsc::channel::<()>();
        let protocol = SockProtocol::NetlinkRoute;
        let other = std::thread::spawn(move || {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            let there = Socket::open(protocol, 0).unwrap();
            ports.send(there.port()).unwrap();
            finished.recv().unwrap();
            adopt(protocol, there.port()).is_ok()
        });
        let port = opened.recv().unwrap();
        // The first free port is the process number, in either namespace; here it may be taken.
        let here = adopt(protocol, port).ok();
        let cookie = |fd: BorrowedFd<'_>| option::<u64>(fd, libc::SO_NETNS_COOKIE).ok();
        let own = Socket::open(protocol, 0).unwrap();
        assert!(here.is_none_or(|fd| cookie(fd.as_fd()) == cookie(own.as_fd())));
        finish.send(()).unwrap();
        assert!(other.join().unwrap(), "there it is found");
    }

    #[test]
    fn silence_is_an_error_after_the_time_limit() {
        let socket = Socket::open(SockProtocol::NetlinkRoute, 0).unwrap();
        socket.set_timeout(Duration::from_millis(10)).unwrap();
        let error = socket.receive(&mut [0; 64]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::WouldBlock);
    }
}

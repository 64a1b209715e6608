//! Many datagrams by one system call.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd as _, BorrowedFd};

use super::socket::send_to_kernel;

/// Most datagrams that one call receives.
const SLOTS_MAX: usize = 64;

/// Memory for a number of datagrams, used again for each call.
///
/// A page of it costs memory only once a datagram has reached it: full-size slots are cheap as
/// long as datagrams are small.
#[derive(Debug)]
pub struct Batch {
    slab: Box<[u8]>,
    slot_len: usize,
    received: Vec<Received>,
}

#[derive(Clone, Copy, Debug)]
struct Received {
    len: usize,
    is_cut: bool,
    is_from_kernel: bool,
}

/// One received datagram.
#[derive(Clone, Copy, Debug)]
pub struct Datagram<'a> {
    /// What was received.
    pub bytes: &'a [u8],
    /// The datagram was longer than a slot.
    pub is_cut: bool,
}

impl Batch {
    /// Memory for `slots` datagrams (at most 64) of `slot_len` bytes.
    #[must_use]
    pub fn new(slots: usize, slot_len: usize) -> Self {
        let slots = slots.clamp(1, SLOTS_MAX);
        Self {
            slab: vec![0; slots * slot_len].into(),
            slot_len,
            received: Vec::with_capacity(slots),
        }
    }

    /// Receives what is there, at most one datagram per slot, without waiting.
    pub fn receive(&mut self, fd: BorrowedFd<'_>) -> io::Result<usize> {
        self.received.clear();
        let slots = self.received.capacity().min(self.slab.len() / self.slot_len).min(SLOTS_MAX);
        let mut names = [MaybeUninit::<libc::sockaddr_nl>::uninit(); SLOTS_MAX];
        let mut parts = [MaybeUninit::<libc::iovec>::uninit(); SLOTS_MAX];
        let mut headers = [MaybeUninit::<libc::mmsghdr>::uninit(); SLOTS_MAX];
        let slab = self.slab.as_mut_ptr();
        for slot in 0..slots {
            // SAFETY: `slot * slot_len` lies inside the slab, because `slots` is at most its length
            // divided by `slot_len`.
            let start = unsafe { slab.add(slot * self.slot_len) };
            parts[slot].write(libc::iovec { iov_base: start.cast(), iov_len: self.slot_len });
            // SAFETY: all bytes zero is a valid `mmsghdr`: null pointers and numbers. It is made so
            // because the C library may have private padding fields.
            let mut header: libc::mmsghdr = unsafe { std::mem::zeroed() };
            header.msg_hdr.msg_name = names[slot].as_mut_ptr().cast();
            header.msg_hdr.msg_namelen = size_of::<libc::sockaddr_nl>() as libc::socklen_t;
            header.msg_hdr.msg_iov = parts[slot].as_mut_ptr();
            header.msg_hdr.msg_iovlen = 1;
            headers[slot].write(header);
        }
        // SAFETY: the first `slots` headers are initialised and point to parts and names that live
        // through the call; each part is a slot of the slab of its own, borrowed mutably here.
        let count = unsafe {
            libc::recvmmsg(
                fd.as_raw_fd(),
                headers.as_mut_ptr().cast(),
                slots as libc::c_uint,
                libc::MSG_DONTWAIT as _,
                std::ptr::null_mut(),
            )
        };
        let count = usize::try_from(count).map_err(|_negative| io::Error::last_os_error())?;
        for slot in 0..count.min(slots) {
            // SAFETY: initialised above for every slot.
            let header = unsafe { headers[slot].assume_init_ref() };
            let name_len = header.msg_hdr.msg_namelen as usize;
            let is_from_kernel = name_len == size_of::<libc::sockaddr_nl>() && {
                // SAFETY: the kernel says that it filled in the whole name.
                let name = unsafe { names[slot].assume_init_ref() };
                name.nl_pid == 0
            };
            self.received.push(Received {
                len: (header.msg_len as usize).min(self.slot_len),
                is_cut: header.msg_hdr.msg_flags & libc::MSG_TRUNC != 0,
                is_from_kernel,
            });
        }
        Ok(self.received.len())
    }

    /// The datagrams of the last call that the kernel sent, in order.
    pub fn datagrams(&self) -> impl Iterator<Item = Datagram<'_>> {
        self.slab.chunks_exact(self.slot_len).zip(&self.received).filter_map(|(slot, received)| {
            let bytes = slot.get(..received.len)?;
            received.is_from_kernel.then_some(Datagram { bytes, is_cut: received.is_cut })
        })
    }

    /// Sends whole messages to the kernel, which has handled them when this returns.
    pub fn send(fd: BorrowedFd<'_>, messages: &[u8]) -> io::Result<()> {
        send_to_kernel(fd, messages)
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd as _;

    use nix::sys::socket::SockProtocol;

    use super::super::message::{Builder, Messages, flag, kind};
    use super::super::socket::Socket;
    use super::*;

    #[test]
    fn several_answers_arrive_in_order_in_one_call_and_a_long_one_is_reported_as_cut() {
        let socket = Socket::open(SockProtocol::NetlinkRoute, 0).unwrap();
        let mut batch = Batch::new(4, 64);
        assert_eq!(
            batch.receive(socket.as_fd()).unwrap_err().kind(),
            io::ErrorKind::WouldBlock,
            "nothing was asked yet"
        );
        // A type that no family has: the kernel refuses each, and a refusal has 36 bytes.
        for sequence in 1..=5 {
            let mut builder = Builder::default();
            builder.message(0xfff0, flag::REQUEST | flag::ACK, sequence, &[0; 16]);
            Batch::send(socket.as_fd(), builder.bytes()).unwrap();
        }
        let mut seen = Vec::new();
        for expected in [4, 1] {
            assert_eq!(batch.receive(socket.as_fd()).unwrap(), expected);
            for datagram in batch.datagrams() {
                assert!(!datagram.is_cut);
                for message in Messages::new(datagram.bytes) {
                    assert_eq!(message.kind, kind::ERROR);
                    seen.push(message.sequence);
                }
            }
        }
        assert_eq!(seen, [1, 2, 3, 4, 5]);

        let mut small = Batch::new(1, 20);
        let mut builder = Builder::default();
        builder.message(0xfff0, flag::REQUEST | flag::ACK, 6, &[0; 16]);
        Batch::send(socket.as_fd(), builder.bytes()).unwrap();
        assert_eq!(small.receive(socket.as_fd()).unwrap(), 1);
        let datagram = small.datagrams().next().unwrap();
        assert!(datagram.is_cut);
        assert_eq!((datagram.bytes.len(), Messages::new(datagram.bytes).count()), (20, 0));
    }
}

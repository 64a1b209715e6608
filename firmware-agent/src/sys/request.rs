//! Netlink requests: one message, its attributes, its answer.

use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};

use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, setsockopt, socket,
    sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike as _};

/// The attributes in `bytes`; stops at the first that does not fit.
pub(super) fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let len = usize::from(u16::from_ne_bytes(bytes.get(..2)?.try_into().ok()?));
        let kind = u16::from_ne_bytes(bytes.get(2..4)?.try_into().ok()?) & 0x3fff;
        let value = bytes.get(4..len)?;
        bytes = bytes.get(aligned(len)..).unwrap_or_default();
        Some((kind, value))
    })
}

pub(super) fn u32_at(bytes: &[u8], offset: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(offset..offset + 4)?.try_into().ok()?))
}

pub(super) fn u64_at(bytes: &[u8], offset: usize) -> Option<u64> {
    Some(u64::from_ne_bytes(bytes.get(offset..offset + 8)?.try_into().ok()?))
}

pub(super) fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}

pub(super) fn terminated(name: &str) -> io::Result<Vec<u8>> {
    if name.is_empty() || name.contains('\0') {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    Ok([name.as_bytes(), b"\0"].concat())
}

const fn aligned(len: usize) -> usize {
    len.next_multiple_of(4)
}

/// A message that is being written: header, fixed part, attributes.
#[derive(Default)]
pub(super) struct Request {
    pub(super) bytes: Vec<u8>,
}

impl Request {
    const HEADER: usize = 16;

    pub(super) fn new(kind: u16, flags: libc::c_int) -> Self {
        let flags = (libc::NLM_F_REQUEST | libc::NLM_F_ACK | flags) as u16;
        let mut bytes = vec![0; Self::HEADER];
        bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
        bytes[6..8].copy_from_slice(&flags.to_ne_bytes());
        bytes[8..12].copy_from_slice(&Socket::SEQUENCE.to_ne_bytes());
        Self { bytes }
    }

    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        self.bytes.resize(aligned(self.bytes.len()), 0);
    }

    pub(super) fn attribute(&mut self, kind: u16, value: &[u8]) {
        let len = (4 + value.len()) as u16;
        self.push(&[len.to_ne_bytes(), kind.to_ne_bytes()].concat());
        self.push(value);
    }
}

/// A netlink socket; it belongs to the namespace of the thread that opened it.
pub(super) struct Socket(OwnedFd);

impl Socket {
    /// One request per socket.
    const SEQUENCE: u32 = 1;
    /// The kernel answers within the system call; this only keeps a bug from hanging the agent.
    const PATIENCE_S: i64 = 5;

    pub(super) fn open(protocol: SockProtocol) -> io::Result<Self> {
        let fd = socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol)?;
        setsockopt(&fd, sockopt::ReceiveTimeout, &TimeVal::seconds(Self::PATIENCE_S))?;
        Ok(Self(fd))
    }

    /// Sends a request and hands every message of the answer to `each`, until the kernel
    /// acknowledges or refuses.
    pub(super) fn ask(
        &self,
        mut request: Request,
        mut each: impl FnMut(u16, &[u8]),
    ) -> io::Result<()> {
        let len = request.bytes.len() as u32;
        request.bytes[..4].copy_from_slice(&len.to_ne_bytes());
        send(self.0.as_raw_fd(), &request.bytes, MsgFlags::empty())?;
        // The kernel fills up to 32 KiB of a dump into one datagram, if the reader has room.
        let mut buffer = vec![0; 32 * 1024];
        loop {
            let received = recv(self.0.as_raw_fd(), &mut buffer, MsgFlags::empty())?;
            let mut rest = &buffer[..received];
            while let Some(len) = u32_at(rest, 0) {
                let message = rest.get(..len as usize).filter(|m| m.len() >= Request::HEADER);
                let Some(message) = message else { break };
                rest = rest.get(aligned(message.len())..).unwrap_or_default();
                let (header, body) = message.split_at(Request::HEADER);
                if u32_at(header, 8) != Some(Self::SEQUENCE) {
                    continue;
                }
                let kind = u16::from_ne_bytes([header[4], header[5]]);
                match libc::c_int::from(kind) {
                    libc::NLMSG_DONE => return Ok(()),
                    libc::NLMSG_ERROR => {
                        return match u32_at(body, 0).unwrap_or(0).cast_signed() {
                            0 => Ok(()),
                            errno => Err(io::Error::from_raw_os_error(-errno)),
                        };
                    }
                    _ => each(kind, body),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NESTED: u16 = 0x8000;

    #[test]
    fn attributes_end_at_the_first_that_does_not_fit() {
        let mut request = Request::default();
        request.attribute(1, b"abcde");
        request.attribute(2 | NESTED, b"");
        let bytes = request.bytes;
        assert_eq!(attributes(&bytes).collect::<Vec<_>>(), [(1, &b"abcde"[..]), (2, b"")]);
        for len in 0..bytes.len() {
            let whole = attributes(&bytes[..len]).count();
            assert_eq!(whole, usize::from(len >= 9), "{len} bytes");
        }
        assert_eq!(attributes(&[0, 0, 0, 0]).count(), 0, "a length of zero ends the list");
    }
}

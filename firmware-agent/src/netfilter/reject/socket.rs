//! Sends what the ends of a rejected flow are told.
//!
//! From the network layer of this router, so that routes, address translation and every kind of link
//! below apply as to any packet. Raw sockets are opened when the first answer needs them.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd as _, OwnedFd};

use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrStorage, sendto, setsockopt,
    socket, sockopt,
};

use super::Answer;

/// Answers in a second at most.
const PER_SECOND: u64 = 100;
/// Answers after a pause at most.
const BURST: u64 = 200;

/// Sends answers.
#[derive(Debug)]
pub struct Sender {
    /// What answers are marked with, so that nobody takes them for packets of the flow.
    mark: u32,
    /// Whole packets and ICMP, of IPv4 and IPv6.
    sockets: [Option<OwnedFd>; 4],
    bucket: Bucket,
    totals: Totals,
}

/// What became of answers.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Totals {
    /// Sent.
    pub sent: u64,
    /// Not sent: too many at once.
    pub held_back: u64,
    /// Refused by the kernel.
    pub failed: u64,
}

impl Sender {
    /// A sender that has opened nothing yet.
    #[must_use]
    pub const fn new(mark: u32) -> Self {
        Self {
            mark,
            sockets: [const { None }; 4],
            bucket: Bucket { tokens: BURST, since_ns: 0 },
            totals: Totals { sent: 0, held_back: 0, failed: 0 },
        }
    }

    /// What became of answers so far.
    #[must_use]
    pub const fn totals(&self) -> Totals {
        self.totals
    }

    /// Sends these answers, unless there were too many lately.
    pub fn send(&mut self, now_ns: u64, answers: &[Answer]) {
        for answer in answers {
            if !self.bucket.take(now_ns) {
                self.totals.held_back += 1;
                continue;
            }
            match self.give(answer) {
                Ok(()) => self.totals.sent += 1,
                Err(error) => {
                    self.totals.failed += 1;
                    log::debug!("tell the end of a rejected flow: {error}");
                }
            }
        }
    }

    fn give(&mut self, answer: &Answer) -> io::Result<()> {
        let (to, bytes, is_icmp) = match answer {
            Answer::Whole { to, packet } => (to.to_canonical(), packet, false),
            Answer::Icmp { to, message } => (to.to_canonical(), message, true),
        };
        let place = usize::from(is_icmp) * 2 + usize::from(to.is_ipv6());
        let Some(slot) = self.sockets.get_mut(place) else { return Ok(()) };
        let fd = match slot {
            Some(fd) => fd,
            None => slot.insert(open(to, is_icmp, self.mark)?),
        };
        let to = SockaddrStorage::from(SocketAddr::new(to, 0));
        sendto(fd.as_raw_fd(), bytes, &to, MsgFlags::MSG_DONTWAIT)?;
        Ok(())
    }
}

fn open(like: IpAddr, is_icmp: bool, mark: u32) -> io::Result<OwnedFd> {
    let (family, icmp) = if like.is_ipv4() {
        (AddressFamily::Inet, SockProtocol::Icmp)
    } else {
        (AddressFamily::Inet6, SockProtocol::IcmpV6)
    };
    // The kernel takes what comes from a socket of the protocol RAW with its IP header.
    let protocol = if is_icmp { icmp } else { SockProtocol::Raw };
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let fd = socket(family, SockType::Raw, flags, protocol)?;
    setsockopt(&fd, sockopt::Mark, &mark)?;
    // Nothing is ever read from it.
    setsockopt(&fd, sockopt::RcvBuf, &0)?;
    Ok(fd)
}

/// Tokens that come with time.
#[derive(Debug)]
struct Bucket {
    tokens: u64,
    since_ns: u64,
}

impl Bucket {
    const fn take(&mut self, now_ns: u64) -> bool {
        const EACH_NS: u64 = 1_000_000_000 / PER_SECOND;
        let more = now_ns.saturating_sub(self.since_ns) / EACH_NS;
        if self.tokens + more >= BURST {
            (self.tokens, self.since_ns) = (BURST, now_ns);
        } else {
            self.tokens += more;
            self.since_ns += more * EACH_NS;
        }
        let is_there = self.tokens > 0;
        self.tokens = self.tokens.saturating_sub(1);
        is_there
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_held_to_their_rate() {
        let mut bucket = Bucket { tokens: BURST, since_ns: 0 };
        let mut taken = |now_ns: u64| (0..10_000).filter(|_| bucket.take(now_ns)).count() as u64;
        assert_eq!(taken(5_000_000_000), BURST);
        assert_eq!(taken(5_000_000_000), 0);
        assert_eq!(taken(5_500_000_000), PER_SECOND / 2);
        assert_eq!(taken(5_503_000_000) + taken(5_510_000_000), 1);
        assert_eq!(taken(50_000_000_000), BURST);
        assert_eq!(taken(40_000_000_000), 0, "a clock that steps back gives nothing");
    }
}

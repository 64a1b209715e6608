//! Notices that devices, addresses or routes of the namespace change.
//!
//! Says *that* something changed; what is there now is asked, because a listener that was too slow has
//! lost messages and a device that came and went is of no interest.

use std::io;

use nix::sys::socket::SockProtocol;

use crate::sys::netlink::{Heard, Listener, Messages};

/// `RTMGRP_LINK`.
const LINKS: u32 = 1;
/// `RTMGRP_IPV4_IFADDR`, `RTMGRP_IPV4_ROUTE`, and the same for IPv6.
const ADDRESSES: u32 = 0x10 | 0x40 | 0x100 | 0x400;
/// Room for what is not looked at yet. An overrun is a report as good as any.
const BUFFER: usize = 1 << 17;

/// What has changed.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Change {
    /// Devices came, went or are other than before.
    pub links: bool,
    /// Addresses or routes did.
    pub addresses: bool,
}

impl Change {
    const ALL: Self = Self { links: true, addresses: true };

    fn take(&mut self, datagram: &[u8]) {
        for message in Messages::new(datagram) {
            match message.kind {
                libc::RTM_NEWLINK | libc::RTM_DELLINK => self.links = true,
                libc::RTM_NEWADDR | libc::RTM_DELADDR | libc::RTM_NEWROUTE | libc::RTM_DELROUTE => {
                    self.addresses = true;
                }
                _ => {}
            }
        }
    }
}

/// A listener in the calling thread's namespace.
#[derive(Debug)]
pub struct Watch(Listener);

impl Watch {
    /// Starts to listen.
    pub fn open() -> io::Result<Self> {
        Listener::open(SockProtocol::NetlinkRoute, LINKS | ADDRESSES, BUFFER).map(Self)
    }

    /// Waits until something changes.
    pub async fn changed(&mut self) -> io::Result<Change> {
        loop {
            self.0.readable().await?;
            let change = self.drain()?;
            if change != Change::default() {
                return Ok(change);
            }
        }
    }

    /// What has changed meanwhile, without waiting.
    pub fn drain(&mut self) -> io::Result<Change> {
        let mut change = Change::default();
        self.0.hear(|heard| match heard {
            Heard::Datagram(datagram) => change.take(datagram),
            Heard::Lost => change = Change::ALL,
        })?;
        Ok(change)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::netlink::Builder;

    #[test]
    fn messages_are_told_apart_by_what_they_are_about() {
        let change = |kinds: &[u16]| {
            let mut builder = Builder::default();
            for kind in kinds {
                builder.message(*kind, 0, 0, &[0; 16]);
            }
            let mut change = Change::default();
            change.take(builder.bytes());
            (change.links, change.addresses)
        };
        assert_eq!(change(&[libc::RTM_DELLINK]), (true, false));
        assert_eq!(change(&[libc::RTM_NEWADDR]), (false, true));
        assert_eq!(change(&[libc::RTM_NEWROUTE, libc::RTM_NEWLINK]), (true, true));
        assert_eq!(change(&[libc::RTM_NEWQDISC]), (false, false));
    }
}

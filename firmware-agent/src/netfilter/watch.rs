//! Notices that somebody changed the nftables rules.
//!
//! A reload of the firewall or `nft flush ruleset` takes Sluice's rules away without a word to
//! anybody but the listeners of one netlink group. This module says *that* something changed;
//! whether our rules are still there is for [`super::apply::Backend::is_applied`] to find out,
//! which is cheap enough to be asked after our own changes too. Rules of the old `xtables` are not
//! seen; none of Sluice's are there.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use nix::sys::socket::SockProtocol;

use crate::sys::netlink::{Heard, Listener, Messages};

/// `NFNLGRP_NFTABLES`, as a bit.
const GROUP: u32 = 1 << (7 - 1);
/// `NFT_MSG_NEWGEN`: the last message of every transaction.
const NEW_GENERATION: u16 = 10 << 8 | 15;
const GEN_ID: u16 = 1;
const GEN_PROC_PID: u16 = 2;
const GEN_PROC_NAME: u16 = 3;
/// Bytes of `struct nfgenmsg`.
const FAMILY_HEADER: usize = 4;

/// Room for what is not looked at yet. An overrun is a report as good as any.
const BUFFER: usize = 1 << 18;

/// One or more transactions.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Change {
    /// Number of the last transaction that was seen.
    pub generation: Option<u32>,
    /// Process that made it.
    pub pid: Option<u32>,
    /// Name of that process.
    pub program: Option<Box<str>>,
    /// There were more changes than the socket holds.
    pub lost: bool,
}

impl Change {
    /// Takes what a datagram tells.
    fn take(&mut self, datagram: &[u8]) {
        for message in Messages::new(datagram) {
            if message.kind != NEW_GENERATION {
                continue;
            }
            for attr in message.attrs(FAMILY_HEADER) {
                match attr.kind {
                    GEN_ID => self.generation = attr.be32(),
                    GEN_PROC_PID => self.pid = attr.be32(),
                    GEN_PROC_NAME => self.program = Some(attr.text()),
                    _ => {}
                }
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
        Listener::open(SockProtocol::NetlinkNetFilter, GROUP, BUFFER).map(Self)
    }

    /// Waits for a change and returns it together with all that are there by then.
    pub async fn changed(&mut self) -> io::Result<Change> {
        loop {
            self.0.readable().await?;
            if let Some(change) = self.heard()? {
                return Ok(change);
            }
        }
    }

    /// What is there, without waiting; `None` when nothing is.
    pub fn heard(&mut self) -> io::Result<Option<Change>> {
        let mut change = None::<Change>;
        self.0.hear(|heard| {
            let change = change.get_or_insert_default();
            match heard {
                Heard::Datagram(datagram) => change.take(datagram),
                Heard::Lost => change.lost = true,
            }
        })?;
        Ok(change)
    }
}

impl AsFd for Watch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::netlink::Builder;

    #[test]
    fn the_last_transaction_of_a_datagram_is_named() {
        let mut builder = Builder::default();
        builder.message(10 << 8, 0, 0, &[1, 0, 0, 0]); // a new table, of no interest here
        for (generation, pid, name) in [(7_u32, 100_u32, "fw4\0"), (8, 101, "nft\0")] {
            builder.message(NEW_GENERATION, 0, 0, &[0; 4]);
            builder.attr(GEN_ID, &generation.to_be_bytes());
            builder.attr(GEN_PROC_PID, &pid.to_be_bytes());
            builder.attr(GEN_PROC_NAME, name.as_bytes());
        }
        let mut change = Change::default();
        change.take(builder.bytes());
        assert_eq!(
            change,
            Change {
                generation: Some(8),
                pid: Some(101),
                program: Some("nft".into()),
                lost: false
            }
        );
        let mut nothing = Change::default();
        nothing.take(&builder.bytes()[..50]);
        assert_eq!(nothing, Change::default());
    }
}

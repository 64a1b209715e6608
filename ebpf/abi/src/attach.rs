//! What a program knows about the interface it is attached to.
//!
//! Each interface has its own copy of a program, loaded with its [`Attachment`] as the global
//! `ATTACHMENT`: the verifier sees a constant and removes the branches of other link kinds.

use bytemuck::{Pod, Zeroable};

/// Which side of the router an interface is on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u8)]
pub enum Role {
    /// Towards devices of the household: the *destination* is looked up in the blocklist.
    Lan = 0,
    /// Towards the provider: the *source* is looked up in the blocklist, rates apply.
    Wan = 1,
}

impl Role {
    /// The role's bit in [`AllowEntry::roles`](crate::shield::AllowEntry::roles).
    #[inline(always)]
    #[must_use]
    pub const fn bit(self) -> u32 {
        1 << self as u32
    }

    /// The word used in configuration and status.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Lan => "lan",
            Self::Wan => "wan",
        }
    }
}

/// What a packet starts with; as a number, the bytes before the IP header of a packet without VLAN tags or PPPoE.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u8)]
pub enum Link {
    /// An Ethernet header.
    Ethernet = 14,
    /// An IP header (pppoe-wan, wireguard, wwan, tun).
    Ip = 0,
    /// An Ethernet header with MediaTek's four-byte switch tag behind the addresses (conduit of an
    /// mt7530-class switch, `dsa/tagging` says `mtk`).
    Mtk = 18,
}

impl Link {
    /// Bytes before the IP header of a packet without VLAN tags or PPPoE.
    #[inline(always)]
    #[must_use]
    pub const fn header_len(self) -> usize {
        self as usize
    }
}

/// Slot, role and link kind of one interface, packed: a global must be one scalar to be a constant
/// for the verifier.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Pod, Zeroable)]
#[repr(transparent)]
pub struct Attachment(u32);
abi_type!(Attachment, size = 4, align = 4);

impl Attachment {
    /// Interfaces that have counters of their own.
    pub const SLOTS: u32 = 32;

    const SPREADS: u32 = 1 << 24;
    const SHIELDS: u32 = 1 << 25;

    /// An attachment; `slot` below [`Attachment::SLOTS`].
    #[must_use]
    pub const fn new(slot: u32, role: Role, link: Link) -> Self {
        Self((slot % Self::SLOTS) | ((role as u32) << 8) | ((link as u32) << 16))
    }

    /// The same, of a copy that hands packets to other processors.
    #[must_use]
    pub const fn spreading(self) -> Self {
        Self(self.0 | Self::SPREADS)
    }

    /// The same, of a copy of the fast path that does the shield's work first.
    #[must_use]
    pub const fn shielding(self) -> Self {
        Self(self.0 | Self::SHIELDS)
    }

    /// Whether the fast path does the shield's work first.
    #[inline(always)]
    #[must_use]
    pub const fn shields(self) -> bool {
        self.0 & Self::SHIELDS != 0
    }

    /// Whether packets that pass are handed to other processors.
    #[inline(always)]
    #[must_use]
    pub const fn spreads(self) -> bool {
        self.0 & Self::SPREADS != 0
    }

    /// Index of the interface's counters.
    #[inline(always)]
    #[must_use]
    pub const fn slot(self) -> u32 {
        self.0 & (Self::SLOTS - 1)
    }

    /// The role.
    #[inline(always)]
    #[must_use]
    pub const fn role(self) -> Role {
        if self.0 & 0xff00 == 0 { Role::Lan } else { Role::Wan }
    }

    /// [`Link::header_len`] of the link kind, without the branches that the enumeration would bring.
    #[inline(always)]
    #[must_use]
    pub const fn header_len(self) -> usize {
        ((self.0 >> 16) & 0xff) as usize
    }

    /// The link kind.
    #[inline(always)]
    #[must_use]
    pub const fn link(self) -> Link {
        match (self.0 >> 16) & 0xff {
            0 => Link::Ip,
            18 => Link::Mtk,
            _ => Link::Ethernet,
        }
    }

    /// From the value of the global.
    #[inline(always)]
    #[must_use]
    pub const fn from_bits(bits: u32) -> Self {
        Self(bits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_attachment_keeps_its_parts() {
        for slot in [0, 1, 31] {
            for role in [Role::Lan, Role::Wan] {
                for link in [Link::Ethernet, Link::Ip, Link::Mtk] {
                    let attachment = Attachment::new(slot, role, link);
                    for (attachment, spreads) in
                        [(attachment, false), (attachment.spreading(), true)]
                    {
                        assert_eq!(
                            (attachment.slot(), attachment.role(), attachment.link()),
                            (slot, role, link)
                        );
                        assert_eq!(attachment.spreads(), spreads);
                        assert_eq!(attachment.header_len(), link.header_len());
                    }
                }
            }
        }
    }
}

//! How far the headers of a packet reach, where only its first bytes are at hand.

use sluice_abi::attach::Link;

use super::ethernet::{IPV4, IPV6};
use super::{TCP, UDP};
use crate::packet::Packet;

/// Ethernet, two tags, PPPoE, IPv6, two short extensions, TCP.
pub const LONGEST: usize = 14 + 8 + 8 + 40 + 16 + 20;

/// Length of a TCP header without options; UDP's is shorter.
const TRANSPORT: usize = 20;

/// Bytes of which [`read`](super::read) needs no more than these. That is little for IPv4 without options
/// and IPv6 without extensions straight behind the link header, which nearly all packets are, and
/// [`LONGEST`] for every other, or when the packet ends too early to tell.
#[inline(always)]
pub fn reach<P: Packet + ?Sized>(packet: &P, link: Link) -> usize {
    let l3 = link.header_len();
    // Version and header length are in the first byte, the next header of IPv6 in the seventh.
    let Some([first, _, _, _, _, _, next, _]) = packet.load::<[u8; 8]>(l3) else {
        return LONGEST;
    };
    let is_v4 = first == 0x45;
    if !is_v4 && (first >> 4 != 6 || (next != TCP && next != UDP)) {
        return LONGEST;
    }
    let wanted = if is_v4 { IPV4 } else { IPV6 };
    if l3 > 0 && packet.load::<u16>(l3 - 2) != Some(wanted) {
        return LONGEST;
    }
    l3 + TRANSPORT + if is_v4 { 20 } else { 40 }
}

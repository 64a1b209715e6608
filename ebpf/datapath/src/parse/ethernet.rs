//! Ethernet, VLAN tags, PPPoE.

use super::{NotIp, Sink, ipv4, ipv6};
use crate::packet::Packet;

pub(super) const IPV4: u16 = 0x0800_u16.to_be();
pub(super) const IPV6: u16 = 0x86dd_u16.to_be();
const VLAN_CUSTOMER: u16 = 0x8100_u16.to_be();
const VLAN_SERVICE: u16 = 0x88a8_u16.to_be();
const PPPOE_SESSION: u16 = 0x8864_u16.to_be();
const PPP_IPV4: u16 = 0x0021_u16.to_be();
const PPP_IPV6: u16 = 0x0057_u16.to_be();

/// VLAN tags that are walked.
const VLAN_DEPTH: usize = 2;

/// Reads the headers behind the ethertype at `offset`.
#[inline(always)]
pub(super) fn read<P: Packet + ?Sized, S: Sink>(
    packet: &P,
    offset: usize,
    sink: &mut S,
) -> Result<(), NotIp> {
    let (protocol, l3) = skip_tags(packet, offset)?;
    match protocol {
        IPV4 => ipv4::read(packet, l3, sink),
        IPV6 => ipv6::read(packet, l3, sink),
        _ => Err(NotIp::Other),
    }
}

/// The protocol behind all tags, as an ethertype, and where it starts.
#[inline(always)]
fn skip_tags<P: Packet + ?Sized>(packet: &P, mut offset: usize) -> Result<(u16, usize), NotIp> {
    // Nearly all packets have neither tags nor PPPoE, and the loop costs more than this look.
    let ethertype = packet.load(offset).ok_or(NotIp::Truncated)?;
    if matches!(ethertype, IPV4 | IPV6) {
        return Ok((ethertype, offset + 2));
    }
    for _ in 0..=VLAN_DEPTH {
        let ethertype: u16 = packet.load(offset).ok_or(NotIp::Truncated)?;
        match ethertype {
            VLAN_CUSTOMER | VLAN_SERVICE => offset += 4,
            PPPOE_SESSION => return ppp(packet, offset + 2),
            _ => return Ok((ethertype, offset + 2)),
        }
    }
    Err(NotIp::Other)
}

/// The protocol in a PPPoE session frame whose PPPoE header is at `offset`.
#[inline(always)]
fn ppp<P: Packet + ?Sized>(packet: &P, offset: usize) -> Result<(u16, usize), NotIp> {
    // Version and type 1, code 0 (session data), session, length; then the PPP protocol.
    let [kind, _session, _length, protocol]: [u16; 4] =
        packet.load(offset).ok_or(NotIp::Truncated)?;
    if kind != 0x1100_u16.to_be() {
        return Err(NotIp::Malformed);
    }
    match protocol {
        PPP_IPV4 => Ok((IPV4, offset + 8)),
        PPP_IPV6 => Ok((IPV6, offset + 8)),
        _ => Err(NotIp::Other),
    }
}

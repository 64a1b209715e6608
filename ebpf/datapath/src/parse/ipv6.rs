//! IPv6 and its extension headers (RFC 8200).

use bytemuck::{Pod, Zeroable};
use sluice_abi::flow::Addr;

use super::{Headers, NotIp, Ports, ports};
use crate::packet::{Packet, word};

/// Extension headers that are walked. Real packets have none or one; a chain longer than this has
/// no ports for us.
pub const EXTENSIONS_MAX: usize = 6;

const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const AUTHENTICATION: u8 = 51;
const DESTINATION: u8 = 60;
const MOBILITY: u8 = 135;

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct Header {
    version_class: u8,
    class_label: u8,
    label: u16,
    payload_len: u16,
    next: u8,
    hop_limit: u8,
    src: [[u16; 2]; 4],
    dst: [[u16; 2]; 4],
}

/// Reads the headers of the IPv6 packet at `l3`.
#[inline(always)]
pub(super) fn headers<P: Packet + ?Sized>(packet: &P, l3: usize) -> Result<Headers, NotIp> {
    let ip: Header = packet.load(l3).ok_or(NotIp::Truncated)?;
    if ip.version_class >> 4 != 6 {
        return Err(NotIp::Malformed);
    }
    let mut headers = Headers {
        src: addr(ip.src),
        dst: addr(ip.dst),
        proto: ip.next,
        ports: Ports::None,
        sport: 0,
        dport: 0,
        tcp_flags: 0,
        l3,
        l4: l3 + size_of::<Header>(),
        payload: 0,
    };
    for _ in 0..=EXTENSIONS_MAX {
        // Every extension starts with the next protocol and its own length.
        let scale = match headers.proto {
            HOP_BY_HOP | ROUTING | DESTINATION | MOBILITY => 8,
            AUTHENTICATION => 4, // RFC 4302, section 2.2: in 4-byte words, minus two
            FRAGMENT => {
                // Also an "atomic" fragment (RFC 6946), which is whole: not worth a special case.
                headers.ports = Ports::Fragment;
                return Ok(headers);
            }
            _ => {
                ports::read(packet, &mut headers);
                return Ok(headers);
            }
        };
        let Some([next, len]) = packet.load::<[u8; 2]>(headers.l4) else {
            headers.ports = Ports::Truncated;
            return Ok(headers);
        };
        let len = usize::from(len);
        headers.l4 += if scale == 8 { (len + 1) * 8 } else { (len + 2) * 4 };
        headers.proto = next;
    }
    Ok(headers)
}

#[inline(always)]
const fn addr(halves: [[u16; 2]; 4]) -> Addr {
    Addr::v6([word(halves[0]), word(halves[1]), word(halves[2]), word(halves[3])])
}

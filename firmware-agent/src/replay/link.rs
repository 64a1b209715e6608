//! From a captured frame to its IP packet.

use sluice_abi::attach::Link;
use sluice_datapath::parse::headers;

const NULL: u32 = 0;
const ETHERNET: u32 = 1;
/// Raw IP has two other numbers where captures are read without the registry's.
const RAW_OLD: [u32; 2] = [12, 14];
const RAW: u32 = 101;
const LOOP: u32 = 108;
const LINUX_SLL: u32 = 113;
const IPV4: u32 = 228;
const IPV6: u32 = 229;
const LINUX_SLL2: u32 = 276;

/// The link type is none of those above.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Unknown;

/// Whether frames of this link type are understood.
pub(super) const fn is_known(link: u32) -> bool {
    matches!(link, NULL | ETHERNET | RAW | LOOP | LINUX_SLL | IPV4 | IPV6 | LINUX_SLL2)
        || link == RAW_OLD[0]
        || link == RAW_OLD[1]
}

/// The IP packet in `frame`, when it holds one.
pub(super) fn network(link: u32, frame: &[u8]) -> Result<Option<&[u8]>, Unknown> {
    if !is_known(link) {
        return Err(Unknown);
    }
    let l3 = match link {
        ETHERNET => behind_ethertype(frame),
        // The ethertype ends the header, as in Ethernet, two bytes later.
        LINUX_SLL => frame.get(2..).and_then(behind_ethertype),
        LINUX_SLL2 => sll2(frame),
        // An address family, which every system numbers in its own way: the packet tells better.
        NULL | LOOP => frame.get(4..),
        _ => Some(frame),
    };
    Ok(l3.filter(|l3| l3.first().is_some_and(|first| matches!(first >> 4, 4 | 6))))
}

/// The packet behind an Ethernet header, or what looks like one from the ethertype on.
fn behind_ethertype(frame: &[u8]) -> Option<&[u8]> {
    headers(frame, Link::Ethernet).ok().and_then(|headers| frame.get(headers.l3..))
}

/// The packet behind the second Linux header, which starts with the ethertype and has 20 bytes.
fn sll2(frame: &[u8]) -> Option<&[u8]> {
    const VLAN_TAGS: [[u8; 2]; 2] = [[0x81, 0x00], [0x88, 0xa8]];
    let ethertype = frame.first_chunk::<2>()?;
    if VLAN_TAGS.contains(ethertype) {
        // The tag ends with the next ethertype, at byte 22: as if Ethernet started ten bytes in.
        return frame.get(10..).and_then(behind_ethertype);
    }
    matches!(ethertype, [0x08, 0x00] | [0x86, 0xdd]).then(|| frame.get(20..)).flatten()
}

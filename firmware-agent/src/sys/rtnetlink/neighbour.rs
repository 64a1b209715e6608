//! Neighbours of this host: who has which hardware address, in both families.

use std::net::IpAddr;

use super::address::ip;
use super::{DUMP, Result, ask, u32_at};
use crate::sys::netlink::{Attr, Attrs};

/// Somebody on a link.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Neighbour {
    /// The address.
    pub addr: IpAddr,
    /// The hardware address.
    pub mac: [u8; 6],
    /// Index of the device that it is behind.
    pub ifindex: u32,
    /// Seconds since it was last known to be there; `None` where the kernel does not look.
    pub confirmed_s: Option<u32>,
}

/// Bytes of `struct ndmsg`.
const NDMSG: usize = 12;
const NDA_DST: u16 = 1;
const NDA_LLADDR: u16 = 2;
const NDA_CACHEINFO: u16 = 3;
/// States of entries that nobody confirms: `NUD_NOARP` and `NUD_PERMANENT`.
const UNCONFIRMED: u16 = 0x40 | 0x80;
/// Ticks a second in what the kernel tells, whatever it counts in itself (`USER_HZ`).
const USER_HZ: u32 = 100;

/// Everybody whose hardware address the kernel knows or has known lately.
pub fn neighbours() -> Result<Vec<Neighbour>> {
    let mut found = Vec::new();
    ask(
        libc::RTM_GETNEIGH,
        DUMP,
        &[0; NDMSG],
        |_| {},
        |kind, body| {
            if kind == libc::RTM_NEWNEIGH {
                found.extend(neighbour(body));
            }
        },
    )?;
    Ok(found)
}

fn neighbour(body: &[u8]) -> Option<Neighbour> {
    let header = body.get(..NDMSG)?;
    let state = u16::from_ne_bytes([header[8], header[9]]);
    let (mut addr, mut mac, mut confirmed_s) = (None, None, None);
    for Attr { kind, value } in Attrs::new(&body[NDMSG..]) {
        match kind {
            NDA_DST => addr = ip(value),
            NDA_LLADDR => mac = value.try_into().ok(),
            // struct nda_cacheinfo: ticks since it was confirmed come first.
            NDA_CACHEINFO if state & UNCONFIRMED == 0 => {
                confirmed_s = u32_at(value, 0).map(|ticks| ticks / USER_HZ);
            }
            _ => {}
        }
    }
    // Nobody has an address of zeroes: the entry is a group's, or of a link without such addresses.
    let mac = mac.filter(|mac| *mac != [0; 6])?;
    Some(Neighbour { addr: addr?, mac, ifindex: u32_at(header, 4)?, confirmed_s })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::netlink::{Builder, Messages};

    fn body(attrs: &[(u16, &[u8])]) -> Vec<u8> {
        body_in(0x04, attrs)
    }

    /// An entry of device 7 in a state.
    fn body_in(state: u16, attrs: &[(u16, &[u8])]) -> Vec<u8> {
        let mut header = [0; NDMSG];
        header[4..8].copy_from_slice(&7_u32.to_ne_bytes());
        header[8..10].copy_from_slice(&state.to_ne_bytes());
        let mut builder = Builder::default();
        builder.message(0, 0, 0, &header);
        for (kind, value) in attrs {
            builder.attr(*kind, value);
        }
        Messages::new(builder.bytes()).next().unwrap().body.to_vec()
    }

    #[test]
    fn a_neighbour_has_an_address_of_either_family_and_a_hardware_address() {
        let mac = [2, 0, 0x5e, 0x10, 0, 1];
        let v6: std::net::Ipv6Addr = "fe80::1".parse().unwrap();
        for (octets, addr) in [(&[192, 0, 2, 1][..], "192.0.2.1"), (&v6.octets()[..], "fe80::1")] {
            let found = neighbour(&body(&[(NDA_DST, octets), (NDA_LLADDR, &mac)]));
            let addr = addr.parse().unwrap();
            assert_eq!(found, Some(Neighbour { addr, mac, ifindex: 7, confirmed_s: None }));
        }
        let of = |mac: &[u8]| neighbour(&body(&[(NDA_DST, &[192, 0, 2, 1]), (NDA_LLADDR, mac)]));
        assert_eq!((of(&[0; 6]), of(&[1; 8]), neighbour(&[0; 4])), (None, None, None));
        assert_eq!(neighbour(&body(&[(NDA_DST, &[192, 0, 2, 1])])), None);
    }
    #[test]
    fn an_entry_that_the_kernel_looks_after_says_when_it_was_confirmed() {
        let ticks: Vec<u8> = [1234_u32, 5, 6, 1].into_iter().flat_map(u32::to_ne_bytes).collect();
        let attrs =
            [(NDA_DST, &[192, 0, 2, 1][..]), (NDA_LLADDR, &[2; 6]), (NDA_CACHEINFO, &ticks)];
        let confirmed = |state| neighbour(&body_in(state, &attrs)).unwrap().confirmed_s;
        assert_eq!([0x02, 0x04, 0x40, 0x80].map(confirmed), [Some(12), Some(12), None, None]);
    }
}

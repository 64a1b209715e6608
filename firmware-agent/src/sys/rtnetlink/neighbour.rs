//! Neighbours of this host: who has which hardware address, in both families.

use std::net::IpAddr;

use super::address::ip;
use super::{DUMP, Result, ask};
use crate::sys::netlink::{Attr, Attrs};

/// Somebody on a link.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Neighbour {
    /// The address.
    pub addr: IpAddr,
    /// The hardware address.
    pub mac: [u8; 6],
}

/// Bytes of `struct ndmsg`.
const NDMSG: usize = 12;
const NDA_DST: u16 = 1;
const NDA_LLADDR: u16 = 2;

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
    let (mut addr, mut mac) = (None, None);
    for Attr { kind, value } in Attrs::new(body.get(NDMSG..)?) {
        match kind {
            NDA_DST => addr = ip(value),
            NDA_LLADDR => mac = value.try_into().ok(),
            _ => {}
        }
    }
    // Nobody has an address of zeroes: the entry is a group's, or of a link without such addresses.
    let mac = mac.filter(|mac| *mac != [0; 6])?;
    Some(Neighbour { addr: addr?, mac })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::netlink::{Builder, Messages};

    fn body(attrs: &[(u16, &[u8])]) -> Vec<u8> {
        let mut builder = Builder::default();
        builder.message(0, 0, 0, &[0; NDMSG]);
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
            assert_eq!(found, Some(Neighbour { addr: addr.parse().unwrap(), mac }));
        }
        let of = |mac: &[u8]| neighbour(&body(&[(NDA_DST, &[192, 0, 2, 1]), (NDA_LLADDR, mac)]));
        assert_eq!((of(&[0; 6]), of(&[1; 8]), neighbour(&[0; 4])), (None, None, None));
        assert_eq!(neighbour(&body(&[(NDA_DST, &[192, 0, 2, 1])])), None);
    }
}

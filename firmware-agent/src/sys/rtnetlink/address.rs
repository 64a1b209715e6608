//! Addresses of this host, and where its default routes lead.

use std::net::IpAddr;

use super::{DUMP, Result, ask, u32_at};
use crate::sys::netlink::{Attr, Attrs};

/// An address of a device.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Address {
    /// Index of the device.
    pub ifindex: u32,
    /// The address itself.
    pub addr: IpAddr,
    /// The other end, where the device has one: PPP, tunnels.
    pub peer: Option<IpAddr>,
    /// Leading bits of the network that it is in; the other end's, where there is one.
    pub prefix: u8,
}

/// The next hop of a default route.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Gateway {
    /// Index of the device that leads to it; 0 when the route does not say.
    pub ifindex: u32,
    /// Its address.
    pub addr: IpAddr,
}

/// Bytes of `struct ifaddrmsg`, `struct rtmsg` and `struct rtnexthop`.
const IFADDRMSG: usize = 8;
const RTMSG: usize = 12;
const RTNEXTHOP: usize = 8;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RTA_MULTIPATH: u16 = 9;
const RTA_VIA: u16 = 18;

/// Every address of the namespace.
pub fn addresses() -> Result<Vec<Address>> {
    let mut found = Vec::new();
    ask(
        libc::RTM_GETADDR,
        DUMP,
        &[0; IFADDRMSG],
        |_| {},
        |kind, body| {
            if kind == libc::RTM_NEWADDR {
                found.extend(address(body));
            }
        },
    )?;
    Ok(found)
}

/// The next hops of every default route, in whatever table.
pub fn default_gateways() -> Result<Vec<Gateway>> {
    let mut found = Vec::new();
    ask(
        libc::RTM_GETROUTE,
        DUMP,
        &[0; RTMSG],
        |_| {},
        |kind, body| {
            if kind == libc::RTM_NEWROUTE {
                gateways(body, |gateway| {
                    if !found.contains(&gateway) {
                        found.push(gateway);
                    }
                });
            }
        },
    )?;
    Ok(found)
}

fn address(body: &[u8]) -> Option<Address> {
    const PREFIX_LEN: usize = 1;
    let (header, attrs) = body.split_at_checked(IFADDRMSG)?;
    let (mut local, mut other) = (None, None);
    for Attr { kind, value } in Attrs::new(attrs) {
        match kind {
            IFA_LOCAL => local = ip(value),
            IFA_ADDRESS => other = ip(value),
            _ => {}
        }
    }
    let addr = local.or(other)?;
    Some(Address {
        ifindex: u32_at(header, 4)?,
        addr,
        peer: other.filter(|other| *other != addr),
        prefix: header[PREFIX_LEN],
    })
}

fn gateways(body: &[u8], mut each: impl FnMut(Gateway)) {
    const DST_LEN: usize = 1;
    let Some((header, attrs)) = body.split_at_checked(RTMSG) else { return };
    if header[DST_LEN] == 0 {
        next_hop(0, attrs, &mut each);
    }
}

/// Reads the attributes of a route, or of one of its next hops.
fn next_hop(ifindex: u32, attrs: &[u8], each: &mut dyn FnMut(Gateway)) {
    let (mut ifindex, mut addr) = (ifindex, None);
    for Attr { kind, value } in Attrs::new(attrs) {
        match kind {
            RTA_OIF => ifindex = u32_at(value, 0).unwrap_or(0),
            RTA_GATEWAY => addr = ip(value),
            // An address of another family, behind the number of that.
            RTA_VIA => addr = value.get(2..).and_then(ip),
            RTA_MULTIPATH => {
                let mut rest = value;
                while let Some(len) = rest.first_chunk().map(|len| u16::from_ne_bytes(*len)) {
                    let Some(hop) = rest.get(..usize::from(len)) else { break };
                    let Some((header, attrs)) = hop.split_at_checked(RTNEXTHOP) else { break };
                    next_hop(u32_at(header, 4).unwrap_or(0), attrs, each);
                    rest = rest.get(usize::from(len).next_multiple_of(4)..).unwrap_or_default();
                }
            }
            _ => {}
        }
    }
    if let Some(addr) = addr {
        each(Gateway { ifindex, addr });
    }
}

/// An address by the number of its bytes.
pub(super) fn ip(value: &[u8]) -> Option<IpAddr> {
    match value.len() {
        4 => <[u8; 4]>::try_from(value).ok().map(IpAddr::from),
        16 => <[u8; 16]>::try_from(value).ok().map(IpAddr::from),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::netlink::{Builder, Messages};

    /// The body of a message with this header and these attributes.
    fn body(header: &[u8], attrs: &[(u16, &[u8])]) -> Vec<u8> {
        let mut builder = Builder::default();
        builder.message(0, 0, 0, header);
        for (kind, value) in attrs {
            builder.attr(*kind, value);
        }
        Messages::new(builder.bytes()).next().unwrap().body.to_vec()
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn header(ifindex: u32) -> Vec<u8> {
        [&[2, 24, 0, 0][..], &ifindex.to_ne_bytes()].concat()
    }

    fn gateways_in(body: &[u8]) -> Vec<Gateway> {
        let mut found = Vec::new();
        gateways(body, |gateway| found.push(gateway));
        found
    }

    #[test]
    fn the_loopback_address_is_among_those_of_this_host() {
        let found = addresses().unwrap();
        assert!(found.iter().any(|address| address.addr == ip("127.0.0.1")), "{found:?}");
        default_gateways().unwrap();
    }

    #[test]
    fn an_address_is_the_local_one_and_its_peer_is_another() {
        let v4 = body(&header(7), &[(1, &[192, 0, 2, 1]), (2, &[192, 0, 2, 1])]);
        let own = Address { ifindex: 7, addr: ip("192.0.2.1"), peer: None, prefix: 24 };
        assert_eq!(address(&v4), Some(own));
        let ppp = body(&header(8), &[(1, &[198, 51, 100, 1]), (2, &[192, 0, 2, 1])]);
        let peer = Some(ip("198.51.100.1"));
        assert_eq!(address(&ppp), Some(Address { ifindex: 8, peer, ..own }));
        let v6 = ip("2001:db8::1");
        let IpAddr::V6(octets) = v6 else { panic!() };
        let v6_body = body(&header(9), &[(1, &octets.octets())]);
        assert_eq!(address(&v6_body), Some(Address { ifindex: 9, addr: v6, ..own }));
        assert_eq!(address(&body(&header(9), &[(1, &[1, 2, 3])])), None);
        assert_eq!(address(&[]), None);
    }

    #[test]
    fn gateways_are_those_of_default_routes_with_one_hop_or_many() {
        let route = |dst_len: u8| [&[2, dst_len][..], &[0; 10]].concat();
        let oif = 3_u32.to_ne_bytes();
        let plain = [(4, &oif[..]), (5, &[192, 0, 2, 254][..])];
        let gateway = Gateway { ifindex: 3, addr: ip("192.0.2.254") };
        assert_eq!(gateways_in(&body(&route(0), &plain)), [gateway]);
        assert_eq!(gateways_in(&body(&route(24), &plain)), []);
        // A device without a next hop, such as PPP.
        assert_eq!(gateways_in(&body(&route(0), &plain[..1])), []);

        let via = [&10_u16.to_ne_bytes()[..], &[0xfe, 0x80], &[0; 13], &[9]].concat();
        let found = gateways_in(&body(&route(0), &[(4, &oif), (18, &via)]));
        assert_eq!(found, [Gateway { ifindex: 3, addr: ip("fe80::9") }]);

        let hop = |ifindex: u32, last: u8| {
            let attr = body(&[], &[(5, &[192, 0, 2, last])]);
            let len = (RTNEXTHOP + attr.len()) as u16;
            [&len.to_ne_bytes()[..], &[0, 0], &ifindex.to_ne_bytes(), &attr].concat()
        };
        let hops = [hop(4, 1), hop(5, 2)].concat();
        let found = gateways_in(&body(&route(0), &[(9, &hops)]));
        let expected =
            [(4, "192.0.2.1"), (5, "192.0.2.2")].map(|(i, a)| Gateway { ifindex: i, addr: ip(a) });
        assert_eq!(found, expected);
        // Cut anywhere: no panic, no endless loop, and nothing that was not there.
        for len in 0..hops.len() {
            let found = gateways_in(&body(&route(0), &[(9, &hops[..len])]));
            assert!(expected.starts_with(&found), "{len}: {found:?}");
        }
        assert_eq!(gateways_in(&body(&route(0), &[(9, &[0; 16])])), []);
    }
}

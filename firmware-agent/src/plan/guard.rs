//! What no blocklist may hold, whatever it says: this router's addresses and where its default
//! routes lead. Pure.

use std::net::IpAddr;

use crate::config::Net;
use crate::sys::rtnetlink::{Address, Device, Gateway};

/// An address without which the router cannot be reached or reaches nothing.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Own {
    /// The address.
    pub addr: Net,
    /// Whose it is.
    pub what: String,
}

/// An entry that a list has to do without.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct LeftOut {
    /// The entry.
    pub net: Net,
    /// What it covers.
    pub own: Own,
}

/// The addresses to keep, sorted.
#[must_use]
pub fn own(
    devices: &[Device],
    addresses: &[Address],
    gateways: &[Gateway],
    name_servers: &[IpAddr],
    management: &[Net],
) -> Vec<Own> {
    let name = |ifindex| {
        let device = devices.iter().find(|device| device.ifindex == ifindex);
        device.map_or_else(|| "a device that is gone".to_owned(), |device| device.name.clone())
    };
    let own = |addr: IpAddr, what| Own { addr: Net::host(addr), what };
    let mut all: Vec<Own> = addresses
        .iter()
        .map(|address| own(address.addr, format!("an address of {}", name(address.ifindex))))
        .chain(addresses.iter().filter_map(|address| {
            Some(own(address.peer?, format!("the other end of {}", name(address.ifindex))))
        }))
        .chain(gateways.iter().map(|gateway| {
            own(gateway.addr, format!("the default gateway behind {}", name(gateway.ifindex)))
        }))
        .chain(name_servers.iter().map(|addr| own(*addr, "an upstream name server".to_owned())))
        .chain(management.iter().map(|net| Own { addr: *net, what: "for management".to_owned() }))
        .collect();
    all.sort_unstable();
    all.dedup_by(|later, kept| later.addr == kept.addr);
    all
}

/// Finds what an entry would cut off, among many entries.
#[derive(Clone, Debug)]
pub struct Guard<'a> {
    /// Sorted.
    own: &'a [Own],
    /// The prefixes among them, which an entry may lie in.
    prefixes: Vec<&'a Own>,
}

impl<'a> Guard<'a> {
    /// For these addresses and prefixes, which are sorted.
    #[must_use]
    pub fn new(own: &'a [Own]) -> Self {
        Self { own, prefixes: own.iter().filter(|own| !own.addr.is_host()).collect() }
    }

    /// What `net` covers, or lies in.
    #[must_use]
    pub fn hit(&self, net: &Net) -> Option<&'a Own> {
        // A prefix sorts before what lies in it: if anything does, then the next address.
        let following = self.own.get(self.own.partition_point(|own| own.addr < *net));
        following
            .filter(|own| net.contains(&own.addr))
            .or_else(|| self.prefixes.iter().copied().find(|own| own.addr.contains(net)))
    }
}

/// What of `nets` may be in force, and what not. `own` is sorted.
#[must_use]
pub fn divide(nets: &[Net], own: &[Own]) -> (Vec<Net>, Vec<LeftOut>) {
    let guard = Guard::new(own);
    let mut left_out = Vec::new();
    let mut kept = nets.to_vec();
    kept.retain(|net| {
        let hit = guard.hit(net);
        left_out.extend(hit.map(|own| LeftOut { net: *net, own: own.clone() }));
        hit.is_none()
    });
    (kept, left_out)
}

/// The name servers of a `resolv.conf`, without those on this router.
#[must_use]
pub fn name_servers(text: &str) -> Vec<IpAddr> {
    text.lines()
        .filter_map(|line| {
            let mut words = line.split_ascii_whitespace();
            let address = words.next().filter(|word| *word == "nameserver").and(words.next())?;
            // A link-local one has its device behind a percent sign.
            let address: IpAddr = address.split('%').next()?.parse().ok()?;
            let address = address.to_canonical();
            (!address.is_loopback() && !address.is_unspecified()).then_some(address)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net(text: &str) -> Net {
        text.parse().unwrap()
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn router() -> Vec<Own> {
        let device =
            |ifindex, name: &str| Device { ifindex, name: name.to_owned(), ..Device::default() };
        let address = |ifindex, addr, peer: Option<&str>| Address {
            ifindex,
            addr: ip(addr),
            peer: peer.map(ip),
            prefix: 24,
        };
        own(
            &[device(1, "br-lan"), device(2, "wan"), device(3, "pppoe-wan")],
            &[
                address(1, "192.168.1.1", None),
                address(1, "2001:db8:1::1", None),
                address(2, "203.0.113.9", None),
                address(3, "100.64.0.9", Some("100.64.0.1")),
            ],
            &[
                Gateway { ifindex: 2, addr: ip("203.0.113.1") },
                Gateway { ifindex: 9, addr: ip("fe80::1") },
            ],
            &[ip("192.0.2.53")],
            &[net("198.51.100.64/28"), net("2001:db8:99::/48")],
        )
    }

    fn left_out(entries: &[&str]) -> Vec<(String, String)> {
        let nets: Vec<Net> = entries.iter().copied().map(net).collect();
        let (kept, left_out) = divide(&nets, &router());
        // Nothing is lost, nothing is in both.
        assert_eq!(kept.len() + left_out.len(), nets.len());
        assert!(kept.iter().all(|net| left_out.iter().all(|out| out.net != *net)));
        left_out.into_iter().map(|out| (out.net.to_string(), out.own.what)).collect()
    }

    #[test]
    fn entries_that_cover_an_own_address_or_a_gateway_are_left_out() {
        for (entry, what) in [
            ("192.168.1.1", "an address of br-lan"),
            ("192.168.0.0/16", "an address of br-lan"),
            ("192.168.1.0/31", "an address of br-lan"),
            ("203.0.113.9", "an address of wan"),
            ("203.0.113.1", "the default gateway behind wan"),
            ("100.64.0.1", "the other end of pppoe-wan"),
            ("2001:db8::/32", "an address of br-lan"),
            ("fe80::1", "the default gateway behind a device that is gone"),
            ("192.0.2.0/24", "an upstream name server"),
            ("192.0.2.53", "an upstream name server"),
            ("198.51.100.0/24", "for management"),
            ("198.51.100.64/28", "for management"),
            ("198.51.100.70", "for management"),
            ("2001:db8:99:1::/64", "for management"),
        ] {
            assert_eq!(left_out(&[entry]), [(entry.to_owned(), what.to_owned())]);
        }
        // Both lie in it; the lower one is named.
        let both = left_out(&["203.0.113.0/24"]);
        assert_eq!(both[0].1, "the default gateway behind wan");
    }

    #[test]
    fn what_lies_beside_stays() {
        let entries = [
            "10.0.0.0/8",
            "192.168.1.0",
            "192.168.1.2",
            "192.168.1.2/31",
            "192.168.2.0/24",
            "203.0.113.10",
            "203.0.113.128/25",
            "255.255.255.0/24",
            "::2",
            "2001:db8:2::/48",
            "192.0.2.52",
            "198.51.100.63",
            "198.51.100.80/28",
            "2001:db8:9a::/48",
        ];
        assert_eq!(left_out(&entries), []);
        let (kept, _) = divide(&entries.map(net), &[]);
        assert_eq!(kept, entries.map(net), "in their order");
    }

    #[test]
    fn the_search_agrees_with_trying_every_pair() {
        let mut state = 0x9e37_79b9_u32;
        let mut random = |below: u32| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) % below
        };
        for _ in 0..500 {
            let mut own: Vec<Own> = (0..random(6))
                .map(|_| Own {
                    addr: net(&format!(
                        "{}/{}",
                        std::net::Ipv4Addr::from_bits(random(64)),
                        28 + random(5)
                    )),
                    what: String::new(),
                })
                .collect();
            own.sort_unstable();
            let nets: Vec<Net> = (0..20)
                .map(|_| {
                    let addr = std::net::Ipv4Addr::from_bits(random(64));
                    net(&format!("{addr}/{}", 26 + random(7)))
                })
                .collect();
            let (kept, _) = divide(&nets, &own);
            let expected: Vec<Net> = nets
                .into_iter()
                .filter(|net| !own.iter().any(|own| net.overlaps(&own.addr)))
                .collect();
            assert_eq!(kept, expected);
        }
    }

    #[test]
    fn name_servers_of_others_are_read_from_what_the_network_scripts_write() {
        let text = "# Interface wan\nnameserver 192.0.2.53\n; old\nsearch lan\n\
                    nameserver 2001:db8::53\nnameserver fe80::1%wan\nnameserver 127.0.0.1\n\
                    nameserver ::1\nnameserver\nnameserver x\nnameservers 192.0.2.54\n\
                    nameserver 0.0.0.0\nnameserver ::\nnameserver ::ffff:127.0.0.1\n";
        let expected = ["192.0.2.53", "2001:db8::53", "fe80::1"].map(ip);
        assert_eq!(name_servers(text), expected);
    }
}

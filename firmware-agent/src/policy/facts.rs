//! What is known about a flow when it is judged.

use sluice_abi::flow::{Addr, Direction, FlowKey};

use crate::config::{Fingerprint, Mac};

/// Where a packet comes from and where it goes.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Path {
    /// Hardware address of its sender on the link that it came by, where links have such.
    pub mac: Option<Mac>,
    /// The interface that it came by; `None` when it is none of the configuration.
    pub from: Option<Zone>,
    /// The interface that it leaves by.
    pub to: Option<Zone>,
}

/// An interface of the configuration.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Zone {
    /// Its number.
    pub number: u8,
    /// Whether the household is behind it.
    pub is_lan: bool,
}

/// The two ends of a flow.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Ends {
    /// Address of the device of the household, else of who opened the connection.
    pub device: Addr,
    /// Its hardware address. `None` where the link has none, and in a connection that was opened
    /// from outside until the device has sent something: no rule for a hardware address holds then.
    pub mac: Option<Mac>,
    /// Number of the interface it is behind; `None` when it is no interface of the configuration.
    pub zone: Option<u8>,
    /// Address of the other end.
    pub peer: Addr,
    /// Port that the connection was opened to.
    pub port: u16,
    /// Number of the transport protocol.
    pub transport: u8,
}

impl Ends {
    /// The ends of a flow of which this is the first packet that was seen. `original` is the way of
    /// the connection's first packet.
    #[must_use]
    pub fn new(key: &FlowKey, direction: Direction, original: Direction, path: &Path) -> Self {
        let is_lan = |zone: Option<Zone>| zone.is_some_and(|zone| zone.is_lan);
        let home = match (is_lan(path.from), is_lan(path.to)) {
            (true, false) => direction,
            (false, true) => direction.reversed(),
            _ => original,
        };
        let is_from_home = home == direction;
        Self {
            device: key.source(home).0,
            mac: path.mac.filter(|_| is_from_home),
            zone: if is_from_home { path.from } else { path.to }.map(|zone| zone.number),
            peer: key.destination(home).0,
            port: key.destination(original).1,
            transport: key.proto(),
        }
    }

    /// Learns from another packet of the flow. Says whether it was something new.
    pub fn learn(&mut self, key: &FlowKey, direction: Direction, path: &Path) -> bool {
        let is_news =
            self.mac.is_none() && path.mac.is_some() && key.source(direction).0 == self.device;
        if is_news {
            self.mac = path.mac;
        }
        is_news
    }
}

/// What is known about a flow.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// Whose it is and where it goes.
    pub ends: Ends,
    /// What the payload said; `None` as long as more may come.
    pub seen: Option<Seen<'a>>,
}

/// What the payload of a flow said.
#[derive(Clone, Copy, Debug, Default)]
pub struct Seen<'a> {
    /// Names of the server, in lower case: of a ClientHello, of a request.
    pub names: &'a [&'a str],
    /// JA3 and JA4 of a ClientHello; JA3S and certificate of what the server answered.
    pub fingerprints: &'a [Fingerprint],
    /// What it speaks.
    pub protocol: Option<&'a str>,
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: Option<Mac> = Some(Mac([2, 0, 0, 0, 0, 1]));
    const LAN: Option<Zone> = Some(Zone { number: 4, is_lan: true });
    const WAN: Option<Zone> = Some(Zone { number: 2, is_lan: false });

    /// The device is the end in the household, whoever opened the connection.
    #[test]
    fn the_device_is_the_end_in_the_household() {
        let addr = |text: &str| text.parse::<std::net::IpAddr>().unwrap().into();
        let (inside, outside) = (addr("192.0.2.7"), addr("198.51.100.1"));
        let (key, out) = FlowKey::new(inside, outside, 40_000_u16.to_be(), 443_u16.to_be(), 6);
        let path = |from, to| Path { mac: MAC, from, to };
        let seen = |direction, original, path| {
            let ends = Ends::new(&key, direction, original, &path);
            assert_eq!(ends.peer, if ends.device == inside { outside } else { inside });
            (ends.device, ends.mac, ends.zone, ends.port)
        };
        let back = out.reversed();
        assert_eq!(seen(out, out, path(LAN, WAN)), (inside, MAC, Some(4), 443));
        assert_eq!(seen(back, out, path(WAN, LAN)), (inside, None, Some(4), 443));
        assert_eq!(seen(back, back, path(WAN, LAN)), (inside, None, Some(4), 40_000));
        assert_eq!(seen(out, out, path(None, None)), (inside, MAC, None, 443));
        assert_eq!(seen(back, back, path(WAN, WAN)), (outside, MAC, Some(2), 40_000));

        let mut ends = Ends::new(&key, back, back, &path(WAN, LAN));
        assert!(!ends.learn(&key, back, &path(WAN, LAN)), "the gateway is not the device");
        assert!(ends.learn(&key, out, &path(LAN, WAN)) && ends.mac == MAC);
        assert!(!ends.learn(&key, out, &path(LAN, WAN)));
    }
}

//! Records of an answer (RFC 1035, section 4.1.3) and parameters of services (RFC 9460).

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{CLASS_IN, Malformed, Name, kind};

/// Keys of parameters (RFC 9460, section 14.3.2).
const ALPN: u16 = 1;
const IPV4_HINT: u16 = 4;
const ECH: u16 = 5;
const IPV6_HINT: u16 = 6;

/// A record.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    /// Whom it is about.
    pub name: Name<'a>,
    /// Its type.
    pub kind: u16,
    /// Its class.
    pub class: u16,
    /// Seconds for which it may be kept.
    pub ttl: u32,
    /// What it says.
    pub data: Data<'a>,
}

/// What a record says.
#[derive(Clone, Copy, Debug)]
pub enum Data<'a> {
    /// An IPv4 address.
    A(Ipv4Addr),
    /// An IPv6 address.
    Aaaa(Ipv6Addr),
    /// Another name for the same.
    Cname(Name<'a>),
    /// The name behind an address.
    Ptr(Name<'a>),
    /// How to reach a service.
    Service(Service<'a>),
    /// Anything else, and all of classes that are not the internet's.
    Other,
}

impl<'a> Record<'a> {
    /// Reads the record at `at`. Also gives where the next starts.
    pub(super) fn read(message: &'a [u8], at: usize) -> Result<(Self, usize), Malformed> {
        let (name, at) = Name::read(message, at, true)?;
        let head: &[u8; 10] =
            message.get(at..).and_then(<[u8]>::first_chunk).ok_or(Malformed::Truncated)?;
        let &[t0, t1, c0, c1, l0, l1, l2, l3, n0, n1] = head;
        let (kind, class) = (u16::from_be_bytes([t0, t1]), u16::from_be_bytes([c0, c1]));
        let start = at + head.len();
        let end = start + usize::from(u16::from_be_bytes([n0, n1]));
        let data = message.get(start..end).ok_or(Malformed::Truncated)?;
        // A name in the data may point in front of them, but not end behind them.
        let whole = message.get(..end).unwrap_or_default();
        let named = |may_point| {
            let read = Name::read(whole, start, may_point);
            read.map_err(|malformed| match malformed {
                Malformed::Truncated => Malformed::Data,
                other => other,
            })
        };
        let target = || match named(true)? {
            (name, after) if after == end => Ok(name),
            _ => Err(Malformed::Data),
        };
        let data = match (class, kind) {
            (CLASS_IN, kind::A) => {
                Data::A(<[u8; 4]>::try_from(data).ok().ok_or(Malformed::Data)?.into())
            }
            (CLASS_IN, kind::AAAA) => {
                Data::Aaaa(<[u8; 16]>::try_from(data).ok().ok_or(Malformed::Data)?.into())
            }
            (CLASS_IN, kind::CNAME) => Data::Cname(target()?),
            (CLASS_IN, kind::PTR) => Data::Ptr(target()?),
            (CLASS_IN, kind::SVCB | kind::HTTPS) => Data::Service(Service::read(whole, start)?),
            _ => Data::Other,
        };
        let ttl = u32::from_be_bytes([l0, l1, l2, l3]);
        Ok((Self { name, kind, class, ttl, data }, end))
    }
}

/// How to reach a service.
#[derive(Clone, Copy, Debug)]
pub struct Service<'a> {
    /// 0 where this is just another name; else lower is better.
    pub priority: u16,
    /// Who offers it; the root is the record's own name.
    pub target: Name<'a>,
    /// Whether a ClientHello to it can be encrypted.
    pub has_ech: bool,
    alpn: &'a [u8],
    v4: &'a [u8],
    v6: &'a [u8],
}

impl<'a> Service<'a> {
    /// Reads the data from `at` to the end of `whole`.
    fn read(whole: &'a [u8], at: usize) -> Result<Self, Malformed> {
        let priority = u16_at(whole, at).ok_or(Malformed::Data)?;
        let (target, mut at) =
            Name::read(whole, at + 2, false).map_err(|malformed| match malformed {
                Malformed::Truncated => Malformed::Data,
                other => other,
            })?;
        let mut service = Self { priority, target, has_ech: false, alpn: &[], v4: &[], v6: &[] };
        let mut before = None;
        while at < whole.len() {
            let key = u16_at(whole, at).ok_or(Malformed::Parameters)?;
            let len = u16_at(whole, at + 2).ok_or(Malformed::Parameters)?;
            let end = at + 4 + usize::from(len);
            let value = whole.get(at + 4..end).ok_or(Malformed::Parameters)?;
            if before.is_some_and(|before| before >= key) {
                return Err(Malformed::Parameters);
            }
            (before, at) = (Some(key), end);
            // Where this is just another name, parameters mean nothing (RFC 9460, section 2.4.2).
            if priority != 0 {
                service.parameter(key, value)?;
            }
        }
        Ok(service)
    }

    fn parameter(&mut self, key: u16, value: &'a [u8]) -> Result<(), Malformed> {
        let is_list = |size| !value.is_empty() && value.len().is_multiple_of(size);
        let is_fine = match key {
            ALPN => {
                self.alpn = value;
                let read: usize = self.alpn().map(|name| name.len() + 1).sum();
                !value.is_empty() && read == value.len()
            }
            IPV4_HINT => {
                self.v4 = value;
                is_list(4)
            }
            IPV6_HINT => {
                self.v6 = value;
                is_list(16)
            }
            ECH => {
                self.has_ech = true;
                !value.is_empty()
            }
            _ => true,
        };
        if is_fine { Ok(()) } else { Err(Malformed::Parameters) }
    }

    /// Application protocols that it speaks.
    #[must_use]
    pub const fn alpn(&self) -> Protocols<'a> {
        Protocols(self.alpn)
    }

    /// Addresses that it may be at.
    #[must_use]
    pub const fn hints(&self) -> Hints<'a> {
        Hints { v4: self.v4, v6: self.v6 }
    }
}

/// Names of application protocols.
#[derive(Clone, Debug)]
pub struct Protocols<'a>(&'a [u8]);

impl<'a> Iterator for Protocols<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let (len, rest) = self.0.split_first()?;
        let (name, rest) = rest.split_at_checked(usize::from(*len)).filter(|_| *len > 0)?;
        self.0 = rest;
        Some(name)
    }
}

/// Addresses.
#[derive(Clone, Debug)]
pub struct Hints<'a> {
    v4: &'a [u8],
    v6: &'a [u8],
}

impl Iterator for Hints<'_> {
    type Item = IpAddr;

    fn next(&mut self) -> Option<IpAddr> {
        if let Some((octets, rest)) = self.v4.split_first_chunk::<4>() {
            self.v4 = rest;
            return Some(Ipv4Addr::from(*octets).into());
        }
        let (octets, rest) = self.v6.split_first_chunk::<16>()?;
        self.v6 = rest;
        Some(Ipv6Addr::from(*octets).into())
    }
}

/// Two bytes.
pub(super) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().map(|pair| u16::from_be_bytes(*pair))
}

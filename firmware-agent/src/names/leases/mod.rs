//! Names of the devices of the household: what they told the server of this router that gave them
//! their address.
//!
//! A name is what a device says of itself: it is shown, escaped by every sink, and nothing is allowed
//! because of one.

mod file;

use sluice_abi::flow::Addr;

pub use self::file::parse;
use crate::config::{DhcpServer, Mac};

/// Leases that are kept: as many as dnsmasq hands out on OpenWrt unless told otherwise
/// (`dhcpleasemax`), and some.
pub const LEASES_MAX: usize = 1024;
/// Bytes of the longest name (RFC 1035 section 2.3.4, without the length and the root).
const NAME_MAX: usize = 253;
/// Seconds for which a lease counts that was told without its end: the lease time that OpenWrt comes
/// with. Whoever is still there has been told again by then, for a lease is renewed at half of it.
const TOLD_S: u32 = 43_200;

/// When a lease ends.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Until {
    /// When its server says so.
    Open,
    /// At this second since 1970.
    Unix(i64),
    /// At this second of the monotonic clock.
    Monotonic(u32),
}

/// An address that a server gave to a device.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Lease {
    /// The address.
    pub addr: Addr,
    /// Hardware address of the device, where the server knows it: with `DHCPv6` it does not.
    pub mac: Option<Mac>,
    /// What the device is called, if it said so.
    pub name: Option<Box<str>>,
    /// When it ends.
    pub until: Until,
}

/// The time, for what ends.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// Seconds since 1970; `None` while the router does not know.
    pub unix_s: Option<i64>,
    /// Seconds of the monotonic clock.
    pub monotonic_s: u32,
}

/// Leases by address.
#[derive(Debug, Default)]
pub struct Leases {
    /// In the order of their addresses, each once.
    held: Vec<Held>,
    left_out: u64,
}

#[derive(Debug)]
struct Held {
    lease: Lease,
    server: DhcpServer,
    /// It was told, and has not been seen in a file since.
    is_told: bool,
}

/// What a device is called; `None` for what is no name.
#[must_use]
pub fn name(text: &str) -> Option<Box<str>> {
    // What servers write where there is none, and what odhcpd puts before one that it refuses.
    let is_none = matches!(text, "" | "*" | "-") || text.starts_with("broken\\x20");
    (!is_none && text.len() <= NAME_MAX).then(|| text.into())
}

/// A hardware address as servers write it: with colons and two digits or one for each byte, or twelve
/// digits.
#[must_use]
pub fn hardware(text: &str) -> Option<Mac> {
    let mut mac = [0; 6];
    let is_plain = text.len() == 12 && text.is_ascii();
    let mut parts = text.split(':');
    for (at, byte) in mac.iter_mut().enumerate() {
        let part = if is_plain { text.get(2 * at..2 * at + 2) } else { parts.next() };
        // `from_str_radix` takes a sign.
        let is_hex = |part: &&str| part.len() <= 2 && part.bytes().all(|b| b.is_ascii_hexdigit());
        *byte = u8::from_str_radix(part.filter(is_hex)?, 16).ok()?;
    }
    (is_plain || parts.next().is_none()).then_some(Mac(mac))
}

impl Leases {
    /// Leases that are known.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.held.len()
    }

    /// Leases that are not over.
    pub fn iter(&self, now: Now) -> impl Iterator<Item = &Lease> {
        let leases = self.held.iter().map(|held| &held.lease);
        leases.filter(move |lease| !lease.until.is_over(now))
    }

    /// Whether none is known.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// Leases that found no room, since the start.
    #[must_use]
    pub const fn left_out(&self) -> u64 {
        self.left_out
    }

    /// Takes what all files of a server say by now: what was told of its leases is in there as well.
    pub fn replace(&mut self, server: DhcpServer, leases: Vec<Lease>) {
        self.forget(&|held| held.server == server);
        for lease in leases {
            self.insert(lease, server, false);
        }
    }

    /// A server has no file any more: what was in it is not known any more.
    pub fn without_files(&mut self, server: DhcpServer) {
        self.forget(&|held| held.server == server && !held.is_told);
    }

    /// A server has told of a lease. Of a device the last one counts, until a file says otherwise.
    pub fn tell(&mut self, server: DhcpServer, mut lease: Lease, now: Now) {
        lease.until = Until::Monotonic(now.monotonic_s.saturating_add(TOLD_S));
        let mac = lease.mac;
        self.forget(&|held| {
            let is_earlier = mac.is_some() && held.lease.mac == mac && held.server == server;
            is_earlier || held.lease.until.is_over(now)
        });
        self.insert(lease, server, true);
    }

    /// A server has told that a lease is over. One that another device has by now is not meant.
    pub fn end(&mut self, addr: Addr, mac: Option<Mac>) {
        if let Ok(at) = self.place(addr)
            && let Some(held) = self.held.get(at)
            && agree(held.lease.mac, mac)
        {
            self.held.remove(at);
        }
    }

    /// The hardware address of the device that has `addr`, where its server knows it.
    #[must_use]
    pub fn mac_of(&self, now: Now, addr: Addr) -> Option<Mac> {
        let held = self.place(addr).ok().and_then(|at| self.held.get(at))?;
        held.lease.mac.filter(|_| !held.lease.until.is_over(now))
    }

    /// What the device with `addr` and `mac` is called.
    ///
    /// Its lease counts unless another device has it. In IPv6, where a device makes addresses of its
    /// own, it is its hardware address: then the name that all its leases agree on. In IPv4 what has
    /// no lease may be behind a router of its own, which is another device.
    #[must_use]
    pub fn name_of(&self, now: Now, addr: Addr, mac: Option<Mac>) -> Option<&str> {
        let at = self.place(addr).ok().and_then(|at| self.held.get(at));
        let at = at.map(|held| &held.lease).filter(|lease| !lease.until.is_over(now));
        if let Some(lease) = at.filter(|lease| agree(lease.mac, mac)) {
            return lease.name.as_deref();
        }
        let mac = mac.filter(|_| !addr.is_v4())?;
        let own = self.held.iter().map(|held| &held.lease);
        let own = own.filter(|lease| lease.mac == Some(mac) && !lease.until.is_over(now));
        let mut names = own.filter_map(|lease| lease.name.as_deref());
        let first = names.next()?;
        names.all(|name| name == first).then_some(first)
    }

    fn forget(&mut self, which: &dyn Fn(&Held) -> bool) {
        self.held.retain(|held| !which(held));
    }

    fn place(&self, addr: Addr) -> Result<usize, usize> {
        self.held.binary_search_by_key(&addr.words(), |held| held.lease.addr.words())
    }

    fn insert(&mut self, lease: Lease, server: DhcpServer, is_told: bool) {
        match self.place(lease.addr) {
            Ok(at) => {
                if let Some(held) = self.held.get_mut(at) {
                    *held = Held { lease, server, is_told };
                }
            }
            Err(_) if self.held.len() >= LEASES_MAX => self.left_out += 1,
            Err(at) => self.held.insert(at, Held { lease, server, is_told }),
        }
    }
}

/// Whether two may be one device's: one that is not known may be any.
fn agree(one: Option<Mac>, other: Option<Mac>) -> bool {
    one.is_none() || other.is_none() || one == other
}

impl Until {
    fn is_over(self, now: Now) -> bool {
        match self {
            Self::Open => false,
            Self::Unix(end) => now.unix_s.is_some_and(|now| now >= end),
            Self::Monotonic(end) => now.monotonic_s >= end,
        }
    }
}

#[cfg(test)]
mod tests;

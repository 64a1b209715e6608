//! Blocklists of any size, the same in every run.

use std::fmt::Write as _;
use std::net::Ipv4Addr;

/// Numbers that look random and are the same in every run.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// Those of this seed, which is not 0.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next one.
    pub const fn next(&mut self) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 32) as u32
    }

    /// An address that a blocklist may hold and no test network uses.
    pub const fn address(&mut self) -> Ipv4Addr {
        loop {
            let address = Ipv4Addr::from_bits(self.next());
            let octets = address.octets();
            if octets[0] >= 11 && octets[0] < 100 {
                return address;
            }
        }
    }
}

/// A list of random addresses, and of random prefixes from /20 to /28.
#[must_use]
pub fn random(seed: u64, hosts: usize, nets: usize) -> Vec<(Ipv4Addr, u8)> {
    let mut random = Random::new(seed);
    let mut all: Vec<(Ipv4Addr, u8)> = (0..hosts).map(|_| (random.address(), 32)).collect();
    all.extend((0..nets).map(|_| {
        let length = 20 + (random.next() % 9) as u8;
        let address = random.address().to_bits() >> (32 - length) << (32 - length);
        (Ipv4Addr::from_bits(address), length)
    }));
    all
}

/// The list as a file.
#[must_use]
pub fn text(list: &[(Ipv4Addr, u8)]) -> String {
    let mut text = String::with_capacity(list.len() * 16);
    for (address, length) in list {
        let _infallible = if *length == 32 {
            writeln!(text, "{address}")
        } else {
            writeln!(text, "{address}/{length}")
        };
    }
    text
}

/// Whether the list has `address`.
#[must_use]
pub fn has(list: &[(Ipv4Addr, u8)], address: Ipv4Addr) -> bool {
    list.iter().any(|(first, length)| (first.to_bits() ^ address.to_bits()) >> (32 - length) == 0)
}

//! What the lists hold, packed for sorting.

use std::ops::RangeInclusive;

use crate::config::Net;

/// Entries of all lists, eight bytes for IPv4 and sixteen for IPv6 up to /64, and what no image can
/// hold.
#[derive(Debug, Default)]
pub struct Entries {
    /// First address, prefix length, list: sorted, a prefix stands before what lies in it, and the
    /// list with the lowest number before others with the same prefix.
    v4: Vec<u64>,
    /// The same of the upper half of an address.
    v6: Vec<u128>,
    /// IPv6 addresses and prefixes longer than /64, with the list.
    long: Vec<(Net, u32)>,
}

/// Where an entry goes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// Into the image, among IPv4.
    V4,
    /// Into the image, among IPv6.
    V6,
    /// Into a map of its own, as an address or a prefix.
    Long,
}

impl Kind {
    /// The kind of `net`.
    #[must_use]
    pub const fn of(net: &Net) -> Self {
        if net.is_v4() {
            Self::V4
        } else if net.prefix() <= 64 {
            Self::V6
        } else {
            Self::Long
        }
    }
}

/// Addresses from `start` to before `end`, and the list that has them.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Interval {
    pub(super) start: u64,
    pub(super) end: u64,
    pub(super) list: u8,
}

impl Entries {
    /// With room for this many of IPv4 and IPv6: what grows while it is filled takes three times its
    /// size.
    #[must_use]
    pub fn with_capacity(v4: usize, v6: usize) -> Self {
        Self { v4: Vec::with_capacity(v4), v6: Vec::with_capacity(v6), long: Vec::new() }
    }

    /// The entries of `lists` (number, entries).
    #[must_use]
    pub fn of(lists: &[(u32, &[Net])]) -> Self {
        let mut all = Self::default();
        for (list, nets) in lists {
            nets.iter().for_each(|net| all.push(net, *list));
        }
        all
    }

    /// Adds an entry of the list with this number, of which an image keeps eight bits.
    pub fn push(&mut self, net: &Net, list: u32) {
        let upper = (net.bits() >> 64) as u64;
        match Kind::of(net) {
            Kind::V4 => {
                let length = u64::from(net.family_prefix());
                let first = u64::from(net.bits() as u32);
                self.v4.push(first << 16 | length << 8 | u64::from(list & 0xff));
            }
            Kind::V6 => {
                let length = u128::from(net.prefix());
                self.v6.push(u128::from(upper) << 64 | length << 8 | u128::from(list & 0xff));
            }
            Kind::Long => self.long.push((*net, list)),
        }
    }

    /// IPv6 entries that are too long for an image, with their lists.
    #[must_use]
    pub fn take_long(&mut self) -> Vec<(Net, u32)> {
        std::mem::take(&mut self.long)
    }

    /// Whether the image would be empty.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.v4.is_empty() && self.v6.is_empty()
    }

    /// Brings them into the order in which an image is written.
    pub fn sort(&mut self) {
        self.v4.sort_unstable();
        self.v6.sort_unstable();
        Net::sort(&mut self.long);
    }

    /// What sorted entries cover, whichever list has it: ranges apart from each other, in order, IPv4
    /// behind `::ffff:0:0/96`.
    pub fn ranges(&self) -> impl Iterator<Item = RangeInclusive<u128>> {
        let v4 = self.v4.iter().map(|packed| {
            let first = 0xffff_0000_0000 | u128::from(packed >> 16);
            first
                ..=first
                    | u128::from(u32::MAX.checked_shr((packed >> 8) as u32 & 0xff).unwrap_or(0))
        });
        let v6 = self.v6.iter().map(|packed| {
            let first = packed >> 64 << 64;
            first..=first | u128::MAX >> (packed >> 8 & 0xff)
        });
        let long = self.long.iter().map(|(net, _)| {
            let behind = u128::MAX.checked_shr(net.prefix().into()).unwrap_or(0);
            net.bits()..=net.bits() | behind
        });
        apart(in_order(in_order(v6, v4), long))
    }

    pub(super) fn v4(&self) -> impl Iterator<Item = Interval> {
        self.v4.iter().map(|packed| {
            let (start, length) = (packed >> 16, packed >> 8 & 0xff);
            Interval { start, end: start + (1 << (32 - length)), list: *packed as u8 }
        })
    }

    pub(super) fn v6(&self) -> impl Iterator<Item = Interval> {
        self.v6.iter().map(|packed| {
            let (start, length) = ((packed >> 64) as u64, (packed >> 8) as u32 & 0xff);
            // The last prefix of the address space ends at its last address: nobody looks for that.
            let size = 1_u64.checked_shl(64 - length).unwrap_or(u64::MAX);
            Interval { start, end: start.saturating_add(size), list: *packed as u8 }
        })
    }
}

/// Both, each in order, as one in order.
fn in_order(
    one: impl Iterator<Item = RangeInclusive<u128>>,
    other: impl Iterator<Item = RangeInclusive<u128>>,
) -> impl Iterator<Item = RangeInclusive<u128>> {
    let (mut one, mut other) = (one.peekable(), other.peekable());
    std::iter::from_fn(move || match (one.peek(), other.peek()) {
        (Some(next), Some(least)) if least.start() < next.start() => other.next(),
        (None, _) => other.next(),
        _ => one.next(),
    })
}

/// Ranges in order, with those that overlap or touch each other as one.
fn apart(
    ranges: impl Iterator<Item = RangeInclusive<u128>>,
) -> impl Iterator<Item = RangeInclusive<u128>> {
    let mut ranges = ranges.peekable();
    std::iter::from_fn(move || {
        let (first, mut last) = ranges.next()?.into_inner();
        let is_v4 = |address: u128| address >> 32 == 0xffff;
        while let Some(next) = ranges.next_if(|next| {
            // Those of one family, that is: there are addresses of both on either side of a border.
            *next.start() <= last.saturating_add(1) && is_v4(*next.start()) == is_v4(first)
        }) {
            last = last.max(*next.end());
        }
        Some(first..=last)
    })
}

/// Makes disjoint intervals of sorted prefixes. Where prefixes lie in each other the lowest list
/// counts; touching intervals of one list become one.
pub(super) fn sweep<E>(
    prefixes: impl Iterator<Item = Interval>,
    mut emit: impl FnMut(Interval) -> Result<(), E>,
) -> Result<(), E> {
    let mut held: Option<Interval> = None;
    let mut out = |start: u64, end: u64, list: u8| {
        if start == end {
            return Ok(());
        }
        if let Some(before) = &mut held
            && (before.end, before.list) == (start, list)
        {
            before.end = end;
            return Ok(());
        }
        held.replace(Interval { start, end, list }).map_or(Ok(()), &mut emit)
    };
    // The prefixes around the current position: end and list.
    let mut open: Vec<(u64, u8)> = Vec::new();
    let mut at = 0;
    for Interval { start, end, list } in prefixes {
        while let Some((outer_end, outer)) = open.pop_if(|(outer_end, _)| *outer_end <= start) {
            out(at, outer_end, outer)?;
            at = outer_end;
        }
        if let Some((_, outer)) = open.last() {
            if *outer <= list {
                continue;
            }
            out(at, start, *outer)?;
        }
        at = start;
        open.push((end, list));
    }
    while let Some((end, list)) = open.pop() {
        out(at, end, list)?;
        at = end;
    }
    held.map_or(Ok(()), emit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lists_cover_comes_in_ranges_apart_from_each_other() {
        let nets: Vec<Net> = [
            "192.0.2.128/25",
            "2001:db8::1",
            "192.0.2.0/25",
            "10.0.0.7",
            "10.0.0.0/8",
            "255.255.255.255",
            "2001:db8::/64",
            "2001:db8:0:1::/65",
            "2001:db8:0:1:8000::/65",
            "2001:db8:9::7",
            "198.51.100.7",
            "198.51.100.9",
        ]
        .map(|text| text.parse().unwrap())
        .into();
        let mut entries = Entries::of(&[(0, &nets[..6]), (1, &nets[6..])]);
        entries.sort();
        let shown: Vec<String> = entries
            .ranges()
            .map(|range| {
                let address = |bits: u128| std::net::IpAddr::V6(bits.into()).to_canonical();
                format!("{}-{}", address(*range.start()), address(*range.end()))
            })
            .collect();
        assert_eq!(
            shown,
            [
                "10.0.0.0-10.255.255.255",
                "192.0.2.0-192.0.2.255",
                "198.51.100.7-198.51.100.7",
                "198.51.100.9-198.51.100.9",
                "255.255.255.255-255.255.255.255",
                "2001:db8::-2001:db8:0:1:ffff:ffff:ffff:ffff",
                "2001:db8:9::7-2001:db8:9::7",
            ]
        );
    }
}

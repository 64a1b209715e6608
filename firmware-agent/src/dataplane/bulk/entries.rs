//! What the lists hold, packed for sorting.

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

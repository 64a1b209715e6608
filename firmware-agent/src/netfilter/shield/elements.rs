//! Elements of sets as the kernel takes and tells them. Pure, but for what asks the kernel.

use std::ops::RangeInclusive;

use crate::config::Net;
use crate::netfilter::offload::wire;
use crate::sys::netlink::{Attr, Builder};

/// Ranges of a message: an attribute's length is a `u16`, and one takes up to 76 bytes.
pub(super) const CHUNK: usize = 768;
/// Bits of an address that IPv4 addresses have in common.
const MAPPED: u128 = 0xffff_0000_0000;

/// Addresses of one family, the first and the last, IPv4 behind `::ffff:0:0/96`.
pub(super) type Range = RangeInclusive<u128>;

/// Whether an address is of IPv4.
pub(super) const fn is_v4(address: u128) -> bool {
    address >> 32 == MAPPED >> 32
}

/// The range of a prefix.
pub(super) fn range(net: &Net) -> Range {
    let behind = u128::MAX.checked_shr(net.prefix().into()).unwrap_or(0);
    net.bits()..=net.bits() | behind
}

/// An element: addresses, and how many milliseconds they stay; `None` is for good.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Element {
    pub(super) range: Range,
    pub(super) left_ms: Option<u64>,
}

impl From<Range> for Element {
    fn from(range: Range) -> Self {
        Self { range, left_ms: None }
    }
}

impl Element {
    /// Adds the element; in a set of intervals the address behind the range ends it.
    pub(super) fn write(&self, builder: &mut Builder, is_interval: bool) {
        let (first, last) = (*self.range.start(), *self.range.end());
        one(builder, first, is_v4(first), self.left_ms, false);
        let limit = if is_v4(first) { MAPPED | u128::from(u32::MAX) } else { u128::MAX };
        // What reaches to the last address has no end.
        if is_interval && last < limit {
            one(builder, last + 1, is_v4(first), None, true);
        }
    }
}

fn one(builder: &mut Builder, address: u128, is_v4: bool, left_ms: Option<u64>, is_end: bool) {
    builder.nested(wire::LIST_ELEMENT, |builder| {
        builder.nested(wire::ELEMENT_KEY, |builder| {
            if is_v4 {
                builder.attr(wire::DATA_VALUE, &(address as u32).to_be_bytes());
            } else {
                builder.attr(wire::DATA_VALUE, &address.to_be_bytes());
            }
        });
        if is_end {
            builder.attr(wire::ELEMENT_FLAGS, &wire::ELEMENT_END.to_be_bytes());
        }
        if let Some(left_ms) = left_ms {
            builder.attr(wire::ELEMENT_TIMEOUT, &left_ms.to_be_bytes());
        }
    });
}

/// What ends a range, in the place of the seconds that one stays.
const END: u32 = 0;

/// Reads an element: its address, and the seconds that it stays, [`u32::MAX`] for good, or that it ends
/// a range.
pub(super) fn told(element: &Attr<'_>) -> Option<(Net, u32)> {
    let (mut address, mut left) = (None, u32::MAX);
    for attr in element.nested() {
        match attr.kind {
            wire::ELEMENT_KEY => {
                let value = attr.nested().find(|attr| attr.kind == wire::DATA_VALUE)?.value;
                address = Some(match value.len() {
                    4 => MAPPED | u128::from(u32::from_be_bytes(value.try_into().ok()?)),
                    _ => u128::from_be_bytes(value.try_into().ok()?),
                });
            }
            wire::ELEMENT_FLAGS if attr.be32()? & wire::ELEMENT_END != 0 => left = END,
            wire::ELEMENT_EXPIRATION if left != END => {
                let left_ms = u64::from_be_bytes(attr.value.try_into().ok()?);
                left = left_ms.div_ceil(1000).max(1) as u32;
            }
            _ => {}
        }
    }
    Some((net(address?, 128), left))
}

fn net(address: u128, bits: u8) -> Net {
    Net::new(std::net::IpAddr::V6(address.into()).into(), bits)
}

/// Prefixes that together are what a set holds, each with the seconds it stays.
pub(super) fn prefixes(mut told: Vec<(Net, u32)>, is_interval: bool, found: &mut Vec<(Net, u32)>) {
    // An end stands before a beginning at the same address.
    Net::sort(&mut told);
    for (at, (host, left)) in told.iter().enumerate().filter(|(_, (_, left))| *left != END) {
        if !is_interval {
            found.push((*host, *left));
            continue;
        }
        let first = host.bits();
        let limit = if is_v4(first) { MAPPED | u128::from(u32::MAX) } else { u128::MAX };
        let last = told.get(at + 1).map_or(limit, |(next, _)| next.bits() - 1);
        found.extend(split(first..=last).map(|net| (net, *left)));
    }
}

/// A range as prefixes.
fn split(range: Range) -> impl Iterator<Item = Net> {
    let (mut next, last) = (Some(*range.start()), *range.end());
    std::iter::from_fn(move || {
        let first = next.filter(|first| *first <= last)?;
        // As long as it begins at its own border and ends within.
        let fits = |bits: &u32| {
            let behind = u128::MAX.checked_shr(*bits).unwrap_or(0);
            first & behind == 0 && first | behind <= last
        };
        let bits = (0..=128_u32).find(fits)?;
        let behind = u128::MAX.checked_shr(bits).unwrap_or(0);
        next = (first | behind).checked_add(1);
        Some(net(first, bits as u8))
    })
}

/// What prefixes with the second at which they end come to: ranges apart from each other. An address
/// in several stays as long as the longest of them; [`u32::MAX`] is for good.
pub(super) fn apart(mut nets: Vec<(Net, u32)>) -> Vec<(Range, u32)> {
    // A prefix stands before what lies in it.
    Net::sort(&mut nets);
    let mut pieces = Vec::new();
    let mut open: Vec<(u128, u32)> = Vec::new();
    let mut at = 0;
    let mut emit = |first: u128, last: u128, until| {
        if first <= last {
            pieces.push((first..=last, until));
        }
    };
    for (net, until) in nets {
        let (first, last) = range(&net).into_inner();
        while let Some((end, until)) = open.pop_if(|(end, _)| *end < first) {
            emit(at, end, until);
            at = end + 1;
        }
        if let Some((_, outer)) = open.last() {
            if until <= *outer {
                continue;
            }
            if first > at {
                emit(at, first - 1, *outer);
            }
        }
        at = first;
        open.push((last, until));
    }
    while let Some((end, until)) = open.pop() {
        emit(at, end, until);
        at = end.saturating_add(1);
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::netlink::Attrs;

    fn net(text: &str) -> Net {
        text.parse().unwrap()
    }

    fn written(elements: &[Element], is_interval: bool) -> Vec<(Net, u32)> {
        let mut builder = Builder::default();
        builder.message(0, 0, 0, &[0; 4]);
        for element in elements {
            element.write(&mut builder, is_interval);
        }
        Attrs::new(&builder.bytes()[20..]).filter_map(|attr| told(&attr)).collect()
    }

    fn read(told: Vec<(Net, u32)>, is_interval: bool) -> Vec<(Net, u32)> {
        let mut found = Vec::new();
        prefixes(told, is_interval, &mut found);
        found
    }

    #[test]
    fn a_range_ends_before_the_address_that_ends_it() {
        let ranges = ["192.0.2.0/24", "255.0.0.0/8", "2001:db8::/32", "ff00::/8"];
        for text in ranges {
            let told = written(&[range(&net(text)).into()], true);
            assert_eq!(read(told, true), [(net(text), u32::MAX)], "{text}");
        }
        let bytes = |text| written(&[range(&net(text)).into()], true).len();
        assert_eq!(ranges.map(bytes), [2, 1, 2, 1], "the last address of a family needs no end");
        let host = written(&[range(&net("192.0.2.7")).into()], false);
        assert_eq!(read(host, false), [(net("192.0.2.7"), u32::MAX)]);
    }

    #[test]
    fn a_message_of_the_longest_elements_has_room() {
        let mut builder = Builder::default();
        let wide = Element { range: range(&net("2001:db8::/32")), left_ms: Some(u64::MAX) };
        wide.write(&mut builder, true);
        assert!(builder.bytes().len() * CHUNK < usize::from(u16::MAX) - 8);
    }

    #[test]
    fn prefixes_in_each_other_last_as_long_as_the_longest() {
        let shown = |nets: &[(&str, u32)]| {
            let nets = nets.iter().map(|(text, until)| (net(text), *until)).collect();
            let pieces = apart(nets).into_iter();
            let pieces =
                pieces.flat_map(|(range, until)| split(range).map(move |net| (net, until)));
            pieces.map(|(net, until)| format!("{net} {until}")).collect::<Vec<_>>()
        };
        assert_eq!(shown(&[]), [""; 0]);
        assert_eq!(
            shown(&[("10.0.0.0/8", 60), ("10.128.0.0/9", 30)]),
            ["10.0.0.0/8 60"],
            "what ends earlier changes nothing"
        );
        assert_eq!(
            shown(&[("10.0.0.0/30", 60), ("10.0.0.0/31", 90), ("10.0.0.8/30", 5)]),
            ["10.0.0.0/31 90", "10.0.0.2/31 60", "10.0.0.8/30 5"]
        );
        assert_eq!(
            shown(&[("10.0.0.0/29", 10), ("10.0.0.2/31", 30), ("10.0.0.2/32", 50)]),
            ["10.0.0.0/31 10", "10.0.0.2 50", "10.0.0.3 30", "10.0.0.4/30 10"]
        );
        assert_eq!(shown(&[("2001:db8::/64", 7), ("2001:db8::/64", 9)]), ["2001:db8::/64 9"]);
    }
}

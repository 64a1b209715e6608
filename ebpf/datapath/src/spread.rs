//! Which part of the flows a packet belongs to, when they are shared out to processors.

use crate::checks::Brief;
use crate::mix::{mix, pair};

/// A number that all packets of a flow have in common, in both directions as long as no address is
/// translated between them. Who does not know `key` cannot aim at one processor.
///
/// TCP and UDP count with their ports, everything else by its addresses alone. So do fragments,
/// the first included: those of one datagram stay in order, but they may overtake, or be overtaken
/// by, whole packets of the same flow.
#[inline(always)]
#[must_use]
pub const fn hash(brief: &Brief, key: u32) -> u32 {
    let (src, dst) = (brief.src.words(), brief.dst.words());
    let (sport, dport) = match brief.ports() {
        Some((sport, dport)) => (sport as u32, dport as u32),
        None => (0, 0),
    };
    // Each end on its own, keyed, then a sum: the same in either direction.
    let sum = end(src, sport, key).wrapping_add(end(dst, dport, key));
    let mixed = (sum ^ sum >> 32).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed >> 40) as u32
}

#[inline(always)]
const fn end([a, b, c, d]: [u32; 4], port: u32, key: u32) -> u64 {
    let hash = mix(pair(a, b), pair(c, d), key, port);
    hash ^ hash >> 29
}

#[cfg(test)]
mod tests {
    extern crate std;
    use std::vec::Vec;

    use super::*;
    use crate::parse::{ICMP, Ports, Sink as _, TCP, UDP};

    const KEY: u32 = 0x5eed_1234;

    fn v4(src: [u8; 4], dst: [u8; 4]) -> Brief {
        let mut brief = Brief::default();
        brief.v4(u32::from_ne_bytes(src), u32::from_ne_bytes(dst), 0);
        brief
    }

    fn udp(mut brief: Brief, sport: u16, dport: u16) -> Brief {
        brief.transport(UDP, Ports::Truncated, 0);
        brief.udp(sport.to_be(), dport.to_be(), 0);
        brief
    }

    fn tcp(mut brief: Brief, sport: u16, dport: u16, flags: u8) -> Brief {
        brief.transport(TCP, Ports::Truncated, 0);
        brief.tcp(sport.to_be(), dport.to_be(), flags, 0);
        brief
    }

    const A: [u8; 4] = [192, 0, 2, 1];
    const B: [u8; 4] = [198, 51, 100, 9];

    #[test]
    fn both_directions_and_all_packets_of_a_flow_have_one_number() {
        for port in 1..2000 {
            let there = hash(&udp(v4(A, B), port, 443), KEY);
            assert_eq!(there, hash(&udp(v4(B, A), 443, port), KEY));
            let syn = hash(&tcp(v4(A, B), port, 443, 2), KEY);
            assert_eq!(syn, hash(&tcp(v4(A, B), port, 443, 0x18), KEY));
            assert_eq!(syn, hash(&tcp(v4(B, A), 443, port, 0x11), KEY));
        }
        let (a, b) = ([1, 2, 3, 4_u32], [5, 6, 7, 8]);
        let (mut there, mut back) = (Brief::default(), Brief::default());
        there.v6(a, b, 0);
        back.v6(b, a, 0);
        assert_eq!(hash(&udp(there, 5, 6), KEY), hash(&udp(back, 6, 5), KEY));
    }

    #[test]
    fn ends_that_are_alike_do_not_cancel_out() {
        // An exclusive or of both ends would be 0 for each of them.
        let mut seen = std::collections::HashSet::new();
        for last in 0..=255 {
            let host = [192, 0, 2, last];
            seen.insert(hash(&udp(v4(host, host), 53, 53), KEY));
        }
        assert!(seen.len() > 250, "{}", seen.len());
    }

    #[test]
    fn fragments_and_other_protocols_count_by_their_addresses_alone() {
        let mut fragment = v4(A, B);
        fragment.transport(UDP, Ports::Fragment, 0);
        let mut echo = v4(A, B);
        echo.transport(ICMP, Ports::None, 0);
        // What an earlier packet left in the same memory.
        (fragment.sport, fragment.dport) = (7, 9);
        assert_eq!(hash(&fragment, KEY), hash(&echo, KEY));
        let other = v4(A, [198, 51, 100, 10]);
        assert_ne!(hash(&fragment, KEY), hash(&other, KEY));
    }

    #[test]
    fn the_parts_are_alike_for_ports_and_for_addresses_and_differ_by_key() {
        let slots = |of: &dyn Fn(u16) -> Brief, key| -> Vec<u32> {
            (0..12_800).map(|number| hash(&of(number), key) & 127).collect()
        };
        let ports = |number| udp(v4(A, B), 1024 + number, 443);
        let hosts = |number: u16| {
            let [high, low] = number.to_be_bytes();
            udp(v4([10, 0, high, low], B), 4000, 443)
        };
        for slots in [slots(&ports, KEY), slots(&hosts, KEY), slots(&ports, 0)] {
            let mut counts = [0_u32; 128];
            for slot in slots {
                counts[slot as usize] += 1;
            }
            // A hundred each, six deviations either way.
            assert!(counts.iter().all(|count| (40..160).contains(count)), "{counts:?}");
        }
        let pairs = slots(&ports, KEY).into_iter().zip(slots(&ports, KEY ^ 1));
        let same = pairs.filter(|(a, b)| a == b).count();
        assert!(same < 400, "another key changes {same} of 12800 only");
    }
}

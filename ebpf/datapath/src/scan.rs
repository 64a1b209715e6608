//! Which ports a source has tried: one entry of fixed size per source, in a table of fixed size.

use sluice_abi::flow::Addr;
use sluice_abi::limits::{SCAN_PORTS, Scan, check};

/// Time that the ports of one entry may be apart.
pub const WINDOW_MS: u32 = 300_000;
/// Ports from which on an entry is kept until its source is quiet: a flood with made-up sources,
/// most of which try one port, does not wash scanners out.
const KEPT_PORTS: u32 = 3;
/// Silence after which a kept entry can go.
const QUIET_MS: u32 = 60_000;

/// Notes that the source `addr`, known by `tag`, tried `port` (network byte order).
#[inline(always)]
pub const fn note(scan: &mut Scan, addr: &Addr, tag: u32, port: u16, now_ms: u32) {
    let since_last = now_ms.wrapping_sub(scan.last_ms);
    let is_its = scan.tag == tag;
    if !is_its && scan.tag != 0 && scan.count >= KEPT_PORTS && since_last < QUIET_MS {
        return;
    }
    if !is_its || now_ms.wrapping_sub(scan.first_ms) > WINDOW_MS {
        scan.check = 0;
        scan.addr = *addr;
        scan.tag = tag;
        scan.first_ms = now_ms;
        scan.count = 0;
        scan.check = check(addr);
    }
    scan.last_ms = now_ms;
    let count = scan.count as usize;
    let mut index = 0;
    while index < SCAN_PORTS {
        if index >= count {
            scan.ports[index] = port;
            scan.count = index as u32 + 1;
            return;
        }
        if scan.ports[index] == port {
            return;
        }
        index += 1;
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use std::net::IpAddr;

    use super::*;

    fn addr(last: u8) -> Addr {
        IpAddr::from([192, 0, 2, last]).into()
    }

    #[test]
    fn distinct_ports_are_counted_once_each_and_up_to_what_fits() {
        let mut scan = Scan::default();
        for round in 0..3 {
            for port in 0..7_u16 {
                note(&mut scan, &addr(1), 5, port.to_be(), 1000 + round);
            }
        }
        assert_eq!((scan.count, scan.addr, scan.tag), (7, addr(1), 5));
        assert_eq!(scan.ports[..7], [0, 1, 2, 3, 4, 5, 6_u16].map(u16::to_be));
        assert_eq!((scan.first_ms, scan.last_ms), (1000, 1002));
        for port in 100..200 {
            note(&mut scan, &addr(1), 5, port, 1003);
        }
        assert_eq!(scan.count as usize, SCAN_PORTS);
        assert_eq!(scan.check, check(&addr(1)));
    }

    #[test]
    fn ports_that_are_more_than_five_minutes_apart_are_not_counted_together() {
        let mut scan = Scan::default();
        for port in 0..9 {
            note(&mut scan, &addr(1), 5, port, 1000);
        }
        note(&mut scan, &addr(1), 5, 100, 1000 + WINDOW_MS);
        assert_eq!(scan.count, 10);
        note(&mut scan, &addr(1), 5, 101, 1001 + WINDOW_MS);
        assert_eq!((scan.count, scan.ports[0]), (1, 101));
    }

    #[test]
    fn strangers_take_an_entry_only_from_one_who_tried_little_or_is_quiet() {
        let mut scan = Scan::default();
        for port in 0..KEPT_PORTS as u16 - 1 {
            note(&mut scan, &addr(1), 5, port, 1000);
        }
        note(&mut scan, &addr(2), 7, 9, 1001);
        assert_eq!((scan.addr, scan.tag, scan.count), (addr(2), 7, 1));
        for port in 0..KEPT_PORTS as u16 {
            note(&mut scan, &addr(2), 7, port, 1002);
        }
        let kept = scan;
        note(&mut scan, &addr(1), 5, 1, 1002 + QUIET_MS - 1);
        assert_eq!(scan, kept);
        note(&mut scan, &addr(1), 5, 1, 1002 + QUIET_MS);
        assert_eq!((scan.addr, scan.count), (addr(1), 1));
    }
}

//! Who tries ports. Pure.

use std::collections::HashMap;
use std::net::IpAddr;

use sluice_abi::limits::Scan;

/// Seconds between two notices about one source.
const NOTICE_S: u32 = 30;
/// Seconds for which a scanner is shown.
const SHOWN_S: u32 = 300;

/// A source that tried many ports.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Scanner {
    pub(super) addr: IpAddr,
    /// Ports that it tried, as many as are kept.
    pub(super) ports: Vec<u16>,
    /// Notices about it.
    pub(super) notices: u32,
    /// Second of its last trial, as far as was seen.
    pub(super) last_s: u32,
    noticed_s: u32,
    last_ms: u32,
}

/// All of them by tag: no more than the kernel's table has entries.
#[derive(Debug, Default)]
pub(super) struct Scanners {
    entries: HashMap<u32, Scanner>,
}

impl Scanners {
    /// Takes what the programs noted, and returns whom to give notice of: each every 30 seconds at
    /// most, and only while it goes on.
    pub(super) fn look(&mut self, scans: &[Scan], now_s: u32) -> Vec<Scanner> {
        let mut notices = Vec::new();
        for scan in scans {
            let ports = scan.ports.iter().take(scan.count as usize);
            let ports: Vec<u16> = ports.copied().map(u16::from_be).collect();
            let is_new = !self.entries.contains_key(&scan.tag);
            let scanner = self.entries.entry(scan.tag).or_insert_with(|| Scanner {
                addr: scan.addr.into(),
                ports: Vec::new(),
                notices: 0,
                last_s: now_s,
                noticed_s: 0,
                last_ms: scan.last_ms,
            });
            let goes_on = is_new || scanner.last_ms != scan.last_ms;
            if goes_on {
                (scanner.last_ms, scanner.last_s, scanner.ports) = (scan.last_ms, now_s, ports);
                scanner.addr = scan.addr.into();
            }
            if goes_on && (is_new || now_s.saturating_sub(scanner.noticed_s) >= NOTICE_S) {
                scanner.noticed_s = now_s;
                scanner.notices += 1;
                notices.push(scanner.clone());
            }
        }
        self.entries.retain(|tag, scanner| {
            now_s.saturating_sub(scanner.last_s) < SHOWN_S
                || scans.iter().any(|scan| scan.tag == *tag)
        });
        notices
    }

    /// Those of the last five minutes, the latest first.
    pub(super) fn current(&self, now_s: u32) -> Vec<&Scanner> {
        let is_current = |scanner: &&Scanner| now_s.saturating_sub(scanner.last_s) < SHOWN_S;
        let mut current: Vec<_> = self.entries.values().filter(is_current).collect();
        current.sort_by_key(|scanner| (std::cmp::Reverse(scanner.last_s), scanner.addr));
        current
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scan(last_ms: u32, count: u16) -> Scan {
        let mut scan = Scan::default();
        scan.addr = IpAddr::from([198, 51, 100, 1]).into();
        (scan.tag, scan.last_ms, scan.count) = (5, last_ms, count.into());
        for (index, port) in scan.ports.iter_mut().take(count.into()).enumerate() {
            *port = (index as u16 + 20).to_be();
        }
        scan
    }

    #[test]
    fn a_source_is_noticed_every_thirty_seconds_while_it_goes_on() {
        let mut scanners = Scanners::default();
        let mut noticed = Vec::new();
        for now_s in 100..200 {
            let scans = [scan(now_s.min(150) * 1000, 10)];
            noticed.extend(scanners.look(&scans, now_s).iter().map(|_| now_s));
        }
        assert_eq!(noticed, [100, 130], "it stopped at 150");
        let current = scanners.current(200);
        assert_eq!((current.len(), current[0].notices, current[0].last_s), (1, 2, 150));
        assert_eq!(current[0].ports, (20..30).collect::<Vec<u16>>());
        assert!(scanners.current(150 + SHOWN_S).is_empty());
    }

    #[test]
    fn what_stays_in_the_table_is_not_noticed_again_and_goes_with_it() {
        let mut scanners = Scanners::default();
        assert_eq!(scanners.look(&[scan(1, 11)], 100).len(), 1);
        for now_s in 1000..1003 {
            assert_eq!(scanners.look(&[scan(1, 11)], now_s).len(), 0, "second {now_s}");
        }
        assert_eq!(scanners.look(&[], 1003).len(), 0);
        assert!(scanners.entries.is_empty());
    }
}

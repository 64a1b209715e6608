//! What one device may send to the queues, as rules for nftables.
//!
//! A queue that is full lets every device's packets pass uninspected, or drops them. So a device that
//! sends more than its share is turned away before the queue, alone: its connection is undecided, or
//! with a closed policy the packet is dropped. Devices are told apart by their hardware address, which
//! an interface without Ethernet does not have: there nothing is held back.

use std::fmt::Write as _;

use super::nft::{counted, quoted};
use super::{Counted, Ruleset};
use crate::netfilter::queue::LEN_MAX;

/// The set that has the devices which sent more, for [`KEPT`].
pub(in super::super) const GREEDY: &str = "greedy";
/// Packets that a device may send at once: with half of the queue it leaves room for others.
const BURST: u32 = LEN_MAX / 2;
/// Devices that are counted at a time. One beyond is not held back.
const DEVICES_MAX: u32 = 4096;
/// How long a device is counted after its last packet: all of its share is back long before.
const COUNTED: &str = "10s";
/// How long it is remembered that a device sent more.
const KEPT: &str = "10m";
/// Devices that are remembered.
const KEPT_MAX: u32 = 64;

/// What each device behind some interfaces may send.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Share {
    /// Their devices.
    pub(super) lan: Vec<Box<str>>,
    /// Packets a second.
    pub(super) rate: u32,
}

impl Ruleset {
    /// The sets, and the chains for what is more than a share.
    pub(super) fn shares(&self, text: &mut String) {
        if self.share.is_none() {
            return;
        }
        for (name, size, time) in [("shares", DEVICES_MAX, COUNTED), (GREEDY, KEPT_MAX, KEPT)] {
            let _ = writeln!(
                text,
                "\tset {name} {{\n\
                 \t\ttype ether_addr\n\
                 \t\tsize {size}\n\
                 \t\tflags dynamic,timeout\n\
                 \t\ttimeout {time}\n\
                 \t}}"
            );
        }
        let note = format!("update @{GREEDY} {{ ether saddr }}");
        if self.policy_open {
            let _ = writeln!(
                text,
                "\tchain beyond {{\n\
                 \t\t{note} ct mark set ct mark & {:#010x} | {:#010x} {}\n\
                 \t}}",
                !self.marks.bits(),
                self.marks.undecided(),
                counted(Counted::OverShare, "accept")
            );
        }
        if !self.policy_open || !self.closed.is_empty() {
            let _ = writeln!(
                text,
                "\tchain beyond_closed {{\n\t\t{note} {}\n\t}}",
                counted(Counted::DroppedShare, "drop")
            );
        }
    }

    /// What stands before a queue: a rule and the beginning of the next line, or nothing.
    pub(super) fn before_queue(&self, is_open: bool) -> String {
        let Some(share) = &self.share else { return String::new() };
        let chain = if is_open { "beyond" } else { "beyond_closed" };
        format!(
            "iifname {{ {} }} update @shares {{ ether saddr limit rate over {}/second burst {BURST} \
             packets }} goto {chain}\n\t\t",
            quoted(&share.lan),
            share.rate
        )
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::sample;
    use super::*;
    use crate::netfilter::rules::Replace;

    const LIMIT: &str = "\t\tiifname { \"br-lan\" } update @shares { ether saddr limit rate over \
                         9/second burst 512 packets } goto ";

    /// R19: before every queue, with the end that its policy has.
    #[test]
    fn what_is_more_than_a_share_meets_the_policy_before_the_queue() {
        let share =
            |rules: Ruleset| rules.sharing(|device| device == "br-lan", 9).nft(Replace::Flush);
        let ends = |text: &str| {
            let mut lines = text.lines().peekable();
            let mut ends = Vec::new();
            while let Some(line) = lines.next() {
                if let Some(end) = format!("{line}\n").strip_prefix(LIMIT) {
                    let queue = lines.peek().unwrap();
                    assert!(queue.contains("queue num"), "{queue}");
                    ends.push((end.trim_end() == "beyond", queue.contains("bypass")));
                }
            }
            assert_eq!(text.matches("queue num").count(), ends.len(), "{text}");
            ends
        };
        let open = share(sample(2, true));
        assert_eq!(ends(&open), [(true, true); 3]);
        assert!(open.contains(
            "\t\tupdate @greedy { ether saddr } ct mark set ct mark & 0xf8ffffff | 0x03000000 \
             counter accept comment \"over_share\"\n"
        ));
        assert!(!open.contains("beyond_closed"), "{open}");
        let closed = share(sample(2, false));
        assert_eq!(ends(&closed), [(false, false); 3]);
        assert!(closed.contains("counter drop comment \"dropped_share\"\n"), "{closed}");
        assert!(!closed.contains("chain beyond {"), "{closed}");
        let both = share(sample(2, true).closing(|device| device == "wan").unwrap());
        let mut ends = ends(&both);
        ends.sort_unstable();
        assert_eq!(ends, [[(false, false); 3], [(true, true); 3]].concat());
    }

    #[test]
    fn without_a_share_or_a_lan_there_is_no_such_rule() {
        for rules in [
            sample(1, true),
            sample(1, true).sharing(|_| false, 9),
            sample(1, true).sharing(|_| true, 0),
        ] {
            let text = rules.nft(Replace::Flush);
            assert!(!text.contains("shares") && !text.contains("beyond"), "{text}");
        }
    }
}

//! The text for `iptables-nft-restore --noflush` and its IPv6 twin: one transaction.
//!
//! For kernels without the queue expression of nftables. The hook differs from that of the nftables
//! table (`mangle` in place of a chain of our own), what happens to a packet does not.

use std::fmt::Write as _;

use super::Ruleset;

const INSPECT: &str = "SLUICE_INSPECT";
const BETWEEN: &str = "SLUICE_BETWEEN";
const FLOW: &str = "SLUICE_FLOW";
const OPENING: &str = "SLUICE_OPENING";
const IGNORED: &str = "SLUICE_IGNORED";
/// The same three for what has another policy than most.
const BETWEEN_CLOSED: &str = "SLUICE_BETWEEN_CLOSED";
const FLOW_CLOSED: &str = "SLUICE_FLOW_CLOSED";
const OPENING_CLOSED: &str = "SLUICE_OPENING_CLOSED";
const ASKING: &str = "SLUICE_ASKING";
const ASKING_CLOSED: &str = "SLUICE_ASKING_CLOSED";
const ANSWERED: &str = "SLUICE_ANSWERED";
const BLOCK: &str = "SLUICE_BLOCK";

/// The table that has them all.
pub(in super::super) const TABLE: &str = "mangle";

/// Our chains, each after the chains that jump to it, so that they can be removed in order.
pub(in super::super) const CHAINS: [&str; 12] = [
    INSPECT,
    BETWEEN,
    BETWEEN_CLOSED,
    FLOW,
    FLOW_CLOSED,
    OPENING,
    OPENING_CLOSED,
    ASKING,
    ASKING_CLOSED,
    IGNORED,
    ANSWERED,
    BLOCK,
];

/// The chain that `FORWARD` jumps to.
pub(in super::super) const JUMP: &str = INSPECT;

impl Ruleset {
    /// The whole table, the same text for IPv4 and IPv6. A restore cannot say "delete, if it is there":
    /// `jumps` says whether `FORWARD` has our jump already.
    #[must_use]
    pub fn iptables(&self, jumps: bool) -> String {
        let mut text = String::with_capacity(2048);
        let mask = self.marks.bits();
        let (trusted, blocked, undecided) =
            (self.marks.trusted(), self.marks.blocked(), self.marks.undecided());
        start(&mut text);
        // As in the other language: most packets meet one rule, and no first packet of a
        // connection is among them, whoever marked it.
        let _ = writeln!(
            text,
            "-A {INSPECT} -p tcp -m mark --mark {trusted:#x}/{mask:#x} \
             -m tcp ! --tcp-flags FIN,SYN,RST,ACK SYN -j RETURN\n\
             -A {INSPECT} -p udp -m mark --mark {trusted:#x}/{mask:#x} -j RETURN\n\
             -A {INSPECT} -m mark --mark {0:#x}/{0:#x} -g {ANSWERED}",
            self.marks.answered()
        );
        for proto in ["tcp", "udp"] {
            let _ = writeln!(
                text,
                "-A {INSPECT} -p {proto} -m connmark --mark {blocked:#x}/{mask:#x} -j DROP"
            );
        }
        for device in &self.devices {
            let way = if self.closed.contains(device) { BETWEEN_CLOSED } else { BETWEEN };
            let _ = writeln!(text, "-A {INSPECT} -i {device} -j {way}");
        }
        if self.policy_open {
            // Nothing of what passes unattended is remembered: the mark goes, or whoever saves marks
            // would give it to the connection.
            let _ = writeln!(
                text,
                "-A {INSPECT} -m mark --mark {undecided:#x}/{mask:#x} \
                 -j MARK --set-xmark 0x0/{mask:#x}"
            );
        }
        for device in &self.devices {
            let way = if self.closed.contains(device) { FLOW_CLOSED } else { FLOW };
            let _ = writeln!(text, "-A {BETWEEN} -o {device} -g {way}");
            if !self.closed.is_empty() {
                let _ = writeln!(text, "-A {BETWEEN_CLOSED} -o {device} -g {FLOW_CLOSED}");
            }
        }
        self.flow(
            &mut text,
            (FLOW, OPENING, ASKING),
            &iptables_queue(self.first, self.last, self.policy_open),
        );
        if let Some(queues) = self.closed_queues() {
            let queue = iptables_queue(*queues.start(), *queues.end(), false);
            self.flow(&mut text, (FLOW_CLOSED, OPENING_CLOSED, ASKING_CLOSED), &queue);
        }
        if !self.ignored.is_empty() {
            let _ = writeln!(
                text,
                "-A {IGNORED} -m connmark --mark 0x0/{mask:#x} \
                 -j CONNMARK --set-xmark {trusted:#x}/{mask:#x}\n\
                 -A {IGNORED} -j RETURN"
            );
        }
        self.comes_back(&mut text);
        finish(&mut text, jumps);
        text
    }

    /// The rules for connections that go through a queue until they are decided.
    fn flow(&self, text: &mut String, (flow, opening, asking): (&str, &str, &str), queue: &str) {
        let mask = self.marks.bits();
        let blocked = self.marks.blocked();
        let (trusted, undecided) = (self.marks.trusted(), self.marks.undecided());
        text.push_str(&self.ignored.iptables(flow, IGNORED));
        let _ = writeln!(
            text,
            "-A {flow} -p tcp -m tcp --tcp-flags FIN,SYN,RST,ACK SYN -g {opening}\n\
             -A {flow} -p tcp -m mark --mark {blocked:#x}/{mask:#x} -g {asking}\n\
             -A {asking} -j MARK --set-xmark 0x0/{mask:#x}\n\
             -A {asking} {queue}\n\
             -A {flow} -m connmark --mark {trusted:#x}/{mask:#x} -j RETURN\n\
             -A {flow} -m connmark --mark {undecided:#x}/{mask:#x} -j RETURN\n\
             -A {opening} -j CONNMARK --set-xmark 0x0/{mask:#x}"
        );
        // Where policy is closed, the mark of what passes unattended goes before the queue.
        let end = if queue.ends_with(BYPASS) {
            "-j RETURN".to_owned()
        } else {
            format!("-j MARK --set-xmark 0x0/{mask:#x}")
        };
        if self.policy_open {
            for chain in [flow, opening] {
                let _ = writeln!(text, "-A {chain} -m mark --mark {undecided:#x}/{mask:#x} {end}");
            }
        }
        let _ = writeln!(
            text,
            "-A {flow} -p tcp {queue}\n\
             -A {flow} -p udp {queue}\n\
             -A {opening} -j MARK --set-xmark 0x0/{mask:#x}\n\
             -A {opening} {queue}"
        );
    }

    /// For packets that come back from their queue.
    fn comes_back(&self, text: &mut String) {
        let (mask, answered) = (self.marks.bits(), self.marks.answered());
        for value in [self.marks.trusted(), self.marks.undecided()] {
            let _ = writeln!(
                text,
                "-A {ANSWERED} -m mark --mark {:#x}/{mask:#x} \
                 -j CONNMARK --set-xmark {value:#x}/{mask:#x}",
                answered | value
            );
        }
        let blocked = self.marks.blocked();
        let _ = writeln!(
            text,
            "-A {ANSWERED} -m mark --mark {:#x}/{mask:#x} -g {BLOCK}\n\
             -A {ANSWERED} -j MARK --set-xmark 0x0/{answered:#x}\n\
             -A {BLOCK} -j CONNMARK --set-xmark {blocked:#x}/{mask:#x}\n\
             -A {BLOCK} -j DROP",
            answered | blocked
        );
    }
}

const BYPASS: &str = " --queue-bypass";

fn iptables_queue(first: u16, last: u16, bypass: bool) -> String {
    let numbers = if last == first {
        format!("--queue-num {first}")
    } else {
        format!("--queue-balance {first}:{last}")
    };
    format!("-j NFQUEUE {numbers}{}", if bypass { BYPASS } else { "" })
}

/// The text that removes our chains; `jumps` as in [`Ruleset::iptables`].
pub(in super::super) fn removal(jumps: bool) -> String {
    let mut text = String::new();
    start(&mut text);
    if jumps {
        let _ = writeln!(text, "-D FORWARD -j {JUMP}");
    }
    for chain in CHAINS {
        let _ = writeln!(text, "-X {chain}");
    }
    text.push_str("COMMIT\n");
    text
}

/// Opens the table and makes the chains, or empties those that are there.
fn start(text: &mut String) {
    let _ = writeln!(text, "*{TABLE}");
    for chain in CHAINS {
        let _ = writeln!(text, ":{chain} - [0:0]");
    }
}

/// Makes `FORWARD` jump to us, first of all, and closes the table.
fn finish(text: &mut String, jumps: bool) {
    if jumps {
        let _ = writeln!(text, "-D FORWARD -j {JUMP}");
    }
    let _ = writeln!(text, "-I FORWARD 1 -j {JUMP}\nCOMMIT");
}

#[cfg(test)]
mod tests {
    use super::super::tests::sample;
    use super::*;

    #[test]
    fn the_table_is_written_as_expected() {
        #[rustfmt::skip]
        let expected = "*mangle
:SLUICE_INSPECT - [0:0]
:SLUICE_BETWEEN - [0:0]
:SLUICE_BETWEEN_CLOSED - [0:0]
:SLUICE_FLOW - [0:0]
:SLUICE_FLOW_CLOSED - [0:0]
:SLUICE_OPENING - [0:0]
:SLUICE_OPENING_CLOSED - [0:0]
:SLUICE_ASKING - [0:0]
:SLUICE_ASKING_CLOSED - [0:0]
:SLUICE_IGNORED - [0:0]
:SLUICE_ANSWERED - [0:0]
:SLUICE_BLOCK - [0:0]
-A SLUICE_INSPECT -p tcp -m mark --mark 0x1000000/0x7000000 -m tcp ! --tcp-flags FIN,SYN,RST,ACK SYN -j RETURN
-A SLUICE_INSPECT -p udp -m mark --mark 0x1000000/0x7000000 -j RETURN
-A SLUICE_INSPECT -m mark --mark 0x4000000/0x4000000 -g SLUICE_ANSWERED
-A SLUICE_INSPECT -p tcp -m connmark --mark 0x2000000/0x7000000 -j DROP
-A SLUICE_INSPECT -p udp -m connmark --mark 0x2000000/0x7000000 -j DROP
-A SLUICE_INSPECT -i br-lan -j SLUICE_BETWEEN
-A SLUICE_INSPECT -i wan -j SLUICE_BETWEEN
-A SLUICE_INSPECT -m mark --mark 0x3000000/0x7000000 -j MARK --set-xmark 0x0/0x7000000
-A SLUICE_BETWEEN -o br-lan -g SLUICE_FLOW
-A SLUICE_BETWEEN -o wan -g SLUICE_FLOW
-A SLUICE_FLOW -p tcp -m tcp --tcp-flags FIN,SYN,RST,ACK SYN -g SLUICE_OPENING
-A SLUICE_FLOW -p tcp -m mark --mark 0x2000000/0x7000000 -g SLUICE_ASKING
-A SLUICE_ASKING -j MARK --set-xmark 0x0/0x7000000
-A SLUICE_ASKING -j NFQUEUE --queue-balance 5:8 --queue-bypass
-A SLUICE_FLOW -m connmark --mark 0x1000000/0x7000000 -j RETURN
-A SLUICE_FLOW -m connmark --mark 0x3000000/0x7000000 -j RETURN
-A SLUICE_OPENING -j CONNMARK --set-xmark 0x0/0x7000000
-A SLUICE_FLOW -m mark --mark 0x3000000/0x7000000 -j RETURN
-A SLUICE_OPENING -m mark --mark 0x3000000/0x7000000 -j RETURN
-A SLUICE_FLOW -p tcp -j NFQUEUE --queue-balance 5:8 --queue-bypass
-A SLUICE_FLOW -p udp -j NFQUEUE --queue-balance 5:8 --queue-bypass
-A SLUICE_OPENING -j MARK --set-xmark 0x0/0x7000000
-A SLUICE_OPENING -j NFQUEUE --queue-balance 5:8 --queue-bypass
-A SLUICE_ANSWERED -m mark --mark 0x5000000/0x7000000 -j CONNMARK --set-xmark 0x1000000/0x7000000
-A SLUICE_ANSWERED -m mark --mark 0x7000000/0x7000000 -j CONNMARK --set-xmark 0x3000000/0x7000000
-A SLUICE_ANSWERED -m mark --mark 0x6000000/0x7000000 -g SLUICE_BLOCK
-A SLUICE_ANSWERED -j MARK --set-xmark 0x0/0x4000000
-A SLUICE_BLOCK -j CONNMARK --set-xmark 0x2000000/0x7000000
-A SLUICE_BLOCK -j DROP
-I FORWARD 1 -j SLUICE_INSPECT
COMMIT
";
        assert_eq!(sample(4, true).iptables(false), expected);
    }

    #[test]
    fn what_a_closed_device_takes_part_in_has_queues_without_bypass() {
        let text = sample(2, true).closing(|device| device == "wan").unwrap();
        let text = text.iptables(false);
        for line in [
            "-A SLUICE_INSPECT -i br-lan -j SLUICE_BETWEEN",
            "-A SLUICE_INSPECT -i wan -j SLUICE_BETWEEN_CLOSED",
            "-A SLUICE_BETWEEN -o br-lan -g SLUICE_FLOW",
            "-A SLUICE_BETWEEN -o wan -g SLUICE_FLOW_CLOSED",
            "-A SLUICE_BETWEEN_CLOSED -o br-lan -g SLUICE_FLOW_CLOSED",
            "-A SLUICE_FLOW_CLOSED -m mark --mark 0x3000000/0x7000000 -j MARK --set-xmark 0x0/0x7000000",
            "-A SLUICE_FLOW_CLOSED -p tcp -j NFQUEUE --queue-balance 7:8",
            "-A SLUICE_OPENING_CLOSED -j NFQUEUE --queue-balance 7:8",
            "-A SLUICE_FLOW -p tcp -j NFQUEUE --queue-balance 5:6 --queue-bypass",
        ] {
            assert!(text.lines().any(|there| there == line), "{line}\n{text}");
        }
    }

    #[test]
    fn a_jump_that_is_there_is_moved_and_not_doubled() {
        let text = sample(1, true).iptables(true);
        let jumps: Vec<_> = text.lines().filter(|line| line.contains("FORWARD")).collect();
        assert_eq!(jumps, ["-D FORWARD -j SLUICE_INSPECT", "-I FORWARD 1 -j SLUICE_INSPECT"]);
        assert!(text.contains("-A SLUICE_FLOW -p udp -j NFQUEUE --queue-num 5 --queue-bypass\n"));
    }

    #[test]
    fn every_chain_that_is_made_is_removed_again() {
        let text = removal(true);
        let made = sample(1, true).iptables(false);
        let made = made.lines().filter_map(|line| line.strip_prefix(':')?.split(' ').next());
        for chain in made {
            assert!(text.contains(&format!("-X {chain}\n")), "{chain}");
        }
        assert!(text.contains("-D FORWARD -j SLUICE_INSPECT\n"));
    }
}

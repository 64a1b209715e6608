//! The text for `iptables-nft-restore --noflush` and its IPv6 twin: one transaction per table.
//!
//! For kernels without the queue expression of nftables. The hooks differ from those of the
//! nftables table (`mangle` and `filter` in place of two chains of our own), what happens to a
//! packet does not.

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
const DECIDE: &str = "SLUICE_DECIDE";
const BLOCK: &str = "SLUICE_BLOCK";

/// Chains by table, each after the chains that jump to it, so that they can be removed in order.
pub(in super::super) const CHAINS: [(&str, &[&str]); 2] = [
    (
        "mangle",
        &[
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
        ],
    ),
    ("filter", &[DECIDE, BLOCK]),
];

/// The chain that `FORWARD` of each table jumps to.
pub(in super::super) const JUMPS: [(&str, &str); 2] = [("mangle", INSPECT), ("filter", DECIDE)];

/// What is there already: a restore cannot say "delete, if it is there".
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Present {
    /// `FORWARD` of the table `mangle` jumps to our chain.
    pub mangle: bool,
    /// `FORWARD` of the table `filter` jumps to our chain.
    pub filter: bool,
}

impl Ruleset {
    /// Both tables, the same text for IPv4 and IPv6.
    #[must_use]
    pub fn iptables(&self, present: Present) -> String {
        let mut text = String::with_capacity(2048);
        self.mangle(&mut text, present.mangle);
        self.filter(&mut text, present.filter);
        text
    }

    fn mangle(&self, text: &mut String, present: bool) {
        let mask = self.marks.bits();
        let (trusted, blocked, undecided) =
            (self.marks.trusted(), self.marks.blocked(), self.marks.undecided());
        start(text, "mangle", CHAINS[0].1);
        // As in the other language: most packets meet one rule, and no first packet of a
        // connection is among them, whoever marked it.
        let _ = writeln!(
            text,
            "-A {INSPECT} -p tcp -m mark --mark {trusted:#x}/{mask:#x} \
             -m tcp ! --tcp-flags FIN,SYN,RST,ACK SYN -j RETURN\n\
             -A {INSPECT} -p udp -m mark --mark {trusted:#x}/{mask:#x} -j RETURN"
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
            // Nothing of what passes unattended is remembered: the mark goes, or it would be copied
            // to the connection, which nobody would see again.
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
            text,
            (FLOW, OPENING, ASKING),
            &iptables_queue(self.first, self.last, self.policy_open),
        );
        if let Some(queues) = self.closed_queues() {
            let queue = iptables_queue(*queues.start(), *queues.end(), false);
            self.flow(text, (FLOW_CLOSED, OPENING_CLOSED, ASKING_CLOSED), &queue);
        }
        if !self.ignored.is_empty() {
            let _ = writeln!(
                text,
                "-A {IGNORED} -m connmark --mark 0x0/{mask:#x} \
                 -j CONNMARK --set-xmark {trusted:#x}/{mask:#x}\n\
                 -A {IGNORED} -j RETURN"
            );
        }
        finish(text, INSPECT, present);
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

    fn filter(&self, text: &mut String, present: bool) {
        let mask = self.marks.bits();
        start(text, "filter", CHAINS[1].1);
        for value in [self.marks.trusted(), self.marks.undecided()] {
            let _ = writeln!(
                text,
                "-A {DECIDE} -m mark --mark {value:#x}/{mask:#x} \
                 -j CONNMARK --set-xmark {value:#x}/{mask:#x}"
            );
        }
        let blocked = self.marks.blocked();
        let _ = writeln!(
            text,
            "-A {DECIDE} -m mark --mark {blocked:#x}/{mask:#x} -g {BLOCK}\n\
             -A {BLOCK} -j CONNMARK --set-xmark {blocked:#x}/{mask:#x}\n\
             -A {BLOCK} -j DROP"
        );
        finish(text, DECIDE, present);
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

/// The text that removes our chains of a table; `present` as in [`Ruleset::iptables`].
pub(in super::super) fn removal(table: &str, jump: &str, chains: &[&str], present: bool) -> String {
    let mut text = String::new();
    start(&mut text, table, chains);
    if present {
        let _ = writeln!(text, "-D FORWARD -j {jump}");
    }
    for chain in chains {
        let _ = writeln!(text, "-X {chain}");
    }
    text.push_str("COMMIT\n");
    text
}

/// Opens a table and makes the chains, or empties those that are there.
fn start(text: &mut String, table: &str, chains: &[&str]) {
    let _ = writeln!(text, "*{table}");
    for chain in chains {
        let _ = writeln!(text, ":{chain} - [0:0]");
    }
}

/// Makes `FORWARD` jump to `chain`, first of all, and closes the table.
fn finish(text: &mut String, chain: &str, present: bool) {
    if present {
        let _ = writeln!(text, "-D FORWARD -j {chain}");
    }
    let _ = writeln!(text, "-I FORWARD 1 -j {chain}\nCOMMIT");
}

#[cfg(test)]
mod tests {
    use super::super::tests::sample;
    use super::*;

    #[test]
    fn both_tables_are_written_as_expected() {
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
-A SLUICE_INSPECT -p tcp -m mark --mark 0x1000000/0x3000000 -m tcp ! --tcp-flags FIN,SYN,RST,ACK SYN -j RETURN
-A SLUICE_INSPECT -p udp -m mark --mark 0x1000000/0x3000000 -j RETURN
-A SLUICE_INSPECT -p tcp -m connmark --mark 0x2000000/0x3000000 -j DROP
-A SLUICE_INSPECT -p udp -m connmark --mark 0x2000000/0x3000000 -j DROP
-A SLUICE_INSPECT -i br-lan -j SLUICE_BETWEEN
-A SLUICE_INSPECT -i wan -j SLUICE_BETWEEN
-A SLUICE_INSPECT -m mark --mark 0x3000000/0x3000000 -j MARK --set-xmark 0x0/0x3000000
-A SLUICE_BETWEEN -o br-lan -g SLUICE_FLOW
-A SLUICE_BETWEEN -o wan -g SLUICE_FLOW
-A SLUICE_FLOW -p tcp -m tcp --tcp-flags FIN,SYN,RST,ACK SYN -g SLUICE_OPENING
-A SLUICE_FLOW -p tcp -m mark --mark 0x2000000/0x3000000 -g SLUICE_ASKING
-A SLUICE_ASKING -j MARK --set-xmark 0x0/0x3000000
-A SLUICE_ASKING -j NFQUEUE --queue-balance 5:8 --queue-bypass
-A SLUICE_FLOW -m connmark --mark 0x1000000/0x3000000 -j RETURN
-A SLUICE_FLOW -m connmark --mark 0x3000000/0x3000000 -j RETURN
-A SLUICE_OPENING -j CONNMARK --set-xmark 0x0/0x3000000
-A SLUICE_FLOW -m mark --mark 0x3000000/0x3000000 -j RETURN
-A SLUICE_OPENING -m mark --mark 0x3000000/0x3000000 -j RETURN
-A SLUICE_FLOW -p tcp -j NFQUEUE --queue-balance 5:8 --queue-bypass
-A SLUICE_FLOW -p udp -j NFQUEUE --queue-balance 5:8 --queue-bypass
-A SLUICE_OPENING -j MARK --set-xmark 0x0/0x3000000
-A SLUICE_OPENING -j NFQUEUE --queue-balance 5:8 --queue-bypass
-I FORWARD 1 -j SLUICE_INSPECT
COMMIT
*filter
:SLUICE_DECIDE - [0:0]
:SLUICE_BLOCK - [0:0]
-A SLUICE_DECIDE -m mark --mark 0x1000000/0x3000000 -j CONNMARK --set-xmark 0x1000000/0x3000000
-A SLUICE_DECIDE -m mark --mark 0x3000000/0x3000000 -j CONNMARK --set-xmark 0x3000000/0x3000000
-A SLUICE_DECIDE -m mark --mark 0x2000000/0x3000000 -g SLUICE_BLOCK
-A SLUICE_BLOCK -j CONNMARK --set-xmark 0x2000000/0x3000000
-A SLUICE_BLOCK -j DROP
-I FORWARD 1 -j SLUICE_DECIDE
COMMIT
";
        assert_eq!(sample(4, true).iptables(Present::default()), expected);
    }

    #[test]
    fn what_a_closed_device_takes_part_in_has_queues_without_bypass() {
        let text = sample(2, true).closing(|device| device == "wan").unwrap();
        let text = text.iptables(Present::default());
        for line in [
            "-A SLUICE_INSPECT -i br-lan -j SLUICE_BETWEEN",
            "-A SLUICE_INSPECT -i wan -j SLUICE_BETWEEN_CLOSED",
            "-A SLUICE_BETWEEN -o br-lan -g SLUICE_FLOW",
            "-A SLUICE_BETWEEN -o wan -g SLUICE_FLOW_CLOSED",
            "-A SLUICE_BETWEEN_CLOSED -o br-lan -g SLUICE_FLOW_CLOSED",
            "-A SLUICE_FLOW_CLOSED -m mark --mark 0x3000000/0x3000000 -j MARK --set-xmark 0x0/0x3000000",
            "-A SLUICE_FLOW_CLOSED -p tcp -j NFQUEUE --queue-balance 7:8",
            "-A SLUICE_OPENING_CLOSED -j NFQUEUE --queue-balance 7:8",
            "-A SLUICE_FLOW -p tcp -j NFQUEUE --queue-balance 5:6 --queue-bypass",
        ] {
            assert!(text.lines().any(|there| there == line), "{line}\n{text}");
        }
    }

    #[test]
    fn a_jump_that_is_there_is_moved_and_not_doubled() {
        let text = sample(1, true).iptables(Present { mangle: true, filter: false });
        let jumps: Vec<_> = text.lines().filter(|line| line.contains("FORWARD")).collect();
        assert_eq!(
            jumps,
            [
                "-D FORWARD -j SLUICE_INSPECT",
                "-I FORWARD 1 -j SLUICE_INSPECT",
                "-I FORWARD 1 -j SLUICE_DECIDE"
            ]
        );
        assert!(text.contains("-A SLUICE_FLOW -p udp -j NFQUEUE --queue-num 5 --queue-bypass\n"));
    }

    #[test]
    fn every_chain_that_is_made_is_removed_again() {
        for ((table, chains), (_, jump)) in CHAINS.into_iter().zip(JUMPS) {
            let text = removal(table, jump, chains, true);
            for line in sample(1, true).iptables(Present::default()).lines() {
                if let Some(chain) = line.strip_prefix(':').and_then(|line| line.split(' ').next())
                {
                    let here = chains.contains(&chain);
                    assert_eq!(text.contains(&format!("-X {chain}\n")), here, "{chain}");
                }
            }
            assert!(text.contains(&format!("-D FORWARD -j {jump}\n")));
        }
    }
}

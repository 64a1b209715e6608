//! The text for `nft -f -`: one transaction.

use std::fmt::Write as _;

use super::{Counted, Ruleset, TABLE};
use crate::config::MarkMask;

/// What happens to a table of the same name that is there already.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Replace {
    /// Its rules go, its chains stay: packets that wait in a queue keep their place. Unregistering
    /// a chain makes the kernel drop every packet that waits in any queue of the namespace.
    Flush,
    /// The table goes: also when its chains have another shape than ours.
    Delete,
}

impl Ruleset {
    /// The whole table, to be applied by one `nft -f -`. Applying it twice is as once.
    #[must_use]
    pub fn nft(&self, replace: Replace) -> String {
        let mut text = String::with_capacity(2048);
        let verb = match replace {
            Replace::Flush => "flush",
            Replace::Delete => "delete",
        };
        // `add` first, because the second command fails where there is no table.
        let _ = writeln!(text, "add table inet {TABLE}\n{verb} table inet {TABLE}");
        let _ = writeln!(text, "table inet {TABLE} {{");
        self.shares(&mut text);
        self.opening(&mut text, "opening", &self.nft_queue());
        self.asking(&mut text, "asking", &self.nft_queue());
        if let Some(queue) = self.nft_closed_queue() {
            self.opening(&mut text, "opening_closed", &queue);
            self.asking(&mut text, "asking_closed", &queue);
            let tail = self.tail(Some("asking_closed"), "goto opening_closed", &queue);
            let _ = writeln!(text, "\tchain closed {{\n{tail}\t}}");
        }
        self.others(&mut text);
        self.ignored(&mut text);
        self.unattended(&mut text);
        self.answered(&mut text);
        self.inspect(&mut text);
        if let Some(dns) = &self.dns {
            dns.own(&mut text);
        }
        text.push_str("}\n");
        text
    }

    /// For the first packet of a TCP connection. A mark on its connection is that of an earlier
    /// one with the same addresses and ports that conntrack takes it for, so it is not a decision
    /// about this one: gone, and the packet goes to the queue.
    ///
    /// Usually conntrack itself makes a new, unmarked entry, namely when it saw the earlier
    /// connection end. It does not when the end was never seen: then it holds SYN and SYN/ACK for
    /// a resynchronisation and keeps the entry with its mark. Otherwise a host could have its
    /// first connection trusted and reuse the port for a second one that nobody inspects. The
    /// packet's own mark goes too: behind the queue it would be copied to the connection.
    fn opening(&self, text: &mut String, name: &str, queue: &str) {
        let mask = self.marks.bits();
        let keep = !mask;
        let _ = writeln!(
            text,
            "\tchain {name} {{\n\
             \t\tct mark & {mask:#010x} != 0x00000000 ct mark set ct mark & {keep:#010x}\n\
             \t\tmeta mark & {mask:#010x} != 0x00000000 meta mark set meta mark & {keep:#010x}\n\
             \t\t{queue}\n\
             \t}}"
        );
    }

    /// For what the client of a trusted connection may ask for now: the queue says so, and the
    /// connection keeps its mark meanwhile.
    fn asking(&self, text: &mut String, name: &str, queue: &str) {
        let keep = !self.marks.bits();
        let _ = writeln!(
            text,
            "\tchain {name} {{\n\t\tmeta mark set meta mark & {keep:#010x}\n\t\t{queue}\n\t}}"
        );
    }

    /// For connections that use a device which is not inspected.
    fn others(&self, text: &mut String) {
        if self.frees_others {
            let (mask, trusted) = (self.marks.bits(), self.marks.trusted());
            let _ = writeln!(
                text,
                "\tchain others {{\n\
                 \t\tct mark & {mask:#010x} == 0x00000000 \
                 ct mark set ct mark & {:#010x} | {trusted:#010x}\n\
                 \t}}",
                !mask
            );
        }
    }

    /// For connections that are never inspected. What was decided already stays so.
    fn ignored(&self, text: &mut String) {
        if !self.ignored.is_empty() {
            let (mask, trusted) = (self.marks.bits(), self.marks.trusted());
            let _ = writeln!(
                text,
                "\tchain ignored {{\n\
                 \t\tct mark & {mask:#010x} == 0x00000000 \
                 ct mark set ct mark & {:#010x} | {trusted:#010x}\n\
                 \t\t{}\n\
                 \t}}",
                !mask,
                counted(Counted::Ignored, "accept")
            );
        }
    }

    /// For packets that the fast path marked because the agent's heart does not beat. What was
    /// decided holds; what would go to the queue passes, and nothing of it is remembered: the mark
    /// goes, or whoever saves marks would give it to the connection.
    fn unattended(&self, text: &mut String) {
        if !self.policy_open {
            return;
        }
        let keep = !self.marks.bits();
        let _ = writeln!(
            text,
            "\tchain unattended {{\n\t\tmeta mark set meta mark & {keep:#010x}\n{}\t}}",
            self.decided(
                None,
                &format!(
                    "ct mark set ct mark & {keep:#010x} {}",
                    counted(Counted::Unattended, "accept")
                ),
                &counted(Counted::Unattended, "accept")
            )
        );
    }

    fn inspect(&self, text: &mut String) {
        let mask = self.marks.bits();
        let undecided = self.marks.undecided();
        let (vetted, answered) = (vetted(self.marks), self.marks.answered());
        let _ = writeln!(
            text,
            "\tchain inspect {{\n\
             \t\ttype filter hook forward priority filter - 10; policy accept;\n\
             {vetted}\
             \t\tmeta mark & {answered:#010x} != 0x00000000 jump answered"
        );
        if let Some(dns) = &self.dns {
            dns.forwarded(text);
        }
        if self.policy_open {
            let _ =
                writeln!(text, "\t\tmeta mark & {mask:#010x} == {undecided:#010x} goto unattended");
        }
        let _ = writeln!(
            text,
            "{}\t}}",
            self.decided(Some("asking"), "goto opening", &self.nft_queue())
        );
    }

    /// The rules for what is decided already, or none of our business; then what happens to the
    /// first packet of a TCP connection, and to all others.
    fn decided(&self, asking: Option<&str>, opening: &str, others: &str) -> String {
        let mask = self.marks.bits();
        let blocked = self.marks.blocked();
        let devices = quoted(&self.devices);
        let drop = counted(Counted::DroppedBlocked, "drop");
        let other = if self.frees_others { "goto others" } else { "accept" };
        // The drop comes before the interfaces: what is blocked stays so when an interface is no
        // longer inspected. Fragments are reassembled before this hook, so it has them too.
        let mut text = format!(
            "\t\tmeta l4proto != {{ tcp, udp }} accept\n\
             \t\tct mark & {mask:#010x} == {blocked:#010x} {drop}\n\
             \t\tiifname != {{ {devices} }} {other}\n\
             \t\toifname != {{ {devices} }} {other}\n"
        );
        if !self.ignored.is_empty() {
            text.push_str(&self.ignored.nft("ignored"));
        }
        if !self.closed.is_empty() {
            let closed = quoted(&self.closed);
            for way in ["iifname", "oifname"] {
                let _ = writeln!(text, "\t\t{way} {{ {closed} }} goto closed");
            }
        }
        text.push_str(&self.tail(asking, opening, others));
        text
    }

    /// The rules for connections that go through a queue until they are decided.
    fn tail(&self, asking: Option<&str>, opening: &str, others: &str) -> String {
        let mask = self.marks.bits();
        let (trusted, undecided) = (self.marks.trusted(), self.marks.undecided());
        let blocked = self.marks.blocked();
        // Programs drop what is blocked: such a mark on a packet is the one of what is asked.
        let asked = asking.map_or_else(String::new, |chain| {
            format!("\t\tmeta mark & {mask:#010x} == {blocked:#010x} goto {chain}\n")
        });
        let pass = counted(Counted::PassedTrusted, "accept");
        let pass_undecided = counted(Counted::PassedUndecided, "accept");
        format!(
            "\t\ttcp flags & (fin | syn | rst | ack) == syn {opening}\n\
             {asked}\
             \t\tct mark & {mask:#010x} == {trusted:#010x} {pass}\n\
             \t\tct mark & {mask:#010x} == {undecided:#010x} {pass_undecided}\n\
             \t\t{others}\n"
        )
    }

    /// For packets that come back from their queue. What is let pass keeps the value without the
    /// bit of an answer, as if the fast path had marked it.
    fn answered(&self, text: &mut String) {
        let (mask, answered) = (self.marks.bits(), self.marks.answered());
        let rule = |value: u32, end: &str| {
            format!(
                "\t\tmeta mark & {mask:#010x} == {:#010x} \
                 ct mark set ct mark & {:#010x} | {value:#010x} {end}\n",
                answered | value,
                !mask
            )
        };
        let pass = format!("meta mark set meta mark & {:#010x} accept", !answered);
        let drop = counted(Counted::DroppedVerdict, "drop");
        let _ = writeln!(
            text,
            "\tchain answered {{\n{}{}{}\t}}",
            rule(self.marks.trusted(), &pass),
            rule(self.marks.undecided(), &pass),
            rule(self.marks.blocked(), &drop)
        );
    }

    fn nft_queue(&self) -> String {
        let queue = nft_queue(self.first, self.last, self.policy_open);
        self.before_queue(self.policy_open) + &queue
    }

    fn nft_closed_queue(&self) -> Option<String> {
        let queues = self.closed_queues()?;
        Some(self.before_queue(false) + &nft_queue(*queues.start(), *queues.end(), false))
    }
}

/// Numbers before flags: the order that every nft since 0.9 reads.
fn nft_queue(first: u16, last: u16, bypass: bool) -> String {
    let mut rule = format!("counter queue num {first}");
    if last != first {
        let _ = write!(rule, "-{last}");
    }
    if bypass {
        rule.push_str(" bypass");
    }
    let _ = write!(rule, " comment \"{}\"", Counted::Queued.name());
    rule
}

/// Names for a set.
pub(super) fn quoted(names: &[Box<str>]) -> String {
    let mut text = String::new();
    for name in names {
        let comma = if text.is_empty() { "" } else { ", " };
        let _ = write!(text, "{comma}\"{name}\"");
    }
    text
}

/// A rule's action, counted under the name that the agent reads it by.
pub(super) fn counted(counted: Counted, action: &str) -> String {
    format!("counter {action} comment \"{}\"", counted.name())
}

/// The rule for packets that the fast path marked: most of them, so they meet this one of `inspect` and
/// none of the sets. The fast path marks no first packet of a connection, but others can, such as
/// who restores connection marks without a mask: that packet goes the usual way.
///
/// The flags of TCP are read without asking whether it is TCP, which would cost every packet as much
/// as the rule itself. A datagram of UDP that has the same bits there goes the usual way too, and
/// leaves it by the mark of its connection.
fn vetted(marks: MarkMask) -> String {
    // SYN of FIN, SYN, RST and ACK, in the byte at 13.
    let opens_not = "@th,104,8 & 0x17 != 0x02";
    let (mask, trusted) = (marks.bits(), marks.trusted());
    let pass = counted(Counted::PassedTrusted, "accept");
    format!("\t\tmeta mark & {mask:#010x} == {trusted:#010x} {opens_not} {pass}\n")
}

#[cfg(test)]
mod tests {
    use super::super::tests::sample;
    use super::*;

    #[test]
    fn the_table_is_written_as_expected() {
        #[rustfmt::skip]
        let expected = r#"add table inet sluice
flush table inet sluice
table inet sluice {
	chain opening {
		ct mark & 0x07000000 != 0x00000000 ct mark set ct mark & 0xf8ffffff
		meta mark & 0x07000000 != 0x00000000 meta mark set meta mark & 0xf8ffffff
		counter queue num 5-8 bypass comment "queued"
	}
	chain asking {
		meta mark set meta mark & 0xf8ffffff
		counter queue num 5-8 bypass comment "queued"
	}
	chain unattended {
		meta mark set meta mark & 0xf8ffffff
		meta l4proto != { tcp, udp } accept
		ct mark & 0x07000000 == 0x02000000 counter drop comment "dropped_blocked"
		iifname != { "br-lan", "wan" } accept
		oifname != { "br-lan", "wan" } accept
		tcp flags & (fin | syn | rst | ack) == syn ct mark set ct mark & 0xf8ffffff counter accept comment "unattended"
		ct mark & 0x07000000 == 0x01000000 counter accept comment "passed_trusted"
		ct mark & 0x07000000 == 0x03000000 counter accept comment "passed_undecided"
		counter accept comment "unattended"
	}
	chain answered {
		meta mark & 0x07000000 == 0x05000000 ct mark set ct mark & 0xf8ffffff | 0x01000000 meta mark set meta mark & 0xfbffffff accept
		meta mark & 0x07000000 == 0x07000000 ct mark set ct mark & 0xf8ffffff | 0x03000000 meta mark set meta mark & 0xfbffffff accept
		meta mark & 0x07000000 == 0x06000000 ct mark set ct mark & 0xf8ffffff | 0x02000000 counter drop comment "dropped_verdict"
	}
	chain inspect {
		type filter hook forward priority filter - 10; policy accept;
		meta mark & 0x07000000 == 0x01000000 @th,104,8 & 0x17 != 0x02 counter accept comment "passed_trusted"
		meta mark & 0x04000000 != 0x00000000 jump answered
		meta mark & 0x07000000 == 0x03000000 goto unattended
		meta l4proto != { tcp, udp } accept
		ct mark & 0x07000000 == 0x02000000 counter drop comment "dropped_blocked"
		iifname != { "br-lan", "wan" } accept
		oifname != { "br-lan", "wan" } accept
		tcp flags & (fin | syn | rst | ack) == syn goto opening
		meta mark & 0x07000000 == 0x02000000 goto asking
		ct mark & 0x07000000 == 0x01000000 counter accept comment "passed_trusted"
		ct mark & 0x07000000 == 0x03000000 counter accept comment "passed_undecided"
		counter queue num 5-8 bypass comment "queued"
	}
}
"#;
        assert_eq!(sample(4, true).nft(Replace::Flush), expected);
    }

    #[test]
    fn connections_of_other_devices_are_marked_for_the_flowtable_where_that_is_wanted() {
        let text = sample(1, true).freeing_others(true).nft(Replace::Flush);
        let chain = "\tchain others {\n\t\tct mark & 0x07000000 == 0x00000000 \
                     ct mark set ct mark & 0xf8ffffff | 0x01000000\n\t}\n";
        let others = text.find(chain);
        assert!(others < text.find("\tchain inspect"), "a chain is there before what goes to it");
        assert!(others.is_some());
        for way in ["iifname", "oifname"] {
            let rule = format!("\t\t{way} != {{ \"br-lan\", \"wan\" }} goto others\n");
            assert!(text.contains(&rule), "{text}");
        }
    }

    #[test]
    fn what_a_closed_device_takes_part_in_has_queues_without_bypass() {
        let rules = sample(2, true).closing(|device| device == "wan").unwrap();
        assert_eq!(rules.closed_queues(), Some(7..=8));
        let text = rules.nft(Replace::Flush);
        for way in ["iifname", "oifname"] {
            let rule = format!("\t\t{way} {{ \"wan\" }} goto closed\n");
            assert_eq!(text.matches(&rule).count(), 2, "attended or not: {text}");
        }
        assert_eq!(text.matches("queue num 7-8 comment").count(), 3, "{text}");
        assert_eq!(text.matches("queue num 5-6 bypass comment").count(), 3, "{text}");
        let all = sample(2, true).closing(|_| true).unwrap();
        assert_eq!((all.policy_open(), all.closed_queues()), (false, None));
        assert_eq!(all, sample(2, false));
        assert_eq!(sample(2, false).closing(|_| false).unwrap(), sample(2, true));
    }

    #[test]
    fn one_queue_has_no_range_and_a_closed_policy_no_bypass() {
        let text = sample(1, false).nft(Replace::Delete);
        assert!(text.starts_with("add table inet sluice\ndelete table inet sluice\ntable "));
        assert_eq!(text.matches("\t\tcounter queue num 5 comment \"queued\"\n").count(), 3);
    }
}

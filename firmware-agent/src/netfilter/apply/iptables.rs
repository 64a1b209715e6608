//! The way for kernels whose nftables has no queue: `iptables-nft`, whose targets come from
//! `xtables`.
//!
//! Our chains stand in tables that others use too, so they are told by their names. `iptables-nft`
//! makes a table with an empty `FORWARD` where there was none, and that stays after removal.

use std::path::Path;

use super::command::Tool;
use super::{ApplyError, Backend, Count, Kind, add};
use crate::config::{Mac, MarkMask};
use crate::netfilter::rules::{Counted, IPTABLES_JUMP, IPTABLES_TABLE, Ruleset, removal};

/// Both families have the same text and different tools.
struct Family {
    list: Tool,
    restore: Tool,
}

const fn tool(program: &'static str) -> Tool {
    Tool { program, package: "iptables-nft (Debian: iptables)" }
}

const V4: Family = Family { list: tool("iptables-nft"), restore: tool("iptables-nft-restore") };
const V6: Family = Family { list: tool("ip6tables-nft"), restore: tool("ip6tables-nft-restore") };

/// The families that this kernel has.
fn families() -> impl Iterator<Item = &'static Family> {
    // Missing when IPv6 is switched off or not built in.
    let has_v6 = Path::new("/proc/thread-self/net/if_inet6").exists();
    [&V4, &V6].into_iter().take(if has_v6 { 2 } else { 1 })
}

/// `iptables-nft-restore --noflush`.
#[derive(Debug, Default)]
pub struct Iptables {
    /// How the kernel shows the rules that were applied last.
    listing: Option<String>,
}

impl Iptables {
    /// Nothing applied yet.
    #[must_use]
    pub const fn new() -> Self {
        Self { listing: None }
    }

    /// Asks the kernel whether it takes the rules that matter: a chain of our own comes and goes in
    /// one transaction.
    pub(super) fn probe() -> Result<(), ApplyError> {
        let text = "*mangle\n\
                    :SLUICE_PROBE - [0:0]\n\
                    -A SLUICE_PROBE -m mark --mark 1/3 -m connmark --mark 1/3 \
                    -j CONNMARK --set-xmark 2/3\n\
                    -A SLUICE_PROBE -j NFQUEUE --queue-num 0 --queue-bypass\n\
                    -F SLUICE_PROBE\n\
                    -X SLUICE_PROBE\n\
                    COMMIT\n";
        V4.restore.run("queue packets", &["--noflush"], text).map(drop)
    }

    /// All that stands in the tables by our doing, family by family.
    fn list() -> Result<String, ApplyError> {
        let mut listing = String::new();
        for family in families() {
            let text = family.list.run("list the rules", &["-t", IPTABLES_TABLE, "-S"], "")?;
            listing.push_str(&ours(&text));
        }
        Ok(listing)
    }
}

impl Backend for Iptables {
    fn kind(&self) -> Kind {
        Kind::Iptables
    }

    fn apply(&mut self, rules: &Ruleset) -> Result<(), ApplyError> {
        self.listing = None;
        for family in families() {
            let text = rules.iptables(jumps(family)?);
            if let Err(error) = family.restore.run("apply the rules", &["--noflush"], &text) {
                // Half of them would be worse than none; the first error is the one to tell.
                let _second = self.remove();
                return Err(error);
            }
        }
        self.listing = Some(Self::list()?);
        Ok(())
    }

    fn remove(&mut self) -> Result<(), ApplyError> {
        self.listing = None;
        for family in families() {
            let text = removal(jumps(family)?);
            family.restore.run("remove the rules", &["--noflush"], &text)?;
        }
        Ok(())
    }

    fn is_applied(&self) -> Result<bool, ApplyError> {
        let Some(applied) = &self.listing else { return Ok(false) };
        Ok(Self::list()? == *applied)
    }

    fn copies_dns(&self) -> Result<(), String> {
        Err(format!("rules of {} copy nothing", Kind::Iptables.name()))
    }

    /// No device has a share here.
    fn greedy(&self) -> Result<Vec<Mac>, ApplyError> {
        Ok(Vec::new())
    }

    fn counters(&self) -> Result<Vec<Count>, ApplyError> {
        let mut counts = Vec::new();
        for family in families() {
            let args = ["-t", IPTABLES_TABLE, "-v", "-S"];
            let text = family.list.run("read the counters", &args, "")?;
            for count in text.lines().filter_map(count) {
                add(&mut counts, count);
            }
        }
        Ok(counts)
    }
}

/// Puts a rule first that lets pass what would be queued; it goes when the rules are applied anew.
pub(super) fn stand_aside(marks: MarkMask) -> Result<(), ApplyError> {
    let (undecided, mask) = (marks.undecided(), marks.bits());
    let text = format!(
        "*mangle\n-I SLUICE_INSPECT 1 -j MARK --set-xmark {undecided:#x}/{mask:#x}\nCOMMIT\n"
    );
    for family in families() {
        family.restore.run("let packets pass", &["--noflush"], &text)?;
    }
    Ok(())
}

/// Whether `FORWARD` jumps to our chain.
fn jumps(family: &Family) -> Result<bool, ApplyError> {
    let args = ["-t", IPTABLES_TABLE, "-S", "FORWARD"];
    let text = family.list.run("list the rules", &args, "")?;
    Ok(text.lines().any(|line| line.strip_prefix("-A FORWARD -j ") == Some(IPTABLES_JUMP)))
}

/// The lines of the table that are ours, and whether our jump comes first in `FORWARD`: a rule before
/// it that accepts would hide packets from us.
fn ours(listing: &str) -> String {
    let mut ours = String::new();
    for line in listing.lines().filter(|line| line.contains(" SLUICE_")) {
        ours.push_str(line);
        ours.push('\n');
    }
    let first = listing.lines().find_map(|line| line.strip_prefix("-A FORWARD "));
    if first.and_then(|rule| rule.strip_prefix("-j ")) != Some(IPTABLES_JUMP) {
        ours.push_str("something stands before it\n");
    }
    ours
}

/// The counter of a line like `-A SLUICE_BLOCK -c 3 180 -j DROP`, by its chain, match and target.
fn count(line: &str) -> Option<Count> {
    let (chain, rule) = line.strip_prefix("-A SLUICE_")?.split_once(' ')?;
    let (matches, target) = rule.rsplit_once(" -j ").or_else(|| rule.split_once("-j "))?;
    let counted = match (chain, target.split(' ').next()?) {
        (_, "NFQUEUE") => Counted::Queued,
        ("INSPECT", "DROP") => Counted::DroppedBlocked,
        ("BLOCK", "DROP") => Counted::DroppedVerdict,
        ("FLOW" | "OPENING", "RETURN") if matches.contains("-m mark ") => Counted::Unattended,
        ("IGNORED", "RETURN") => Counted::Ignored,
        ("INSPECT" | "FLOW" | "FLOW_CLOSED", "RETURN") => passed(matches)?,
        _ => return None,
    };
    let (_, figures) = rule.split_once("-c ")?;
    let mut words = figures.split(' ');
    let packets = words.next()?.parse().ok()?;
    let bytes = words.next()?.parse().ok()?;
    Some(Count { counted, packets, bytes })
}

/// Trusted is the mask's lowest bit, undecided its two lowest.
fn passed(matches: &str) -> Option<Counted> {
    let (_, rest) = matches.split_once("--mark ")?;
    let (value, mask) = rest.split(' ').next()?.split_once('/')?;
    let number = |text: &str| u32::from_str_radix(text.strip_prefix("0x")?, 16).ok();
    let (value, mask) = (number(value)?, number(mask)?);
    Some(if value == mask & mask.wrapping_neg() {
        Counted::PassedTrusted
    } else {
        Counted::PassedUndecided
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_told_by_chain_match_and_target() {
        let lines = "-P FORWARD ACCEPT
-A FORWARD -c 9 900 -j SLUICE_INSPECT
-A SLUICE_INSPECT -p tcp -m connmark --mark 0x2000000/0x7000000 -c 1 10 -j DROP
-A SLUICE_INSPECT -i lan -c 5 50 -g SLUICE_BETWEEN
-A SLUICE_INSPECT -p tcp -m mark --mark 0x1000000/0x7000000 -m tcp ! --tcp-flags FIN,SYN,RST,ACK SYN -c 9 90 -j RETURN
-A SLUICE_FLOW -m connmark --mark 0x1000000/0x7000000 -c 2 20 -j RETURN
-A SLUICE_FLOW -m connmark --mark 0x3000000/0x7000000 -c 3 30 -j RETURN
-A SLUICE_FLOW -m mark --mark 0x3000000/0x7000000 -c 5 50 -j RETURN
-A SLUICE_OPENING -m mark --mark 0x3000000/0x7000000 -c 1 10 -j RETURN
-A SLUICE_IGNORED -c 1 10 -j RETURN
-A SLUICE_FLOW -p udp -c 4 40 -j NFQUEUE --queue-balance 5:8 --queue-bypass
-A SLUICE_OPENING -c 8 80 -j CONNMARK --set-xmark 0x0/0x7000000
-A SLUICE_OPENING -c 6 60 -j NFQUEUE --queue-num 5
-A SLUICE_BLOCK -c 7 70 -j DROP
-A OTHER -c 7 70 -j DROP";
        let counts: Vec<_> = lines.lines().filter_map(count).collect();
        let count = |counted, packets: u64| Count { counted, packets, bytes: packets * 10 };
        assert_eq!(
            counts,
            [
                count(Counted::DroppedBlocked, 1),
                count(Counted::PassedTrusted, 9),
                count(Counted::PassedTrusted, 2),
                count(Counted::PassedUndecided, 3),
                count(Counted::Unattended, 5),
                count(Counted::Unattended, 1),
                count(Counted::Ignored, 1),
                count(Counted::Queued, 4),
                count(Counted::Queued, 6),
                count(Counted::DroppedVerdict, 7)
            ]
        );
    }

    #[test]
    fn a_rule_before_ours_and_a_missing_rule_show_in_the_listing() {
        let listing = "-P FORWARD ACCEPT\n-N SLUICE_INSPECT\n-A FORWARD -j SLUICE_INSPECT\n\
                       -A FORWARD -j OTHER\n-A SLUICE_INSPECT -j SLUICE_BLOCK\n";
        let good = ours(listing);
        assert_eq!(good.lines().count(), 3);
        let before =
            listing.replace("-A FORWARD -j SLUICE", "-A FORWARD -j ACCEPT\n-A FORWARD -j SLUICE");
        assert_ne!(ours(&before), good);
        let after = format!("{listing}-A FORWARD -j ACCEPT\n");
        assert_eq!(ours(&after), good);
        let missing = listing.replace("-A SLUICE_INSPECT -j SLUICE_BLOCK\n", "");
        assert_ne!(ours(&missing), good);
    }
}

//! The table as text for `nft -f -`: its sets, its chains, what a packet meets in which order. Pure.
//!
//! No element stands in it. A tool that reads an element reads all that are there, 1.5 KiB of its own
//! memory for each (nft 1.0.6, 100,000 ranges): [`super::elements`] gives them to the kernel.

use std::fmt::Write as _;

use sluice_abi::attach::Role;
use sluice_abi::reason::DropReason;

use super::{Guarded, TABLE};

/// What the shield drops here, in the order in which it is asked: who is blocked for a time, by
/// address and by prefix, then who is on a list.
pub(super) const REASONS: [DropReason; 3] =
    [DropReason::Address, DropReason::Prefix, DropReason::Listed];

/// The two families: the digit in names of sets, their type, and how rules call the protocol.
pub(super) const FAMILIES: [(&str, &str, &str); 2] =
    [("4", "ipv4_addr", "ip"), ("6", "ipv6_addr", "ip6")];

/// Sets that are replaced as a whole: each time they get another number.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Kind {
    /// What lists block.
    Listed,
    /// What none of them blocks in this role.
    Allowed(Role),
}

impl Kind {
    pub(super) const ALL: [Self; 3] =
        [Self::Listed, Self::Allowed(Role::Wan), Self::Allowed(Role::Lan)];

    /// The name of one of its sets.
    pub(super) fn set(self, family: &str, number: u32) -> String {
        let kind = match self {
            Self::Listed => "listed",
            Self::Allowed(Role::Wan) => "allowed_wan",
            Self::Allowed(Role::Lan) => "allowed_lan",
        };
        format!("{kind}{family}_{number}")
    }
}

/// Sets of what is blocked for a time: single addresses, and ranges.
pub(super) const LIVE: [&str; 2] = ["hosts", "nets"];

/// Makes the table and the sets whose elements end by themselves, where they are not there.
pub(super) fn base() -> String {
    let mut text = format!("add table inet {TABLE}\n");
    for (family, kind, _) in FAMILIES {
        for (live, flags) in LIVE.into_iter().zip(["timeout", "interval,timeout"]) {
            let set = format!("{live}{family}");
            let _ = writeln!(text, "add set inet {TABLE} {set} {{ type {kind}; flags {flags}; }}");
        }
    }
    text
}

/// Makes sets that nobody asks yet.
pub(super) fn stage(kinds: &[Kind], number: u32) -> String {
    let mut text = base();
    for kind in kinds {
        for (family, of, _) in FAMILIES {
            let set = kind.set(family, number);
            let _ = writeln!(text, "add set inet {TABLE} {set} {{ type {of}; flags interval; }}");
        }
    }
    text
}

/// Takes sets away that nobody asks.
pub(super) fn discard(names: &[String]) -> String {
    let mut text = String::new();
    for name in names {
        let _ = writeln!(text, "delete set inet {TABLE} {name}");
    }
    text
}

/// What the chains should be.
pub(super) struct Chains<'a> {
    pub(super) guarded: &'a [Guarded],
    /// Numbers of the sets that are asked: of lists, and of what is allowed, 0 where nothing is.
    pub(super) numbers: (u32, u32),
    /// Slots whose chains are there already. Their counters go on; without any all rules go first.
    pub(super) known: &'a [u32],
    /// Sets that nobody asks then.
    pub(super) stale: &'a [String],
}

impl Chains<'_> {
    /// Puts the chains in force and takes stale sets away: one transaction, so that each packet
    /// meets the rules and sets of before or those of now.
    pub(super) fn text(&self) -> String {
        let mut text = base();
        if self.known.is_empty() {
            let _ = writeln!(text, "flush table inet {TABLE}");
        }
        let _ = writeln!(
            text,
            "add chain inet {TABLE} shield \
             {{ type filter hook prerouting priority raw; policy accept; }}\n\
             flush chain inet {TABLE} shield"
        );
        for slot in self.known {
            let _ = writeln!(text, "flush chain inet {TABLE} at_{slot}");
        }
        for Guarded { slot, device, role } in self.guarded {
            if !self.known.contains(slot) {
                Self::counting(&mut text, *slot);
            }
            self.asking(&mut text, *slot, *role);
            let _ =
                writeln!(text, "add rule inet {TABLE} shield iifname \"{device}\" goto at_{slot}");
        }
        text + &discard(self.stale)
    }

    /// Chains that count and drop, which stay as they are while others are replaced.
    fn counting(text: &mut String, slot: u32) {
        let _ = writeln!(text, "add chain inet {TABLE} at_{slot}");
        for reason in REASONS.map(DropReason::name) {
            let _ = writeln!(
                text,
                "add chain inet {TABLE} {reason}_{slot}\n\
                 flush chain inet {TABLE} {reason}_{slot}\n\
                 add rule inet {TABLE} {reason}_{slot} counter drop"
            );
        }
    }

    /// What a packet of an interface is asked: towards the provider for its source, towards the
    /// household for its destination.
    fn asking(&self, text: &mut String, slot: u32, role: Role) {
        let side = match role {
            Role::Wan => "saddr",
            Role::Lan => "daddr",
        };
        let (listed, allowed) = self.numbers;
        for (family, _, ip) in FAMILIES {
            let mut ask = |set: &str, verdict: &str| {
                let _ =
                    writeln!(text, "add rule inet {TABLE} at_{slot} {ip} {side} @{set} {verdict}");
            };
            if allowed != 0 {
                ask(&Kind::Allowed(role).set(family, allowed), "return");
            }
            let live = LIVE.map(|live| format!("{live}{family}"));
            let sets = live.into_iter().chain([Kind::Listed.set(family, listed)]);
            for (set, reason) in sets.zip(REASONS) {
                ask(&set, &format!("goto {}_{slot}", reason.name()));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guarded() -> [Guarded; 2] {
        let one = |slot, device: &str, role| Guarded { slot, device: device.into(), role };
        [one(0, "eth0", Role::Wan), one(2, "br-lan", Role::Lan)]
    }

    #[test]
    fn what_is_allowed_is_asked_first_and_each_role_for_its_side() {
        let chains = Chains {
            guarded: &guarded(),
            numbers: (7, 3),
            known: &[],
            stale: &["listed4_6".into()],
        };
        let text = chains.text();
        let rules: Vec<&str> = text
            .lines()
            .filter_map(|line| line.strip_prefix("add rule inet sluice_shield at_"))
            .collect();
        let family = |rule: &&str| rule.contains(" ip ");
        let wan: Vec<_> = rules.iter().copied().filter(|rule| rule.starts_with("0 ")).collect();
        assert_eq!(
            wan.iter().copied().filter(family).collect::<Vec<_>>(),
            [
                "0 ip saddr @allowed_wan4_3 return",
                "0 ip saddr @hosts4 goto address_0",
                "0 ip saddr @nets4 goto prefix_0",
                "0 ip saddr @listed4_7 goto listed_0",
            ]
        );
        assert_eq!(wan.len(), 8, "the same for IPv6");
        let lan: Vec<_> = rules.iter().filter(|rule| rule.starts_with("2 ")).collect();
        assert!(lan.iter().all(|rule| rule.contains("daddr") && !rule.contains("_wan")), "{lan:?}");
        assert!(text.contains("shield iifname \"br-lan\" goto at_2\n"), "{text}");
        assert!(text.contains("priority raw"), "before the firewall and conntrack");
        let none = Chains { numbers: (7, 0), ..chains };
        assert!(!none.text().contains("return"), "nothing is allowed");
        assert!(text.ends_with("delete set inet sluice_shield listed4_6\n"), "no rule has it then");
    }

    #[test]
    fn counters_go_on_when_rules_are_replaced() {
        let (guarded, stale) = (guarded(), []);
        let text =
            |known| Chains { guarded: &guarded, numbers: (7, 3), known, stale: &stale }.text();
        assert!(text(&[]).contains("flush table"), "rules of an earlier agent go");
        let again = text(&[0, 5]);
        assert!(!again.contains("flush table") && !again.contains("listed_0 counter"), "{again}");
        assert!(again.contains("flush chain inet sluice_shield at_5\n"), "nothing asks its sets");
        assert!(again.contains("listed_2 counter drop"), "a new one is counted");
        assert!(again.lines().all(|line| !line.contains("drop") || line.contains("counter drop")));
    }
}

//! Blocklists that only observe: what they would have blocked, and whose flows.
//!
//! Nothing of them is in the kernel. Who decides about a flow asks here for its far end.

use sluice_abi::attach::Role;
use sluice_abi::flow::Addr;

use super::ledger::{Hits, Ledger};
use crate::control::report::RuleDevice;
use crate::inspect::address_set::{AddressSet, Found};
use crate::plan::{ListPlan, Plan};
use crate::policy::Ends;

/// What is known about these lists.
#[derive(Debug, Default)]
pub(super) struct Observing {
    /// Their entries, by the number of the list.
    set: AddressSet,
    /// What allowlists lift, with the bits of the roles; only where there is something to lift.
    allowed: AddressSet,
    /// Names of all blocklists, by number.
    names: Vec<Box<str>>,
    /// What they would have done.
    ledger: Ledger,
}

impl Observing {
    /// Counts a flow that nothing blocks, if a list would have; says which, and by which entry.
    pub(super) fn look(&mut self, ends: &Ends, now_ns: u64) -> Option<Box<str>> {
        let found = self.listed(ends.peer).filter(|_| !self.is_lifted(ends.peer))?;
        let number = u32::from(found.number);
        self.ledger.observed(number, Some(ends), now_ns);
        let by = format!("blocklist {}: {}", self.names.get(number as usize)?, found.net);
        log::debug!("not blocked, a flow of {}: {by}", std::net::IpAddr::from(ends.device));
        Some(by.into())
    }

    /// The entry that has `addr`, whether it is lifted or not.
    pub(super) fn listed(&self, addr: Addr) -> Option<Found> {
        self.set.lowest(addr)
    }

    /// Whether no shield would drop packets of a flow to `addr`. Those that go there come in on the
    /// LAN, the answers on the WAN, so it has to be lifted in both places.
    fn is_lifted(&self, addr: Addr) -> bool {
        let both = Role::Lan.bit() | Role::Wan.bit();
        self.allowed.longest(addr).is_some_and(|found| u32::from(found.number) & both == both)
    }

    /// Bytes that a change to `plan` needs at most, beside those that are in use until it is done.
    pub(super) fn bytes_max(plan: &Plan) -> u64 {
        if !plan.lists.iter().any(|list| list.observes) {
            return 0;
        }
        let (v4, v6) = room(plan);
        let allowed_v4 = plan.allowed.iter().filter(|(net, _)| net.is_v4()).count() as u64;
        let allowed_v6 = plan.allowed.len() as u64 - allowed_v4;
        AddressSet::bytes_max(v4, v6) + AddressSet::bytes_max(allowed_v4, allowed_v6)
    }

    /// Bytes in use.
    pub(super) const fn bytes(&self) -> u64 {
        self.set.bytes() + self.allowed.bytes()
    }

    /// A set with room for the entries of `plan`.
    pub(super) fn empty_set(plan: &Plan) -> AddressSet {
        let (v4, v6) = room(plan);
        AddressSet::with_capacity(v4 as usize, v6 as usize)
    }

    /// Takes the entries of `plan`, and what lifts them. What was counted stays with the names.
    pub(super) fn set(&mut self, set: AddressSet, plan: &Plan) {
        self.set = set;
        self.allow(plan);
        let names = plan.lists.iter().map(|list| &*list.name);
        self.ledger.renumber(self.names.iter().map(|name| &**name), names);
        self.names = plan.lists.iter().map(|list| list.name.clone()).collect();
    }

    /// Takes what lifts entries.
    pub(super) fn allow(&mut self, plan: &Plan) {
        let is_needed = !self.set.is_empty();
        let allowed = plan.allowed.iter().filter(|_| is_needed);
        self.allowed = AddressSet::united(allowed.map(|(net, roles)| (*net, *roles as u8)));
    }

    /// What the list `number` would have done.
    pub(super) fn hits(&self, number: u32) -> Hits {
        self.ledger.hits(number)
    }

    /// Whose flows it would have blocked.
    pub(super) fn devices(&self, number: u32) -> Vec<RuleDevice> {
        self.ledger.devices(number)
    }
}

/// Entries of IPv4 and IPv6 of the lists that observe.
fn room(plan: &Plan) -> (u64, u64) {
    let lists = plan.lists.iter().filter(|list| list.observes);
    lists.map(ListPlan::counts).fold((0, 0), |(v4, v6), counts| {
        let all = u64::from(counts.sum());
        (v4 + u64::from(counts.v4), v6 + all - u64::from(counts.v4))
    })
}

/// Why lists that observe count nothing, or not everything.
pub(super) fn uncounted(plan: &Plan, is_inspecting: bool) -> Vec<String> {
    let names: Vec<&str> =
        plan.lists.iter().filter(|list| list.observes).map(|list| &*list.name).collect();
    if names.is_empty() {
        return Vec::new();
    }
    let names = names.join(", ");
    if !is_inspecting {
        return vec![format!("blocklists that observe count nothing: {names}")];
    }
    let interfaces = plan.dataplane.interfaces.iter();
    interfaces
        .filter(|interface| plan.ruleset.devices().all(|device| device != interface.device))
        .map(|interface| {
            let name = &interface.name;
            format!("blocklists that observe count no flow of {name} (option inspect): {names}")
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use sluice_abi::flow::FlowKey;

    use super::*;
    use crate::config::Config;
    use crate::policy::Path;

    fn plan(text: &str) -> Plan {
        let text = format!(
            "config interface a\noption device a\noption role wan\n\
             config interface b\noption device b\noption role lan\n{text}"
        );
        let (config, _) = Config::parse(text.as_bytes(), "f").unwrap();
        Plan::new(&config, 0).unwrap()
    }

    fn observing(plan: &Plan) -> Observing {
        let mut observing = Observing::default();
        take(&mut observing, plan);
        observing
    }

    fn take(observing: &mut Observing, plan: &Plan) {
        let mut set = Observing::empty_set(plan);
        for (number, list) in (0..).zip(&plan.lists).filter(|(_, list)| list.observes) {
            for net in &list.entries {
                set.push(net, number);
            }
        }
        observing.set(set.finish(), plan);
        assert!(observing.bytes() <= Observing::bytes_max(plan));
    }

    fn ends(peer: &str) -> Ends {
        let [device, peer] =
            ["192.168.1.9", peer].map(|text| text.parse::<IpAddr>().unwrap().into());
        let (key, direction) = FlowKey::new(device, peer, 1, 2, 6);
        Ends::new(&key, direction, direction, &Path::default())
    }

    /// R46: only what is allowed on interfaces of both roles would pass.
    #[test]
    fn what_is_allowed_on_both_sides_would_not_be_blocked() {
        let text = |roles: &str| {
            format!(
                "config blocklist bad\noption action observe\nlist entry 198.51.100.0/24\n\
                 config allowlist good\nlist entry 198.51.100.7\n{roles}"
            )
        };
        for (roles, is_lifted) in
            [("", true), ("list role lan\n", false), ("list role wan\n", false)]
        {
            let mut observing = observing(&plan(&text(roles)));
            let found = observing.look(&ends("198.51.100.7"), 1);
            assert_eq!(found.is_none(), is_lifted, "{roles}");
            assert_eq!(observing.hits(0).flows, u64::from(!is_lifted));
            let by = observing.look(&ends("198.51.100.8"), 1);
            assert_eq!(by.as_deref(), Some("blocklist bad: 198.51.100.0/24"));
        }
        // A shorter one, or one list for each role, does the same; the longest alone counts.
        let both = "list role lan\nconfig allowlist more\nlist role wan\nlist entry 198.51.100.7\n";
        assert_eq!(observing(&plan(&text(both))).look(&ends("198.51.100.7"), 1), None);
        let wider = "list role lan\nconfig allowlist more\nlist entry 198.51.0.0/16\n";
        assert!(observing(&plan(&text(wider))).look(&ends("198.51.100.7"), 1).is_some());
    }

    /// What was counted stays with the name of the list, whatever becomes of it.
    #[test]
    fn counts_stay_with_the_name_of_their_list() {
        let bad = |action: &str| {
            format!("config blocklist bad\noption action {action}\nlist entry 198.51.100.7\n")
        };
        let first = plan(&bad("observe"));
        let mut observing = observing(&first);
        assert!(observing.look(&ends("198.51.100.7"), 5).is_some());
        assert_eq!((observing.hits(0).flows, observing.devices(0).len()), (1, 1));
        // The list blocks, and another stands before it.
        let other = "config blocklist other\noption action observe\nlist entry 198.51.100.9\n";
        take(&mut observing, &plan(&format!("{other}{}", bad("block"))));
        assert_eq!(observing.look(&ends("198.51.100.7"), 6), None);
        assert_eq!((observing.hits(0).flows, observing.hits(1).flows), (0, 1));
        take(&mut observing, &first);
        assert!(observing.look(&ends("198.51.100.7"), 7).is_some());
        assert_eq!((observing.hits(0).flows, observing.hits(0).last_ns), (2, 7));
        take(&mut observing, &plan(""));
        assert_eq!(observing.look(&ends("198.51.100.7"), 8), None);
    }

    /// An observing list that cannot count says so.
    #[test]
    fn lists_that_cannot_count_are_named() {
        let with =
            |text: &str| plan(&format!("{text}config blocklist bad\nlist entry 198.51.100.7\n"));
        assert_eq!(uncounted(&with(""), false), [""; 0], "it blocks");
        let mut observing = with("");
        observing.lists[0].observes = true;
        assert_eq!(uncounted(&observing, true), [""; 0]);
        assert_eq!(uncounted(&observing, false), ["blocklists that observe count nothing: bad"]);
        let mut observing =
            with("config interface c\noption device c\noption role lan\noption inspect 0\n");
        observing.lists[0].observes = true;
        assert_eq!(
            uncounted(&observing, true),
            ["blocklists that observe count no flow of c (option inspect): bad"]
        );
    }
}

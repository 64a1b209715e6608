//! What applies to an address or a name, and where that stands.

use std::net::IpAddr;

use sluice_abi::attach::Role;
use sluice_abi::names::{LIST_AUTOMATIC, LIST_MANUAL};
use sluice_abi::verdict::{Reason, Verdict};

use super::report::ago;
use super::running::State;
use crate::config::Net;
use crate::control::report::{Cause, Flow, Why};
use crate::dataplane::table;
use crate::sys::clock;

impl State {
    /// What applies to an address or a domain.
    pub(super) fn why(&self, subject: &str) -> Result<Why, String> {
        match subject.parse::<IpAddr>() {
            Ok(address) => self.why_address(subject, address.to_canonical()),
            Err(_) => Ok(self.why_domain(subject)),
        }
    }

    fn why_address(&self, subject: &str, address: IpAddr) -> Result<Why, String> {
        let now_ns = clock::monotonic_ns();
        let mut causes = Vec::new();
        for (number, net) in self.dropping(address)? {
            let entry = net.map_or_else(|| self.list_entry(number, address), |net| net.to_string());
            causes.push(self.list_cause(number, entry, now_ns));
        }
        if let Some(found) = self.inspector.observing.listed(address.into()) {
            let number = found.number.into();
            let list = self.plan.lists.get(usize::from(found.number));
            causes.push(Cause {
                hook: "inspect".to_owned(),
                action: "observe".to_owned(),
                by: format!("blocklist {}", list.map_or("", |list| &*list.name)),
                entry: self.list_entry(number, address),
                packets: 0,
                last_s_ago: ago(now_ns, self.inspector.observing.hits(number).last_ns),
            });
        }
        let host = Net::host(address);
        for (net, roles) in self.plan.allowed.iter().filter(|(net, _)| net.contains(&host)) {
            let named = [Role::Lan, Role::Wan]
                .into_iter()
                .filter(|role| roles & role.bit() != 0)
                .map(Role::name);
            causes.push(Cause {
                hook: "xdp".to_owned(),
                action: "allow".to_owned(),
                by: format!("allowlist on {}", named.collect::<Vec<_>>().join(" and ")),
                entry: net.to_string(),
                packets: 0,
                last_s_ago: None,
            });
        }
        let flows = self
            .flows()
            .into_iter()
            .filter(|flow| {
                let nat = flow.nat_reply.iter().flat_map(|tuple| [tuple.src, tuple.dst]);
                [flow.tuple.src, flow.tuple.dst].into_iter().chain(nat).any(|end| end == address)
            })
            .collect();
        let device_name = self.device_name(address.into(), None);
        Ok(Why { subject: subject.to_owned(), device_name, causes, flows })
    }

    /// Numbers of the lists that drop an address, and the entry where the kernel knows it.
    fn dropping(&self, address: IpAddr) -> Result<Vec<(u32, Option<Net>)>, String> {
        let Some(dataplane) = &self.dataplane else { return Ok(Vec::new()) };
        let live = match &dataplane.blocklist {
            Some(list) => {
                list.lookup(address, clock::monotonic_s()).map_err(|error| error.chain())?
            }
            None => None,
        };
        let bulk = dataplane.bulk.as_ref().and_then(|bulk| bulk.lookup(address));
        let live = live.map(|found| (found.list, Some(found.net)));
        Ok(live.into_iter().chain(bulk.map(|number| (number, None))).collect())
    }

    /// The blocklist of the configuration that drops an address, unless an allowlist lifts it.
    pub(super) fn blocklist_of(&self, address: IpAddr) -> Option<&str> {
        let host = Net::host(address);
        if self.plan.allowed.iter().any(|(net, _)| net.contains(&host)) {
            return None;
        }
        let dropping = self.dropping(address).ok()?;
        let mut lists = dropping
            .iter()
            .filter_map(|(number, _)| self.plan.lists.get(usize::try_from(*number).ok()?));
        lists.next().map(|list| &*list.name)
    }

    /// The entry of the list with this number that has an address, and where it stands.
    fn list_entry(&self, number: u32, address: IpAddr) -> String {
        let list = self.plan.lists.get(number as usize);
        match list.and_then(|list| super::lists::find(list, address)) {
            Some((net, None)) => net.to_string(),
            Some((net, Some((file, line)))) => format!("{net}, {}:{line}", file.display()),
            None => "an entry that its files do not have any more".to_owned(),
        }
    }

    /// What the list with this number does to an address that its `entry` has.
    fn list_cause(&self, number: u32, entry: String, now_ns: u64) -> Cause {
        let hits = self.dataplane.as_ref().and_then(|dataplane| dataplane.hits.as_ref());
        let hits = hits.and_then(|hits| hits.of(number).ok()).unwrap_or_default();
        let name = match number {
            LIST_AUTOMATIC => Some("(automatic)".to_owned()),
            LIST_MANUAL => Some("(by hand)".to_owned()),
            number => self.plan.lists.get(number as usize).map(|list| list.name.to_string()),
        };
        Cause {
            hook: "xdp".to_owned(),
            action: "drop".to_owned(),
            by: format!("blocklist {}", name.unwrap_or_default()),
            entry,
            packets: hits.packets,
            last_s_ago: ago(now_ns, hits.last_ns),
        }
    }

    fn why_domain(&self, subject: &str) -> Why {
        let name = subject.trim_end_matches('.').to_ascii_lowercase();
        let flows: Vec<Flow> =
            self.flows().into_iter().filter(|flow| flow.name() == Some(name.as_str())).collect();
        // The rule comes first: it decides where there is one.
        let causes = self.rule_cause(&name).into_iter().chain(self.domain_cause(&name)).collect();
        Why { subject: subject.to_owned(), device_name: None, causes, flows }
    }

    /// What the rule that covers `name` does.
    fn rule_cause(&self, name: &str) -> Option<Cause> {
        let rules = &self.inspector.book.rules;
        let found = rules.of_name(name)?;
        let rule = self.inspector.rules.get(found.rule as usize);
        let is_block = found.action.is_blocking();
        Some(Cause {
            hook: "inspect".to_owned(),
            action: found.action.name().to_owned(),
            by: format!("rule {}", rule.map(|rule| rule.name.to_string()).unwrap_or_default()),
            entry: rules.text(found.entry),
            packets: if is_block { self.blocked_packets(name, Reason::DomainRule) } else { 0 },
            last_s_ago: None,
        })
    }

    /// What the domain list that has `name` does where no rule covers it.
    fn domain_cause(&self, name: &str) -> Option<Cause> {
        let found = self.inspector.book.lists.lookup(name)?;
        let list = self.inspector.domains.list(found.list)?;
        let mut places = list.files.iter();
        let place = places.find_map(|file| Some((&file.path, file.find(found.domain)?)));
        Some(Cause {
            hook: "inspect".to_owned(),
            action: if list.observes { "observe" } else { "block" }.to_owned(),
            by: format!("domainlist {}", list.name),
            entry: match place {
                Some((path, line)) => format!("{}, {}:{line}", found.domain, path.display()),
                None => format!("{}, which its files do not have any more", found.domain),
            },
            packets: self.blocked_packets(name, Reason::DomainList),
            last_s_ago: None,
        })
    }

    /// Packets of flows to `name` that are blocked for this reason.
    fn blocked_packets(&self, name: &str, reason: Reason) -> u64 {
        let records = self.inspector.table.iter().filter(|record| {
            let decision = &record.decision;
            decision.reason == reason
                && decision.verdict == Verdict::Blocked
                && decision.hello.as_ref().and_then(table::Hello::name) == Some(name)
        });
        records
            .map(|record| {
                let count = self.flow_map().and_then(|flows| flows.count(record.slot).ok());
                let sent = record.sent(&count.unwrap_or_default());
                sent.original_packets + sent.reply_packets
            })
            .sum()
    }
}

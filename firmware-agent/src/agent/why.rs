//! What applies to an address, a device, a flow or a name, and where that stands.

use std::net::{IpAddr, SocketAddr};

use sluice_abi::attach::Role;
use sluice_abi::flow::Addr;
use sluice_abi::names::{LIST_AUTOMATIC, LIST_MANUAL};
use sluice_abi::reason::Place;
use sluice_abi::verdict::{Reason, Verdict};

use super::ledger::Hits;
use super::report::ago;
use super::running::State;
use crate::config::{Device, Mac, Net, Rule};
use crate::control::report::{Cause, Flow, Tuple, Why};
use crate::control::subject::Subject;
use crate::dataplane::table::{self, Record};
use crate::dataplane::{Dataplane, InterfacePlan};
use crate::policy::grammar;
use crate::sys::clock;
use crate::text::plain;

impl State {
    /// What applies to a subject.
    pub(super) fn why(&self, text: &str) -> Result<Why, String> {
        let subject = text.parse().map_err(|why| format!("{} {why}", plain(text)))?;
        let device_name = match &subject {
            Subject::Address(address) => self.device_name((*address).into(), None),
            // No address: what all of its leases say.
            Subject::Device(mac) => self.device_name(Addr::default(), Some(*mac)),
            Subject::Flow(..) | Subject::Domain(_) => None,
        };
        let (causes, flows) = match subject {
            Subject::Address(address) => {
                let is_its = |flow: &Flow| {
                    tuples(flow).any(|tuple| [tuple.src, tuple.dst].contains(&address))
                };
                (self.address_causes(address)?, self.flows_that(is_its))
            }
            Subject::Device(mac) => (self.device_causes(mac), self.flows_of(mac)),
            Subject::Flow(one, other) => self.why_flow(one, other)?,
            Subject::Domain(name) => {
                let is_its = |flow: &Flow| flow.name() == Some(name.as_str());
                (self.name_causes(&name), self.flows_that(is_its))
            }
        };
        Ok(Why { subject: text.to_owned(), device_name, causes, flows })
    }

    fn flows_that(&self, wanted: impl Fn(&Flow) -> bool) -> Vec<Flow> {
        self.flows().into_iter().filter(wanted).collect()
    }

    fn address_causes(&self, address: IpAddr) -> Result<Vec<Cause>, String> {
        let now_ns = clock::monotonic_ns();
        let mut causes = Vec::new();
        for (number, net) in self.dropping(address)? {
            let entry = net.map_or_else(|| self.list_entry(number, address), |net| net.to_string());
            causes.push(self.list_cause(number, entry, now_ns));
        }
        if let Some(found) = self.inspector.observing.listed(address.into()) {
            let number = found.number.into();
            let list = self.plan.lists.get(usize::from(found.number));
            let by = format!("blocklist {}", list.map_or("", |list| &*list.name));
            let entry = self.list_entry(number, address);
            let hits = self.inspector.observing.hits(number);
            causes.push(Cause { by, entry, ..counted("observe", hits, now_ns) });
        }
        let host = Net::host(address);
        for (net, roles) in self.plan.allowed.iter().filter(|(net, _)| net.contains(&host)) {
            let named = [Role::Lan, Role::Wan]
                .into_iter()
                .filter(|role| roles & role.bit() != 0)
                .map(Role::name);
            causes.push(Cause {
                hook: self.shield_place(None).to_owned(),
                by: format!("allowlist on {}", named.collect::<Vec<_>>().join(" and ")),
                entry: net.to_string(),
                ..counted("allow", Hits::default(), now_ns)
            });
        }
        Ok(causes)
    }

    /// Rules that name a device, by itself or in a group, and what leaves it out of inspection.
    fn device_causes(&self, mac: Mac) -> Vec<Cause> {
        let now_ns = clock::monotonic_ns();
        let device = Device::Mac(mac);
        let groups = self.plan.groups.iter().filter(|group| group.devices.contains(&device));
        let groups: Vec<&String> = groups.map(|group| &group.name).collect();
        let names = |rule: &Rule| {
            rule.devices.contains(&device) || rule.groups.iter().any(|name| groups.contains(&name))
        };
        let rules = (0..).zip(&self.plan.rules).filter(|(_, rule)| names(rule));
        let is_ignored = self.plan.ruleset.ignores(mac);
        let ignored = is_ignored.then(|| Cause {
            hook: "netfilter".to_owned(),
            by: "section ignore".to_owned(),
            entry: mac.to_string(),
            ..counted("ignore", Hits::default(), now_ns)
        });
        let causes = rules.map(|(number, rule)| {
            let is_in_force = self.inspector.book.rules.is_in_force(number);
            let by = format!("rule {}{}", rule.name, if is_in_force { "" } else { ", not now" });
            let hits = self.inspector.ledger.hits(number);
            Cause { by, entry: grammar::print(rule), ..counted(rule.action.name(), hits, now_ns) }
        });
        ignored.into_iter().chain(causes).collect()
    }

    fn flows_of(&self, mac: Mac) -> Vec<Flow> {
        let now_ns = clock::monotonic_ns();
        let is_its = |record: &&Record| {
            record.decision.ends.as_ref().is_some_and(|ends| ends.mac == Some(mac))
        };
        let records = self.inspector.table.iter().filter(is_its);
        records.map(|record| self.flow(record, now_ns)).collect()
    }

    /// A flow by the ends of either direction, before translation or behind it; what applies to its
    /// name and to both of its addresses.
    fn why_flow(
        &self,
        one: SocketAddr,
        other: SocketAddr,
    ) -> Result<(Vec<Cause>, Vec<Flow>), String> {
        let is_its = |flow: &Flow| {
            tuples(flow).any(|tuple| {
                let from = SocketAddr::new(tuple.src, tuple.sport);
                let to = SocketAddr::new(tuple.dst, tuple.dport);
                [(from, to), (to, from)].contains(&(one, other))
            })
        };
        let flows = self.flows_that(is_its);
        let mut causes = Vec::new();
        for flow in flows.iter().filter_map(Flow::name) {
            causes.extend(self.name_causes(flow));
        }
        for end in [one, other] {
            causes.extend(self.address_causes(end.ip())?);
        }
        Ok((causes, flows))
    }

    /// Numbers of the lists that drop an address, and the entry where the kernel knows it.
    fn dropping(&self, address: IpAddr) -> Result<Vec<(u32, Option<Net>)>, String> {
        let knows = |dataplane: &&Dataplane| dataplane.blocklist.is_some();
        let Some(dataplane) = self.dataplane.as_ref().filter(knows) else {
            return Ok(self.dropping_in_sets(address));
        };
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
        // Of the last packet, where there was one.
        let interfaces = &self.plan.dataplane.interfaces;
        let interface = interfaces.iter().find(|one| one.slot == hits.slot && hits.packets != 0);
        let (device, peer) = match (known(hits.src), known(hits.dst)) {
            (src, dst) if interface.is_some_and(|one| one.role == Role::Lan) => (src, dst),
            (src, _) => (None, src),
        };
        Cause {
            hook: self.shield_place(interface.map(|one| &*one.name)).to_owned(),
            action: "drop".to_owned(),
            by: format!("blocklist {}", name.unwrap_or_default()),
            entry,
            packets: hits.packets,
            flows: 0,
            first_s_ago: ago(now_ns, hits.first_ns),
            last_s_ago: ago(now_ns, hits.last_ns),
            device,
            peer,
        }
    }

    /// Where the shield of an interface works; of none in particular, the best place of all.
    fn shield_place(&self, interface: Option<&str>) -> &'static str {
        let interfaces = self.plan.dataplane.interfaces.iter();
        let of = |one: &InterfacePlan| match &self.dataplane {
            _ if self.sets.guards(one.slot) => Some(Place::Nft),
            dataplane => dataplane.as_ref().map(|dataplane| dataplane.shield_place(&one.name)),
        };
        let places = interfaces.filter(|one| interface.is_none_or(|name| name == one.name));
        places.filter_map(of).min().unwrap_or(Place::Xdp).name()
    }

    /// What decides flows to a domain.
    fn name_causes(&self, name: &str) -> Vec<Cause> {
        // The rule comes first: it decides where there is one.
        self.rule_cause(name).into_iter().chain(self.domain_cause(name)).collect()
    }

    /// What the rule that covers `name` does.
    fn rule_cause(&self, name: &str) -> Option<Cause> {
        let rules = &self.inspector.book.rules;
        let found = rules.of_name(name)?;
        let rule = self.inspector.rules.get(found.rule as usize);
        let is_block = found.action.is_blocking();
        let hits = self.inspector.ledger.hits(found.rule);
        Some(Cause {
            by: format!("rule {}", rule.map(|rule| rule.name.to_string()).unwrap_or_default()),
            entry: rules.text(found.entry),
            packets: if is_block { self.blocked_packets(name, Reason::DomainRule) } else { 0 },
            ..counted(found.action.name(), hits, clock::monotonic_ns())
        })
    }

    /// What the domain list that has `name` does where no rule covers it.
    fn domain_cause(&self, name: &str) -> Option<Cause> {
        let found = self.inspector.book.lists.lookup(name)?;
        let list = self.inspector.domains.list(found.list)?;
        let mut places = list.files.iter();
        let place = places.find_map(|file| Some((&file.path, file.find(found.domain)?)));
        let action = if list.observes { "observe" } else { "block" };
        let hits = self.inspector.domains.hits(found.list);
        Some(Cause {
            by: format!("domainlist {}", list.name),
            entry: match place {
                Some((path, line)) => format!("{}, {}:{line}", found.domain, path.display()),
                None => format!("{}, which its files do not have any more", found.domain),
            },
            packets: self.blocked_packets(name, Reason::DomainList),
            ..counted(action, hits, clock::monotonic_ns())
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

/// What inspection did, of which it is still to be said by whom.
fn counted(action: &str, hits: Hits, now_ns: u64) -> Cause {
    let (device, peer) = hits.last.unzip();
    Cause {
        hook: "inspect".to_owned(),
        action: action.to_owned(),
        by: String::new(),
        entry: String::new(),
        packets: 0,
        flows: hits.flows,
        first_s_ago: ago(now_ns, hits.first_ns),
        last_s_ago: ago(now_ns, hits.last_ns),
        device: device.map(IpAddr::from),
        peer: peer.map(IpAddr::from),
    }
}

/// An address that a program noted; none is all zeroes.
fn known(address: Addr) -> Option<IpAddr> {
    (address != Addr::default()).then(|| address.into())
}

/// The ends of a flow, before translation and behind it.
fn tuples(flow: &Flow) -> impl Iterator<Item = Tuple> {
    [Some(flow.tuple), flow.nat_reply].into_iter().flatten()
}

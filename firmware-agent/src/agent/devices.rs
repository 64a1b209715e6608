//! Devices of the household, put together when somebody asks: of neighbours of the router, leases,
//! decided flows and the configuration.
//!
//! A device is its hardware address, so addresses that it makes up and gives up are its own all the same.
//! Where a flow has none (its link has no such, or its device has sent nothing yet), the neighbours say
//! whose address that is; where they do not, the flow is of no device.

use std::net::IpAddr;

use sluice_abi::flow::Addr;

use super::inspector::Inspector;
use super::running::State;
use super::tally::{DEVICES_MAX, Part, owner};
use crate::config::{Device as Named, Group, Mac, Net, Rule, RuleAction};
use crate::control::devices::{Device, DevicePage, DeviceRule};
use crate::control::page;
use crate::names::Client;
use crate::sys::clock;
use crate::sys::rtnetlink::{self, Neighbour};

/// Addresses of a device that are told; the others are counted.
const ADDRESSES_MAX: usize = 16;

/// What is known of who there is, in the order of their hardware addresses.
#[derive(Debug, Default)]
struct Known(Vec<One>);

/// What is known of one.
#[derive(Debug)]
struct One {
    mac: Mac,
    part: Part,
    /// When each address was last used, by the clock of the counters; 0 where nobody knows.
    addresses: Vec<(u64, IpAddr)>,
    /// Number of its interface.
    zone: Option<u8>,
}

impl Known {
    fn of(&mut self, mac: Mac) -> &mut One {
        let at = match self.0.binary_search_by_key(&mac, |one| one.mac) {
            Ok(at) => at,
            Err(at) => {
                let one = One { mac, part: Part::default(), addresses: Vec::new(), zone: None };
                self.0.insert(at, one);
                at
            }
        };
        &mut self.0[at]
    }

    /// Who it is.
    fn whose(&mut self, client: &Client) -> Option<&mut One> {
        match client {
            Client::Mac(mac) => Some(self.of(*mac)),
            Client::Addr(addr) => {
                let addr = IpAddr::from(*addr);
                self.0.iter_mut().find(|one| one.addresses.iter().any(|(_, has)| *has == addr))
            }
        }
    }

    /// Leaves those out that were seen longest ago, if there are too many.
    fn bound(&mut self) {
        while self.0.len() > DEVICES_MAX {
            let oldest = (0..).zip(&self.0).min_by_key(|(_, one)| one.part.last_ns);
            let Some((at, _)) = oldest else { return };
            self.0.remove(at);
        }
    }
}

impl One {
    fn has(&mut self, address: IpAddr, last_ns: u64) {
        self.part.last_ns = self.part.last_ns.max(last_ns);
        match self.addresses.iter_mut().find(|(_, has)| *has == address) {
            Some((last, _)) => *last = last_ns.max(*last),
            None => self.addresses.push((last_ns, address)),
        }
    }
}

/// The places of these numbers, that of the largest first.
fn order(numbers: &mut dyn Iterator<Item = u64>) -> Vec<u32> {
    let (mut sorted, mut places) = (Vec::new(), Vec::new());
    for (number, place) in numbers.zip(0..) {
        let at = sorted.partition_point(|other| *other >= number);
        sorted.insert(at, number);
        places.insert(at, place);
    }
    places
}

impl State {
    /// Some of the devices, those that moved most bytes first.
    pub(super) fn device_page(&mut self, part: page::Part) -> DevicePage {
        let now_ns = clock::monotonic_ns();
        let Known(known) = self.known_devices(now_ns);
        let bytes = known.iter().map(|one| (one.mac, one.part.bytes()));
        self.inspector.tally.read(now_ns / 1_000_000, bytes.collect());
        let mut moved = known.iter().map(|one| one.part.bytes().iter().sum());
        let page = part.of(order(&mut moved).into_iter()).filter_map(|at| known.get(at as usize));
        DevicePage {
            total: known.len() as u64,
            offset: part.offset.into(),
            interval_ms: self.inspector.tally.interval_ms(),
            blind: self.uncounted(),
            devices: page.map(|one| self.device(one, now_ns)).collect(),
        }
    }

    /// Devices that the kernel knows on the LAN, with the numbers of their interfaces.
    pub(super) fn of_lan(&self) -> Vec<(u8, Neighbour)> {
        let zones = self.inspector.book.zones();
        let zone = |ifindex: u32| {
            let found = zones.iter().find(|(of, zone)| *of == ifindex && zone.is_lan);
            found.map(|(_, zone)| zone.number)
        };
        let found = rtnetlink::neighbours()
            .inspect_err(|error| log::warn!("read the neighbours of this router: {error}"));
        let found = found.unwrap_or_default().into_iter();
        // A group has no device.
        let found = found.filter(|neighbour| neighbour.mac[0] & 1 == 0);
        found.filter_map(|neighbour| Some((zone(neighbour.ifindex)?, neighbour))).collect()
    }

    /// Everything that is known of who there is.
    fn known_devices(&self, now_ns: u64) -> Known {
        let mut known = Known::default();
        let Inspector { book, tally, table, .. } = &self.inspector;
        for (zone, neighbour) in self.of_lan() {
            let one = known.of(Mac(neighbour.mac));
            let ago_ns = neighbour.confirmed_s.map(|s| u64::from(s) * 1_000_000_000);
            one.zone = Some(zone);
            one.has(neighbour.addr, ago_ns.map_or(0, |ago_ns| now_ns.saturating_sub(ago_ns)));
        }
        for lease in self.devices.leases.iter(self.now()) {
            if let Some(mac) = lease.mac {
                known.of(mac).has(lease.addr.into(), 0);
            }
        }
        for (client, part) in tally.parts() {
            if let Some(one) = known.whose(client) {
                one.part.add(part);
            }
        }
        for record in table.iter() {
            let Some(ends) = record.decision.ends.filter(|ends| book.is_lan(ends)) else {
                continue;
            };
            let count = self.flow_map().and_then(|flows| flows.count(record.slot).ok());
            if let (Some(one), Some(count)) = (known.whose(&owner(&ends)), count) {
                let part = Part::of_record(record, &ends, &count);
                one.part.add(&part);
                one.zone = ends.zone;
                one.has(ends.device.into(), part.last_ns);
            }
        }
        for device in self.plan.groups.iter().flat_map(|group| &group.devices) {
            if let Named::Mac(mac) = device {
                known.of(*mac);
            }
        }
        for device in &self.plan.devices {
            known.of(device.mac);
        }
        known.bound();
        known
    }

    fn device(&self, one: &One, now_ns: u64) -> Device {
        let One { mac, part, addresses, zone } = one;
        let latest = order(&mut addresses.iter().map(|(last_ns, _)| *last_ns)).into_iter();
        let mut latest = latest.filter_map(|at| addresses.get(at as usize)).map(|(_, has)| *has);
        let is_its = |device: &Named| match device {
            Named::Mac(of) => of == mac,
            Named::Net(net) => addresses.iter().any(|(_, has)| net.contains(&Net::host(*has))),
        };
        let groups = self.plan.groups.iter().filter(|group| group.devices.iter().any(is_its));
        let groups: Vec<&Group> = groups.collect();
        let interfaces = &self.plan.dataplane.interfaces;
        let zone = zone.and_then(|number| interfaces.get(usize::from(number)));
        let zone = zone.map(|plan| plan.name.as_str());
        // A lease of DHCPv6 has no hardware address.
        let mut known = latest.clone().map(|has| self.device_name(has.into(), Some(*mac)));
        let name =
            self.device_name(Addr::default(), Some(*mac)).or_else(|| known.find_map(|it| it));
        let is_given = self.given_name(*mac).is_some();
        let rates = self.inspector.tally.rates(*mac).filter(|_| part.carried.is_some());
        let carried = |at: usize| part.carried.map(|sum| (sum.packets[at], sum.bytes[at])).unzip();
        let ((up_packets, up_bytes), (down_packets, down_bytes)) = (carried(0), carried(1));
        Device {
            mac: mac.to_string(),
            random: mac.0[0] & 2 != 0,
            name_source: name.is_some().then_some(if is_given { "configuration" } else { "lease" }),
            name,
            rules: self.rules_about(zone, &is_its, &groups),
            groups: groups.iter().map(|group| group.name.clone()).collect(),
            addresses: latest.by_ref().take(ADDRESSES_MAX).collect(),
            more_addresses: latest.count() as u64,
            interface: zone.map(str::to_owned),
            last_s_ago: super::report::ago(now_ns, part.last_ns),
            up_packets,
            up_bytes,
            down_packets,
            down_bytes,
            up_bps: rates.map(|[up, _]| up),
            down_bps: rates.map(|[_, down]| down),
        }
    }

    /// Rules in force about everything of a device.
    fn rules_about(
        &self,
        zone: Option<&str>,
        is_its: &dyn Fn(&Named) -> bool,
        groups: &[&Group],
    ) -> Vec<DeviceRule> {
        let is_about = |rule: &Rule| {
            !rule.has_target()
                && (rule.devices.iter().any(is_its)
                    || rule.groups.iter().any(|name| groups.iter().any(|one| one.name == *name))
                    || rule.zones.iter().any(|name| zone == Some(name)))
        };
        let unix_s = self.now().unix_s;
        let rules = (0..).zip(&self.plan.rules).filter(|(number, rule)| {
            let stops = matches!(
                rule.action,
                RuleAction::Pause | RuleAction::Block | RuleAction::Reject | RuleAction::Limit
            );
            stops && is_about(rule) && self.inspector.book.rules.is_in_force(*number)
        });
        let rules = rules.map(|(number, rule)| DeviceRule {
            name: rule.name.clone(),
            action: rule.action.name(),
            kbit: (rule.action == RuleAction::Limit)
                .then(|| self.plan.treatments.get(number as usize).map(|it| it.kbit))
                .flatten(),
            left_s: rule.until.and_then(|until| u64::try_from(until.0 - unix_s?).ok()),
        });
        rules.collect()
    }
}

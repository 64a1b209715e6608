//! What of a new plan could lock somebody out who manages the router. Pure.
//!
//! The lists spare the router's addresses and `management` by themselves; here is what nothing else
//! stops. It is meant to err on the side of asking: what is named here has to be confirmed.

use std::net::IpAddr;

use sluice_abi::attach::Role;
use sluice_abi::limits::Limits;

use super::Plan;
use crate::config::{Device, Group, Mac, Net, Rule};

/// Services by which a router is managed: SSH and the web.
const PORTS: [u16; 3] = [22, 80, 443];
const PROTOCOLS: [&str; 4] = ["ssh", "http", "http2", "tls"];

/// Who manages the router, and where.
#[derive(Clone, Debug, Default)]
pub struct Around {
    /// Who asks, if that is known and not this router.
    pub caller: Option<IpAddr>,
    /// Addresses and hardware addresses of devices.
    pub neighbours: Vec<(IpAddr, Mac)>,
    /// The networks that devices of this router are in.
    pub networks: Vec<(Net, String)>,
}

/// Why `new` could lock somebody out that `old` lets in; empty when nothing says so.
#[must_use]
pub fn risks(old: &Plan, new: &Plan, around: &Around) -> Vec<String> {
    let named = old.management.iter().chain(&new.management).copied();
    let caller = around.caller.map(Net::host);
    let mut who: Vec<Net> = named.chain(caller).collect();
    who.sort_unstable();
    who.dedup();
    let view = View { old, new, around, who: &who };
    let mut risks = Vec::new();
    view.management(&mut risks);
    view.lists(caller, &mut risks);
    view.rules(&mut risks);
    view.interfaces(&mut risks);
    view.checks(&mut risks);
    risks
}

struct View<'a> {
    old: &'a Plan,
    new: &'a Plan,
    around: &'a Around,
    who: &'a [Net],
}

impl View<'_> {
    fn management(&self, risks: &mut Vec<String>) {
        let covers = |all: &[Net], net: &Net| all.iter().any(|other| other.contains(net));
        let gone = self.old.management.iter().filter(|net| !covers(&self.new.management, net));
        risks.extend(gone.map(|net| format!("{net} is not for management any more")));
    }

    /// Entries of the configuration itself; what is in files is not looked at.
    fn lists(&self, caller: Option<Net>, risks: &mut Vec<String>) {
        let Some(caller) = caller else { return };
        let spared = |net: &Net| net.contains(&caller);
        if self.new.management.iter().any(spared) {
            return;
        }
        let blocks = |plan: &Plan| {
            let lists = plan.lists.iter().filter(|list| !list.observes);
            let found = lists.flat_map(|list| list.entries.iter().map(move |net| (list, net)));
            found
                .filter(|(_, net)| net.contains(&caller))
                .map(|(list, net)| (list.name.clone(), *net))
                .next()
        };
        if blocks(self.old).is_none()
            && let Some((name, net)) = blocks(self.new)
        {
            risks.push(format!("blocklist {name} has {net}, where you come from"));
        }
    }

    fn rules(&self, risks: &mut Vec<String>) {
        let (old, new) = (self.old, self.new);
        let known =
            |rule: &Rule| old.groups == new.groups && old.rules.iter().any(|other| other == rule);
        let new_ones = self.new.rules.iter().filter(|rule| rule.action.is_blocking());
        for rule in new_ones.filter(|rule| !known(rule)) {
            if let Some(who) = self.cut_by(rule) {
                risks.push(format!("rule {} {}s {who}", rule.name, rule.action.name()));
            }
        }
    }

    /// Whom a rule that blocks keeps from managing.
    fn cut_by(&self, rule: &Rule) -> Option<String> {
        let names = [rule.domains.len(), rule.apps.len(), rule.countries.len()];
        let fingerprints = [
            rule.fingerprints.len(),
            rule.fingerprint_files.len(),
            rule.ja3s_files.len(),
            rule.certificate_files.len(),
        ];
        // Who manages is not known by a name or a fingerprint.
        if names.iter().chain(&fingerprints).any(|count| *count > 0) {
            return None;
        }
        let is_managing = |port: u16| rule.ports.iter().any(|ports| ports.contain(6, port));
        let by_port = rule.ports.is_empty() || PORTS.into_iter().any(is_managing);
        let by_protocol = rule.protocols.is_empty()
            || rule.protocols.iter().any(|protocol| PROTOCOLS.contains(&&**protocol));
        if !(by_port && by_protocol) {
            return None;
        }
        if !rule.nets.is_empty() {
            let mut pairs =
                rule.nets.iter().flat_map(|net| self.who.iter().map(move |who| (net, who)));
            let (_, who) = pairs.find(|(net, who)| net.overlaps(who))?;
            return Some(format!("what goes to {who}, which is for management"));
        }
        let groups = self.new.groups.iter().filter(|group| rule.groups.contains(&group.name));
        let of_groups = groups.flat_map(|Group { devices, .. }| devices);
        let mut devices = rule.devices.iter().chain(of_groups);
        if let Some((device, who)) = devices.find_map(|device| Some((device, self.is(device)?))) {
            return Some(format!("{device}, and {who} is for management"));
        }
        let of_zone = |who: &&Net| {
            let device = self.device_of(who);
            let of_device = |zone: &String| {
                let interfaces = &self.new.dataplane.interfaces;
                let interface = interfaces.iter().find(|interface| interface.name == *zone);
                interface.is_some_and(|interface| Some(&*interface.device) == device)
            };
            rule.zones.iter().any(of_device)
        };
        if let Some(who) = self.who.iter().find(of_zone) {
            return Some(format!("what is behind {}, as {who} is", rule.zones.join(", ")));
        }
        let is_for_all = rule.devices.is_empty() && rule.groups.is_empty() && rule.zones.is_empty();
        let who = self.who.first().filter(|_| is_for_all)?;
        Some(format!("every device, and {who} is for management"))
    }

    /// Which address of those who manage a device has.
    fn is(&self, device: &Device) -> Option<Net> {
        let among = |net: Net| self.who.iter().copied().find(|who| who.overlaps(&net));
        match device {
            Device::Net(net) => among(*net),
            Device::Mac(mac) => {
                let mut of = self.around.neighbours.iter().filter(|(_, of)| of == mac);
                of.find_map(|(addr, _)| among(Net::host(*addr)))
            }
        }
    }

    /// The device that somebody is behind; `None` where no network says so: the way out.
    fn device_of(&self, who: &Net) -> Option<&str> {
        let networks = self.around.networks.iter().filter(|(net, _)| net.contains(who));
        networks.max_by_key(|(net, _)| net.prefix()).map(|(_, device)| &**device)
    }

    fn interfaces(&self, risks: &mut Vec<String>) {
        for interface in &self.new.dataplane.interfaces {
            let is_behind = |who: &&Net| match self.device_of(who) {
                Some(device) => device == interface.device,
                None => interface.role == Role::Wan,
            };
            let Some(who) = self.who.iter().find(is_behind) else { continue };
            let device = &*interface.device;
            let name = &interface.name;
            if self.new.ruleset.closes(device) && !self.old.ruleset.closes(device) {
                risks.push(format!("policy of {name} is closed, and {who} is behind it"));
            }
            let before = self.old.dataplane.interfaces.iter();
            let before = before.clone().find(|other| other.device == *device);
            if before.is_some_and(|before| before.role != interface.role) {
                risks.push(format!("{name} has another role, and {who} is behind it"));
            }
        }
    }

    /// Checks of sources, which hold on the side of strangers.
    fn checks(&self, risks: &mut Vec<String>) {
        let checks = |plan: &Plan| plan.dataplane.settings.limits.checks;
        let on = checks(self.new) & !checks(self.old);
        let is_outside = |who: &&Net| {
            let device = self.device_of(who);
            let interfaces = &self.new.dataplane.interfaces;
            let found = interfaces.iter().find(|interface| Some(&*interface.device) == device);
            found.is_none_or(|interface| interface.role == Role::Wan)
        };
        for (bit, name) in [(Limits::PRIVATE, "private_sources"), (Limits::BOGON, "bogons")] {
            if on & bit == 0 {
                continue;
            }
            let mut outside = self.who.iter().filter(is_outside);
            if let Some(who) = outside.find(|who| is_local(who)) {
                risks.push(format!("{name} drops {who} where it comes from outside"));
            }
        }
    }
}

/// Whether an address, or the begin of a prefix, is none of the public Internet.
fn is_local(net: &Net) -> bool {
    match IpAddr::from(net.addr()) {
        IpAddr::V4(addr) => {
            let [a, b, ..] = addr.octets();
            addr.is_private()
                || addr.is_documentation()
                || addr.is_link_local()
                || (a == 100 && b & 0xc0 == 64)
                || (a == 198 && b & 0xfe == 18)
        }
        IpAddr::V6(addr) => {
            let [first, second, ..] = addr.segments();
            addr.is_unique_local()
                || addr.is_unicast_link_local()
                || (first, second) == (0x2001, 0xdb8)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    const BASE: &str = "config sluice main\n\toption policy open\n\tlist management 192.168.1.20\n\
        config interface wan\noption device eth0\noption role wan\n\
        config interface lan\noption device br-lan\noption role lan\n\
        config ddos limits\noption private_sources 0\n";

    fn plan(text: &str) -> Plan {
        let (config, _) = Config::parse(text.as_bytes(), "f").unwrap();
        Plan::new(&config, 0).unwrap()
    }

    fn around() -> Around {
        Around {
            caller: Some("10.9.9.9".parse().unwrap()),
            neighbours: vec![
                ("fe80::20".parse().unwrap(), "02:00:5e:10:00:02".parse().unwrap()),
                ("192.168.1.20".parse().unwrap(), "02:00:5e:10:00:01".parse().unwrap()),
            ],
            networks: vec![("192.168.1.0/24".parse().unwrap(), "br-lan".to_owned())],
        }
    }

    fn told(more: &str) -> Vec<String> {
        risks(&plan(BASE), &plan(&format!("{BASE}{more}")), &around())
    }

    /// R154: what could cut off who manages the router has to be confirmed.
    #[test]
    fn what_could_cut_off_who_manages_is_named() {
        for (more, risk) in [
            (
                "config rule x\nlist device 192.168.1.0/28\nlist device 192.168.1.16/28\n",
                "rule x blocks 192.168.1.16/28, and 192.168.1.20 is for management",
            ),
            (
                "config rule x\noption action pause\nlist device 02:00:5e:10:00:01\n",
                "rule x pauses 02:00:5e:10:00:01, and 192.168.1.20 is for management",
            ),
            (
                "config rule x\nlist device 10.9.9.9\n",
                "rule x blocks 10.9.9.9, and 10.9.9.9 is for management",
            ),
            (
                "config group all\nlist device 192.168.0.0/16\nconfig rule x\nlist group all\n",
                "rule x blocks 192.168.0.0/16, and 192.168.1.20 is for management",
            ),
            (
                "config rule x\nlist zone lan\n",
                "rule x blocks what is behind lan, as 192.168.1.20 is",
            ),
            (
                "config rule x\nlist ip 192.168.1.0/24\n",
                "rule x blocks what goes to 192.168.1.20, which is for management",
            ),
            (
                "config rule x\nlist port 1-1000\n",
                "rule x blocks every device, and 10.9.9.9 is for management",
            ),
            (
                "config rule x\nlist protocol ssh\n",
                "rule x blocks every device, and 10.9.9.9 is for management",
            ),
            (
                "config blocklist x\nlist entry 10.0.0.0/8\n",
                "blocklist x has 10.0.0.0/8, where you come from",
            ),
            (
                "option private_sources 1\n",
                "private_sources drops 10.9.9.9 where it comes from outside",
            ),
        ] {
            assert_eq!(told(more), [risk], "{more}");
        }
        let changed = |from: &str, to: &str| {
            assert!(BASE.contains(from));
            risks(&plan(BASE), &plan(&BASE.replace(from, to)), &around())
        };
        assert_eq!(
            changed("192.168.1.20", "192.168.1.21"),
            ["192.168.1.20 is not for management any more"]
        );
        assert_eq!(
            changed("policy open", "policy closed"),
            [
                "policy of wan is closed, and 10.9.9.9 is behind it",
                "policy of lan is closed, and 192.168.1.20 is behind it"
            ]
        );
        assert_eq!(
            changed("device br-lan\n", "device br-lan\noption policy closed\n"),
            ["policy of lan is closed, and 192.168.1.20 is behind it"]
        );
    }

    #[test]
    fn what_cuts_nobody_off_is_not_named() {
        for more in [
            "",
            "config rule x\nlist domain ads.test\n",
            "config rule x\nlist device 192.168.1.20\nlist domain ads.test\n",
            "config rule x\nlist device 192.168.1.20\nlist port 25\n",
            "config rule x\nlist device 192.168.1.20\nlist protocol bittorrent\n",
            "config rule x\noption action allow\nlist device 192.168.1.20\n",
            "config rule x\noption enabled 0\nlist device 192.168.1.20\n",
            "config rule x\nlist device 192.168.1.32/28\n",
            "config rule x\nlist device 02:00:5e:10:00:02\n",
            "config rule x\nlist ip 198.51.100.0/24\n",
            "config blocklist x\nlist entry 192.168.1.0/24\n",
            "config blocklist x\noption action observe\nlist entry 10.0.0.0/8\n",
        ] {
            assert_eq!(told(more), [""; 0], "{more}");
        }
        // What was so before locks nobody out anew.
        for more in ["config rule x\nlist device 192.168.1.20\n", "option private_sources 1\n"] {
            let same = plan(&format!("{BASE}{more}"));
            assert_eq!(risks(&same, &same, &around()), [""; 0]);
        }
    }
}

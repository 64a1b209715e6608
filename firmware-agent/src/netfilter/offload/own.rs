//! A flowtable of Sluice's own, for routers whose firewall has none.
//!
//! In a table apart from the one that feeds the queues: devices come and go, and what cannot be done
//! here must not touch inspection.

use std::fmt::Write as _;

use crate::config::MarkMask;
use crate::netfilter::apply::{ApplyError, NFT};
use crate::sys::rtnetlink::Device;

/// The table.
pub(super) const TABLE: &str = "sluice_offload";
/// Devices below devices that are followed.
const DEPTH: usize = 4;

/// The devices where packets of `names` come in, sorted: the ports of a bridge, what a VLAN stands
/// on, otherwise the device itself. Devices that do not exist are left out.
#[must_use]
pub fn entrances<'a>(
    names: impl IntoIterator<Item = &'a str>,
    devices: &[Device],
) -> Vec<Box<str>> {
    let mut found = Vec::new();
    for name in names {
        if let Some(device) = devices.iter().find(|device| device.name == name) {
            descend(device, devices, DEPTH, &mut found);
        }
    }
    found.sort_unstable();
    found.dedup();
    found
}

fn descend(device: &Device, devices: &[Device], depth: usize, found: &mut Vec<Box<str>>) {
    let below: Vec<&Device> = match device.kind.as_str() {
        "bridge" => devices.iter().filter(|port| port.master == device.ifindex).collect(),
        "vlan" => devices.iter().filter(|lower| lower.ifindex == device.lower).collect(),
        _ => Vec::new(),
    };
    if below.is_empty() && device.kind != "bridge" {
        found.push(device.name.as_str().into());
    } else if let Some(depth) = depth.checked_sub(1) {
        for below in below {
            descend(below, devices, depth, found);
        }
    }
}

/// Puts the table in force, in the place of an earlier one.
pub fn apply(devices: &[Box<str>], marks: MarkMask) -> Result<(), ApplyError> {
    NFT.run("apply the flowtable", &["-f", "-"], &text(devices, marks)).map(drop)
}

/// Takes the table away; none there is as good.
pub fn remove() -> Result<(), ApplyError> {
    let text = format!("add table inet {TABLE}\ndelete table inet {TABLE}\n");
    NFT.run("remove the flowtable", &["-f", "-"], &text).map(drop)
}

fn text(devices: &[Box<str>], marks: MarkMask) -> String {
    let (mask, trusted) = (marks.bits(), marks.trusted());
    let mut list = String::new();
    for device in devices {
        let comma = if list.is_empty() { "" } else { ", " };
        let _infallible = write!(list, "{comma}\"{device}\"");
    }
    format!(
        "add table inet {TABLE}\n\
         delete table inet {TABLE}\n\
         table inet {TABLE} {{\n\
         \tflowtable ft {{\n\
         \t\thook ingress priority filter\n\
         \t\tdevices = {{ {list} }}\n\
         \t}}\n\
         \tchain forward {{\n\
         \t\ttype filter hook forward priority filter; policy accept;\n\
         \t\tmeta l4proto {{ tcp, udp }} ct mark & {mask:#010x} == {trusted:#010x} flow add @ft\n\
         \t}}\n\
         }}\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(ifindex: u32, name: &str, kind: &str, master: u32, lower: u32) -> Device {
        Device {
            ifindex,
            name: name.to_owned(),
            kind: kind.to_owned(),
            master,
            lower,
            ..Device::default()
        }
    }

    #[test]
    fn packets_come_in_at_ports_and_below_vlans() {
        let devices = [
            device(1, "br-lan", "bridge", 0, 0),
            device(2, "lan1", "dsa", 1, 0),
            device(3, "eth0.5", "vlan", 1, 4),
            device(4, "eth0", "", 0, 0),
            device(5, "wan", "", 0, 0),
            device(6, "empty", "bridge", 0, 0),
        ];
        let found = |names: &[&str]| entrances(names.iter().copied(), &devices);
        assert_eq!(*found(&["wan", "br-lan"]), ["eth0".into(), "lan1".into(), "wan".into()]);
        assert_eq!(*found(&["eth0.5", "eth0"]), ["eth0".into()]);
        assert_eq!(found(&["absent", "empty"]), [""; 0].map(Box::from));
        // A bridge that says that it is its own port.
        let circle = [device(1, "b", "bridge", 1, 0)];
        assert_eq!(entrances(["b"], &circle), [""; 0].map(Box::from));
    }

    #[test]
    fn the_table_is_written_as_expected() {
        let marks = MarkMask::try_from(0x0700_0000).unwrap();
        let text = text(&["lan1".into(), "wan".into()], marks);
        assert!(text.contains("devices = { \"lan1\", \"wan\" }\n"), "{text}");
        let rule = "ct mark & 0x07000000 == 0x01000000 flow add @ft\n";
        assert!(text.contains(rule), "no verdict stands behind it: {text}");
    }
}

//! Which devices an interface means, and what their packets start with.

use std::fs;
use std::path::Path;

use sluice_abi::attach::Link;

use crate::sys::rtnetlink::Device;

/// A device that a program can be attached to.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Target {
    pub(super) device: Device,
    pub(super) link: Link,
}

/// The device itself, for TC.
pub(super) fn target(device: &Device) -> Result<Target, String> {
    let link = link(&device.name, device.hardware, tagging(device).as_deref())?;
    Ok(Target { device: device.clone(), link })
}

/// The devices where frames of `device` arrive first, for XDP: the ports of a bridge, otherwise the
/// device itself.
pub(super) fn entrances(device: &Device, devices: &[Device]) -> Result<Vec<Target>, String> {
    if device.kind != "bridge" {
        return Ok(vec![target(device)?]);
    }
    let ports = devices.iter().filter(|port| port.master == device.ifindex);
    let targets = ports.map(target).collect::<Result<Vec<_>, _>>()?;
    if targets.is_empty() {
        return Err(format!("bridge {} has no ports yet", device.name));
    }
    Ok(targets)
}

/// What packets start with, by `ARPHRD_*` number and the tagger of a switch behind the device.
fn link(name: &str, hardware: u16, tagging: Option<&str>) -> Result<Link, String> {
    const ETHER: u16 = 1;
    const PPP: u16 = 512;
    const RAWIP: u16 = 519;
    const TUNNEL: u16 = 768;
    const TUNNEL6: u16 = 769;
    const LOOPBACK: u16 = 772;
    const SIT: u16 = 776;
    const NONE: u16 = 65534;
    match (hardware, tagging) {
        (ETHER | LOOPBACK, None | Some("none")) => Ok(Link::Ethernet),
        (ETHER, Some("mtk")) => Ok(Link::Mtk),
        (ETHER, Some(tagger)) => Err(format!(
            "{name} is the conduit of a switch with tags of kind {tagger}: attach to the user \
             ports"
        )),
        (PPP | RAWIP | TUNNEL | TUNNEL6 | SIT | NONE, _) => Ok(Link::Ip),
        (other, _) => Err(format!("{name} is of hardware type {other}, which is not supported")),
    }
}

/// The tagger of the switch behind a conduit.
fn tagging(device: &Device) -> Option<String> {
    // The files are those of the namespace in which sysfs was mounted: not necessarily ours.
    let dir = Path::new("/sys/class/net").join(&device.name);
    let ifindex = fs::read_to_string(dir.join("ifindex")).ok()?;
    if ifindex.trim().parse() != Ok(device.ifindex) {
        return None;
    }
    Some(fs::read_to_string(dir.join("dsa/tagging")).ok()?.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(ifindex: u32, kind: &str, master: u32) -> Device {
        Device {
            ifindex,
            name: format!("sluice-t{ifindex}"),
            hardware: 1,
            master,
            kind: kind.to_owned(),
            ..Device::default()
        }
    }

    #[test]
    fn packets_start_as_the_hardware_type_says() {
        assert_eq!(link("eth0", 1, None), Ok(Link::Ethernet));
        assert_eq!(link("eth0", 1, Some("none")), Ok(Link::Ethernet));
        assert_eq!(link("eth0", 1, Some("mtk")), Ok(Link::Mtk));
        assert_eq!(link("pppoe-wan", 512, None), Ok(Link::Ip));
        assert_eq!(link("wg0", 65534, None), Ok(Link::Ip));
        let refused = link("eth0", 1, Some("qca")).unwrap_err();
        assert!(refused.contains("tags of kind qca: attach to the user ports"), "{refused}");
        assert!(link("can0", 280, None).unwrap_err().contains("hardware type 280"));
    }

    #[test]
    fn a_bridge_is_entered_through_its_ports() {
        let devices =
            [device(1, "bridge", 0), device(2, "veth", 1), device(3, "", 1), device(4, "", 0)];
        let names = |targets: Vec<Target>| -> Vec<_> {
            targets.into_iter().map(|target| target.device.ifindex).collect()
        };
        assert_eq!(names(entrances(&devices[0], &devices).unwrap()), [2, 3]);
        assert_eq!(names(entrances(&devices[3], &devices).unwrap()), [4]);
        let empty = entrances(&devices[0], &devices[..1]).unwrap_err();
        assert_eq!(empty, "bridge sluice-t1 has no ports yet");
    }
}

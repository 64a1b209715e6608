//! Where the frames of each interface can be met, so that none is met twice: pure.
//!
//! An interface names a device as an administrator thinks of it: a bridge, a VLAN, a PPPoE session. Its
//! frames arrive on devices below. Each device has one shield and one pair of classifiers, and where the
//! device of one interface carries the frames of another, the first of them in the configuration has
//! them: what stands above would count and judge them again.

use std::collections::BTreeMap;

use sluice_abi::attach::{Link, Role};

use super::plan::{InterfacePlan, TcWish, XdpWish};
use crate::sys::rtnetlink::Device;

/// A device that a program can be attached to.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Target {
    pub(super) device: Device,
    pub(super) link: Link,
}

/// What is known about the devices of the namespace.
#[derive(Clone, Debug, Default)]
pub(super) struct Facts {
    pub(super) devices: Vec<Device>,
    /// Tagger of the switch behind a conduit, by index of the conduit.
    pub(super) tagging: BTreeMap<u32, String>,
    /// Ethernet device of the only PPPoE session, by name; `None` where there is no session or where
    /// there are several, whose PPP devices nobody tells apart.
    pub(super) pppoe: Option<String>,
}

impl Facts {
    /// The device with this index.
    pub(super) fn device(&self, ifindex: u32) -> Option<&Device> {
        self.devices.iter().find(|device| device.ifindex == ifindex)
    }
}

/// Where a program of an interface goes.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Place {
    /// On these devices.
    At(Vec<Target>),
    /// Nowhere: another interface's program has its frames already.
    Within(String),
    /// Nowhere, for this reason.
    Nowhere(String),
}

/// Places of an interface's shield and of its classifiers.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Places {
    pub(super) xdp: Place,
    pub(super) tc: Place,
}

/// The places of each interface, in their order.
pub(super) fn places(interfaces: &[InterfacePlan], facts: &Facts) -> Vec<Places> {
    let (mut shields, mut classifiers) = (Claims::default(), Claims::default());
    let mut places = Vec::new();
    for interface in interfaces {
        let device = facts.devices.iter().find(|device| device.name == interface.device);
        let of =
            |wanted: bool, targets: &dyn Fn(&Device) -> Result<Vec<Target>, String>| match device {
                Some(device) if wanted => targets(device).map_or_else(Place::Nowhere, Place::At),
                Some(_) => Place::At(Vec::new()),
                None => Place::Nowhere(missing(interface)),
            };
        let xdp = of(interface.xdp != XdpWish::Off, &|device| entrances(device, facts));
        let tc = of(interface.tc != TcWish::Off, &|device| Ok(vec![target(device, facts)?]));
        places.push(Places {
            xdp: shields.claim(interface, xdp, facts),
            tc: classifiers.claim(interface, tc, facts),
        });
    }
    places
}

/// Which interface has which device.
#[derive(Default)]
struct Claims(Vec<(Device, String, Role)>);

impl Claims {
    /// The place without the devices whose frames an earlier interface has.
    fn claim(&mut self, interface: &InterfacePlan, place: Place, facts: &Facts) -> Place {
        let Place::At(targets) = place else { return place };
        let wanted = targets.len();
        let mut kept = Vec::new();
        let mut within = None;
        for target in targets {
            let is_met = |(device, ..): &&(Device, String, Role)| {
                device.ifindex == target.device.ifindex
                    || carries(device, &target.device, facts)
                    || carries(&target.device, device, facts)
            };
            let Some((device, owner, role)) = self.0.iter().find(is_met) else {
                kept.push(target);
                continue;
            };
            let (name, claimed) = (&target.device.name, &device.name);
            let same = device.ifindex == target.device.ifindex;
            if *role != interface.role || !(same || carries_all(device, &target.device, facts)) {
                return Place::Nowhere(format!(
                    "{name} shares its frames with {claimed}, which is interface {owner} in role \
                     {}: only one of them can have them",
                    role.name()
                ));
            }
            within = Some(format!("its frames are those of interface {owner} on {claimed}"));
        }
        if kept.is_empty() && wanted > 0 {
            return Place::Within(within.unwrap_or_default());
        }
        let claims = kept.iter().map(|target| target.device.clone());
        self.0.extend(claims.map(|device| (device, interface.name.clone(), interface.role)));
        Place::At(kept)
    }
}

/// Levels of devices on devices that are followed; real ones have three or four.
const DEPTH: usize = 8;

/// Whether frames of `upper` arrive on `lower` first.
fn carries(lower: &Device, upper: &Device, facts: &Facts) -> bool {
    let mut level = vec![upper];
    for _ in 0..DEPTH {
        level = level.iter().flat_map(|device| below(device, facts)).collect();
        if level.iter().any(|device| device.ifindex == lower.ifindex) {
            return true;
        }
    }
    false
}

/// Whether frames of `upper` arrive on `lower` first, and on no other device.
fn carries_all(lower: &Device, upper: &Device, facts: &Facts) -> bool {
    let mut level = vec![upper];
    for _ in 0..DEPTH {
        level = match level.as_slice() {
            [only] => below(only, facts),
            _ => return false,
        };
        if level.iter().map(|device| device.ifindex).eq([lower.ifindex]) {
            return true;
        }
    }
    false
}

/// The devices that hand frames to this one. A tunnel's frames are other ones than those that carry it.
fn below<'a>(device: &Device, facts: &'a Facts) -> Vec<&'a Device> {
    let is_below = |candidate: &&'a Device| match device.kind.as_str() {
        "bridge" | "bond" | "team" => candidate.master == device.ifindex,
        "vlan" | "macvlan" | "dsa" => candidate.ifindex == device.lower,
        "ppp" => facts.pppoe.as_ref() == Some(&candidate.name),
        _ => false,
    };
    facts.devices.iter().filter(is_below).collect()
}

/// The device itself.
fn target(device: &Device, facts: &Facts) -> Result<Target, String> {
    let tagging = facts.tagging.get(&device.ifindex).map(String::as_str);
    let link = link(&device.name, device.hardware, tagging)?;
    Ok(Target { device: device.clone(), link })
}

/// The devices where frames of `device` arrive first and are all that arrives.
fn entrances(device: &Device, facts: &Facts) -> Result<Vec<Target>, String> {
    let each = |devices: Vec<&Device>, none: String| {
        let targets =
            devices.into_iter().map(|port| target(port, facts)).collect::<Result<Vec<_>, _>>()?;
        if targets.is_empty() { Err(none) } else { Ok(targets) }
    };
    if device.kind == "bridge" {
        let none = format!("bridge {} has no ports yet", device.name);
        return each(below(device, facts), none);
    }
    if let Some(tagger) = facts.tagging.get(&device.ifindex)
        && !matches!(tagger.as_str(), "none" | "mtk")
    {
        let is_port = |port: &&Device| port.kind == "dsa" && port.lower == device.ifindex;
        let ports = facts.devices.iter().filter(is_port).collect();
        let none = format!(
            "{} is the conduit of a switch with tags of kind {tagger}, and the switch has no user \
             ports",
            device.name
        );
        return each(ports, none);
    }
    if device.kind == "ppp"
        && let [ethernet] = below(device, facts)[..]
        && is_alone(ethernet, facts)
    {
        return Ok(vec![target(ethernet, facts)?]);
    }
    Ok(vec![target(device, facts)?])
}

/// Whether a device carries a PPPoE session and no other device's frames.
fn is_alone(ethernet: &Device, facts: &Facts) -> bool {
    let stands_on_it = |device: &Device| {
        device.lower == ethernet.ifindex
            && matches!(device.kind.as_str(), "vlan" | "macvlan" | "dsa")
    };
    ethernet.master == 0 && !facts.devices.iter().any(stands_on_it)
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

fn missing(interface: &InterfacePlan) -> String {
    format!("there is no device {} yet; it is attached to when it appears", interface.device)
}

#[cfg(test)]
mod tests;

//! The object `xdp_device` in a network card: maps and program bound to the device.

use std::collections::{HashMap, HashSet};
use std::os::fd::{AsRawFd as _, OwnedFd};

use aya_obj::Object;
use sluice_abi::attach::Role;
use sluice_abi::names;

use crate::sys::bpf::{self, DeviceMap};

/// Addresses that a card is asked to hold. Cards hold thousands; the shield holds the rest.
const HOSTS_WANTED: u32 = 1024;

/// What was loaded.
pub(super) struct Loaded {
    pub(super) program: OwnedFd,
    pub(super) hosts: OwnedFd,
    pub(super) totals: OwnedFd,
    /// Addresses that fit.
    pub(super) room: u32,
}

/// The program for a role.
pub(super) const fn program_name(role: Role) -> &'static str {
    match role {
        Role::Wan => names::XDP_DEVICE_WAN,
        Role::Lan => names::XDP_DEVICE_LAN,
    }
}

/// Loads the object into the card behind a device, or says which step was refused and how.
pub(super) fn load(object: &[u8], role: Role, ifindex: u32) -> Result<Loaded, String> {
    if object.is_empty() {
        return Err("object xdp_device is not in this build".to_owned());
    }
    let mut object = Object::parse(object).map_err(|error| format!("read object: {error}"))?;
    let mut maps = HashMap::new();
    let mut room = 0;
    // The object has the maps of the shared code as well; these programs use none of them.
    for name in [names::DEVICE_HOSTS, names::DEVICE_TOTALS] {
        let map =
            object.maps.get(name).ok_or_else(|| format!("object xdp_device has no {name}"))?;
        let shape = DeviceMap {
            kind: map.map_type(),
            key_size: map.key_size(),
            value_size: map.value_size(),
            max_entries: map.max_entries(),
        };
        let fd = if name == names::DEVICE_HOSTS {
            let (fd, entries) = largest(ifindex, name, shape)?;
            room = entries;
            fd
        } else {
            create(ifindex, name, shape)?
        };
        maps.insert(name, fd);
    }
    let code: HashSet<usize> = object.functions.keys().map(|(section, _)| *section).collect();
    let shapes = object.maps.clone();
    let known = maps
        .iter()
        .filter_map(|(name, fd)| shapes.get(*name).map(|shape| (*name, fd.as_raw_fd(), shape)));
    object.relocate_maps(known, &code).map_err(|error| format!("relocate maps: {error}"))?;
    object.relocate_calls(&code).map_err(|error| format!("relocate calls: {error}"))?;
    let name = program_name(role);
    let missing = || format!("object xdp_device has no {name}");
    let program = object.programs.get(name).ok_or_else(missing)?;
    let function = object.functions.get(&program.function_key()).ok_or_else(missing)?;
    let program = bpf::load_on(ifindex, name, &program.license, &function.instructions)
        .map_err(|(error, log)| format!("load program: {error}{}", said(&log)))?;
    let mut take = |name: &str| maps.remove(name).ok_or_else(missing);
    Ok(Loaded {
        program,
        hosts: take(names::DEVICE_HOSTS)?,
        totals: take(names::DEVICE_TOTALS)?,
        room,
    })
}

/// A map with as many entries as the card takes, and how many that are.
fn largest(ifindex: u32, name: &str, mut shape: DeviceMap) -> Result<(OwnedFd, u32), String> {
    shape.max_entries = HOSTS_WANTED;
    loop {
        match bpf::create_map_on(ifindex, name, shape) {
            Ok(fd) => return Ok((fd, shape.max_entries)),
            Err(error) if is_too_large(&error) && shape.max_entries > 1 => shape.max_entries /= 2,
            Err(error) => return Err(refused(name, &error)),
        }
    }
}

/// How drivers say that a map has too many entries.
fn is_too_large(error: &std::io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOMEM | libc::E2BIG | libc::ENOSPC))
}

fn create(ifindex: u32, name: &str, shape: DeviceMap) -> Result<OwnedFd, String> {
    bpf::create_map_on(ifindex, name, shape).map_err(|error| refused(name, &error))
}

fn refused(name: &str, error: &std::io::Error) -> String {
    match error.raw_os_error() {
        Some(libc::EOPNOTSUPP | libc::EINVAL) => {
            format!("the driver takes no maps into its hardware ({error})")
        }
        _ => format!("create map {name}: {error}"),
    }
}

fn said(log: &str) -> String {
    if log.is_empty() { String::new() } else { format!(" ({log})") }
}

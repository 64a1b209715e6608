//! The reduced shield in a network card: drops listed addresses before the frame costs the processor
//! anything.
//!
//! It never replaces the shield on the device: a card holds few addresses, no prefix, no rate and no
//! clock. What it drops the shield below does not see, and what it passes the shield judges, so no
//! packet is counted twice. Nearly every driver refuses; that is no fault of the interface.

mod choose;
mod object;

use std::collections::BTreeMap;
use std::os::fd::{AsFd as _, OwnedFd};

use aya::maps::{Array, HashMap, Map, MapData, MapError};
use sluice_abi::attach::Role;
use sluice_abi::device::Total;
use sluice_abi::flow::Addr;
use sluice_abi::names;
use sluice_abi::shield::{AllowEntry, BlockEntry};

use self::choose::{Entry, choose};
use super::error::Error;
use super::object::open;
use super::pins::Pins;
use crate::sys::bpf;
use crate::sys::rtnetlink::{self, Device};

/// Listed addresses that are considered; a card holds fewer.
const CONSIDERED_MAX: usize = 4096;
/// Entries of a list that are read in one call.
const STEP: usize = 1024;

/// The reduced shield in the card behind one device.
pub(super) struct Hardware {
    role: Role,
    hosts: HashMap<MapData, Addr, u64>,
    totals: Array<MapData, u64>,
    room: usize,
    /// Packets that each address had cost when it was looked at last.
    seen: BTreeMap<[u8; 16], u64>,
    turn: usize,
}

impl Hardware {
    /// Loads it into the card and puts it to work, still empty. What an earlier agent left there is
    /// replaced in one step. The reason of a refusal is the driver's own, where it has words.
    pub(super) fn attach(object: &[u8], role: Role, device: &Device) -> Result<Self, String> {
        let before = match own_program(device) {
            Ok(before) => before,
            Err(id) => return Err(format!("the card runs the program {id} of somebody else")),
        };
        let loaded = object::load(object, role, device.ifindex)?;
        let map = |fd: OwnedFd| MapData::from_fd(fd).and_then(Map::from_map_data);
        let failed = |error: MapError| format!("open map: {error}");
        let hosts = map(loaded.hosts).and_then(HashMap::try_from).map_err(failed)?;
        let totals = map(loaded.totals).and_then(Array::try_from).map_err(failed)?;
        let instead = before.as_ref().map(|prog| prog.as_fd());
        rtnetlink::set_hardware_xdp(device.ifindex, loaded.program.as_fd(), instead)
            .map_err(|error| error.to_string())?;
        let room = loaded.room as usize;
        Ok(Self { role, hosts, totals, room, seen: BTreeMap::new(), turn: 0 })
    }

    /// Addresses that it holds.
    pub(super) fn held(&self) -> usize {
        self.seen.len()
    }

    /// Which side its device is on.
    pub(super) const fn role(&self) -> Role {
        self.role
    }

    /// Gives it the addresses of `listed` that are worth their place.
    pub(super) fn set(&mut self, listed: &[Addr]) -> Result<(), Error> {
        let failed = |operation| Error::map(names::DEVICE_HOSTS, operation);
        let mut held = Vec::new();
        let mut packets = BTreeMap::new();
        for entry in &self.hosts {
            let (addr, count) = entry.map_err(failed("read"))?;
            let octets: [u8; 16] = bytemuck::cast(addr);
            let before = self.seen.get(&octets).copied().unwrap_or(0);
            held.push(Entry { addr, is_hot: count > before });
            packets.insert(octets, count);
        }
        let (chosen, turn) = choose(&held, listed, self.room, self.turn);
        self.turn = turn;
        for Entry { addr, .. } in held.iter().filter(|entry| !chosen.contains(&entry.addr)) {
            self.hosts.remove(addr).map_err(failed("remove from"))?;
            packets.remove(&bytemuck::cast::<_, [u8; 16]>(*addr));
        }
        for addr in &chosen {
            if !held.iter().any(|entry| entry.addr == *addr) {
                self.hosts.insert(*addr, 0, 0).map_err(failed("insert into"))?;
                packets.insert(bytemuck::cast(*addr), 0);
            }
        }
        self.seen = packets;
        Ok(())
    }

    /// Packets and bytes that it dropped.
    pub(super) fn dropped(&self) -> Result<(u64, u64), Error> {
        let total = |total| {
            self.totals.get(&(total as u32), 0).map_err(Error::map(names::DEVICE_TOTALS, "read"))
        };
        Ok((total(Total::Packets)?, total(Total::Bytes)?))
    }
}

/// The program of ours in a card, or the number of somebody else's.
fn own_program(device: &Device) -> Result<Option<OwnedFd>, u32> {
    let id = device.xdp.hardware;
    if id == 0 {
        return Ok(None);
    }
    let prog = bpf::prog_by_id(id).map_err(|_gone| id)?;
    let ours = [Role::Wan, Role::Lan].map(object::program_name);
    match bpf::prog_info(prog.as_fd()) {
        Ok(info) if ours.contains(&info.name.as_str()) => Ok(Some(prog)),
        _ => Err(id),
    }
}

/// Whether the program in a card is ours.
pub(super) fn is_attached(device: &Device) -> bool {
    matches!(own_program(device), Ok(Some(_)))
}

/// Takes what is ours out of the card.
pub(super) fn detach(device: &Device) -> Result<(), Error> {
    let Ok(Some(prog)) = own_program(device) else { return Ok(()) };
    match rtnetlink::remove_hardware_xdp(device.ifindex, prog.as_fd()) {
        Err(error) if error.errno() != Some(libc::ENODEV) => Err(Error::Device {
            ifindex: device.ifindex,
            operation: "remove the program in the card of",
            source: Box::new(error),
        }),
        _ => Ok(()),
    }
}

/// Listed addresses that a card may drop on interfaces of a role: those without a deadline, which a
/// card cannot keep, that no allowlist lifts.
pub(super) fn listed(pins: &Pins, role: Role) -> Result<Vec<Addr>, Error> {
    let read = |error| Error::map(names::BLOCK_HOSTS, "read")(MapError::IoError(error));
    let hosts = MapData::from_pin(pins.map(names::BLOCK_HOSTS))
        .map_err(Error::map(names::BLOCK_HOSTS, "open"))?;
    let entries = bpf::map_entries::<Addr, BlockEntry>(hosts.fd().as_fd(), STEP).map_err(read)?;
    let allow: aya::maps::lpm_trie::LpmTrie<MapData, Addr, AllowEntry> =
        open(pins, names::ALLOW_NETS)?.try_into().map_err(Error::map(names::ALLOW_NETS, "open"))?;
    let is_allowed = |addr: &Addr| {
        let key = aya::maps::lpm_trie::Key::new(128, *addr);
        allow.get(&key, 0).is_ok_and(|entry| entry.roles & role.bit() != 0)
    };
    Ok(entries
        .into_iter()
        .filter(|(addr, entry)| entry.expires_s == 0 && !is_allowed(addr))
        .map(|(addr, _)| addr)
        .take(CONSIDERED_MAX)
        .collect())
}

//! Loads the objects: sizes of maps, globals, pinned maps.
//!
//! All copies of a program share the pinned maps. A pinned map of another shape is made anew: the
//! programs that still run keep the old one until they are replaced.

use aya::maps::{Map, MapData, MapError, MapType};
use aya::programs::{Program, ProgramError, SchedClassifier, Xdp};
use aya::{Ebpf, EbpfError, EbpfLoader};
use sluice_abi::attach::{Attachment, Link, Role};
use sluice_abi::counter::Tally;
use sluice_abi::flow::{Addr, FlowCount, FlowKey, FlowLimit, FlowState, Recent};
use sluice_abi::limits::{
    ATTACKED_MAX, Attacked, KNOWN_SETS, KnownSet, OWN_MAX, Offenders, SCANS, Scan,
};
use sluice_abi::live::Live;
use sluice_abi::message::Message;
use sluice_abi::names;
use sluice_abi::profile::Profile;
use sluice_abi::settings::Settings;
use sluice_abi::shield::{AllowEntry, BlockEntry, BucketSet, ListHits};

use super::bulk::Bulk;
use super::error::Error;
use super::pins::Pins;
use super::plan::Sizes;
use super::values::Values;
use crate::sys::{bpf, memory};

/// Object with the shield.
pub const XDP_SHIELD: &str = "xdp_shield";
/// Object with the fast path.
pub const TC_FLOW: &str = "tc_flow";

/// The objects that the binary carries; empty when it was built without them.
#[derive(Clone, Copy, Debug)]
pub struct Objects {
    /// The object `xdp_shield`.
    pub xdp_shield: &'static [u8],
    /// The object `tc_flow`.
    pub tc_flow: &'static [u8],
    /// The object `xdp_device`.
    pub xdp_device: &'static [u8],
}

impl Objects {
    /// Those of this build.
    #[must_use]
    pub fn embedded() -> Self {
        Self {
            xdp_shield: embedded::XDP_SHIELD,
            tc_flow: embedded::TC_FLOW,
            xdp_device: embedded::XDP_DEVICE,
        }
    }
}

#[expect(unreachable_pub, reason = "generated, to be included anywhere")]
mod embedded {
    include!(concat!(env!("OUT_DIR"), "/objects.rs"));
}

/// What a map must look like to be used again.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Shape {
    kind: MapType,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
}

/// A map whose size the plan chooses.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Sized {
    Flows,
    FlowCounts,
    Buckets,
    BlockHosts,
    BlockNets,
    AllowNets,
    Held,
    Limits,
    Messages,
}

impl Sized {
    fn of(name: &str) -> Option<Self> {
        Some(match name {
            names::FLOWS => Self::Flows,
            names::FLOW_COUNTS => Self::FlowCounts,
            names::BUCKETS => Self::Buckets,
            names::BLOCK_HOSTS => Self::BlockHosts,
            names::BLOCK_NETS => Self::BlockNets,
            names::ALLOW_NETS => Self::AllowNets,
            names::HELD => Self::Held,
            names::LIMITS => Self::Limits,
            names::MESSAGES => Self::Messages,
            _ => return None,
        })
    }

    const fn size(self, sizes: &mut Sizes) -> &mut u32 {
        match self {
            Self::Flows => &mut sizes.flows_keys,
            Self::FlowCounts => &mut sizes.flow_slots,
            Self::Buckets => &mut sizes.bucket_sets,
            Self::BlockHosts => &mut sizes.block_hosts,
            Self::BlockNets => &mut sizes.block_nets,
            Self::AllowNets => &mut sizes.allow_nets,
            Self::Held => &mut sizes.held_keys,
            Self::Limits => &mut sizes.held_slots,
            Self::Messages => &mut sizes.messages,
        }
    }

    /// Below this a map is of no use.
    fn floor(self) -> u32 {
        match self {
            Self::Flows => 256,
            Self::FlowCounts => 128,
            Self::Buckets | Self::BlockHosts | Self::BlockNets | Self::Held => 64,
            Self::Limits => 32,
            Self::AllowNets => 16,
            Self::Messages => memory::page(),
        }
    }
}

/// Halves the map called `name`; `None` when it is at its floor or has a fixed size.
pub(super) fn halve(sizes: &mut Sizes, name: &str) -> Option<(u32, u32)> {
    let map = Sized::of(name)?;
    let size = map.size(sizes);
    let before = *size;
    let after = before / 2;
    (after >= map.floor()).then(|| {
        *size = after;
        (before, after)
    })
}

/// Sizes that the maps can have: no map empty, the buckets a power of two, the messages of pages.
pub(super) fn usable(mut sizes: Sizes) -> Sizes {
    for map in [
        Sized::Flows,
        Sized::FlowCounts,
        Sized::Buckets,
        Sized::BlockHosts,
        Sized::BlockNets,
        Sized::AllowNets,
        Sized::Held,
        Sized::Limits,
    ] {
        let size = map.size(&mut sizes);
        *size = (*size).max(1);
    }
    // Rounded down where up does not fit 32 bits.
    let sets = sizes.bucket_sets;
    sizes.bucket_sets = sets.checked_next_power_of_two().unwrap_or(1 << 31);
    let messages = sizes.messages.max(memory::page());
    sizes.messages = messages.checked_next_power_of_two().unwrap_or(1 << 31);
    sizes
}

/// Loads objects with one set of pinned maps.
#[derive(Debug)]
pub(super) struct Loader {
    /// One for all objects: aya reads the kernel's BTF, megabytes where there is any, whenever it
    /// makes a loader.
    ebpf: EbpfLoader<'static>,
    sizes: Sizes,
    /// Processors that there can be.
    cpus: u32,
    notes: Vec<String>,
    /// Of the object that was loaded last.
    values: Values,
    /// Whether the kernel makes SYN cookies for programs.
    cookies: bool,
}

const KINDS: usize = 18;

/// Every attachment there can be: a loader that is kept wants globals that stay where they are.
static ATTACHMENTS: [Attachment; Attachment::SLOTS as usize * KINDS] = {
    let kinds = [
        (Role::Lan, Link::Ethernet),
        (Role::Lan, Link::Ip),
        (Role::Lan, Link::Mtk),
        (Role::Wan, Link::Ethernet),
        (Role::Wan, Link::Ip),
        (Role::Wan, Link::Mtk),
    ];
    let mut all =
        [Attachment::new(0, Role::Lan, Link::Ethernet); Attachment::SLOTS as usize * KINDS];
    let mut index = 0;
    while index < all.len() {
        let (role, link) = kinds[index % kinds.len()];
        let attachment = Attachment::new((index / KINDS) as u32, role, link);
        all[index] = match index % KINDS / kinds.len() {
            0 => attachment,
            1 => attachment.spreading(),
            _ => attachment.shielding(),
        };
        index += 1;
    }
    all
};

/// Numbers of bucket sets less one, for the same reason.
static MASKS: [u32; 32] = {
    let mut masks = [0; 32];
    let mut bits = 0;
    while bits < masks.len() {
        masks[bits] = (1 << bits) - 1;
        bits += 1;
    }
    masks
};

/// Whether the kernel makes SYN cookies for programs, as the shield is told.
static COOKIES: [u32; 2] = [0, 1];

impl Loader {
    pub(super) fn new(sizes: Sizes, cookies: bool) -> Self {
        let mut ebpf = EbpfLoader::new();
        // Nothing here is relocated against the kernel's types, which routers do not have.
        ebpf.btf(None);
        // One, where the kernel does not say: then nothing is spread.
        let cpus = aya::util::nr_cpus().map_or(1, |cpus| cpus as u32);
        Self {
            ebpf,
            sizes: usable(sizes),
            cpus,
            notes: Vec::new(),
            values: Values::default(),
            cookies,
        }
    }

    /// Sizes in force: the plan's, or less when memory was short.
    pub(super) const fn sizes(&self) -> &Sizes {
        &self.sizes
    }

    /// Leaves SYN cookies out from now on, because a program with them was refused; `false` when they
    /// were left out already.
    pub(super) fn without_cookies(&mut self, error: &Error) -> bool {
        if self.cookies {
            log::warn!("the shield goes without SYN cookies: {}", error.chain());
        }
        std::mem::take(&mut self.cookies)
    }

    /// Whether the kernel makes SYN cookies for programs.
    pub(super) const fn cookies(&self) -> bool {
        self.cookies
    }

    /// What was not as planned.
    pub(super) fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Loads the maps and globals of an object for one interface. Programs are not in the kernel
    /// yet: they have to be before the next object is loaded.
    pub(super) fn load(
        &mut self,
        object: &'static str,
        bytes: &[u8],
        pins: &Pins,
        attachment: Attachment,
    ) -> Result<Ebpf, Error> {
        if bytes.is_empty() {
            return Err(Error::NoObject { object });
        }
        loop {
            self.drop_misshapen(pins)?;
            Bulk::make(&pins.map(names::BULK))?;
            self.values = Values::open(|name| pins.map(name))?;
            let bytes = self.values.put_into(object, bytes)?;
            let source = match self.try_load(&bytes, pins, attachment) {
                Ok(ebpf) => return Ok(ebpf),
                Err(source) => source,
            };
            let Some((map, errno)) = no_room(&source) else {
                return Err(Error::Load { object, source: Box::new(source) });
            };
            let Some((before, after)) = halve(&mut self.sizes, map) else {
                return Err(Error::Load { object, source: Box::new(source) });
            };
            let reason = std::io::Error::from_raw_os_error(errno);
            self.notes.push(format!("map {map}: {after} entries instead of {before}: {reason}"));
            log::warn!("{}", self.notes.last().map_or("", String::as_str));
        }
    }

    fn try_load(
        &mut self,
        bytes: &[u8],
        pins: &Pins,
        attachment: Attachment,
    ) -> Result<Ebpf, EbpfError> {
        for of in &ATTACHMENTS {
            if *of == attachment {
                self.ebpf.override_global(names::ATTACHMENT, of, true);
            }
        }
        let mask = &MASKS[self.sizes.bucket_sets.trailing_zeros() as usize];
        self.ebpf.override_global(names::BUCKET_MASK, mask, false);
        let cookies = &COOKIES[usize::from(self.cookies)];
        self.ebpf.override_global(names::COOKIES, cookies, false);
        for (name, shape) in self.shapes() {
            if Sized::of(name).is_some() || name == names::CPUS {
                self.ebpf.map_max_entries(name, shape.max_entries);
            }
            self.ebpf.map_pin_path(name, pins.map(name));
        }
        self.ebpf.load(bytes)
    }

    /// Removes the pins of maps that have another shape than ours.
    fn drop_misshapen(&mut self, pins: &Pins) -> Result<(), Error> {
        for (name, wanted) in self.shapes() {
            for other in pins.other_layouts(name)? {
                let shown = other.file_name().unwrap_or_default().to_string_lossy().into_owned();
                log::info!("pinned map {name} is made anew: {shown} has another layout");
                self.notes.push(format!("map {name}: made anew, its entries are lost"));
                pins.remove_other(&other)?;
            }
            let path = pins.map(name);
            if !path.exists() {
                continue;
            }
            let found = MapData::from_pin(&path).and_then(|map| shape(&map));
            if found.as_ref().is_ok_and(|found| *found == wanted) {
                continue;
            }
            let was = found.map_or_else(|error| error.to_string(), |found| format!("{found:?}"));
            log::info!("pinned map {name} is made anew: it is {was}, wanted is {wanted:?}");
            self.notes.push(format!("map {name}: made anew, its entries are lost"));
            pins.remove_map(name)?;
        }
        Ok(())
    }

    fn shapes(&self) -> [(&'static str, Shape); 25] {
        let map = |name, kind, key: usize, value: usize, max_entries| {
            let shape = Shape { kind, key_size: key as u32, value_size: value as u32, max_entries };
            (name, shape)
        };
        let sizes = &self.sizes;
        let (index, addr, prefix) = (4, size_of::<Addr>(), 4 + size_of::<Addr>());
        #[rustfmt::skip]
        let shapes = [
            map(names::FLOWS, MapType::LruHash, size_of::<FlowKey>(), size_of::<FlowState>(), sizes.flows_keys),
            map(names::FLOW_COUNTS, MapType::PerCpuArray, index, size_of::<FlowCount>(), sizes.flow_slots),
            map(names::HELD, MapType::Hash, size_of::<FlowKey>(), size_of::<FlowState>(), sizes.held_keys),
            map(names::LIMITS, MapType::Array, index, size_of::<FlowLimit>(), sizes.held_slots),
            map(names::EPOCH, MapType::Array, index, 4, 1),
            map(names::RECENT, MapType::PerCpuArray, index, size_of::<Recent>(), Recent::COUNT),
            map(names::PROFILES, MapType::Array, index, size_of::<Profile>(), Profile::COUNT),
            map(names::TOTALS, MapType::PerCpuArray, index, size_of::<Tally>(), Attachment::SLOTS),
            map(names::SETTINGS, MapType::Array, index, size_of::<Settings>(), 1),
            map(names::BLOCK_HOSTS, MapType::Hash, addr, size_of::<BlockEntry>(), sizes.block_hosts),
            map(names::BLOCK_NETS, MapType::LpmTrie, prefix, size_of::<BlockEntry>(), sizes.block_nets),
            map(names::ALLOW_NETS, MapType::LpmTrie, prefix, size_of::<AllowEntry>(), sizes.allow_nets),
            map(names::LIST_HITS, MapType::PerCpuArray, index, size_of::<ListHits>(), names::LISTS_MAX),
            map(names::BUCKETS, MapType::Array, index, size_of::<BucketSet>(), sizes.bucket_sets),
            map(names::BULK, MapType::ArrayOfMaps, index, size_of::<u32>(), 1),
            map(names::OFFENDERS, MapType::PerCpuArray, index, size_of::<Offenders>(), 1),
            map(names::SCANS, MapType::Array, index, size_of::<Scan>(), SCANS),
            map(names::KNOWN, MapType::Array, index, size_of::<KnownSet>(), KNOWN_SETS),
            map(names::OWN, MapType::Hash, addr, 4, OWN_MAX),
            map(names::ATTACKED, MapType::Hash, addr, size_of::<Attacked>(), ATTACKED_MAX),
            map(names::CPUS, MapType::CpuMap, index, 8, self.cpus),
            map(names::SPREAD, MapType::Array, index, 4, names::SPREAD_SLOTS),
            map(names::LIVE, MapType::Array, index, size_of::<Live>(), 1),
            map(names::MESSAGES, MapType::RingBuf, 0, 0, sizes.messages),
            map(names::COPY, MapType::PerCpuArray, index, size_of::<Message>(), 1),
        ];
        shapes
    }
}

fn shape(map: &MapData) -> Result<Shape, MapError> {
    let info = map.info()?;
    Ok(Shape {
        kind: info.map_type()?,
        key_size: info.key_size(),
        value_size: info.value_size(),
        max_entries: info.max_entries(),
    })
}

/// The map that could not be made for want of memory, and the kernel's answer.
fn no_room(error: &EbpfError) -> Option<(&str, i32)> {
    let EbpfError::MapError(MapError::CreateError { name, io_error }) = error else { return None };
    let errno = io_error.raw_os_error()?;
    matches!(errno, libc::ENOMEM | libc::E2BIG).then_some((name, errno))
}

/// A program's way into the kernel.
pub(super) trait Loadable {
    fn load(&mut self) -> Result<(), ProgramError>;
}

impl Loadable for Xdp {
    fn load(&mut self) -> Result<(), ProgramError> {
        self.load()
    }
}

impl Loadable for SchedClassifier {
    fn load(&mut self) -> Result<(), ProgramError> {
        self.load()
    }
}

/// Loads the program `name` into the kernel and returns its descriptor.
pub(super) fn program<P: Loadable>(
    ebpf: &mut Ebpf,
    object: &'static str,
    name: &'static str,
) -> Result<std::os::fd::OwnedFd, Error>
where
    for<'a> &'a mut P: TryFrom<&'a mut Program, Error = ProgramError>,
{
    use std::os::fd::AsFd as _;
    let refused = |source| Error::Program { program: name, source: Box::new(source) };
    let entry = ebpf.program_mut(name).ok_or(Error::Missing { object, name })?;
    <&mut P>::try_from(&mut *entry).map_err(refused)?.load().map_err(refused)?;
    let fd = entry.fd().map_err(refused)?.as_fd().try_clone_to_owned();
    fd.map_err(|error| refused(ProgramError::IOError(error)))
}

/// Whether a program that the kernel compiles elsewhere is interpreted here; a reason when so.
pub(super) fn interpreted(name: &str, prog: std::os::fd::BorrowedFd<'_>) -> Option<String> {
    let info = bpf::prog_info(prog).ok()?;
    (info.jited_len == 0)
        .then(|| format!("{name} is interpreted: the kernel's compiler is off or refused it"))
}

/// Opens a pinned map.
pub(super) fn open(pins: &Pins, name: &'static str) -> Result<Map, Error> {
    let data = MapData::from_pin(pins.map(name)).map_err(Error::map(name, "open"))?;
    Map::from_map_data(data).map_err(Error::map(name, "open"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_are_halved_down_to_a_floor_and_fixed_ones_never() {
        let mut sizes = usable(Sizes { flows_keys: 1_100, ..Sizes::default() });
        assert_eq!(halve(&mut sizes, names::FLOWS), Some((1_100, 550)));
        assert_eq!(halve(&mut sizes, names::FLOWS), Some((550, 275)));
        assert_eq!(halve(&mut sizes, names::FLOWS), None, "137 would be below the floor");
        assert_eq!(sizes.flows_keys, 275);
        assert_eq!(halve(&mut sizes, names::TOTALS), None);
        assert_eq!(halve(&mut sizes, names::SETTINGS), None);
        assert_eq!(sizes.flow_slots, Sizes::default().flow_slots, "others keep their size");
    }

    #[test]
    fn bucket_sets_stay_a_power_of_two() {
        let with = |bucket_sets| usable(Sizes { bucket_sets, ..Sizes::default() }).bucket_sets;
        assert_eq!((with(0), with(1), with(1000), with(1 << 20)), (1, 1, 1024, 1 << 20));
        assert_eq!(with(u32::MAX), 1 << 31);
        let mut sizes = usable(Sizes { bucket_sets: 1000, ..Sizes::default() });
        while let Some((_, after)) = halve(&mut sizes, names::BUCKETS) {
            assert!(after.is_power_of_two());
        }
        assert_eq!(sizes.bucket_sets, 64);
    }

    #[test]
    fn only_want_of_memory_makes_maps_smaller() {
        let create = |errno| {
            EbpfError::MapError(MapError::CreateError {
                name: names::FLOWS.to_owned(),
                io_error: std::io::Error::from_raw_os_error(errno),
            })
        };
        assert_eq!(no_room(&create(libc::ENOMEM)), Some((names::FLOWS, libc::ENOMEM)));
        assert_eq!(no_room(&create(libc::E2BIG)), Some((names::FLOWS, libc::E2BIG)));
        assert_eq!(no_room(&create(libc::EPERM)), None);
        assert_eq!(no_room(&EbpfError::NoBTF), None);
    }
}

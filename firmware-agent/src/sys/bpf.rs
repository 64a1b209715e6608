//! The commands of bpf(2) that aya does not offer: links by hand, the interface behind a link, map
//! updates in batches.
//!
//! Every attribute is a prefix of the kernel's `union bpf_attr`; the kernel takes what is missing
//! as zero.

mod arrays;
mod device;
mod maps;

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

pub use self::arrays::{
    array, array_delete, array_get, array_of_any_size, array_of_one_map, array_set, map_by_id,
    map_size,
};
pub use self::device::{DeviceMap, create_map_on, load_on};
pub use self::maps::{map_delete_batch, map_entries, map_update_batch, per_cpu_values};

const BPF_MAP_CREATE: libc::c_int = 0;
const BPF_PROG_LOAD: libc::c_int = 5;
const BPF_OBJ_PIN: libc::c_int = 6;
const BPF_OBJ_GET: libc::c_int = 7;
const BPF_PROG_GET_FD_BY_ID: libc::c_int = 13;
const BPF_OBJ_GET_INFO_BY_FD: libc::c_int = 15;
const BPF_PROG_QUERY: libc::c_int = 16;
const BPF_LINK_CREATE: libc::c_int = 28;
const BPF_LINK_UPDATE: libc::c_int = 29;
const BPF_LINK_DETACH: libc::c_int = 34;

/// The kernel's "operation not supported", which is not in any libc.
pub const ENOTSUPP: i32 = 524;

/// Where a link puts its program.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Hook {
    /// XDP in the driver.
    XdpNative,
    /// XDP in the network stack.
    XdpGeneric,
    /// tcx, packets that arrive.
    TcxIngress,
    /// tcx, packets that leave.
    TcxEgress,
}

impl Hook {
    const fn attach_type(self) -> u32 {
        match self {
            Self::XdpNative | Self::XdpGeneric => 37,
            Self::TcxIngress => 46,
            Self::TcxEgress => 47,
        }
    }

    const fn flags(self) -> u32 {
        match self {
            Self::XdpGeneric => 1 << 1,
            Self::XdpNative => 1 << 2,
            Self::TcxIngress | Self::TcxEgress => 0,
        }
    }
}

/// Program types that the agent loads.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u32)]
pub enum ProgramKind {
    /// Classifier.
    Tc = 3,
    /// XDP.
    Xdp = 6,
}

/// Map types that the agent uses.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u32)]
pub enum MapKind {
    /// Hash.
    Hash = 1,
    /// Per-CPU array.
    PerCpuArray = 6,
    /// Hash that forgets the entry used longest ago.
    LruHash = 9,
    /// Longest-prefix trie.
    LpmTrie = 11,
}

/// What the kernel says about a link.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct LinkInfo {
    /// Id of the program.
    pub prog_id: u32,
    /// The device; 0 when it is gone.
    pub ifindex: u32,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct Instruction {
    code: u8,
    registers: u8,
    offset: i16,
    immediate: i32,
}

impl Instruction {
    const EXIT: Self = Self::new(0x95, 0, 0, 0, 0);

    /// The registers share a byte as bit fields do.
    const fn new(code: u8, to: u8, from: u8, offset: i16, immediate: i32) -> Self {
        let registers =
            if cfg!(target_endian = "little") { to | from << 4 } else { to << 4 | from };
        Self { code, registers, offset, immediate }
    }

    /// Puts a number into a register.
    const fn set(to: u8, value: i32) -> Self {
        Self::new(0xb7, to, 0, 0, value)
    }
}

fn load(kind: ProgramKind, program: &[Instruction]) -> io::Result<OwnedFd> {
    #[repr(C)]
    struct Attr {
        prog_type: u32,
        insn_cnt: u32,
        insns: u64,
        license: u64,
    }
    let mut attr = Attr {
        prog_type: kind as u32,
        insn_cnt: program.len() as u32,
        insns: address(program.as_ptr()),
        license: address(c"GPL".as_ptr()),
    };
    new_fd(BPF_PROG_LOAD, &mut attr)
}

/// Loads a program that returns `value` and does nothing else.
pub fn load_constant(kind: ProgramKind, value: i32) -> io::Result<OwnedFd> {
    load(kind, &[Instruction::set(0, value), Instruction::EXIT])
}

/// Loads an XDP program that makes SYN cookies of zeros, for both families of addresses.
pub fn load_syn_cookie() -> io::Result<OwnedFd> {
    /// Length of a TCP header.
    const TCP: i16 = 24;
    /// `bpf_tcp_raw_gen_syncookie_ipv4` and the same for IPv6.
    const HELPERS: [i32; 2] = [204, 205];
    let mut program = Vec::new();
    for helper in HELPERS {
        // An IP header of up to 40 bytes and a TCP header behind it, on the stack.
        for word in 1..=8 {
            program.push(Instruction::new(0x7a, 10, 0, word * -8, 0));
        }
        for (register, offset) in [(1, 40 + TCP), (2, TCP)] {
            program.push(Instruction::new(0xbf, register, 10, 0, 0));
            program.push(Instruction::new(0x07, register, 0, 0, -i32::from(offset)));
        }
        program.push(Instruction::set(3, TCP.into()));
        program.push(Instruction::new(0x85, 0, 0, 0, helper));
    }
    program.extend([Instruction::set(0, 2), Instruction::EXIT]);
    load(ProgramKind::Xdp, &program)
}

/// Attribute of the command that makes a map. What is zero has no effect on kernels that do not know
/// the field.
#[repr(C)]
#[derive(Default)]
struct NewMap {
    map_type: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
    map_flags: u32,
    inner_map_fd: u32,
    numa_node: u32,
    map_name: [u8; 16],
    map_ifindex: u32,
}

impl NewMap {
    fn create(mut self) -> io::Result<OwnedFd> {
        new_fd(BPF_MAP_CREATE, &mut self)
    }
}

/// A name as the kernel keeps it: fifteen bytes and a zero.
fn kernel_name(name: &str) -> [u8; 16] {
    let mut bytes = [0; 16];
    for (to, from) in bytes.iter_mut().take(15).zip(name.bytes()) {
        *to = from;
    }
    bytes
}

/// Creates a map with one entry, as large as the smallest that Sluice uses.
pub fn create_map(kind: MapKind) -> io::Result<OwnedFd> {
    const NO_PREALLOC: u32 = 1;
    let (key_size, map_flags) = match kind {
        MapKind::Hash | MapKind::LruHash => (16, 0),
        MapKind::PerCpuArray => (4, 0),
        MapKind::LpmTrie => (20, NO_PREALLOC),
    };
    let map_type = kind as u32;
    NewMap { map_type, key_size, value_size: 8, max_entries: 1, map_flags, ..NewMap::default() }
        .create()
}

/// Attaches `prog` to the device `ifindex`.
pub fn link_create(prog: BorrowedFd<'_>, ifindex: u32, hook: Hook) -> io::Result<OwnedFd> {
    #[repr(C)]
    struct Attr {
        prog_fd: RawFd,
        target_ifindex: u32,
        attach_type: u32,
        flags: u32,
    }
    let mut attr = Attr {
        prog_fd: prog.as_raw_fd(),
        target_ifindex: ifindex,
        attach_type: hook.attach_type(),
        flags: hook.flags(),
    };
    new_fd(BPF_LINK_CREATE, &mut attr)
}

/// Puts another program behind a link; no packet passes between the two.
pub fn link_update(link: BorrowedFd<'_>, prog: BorrowedFd<'_>) -> io::Result<()> {
    #[repr(C)]
    struct Attr {
        link_fd: RawFd,
        new_prog_fd: RawFd,
        flags: u32,
        old_prog_fd: u32,
    }
    let mut attr =
        Attr { link_fd: link.as_raw_fd(), new_prog_fd: prog.as_raw_fd(), flags: 0, old_prog_fd: 0 };
    call(BPF_LINK_UPDATE, &mut attr).map(drop)
}

/// Takes a link's program off its device. Without it that happens some time after the last pin and
/// descriptor are gone.
pub fn link_detach(link: BorrowedFd<'_>) -> io::Result<()> {
    #[repr(C)]
    struct Attr {
        link_fd: RawFd,
    }
    call(BPF_LINK_DETACH, &mut Attr { link_fd: link.as_raw_fd() }).map(drop)
}

/// Where a link is and what runs there.
pub fn link_info(link: BorrowedFd<'_>) -> io::Result<LinkInfo> {
    #[repr(C)]
    #[derive(Clone, Copy, Default)]
    struct Info {
        kind: u32,
        id: u32,
        prog_id: u32,
        pad: u32,
        // The union behind the header; for XDP and tcx it starts with the device.
        ifindex: u32,
        rest: [u32; 7],
    }
    let mut info = Info::default();
    get_info(link, &mut info)?;
    Ok(LinkInfo { prog_id: info.prog_id, ifindex: info.ifindex })
}

/// What the kernel says about a program.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ProgInfo {
    /// Id.
    pub id: u32,
    /// Name, up to fifteen bytes.
    pub name: String,
    /// Bytes of machine code; 0 when the program is interpreted.
    pub jited_len: u32,
}

/// What is known about a program.
pub fn prog_info(prog: BorrowedFd<'_>) -> io::Result<ProgInfo> {
    #[repr(C)]
    #[derive(Clone, Copy, Default)]
    struct Info {
        kind: u32,
        id: u32,
        tag: [u8; 8],
        jited_len: u32,
        xlated_len: u32,
        between: [u64; 5],
        name: [u8; 16],
    }
    let mut info = Info::default();
    get_info(prog, &mut info)?;
    let name = info.name.split(|byte| *byte == 0).next().unwrap_or_default();
    let name = String::from_utf8_lossy(name).into_owned();
    Ok(ProgInfo { id: info.id, name, jited_len: info.jited_len })
}

/// The program with this id, when it still exists.
pub fn prog_by_id(id: u32) -> io::Result<OwnedFd> {
    #[repr(C)]
    struct Attr {
        id: u32,
        next_id: u32,
        open_flags: u32,
    }
    new_fd(BPF_PROG_GET_FD_BY_ID, &mut Attr { id, next_id: 0, open_flags: 0 })
}

/// Ids of the programs on a tcx hook, in the order in which they run; at most 64, which is the
/// kernel's limit.
pub fn tcx_programs(ifindex: u32, hook: Hook) -> io::Result<Vec<u32>> {
    #[repr(C)]
    struct Attr {
        target_ifindex: u32,
        attach_type: u32,
        query_flags: u32,
        attach_flags: u32,
        prog_ids: u64,
        count: u32,
        pad: u32,
        // Behind the ids: their flags, link ids, link flags, revision.
        rest: [u64; 4],
    }
    let mut ids = [0_u32; 64];
    let mut attr = Attr {
        target_ifindex: ifindex,
        attach_type: hook.attach_type(),
        query_flags: 0,
        attach_flags: 0,
        prog_ids: address(ids.as_mut_ptr()),
        count: ids.len() as u32,
        pad: 0,
        rest: [0; 4],
    };
    call(BPF_PROG_QUERY, &mut attr)?;
    let count = (attr.count as usize).min(ids.len());
    Ok(ids[..count].iter().copied().filter(|id| *id != 0).collect())
}

/// Pins an object at `path`, which must be on bpffs.
pub fn pin(object: BorrowedFd<'_>, path: &Path) -> io::Result<()> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let mut attr = Pin { path: address(path.as_ptr()), fd: object.as_raw_fd(), flags: 0 };
    call(BPF_OBJ_PIN, &mut attr).map(drop)
}

/// Opens a pinned object.
pub fn pinned(path: &Path) -> io::Result<OwnedFd> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    new_fd(BPF_OBJ_GET, &mut Pin { path: address(path.as_ptr()), fd: 0, flags: 0 })
}

#[repr(C)]
struct Pin {
    path: u64,
    fd: RawFd,
    flags: u32,
}

fn get_info<T>(object: BorrowedFd<'_>, info: &mut T) -> io::Result<()> {
    #[repr(C)]
    struct Attr {
        fd: RawFd,
        len: u32,
        info: u64,
    }
    let mut attr = Attr {
        fd: object.as_raw_fd(),
        len: size_of::<T>() as u32,
        info: address(std::ptr::from_mut(info)),
    };
    call(BPF_OBJ_GET_INFO_BY_FD, &mut attr).map(drop)
}

/// A pointer as the kernel takes it: 64 bits on every machine.
fn address<T>(pointer: *const T) -> u64 {
    pointer.expose_provenance() as u64
}

fn new_fd<T>(command: libc::c_int, attr: &mut T) -> io::Result<OwnedFd> {
    let fd = call(command, attr)?;
    // SAFETY: the command returned a new descriptor that nothing else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn call<T>(command: libc::c_int, attr: &mut T) -> io::Result<RawFd> {
    // SAFETY: `attr` is valid for reads and writes of its size, and the addresses inside it belong
    // to buffers that the callers keep alive and whose lengths they pass.
    let result =
        unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attr), size_of::<T>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result as RawFd) }
}

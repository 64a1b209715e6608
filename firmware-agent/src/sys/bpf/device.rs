//! Maps and programs that live in a network card (`map_ifindex`, `prog_ifindex`), which aya does not make.

use std::ffi::CStr;
use std::io;
use std::os::fd::OwnedFd;

use super::{BPF_PROG_LOAD, NewMap, ProgramKind, address, kernel_name, new_fd};

/// Bytes of a verifier log that are asked for after a refusal.
const LOG: usize = 1 << 16;

/// Sizes of a map, and what kind it is by the kernel's number.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct DeviceMap {
    /// Number of the kind.
    pub kind: u32,
    /// Bytes of a key.
    pub key_size: u32,
    /// Bytes of a value.
    pub value_size: u32,
    /// Entries.
    pub max_entries: u32,
}

/// Creates a map in the card behind the device `ifindex`.
pub fn create_map_on(ifindex: u32, name: &str, map: DeviceMap) -> io::Result<OwnedFd> {
    NewMap {
        map_type: map.kind,
        key_size: map.key_size,
        value_size: map.value_size,
        max_entries: map.max_entries,
        map_name: kernel_name(name),
        map_ifindex: ifindex,
        ..NewMap::default()
    }
    .create()
}

/// Loads an XDP program into the card behind the device `ifindex`. `I` is an instruction as the
/// kernel has it. The second part of a refusal is the last line of the verifier's log.
pub fn load_on<I>(
    ifindex: u32,
    name: &str,
    license: &CStr,
    instructions: &[I],
) -> Result<OwnedFd, (io::Error, String)> {
    #[repr(C)]
    struct Attr {
        prog_type: u32,
        insn_cnt: u32,
        insns: u64,
        license: u64,
        log_level: u32,
        log_size: u32,
        log_buf: u64,
        kern_version: u32,
        prog_flags: u32,
        prog_name: [u8; 16],
        prog_ifindex: u32,
        expected_attach_type: u32,
    }
    const { assert!(size_of::<I>() == 8, "an instruction has eight bytes") }
    let mut attr = Attr {
        prog_type: ProgramKind::Xdp as u32,
        insn_cnt: instructions.len() as u32,
        insns: address(instructions.as_ptr()),
        license: address(license.as_ptr()),
        log_level: 0,
        log_size: 0,
        log_buf: 0,
        kern_version: 0,
        prog_flags: 0,
        prog_name: kernel_name(name),
        prog_ifindex: ifindex,
        expected_attach_type: 0,
    };
    let error = match new_fd(BPF_PROG_LOAD, &mut attr) {
        Ok(prog) => return Ok(prog),
        Err(error) => error,
    };
    let mut log = vec![0_u8; LOG];
    (attr.log_level, attr.log_size, attr.log_buf) = (1, LOG as u32, address(log.as_mut_ptr()));
    if let Ok(prog) = new_fd(BPF_PROG_LOAD, &mut attr) {
        return Ok(prog);
    }
    let end = log.iter().position(|byte| *byte == 0).unwrap_or(log.len());
    let text = String::from_utf8_lossy(&log[..end]);
    // The last lines are statistics.
    let statistics = ["processed ", "verification time", "stack depth"];
    let says = |line: &&str| {
        !line.trim().is_empty() && !statistics.iter().any(|start| line.starts_with(start))
    };
    Err((error, text.lines().rev().find(says).unwrap_or_default().to_owned()))
}

//! Arrays whose values are too large, or too special, for aya: chunks of 64 KiB, and maps.

use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd, OwnedFd, RawFd};

use bytemuck::Pod;

use super::{NewMap, address, call, get_info, kernel_name, new_fd};

const BPF_MAP_LOOKUP_ELEM: libc::c_int = 1;
const BPF_MAP_UPDATE_ELEM: libc::c_int = 2;
const BPF_MAP_DELETE_ELEM: libc::c_int = 3;
const BPF_MAP_GET_FD_BY_ID: libc::c_int = 14;

/// Attribute of the commands about one entry.
#[repr(C)]
struct Entry {
    map_fd: RawFd,
    pad: u32,
    key: u64,
    value: u64,
    flags: u64,
}

/// Makes an array. Its name shows up in the kernel's lists of maps.
pub fn array(name: &str, value_size: u32, max_entries: u32) -> io::Result<OwnedFd> {
    array_with(name, value_size, max_entries, 0)
}

/// Makes an array that can stand in a map of maps next to arrays of other sizes
/// (`BPF_F_INNER_MAP`, kernel 5.10).
pub fn array_of_any_size(name: &str, value_size: u32, max_entries: u32) -> io::Result<OwnedFd> {
    const INNER_MAP: u32 = 0x1000;
    array_with(name, value_size, max_entries, INNER_MAP)
}

fn array_with(
    name: &str,
    value_size: u32,
    max_entries: u32,
    map_flags: u32,
) -> io::Result<OwnedFd> {
    const ARRAY: u32 = 2;
    NewMap {
        map_type: ARRAY,
        key_size: 4,
        value_size,
        max_entries,
        map_flags,
        map_name: kernel_name(name),
        ..NewMap::default()
    }
    .create()
}

/// Makes an array of one map, for maps like `inner`.
pub fn array_of_one_map(name: &str, inner: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    const ARRAY_OF_MAPS: u32 = 12;
    NewMap {
        map_type: ARRAY_OF_MAPS,
        key_size: 4,
        value_size: 4,
        max_entries: 1,
        inner_map_fd: inner.as_raw_fd().cast_unsigned(),
        map_name: kernel_name(name),
        ..NewMap::default()
    }
    .create()
}

/// Writes the value at `index`; of a map of maps, its value is the descriptor of one.
pub fn array_set<V: Pod>(map: BorrowedFd<'_>, index: u32, value: &V) -> io::Result<()> {
    let value = address(std::ptr::from_ref(value));
    call(BPF_MAP_UPDATE_ELEM, &mut entry(map, &index, value)).map(drop)
}

/// Reads the value at `index`; of a map of maps, the id of one.
pub fn array_get<V: Pod>(map: BorrowedFd<'_>, index: u32, value: &mut V) -> io::Result<()> {
    let value = address(std::ptr::from_mut(value));
    call(BPF_MAP_LOOKUP_ELEM, &mut entry(map, &index, value)).map(drop)
}

/// Takes the map at `index` out of a map of maps.
pub fn array_delete(map: BorrowedFd<'_>, index: u32) -> io::Result<()> {
    call(BPF_MAP_DELETE_ELEM, &mut entry(map, &index, 0)).map(drop)
}

/// The map with this id, when it still exists.
pub fn map_by_id(id: u32) -> io::Result<OwnedFd> {
    #[repr(C)]
    struct Attr {
        id: u32,
        next_id: u32,
        open_flags: u32,
    }
    new_fd(BPF_MAP_GET_FD_BY_ID, &mut Attr { id, next_id: 0, open_flags: 0 })
}

/// Bytes of a value, and entries, of a map.
pub fn map_size(map: BorrowedFd<'_>) -> io::Result<(u32, u32)> {
    #[repr(C)]
    #[derive(Clone, Copy, Default)]
    struct Info {
        kind: u32,
        id: u32,
        key_size: u32,
        value_size: u32,
        max_entries: u32,
    }
    let mut info = Info::default();
    get_info(map, &mut info)?;
    Ok((info.value_size, info.max_entries))
}

fn entry(map: BorrowedFd<'_>, index: &u32, value: u64) -> Entry {
    let key = address(std::ptr::from_ref(index));
    Entry { map_fd: map.as_raw_fd(), pad: 0, key, value, flags: 0 }
}

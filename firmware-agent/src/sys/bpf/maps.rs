//! Many entries of a map in one call.

use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd, RawFd};
use std::sync::OnceLock;

use bytemuck::Pod;

use super::{ENOTSUPP, address, call};

const BPF_MAP_LOOKUP_ELEM: libc::c_int = 1;
const BPF_MAP_LOOKUP_BATCH: libc::c_int = 24;
const BPF_MAP_UPDATE_BATCH: libc::c_int = 26;
const BPF_MAP_DELETE_BATCH: libc::c_int = 27;

/// Reads the values that all CPUs have at `index` of a per-CPU array, and calls `each` with them.
///
/// aya does the same, but opens and reads a file of sysfs for each value.
pub fn per_cpu_values<V: Pod>(
    map: BorrowedFd<'_>,
    index: u32,
    mut each: impl FnMut(V),
) -> io::Result<()> {
    #[repr(C)]
    struct Attr {
        map_fd: RawFd,
        pad: u32,
        key: u64,
        value: u64,
        flags: u64,
    }
    // The kernel writes a value for each possible CPU, each rounded up to eight bytes.
    let words = size_of::<V>().div_ceil(8);
    let mut buffer = vec![0_u64; words * possible_cpus()?];
    let mut attr = Attr {
        map_fd: map.as_raw_fd(),
        pad: 0,
        key: address(&raw const index),
        value: address(buffer.as_mut_ptr()),
        flags: 0,
    };
    call(BPF_MAP_LOOKUP_ELEM, &mut attr)?;
    for value in buffer.chunks_exact(words) {
        each(bytemuck::pod_read_unaligned(&bytemuck::cast_slice(value)[..size_of::<V>()]));
    }
    Ok(())
}

/// CPUs that the kernel is prepared for; it never changes while it runs.
fn possible_cpus() -> io::Result<usize> {
    static CPUS: OnceLock<usize> = OnceLock::new();
    if let Some(cpus) = CPUS.get() {
        return Ok(*cpus);
    }
    let cpus = aya::util::nr_cpus().map_err(|(_, error)| error)?;
    Ok(*CPUS.get_or_init(|| cpus))
}

/// Attribute of the batch commands.
#[repr(C)]
struct Request {
    in_batch: u64,
    out_batch: u64,
    keys: u64,
    values: u64,
    count: u32,
    map_fd: RawFd,
    elem_flags: u64,
    flags: u64,
}

/// Writes entries to a map until the first failure; returns how many were written, and the failure.
///
/// `keys` and `values` are used up to the length of the shorter one.
pub fn map_update_batch<K: Pod, V: Pod>(
    map: BorrowedFd<'_>,
    keys: &[K],
    values: &[V],
) -> (usize, io::Result<()>) {
    let count = keys.len().min(values.len());
    map_batch(BPF_MAP_UPDATE_BATCH, map, address(keys.as_ptr()), address(values.as_ptr()), count)
}

/// Removes entries from a map until the first failure, such as a key that is not there; returns how
/// many were removed, and the failure.
pub fn map_delete_batch<K: Pod>(map: BorrowedFd<'_>, keys: &[K]) -> (usize, io::Result<()>) {
    map_batch(BPF_MAP_DELETE_BATCH, map, address(keys.as_ptr()), 0, keys.len())
}

fn map_batch(
    command: libc::c_int,
    map: BorrowedFd<'_>,
    keys: u64,
    values: u64,
    count: usize,
) -> (usize, io::Result<()>) {
    if count == 0 {
        return (0, Ok(()));
    }
    let mut attr = Request {
        in_batch: 0,
        out_batch: 0,
        keys,
        values,
        count: count as u32,
        map_fd: map.as_raw_fd(),
        elem_flags: 0,
        flags: 0,
    };
    match call(command, &mut attr) {
        Ok(_) => (count, Ok(())),
        Err(error) => {
            // The kernel writes its progress back; when it does not know the command, or refuses
            // before it starts, the count is what we asked for, and nothing was done.
            let unknown = matches!(error.raw_os_error(), Some(libc::EINVAL | ENOTSUPP));
            let done =
                if unknown || attr.count as usize >= count { 0 } else { attr.count as usize };
            (done, Err(error))
        }
    }
}

/// Reads all entries of a map, `step` at a time. An entry that comes or goes meanwhile may be
/// missing.
pub fn map_entries<K: Pod, V: Pod>(map: BorrowedFd<'_>, step: usize) -> io::Result<Vec<(K, V)>> {
    // Where the next call goes on: a bucket or a key, as the kind of map likes.
    let mut position = [[0_u64; 8]; 2];
    let mut keys = vec![K::zeroed(); step];
    let mut values = vec![V::zeroed(); step];
    let mut entries = Vec::new();
    let mut is_first = true;
    loop {
        let [from, to] = &mut position;
        let mut attr = Request {
            in_batch: if is_first { 0 } else { address(from.as_ptr()) },
            out_batch: address(to.as_mut_ptr()),
            keys: address(keys.as_mut_ptr()),
            values: address(values.as_mut_ptr()),
            count: step as u32,
            map_fd: map.as_raw_fd(),
            elem_flags: 0,
            flags: 0,
        };
        let result = call(BPF_MAP_LOOKUP_BATCH, &mut attr);
        let is_last = match result {
            Ok(_) => false,
            // The end, with or without a last portion.
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => true,
            Err(error) => return Err(error),
        };
        let count = (attr.count as usize).min(step);
        entries.extend(keys.iter().copied().zip(values.iter().copied()).take(count));
        if is_last {
            return Ok(entries);
        }
        position.swap(0, 1);
        is_first = false;
    }
}

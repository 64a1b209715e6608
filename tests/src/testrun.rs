//! Programs of a few instructions made by hand, and `BPF_PROG_TEST_RUN` timed by the thread's CPU
//! clock, so that other processes are not billed. For what is measured, not for what is shipped.

use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd};

use nix::time::{ClockId, clock_gettime};

/// Program type: classifier.
pub const TC: u32 = 3;
/// Program type: XDP.
pub const XDP: u32 = 6;
/// XDP action: drop.
pub const XDP_DROP: i32 = 1;
/// XDP action: pass.
pub const XDP_PASS: i32 = 2;
/// Action of a classifier: the next one decides.
pub const TC_ACT_UNSPEC: i32 = -1;

/// Map type: hash.
pub const HASH: u32 = 1;
/// Map type: array.
pub const ARRAY: u32 = 2;
/// Map type: array of programs.
pub const PROGRAM_ARRAY: u32 = 3;
/// Map type: longest-prefix trie, which cannot be allocated beforehand.
pub const LPM_TRIE: u32 = 11;

/// An instruction as the kernel has it.
pub type Instruction = [u8; 8];

/// One instruction: operation, destination and source register, offset, immediate.
#[must_use]
pub const fn op(code: u8, to: u8, from: u8, offset: i16, value: i32) -> Instruction {
    let (near, far) = (offset.to_ne_bytes(), value.to_ne_bytes());
    // The registers share a byte as bit fields do.
    let registers = if cfg!(target_endian = "little") { to | from << 4 } else { to << 4 | from };
    [code, registers, near[0], near[1], far[0], far[1], far[2], far[3]]
}

/// Calls bpf(2). What the attribute points to must live through the call.
fn bpf<A>(command: libc::c_long, attribute: &mut A) -> io::Result<libc::c_long> {
    // SAFETY: the attribute is as long as it says, and the callers below keep what it points to.
    let result = unsafe {
        libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attribute), size_of::<A>())
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

fn descriptor(fd: libc::c_long) -> OwnedFd {
    // SAFETY: the kernel just made this descriptor for this process.
    unsafe { OwnedFd::from_raw_fd(fd as RawFd) }
}

/// A map.
pub fn map(kind: u32, key_size: u32, value_size: u32, max_entries: u32) -> io::Result<OwnedFd> {
    const MAP_CREATE: libc::c_long = 0;
    // type, key, value, entries, flags (BPF_F_NO_PREALLOC)
    let mut attribute = [kind, key_size, value_size, max_entries, u32::from(kind == LPM_TRIE)];
    bpf(MAP_CREATE, &mut attribute).map(descriptor)
}

/// Writes an entry of a map; key and value are as long as the map says.
pub fn set(map: &OwnedFd, key: &[u8], value: &[u8]) -> io::Result<()> {
    const MAP_UPDATE_ELEM: libc::c_long = 2;
    #[repr(C)]
    struct Update {
        map: u32,
        pad: u32,
        key: u64,
        value: u64,
        flags: u64,
    }
    let map = map.as_raw_fd().cast_unsigned();
    let (key, value) = (key.as_ptr() as u64, value.as_ptr() as u64);
    bpf(MAP_UPDATE_ELEM, &mut Update { map, pad: 0, key, value, flags: 0 }).map(drop)
}

/// Lets no process write to a map any more; programs still do.
pub fn freeze(map: BorrowedFd<'_>) -> io::Result<()> {
    const MAP_FREEZE: libc::c_long = 22;
    bpf(MAP_FREEZE, &mut map.as_raw_fd()).map(drop)
}

/// Loads a program that may use every helper.
pub fn program(kind: u32, code: &[Instruction]) -> io::Result<OwnedFd> {
    const PROG_LOAD: libc::c_long = 5;
    /// A tail call wants caller and called alike, and loaders say this of XDP programs.
    const ATTACH_XDP: u32 = 37;
    #[repr(C)]
    struct Load {
        kind: u32,
        count: u32,
        code: u64,
        license: u64,
        between: [u64; 5],
        ifindex: u32,
        attach: u32,
    }
    let mut load = Load {
        kind,
        count: code.len() as u32,
        code: code.as_ptr() as u64,
        license: c"GPL".as_ptr() as u64,
        between: [0; 5],
        ifindex: 0,
        attach: if kind == XDP { ATTACH_XDP } else { 0 },
    };
    bpf(PROG_LOAD, &mut load).map(descriptor)
}

/// What a run gave.
#[derive(Clone, Copy, Debug)]
pub struct Ran {
    /// What the program returned for the last frame; 0 for live frames.
    pub action: u32,
    /// Nanoseconds of this thread for each frame.
    pub each_ns: f64,
}

/// Runs a program `repeat` times over a frame. As `live` frames (kernel 5.18) they come in at the
/// device with that index, and what happens to them behind the program runs and is billed here too.
pub fn run(
    program: BorrowedFd<'_>,
    frame: &[u8],
    repeat: u32,
    live: Option<u32>,
) -> io::Result<Ran> {
    const PROG_TEST_RUN: libc::c_long = 10;
    const LIVE_FRAMES: u32 = 2;
    #[repr(C)]
    #[derive(Default)]
    struct TestRun {
        program: u32,
        action: u32,
        data_len: u32,
        out_len: u32,
        data: u64,
        out: u64,
        repeat: u32,
        duration: u32,
        context_len: u32,
        context_out_len: u32,
        context: u64,
        context_out: u64,
        flags: u32,
        cpu: u32,
        batch: u32,
        pad: u32,
    }
    let mut run = TestRun {
        program: program.as_raw_fd().cast_unsigned(),
        data_len: frame.len() as u32,
        data: frame.as_ptr() as u64,
        repeat,
        ..TestRun::default()
    };
    // struct xdp_md: data, end, meta, ingress device, queue, egress device.
    let context = [0, frame.len() as u32, 0, live.unwrap_or_default(), 0, 0];
    if live.is_some() {
        run.context_len = size_of_val(&context) as u32;
        run.context = context.as_ptr() as u64;
        (run.flags, run.batch) = (LIVE_FRAMES, 64);
    }
    let before = thread_ns()?;
    bpf(PROG_TEST_RUN, &mut run)?;
    let each_ns = (thread_ns()? - before) / f64::from(repeat);
    Ok(Ran { action: run.action, each_ns })
}

fn thread_ns() -> io::Result<f64> {
    let time = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)?;
    Ok(time.tv_sec() as f64 * 1e9 + time.tv_nsec() as f64)
}

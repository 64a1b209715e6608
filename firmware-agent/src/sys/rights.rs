//! What a child gives up before it becomes another program.

use std::io;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

/// `_LINUX_CAPABILITY_VERSION_3`: two words for each set.
const VERSION: u32 = 0x2008_0522;

/// Lets `command` run without capabilities and without a way to get any. User and groups stay.
pub fn shed(command: &mut Command) {
    // SAFETY: `give_up` makes system calls with numbers and its own stack alone: it neither allocates
    // nor takes a lock that another thread may have held at the fork.
    unsafe { command.pre_exec(give_up) };
}

fn give_up() -> io::Result<()> {
    set(libc::PR_SET_NO_NEW_PRIVS, 1)?;
    // It ends at the first number that this kernel does not know. Who may not change the set has it
    // still, and with no new privileges gets nothing from it.
    for number in 0..64 {
        if set(libc::PR_CAPBSET_DROP, number).is_err() {
            break;
        }
    }
    // The process itself; effective, permitted and inheritable, twice. Ambient ones go with these.
    let (header, none) = ([VERSION, 0], [0_u32; 6]);
    // SAFETY: the kernel reads a header of two words and, in this version, six words of data.
    let done = unsafe { libc::syscall(libc::SYS_capset, header.as_ptr(), none.as_ptr()) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn set(option: libc::c_int, value: libc::c_ulong) -> io::Result<()> {
    const UNUSED: libc::c_ulong = 0;
    // SAFETY: both options take a number; the others have to be 0.
    let done = unsafe { libc::prctl(option, value, UNUSED, UNUSED, UNUSED) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

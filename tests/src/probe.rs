//! Independent witnesses: packet counters of nftables at the edges of a namespace, and a foreign
//! XDP program.

use std::fmt::Write as _;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::{fs, io};

use crate::directory::unique;
use crate::error::{Attempt as _, Result};
use crate::netns::Netns;
use crate::{observe, process};

/// Counters of packets that arrive in a namespace, before everything but XDP and TC.
#[derive(Clone, Copy, Debug)]
pub struct Probe<'a>(&'a Netns);

impl<'a> Probe<'a> {
    /// Counts packets by name and nftables match.
    pub fn new(netns: &'a Netns, counters: &[(&str, &str)]) -> Result<Self> {
        let mut text = "table inet probe {\n".to_owned();
        for (name, _) in counters {
            let _infallible = writeln!(text, "counter {name} {{ }}");
        }
        text.push_str("chain arrive {\ntype filter hook prerouting priority -400\n");
        for (name, expression) in counters {
            let _infallible = writeln!(text, "{expression} counter name {name}");
        }
        text.push_str("}\n}\n");
        netns.nft(&text)?;
        Ok(Self(netns))
    }

    /// Packets counted under `name`.
    pub fn count(&self, name: &str) -> Result<u64> {
        observe::counter(self.0, "inet probe", name)
    }
}

/// An XDP program that is none of Sluice's and passes every packet; attached while this lives.
#[derive(Debug)]
pub struct ForeignXdp<'a> {
    netns: &'a Netns,
    interface: String,
    pin: PathBuf,
}

impl<'a> ForeignXdp<'a> {
    /// Loads it and attaches it to an interface, with the tool an administrator would use.
    pub fn attach(netns: &'a Netns, interface: &str) -> Result<Self> {
        let program = load(XDP_PASS).attempt(|| "load a foreign program".to_owned())?;
        let pin = Path::new("/sys/fs/bpf").join(unique("foreign"));
        pin_program(&program, &pin).attempt(|| format!("pin {}", pin.display()))?;
        let this = Self { netns, interface: interface.to_owned(), pin };
        let pin = this.pin.display();
        netns.run(&format!("ip link set dev {interface} xdp pinned {pin}"))?;
        Ok(this)
    }
}

impl Drop for ForeignXdp<'_> {
    fn drop(&mut self) {
        let mut detach = self.netns.command("ip");
        detach.args(["link", "set", "dev", &self.interface, "xdp", "off"]);
        // Both end with the namespace at the latest.
        let _detached = process::tidy(&mut detach);
        let _removed = fs::remove_file(&self.pin);
    }
}

const XDP_PASS: i32 = 2;

/// Calls bpf(2) with the beginning of its attribute; the rest is zero.
fn bpf(command: libc::c_long, words: &[u64]) -> io::Result<libc::c_long> {
    let mut attribute = [0_u64; 16];
    attribute[..words.len()].copy_from_slice(words);
    // SAFETY: the attribute lives through the call and is as long as it says; what it points to is
    // kept alive by the two callers below.
    let result = unsafe {
        libc::syscall(libc::SYS_bpf, command, attribute.as_ptr(), size_of_val(&attribute))
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// Two 32-bit fields that follow each other.
const fn pair(first: u32, second: u32) -> u64 {
    if cfg!(target_endian = "little") {
        first as u64 | (second as u64) << 32
    } else {
        (first as u64) << 32 | second as u64
    }
}

/// An XDP program that only returns `action`.
fn load(action: i32) -> io::Result<OwnedFd> {
    const BPF_PROG_LOAD: libc::c_long = 5;
    const BPF_PROG_TYPE_XDP: u32 = 6;
    // r0 = action; exit.
    let mut code = [[0_u8; 8]; 2];
    code[0][0] = 0xb7;
    code[0][4..].copy_from_slice(&action.to_ne_bytes());
    code[1][0] = 0x95;
    let (instructions, license) = (code.as_ptr() as u64, c"MIT".as_ptr() as u64);
    let fd = bpf(BPF_PROG_LOAD, &[pair(BPF_PROG_TYPE_XDP, 2), instructions, license])?;
    // SAFETY: the kernel just made this descriptor for this process.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

fn pin_program(program: &OwnedFd, path: &Path) -> io::Result<()> {
    const BPF_OBJ_PIN: libc::c_long = 6;
    let path = std::ffi::CString::new(path.as_os_str().as_encoded_bytes())?;
    let fd = program.as_raw_fd().cast_unsigned();
    bpf(BPF_OBJ_PIN, &[path.as_ptr() as u64, pair(fd, 0)]).map(drop)
}

//! Tries what the agent needs.
//!
//! What needs a device is tried on the loopback device of a network namespace that lives for the
//! trial, so that nothing of the user's is touched. Kernel modules are loaded on demand by the
//! trials as they would be by the real thing.

use std::fs;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;

use nix::sched::{CloneFlags, unshare};

use super::{Need, Support};
use crate::sys::bpf::{self, Hook, MapKind, ProgramKind};
use crate::sys::netlink::RequestError;
use crate::sys::rtnetlink::Side;
use crate::sys::{bpffs, nfnetlink, rtnetlink};

const JIT: &str = "/proc/sys/net/core/bpf_jit_enable";
const TC_ACT_UNSPEC: i32 = -1;
const XDP_PASS: i32 = 2;

/// Release of the running kernel.
#[must_use]
pub fn release() -> String {
    nix::sys::utsname::uname()
        .map_or_else(|_| String::new(), |name| name.release().to_string_lossy().into_owned())
}

/// Tries `need`; the second part is a remark for the report.
#[must_use]
pub fn probe(need: Need) -> (Support, Option<String>) {
    let support = match need {
        Need::Privileges => privileges(&fs::read_to_string("/proc/self/status")),
        Need::ProgramXdp => bpf::load_constant(ProgramKind::Xdp, XDP_PASS).map(drop).into(),
        Need::ProgramTc => bpf::load_constant(ProgramKind::Tc, TC_ACT_UNSPEC).map(drop).into(),
        Need::MapHash => bpf::create_map(MapKind::Hash).map(drop).into(),
        Need::MapLruHash => bpf::create_map(MapKind::LruHash).map(drop).into(),
        Need::MapPerCpuArray => bpf::create_map(MapKind::PerCpuArray).map(drop).into(),
        Need::MapLpmTrie => bpf::create_map(MapKind::LpmTrie).map(drop).into(),
        Need::Bpffs => return bpffs(),
        Need::Jit => return jit(Path::new(JIT), is_jited),
        Need::Btf => fs::File::open("/sys/kernel/btf/vmlinux").map(drop).into(),
        Need::XdpGeneric => in_namespace(|lo| {
            let prog = bpf::load_constant(ProgramKind::Xdp, XDP_PASS)?;
            bpf::link_create(prog.as_fd(), lo, Hook::XdpGeneric)?;
            Ok(())
        }),
        Need::Tcx => in_namespace(|lo| {
            let prog = bpf::load_constant(ProgramKind::Tc, TC_ACT_UNSPEC)?;
            bpf::link_create(prog.as_fd(), lo, Hook::TcxIngress)?;
            Ok(())
        }),
        Need::Clsact => in_namespace(|lo| {
            let prog = bpf::load_constant(ProgramKind::Tc, TC_ACT_UNSPEC)?;
            rtnetlink::add_clsact(lo)?;
            rtnetlink::add_filter(lo, Side::Ingress, (1, 1), "probe", prog.as_fd(), false)?;
            Ok(())
        }),
        Need::Cgroup2 => cgroup2(&fs::read_to_string("/proc/self/mountinfo")),
        Need::Nfqueue => in_namespace(|_| nfnetlink::bind_queue(0)),
        Need::SynCookies => bpf::load_syn_cookie().map(drop).into(),
        Need::ConntrackNetlink => in_namespace(|_| nfnetlink::conntrack_stats()),
    };
    (support, None)
}

type Trial = Result<(), RequestError>;

/// Runs `trial` with the index of the loopback device of a new network namespace.
fn in_namespace(trial: impl FnOnce(u32) -> Trial + Send + 'static) -> Support {
    // A thread can have a network namespace of its own; it ends with the thread.
    let thread = std::thread::Builder::new().name("probe".to_owned()).spawn(move || {
        if let Err(error) = unshare(CloneFlags::CLONE_NEWNET) {
            return Support::Unknown(format!("no network namespace to try it in: {error}"));
        }
        match rtnetlink::device_by_name("lo") {
            Ok(Some(lo)) => match trial(lo.ifindex) {
                Ok(()) => Support::Yes,
                Err(error) if matches!(error.errno(), Some(libc::EPERM | libc::EACCES)) => {
                    Support::Unknown(error.to_string())
                }
                Err(error) => Support::No(error.to_string()),
            },
            Ok(None) => Support::Unknown("no loopback device to try it on".to_owned()),
            Err(error) => Support::Unknown(error.to_string()),
        }
    });
    let result = thread.map(std::thread::JoinHandle::join);
    match result {
        Ok(Ok(support)) => support,
        Ok(Err(_)) => Support::Unknown("the trial ended unexpectedly".to_owned()),
        Err(error) => Support::Unknown(error.to_string()),
    }
}

/// Reads the effective capabilities from the text of `/proc/self/status`.
fn privileges(status: &io::Result<String>) -> Support {
    const NET_ADMIN: u32 = 12;
    const SYS_ADMIN: u32 = 21;
    const BPF: u32 = 39;
    let status = match status {
        Ok(status) => status,
        Err(error) => return Support::Unknown(format!("read /proc/self/status: {error}")),
    };
    let bits = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|bits| u64::from_str_radix(bits.trim(), 16).ok());
    let Some(bits) = bits else {
        return Support::Unknown("/proc/self/status has no capabilities".to_owned());
    };
    let has = |bit: u32| bits >> bit & 1 == 1;
    let mut missing = Vec::new();
    if !has(BPF) && !has(SYS_ADMIN) {
        missing.push("CAP_BPF");
    }
    if !has(NET_ADMIN) {
        missing.push("CAP_NET_ADMIN");
    }
    if missing.is_empty() {
        Support::Yes
    } else {
        Support::No(format!("the process lacks {}", missing.join(" and ")))
    }
}

fn bpffs() -> (Support, Option<String>) {
    if bpffs::is_bpffs(Path::new(bpffs::MOUNT_POINT)).unwrap_or(false) {
        return (Support::Yes, None);
    }
    match fs::read_to_string("/proc/filesystems") {
        Ok(text) if text.lines().any(|line| line.split_whitespace().last() == Some("bpf")) => (
            Support::Yes,
            Some(format!("not mounted at {}: the agent mounts it", bpffs::MOUNT_POINT)),
        ),
        Ok(_) => (Support::No("the kernel has no bpf file system".to_owned()), None),
        Err(error) => (Support::Unknown(error.to_string()), None),
    }
}

/// Switches the compiler on where it is off (it is on plain MIPS kernels), and sees whether a
/// program gets compiled.
fn jit(sysctl: &Path, compiles: impl FnOnce() -> io::Result<bool>) -> (Support, Option<String>) {
    let note = match fs::read_to_string(sysctl) {
        Ok(value) if value.trim() == "0" => Some(match fs::write(sysctl, "1") {
            Ok(()) => "was off: switched on".to_owned(),
            Err(error) => format!("is off and cannot be switched on: {error}"),
        }),
        // Absent without CONFIG_BPF_JIT and in network namespaces other than the first; a kernel
        // with CONFIG_BPF_JIT_ALWAYS_ON shows 1.
        Ok(_) | Err(_) => None,
    };
    let support = match compiles() {
        Ok(true) => Support::Yes,
        Ok(false) => Support::No("programs are interpreted".to_owned()),
        Err(error) => Support::Unknown(error.to_string()),
    };
    (support, note)
}

fn is_jited() -> io::Result<bool> {
    let prog: OwnedFd = bpf::load_constant(ProgramKind::Xdp, XDP_PASS)?;
    Ok(bpf::prog_info(prog.as_fd())?.jited_len > 0)
}

/// Looks for a mounted cgroup2 in the text of `/proc/self/mountinfo`.
fn cgroup2(mounts: &io::Result<String>) -> Support {
    match mounts {
        Ok(mounts) if mounts.lines().any(|line| line.contains(" - cgroup2 ")) => Support::Yes,
        Ok(_) => Support::No("no cgroup2 is mounted".to_owned()),
        Err(error) => Support::Unknown(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_capabilities_are_named() {
        let status = |bits: &str| Ok(format!("Name:\tsluice\nCapEff:\t{bits}\nSeccomp:\t0\n"));
        assert_eq!(privileges(&status("000001ffffffffff")), Support::Yes);
        assert_eq!(privileges(&status("0000008000001000")), Support::Yes, "BPF and NET_ADMIN");
        assert_eq!(privileges(&status("0000000000201000")), Support::Yes, "SYS_ADMIN covers BPF");
        let no = |why: &str| Support::No(why.to_owned());
        assert_eq!(
            privileges(&status("0000000000000000")),
            no("the process lacks CAP_BPF and CAP_NET_ADMIN")
        );
        assert_eq!(privileges(&status("0000008000000000")), no("the process lacks CAP_NET_ADMIN"));
        assert!(matches!(privileges(&Ok("Name:\tx\n".to_owned())), Support::Unknown(_)));
    }

    #[test]
    fn the_compiler_is_switched_on_where_it_is_off_and_that_is_said() {
        let path = std::env::temp_dir().join(format!("sluice-jit-{}", std::process::id()));
        fs::write(&path, "0\n").unwrap();
        let (support, note) = jit(&path, || Ok(true));
        assert_eq!((support, note.as_deref()), (Support::Yes, Some("was off: switched on")));
        assert_eq!(fs::read_to_string(&path).unwrap(), "1");

        let (support, note) = jit(&path, || Ok(false));
        assert_eq!(support, Support::No("programs are interpreted".to_owned()));
        assert_eq!(note, None, "it was on already");
        fs::remove_file(&path).unwrap();

        let (support, note) = jit(&path, || Ok(true));
        assert_eq!((support, note), (Support::Yes, None), "the sysctl is hidden in a namespace");
    }

    #[test]
    fn cgroup2_is_found_by_its_mount() {
        let v2 = "30 24 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw\n";
        let v1 = "30 24 0:26 / /sys/fs/cgroup/cpu rw,nosuid - cgroup cgroup rw,cpu\n";
        assert_eq!(cgroup2(&Ok(v2.to_owned())), Support::Yes);
        assert!(matches!(cgroup2(&Ok(v1.to_owned())), Support::No(_)));
    }
}

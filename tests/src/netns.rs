//! Network namespaces: made, entered and deleted by a guard.
//!
//! Processes enter with `nsenter --net`, which leaves the mount namespace alone: `ip netns exec`
//! would give them a fresh /sys without bpffs.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use nix::sched::{CloneFlags, setns};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::directory::{abandoned, unique};
use crate::error::{Attempt as _, Error, Result};
use crate::{process, wait};

/// Where iproute2 keeps the names.
const NAMES: &str = "/run/netns";

/// A network namespace of this run.
#[derive(Debug)]
pub struct Netns {
    name: String,
}

impl Netns {
    /// Makes one with its loopback up; needs root.
    pub fn new(purpose: &str) -> Result<Self> {
        let name = unique(purpose);
        // Not interrupted between making it and guarding it.
        process::tidy(Command::new("ip").args(["netns", "add", &name]))?;
        let netns = Self { name };
        wait::interrupted()?;
        for which in ["all", "default"] {
            // Nobody else is on these cables, and a tentative address loses first packets.
            netns.sysctl(&format!("net/ipv6/conf/{which}/accept_dad"), "0")?;
        }
        netns.ip("link set lo up")?;
        Ok(netns)
    }

    /// Its name for `ip netns`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    fn path(&self) -> PathBuf {
        PathBuf::from(NAMES).join(&self.name)
    }

    /// A command inside. It is killed when the thread that started it ends, however that happens.
    #[must_use]
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", self.path().display()));
        command.args(["setpriv", "--pdeathsig", "KILL", "--"]).arg(program);
        command
    }

    /// Runs a command line (words between blanks, no quoting) that must succeed.
    pub fn run(&self, line: &str) -> Result<String> {
        let mut words = line.split_whitespace();
        let program = words.next().unwrap_or_default();
        process::run(self.command(program).args(words))
    }

    /// Whether a command line succeeds.
    pub fn succeeds(&self, line: &str) -> Result<bool> {
        match self.run(line) {
            Ok(_) => Ok(true),
            Err(Error::Command { .. }) => Ok(false),
            Err(other) => Err(other),
        }
    }

    /// Runs lines of `ip` commands, all in one process.
    pub fn ip(&self, lines: &str) -> Result<()> {
        let mut command = Command::new("ip");
        process::feed(command.args(["-n", &self.name, "-batch", "-"]), lines)
            .map(drop)
            .map_err(|error| add(error, lines))
    }

    /// Loads an nftables file.
    pub fn nft(&self, text: &str) -> Result<()> {
        process::feed(self.command("nft").args(["-f", "-"]), text)
            .map(drop)
            .map_err(|error| add(error, text))
    }

    /// Runs `work` on a thread inside, for sockets of this process.
    ///
    /// Commands started there die with the thread; start them outside.
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        let path = self.path();
        let file = File::open(&path).attempt(|| format!("open {}", path.display()))?;
        let inside = std::thread::scope(|scope| {
            let thread = scope.spawn(|| setns(file, CloneFlags::CLONE_NEWNET).map(|()| work()));
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        });
        inside.attempt(|| format!("enter {}", path.display()))
    }

    /// Sets a value below `/proc/sys`, name with slashes.
    pub fn sysctl(&self, name: &str, value: &str) -> Result<()> {
        let path = format!("/proc/sys/{name}");
        self.enter(|| fs::write(&path, value))?.attempt(|| format!("write {value} to {path}"))
    }

    /// A file below `/proc/net` as seen inside.
    pub fn proc_net(&self, name: &str) -> Result<String> {
        // `/proc/net` is that of the whole process, whose other threads are elsewhere.
        let path = format!("/proc/thread-self/net/{name}");
        self.enter(|| fs::read_to_string(&path))?.attempt(|| format!("read {path}"))
    }

    /// Local addresses and ports of listening TCP sockets.
    pub fn tcp_listeners(&self) -> Result<Vec<(IpAddr, u16)>> {
        self.sockets("tcp", Some("0A"))
    }

    /// Local addresses and ports of UDP sockets.
    pub fn udp_sockets(&self) -> Result<Vec<(IpAddr, u16)>> {
        self.sockets("udp", None)
    }

    fn sockets(&self, kind: &str, state: Option<&str>) -> Result<Vec<(IpAddr, u16)>> {
        let mut found = Vec::new();
        for file in [kind.to_owned(), format!("{kind}6")] {
            for line in self.proc_net(&file)?.lines().skip(1) {
                let mut fields = line.split_whitespace();
                let local = fields.nth(1).and_then(socket_address);
                if state.is_none_or(|state| fields.nth(1) == Some(state)) {
                    found.extend(local);
                }
            }
        }
        Ok(found)
    }

    /// Waits until something listens on TCP `port`.
    pub fn wait_for_listener(&self, port: u16) -> Result<()> {
        let what = format!("something listened on TCP port {port}");
        wait::until(&what, Duration::from_secs(10), || {
            Ok(self.tcp_listeners()?.iter().any(|(_, at)| *at == port).then_some(()))
        })
    }

    /// Processes inside.
    fn processes(&self) -> Result<Vec<Pid>> {
        let list = process::tidy(Command::new("ip").args(["netns", "pids", &self.name]))?;
        Ok(list.lines().filter_map(|pid| pid.trim().parse().ok().map(Pid::from_raw)).collect())
    }

    /// Ends what runs inside and deletes the namespace with its interfaces.
    fn delete(&self) -> Result<()> {
        for pid in self.processes()? {
            if pid != Pid::this() {
                // Gone already is as good.
                let _gone = kill(pid, Signal::SIGKILL);
            }
        }
        process::tidy(Command::new("ip").args(["netns", "del", &self.name])).map(drop)
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        if let Err(error) = self.delete() {
            use std::io::Write as _;
            let _closed = writeln!(std::io::stderr(), "namespace {} is left: {error}", self.name);
        }
    }
}

/// Removes namespaces of runs that were killed and could not clean up.
pub fn sweep() -> Result<()> {
    let Ok(entries) = fs::read_dir(NAMES) else { return Ok(()) };
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if abandoned(&name) {
            let left = std::mem::ManuallyDrop::new(Netns { name });
            // Another run may sweep at the same time.
            let _swept = left.delete();
        }
    }
    Ok(())
}

fn add(error: Error, input: &str) -> Error {
    match error {
        Error::Command { command, status, output } => {
            Error::Command { command, status, output: format!("{output}\n--- input:\n{input}") }
        }
        other => other,
    }
}

/// An address of `/proc/net/tcp` or `tcp6`: words of the machine's byte order, in hexadecimal.
fn socket_address(text: &str) -> Option<(IpAddr, u16)> {
    let (address, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let word = |at: usize| u32::from_str_radix(address.get(at..at + 8)?, 16).ok();
    let address = if address.len() == 8 {
        Ipv4Addr::from(word(0)?.to_ne_bytes()).into()
    } else {
        let mut octets = [0; 16];
        for (index, chunk) in octets.chunks_mut(4).enumerate() {
            chunk.copy_from_slice(&word(index * 8)?.to_ne_bytes());
        }
        Ipv6Addr::from(octets).into()
    };
    Some((address, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_endian = "little")]
    fn socket_addresses_are_read_as_the_kernel_writes_them() {
        let read = |text| socket_address(text).unwrap();
        assert_eq!(read("0100007F:0035"), (IpAddr::from([127, 0, 0, 1]), 53));
        let v6 = "2001:db8::1".parse::<IpAddr>().unwrap();
        assert_eq!(read("B80D0120000000000000000001000000:01BB"), (v6, 443));
        assert_eq!(socket_address("nonsense"), None);
    }
}

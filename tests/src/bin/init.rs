//! PID 1 of a machine without a shell: mounts, works off `/guests/start`, says how it went, switches off.
//!
//! Does what `tests/vm/init.sh` does where there is one.
#![expect(clippy::print_stdout, reason = "the serial line is what it is for")]

use std::path::Path;
use std::process::{Command, Stdio};
use std::{fs, io};

use nix::mount::{MsFlags, mount};
use nix::sys::reboot::{RebootMode, reboot};

fn main() {
    match work() {
        Ok(()) => println!("init: success"),
        Err(reason) => println!("init: failure: {reason}"),
    }
    // Nothing is left to do when the kernel refuses; the time limit of the machine ends it.
    let _refused = reboot(RebootMode::RB_AUTOBOOT);
}

fn work() -> Result<(), String> {
    let failed = |what: &str, error: &dyn std::error::Error| format!("{what}: {error}");
    for (kind, place) in [
        ("proc", "/proc"),
        ("sysfs", "/sys"),
        ("devtmpfs", "/dev"),
        ("tmpfs", "/run"),
        ("tmpfs", "/tmp"),
        ("bpf", "/sys/fs/bpf"),
    ] {
        mount(Some(kind), place, Some(kind), MsFlags::empty(), None::<&Path>)
            .map_err(|error| failed(place, &error))?;
    }
    let release = read("/proc/sys/kernel/osrelease").map_err(|error| failed("release", &error))?;
    let uptime = read("/proc/uptime").map_err(|error| failed("uptime", &error))?;
    let seconds = uptime.split(' ').next().unwrap_or_default();
    println!("init: Linux {release}, up after {seconds} s");
    let guests = read("/guests/start").map_err(|error| failed("list of guests", &error))?;
    let mut faults = Vec::new();
    for line in guests.lines() {
        let mut words = line.split_whitespace();
        let (Some(name), Some(directory), Some(program)) =
            (words.next(), words.next(), words.next())
        else {
            return Err(format!("no guest: {line}"));
        };
        println!("init: guest {name}");
        let mut command = Command::new(program);
        command.args(words).current_dir(directory).stdin(Stdio::null());
        command.env("RUST_BACKTRACE", "1").env("TMPDIR", "/tmp");
        match command.status() {
            Ok(status) if status.success() => {}
            Ok(status) => faults.push(format!("{name}: {status}")),
            Err(error) => faults.push(format!("{name}: {error}")),
        }
    }
    if faults.is_empty() { Ok(()) } else { Err(faults.join(", ")) }
}

fn read(path: &str) -> io::Result<String> {
    Ok(fs::read_to_string(path)?.trim_end().to_owned())
}

//! Independent witnesses: packet counters of nftables at the edges of a namespace, and a foreign
//! XDP program.

use std::fmt::Write as _;
use std::fs;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};

use sluice::sys::bpf::{self, ProgramKind};

use crate::directory::unique;
use crate::error::{Attempt as _, Result};
use crate::netns::Netns;
use crate::testrun::XDP_PASS;
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
    mode: &'static str,
    pin: PathBuf,
}

impl<'a> ForeignXdp<'a> {
    /// Loads it and attaches it to an interface, with the tool an administrator would use.
    pub fn attach(netns: &'a Netns, interface: &str) -> Result<Self> {
        Self::attach_as("xdp", netns, interface)
    }

    /// The same in the driver, before the stack, or wherever it can be: `xdpdrv`, `xdpgeneric`, `xdp`.
    pub fn attach_as(mode: &'static str, netns: &'a Netns, interface: &str) -> Result<Self> {
        let program = bpf::load_constant(ProgramKind::Xdp, XDP_PASS)
            .attempt(|| "load a foreign program".to_owned())?;
        let pin = Path::new("/sys/fs/bpf").join(unique("foreign"));
        bpf::pin(program.as_fd(), &pin).attempt(|| format!("pin {}", pin.display()))?;
        let this = Self { netns, interface: interface.to_owned(), mode, pin };
        let pin = this.pin.display();
        netns.run(&format!("ip link set dev {interface} {mode} pinned {pin}"))?;
        Ok(this)
    }
}

impl Drop for ForeignXdp<'_> {
    fn drop(&mut self) {
        let mut detach = self.netns.command("ip");
        detach.args(["link", "set", "dev", &self.interface, self.mode, "off"]);
        // Both end with the namespace at the latest.
        let _detached = process::tidy(&mut detach);
        let _removed = fs::remove_file(&self.pin);
    }
}

//! Names of devices: what the servers that hand out addresses write into files and tell on ubus.
//!
//! Files are looked at every few seconds, which costs a question of the kernel each; what is told on
//! the bus counts at once. Either does without the other.

mod servers;

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sluice_abi::flow::Addr;
use smol::Timer;

pub(super) use self::servers::Servers;
use super::running::{Next, Running, State};
use crate::config::{DhcpServer, LeaseFile, Mac, in_force, lease_files, read_whole};
use crate::control::report::{Feature, RuleDevice, State as Health};
use crate::names::leases::{LEASES_MAX, Lease, Leases, Now, parse};
use crate::policy::Ends;
use crate::sys::clock;

/// Time between two looks at the files.
const LOOK: Duration = Duration::from_secs(5);
/// Seconds after its last change in which a file may change again without another time of change: as
/// much as clocks of file systems are coarse, and time for who writes it.
const SETTLED_S: i64 = 2;

/// What is known of the devices of the household.
#[derive(Debug, Default)]
pub(super) struct Devices {
    pub(super) leases: Leases,
    /// There is a file of leases.
    has_files: bool,
    /// Files that are not there, for people.
    missing: Vec<String>,
    /// Servers that are heard on the bus.
    heard: usize,
}

impl Devices {
    /// Nobody is heard on the bus any more.
    pub(super) const fn no_bus(&mut self) {
        self.heard = 0;
    }
}

impl State {
    /// The time that leases are compared with.
    pub(super) fn now(&self) -> Now {
        let unix_s = clock::unix_s().filter(|_| self.knows_time);
        Now { unix_s, monotonic_s: clock::monotonic_s() }
    }

    /// What a device is called: as somebody wants it, else as it says itself.
    pub(super) fn device_name(&self, addr: Addr, mac: Option<Mac>) -> Option<String> {
        let leases = &self.devices.leases;
        let given = mac.or_else(|| leases.mac_of(self.now(), addr));
        let given = given.and_then(|mac| self.given_name(mac));
        given.or_else(|| leases.name_of(self.now(), addr, mac)).map(str::to_owned)
    }

    /// What the configuration calls a device.
    pub(super) fn given_name(&self, mac: Mac) -> Option<&str> {
        let device = self.plan.devices.iter().find(|device| device.mac == mac)?;
        device.name.as_deref()
    }

    /// What the device of a flow is called. Where its ends are not known, only devices have leases.
    pub(super) fn device_of(&self, ends: Option<&Ends>, addrs: [Addr; 2]) -> Option<String> {
        match ends {
            Some(ends) => self.device_name(ends.device, ends.mac),
            None => addrs.into_iter().find_map(|addr| self.device_name(addr, None)),
        }
    }

    /// Devices with their names.
    pub(super) fn named(&self, mut devices: Vec<RuleDevice>) -> Vec<RuleDevice> {
        for device in &mut devices {
            device.device_name = self.device_name(device.address.into(), None);
        }
        devices
    }

    /// Leases that are known.
    pub(super) const fn leases(&self) -> u64 {
        self.devices.leases.len() as u64
    }

    /// Where names of devices come from.
    pub(super) fn devices_feature(&self) -> Feature {
        let Devices { leases, has_files, missing, heard } = &self.devices;
        if self.plan.dhcp_config.is_none() {
            let reasons = vec!["option device_names is 0".to_owned()];
            let (name, rung) = ("device names".to_owned(), "none".to_owned());
            return Feature { name, state: Health::Off, rung, reasons };
        }
        let full = (leases.left_out() != 0)
            .then(|| format!("{} leases found no room beside {LEASES_MAX}", leases.left_out()));
        let rung = match (has_files, heard) {
            (false, 0) => "none",
            (false, _) => "notifications",
            (true, 0) => "lease files",
            (true, _) => "lease files and notifications",
        };
        let state = match &full {
            Some(_) => Health::Degraded,
            None if rung == "none" => Health::Off,
            None => Health::Active,
        };
        let mut reasons = if state == Health::Off { missing.clone() } else { Vec::new() };
        reasons.extend(full);
        Feature { name: "device names".to_owned(), state, rung: rung.to_owned(), reasons }
    }
}

impl Running {
    /// Reads files of leases when they change.
    pub(super) async fn follow_leases(&self) -> Next {
        let mut watch = Watch::default();
        loop {
            let config = self.state.lock().plan.dhcp_config.clone();
            if let Some(config) = config {
                let news = watch.look(&in_force(&config), clock::unix_s());
                let mut state = self.state.lock();
                for (server, leases) in news {
                    match leases {
                        Some(leases) => state.devices.leases.replace(server, leases),
                        None => state.devices.leases.without_files(server),
                    }
                }
                (state.devices.has_files, state.devices.missing) = watch.places();
            } else {
                watch = Watch::default();
                let mut state = self.state.lock();
                let heard = state.devices.heard;
                state.devices = Devices { heard, ..Devices::default() };
            }
            Timer::after(LOOK).await;
        }
    }
}

/// What a server's files say by now; `None` when it has none.
type News = (DhcpServer, Option<Vec<Lease>>);

/// Files, and how they were when they were read last.
#[derive(Debug, Default)]
struct Watch {
    config: Option<PathBuf>,
    config_stamp: Option<Stamp>,
    files: Vec<(LeaseFile, Option<Stamp>)>,
}

/// What is another one when a file has changed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Stamp {
    file: (u64, u64),
    size: u64,
    changed: (i64, i64),
    is_settled: bool,
}

impl Stamp {
    fn of(path: &Path, now_s: Option<i64>) -> Option<Self> {
        let meta = std::fs::metadata(path).ok().filter(Metadata::is_file)?;
        let age_s = now_s? - meta.mtime();
        Some(Self {
            file: (meta.dev(), meta.ino()),
            size: meta.len(),
            changed: (meta.mtime(), meta.mtime_nsec()),
            is_settled: !(0..SETTLED_S).contains(&age_s),
        })
    }
}

impl Watch {
    /// Reads what has changed. `config` says which files there are.
    fn look(&mut self, config: &Path, now_s: Option<i64>) -> Vec<News> {
        let stamp = Stamp::of(config, now_s);
        let mut changed = Vec::new();
        if self.config.as_deref() != Some(config) || is_other(self.config_stamp, stamp) {
            let files = lease_files(stamp.and_then(|_| read_whole(config).ok()).as_deref());
            let old = std::mem::take(&mut self.files);
            let known = |file: &LeaseFile| old.iter().any(|(one, _)| one == file);
            let is_same = files.len() == old.len() && files.iter().all(known);
            if is_same {
                self.files = old;
            } else {
                changed.extend(old.into_iter().map(|(file, _)| file.server));
                self.files = files.into_iter().map(|file| (file, None)).collect();
            }
            (self.config, self.config_stamp) = (Some(config.to_owned()), stamp);
        }
        for (file, old) in &mut self.files {
            let new = Stamp::of(&file.path, now_s);
            if is_other(*old, new) {
                changed.push(file.server);
            }
            *old = new;
        }
        let servers = [DhcpServer::Dnsmasq, DhcpServer::Odhcpd];
        let changed = servers.into_iter().filter(|server| changed.contains(server));
        changed.map(|server| (server, self.read(server))).collect()
    }

    /// What the files of a server say. All of them count, so all are read when one has changed.
    fn read(&self, server: DhcpServer) -> Option<Vec<Lease>> {
        let there =
            self.files.iter().filter(|(file, stamp)| file.server == server && stamp.is_some());
        let mut leases = None;
        for text in there.filter_map(|(file, _)| read_whole(&file.path).ok()) {
            leases.get_or_insert_with(Vec::new).extend(parse(server, &text));
        }
        leases
    }

    /// Whether there is a file, and those that are not there.
    fn places(&self) -> (bool, Vec<String>) {
        let missing = self.files.iter().filter(|(_, stamp)| stamp.is_none());
        let missing: Vec<_> =
            missing.map(|(file, _)| format!("no file {}", file.path.display())).collect();
        (missing.len() < self.files.len(), missing)
    }
}

/// Whether a file may say something else than when it was `old`.
fn is_other(old: Option<Stamp>, new: Option<Stamp>) -> bool {
    old != new || old.is_some_and(|old| !old.is_settled)
}

#[cfg(test)]
mod tests;

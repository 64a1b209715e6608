//! SYN cookies for services of this router: whether they can be, and what has to be there meanwhile.

use std::fs;
use std::path::{Path, PathBuf};

use sluice_abi::attach::Role;

use crate::cli::chain;
use crate::dataplane::Dataplane;
use crate::kernel::{Need, Report, Support};
use crate::netfilter::synproxy::{self, Offer, Service};
use crate::plan::Plan;
use crate::sys::rtnetlink;

/// Conntrack takes up connections in the middle unless this is 0, and so would the last packet of a
/// handshake of which it never saw the first.
const LOOSE: &str = "/proc/sys/net/netfilter/nf_conntrack_tcp_loose";
const TIMESTAMPS: &str = "/proc/sys/net/ipv4/tcp_timestamps";
const RECEIVE_MEMORY: [&str; 2] = ["/proc/sys/net/ipv4/tcp_rmem", "/proc/sys/net/core/rmem_max"];
/// Where the value of before is kept, so that it outlives a crash.
const SAVED: &str = "tcp_loose.saved";
/// Seconds between two looks whether the rules are still there.
const CHECK_S: u32 = 10;
/// Headers in a packet of full size over IPv4, and the least segment that every host takes.
const HEADERS: u32 = 40;
const MSS_MIN: u32 = 536;

/// Cookies, and what is in force for them.
#[derive(Debug, Default)]
pub(super) struct Cookies {
    /// What is missing; `None` before anybody looked.
    missing: Option<Vec<String>>,
    services: Vec<Service>,
    offer: Offer,
    saved: PathBuf,
    checked_s: u32,
}

impl Cookies {
    /// Takes away what an agent that crashed left behind.
    pub(super) fn new(plan: &Plan) -> Self {
        let cookies = Self { saved: plan.run_dir.join(SAVED), ..Self::default() };
        if cookies.saved.exists() {
            log::info!("SYN cookies of an earlier agent are taken away");
            cookies.remove();
        }
        cookies
    }

    /// Asks once what this router can do.
    pub(super) fn look(&mut self, dataplane: &Dataplane) {
        if self.missing.is_some() {
            return;
        }
        let mut missing = Vec::new();
        if !dataplane.has_cookies() {
            missing.push(match Report::of_this_kernel().support(Need::SynCookies) {
                Support::No(reason) | Support::Unknown(reason) => format!(
                    "the kernel makes no SYN cookies for programs ({reason}); needs {}",
                    Need::SynCookies.enabled_by()
                ),
                Support::Yes => "the shield is off, was refused with SYN cookies, or is in tc (option xdp of the \
                     interface: native or generic)".to_owned(),
            });
        }
        if let Err(error) = synproxy::probe() {
            missing.push(format!(
                "nftables cannot complete handshakes ({}); needs CONFIG_NFT_SYNPROXY and CONFIG_NFT_FIB_INET",
                chain(&error).lines().next().unwrap_or_default()
            ));
        }
        if fs::read_to_string(TIMESTAMPS).is_ok_and(|value| value.trim() == "0") {
            missing
                .push("net.ipv4.tcp_timestamps is 0: a cookie has no room for options".to_owned());
        }
        self.missing = Some(missing);
    }

    /// Why there are no cookies; `None` when there can be some.
    pub(super) fn missing(&self) -> Option<&[String]> {
        self.missing.as_deref().filter(|missing| !missing.is_empty())
    }

    /// Whether that is known yet.
    pub(super) const fn are_looked_at(&self) -> bool {
        self.missing.is_some()
    }

    /// Whether services can be answered for with cookies.
    pub(super) const fn are_possible(&self) -> bool {
        matches!(&self.missing, Some(missing) if missing.is_empty())
    }

    /// What the shield says in its answers.
    pub(super) const fn offer(&self) -> Offer {
        self.offer
    }

    /// Services that are answered for.
    pub(super) fn services(&self) -> &[Service] {
        &self.services
    }

    /// Makes these the services that are answered for. With an error there are none.
    pub(super) fn set(&mut self, plan: &Plan, services: Vec<Service>) -> Result<(), String> {
        if services == self.services {
            return Ok(());
        }
        if services.is_empty() {
            self.end();
            return Ok(());
        }
        self.offer = offer(plan);
        let set = self.loosen().and_then(|()| self.apply(plan, &services));
        if let Err(reason) = set {
            self.end();
            // Not tried again and again.
            self.missing = Some(vec![reason.clone()]);
            return Err(reason);
        }
        self.services = services;
        Ok(())
    }

    /// Puts the rules back when somebody took them away.
    pub(super) fn check(&mut self, plan: &Plan, now_s: u32) {
        if self.services.is_empty() || now_s.saturating_sub(self.checked_s) < CHECK_S {
            return;
        }
        self.checked_s = now_s;
        if !synproxy::is_applied()
            && let Err(error) = self.apply(plan, &self.services)
        {
            log::error!("{error}");
        }
    }

    /// Takes everything away again.
    pub(super) fn end(&mut self) {
        if self.saved.exists() {
            self.remove();
        }
        self.services.clear();
    }

    fn apply(&self, plan: &Plan, services: &[Service]) -> Result<(), String> {
        let wans = plan.dataplane.interfaces.iter().filter(|wan| wan.role == Role::Wan);
        let wans: Vec<&str> = wans.map(|wan| wan.device.as_str()).collect();
        synproxy::apply(&wans, services, self.offer).map_err(|error| chain(&error))
    }

    /// Keeps what the setting was and changes it.
    fn loosen(&self) -> Result<(), String> {
        if self.saved.exists() {
            return Ok(());
        }
        let failed = |path: &Path, error| format!("{}: {error}", path.display());
        let loose = Path::new(LOOSE);
        let before = fs::read_to_string(loose).map_err(|error| failed(loose, error))?;
        fs::write(&self.saved, before).map_err(|error| failed(&self.saved, error))?;
        fs::write(loose, "0").map_err(|error| failed(loose, error))
    }

    fn remove(&self) {
        if let Err(error) = synproxy::remove() {
            log::error!("{}", chain(&error));
        }
        let restored = fs::read_to_string(&self.saved)
            .and_then(|before| fs::write(LOOSE, before.trim()))
            .and_then(|()| fs::remove_file(&self.saved));
        if let Err(error) = restored {
            log::error!("put nf_conntrack_tcp_loose back: {error}");
        }
    }
}

/// What the services would say themselves.
fn offer(plan: &Plan) -> Offer {
    let devices = rtnetlink::devices().unwrap_or_default();
    let wans = plan.dataplane.interfaces.iter().filter(|wan| wan.role == Role::Wan);
    let mtus = wans.filter_map(|wan| {
        devices.iter().find(|device| device.name == wan.device).map(|device| device.mtu)
    });
    let memory = RECEIVE_MEMORY
        .iter()
        .filter_map(|path| fs::read_to_string(path).ok()?.split_whitespace().last()?.parse().ok())
        .max();
    Offer {
        mss: mtus.min().unwrap_or(1500).saturating_sub(HEADERS).clamp(MSS_MIN, 0xffff),
        scale: scale(memory.unwrap_or(0)),
    }
}

/// The window scale for so much memory of a receiver (`tcp_select_initial_window`).
const fn scale(memory: u64) -> u32 {
    let bits = match memory.checked_ilog2() {
        Some(bits) => bits,
        None => 0,
    };
    let scale = bits.saturating_sub(15);
    if scale > 14 { 14 } else { scale }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_window_scale_is_the_kernels() {
        for (memory, expected) in
            [(0, 0), (65_535, 0), (65_536, 1), (212_992, 2), (6_291_456, 7), (u64::MAX, 14)]
        {
            assert_eq!(scale(memory), expected, "{memory}");
        }
    }
}

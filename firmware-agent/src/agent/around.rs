//! What is around the router: its devices and addresses, and where its routes and names lead.
//!
//! Read as a whole, once for everybody who has to spare some of it. It comes and goes with leases
//! and links.

use std::net::IpAddr;

use crate::config::Net;
use crate::plan::guard::{self, Own};
use crate::sys::netlink::RequestError;
use crate::sys::rtnetlink::{self, Address, Device, Gateway};

/// Where the name servers are that the network scripts were given.
const RESOLV: [&str; 3] =
    ["/tmp/resolv.conf.d/resolv.conf.auto", "/tmp/resolv.conf.auto", "/etc/resolv.conf"];

/// Devices, addresses, next hops and name servers at one moment.
#[derive(Debug, Default)]
pub(super) struct Around {
    pub(super) devices: Vec<Device>,
    pub(super) addresses: Vec<Address>,
    gateways: Vec<Gateway>,
    name_servers: Vec<IpAddr>,
}

impl Around {
    /// Looks; says in the log why not.
    pub(super) fn look() -> Option<Self> {
        Self::read()
            .inspect_err(|error| log::warn!("read the addresses of this router: {error}"))
            .ok()
    }

    fn read() -> Result<Self, RequestError> {
        let name_servers = RESOLV
            .iter()
            .filter_map(|file| std::fs::read_to_string(file).ok())
            .flat_map(|text| guard::name_servers(&text))
            .collect();
        Ok(Self {
            devices: rtnetlink::devices()?,
            addresses: rtnetlink::addresses()?,
            gateways: rtnetlink::default_gateways()?,
            name_servers,
        })
    }

    /// What is never blocked: the router's addresses and those that it cannot do without.
    pub(super) fn own(&self, management: &[Net]) -> Vec<Own> {
        guard::own(&self.devices, &self.addresses, &self.gateways, &self.name_servers, management)
    }
}

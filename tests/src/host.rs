//! A machine in the test world: a namespace with one Ethernet interface and two addresses.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::process::Command;

use crate::directory::Directory;
use crate::error::Result;
use crate::frame::{Frame, Mac};
use crate::netns::Netns;
use crate::raw::Injector;

/// Name of a host's only Ethernet interface.
pub const ETH: &str = "eth0";

/// A host on one of the router's two networks.
#[derive(Debug)]
pub struct Host {
    /// Where it lives.
    pub netns: Netns,
    /// Its IPv4 address.
    pub v4: Ipv4Addr,
    /// Its IPv6 address.
    pub v6: Ipv6Addr,
    /// Its Ethernet address.
    pub mac: Mac,
    /// The router's Ethernet address on this host's network.
    pub gateway_mac: Mac,
    /// A `resolv.conf` of its own.
    pub(crate) resolver: Option<PathBuf>,
}

/// Where a host is put.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place<'a> {
    pub purpose: &'a str,
    pub v4: Ipv4Addr,
    pub v6: Ipv6Addr,
    pub mac: Mac,
    /// Namespace and name of the other end of the cable.
    pub port: (&'a Netns, &'a str),
    pub gateway_v4: Ipv4Addr,
    pub gateway_v6: Ipv6Addr,
    pub gateway_mac: Mac,
}

impl Host {
    /// Makes the host, its cable and its routes.
    pub(crate) fn new(place: Place<'_>) -> Result<Self> {
        let Place {
            v4, v6, mac, port: (switch, port), gateway_v4, gateway_v6, gateway_mac, ..
        } = place;
        let netns = Netns::new(place.purpose)?;
        let address = mac_text(mac);
        netns.ip(&format!(
            "link add {ETH} address {address} type veth peer name {port} netns {}\n\
             link set {ETH} up\n\
             addr add {v4}/24 dev {ETH}\n\
             addr add {v6}/64 dev {ETH} nodad\n",
            switch.name(),
        ))?;
        switch.ip(&format!("link set {port} up"))?;
        netns.ip(&format!(
            "route add default via {gateway_v4}\nroute add default via {gateway_v6} dev {ETH}\n"
        ))?;
        Ok(Self { netns, v4, v6, mac, gateway_mac, resolver: None })
    }

    /// Its address of the family of `like`.
    #[must_use]
    pub const fn address(&self, like: IpAddr) -> IpAddr {
        match like {
            IpAddr::V4(_) => IpAddr::V4(self.v4),
            IpAddr::V6(_) => IpAddr::V6(self.v6),
        }
    }

    /// A command on this host; names are looked up at the router when the host has a resolver.
    #[must_use]
    pub fn command(&self, program: &str) -> Command {
        let Some(resolver) = &self.resolver else { return self.netns.command(program) };
        // Only this command sees the other resolv.conf: the mount ends with its namespace.
        let mut command = self.netns.command("unshare");
        command.args(["--mount", "sh", "-c"]);
        command.arg(r#"mount --bind "$0" /etc/resolv.conf && exec "$@""#);
        command.arg(resolver).arg(program);
        command
    }

    /// Whether `address` answers an echo request.
    pub fn ping(&self, address: IpAddr) -> Result<bool> {
        self.netns.succeeds(&format!("busybox ping -c 1 -W 2 {address}"))
    }

    /// More addresses on its interface, with prefix length.
    pub fn add_addresses(&self, addresses: &[&str]) -> Result<()> {
        let line = |address: &&str| {
            let nodad = if address.contains(':') { " nodad" } else { "" };
            format!("addr add {address} dev {ETH}{nodad}\n")
        };
        self.netns.ip(&addresses.iter().map(line).collect::<String>())
    }

    /// Switches offloads of its interface, so that frames have the size they have on a cable.
    pub fn offloads(&self, on: bool) -> Result<()> {
        offloads(&self.netns, ETH, on)
    }

    /// A frame from this host to the router.
    #[must_use]
    pub fn frame(&self) -> Frame {
        Frame::ethernet(self.gateway_mac, self.mac)
    }

    /// A way to send such frames.
    pub fn injector(&self) -> Result<Injector> {
        Injector::new(&self.netns, ETH)
    }

    /// Gives it a resolver.
    pub(crate) fn set_resolver(&mut self, server: Ipv4Addr, directory: &Directory) -> Result<()> {
        let name = format!("{}.resolv.conf", self.netns.name());
        self.resolver = Some(directory.write(&name, format!("nameserver {server}\n"))?);
        Ok(())
    }
}

/// Switches segmentation and aggregation on an interface of type veth.
pub fn offloads(netns: &Netns, interface: &str, on: bool) -> Result<()> {
    let state = if on { "on" } else { "off" };
    netns.run(&format!("ethtool -K {interface} tso {state} gso {state} gro {state}")).map(drop)
}

/// An Ethernet address as `ip` writes it.
#[must_use]
pub fn mac_text(mac: Mac) -> String {
    mac.map(|octet| format!("{octet:02x}")).join(":")
}

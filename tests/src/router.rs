//! The embedded router: clients on a LAN, servers and an attacker on a WAN, a router between.
//!
//! ```text
//!  client ─ lan1 ┐                    ┌ server    nginx, iperf3
//!  client ─ lan2 ┴ br-lan [router] wan ┴ attacker  (a switch between)
//!  192.168.77.0/24  fd77::/64          203.0.113.0/24  2001:db8:77::/64
//! ```
//!
//! IPv4 is masqueraded, IPv6 is routed, the firewall is the shape of firewall4's.

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::directory::Directory;
use crate::error::Result;
use crate::frame::Mac;
use crate::host::{Host, Place, mac_text, offloads};
use crate::netns::{self, Netns};
use crate::process;

/// The router's address on the LAN.
pub const LAN_V4: Ipv4Addr = Ipv4Addr::new(192, 168, 77, 1);
/// The router's address on the LAN.
pub const LAN_V6: Ipv6Addr = Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, 1);
/// The router's address on the WAN.
pub const WAN_V4: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);
/// The router's address on the WAN.
pub const WAN_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0x77, 0, 0, 0, 0, 1);
/// Name of the WAN interface.
pub const WAN: &str = "wan";

const LAN_MAC: Mac = [0x02, 0x53, 0x4c, 0, 0, 1];
const WAN_MAC: Mac = [0x02, 0x53, 0x4c, 0, 1, 1];

/// What the router's LAN side is made of.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Lan {
    /// `br-lan` with a port per client, as on OpenWrt.
    Bridge,
    /// One Ethernet interface, `lan1`, for one client.
    Plain,
}

/// How a router is built.
#[derive(Clone, Copy, Debug)]
pub struct Build {
    /// The LAN side.
    pub lan: Lan,
    /// Clients, at most 9; one with [`Lan::Plain`].
    pub clients: u8,
    /// Whether frames may be larger than a cable carries (TSO, GSO, GRO of veth).
    pub super_packets: bool,
}

impl Default for Build {
    fn default() -> Self {
        Self { lan: Lan::Bridge, clients: 1, super_packets: false }
    }
}

/// The world. Fields are dropped in order: hosts first, the directory last.
#[derive(Debug)]
pub struct Router {
    /// Hosts on the LAN, never empty.
    pub clients: Vec<Host>,
    /// A host on the WAN with services.
    pub server: Host,
    /// A host on the WAN with bad intentions.
    pub attacker: Host,
    /// The router itself.
    pub netns: Netns,
    /// Name of the LAN interface with the router's address.
    pub lan: &'static str,
    /// Place for files of this world.
    pub directory: Directory,
    /// The cable between router, server and attacker.
    switch: Netns,
}

impl Router {
    /// Builds the world; needs root.
    pub fn new(build: Build) -> Result<Self> {
        process::need(&["ip", "nft", "ethtool", "nsenter", "setpriv", "busybox"])?;
        netns::sweep()?;
        let directory = Directory::new("world")?;
        let netns = Netns::new("router")?;
        let switch = Netns::new("switch")?;
        for namespace in [&netns, &switch] {
            for name in ["iptables", "ip6tables", "arptables"] {
                // Absent where br_netfilter is not in the kernel, as on OpenWrt.
                let _absent = namespace.sysctl(&format!("net/bridge/bridge-nf-call-{name}"), "0");
            }
        }
        wan(&netns, &switch)?;
        let server = wan_host("server", 10, &switch)?;
        let attacker = wan_host("attacker", 66, &switch)?;
        switch.ip("link set uplink master sw\n\
             link set server master sw\n\
             link set attacker master sw\n")?;

        let lan = match build.lan {
            Lan::Bridge => "br-lan",
            Lan::Plain => "lan1",
        };
        if build.lan == Lan::Bridge {
            let address = mac_text(LAN_MAC);
            netns.ip(&format!(
                "link add br-lan address {address} type bridge forward_delay 0 mcast_snooping 0"
            ))?;
        }
        let clients = (0..build.clients)
            .map(|index| client(index, &netns, build.lan, &directory))
            .collect::<Result<Vec<_>>>()?;
        netns.ip(&format!(
            "link set {lan} up\naddr add {LAN_V4}/24 dev {lan}\naddr add {LAN_V6}/64 dev {lan} nodad\n"
        ))?;
        // Routes that the addresses bring only exist once the interfaces are up.
        forwarding(&netns)?;
        let router = Self { clients, server, attacker, netns, lan, directory, switch };
        router.set_super_packets(build.super_packets)?;
        router.firewall()?;
        Ok(router)
    }

    /// The namespace between router, server and attacker; `uplink` is the cable to the router.
    #[must_use]
    pub const fn switch(&self) -> &Netns {
        &self.switch
    }

    /// The first client.
    ///
    /// # Panics
    /// Never: a router is built with one client at least.
    #[must_use]
    pub fn client(&self) -> &Host {
        self.clients.first().unwrap_or_else(|| unreachable!("built with a client"))
    }

    /// Interfaces of the router that carry frames: the ports, not the bridge.
    #[must_use]
    pub fn ports(&self) -> Vec<String> {
        let lan = (1..=self.clients.len()).map(|number| format!("lan{number}"));
        lan.chain([WAN.to_owned()]).collect()
    }

    /// Whether the clients are at ports of a bridge.
    #[must_use]
    pub fn is_bridged(&self) -> bool {
        self.lan == "br-lan"
    }

    /// Switches super-packets on every cable of this world.
    fn set_super_packets(&self, on: bool) -> Result<()> {
        for port in self.ports() {
            offloads(&self.netns, &port, on)?;
        }
        for host in self.clients.iter().chain([&self.server, &self.attacker]) {
            host.offloads(on)?;
        }
        for port in ["uplink", "server", "attacker"] {
            offloads(&self.switch, port, on)?;
        }
        Ok(())
    }

    /// Loads the router's own firewall, in the shape of firewall4's. Doing it again replaces it,
    /// as `fw4 reload` does.
    pub fn firewall(&self) -> Result<()> {
        self.load_firewall("", "")
    }

    /// The same with software offload on, as firewall4 writes it; needs flowtables.
    pub fn offloading_firewall(&self) -> Result<()> {
        let devices = self.ports().join(", ");
        self.load_firewall(
            &format!("flowtable ft {{ hook ingress priority 0; devices = {{ {devices} }}; }}"),
            "meta l4proto { tcp, udp } flow add @ft",
        )
    }

    /// Loads the firewall with something before its chains and before its rules about forwarding.
    fn load_firewall(&self, before: &str, first: &str) -> Result<()> {
        let lan = self.lan;
        self.netns.nft(&format!(
            "table inet fw4
             delete table inet fw4
             table inet fw4 {{
                {before}
                chain forward {{
                    type filter hook forward priority filter; policy drop;
                    {first}
                    ct state {{ established, related }} accept
                    iifname \"{lan}\" oifname \"{WAN}\" accept
                    ct status dnat accept
                    icmpv6 type echo-request accept
                }}
                chain srcnat {{
                    type nat hook postrouting priority srcnat; policy accept;
                    oifname \"{WAN}\" meta nfproto ipv4 masquerade
                }}
                chain dstnat {{
                    type nat hook prerouting priority dstnat; policy accept;
                    iifname \"{WAN}\" tcp dport 8080 dnat ip to {client}:8080
                }}
             }}\n",
            client = self.client().v4,
        ))
    }
}

fn wan(netns: &Netns, switch: &Netns) -> Result<()> {
    switch.ip("link add sw type bridge forward_delay 0 mcast_snooping 0\nlink set sw up\n")?;
    let (address, peer) = (mac_text(WAN_MAC), switch.name());
    netns.ip(&format!(
        "link add {WAN} address {address} type veth peer name uplink netns {peer}\n\
         link set {WAN} up\n\
         addr add {WAN_V4}/24 dev {WAN}\n\
         addr add {WAN_V6}/64 dev {WAN} nodad\n",
    ))?;
    switch.ip("link set uplink up")
}

fn wan_host(name: &str, last: u8, switch: &Netns) -> Result<Host> {
    let [a, b, c, _] = WAN_V4.octets();
    let mut v6 = WAN_V6.segments();
    // Written with the same digits as in IPv4: ::10 for .10.
    v6[7] = u16::from(last / 10) << 4 | u16::from(last % 10);
    Host::new(Place {
        purpose: name,
        v4: Ipv4Addr::new(a, b, c, last),
        v6: Ipv6Addr::from(v6),
        mac: [0x02, 0x53, 0x4c, 0, 1, last],
        port: (switch, name),
        gateway_v4: WAN_V4,
        gateway_v6: WAN_V6,
        gateway_mac: WAN_MAC,
    })
}

fn client(index: u8, netns: &Netns, lan: Lan, directory: &Directory) -> Result<Host> {
    let port = format!("lan{}", index + 1);
    let [a, b, c, _] = LAN_V4.octets();
    let mut v6 = LAN_V6.segments();
    v6[7] = 0x10 + u16::from(index);
    let mut host = Host::new(Place {
        purpose: &format!("client{}", index + 1),
        v4: Ipv4Addr::new(a, b, c, 10 + index),
        v6: Ipv6Addr::from(v6),
        mac: [0x02, 0x53, 0x4c, 0, 0, 10 + index],
        port: (netns, &port),
        gateway_v4: LAN_V4,
        gateway_v6: LAN_V6,
        gateway_mac: LAN_MAC,
    })?;
    host.set_resolver(LAN_V4, directory)?;
    match lan {
        Lan::Bridge => netns.ip(&format!("link set {port} master br-lan"))?,
        Lan::Plain => netns.ip(&format!("link set {port} address {}", mac_text(LAN_MAC)))?,
    }
    Ok(host)
}

fn forwarding(netns: &Netns) -> Result<()> {
    for (name, value) in [
        ("net/ipv4/ip_forward", "1"),
        ("net/ipv6/conf/all/forwarding", "1"),
        ("net/ipv4/conf/all/rp_filter", "0"),
        ("net/ipv4/conf/default/rp_filter", "0"),
    ] {
        netns.sysctl(name, value)?;
    }
    // Everything that is not on a local network is behind the first server's host.
    netns.ip("route add default via 203.0.113.10\nroute add default via 2001:db8:77::10\n")
}

//! The rules that complete the handshakes that the shield began with a cookie: `synproxy` checks the
//! cookie in the answer, and only then connects to the service.
//!
//! In a table apart, there only while services of this router are under attack. For a service of the
//! router itself `synproxy` stands behind the firewall's own input chain, so who is not let in there
//! does not get in here: from the service's side the connection comes from this router.
//!
//! A port that is translated to a host behind the router is none that the input chain lets in, so
//! `synproxy` stands before it there. The connection that it makes leaves by the output hook, where
//! the firewall translates nothing: the same translation is repeated there, for what does not come
//! from the router's own addresses.

use std::fmt::Write as _;
use std::net::IpAddr;

use super::apply::{ApplyError, NFT};

/// The table.
const TABLE: &str = "sluice_syn";

/// A service at an address of this router.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Service {
    /// The address.
    pub addr: IpAddr,
    /// The port.
    pub port: u16,
    /// What answers there: the same, or where it is translated to.
    pub by: (IpAddr, u16),
}

/// What clients are told before the service is asked.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Offer {
    /// Maximum segment size over IPv4.
    pub mss: u32,
    /// Window scale, which must be the services'.
    pub scale: u32,
}

/// Whether the kernel and the tool have what it takes; changes nothing.
pub fn probe() -> Result<(), ApplyError> {
    let addr = IpAddr::from([192, 0, 2, 1]);
    let inside = IpAddr::from([192, 0, 2, 2]);
    let example = [(1, (addr, 1)), (2, (inside, 1))].map(|(port, by)| Service { addr, port, by });
    let text = text(&["lo"], &example, Offer { mss: 1460, scale: 7 });
    NFT.run("try synproxy", &["-c", "-f", "-"], &text).map(drop)
}

/// Puts the rules in force for what comes in at `devices`, in the place of earlier ones.
pub fn apply(devices: &[&str], services: &[Service], offer: Offer) -> Result<(), ApplyError> {
    NFT.run("apply synproxy", &["-f", "-"], &text(devices, services, offer)).map(drop)
}

/// Whether the table is there.
#[must_use]
pub fn is_applied() -> bool {
    NFT.run("list synproxy", &["list", "table", "inet", TABLE], "").is_ok()
}

/// Takes the rules away; none there is as good.
pub fn remove() -> Result<(), ApplyError> {
    let text = format!("add table inet {TABLE}\ndelete table inet {TABLE}\n");
    NFT.run("remove synproxy", &["-f", "-"], &text).map(drop)
}

fn text(devices: &[&str], services: &[Service], offer: Offer) -> String {
    let devices: Vec<String> = devices.iter().map(|device| format!("\"{device}\"")).collect();
    let devices = devices.join(", ");
    let (mut early, mut before, mut behind, mut output) =
        (String::new(), String::new(), String::new(), String::new());
    for Service { addr, port, by } in services {
        let (family, mss) = match addr {
            IpAddr::V4(_) => ("ip", offer.mss),
            IpAddr::V6(_) => ("ip6", offer.mss.saturating_sub(20)),
        };
        let to = format!("{family} daddr {addr} tcp dport {port}");
        let to_here = format!("\t\tiifname {{ {devices} }} {to}");
        let _infallible =
            writeln!(early, "{to_here} tcp flags & (fin | syn | rst | ack) == syn notrack");
        let is_translated = *by != (*addr, *port);
        let _infallible = writeln!(
            if is_translated { &mut before } else { &mut behind },
            "{to_here} ct state invalid,untracked synproxy mss {mss} wscale {} timestamp sack-perm",
            offer.scale
        );
        if is_translated {
            let (inside, port) = by;
            let target = match inside {
                IpAddr::V4(inside) => format!("{inside}:{port}"),
                IpAddr::V6(inside) => format!("[{inside}]:{port}"),
            };
            let _infallible =
                writeln!(output, "\t\tfib saddr type != local {to} dnat {family} to {target}");
        }
    }
    let mut text =
        format!("add table inet {TABLE}\ndelete table inet {TABLE}\ntable inet {TABLE} {{\n");
    for (name, hook, rules) in [
        ("early", "filter hook prerouting priority raw", early),
        ("before", "filter hook input priority -10", before),
        ("behind", "filter hook input priority 10", behind),
        ("output", "nat hook output priority -100", output),
    ] {
        let _infallible =
            write!(text, "\tchain {name} {{\n\t\ttype {hook}; policy accept;\n{rules}\t}}\n");
    }
    text + "}\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handshake_is_not_tracked_before_it_is_complete_and_only_at_the_services_under_attack() {
        let service = |addr: &str, port, by: &str, inside| Service {
            addr: addr.parse().unwrap(),
            port,
            by: (by.parse().unwrap(), inside),
        };
        let services = [
            service("192.0.2.1", 22, "192.0.2.1", 22),
            service("192.0.2.1", 443, "192.168.1.2", 8443),
            service("2001:db8::1", 80, "2001:db8::1", 80),
        ];
        let text = text(&["wan", "wwan0"], &services, Offer { mss: 1452, scale: 6 });
        for line in [
            "iifname { \"wan\", \"wwan0\" } ip daddr 192.0.2.1 tcp dport 22 tcp flags & (fin | syn | rst | ack) == syn notrack",
            "ip daddr 192.0.2.1 tcp dport 22 ct state invalid,untracked synproxy mss 1452 wscale 6 timestamp sack-perm",
            "ip6 daddr 2001:db8::1 tcp dport 80 ct state invalid,untracked synproxy mss 1432 wscale 6",
            "fib saddr type != local ip daddr 192.0.2.1 tcp dport 443 dnat ip to 192.168.1.2:8443",
        ] {
            assert!(text.contains(line), "{line}\n{text}");
        }
        assert_eq!(text.matches("notrack").count(), 3);
        assert_eq!(text.matches("dnat").count(), 1, "what answers itself is not translated");
        let (before, behind) = text.split_once("chain behind").unwrap();
        let proxies = |text: &str| text.matches("synproxy").count();
        assert_eq!((proxies(before), proxies(behind)), (1, 2), "the input chain is not passed by");
    }
}

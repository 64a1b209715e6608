//! The rules that complete the handshakes that the shield began with a cookie: `synproxy` checks the
//! cookie in the answer, and only then connects to the service.
//!
//! In a table apart, there only while services of this router are under attack. `synproxy` stands
//! behind the firewall's own input chain, so who is not let in there does not get in here: from the
//! service's side the connection comes from this router itself.

use std::fmt::Write as _;
use std::net::IpAddr;

use super::apply::{ApplyError, NFT};

/// The table.
const TABLE: &str = "sluice_syn";

/// Ports of one address of this router.
pub type Service = (IpAddr, Vec<u16>);

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
    let example = [(IpAddr::from([192, 0, 2, 1]), vec![1])];
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
    let (mut early, mut late) = (String::new(), String::new());
    for (addr, ports) in services {
        let (family, mss) = match addr {
            IpAddr::V4(_) => ("ip", offer.mss),
            IpAddr::V6(_) => ("ip6", offer.mss.saturating_sub(20)),
        };
        let ports: Vec<String> = ports.iter().map(ToString::to_string).collect();
        let to = format!(
            "\t\tiifname {{ {devices} }} {family} daddr {addr} tcp dport {{ {} }}",
            ports.join(", ")
        );
        let _infallible =
            writeln!(early, "{to} tcp flags & (fin | syn | rst | ack) == syn notrack");
        let _infallible = writeln!(
            late,
            "{to} ct state invalid,untracked synproxy mss {mss} wscale {} timestamp sack-perm",
            offer.scale
        );
    }
    format!(
        "add table inet {TABLE}\n\
         delete table inet {TABLE}\n\
         table inet {TABLE} {{\n\
         \tchain early {{\n\
         \t\ttype filter hook prerouting priority raw; policy accept;\n\
         {early}\
         \t}}\n\
         \tchain late {{\n\
         \t\ttype filter hook input priority 10; policy accept;\n\
         {late}\
         \t}}\n\
         }}\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handshake_is_not_tracked_before_it_is_complete_and_only_at_the_services_under_attack() {
        let services = [
            (IpAddr::from([192, 0, 2, 1]), vec![22, 443]),
            ("2001:db8::1".parse().unwrap(), vec![80]),
        ];
        let text = text(&["wan", "wwan0"], &services, Offer { mss: 1452, scale: 6 });
        for line in [
            "iifname { \"wan\", \"wwan0\" } ip daddr 192.0.2.1 tcp dport { 22, 443 } tcp flags & (fin | syn | rst | ack) == syn notrack",
            "ip daddr 192.0.2.1 tcp dport { 22, 443 } ct state invalid,untracked synproxy mss 1452 wscale 6 timestamp sack-perm",
            "ip6 daddr 2001:db8::1 tcp dport { 80 } ct state invalid,untracked synproxy mss 1432 wscale 6",
        ] {
            assert!(text.contains(line), "{line}\n{text}");
        }
        assert_eq!(text.matches("notrack").count(), 2);
    }
}

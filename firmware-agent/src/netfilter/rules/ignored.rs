//! What is never inspected, as rules of either language.
//!
//! The packet that tells that a connection is ignored may be of one direction only, as with hardware
//! addresses. So its connection is marked as one that is trusted: then both directions leave the queue
//! alone, and the firewall may offload it.

use std::fmt::Write as _;

use crate::config::{Ignore, Mac, Net, Ports};

const TCP: u8 = 6;
const UDP: u8 = 17;

/// What is never inspected: each list without what another entry covers.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Ignored {
    nets: Vec<Net>,
    macs: Vec<Mac>,
    tcp: Vec<(u16, u16)>,
    udp: Vec<(u16, u16)>,
}

impl Ignored {
    pub(super) fn new<'a>(ignores: impl IntoIterator<Item = &'a Ignore>) -> Self {
        let mut all = Self::default();
        let mut ports: Vec<Ports> = Vec::new();
        for ignore in ignores.into_iter().filter(|ignore| ignore.enabled) {
            all.nets.extend(&ignore.nets);
            all.macs.extend(&ignore.devices);
            ports.extend(&ignore.ports);
        }
        all.nets.sort_unstable();
        // A prefix comes before what lies in it; neither language takes both.
        all.nets.dedup_by(|net, before| before.contains(net));
        all.macs.sort_unstable();
        all.macs.dedup();
        all.tcp = ranges(&ports, TCP);
        all.udp = ranges(&ports, UDP);
        all
    }

    /// Whether it names this device by its hardware address.
    pub(super) fn has(&self, device: Mac) -> bool {
        self.macs.binary_search(&device).is_ok()
    }

    pub(super) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Rules for nftables: what matches goes to the chain.
    pub(super) fn nft(&self, chain: &str) -> String {
        let mut text = String::new();
        for (family, is_v4) in [("ip", true), ("ip6", false)] {
            let nets = self.nets.iter().filter(|net| net.is_v4() == is_v4);
            let nets = joined(nets.map(Net::to_string));
            if !nets.is_empty() {
                for end in ["saddr", "daddr"] {
                    let _ = writeln!(text, "\t\t{family} {end} {{ {nets} }} goto {chain}");
                }
            }
        }
        if !self.macs.is_empty() {
            let macs = joined(self.macs.iter().map(Mac::to_string));
            let _ = writeln!(text, "\t\tether saddr {{ {macs} }} goto {chain}");
        }
        for (transport, ports) in [("tcp", &self.tcp), ("udp", &self.udp)] {
            if !ports.is_empty() {
                let ports = joined(ports.iter().map(|range| shown(*range, '-')));
                let _ = writeln!(
                    text,
                    "\t\tct direction original {transport} dport {{ {ports} }} goto {chain}"
                );
            }
        }
        text
    }

    /// Rules for iptables: what matches in the one chain goes to the other. A line of the other
    /// family is left out by the tool.
    pub(super) fn iptables(&self, from: &str, to: &str) -> String {
        let mut text = String::new();
        for net in &self.nets {
            let family = if net.is_v4() { 4 } else { 6 };
            for end in ['s', 'd'] {
                let _ = writeln!(text, "-{family} -A {from} -{end} {net} -g {to}");
            }
        }
        for mac in &self.macs {
            let _ = writeln!(text, "-A {from} -m mac --mac-source {mac} -g {to}");
        }
        for (transport, ports) in [("tcp", &self.tcp), ("udp", &self.udp)] {
            for range in ports {
                let _ = writeln!(
                    text,
                    "-A {from} -p {transport} -m {transport} --dport {} \
                     -m conntrack --ctdir ORIGINAL -g {to}",
                    shown(*range, ':')
                );
            }
        }
        text
    }
}

/// The ranges of a transport, in order and without overlap.
fn ranges(ports: &[Ports], transport: u8) -> Vec<(u16, u16)> {
    let of = ports.iter().filter(|ports| [0, transport].contains(&ports.transport));
    let mut ranges: Vec<(u16, u16)> = of.map(|ports| (ports.first, ports.last)).collect();
    ranges.sort_unstable();
    ranges.dedup_by(|next, before| {
        let touches = next.0 <= before.1.saturating_add(1);
        if touches {
            before.1 = before.1.max(next.1);
        }
        touches
    });
    ranges
}

fn shown((first, last): (u16, u16), to: char) -> String {
    if first == last { first.to_string() } else { format!("{first}{to}{last}") }
}

fn joined(words: impl Iterator<Item = String>) -> String {
    let mut text = String::new();
    for word in words {
        if !text.is_empty() {
            text.push_str(", ");
        }
        text.push_str(&word);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Ignored {
        let ignore = Ignore {
            enabled: true,
            nets: ["192.0.2.7", "192.0.2.0/24", "2001:db8::/32"]
                .map(|net| net.parse().unwrap())
                .into(),
            devices: ["02:00:5e:10:00:01", "02:00:5e:10:00:01"]
                .map(|mac| mac.parse().unwrap())
                .into(),
            ports: ["tcp/873", "5000-5010", "5005-5020", "5021", "udp/53"]
                .map(|ports| ports.parse().unwrap())
                .into(),
        };
        let off =
            Ignore { enabled: false, nets: vec!["10.0.0.0/8".parse().unwrap()], ..ignore.clone() };
        Ignored::new([&ignore, &off])
    }

    #[test]
    fn overlapping_entries_become_one() {
        assert_eq!(
            sample().nft("ignored"),
            "\t\tip saddr { 192.0.2.0/24 } goto ignored\n\
             \t\tip daddr { 192.0.2.0/24 } goto ignored\n\
             \t\tip6 saddr { 2001:db8::/32 } goto ignored\n\
             \t\tip6 daddr { 2001:db8::/32 } goto ignored\n\
             \t\tether saddr { 02:00:5e:10:00:01 } goto ignored\n\
             \t\tct direction original tcp dport { 873, 5000-5021 } goto ignored\n\
             \t\tct direction original udp dport { 53, 5000-5021 } goto ignored\n"
        );
        assert_eq!(
            sample().iptables("A", "B"),
            "-4 -A A -s 192.0.2.0/24 -g B\n-4 -A A -d 192.0.2.0/24 -g B\n\
             -6 -A A -s 2001:db8::/32 -g B\n-6 -A A -d 2001:db8::/32 -g B\n\
             -A A -m mac --mac-source 02:00:5e:10:00:01 -g B\n\
             -A A -p tcp -m tcp --dport 873 -m conntrack --ctdir ORIGINAL -g B\n\
             -A A -p tcp -m tcp --dport 5000:5021 -m conntrack --ctdir ORIGINAL -g B\n\
             -A A -p udp -m udp --dport 53 -m conntrack --ctdir ORIGINAL -g B\n\
             -A A -p udp -m udp --dport 5000:5021 -m conntrack --ctdir ORIGINAL -g B\n"
        );
        assert!(Ignored::new([]).is_empty());
    }
}

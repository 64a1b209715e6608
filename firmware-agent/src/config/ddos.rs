//! Section `ddos`: what strangers may do, and what happens to those who do more.

use sluice_abi::limits::{Limits, SCAN_PORTS, prefix_mask};
use sluice_abi::shield::Rate;
use sluice_datapath::bucket::Pace;

use super::cost::Change;
use super::net::Net;
use super::ram::Ram;
use super::reader::Reader;
use super::remark::Remarks;
use super::schema::{Fallback, Kind, OptionSpec, SectionSpec};
use super::uci::Section;

/// What strangers may do, and what happens to those who do more.
#[derive(Clone, Debug, PartialEq)]
pub struct Ddos {
    /// Packets of a source.
    pub source: Rate,
    /// TCP SYN packets of a source.
    pub syn: Rate,
    /// ICMP packets of a source.
    pub icmp: Rate,
    /// Connections of a source, by the minute.
    pub connections: Rate,
    /// Packets to a destination.
    pub destination: Rate,
    /// TCP SYN packets of strangers to a destination.
    pub destination_syn: Rate,
    /// Answers of amplifiers to a destination.
    pub amplification: Rate,
    /// Leading bits of an IPv6 address that name one source.
    pub source_prefix_v6: u32,
    /// Sets of four buckets.
    pub bucket_sets: u32,
    /// Checks of single packets: the bits of [`Limits::checks`].
    pub checks: u32,
    /// Ports of this router that a stranger tries before that is told; 0 is never.
    pub scan_ports: u32,
    /// Seconds for which who goes on is blocked; 0 is never.
    pub block_s: u32,
    /// Most addresses that are blocked at once.
    pub block_max: u32,
    /// What is never blocked automatically.
    pub never_block: Vec<Net>,
    /// Whether destinations under attack by SYN packets are looked for.
    pub syn_validation: bool,
    /// Handshakes that wait at a destination before it is under attack.
    pub syn_backlog: u32,
    /// How many times those that were completed lately these are then.
    pub syn_ratio: u32,
    /// TCP SYN packets of strangers to a destination under attack.
    pub attacked_syn: Rate,
}

const fn number(min: u32, max: u32) -> Kind {
    Kind::Number { min, max }
}

const RATE: Kind = number(0, Rate::MAX);
const BY_MINUTE: Kind = number(0, Pace::MINUTE_MAX);

/// Rates and their bursts.
const RATES: [(&str, &str); 7] = [
    ("source_pps", "source_burst"),
    ("syn_pps", "syn_burst"),
    ("icmp_pps", "icmp_burst"),
    ("connections_pm", "connections_burst"),
    ("destination_pps", "destination_burst"),
    ("destination_syn_pps", "destination_syn_burst"),
    ("amplification_pps", "amplification_burst"),
];

/// Checks of single packets.
const CHECKS: [(&str, u32); 5] = [
    ("bogons", Limits::BOGON),
    ("private_sources", Limits::PRIVATE),
    ("martians", Limits::MARTIAN),
    ("tcp_flags", Limits::TCP_FLAGS),
    ("multicast_exempt", Limits::MULTICAST_EXEMPT),
];

pub(super) const SPEC: SectionSpec = SectionSpec {
    kind: "ddos",
    example: "limits",
    about: "What strangers may do on wan interfaces. A rate of 0 is no limit, a burst of 0 is as much as the rate gives at once. There is one such section at most.",
    #[rustfmt::skip]
    options: &[
        OptionSpec::new("enabled", Kind::Flag, "1",
            "Whether the section counts. With 0 nobody is held to a rate, checked or blocked automatically."),
        OptionSpec::new("source_pps", RATE, "0",
            "Packets a second of one source."),
        OptionSpec::new("source_burst", RATE, "0",
            "Packets that a quiet source may send at once."),
        OptionSpec::new("syn_pps", RATE, "0",
            "TCP SYN packets a second of one source; they count here instead of in source_pps."),
        OptionSpec::new("syn_burst", RATE, "0",
            "TCP SYN packets that a quiet source may send at once."),
        OptionSpec::new("icmp_pps", RATE, "0",
            "ICMP and ICMPv6 packets a second of one source; they count here instead of in source_pps."),
        OptionSpec::new("icmp_burst", RATE, "0",
            "ICMP packets that a quiet source may send at once."),
        OptionSpec::new("connections_pm", BY_MINUTE, "0",
            "TCP connections a minute that one source may open, counted by their SYN packets; other protocols are not counted."),
        OptionSpec::new("connections_burst", BY_MINUTE, "0",
            "TCP connections that a quiet source may open at once."),
        OptionSpec::new("destination_pps", RATE, "0",
            "Packets a second to one destination from sources that never completed a handshake."),
        OptionSpec::new("destination_burst", RATE, "0",
            "Such packets at once after a pause."),
        OptionSpec::new("destination_syn_pps", RATE, "0",
            "TCP SYN packets a second to one destination from sources that never completed a handshake; they count here instead of in destination_pps."),
        OptionSpec::new("destination_syn_burst", RATE, "0",
            "Such SYN packets at once after a pause."),
        OptionSpec::new("amplification_pps", RATE, "10000",
            "UDP packets a second to one destination from one well-known port of amplifiers (DNS, NTP, SSDP, memcached and others), whatever their size; fragments have no port and are not counted here."),
        OptionSpec::new("amplification_burst", RATE, "0",
            "Such packets at once after a pause."),
        OptionSpec::new("source_prefix_v6", number(1, 128), "64",
            "Leading bits of an IPv6 address that name one source."),
        OptionSpec::by_ram("bucket_sets", Kind::PowerOfTwo { min: 64, max: 65_536 }, ["2048", "4096", "8192", "16384"],
            "Sets of four sources or destinations whose rate is known at once, 64 bytes each.").costs(Change::Reload),
        OptionSpec::new("bogons", Kind::Flag, "0",
            "Whether sources in reserved ranges, those for documentation and those for benchmarks are dropped."),
        OptionSpec::new("private_sources", Kind::Flag, "0",
            "Whether private sources are dropped; not in force while a wan interface itself has a private address."),
        OptionSpec::new("martians", Kind::Flag, "1",
            "Whether packets are dropped whose source is this router, loopback, a group, or their own destination."),
        OptionSpec::new("tcp_flags", Kind::Flag, "1",
            "Whether TCP packets are dropped that have no flags, SYN with FIN or RST, or FIN without ACK."),
        OptionSpec::new("multicast_exempt", Kind::Flag, "1",
            "Whether packets to multicast and broadcast addresses, such as television, pass without checks and rates."),
        OptionSpec::new("scan_ports", number(0, SCAN_PORTS as u32), "10",
            "Different TCP ports within five minutes that make a source a port scanner, which is told and nothing more; 0 is never."),
        OptionSpec::new("block_s", number(0, 86_400), "600",
            "Seconds for which a source is blocked that is over a rate again and again and has proven its address by a completed TCP handshake; 0 is never. Others are only held to the rate."),
        OptionSpec::new("block_max", number(1, 4096), "256",
            "Most addresses that are blocked so at once."),
        OptionSpec::list("never_block", Kind::Net, Fallback::Empty,
            "Addresses and prefixes that are never blocked so, beside this router's, its gateways and name servers, option management, everything on the lan and the allowlists."),
        OptionSpec::new("syn_validation", Kind::Flag, "0",
            "Whether destinations are looked for at which many handshakes wait and few are completed. While one is under attack, SYN packets to it from sources that never completed a handshake are held to attacked_syn_pps; where the kernel can, services of this router and ports that it translates are answered for with SYN cookies instead, and net.netfilter.nf_conntrack_tcp_loose is 0 meanwhile."),
        OptionSpec::new("syn_backlog", number(8, 65_536), "64",
            "Handshakes waiting at a destination before it is under attack."),
        OptionSpec::new("syn_ratio", number(1, 1000), "3",
            "How many times the handshakes that were completed within the last 30 seconds these must be."),
        OptionSpec::new("attacked_syn_pps", number(1, Rate::MAX), "20",
            "TCP SYN packets a second to a destination under attack from sources that never completed a handshake; where destination_syn_pps is less, that counts."),
        OptionSpec::new("attacked_syn_burst", RATE, "0",
            "Such SYN packets at once after a pause."),
    ],
};

impl Ddos {
    pub(super) fn read(mut uci: Reader<'_>) -> Self {
        let [source, syn, icmp, connections, destination, destination_syn, amplification] =
            RATES.map(|(rate, burst)| self::rate(&mut uci, rate, burst));
        let mut checks = 0;
        for (option, bit) in CHECKS {
            let on: bool = uci.get(option);
            checks |= if on { bit } else { 0 };
        }
        let scan_ports = uci.get("scan_ports");
        if scan_ports != 0 {
            checks |= Limits::SCANS;
        }
        let ddos = Self {
            source,
            syn,
            icmp,
            connections,
            destination,
            destination_syn,
            amplification,
            source_prefix_v6: uci.get("source_prefix_v6"),
            bucket_sets: uci.get("bucket_sets"),
            checks,
            scan_ports,
            block_s: uci.get("block_s"),
            block_max: uci.get("block_max"),
            never_block: uci.values("never_block"),
            syn_validation: uci.get("syn_validation"),
            syn_backlog: uci.get("syn_backlog"),
            syn_ratio: uci.get("syn_ratio"),
            attacked_syn: rate(&mut uci, "attacked_syn_pps", "attacked_syn_burst"),
        };
        if uci.get("enabled") { ddos } else { ddos.off() }
    }

    /// Without anything that it would do to somebody.
    fn off(self) -> Self {
        let none = Rate::default();
        Self {
            source: none,
            syn: none,
            icmp: none,
            connections: none,
            destination: none,
            destination_syn: none,
            amplification: none,
            checks: 0,
            scan_ports: 0,
            block_s: 0,
            syn_validation: false,
            ..self
        }
    }

    /// What the programs are told. The filter of own addresses, the clock and what follows from
    /// the rates are the data path's.
    #[must_use]
    pub fn limits(&self) -> Limits {
        Limits {
            checks: self.checks,
            source_mask_v6: prefix_mask(self.source_prefix_v6),
            source: self.source,
            source_syn: self.syn,
            source_icmp: self.icmp,
            connections: self.connections,
            destination: self.destination,
            destination_syn: self.destination_syn,
            amplification: self.amplification,
            attacked_syn: self.attacked_syn(),
            ..Limits::default()
        }
    }
}

impl Ddos {
    /// An attack opens nothing that is closed otherwise.
    const fn attacked_syn(&self) -> Rate {
        let (usual, attacked) = (self.destination_syn, self.attacked_syn);
        let is_less = usual.per_second != 0 && usual.per_second < attacked.per_second;
        if is_less { usual } else { attacked }
    }
}

/// A burst of 0 would never let a packet through.
fn rate(uci: &mut Reader<'_>, rate: &'static str, burst: &'static str) -> Rate {
    let (per_second, written): (u32, u32) = (uci.get(rate), uci.get(burst));
    if per_second == 0 && written != 0 {
        uci.warn(uci.line_of(burst), burst, format!("is not used: {rate} is 0"));
    }
    Rate { per_second, burst: if written == 0 { per_second } else { written } }
}

impl Ddos {
    /// The defaults of the table for a class of routers.
    pub(super) fn of(ram: Ram) -> Self {
        let mut remarks = Remarks::new("".into());
        remarks.ram = ram;
        Self::read(Reader::new(&Section::empty(), SPEC.example, &SPEC, &mut remarks))
    }
}

impl Default for Ddos {
    /// The defaults of the table.
    fn default() -> Self {
        Self::of(Ram::default())
    }
}

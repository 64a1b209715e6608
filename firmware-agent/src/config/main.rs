//! Section `sluice`: what concerns the agent as a whole.

use std::path::PathBuf;

use log::LevelFilter;

use super::cost::Change;
use super::mark::MarkMask;
use super::net::Net;
use super::notify::{EventKind, Notify};
use super::ram::Ram;
use super::reader::{FromUci, Reader, words};
use super::remark::Remarks;
use super::schema::{Fallback, Kind, OptionSpec, SectionSpec};
use super::uci::Section;

/// What happens to packets that the agent cannot look at.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Policy {
    /// They are forwarded.
    #[default]
    Open,
    /// They are dropped.
    Closed,
}
words!(Policy, "open" => Self::Open, "closed" => Self::Closed);

/// What happens to a flow whose packets could not be understood.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum OnError {
    /// It is forwarded, undecided.
    #[default]
    Pass,
    /// It is forwarded, undecided, and logged.
    Alert,
    /// It is dropped.
    Drop,
}
words!(OnError, "pass" => Self::Pass, "alert" => Self::Alert, "drop" => Self::Drop);

/// Who writes the rules that feed the queue.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Backend {
    /// nftables, or iptables where nftables has no queue.
    #[default]
    Auto,
    /// nftables only.
    Nft,
    /// iptables only.
    Iptables,
}
words!(Backend, "auto" => Self::Auto, "nft" => Self::Nft, "iptables" => Self::Iptables);

/// When the time of day is believed.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Clock {
    /// Once it comes from a network or from a clock with a battery.
    #[default]
    Auto,
    /// Always.
    Trust,
}
words!(Clock, "auto" => Self::Auto, "trust" => Self::Trust);

/// What happens to connections that are older than the agent.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Established {
    /// They are inspected where they are.
    #[default]
    Inspect,
    /// They are trusted unseen.
    Trust,
}
words!(Established, "inspect" => Self::Inspect, "trust" => Self::Trust);

/// What a crash of the agent leaves behind.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum OnCrash {
    /// Programs and decisions stay.
    #[default]
    Keep,
    /// Programs are removed.
    Detach,
}
words!(OnCrash, "keep" => Self::Keep, "detach" => Self::Detach);

/// Offload where the firewall has none.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum OwnOffload {
    /// There is none.
    #[default]
    None,
    /// Trusted flows go through a flowtable of Sluice's own.
    Software,
}
words!(OwnOffload, "none" => Self::None, "software" => Self::Software);

/// What becomes of the firewall's rules that offload flows.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum ManageOffload {
    /// They concern trusted flows only, so that inspection sees the others.
    #[default]
    Guard,
    /// They are left alone.
    Off,
}
words!(ManageOffload, "guard" => Self::Guard, "off" => Self::Off);

/// Whether the shield hands packets to other processors.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum SpreadWish {
    /// They stay where they arrive.
    #[default]
    Off,
    /// Where nothing else does it, and it is known to do no harm.
    Auto,
    /// Wherever it can work.
    On,
}
words!(SpreadWish, "off" => Self::Off, "auto" => Self::Auto, "on" => Self::On);

/// Where ubus is.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub enum Ubus {
    /// Nowhere: the agent does without.
    Off,
    /// At one of the places where ubusd has its socket.
    #[default]
    On,
    /// At this socket.
    At(PathBuf),
}

impl FromUci for Ubus {
    fn from_uci(text: &str, kind: Kind) -> Result<Self, String> {
        match text {
            "off" => Ok(Self::Off),
            "on" => Ok(Self::On),
            path if path.starts_with('/') => PathBuf::from_uci(path, Kind::Path).map(Self::At),
            _ => Err(format!("is not one of {kind}")),
        }
    }
}

words!(LevelFilter,
    "error" => Self::Error, "warn" => Self::Warn, "info" => Self::Info, "debug" => Self::Debug,
    "trace" => Self::Trace,
);

/// What concerns the agent as a whole.
#[derive(Clone, Debug, PartialEq)]
pub struct Main {
    /// Whether programs and rules do anything.
    pub enabled: bool,
    /// What happens to packets that the agent cannot look at.
    pub policy: Policy,
    /// What happens to a flow whose packets could not be understood.
    pub on_error: OnError,
    /// The bits of the mark that belong to Sluice.
    pub mark_mask: MarkMask,
    /// First queue number.
    pub queue: u16,
    /// Number of queues; 0 follows [`workers`](Self::workers).
    pub queues: u16,
    /// Threads that read them; 0 is as many as processors.
    pub workers: u16,
    /// Packets a second that a device of the LAN may send to them; 0 is any number.
    pub queue_share: u32,
    /// Who writes the rules that feed the queue.
    pub netfilter: Backend,
    /// Packets of each direction that are inspected.
    pub window_packets: u16,
    /// Payload bytes of each direction that are inspected.
    pub window_bytes: u32,
    /// Flows under inspection at once.
    pub inspect_flows: u32,
    /// Memory for flows under inspection.
    pub inspect_memory_kib: u32,
    /// Decided flows; NAT gives each up to two keys.
    pub flows: u32,
    /// Blocked and limited flows beside those.
    pub held_flows: u32,
    /// Percent of trusted flows that are looked at again.
    pub reinspect_percent: u32,
    /// Seconds after which those are.
    pub reinspect_after_s: u32,
    /// MiB after which every flow is looked at again; 0 for never.
    pub reinspect_mib: u32,
    /// Seconds after which every flow is looked at again; 0 for never.
    pub reinspect_age_s: u32,
    /// MiB against the bulk of a flow after which it is looked at again; 0 for never.
    pub reinspect_turn_mib: u32,
    /// Whether later requests of plain HTTP are inspected.
    pub reinspect_requests: bool,
    /// Seconds without a packet after which a TCP flow is forgotten.
    pub idle_tcp_s: u32,
    /// Seconds without a packet after which a UDP flow is forgotten.
    pub idle_udp_s: u32,
    /// Seconds that a blocked flow stays blocked.
    pub block_s: u32,
    /// Seconds between two searches for idle flows.
    pub sweep_s: u32,
    /// What a crash of the agent leaves behind.
    pub on_crash: OnCrash,
    /// Directory of the pins, on bpffs.
    pub pin_dir: PathBuf,
    /// Directory of the control socket.
    pub run_dir: PathBuf,
    /// What is logged.
    pub log_level: LevelFilter,
    /// Memory for blocklists, while they are replaced too; 0 is an eighth of the
    /// machine's.
    pub list_memory_kib: u32,
    /// Addresses that no blocklist may cover.
    pub management: Vec<Net>,
    /// What becomes of the firewall's rules that offload flows.
    pub manage_offload: ManageOffload,
    /// Offload where the firewall has none.
    pub offload: OwnOffload,
    /// Memory for domain lists in the agent, while they are replaced too; 0 is an eighth of the
    /// machine's.
    pub domain_memory_kib: u32,
    /// Memory for rulesets in the agent; 0 is an eighth of the machine's.
    pub signature_memory_kib: u32,
    /// Whether the shield hands packets to other processors.
    pub spread: SpreadWish,
    /// When the time of day is believed.
    pub clock: Clock,
    /// What happens to connections that are older than the agent.
    pub established: Established,
    /// File of classes of applications.
    pub app_file: Option<PathBuf>,
    /// Directory of the networks of countries.
    pub country_dir: Option<PathBuf>,
    /// Pairs of a device and an address whose names from DNS are remembered.
    pub dns_names: u32,
    /// Whether devices have the names of their leases.
    pub device_names: bool,
    /// UCI file that says where leases are.
    pub dhcp_config: PathBuf,
    /// Where ubus is.
    pub ubus: Ubus,
    /// Who is told of events.
    pub notify: Notify,
    /// Memory for everything; 0 is three quarters of the machine's.
    pub memory_kib: u32,
}

const fn number(min: u32, max: u32) -> Kind {
    Kind::Number { min, max }
}

pub(super) const SPEC: SectionSpec = SectionSpec {
    kind: "sluice",
    example: "main",
    about: "The agent as a whole. There is one such section.",
    #[rustfmt::skip]
    options: &[
        OptionSpec::new("enabled", Kind::Flag, "1",
            "Whether programs and rules do anything.").costs(Change::Reload),
        OptionSpec::new("policy", Kind::Word(&["open", "closed"]), "open",
            "What happens to new flows while the agent cannot look at them: forwarded (open) or dropped (closed).").costs(Change::Reload),
        OptionSpec::new("on_error", Kind::Word(&["pass", "alert", "drop"]), "pass",
            "What happens to a flow whose packets cannot be understood."),
        OptionSpec::new("mark_mask", Kind::Mask, "0x07000000",
            "Bits of the packet mark and connection mark that belong to Sluice; mwan3 uses 0x3f00 and pbr 0xff0000 unless told otherwise.").costs(Change::Reload),
        OptionSpec::new("queue", number(0, 65_535), "200",
            "First queue number.").costs(Change::Reload),
        OptionSpec::new("queues", number(0, 16), "0",
            "Queues from that number on; 0 is one for each worker, or four where workers is 0.").costs(Change::Reload),
        OptionSpec::new("workers", number(0, 4), "1",
            "Threads that read the queues, no more than there are queues; 0 is as many as processors. More than one pays where one is too slow for what has to be looked at.").costs(Change::Reload),
        OptionSpec::new("queue_share", number(0, 1_000_000), "4000",
            "Packets a second that one device of the LAN may send to the queues, 512 at once; with more its connections pass uninspected, or are dropped where policy is closed, and other devices keep their room. 0 is no limit. Only with nft, and for devices on Ethernet."),
        OptionSpec::new("netfilter", Kind::Word(&["auto", "nft", "iptables"]), "auto",
            "Who writes the rules that feed the queue; auto takes nft and falls back to iptables.").costs(Change::Reload),
        OptionSpec::new("window_packets", number(1, 1000), "10",
            "Packets of each direction of a flow that are inspected.").costs(Change::Reload),
        OptionSpec::new("window_bytes", number(4096, 65_536), "32768",
            "Payload bytes of each direction of a flow that are inspected.").costs(Change::Reload),
        OptionSpec::by_ram("inspect_flows", number(64, 65_536), ["1024", "2048", "4096", "8192"],
            "Flows under inspection at once; beyond it the oldest is given up undecided.").costs(Change::Reload),
        OptionSpec::by_ram("inspect_memory_kib", number(256, 65_536), ["1024", "2048", "4096", "8192"],
            "Memory for packets of flows under inspection, in KiB.").costs(Change::Reload),
        OptionSpec::by_ram("flows", number(256, 262_144), ["4096", "8192", "16384", "32768"],
            "Decided flows that are remembered; beyond it the least used is forgotten and inspected again.").costs(Change::Reload),
        OptionSpec::by_ram("held_flows", number(64, 65_536), ["1024", "2048", "4096", "8192"],
            "Blocked and limited flows that are remembered beside those; beyond it a new one is blocked by the mark of its connection alone, or not limited.").costs(Change::Reload),
        OptionSpec::new("reinspect_percent", number(0, 100), "1",
            "Percent of trusted flows, chosen by lot, that are inspected once more later."),
        OptionSpec::new("reinspect_after_s", number(11, 86_400), "120",
            "Seconds after which those are inspected once more."),
        OptionSpec::new("reinspect_mib", number(0, 1_048_576), "1024",
            "MiB after which any trusted flow is inspected once more; 0 is never."),
        OptionSpec::new("reinspect_age_s", number(0, 432_000), "3600",
            "Seconds after which any trusted flow is inspected once more; 0 is never."),
        OptionSpec::new("reinspect_turn_mib", number(0, 1_048_576), "4",
            "MiB that a trusted flow sends against the way of its bulk, as when a download becomes an upload, after which it is inspected once more; 0 is never."),
        OptionSpec::new("reinspect_requests", Kind::Flag, "1",
            "Whether later requests on a trusted connection of plain HTTP are inspected like the first; such a connection is offloaded only for the rest of a large transfer."),
        OptionSpec::new("idle_tcp_s", number(1, 432_000), "7440",
            "Seconds without a packet after which a TCP flow is forgotten."),
        OptionSpec::new("idle_udp_s", number(1, 86_400), "180",
            "Seconds without a packet after which a UDP flow is forgotten."),
        OptionSpec::new("block_s", number(1, 86_400), "3600",
            "Seconds that a blocked flow stays blocked, also after a restart of the agent."),
        OptionSpec::new("sweep_s", number(1, 3600), "10",
            "Seconds between two searches for idle flows."),
        OptionSpec::new("on_crash", Kind::Word(&["keep", "detach"]), "keep",
            "What a crash of the agent leaves behind: programs with their decisions, or nothing."),
        OptionSpec::new("pin_dir", Kind::Path, "/sys/fs/bpf/sluice",
            "Directory of programs and maps that outlive the agent, on a BPF file system.").costs(Change::Reload),
        OptionSpec::new("run_dir", Kind::Path, "/var/run/sluice",
            "Directory of the control socket.").costs(Change::Reload),
        OptionSpec::new("log_level", Kind::Word(&["error", "warn", "info", "debug", "trace"]), "info",
            "What is logged.").costs(Change::None),
        OptionSpec::new("list_memory_kib", number(0, 1 << 20), "0",
            "Memory for blocklists in the kernel, and in the agent for those that observe, in KiB, old and new ones together while they are replaced; 0 is an eighth of the machine's, from 2 to 64 MiB."),
        OptionSpec::list("management", Kind::Net, Fallback::Empty,
            "Addresses and prefixes from which the router is managed: an entry that overlaps one is left out of every blocklist."),
        OptionSpec::new("manage_offload", Kind::Word(&["guard", "off"]), "guard",
            "With flow offload in the firewall: hold it back until a flow is trusted, or leave it alone, which blinds inspection."),
        OptionSpec::new("offload", Kind::Word(&["none", "software"]), "none",
            "Offload of trusted flows where the firewall has none of its own: none, or a flowtable of Sluice's."),
        OptionSpec::new("domain_memory_kib", number(0, 1 << 20), "0",
            "Memory for domain lists in the agent, in KiB, old and new ones together while they are replaced, and what sorting takes; 0 is an eighth of the machine's, from 2 to 64 MiB."),
        OptionSpec::new("signature_memory_kib", number(0, 1 << 20), "0",
            "Memory for the rulesets in force in the agent, in KiB; while they are replaced, old and new ones are there, so twice as much. 0 is an eighth of the machine's, from 2 to 64 MiB. Rulesets that need more are refused, and those before stay."),
        OptionSpec::new("spread", Kind::Word(&["off", "auto", "on"]), "off",
            "Whether the shield shares packets out to all processors, by flow: nowhere (off), behind devices with one receive queue and no packet steering (auto), or wherever it can work (on); status says where it does not and why."),
        OptionSpec::new("clock", Kind::Word(&["auto", "trust"]), "auto",
            "When schedules believe the time of day: once it comes from the network or from a clock with a battery (auto), or always (trust)."),
        OptionSpec::new("established", Kind::Word(&["inspect", "trust"]), "inspect",
            "What happens to connections that are there when the agent starts: their next packets are inspected (inspect), or they are trusted unseen (trust), but for those that an earlier agent blocked or could not decide, or that passed while it was away. Counts at a start only.").costs(Change::None),
        OptionSpec::optional("app_file", Kind::Path,
            "File of classes of applications that rules can name, each line a class, a colon and domains, comments behind #; a domain covers what is below it, and the longest counts."),
        OptionSpec::optional("country_dir", Kind::Path,
            "Directory of the networks of countries that rules can name, for each a file such as de.zone or de.txt with a prefix on each line, comments behind #; of prefixes that cover an address the longest counts. At most 262144 for all countries that rules name."),
        OptionSpec::new("dns_names", number(0, 65_536), "2048",
            "Pairs of a device and an address whose names from DNS are remembered for ten minutes, to show flows that name no server, a quarter of them for one device at most; 0 is off.").up_to(Change::Reload),
        OptionSpec::new("device_names", Kind::Flag, "1",
            "Whether devices have the names that they gave to dnsmasq or odhcpd on this router, from files of leases and from what is told on ubus."),
        OptionSpec::new("dhcp_config", Kind::Path, "/etc/config/dhcp",
            "UCI file that says where dnsmasq and odhcpd keep their leases, in which the names of devices are; without such a file dnsmasq's are looked for in /tmp/dhcp.leases."),
        OptionSpec::new("ubus", Kind::Bus, "on",
            "Whether the agent offers object sluice on ubus, at the socket that ubusd has unless another path is given. Without ubus the control socket answers all the same."),
        OptionSpec::optional("notify_script", Kind::Path,
            "Program that is started for each event worth it, with what happened in its environment (SLUICE_KIND, SLUICE_WHAT and more, see events.md), one at a time, for ten seconds at most and without capabilities."),
        OptionSpec::list("mute", Kind::Word(&EventKind::NAMES), Fallback::Empty,
            "Kinds of events that nobody is told of, neither log nor ubus nor notify_script; sluice events has them."),
        OptionSpec::optional("metrics_listen", Kind::Loopback,
            "Loopback address and port at which Prometheus finds /metrics; without it the agent listens nowhere."),
        OptionSpec::new("memory_kib", number(0, 1 << 22), "0",
            "Memory that kernel and agent may take together at most, in KiB, summed up from what the other options allow before any of it is taken; a configuration that could need more is refused with the sum. 0 is three quarters of the machine's."),
    ],
};

impl Main {
    pub(super) fn read(mut uci: Reader<'_>) -> Self {
        let main = Self {
            enabled: uci.get("enabled"),
            policy: uci.get("policy"),
            on_error: uci.get("on_error"),
            mark_mask: uci.get("mark_mask"),
            queue: uci.get("queue"),
            queues: uci.get("queues"),
            workers: uci.get("workers"),
            queue_share: uci.get("queue_share"),
            netfilter: uci.get("netfilter"),
            window_packets: uci.get("window_packets"),
            window_bytes: uci.get("window_bytes"),
            inspect_flows: uci.get("inspect_flows"),
            inspect_memory_kib: uci.get("inspect_memory_kib"),
            flows: uci.get("flows"),
            held_flows: uci.get("held_flows"),
            reinspect_percent: uci.get("reinspect_percent"),
            reinspect_after_s: uci.get("reinspect_after_s"),
            reinspect_mib: uci.get("reinspect_mib"),
            reinspect_age_s: uci.get("reinspect_age_s"),
            reinspect_turn_mib: uci.get("reinspect_turn_mib"),
            reinspect_requests: uci.get("reinspect_requests"),
            idle_tcp_s: uci.get("idle_tcp_s"),
            idle_udp_s: uci.get("idle_udp_s"),
            block_s: uci.get("block_s"),
            sweep_s: uci.get("sweep_s"),
            on_crash: uci.get("on_crash"),
            pin_dir: uci.get("pin_dir"),
            run_dir: uci.get("run_dir"),
            log_level: uci.find("log_level").unwrap_or(LevelFilter::Info),
            list_memory_kib: uci.get("list_memory_kib"),
            management: uci.values("management"),
            manage_offload: uci.get("manage_offload"),
            offload: uci.get("offload"),
            domain_memory_kib: uci.get("domain_memory_kib"),
            signature_memory_kib: uci.get("signature_memory_kib"),
            spread: uci.get("spread"),
            clock: uci.get("clock"),
            established: uci.get("established"),
            app_file: uci.find("app_file"),
            country_dir: uci.find("country_dir"),
            dns_names: uci.get("dns_names"),
            device_names: uci.get("device_names"),
            dhcp_config: uci.get("dhcp_config"),
            ubus: uci.get("ubus"),
            notify: Notify::read(&mut uci),
            memory_kib: uci.get("memory_kib"),
        };
        let last = u32::from(main.queue) + u32::from(main.queues()) - 1;
        if last > u32::from(u16::MAX) {
            let reason = format!("{} queues from {} on end above 65535", main.queues(), main.queue);
            uci.reject_value("queues", reason);
        }
        for (other, bits) in [("mwan3", 0x3f00), ("pbr", 0x00ff_0000), ("zapret", 0x4000_0000)] {
            if main.mark_mask.bits() & bits != 0 {
                let reason = format!("shares bits with 0x{bits:x}, which {other} uses by default");
                uci.warn(uci.line_of("mark_mask"), "mark_mask", reason);
            }
        }
        main
    }

    /// How many queues there are.
    #[must_use]
    pub const fn queues(&self) -> u16 {
        /// Workers are never more.
        const MOST: u16 = 4;
        match (self.queues, self.workers) {
            (0, 0) => MOST,
            (0, workers) => workers,
            (queues, _) => queues,
        }
    }
}

impl Main {
    /// The defaults of the table for a class of routers.
    pub(super) fn of(ram: Ram) -> Self {
        let mut remarks = Remarks::new("".into());
        remarks.ram = ram;
        Self::read(Reader::new(&Section::empty(), SPEC.example, &SPEC, &mut remarks))
    }
}

impl Default for Main {
    /// The defaults of the table.
    fn default() -> Self {
        Self::of(Ram::default())
    }
}

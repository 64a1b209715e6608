//! What the agent tells about itself. Field names are an interface: `--json` prints them.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// How far a feature got.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Not wanted.
    #[default]
    Off,
    /// Being set up.
    Starting,
    /// Works as well as it can.
    Active,
    /// Works on a lower rung; the reasons say why.
    Degraded,
    /// Wanted and not there; the reasons say why.
    Failed,
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Off => "off",
            Self::Starting => "starting",
            Self::Active => "active",
            Self::Degraded => "degraded",
            Self::Failed => "failed",
        })
    }
}

/// One ladder.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Feature {
    /// What it is for, e.g. `shield wan`.
    pub name: String,
    /// How far it got.
    pub state: State,
    /// The rung in use, e.g. `native XDP`.
    pub rung: String,
    /// Why no better rung is in use, best rung first.
    pub reasons: Vec<String>,
}

/// An interface and what its programs saw.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Interface {
    /// Name of the section.
    pub name: String,
    /// Network device.
    pub device: String,
    /// `lan` or `wan`.
    pub role: String,
    /// Packets by outcome.
    pub counters: BTreeMap<String, u64>,
    /// Bytes that the device received since it is there, as the kernel counts them, whatever the programs
    /// saw; absent without a device.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub rx_bytes: Option<u64>,
    /// Bytes that it sent.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub tx_bytes: Option<u64>,
}

/// The rules.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Netfilter {
    /// `nft` or `iptables-nft`.
    pub backend: String,
    /// Whether the kernel has them now.
    pub applied: bool,
    /// How often somebody removed them and they were put back.
    pub reapplied: u64,
    /// Packets by named counter of the rules.
    pub counters: BTreeMap<String, u64>,
}

/// The queue and the engine behind it.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Queue {
    /// First queue number.
    pub first: u16,
    /// Number of queues.
    pub count: u16,
    /// Threads that read them.
    #[serde(default)]
    pub workers: u64,
    /// Counters of the engine by name: packets, hellos, decided and undecided by cause.
    pub engine: BTreeMap<String, u64>,
    /// What the kernel lost or dropped, by name.
    pub kernel: BTreeMap<String, u64>,
    /// Flows under inspection.
    pub inspecting: u64,
    /// Times when nobody inspected.
    #[serde(default)]
    pub unattended: Unattended,
    /// How long packets waited for their verdict, in buckets that grow by two.
    #[serde(default)]
    pub latency: Vec<Waited>,
    /// Microseconds that they waited together.
    #[serde(default)]
    pub latency_sum_us: u64,
}

/// Packets that waited about as long for their verdict.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Waited {
    /// Less than this many microseconds, and not less than half of it; absent in the last, which has
    /// no end.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub below_us: Option<u64>,
    /// Packets.
    pub packets: u64,
}

/// Times when the agent did not inspect and policy let packets pass.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Unattended {
    /// How often.
    pub times: u64,
    /// How long together.
    pub seconds: u64,
    /// Packets that passed uninspected, as far as the rules counted them.
    pub packets: u64,
    /// Flows that nothing objected to later and that are not trusted, because part of them had passed.
    pub flows: u64,
    /// Seconds since the last time ended.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub last_s_ago: Option<u64>,
}

/// The flow map.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct FlowMap {
    /// Decided flows.
    pub entries: u64,
    /// How many fit.
    pub capacity: u64,
    /// Removed because they were idle or their deadline passed.
    pub expired: u64,
    /// Forgotten by the kernel or replaced because the map was full.
    pub evicted: u64,
    /// Decisions that the kernel refused to store.
    pub write_errors: u64,
    /// Blocked and limited flows, which nothing displaces.
    pub held: u64,
    /// How many of those fit.
    pub held_capacity: u64,
    /// Blocked and limited flows that found no room: blocked ones are dropped by the mark of their
    /// connection, others are not limited.
    pub held_refused: u64,
    /// Trusted flows that were looked at once more.
    pub reinspected: u64,
}

/// A blocklist.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct List {
    /// Name of the section.
    pub name: String,
    /// Entries in force.
    pub entries: u64,
    /// Packets it dropped.
    pub packets: u64,
    /// Bytes of those packets.
    pub bytes: u64,
    /// Seconds since the last one; of a list that observes, since the last flow that it would have
    /// blocked.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub last_s_ago: Option<u64>,
    /// Whether it only observes.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub observes: bool,
    /// Flows that it would have blocked while it observed.
    #[serde(default)]
    pub flows: u64,
    /// Devices of those flows, those with the most first.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub devices: Vec<RuleDevice>,
}

/// The image of the blocklists in the kernel.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct ListImage {
    /// Memory that it takes.
    pub kib: u64,
    /// Memory that old and new one may take while lists are replaced, with live entries.
    pub cap_kib: u64,
    /// Milliseconds that the last change of the lists took, reading of files included.
    pub load_ms: u64,
    /// Memory in the agent that lists take which observe.
    #[serde(default)]
    pub observing_kib: u64,
}

/// Memory that kernel and agent may take together at most.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Budget {
    /// What the configuration can need.
    pub kib: u64,
    /// What it may.
    pub cap_kib: u64,
    /// The class of the machine, which some defaults go by.
    #[serde(default)]
    pub class: String,
    /// What it is made of.
    pub parts: Vec<BudgetPart>,
}

/// A configuration without mistakes.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Checked {
    /// What is odd.
    pub warnings: Vec<String>,
    /// Memory that kernel and agent may take with it.
    pub budget: Budget,
}

/// A part of the memory that may be taken.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct BudgetPart {
    /// What takes it.
    pub what: String,
    /// The options that say how much.
    #[serde(default)]
    pub options: String,
    /// At most.
    pub kib: u64,
}

/// Packets dropped for one reason in one place.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Drops {
    /// Where: `xdp`, `tc`, `netfilter`, `engine`.
    pub place: String,
    /// Why; the words are those of `sluice_abi::reason::DropReason`.
    pub reason: String,
    /// Name of the interface section; absent where no interface is told apart.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub interface: Option<String>,
    /// Packets since the counters exist: those of programs outlive the agent.
    pub packets: u64,
    /// The same by CPU; empty where CPUs are not told apart.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub cpus: Vec<u64>,
}

/// Everything `status` shows.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Status {
    /// Version of the agent.
    pub version: String,
    /// Version of the layouts shared with the programs.
    pub abi: u32,
    /// Process.
    pub pid: u32,
    /// Seconds since the start.
    pub uptime_s: u64,
    /// Milliseconds from the start of the process to protection in force.
    pub ready_ms: u64,
    /// `active` when everything wanted works, else the worst state of a feature.
    pub state: State,
    /// Counts configurations.
    pub generation: u32,
    /// Configuration file.
    pub config_file: String,
    /// Mistakes of a configuration that was refused while running; empty when the file is in force.
    pub config_errors: Vec<String>,
    /// Warnings of the configuration in force.
    pub config_warnings: Vec<String>,
    /// Ladders.
    pub features: Vec<Feature>,
    /// Interfaces.
    pub interfaces: Vec<Interface>,
    /// What was dropped, and why; only reasons that occurred.
    pub drops: Vec<Drops>,
    /// Rules.
    pub netfilter: Netfilter,
    /// Queue.
    pub queue: Queue,
    /// Flow map.
    pub flows: FlowMap,
    /// Blocklists.
    pub lists: Vec<List>,
    /// Strangers.
    #[serde(default)]
    pub ddos: super::ddos::Ddos,
    /// Their image.
    #[serde(default)]
    pub list_image: ListImage,
    /// Memory that kernel and agent may take.
    #[serde(default)]
    pub budget: Budget,
    /// The firewall's flow offload.
    #[serde(default)]
    pub offload: Offload,
    /// Domain lists.
    #[serde(default)]
    pub domain_lists: Vec<DomainList>,
    /// The set that they make.
    #[serde(default)]
    pub domain_set: DomainSet,
    /// Rules that did something, that observe, or whose time comes and goes.
    #[serde(default)]
    pub rules: Vec<RuleReport>,
    /// Names from DNS.
    #[serde(default)]
    pub names: super::names::Report,
    /// Rulesets.
    #[serde(default)]
    pub signatures: super::signatures::Signatures,
    /// Events.
    #[serde(default)]
    pub events: super::events::Totals,
}

/// What a rule did.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct RuleReport {
    /// Name of the section.
    pub name: String,
    /// The rule as text.
    pub text: String,
    /// Whether it holds at this time.
    pub in_force: bool,
    /// Flows that it decided; of a rule that observes, flows that it would have blocked.
    pub flows: u64,
    /// Seconds since the last one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub last_s_ago: Option<u64>,
    /// Devices whose flows a rule that observes would have blocked, those with the most first.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub devices: Vec<RuleDevice>,
}

/// What a rule would have done to a device.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct RuleDevice {
    /// Its address.
    pub address: IpAddr,
    /// What it calls itself, as the server of its lease knows.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub device_name: Option<String>,
    /// Flows.
    pub flows: u64,
}

/// A domain list.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct DomainList {
    /// Name of the section.
    pub name: String,
    /// Names in force, counted as written.
    pub names: u64,
    /// Whether it only observes.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub observes: bool,
    /// Flows it blocked, or would have blocked if it did more than observe.
    pub flows: u64,
    /// Devices whose flows it would have blocked, those with the most first.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub devices: Vec<RuleDevice>,
    /// Seconds since the last one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub last_s_ago: Option<u64>,
}

/// The set of the domains of all lists in the agent.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct DomainSet {
    /// Domains, each once.
    pub names: u64,
    /// Memory that it takes.
    pub kib: u64,
    /// Memory that old and new one may take while lists are replaced, and sorting.
    pub cap_kib: u64,
    /// Milliseconds that the last change of the lists took, reading of files included.
    pub load_ms: u64,
}

/// The firewall's flow offload: packets that take a short way past the forward chain.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Offload {
    /// `none`, `software` or `hardware`.
    pub mode: String,
    /// Whether only trusted flows are offloaded.
    pub guarded: bool,
    /// How often rules were put under guard since the start.
    pub guards: u64,
    /// Devices whose packets may take the short way.
    pub devices: Vec<String>,
    /// Thousandths of the bytes that the programs marked as trusted since the rules were last applied,
    /// which took the short way; nothing where no program has marked any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub permille: Option<u32>,
    /// What does not see offloaded packets.
    pub blind: Vec<String>,
}

/// One end of a connection.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Tuple {
    /// Source address.
    pub src: IpAddr,
    /// Source port.
    pub sport: u16,
    /// Destination address.
    pub dst: IpAddr,
    /// Destination port.
    pub dport: u16,
}

/// A decided flow. Sides: `original` is the way of the connection's first packet.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Flow {
    /// The original direction, before NAT.
    #[serde(flatten)]
    pub tuple: Tuple,
    /// `tcp` or `udp`.
    pub transport: String,
    /// The reply direction as the WAN sees it, when NAT changed it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub nat_reply: Option<Tuple>,
    /// What the device of the household at one of its ends calls itself, as the server of its lease
    /// knows.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub device_name: Option<String>,
    /// `trusted`, `blocked`, …
    pub verdict: String,
    /// Why.
    pub reason: String,
    /// The rule that decided, by name.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub rule: Option<String>,
    /// The domain list that decided, by name.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub list: Option<String>,
    /// The entry of that rule that fits.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub entry: Option<String>,
    /// The rule that would have blocked it if it did more than observe, or the list: `domainlist ads`,
    /// `blocklist bad: 192.0.2.0/24`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub observed: Option<String>,
    /// The name of its server that counts most.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub name: Option<String>,
    /// What said that name: `tls`, `quic`, `http`, and where the flow itself says none, `dns` or `ptr`:
    /// an answer that its device got lately.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub name_source: Option<String>,
    /// Server name of the ClientHello.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub sni: Option<String>,
    /// Whether that may be an outer name: another ClientHello is hidden behind it, or seems to be.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub ech: bool,
    /// Host of the request, when it is plain HTTP.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub host: Option<String>,
    /// Class of applications that its name belongs to.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub app: Option<String>,
    /// What the flow speaks, such as `tls`, `ssh`, `stun`; absent when nothing is known.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub protocol: Option<String>,
    /// How sure that is: `certain`, `likely`, `guess`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub confidence: Option<String>,
    /// Application protocols that the client offered.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub alpn: Vec<String>,
    /// JA4 of the ClientHello.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub ja4: Option<String>,
    /// JA3 of the ClientHello.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub ja3: Option<String>,
    /// JA3S of the ServerHello, where a rule waited for it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub ja3s: Option<String>,
    /// SHA-1 of the server's certificate, where a rule waited for it and it came in the clear.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub certificate: Option<String>,
    /// Packets that went through the queue before the decision.
    pub inspected_packets: u32,
    /// Packets counted on the fast path.
    pub original_packets: u64,
    /// Bytes of those packets.
    pub original_bytes: u64,
    /// Packets of the other direction.
    pub reply_packets: u64,
    /// Bytes of those packets.
    pub reply_bytes: u64,
    /// Seconds since the decision.
    pub age_s: u64,
    /// Seconds since the last packet on the fast path.
    pub idle_s: u64,
}

impl Flow {
    /// The name of its server, whatever said it.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }
}

/// One thing that applies to the subject of a question.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Cause {
    /// Where: `xdp`, `tc`, `inspect`.
    pub hook: String,
    /// What happens: `drop`, `block`, `allow`, `trust`, `observe`.
    pub action: String,
    /// The list or rule, by name.
    pub by: String,
    /// The entry of it that matches.
    pub entry: String,
    /// Packets it hit.
    pub packets: u64,
    /// Flows that it decided; 0 where packets are dropped one by one.
    #[serde(default)]
    pub flows: u64,
    /// Seconds since the first one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub first_s_ago: Option<u64>,
    /// Seconds since the last one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub last_s_ago: Option<u64>,
    /// The device of the LAN that the last one was of; absent when it came from outside.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub device: Option<IpAddr>,
    /// The other end of the last one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub peer: Option<IpAddr>,
}

/// The answer to `why`.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Why {
    /// What was asked about.
    pub subject: String,
    /// What the device of the household with this address calls itself, as the server of its lease
    /// knows.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub device_name: Option<String>,
    /// What applies to it; empty when nothing does.
    pub causes: Vec<Cause>,
    /// Flows that it takes part in.
    pub flows: Vec<Flow>,
}

//! The agent's reports, read by the names that `--json` prints: these names are an interface, so
//! they are written down here once more and not taken from the agent's code.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use serde::Deserialize;

/// What `sluice status` says, as far as tests ask.
#[derive(Clone, Debug, Deserialize)]
pub struct Status {
    /// `active`, or the worst state of a feature.
    pub state: String,
    /// Process of the agent.
    pub pid: u32,
    /// Milliseconds from the start of the process to protection in force.
    pub ready_ms: u64,
    /// Counts configurations.
    pub generation: u32,
    /// Mistakes of a configuration that was refused.
    pub config_errors: Vec<String>,
    /// Ladders.
    pub features: Vec<Feature>,
    /// Interfaces.
    pub interfaces: Vec<Interface>,
    /// What was dropped and why.
    pub drops: Vec<Drops>,
    /// Rules.
    pub netfilter: Netfilter,
    /// Queue and engine.
    pub queue: Queue,
    /// Flow map.
    pub flows: FlowMap,
    /// Blocklists.
    pub lists: Vec<List>,
    /// Their image.
    #[serde(default)]
    pub list_image: ListImage,
    /// Strangers.
    pub ddos: Ddos,
    /// The firewall's flow offload.
    pub offload: Offload,
    /// Warnings of the configuration in force, and what the agent cannot do of it.
    pub config_warnings: Vec<String>,
    /// Domain lists.
    pub domain_lists: Vec<DomainList>,
    /// The set that they make.
    pub domain_set: DomainSet,
    /// What rules did.
    pub rules: Vec<RuleReport>,
    /// Names from DNS.
    #[serde(default)]
    pub names: Names,
    /// Rulesets.
    pub signatures: Signatures,
}

/// What was seen of DNS.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
pub struct Names {
    /// Pairs of a device and an address that have a name.
    pub entries: u64,
    /// How many fit.
    pub capacity: u64,
    /// Questions.
    pub questions: u64,
    /// Answers to those.
    pub answers: u64,
    /// Others.
    pub unasked: u64,
    /// What could not be read.
    pub malformed: u64,
    /// Packets that found no room.
    pub lost: u64,
    /// Leases of devices.
    #[serde(default)]
    pub leases: u64,
}

/// The rulesets together.
#[derive(Clone, Debug, Deserialize)]
pub struct Signatures {
    /// Each.
    pub rulesets: Vec<Ruleset>,
    /// Memory that they take.
    pub kib: u64,
    /// Time of the load at the start.
    pub load_ms: u64,
    /// Alerts that were not logged.
    pub unlogged: u64,
}

/// A ruleset in force.
#[derive(Clone, Debug, Deserialize)]
pub struct Ruleset {
    /// Section.
    pub name: String,
    /// Whether rules that drop block.
    pub enforce: bool,
    /// Rules in force.
    pub rules: u32,
    /// Rules outside the subset.
    pub unsupported: u32,
    /// Wrong rules.
    pub wrong: u32,
    /// How many rules each keyword kept out.
    pub keywords: BTreeMap<String, u32>,
    /// The first that were left out.
    pub left_out: Vec<String>,
    /// Packets that were compared.
    pub packets: u32,
    /// Alerts told.
    pub alerts: u64,
    /// Flows that it blocked.
    pub blocked: u64,
}

/// A rule that matched.
#[derive(Clone, Debug, Deserialize)]
pub struct Alert {
    /// Section.
    pub ruleset: String,
    /// The rule's number.
    pub sid: u32,
    /// What it asks for.
    pub action: String,
    /// Whether its flow was blocked.
    pub blocked: bool,
    /// What it is about.
    pub msg: String,
    /// Source port of the packet.
    pub sport: u16,
    /// Its destination port.
    pub dport: u16,
}

/// What a rule did.
#[derive(Clone, Debug, Deserialize)]
pub struct RuleReport {
    /// Section.
    pub name: String,
    /// The rule as text.
    pub text: String,
    /// Whether it holds now.
    pub in_force: bool,
    /// Flows.
    pub flows: u64,
    /// Devices whose flows it would have blocked.
    #[serde(default)]
    pub devices: Vec<RuleDevice>,
}

/// What a rule would have done to a device.
#[derive(Clone, Debug, Deserialize)]
pub struct RuleDevice {
    /// Its address.
    pub address: IpAddr,
    /// Flows.
    pub flows: u64,
}

/// A domain list.
#[derive(Clone, Debug, Deserialize)]
pub struct DomainList {
    /// Section.
    pub name: String,
    /// Names, counted as written.
    pub names: u64,
    /// Flows it blocked.
    pub flows: u64,
    /// Devices whose flows it would have blocked.
    #[serde(default)]
    pub devices: Vec<RuleDevice>,
}

/// The set of the domains of all lists.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct DomainSet {
    /// Domains, each once.
    pub names: u64,
    /// Memory that it takes.
    pub kib: u64,
    /// Memory that it may take.
    pub cap_kib: u64,
    /// Time of the last change.
    pub load_ms: u64,
}

/// The image of the blocklists.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
pub struct ListImage {
    /// Memory that it takes.
    pub kib: u64,
    /// Memory that it may take.
    pub cap_kib: u64,
    /// Time of the last change.
    pub load_ms: u64,
    /// Memory of lists that observe.
    pub observing_kib: u64,
}

/// The firewall's flow offload.
#[derive(Clone, Debug, Deserialize)]
pub struct Offload {
    /// `none`, `software` or `hardware`.
    pub mode: String,
    /// Only trusted flows are offloaded.
    pub guarded: bool,
    /// How often rules were put under guard.
    pub guards: u64,
    /// Thousandths of the trusted bytes that took the short way.
    #[serde(default)]
    pub permille: Option<u32>,
    /// What does not see offloaded packets.
    pub blind: Vec<String>,
}

/// Strangers.
#[derive(Clone, Debug, Deserialize)]
pub struct Ddos {
    /// Destinations that get too much.
    pub victims: Vec<Offender>,
    /// Sources that send too much.
    pub offenders: Vec<Offender>,
    /// Blocked for a time.
    pub blocked: Vec<Blocked>,
    /// Sources that try ports.
    pub scanners: Vec<Scanner>,
    /// Ends that completed a handshake.
    pub known: u64,
    /// Destinations under attack by SYN packets.
    pub attacked: Vec<Attacked>,
}

/// A destination under attack by SYN packets.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
pub struct Attacked {
    /// The destination.
    pub address: IpAddr,
    /// Ports that are answered with cookies.
    pub cookie_ports: Vec<u16>,
    /// Handshakes that wait.
    pub half_open: u32,
    /// SYN packets of strangers.
    pub syns: u64,
    /// Since when.
    pub since_s_ago: u64,
}

/// An address over a rate.
#[derive(Clone, Debug, Deserialize)]
pub struct Offender {
    /// Source or destination.
    pub address: IpAddr,
    /// Which rate.
    pub reason: String,
    /// Packets dropped.
    pub packets: u64,
}

/// A source that is blocked for a time.
#[derive(Clone, Debug, Deserialize)]
pub struct Blocked {
    /// Address or prefix.
    pub entry: String,
    /// The rate that it was over.
    pub reason: String,
    /// Seconds that are left.
    pub left_s: u64,
}

/// A source that tries ports.
#[derive(Clone, Debug, Deserialize)]
pub struct Scanner {
    /// The source.
    pub address: IpAddr,
    /// Ports that it tried.
    pub ports: Vec<u16>,
    /// Notices about it.
    pub notices: u32,
}

/// A ladder.
#[derive(Clone, Debug, Deserialize)]
pub struct Feature {
    /// What it is for.
    pub name: String,
    /// How far it got.
    pub state: String,
    /// The rung in use.
    pub rung: String,
    /// Why no better one.
    pub reasons: Vec<String>,
}

/// Packets dropped for one reason in one place.
#[derive(Clone, Debug, Deserialize)]
pub struct Drops {
    /// `xdp`, `tc`, `netfilter`, `engine`, `nft`.
    pub place: String,
    /// Why.
    pub reason: String,
    /// Section of the interface.
    pub interface: Option<String>,
    /// Packets.
    pub packets: u64,
    /// The same by CPU.
    #[serde(default)]
    pub cpus: Vec<u64>,
}

/// An interface.
#[derive(Clone, Debug, Deserialize)]
pub struct Interface {
    /// Section.
    pub name: String,
    /// Device.
    pub device: String,
    /// Packets by outcome.
    pub counters: BTreeMap<String, u64>,
    /// Bytes that the device received.
    pub rx_bytes: Option<u64>,
    /// Bytes that it sent.
    pub tx_bytes: Option<u64>,
}

/// Rules.
#[derive(Clone, Debug, Deserialize)]
pub struct Netfilter {
    /// `nft` or `iptables-nft`.
    pub backend: String,
    /// Whether the kernel has them.
    pub applied: bool,
    /// How often they were put back.
    pub reapplied: u64,
    /// Packets by name.
    pub counters: BTreeMap<String, u64>,
}

/// Queue and engine.
#[derive(Clone, Debug, Deserialize)]
pub struct Queue {
    /// First number.
    pub first: u16,
    /// How many.
    pub count: u16,
    /// Threads that read them.
    pub workers: u64,
    /// Counters by name.
    pub engine: BTreeMap<String, u64>,
    /// What the kernel lost, cut or merged, by name.
    pub kernel: BTreeMap<String, u64>,
    /// Flows under inspection.
    pub inspecting: u64,
    /// Times when nobody inspected.
    pub unattended: Unattended,
    /// How long packets waited for their verdict.
    pub latency: Vec<Waited>,
}

/// Packets that waited about as long.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct Waited {
    /// Less than this many microseconds.
    pub below_us: Option<u64>,
    /// Packets.
    pub packets: u64,
}

/// Times when nobody inspected.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct Unattended {
    /// How often.
    pub times: u64,
    /// How long together.
    pub seconds: u64,
    /// Packets that passed.
    pub packets: u64,
    /// Flows that were not trusted for that.
    pub flows: u64,
}

/// Flow map.
#[derive(Clone, Debug, Deserialize)]
pub struct FlowMap {
    /// Decided flows.
    pub entries: u64,
    /// Removed as idle or past their deadline.
    pub expired: u64,
    /// Blocked and limited flows.
    pub held: u64,
    /// Those that found no room.
    pub held_refused: u64,
    /// Trusted flows that were looked at once more.
    pub reinspected: u64,
}

/// A blocklist.
#[derive(Clone, Debug, Deserialize)]
pub struct List {
    /// Section.
    pub name: String,
    /// Entries in force.
    pub entries: u64,
    /// Packets it dropped.
    pub packets: u64,
    /// Whether it only observes.
    #[serde(default)]
    pub observes: bool,
    /// Flows it would have blocked.
    pub flows: u64,
    /// Devices of those flows.
    #[serde(default)]
    pub devices: Vec<RuleDevice>,
}

/// A decided flow.
#[derive(Clone, Debug, Deserialize)]
pub struct Flow {
    /// Source of the original direction.
    pub src: IpAddr,
    /// Source port.
    pub sport: u16,
    /// Destination of the original direction.
    pub dst: IpAddr,
    /// Destination port.
    pub dport: u16,
    /// `tcp` or `udp`.
    pub transport: String,
    /// The reply direction as the WAN sees it, when NAT changed it.
    #[serde(default)]
    pub nat_reply: Option<Tuple>,
    /// What its device calls itself.
    #[serde(default)]
    pub device_name: Option<String>,
    /// `trusted`, `blocked`, …
    pub verdict: String,
    /// Why.
    pub reason: String,
    /// Rule that decided.
    #[serde(default)]
    pub rule: Option<String>,
    /// Entry of the rule.
    #[serde(default)]
    pub entry: Option<String>,
    /// Rule that observes.
    #[serde(default)]
    pub observed: Option<String>,
    /// Domain list that decided.
    #[serde(default)]
    pub list: Option<String>,
    /// Class of applications.
    #[serde(default)]
    pub app: Option<String>,
    /// The name that counts most.
    #[serde(default)]
    pub name: Option<String>,
    /// What said it.
    #[serde(default)]
    pub name_source: Option<String>,
    /// Name in the hello.
    #[serde(default)]
    pub sni: Option<String>,
    /// Protocols that the client offered.
    #[serde(default)]
    pub alpn: Vec<String>,
    /// Fingerprint.
    #[serde(default)]
    pub ja4: Option<String>,
    /// The older fingerprint.
    #[serde(default)]
    pub ja3: Option<String>,
    /// Fingerprint of the server, where it was waited for.
    #[serde(default)]
    pub ja3s: Option<String>,
    /// SHA-1 of its certificate, where it was waited for.
    #[serde(default)]
    pub certificate: Option<String>,
    /// Host of a request in plain HTTP.
    #[serde(default)]
    pub host: Option<String>,
    /// What it speaks.
    #[serde(default)]
    pub protocol: Option<String>,
    /// Packets through the queue before the decision.
    pub inspected_packets: u32,
    /// Packets on the fast path.
    pub original_packets: u64,
    /// Bytes on the fast path.
    pub original_bytes: u64,
    /// Packets of the other direction.
    pub reply_packets: u64,
    /// Bytes of the other direction.
    pub reply_bytes: u64,
    /// Seconds since the last packet on the fast path.
    pub idle_s: u64,
}

impl Flow {
    /// Where the connection went.
    #[must_use]
    pub const fn destination(&self) -> SocketAddr {
        SocketAddr::new(self.dst, self.dport)
    }

    /// Whether its hello named `name`.
    #[must_use]
    pub fn is_for(&self, name: &str) -> bool {
        self.sni.as_deref() == Some(name)
    }

    /// The name that counts most, and what said it.
    #[must_use]
    pub fn named(&self) -> Option<(&str, &str)> {
        self.name.as_deref().zip(self.name_source.as_deref())
    }
}

/// One end of a connection.
#[derive(Clone, Copy, Debug, Deserialize)]
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

/// What `sluice why` says.
#[derive(Clone, Debug, Deserialize)]
pub struct Why {
    /// What the device with this address calls itself.
    #[serde(default)]
    pub device_name: Option<String>,
    /// What applies to the subject.
    pub causes: Vec<Cause>,
    /// Flows it takes part in.
    pub flows: Vec<Flow>,
}

/// A list or rule that applies.
#[derive(Clone, Debug, Deserialize)]
pub struct Cause {
    /// Where.
    pub hook: String,
    /// What happens.
    pub action: String,
    /// List or rule.
    pub by: String,
    /// Entry of it that matches.
    pub entry: String,
    /// Packets it hit.
    pub packets: u64,
    /// Flows that it decided.
    pub flows: u64,
    /// Seconds since the first one.
    pub first_s_ago: Option<u64>,
    /// Seconds since the last one.
    pub last_s_ago: Option<u64>,
    /// Device of the last one.
    pub device: Option<IpAddr>,
    /// Other end of the last one.
    pub peer: Option<IpAddr>,
}

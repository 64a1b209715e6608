//! From a configuration to what should run, and what it costs to get there from what runs now.
//!
//! Pure.

pub mod budget;
pub mod change;
pub mod guard;
pub mod lockout;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use sluice_abi::attach::Role;
use sluice_abi::flow::FlowLimit;
use sluice_abi::message::RING;
use sluice_abi::names::LISTS_CONFIGURED_MAX;
use sluice_abi::profile;
use sluice_abi::settings::Settings;

use crate::config::{
    self, Apps, Backend, Clock, Config, Countries, Counts, DOMAINLISTS_MAX, Ddos, DomainFile,
    Established, Group, ListFile, Main, ManageOffload, Moment, NamedDevice, Net, Notify, OnError,
    OwnOffload, Policy, Profile, Rule, RuleAction, RulesetSection, Schedule, Ubus, ZonePolicy,
};
use crate::dataplane::plan::{DataplanePlan, InterfacePlan, Profiles, Sizes, TcWish};
use crate::dataplane::table::{Reinspection, Treatment};
use crate::inspect::engine::Limits;
use crate::netfilter::rules::{RulesError, Ruleset};

pub use self::change::Difference;
pub use crate::config::Change;

/// Entries of a list map below which it is not made smaller: a reload may add some.
const LIST_FLOOR: u32 = 1024;

/// Everything that should run.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// Programs, maps, settings.
    pub dataplane: DataplanePlan,
    /// Rules.
    pub ruleset: Ruleset,
    /// Which way of writing rules is wanted.
    pub backend: Backend,
    /// First queue and number of queues.
    pub queue: (u16, u16),
    /// Threads that read them; 0 is as many as processors.
    pub workers: u16,
    /// Bounds of inspection.
    pub limits: Limits,
    /// The rules by number.
    pub rules: Vec<Rule>,
    /// What flows that match a rule get, by number.
    pub treatments: Vec<Treatment>,
    /// When trusted flows are looked at once more.
    pub reinspection: Reinspection,
    /// Blocklists by number.
    pub lists: Vec<ListPlan>,
    /// What no list blocks, with the roles where that holds.
    pub allowed: Vec<(Net, u32)>,
    /// Those of them that end.
    pub allowed_until: Vec<(Net, u32, Moment)>,
    /// Decided flows that are remembered.
    pub flows: u32,
    /// Blocked and limited flows that are remembered beside those.
    pub held: u32,
    /// What to do with packets of undecided flows.
    pub on_error: OnError,
    /// What finds a queue full or without a listener passes.
    pub policy_open: bool,
    /// How long TCP and UDP flows may be silent.
    pub idle: (Duration, Duration),
    /// How long a blocked flow stays blocked.
    pub block: Duration,
    /// Time between two looks for flows that ended.
    pub sweep: Duration,
    /// What happens to who is over a rate or tries ports.
    pub answer: Answer,
    /// Directory of the control socket.
    pub run_dir: PathBuf,
    /// The kill switch.
    pub enabled: bool,
    /// Memory for everything; 0 is a part of the machine's.
    pub memory_kib: u32,
    /// Memory for blocklists; 0 is a part of the machine's.
    pub list_memory_kib: u32,
    /// What no list may cover.
    pub management: Vec<Net>,
    /// The firewall offloads trusted flows only.
    pub guard_offload: bool,
    /// Trusted flows go through a flowtable of our own where the firewall has none.
    pub own_offload: OwnOffload,
    /// Domain lists by number.
    pub domainlists: Vec<DomainListPlan>,
    /// Memory for domain lists in the agent; 0 is a part of the machine's.
    pub domain_memory_kib: u32,
    /// Groups of devices that rules name.
    pub groups: Vec<Group>,
    /// Devices with a name.
    pub devices: Vec<NamedDevice>,
    /// Schedules that rules name.
    pub schedules: Vec<Schedule>,
    /// When the time of day is believed.
    pub clock: Clock,
    /// What happens to connections that are older than the agent.
    pub established: Established,
    /// Classes of applications that rules name.
    pub apps: Apps,
    /// Networks of countries that rules name.
    pub countries: Arc<Countries>,
    /// Pairs of a device and an address whose names are remembered.
    pub names: usize,
    /// Rulesets by number.
    pub rulesets: Vec<RulesetSection>,
    /// Memory for them in the agent; 0 is a part of the machine's.
    pub signature_memory_kib: u32,
    /// UCI file that says where leases are; `None` where nobody wants the names of devices.
    pub dhcp_config: Option<PathBuf>,
    /// Where ubus is.
    pub ubus: Ubus,
    /// Who is told of events.
    pub notify: Notify,
}

/// A domain list.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct DomainListPlan {
    /// Its name.
    pub name: Box<str>,
    /// Its files as they were when the configuration was read.
    pub files: Vec<DomainFile>,
    /// Whether it only observes.
    pub observes: bool,
}

impl DomainListPlan {
    /// Its names, counted as written.
    #[must_use]
    pub fn names(&self) -> u32 {
        self.files.iter().fold(0, |sum, file| sum.saturating_add(file.names))
    }
}

/// A blocklist.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ListPlan {
    /// Its name.
    pub name: Box<str>,
    /// Entries of its section.
    pub entries: Vec<Net>,
    /// Its files as they were when the configuration was read.
    pub files: Vec<ListFile>,
    /// Whether it only observes: nothing of it goes into the kernel.
    pub observes: bool,
}

impl ListPlan {
    /// Its entries by what they cost.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let mut counts = Counts::default();
        self.entries.iter().for_each(|net| counts.add(net));
        self.files.iter().for_each(|file| counts.join(&file.counts));
        counts
    }
}

/// What happens to strangers beyond the packets that are dropped.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// How long who goes on is blocked; `None` is never.
    pub block: Option<Duration>,
    /// Most addresses that are blocked at once.
    pub block_max: usize,
    /// What is never blocked.
    pub never: Vec<Net>,
    /// Ports that make a scanner; 0 is never.
    pub scan_ports: u32,
    /// What makes a destination one under attack; `None` is never.
    pub syn: Option<SynValidation>,
}

/// When a destination is under attack by SYN packets.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct SynValidation {
    /// Handshakes that wait there, at least.
    pub backlog: u32,
    /// How many times those that were completed lately they are at least.
    pub ratio: u32,
}

impl Plan {
    /// The plan for a configuration. `hash_key` is drawn when the agent starts.
    pub fn new(config: &Config, hash_key: u32) -> Result<Self, RulesError> {
        let main = &config.main;
        let devices = config.interfaces.iter().filter(|interface| interface.inspect);
        let ruleset = Ruleset::new(
            devices.map(|interface| interface.device.as_str()),
            main.mark_mask,
            main.queue,
            main.queues(),
            main.policy == Policy::Open,
        )?
        .freeing_others(main.manage_offload == ManageOffload::Guard)
        .sharing(|device| of_lan(config).any(|lan| lan == device), main.queue_share)
        .closing(|device| is_closed(config, device))?
        .copying_dns(of_lan(config).filter(|_| main.dns_names != 0), main.queue)?
        .ignoring(&config.ignores);
        let lists: Vec<ListPlan> = config
            .blocklists
            .iter()
            .filter(|list| list.enabled)
            .take(LISTS_CONFIGURED_MAX as usize)
            .map(|list| ListPlan {
                name: list.name.as_str().into(),
                entries: list.entries.clone(),
                files: list.sources.clone(),
                observes: list.observes,
            })
            .collect();
        let allowed = allowed(config);
        let rules: Vec<_> = config.rules.iter().filter(|rule| rule.enabled).collect();
        let profiles = Profile::numbered(config.profiles.clone()).unwrap_or_default();
        let treatments: Vec<_> = rules.iter().map(|rule| treatment(rule, &profiles)).collect();
        Ok(Self {
            dataplane: DataplanePlan {
                pin_dir: main.pin_dir.clone(),
                interfaces: config.interfaces.iter().zip(0..).map(interface).collect(),
                sizes: sizes(main, &config.ddos, &lists, &allowed),
                settings: Settings {
                    flags: flags(main, ruleset.policy_open(), &treatments, &profiles_of(&profiles)),
                    ..settings(main, &config.ddos, hash_key)
                },
                on_crash: main.on_crash,
                profiles: profiles_of(&profiles),
                spread: main.spread,
            },
            backend: main.netfilter,
            queue: (main.queue, main.queues()),
            workers: main.workers,
            limits: Limits {
                window_packets: main.window_packets,
                window_bytes: main.window_bytes,
                flows_max: main.inspect_flows,
                bytes_max: main.inspect_memory_kib as usize * 1024,
                ..Limits::default()
            },
            rules: rules.into_iter().map(as_used).collect(),
            treatments,
            reinspection: reinspection(main),
            lists,
            allowed,
            allowed_until: allowed_until(config),
            flows: main.flows,
            held: main.held_flows,
            on_error: main.on_error,
            policy_open: ruleset.policy_open(),
            idle: (
                Duration::from_secs(main.idle_tcp_s.into()),
                Duration::from_secs(main.idle_udp_s.into()),
            ),
            block: Duration::from_secs(main.block_s.into()),
            sweep: Duration::from_secs(main.sweep_s.into()),
            answer: answer(&config.ddos),
            run_dir: main.run_dir.clone(),
            enabled: main.enabled,
            memory_kib: main.memory_kib,
            list_memory_kib: main.list_memory_kib,
            management: main.management.clone(),
            guard_offload: main.manage_offload == ManageOffload::Guard,
            own_offload: main.offload,
            domainlists: domainlists(config),
            domain_memory_kib: main.domain_memory_kib,
            groups: config.groups.clone(),
            devices: config.devices.clone(),
            schedules: config.schedules.clone(),
            clock: main.clock,
            established: main.established,
            apps: config.apps.clone(),
            countries: Arc::clone(&config.countries),
            names: main.dns_names as usize,
            rulesets: config.rulesets.iter().filter(|one| one.enabled).cloned().collect(),
            signature_memory_kib: main.signature_memory_kib,
            dhcp_config: main.device_names.then(|| main.dhcp_config.clone()),
            ubus: main.ubus.clone(),
            notify: main.notify.clone(),
            ruleset,
        })
    }

    /// Ends what is allowed until a time that is past; says whether there was something.
    pub fn end_allowed(&mut self, now_s: i64) -> bool {
        let Self { allowed, allowed_until, .. } = self;
        let before = allowed_until.len();
        allowed_until.retain(|(net, roles, until)| {
            let is_over = until.0 <= now_s;
            // Another list may have the same for good.
            if is_over && let Some(at) = allowed.iter().position(|one| *one == (*net, *roles)) {
                allowed.remove(at);
            }
            !is_over
        });
        allowed_until.len() != before
    }
}

/// What no list blocks.
fn allowed(config: &Config) -> Vec<(Net, u32)> {
    let lists = config.allowlists.iter().filter(|list| list.enabled);
    lists.flat_map(|list| list.entries.iter().map(|net| (*net, list.role_bits()))).collect()
}

/// What of that has an end.
fn allowed_until(config: &Config) -> Vec<(Net, u32, Moment)> {
    let lists = config.allowlists.iter().filter(|list| list.enabled);
    let ending = lists.filter_map(|list| Some((list, list.role_bits(), list.until?)));
    ending
        .flat_map(|(list, roles, until)| list.entries.iter().map(move |net| (*net, roles, until)))
        .collect()
}

fn domainlists(config: &Config) -> Vec<DomainListPlan> {
    let enabled = config.domainlists.iter().filter(|list| list.enabled);
    let mut lists: Vec<_> = enabled
        .take(DOMAINLISTS_MAX as usize)
        .map(|list| DomainListPlan {
            name: list.name.as_str().into(),
            files: list.sources.clone(),
            observes: list.observes,
        })
        .collect();
    // Of lists with the same name the first one counts, and blocking is more than observing.
    lists.sort_by_key(|list| list.observes);
    lists
}

/// Devices of the LAN.
fn of_lan(config: &Config) -> impl Iterator<Item = &str> {
    let lan = config.interfaces.iter().filter(|one| one.role == Role::Lan);
    lan.map(|one| one.device.as_str())
}

/// Whether packets from and to a device are dropped while nobody inspects.
fn is_closed(config: &Config, device: &str) -> bool {
    let interface = config.interfaces.iter().find(|interface| interface.device == device);
    match interface.map(|interface| interface.policy).unwrap_or_default() {
        ZonePolicy::Main => config.main.policy == Policy::Closed,
        ZonePolicy::Open => false,
        ZonePolicy::Closed => true,
    }
}

fn interface((interface, slot): (&config::Interface, u32)) -> InterfacePlan {
    InterfacePlan {
        name: interface.name.clone(),
        device: interface.device.clone(),
        role: interface.role,
        slot,
        xdp: interface.xdp,
        tc: if interface.tc { TcWish::Auto } else { TcWish::Off },
    }
}

fn answer(ddos: &Ddos) -> Answer {
    Answer {
        block: (ddos.block_s != 0).then(|| Duration::from_secs(ddos.block_s.into())),
        block_max: ddos.block_max as usize,
        never: ddos.never_block.clone(),
        scan_ports: ddos.scan_ports,
        syn: ddos
            .syn_validation
            .then_some(SynValidation { backlog: ddos.syn_backlog, ratio: ddos.syn_ratio }),
    }
}

fn sizes(main: &Main, ddos: &Ddos, lists: &[ListPlan], allowed: &[(Net, u32)]) -> Sizes {
    let mut counts = Counts::default();
    for list in lists.iter().filter(|list| !list.observes) {
        counts.join(&list.counts());
    }
    Sizes {
        flows_keys: main.flows * 2,
        flow_slots: main.flows + main.held_flows,
        held_keys: main.held_flows * 2,
        held_slots: main.held_flows,
        bucket_sets: ddos.bucket_sets,
        // What the image of the lists has needs no room here.
        block_hosts: room(counts.hosts),
        block_nets: room(counts.nets),
        allow_nets: room(allowed.len() as u32),
        // Without names the map is there all the same, as small as it can be.
        messages: if main.dns_names == 0 { 1 } else { RING },
    }
}

fn settings(main: &Main, ddos: &Ddos, hash_key: u32) -> Settings {
    Settings {
        abi: sluice_abi::ABI_VERSION,
        generation: 0,
        flags: 0,
        mark_mask: main.mark_mask.bits(),
        mark_trusted: main.mark_mask.trusted(),
        hash_key,
        limits: ddos.limits(),
        heartbeat: 0,
        mark_unattended: main.mark_mask.undecided(),
        // No packet that is blocked gets as far as the rules with a mark.
        mark_asked: main.mark_mask.blocked(),
    }
}

/// When trusted flows are looked at once more.
fn reinspection(main: &Main) -> Reinspection {
    Reinspection {
        percent: main.reinspect_percent as u8,
        after: Duration::from_secs(main.reinspect_after_s.into()),
        bytes: u64::from(main.reinspect_mib) << 20,
        age: Duration::from_secs(main.reinspect_age_s.into()),
        turn_bytes: u64::from(main.reinspect_turn_mib) << 20,
        requests: main.reinspect_requests,
    }
}

/// The kill switch, and whether packets have to be looked at for their profile.
fn flags(main: &Main, policy_open: bool, treatments: &[Treatment], profiles: &Profiles) -> u32 {
    let changes = |treatment: &Treatment| {
        let profile = profiles.get(usize::from(treatment.profile));
        profile.is_some_and(|profile| *profile != profile::Profile::default())
    };
    let mut flags = if main.enabled { Settings::ENABLED } else { 0 };
    if treatments.iter().any(changes) {
        flags |= Settings::PROFILES;
    }
    if policy_open {
        flags |= Settings::WATCHED;
    }
    if main.dns_names != 0 {
        flags |= Settings::DNS;
    }
    flags
}

/// The rule without what its action has no use for.
fn as_used(rule: &Rule) -> Rule {
    let mut rule = rule.clone();
    if !rule.action.has_profile() {
        (rule.kbit, rule.burst_kib, rule.profile) = (0, 0, None);
    }
    rule
}

/// What the programs know about profiles.
fn profiles_of(profiles: &[Profile]) -> Profiles {
    let mut all = Profiles::default();
    for (place, profile) in all.iter_mut().zip(profiles) {
        *place = profile::Profile::new(profile.dscp, profile.priority);
    }
    all
}

/// What flows that match `rule` get. Which verdict a rate means is said by who decides: a rule that
/// blocks has none.
fn treatment(rule: &Rule, profiles: &[Profile]) -> Treatment {
    /// A burst that lets a handful of packets pass, however low the rate is.
    const BURST_MIN: u64 = 64 * 8192;
    /// Longer than TCP waits at least before it repeats what was lost (200 ms): where the way is
    /// short, it lives from one such wait to the next, and what a full bucket spills is lost.
    const BURST_MS: u64 = 300;
    if !rule.action.has_profile() {
        return Treatment::default();
    }
    let number = profiles.iter().position(|profile| Some(&profile.name) == rule.profile.as_ref());
    let profile = number.and_then(|number| profiles.get(number));
    let of_rule =
        (rule.action == RuleAction::Limit && rule.kbit != 0).then_some((rule.kbit, rule.burst_kib));
    let of_profile = profile.map(|profile| (profile.kbit, profile.burst_kib));
    let (kbit, burst_kib) = of_rule.or(of_profile).unwrap_or_default();
    let burst = match (kbit, burst_kib) {
        (0, _) => 0,
        (kbit, 0) => (u64::from(kbit) * BURST_MS).max(BURST_MIN),
        (_, kib) => u64::from(kib) * 8192,
    };
    Treatment {
        profile: number.unwrap_or_default() as u8,
        kbit,
        burst: burst.min(FlowLimit::BURST_MAX.into()) as u32,
    }
}

/// Entries of a map for a list of `entries`, with room to grow, so that most reloads fit.
fn room(entries: u32) -> u32 {
    entries.saturating_add(entries / 4).next_power_of_two().max(LIST_FLOOR)
}

#[cfg(test)]
mod tests;

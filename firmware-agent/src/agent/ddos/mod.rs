//! What the agent does about strangers: tells the shield whom it may trust, watches who is over a
//! rate or tries ports, and blocks for a time who goes on and cannot have been made up.

mod cookies;
mod defence;
mod evidence;
mod offences;
mod scans;
mod validation;

use std::net::IpAddr;

use sluice_abi::attach::Role;
use sluice_abi::limits::Limits;
use sluice_abi::names::LIST_AUTOMATIC;
use sluice_abi::reason::DropReason;
use sluice_datapath::checks::{self, Source};

use self::cookies::Cookies;
use self::evidence::Evidence;
use self::offences::{Offences, is_of_destination};
use self::scans::Scanners;
use self::validation::Validation;
use super::around::Around;
use crate::cli::chain;
use crate::config::Net;
use crate::control::ddos as shown;
use crate::control::report::{Feature, State as Health};
use crate::dataplane::Dataplane;
use crate::netfilter::conntrack::Conntrack;
use crate::plan::Plan;
use crate::sys::clock;

/// Seconds between two looks at connections, at least.
const CONNECTIONS_S: u32 = 2;
/// The part of the time that looking at connections may take.
const CONNECTIONS_SHARE: u64 = 50;
/// Seconds between two looks at ports that were tried.
const SCANS_S: u32 = 2;
/// Messages in one look.
const MESSAGES: usize = 5;
/// An address that is blocked automatically.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Block {
    net: Net,
    reason: DropReason,
    until_s: u32,
}

/// What is known about strangers.
pub(super) struct Strangers {
    evidence: Evidence,
    offences: Offences,
    scanners: Scanners,
    validation: Validation,
    cookies: Cookies,
    blocks: Vec<Block>,
    /// Everything that is never blocked automatically.
    never: Vec<Net>,
    /// What of that is this router or behind it.
    inside: Vec<Net>,
    /// Addresses of this router.
    own: Vec<IpAddr>,
    /// A private address of a WAN interface: why private sources are not dropped.
    private: Option<String>,
    conntrack: Option<Conntrack>,
    /// Second of the next look at connections, and at ports.
    connections_s: u32,
    scans_s: u32,
    /// Blocks that were not made because there were too many.
    refused: u64,
}

impl Strangers {
    pub(super) fn new(plan: &Plan) -> Self {
        Self {
            evidence: evidence(plan),
            offences: Offences::default(),
            scanners: Scanners::default(),
            validation: Validation::default(),
            cookies: Cookies::new(plan),
            blocks: Vec::new(),
            never: Vec::new(),
            inside: Vec::new(),
            own: Vec::new(),
            private: None,
            conntrack: None,
            connections_s: 0,
            scans_s: 0,
            refused: 0,
        }
    }

    /// Takes what is around the router now, when that is known, and tells the programs; another
    /// configuration too.
    pub(super) fn look_around(
        &mut self,
        around: Option<&Around>,
        dataplane: &mut Dataplane,
        plan: &Plan,
    ) {
        let settings = &plan.dataplane.settings;
        if !self.evidence.is_for(settings.limits.source_mask_v6, settings.hash_key) {
            self.evidence = evidence(plan);
        }
        if let Some(around) = around {
            let Surroundings { own, inside, never, private } = Surroundings::new(around, plan);
            (self.own, self.inside, self.never, self.private) = (own, inside, never, private);
        }
        let withheld = if self.private.is_some() { Limits::PRIVATE } else { 0 };
        if let Err(error) = dataplane.set_own(&self.own, withheld) {
            log::error!("{}", error.chain());
        }
        let now_s = clock::monotonic_s();
        let (lifted, kept) = std::mem::take(&mut self.blocks)
            .into_iter()
            .partition(|block: &Block| plan.answer.block.is_none() || self.is_spared(&block.net));
        self.blocks = kept;
        lift(lifted, dataplane);
        self.end_blocks(dataplane, now_s);
    }

    /// One look, every second.
    pub(super) fn look(&mut self, dataplane: &mut Dataplane, plan: &Plan) {
        let now_s = clock::monotonic_s();
        let checks = dataplane.settings.current().limits.checks;
        self.end_blocks(dataplane, now_s);
        if plan.answer.syn.is_some() {
            self.cookies.look(dataplane);
        }
        if checks & Limits::RATES != 0 {
            self.look_at_offenders(dataplane, now_s);
        }
        let candidates = self.candidates(plan, now_s);
        let is_needed = checks & Limits::DESTINATIONS & !Limits::AMPLIFICATION != 0;
        let is_needed = is_needed || plan.answer.syn.is_some() || !candidates.is_empty();
        if is_needed && now_s >= self.connections_s {
            self.look_at_connections(dataplane, plan, now_s);
        }
        if plan.answer.syn.is_none() {
            self.end_attacks(dataplane, plan);
        }
        for (addr, reason) in candidates {
            self.block(dataplane, plan, addr, reason, now_s);
        }
        if checks & Limits::SCANS != 0 && now_s >= self.scans_s {
            self.scans_s = now_s + SCANS_S;
            self.look_at_ports(dataplane, plan, now_s);
        }
    }

    fn look_at_offenders(&mut self, dataplane: &Dataplane, now_s: u32) {
        let Some(strangers) = &dataplane.strangers else { return };
        let notes = match strangers.offenders() {
            Ok(notes) => notes,
            Err(error) => return log::error!("{}", error.chain()),
        };
        let tell = self.offences.look(&notes, now_s);
        self.offences.forget(&notes, now_s);
        for (addr, reason) in tell.iter().take(MESSAGES) {
            let what = if is_of_destination(*reason) { "gets more than" } else { "is over" };
            log::warn!("{addr} {what} its limit {}", reason.name());
        }
        if tell.len() > MESSAGES {
            log::warn!("{} more are over a limit", tell.len() - MESSAGES);
        }
    }

    /// Sources that go on, and are not blocked yet.
    fn candidates(&self, plan: &Plan, now_s: u32) -> Vec<(IpAddr, DropReason)> {
        if plan.answer.block.is_none() {
            return Vec::new();
        }
        let current = self.offences.current(now_s).into_iter();
        current
            .filter(|(addr, reason, offence)| {
                let net = self.source_of(*addr, plan);
                offence.goes_on(now_s)
                    && !is_of_destination(*reason)
                    && !self.is_spared(&net)
                    && !self.blocks.iter().any(|block| block.net == net)
            })
            .map(|(addr, reason, _)| (addr, reason))
            .collect()
    }

    fn look_at_connections(&mut self, dataplane: &mut Dataplane, plan: &Plan, now_s: u32) {
        let started = clock::monotonic_ns();
        if self.conntrack.is_none() {
            self.conntrack =
                Conntrack::open().map_err(|error| log::warn!("conntrack netlink: {error}")).ok();
        }
        let Self { evidence, conntrack, inside, validation, .. } = self;
        let is_inside = |addr: IpAddr| inside.iter().any(|net| net.contains(&Net::host(addr)));
        if let Some(conntrack) = conntrack {
            let is_validated = plan.answer.syn.is_some();
            let seen = conntrack.each(|connection| {
                evidence.look(connection, now_s, is_inside);
                let (opener, destination) = (connection.original.src, connection.original.dst);
                if is_validated && !is_inside(opener) && is_inside(destination) {
                    validation.look(connection, now_s);
                }
            });
            if let Err(error) = seen {
                log::warn!("{}", chain(&error));
            }
        }
        evidence.forget(now_s);
        let sets = evidence.sets();
        if let Some(strangers) = &mut dataplane.strangers
            && let Err(error) = strangers.set_known(&sets)
        {
            log::error!("{}", error.chain());
        }
        self.judge_attacks(dataplane, plan, now_s);
        // Many connections take long to read: less often then.
        let spent_s = (clock::monotonic_ns() - started) * CONNECTIONS_SHARE / 1_000_000_000;
        self.connections_s = now_s + CONNECTIONS_S.max(spent_s as u32);
    }

    /// Blocks a source that goes on, if it is proven.
    fn block(
        &mut self,
        dataplane: &mut Dataplane,
        plan: &Plan,
        addr: IpAddr,
        reason: DropReason,
        now_s: u32,
    ) {
        let Some(time) = plan.answer.block else { return };
        if !self.evidence.is_proven(addr, now_s) {
            return;
        }
        let net = self.source_of(addr, plan);
        if self.blocks.iter().any(|block| block.net == net) {
            return;
        }
        if self.blocks.len() >= plan.answer.block_max {
            self.refused += 1;
            return;
        }
        let until_s = now_s.saturating_add(time.as_secs() as u32);
        match dataplane.block(net, LIST_AUTOMATIC, until_s) {
            Ok(()) => {
                let (reason_name, seconds) = (reason.name(), time.as_secs());
                log::warn!(
                    "{net} is blocked for {seconds} s: over its limit {reason_name} again and again, and not made up"
                );
                self.blocks.push(Block { net, reason, until_s });
            }
            Err(error) => log::error!("{}", error.chain()),
        }
    }

    fn look_at_ports(&mut self, dataplane: &Dataplane, plan: &Plan, now_s: u32) {
        let Some(strangers) = &dataplane.strangers else { return };
        let scans = match strangers.scans(plan.answer.scan_ports.max(1)) {
            Ok(scans) => scans,
            Err(error) => return log::error!("{}", error.chain()),
        };
        let notices = self.scanners.look(&scans, now_s);
        for scanner in notices.iter().take(MESSAGES) {
            let ports: Vec<String> = scanner.ports.iter().map(ToString::to_string).collect();
            let ports = ports.join(" ");
            log::warn!("{} tries ports: {ports}", scanner.addr);
        }
        if notices.len() > MESSAGES {
            log::warn!("{} more try ports", notices.len() - MESSAGES);
        }
    }

    /// The kernel has ended them already; this makes room.
    fn end_blocks(&mut self, dataplane: &mut Dataplane, now_s: u32) {
        let (over, kept) = std::mem::take(&mut self.blocks)
            .into_iter()
            .partition(|block: &Block| block.until_s <= now_s);
        self.blocks = kept;
        lift(over, dataplane);
    }

    /// What is blocked when `addr` is: what its rate is counted for.
    fn source_of(&self, addr: IpAddr, plan: &Plan) -> Net {
        let prefix: u32 = plan
            .dataplane
            .settings
            .limits
            .source_mask_v6
            .iter()
            .map(|word| word.count_ones())
            .sum();
        if addr.is_ipv4() {
            Net::host(addr)
        } else {
            Net::new(self.evidence.name(addr), prefix as u8)
        }
    }

    /// Somebody decided about this block.
    pub(super) fn lifted(&mut self, net: &Net) {
        self.blocks.retain(|block| block.net != *net);
    }

    /// Whether something in `net` is never blocked.
    fn is_spared(&self, net: &Net) -> bool {
        self.never.iter().any(|never| never.contains(net) || net.contains(never))
    }

    /// What `status` shows.
    pub(super) fn report(&self) -> shown::Ddos {
        let now_s = clock::monotonic_s();
        let (victims, offenders) = self
            .offences
            .current(now_s)
            .into_iter()
            .map(|(addr, reason, offence)| shown::Offender {
                address: addr,
                reason: reason.name().to_owned(),
                packets: offence.packets,
                since_s_ago: u64::from(now_s.saturating_sub(offence.since_s)),
                last_s_ago: u64::from(now_s.saturating_sub(offence.last_s)),
            })
            .partition(|shown| {
                let reason = DropReason::ALL.iter().find(|reason| reason.name() == shown.reason);
                reason.is_some_and(|reason| is_of_destination(*reason))
            });
        let blocked = self.blocks.iter().map(|block| shown::Blocked {
            entry: block.net.to_string(),
            reason: block.reason.name().to_owned(),
            left_s: u64::from(block.until_s.saturating_sub(now_s)),
        });
        let scanners = self.scanners.current(now_s).into_iter().map(|scanner| shown::Scanner {
            address: scanner.addr,
            ports: scanner.ports.clone(),
            notices: scanner.notices,
            last_s_ago: u64::from(now_s.saturating_sub(scanner.last_s)),
        });
        shown::Ddos {
            victims,
            offenders,
            blocked: blocked.collect(),
            blocks_refused: self.refused,
            scanners: scanners.collect(),
            known: self.evidence.len() as u64,
            attacked: self.attacked(now_s),
        }
    }

    /// What does not work as it was meant, and how destinations under attack fare.
    pub(super) fn features(&self, plan: &Plan) -> impl Iterator<Item = Feature> {
        self.private_feature(plan).into_iter().chain(self.validation_feature(plan))
    }

    fn private_feature(&self, plan: &Plan) -> Option<Feature> {
        let is_wanted = plan.dataplane.settings.limits.checks & Limits::PRIVATE != 0;
        let reason = self.private.clone().filter(|_| is_wanted)?;
        Some(Feature {
            name: "private sources".to_owned(),
            state: Health::Off,
            rung: "none".to_owned(),
            reasons: vec![reason],
        })
    }
}

fn lift(blocks: Vec<Block>, dataplane: &mut Dataplane) {
    for block in blocks {
        if let Err(error) = dataplane.unblock(block.net) {
            log::error!("{}", error.chain());
        }
    }
}

fn evidence(plan: &Plan) -> Evidence {
    let settings = &plan.dataplane.settings;
    Evidence::new(settings.limits.source_mask_v6, settings.hash_key)
}

/// What the router's own addresses mean for strangers.
struct Surroundings {
    own: Vec<IpAddr>,
    inside: Vec<Net>,
    never: Vec<Net>,
    private: Option<String>,
}

impl Surroundings {
    fn new(around: &Around, plan: &Plan) -> Self {
        let Around { devices, addresses, .. } = around;
        let of_role = |ifindex: u32, role: Role| {
            let device = devices.iter().find(|device| device.ifindex == ifindex);
            let plans = &plan.dataplane.interfaces;
            let has = |device: &str| plans.iter().any(|p| p.device == device && p.role == role);
            device.is_some_and(|device| has(&device.name))
        };
        let own: Vec<IpAddr> = addresses.iter().map(|address| address.addr).collect();
        let mut inside: Vec<Net> = own.iter().copied().map(Net::host).collect();
        for address in addresses.iter().filter(|address| of_role(address.ifindex, Role::Lan)) {
            let addr = address.peer.unwrap_or(address.addr);
            let bits = if addr.is_ipv4() { 96 + address.prefix } else { address.prefix };
            inside.push(Net::new(addr.into(), bits));
        }
        let mut never = inside.clone();
        never.extend(around.own(&plan.management).iter().map(|own| own.addr));
        never.extend(&plan.answer.never);
        never.extend(plan.allowed.iter().map(|(net, _)| *net));
        let private = addresses.iter().find_map(|address| {
            let is_private = of_role(address.ifindex, Role::Wan)
                && address.addr.is_ipv4()
                && checks::source(&address.addr.into()) == Source::Private;
            is_private.then(|| {
                format!(
                    "the wan has the private address {}, so private sources are neighbours",
                    address.addr
                )
            })
        });
        Self { own, inside, never, private }
    }
}

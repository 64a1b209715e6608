//! What the agent tells about itself.

use sluice_abi::ABI_VERSION;
use sluice_abi::counter::Counter;
use sluice_abi::flow::{Direction, FlowKey};
use sluice_abi::verdict::Reason;

use super::desk::Work;
use super::running::State;
use crate::control::page::{FlowPage, Part};
use crate::control::report::{
    DomainList, DomainSet, Flow, FlowMap, Interface, List, ListImage, Netfilter, Queue,
    State as Health, Status, Tuple, Unattended, Waited,
};
use crate::dataplane::Counts;
use crate::dataplane::table::{self, Record};
use crate::netfilter::apply::Count;
use crate::sys::{clock, rtnetlink};
use crate::text::transport;

impl State {
    /// Everything, with what the workers did.
    pub(super) fn status(&self, work: &Work) -> Status {
        let now_ns = clock::monotonic_ns();
        let features = self.features();
        let counts = self.counts();
        let rules = self.counted_by_rules();
        let (netfilter, queue) = (self.netfilter(&rules), self.queue(work));
        let worst = features.iter().map(|feature| feature.state);
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            abi: ABI_VERSION,
            pid: std::process::id(),
            uptime_s: (now_ns - self.started_ns) / 1_000_000_000,
            ready_ms: (self.ready_ns - self.started_ns) / 1_000_000,
            state: if !self.plan.enabled {
                Health::Off
            } else if worst.clone().any(|state| state == Health::Failed) {
                Health::Failed
            } else if worst.clone().any(|state| state == Health::Degraded) {
                Health::Degraded
            } else {
                Health::Active
            },
            generation: self.generation,
            config_file: self.file().display().to_string(),
            config_errors: self.mistakes.clone(),
            config_warnings: self
                .warnings
                .iter()
                .chain(self.lists.warnings())
                .chain(self.inspector.domains.refused())
                .chain(self.inspector.alarms.refused())
                .cloned()
                .chain(self.trial.warnings())
                .collect(),
            features,
            interfaces: self.interfaces(&counts),
            drops: self.drops(&counts, &netfilter, &queue),
            netfilter,
            queue,
            flows: FlowMap {
                entries: self.inspector.table.len() as u64,
                capacity: self.plan.flows.into(),
                expired: self.inspector.totals.expired,
                evicted: self.inspector.totals.evicted,
                write_errors: self.inspector.totals.write_errors,
                held: self.inspector.table.held().into(),
                held_capacity: self.inspector.table.held_max().into(),
                held_refused: self.inspector.table.refused(),
                reinspected: self.inspector.totals.reinspected,
            },
            lists: self.lists(now_ns),
            ddos: self.strangers.report(),
            list_image: self.list_image(),
            budget: self.budget(),
            offload: self.offload(&counts, &rules),
            domain_lists: self.domain_lists(now_ns),
            rules: self.rules(),
            names: self.names_report(&counts),
            domain_set: self.domain_set(),
            signatures: self.signatures(&work.compared),
            events: self.event_totals(),
        }
    }

    /// What the programs counted, by interface; nothing where there are none.
    pub(super) fn counts(&self) -> Vec<Counts> {
        let Some(dataplane) = &self.dataplane else { return Vec::new() };
        let plans = self.plan.dataplane.interfaces.iter();
        plans.map(|plan| dataplane.totals.of(plan.slot).unwrap_or_default()).collect()
    }

    fn interfaces(&self, counts: &[Counts]) -> Vec<Interface> {
        let named = |counts: &Counts| {
            let count = |counter: Counter| (counter.name().to_owned(), counts.count(counter));
            Counter::ALL.into_iter().filter(|counter| counter.is_of_packets()).map(count).collect()
        };
        let devices = rtnetlink::devices().unwrap_or_default();
        let plans = self.plan.dataplane.interfaces.iter().enumerate();
        plans
            .map(|(index, plan)| {
                let device = devices.iter().find(|device| device.name == plan.device);
                Interface {
                    name: plan.name.clone(),
                    device: plan.device.clone(),
                    role: plan.role.name().to_owned(),
                    counters: counts.get(index).map(named).unwrap_or_default(),
                    rx_bytes: device.map(|device| device.rx_bytes),
                    tx_bytes: device.map(|device| device.tx_bytes),
                }
            })
            .collect()
    }

    fn counted_by_rules(&self) -> Vec<Count> {
        self.backend.as_ref().and_then(|backend| backend.counters().ok()).unwrap_or_default()
    }

    fn netfilter(&self, counted: &[Count]) -> Netfilter {
        let Some(backend) = &self.backend else { return Netfilter::default() };
        Netfilter {
            backend: backend.kind().name().to_owned(),
            applied: backend.is_applied().unwrap_or_default(),
            reapplied: self.reapplied,
            counters: counted
                .iter()
                .map(|count| (count.counted.name().to_owned(), count.packets))
                .collect(),
        }
    }

    fn queue(&self, work: &Work) -> Queue {
        let totals = &work.totals;
        let mut kernel: Vec<(&str, u64)> = vec![
            ("socket overruns", totals.overruns),
            ("malformed messages", totals.malformed),
            ("refused verdicts", totals.refused),
            ("merged packets", totals.gso),
            ("cut copies", totals.cut),
        ];
        kernel.extend(self.queue_burst.map(|burst| ("burst without loss", burst as u64)));
        let numbers = self.plan.ruleset.queues();
        for stats in crate::netfilter::queue::kernel_stats(numbers).unwrap_or_default() {
            for (name, value) in [
                ("waiting", stats.waiting),
                ("queue full", stats.dropped),
                ("socket full", stats.user_dropped),
            ] {
                match kernel.iter_mut().find(|(known, _)| *known == name) {
                    Some((_, sum)) => *sum += u64::from(value),
                    None => kernel.push((name, value.into())),
                }
            }
        }
        let mut engine: std::collections::BTreeMap<String, u64> =
            work.engine.rows().into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        engine.insert("without connection".to_owned(), self.inspector.totals.without_connection);
        let told = self.inspector.rejects.totals();
        for (name, value) in [
            ("rejects told", told.sent),
            ("rejects held back", told.held_back),
            ("rejects failed", told.failed),
        ] {
            engine.insert(name.to_owned(), value);
        }
        Queue {
            first: self.plan.queue.0,
            count: self.plan.queue.1,
            workers: work.workers as u64,
            engine,
            kernel: kernel.into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
            inspecting: work.inspecting as u64,
            unattended: Unattended {
                flows: self.inspector.totals.unseen,
                ..self.attendance.report(clock::monotonic_ns())
            },
            latency: work
                .latency
                .rows()
                .map(|(below_us, packets)| Waited { below_us, packets })
                .collect(),
            latency_sum_us: work.latency.sum_us(),
        }
    }

    fn lists(&self, now_ns: u64) -> Vec<List> {
        let hits = self.dataplane.as_ref().and_then(|dataplane| dataplane.hits.as_ref());
        (0..)
            .zip(&self.plan.lists)
            .map(|(number, list)| {
                let hits = hits.and_then(|hits| hits.of(number).ok()).unwrap_or_default();
                let observing = &self.inspector.observing;
                let observed = observing.hits(number);
                let last_ns = if list.observes { observed.last_ns } else { hits.last_ns };
                List {
                    name: list.name.to_string(),
                    entries: self.lists.entries(number),
                    packets: hits.packets,
                    bytes: hits.bytes,
                    last_s_ago: ago(now_ns, last_ns),
                    observes: list.observes,
                    flows: observed.flows,
                    devices: self.named(observing.devices(number)),
                }
            })
            .collect()
    }

    fn list_image(&self) -> ListImage {
        let (bytes, load_ms) = self.lists.image();
        ListImage {
            kib: bytes / 1024,
            cap_kib: super::lists::cap_kib(self.plan.list_memory_kib).into(),
            load_ms,
            observing_kib: self.inspector.observing.bytes().div_ceil(1024),
        }
    }

    fn domain_lists(&self, now_ns: u64) -> Vec<DomainList> {
        let lists = (0..).zip(self.inspector.domains.iter());
        lists
            .map(|(number, (list, hits))| DomainList {
                name: list.name.to_string(),
                names: list.names().into(),
                observes: list.observes,
                flows: hits.flows,
                devices: self.named(self.inspector.domains.devices(number)),
                last_s_ago: ago(now_ns, hits.last_ns),
            })
            .collect()
    }

    fn domain_set(&self) -> DomainSet {
        let set = &self.inspector.book.lists;
        DomainSet {
            names: set.len() as u64,
            kib: if set.is_empty() { 0 } else { set.bytes().div_ceil(1024) },
            cap_kib: super::lists::cap_kib(self.plan.domain_memory_kib).into(),
            load_ms: self.inspector.domains.load_ms(),
        }
    }

    /// Decided flows, the most recent first.
    pub(super) fn flows(&self) -> Vec<Flow> {
        let now_ns = clock::monotonic_ns();
        self.records().into_iter().map(|record| self.flow(record, now_ns)).collect()
    }

    /// Some of them.
    pub(super) fn flow_page(&self, part: Part) -> FlowPage {
        let now_ns = clock::monotonic_ns();
        let records = self.records();
        FlowPage {
            total: records.len() as u64,
            offset: part.offset.into(),
            flows: part.of(records.iter()).map(|record| self.flow(record, now_ns)).collect(),
        }
    }

    fn records(&self) -> Vec<&Record> {
        let mut records: Vec<&Record> = self.inspector.table.iter().collect();
        records.sort_unstable_by_key(|record| std::cmp::Reverse(record.decided_ns));
        records
    }

    pub(super) fn flow(&self, record: &Record, now_ns: u64) -> Flow {
        let decision = &record.decision;
        let count =
            self.flow_map().and_then(|flows| flows.count(record.slot).ok()).unwrap_or_default();
        let sent = record.sent(&count);
        let (key, original) = decision.key;
        let hello = decision.hello.as_ref();
        let text = |part: Option<&Box<str>>| part.map(ToString::to_string);
        let is_list = decision.reason == Reason::DomainList;
        let named = decision.name();
        Flow {
            tuple: tuple(&key, original),
            transport: transport(key.proto()).to_owned(),
            nat_reply: decision.nat_key.map(|(key, original)| tuple(&key, original.reversed())),
            device_name: self.device_of(
                decision.ends.as_ref(),
                [key.source(original).0, key.destination(original).0],
            ),
            verdict: decision.verdict.name().to_owned(),
            reason: decision.reason.name().to_owned(),
            rule: text(decision.rule.as_ref().filter(|_| !is_list)),
            entry: text(decision.entry.as_ref()),
            observed: text(decision.observed.as_ref()),
            list: text(decision.rule.as_ref().filter(|_| is_list)),
            name: named.map(|(name, _)| name.to_owned()),
            name_source: named.map(|(_, source)| source.to_owned()),
            sni: text(hello.and_then(|hello| hello.sni.as_ref())),
            ech: hello.is_some_and(|hello| hello.ech),
            host: text(hello.and_then(|hello| hello.host.as_ref())),
            app: hello
                .and_then(table::Hello::name)
                .and_then(|name| self.inspector.book.rules.app(name))
                .map(str::to_owned),
            protocol: decision.spoken.map(|spoken| spoken.protocol.to_owned()),
            confidence: decision.spoken.map(|spoken| spoken.confidence.to_owned()),
            alpn: hello
                .map(|hello| hello.alpn.iter().map(ToString::to_string).collect())
                .unwrap_or_default(),
            ja4: text(hello.and_then(|hello| hello.ja4.as_ref())),
            ja3: text(hello.and_then(|hello| hello.ja3.as_ref())),
            ja3s: text(hello.and_then(|hello| hello.ja3s.as_ref())),
            certificate: text(hello.and_then(|hello| hello.certificate.as_ref())),
            inspected_packets: decision.inspected_packets,
            original_packets: sent.original_packets,
            original_bytes: sent.original_bytes,
            reply_packets: sent.reply_packets,
            reply_bytes: sent.reply_bytes,
            age_s: now_ns.saturating_sub(record.decided_ns) / 1_000_000_000,
            idle_s: now_ns.saturating_sub(sent.last_seen_ns) / 1_000_000_000,
        }
    }
}

/// The ends of a packet of `key` that travels in `direction`.
pub(super) fn tuple(key: &FlowKey, direction: Direction) -> Tuple {
    let (src, sport) = key.source(direction);
    let (dst, dport) = key.destination(direction);
    Tuple { src: src.into(), sport, dst: dst.into(), dport }
}

/// Seconds since `then_ns`; `None` when that is 0, which means never.
pub(super) fn ago(now_ns: u64, then_ns: u64) -> Option<u64> {
    (then_ns != 0).then(|| now_ns.saturating_sub(then_ns) / 1_000_000_000)
}

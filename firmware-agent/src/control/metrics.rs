//! The report in the text format of Prometheus (exposition format 0.0.4). Pure.

use std::fmt::{self, Write as _};

use super::report::{Queue, State, Status};
use super::signatures::Signatures;
use crate::text::is_hostile;

/// Names of counters of the kernel's side of the queue that go up and down.
const LEVELS: [(&str, &str, &str); 2] = [
    ("waiting", "sluice_queue_waiting_packets", "Packets that wait for their verdict."),
    (
        "burst without loss",
        "sluice_queue_burst_packets",
        "Packets of full size that a burst may have.",
    ),
];

/// The whole of it.
#[must_use]
pub fn metrics(status: &Status) -> String {
    let mut text = Text(String::new());
    text.family("sluice_info", "gauge", "1, with the version of the agent.");
    text.sample("sluice_info", &[("version", &status.version)], 1);
    text.family("sluice_up_seconds", "gauge", "Seconds since the agent started.");
    text.sample("sluice_up_seconds", &[], status.uptime_s);
    text.family("sluice_generation", "gauge", "Counts configurations.");
    text.sample("sluice_generation", &[], status.generation.into());

    text.family(
        "sluice_feature_state",
        "gauge",
        "0 off, 1 starting, 2 active, 3 degraded, 4 failed.",
    );
    for feature in &status.features {
        let state = match feature.state {
            State::Off => 0,
            State::Starting => 1,
            State::Active => 2,
            State::Degraded => 3,
            State::Failed => 4,
        };
        let labels = [("feature", feature.name.as_str()), ("rung", &feature.rung)];
        text.sample("sluice_feature_state", &labels, state);
    }

    text.family("sluice_packets_total", "counter", "Packets seen by programs, by outcome.");
    for interface in &status.interfaces {
        for (outcome, packets) in &interface.counters {
            let labels = [("interface", interface.name.as_str()), ("outcome", outcome)];
            text.sample("sluice_packets_total", &labels, *packets);
        }
    }

    text.family("sluice_drops_total", "counter", "Packets dropped, by place and reason.");
    for drops in &status.drops {
        let place = [("place", drops.place.as_str()), ("reason", &drops.reason)];
        let interface = drops.interface.as_deref().map(|name| ("interface", name));
        let labels: Vec<_> = place.into_iter().chain(interface).collect();
        if drops.cpus.is_empty() {
            text.sample("sluice_drops_total", &labels, drops.packets);
        }
        for (cpu, packets) in drops.cpus.iter().enumerate() {
            let cpu = cpu.to_string();
            let labels: Vec<_> = labels.iter().copied().chain([("cpu", cpu.as_str())]).collect();
            text.sample("sluice_drops_total", &labels, *packets);
        }
    }

    text.family("sluice_rules_total", "counter", "Packets counted by the rules.");
    for (counter, packets) in &status.netfilter.counters {
        text.sample("sluice_rules_total", &[("counter", counter)], *packets);
    }
    text.queue(&status.queue);
    text.flows(status);
    text.lists(status);
    text.rulesets(&status.signatures);
    text.strangers(status);
    text.names(status);
    text.family("sluice_events_total", "counter", "Events, by type.");
    for (kind, count) in &status.events.kinds {
        text.sample("sluice_events_total", &[("type", kind)], *count);
    }
    text.family("sluice_events_left_out_total", "counter", "Events that were too many to keep.");
    text.sample("sluice_events_left_out_total", &[], status.events.left_out);
    text.0
}

struct Text(String);

impl Text {
    fn queue(&mut self, queue: &Queue) {
        self.family("sluice_queue_total", "counter", "What the queue and inspection counted.");
        let is_level = |counter: &str| LEVELS.iter().any(|(name, ..)| *name == counter);
        for (counter, value) in queue.kernel.iter().chain(&queue.engine) {
            if !is_level(counter) {
                self.sample("sluice_queue_total", &[("counter", counter)], *value);
            }
        }
        for (counter, name, help) in LEVELS {
            if let Some(value) = queue.kernel.get(counter) {
                self.family(name, "gauge", help);
                self.sample(name, &[], *value);
            }
        }
        self.family("sluice_flows_inspecting", "gauge", "Flows under inspection.");
        self.sample("sluice_flows_inspecting", &[], queue.inspecting);
        self.latency(queue);
        let away = &queue.unattended;
        self.family(
            "sluice_unattended_total",
            "counter",
            "What passed while the agent did not inspect.",
        );
        for (what, value) in [
            ("times", away.times),
            ("seconds", away.seconds),
            ("packets", away.packets),
            ("flows", away.flows),
        ] {
            self.sample("sluice_unattended_total", &[("what", what)], value);
        }
    }

    fn flows(&mut self, status: &Status) {
        let flows = &status.flows;
        for (name, help, value) in [
            ("sluice_flows", "Decided flows that are remembered.", flows.entries),
            ("sluice_flows_capacity", "Decided flows that fit.", flows.capacity),
            ("sluice_flows_held", "Blocked and limited flows.", flows.held),
            (
                "sluice_flows_held_capacity",
                "Blocked and limited flows that fit.",
                flows.held_capacity,
            ),
        ] {
            self.family(name, "gauge", help);
            self.sample(name, &[], value);
        }
        self.family(
            "sluice_flow_troubles_total",
            "counter",
            "Decisions without a place in the kernel.",
        );
        for (what, value) in [("no_room", flows.held_refused), ("refused", flows.write_errors)] {
            self.sample("sluice_flow_troubles_total", &[("what", what)], value);
        }
        self.family("sluice_flows_ended_total", "counter", "Decided flows that were forgotten.");
        for (cause, value) in [("expired", status.flows.expired), ("evicted", status.flows.evicted)]
        {
            self.sample("sluice_flows_ended_total", &[("cause", cause)], value);
        }
    }

    fn lists(&mut self, status: &Status) {
        self.family("sluice_list_entries", "gauge", "Entries of a blocklist in force.");
        for list in &status.lists {
            self.sample("sluice_list_entries", &[("list", &list.name)], list.entries);
        }
        self.family("sluice_list_packets_total", "counter", "Packets that a blocklist dropped.");
        for list in &status.lists {
            self.sample("sluice_list_packets_total", &[("list", &list.name)], list.packets);
        }
        self.family("sluice_list_bytes_total", "counter", "Bytes of those packets.");
        for list in &status.lists {
            self.sample("sluice_list_bytes_total", &[("list", &list.name)], list.bytes);
        }
        self.family(
            "sluice_list_observed_flows_total",
            "counter",
            "Flows that a blocklist would have blocked if it did more than observe.",
        );
        for list in status.lists.iter().filter(|list| list.observes || list.flows > 0) {
            self.sample("sluice_list_observed_flows_total", &[("list", &list.name)], list.flows);
        }
        self.family(
            "sluice_domain_list_flows_total",
            "counter",
            "Flows to names of a domain list.",
        );
        for list in &status.domain_lists {
            self.sample("sluice_domain_list_flows_total", &[("list", &list.name)], list.flows);
        }
    }

    fn strangers(&mut self, status: &Status) {
        let ddos = &status.ddos;
        self.family("sluice_strangers", "gauge", "Addresses by what is known of them.");
        for (what, count) in [
            ("victim", ddos.victims.len()),
            ("offender", ddos.offenders.len()),
            ("blocked", ddos.blocked.len()),
            ("scanner", ddos.scanners.len()),
            ("attacked", ddos.attacked.len()),
        ] {
            self.sample("sluice_strangers", &[("what", what)], count as u64);
        }
    }

    fn names(&mut self, status: &Status) {
        let names = &status.names;
        self.family("sluice_names", "gauge", "Addresses that have a name from DNS.");
        self.sample("sluice_names", &[], names.entries);
        self.family(
            "sluice_names_messages_total",
            "counter",
            "Messages of DNS, by what they were.",
        );
        for (what, value) in [
            ("question", names.questions),
            ("answer", names.answers),
            ("unasked", names.unasked),
            ("malformed", names.malformed),
            ("lost", names.lost),
        ] {
            self.sample("sluice_names_messages_total", &[("what", what)], value);
        }
    }

    fn rulesets(&mut self, signatures: &Signatures) {
        self.family("sluice_ruleset_rules", "gauge", "Rules of a ruleset by what became of them.");
        for one in &signatures.rulesets {
            for (state, rules) in
                [("in_force", one.rules), ("unsupported", one.unsupported), ("wrong", one.wrong)]
            {
                let labels = [("ruleset", one.name.as_str()), ("state", state)];
                self.sample("sluice_ruleset_rules", &labels, rules.into());
            }
        }
        self.family("sluice_ruleset_total", "counter", "What a ruleset did.");
        for one in &signatures.rulesets {
            for (what, count) in [("alerts", one.alerts), ("blocked_flows", one.blocked)] {
                let labels = [("ruleset", one.name.as_str()), ("what", what)];
                self.sample("sluice_ruleset_total", &labels, count);
            }
        }
        self.family("sluice_alerts_unlogged_total", "counter", "Alerts that were not logged.");
        self.sample("sluice_alerts_unlogged_total", &[], signatures.unlogged);
    }

    fn family(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    /// A histogram, whose buckets add up.
    fn latency(&mut self, queue: &Queue) {
        let name = "sluice_queue_latency_seconds";
        self.family(name, "histogram", "From a packet's arrival at the queue to its verdict.");
        let mut packets = 0;
        for bucket in &queue.latency {
            packets += bucket.packets;
            let end = bucket.below_us.map_or_else(|| "+Inf".to_owned(), seconds);
            self.sample(&format!("{name}_bucket"), &[("le", &end)], packets);
        }
        let _ = writeln!(self.0, "{name}_sum {}", seconds(queue.latency_sum_us));
        self.sample(&format!("{name}_count"), &[], packets);
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: u64) {
        self.0.push_str(name);
        for (index, (label, value)) in labels.iter().enumerate() {
            let open = if index == 0 { '{' } else { ',' };
            let _ = write!(self.0, "{open}{label}=\"{}\"", Value(value));
        }
        let close = if labels.is_empty() { "" } else { "}" };
        let _ = writeln!(self.0, "{close} {value}");
    }
}

/// A label's value: backslash, quote and newline escaped as the format asks, and nothing else that
/// a terminal would obey.
struct Value<'a>(&'a str);

impl fmt::Display for Value<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for letter in self.0.chars() {
            match letter {
                '\\' => f.write_str("\\\\")?,
                '"' => f.write_str("\\\"")?,
                '\n' => f.write_str("\\n")?,
                other if is_hostile(other) => f.write_char('\u{fffd}')?,
                other => f.write_char(other)?,
            }
        }
        Ok(())
    }
}

/// Microseconds as seconds.
fn seconds(us: u64) -> String {
    format!("{}.{:06}", us / 1_000_000, us % 1_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::report::{Drops, Feature, List};

    fn status() -> Status {
        let drops = |interface: Option<&str>, cpus: &[u64]| Drops {
            place: "xdp".to_owned(),
            reason: "listed".to_owned(),
            interface: interface.map(str::to_owned),
            packets: 7,
            cpus: cpus.to_vec(),
        };
        Status {
            uptime_s: 5,
            features: vec![Feature {
                name: "shield wan".to_owned(),
                state: State::Degraded,
                rung: "generic XDP".to_owned(),
                reasons: Vec::new(),
            }],
            drops: vec![drops(Some("wan"), &[3, 4]), drops(None, &[])],
            lists: vec![List {
                name: "a\"b\\c\nd\u{1b}[31m".to_owned(),
                entries: 2,
                packets: 1,
                bytes: 60,
                last_s_ago: None,
                observes: true,
                flows: 3,
                devices: Vec::new(),
            }],
            ..Status::default()
        }
    }

    #[test]
    fn drops_are_told_apart_by_interface_and_cpu() {
        let text = metrics(&status());
        for line in [
            "sluice_drops_total{place=\"xdp\",reason=\"listed\",interface=\"wan\",cpu=\"0\"} 3\n",
            "sluice_drops_total{place=\"xdp\",reason=\"listed\",interface=\"wan\",cpu=\"1\"} 4\n",
            "sluice_drops_total{place=\"xdp\",reason=\"listed\"} 7\n",
            "sluice_feature_state{feature=\"shield wan\",rung=\"generic XDP\"} 3\n",
            "sluice_up_seconds 5\n",
        ] {
            assert!(text.contains(line), "{line} in\n{text}");
        }
        assert_eq!(text.matches("\nsluice_drops_total{").count(), 3, "no packet twice:\n{text}");
    }

    #[test]
    fn every_family_is_described_once_before_its_samples_and_text_stays_in_its_label() {
        let text = metrics(&status());
        assert!(text.contains("list=\"a\\\"b\\\\c\\nd\u{fffd}[31m\"} 2\n"), "{text}");
        let mut family = "";
        let mut seen = Vec::new();
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# TYPE ") {
                family = rest.split(' ').next().unwrap();
                assert!(!seen.contains(&family), "{family} twice");
                seen.push(family);
            } else if !line.starts_with('#') {
                let name = line.split(['{', ' ']).next().unwrap();
                // A histogram has samples of three names.
                let ends = ["", "_bucket", "_sum", "_count"];
                assert!(ends.iter().any(|end| name.strip_suffix(end) == Some(family)), "{line}");
                let value = line.rsplit(' ').next().unwrap();
                assert!(value.parse::<f64>().is_ok(), "{line}");
            }
        }
    }
}

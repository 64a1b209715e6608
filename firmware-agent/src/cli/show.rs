//! Reports as text for people.

use std::fmt::Write as _;

use super::table::Table;
use crate::control::ddos::Ddos;
use crate::control::report::{Budget, Feature, Flow, Offload, Queue, Status, Tuple, Why};
use crate::text::plain;

/// `status`.
#[must_use]
pub(super) fn status(status: &Status) -> String {
    let mut text = format!(
        "sluice {} is {}, pid {}, up {}, protection in force {} ms after the start\nconfiguration {} (generation {})\n",
        plain(&status.version),
        status.state,
        status.pid,
        duration(status.uptime_s),
        status.ready_ms,
        plain(&status.config_file),
        status.generation,
    );
    if !status.config_errors.is_empty() {
        text.push_str(
            "the file has changed but was REFUSED, the previous configuration is in force:\n",
        );
        lines(&mut text, &status.config_errors);
    }
    if !status.config_warnings.is_empty() {
        text.push_str("warnings:\n");
        lines(&mut text, &status.config_warnings);
    }
    text.push('\n');
    text.push_str(&features(&status.features));

    let mut table = Table::new(&["interface", "device", "role", "counter", "packets"]);
    for interface in &status.interfaces {
        for (name, packets) in interface.counters.iter().filter(|(_, packets)| **packets != 0) {
            table.row([
                &interface.name,
                &interface.device,
                &interface.role,
                name,
                &packets.to_string(),
            ]);
        }
    }
    section(&mut text, &table);

    let mut table = Table::new(&["dropped in", "reason", "interface", "packets"]);
    for drops in &status.drops {
        let interface = drops.interface.as_deref().unwrap_or("-");
        table.row([&drops.place, &drops.reason, interface, &drops.packets.to_string()]);
    }
    section(&mut text, &table);

    section(&mut text, &counters(status));

    section(&mut text, &lists(status));
    section(&mut text, &domain_lists(status));
    section(&mut text, &strangers(&status.ddos));
    text.push_str(&super::signatures::rulesets(&status.signatures));
    text.push_str(&memory(status));
    text.push_str(&offload(&status.offload));
    text
}

/// Which part of the trusted traffic is offloaded.
fn offload(offload: &Offload) -> String {
    let Some(permille) = offload.permille.filter(|_| offload.mode != "none") else {
        return String::new();
    };
    format!(
        "{} offload takes {}.{} % of the trusted bytes\n",
        offload.mode,
        permille / 10,
        permille % 10
    )
}

/// Microseconds below which all but one part of the packets had their verdict, rounded up to a power of
/// two.
fn answered_below(queue: &Queue, part: u64) -> String {
    let all: u64 = queue.latency.iter().map(|bucket| bucket.packets).sum();
    let mut left = all - all / part;
    for bucket in &queue.latency {
        if all > 0 && bucket.packets >= left {
            return bucket.below_us.map_or_else(|| "more".to_owned(), |below| below.to_string());
        }
        left = left.saturating_sub(bucket.packets);
    }
    "-".to_owned()
}

/// What a configuration may take, part by part.
pub(super) fn budget(budget: &Budget) -> String {
    let mut table = Table::new(&["memory at most", "KiB", "options"]);
    for part in budget.parts.iter().filter(|part| part.kib != 0) {
        table.row([&part.what, &part.kib.to_string(), &part.options]);
    }
    table.row(["all", &budget.kib.to_string(), ""]);
    table.row(["allowed", &budget.cap_kib.to_string(), "memory_kib"]);
    format!("{table}defaults are those of routers with {}\n", plain(&budget.class))
}

/// What lists take.
fn memory(status: &Status) -> String {
    let mut text = String::new();
    let _ = writeln!(
        text,
        "memory: {} KiB at most, {} KiB are allowed",
        status.budget.kib, status.budget.cap_kib
    );
    if !status.lists.is_empty() {
        let image = &status.list_image;
        let _ = writeln!(
            text,
            "lists take {} KiB of {} KiB, loaded in {} ms",
            image.kib + image.observing_kib,
            image.cap_kib,
            image.load_ms
        );
    }
    if !status.domain_lists.is_empty() {
        let set = &status.domain_set;
        let _ = writeln!(
            text,
            "domain lists take {} KiB of {} KiB for {} names, loaded in {} ms",
            set.kib, set.cap_kib, set.names, set.load_ms
        );
    }
    text
}

/// What rules, queue, flow map and names counted.
fn counters(status: &Status) -> Table {
    let mut table = Table::new(&["where", "counter", "value"]);
    let netfilter = &status.netfilter;
    for (name, value) in &netfilter.counters {
        table.row([&netfilter.backend, name, &value.to_string()]);
    }
    table.row([&netfilter.backend, "rules put back", &netfilter.reapplied.to_string()]);
    let queue = &status.queue;
    let last = u32::from(queue.first) + u32::from(queue.count.max(1)) - 1;
    let name = if queue.count <= 1 {
        format!("queue {}", queue.first)
    } else {
        format!("queues {}-{last}", queue.first)
    };
    for (counter, value) in queue.kernel.iter().chain(&queue.engine) {
        table.row([&name, counter, &value.to_string()]);
    }
    table.row([&name, "flows under inspection", &queue.inspecting.to_string()]);
    for (what, part) in [("half answered below, µs", 2), ("99 % answered below, µs", 100)] {
        table.row([&name, what, &answered_below(queue, part)]);
    }
    if queue.unattended.times > 0 {
        let away = &queue.unattended;
        for (what, value) in [
            ("times without the agent", away.times),
            ("seconds without the agent", away.seconds),
            ("packets passed uninspected then", away.packets),
            ("flows not trusted for that", away.flows),
        ] {
            table.row([&name, what, &value.to_string()]);
        }
    }
    for (counter, value) in status.names.rows().filter(|(_, value)| *value > 0) {
        table.row(["names from DNS", counter, &value.to_string()]);
    }
    let flows = &status.flows;
    for (counter, value) in [
        ("decided", flows.entries),
        ("capacity", flows.capacity),
        ("expired", flows.expired),
        ("evicted", flows.evicted),
        ("write errors", flows.write_errors),
        ("blocked or limited", flows.held),
        ("blocked or limited, capacity", flows.held_capacity),
        ("blocked or limited, no room", flows.held_refused),
        ("inspected once more", flows.reinspected),
    ] {
        table.row(["flow map", counter, &value.to_string()]);
    }
    table
}

/// Lists of addresses and what they did.
fn lists(status: &Status) -> Table {
    let columns = ["list", "action", "entries", "packets", "bytes", "flows", "last"];
    let mut table = Table::new(&columns);
    for list in &status.lists {
        table.row([
            list.name.clone(),
            if list.observes { "observe" } else { "block" }.to_owned(),
            list.entries.to_string(),
            list.packets.to_string(),
            list.bytes.to_string(),
            list.flows.to_string(),
            ago(list.last_s_ago),
        ]);
    }
    table
}

/// Lists of domains and what they did.
fn domain_lists(status: &Status) -> Table {
    let mut table = Table::new(&["domain list", "action", "names", "flows", "last"]);
    for list in &status.domain_lists {
        table.row([
            list.name.clone(),
            if list.observes { "observe" } else { "block" }.to_owned(),
            list.names.to_string(),
            list.flows.to_string(),
            ago(list.last_s_ago),
        ]);
    }
    table
}

/// Who is over a rate, blocked, or tries ports.
fn strangers(ddos: &Ddos) -> Table {
    let mut table = Table::new(&["stranger", "what", "why", "packets", "last"]);
    for (offenders, what) in [(&ddos.victims, "gets too much"), (&ddos.offenders, "sends too much")]
    {
        for offender in offenders {
            table.row([
                offender.address.to_string(),
                what.to_owned(),
                offender.reason.clone(),
                offender.packets.to_string(),
                ago(Some(offender.last_s_ago)),
            ]);
        }
    }
    for blocked in &ddos.blocked {
        table.row([
            blocked.entry.clone(),
            format!("blocked for {}", duration(blocked.left_s)),
            blocked.reason.clone(),
            String::new(),
            String::new(),
        ]);
    }
    for attacked in &ddos.attacked {
        let ports: Vec<String> = attacked.cookie_ports.iter().map(ToString::to_string).collect();
        let answer = if ports.is_empty() {
            "strangers are limited".to_owned()
        } else {
            format!("cookies at {}, else limited", ports.join(" "))
        };
        table.row([
            attacked.address.to_string(),
            format!("under attack for {}", duration(attacked.since_s_ago)),
            answer,
            attacked.syns.to_string(),
            String::new(),
        ]);
    }
    for scanner in &ddos.scanners {
        let ports: Vec<String> = scanner.ports.iter().map(ToString::to_string).collect();
        table.row([
            scanner.address.to_string(),
            "tries ports".to_owned(),
            ports.join(" "),
            String::new(),
            ago(Some(scanner.last_s_ago)),
        ]);
    }
    table
}

/// `doctor`: every ladder, its rung, and what is missing for a better one.
#[must_use]
pub(super) fn features(features: &[Feature]) -> String {
    let mut text = String::new();
    let mut table = Table::new(&["feature", "state", "rung"]);
    for feature in features {
        table.row([&feature.name, &feature.state.to_string(), &feature.rung]);
    }
    let _ = write!(text, "{table}");
    for feature in features.iter().filter(|feature| !feature.reasons.is_empty()) {
        let _ = writeln!(text, "\n{}:", plain(&feature.name));
        lines(&mut text, &feature.reasons);
    }
    text
}

/// `flows`.
#[must_use]
pub(super) fn flows(flows: &[Flow]) -> String {
    if flows.is_empty() {
        return "no decided flows\n".to_owned();
    }
    let mut table = Table::new(&[
        "flow",
        "device",
        "verdict",
        "reason",
        "name",
        "source",
        "ja4",
        "inspected",
        "packets",
        "bytes",
        "idle",
    ]);
    for flow in flows {
        let reason = match flow.rule.as_ref().or(flow.list.as_ref()) {
            Some(rule) => format!("{} ({rule})", flow.reason),
            None => flow.reason.clone(),
        };
        table.row([
            format!("{} {}", flow.transport, tuple(&flow.tuple)),
            flow.device_name.clone().unwrap_or_default(),
            flow.verdict.clone(),
            reason,
            flow.name().or(flow.protocol.as_deref()).unwrap_or_default().to_owned(),
            flow.name_source.clone().unwrap_or_default(),
            flow.ja4.clone().unwrap_or_default(),
            flow.inspected_packets.to_string(),
            format!("{}+{}", flow.original_packets, flow.reply_packets),
            format!("{}+{}", flow.original_bytes, flow.reply_bytes),
            duration(flow.idle_s),
        ]);
    }
    format!("{table}\npackets and bytes: original + reply direction, on the fast path\n")
}

/// `why`.
#[must_use]
pub(super) fn why(why: &Why) -> String {
    let name = why.device_name.as_deref().map(|name| format!(" ({})", plain(name)));
    let subject = format!("{}{}", plain(&why.subject), name.unwrap_or_default());
    if why.causes.is_empty() && why.flows.is_empty() {
        return format!("{subject}: no list, rule or decided flow knows it\n");
    }
    let mut text = format!("{subject}\n");
    let mut table = Table::new(&[
        "hook",
        "action",
        "by",
        "entry",
        "packets",
        "flows",
        "first",
        "last",
        "device",
        "other end",
    ]);
    let end =
        |end: Option<std::net::IpAddr>| end.map_or_else(|| "-".to_owned(), |end| end.to_string());
    for cause in &why.causes {
        table.row([
            cause.hook.clone(),
            cause.action.clone(),
            cause.by.clone(),
            cause.entry.clone(),
            cause.packets.to_string(),
            cause.flows.to_string(),
            ago(cause.first_s_ago),
            ago(cause.last_s_ago),
            end(cause.device),
            end(cause.peer),
        ]);
    }
    section(&mut text, &table);
    if !why.flows.is_empty() {
        text.push('\n');
        text.push_str(&flows(&why.flows));
    }
    text
}

fn section(text: &mut String, table: &Table) {
    if !table.is_empty() {
        let _ = write!(text, "\n{table}");
    }
}

fn lines(text: &mut String, lines: &[String]) {
    for line in lines {
        let _ = writeln!(text, "  {}", plain(line));
    }
}

pub(super) fn tuple(tuple: &Tuple) -> String {
    use std::net::SocketAddr;
    format!(
        "{} > {}",
        SocketAddr::new(tuple.src, tuple.sport),
        SocketAddr::new(tuple.dst, tuple.dport)
    )
}

pub(super) fn ago(seconds: Option<u64>) -> String {
    seconds.map_or_else(|| "never".to_owned(), |seconds| format!("{} ago", duration(seconds)))
}

/// Seconds in the two largest units.
pub(super) fn duration(seconds: u64) -> String {
    match (seconds / 86400, seconds / 3600 % 24, seconds / 60 % 60, seconds % 60) {
        (0, 0, 0, s) => format!("{s}s"),
        (0, 0, m, s) => format!("{m}m {s}s"),
        (0, h, m, _) => format!("{h}h {m}m"),
        (d, h, ..) => format!("{d}d {h}h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::report::{Cause, State};

    #[test]
    fn durations_show_two_units() {
        assert_eq!([5, 65, 3661, 90_000].map(duration), ["5s", "1m 5s", "1h 1m", "1d 1h"]);
    }

    #[test]
    fn a_feature_shows_its_rung_and_why_not_a_better_one() {
        let text = features(&[Feature {
            name: "shield wan".to_owned(),
            state: State::Degraded,
            rung: "generic XDP".to_owned(),
            reasons: vec!["native XDP: the driver\x1b refused".to_owned()],
        }]);
        assert!(text.contains("shield wan  degraded  generic XDP"), "{text}");
        assert!(text.contains("  native XDP: the driver\\u{1b} refused"), "{text}");
    }

    #[test]
    fn strangers_are_shown_with_what_they_do_and_what_is_done_about_it() {
        use crate::control::ddos::{Attacked, Blocked, Offender, Scanner};
        let attacked = |last: u8, ports: &[u16]| Attacked {
            address: [192, 0, 2, last].into(),
            cookie_ports: ports.to_vec(),
            half_open: 100,
            syns: 700,
            since_s_ago: 61,
        };
        let offender = |last: u8, reason: &str| Offender {
            address: [192, 0, 2, last].into(),
            reason: reason.to_owned(),
            packets: 900,
            since_s_ago: 9,
            last_s_ago: 2,
        };
        let shown = strangers(&Ddos {
            victims: vec![offender(1, "destination_syn")],
            offenders: vec![offender(2, "syn_rate")],
            blocked: vec![Blocked {
                entry: "192.0.2.3".to_owned(),
                reason: "syn_rate".to_owned(),
                left_s: 65,
            }],
            blocks_refused: 0,
            scanners: vec![Scanner {
                address: [192, 0, 2, 4].into(),
                ports: vec![22, 23],
                notices: 1,
                last_s_ago: 3,
            }],
            known: 0,
            attacked: vec![attacked(5, &[]), attacked(6, &[22, 443])],
        })
        .to_string();
        for line in [
            "192.0.2.1 gets too much destination_syn 900 2s ago",
            "192.0.2.2 sends too much syn_rate 900 2s ago",
            "192.0.2.3 blocked for 1m 5s syn_rate",
            "192.0.2.4 tries ports 22 23 3s ago",
            "192.0.2.5 under attack for 1m 1s strangers are limited 700",
            "192.0.2.6 under attack for 1m 1s cookies at 22 443, else limited 700",
        ] {
            let words = shown.split_whitespace().collect::<Vec<_>>().join(" ");
            assert!(words.contains(line), "{line}\n{shown}");
        }
        assert!(strangers(&Ddos::default()).is_empty());
    }

    #[test]
    fn hostile_names_are_escaped_in_every_answer() {
        let hostile = "a\x1b[31m\nb";
        let shown = why(&Why {
            subject: hostile.to_owned(),
            device_name: Some(hostile.to_owned()),
            causes: vec![Cause {
                hook: "xdp".to_owned(),
                action: "drop".to_owned(),
                by: hostile.to_owned(),
                entry: hostile.to_owned(),
                packets: 1,
                flows: 0,
                first_s_ago: None,
                last_s_ago: Some(3),
                device: None,
                peer: None,
            }],
            flows: Vec::new(),
        });
        assert!(!shown.contains('\x1b'));
        assert_eq!(shown.lines().count(), 4, "{shown}");
    }
}

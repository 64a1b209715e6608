//! What the kernel says about a namespace, to check the agent's word against.

use aya::programs::{SchedClassifier, TcAttachType};
use serde_json::Value;

use crate::error::{Error, Result};
use crate::netns::Netns;
use crate::process;

/// A program attached to an interface.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Attached {
    /// Interface.
    pub device: String,
    /// `xdp`, `tcx/ingress`, `tcx/egress`, `clsact/ingress` or `clsact/egress`.
    pub hook: &'static str,
    /// Number of the program.
    pub id: u64,
}

fn parsed(netns: &Netns, line: &str) -> Result<Value> {
    let text = netns.run(line)?;
    // `tc -j` says nothing at all where there is nothing.
    let text = if text.trim().is_empty() { "[]" } else { &text };
    serde_json::from_str(text).map_err(|error| Error::Unusable(format!("{line}: {error}")))
}

/// Programs attached to interfaces of a namespace.
pub fn attached(netns: &Netns) -> Result<Vec<Attached>> {
    let mut found = Vec::new();
    for link in parsed(netns, "ip -j link show")?.as_array().into_iter().flatten() {
        let device = link["ifname"].as_str().unwrap_or_default().to_owned();
        let xdp = link["xdp"]["prog"]["id"].as_u64();
        found.extend(xdp.map(|id| Attached { device: device.clone(), hook: "xdp", id }));
        for (hook, which) in
            [("tcx/ingress", TcAttachType::Ingress), ("tcx/egress", TcAttachType::Egress)]
        {
            let query = netns.enter(|| SchedClassifier::query_tcx(&device, which))?;
            // A kernel without tcx has nothing attached there.
            let programs = query.map_or_else(|_| Vec::new(), |(_, programs)| programs);
            let ids = programs.iter().map(|program| u64::from(program.id()));
            found.extend(ids.map(|id| Attached { device: device.clone(), hook, id }));
        }
        for (hook, which) in [("clsact/ingress", "ingress"), ("clsact/egress", "egress")] {
            let filters = parsed(netns, &format!("tc -j filter show dev {device} {which}"))?;
            let ids = filters.as_array().into_iter().flatten().filter_map(|filter| {
                filter["options"]["prog"]["id"].as_u64().or(filter["options"]["id"].as_u64())
            });
            found.extend(ids.map(|id| Attached { device: device.clone(), hook, id }));
        }
    }
    found.sort();
    Ok(found)
}

/// Whether a program is loaded anywhere.
#[must_use]
pub fn is_loaded(program: u64) -> bool {
    aya::programs::loaded_programs().flatten().any(|info| u64::from(info.id()) == program)
}

/// An entry of the connection tracker.
#[derive(Clone, Debug)]
pub struct Connection {
    /// The line of `conntrack -L`.
    pub line: String,
    /// Its mark.
    pub mark: u32,
}

/// Connections that match a filter of `conntrack -L`.
pub fn connections(netns: &Netns, filter: &str) -> Result<Vec<Connection>> {
    process::need(&["conntrack"])?;
    let list = netns.run(&format!("conntrack -L {filter}"))?;
    Ok(list.lines().map(connection).collect())
}

fn connection(line: &str) -> Connection {
    let mark = line.split_whitespace().find_map(|word| word.strip_prefix("mark="));
    let mark = mark.and_then(|mark| mark.parse().ok()).unwrap_or(0);
    Connection { line: line.to_owned(), mark }
}

/// One line of `/proc/net/netfilter/nfnetlink_queue`.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Queue {
    /// Number.
    pub number: u64,
    /// Packets that wait for a verdict.
    pub waiting: u64,
    /// Packets dropped because the queue was full.
    pub dropped: u64,
    /// Packets dropped because the listener's socket was full.
    pub user_dropped: u64,
    /// Packets queued so far: the number of the last one.
    pub sequence: u64,
}

/// Queues with a listener.
pub fn queues(netns: &Netns) -> Result<Vec<Queue>> {
    let text = netns.proc_net("netfilter/nfnetlink_queue")?;
    let line = |line: &str| {
        let fields: Vec<u64> =
            line.split_whitespace().map(|field| field.parse().unwrap_or(0)).collect();
        let &[number, _, waiting, _, _, dropped, user_dropped, sequence, ..] = fields.as_slice()
        else {
            return None;
        };
        Some(Queue { number, waiting, dropped, user_dropped, sequence })
    };
    Ok(text.lines().filter_map(line).collect())
}

/// Packets queued so far, over all queues.
pub fn queued(netns: &Netns) -> Result<u64> {
    Ok(queues(netns)?.iter().map(|queue| queue.sequence).sum())
}

/// Whether a rule of the firewall mentions `text`.
pub fn rule_mentions(netns: &Netns, text: &str) -> Result<bool> {
    Ok(netns.run("nft list ruleset")?.contains(text))
}

/// The packet count of a named counter.
pub fn counter(netns: &Netns, table: &str, name: &str) -> Result<u64> {
    named_counter(netns, table, name, "packets")
}

/// The byte count of a named counter, from the IP header on.
pub fn counter_bytes(netns: &Netns, table: &str, name: &str) -> Result<u64> {
    named_counter(netns, table, name, "bytes")
}

fn named_counter(netns: &Netns, table: &str, name: &str, what: &str) -> Result<u64> {
    let text = netns.run(&format!("nft list counter {table} {name}"))?;
    let mut words = text.split_whitespace().skip_while(|word| *word != what);
    let count = words.nth(1).and_then(|count| count.parse().ok());
    count.ok_or_else(|| Error::Unusable(format!("no {what} in {text}")))
}

/// Packets that arrived on an interface, as the kernel counts them.
pub fn received(netns: &Netns, interface: &str) -> Result<u64> {
    let text = netns.run(&format!("ip -j -s link show dev {interface}"))?;
    let report: Value =
        serde_json::from_str(&text).map_err(|error| Error::Unusable(format!("ip: {error}")))?;
    report[0]["stats64"]["rx"]["packets"]
        .as_u64()
        .ok_or_else(|| Error::Unusable(format!("no statistics in {text}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_shows_its_mark() {
        let line = "tcp 6 431999 ESTABLISHED src=192.168.77.10 dst=203.0.113.10 sport=4 dport=443 \
                    src=203.0.113.10 dst=203.0.113.1 sport=443 dport=4 [ASSURED] mark=255 use=1";
        assert_eq!(connection(line).mark, 255);
        assert_eq!(connection("udp 17 29 src=1.2.3.4").mark, 0);
    }
}

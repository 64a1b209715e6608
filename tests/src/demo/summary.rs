//! What happened, in words and tables for somebody who sees Sluice for the first time. Pure.

use std::fmt::Write as _;

use super::scene::{Facts, Visit, is_home};
use super::throughput::{Pairs, Rates};
use crate::report::{Flow, Status};
use crate::service::Family;
use crate::throughput::paired::{Share, median};

/// Width of the text.
const WIDTH: usize = 100;

/// Counters of drops, with what they mean to a reader.
const DROPS: [(&str, &str); 7] = [
    ("xdp_drop_listed", "address is on a list"),
    ("xdp_drop_host", "address is blocked"),
    ("xdp_drop_prefix", "address is in a blocked network"),
    ("xdp_drop_syn_rate", "source opens connections faster than allowed"),
    ("xdp_drop_source_rate", "source sends more packets than allowed"),
    ("tc_drop_blocked", "connection was blocked by a rule"),
    ("tc_out_drop_blocked", "connection was blocked by a rule, on the way out"),
];

/// The summary.
pub(super) fn text(facts: &Facts) -> String {
    let mut out = String::new();
    title(&mut out, "What was inspected");
    paragraph(
        &mut out,
        "A connection shows its name in its first packets. Those went through Sluice's queue; then a \
         decision was written into the kernel, and the rest never left it.",
    );
    inspected(&mut out, &facts.flows);
    title(&mut out, "What was dropped, where and why");
    dropped(&mut out, &facts.status);
    title(&mut out, "Ask for the reason");
    for (command, answer) in &facts.answers {
        let _infallible = writeln!(out, "  $ {command}");
        for line in answer.trim_end().lines() {
            let _infallible = writeln!(out, "    {line}");
        }
    }
    if let Some(rates) = &facts.rates {
        title(&mut out, "What it costs");
        throughput(&mut out, rates);
    }
    title(&mut out, "In short");
    short(&mut out, facts);
    out
}

fn title(out: &mut String, words: &str) {
    let _infallible = writeln!(out, "\n{words}\n{}", "-".repeat(words.len()));
}

/// Words, filled up to the width.
fn paragraph(out: &mut String, words: &str) {
    let mut column = 0;
    for word in words.split_whitespace() {
        if column > 0 && column + 1 + word.len() > WIDTH {
            out.push('\n');
            column = 0;
        }
        if column > 0 {
            out.push(' ');
            column += 1;
        }
        out.push_str(word);
        column += word.len();
    }
    out.push_str("\n\n");
}

/// A number with thousands marked.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Bytes in a unit that fits.
fn size(bytes: u64) -> String {
    match bytes {
        0..10_000 => format!("{bytes} B"),
        10_000..1_000_000 => format!("{} kB", bytes / 1000),
        _ => format!("{:.1} MB", bytes as f64 / 1e6),
    }
}

fn plural(number: u64, word: &str) -> String {
    let s = if number == 1 { "" } else { "s" };
    format!("{} {word}{s}", grouped(number))
}

fn inspected(out: &mut String, flows: &[Flow]) {
    let mut flows: Vec<&Flow> = flows.iter().filter(|flow| is_home(flow.src)).collect();
    flows.sort_by_key(|flow| (flow.verdict != "trusted", flow.sni.clone(), flow.src));
    if flows.is_empty() {
        out.push_str("  nothing\n");
    }
    for flow in flows {
        // Names come from the network: nothing in them may act on a terminal.
        let name = flow.sni.as_deref().unwrap_or("(no name)").escape_debug().to_string();
        let route = format!("{} -> {}", flow.src, flow.destination());
        let rule = flow.rule.as_deref().map_or_else(String::new, |rule| format!(" by rule {rule}"));
        let _infallible = writeln!(out, "  {name:24} {route:44} {}{rule}", flow.verdict);
        let packets = flow.original_packets + flow.reply_packets;
        let bytes = size(flow.original_bytes + flow.reply_bytes);
        let then = if flow.verdict == "blocked" { "refused by TC" } else { "on the fast path" };
        let _infallible = writeln!(
            out,
            "    {:46} {} inspected, then {} ({bytes}) {then}",
            flow.ja4.as_deref().map_or_else(
                || format!("no TLS, decided because: {}", flow.reason),
                |ja4| format!("JA4 {ja4}")
            ),
            plural(u64::from(flow.inspected_packets), "packet"),
            grouped(packets),
        );
    }
}

fn dropped(out: &mut String, status: &Status) {
    let mut any = false;
    for interface in &status.interfaces {
        for (counter, meaning) in DROPS {
            let packets = interface.counters.get(counter).copied().unwrap_or(0);
            if packets > 0 {
                any = true;
                let hook = if counter.starts_with("xdp") { "XDP" } else { "TC" };
                let place = format!("{} ({}), {hook}", interface.name, interface.device);
                let _infallible = writeln!(out, "  {place:24} {:>9}  {meaning}", grouped(packets));
            }
        }
    }
    for (counter, packets) in &status.netfilter.counters {
        if counter.contains("dropped") && *packets > 0 {
            any = true;
            let meaning = if counter.contains("verdict") {
                "the packet that showed a blocked name"
            } else {
                "connection was blocked by a rule"
            };
            let place = format!("forward, {}", status.netfilter.backend);
            let _infallible = writeln!(out, "  {place:24} {:>9}  {meaning}", grouped(*packets));
        }
    }
    if !any {
        out.push_str("  nothing\n");
    }
    for list in status.lists.iter().filter(|list| list.packets > 0) {
        let _infallible = writeln!(
            out,
            "\n  list {} ({}) dropped {}",
            list.name,
            plural(list.entries, "entry").replace("entrys", "entries"),
            plural(list.packets, "packet"),
        );
    }
}

fn throughput(out: &mut String, rates: &Rates) {
    paragraph(
        out,
        "One TCP connection between a device and the server, frames of at most 1,514 bytes as on a \
         cable, all programs on the same processors as the router. Median in Mbit/s, and of the shares of \
         the plain router right before or after:",
    );
    let _infallible = writeln!(out, "  {:34} {:>10} {:>18}", "", "download", "upload");
    let all = [&rates.empty_xdp, &rates.sluice, &rates.queued];
    let plain = [0, 1].map(|way| {
        let pairs = all.iter().filter_map(|ways| ways.get(way)).flatten();
        pairs.map(|[plain, _]| *plain).collect::<Vec<_>>()
    });
    let line = |out: &mut String, name, rates: [f64; 2], shares: [f64; 2]| {
        let ([down, up], [down_share, up_share]) = (rates, shares.map(|share| share * 100.0));
        let _infallible = writeln!(
            out,
            "  {name:34} {down:>10.0} {down_share:>5.0} % {up:>10.0} {up_share:>5.0} %"
        );
    };
    line(out, "plain router", plain.each_ref().map(|rates| median(rates)), [1.0, 1.0]);
    for (name, ways) in [
        ("plain, an empty program in XDP", &rates.empty_xdp),
        ("router with Sluice", &rates.sluice),
        ("every packet through a queue", &rates.queued),
    ] {
        let ways = ways.each_ref().map(|pairs| {
            let of = |place: usize| pairs.iter().filter_map(move |pair| pair.get(place).copied());
            let (plain, rates): (Vec<_>, Vec<_>) = (of(0).collect(), of(1).collect());
            (median(&rates), Share::of(&rates, &plain).median)
        });
        line(out, name, ways.map(|(rate, _)| rate), ways.map(|(_, share)| share));
    }
    out.push('\n');
    paragraph(
        out,
        "Virtual cables pay for XDP as such: the program of the second line does nothing. What Sluice \
         itself costs is the step from there to the third.",
    );
    let range = |place: usize, ways: &[&[Pairs; 2]]| {
        let pairs = || ways.iter().copied().flatten().flatten();
        let all = || pairs().filter_map(|pair| pair.get(place).copied());
        let (low, high) = (all().fold(f64::MAX, f64::min), all().fold(0.0, f64::max));
        format!("{low:.0} to {high:.0}")
    };
    let rounds = rates.sluice.first().map_or(0, Vec::len);
    let _infallible = writeln!(
        out,
        "  {} of each, in turns with the plain router.\n  They ranged {} plain, {} with Sluice, {} queued.",
        plural(rounds as u64, "run"),
        range(0, &all),
        range(1, &[&rates.sluice]),
        range(1, &[&rates.queued]),
    );
}

fn short(out: &mut String, facts: &Facts) {
    let served = facts.visits.iter().filter(|visit| visit.wanted && visit.fetched.is_success());
    let stopped = facts.visits.iter().filter(|visit| !visit.wanted && !visit.fetched.is_success());
    let count = |counter: &str| -> u64 {
        facts.status.interfaces.iter().filter_map(|i| i.counters.get(counter)).sum()
    };
    let wanted = facts.visits.iter().filter(|visit| visit.wanted).count();
    let unwanted = facts.visits.len() - wanted;
    let answered = if facts.stranger_served { "was answered" } else { "was not answered" };
    for line in [
        format!(
            "{} of {wanted} wanted visits worked, over IPv4 with NAT and over IPv6.",
            served.count()
        ),
        format!("{} of {unwanted} unwanted ones were stopped.", stopped.count()),
        format!(
            "{} of {} SYN packets of the flood were dropped before the kernel saw them.",
            grouped(count("xdp_drop_syn_rate")),
            grouped(u64::from(facts.flood)),
        ),
        format!("A stranger who knocked during the flood {answered}."),
    ] {
        let _infallible = writeln!(out, "  {line}");
    }
}

/// What the demo should have shown and did not.
pub(super) fn failures(facts: &Facts) -> Vec<String> {
    let mut failures = Vec::new();
    let mut fail = |text: String| failures.push(text);
    for visit in &facts.visits {
        if visit.wanted && !visit.fetched.is_success() {
            fail(format!("{} could not open {}: {}", visit.who, visit.url, visit.fetched.error));
        }
        if !visit.wanted && visit.fetched.is_success() {
            fail(format!("{} could open {}, which is blocked", visit.who, visit.url));
        }
        if visit.wanted && !is_decided(visit, &facts.flows) {
            let (who, url) = (visit.who, &visit.url);
            fail(format!("no trusted flow with name and JA4 for {who}'s visit to {url}"));
        }
    }
    let bulk = |flow: &&Flow| flow.verdict == "trusted" && flow.reply_packets > 10_000;
    for (family, v4) in [("IPv4", true), ("IPv6", false)] {
        let mut flows = facts.flows.iter().filter(|flow| flow.dst.is_ipv4() == v4);
        if !flows.any(|flow| bulk(&flow)) {
            fail(format!("no download went to the fast path over {family}"));
        }
    }
    for (counter, meaning) in [
        ("xdp_drop_listed", "no packet of a listed address was dropped"),
        ("xdp_drop_syn_rate", "no packet of the SYN flood was dropped"),
    ] {
        let mut counts = facts.status.interfaces.iter().filter_map(|i| i.counters.get(counter));
        if counts.all(|count| *count == 0) {
            fail(meaning.to_owned());
        }
    }
    if !facts.stranger_served {
        fail("a stranger was not answered during the flood".to_owned());
    }
    failures
}

/// Whether the flow of a visit was inspected and trusted.
fn is_decided(visit: &Visit, flows: &[Flow]) -> bool {
    let name = visit.url.split('/').nth(2).unwrap_or_default();
    flows.iter().any(|flow| {
        flow.is_for(name)
            && flow.sport == visit.fetched.port
            && flow.dst.is_ipv4() == (visit.family == Family::V4)
            && flow.verdict == "trusted"
            && flow.ja4.is_some()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::Fetched;

    fn flow(name: &str, verdict: &str, packets: u64) -> Flow {
        let json = format!(
            r#"{{"src":"192.168.77.10","sport":4000,"dst":"203.0.113.10","dport":443,
                "transport":"tcp","verdict":"{verdict}","reason":"hello_clean","sni":"{name}",
                "ja4":"t13d0205h2_62ed6f6ca7ad_9a0586ea5dd0","inspected_packets":7,
                "original_packets":10,"original_bytes":700,"reply_packets":{packets},
                "reply_bytes":17000000,"idle_s":0,"age_s":1}}"#
        );
        serde_json::from_str(&json).unwrap()
    }

    fn facts() -> Facts {
        let status = r#"{"pid":7,"state":"active","ready_ms":80,"generation":1,"config_errors":[],"config_warnings":[],
            "features":[],"lists":[{"name":"known_bad","entries":3,"packets":12,"flows":0}],
            "interfaces":[{"name":"wan","device":"wan","rx_bytes":9,"tx_bytes":9,"counters":{
                "xdp_drop_listed":12,"xdp_drop_syn_rate":9400,"xdp_pass":1}}],
            "netfilter":{"backend":"nft","applied":true,"reapplied":0,"counters":{}},
            "queue":{"first":5,"count":1,"workers":1,"engine":{},"kernel":{},"inspecting":0,
                "unattended":{"times":0,"seconds":0,"packets":0,"flows":0},"latency":[]},
            "flows":{"entries":1,"expired":0,"held":0,"held_refused":0,"reinspected":0},
            "drops":[],"ddos":{"victims":[],"offenders":[],"blocked":[],"scanners":[],"known":0,
                "attacked":[]},
            "signatures":{"rulesets":[],"kib":0,"cap_kib":0,"load_ms":0,"unlogged":0},
            "domain_lists":[],"domain_set":{"names":0,"kib":0,"cap_kib":0,"load_ms":0},"rules":[],
            "offload":{"mode":"none","guarded":false,"guards":0,"blind":[]}}"#;
        let fetched = Fetched { exit: 0, status: 200, bytes: 1, port: 4000, error: String::new() };
        let visit = Visit {
            who: "client1",
            url: "https://video.test/x".to_owned(),
            family: Family::V4,
            wanted: true,
            fetched,
        };
        let mut v6 = flow("video.test", "trusted", 12_000);
        v6.dst = "2001:db8::1".parse().unwrap();
        Facts {
            visits: vec![visit],
            stranger_served: true,
            flood: 10_000,
            flows: vec![flow("video.test", "trusted", 12_000), v6],
            status: serde_json::from_str(status).unwrap(),
            answers: vec![("sluice why ads.test".to_owned(), "blocked by no_ads\n".to_owned())],
            rates: Some(Rates {
                empty_xdp: [vec![[990.0, 980.0]], vec![[800.0, 800.0]]],
                sluice: [
                    vec![[1000.0, 980.0], [990.0, 970.0], [561.0, 550.0]],
                    vec![[800.0, 800.0]],
                ],
                queued: [vec![[1000.0, 100.0]], vec![[800.0, 80.0]]],
            }),
        }
    }

    #[test]
    fn the_summary_says_what_happened_and_fits_a_terminal() {
        let text = text(&facts());
        for part in [
            "video.test               192.168.77.10 -> 203.0.113.10:443",
            "7 packets inspected, then 12,010 (17.0 MB) on the fast path",
            "wan (wan), XDP                  12  address is on a list",
            "list known_bad (3 entries) dropped 12 packets",
            "blocked by no_ads",
            "router with Sluice                        970    98 %        800   100 %",
            "9,400 of 10,000 SYN packets",
        ] {
            assert!(text.contains(part), "{part} in\n{text}");
        }
        let widest = text.lines().max_by_key(|line| line.chars().count()).unwrap();
        assert!(widest.chars().count() <= 110, "{widest}");
    }

    #[test]
    fn a_demo_that_shows_less_has_failed() {
        assert_eq!(failures(&facts()), [""; 0]);
        let changes: [fn(&mut Facts); 7] = [
            |facts| facts.flows.clear(),
            |facts| facts.flows[0].verdict = "undecided".to_owned(),
            |facts| facts.flows[0].ja4 = None,
            |facts| facts.flows[1].reply_packets = 5,
            |facts| facts.visits[0].fetched.status = 0,
            |facts| facts.stranger_served = false,
            |facts| facts.status.interfaces.clear(),
        ];
        for (index, change) in changes.into_iter().enumerate() {
            let mut facts = facts();
            change(&mut facts);
            assert!(!failures(&facts).is_empty(), "change {index}");
        }
    }

    #[test]
    fn names_from_the_network_cannot_act_on_a_terminal() {
        let mut facts = facts();
        facts.flows[0].sni = Some("\u{1b}[2Jx".to_owned());
        assert!(!text(&facts).contains('\u{1b}'));
    }
}

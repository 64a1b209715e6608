//! The features, as a person knows them.

use super::switch::Only;
use super::{Feature, Need, Place, Setting, Switch};

const fn any(name: &'static str) -> Need {
    Need { name, place: Place::Anywhere }
}

const fn setting(option: &'static str, on: &'static str, off: &'static str) -> Setting {
    Setting { option, on, off }
}

const fn main(option: &'static str, on: &'static str, off: &'static str) -> Switch {
    Switch::Section { kind: "sluice", setting: setting(option, on, off) }
}

const fn ddos(option: &'static str) -> Switch {
    Switch::Section { kind: "ddos", setting: setting(option, "1", "0") }
}

const fn feature(
    name: &'static str,
    needs: &'static [Need],
    told: &'static [&'static str],
    switch: Switch,
    about: &'static str,
) -> Feature {
    Feature { name, about, needs, told, switch }
}

const INSPECTION: &[Need] = &[any("inspection")];
const SHIELD: &[Need] = &[any("shield")];
const DDOS: &[Need] = &[any("ddos")];

/// Every feature.
#[rustfmt::skip]
pub const TABLE: &[Feature] = &[
    feature("shield", &[], &["shield ", "programs", "maps"],
        Switch::Interfaces(setting("xdp", "auto", "off")),
        "drops packets before they cost anything"),
    feature("fast_path", &[], &["fast path ", "programs", "maps"],
        Switch::Interfaces(setting("tc", "1", "0")),
        "handles flows that are decided, and counts them"),
    feature("inspection", &[], &["inspection"],
        Switch::Interfaces(setting("inspect", "1", "0")),
        "decides about flows by their first packets"),
    feature("blocklists", SHIELD, &[],
        Switch::Sections { kind: "blocklist", only: Only::Without(&["observe"]) },
        "drops packets from and to listed addresses"),
    feature("observed_lists", INSPECTION, &[],
        Switch::Sections { kind: "blocklist", only: Only::With(&["observe"]) },
        "counts flows that blocklists which observe would block"),
    feature("domainlists", INSPECTION, &[],
        Switch::Sections { kind: "domainlist", only: Only::Any },
        "blocks or counts flows to listed names"),
    feature("rules", INSPECTION, &[],
        Switch::Sections { kind: "rule", only: Only::Without(&["limit", "mark"]) },
        "allows, blocks, rejects, counts or pauses flows"),
    feature("limits", &[any("inspection"), any("fast_path")], &[],
        Switch::Sections { kind: "rule", only: Only::With(&["limit", "mark"]) },
        "holds flows to rates and gives them code points"),
    feature("signatures", INSPECTION, &[],
        Switch::Sections { kind: "ruleset", only: Only::Any },
        "compares packets that are inspected with rulesets"),
    feature("ddos", &[Need { name: "shield", place: Place::Wan }], &[],
        ddos("enabled"),
        "holds strangers to rates, and drops what cannot be"),
    feature("bogons", DDOS, &[],
        ddos("bogons"),
        "drops sources in reserved ranges"),
    feature("private_sources", DDOS, &["private sources"],
        ddos("private_sources"),
        "drops private sources from outside"),
    feature("syn_validation", DDOS, &["syn validation"],
        ddos("syn_validation"),
        "protects destinations under a SYN flood"),
    feature("spread", SHIELD, &["spread "],
        main("spread", "auto", "off"),
        "shares packets out to all processors"),
    feature("dns_names", &[], &["names from DNS"],
        main("dns_names", "2048", "0"),
        "knows names of flows from DNS"),
    feature("device_names", &[], &["device names"],
        main("device_names", "1", "0"),
        "calls devices by the names of their leases"),
    feature("offload_guard", &[], &["flow offload"],
        main("manage_offload", "guard", "off"),
        "keeps the firewall's offload to trusted flows"),
    feature("own_offload", INSPECTION, &["flow offload"],
        main("offload", "software", "none"),
        "offloads trusted flows where the firewall does not"),
    feature("ubus", &[], &["ubus"],
        main("ubus", "on", "off"),
        "offers object sluice on ubus"),
    feature("notify", &[], &["notify_script"],
        main("notify_script", "", ""),
        "starts a program for events"),
    feature("metrics", &[], &["metrics"],
        main("metrics_listen", "127.0.0.1:9616", ""),
        "offers figures to Prometheus"),
];

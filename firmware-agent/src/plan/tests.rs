use std::collections::BTreeSet;

use super::*;
use crate::config::{MarkMask, SECTIONS, XdpWish};
use sluice_abi::attach::Role;
use sluice_abi::shield::Rate;

mod costs;

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../config/");

/// One section of each kind.
const SAMPLE: &str = "\
config sluice main
	option app_file /apps
	option country_dir /countries
config interface wan
	option device eth0
	option role wan
config interface lan
	option device br-lan
	option role lan
config blocklist bad
	list entry 192.0.2.1
	list entry 198.51.100.0/24
config allowlist good
	list entry 192.0.2.128/25
	option role wan
config rule ads
	list domain ads.test
	list domain tracker.test
config rule slow
	option action limit
	option profile games
	list domain slow.test
config profile games
	option kbit 1000
config domainlist trackers
	list file /f
config schedule hours
	list slot 08:00-09:00
config group all
	list device 192.0.2.1
config ruleset feed
	list file /s
config ignore these
	list net 192.0.2.1
config device tablet
	option mac 02:00:5e:10:00:07
config ddos limits
	option martians 1
";

fn plan(text: &str) -> Plan {
    let (config, _) = Config::parse(text.as_bytes(), "f").unwrap();
    Plan::new(&config, 7).unwrap()
}

/// The sample, with `option` of the first section of type `kind` set to `value`.
fn with(kind: &str, option: &str, value: &str) -> Plan {
    // A name behind the type takes another one than the first.
    let space = if kind.contains(' ') { "" } else { " " };
    let section = SAMPLE.find(&format!("config {kind}{space}")).unwrap();
    let start = section + SAMPLE[section..].find('\n').unwrap() + 1;
    let end = SAMPLE[start..].find("config ").map_or(SAMPLE.len(), |len| start + len);
    let is_it = |line: &&str| line.split_whitespace().nth(1) == Some(option);
    let kept: String = SAMPLE[start..end]
        .split_inclusive('\n')
        .filter(|line| !is_it(line))
        .chain([format!("\toption {option} '{value}'\n").as_str()])
        .collect();
    plan(&format!("{}{kept}{}", &SAMPLE[..start], &SAMPLE[end..]))
}

/// Section, option, another value, and what it costs to get there.
#[rustfmt::skip]
const OPTIONS: &[(&str, &str, &str, Change)] = {
    use Change::{None, Reattach, Reload, Update};
    &[
        ("sluice", "enabled", "0", Reload),
        ("sluice", "policy", "closed", Reload),
        ("sluice", "on_error", "drop", Update),
        ("sluice", "mark_mask", "0x1c000000", Reload),
        ("sluice", "queue", "7", Reload),
        ("sluice", "queues", "2", Reload),
        ("sluice", "queue_share", "9", Update),
        ("sluice", "workers", "2", Reload),
        ("sluice", "netfilter", "nft", Reload),
        ("sluice", "window_packets", "11", Reload),
        ("sluice", "window_bytes", "5000", Reload),
        ("sluice", "inspect_flows", "101", Reload),
        ("sluice", "inspect_memory_kib", "301", Reload),
        ("sluice", "flows", "401", Reload),
        ("sluice", "held_flows", "65", Reload),
        ("sluice", "reinspect_percent", "2", Update),
        ("sluice", "reinspect_after_s", "22", Update),
        ("sluice", "reinspect_mib", "23", Update),
        ("sluice", "reinspect_age_s", "24", Update),
        ("sluice", "reinspect_turn_mib", "25", Update),
        ("sluice", "reinspect_requests", "0", Update),
        ("sluice", "idle_tcp_s", "12", Update),
        ("sluice", "idle_udp_s", "13", Update),
        ("sluice", "block_s", "20", Update),
        ("sluice", "sweep_s", "14", Update),
        ("sluice", "on_crash", "detach", Update),
        ("sluice", "pin_dir", "/p", Reload),
        ("sluice", "run_dir", "/r", Reload),
        // Read by the agent itself.
        ("sluice", "log_level", "debug", None),
        ("sluice", "list_memory_kib", "4096", Update),
        ("sluice", "domain_memory_kib", "4096", Update),
        ("sluice", "signature_memory_kib", "4096", Update),
        ("sluice", "management", "192.0.2.99", Update),
        ("sluice", "manage_offload", "off", Update),
        ("sluice", "clock", "trust", Update),
        // Counts at a start only.
        ("sluice", "established", "trust", None),
        // What is in it counts.
        ("sluice", "app_file", "/f", None),
        ("sluice", "country_dir", "/f", None),
        ("sluice", "dns_names", "31", Update),
        ("sluice", "dns_names", "0", Reload),
        ("sluice", "device_names", "0", Update),
        ("sluice", "dhcp_config", "/d", Update),
        ("sluice", "ubus", "/u", Update),
        ("sluice", "notify_script", "/n", Update),
        ("sluice", "mute", "alert", Update),
        ("sluice", "metrics_listen", "127.0.0.1:9", Update),
        ("sluice", "memory_kib", "65536", Update),
        ("sluice", "offload", "software", Update),
        ("sluice", "spread", "on", Update),
        ("interface", "device", "eth9", Reattach),
        ("interface", "role", "lan", Reattach),
        ("interface", "xdp", "native", Reattach),
        ("interface", "tc", "0", Reattach),
        ("interface", "inspect", "0", Update),
        ("interface", "policy", "closed", Reload),
        ("ignore", "enabled", "0", Update),
        ("ignore", "net", "192.0.2.9", Update),
        ("ignore", "device", "02:00:5e:10:00:09", Update),
        ("ignore", "port", "9", Update),
        ("device", "mac", "02:00:5e:10:00:09", Update),
        ("device", "name", "tablet", Update),
        ("blocklist", "enabled", "0", Update),
        ("blocklist", "entry", "192.0.2.9", Update),
        ("allowlist", "enabled", "0", Update),
        ("allowlist", "entry", "192.0.2.9", Update),
        ("allowlist", "role", "lan", Update),
        ("allowlist", "until", "2030-01-01T00:00:00Z", Update),
        ("rule", "enabled", "0", Update),
        ("rule", "action", "allow", Update),
        ("rule", "domain", "other.test", Update),
        ("rule slow", "kbit", "9", Update),
        ("rule slow", "burst_kib", "9", Update),
        // The rule blocks.
        ("rule", "kbit", "9", None),
        ("rule", "burst_kib", "9", None),
        ("rule", "profile", "video", None),
        ("rule", "ip", "192.0.2.9", Update),
        ("rule", "port", "9", Update),
        ("rule", "ja3", "e7d705a3286e19ea42f587b344ee6865", Update),
        ("rule", "ja4", "t13d1516h2_8daaf6152771_e5627efa2ab1", Update),
        ("rule", "fingerprint_file", "/f", Update),
        ("rule", "ja3s", "e7d705a3286e19ea42f587b344ee6865", Update),
        ("rule", "ja3s_file", "/f", Update),
        ("rule", "certificate", "e7d705a3286e19ea42f587b344ee6865e7d705a3", Update),
        ("rule", "certificate_file", "/f", Update),
        ("rule", "protocol", "tls", Update),
        ("rule", "device", "192.0.2.9", Update),
        ("rule", "group", "all", Update),
        ("rule", "zone", "lan", Update),
        ("rule", "schedule", "hours", Update),
        ("rule", "app", "video", Update),
        ("rule", "country", "de", Update),
        ("rule", "until", "2030-01-01T00:00:00Z", Update),
        ("schedule", "day", "mon", Update),
        ("schedule", "slot", "08:00-10:00", Update),
        ("group", "device", "192.0.2.9", Update),
        ("profile", "class", "voice", Update),
        ("profile", "dscp", "ef", Update),
        ("profile", "priority", "3", Update),
        ("profile", "kbit", "9", Update),
        ("profile", "burst_kib", "9", Update),
        ("ddos", "enabled", "0", Update),
        ("ddos", "source_pps", "15", Update),
        ("ddos", "syn_pps", "17", Update),
        ("ddos", "icmp_pps", "5", Update),
        ("ddos", "connections_pm", "5", Update),
        ("ddos", "destination_pps", "5", Update),
        ("ddos", "destination_syn_pps", "5", Update),
        ("ddos", "amplification_pps", "5", Update),
        ("ddos", "source_prefix_v6", "19", Update),
        ("ddos", "source_burst", "16", Update),
        ("ddos", "syn_burst", "16", Update),
        ("ddos", "icmp_burst", "16", Update),
        ("ddos", "connections_burst", "16", Update),
        ("ddos", "destination_burst", "16", Update),
        ("ddos", "destination_syn_burst", "16", Update),
        ("ddos", "amplification_burst", "16", Update),
        ("ddos", "bucket_sets", "128", Reload),
        ("ddos", "bogons", "1", Update),
        ("ddos", "private_sources", "1", Update),
        ("ddos", "martians", "0", Update),
        ("ddos", "tcp_flags", "0", Update),
        ("ddos", "multicast_exempt", "0", Update),
        ("ddos", "scan_ports", "0", Update),
        ("ddos", "block_s", "7", Update),
        ("ddos", "block_max", "8", Update),
        ("ddos", "never_block", "192.0.2.9", Update),
        ("ddos", "syn_validation", "1", Update),
        ("ddos", "syn_backlog", "9", None),
        ("ddos", "syn_ratio", "9", None),
        ("ddos", "attacked_syn_pps", "9", Update),
        ("ddos", "attacked_syn_burst", "9", Update),
        ("domainlist", "enabled", "0", Update),
        // Have done their work when the configuration is read.
        ("domainlist", "file", "/g", None),
        ("domainlist", "max_entries", "9", None),
        ("domainlist", "action", "observe", Update),
        ("blocklist", "action", "observe", Update),
        ("ruleset", "enabled", "0", Update),
        ("ruleset", "enforce", "1", Update),
        ("ruleset", "home_net", "192.0.2.0/24", Update),
        ("ruleset", "file", "/g", Update),
        ("blocklist", "file", "/f", None),
        ("blocklist", "max_entries", "9", None),
        ("allowlist", "file", "/f", None),
        ("allowlist", "max_entries", "9", None),
    ]
};

#[test]
fn every_option_reaches_the_plan_and_costs_what_its_kind_of_change_costs() {
    let old = plan(SAMPLE);
    for (kind, option, value, cost) in OPTIONS.iter().copied() {
        // A role is changed on a router that has the other one twice.
        let new = if option == "role" && kind == "interface" {
            let more = format!("{SAMPLE}config interface b\noption device b\noption role wan\n");
            let (mut config, _) = Config::parse(more.as_bytes(), "f").unwrap();
            config.interfaces.pop();
            config.interfaces[0].role = Role::Lan;
            Plan::new(&config, 7).unwrap()
        } else {
            with(kind, option, value)
        };
        assert_eq!(old.change(&new), cost, "{kind}.{option}");
        assert_eq!(new.change(&old), cost, "{kind}.{option}, back");
    }
}

#[test]
fn the_dearest_of_several_changes_counts() {
    let old = plan(SAMPLE);
    assert_eq!(old.change(&old), Change::None);
    let mut new = old.clone();
    new.sweep += Duration::from_secs(1);
    assert_eq!(old.change(&new), Change::Update);
    new.dataplane.interfaces[0].xdp = XdpWish::Off;
    assert_eq!(old.change(&new), Change::Reattach);
    new.dataplane.sizes.bucket_sets *= 2;
    assert_eq!(old.change(&new), Change::Reload);
}

#[test]
fn an_interface_more_is_attached_to_and_one_less_is_left() {
    let old = plan(SAMPLE);
    let new =
        plan(&format!("{SAMPLE}config interface guest\noption device br-guest\noption role lan\n"));
    assert_eq!((old.change(&new), new.change(&old)), (Change::Reattach, Change::Reattach));
    // Not inspected: it must not be in the rules.
    let quiet = plan(&format!(
        "{SAMPLE}config interface guest\noption device br-guest\noption role lan\noption inspect 0\n"
    ));
    assert!(new.ruleset.devices().ne(old.ruleset.devices()));
    assert!(quiet.ruleset.devices().eq(old.ruleset.devices()));
}

#[test]
fn interfaces_keep_their_order_their_role_and_what_is_wanted_there() {
    let text = "config interface a\noption device eth1\noption role wan\noption xdp native\n\
                config interface b\noption device eth0\noption role lan\noption xdp off\n\
                option tc 0\nconfig interface c\noption device eth2\noption role lan\n\
                option xdp generic\n";
    let interface = |name: &str, device: &str, role, slot, xdp, tc| InterfacePlan {
        name: name.to_owned(),
        device: device.to_owned(),
        role,
        slot,
        xdp,
        tc,
    };
    assert_eq!(
        plan(text).dataplane.interfaces,
        [
            interface("a", "eth1", Role::Wan, 0, XdpWish::Native, TcWish::Auto),
            interface("b", "eth0", Role::Lan, 1, XdpWish::Off, TcWish::Off),
            interface("c", "eth2", Role::Lan, 2, XdpWish::Generic, TcWish::Auto),
        ]
    );
}

/// A burst of 0 in a bucket lets nothing through; in the configuration it is one second's worth.
#[test]
fn programs_are_told_a_burst_whenever_they_are_told_a_rate() {
    let settings = |options: &str| {
        plan(&SAMPLE.replace("sluice main\n", &format!("sluice main\n{options}")))
            .dataplane
            .settings
    };
    let both =
        plan(&format!("{SAMPLE}option source_pps 700\noption syn_pps 30\noption syn_burst 60\n"));
    let both = both.dataplane.settings;
    assert_eq!(both.limits.source, Rate { per_second: 700, burst: 700 });
    assert_eq!(both.limits.source_syn, Rate { per_second: 30, burst: 60 });
    let mask = MarkMask::default();
    assert_eq!((both.mark_mask, both.mark_trusted), (mask.bits(), mask.trusted()));
    let flags = Settings::ENABLED | Settings::WATCHED | Settings::DNS;
    assert_eq!((both.flags, both.hash_key), (flags, 7));
    let quiet = "option policy closed\noption dns_names 0\n";
    assert_eq!(settings(quiet).flags, Settings::ENABLED);
    assert_eq!(settings("option enabled 0\n").flags & Settings::ENABLED, 0);
}

#[test]
fn lists_have_room_to_grow_in_powers_of_two() {
    for (entries, rounded) in [
        (0, LIST_FLOOR),
        (1, LIST_FLOOR),
        (819, 1024),
        (820, 2048),
        (65_536, 131_072),
        (262_144 * 64, 1 << 25),
    ] {
        assert_eq!(room(entries), rounded, "{entries}");
        assert!(rounded >= entries + entries / 4);
    }
}

#[test]
fn lists_are_measured_by_kind_of_entry_and_growth_within_the_room_is_no_restart() {
    let entries = |count: u32, len: &str| {
        (0..count).fold(String::new(), |text, n| {
            let addr = std::net::Ipv6Addr::from_bits(0x2001 << 112 | u128::from(n) << 16);
            text + &format!("list entry {addr}{len}\n")
        })
    };
    let with_list = |hosts, nets| {
        let (hosts, nets) = (entries(hosts, ""), entries(nets, "/112"));
        plan(&format!("{SAMPLE}config blocklist more\n{hosts}{nets}"))
    };
    let sizes = with_list(1_000, 3_000).dataplane.sizes;
    assert_eq!((sizes.block_hosts, sizes.block_nets), (2_048, 4_096));
    assert_eq!(
        (sizes.allow_nets, sizes.flows_keys, sizes.flow_slots),
        (LIST_FLOOR, 16_384, 10_240)
    );
    // IPv4, and IPv6 up to /64, is in the image.
    let image = (0..5_000).fold(String::new(), |text, n| {
        text + &format!("list entry 10.1.{}.{}\nlist entry 2001:{n:x}::/64\n", n / 250, n % 250)
    });
    let sizes = plan(&format!("{SAMPLE}config blocklist more\n{image}")).dataplane.sizes;
    assert_eq!((sizes.block_hosts, sizes.block_nets), (LIST_FLOOR, LIST_FLOOR));
    let old = with_list(10, 10);
    assert_eq!(old.change(&with_list(500, 700)), Change::Update);
    assert_eq!(old.change(&with_list(900, 10)), Change::Reload);
    assert_eq!(old.change(&with_list(10, 900)), Change::Reload);
}

#[test]
fn lists_that_do_not_count_are_left_out_and_the_others_are_numbered_without_gaps() {
    let text = format!(
        "{SAMPLE}config blocklist off\noption enabled 0\nlist entry 192.0.2.7\n\
         config blocklist last\nlist entry 203.0.113.0/24\n\
         config allowlist off2\noption enabled 0\nlist entry 192.0.2.7\n\
         config allowlist both\nlist entry 2001:db8::1\n"
    );
    let plan = plan(&text);
    let shown: Vec<(&str, Vec<String>)> = plan
        .lists
        .iter()
        .map(|list| (&*list.name, list.entries.iter().map(ToString::to_string).collect()))
        .collect();
    assert_eq!(
        shown,
        [
            ("bad", vec!["192.0.2.1".to_owned(), "198.51.100.0/24".to_owned()]),
            ("last", vec!["203.0.113.0/24".to_owned()]),
        ]
    );
    let allowed: Vec<_> =
        plan.allowed.iter().map(|(net, roles)| (net.to_string(), *roles)).collect();
    let (lan, wan) = (Role::Lan.bit(), Role::Wan.bit());
    assert_eq!(
        allowed,
        [("192.0.2.128/25".to_owned(), wan), ("2001:db8::1".to_owned(), lan | wan)]
    );
}

#[test]
fn rules_are_numbered_in_the_order_of_the_file_and_those_that_do_not_count_left_out() {
    let text = format!(
        "{SAMPLE}config rule off\noption enabled 0\nlist domain off.test\n\
         config rule work\noption action allow\nlist domain work.test\n"
    );
    let plan = plan(&text);
    let rules: Vec<_> = plan
        .rules
        .iter()
        .map(|rule| (rule.name.as_str(), rule.action, rule.domains.join(" ")))
        .collect();
    assert_eq!(
        rules,
        [
            ("ads", RuleAction::Block, "ads.test tracker.test".to_owned()),
            ("slow", RuleAction::Limit, "slow.test".to_owned()),
            ("work", RuleAction::Allow, "work.test".to_owned()),
        ]
    );
}

/// Inspection nowhere is a plan without queues, whatever the policy is; shield and fast path stay.
#[test]
fn without_inspection_there_are_neither_queues_nor_a_policy() {
    let off = |text: &str| plan(&text.replace("option role", "option inspect 0\noption role"));
    let closed = SAMPLE.replace("config sluice main", "config sluice main\noption policy closed");
    for text in [SAMPLE, &closed] {
        let (before, after) = (plan(text), off(text));
        assert!(before.ruleset.inspects() && !after.ruleset.inspects());
        assert!(!after.policy_open && after.ruleset.closed_queues().is_none());
        assert_eq!(after.dataplane.settings.flags & Settings::WATCHED, 0);
        assert_eq!(before.change(&after), Change::Reload);
        assert_eq!(after.change(&before), Change::Reload);
        assert_eq!(after.dataplane.interfaces, before.dataplane.interfaces);
    }
}

#[test]
fn the_default_and_every_example_give_a_plan_and_stay_put_when_nothing_changes() {
    let examples = std::fs::read_dir(format!("{ROOT}examples")).unwrap();
    let files: Vec<_> = examples
        .map(|entry| entry.unwrap().path())
        .chain([format!("{ROOT}sluice").into()])
        .collect();
    assert!(files.len() >= 5, "{files:?}");
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        let (first, again) = (plan(&text), plan(&text));
        assert_eq!(first.change(&again), Change::None, "{}", file.display());
        assert!(first.enabled && first.dataplane.interfaces.len() >= 2, "{}", file.display());
        // What `status` promises fits the maps.
        let hosts: u32 = first.lists.iter().map(|list| list.counts().hosts).sum();
        assert!(hosts <= first.dataplane.sizes.block_hosts);
    }
}

#[test]
fn a_rule_gives_its_flows_a_profile_and_a_rate() {
    let rule = |options: &str| {
        let text =
            format!("{SAMPLE}config rule x\noption action allow\nlist domain x.test\n{options}");
        *plan(&text).treatments.last().unwrap()
    };
    let limited = |kbit, burst| Treatment { profile: 0, kbit, burst };
    assert_eq!(rule(""), Treatment::default());
    assert_eq!(rule("option profile voice\n"), Treatment { profile: 4, ..limited(0, 0) });
    // 1000 kbit/s, 300 ms of which are less than the least burst of 64 KiB.
    assert_eq!(
        rule("option profile games\n"),
        Treatment { profile: 6, ..limited(1000, 64 * 8192) }
    );
    let limit = "option action limit\n";
    assert_eq!(rule(&format!("{limit}option kbit 8000\n")), limited(8000, 2_400_000));
    assert_eq!(
        rule(&format!("{limit}option kbit 8000\noption burst_kib 10\noption profile games\n")),
        Treatment { profile: 6, ..limited(8000, 10 * 8192) }
    );
    let whole = rule(&format!("{limit}option kbit 1000000\noption burst_kib 131072\n"));
    assert_eq!(whole, limited(FlowLimit::KBIT_MAX, FlowLimit::BURST_MAX));

    let flags = |options: &str| {
        let rule = format!("config rule x\naction allow\nlist domain x.test\n{options}");
        let rule = rule.replace("\naction", "\noption action");
        plan(&format!("{SAMPLE}{rule}")).dataplane.settings.flags & Settings::PROFILES
    };
    assert_eq!(flags("option profile voice\n"), Settings::PROFILES);
    // It has a rate, and no packet looks different.
    assert_eq!((flags("option profile games\n"), flags("")), (0, 0));

    let profiles = plan(SAMPLE).dataplane.profiles;
    assert_eq!(profiles[0], profile::Profile::default(), "the default leaves packets alone");
    assert_eq!(profiles[4], profile::Profile::new(Some(46), 6));
    assert_eq!(profiles[6], profile::Profile::default());
}

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::PathBuf;

use sluice_abi::attach::Role;
use sluice_abi::limits::{Limits, prefix_mask};
use sluice_abi::shield::Rate;

use super::*;

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../config/");

const INTERFACES: &str = "config interface wan\n\toption device eth0\n\toption role wan\n\
                          config interface lan\n\toption device br-lan\n\toption role lan\n";

fn file(name: &str) -> String {
    std::fs::read_to_string(format!("{ROOT}{name}")).unwrap()
}

fn parse(text: &str) -> Result<(Config, Vec<Warning>), ConfigError> {
    Config::parse(text.as_bytes(), "f")
}

/// A configuration that is right but for `text`, which starts on line 7.
fn with(text: &str) -> Result<(Config, Vec<Warning>), ConfigError> {
    parse(&format!("{INTERFACES}{text}"))
}

fn shown(remarks: &[Remark]) -> Vec<String> {
    remarks.iter().map(ToString::to_string).collect()
}

fn mistakes(text: &str) -> Vec<String> {
    shown(&with(text).unwrap_err().mistakes)
}

fn warnings(text: &str) -> Vec<String> {
    shown(&with(text).unwrap().1)
}

/// A directory that is removed with its files.
struct Dir(PathBuf);

impl Dir {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("sluice-{}-{name}", std::process::id()));
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn write(&self, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, text).unwrap();
        path
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// The text of `config/options.md`.
fn options_md() -> String {
    let mut text = "# Options of /etc/config/sluice\n\n\
         A value that is not accepted keeps the whole file from being used: the running \
         configuration stays,\nand every mistake is reported with its line. An unknown option is \
         only warned about.\n\nWhat the change of an option costs: *none* touches nothing that \
         packets meet; *update* is map writes and one\ntransaction of rules, and no packet notices; \
         *reattach* brings programs to and from interfaces, and decided\nflows stay; *reload* brings \
         the agent up anew: programs stay until the new ones take their place,\nand what is in maps stays where \
         their size does. Sections that come or go cost what their options do. `sluice reload` says what it took.\n\nFour \
         defaults are those of routers with 64, 128, 256 MiB of memory and with 512 or more.\n"
        .to_owned();
    for section in SECTIONS {
        let _ = write!(text, "\n## config {}\n{}\n\n", section.kind, section.about);
        text += "| option | type | range | default | cost | meaning |\n|---|---|---|---|---|---|\n";
        for option in section.options {
            let list = if option.is_list { "list of " } else { "" };
            let _ = writeln!(
                text,
                "| `{}` | {list}{} | {} | {} | {} | {} |",
                option.name,
                option.kind.name(),
                option.kind,
                option.default_shown(),
                option.cost,
                option.about
            );
        }
    }
    text
}

#[test]
fn the_default_file_gives_the_defaults() {
    let (config, warnings) = parse(&file("sluice")).unwrap();
    assert_eq!(shown(&warnings), [""; 0]);
    assert_eq!((config.main, config.ddos), (Main::default(), Ddos::default()));
    let devices: Vec<_> =
        config.interfaces.iter().map(|i| (i.name.as_str(), i.device.as_str(), i.role)).collect();
    assert_eq!(devices, [("wan", "wan", Role::Wan), ("lan", "br-lan", Role::Lan)]);
    assert!(config.blocklists.is_empty() && config.rules.is_empty());
}

#[test]
fn code_default_file_and_document_name_the_same_options_and_defaults() {
    // Every option that is commented out, put in force.
    let text = file("sluice").replace("\n#\t", "\n\t").replace("\n#config ", "\nconfig ");
    let (mut config, warnings) = parse(&text).unwrap();
    assert_eq!(shown(&warnings), [""; 0]);
    let examples = std::mem::take(&mut config.main.management);
    assert!(config.main.app_file.take().is_some() && config.main.country_dir.take().is_some());
    let notify = std::mem::take(&mut config.main.notify);
    assert_eq!((notify.mute.len(), notify.script.is_some()), (1, true));
    assert!(notify.metrics.is_some_and(|at| at.ip().is_loopback()));
    assert_eq!((config.main, examples.len()), (Main::default(), 1));
    assert_eq!(
        config.ddos,
        Ddos { never_block: config.ddos.never_block.clone(), ..Ddos::default() }
    );
    assert_eq!((config.blocklists.len(), config.allowlists.len(), config.rules.len()), (1, 1, 1));
    assert_eq!(config.domainlists.len(), 1);

    let mut remarks = Remarks::new("f".into());
    let package = Package::parse(text.as_bytes(), &mut remarks);
    for spec in SECTIONS {
        let of_kind = package.sections.iter().filter(|section| section.kind == spec.kind);
        let mut entries = of_kind.flat_map(|section| &section.entries);
        let named: BTreeSet<&str> = entries.clone().map(|entry| entry.name.as_str()).collect();
        let known: BTreeSet<&str> = spec.options.iter().map(|option| option.name).collect();
        assert_eq!(named, known, "{}", spec.kind);
        for option in spec.options {
            let entry = entries.find(|entry| entry.name == option.name).unwrap();
            assert_eq!(entry.is_list, option.is_list);
            let default = match option.fallback {
                Fallback::Value(default) | Fallback::ByRam([_, default, ..]) => Some(default),
                _ => None,
            };
            if let Some(default) = default {
                let values: Vec<_> =
                    entry.values.iter().map(|v| str::from_utf8(&v.bytes).unwrap()).collect();
                assert_eq!(values.join(" "), default, "{}.{}", spec.kind, option.name);
            }
        }
    }
    assert_eq!(file("options.md"), options_md());
}

#[test]
fn every_example_is_right() {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(format!("{ROOT}examples")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let (config, warnings) = parse(&file(&format!("examples/{name}"))).unwrap();
        assert_eq!(shown(&warnings), [""; 0], "{name}");
        assert!(config.main.enabled);
        names.push(name);
    }
    names.sort();
    assert_eq!(names, ["ddos.uci", "demo.uci", "home.uci", "office.uci"]);

    let (ddos, _) = parse(&file("examples/ddos.uci")).unwrap();
    assert_eq!(ddos.ddos.source, Rate { per_second: 5000, burst: 10_000 });
    assert_eq!(ddos.ddos.syn, Rate { per_second: 50, burst: 100 });
    assert_eq!(ddos.ddos.never_block.len(), 1);
    assert_eq!(ddos.allowlists[0].role_bits(), Role::Wan.bit());
    assert_eq!(ddos.blocklists[0].files, [PathBuf::from("/etc/sluice/attackers.list")]);
}

#[test]
fn grammar_and_option_mistakes_are_reported_together_in_the_order_of_lines() {
    let text = "config sluice main\n\toption queue 70000\n\tgarbage\n\toption policy maybe\n\
                config rule\n\tlist domain 'ok.example'\n\tlist domain 'b\u{fc}cher.example'\n";
    assert_eq!(
        mistakes(text),
        [
            "f:8: sluice.main.queue: '70000' is not 0 to 65535",
            "f:9: invalid command (byte 1)",
            "f:10: sluice.main.policy: 'maybe' is not one of open, closed",
            "f:13: sluice.@rule[0].domain: 'bücher.example' is not ASCII: write the form that \
             starts with xn--",
        ]
    );
    let error = with(text).unwrap_err();
    assert_eq!(error.to_string().lines().count(), 4);
}

#[test]
fn each_side_of_the_router_needs_an_interface_and_a_device_has_one_section() {
    let missing = |text: &str| shown(&parse(text).unwrap_err().mistakes);
    let both = missing("config sluice main\n");
    assert_eq!(both.len(), 2);
    assert!(both[0].contains("has the role wan") && both[1].contains("has the role lan"));
    let lan = missing("config interface a\noption device a\noption role wan\n");
    assert_eq!(lan.len(), 1);
    assert!(lan[0].contains("has the role lan"), "{lan:?}");

    assert_eq!(
        mistakes("config interface b\n\toption device eth0\n\toption role lan\n"),
        ["f:8: sluice.b.device: is the device of the section in line 2 already"]
    );
    assert_eq!(
        mistakes("config sluice a\nconfig sluice b\n"),
        ["f:8: sluice.b: there is one section of type sluice, in line 7"]
    );
}

#[test]
fn an_interface_behind_an_unreadable_line_is_not_also_called_missing() {
    let text = "config interface wan\n\toption device a\n\toption role wan\n\
                config interface 'l-an'\n\toption device b\n\toption role lan\n";
    assert_eq!(
        shown(&parse(text).unwrap_err().mistakes),
        ["f:4: invalid character in name field (byte 24)"]
    );
}

#[test]
fn each_option_of_the_main_section_lands_in_its_field() {
    let text = "config sluice main\noption enabled 0\noption policy closed\noption on_error drop\n\
                option mark_mask 0x1c\noption queue 7\noption queues 2\noption workers 3\noption queue_share 50\noption netfilter nft\n\
                option window_packets 11\noption window_bytes 5000\noption inspect_flows 101\n\
                option inspect_memory_kib 301\noption flows 401\noption idle_tcp_s 12\n\
                option idle_udp_s 13\noption block_s 20\noption sweep_s 14\noption on_crash detach\n\
                option pin_dir /p\noption run_dir /r\noption log_level debug\n\
                option held_flows 65\noption reinspect_percent 21\noption reinspect_after_s 22\n\
                option reinspect_mib 23\noption reinspect_age_s 24\noption reinspect_turn_mib 25\noption reinspect_requests 0\noption manage_offload off\noption offload software\n\
                option list_memory_kib 4096\noption domain_memory_kib 4097\nlist management 192.0.2.0/24\n\
                option spread auto\noption clock trust\noption established trust\noption app_file /a\noption country_dir /c\noption dns_names 31\noption device_names 0\noption dhcp_config /d\noption ubus /u\n\
                option notify_script /n\nlist mute alert\noption metrics_listen [::1]:9\noption memory_kib 7\n";
    let (config, warnings) = with(text).unwrap();
    assert_eq!(shown(&warnings), [""; 0]);
    assert_eq!(
        config.main,
        Main {
            enabled: false,
            policy: Policy::Closed,
            on_error: OnError::Drop,
            mark_mask: MarkMask::try_from(0x1c).unwrap(),
            queue: 7,
            queues: 2,
            queue_share: 50,
            workers: 3,
            netfilter: Backend::Nft,
            window_packets: 11,
            window_bytes: 5000,
            inspect_flows: 101,
            inspect_memory_kib: 301,
            flows: 401,
            held_flows: 65,
            reinspect_percent: 21,
            reinspect_after_s: 22,
            reinspect_mib: 23,
            reinspect_age_s: 24,
            reinspect_turn_mib: 25,
            reinspect_requests: false,
            idle_tcp_s: 12,
            idle_udp_s: 13,
            block_s: 20,
            sweep_s: 14,
            on_crash: OnCrash::Detach,
            pin_dir: "/p".into(),
            run_dir: "/r".into(),
            log_level: log::LevelFilter::Debug,
            list_memory_kib: 4096,
            management: vec!["192.0.2.0/24".parse().unwrap()],
            manage_offload: ManageOffload::Off,
            offload: OwnOffload::Software,
            domain_memory_kib: 4097,
            signature_memory_kib: 0,
            spread: SpreadWish::Auto,
            clock: Clock::Trust,
            established: Established::Trust,
            app_file: Some("/a".into()),
            country_dir: Some("/c".into()),
            dns_names: 31,
            device_names: false,
            dhcp_config: "/d".into(),
            ubus: Ubus::At("/u".into()),
            notify: Notify {
                script: Some("/n".into()),
                mute: vec![EventKind::Alert],
                metrics: Some("[::1]:9".parse().unwrap()),
            },
            memory_kib: 7,
        }
    );
}

#[test]
fn names_that_no_device_has_are_refused() {
    for device in ["sixteencharacter", "a/b", "a:b", "..", "a b", "lo", "\u{1b}x"] {
        let text = format!("config interface x\n\toption device '{device}'\n\toption role lan\n");
        let found = mistakes(&text);
        assert!(found.len() == 1 && found[0].starts_with("f:8: sluice.x.device: "), "{found:?}");
    }
    for device in ["fifteencharact1", "eth0.2", "pppoe-wan", "wlan0@x", "br_lan"] {
        let text = format!("config interface x\n\toption device '{device}'\n\toption role lan\n");
        assert_eq!(with(&text).unwrap().0.interfaces[2].device, device);
    }
}

#[test]
fn queues_do_not_run_over_the_last_number() {
    assert_eq!(
        mistakes("config sluice main\n\toption queue 65530\n\toption queues 7\n"),
        ["f:9: sluice.main.queues: 7 queues from 65530 on end above 65535"]
    );
    with("config sluice main\n\toption queue 65530\n\toption queues 6\n").unwrap();
}

#[test]
fn a_mark_mask_is_checked_and_its_neighbours_are_known() {
    assert_eq!(
        mistakes("config sluice main\n\toption mark_mask 0xd0000000\n"),
        ["f:8: sluice.main.mark_mask: '0xd0000000' has bits that are not neighbours"]
    );
    assert_eq!(
        warnings("config sluice main\n\toption mark_mask 0x700\n"),
        ["f:8: sluice.main.mark_mask: shares bits with 0x3f00, which mwan3 uses by default"]
    );
}

#[test]
fn a_burst_of_zero_is_as_much_as_the_rate_and_a_burst_alone_does_nothing() {
    let (config, _) = with("config ddos limits\n\toption source_pps 700\n").unwrap();
    assert_eq!(config.ddos.source, Rate { per_second: 700, burst: 700 });
    assert_eq!(config.ddos.syn, Rate::default());
    assert_eq!(
        warnings("config ddos limits\n\toption syn_burst 5\n\toption icmp_burst 5\n"),
        [
            "f:8: sluice.limits.syn_burst: is not used: syn_pps is 0",
            "f:9: sluice.limits.icmp_burst: is not used: icmp_pps is 0"
        ]
    );
    assert_eq!(
        mistakes("config ddos a\nconfig ddos b\n"),
        ["f:8: sluice.b: there is one section of type ddos, in line 7"]
    );
}

/// Each option of the section, by what it changes in what the programs are told.
#[test]
fn each_option_of_the_ddos_section_lands_in_its_field() {
    let text = "config ddos limits\noption source_pps 1\noption source_burst 2\noption syn_pps 3\n\
                option syn_burst 4\noption icmp_pps 5\noption icmp_burst 6\n\
                option connections_pm 7\noption connections_burst 8\noption destination_pps 9\n\
                option destination_burst 10\noption destination_syn_pps 11\n\
                option destination_syn_burst 12\noption amplification_pps 13\n\
                option amplification_burst 14\noption source_prefix_v6 56\n\
                option bucket_sets 128\noption bogons 1\noption private_sources 1\n\
                option martians 0\noption tcp_flags 0\noption multicast_exempt 0\n\
                option scan_ports 5\noption block_s 15\noption block_max 16\n\
                list never_block 192.0.2.0/24\noption syn_validation 1\n\
                option syn_backlog 17\noption syn_ratio 18\noption attacked_syn_pps 19\n\
                option attacked_syn_burst 20\n";
    let (config, warnings) = with(text).unwrap();
    assert_eq!(shown(&warnings), [""; 0]);
    let rate = |per_second, burst| Rate { per_second, burst };
    assert_eq!(
        config.ddos,
        Ddos {
            source: rate(1, 2),
            syn: rate(3, 4),
            icmp: rate(5, 6),
            connections: rate(7, 8),
            destination: rate(9, 10),
            destination_syn: rate(11, 12),
            amplification: rate(13, 14),
            source_prefix_v6: 56,
            bucket_sets: 128,
            checks: Limits::BOGON | Limits::PRIVATE | Limits::SCANS,
            scan_ports: 5,
            block_s: 15,
            block_max: 16,
            never_block: vec!["192.0.2.0/24".parse().unwrap()],
            syn_validation: true,
            syn_backlog: 17,
            syn_ratio: 18,
            attacked_syn: rate(19, 20),
        }
    );
    let limits = config.ddos.limits();
    assert_eq!(limits.checks, Limits::BOGON | Limits::PRIVATE | Limits::SCANS);
    assert_eq!(
        (limits.source, limits.source_syn, limits.source_icmp, limits.connections),
        (rate(1, 2), rate(3, 4), rate(5, 6), rate(7, 8))
    );
    assert_eq!(
        (limits.destination, limits.destination_syn, limits.amplification),
        (rate(9, 10), rate(11, 12), rate(13, 14))
    );
    assert_eq!(limits.attacked_syn, rate(11, 12), "what is less counts");
    let usual = Ddos { destination_syn: rate(20, 21), ..config.ddos };
    assert_eq!(usual.limits().attacked_syn, rate(19, 20));
    assert_eq!(limits.source_mask_v6, prefix_mask(56));
    let checks = Ddos::default().limits().checks;
    let on = Limits::MARTIAN | Limits::TCP_FLAGS | Limits::MULTICAST_EXEMPT | Limits::SCANS;
    assert_eq!(checks, on);
}

/// Numbers stay in the file for the day when the section counts again.
#[test]
fn a_ddos_section_that_does_not_count_does_nothing_to_anybody() {
    let text = "config ddos limits\noption enabled 0\noption source_pps 1\noption syn_pps 3\n\
                option icmp_pps 5\noption connections_pm 7\noption destination_pps 9\n\
                option destination_syn_pps 11\noption bogons 1\noption private_sources 1\n\
                option syn_validation 1\n";
    let off = with(text).unwrap().0.ddos;
    let limits = off.limits();
    let none = Rate::default();
    for rate in [
        limits.source,
        limits.source_syn,
        limits.source_icmp,
        limits.connections,
        limits.destination,
        limits.destination_syn,
        limits.amplification,
    ] {
        assert_eq!(rate, none);
    }
    assert_eq!((limits.checks, off.scan_ports, off.block_s, off.syn_validation), (0, 0, 0, false));
    let on = with(&text.replace("enabled 0", "enabled 1")).unwrap().0.ddos;
    assert_eq!((on.source.per_second, on.block_s, on.syn_validation), (1, 600, true));
    assert_eq!(on.bucket_sets, off.bucket_sets);
}

#[test]
fn a_blocklist_refuses_what_would_lock_out_and_an_allowlist_takes_it() {
    let text = "config blocklist bad\n\tlist entry 192.0.2.1\n\tlist entry 127.0.0.0/8\n\
                \tlist entry ::1\n\tlist entry 0.0.0.0/0\n\tlist entry ff02::1\n";
    assert_eq!(
        mistakes(text),
        [
            "f:9: sluice.bad.entry: '127.0.0.0/8' overlaps 127.0.0.0/8 (loopback), which is never \
             blocked",
            "f:10: sluice.bad.entry: '::1' overlaps ::1 (loopback), which is never blocked",
            "f:11: sluice.bad.entry: '0.0.0.0/0' is wider than /8, the widest IPv4 prefix of a \
             list",
            "f:12: sluice.bad.entry: 'ff02::1' overlaps ff00::/8 (multicast, neighbour discovery), \
             which is never blocked",
        ]
    );
    let (config, warnings) = with(&text.replace("blocklist", "allowlist")).unwrap();
    assert_eq!((config.allowlists[0].entries.len(), warnings.len()), (5, 0));
    assert_eq!(config.allowlists[0].roles, [Role::Lan, Role::Wan]);
}

#[test]
fn entries_are_kept_once_and_host_bits_are_cleared_with_a_warning() {
    let text = "config blocklist\n\tlist entry 192.0.2.77/24\n\tlist entry 192.0.2.0/24\n\
                \tlist entry 192.0.2.1\n";
    let (config, warnings) = with(text).unwrap();
    let entries: Vec<_> = config.blocklists[0].entries.iter().map(ToString::to_string).collect();
    assert_eq!(entries, ["192.0.2.0/24", "192.0.2.1"]);
    assert_eq!(
        shown(&warnings),
        ["f:8: sluice.@blocklist[0].entry: is used as 192.0.2.0/24: bits behind the prefix are \
          cleared"]
    );
    assert_eq!(
        mistakes(
            "config blocklist b\n\tlist entry 192.0.2.1\n\tlist entry 192.0.2.2\n\
                  \toption max_entries 1\n"
        ),
        ["f: sluice.b.entry: has 2 entries, more than max_entries"]
    );
}

/// R42: classes come from a file; what is wrong in it is told by its line.
#[test]
fn classes_of_applications_are_read_from_their_file() {
    let dir = Dir::new("apps");
    let file = dir.0.join("apps");
    let text = |class: &str| {
        format!(
            "{INTERFACES}config sluice main\n\toption app_file {}\nconfig rule r\n\tlist app {class}\n",
            file.display()
        )
    };
    let load = |class: &str| {
        let path = dir.0.join("sluice");
        std::fs::write(&path, text(class)).unwrap();
        Config::load(&path).map_err(|error| shown(&error.mistakes))
    };
    let name = file.display();
    std::fs::write(&file, "video: a.example\ngames: b.example\n").unwrap();
    let (config, _) = load("games").unwrap();
    assert_eq!((config.apps.names.len(), config.apps.domains.len()), (2, 2));
    let unknown = load("books").unwrap_err();
    assert_eq!(unknown.len(), 1);
    assert!(unknown[0].ends_with(&format!("sluice.r.app: there is no class books in {name}")));
    std::fs::write(&file, "video: a.example\nb.example\n").unwrap();
    let wrong = format!("{name}:2: is not a class, a colon and domains");
    assert_eq!(load("video").unwrap_err(), [wrong]);
    std::fs::remove_file(&file).unwrap();
    assert!(load("video").unwrap_err()[0].contains("cannot be read"));
    assert_eq!(
        mistakes("config rule r\n\tlist app video\n"),
        ["f:7: sluice.r.app: needs option app_file in the section of type sluice"]
    );
}

/// R169: the networks of countries come from files; what is wrong is told by file and line.
#[test]
fn networks_of_countries_are_read_from_their_files() {
    let dir = Dir::new("countries");
    let load = |country: &str| {
        let path = dir.0.join("sluice");
        let text = format!(
            "{INTERFACES}config sluice main\n\toption country_dir {}\nconfig rule r\n\tlist country {country}\n",
            dir.0.display()
        );
        std::fs::write(&path, text).unwrap();
        Config::load(&path).map(|(config, _)| config).map_err(|error| shown(&error.mistakes))
    };
    let place = |text: &str| text.parse::<std::net::IpAddr>().unwrap().into();
    std::fs::write(dir.0.join("de.zone"), "# ours\n192.0.2.0/24 # why\n").unwrap();
    std::fs::write(dir.0.join("de.txt"), "2001:db8::/32\n").unwrap();
    std::fs::write(dir.0.join("at.txt"), "198.51.100.0/24\nhere\n").unwrap();
    let config = load("DE").unwrap();
    assert_eq!(config.rules[0].countries, ["de"]);
    for (address, country) in
        [("192.0.2.9", Some("de")), ("2001:db8::9", Some("de")), ("198.51.100.1", None)]
    {
        let found = config.countries.find(place(address));
        assert_eq!(found.and_then(|found| config.countries.name(found)), country, "{address}");
    }
    let at = dir.0.join("at.txt");
    let wrong = format!("{}:2: 'here' is not an address or prefix", at.display());
    assert_eq!(load("at").unwrap_err(), [wrong]);
    let absent = load("fr").unwrap_err();
    assert_eq!(absent.len(), 1);
    assert!(absent[0].contains("sluice.r.country: no fr.zone and no fr.txt in "), "{absent:?}");
    assert_eq!(
        mistakes("config rule r\n\tlist country fr\n"),
        ["f:7: sluice.r.country: needs option country_dir in the section of type sluice"]
    );
    assert!(mistakes("config rule r\n\tlist country fra\n")[0].contains("is not two letters"));
}

#[test]
fn a_rule_that_marks_needs_a_profile_that_does() {
    let rule = "config rule r\n\tlist domain a.test\n\toption action mark\n";
    assert_eq!(mistakes(rule), ["f:9: sluice.r.profile: is required with action mark"]);
    let plain = format!("{rule}\toption profile slow\nconfig profile slow\n\toption kbit 9\n");
    assert_eq!(
        mistakes(&plain),
        ["f:7: sluice.r.profile: the profile slow has neither code point nor priority"]
    );
    for of in ["option priority 3", "option dscp cs0"] {
        let text = format!("{rule}\toption profile own\nconfig profile own\n\t{of}\n");
        assert_eq!(with(&text).unwrap().0.rules[0].action, RuleAction::Mark);
    }
}

#[test]
fn what_is_odd_is_warned_about() {
    assert_eq!(
        warnings("config interfaces x\n\toption a 1\nconfig colour\n"),
        [
            "f:7: sluice.x: unknown type of section, not used; did you mean interface?",
            "f:9: sluice.@colour[0]: unknown type of section, not used",
        ]
    );
    assert_eq!(
        warnings(
            "config rule a\n\tlist domain x.example\nconfig rule b\n\tlist domain X.example.\n\
             \toption action allow\n"
        ),
        ["f:9: sluice.b.domain: x.example has two actions, here and in a"]
    );
    assert_eq!(
        warnings("config blocklist b\n"),
        ["f:7: sluice.b.entry: is empty, and so is file: the list does nothing"]
    );
    assert_eq!(
        mistakes("config rule\n\toption action deny\n"),
        [
            "f:7: sluice.@rule[0].domain: is required, or app, ip, country, port, ja3, ja4, fingerprint_file, \
             ja3s, ja3s_file, certificate, certificate_file, protocol, device, group or zone",
            "f:8: sluice.@rule[0].action: 'deny' is not one of allow, block, reject, limit, \
             mark, observe, pause",
        ]
    );
}

#[test]
fn more_sections_than_the_kernel_maps_have_slots_are_refused() {
    let lists = "config blocklist\n\tlist entry 192.0.2.1\n".repeat(63);
    assert_eq!(mistakes(&lists), ["f: sluice: has 63 sections of type blocklist, 62 are allowed"]);
    with(&lists[..lists.len() - 1].replacen("config blocklist\n\tlist entry 192.0.2.1\n", "", 1))
        .unwrap();
}

#[test]
fn loading_reads_the_files_of_the_lists() {
    let dir = Dir::new("lists");
    let bad = dir.write("bad", "192.0.2.9\n192.0.2.1 # twice\nnonsense\n127.0.0.1\n");
    let good = dir.write("good", "2001:db8::/32\n");
    let text = format!(
        "{INTERFACES}config blocklist b\n\tlist entry 192.0.2.1\n\tlist file {}\n\
         config allowlist a\n\tlist file {}\nconfig blocklist off\n\toption enabled 0\n\
         \tlist file /nonexistent\n",
        bad.display(),
        good.display()
    );
    let path = dir.write("sluice", &text);
    let (config, warnings) = Config::load(&path).unwrap();
    let entries = |entries: &[Net]| entries.iter().map(ToString::to_string).collect::<Vec<_>>();
    // A blocklist's files are read again when they are needed.
    assert_eq!(entries(&config.blocklists[0].entries), ["192.0.2.1"]);
    let [source] = &config.blocklists[0].sources[..] else { unreachable!() };
    assert_eq!(source.counts, Counts { v4: 2, ..Counts::default() });
    let read = || {
        let mut found = Vec::new();
        source.entries(|net, line| found.push(format!("{line}:{net}"))).map(|()| found)
    };
    assert_eq!(read().unwrap(), ["1:192.0.2.9", "2:192.0.2.1"]);
    let one = source.find(|net| net.to_string() == "192.0.2.1");
    assert_eq!(one.map(|(_, line)| line), Some(2));
    // The same bytes are the same file, whenever they were written.
    dir.write("bad", "192.0.2.9\n192.0.2.1 # twice\nnonsense\n127.0.0.1\n");
    assert_eq!(Config::load(&path).unwrap().0.blocklists[0].sources, config.blocklists[0].sources);
    dir.write("bad", "192.0.2.9\n192.0.2.1 # twice\nnonsense\n127.0.0.2\n");
    assert_ne!(Config::load(&path).unwrap().0.blocklists[0].sources, config.blocklists[0].sources);
    assert!(read().unwrap_err().to_string().contains("has changed"));
    assert_eq!(entries(&config.allowlists[0].entries), ["2001:db8::/32"]);
    let places: Vec<_> = warnings.iter().map(|w| (w.file.to_string(), w.line)).collect();
    let bad = bad.display().to_string();
    assert_eq!(places, [(bad.clone(), 3), (bad, 4)]);

    // Read as text only, the files are left alone.
    assert_eq!(parse(&text).unwrap().0.blocklists[0].entries.len(), 1);
}

#[test]
fn a_list_file_that_cannot_be_used_is_a_mistake_on_its_line() {
    let dir = Dir::new("bad-lists");
    let many = dir.write("many", "192.0.2.1\n192.0.2.2\n192.0.2.3\n");
    let path = dir.write(
        "sluice",
        format!(
            "{INTERFACES}config blocklist b\n\tlist file /nonexistent\n\tlist file {}\n\
             \toption max_entries 2\n",
            many.display()
        ),
    );
    let error = Config::load(&path).unwrap_err();
    let lines: Vec<u32> = error.mistakes.iter().map(|mistake| mistake.line).collect();
    assert_eq!(lines, [8, 9]);
    assert!(error.mistakes.iter().all(|mistake| mistake.path == "sluice.b.file"));
    assert!(error.mistakes[0].reason.contains("No such file"), "{error}");
    assert!(error.mistakes[1].reason.contains("more than 2 entries"), "{error}");
}

#[test]
fn a_file_that_cannot_be_read_is_one_mistake() {
    for (path, reason) in [
        ("/nonexistent", "No such file"),
        ("/dev/null", "not a regular file"),
        ("/", "not a regular"),
    ] {
        let error = Config::load(Path::new(path)).unwrap_err();
        assert_eq!(error.mistakes.len(), 1, "{error}");
        assert!(error.to_string().starts_with(&format!("{path}: cannot be read: ")), "{error}");
        assert!(error.to_string().contains(reason), "{error}");
    }
}

#[test]
fn an_empty_file_asks_for_interfaces_only() {
    let error = parse("").unwrap_err();
    assert_eq!(error.mistakes.len(), 2);
    assert!(error.mistakes.iter().all(|mistake| mistake.reason.contains("interface")));
}

#[test]
fn a_limit_needs_a_rate_of_the_rule_or_of_its_profile() {
    let rule = |options: &str| format!("config rule r\n\tlist domain a.test\n{options}");
    let limit = "\toption action limit\n";
    let (config, warned) =
        with(&rule(&format!("{limit}\toption kbit 500\n\toption burst_kib 9\n"))).unwrap();
    assert_eq!(shown(&warned), [""; 0]);
    let read = &config.rules[0];
    assert_eq!((read.action, read.kbit, read.burst_kib), (RuleAction::Limit, 500, 9));
    assert_eq!(
        mistakes(&rule(limit)),
        ["f:9: sluice.r.kbit: is required with action limit, or a profile that has a rate"]
    );
    assert_eq!(
        mistakes(&rule(&format!("{limit}\toption profile video\n"))),
        ["f:7: sluice.r.profile: the profile video has no rate, and option kbit is 0"]
    );
    assert_eq!(
        mistakes(&rule("\toption action allow\n\toption profile vdeo\n")),
        ["f:7: sluice.r.profile: there is no profile vdeo"]
    );
    assert_eq!(
        warnings(&rule("\toption kbit 500\n\toption profile video\n")),
        [
            "f:9: sluice.r.kbit: is not used with this action",
            "f:10: sluice.r.profile: is not used with this action"
        ]
    );
    let slow = "config profile slow\n\toption kbit 300\n";
    with(&format!("{slow}{}", rule(&format!("{limit}\toption profile slow\n")))).unwrap();
}

#[test]
fn each_option_of_a_profile_lands_in_its_field_and_the_default_stays() {
    let text = "config profile games\n\toption class voice\n\toption dscp cs4\n\
                \toption priority 5\n\toption kbit 6\n\toption burst_kib 7\n\
                config profile bulk\n\toption dscp le\n\
                config profile calm\n\toption class video\n\
                config profile plain\n\toption class video\n\toption dscp none\n";
    let (config, _) = with(text).unwrap();
    let own = |name: &str, class, dscp| Profile {
        name: name.to_owned(),
        class,
        dscp,
        priority: 0,
        kbit: 0,
        burst_kib: 0,
    };
    let games = own("games", Class::Voice, Some(32));
    assert_eq!(
        config.profiles,
        [
            Profile { priority: 5, kbit: 6, burst_kib: 7, ..games },
            own("bulk", Class::None, Some(1)),
            own("calm", Class::Video, Some(34)),
            own("plain", Class::Video, None),
        ]
    );
    assert_eq!(mistakes("config profile default\n").len(), 1);
    let many = (0..11).fold(String::new(), |text, n| text + &format!("config profile p{n}\n"));
    assert_eq!(
        mistakes(&many),
        ["f:17: sluice.p10: there are 16 profiles at most, six of them always"]
    );
}

#[test]
fn a_rule_names_what_exists() {
    assert_eq!(
        mistakes(
            "config rule a\n\tlist group g\n\tlist zone dmz\n\tlist schedule s\n\
             config rule b\n\tlist zone lan\n\tlist device 192.0.2.1\n"
        ),
        [
            "f:7: sluice.a.group: there is no section g of type group",
            "f:7: sluice.a.zone: there is no section dmz of type interface",
            "f:7: sluice.a.schedule: there is no section s of type schedule",
        ]
    );
    let text =
        "config rule\n\tlist device laptop\n\tlist port 0x1\n\tlist ja4 x\n\toption until now\n";
    assert_eq!(mistakes(text).len(), 4, "{:?}", mistakes(text));
}

/// R43: files of fingerprints, also as SSLBL has them; one line that is wrong refuses the file.
#[test]
fn fingerprints_are_read_from_files() {
    let dir = Dir::new("fingerprints");
    let load = |text: &[u8]| {
        let file = dir.write("list.csv", text);
        let text =
            format!("{INTERFACES}config rule r\n\tlist fingerprint_file {}\n", file.display());
        Config::load(&dir.write("sluice", text)).map(|(config, _)| config.rules[0].listed.clone())
    };
    let ja4 = "t13d1516h2_8daaf6152771_e5627efa2ab1";
    let csv = format!(
        "# ja3_md5,Firstseen,Lastseen,Listingreason\r\nb386946a5a44d1ddcc843bc75336dfce,2017-07-14 \
         18:08:15,2019-07-27 20:42:54,Dridex\r\n\n{ja4} # twice\n{ja4}\n"
    );
    let expected = [
        Fingerprint::ja3("b386946a5a44d1ddcc843bc75336dfce").unwrap(),
        Fingerprint::ja4(ja4).unwrap(),
    ];
    assert_eq!(load(csv.as_bytes()).unwrap(), expected);
    for (text, why) in [
        (b"# a\nnone\n".to_vec(), "line 2 is neither"),
        (b"\xff\n".to_vec(), "is not UTF-8"),
        (vec![b'#'; 1 << 21], "is larger"),
        (format!("{ja4}\n").repeat(LISTED_MAX / 2).into_bytes(), "is larger"),
    ] {
        let mistakes = shown(&load(&text).unwrap_err().mistakes);
        assert!(mistakes.len() == 1 && mistakes[0].contains(why), "{mistakes:?}");
    }
}

#[test]
fn a_device_has_a_name_on_one_line_and_one_section() {
    let read = |text: &str| Config::parse(format!("{text}{INTERFACES}").as_bytes(), "f");
    let text = "config device a\n\toption mac 02:00:5E:10:00:01\n\toption name 'Küche'\n\
                config device\n\toption mac 02:00:5e:10:00:02\n";
    let (config, _) = read(text).unwrap();
    let names: Vec<_> = config.devices.iter().map(|device| device.name.as_deref()).collect();
    assert_eq!(names, [Some("Küche"), None]);
    let long = "x".repeat(64);
    let text = format!(
        "config device a\n\toption name x\nconfig device b\n\toption mac 02:00:5e:10:00:01\n\t\
         option name '{long}'\nconfig device c\n\toption mac 02-00-5e-10-00-01\n\toption name 'a\tb'\n"
    );
    let Err(error) = read(&text) else { panic!() };
    let shown = error.to_string();
    for mistake in [
        "f:1: sluice.a.mac: is required",
        "f:5: sluice.b.name: 'xxxxxx",
        "has not 1 to 63 characters on one line",
        "f:7: sluice.c.mac: 02:00:5e:10:00:01 has a section already",
        "f:8: sluice.c.name: 'a\\u{9}b' has not",
    ] {
        assert!(shown.contains(mistake), "{mistake}\n{shown}");
    }
}

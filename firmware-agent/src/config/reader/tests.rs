use super::*;
use crate::config::schema::SECTIONS;
use crate::config::uci::Package;
use crate::config::{
    Allowlist, Blocklist, Ddos, DomainList, Group, Ignore, Interface, Main, NamedDevice, Policy,
    Profile, Rule, RulesetSection, Schedule,
};

/// Reads `options` as a section of the type, and returns what was said.
fn remarks_of(spec: &'static SectionSpec, options: &str) -> (Vec<String>, Vec<String>) {
    let mut remarks = Remarks::new("f".into());
    let text = format!("config {} '{}'\n{options}", spec.kind, spec.example);
    let package = Package::parse(text.as_bytes(), &mut remarks);
    let section = &package.sections[0];
    let name = section.name.clone();
    let uci = Reader::new(section, &name, spec, &mut remarks);
    match spec.kind {
        "sluice" => drop(Main::read(uci)),
        "interface" => drop(Interface::read(name, uci)),
        "blocklist" => drop(Blocklist::read(name, uci)),
        "allowlist" => drop(Allowlist::read(name, uci)),
        "rule" => drop(Rule::read(name, uci)),
        "profile" => drop(Profile::read(name, uci)),
        "ddos" => drop(Ddos::read(uci)),
        "domainlist" => drop(DomainList::read(name, uci)),
        "schedule" => drop(Schedule::read(name, uci)),
        "group" => drop(Group::read(name, uci)),
        "ruleset" => drop(RulesetSection::read(name, uci)),
        "ignore" => drop(Ignore::read(uci)),
        "device" => drop(NamedDevice::read(uci)),
        kind => panic!("{kind}"),
    }
    let (mistakes, warnings) = remarks.finish();
    let text = |remarks: Vec<super::super::Remark>| {
        remarks.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    (text(mistakes), text(warnings))
}

fn spec(kind: &str) -> &'static SectionSpec {
    SECTIONS.into_iter().find(|spec| spec.kind == kind).unwrap()
}

#[test]
fn all_mistakes_are_reported_at_once_by_line_and_uci_path() {
    let (mistakes, _) = remarks_of(
        spec("interface"),
        "\toption role 'dmz'\n\toption xdp\t'fast'\n\toption tc '2'\n\tlist inspect '1'\n",
    );
    assert_eq!(
        mistakes,
        [
            "f:1: sluice.wan.device: is required",
            "f:2: sluice.wan.role: 'dmz' is not one of lan, wan",
            "f:3: sluice.wan.xdp: 'fast' is not one of auto, hardware, native, tc, generic, nft, off",
            "f:4: sluice.wan.tc: '2' is not 0 or 1",
            "f:5: sluice.wan.inspect: is one value, not a list",
        ]
    );
}

#[test]
fn every_number_is_held_to_its_range() {
    let refused = |kind: &str, option: &str, text: &str| {
        let line = format!("option {option} '{text}'\n");
        !remarks_of(spec(kind), &line).0.is_empty()
    };
    let options = |kind| spec(kind).options.iter().map(move |option| (kind, option));
    for (kind, option) in options("sluice").chain(options("ddos")) {
        let (Kind::Number { min, max } | Kind::PowerOfTwo { min, max }) = option.kind else {
            continue;
        };
        assert!(!refused(kind, option.name, &min.to_string()), "{}", option.name);
        // The highest queue number with one queue is allowed, and so is the most queues.
        assert!(!refused(kind, option.name, &max.to_string()), "{}", option.name);
        assert!(refused(kind, option.name, &(u64::from(max) + 1).to_string()), "{}", option.name);
        if min > 0 {
            assert!(refused(kind, option.name, &(min - 1).to_string()), "{}", option.name);
        }
        for text in ["-1", "+1", "1 ", "0x10", "ten", "1.5", "99999999999999999999"] {
            assert!(refused(kind, option.name, text), "{} {text}", option.name);
        }
    }
    assert!(refused("ddos", "bucket_sets", "5000"));
}

#[test]
fn an_unknown_option_is_warned_about_with_the_nearest_name() {
    let (mistakes, warnings) =
        remarks_of(spec("sluice"), "\toption windw_packets '20'\n\toption colour 'blue'\n");
    assert_eq!(mistakes, [""; 0]);
    assert_eq!(
        warnings,
        [
            "f:2: sluice.main.windw_packets: unknown option, not used; did you mean \
             window_packets?",
            "f:3: sluice.main.colour: unknown option, not used",
        ]
    );
}

#[test]
fn every_option_of_the_table_is_read_and_no_other() {
    for spec in SECTIONS {
        let section = Section::empty();
        let mut remarks = Remarks::new("f".into());
        let uci = Reader::new(&section, spec.example, spec, &mut remarks);
        ASKED.take();
        match spec.kind {
            "sluice" => drop(Main::read(uci)),
            "interface" => drop(Interface::read(String::new(), uci)),
            "blocklist" => drop(Blocklist::read(String::new(), uci)),
            "allowlist" => drop(Allowlist::read(String::new(), uci)),
            "rule" => drop(Rule::read(String::new(), uci)),
            "profile" => drop(Profile::read(String::new(), uci)),
            "ddos" => drop(Ddos::read(uci)),
            "domainlist" => drop(DomainList::read(String::new(), uci)),
            "schedule" => drop(Schedule::read(String::new(), uci)),
            "group" => drop(Group::read(String::new(), uci)),
            "ruleset" => drop(RulesetSection::read(String::new(), uci)),
            "ignore" => drop(Ignore::read(uci)),
            "device" => drop(NamedDevice::read(uci)),
            kind => panic!("{kind}"),
        }
        let mut asked = ASKED.take();
        let mut known: Vec<_> = spec.options.iter().map(|option| option.name).collect();
        asked.sort_unstable();
        known.sort_unstable();
        assert_eq!(asked, known, "{}", spec.kind);
    }
}

#[test]
fn every_default_is_a_value_that_the_option_accepts() {
    for spec in SECTIONS {
        for option in spec.options {
            let Fallback::Value(text) = option.fallback else { continue };
            let word = if option.is_list { "list" } else { "option" };
            for text in text.split(' ') {
                let line = format!("\t{word} {} '{text}'\n", option.name);
                let (mistakes, _) = remarks_of(spec, &line);
                let about = format!(".{}:", option.name);
                assert!(!mistakes.iter().any(|m| m.contains(&about)), "{mistakes:?}");
            }
        }
    }
}

#[test]
fn a_wrong_value_leaves_the_default_and_what_is_not_utf8_is_wrong() {
    let mut remarks = Remarks::new("f".into());
    let text = b"config sluice 'main'\n\toption policy '\xff'\n\toption queues 'x'\n";
    let package = Package::parse(text, &mut remarks);
    let uci = Reader::new(&package.sections[0], "main", spec("sluice"), &mut remarks);
    let main = Main::read(uci);
    assert_eq!((main.policy, main.queues), (Policy::Open, 0));
    let (mistakes, _) = remarks.finish();
    let shown: Vec<String> = mistakes.iter().map(ToString::to_string).collect();
    assert_eq!(
        shown,
        ["f:2: sluice.main.policy: is not UTF-8", "f:3: sluice.main.queues: 'x' is not 0 to 16"]
    );
}

#[test]
fn a_section_with_an_unreadable_line_is_not_also_called_incomplete() {
    let (mistakes, _) =
        remarks_of(spec("interface"), "\toption device wan extra\n\toption role wan\n");
    assert_eq!(mistakes, ["f:2: too many arguments (byte 25)"]);
}

#[test]
fn flags_are_read_as_scripts_read_them() {
    for (text, value) in [
        ("1", true),
        ("on", true),
        ("true", true),
        ("yes", true),
        ("enabled", true),
        ("0", false),
        ("off", false),
        ("false", false),
        ("no", false),
        ("disabled", false),
    ] {
        assert_eq!(bool::from_uci(text, Kind::Flag), Ok(value));
    }
    for text in ["", "2", "ON", " 1"] {
        assert_eq!(bool::from_uci(text, Kind::Flag), Err("is not 0 or 1".to_owned()));
    }
}

#[test]
fn a_path_is_absolute_and_plain() {
    let read = |text: &str| PathBuf::from_uci(text, Kind::Path);
    assert_eq!(read("/etc/list"), Ok(PathBuf::from("/etc/list")));
    for text in ["", "list", "./list", "/etc/../list", "~/list"] {
        assert_eq!(read(text), Err("is not an absolute path".to_owned()), "{text}");
    }
}

use super::switch::Only;
use super::*;
use crate::config::{Config, SECTIONS};

/// One section of each kind that a switch is about.
const FILE: &str = "\
# mine
config sluice 'main'
	option notify_script '/n'   # told

config interface 'wan'
	option device 'eth0'
	option role 'wan'
	option xdp 'native'

config interface
	option device 'br-lan'
	option role 'lan'
	option tc 'yes'

config blocklist 'bad'
	list entry '192.0.2.1'

config blocklist 'odd'
	option action 'observe'
	list entry '192.0.2.2'

config rule 'ads'
	list domain 'ads.test'

config rule 'slow'
	option action 'limit'
	option kbit '1000'
	list domain 'slow.test'

config domainlist 'names'
	list file '/d'

config ruleset 'feed'
	list file '/s'
";

fn editor(text: &str) -> Editor {
    Editor::new(text.as_bytes()).unwrap()
}

fn text(editor: &Editor) -> String {
    String::from_utf8(editor.text().to_vec()).unwrap()
}

fn wanted(editor: &Editor, name: &str) -> Wanted {
    find(TABLE, name).unwrap().switch.wanted(editor.package(), Place::Anywhere)
}

/// What became of lines, where lines were inserted or replaced one by one.
fn difference(before: &str, after: &str) -> Vec<String> {
    let mut before = before.lines().peekable();
    let mut after = after.lines().peekable();
    let mut found = Vec::new();
    while let Some(line) = after.next() {
        if before.next_if_eq(&line).is_some() {
            continue;
        }
        let is_inserted = after.peek() == before.peek();
        let old = if is_inserted { None } else { before.next() };
        found.push(format!("{} > {}", old.unwrap_or_default().trim(), line.trim()));
    }
    found.extend(before.map(|line| format!("{} >", line.trim())));
    found
}

const NOTHING: Switch = Switch::Sections { kind: "rule", only: Only::Any };

const fn made_up(name: &'static str, needs: &'static [Need]) -> Feature {
    Feature { name, about: "", needs, told: &[], switch: NOTHING }
}

const fn on(name: &'static str) -> Need {
    Need { name, place: Place::Anywhere }
}

#[test]
fn a_cycle_is_found_and_named_in_any_table() {
    const A_B: &[Feature] = &[made_up("a", &[on("b")]), made_up("b", &[on("a")])];
    const SELF: &[Feature] = &[made_up("x", &[]), made_up("a", &[on("x"), on("a")])];
    const LATE: &[Feature] = &[
        made_up("top", &[on("left"), on("right")]),
        made_up("left", &[on("base")]),
        made_up("right", &[on("base"), on("low")]),
        made_up("low", &[on("right")]),
        made_up("base", &[]),
    ];
    const DIAMOND: &[Feature] = &[
        made_up("top", &[on("left"), on("right")]),
        made_up("left", &[on("base")]),
        made_up("right", &[on("base")]),
        made_up("base", &[on("nobody")]),
    ];
    assert_eq!(graph::cycle(A_B).unwrap(), ["a", "b", "a"]);
    assert_eq!(graph::cycle(SELF).unwrap(), ["a", "a"]);
    assert_eq!(graph::cycle(LATE).unwrap(), ["right", "low", "right"]);
    assert_eq!(graph::cycle(DIAMOND), None);
    assert_eq!(graph::unknown(DIAMOND), ["nobody"]);
    // Nobody walks in circles, and each name comes once.
    let names = |table, name| -> Vec<&str> {
        graph::needed(table, name).iter().map(|(feature, _)| feature.name).collect()
    };
    let dependents = |table, name| -> Vec<&str> {
        graph::dependents(table, name).iter().map(|feature| feature.name).collect()
    };
    assert_eq!(names(A_B, "a"), ["b"]);
    assert_eq!(dependents(A_B, "a"), ["b"]);
    assert_eq!(names(DIAMOND, "top"), ["base", "left", "right"]);
    assert_eq!(dependents(DIAMOND, "base"), ["top", "left", "right"]);
}

/// R120: the real table. What is needed stands first, which who tells the states counts on.
#[test]
fn the_features_have_no_cycle_and_need_only_each_other() {
    assert_eq!(graph::cycle(TABLE), None);
    assert_eq!(graph::unknown(TABLE), [""; 0]);
    for (index, feature) in TABLE.iter().enumerate() {
        let before = &TABLE[..index];
        assert!(before.iter().all(|other| other.name != feature.name), "{}", feature.name);
        for need in feature.needs {
            assert!(before.iter().any(|other| other.name == need.name), "{}", feature.name);
        }
        let set = feature.switch.wanted(editor(FILE).package(), Place::Anywhere);
        assert_ne!(set, Wanted::Absent, "{}: its option or section exists", feature.name);
    }
}

/// Every section with an option `enabled` and every option that says on or off is behind a switch, or
/// known not to be a feature.
#[test]
fn no_switch_of_the_configuration_is_forgotten() {
    /// What is not a part of Sluice: whether it runs, exceptions, and how something is done.
    const OTHERS: [(&str, &str); 8] = [
        ("sluice", "enabled"),
        ("sluice", "reinspect_requests"),
        ("allowlist", "enabled"),
        ("ignore", "enabled"),
        ("ruleset", "enforce"),
        ("ddos", "martians"),
        ("ddos", "tcp_flags"),
        ("ddos", "multicast_exempt"),
    ];
    for section in SECTIONS {
        for option in
            section.options.iter().filter(|option| option.kind == super::super::Kind::Flag)
        {
            let is_behind = |feature: &Feature| match feature.switch {
                Switch::Interfaces(setting) => {
                    (section.kind, option.name) == ("interface", setting.option)
                }
                Switch::Section { kind, setting } => {
                    (section.kind, option.name) == (kind, setting.option)
                }
                Switch::Sections { kind, .. } => (section.kind, option.name) == (kind, "enabled"),
            };
            let is_known = OTHERS.contains(&(section.kind, option.name));
            let count = TABLE.iter().filter(|feature| is_behind(feature)).count();
            assert!((count == 0) == is_known, "{}.{}", section.kind, option.name);
        }
    }
}

#[test]
fn what_a_feature_needs_is_switched_on_first_and_nothing_else() {
    let mut of = editor(FILE);
    for name in ["rules", "limits", "observed_lists", "domainlists", "signatures"] {
        disable(TABLE, &mut of, name, false).unwrap();
    }
    disable(TABLE, &mut of, "inspection", false).unwrap();
    disable(TABLE, &mut of, "fast-path", false).unwrap();
    let before = text(&of);
    let done = enable(TABLE, &mut of, "limits").unwrap();
    assert_eq!(done.features, ["inspection", "fast_path", "limits"]);
    assert_eq!(done.written.last().unwrap(), "slow.enabled='1' (was '0')");
    assert_eq!(wanted(&of, "rules"), Wanted::Off);
    assert_eq!(wanted(&of, "signatures"), Wanted::Off);
    assert_eq!(wanted(&of, "inspection"), Wanted::On);
    let written = text(&of);
    assert!(Config::parse(written.as_bytes(), "f").is_ok(), "{written}");
    let option = |name| format!("option {name} '0' > option {name} '1'");
    assert_eq!(
        difference(&before, &written),
        ["inspect", "tc", "tc", "inspect", "enabled"].map(option),
        "{written}"
    );
    // Again: nothing, byte by byte.
    assert_eq!(enable(TABLE, &mut of, "limits").unwrap(), Done::default());
    assert_eq!(text(&of), written);
}

/// R120: refused while it is needed, by name; force takes those who need it first, however far they are.
#[test]
fn what_is_needed_stays_on_unless_all_of_it_goes() {
    let mut of = editor(FILE);
    enable(TABLE, &mut of, "bogons").unwrap();
    enable(TABLE, &mut of, "spread").unwrap();
    let before = text(&of);
    let why = disable(TABLE, &mut of, "shield", false).unwrap_err();
    assert_eq!(
        why,
        "shield is needed by blocklists, bogons, ddos, spread: switch off what needs it first, or \
         all of it with force"
    );
    assert_eq!(text(&of), before);
    let done = disable(TABLE, &mut of, "shield", true).unwrap();
    assert_eq!(done.features, ["blocklists", "bogons", "ddos", "spread", "shield"]);
    assert_eq!(
        done.written,
        [
            "bad.enabled='0' (was '1')",
            "limits.bogons='0' (was '1')",
            "limits.enabled='0' (was '1')",
            "main.spread='off' (was 'auto')",
            "wan.xdp='off' (was 'native')",
            "@interface[1].xdp='off' (was 'auto')",
        ]
    );
    let after = text(&of);
    assert!(Config::parse(after.as_bytes(), "f").is_ok(), "{after}");
    for name in &done.features {
        assert_eq!(wanted(&of, name), Wanted::Off, "{name}");
    }
    for name in ["inspection", "rules", "observed_lists", "fast_path"] {
        assert!(wanted(&of, name).is_on(), "{name}");
    }
    assert_eq!(disable(TABLE, &mut of, "shield", false).unwrap(), Done::default());
    assert_eq!(text(&of), after);
}

/// Only the lines of the switch change.
#[test]
fn the_rest_of_the_file_stays_as_it_is() {
    let mut of = editor(FILE);
    disable(TABLE, &mut of, "limits", false).unwrap();
    let before = text(&of);
    let done = disable(TABLE, &mut of, "fast path", false).unwrap();
    assert_eq!(done.written, ["wan.tc='0' (was '1')", "@interface[1].tc='0' (was 'yes')"]);
    assert_eq!(
        difference(&before, &text(&of)),
        [" > option tc '0'", "option tc 'yes' > option tc '0'"]
    );
    enable(TABLE, &mut of, "fast_path").unwrap();
    assert_eq!(text(&of).lines().count(), FILE.lines().count() + 2);
    // What others call a flag is one.
    assert_eq!(wanted(&editor(&FILE.replace("'yes'", "'disabled'")), "fast_path"), Wanted::Partly);
}

/// A shield towards the household alone is none for what comes from outside.
#[test]
fn strangers_need_a_shield_where_they_come_in() {
    let file = FILE.replace("'native'", "'off'");
    let mut of = editor(&file);
    disable(TABLE, &mut of, "ddos", false).unwrap();
    assert_eq!(wanted(&of, "shield"), Wanted::Partly);
    let done = enable(TABLE, &mut of, "ddos").unwrap();
    assert_eq!(done.features, ["shield", "ddos"]);
    let mut of = editor(&file);
    assert_eq!(enable(TABLE, &mut of, "spread").unwrap().features, ["spread"]);
    assert_eq!(enable(TABLE, &mut of, "shield").unwrap().features, ["shield"]);
    assert_eq!(wanted(&of, "shield"), Wanted::On);
}

#[test]
fn what_cannot_be_switched_says_why() {
    let plain = FILE.split("config blocklist").next().unwrap();
    let enable = |text: &str, name| {
        let mut editor = editor(text);
        let why = enable(TABLE, &mut editor, name).unwrap_err();
        assert_eq!(editor.text(), text.as_bytes());
        why
    };
    let no_section = "there is no section of type";
    assert_eq!(
        enable(plain, "signatures"),
        format!("signatures: {no_section} ruleset: write one first")
    );
    assert_eq!(
        enable(plain, "limits"),
        format!("limits: {no_section} rule with action limit or mark: write one first")
    );
    assert_eq!(wanted(&editor(plain), "limits"), Wanted::Absent);
    assert_eq!(disable(TABLE, &mut editor(plain), "limits", false).unwrap(), Done::default());
    assert_eq!(
        enable("config sluice main\n", "notify"),
        "notify: only a person can say what option notify_script of section sluice is: write it there"
    );
    let off = FILE.replace("'main'\n", "'main'\n\toption enabled '0'\n");
    assert!(enable(&off, "spread").contains("option enabled of the agent is 0"));
    assert!(disable(TABLE, &mut editor(&off), "ubus", false).is_ok());
    assert_eq!(enable(FILE, "shild"), "there is no feature shild, did you mean shield?");
    assert!(enable(FILE, "a\u{1b}b").contains("a\\u{1b}b"));
    // A value that nobody can guess again is at least told.
    let done = disable(TABLE, &mut editor(FILE), "notify", false).unwrap();
    assert_eq!(done.written, ["main.notify_script='' (was '/n')"]);
}

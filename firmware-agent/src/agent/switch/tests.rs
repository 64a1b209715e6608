use super::*;

const FILE: &str = "\
config sluice 'main'
config interface 'wan'
	option device 'eth0'
	option role 'wan'
config interface 'lan'
	option device 'br-lan'
	option role 'lan'
config rule 'slow'
	option action 'limit'
	option kbit '100'
	list domain 'slow.test'
";

fn told(parts: &[(&str, Health, &str)]) -> Vec<report::Feature> {
    let feature = |(name, state, reason): &(&str, Health, &str)| report::Feature {
        name: (*name).to_owned(),
        state: *state,
        rung: String::new(),
        reasons: (!reason.is_empty()).then(|| (*reason).to_owned()).into_iter().collect(),
    };
    parts.iter().map(feature).collect()
}

fn of(text: &str, parts: &[(&str, Health, &str)], name: &str) -> Row {
    let editor = Editor::new(text.as_bytes()).unwrap();
    let rows = rows(TABLE, editor.package(), &told(parts));
    rows.into_iter().find(|row| row.name == name).unwrap()
}

const WORKS: [(&str, Health, &str); 5] = [
    ("shield wan", Health::Active, ""),
    ("shield lan", Health::Active, ""),
    ("fast path wan", Health::Active, ""),
    ("fast path lan", Health::Active, ""),
    ("inspection", Health::Active, ""),
];

fn but(part: (&'static str, Health, &'static str)) -> Vec<(&'static str, Health, &'static str)> {
    WORKS.iter().map(|one| if one.0 == part.0 { part } else { *one }).collect()
}

/// R118: each state with a cause that a program can read.
#[test]
fn every_state_has_a_cause() {
    use Health::{Active, Degraded, Failed, Off, Starting};
    let state = |text: &str, parts: &[_], name: &str| {
        let row = of(text, parts, name);
        (row.state, row.cause)
    };
    assert_eq!(state(FILE, &WORKS, "shield"), (Active, None));
    assert_eq!(state(FILE, &WORKS, "limits"), (Active, None));
    assert_eq!(state(FILE, &WORKS, "signatures"), (Off, Some(Cause::Unconfigured)));
    assert_eq!(state(FILE, &WORKS, "bogons"), (Off, Some(Cause::Configuration)));
    let killed = FILE.replace("'main'", "'main'\n\toption enabled '0'");
    assert_eq!(state(&killed, &WORKS, "shield"), (Off, Some(Cause::KillSwitch)));
    let starting = [("ubus", Starting, "")];
    assert_eq!(state(FILE, &starting, "ubus"), (Starting, Some(Cause::Environment)));
    // In one of two places.
    let parts = but(("shield lan", Failed, "native: no"));
    assert_eq!(state(FILE, &parts, "shield"), (Degraded, Some(Cause::Environment)));
    let row = of(FILE, &parts, "shield");
    assert_eq!(row.reasons, ["shield lan: native: no"]);
    assert_eq!(row.needed_by, ["ddos"]);
}

/// R118: the module or the option of the kernel has a place of its own.
#[test]
fn what_the_kernel_lacks_is_named() {
    let why = "enabled by: the packages kmod-sched-core and kmod-sched-bpf (CONFIG_NET_CLS_BPF)";
    let mut parts = but(("fast path wan", Health::Failed, why));
    parts[3] = ("fast path lan", Health::Failed, why);
    let row = of(FILE, &parts, "fast_path");
    assert_eq!((row.state, row.cause), (Health::Failed, Some(Cause::Missing)));
    assert_eq!(row.missing, ["kmod-sched-core", "kmod-sched-bpf", "CONFIG_NET_CLS_BPF"]);
    // And who needs it says so.
    let row = of(FILE, &parts, "limits");
    assert_eq!((row.state, row.cause), (Health::Failed, Some(Cause::Dependency)));
    assert_eq!(row.reasons, ["needs fast_path, which does not work"]);
}

#[test]
fn what_fails_reaches_those_that_need_it_indirectly() {
    let text = format!("{FILE}config ddos 'limits'\n\toption bogons '1'\n");
    let gone = [("shield wan", Health::Failed, ""), ("shield lan", Health::Failed, "")];
    for name in ["ddos", "bogons"] {
        assert_eq!(of(&text, &gone, name).cause, Some(Cause::Dependency), "{name}");
    }
    assert_eq!(of(&text, &gone, "ubus").state, Health::Active);
}

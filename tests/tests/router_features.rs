//! Switching a part off takes its programs out of the kernel, and switching it on brings them back.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value as Json, json};
use sluice::config::feature::TABLE;
use sluice::ubus::message::Status;
use sluice_tests::agent::{Agent, Setup};
use sluice_tests::bus::Bus;
use sluice_tests::caller::Caller;
use sluice_tests::observe::{self, Attached};
use sluice_tests::router::{Build, Router};
use sluice_tests::skip::without_root;
use sluice_tests::wait;

/// Emulated and shared machines are slow.
const LIMIT: Duration = Duration::from_secs(120);

fn ids(attached: &[Attached]) -> BTreeSet<u64> {
    attached.iter().map(|one| one.id).collect()
}

/// Where programs are attached: all of them, or those of the fast path alone.
fn places(attached: &[Attached], with_shield: bool) -> Vec<(String, &'static str)> {
    let chosen = attached.iter().filter(|one| with_shield || one.hook != "xdp");
    chosen.map(|one| (one.device.clone(), one.hook)).collect()
}

/// R121: the kernel's programs before, after shield and fast path are switched off one after the
/// other by the configuration, and after both are on again.
#[test]
fn what_is_switched_off_is_not_attached_and_not_even_loaded() {
    if without_root() {
        return;
    }
    let world = Router::new(Build::default()).unwrap();
    let setup = Setup::default();
    let mut agent = Agent::start(&world, setup.clone()).unwrap();
    let attached = || observe::attached(&world.netns).unwrap();
    let before = attached();
    assert!(places(&before, true).len() > places(&before, false).len(), "{before:?}");
    assert!(!places(&before, false).is_empty(), "{before:?}");
    let state = |agent: &Agent, name: &str| {
        let features = agent.status().unwrap().features;
        features.into_iter().find(|one| one.name == name).map(|one| one.state).unwrap_or_default()
    };

    agent.reloaded(&setup.clone().xdp("off")).unwrap();
    let fast = attached();
    assert_eq!(places(&fast, true), places(&before, false), "the fast path alone");
    assert_eq!(state(&agent, "shield wan"), "off");
    agent.reloaded(&setup.clone().xdp("off").without_tc()).unwrap();
    assert_eq!(attached(), [], "neither");
    assert_eq!(state(&agent, "fast path lan"), "off");
    // The kernel frees programs a grace period after their last user.
    let mut programs = ids(&before);
    programs.append(&mut ids(&fast));
    let is_loaded = || programs.iter().any(|program| observe::is_loaded(*program));
    wait::until_true("the programs were gone", LIMIT, || !is_loaded()).unwrap();

    agent.reloaded(&setup).unwrap();
    let after = attached();
    assert_eq!(places(&after, true), places(&before, true));
    assert!(ids(&after).is_disjoint(&programs), "they were loaded anew");
}

/// Calls a method, and gives the answer or the reason why there is none.
fn call(bus: &Bus, method: &str, arguments: Json) -> Result<Json, String> {
    let answer = Caller::connect(bus.path()).unwrap().call("sluice", method, &arguments).unwrap();
    let json = answer.json();
    match answer.status {
        Status::Ok => Ok(json),
        _ => Err(json["error"].as_str().unwrap().to_owned()),
    }
}

/// The row of a feature, once its state is this.
fn row_when(agent: &Agent, name: &str, state: &str) -> Json {
    let mut found = Json::Null;
    wait::until_true(&format!("{name} was {state}"), LIMIT, || {
        // Nobody answers for a moment while the agent brings itself up anew.
        let Ok(text) = agent.ask(&["features", "--json"]) else { return false };
        let all: Json = serde_json::from_str(&text).unwrap();
        found = row(&all, name);
        found["state"] == state
    })
    .unwrap();
    found
}

fn row(all: &Json, name: &str) -> Json {
    all["features"].as_array().unwrap().iter().find(|row| row["name"] == name).unwrap().clone()
}

fn names(answer: &Json) -> Vec<&str> {
    answer["changed"].as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect()
}

/// Everything that `status` tells when it is wanted.
fn everything(socket: &Path) -> Setup {
    Setup::default()
        .main("ubus", socket.display())
        .main("notify_script", "/bin/true")
        .main("metrics_listen", "127.0.0.1:9616")
        .main("spread", "auto")
        .ddos("syn_validation", 1)
        .ddos("private_sources", 1)
        .blocklist("bad", &["198.51.100.7"])
        .rule("no_ads", "block", &["ads.test"])
}

/// R120, R121, R151: a feature is switched by name: its programs leave the kernel and come back, only its
/// lines in the file change, what needs it keeps it on or goes with it, and what cannot be changes
/// nothing.
#[test]
fn a_switch_is_written_in_force_and_takes_along_what_depends_on_it() {
    if without_root() {
        return;
    }
    let world = Router::new(Build::default()).unwrap();
    let socket = world.directory.path().join("ubus.sock");
    let bus = Bus::start(&socket).unwrap();
    let agent = Agent::start(&world, everything(&socket)).unwrap();
    wait::until_true("the object was offered", LIMIT, || bus.objects() == ["sluice"]).unwrap();
    // One whose file is missing does no harm while it is off.
    let file = format!(
        "# mine\n{}\nconfig domainlist 'gone'\n\toption enabled '0'\n\tlist file '/nonexistent'\n",
        std::fs::read_to_string(agent.config()).unwrap()
    );
    std::fs::write(agent.config(), &file).unwrap();
    let text = || std::fs::read_to_string(agent.config()).unwrap();
    let attached = || observe::attached(&world.netns).unwrap();
    let generation = || agent.status().unwrap().generation;
    let before = attached();
    let (shield, fast): (Vec<_>, Vec<_>) =
        before.iter().cloned().partition(|one| one.hook == "xdp");
    assert!(!shield.is_empty() && !fast.is_empty(), "{before:?}");

    // Everything that `status` tells has a switch.
    for told in agent.status().unwrap().features {
        assert!(TABLE.iter().any(|feature| feature.is_told_as(&told.name)), "{}", told.name);
    }

    // Off: out of the kernel, the rest stays.
    let answer = call(&bus, "disable", json!({"name": "fast_path"})).unwrap();
    assert_eq!((names(&answer), &answer["on"]), (vec!["fast_path"], &json!(false)));
    assert_eq!(places(&attached(), true), places(&shield, true));
    let off = file.replace("option tc '1'", "option tc '0'");
    assert_ne!(off, file);
    assert_eq!(text(), off);
    wait::until_true("its programs were gone", LIMIT, || {
        !fast.iter().any(|one| observe::is_loaded(one.id))
    })
    .unwrap();
    row_when(&agent, "fast_path", "off");
    let row = row(&call(&bus, "features", json!({})).unwrap(), "fast_path");
    assert_eq!((&row["wanted"], &row["cause"]), (&json!("off"), &json!("configuration")));

    // Once more: nothing is written.
    let (inode, in_force) = (std::fs::metadata(agent.config()).unwrap().ino(), generation());
    let again = agent.ask(&["disable", "fast-path"]).unwrap();
    assert_eq!(again, "fast_path is off already\n");
    assert_eq!(std::fs::metadata(agent.config()).unwrap().ino(), inode);
    assert_eq!(generation(), in_force);

    let answer = agent.ask(&["enable", "fast_path"]).unwrap();
    assert!(answer.starts_with("fast_path is on\n  lan.tc='1' (was '0')\n"), "{answer}");
    assert_eq!(places(&attached(), true), places(&before, true));
    assert_eq!(text(), file, "byte by byte as it was");

    // What is needed stays, unless all of it goes: in one step.
    let in_force = generation();
    let why = call(&bus, "disable", json!({"name": "shield"})).unwrap_err();
    for name in ["blocklists", "ddos", "private_sources", "syn_validation", "spread"] {
        assert!(why.starts_with("shield is needed by ") && why.contains(name), "{why}");
    }
    assert_eq!((text(), generation()), (file.clone(), in_force));
    let answer = call(&bus, "disable", json!({"name": "shield", "force": true})).unwrap();
    assert_eq!(names(&answer).last(), Some(&"shield"));
    assert_eq!(names(&answer).len(), 6, "{answer}");
    assert_eq!(generation(), in_force + 1);
    assert_eq!(places(&attached(), true), places(&fast, true));
    let row = row_when(&agent, "blocklists", "off");
    assert_eq!((&row["wanted"], &row["needs"]), (&json!("off"), &json!(["shield"])));
    let answer = call(&bus, "enable", json!({"name": "blocklists"})).unwrap();
    assert_eq!(names(&answer), ["shield", "blocklists"]);
    assert_eq!(places(&attached(), true), places(&before, true));
    row_when(&agent, "blocklists", "active");

    // Inspection is rules and queues; programs go on without.
    // By the way that this kernel takes.
    let has_rules = || {
        observe::rule_mentions(&world.netns, "table inet sluice").unwrap()
            || world.netns.run("iptables -w -t mangle -S").unwrap().contains("-N SLUICE_INSPECT")
    };
    let is_heard = || !observe::queues(&world.netns).unwrap().is_empty();
    assert!(has_rules() && is_heard());
    let answer = agent.ask(&["disable", "inspection", "--force"]).unwrap();
    assert!(
        answer.starts_with("rules is off: it needs inspection\ninspection is off\n"),
        "{answer}"
    );
    row_when(&agent, "inspection", "off");
    assert!(!has_rules() && !is_heard());
    assert_eq!(places(&attached(), true), places(&before, true));
    wait::until_true("the object was back", LIMIT, || bus.objects() == ["sluice"]).unwrap();
    let answer = call(&bus, "enable", json!({"name": "rules"})).unwrap();
    assert_eq!(names(&answer), ["inspection", "rules"]);
    row_when(&agent, "rules", "active");
    assert!(has_rules() && is_heard());

    // What cannot be changes nothing.
    let (kept, in_force, programs) = (text(), generation(), attached());
    for (method, name, reason) in [
        ("enable", "domainlists", "/nonexistent"),
        ("enable", "signatures", "there is no section of type ruleset"),
        ("enable", "shild", "did you mean shield?"),
        ("disable", "", "there is no feature"),
    ] {
        let why = call(&bus, method, json!({"name": name})).unwrap_err();
        assert!(why.contains(reason), "{name}: {why}");
    }
    assert_eq!((text(), generation(), attached()), (kept, in_force, programs));
    assert_eq!(row_when(&agent, "domainlists", "off")["wanted"], "off");

    // The answer comes before the object goes, and has what nobody else knows then.
    let answer = call(&bus, "disable", json!({"name": "ubus"})).unwrap();
    let written = format!("main.ubus='off' (was '{}')", socket.display());
    assert_eq!(answer["written"], json!([written]));
    wait::until_true("the object was gone", LIMIT, || bus.objects().is_empty()).unwrap();
}

//! A change of the configuration: what it costs, and on trial when it could lock somebody out.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value as Json, json};
use sluice::ubus::message::Status;
use sluice_tests::agent::{Agent, Setup};
use sluice_tests::bus::Bus;
use sluice_tests::caller::Caller;
use sluice_tests::directory::Directory;
use sluice_tests::router::{Build, Router};
use sluice_tests::skip::without_root;
use sluice_tests::traffic::{TcpService, connect, round_trip};
use sluice_tests::wait;

/// Emulated and shared machines are slow.
const LIMIT: Duration = Duration::from_secs(120);
/// Time for a connection that is blocked.
const BLOCKED: Duration = Duration::from_secs(1);

/// A router that is managed by its client, through it.
struct Scene {
    agent: Agent,
    echo: TcpService,
    router: Router,
}

impl Scene {
    fn new() -> Self {
        let router = Router::new(Build::default()).unwrap();
        let echo = TcpService::echo(&router.server, router.server.v4.into(), 22).unwrap();
        let setup = Setup::default().main("management", router.client().v4);
        let agent = Agent::start(&router, setup).unwrap();
        Self { agent, echo, router }
    }

    fn text(&self) -> String {
        std::fs::read_to_string(self.agent.config()).unwrap()
    }

    /// A file with this text, not where the configuration is.
    fn file(&self, text: &str) -> PathBuf {
        let path = self.router.directory.path().join("wanted");
        std::fs::write(&path, text).unwrap();
        path
    }

    /// The text of now and a rule that cuts off who manages.
    fn cutting(&self) -> String {
        let client = self.router.client().v4;
        format!("{}config rule 'cut'\n\tlist device '{client}'\n", self.text())
    }

    fn apply(&self, text: &str, more: &[&str]) -> Json {
        let file = self.file(text);
        let arguments = [&["--json", "apply", file.to_str().unwrap()], more].concat();
        serde_json::from_str(&self.agent.ask(&arguments).unwrap()).unwrap()
    }

    #[track_caller]
    fn refused(&self, arguments: &[&str]) -> String {
        self.agent.ask(arguments).unwrap_err().to_string()
    }

    fn reaches(&self) -> bool {
        let to: SocketAddr = self.echo.address();
        let client = self.router.client();
        client.netns.enter(|| std::net::TcpStream::connect_timeout(&to, BLOCKED)).unwrap().is_ok()
    }

    fn is_told(&self, text: &str) -> bool {
        self.agent.status().unwrap().config_warnings.iter().any(|told| told.contains(text))
    }

    /// What lies beside the configuration.
    fn beside(&self) -> Vec<String> {
        let config = self.agent.config();
        let entries = std::fs::read_dir(config.parent().unwrap()).unwrap().flatten();
        let names = entries.map(|entry| entry.file_name().into_string().unwrap());
        names.filter(|name| name.starts_with('.')).collect()
    }
}

/// R154: a change that locks out who manages goes back by itself, also after a crash; one that is
/// confirmed stays, and so does what somebody has written in the meantime.
#[test]
fn a_change_that_locks_out_goes_back_unless_it_is_confirmed() {
    if without_root() {
        return;
    }
    let mut scene = Scene::new();
    let before = scene.text();
    assert!(scene.reaches());

    // Found to lock out, and asked for: it goes back, and management works again.
    let cutting = scene.cutting();
    let applied = scene.apply(&cutting, &["--confirm", "4"]);
    assert_eq!((&applied["cost"], &applied["confirm_s"]), (&"update".into(), &4.into()));
    assert_eq!(applied["changed"], serde_json::json!(["rule"]));
    assert!(applied["risks"][0].as_str().unwrap().contains("is for management"), "{applied}");
    assert!(!scene.reaches());
    assert_eq!(scene.text(), cutting);
    assert_eq!(scene.beside(), [".sluice.uci.waits"]);
    wait::until_true("it went back", LIMIT, || scene.text() == before).unwrap();
    wait::until_true("that was in force", LIMIT, || scene.reaches()).unwrap();
    assert!(scene.is_told("was not confirmed, 4 s are over: the one of before is back"));
    assert_eq!(scene.beside(), [""; 0]);

    // Without being asked for it is on trial too; while it is, nothing else changes the file.
    assert_eq!(scene.apply(&cutting, &[])["confirm_s"], 60);
    assert!(scene.is_told("on trial"));
    let wanted = scene.file(&before);
    for arguments in [
        &["apply", wanted.to_str().unwrap()][..],
        &["block", "198.51.100.0/24"],
        &["deny", "x.test"],
    ] {
        let why = scene.refused(arguments);
        assert!(why.contains("a configuration is on trial"), "{why}");
    }
    assert_eq!(scene.text(), cutting);
    scene.agent.ask(&["rollback"]).unwrap();
    assert_eq!(scene.text(), before);
    assert!(scene.reaches());
    assert!(scene.refused(&["confirm"]).contains("no configuration waits"));

    // The agent dies: the next one begins with what was there before.
    scene.apply(&cutting, &["--confirm", "600"]);
    assert!(!scene.reaches());
    scene.agent.kill9().unwrap();
    assert_eq!(scene.text(), cutting);
    scene.agent.start_again(&scene.router).unwrap();
    assert_eq!(scene.text(), before);
    assert!(scene.is_told("the agent ended before: the one of before is back"));
    wait::until_true("management worked", LIMIT, || scene.reaches()).unwrap();

    // Somebody changes the file meanwhile: it is his, and in force instead.
    let other = before.clone() + "config rule 'mine'\n\tlist domain 'mine.test'\n";
    scene.apply(&cutting, &["--confirm", "3"]);
    std::fs::write(scene.agent.config(), &other).unwrap();
    wait::until_true("it was over", LIMIT, || scene.is_told("changed since: it stays")).unwrap();
    assert_eq!((scene.text(), scene.beside()), (other, Vec::new()));
    wait::until_true("theirs was in force", LIMIT, || scene.reaches()).unwrap();

    // What is confirmed stays when the time is over.
    let more = scene.text() + "config rule 'kept'\n\tlist domain 'kept.test'\n";
    assert_eq!(scene.apply(&more, &["--confirm", "2"])["confirm_s"], 2);
    scene.agent.ask(&["confirm"]).unwrap();
    // A block of three seconds, which begins later, ends later.
    scene.agent.ask(&["block", "198.51.100.9", "--for", "3s"]).unwrap();
    let is_over = || scene.agent.why("198.51.100.9").unwrap().causes.is_empty();
    wait::until_true("the time was over", LIMIT, is_over).unwrap();
    assert_eq!((scene.text(), scene.beside()), (more, Vec::new()));

    // What cuts nobody off is in force at once and for good.
    let harmless = scene.text() + "config rule 'more'\n\tlist domain 'more.test'\n";
    let applied = scene.apply(&harmless, &[]);
    assert_eq!((applied.get("confirm_s"), &applied["risks"]), (None, &serde_json::json!([])));
    // With a mistake nothing is written.
    let wrong = scene.file(&harmless.replace("option role 'wan'", "option role 'up'"));
    let why = scene.refused(&["apply", wrong.to_str().unwrap()]);
    assert!(why.contains("wanted:") && why.contains("'up' is not one of"), "{why}");
    assert_eq!(scene.text(), harmless);
}

/// R125, R153: a reload tells what it took; one that brings everything up anew keeps a trial going, and
/// connections go on through it and back.
#[test]
fn a_trial_outlives_what_has_to_be_brought_up_anew() {
    if without_root() {
        return;
    }
    let scene = Scene::new();
    let before = scene.text();
    let mut stream = connect(scene.router.client(), scene.echo.address()).unwrap();
    round_trip(&mut stream, b"x", 1).unwrap();
    let generation = scene.agent.status().unwrap().generation;
    let reloaded = scene.agent.ask(&["reload"]).unwrap();
    assert_eq!(reloaded, format!("nothing has changed, generation {generation}\n"));
    let larger = before.replacen("flows '8192'", "flows '2048'", 1);
    assert_ne!(larger, before);
    let applied = scene.apply(&larger, &["--confirm", "8"]);
    assert_eq!((&applied["cost"], &applied["changed"][0]), (&"reload".into(), &"flows".into()));
    let is_in_force = |generation| {
        let status = scene.agent.status();
        status.is_ok_and(|status| status.generation == generation && status.state != "starting")
    };
    let told = "it was brought up anew";
    wait::until_true(told, LIMIT, || is_in_force(generation + 1)).unwrap();
    assert!(scene.is_told("on trial"));
    round_trip(&mut stream, b"y", 1).unwrap();
    wait::until_true("it went back", LIMIT, || is_in_force(generation + 2)).unwrap();
    assert_eq!(scene.text(), before);
    assert!(scene.is_told("the one of before is back"));
    round_trip(&mut stream, b"z", 1).unwrap();
    assert!(scene.agent.log().contains("reload (flows"), "{}", scene.agent.log());

    // R150: what is enforced is printed, before and without an agent.
    let config = scene.agent.config();
    let check = ["--config", config.to_str().unwrap(), "config", "check"];
    let shown = scene.agent.ask(&check).unwrap();
    let number = |text: &str, row: &str| -> u64 {
        let line = text.lines().find(|line| line.starts_with(row)).unwrap();
        line.split_whitespace().find_map(|word| word.parse().ok()).unwrap()
    };
    assert_eq!(number(&shown, "inspection"), 2048);
    let parts = shown.lines().skip_while(|line| !line.starts_with("memory at most")).skip(1);
    let parts: Vec<&str> = parts.take_while(|line| !line.starts_with("all ")).collect();
    let sum: u64 = parts.iter().map(|line| number(line, "")).sum();
    assert!(parts.len() > 5 && sum == number(&shown, "all "), "{shown}");
    let status = scene.agent.status().unwrap();
    assert!(status.config_errors.is_empty());
    let doctor = scene.agent.ask(&["--config", check[1], "doctor"]).unwrap();
    assert_eq!(number(&doctor, "all "), sum, "{doctor}");
    let narrow = scene.file(&before.replacen("flows '8192'", "memory_kib '1024'", 1));
    let why = scene.refused(&["--config", narrow.to_str().unwrap(), "config", "check"]);
    assert!(why.contains("KiB are needed, 1024 are allowed: "), "{why}");
}

/// R151, R154: scripts and pages put a file on trial, confirm it and go back by the bus, with the words of
/// the command.
#[test]
fn a_trial_is_made_confirmed_and_ended_on_the_bus() {
    if without_root() {
        return;
    }
    let files = Directory::new("bus").unwrap();
    let bus = Bus::start(&files.path().join("ubus.sock")).unwrap();
    let router = Router::new(Build::default()).unwrap();
    let setup = Setup::default().main("ubus", bus.path().display());
    let agent = Agent::start(&router, setup.main("management", router.client().v4)).unwrap();
    let echo = TcpService::echo(&router.server, router.server.v4.into(), 22).unwrap();
    let scene = Scene { agent, echo, router };
    let is_offered = || bus.objects() == ["sluice"];
    wait::until_true("the object was offered", LIMIT, is_offered).unwrap();
    let mut caller = Caller::connect(bus.path()).unwrap();
    let mut call = |method: &str, arguments: Json| {
        let answer = caller.call("sluice", method, &arguments).unwrap();
        (answer.status == Status::Ok, answer.json())
    };
    let why = |(is_done, told): (bool, Json)| {
        assert!(!is_done, "{told}");
        told["error"].as_str().unwrap().to_owned()
    };
    let (before, cutting) = (scene.text(), scene.cutting());
    let wanted = scene.file(&cutting).display().to_string();
    for method in ["confirm", "rollback"] {
        assert!(why(call(method, json!({}))).contains("no configuration waits"));
    }
    assert!(why(call("apply", json!({}))).contains("missing field `file`"));
    assert!(why(call("apply", json!({"file": "wanted"}))).contains("is no absolute path"));
    assert!(why(call("apply", json!({"file": wanted, "confirm": 3601}))).contains("3600 seconds"));

    // It would lock out who manages, so it is on trial unasked.
    let (is_done, applied) = call("apply", json!({"file": wanted}));
    assert!(is_done && applied["confirm_s"] == 60, "{applied}");
    assert!(applied["risks"][0].as_str().unwrap().contains("is for management"), "{applied}");
    assert_eq!((scene.text() == cutting, scene.reaches()), (true, false));
    assert!(scene.is_told("on trial"));
    let (is_done, told) = call("rollback", json!({}));
    let text = told["told"].as_str().unwrap();
    assert!(is_done && text.contains("the one of before is back"), "{told}");
    assert_eq!((scene.text() == before, scene.reaches()), (true, true));

    // Without a word in time it goes back, with one it stays.
    let (_, applied) = call("apply", json!({"file": wanted, "confirm": 2}));
    assert_eq!(applied["confirm_s"], 2);
    wait::until_true("it went back", LIMIT, || scene.text() == before).unwrap();
    let (_, applied) = call("apply", json!({"file": wanted, "confirm": 600}));
    assert_eq!(applied["cost"], "update");
    assert_eq!(call("confirm", json!({})), (true, json!({"told": "the configuration stays"})));
    assert_eq!((scene.text(), scene.beside()), (cutting, Vec::new()));

    // What brings everything up anew is answered first.
    let larger = before.replacen("flows '8192'", "flows '2048'", 1);
    let (is_done, applied) = call("apply", json!({"file": scene.file(&larger), "confirm": 0}));
    assert!(is_done && applied["cost"] == "reload", "{applied}");
    assert_eq!(applied.get("confirm_s"), None);
}

/// R177: what is kept of events outlives a change that brings everything up anew, with numbers and marks.
#[test]
fn kept_events_outlive_what_has_to_be_brought_up_anew() {
    if without_root() {
        return;
    }
    let mut scene = Scene::new();
    let port = scene.echo.address().port();
    let cut = format!("config rule 'cut'\n\tlist port 'tcp/{port}'\n\toption action 'block'\n");
    scene.agent.reload_text(&(scene.text() + &cut)).unwrap();
    wait::until_true("the rule was in force", LIMIT, || !scene.reaches()).unwrap();
    let events = |agent: &Agent| -> Vec<Json> {
        let lines = agent.ask(&["events", "--json", "--type", "verdict"]).unwrap();
        lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let is_told = || !events(&scene.agent).is_empty();
    wait::until_true("it was told", LIMIT, is_told).unwrap();
    let before = events(&scene.agent);
    let count = |agent: &Agent| {
        let status = agent.ask(&["status", "--json"]).unwrap();
        let status: Json = serde_json::from_str(&status).unwrap();
        status["events"]["kinds"]["verdict"].as_u64().unwrap()
    };
    assert!(count(&scene.agent) >= 1);

    let generation = scene.agent.status().unwrap().generation;
    let other = scene.text().replacen("flows '8192'", "flows '2048'", 1);
    scene.agent.reload_text(&other).unwrap();
    let is_anew = || {
        let status = scene.agent.status();
        status.is_ok_and(|status| status.generation > generation && status.state != "starting")
    };
    wait::until_true("it was brought up anew", LIMIT, is_anew).unwrap();
    assert!(scene.agent.log().contains("reload (flows"), "{}", scene.agent.log());
    let after = events(&scene.agent);
    assert_eq!(after.len(), before.len(), "{after:#?}");
    for (old, new) in before.iter().zip(&after) {
        for field in ["id", "what", "sport", "archived"] {
            assert_eq!(old[field], new[field], "{field}");
        }
    }
    assert_eq!(count(&scene.agent), after.len() as u64);
    // What comes is counted on.
    assert!(!scene.reaches());
    let is_more = || events(&scene.agent).len() == after.len() + 1;
    wait::until_true("the next one was told", LIMIT, is_more).unwrap();
    assert!(events(&scene.agent)[0]["id"].as_u64() > after[0]["id"].as_u64());
}

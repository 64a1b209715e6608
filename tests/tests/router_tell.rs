//! What happened on a router: kept, filtered, told to the log, the bus and a program, and its figures
//! offered to Prometheus.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value as Json, json};
use sluice::ubus::message::Status;
use sluice_tests::agent::{Agent, Setup};
use sluice_tests::bus::Bus;
use sluice_tests::caller::Caller;
use sluice_tests::directory::Directory;
use sluice_tests::process::{self, Daemon};
use sluice_tests::router::{Build, Router};
use sluice_tests::service::{self, Family, fetch};
use sluice_tests::skip::without_root;
use sluice_tests::wait;

/// Emulated and shared machines are slow.
const LIMIT: Duration = Duration::from_secs(120);
/// Time for a connection that is blocked.
const BLOCKED: Duration = Duration::from_secs(3);
/// Where figures are offered.
const METRICS: &str = "127.0.0.1:9616";
/// An address on a blocklist.
const LISTED: &str = "203.0.113.66";
/// What a feed may say: markup, a shell, a terminal, another line, another direction.
const HOSTILE: &str = "<img onerror=x>\\\"'\\;$(id)`id`\u{1b}[2J\u{9b}31m\u{202e}%s";

struct World {
    router: Router,
    files: Directory,
    _named: (service::Dns, service::Web),
}

impl World {
    fn new() -> Self {
        let router = Router::new(Build::default()).unwrap();
        let named = service::named(&router, &["news.test", "ads.test", "hang.test"]).unwrap();
        Self { router, files: Directory::new("tell").unwrap(), _named: named }
    }

    /// A program that writes down what it is told, and hangs for names that say so.
    fn script(&self) -> PathBuf {
        let text = "#!/bin/sh\n{ env | grep ^SLUICE_; grep ^CapEff: /proc/self/status; echo -- $#; } \
                    >>\"${0%/*}/told\"\n\
                    case \"$SLUICE_NAME\" in hang.test) sleep 600 ;; esac\n";
        let script = self.files.write("notify", text).unwrap();
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
        script
    }

    fn told(&self) -> String {
        fs::read_to_string(self.files.path().join("told")).unwrap_or_default()
    }

    fn get(&self, url: &str, limit: Duration) -> bool {
        fetch(self.router.client(), Family::V4, url, limit).unwrap().is_success()
    }

    fn setup(&self) -> Setup {
        let list = self.files.write("list", "ads.test\nhang.test\n").unwrap();
        let rule = format!(
            "alert http any any -> any any (msg:\"{HOSTILE}\"; http.uri; content:\"/odd\"; sid:7;)\n"
        );
        let rules = self.files.write("rules", rule).unwrap();
        Setup::default()
            .main("ubus", self.files.path().join("ubus.sock").display())
            .main("notify_script", self.script().display())
            .main("metrics_listen", METRICS)
            .domainlist("bad", &[&list])
            .blocklist("malware", &[LISTED])
            .ruleset("feed", false, &[&rules])
    }
}

fn events(agent: &Agent, arguments: &[&str]) -> Vec<Json> {
    let all = [&["events"], arguments].concat();
    let lines = agent.ask(&all).unwrap();
    lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// R114, R177, R195: a blocked contact and an alert are kept, and told to log, bus and program, as
/// text; a program that hangs holds nobody up; what is muted is only kept.
#[test]
fn events_are_told_as_text_and_a_program_that_hangs_stops_nobody() {
    if without_root() {
        return;
    }
    let world = World::new();
    let bus = Bus::start(&world.files.path().join("ubus.sock")).unwrap();
    let setup = world.setup();
    let mut agent = Agent::start(&world.router, setup.clone()).unwrap();
    wait::until_true("the object was offered", LIMIT, || bus.objects() == ["sluice"]).unwrap();
    let mut caller = Caller::connect(bus.path()).unwrap();
    caller.subscribe("sluice").unwrap();
    let mut asker = Caller::connect(bus.path()).unwrap();
    asker.call("sluice", "names", &json!({})).unwrap();

    assert!(!world.get("https://ads.test/", BLOCKED));
    let is_told = |part: &str| world.told().contains(part);
    wait::until_true("the program was told", LIMIT, || is_told("SLUICE_NAME=ads.test\n")).unwrap();
    let told = world.told();
    for line in [
        "SLUICE_KIND=verdict\n",
        "SLUICE_SEVERITY=warning\n",
        "SLUICE_BY=domainlist bad\n",
        "SLUICE_DPORT=443\n",
        &format!("SLUICE_DEVICE={}\n", world.router.client().v4),
        "-- 0\n",
    ] {
        assert!(told.contains(line), "{line} in\n{told}");
    }
    let line = "was kept from ads.test by domainlist bad";
    assert!(agent.log().contains(line), "{}", agent.log());
    let (name, flow) = caller.hear().unwrap();
    assert_eq!((name.as_str(), &flow["name"]), ("verdict", &json!("ads.test")));
    // The same again is kept, and nobody is told.
    assert!(!world.get("https://ads.test/", BLOCKED));
    let kept = || events(&agent, &["--type", "verdict", "--grep", "ads\\.test"]).len();
    wait::until_true("it was kept", LIMIT, || kept() >= 2).unwrap();
    assert_eq!(world.told().matches("SLUICE_NAME=ads.test\n").count(), 1);

    assert!(!world.get("https://hang.test/", BLOCKED));
    wait::until_true("it hangs", LIMIT, || is_told("SLUICE_NAME=hang.test\n")).unwrap();
    assert!(world.get("http://news.test/odd", LIMIT), "nobody waits for it");
    wait::until_true("it was ended", LIMIT, || is_told("SLUICE_KIND=alert\n")).unwrap();
    let escaped = "SLUICE_MSG=<img onerror=x>\"';$(id)`id`\\u{1b}[2J\\u{9b}31m\\u{202e}%s\n";
    assert!(is_told(escaped), "{}", world.told());
    assert!(agent.log().contains("ended after 10 s"), "{}", agent.log());
    let feature = |agent: &Agent| {
        let features = agent.status().unwrap().features;
        features.into_iter().find(|one| one.name == "notify_script").unwrap()
    };
    wait::until_true("it works again", LIMIT, || feature(&agent).state == "active").unwrap();

    let raw = HOSTILE.replace("\\\"", "\"").replace("\\;", ";");
    let [alert] = &events(&agent, &["--type", "alert"])[..] else { panic!() };
    assert_eq!(
        (&alert["msg"], &alert["sid"], &alert["severity"]),
        (&json!(raw), &json!(7), &json!("warning"))
    );
    let acts = |text: &str| text.chars().any(|c| c != '\n' && c.is_control() || c == '\u{202e}');
    for command in [
        &["events"][..],
        &["alerts"],
        &["alerts", "--json"],
        &["flows"],
        &["status"],
        &["metrics"],
        &["status", "--json"],
        &["flows", "--json"],
        &["why", "news.test"],
    ] {
        let text = agent.ask(command).unwrap();
        assert!(!acts(&text), "{command:?}: {text:?}");
    }
    assert!(!acts(&agent.log()), "{:?}", agent.log());
    let heard = std::iter::from_fn(|| caller.hear().ok()).find(|(name, _)| name == "alert");
    assert_eq!(heard.unwrap().1["msg"], json!(raw), "the bus has types");
    assert_eq!(events(&agent, &["--severity", "error"]).len(), 0);
    assert_eq!(events(&agent, &["--since", "1d", "--grep", "(?i)HANG"]).len(), 1);

    // A list that is refused and one that works again; then verdicts are muted.
    let good = fs::read_to_string(agent.config()).unwrap();
    fs::write(agent.config(), good + "nonsense\n").unwrap();
    assert!(agent.ask(&["reload"]).is_err());
    let refused =
        || events(&agent, &["--type", "health", "--severity", "error", "--grep", "refused"]);
    wait::until_true("the refusal is an event", LIMIT, || refused().len() == 1).unwrap();
    wait::until_true("and told", LIMIT, || is_told("SLUICE_FEATURE=configuration\n")).unwrap();
    agent.reloaded(&setup.main("mute", "verdict")).unwrap();
    let before = world.told().matches("SLUICE_KIND=verdict").count();
    let kept_before = events(&agent, &["--type", "verdict"]).len();
    assert!(!world.get("https://www.ads.test/", BLOCKED));
    let kept = || events(&agent, &["--type", "verdict"]).len();
    wait::until_true("it is kept", LIMIT, || kept() > kept_before).unwrap();
    wait::until_true("the rest is told", LIMIT, || is_told("the configuration is in force"))
        .unwrap();
    assert_eq!(world.told().matches("SLUICE_KIND=verdict").count(), before);
    assert!(!agent.log().contains("www.ads.test"));
    assert!(agent.stop().unwrap().success());
}

/// R177, R151: a contact with a listed address is an event of what the kernel counts; events are told on
/// the bus in pages, archived, and muted by type, which is written into the configuration; the
/// program has none of the agent's capabilities.
#[test]
fn contacts_are_told_and_events_archived_and_muted_on_the_bus() {
    if without_root() {
        return;
    }
    let world = World::new();
    let bus = Bus::start(&world.files.path().join("ubus.sock")).unwrap();
    let agent = Agent::start(&world.router, world.setup()).unwrap();
    wait::until_true("the object was offered", LIMIT, || bus.objects() == ["sluice"]).unwrap();
    let mut asker = Caller::connect(bus.path()).unwrap();
    let mut call = |method: &str, arguments: Json| {
        let answer = asker.call("sluice", method, &arguments).unwrap();
        (answer.status, answer.json())
    };
    // After the first look, which counts for nothing.
    let contact = || {
        let address = format!("{LISTED}:7").parse().unwrap();
        let netns = &world.router.client().netns;
        let limit = Duration::from_millis(100);
        let tried = netns.enter(|| std::net::TcpStream::connect_timeout(&address, limit));
        assert!(tried.unwrap().is_err());
    };
    let contacts = || events(&agent, &["--type", "contact"]);
    wait::until_true("the contact was told", LIMIT, || {
        contact();
        !contacts().is_empty()
    })
    .unwrap();
    let [event] = &contacts()[..] else { panic!() };
    assert_eq!(
        (&event["interface"], &event["lists"], &event["severity"]),
        (&json!("lan"), &json!(["malware"]), &json!("warning"))
    );
    let device = world.router.client().v4.to_string();
    assert_eq!((&event["device"], &event["address"]), (&json!(device), &json!(LISTED)));
    let told = || world.told();
    wait::until_true("the program was told", LIMIT, || told().contains("-- 0\n")).unwrap();
    assert!(told().contains("SLUICE_KIND=contact\n"), "{}", told());
    assert!(told().contains("CapEff:\t0000000000000000\n"), "{}", told());
    let line = format!("{device} was kept from the listed address {LISTED} by malware");
    assert!(agent.log().contains(&line), "{}", agent.log());

    for _ in 0..2 {
        assert!(!world.get("https://ads.test/", BLOCKED));
    }
    let page = |arguments: Json, call: &mut dyn FnMut(&str, Json) -> (Status, Json)| {
        let (status, page) = call("events", arguments);
        assert_eq!(status, Status::Ok, "{page}");
        page
    };
    wait::until_true("they were kept", LIMIT, || {
        page(json!({"kinds": "verdict"}), &mut call)["total"].as_u64() >= Some(2)
    })
    .unwrap();
    let all = page(json!({}), &mut call);
    let total = all["total"].as_u64().unwrap();
    assert_eq!((&all["muted"], &all["open"]["contact"]), (&json!([]), &json!(1)));
    let first = page(json!({"limit": 1}), &mut call);
    let rest = page(json!({"offset": 1}), &mut call);
    let ids = |page: &Json| -> Vec<u64> {
        page["events"].as_array().unwrap().iter().map(|one| one["id"].as_u64().unwrap()).collect()
    };
    assert_eq!([ids(&first), ids(&rest)].concat(), ids(&all));
    assert_eq!((ids(&first).len(), ids(&all).len() as u64), (1, total));
    let found =
        page(json!({"part": "LISTED ADDRESS", "severity": "warning", "since": "1h"}), &mut call);
    assert_eq!(found["events"][0]["type"], "contact");
    let wrong = call("events", json!({"kinds": "x"}));
    assert_eq!(wrong.0, Status::Unknown);
    assert!(wrong.1["error"].as_str().unwrap().contains("is no type"), "{wrong:?}");

    let id = &found["events"][0]["id"];
    assert_eq!(call("archive", json!({"id": id})).1, json!({"archived": 1}));
    assert_eq!(page(json!({"archived": 1}), &mut call)["events"][0]["id"], *id);
    assert_eq!(page(json!({"archived": 0}), &mut call)["total"], json!(total - 1));
    assert_eq!(call("archive", json!({"id": 100_000})).0, Status::Unknown);
    let archived = call("archive", json!({"kind": "verdict"})).1;
    assert!(archived["archived"].as_u64() >= Some(2), "{archived}");

    let (status, muted) = call("mute", json!({"kind": "verdict"}));
    assert_eq!(status, Status::Ok, "{muted}");
    let config = || fs::read_to_string(agent.config()).unwrap();
    assert!(config().contains("list mute 'verdict'"), "{}", config());
    assert_eq!(page(json!({}), &mut call)["muted"], json!(["verdict"]));
    let before = told().matches("SLUICE_KIND=verdict").count();
    assert!(!world.get("https://www.ads.test/", BLOCKED));
    wait::until_true("it was kept", LIMIT, || !events(&agent, &["--grep", "www.ads"]).is_empty())
        .unwrap();
    assert_eq!(told().matches("SLUICE_KIND=verdict").count(), before);
    assert!(!agent.log().contains("www.ads.test"), "{}", agent.log());
    assert_eq!(call("mute", json!({"kind": "all"})).0, Status::Unknown);
    assert_eq!(call("unmute", json!({"kind": "verdict"})).0, Status::Ok);
    assert!(!config().contains("mute"), "{}", config());
    assert_eq!(page(json!({}), &mut call)["muted"], json!([]));
}

/// R190, R152: figures come on loopback alone and only while that is wanted; promtool has no
/// objections, a real Prometheus takes them, and the dashboard asks for nothing else.
#[test]
fn prometheus_takes_the_figures_and_nothing_listens_otherwise() {
    if without_root() {
        return;
    }
    process::need(&["prometheus", "promtool", "curl", "lua5.1"]).unwrap();
    let world = World::new();
    let netns = &world.router.netns;
    let setup = world.setup();
    let quiet = Setup { main: setup.main[..2].to_vec(), ..setup.clone() };
    let mut agent = Agent::start(&world.router, quiet.clone()).unwrap();
    // Beside the name server of this world, and Prometheus.
    let listeners = || {
        let all = netns.tcp_listeners().unwrap().into_iter();
        all.filter(|(_, port)| ![53, 9090].contains(port)).collect::<Vec<_>>()
    };
    assert_eq!(listeners(), []);
    agent.reload(&setup).unwrap();
    let address: std::net::SocketAddr = METRICS.parse().unwrap();
    let listens = || listeners() == [(address.ip(), address.port())];
    wait::until_true("it listens on loopback", LIMIT, listens).unwrap();
    assert!(world.get("http://news.test/", LIMIT));

    let config = format!(
        "global: {{ scrape_interval: 1s }}\n\
         scrape_configs:\n- job_name: sluice\n  static_configs:\n  - targets: ['{METRICS}']\n"
    );
    let config = world.files.write("prometheus.yml", config).unwrap();
    let mut command = netns.command("prometheus");
    command.arg(format!("--config.file={}", config.display()));
    command.arg(format!("--storage.tsdb.path={}", world.files.path().join("tsdb").display()));
    command.arg("--web.listen-address=127.0.0.1:9090");
    let _prometheus = Daemon::spawn("prometheus", command, world.files.path()).unwrap();
    netns.wait_for_listener(9090).unwrap();
    let query = |expression: &str| -> Vec<Json> {
        let mut curl = netns.command("curl");
        curl.args(["--silent", "--get", "--data-urlencode", &format!("query={expression}")]);
        let answer = process::run(curl.arg("http://127.0.0.1:9090/api/v1/query")).unwrap();
        let answer: Json = serde_json::from_str(&answer).unwrap();
        assert_eq!(answer["status"], "success", "{expression}: {answer}");
        answer["data"]["result"].as_array().unwrap().clone()
    };
    let is_up = || query("up{job=\"sluice\"}").iter().any(|one| one["value"][1] == "1");
    wait::until_true("Prometheus took the figures", LIMIT, is_up).unwrap();

    let text = agent.ask(&["metrics"]).unwrap();
    let checked = process::feed(netns.command("promtool").args(["check", "metrics"]), &text);
    assert!(checked.is_ok(), "{checked:?}\n{text}");
    let names: BTreeSet<&str> =
        text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect();
    let known = names
        .iter()
        .filter(|name| !query(&format!("{{__name__=~\"{name}(_count)?\"}}")).is_empty());
    assert!(known.count() > 20, "{names:?}");
    // The collector for the exporter in Lua, with this agent in the place of the installed one.
    let collector = include_str!("../../openwrt-package/sluice/files/sluice.lua");
    let ask =
        format!("{} --socket {} metrics", agent.program().display(), agent.socket().display());
    let collector = collector.replace("/usr/sbin/sluice metrics", &ask);
    assert!(collector.contains(&ask));
    let collector = world.files.write("sluice.lua", collector).unwrap();
    let collect = |file: &std::path::Path| {
        let script = format!("output = print\ndofile('{}').scrape()", file.display());
        process::run(netns.command("lua5.1").args(["-e", &script]))
    };
    let collected = collect(&collector).unwrap();
    let shape = |text: &str| {
        text.lines().map(|line| line.split(' ').next().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(shape(&collected), shape(&text));
    let silent = fs::read_to_string(&collector).unwrap().replace("control.sock", "none.sock");
    assert!(
        collect(&world.files.write("silent.lua", silent).unwrap()).is_err(),
        "no agent is an error"
    );
    let dashboard = include_str!("../../config/grafana.json");
    let dashboard: Json = serde_json::from_str(dashboard).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let targets = panels.iter().flat_map(|panel| panel["targets"].as_array().into_iter().flatten());
    let mut count = 0;
    for expression in targets.map(|target| target["expr"].as_str().unwrap()) {
        query(&expression.replace("$instance", ".*").replace("$__rate_interval", "1m"));
        count += 1;
        let words = expression.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        let figures: Vec<&str> = words.filter(|word| word.starts_with("sluice_")).collect();
        assert!(!figures.is_empty(), "{expression}");
        for word in figures {
            let family = word.strip_suffix("_bucket").unwrap_or(word);
            assert!(names.contains(family), "{word} of `{expression}` is no figure");
        }
    }
    assert!(count >= 8, "{count}");

    // From outside nothing answers, whatever the firewall does; by another configuration nothing at all.
    let outside = std::net::SocketAddr::from((sluice_tests::router::LAN_V4, address.port()));
    let refused =
        world.router.client().netns.enter(|| std::net::TcpStream::connect(outside)).unwrap();
    assert!(refused.is_err());
    agent.reload(&quiet).unwrap();
    wait::until_true("nothing listens", LIMIT, || listeners().is_empty()).unwrap();
}

//! Domain lists on a router: what they block, what lifts them, how they are replaced, and what is
//! refused.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sluice_tests::agent::{Agent, Setup};
use sluice_tests::directory::Directory;
use sluice_tests::report::Status;
use sluice_tests::router::{Build, Router};
use sluice_tests::service::{self, Dns, Family, Fetched, Web, fetch, page};
use sluice_tests::skip::without_root;

/// Emulated and shared machines are slow.
const LIMIT: Duration = Duration::from_secs(120);
/// More than a download of sixteen seconds takes.
const SLOW: Duration = Duration::from_secs(25);
/// Time for a connection that is blocked.
const BLOCKED: Duration = Duration::from_secs(3);

const NAMES: [&str; 3] = ["news.test", "ads.test", "shop.test"];

/// A router with a web server that clients find by name, and a place for lists.
struct World {
    web: Web,
    _dns: Dns,
    router: Router,
    files: Directory,
}

impl World {
    fn new() -> Self {
        let router = Router::new(Build::default()).unwrap();
        let (dns, web) = service::named(&router, &NAMES).unwrap();
        Self { web, _dns: dns, router, files: Directory::new("domains").unwrap() }
    }

    fn write(&self, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
        self.files.write(name, text).unwrap()
    }

    fn fetch(&self, family: Family, name: &str, limit: Duration) -> Fetched {
        fetch(self.router.client(), family, &format!("https://{name}/"), limit).unwrap()
    }

    fn works(&self, name: &str) {
        let fetched = self.fetch(Family::V4, name, LIMIT);
        assert!(fetched.is_success(), "{name}: {fetched:?}");
    }

    /// A connection to `name` fails because `list` has it.
    fn is_blocked(&self, agent: &Agent, family: Family, name: &str, list: &str) {
        let fetched = self.fetch(family, name, BLOCKED);
        assert!(!fetched.is_success(), "{name}: {fetched:?}");
        let flow = agent
            .wait_for_flow("blocked", |flow| flow.is_for(name) && flow.sport == fetched.port)
            .unwrap();
        assert_eq!((&*flow.verdict, &*flow.reason), ("blocked", "domain_list"), "{flow:?}");
        assert_eq!((flow.list.as_deref(), flow.rule), (Some(list), None));
    }
}

fn blocked_by(status: &Status, list: &str) -> u64 {
    status.domain_lists.iter().find(|one| one.name == list).unwrap().flows
}

/// R72: a name of a list and one below it fail, its neighbour and one that ends alike work; a rule
/// lifts the list; counters, `why` and `status` name it.
#[test]
fn a_listed_name_fails_its_neighbour_works_and_a_rule_lifts_the_list() {
    if without_root() {
        return;
    }
    let world = World::new();
    let hosts = "# a hosts file\r\n127.0.0.1 localhost\r\n0.0.0.0 Deep.News.test\r\n\r\n";
    let plain = "s.test\n*.ads.test\nSHOP.test. # all of it\nb\u{fc}cher.example\nads.test\n";
    let files = [world.write("hosts", hosts), world.write("plain", plain)];
    let setup = Setup::default()
        .domainlist("hosts", &[&files[0]])
        .domainlist("ads", &[&files[1]])
        .rule("wanted", "allow", &["www.shop.test"]);
    let agent = Agent::start(&world.router, setup).unwrap();
    for (family, name, list) in [
        (Family::V4, "ads.test", "ads"),
        (Family::V6, "deep.in.ads.test", "ads"),
        (Family::V4, "deep.news.test", "hosts"),
        (Family::V4, "shop.test", "ads"),
    ] {
        world.is_blocked(&agent, family, name, list);
    }
    for name in ["news.test", "a.news.test", "www.shop.test", "deeper.www.shop.test"] {
        world.works(name);
    }
    let requests = world.web.requests().unwrap();
    let is_fine = |line: &&String| line.contains("news.test ") || line.contains("www.shop.test ");
    assert_eq!(requests.iter().filter(is_fine).count(), requests.len(), "{requests:?}");

    let status = agent.status().unwrap();
    let lists = status.domain_lists.iter().map(|list| (&*list.name, list.names));
    assert_eq!(lists.collect::<Vec<_>>(), [("hosts", 1), ("ads", 4)]);
    assert_eq!((blocked_by(&status, "ads"), blocked_by(&status, "hosts")), (3, 1));
    assert_eq!(status.domain_set.names, 4, "one of them comes twice");
    let warned = |part: &str| status.config_warnings.iter().any(|warning| warning.contains(part));
    assert!(warned("hosts:2: '127.0.0.1 localhost' has no dot"), "{:?}", status.config_warnings);
    assert!(warned("plain:4: 'bücher.example' is not ASCII"), "{:?}", status.config_warnings);
    assert!(agent.ask(&["status"]).unwrap().contains("domain lists take 1 KiB of "));

    let why = agent.why("deep.in.ads.test").unwrap();
    let [cause] = &why.causes[..] else { unreachable!("{why:?}") };
    assert_eq!((&*cause.action, &*cause.by), ("block", "domainlist ads"));
    assert_eq!(cause.entry, format!("ads.test, {}:2", files[1].display()));
    assert_eq!(why.flows.len(), 1);
    let why = agent.why("www.shop.test").unwrap();
    let causes: Vec<_> = why.causes.iter().map(|cause| (&*cause.action, &*cause.by)).collect();
    assert_eq!(causes, [("allow", "rule wanted"), ("block", "domainlist ads")]);
    assert_eq!(agent.why("a.news.test").unwrap().causes.len(), 0);
}

/// R173: a list that observes drops nothing and counts, by device, what it would have blocked; with
/// another action it blocks, and what it counted stays.
#[test]
fn a_list_that_observes_counts_and_drops_nothing() {
    if without_root() {
        return;
    }
    let world = World::new();
    let files =
        [world.write("watched", "ads.test\nshop.test\n"), world.write("bad", "shop.test\n")];
    let with = |action: &str| {
        let mut setup = Setup::default().domainlist("watched", &[&files[0]]);
        setup.more = setup.more.option("action", action);
        setup.domainlist("bad", &[&files[1]])
    };
    let mut agent = Agent::start(&world.router, with("observe")).unwrap();
    for name in ["ads.test", "deep.ads.test", "news.test"] {
        let fetched = world.fetch(Family::V4, name, LIMIT);
        assert!(fetched.is_success(), "{name}: {fetched:?}");
        let flow = agent.wait_for_flow("decided", |flow| flow.sport == fetched.port).unwrap();
        let expected = (name != "news.test").then_some("domainlist watched");
        assert_eq!((&*flow.verdict, flow.observed.as_deref()), ("trusted", expected), "{name}");
    }
    world.is_blocked(&agent, Family::V4, "shop.test", "bad");
    let status = agent.status().unwrap();
    assert_eq!((blocked_by(&status, "watched"), blocked_by(&status, "bad")), (2, 1));
    let list = status.domain_lists.iter().find(|list| list.name == "watched").unwrap();
    let devices: Vec<_> = list.devices.iter().map(|one| (one.address, one.flows)).collect();
    assert_eq!(devices, [(world.router.client().v4.into(), 2)]);
    assert_eq!(agent.why("ads.test").unwrap().causes[0].action, "observe");

    let status = agent.reloaded(&with("block")).unwrap();
    assert!(blocked_by(&status, "watched") >= 2);
    world.is_blocked(&agent, Family::V4, "ads.test", "watched");
}

/// R125: the new lists are in force at once when they are read, for flows that live, too, and the old
/// ones until then; counters stay.
#[test]
fn lists_are_replaced_while_connections_live() {
    if without_root() {
        return;
    }
    let world = World::new();
    let file = world.write("list", "ads.test\n");
    let setup = Setup::default().domainlist("ads", &[&file]);
    let mut agent = Agent::start(&world.router, setup.clone()).unwrap();
    world.is_blocked(&agent, Family::V4, "ads.test", "ads");
    world.works("shop.test");
    // A download of sixteen seconds, which the next list has the name of.
    let url = format!("https://news.test{}", page::SLOW);
    std::thread::scope(|scope| {
        let client = world.router.client();
        let slow = scope.spawn(|| fetch(client, Family::V4, &url, SLOW).unwrap());
        agent
            .wait_for_flow("trusted", |flow| flow.is_for("news.test") && flow.reply_packets > 100)
            .unwrap();
        world.write("list", "news.test\nshop.test\n");
        let status = agent.reloaded(&setup).unwrap();
        assert_eq!((status.domain_lists[0].names, blocked_by(&status, "ads")), (2, 3));
        let flow = agent
            .wait_for_flow("blocked", |flow| flow.is_for("news.test") && flow.verdict == "blocked")
            .unwrap();
        assert_eq!((&*flow.reason, flow.list.as_deref()), ("domain_list", Some("ads")));
        world.is_blocked(&agent, Family::V4, "shop.test", "ads");
        world.works("ads.test");
        // Without the list everything works again, but for what is blocked until its deadline.
        let status = agent.reloaded(&Setup::default()).unwrap();
        assert!(status.domain_lists.is_empty());
        assert_eq!((status.domain_set.names, status.domain_set.kib), (0, 0));
        world.works("shop.test");
        assert!(!slow.join().unwrap().is_success());
    });
}

/// Names that no test asks for.
fn many(names: u32) -> String {
    let mut text = String::new();
    for number in 0..names {
        let _infallible = writeln!(text, "n{number}.filler.example");
    }
    text
}

/// Resident memory that is the process's own, in KiB.
fn anonymous(agent: &Agent) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", agent.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    line.split_ascii_whitespace().next().unwrap().parse().unwrap()
}

/// R182: what does not fit is refused with its arithmetic, and what was in force stays.
#[test]
fn lists_beyond_their_memory_are_refused_and_the_old_ones_stay() {
    if without_root() {
        return;
    }
    let world = World::new();
    let file = world.write("list", "ads.test\n");
    let setup = Setup::default().domainlist("ads", &[&file]).main("domain_memory_kib", 1024);
    let mut agent = Agent::start(&world.router, setup.clone()).unwrap();
    let before = anonymous(&agent);
    // 200,000 names take some 1.1 MiB.
    world.write("list", format!("shop.test\n{}", many(200_000)));
    let refused = |agent: &mut Agent, file: &Path| {
        assert!(file.exists());
        agent.refused(&setup).unwrap()
    };
    let status = refused(&mut agent, &file);
    let [refusal] = &status.config_errors[..] else { unreachable!("{:?}", status.config_errors) };
    println!("{refusal}");
    assert!(refusal.starts_with("the domain lists need 1,"), "{refusal}");
    assert!(refusal.contains(" KiB for 200,001 names and "), "{refusal}");
    assert!(refusal.ends_with(" in force, domain_memory_kib allows 1,024 KiB"), "{refusal}");
    assert_eq!((status.generation, status.domain_lists[0].names), (1, 1));
    // Before anything of it was loaded.
    let grown = anonymous(&agent).saturating_sub(before);
    assert!(grown < 512, "{grown} KiB more");
    world.is_blocked(&agent, Family::V4, "ads.test", "ads");
    world.works("shop.test");

    // An agent that starts with it works otherwise, and says so.
    agent.kill9().unwrap();
    agent.start_again(&world.router).unwrap();
    let status = agent.status().unwrap();
    let says = |status: &Status| {
        let warnings = status.config_warnings.iter();
        warnings.filter(|warning| warning.ends_with("domain_memory_kib allows 1,024 KiB")).count()
    };
    assert_eq!((says(&status), status.domain_lists.len()), (1, 0));
    world.works("news.test");
    // With room it is taken.
    let roomy = Setup::default().domainlist("ads", &[&file]).main("domain_memory_kib", 4096);
    let status = agent.reloaded(&roomy).unwrap();
    assert_eq!((says(&status), status.domain_set.names), (0, 200_001));
    println!(
        "200,001 names: {} KiB, loaded in {} ms",
        status.domain_set.kib, status.domain_set.load_ms
    );
    world.is_blocked(&agent, Family::V4, "shop.test", "ads");
}

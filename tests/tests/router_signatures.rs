//! Rulesets on a router: what they tell, what they block, how they are replaced, what is refused.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use sluice_tests::agent::{Agent, Setup};
use sluice_tests::directory::Directory;
use sluice_tests::report::{Alert, Flow, Status};
use sluice_tests::router::{Build, Router};
use sluice_tests::service::{Dns, Family, Fetched, Web, fetch};
use sluice_tests::skip::without_root;
use sluice_tests::traffic::{TcpService, connect, round_trip, udp};

/// Emulated and shared machines are slow.
const LIMIT: Duration = Duration::from_secs(120);
/// Time for a connection that is blocked.
const BLOCKED: Duration = Duration::from_secs(3);

const NAMES: [&str; 3] = ["news.test", "ads.test", "shop.test"];

/// Rules that are in force, and three that never are.
const RULES: &str = r#"
drop http $HOME_NET any -> any any (msg:"a bad\; path"; http.uri; content:"/evil"; startswith; sid:1;)
drop tls any any -> any 443 (msg:"an ad"; tls.sni; content:"ads.test"; endswith; sid:2; rev:7;)
alert tcp any any -> any 7 (msg:"knocking"; flags:S; threshold:type both, track by_src, count 3, seconds 600; sid:3;)
drop tcp any any -> any 7 (msg:"word"; flow:to_server,established; dsize:8; content:"EVIL"; sid:4;)
pass http any any -> any any (http.host; content:"shop.test"; sid:5;)
drop tcp any any -> any any (msg:"half"; content:"GET"; pcre:"/nothing/"; isdataat:10; sid:6;)
alert udp any any -> any 53 (msg:"asked"; dns.query; content:"evil"; sid:7;)
drop icmp any any -> any any (sid:8;)
alert tcp any any -> any any (content:"GET"; depth:0; sid:9;)
"#;

/// A router with a web server that clients find by name, and a place for rules.
struct World {
    _web: Web,
    _dns: Dns,
    router: Router,
    files: Directory,
}

impl World {
    fn new() -> Self {
        let router = Router::new(Build::default()).unwrap();
        let dns = Dns::start(&router, &NAMES).unwrap();
        let web = Web::start(&router.server, &NAMES).unwrap();
        Self { _web: web, _dns: dns, router, files: Directory::new("rules").unwrap() }
    }

    fn write(&self, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
        self.files.write(name, text).unwrap()
    }

    fn fetch(&self, url: &str, limit: Duration) -> Fetched {
        fetch(self.router.client(), Family::V4, url, limit).unwrap()
    }

    /// The page comes; the port of the connection.
    fn works(&self, url: &str) -> u16 {
        let fetched = self.fetch(url, LIMIT);
        assert!(fetched.is_success(), "{url}: {fetched:?}");
        fetched.port
    }

    /// The page does not come; the flow that was blocked.
    fn is_blocked(&self, agent: &Agent, url: &str) -> Flow {
        let fetched = self.fetch(url, BLOCKED);
        assert!(!fetched.is_success(), "{url}: {fetched:?}");
        let is_it = |flow: &Flow| flow.sport == fetched.port && flow.verdict == "blocked";
        agent.wait_for_flow("blocked", is_it).unwrap()
    }
}

/// Numbers of the alerts of connections from this port, the first first.
fn sids(alerts: &[Alert], port: u16) -> Vec<u32> {
    let of_port = alerts.iter().rev().filter(|alert| alert.sport == port || alert.dport == port);
    of_port.map(|alert| alert.sid).collect()
}

/// R44, R172: real clients match by path, name, fingerprint, size and flags. First every match is
/// only told; enforced, what drops blocks its flow and nothing else.
#[test]
fn a_match_is_told_and_when_enforced_blocks_its_flow_alone() {
    if without_root() {
        return;
    }
    let world = World::new();
    let file = world.write("a.rules", RULES);
    let setup = Setup::default().ruleset("feed", false, &[&file]);
    let mut agent = Agent::start(&world.router, setup).unwrap();
    let echo = TcpService::echo(&world.router.server, world.router.server.v4.into(), 7).unwrap();
    let talk = |words: &[&[u8; 8]]| {
        let mut stream = connect(world.router.client(), echo.address()).unwrap();
        stream.set_read_timeout(Some(BLOCKED)).unwrap();
        let port = stream.local_addr().unwrap().port();
        let got =
            words.iter().take_while(|word| round_trip(&mut stream, word.as_slice(), 8).is_ok());
        (port, got.count())
    };

    let evil = world.works("http://news.test/evil?x");
    let good = world.works("http://news.test/good/evil");
    let ad = world.works("https://www.ads.test/");
    let passed = world.works("http://shop.test/evil");
    let knocks: Vec<_> = (0..4).map(|_| talk(&[b"\x00harmles"])).collect();
    let curse = talk(&[b"\x00harmles", b"\x00 EVIL \x00", b"\x00more..."]);
    let question = b"\0\x01\x01\0\0\x01\0\0\0\0\0\0\x04evil\x04test\0\0\x01\0\x01";
    let server = (world.router.server.v4, 53).into();
    let asks = udp(world.router.client(), server).unwrap();
    asks.send(question).unwrap();
    let asks = asks.local_addr().unwrap().port();
    let told =
        |_: &Status| agent.alerts().unwrap().iter().any(|alert| alert.sid == 7).then_some(());
    agent.wait_for_status("the question was seen", LIMIT, told).unwrap();
    assert_eq!((knocks[3].1, curse.1), (1, 3), "nothing is blocked");
    let alerts = agent.alerts().unwrap();
    for (port, expected) in [
        (evil, &[1][..]),
        (good, &[]),
        (ad, &[2]),
        (passed, &[]),
        (knocks[1].0, &[]),
        (knocks[2].0, &[3]),
        (knocks[3].0, &[]),
        (curse.0, &[4]),
        (asks, &[7]),
    ] {
        assert_eq!(sids(&alerts, port), expected, "{port}: {alerts:?}");
    }
    assert!(alerts.iter().all(|alert| !alert.blocked && alert.ruleset == "feed"));
    assert_eq!(alerts.last().unwrap().msg, "a bad; path");
    let status = agent.status().unwrap();
    let [one] = &status.signatures.rulesets[..] else { unreachable!("{status:?}") };
    assert_eq!((one.rules, one.unsupported, one.wrong), (6, 2, 1), "{one:?}");
    let keywords: Vec<_> = one.keywords.iter().map(|(word, n)| (word.as_str(), *n)).collect();
    let expected = [("isdataat", 1), ("pcre", 1), ("protocol:icmp", 1)];
    assert_eq!(keywords, expected);
    let place = format!("{}:7: sid 6: left out for pcre, isdataat", file.display());
    assert_eq!(one.left_out[0], place);
    assert_eq!((one.alerts, one.blocked), (5, 0));
    assert!(agent.log().contains("alert: feed:1 a bad; path: "), "{}", agent.log());

    let status = agent.reloaded(&Setup::default().ruleset("feed", true, &[&file])).unwrap();
    assert!(status.signatures.rulesets[0].enforce);
    let flow = world.is_blocked(&agent, "http://news.test/evil");
    assert_eq!((&*flow.reason, flow.rule.as_deref()), ("signature", Some("feed:1 a bad; path")));
    let flow = world.is_blocked(&agent, "https://www.ads.test/");
    assert_eq!((&*flow.reason, flow.rule.as_deref()), ("signature", Some("feed:2 an ad")));
    world.works("http://news.test/good/evil");
    world.works("http://shop.test/evil");
    world.works("https://news.test/");
    let (port, got) = talk(&[b"\x00harmles", b"\x00 EVIL \x00", b"\x00more..."]);
    assert_eq!(got, 1, "what came before the match was answered");
    let is_it = |flow: &Flow| flow.sport == port && flow.verdict == "blocked";
    agent.wait_for_flow("blocked", is_it).unwrap();
    let alerts = agent.alerts().unwrap();
    assert!(alerts[0].blocked && alerts[0].action == "drop", "{:?}", alerts[0]);
    let status = agent.status().unwrap();
    assert_eq!(status.signatures.rulesets[0].blocked, 3, "with what curl did not try again");
    assert!(agent.ask(&["alerts"]).unwrap().contains("feed:2"));
    assert!(
        agent
            .ask(&["metrics"])
            .unwrap()
            .contains("sluice_ruleset_total{ruleset=\"feed\",what=\"blocked_flows\"} 3\n")
    );
}

/// R44: the fingerprint of a real client is a signature; a rule of the configuration that allows
/// comes before it.
#[test]
fn a_fingerprint_blocks_its_client_and_an_allow_rule_lifts_it() {
    if without_root() {
        return;
    }
    let world = World::new();
    let mut agent = Agent::start(&world.router, Setup::default()).unwrap();
    assert!(agent.status().unwrap().signatures.rulesets.is_empty());
    let port = world.works("https://news.test/");
    let ja4 = agent.wait_for_flow("trusted", |flow| flow.sport == port).unwrap().ja4.unwrap();
    let rule = format!(
        "drop tls any any -> any any (msg:\"curl\x1b[2J\"; ja4.hash; content:\"{ja4}\"; sid:1;)\n"
    );
    let file = world.write("a.rules", rule);
    let setup =
        Setup::default().ruleset("ja4", true, &[&file]).rule("mine", "allow", &["shop.test"]);
    agent.reloaded(&setup).unwrap();
    let flow = world.is_blocked(&agent, "https://news.test/");
    assert_eq!(flow.rule.as_deref(), Some("ja4:1 curl\x1b[2J"));
    world.works("https://shop.test/");
    world.works("http://news.test/");
    let alerts = agent.alerts().unwrap();
    assert_eq!(alerts.iter().map(|alert| alert.blocked).collect::<Vec<_>>(), [false, true]);
    let shown = agent.ask(&["alerts"]).unwrap() + &agent.ask(&["flows"]).unwrap() + &agent.log();
    assert!(shown.contains("curl\\u{1b}[2J") && !shown.contains('\x1b'), "{shown}");
}

/// R44: rulesets over their cap, and files that are not there, leave the ones in force alone; what
/// has not changed is not read again.
#[test]
fn a_set_over_its_cap_is_refused_and_the_old_one_stays() {
    if without_root() {
        return;
    }
    let world = World::new();
    let file = world.write("a.rules", RULES);
    let setup = Setup::default().ruleset("feed", true, &[&file]).main("signature_memory_kib", 1024);
    let mut agent = Agent::start(&world.router, setup.clone()).unwrap();
    let mut many = String::new();
    for sid in 1..20_000 {
        let _ = writeln!(
            many,
            "drop http any any -> any any (msg:\"rule {sid}\"; http.uri; content:\"/good{sid}/x\"; sid:{sid};)"
        );
    }
    let refused = |agent: &mut Agent, setup: &Setup| agent.refused(setup).unwrap().config_errors;
    world.write("a.rules", &many);
    let errors = refused(&mut agent, &setup);
    println!("{errors:?}");
    let [error] = &errors[..] else { unreachable!("{errors:?}") };
    assert!(error.starts_with("ruleset feed: 19999 rules need "), "{error}");
    assert!(error.ends_with("they may have 1024 KiB"), "{error}");
    world.is_blocked(&agent, "http://news.test/evil");
    world.works("http://news.test/good7/x");
    // An agent that starts with it works otherwise, and says so.
    agent.kill9().unwrap();
    agent.start_again(&world.router).unwrap();
    let status = agent.status().unwrap();
    assert!(status.signatures.rulesets.is_empty());
    let warnings = &status.config_warnings;
    assert!(warnings.iter().any(|w| w.ends_with("they may have 1024 KiB")), "{warnings:?}");
    world.works("http://news.test/good7/x");
    // With room it is taken.
    let roomy =
        Setup::default().ruleset("feed", true, &[&file]).main("signature_memory_kib", 16384);
    let status = agent.reloaded(&roomy).unwrap();
    println!("19,999 rules: {} KiB", status.signatures.kib);
    assert_eq!(status.signatures.rulesets[0].rules, 19_999);
    world.is_blocked(&agent, "http://news.test/good7/x");
    world.works("http://news.test/evil");

    let gone = world.files.path().join("gone.rules");
    let errors = refused(&mut agent, &Setup::default().ruleset("feed", true, &[&gone]));
    assert!(
        errors[0].contains("sluice.feed.file: ") && errors[0].contains("gone.rules"),
        "{errors:?}"
    );
    world.is_blocked(&agent, "http://news.test/good7/x");
    // The same file again: the counters go on, nothing is loaded.
    let before = agent.status().unwrap();
    agent.reload(&roomy).unwrap();
    let after = agent
        .wait_for_status("the file was right again", LIMIT, |status| {
            status.config_errors.is_empty().then(|| status.clone())
        })
        .unwrap();
    assert_eq!(after.generation, before.generation);
    let [before, after] = [before, after].map(|status| status.signatures.rulesets[0].clone());
    assert!(after.packets >= before.packets && after.blocked == 2, "{before:?} {after:?}");
}

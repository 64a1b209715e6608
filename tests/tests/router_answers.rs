//! Rules about what servers answer, with a real server and a real client.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::process::Command;
use std::time::{Duration, Instant};

use sluice_tests::agent::{Agent, Setup};
use sluice_tests::process;
use sluice_tests::report::Flow;
use sluice_tests::router::{Build, Router};
use sluice_tests::service::{self, Dns, Family, Fetched, Web, curl, fetched};
use sluice_tests::skip::without_root;

/// Limit of one download.
const LIMIT: Duration = Duration::from_secs(20);
/// Limit of one that is blocked: long enough for everything that is not.
const BLOCKED: Duration = Duration::from_secs(3);
/// A hash that nobody has.
const NOBODY: &str = "0000000000000000000000000000000000000000";

struct Site {
    web: Web,
    _dns: Dns,
    agent: Agent,
    world: Router,
}

impl Site {
    fn new(setup: Setup) -> Self {
        let world = Router::new(Build::default()).unwrap();
        let (dns, web) = service::named(&world, &["plain.test"]).unwrap();
        let agent = Agent::start(&world, setup).unwrap();
        Self { web, _dns: dns, agent, world }
    }

    fn get(&self, family: Family, most: &str, limit: Duration) -> Fetched {
        let mut command = curl(self.world.client(), family, "https://plain.test/", limit);
        command.args(["--tls-max", most]);
        fetched(command).unwrap()
    }

    fn works(&self, family: Family, most: &str) -> Flow {
        let fetched = self.get(family, most, LIMIT);
        assert!(fetched.is_success(), "{family:?} {most}: {fetched:?}");
        self.agent.wait_for_flow("decided", |flow| flow.sport == fetched.port).unwrap()
    }

    fn fails(&self, family: Family, most: &str) -> Flow {
        let known = self.agent.flows().unwrap();
        let fetched = self.get(family, most, BLOCKED);
        assert!(!fetched.is_success(), "{family:?} {most}: {fetched:?}");
        let is_new = |flow: &Flow| !known.iter().any(|known| known.sport == flow.sport);
        self.agent.wait_for_flow("blocked", |f| f.verdict == "blocked" && is_new(f)).unwrap()
    }

    /// SHA-1 of the server's certificate, as another program says.
    fn certificate(&self) -> String {
        let mut command = Command::new("openssl");
        command.args(["x509", "-noout", "-fingerprint", "-sha1", "-in"]);
        let text = process::run(command.arg(self.web.certificate())).unwrap();
        let (_, hash) = text.trim().split_once('=').unwrap();
        hash.replace(':', "").to_lowercase()
    }
}

fn rule(options: &[(&str, &str)]) -> Setup {
    let mut setup = Setup::default();
    setup.more = setup.more.section("rule", "server");
    for (option, value) in options {
        setup.more = if *option == "action" {
            setup.more.option(option, value)
        } else {
            setup.more.list(option, &[value])
        };
    }
    setup
}

fn by(flow: &Flow) -> (&str, Option<&str>, Option<&str>) {
    (&flow.verdict, flow.rule.as_deref(), flow.entry.as_deref())
}

/// R43: the certificate of a server in a list of SSLBL's form blocks its flows in both families, also
/// behind translation, once it has been sent; TLS 1.3 hides it, and its JA3S blocks too.
#[test]
fn a_certificate_or_a_ja3s_of_the_server_blocks_its_flows() {
    if without_root() {
        return;
    }
    let mut site = Site::new(rule(&[("action", "observe"), ("certificate", NOBODY)]));
    let sha1 = site.certificate();
    let seen = site.works(Family::V4, "1.2");
    assert_eq!(seen.certificate.as_deref(), Some(sha1.as_str()), "{seen:?}");
    assert_eq!(seen.sni.as_deref(), Some("plain.test"));
    assert!(seen.original_packets > 0, "from then on it takes the fast path: {seen:?}");
    let hidden = site.works(Family::V6, "1.3");
    assert_eq!((hidden.certificate.as_ref(), hidden.ja3s.is_some()), (None, true));
    assert_ne!(hidden.ja3s, seen.ja3s);

    let file = site.world.directory.path().join("sslblacklist.csv");
    let text = format!("# Listingdate,SHA1,Listingreason\n2026-01-01 00:00:00,{sha1},C&C\n");
    std::fs::write(&file, text).unwrap();
    let file = file.display().to_string();
    site.agent.reloaded(&rule(&[("certificate_file", &file)])).unwrap();
    for family in [Family::V4, Family::V6] {
        let flow = site.fails(family, "1.2");
        assert_eq!(by(&flow), ("blocked", Some("server"), Some(sha1.as_str())), "{flow:?}");
        assert_eq!(flow.certificate.as_deref(), Some(sha1.as_str()));
    }
    assert_eq!(site.works(Family::V4, "1.3").verdict, "trusted");

    let ja3s = hidden.ja3s.unwrap();
    site.agent.reloaded(&rule(&[("ja3s", &ja3s)])).unwrap();
    let flow = site.fails(Family::V6, "1.3");
    assert_eq!(by(&flow), ("blocked", Some("server"), Some(ja3s.as_str())), "{flow:?}");
    assert_eq!(site.works(Family::V4, "1.2").verdict, "trusted");
}

/// R43, R169: a flow for which such a rule cannot count does not wait; one that is rejected is told.
#[test]
fn only_flows_that_it_could_count_for_wait_for_an_answer() {
    if without_root() {
        return;
    }
    let mut site = Site::new(rule(&[("certificate", NOBODY), ("device", "192.0.2.77")]));
    let flow = site.works(Family::V4, "1.2");
    assert_eq!((flow.ja3s, flow.certificate), (None, None), "nobody waited");
    let before = flow.inspected_packets;
    let sha1 = site.certificate();
    site.agent.reloaded(&rule(&[("certificate", NOBODY)])).unwrap();
    let flow = site.works(Family::V4, "1.2");
    assert!(flow.inspected_packets > before, "{} {before}", flow.inspected_packets);
    site.agent.reloaded(&rule(&[("certificate", sha1.as_str()), ("action", "reject")])).unwrap();
    let start = Instant::now();
    let fetched = site.get(Family::V4, "1.2", LIMIT);
    assert!(!fetched.is_success() && start.elapsed() < LIMIT / 2, "{fetched:?}");
}

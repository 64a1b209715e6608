//! Requests without TLS that name their flow, with a real server and a real client.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::time::Duration;

use sluice_tests::agent::{Agent, Setup};
use sluice_tests::report::Flow;
use sluice_tests::router::{Build, Router};
use sluice_tests::service::{self, Dns, Family, Fetched, Web, curl, fetched};
use sluice_tests::skip::without_root;

/// Limit of one download.
const LIMIT: Duration = Duration::from_secs(20);
/// Limit of one that is blocked: long enough for everything that is not.
const BLOCKED: Duration = Duration::from_secs(3);

struct Site {
    _web: Web,
    _dns: Dns,
    agent: Agent,
    world: Router,
}

impl Site {
    fn get(&self, family: Family, name: &str, limit: Duration) -> Fetched {
        let url = format!("http://{name}:8080/a-path-that-is-coded");
        let mut command = curl(self.world.client(), family, &url, limit);
        command.arg("--http2-prior-knowledge");
        fetched(command).unwrap()
    }

    fn flow(&self, host: &str) -> Flow {
        let is_it = |flow: &Flow| flow.host.as_deref() == Some(host);
        self.agent.wait_for_flow("named by its request", is_it).unwrap()
    }
}

/// R39: HTTP/2 that begins without TLS is named by its first request, for rules and for lists.
#[test]
fn http2_without_tls_is_judged_by_its_first_request() {
    if without_root() {
        return;
    }
    let world = Router::new(Build::default()).unwrap();
    let (dns, web) = service::named(&world, &["ads.test", "plain.test", "listed.test"]).unwrap();
    let list = world.directory.path().join("names");
    std::fs::write(&list, "listed.test\n").unwrap();
    let setup = Setup::default().rule("ads", "block", &["ads.test"]).domainlist("names", &[&list]);
    let agent = Agent::start(&world, setup).unwrap();
    let site = Site { _web: web, _dns: dns, agent, world };
    for family in [Family::V4, Family::V6] {
        let fetched = site.get(family, "plain.test", LIMIT);
        assert!(fetched.is_success(), "{family:?}: {fetched:?}");
    }
    let flow = site.flow("plain.test");
    assert_eq!((&*flow.verdict, flow.protocol.as_deref()), ("trusted", Some("http2")), "{flow:?}");
    assert_eq!(flow.name.as_deref(), Some("plain.test"));
    for (name, rule, list) in
        [("ads.test", Some("ads"), None), ("listed.test", None, Some("names"))]
    {
        let fetched = site.get(Family::V4, name, BLOCKED);
        assert!(!fetched.is_success(), "{name}: {fetched:?}");
        let flow = site.flow(name);
        let by = (&*flow.verdict, flow.rule.as_deref(), flow.list.as_deref());
        assert_eq!(by, ("blocked", rule, list), "{flow:?}");
    }
}

//! The whole job once, on the best rungs that this kernel offers: small enough for a virtual machine
//! without acceleration, where kernels like those of routers run.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::time::Duration;

use aya::programs::{SchedClassifier, TcAttachType};
use sluice_tests::agent::{Agent, Setup};
use sluice_tests::netns::Netns;
use sluice_tests::observe;
use sluice_tests::probe::Probe;
use sluice_tests::router::{Build, Router, WAN, WAN_V4};
use sluice_tests::service::{self, Family, fetch, page};
use sluice_tests::skip::without_root;
use sluice_tests::wait;

const LIMIT: Duration = Duration::from_secs(60);

/// Which rungs this kernel has, asked without the agent's code.
fn best_rungs() -> (&'static str, &'static str) {
    let netns = Netns::new("rungs").unwrap();
    let queue = netns.nft(
        "table inet probe {
            chain forward {
                type filter hook forward priority 0
                queue num 0 bypass
            }
         }\n",
    );
    let tcx = netns.enter(|| SchedClassifier::query_tcx("lo", TcAttachType::Ingress)).unwrap();
    (if queue.is_ok() { "nft" } else { "iptables-nft" }, if tcx.is_ok() { "tcx" } else { "clsact" })
}

/// R14, R26, R46, R64, R65, R123, R127: inspection, fast path, block, list, rules that come back, and
/// a plain router afterwards.
#[test]
fn the_whole_job_on_the_best_rungs_of_this_kernel() {
    if without_root() {
        return;
    }
    let (rules, classifier) = best_rungs();
    println!("rungs of this kernel: {rules}, {classifier}");
    let names = ["news.test", "ads.test"];
    let world = Router::new(Build::default()).unwrap();
    let (_dns, web) = service::named(&world, &names).unwrap();
    let setup = Setup::default().blocklist("bad", &["198.51.100.7"]);
    let mut agent = Agent::start(&world, setup.rule("ads", "block", &["ads.test"])).unwrap();

    let status = agent.status().unwrap();
    let rung = |name: &str| {
        let feature = status.features.iter().find(|feature| feature.name == name).unwrap();
        (feature.state.clone(), feature.rung.clone())
    };
    let active = |rung: &str| ("active".to_owned(), rung.to_owned());
    let inspection = if rules == "nft" { "active" } else { "degraded" };
    assert_eq!(rung("inspection"), (inspection.to_owned(), rules.to_owned()));
    for interface in ["lan", "wan"] {
        assert_eq!(rung(&format!("fast path {interface}")).1, classifier);
        assert_eq!(rung(&format!("shield {interface}")), active("native"));
    }

    let client = world.client();
    let do_the_job = |when: &str| {
        for family in [Family::V4, Family::V6] {
            let url = format!("https://news.test{}", page::MIB);
            let fetched = fetch(client, family, &url, LIMIT).unwrap();
            assert!(fetched.is_success(), "{when} {family:?}: {fetched:?}");
            let flow = agent.wait_for_flow("decided", |flow| flow.sport == fetched.port).unwrap();
            assert_eq!((flow.sni.as_deref(), &*flow.verdict), (Some("news.test"), "trusted"));
            assert!(flow.ja4.is_some() && flow.inspected_packets > 0, "{flow:?}");
            // 1 MiB in packets of at most 1,460 bytes are 719; the fast path sees nearly all.
            assert!(flow.reply_packets > 650 && flow.original_packets > 5, "{when}: {flow:?}");
        }
        let blocked = fetch(client, Family::V4, "https://ads.test/", Duration::from_secs(4));
        assert!(!blocked.unwrap().is_success(), "{when}");
        agent.wait_for_flow("blocked", |flow| flow.is_for("ads.test")).unwrap();
    };
    do_the_job("at first");
    world.netns.run("nft flush ruleset").unwrap();
    world.firewall().unwrap();
    agent
        .wait_for_status("the rules were back", LIMIT, |status| {
            (status.netfilter.applied && status.netfilter.reapplied > 0).then_some(())
        })
        .unwrap();
    do_the_job("after a flush");

    let witnesses = [("arrived", "udp dport 9"), ("last", "udp dport 10")];
    let probe = Probe::new(&world.netns, &witnesses).unwrap();
    let wire = world.attacker.injector().unwrap();
    for (source, arrivals) in [("198.51.100.7", 0), ("198.51.100.8", 20)] {
        let frame = world.attacker.frame().ipv4(source.parse().unwrap(), WAN_V4).udp(4000, 9);
        (0..20).for_each(|_| wire.send(&frame.bytes()).unwrap());
        // When a later packet of somebody else is there, so are these.
        let last = probe.count("last").unwrap();
        let other = world.attacker.frame().ipv4(world.attacker.v4, WAN_V4).udp(4000, 10);
        wire.send(&other.bytes()).unwrap();
        let arrived = || probe.count("last").unwrap() > last;
        wait::until_true("the last packet arrived", LIMIT, arrived).unwrap();
        let status = agent.status().unwrap();
        assert_eq!(probe.count("arrived").unwrap(), arrivals, "{source}: {status:#?}");
    }
    assert_eq!(agent.count(WAN, "xdp_drop_listed").unwrap(), 20);
    let requests = web.requests().unwrap();
    assert!(requests.iter().all(|line| line.contains(" news.test ")), "{requests:?}");

    assert!(agent.stop().unwrap().success());
    assert_eq!(observe::attached(&world.netns).unwrap(), []);
    let ruleset = world.netns.run("nft list ruleset").unwrap().to_lowercase();
    assert!(!ruleset.contains("sluice"), "{ruleset}");
    assert!(fetch(client, Family::V4, "https://ads.test/", LIMIT).unwrap().is_success());
}

//! The test world itself: what is true of it without Sluice, so that a later failure is Sluice's.

use std::time::Duration;

use sluice_tests::dns::{self, Kind};
use sluice_tests::router::{Build, LAN_V4, Lan, Router};
use sluice_tests::service::{Dns, Family, Iperf, Web, fetch, page};
use sluice_tests::skip::without_root;

#[test]
fn hosts_reach_each_other_through_the_router_in_both_families() {
    if without_root() {
        return;
    }
    for lan in [Lan::Bridge, Lan::Plain] {
        let world = Router::new(Build { lan, ..Build::default() }).unwrap();
        for address in [world.server.v4.into(), world.server.v6.into()] {
            assert!(world.client().ping(address).unwrap(), "{address}");
        }
    }
}

#[test]
fn a_client_finds_the_web_server_by_name_and_is_masqueraded_in_ipv4_only() {
    if without_root() {
        return;
    }
    let world = Router::new(Build::default()).unwrap();
    let dns = Dns::start(&world, &["news.test"]).unwrap();
    let web = Web::start(&world.server, &["news.test"]).unwrap();
    for (family, seen_as) in
        [(Family::V4, "203.0.113.1".to_owned()), (Family::V6, world.client().v6.to_string())]
    {
        let url = format!("https://news.test{}", page::MIB);
        let fetched = fetch(world.client(), family, &url, Duration::from_secs(10)).unwrap();
        assert!(fetched.is_success(), "{family:?}: {fetched:?}");
        assert_eq!(fetched.bytes, 1 << 20);
        let line = format!("{seen_as} news.test {} 200", page::MIB);
        assert!(web.requests().unwrap().contains(&line), "{line} in {:?}", web.requests());
    }
    assert!(dns.asked().iter().any(|name| name == "news.test"));
    let answer = dns::ask(world.client(), LAN_V4.into(), "www.news.test", Kind::Aaaa).unwrap();
    assert_eq!(dns::addresses(&answer), [world.server.v6]);
}

#[test]
fn throughput_is_measured_in_both_directions() {
    if without_root() {
        return;
    }
    let world = Router::new(Build::default()).unwrap();
    let iperf = Iperf::start(&world).unwrap();
    for download in [true, false] {
        assert!(iperf.measure(&world, download, 1).unwrap() > 1.0);
    }
}

//! The test world itself: what is true of it without Sluice, so that a later failure is Sluice's.

use sluice_tests::router::{Build, Lan, Router};
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

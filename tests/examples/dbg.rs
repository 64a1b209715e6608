#![allow(missing_docs)]
use sluice_tests::{agent::*, observe, router::*, service::*};
fn main() {
    let b = Build::default();
    let w = Router::new(b).unwrap();
    let i = Iperf::start(&w).unwrap();
    let a = Agent::start(&w, Setup::default().xdp("off")).unwrap();
    for d in [true, false] {
        let q = observe::queued(&w.netns).unwrap();
        println!("{d} {:.0}", i.measure(&w, d, 1).unwrap());
        println!("queued {}", observe::queued(&w.netns).unwrap() - q);
    }
    for f in a.flows().unwrap() {
        println!("{f:?}");
    }
    println!("{:#?}", a.status().unwrap());
    println!("{}", w.netns.run("iptables-nft -t mangle -L -v -n").unwrap());
    println!("{}", w.netns.run("iptables-nft -t filter -L -v -n").unwrap());
}

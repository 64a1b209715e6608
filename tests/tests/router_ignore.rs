//! What is never inspected: no packet of it reaches the queue.

#![expect(clippy::panic, clippy::unwrap_used, reason = "helpers of tests")]

use std::net::SocketAddr;
use std::time::Duration;

use sluice_tests::agent::{Agent, Setup};
use sluice_tests::hello::client_hello;
use sluice_tests::host::{Host, mac_text};
use sluice_tests::router::{Build, Router};
use sluice_tests::skip::without_root;
use sluice_tests::traffic::{TcpService, connect, round_trip};

/// Whether a new connection whose hello names what is blocked is answered.
fn is_answered(client: &Host, to: SocketAddr) -> bool {
    let mut stream = connect(client, to).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    let hello = client_hello("ads.test", 0);
    round_trip(&mut stream, &hello, hello.len()).is_ok()
}

fn counter(agent: &Agent, name: &str) -> u64 {
    let counters = agent.status().unwrap().netfilter.counters;
    *counters.get(name).unwrap_or_else(|| {
        panic!("no {name} in {counters:?}, {:?}", agent.status().unwrap().features)
    })
}

/// R29: a network, a device and a port.
#[test]
fn what_is_ignored_never_reaches_the_queue() {
    if without_root() {
        return;
    }
    let world = Router::new(Build { clients: 2, ..Build::default() }).unwrap();
    let (first, second) = (&world.clients[0], &world.clients[1]);
    let service = |like, port| TcpService::echo(&world.server, like, port).unwrap();
    let (v4, v6) = (world.server.v4.into(), world.server.v6.into());
    let services = [service(v4, 443), service(v6, 443), service(v4, 873), service(v6, 873)];
    let [https, https6, rsync, rsync6] = services.each_ref().map(TcpService::address);
    let ignoring = |option: &str, value: &str| {
        let setup = Setup::default().rule("ads", "block", &["ads.test"]);
        let more = setup.more.section("ignore", "these").list(option, &[value]);
        Setup { more, ..setup }
    };
    let device = mac_text(second.mac);
    for (option, value, ignored, others) in [
        ("net", world.server.v4.to_string(), [(first, https), (second, rsync)], (first, https6)),
        (
            "net",
            format!("{}/128", world.server.v6),
            [(first, https6), (second, rsync6)],
            (first, https),
        ),
        ("device", device.clone(), [(second, https), (second, rsync6)], (first, https)),
        ("port", "tcp/870-880".to_owned(), [(first, rsync), (second, rsync6)], (second, https)),
        ("port", "873".to_owned(), [(first, rsync), (second, rsync6)], (second, https6)),
    ] {
        let setup = ignoring(option, &value);
        let mut agent = Agent::start(&world, setup).unwrap();
        for (client, to) in ignored {
            assert!(is_answered(client, to), "{option} {value}: {to} is inspected");
        }
        assert_eq!(counter(&agent, "queued"), 0, "{option} {value}");
        assert!(counter(&agent, "ignored") >= 2, "{option} {value}");
        // The instrument: what is not named is queued, and blocked.
        assert!(!is_answered(others.0, others.1), "{option} {value}: too much ignored");
        assert!(counter(&agent, "queued") > 0);
        assert!(agent.stop().unwrap().success());
    }
}

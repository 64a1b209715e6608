//! What a router answers when it is asked why.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::net::{IpAddr, TcpStream};
use std::time::Duration;

use sluice_tests::agent::{Agent, Setup};
use sluice_tests::host::{Host, mac_text};
use sluice_tests::report::Cause;
use sluice_tests::router::{Build, Router, WAN_V4};
use sluice_tests::service::{Dns, Family, Web, fetch};
use sluice_tests::skip::without_root;
use sluice_tests::wait;

const LIMIT: Duration = Duration::from_secs(10);
/// Time for what is blocked.
const BLOCKED: Duration = Duration::from_secs(2);
/// Listed, and nobody's.
const LISTED: &str = "198.51.100.66";

fn tries(host: &Host, to: &str) {
    let to = to.parse().unwrap();
    let tried = host.netns.enter(|| TcpStream::connect_timeout(&to, Duration::from_millis(100)));
    assert!(tried.unwrap().is_err());
}

/// Hook, action, by and entry.
fn said(cause: &Cause) -> [&str; 4] {
    [&cause.hook, &cause.action, &cause.by, &cause.entry].map(|text| &**text)
}

/// What it says about a subject, in which it has just done something to a flow of `device` with `peer`.
#[track_caller]
fn has_just(cause: &Cause, expected: [&str; 4], device: Option<IpAddr>, peer: IpAddr) {
    assert_eq!(said(cause), expected);
    assert_eq!((cause.device, cause.peer), (device, Some(peer)), "{cause:?}");
    let (first, last) = (cause.first_s_ago.unwrap(), cause.last_s_ago.unwrap());
    assert!(last <= first && first < 60, "{cause:?}");
    assert!(cause.packets + cause.flows > 0, "{cause:?}");
}

/// R172: an address, a name, a device and a flow are asked about; the list or rule, its entry, how much it
/// hit, when first and last, and the device and the other end of the last one are told.
#[test]
fn every_drop_tells_by_what_whose_and_when() {
    if without_root() {
        return;
    }
    let router = Router::new(Build { clients: 2, ..Build::default() }).unwrap();
    let names = ["ads.test", "bad.test", "news.test"];
    let _dns = Dns::start(&router, &names).unwrap();
    let _web = Web::start(&router.server, &names).unwrap();
    let (client, tablet, attacker) = (&router.clients[0], &router.clients[1], &router.attacker);
    let listed_from = attacker.v4.to_string();
    let files = sluice_tests::directory::Directory::new("why").unwrap();
    let domains = files.write("domains", "# a feed\nbad.test\n").unwrap();
    let mac = mac_text(tablet.mac);
    let mut setup = Setup::default()
        .blocklist("malware", &[LISTED])
        .blocklist("attackers", &[&listed_from])
        .domainlist("feed", &[&domains])
        .rule("no_ads", "block", &["ads.test"])
        .rule("tablet", "block", &["games.test"]);
    setup.more = setup.more.list("device", &[&mac]);
    let agent = Agent::start(&router, setup).unwrap();
    let only = |subject: &str| {
        let why = agent.why(subject).unwrap();
        assert_eq!(why.causes.len(), 1, "{why:?}");
        why.causes[0].clone()
    };

    let never = only(LISTED);
    assert_eq!((never.packets, never.first_s_ago, never.last_s_ago), (0, None, None));
    assert_eq!((never.device, never.peer), (None, None));
    tries(client, &format!("{LISTED}:7"));
    let listed = LISTED.parse().unwrap();
    let entry = ["xdp", "drop", "blocklist malware", LISTED];
    has_just(&only(LISTED), entry, Some(client.v4.into()), listed);
    tries(tablet, &format!("{LISTED}:7"));
    has_just(&only(LISTED), entry, Some(tablet.v4.into()), listed);
    // From outside it is no device of this house.
    tries(attacker, &format!("{WAN_V4}:7"));
    let entry = ["xdp", "drop", "blocklist attackers", &listed_from];
    has_just(&only(&listed_from), entry, None, attacker.v4.into());

    let get = |host: &Host, name: &str, limit| {
        fetch(host, Family::V4, &format!("https://{name}/"), limit).unwrap()
    };
    let server = IpAddr::from(router.server.v4);
    assert!(!get(client, "ads.test", BLOCKED).is_success());
    let by_rule = ["inspect", "block", "rule no_ads", "ads.test"];
    has_just(&only("ads.test"), by_rule, Some(client.v4.into()), server);
    assert!(!get(tablet, "bad.test", BLOCKED).is_success());
    let place = format!("bad.test, {}:2", domains.display());
    let by_list = ["inspect", "block", "domainlist feed", &*place];
    has_just(&only("Bad.Test."), by_list, Some(tablet.v4.into()), server);

    // A device: the rules that name it, and its flows alone.
    let fetched = get(tablet, "news.test", LIMIT);
    assert!(fetched.is_success());
    let flow = agent.wait_for_flow("decided", |flow| flow.sport == fetched.port).unwrap();
    let why = agent.why(&mac.to_uppercase()).unwrap();
    let rule = format!("block domain games.test for device {mac}");
    assert_eq!(
        why.causes.iter().map(said).collect::<Vec<_>>(),
        [["inspect", "block", "rule tablet", &rule]]
    );
    assert!(why.flows.iter().any(|flow| flow.sport == fetched.port), "{why:?}");
    assert!(why.flows.iter().all(|flow| flow.src == IpAddr::from(tablet.v4)), "{why:?}");
    assert!(agent.why("02:00:00:00:00:99").unwrap().flows.is_empty());

    // A flow, by what `flows` prints: on either side of the translation and in both directions.
    let behind = flow.nat_reply.unwrap();
    for subject in [
        format!("tcp {}:{} > {server}:443", flow.src, flow.sport),
        format!("{server}:443 > {}:{}", flow.src, flow.sport),
        format!("{}:{} > {}:{}", behind.src, behind.sport, behind.dst, behind.dport),
    ] {
        let why = agent.why(&subject).unwrap();
        let sports: Vec<_> = why.flows.iter().map(|flow| flow.sport).collect();
        assert_eq!(sports, [fetched.port], "{subject}");
        assert!(why.causes.is_empty(), "{subject}: {why:?}");
    }
    let blocked =
        agent.flows().unwrap().into_iter().find(|flow| flow.name.as_deref() == Some("ads.test"));
    let blocked = blocked.unwrap();
    let why = agent.why(&format!("{}:{} > {server}:443", blocked.src, blocked.sport)).unwrap();
    assert_eq!(said(&why.causes[0]), by_rule);
    for wrong in ["two words", "192.0.2.1:4 > here"] {
        let refused = agent.ask(&["why", wrong]).unwrap_err().to_string();
        assert!(refused.contains("is no flow: it takes two ends"), "{refused}");
    }

    // Undone from there, for everyone: at once.
    agent.ask(&["allow", "ads.test"]).unwrap();
    wait::until_true("it was allowed", Duration::from_secs(1), || {
        only("ads.test").action == "allow"
    })
    .unwrap();
    assert!(get(client, "ads.test", LIMIT).is_success());
}

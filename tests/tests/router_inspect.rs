//! Inspection on a router: what the queue sees, what is decided, and what the fast path then does.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use sluice_abi::flow::{FlowKey, FlowState};
use sluice_abi::names;
use sluice_tests::agent::{Agent, Setup};
use sluice_tests::hello::{self, client_hello};
use sluice_tests::observe;
use sluice_tests::probe::Probe;
use sluice_tests::report::Flow;
use sluice_tests::router::{Build, Lan, Router};
use sluice_tests::service::{Family, fetch, page};
use sluice_tests::site::Site;
use sluice_tests::skip::without_root;
use sluice_tests::traffic::{TcpService, UdpService, connect, round_trip, udp};

/// Limit of one download.
const LIMIT: Duration = Duration::from_secs(20);

fn is_ja4(text: &str) -> bool {
    let lengths: Vec<usize> = text.split('_').map(str::len).collect();
    lengths == [10, 12, 12] && text.starts_with("t13d")
}

/// R14, R16, R35, R64: the main job. A download over 11,000 packets long is inspected for its first
/// few, trusted, and from then on counted by TC in both directions, through NAT too.
#[test]
fn a_tls_flow_is_named_trusted_and_then_skips_the_queue() {
    if without_root() {
        return;
    }
    let site = Site::new(&["news.test"], Setup::default()).unwrap();
    for (family, server) in [
        (Family::V4, IpAddr::from(site.world.server.v4)),
        (Family::V6, site.world.server.v6.into()),
    ] {
        let before = site.queued().unwrap();
        let url = format!("https://news.test{}", page::MIB16);
        let fetched = site.fetch(family, &url).unwrap();
        assert!(fetched.is_success(), "{family:?}: {fetched:?}");
        assert_eq!(fetched.bytes, 16 << 20);

        let flow = site
            .agent
            .wait_for_flow("the download", |flow| {
                flow.dst == server && flow.sport == fetched.port && flow.dport == 443
            })
            .unwrap();
        assert_eq!(flow.sni.as_deref(), Some("news.test"));
        assert_eq!(flow.verdict, "trusted", "{flow:?}");
        assert_eq!(flow.src, site.world.client().address(server));
        assert!(flow.alpn.iter().any(|protocol| protocol == "h2"), "{flow:?}");
        assert!(is_ja4(flow.ja4.as_deref().unwrap()), "{flow:?}");
        assert_eq!(flow.nat_reply.is_some(), family == Family::V4, "{flow:?}");

        // 16 MiB in packets of at most 1,460 bytes are 11,492 at least.
        let queued = site.queued().unwrap() - before;
        assert!(queued < 200, "{family:?}: {queued} packets went to the queue");
        assert!(flow.inspected_packets > 0);
        assert!(flow.reply_packets > 11_000, "{flow:?}");
        assert!(flow.reply_bytes > 16 << 20, "{flow:?}");
        assert!(flow.original_packets > 100, "{flow:?}");
    }
    assert_eq!(site.web.requests().unwrap().len(), 2);
}

/// R58: a LAN that is one Ethernet device, and the rungs below native XDP, do the same job.
#[test]
fn a_plain_lan_and_each_rung_of_the_shield_do_the_same_job() {
    if without_root() {
        return;
    }
    for xdp in ["native", "tc", "generic"] {
        let build = Build { lan: Lan::Plain, ..Build::default() };
        let listed = "198.51.100.7";
        let setup = Setup::default().xdp(xdp).blocklist("bad", &[listed]);
        let site = Site::built(build, &["news.test"], setup).unwrap();
        let status = site.agent.status().unwrap();
        let shields = status.features.iter().filter(|feature| feature.name.contains("shield"));
        let rungs: Vec<_> = shields.map(|shield| (&*shield.state, &*shield.rung)).collect();
        assert_eq!(rungs, [("active", xdp); 2], "{status:#?}");
        for family in [Family::V4, Family::V6] {
            let fetched = site.fetch(family, &format!("https://news.test{}", page::MIB)).unwrap();
            assert!(fetched.is_success(), "{xdp} {family:?}: {fetched:?}");
            let flow =
                site.agent.wait_for_flow("decided", |flow| flow.sport == fetched.port).unwrap();
            assert_eq!((flow.sni.as_deref(), &*flow.verdict), (Some("news.test"), "trusted"));
            assert!(flow.reply_packets > 700 && flow.original_packets > 10, "{flow:?}");
        }
        let client = site.world.client();
        assert!(!client.ping(listed.parse().unwrap()).unwrap());
        assert_eq!(site.agent.count("lan", "xdp_drop_listed").unwrap(), 1, "{xdp}");
        let place = if xdp == "tc" { "tc" } else { "xdp" };
        let status = site.agent.status().unwrap();
        let dropped = status.drops.iter().find(|drops| drops.reason == "listed").unwrap();
        assert_eq!((&*dropped.place, dropped.packets), (place, 1), "{dropped:?}");
        let why = site.agent.why(listed).unwrap();
        assert!(why.causes.iter().any(|cause| cause.hook == place), "{why:?}");
    }
}

/// R16: what was learned about a service says nothing about the next connection to it.
#[test]
fn a_second_connection_to_the_same_service_is_inspected_again() {
    if without_root() {
        return;
    }
    let site = Site::new(&["news.test"], Setup::default()).unwrap();
    let mut ports = BTreeSet::new();
    for _ in 0..3 {
        let before = site.queued().unwrap();
        let fetched = site.fetch(Family::V4, "https://news.test/").unwrap();
        assert!(fetched.is_success(), "{fetched:?}");
        assert!(site.queued().unwrap() > before + 2, "nothing was queued");
        ports.insert(fetched.port);
    }
    for port in ports {
        let flow = site.agent.wait_for_flow("decided", |flow| flow.sport == port).unwrap();
        assert_eq!(flow.sni.as_deref(), Some("news.test"));
    }
}

/// R64: a blocked name is a connection that fails and drops that are counted; another name on the
/// same server, and the same address, works.
#[test]
fn a_blocked_name_fails_and_its_neighbour_works() {
    if without_root() {
        return;
    }
    let names = ["news.test", "ads.test"];
    let site = Site::new(&names, Setup::default().rule("ads", "block", &["ads.test"])).unwrap();
    for family in [Family::V4, Family::V6] {
        for name in ["ads.test", "deep.in.ads.test"] {
            let url = format!("https://{name}/");
            let limit = Duration::from_secs(3);
            let fetched = fetch(site.world.client(), family, &url, limit).unwrap();
            assert!(!fetched.is_success(), "{family:?} {name}: {fetched:?}");
            let flow = site
                .agent
                .wait_for_flow("blocked", |flow| flow.is_for(name) && flow.sport == fetched.port)
                .unwrap();
            assert_eq!((flow.verdict.as_str(), flow.rule.as_deref()), ("blocked", Some("ads")));
        }
        let fetched = site.fetch(family, "https://news.test/").unwrap();
        assert!(fetched.is_success(), "{family:?}: {fetched:?}");
    }
    // Nothing of a blocked request reached the server.
    let requests = site.web.requests().unwrap();
    assert!(requests.iter().all(|line| line.contains(" news.test ")), "{requests:?}");

    // The client repeats its hello: those are dropped by TC or, where TC did not see them, by rules.
    let status = site.agent.status().unwrap();
    let tc: u64 = ["tc_drop_blocked", "tc_out_drop_blocked"]
        .iter()
        .map(|name| status.interfaces.iter().filter_map(|i| i.counters.get(*name)).sum::<u64>())
        .sum();
    let verdicts: u64 = status.netfilter.counters.values().sum();
    assert!(tc > 0, "no drop counted in TC: {status:#?}");
    assert!(verdicts > 0, "the rules count nothing: {status:#?}");
    let why = site.agent.why("deep.in.ads.test").unwrap();
    let cause = why.causes.first().unwrap();
    assert!(cause.by.ends_with("ads"), "{cause:?}");
    assert_eq!(cause.entry, "ads.test");
}

/// One connection to a service that echoes: `first` in pieces, then 100 KiB whole and back.
fn converse(world: &Router, to: SocketAddr, first: &[u8], piece: usize) -> u16 {
    let mut stream = connect(world.client(), to).unwrap();
    assert_eq!(round_trip(&mut stream, first, piece).unwrap(), first);
    let bulk: Vec<u8> = (0..100 << 10).map(|n: u32| n as u8).collect();
    assert_eq!(round_trip(&mut stream, &bulk, 8192).unwrap(), bulk);
    stream.local_addr().unwrap().port()
}

/// R18, R33: a hello of up to 16 KiB in one write or in many, and what followed arrives whole.
#[test]
fn large_hellos_are_read_whole_in_one_and_in_many_segments() {
    if without_root() {
        return;
    }
    let world = Router::new(Build::default()).unwrap();
    let agent = Agent::start(&world, Setup::default().main("window_packets", 40)).unwrap();
    for address in [IpAddr::from(world.server.v4), world.server.v6.into()] {
        let echo = TcpService::echo(&world.server, address, 443).unwrap();
        #[rustfmt::skip]
        let cases: [(&str, usize, usize); 5] = [
            ("small",                 0,      4096),
            ("4 KiB at once",         4096,   4096),
            ("4 KiB in small pieces", 4096,   200),
            ("split in the header",   1200,   3),
            ("16 KiB at once",        16_000, 16_000),
        ];
        for (name, size, piece) in cases {
            let sni = format!("{}.test", name.replace(' ', "-").to_lowercase());
            let mut hello = client_hello(&sni, size);
            if piece == 3 {
                // Three bytes, then the rest: the record header itself is cut.
                let rest = hello.split_off(3);
                let mut stream = connect(world.client(), echo.address()).unwrap();
                stream.write_all(&hello).unwrap();
                let mut back = [0; 3];
                stream.read_exact(&mut back).unwrap();
                assert_eq!(round_trip(&mut stream, &rest, rest.len()).unwrap(), rest);
            } else {
                converse(&world, echo.address(), &hello, piece);
            }
            let flow = agent.wait_for_flow(name, |flow| flow.is_for(&sni) && flow.dst == address);
            let flow = flow.unwrap();
            let expected = if size == 0 { hello::JA4 } else { hello::JA4_PADDED };
            assert_eq!(flow.ja4.as_deref(), Some(expected), "{name}");
            assert_eq!(flow.verdict, "trusted", "{name}");
        }
    }
}

/// R18, R28: segments larger than a cable carries, as a NIC with receive offload hands them over.
#[test]
fn super_packets_are_inspected_whole() {
    if without_root() {
        return;
    }
    let build = Build { super_packets: true, ..Build::default() };
    let world = Router::new(build).unwrap();
    // Native XDP makes veth cut super-packets; without it they reach the queue.
    let agent = Agent::start(&world, Setup::default().xdp("off")).unwrap();
    let probe = [("large", "meta length > 1500 tcp dport 443")];
    let large = Probe::new(&world.netns, &probe).unwrap();
    for address in [IpAddr::from(world.server.v4), world.server.v6.into()] {
        let echo = TcpService::echo(&world.server, address, 443).unwrap();
        let hello = client_hello("super.test", 16_000);
        converse(&world, echo.address(), &hello, hello.len());
        let flow = agent
            .wait_for_flow("for super.test", |flow| {
                flow.is_for("super.test") && flow.dst == address
            })
            .unwrap();
        assert_eq!(flow.ja4.as_deref(), Some(hello::JA4_PADDED));
        assert_eq!(flow.verdict, "trusted");
    }
    assert!(large.count("large").unwrap() > 0, "the client sent no super-packet");
    let kernel = agent.status().unwrap().queue.kernel;
    assert!(kernel["merged packets"] > 0, "none reached the queue whole: {kernel:?}");
}

/// R20: what cannot be read is not trusted; the policy decides about the packets.
#[test]
fn malformed_tls_is_undecided_and_handled_by_policy() {
    if without_root() {
        return;
    }
    for (on_error, passes) in [("pass", true), ("drop", false)] {
        let world = Router::new(Build::default()).unwrap();
        let agent = Agent::start(&world, Setup::default().main("on_error", on_error)).unwrap();
        let echo = TcpService::echo(&world.server, world.server.v4.into(), 443).unwrap();
        let mut stream = connect(world.client(), echo.address()).unwrap();
        let bad = hello::malformed("bad.test");
        assert_eq!(round_trip(&mut stream, &bad, bad.len()).is_ok(), passes, "{on_error}");
        let status = agent
            .wait_for_status("an undecided flow was counted", LIMIT, |status| {
                (status.queue.engine["undecided_malformed_tls"] > 0).then(|| status.clone())
            })
            .unwrap();
        assert_eq!(status.flows.entries, 0, "an undecided flow is in the flow map");
        assert_eq!(flow_entries(&agent), 0, "an undecided flow is in the kernel's map");
    }
}

/// Entries of the kernel's flow map, counted without the agent.
fn flow_entries(agent: &Agent) -> usize {
    let map = aya::maps::Map::LruHashMap(agent.map(names::FLOWS).unwrap());
    aya::maps::HashMap::<_, FlowKey, FlowState>::try_from(map).unwrap().keys().count()
}

/// R8: packets alone make no entry; a decision does.
#[test]
fn a_thousand_packets_without_a_decision_leave_the_flow_map_empty() {
    if without_root() {
        return;
    }
    let world = Router::new(Build::default()).unwrap();
    let agent = Agent::start(&world, Setup::default().main("window_packets", 10)).unwrap();
    let service = UdpService::start(&world.server, world.server.v4.into(), 4433, |_| None).unwrap();
    let wire = world.client().injector().unwrap();
    for port in 0..1000 {
        let frame = world.client().frame().ipv4(world.client().v4, world.server.v4);
        wire.send(&frame.udp(20_000 + port, 4433).payload(b"one").bytes()).unwrap();
        // The buffer of the receiving socket holds about two hundred.
        let delivered = || service.count() + 64 > u32::from(port);
        sluice_tests::wait::until_true("few were in flight", LIMIT, delivered).unwrap();
    }
    sluice_tests::wait::until_true("all were delivered", LIMIT, || service.count() == 1000)
        .unwrap();
    assert_eq!(flow_entries(&agent), 0);
    assert_eq!(agent.flows().unwrap().len(), 0);

    // The control: ten packets of one flow and its answers fill a window, and that is a decision.
    let echo = UdpService::echo(&world.server, world.server.v4.into(), 4434).unwrap();
    let socket = udp(world.client(), echo.address()).unwrap();
    let mut buffer = [0; 16];
    for _ in 0..30 {
        socket.send(b"ping").unwrap();
        socket.recv(&mut buffer).unwrap();
    }
    let flow = agent.wait_for_flow("to the echo", |flow| flow.dport == 4434).unwrap();
    assert_eq!((flow.verdict.as_str(), flow.reason.as_str()), ("trusted", "window_end"));
    assert!(flow_entries(&agent) > 0);
}

/// R22: bits of marks that are not Sluice's stay, on packets and on connections.
#[test]
fn foreign_bits_of_marks_survive() {
    if without_root() {
        return;
    }
    let site = Site::new(&["news.test"], Setup::default()).unwrap();
    let netns = &site.world.netns;
    netns
        .nft(
            "table inet foreign {
                counter kept { }
                counter lost { }
                chain first {
                    type filter hook prerouting priority mangle
                    meta mark set meta mark or 0xff
                    ct mark set ct mark or 0xff
                }
                chain last {
                    type filter hook postrouting priority 300
                    iifname \"wan\" tcp sport 443 meta mark & 0xff == 0xff counter name kept
                    tcp sport 443 meta mark & 0xff != 0xff counter name lost
                    tcp dport 443 meta mark & 0xff != 0xff counter name lost
                    tcp sport 443 ct mark & 0xff != 0xff counter name lost
                }
            }\n",
        )
        .unwrap();
    let fetched = site.fetch(Family::V4, &format!("https://news.test{}", page::MIB)).unwrap();
    assert!(fetched.is_success(), "{fetched:?}");
    site.agent.wait_for_flow("trusted", |flow| flow.verdict == "trusted").unwrap();
    assert_eq!(observe::counter(netns, "inet foreign", "lost").unwrap(), 0);
    assert!(observe::counter(netns, "inet foreign", "kept").unwrap() > 700);
    let filter = format!("-p tcp --dport 443 --sport {}", fetched.port);
    let connections = observe::connections(netns, &filter).unwrap();
    let mark = connections.first().unwrap().mark;
    assert_eq!(mark & 0xff, 0xff, "{connections:?}");
    assert_ne!(mark & !0xff, 0, "Sluice's own bits are not there: {connections:?}");
}

/// R17: within the window, order holds for every flow with several queues.
#[test]
fn order_is_kept_with_four_queues() {
    const FLOWS: usize = 8;
    const PACKETS: u32 = 250;
    if without_root() {
        return;
    }
    let world = Router::new(Build { clients: 4, ..Build::default() }).unwrap();
    let setup = Setup::default().main("queues", 4).main("window_packets", 255);
    let agent = Agent::start(&world, setup).unwrap();
    let queues = observe::queues(&world.netns).unwrap();
    assert_eq!(queues.len(), 4, "{queues:?}");
    let service = UdpService::start(&world.server, world.server.v4.into(), 4433, |_| None).unwrap();
    // The kernel chooses the queue by addresses: several clients use several queues.
    let sockets: Vec<_> =
        (0..FLOWS).map(|flow| udp(&world.clients[flow % 4], service.address()).unwrap()).collect();
    for number in 0..PACKETS {
        for (flow, socket) in sockets.iter().enumerate() {
            let mut message = vec![flow as u8];
            message.extend_from_slice(&number.to_be_bytes());
            socket.send(&message).unwrap();
        }
        // Bounded by the buffer of the receiving socket: loss would hide disorder.
        let sent = (number + 1) * FLOWS as u32;
        sluice_tests::wait::until_true("few were in flight", LIMIT, || service.count() + 64 > sent)
            .unwrap();
    }
    let all = PACKETS * FLOWS as u32;
    let arrived = sluice_tests::wait::until_true("all arrived", LIMIT, || service.count() == all);
    let queues = observe::queues(&world.netns).unwrap();
    assert!(arrived.is_ok(), "{} of {all}: {queues:?} {:#?}", service.count(), agent.status());
    let mut next = [0_u32; FLOWS];
    for message in service.seen() {
        let flow = usize::from(message[0]);
        let number = u32::from_be_bytes(message[1..5].try_into().unwrap());
        assert_eq!(number, next[flow], "flow {flow}");
        next[flow] += 1;
    }
    let queues = observe::queues(&world.netns).unwrap();
    let used = queues.iter().filter(|queue| queue.sequence > 0).count();
    assert!(used > 1, "one queue got everything: {queues:?}");
    assert!(queues.iter().map(|queue| queue.sequence).sum::<u64>() >= u64::from(all));
    assert_eq!(agent.status().unwrap().queue.count, 4);
}

/// R21: an agent that is slow to decide loses nothing and leaves nothing undecided.
#[test]
fn packets_that_wait_for_a_stopped_agent_are_decided_when_it_goes_on() {
    if without_root() {
        return;
    }
    let mut site = Site::new(&["news.test"], Setup::default()).unwrap();
    let server = site.world.server.v4;
    site.agent.sigstop().unwrap();
    let url = format!("https://{server}{}", page::MIB);
    let clients: Vec<_> = (0..10)
        .map(|number| {
            let resolve = format!("news{number}.test:443:{server}");
            let named = url.replace(&server.to_string(), &format!("news{number}.test"));
            let mut command =
                sluice_tests::service::curl(site.world.client(), Family::V4, &named, LIMIT);
            command.args(["--resolve", &resolve]).stdout(std::process::Stdio::piped());
            command.spawn().unwrap()
        })
        .collect();
    let queued = || observe::queues(&site.world.netns).unwrap().iter().map(|q| q.waiting).sum();
    sluice_tests::wait::until_true("ten SYN waited in the queue", LIMIT, || {
        let waiting: u64 = queued();
        waiting >= 10
    })
    .unwrap();
    site.agent.sigcont().unwrap();
    for (number, client) in clients.into_iter().enumerate() {
        let output = client.wait_with_output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(text.starts_with("200 1048576 "), "client {number}: {text}");
        let name = format!("news{number}.test");
        let flow = site.agent.wait_for_flow(&name, |flow: &Flow| flow.is_for(&name)).unwrap();
        assert_eq!(flow.verdict, "trusted");
    }
}

/// R11: what is idle goes, what is used stays, whatever the sweeps.
#[test]
fn an_idle_flow_expires_and_an_active_one_survives() {
    /// The least that the configuration allows.
    const IDLE_S: u64 = 10;
    if without_root() {
        return;
    }
    let world = Router::new(Build::default()).unwrap();
    let setup = Setup::default().main("idle_udp_s", IDLE_S).main("sweep_s", 1);
    let agent = Agent::start(&world, setup).unwrap();
    let echo = UdpService::echo(&world.server, world.server.v4.into(), 4433).unwrap();
    let talk = |socket: &std::net::UdpSocket| {
        let mut buffer = [0; 16];
        socket.send(b"ping").unwrap();
        socket.recv(&mut buffer).unwrap();
    };
    let [idle, busy] = [(); 2].map(|()| udp(world.client(), echo.address()).unwrap());
    for socket in [&idle, &busy] {
        (0..20).for_each(|_| talk(socket));
    }
    let port = |socket: &std::net::UdpSocket| socket.local_addr().unwrap().port();
    let (idle_port, busy_port) = (port(&idle), port(&busy));
    for port in [idle_port, busy_port] {
        agent.wait_for_flow("decided", |flow| flow.sport == port).unwrap();
    }
    let known = |port| agent.flows().unwrap().iter().any(|flow| flow.sport == port);

    let start = std::time::Instant::now();
    sluice_tests::wait::until_true("the idle flow was gone", LIMIT, || {
        talk(&busy);
        !known(idle_port)
    })
    .unwrap();
    let waited = start.elapsed().as_secs_f32();
    // Timeout and one sweep, with a second for a busy machine; and not before the timeout.
    let timeout = IDLE_S as f32;
    assert!((timeout - 1.0..timeout + 2.5).contains(&waited), "gone after {waited} s");
    // More than another timeout, with many sweeps.
    let end = std::time::Instant::now() + Duration::from_secs(IDLE_S + 3);
    while std::time::Instant::now() < end {
        talk(&busy);
        sluice_tests::wait::pause(Duration::from_millis(200));
    }
    assert!(known(busy_port), "an active flow is gone");
    assert!(agent.status().unwrap().flows.expired >= 1);
    // The idle one is a new flow now: inspected again, and it passes.
    talk(&idle);
}

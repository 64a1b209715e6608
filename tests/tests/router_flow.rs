//! Decisions on a router: rates, code points, what outlives a flood and a restart, ends, second looks.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, UdpSocket};
use std::time::{Duration, Instant};

use sluice_tests::agent::{Agent, Setup};
use sluice_tests::frame::tcp_flag;
use sluice_tests::observe;
use sluice_tests::probe::Probe;
use sluice_tests::report::Flow;
use sluice_tests::router::{Build, Router, WAN_V4};
use sluice_tests::service::{Family, fetch, page};
use sluice_tests::site::Site;
use sluice_tests::skip::without_root;
use sluice_tests::traffic::{TcpService, UdpService, connect, echoed, round_trip, udp};
use sluice_tests::wait;

/// Limit of one download, and of what has to come to pass.
const LIMIT: Duration = Duration::from_secs(40);

/// Value under the default mask of a connection that leaves the queue and is never offloaded.
const MARK_UNDECIDED: u32 = 0x0300_0000;

/// With a rule about domains and options of it.
fn with_rule(setup: Setup, action: &str, domain: &str, options: &[(&str, &str)]) -> Setup {
    let mut setup = setup.rule(&domain.replace('.', "_"), action, &[domain]);
    for (name, value) in options {
        setup.more = setup.more.option(name, value);
    }
    setup
}

fn counted(agent: &Agent, counter: &str) -> u64 {
    let interfaces = agent.status().unwrap().interfaces;
    interfaces.iter().filter_map(|interface| interface.counters.get(counter)).sum()
}

/// R7, R64, R71: a download from a limited name has the rate of its rule, by 10 %, through NAT and
/// without; it skips the queue, is never given to a flowtable, and its neighbour is as fast as ever.
#[test]
fn a_limited_download_has_the_rate_of_its_rule() {
    const KBIT: f64 = 24_000.0;
    if without_root() {
        return;
    }
    let setup = with_rule(Setup::default(), "limit", "slow.test", &[("kbit", "24000")]);
    let site = Site::new(&["slow.test", "fast.test"], setup).unwrap();
    for family in [Family::V4, Family::V6] {
        let queued = observe::queued(&site.world.netns).unwrap();
        let start = Instant::now();
        let fetched = site.fetch(family, &format!("https://slow.test{}", page::MIB16)).unwrap();
        let seconds = start.elapsed().as_secs_f64();
        assert!(fetched.is_success() && fetched.bytes == 16 << 20, "{family:?}: {fetched:?}");
        let flow = site.flow(fetched.port).unwrap();
        assert_eq!((flow.verdict.as_str(), flow.rule.as_deref()), ("limited", Some("slow_test")));
        // What passed, in bytes from the IP header on, which is what a rate is about.
        let kbit = (flow.reply_bytes * 8) as f64 / 1000.0 / seconds;
        println!("{family:?}: {kbit:.0} kbit/s of {KBIT} ({:+.1} %)", (kbit / KBIT - 1.0) * 100.0);
        assert!((kbit / KBIT - 1.0).abs() < 0.1, "{family:?}: {kbit} kbit/s in {seconds} s");
        let queued = observe::queued(&site.world.netns).unwrap() - queued;
        assert!(queued < 200, "{family:?}: {queued} packets went to the queue");
        if family == Family::V4 {
            let filter = format!("-p tcp --dport 443 --sport {}", fetched.port);
            let connections = observe::connections(&site.world.netns, &filter).unwrap();
            assert_eq!(connections[0].mark, MARK_UNDECIDED, "{connections:?}");
        }
        let start = Instant::now();
        let fetched = site.fetch(family, &format!("https://fast.test{}", page::MIB16)).unwrap();
        assert!(fetched.is_success(), "{family:?}: {fetched:?}");
        assert!(start.elapsed().as_secs_f64() < seconds / 2.0, "the neighbour is held too");
        assert_eq!(site.flow(fetched.port).unwrap().verdict, "trusted");
    }
    assert!(counted(&site.agent, "tc_drop_limited") > 100);
    assert!(counted(&site.agent, "tc_limited") > 11_000);
    assert_eq!(site.agent.status().unwrap().flows.held, 2);
}

/// R71: a SYN in the midst of a limited connection does not set it free.
#[test]
fn a_limited_flow_stays_so_when_its_ports_are_used_again() {
    if without_root() {
        return;
    }
    let setup = with_rule(Setup::default(), "limit", "slow.test", &[("kbit", "8000")]);
    let world = Router::new(Build::default()).unwrap();
    let agent = Agent::start(&world, setup).unwrap();
    let echo = TcpService::echo(&world.server, world.server.v4.into(), 443).unwrap();
    let mut stream = connect(world.client(), echo.address()).unwrap();
    let hello = sluice_tests::hello::client_hello("slow.test", 0);
    assert_eq!(round_trip(&mut stream, &hello, hello.len()).unwrap(), hello);
    let port = stream.local_addr().unwrap().port();
    let limited = |agent: &Agent| {
        agent.flows().unwrap().iter().any(|flow| flow.sport == port && flow.verdict == "limited")
    };
    wait::until_true("it was limited", LIMIT, || limited(&agent)).unwrap();
    let syn = world.client().frame().ipv4(world.client().v4, world.server.v4);
    let syn = syn.tcp(port, 443, tcp_flag::SYN).sequence(7, 0).bytes();
    let queued = observe::queued(&world.netns).unwrap();
    world.client().injector().unwrap().send(&syn).unwrap();
    wait::until_true("the SYN was queued", LIMIT, || {
        observe::queued(&world.netns).unwrap() > queued
    })
    .unwrap();
    // More than a window of the old connection's packets.
    for _ in 0..40 {
        stream.write_all(&[7; 1000]).unwrap();
        stream.read_exact(&mut [0; 1000]).unwrap();
    }
    assert!(limited(&agent), "{:#?}", agent.flows());
    let before = counted(&agent, "tc_limited");
    stream.write_all(&[7; 1000]).unwrap();
    stream.read_exact(&mut [0; 1000]).unwrap();
    assert!(counted(&agent, "tc_limited") > before);
}

/// R68, R69, R70: packets of a flow that a rule gives a profile arrive with its code point at both
/// ends, others with their own, and no queueing discipline was touched.
#[test]
fn the_code_point_of_a_profile_is_seen_at_both_ends() {
    const DSCPS: [&str; 3] = ["ef", "af31", "cs0"];
    if without_root() {
        return;
    }
    let setup = with_rule(Setup::default(), "allow", "call.test", &[("profile", "voice")]);
    let mut setup =
        with_rule(setup, "limit", "games.test", &[("kbit", "900000"), ("profile", "mine")]);
    setup.more = setup.more.section("profile", "mine").option("dscp", "af31");
    let world = Router::new(Build::default()).unwrap();
    let names = ["call.test", "games.test", "plain.test"];
    let queues = |world: &Router| world.netns.run("tc qdisc show").unwrap();
    let without_clsact = |text: String| {
        text.lines().filter(|line| !line.contains("clsact")).map(str::to_owned).collect::<Vec<_>>()
    };
    let before = queues(&world);
    let site = Site::around(world, &names, setup).unwrap();
    let probe = |netns, way: &str| {
        let counters: Vec<(String, String)> = [("v4", "ip"), ("v6", "ip6")]
            .into_iter()
            .flat_map(|(prefix, family)| {
                DSCPS.map(|dscp| {
                    (format!("{prefix}{dscp}"), format!("tcp {way} 443 {family} dscp {dscp}"))
                })
            })
            .collect();
        let counters: Vec<_> = counters.iter().map(|(name, rule)| (&**name, &**rule)).collect();
        Probe::new(netns, &counters).unwrap()
    };
    let at_server = probe(&site.world.server.netns, "dport");
    let at_client = probe(&site.world.client().netns, "sport");
    for (name, dscp) in [("call.test", "ef"), ("games.test", "af31"), ("plain.test", "cs0")] {
        for (family, prefix) in [(Family::V4, "v4"), (Family::V6, "v6")] {
            let counts = |probe: &Probe<'_>| {
                DSCPS.map(|dscp| probe.count(&format!("{prefix}{dscp}")).unwrap())
            };
            let (server, client) = (counts(&at_server), counts(&at_client));
            let fetched = site.fetch(family, &format!("https://{name}{}", page::MIB)).unwrap();
            assert!(fetched.is_success(), "{family:?} {name}: {fetched:?}");
            site.flow(fetched.port).unwrap();
            for (probe, before, least) in [(&at_server, server, 20), (&at_client, client, 700)] {
                let more: Vec<u64> =
                    counts(probe).iter().zip(before).map(|(now, then)| now - then).collect();
                for (index, other) in DSCPS.into_iter().enumerate() {
                    // The first few, until the decision, are as they were sent.
                    let context = format!("{family:?} {name}, {other}: {more:?}");
                    if other == dscp {
                        assert!(more[index] > least, "{context}");
                    } else {
                        assert!(more[index] < 20, "{context}");
                    }
                }
            }
        }
    }
    assert!(counted(&site.agent, "tc_out_dscp") > 2 * 2 * 700);
    assert_eq!(without_clsact(queues(&site.world)), without_clsact(before));
}

/// R23: a blocked flow stays blocked for both directions and both of its keys, whatever goes on
/// beside it, and whoever dies.
#[test]
fn a_blocked_flow_outlives_a_flood_and_the_agent() {
    const FLOOD: u16 = 1200;
    if without_root() {
        return;
    }
    let setup = with_rule(Setup::default(), "block", "ads.test", &[]);
    let setup = setup.main("flows", 256).main("window_packets", 1).main("sweep_s", 1);
    let mut site = Site::new(&["ads.test"], setup).unwrap();
    let fetched =
        fetch(site.world.client(), Family::V4, "https://ads.test/", Duration::from_secs(2))
            .unwrap();
    assert!(!fetched.is_success(), "{fetched:?}");
    let flow = site.flow(fetched.port).unwrap();
    assert_eq!(flow.verdict, "blocked");
    let behind = flow.nat_reply.unwrap();
    assert_eq!(behind.dst, IpAddr::from(WAN_V4));

    let (client, server) = (site.world.client(), &site.world.server);
    let there = client.frame().ipv4(client.v4, server.v4);
    let there = there.tcp(fetched.port, 443, tcp_flag::ACK).payload(b"late").bytes();
    let syn = client.frame().ipv4(client.v4, server.v4);
    let syn = syn.tcp(fetched.port, 443, tcp_flag::SYN).bytes();
    let back = server.frame().ipv4(server.v4, WAN_V4);
    let back = back.tcp(443, behind.dport, tcp_flag::ACK).payload(b"late").bytes();
    let wires = [(client.injector().unwrap(), "lan"), (server.injector().unwrap(), "wan")];
    let stays_blocked = |agent: &Agent, when: &str| {
        for (wire, interface) in &wires {
            let frames = if *interface == "lan" { vec![&there, &syn] } else { vec![&back] };
            let before = agent.count(interface, "tc_drop_blocked").unwrap();
            for frame in &frames {
                (0..5).for_each(|_| wire.send(frame).unwrap());
            }
            wait::until_true("they were dropped", LIMIT, || {
                agent.count(interface, "tc_drop_blocked").unwrap()
                    >= before + 5 * frames.len() as u64
            })
            .unwrap_or_else(|error| panic!("{when}, {interface}: {error}"));
        }
        let found = agent.flows().unwrap();
        let found = found.iter().find(|flow| flow.sport == fetched.port).unwrap();
        assert_eq!(found.verdict, "blocked", "{when}");
        assert!(found.nat_reply.is_some(), "{when}: one of its keys is forgotten");
    };
    stays_blocked(&site.agent, "at first");
    flooded(&site.world, &site.agent, 4433, FLOOD);
    stays_blocked(&site.agent, "after a flood");
    site.agent.kill9().unwrap();
    site.agent.start_again(&site.world).unwrap();
    stays_blocked(&site.agent, "after a restart");
    flooded(&site.world, &site.agent, 4434, FLOOD);
    stays_blocked(&site.agent, "after a restart and a flood");
}

/// Makes `count` flows that one packet decides, many times what the map holds.
fn flooded(world: &Router, agent: &Agent, port: u16, count: u16) {
    let before = agent.status().unwrap().queue.engine["window_end"];
    let service = UdpService::start(&world.server, world.server.v4.into(), port, |_| None).unwrap();
    let wire = world.client().injector().unwrap();
    for number in 0..count {
        let frame = world.client().frame().ipv4(world.client().v4, world.server.v4);
        wire.send(&frame.udp(20_000 + number, port).payload(b"one").bytes()).unwrap();
        let delivered = || service.count() + 64 > u32::from(number);
        wait::until_true("few were in flight", LIMIT, delivered).unwrap();
    }
    agent
        .wait_for_status("the flood was decided", LIMIT, |status| {
            (status.queue.engine["window_end"] >= before + u64::from(count)).then_some(())
        })
        .unwrap();
}

/// R13: a connection that was closed is forgotten soon, one that is silent is not, and none at once.
#[test]
fn a_closed_connection_is_forgotten_soon() {
    if without_root() {
        return;
    }
    let world = Router::new(Build::default()).unwrap();
    let setup = Setup::default().main("sweep_s", 1).main("window_packets", 3);
    let agent = Agent::start(&world, setup).unwrap();
    let echo = TcpService::echo(&world.server, world.server.v4.into(), 7777).unwrap();
    let open = || {
        let mut stream = connect(world.client(), echo.address()).unwrap();
        for _ in 0..10 {
            stream.write_all(b"question").unwrap();
            stream.read_exact(&mut [0; 8]).unwrap();
        }
        let port = stream.local_addr().unwrap().port();
        let flow = agent.wait_for_flow("decided", |flow| flow.sport == port).unwrap();
        assert_eq!(flow.verdict, "trusted");
        (stream, port)
    };
    let (closed, closed_port) = open();
    let (mut silent, silent_port) = open();
    let known = |port| agent.flows().unwrap().iter().any(|flow| flow.sport == port);
    drop(closed);
    let start = Instant::now();
    wait::until_true("it was forgotten", LIMIT, || !known(closed_port)).unwrap();
    let waited = start.elapsed().as_secs_f32();
    // Ten seconds and a sweep, with a second for a busy machine.
    assert!((9.0..13.5).contains(&waited), "forgotten after {waited} s");
    assert!(known(silent_port));
    silent.write_all(b"question").unwrap();
    silent.read_exact(&mut [0; 8]).unwrap();
}

fn talk(socket: &UdpSocket) {
    echoed(socket, b"ping").unwrap();
}

/// R24: about the share that was asked for is looked at once more, notices nothing of it, and is
/// trusted again.
#[test]
fn a_share_of_trusted_flows_is_looked_at_again() {
    const FLOWS: usize = 100;
    const PERCENT: usize = 40;
    if without_root() {
        return;
    }
    let world = Router::new(Build::default()).unwrap();
    let setup = Setup::default().main("reinspect_percent", PERCENT).main("reinspect_after_s", 20);
    let setup = setup.main("sweep_s", 1).main("window_packets", 3);
    let agent = Agent::start(&world, setup).unwrap();
    let echo = UdpService::echo(&world.server, world.server.v4.into(), 4433).unwrap();
    let sockets: Vec<_> =
        (0..FLOWS).map(|_| udp(world.client(), echo.address()).unwrap()).collect();
    for socket in &sockets {
        (0..5).for_each(|_| talk(socket));
    }
    let trusted = || {
        let flows = agent.flows().unwrap();
        flows.iter().filter(|flow| flow.verdict == "trusted" && flow.dport == 4433).count()
    };
    wait::until_true("all were decided", LIMIT, || trusted() == FLOWS).unwrap();
    let queued = observe::queued(&world.netns).unwrap();
    sockets.iter().for_each(talk);
    assert_eq!(observe::queued(&world.netns).unwrap(), queued, "decided flows skip the queue");

    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(23) {
        sockets.iter().for_each(talk);
        wait::pause(Duration::from_millis(200));
    }
    let status = agent.status().unwrap();
    let looked_at = status.flows.reinspected as usize;
    // Four standard deviations: one run in fifteen thousand is outside.
    let (mean, deviation) = (FLOWS * PERCENT / 100, 4.9);
    println!("{looked_at} of {FLOWS} looked at again, {mean} expected");
    assert!((looked_at as f64 - mean as f64).abs() < 4.0 * deviation, "{looked_at} of {FLOWS}");
    let again = observe::queued(&world.netns).unwrap() - queued;
    assert!(again >= looked_at as u64 * 5, "{again} packets of {looked_at} flows were queued");
    // Three packets of one direction are a window.
    for socket in sockets.iter().cycle().take(5 * sockets.len()) {
        talk(socket);
    }
    let queued = observe::queued(&world.netns).unwrap();
    sockets.iter().for_each(talk);
    assert_eq!(observe::queued(&world.netns).unwrap(), queued, "all are trusted again");
    assert_eq!(trusted(), FLOWS);
}

/// R24: a large download is looked at again, arrives whole, and keeps its name.
#[test]
fn a_large_flow_is_looked_at_again_and_keeps_its_name() {
    if without_root() {
        return;
    }
    let setup = Setup::default().main("reinspect_mib", 4).main("sweep_s", 1);
    let site = Site::new(&["news.test"], setup.main("reinspect_percent", 0)).unwrap();
    let fetched = site.fetch(Family::V4, &format!("https://news.test{}", page::SLOW)).unwrap();
    assert!(fetched.is_success() && fetched.bytes == 16 << 20, "{fetched:?}");
    let flow = site.flow(fetched.port).unwrap();
    assert_eq!((flow.verdict.as_str(), flow.sni.as_deref()), ("trusted", Some("news.test")));
    assert!(flow.reply_packets > 11_000, "{flow:?}");
    let status = site.agent.status().unwrap();
    let again = status.flows.reinspected;
    assert!((1..=4).contains(&again), "looked at {again} times");
    assert_eq!(status.offload.permille, Some(0), "nothing takes a short way: {status:?}");
}

/// R24: a connection that brought data and now takes data away is looked at again. The first packets
/// against the old way are queued, and nothing is lost.
#[test]
fn a_download_that_becomes_an_upload_is_looked_at_again() {
    const CHUNK: usize = 64 << 10;
    const MIB: usize = (1 << 20) / CHUNK;
    if without_root() {
        return;
    }
    let world = Router::new(Build::default()).unwrap();
    let setup = Setup::default().main("reinspect_turn_mib", 1).main("sweep_s", 1);
    let agent = Agent::start(&world, setup.main("reinspect_percent", 0)).unwrap();
    // Says what it was told to, in chunks, then takes whatever comes and says how much that was.
    let depot = TcpService::start(&world.server, world.server.v4.into(), 9000, |mut stream| {
        let (mut order, mut chunk) = ([0], vec![7; CHUNK]);
        while stream.read_exact(&mut order).is_ok() {
            let chunks = order[0] & 0x7f;
            for _ in 0..chunks {
                let moved = if order[0] & 0x80 == 0 {
                    stream.write_all(&chunk)
                } else {
                    stream.read_exact(&mut chunk)
                };
                if moved.is_err() {
                    return;
                }
            }
            if stream.write_all(&order).is_err() {
                return;
            }
        }
    })
    .unwrap();
    let mut stream = connect(world.client(), depot.address()).unwrap();
    let port = stream.local_addr().unwrap().port();
    let mut chunk = vec![7; CHUNK];
    let mut transfer = |is_upload: bool, chunks: usize| {
        let order = [chunks as u8 | if is_upload { 0x80 } else { 0 }];
        stream.write_all(&order).unwrap();
        for _ in 0..chunks {
            if is_upload { stream.write_all(&chunk) } else { stream.read_exact(&mut chunk) }
                .unwrap();
        }
        let mut answer = [0];
        stream.read_exact(&mut answer).unwrap();
        assert_eq!(answer, order);
    };
    transfer(false, 4 * MIB);
    let is_trusted = |flow: &Flow| flow.sport == port && flow.verdict == "trusted";
    agent.wait_for_flow("trusted", is_trusted).unwrap();
    // Longer than the engine repeats itself: the download alone is no reason to look again.
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(12) {
        transfer(false, MIB);
        wait::pause(Duration::from_millis(500));
    }
    assert_eq!(agent.status().unwrap().flows.reinspected, 0);
    let queued = observe::queued(&world.netns).unwrap();
    transfer(true, 2 * MIB);
    wait::until_true("it was looked at again", LIMIT, || {
        agent.status().unwrap().flows.reinspected == 1
    })
    .unwrap();
    transfer(true, MIB);
    assert!(observe::queued(&world.netns).unwrap() >= queued + 10, "a window of packets");
    agent.wait_for_flow("trusted again", is_trusted).unwrap();
}

/// R14: a flow that its first packet decides has one key then, because conntrack does not know the
/// connection yet; soon it has both.
#[test]
fn a_flow_that_its_first_packet_decides_gets_its_other_key() {
    if without_root() {
        return;
    }
    let world = Router::new(Build::default()).unwrap();
    let agent = Agent::start(&world, Setup::default().main("window_packets", 1)).unwrap();
    let echo = UdpService::echo(&world.server, world.server.v4.into(), 4433).unwrap();
    let socket = udp(world.client(), echo.address()).unwrap();
    talk(&socket);
    let start = Instant::now();
    let flow = agent
        .wait_for_flow("with both keys", |flow| flow.dport == 4433 && flow.nat_reply.is_some())
        .unwrap();
    assert!(start.elapsed() < Duration::from_secs(5), "that is a sweep, not a heartbeat");
    (0..20).for_each(|_| talk(&socket));
    let flow = agent.flows().unwrap().into_iter().find(|now| now.sport == flow.sport).unwrap();
    assert!(flow.reply_packets >= 20 && flow.original_packets >= 20, "{flow:?}");
}

/// R23: where the map of blocked flows is full, one more is blocked all the same, and that is said.
#[test]
fn a_blocked_flow_without_room_is_blocked_by_its_connection_and_counted() {
    const ROOM: usize = 64;
    const FLOWS: usize = ROOM + 8;
    if without_root() {
        return;
    }
    let setup = with_rule(Setup::default(), "block", "ads.test", &[]).main("held_flows", ROOM);
    let world = Router::new(Build::default()).unwrap();
    let agent = Agent::start(&world, setup).unwrap();
    let echo = TcpService::echo(&world.server, world.server.v4.into(), 443).unwrap();
    let hello = sluice_tests::hello::client_hello("ads.test", 0);
    let mut streams: Vec<_> =
        (0..FLOWS).map(|_| connect(world.client(), echo.address()).unwrap()).collect();
    for stream in &mut streams {
        stream.write_all(&hello).unwrap();
    }
    let status = agent
        .wait_for_status("all were decided", LIMIT, |status| {
            let flows = &status.flows;
            (flows.held as usize == ROOM && flows.held_refused as usize >= FLOWS - ROOM)
                .then(|| status.clone())
        })
        .unwrap();
    assert_eq!(agent.flows().unwrap().len(), ROOM, "{status:#?}");
    for stream in &mut streams {
        stream.write_all(b"more").unwrap();
        stream.set_read_timeout(Some(Duration::from_millis(40))).unwrap();
        assert!(stream.read(&mut [0; 16]).is_err(), "something came back");
    }
    // Repeated hellos of the others are dropped by the mark of their connections.
    wait::until_true("rules dropped them", LIMIT, || {
        agent.status().unwrap().netfilter.counters.get("dropped_blocked").is_some_and(|n| *n > 0)
    })
    .unwrap();
}

/// R125: what is said about a name holds at once for flows that are known by it, both ways.
#[test]
fn a_live_flow_gets_what_new_rules_say() {
    if without_root() {
        return;
    }
    let world = Router::new(Build::default()).unwrap();
    let mut agent = Agent::start(&world, Setup::default()).unwrap();
    let echo = TcpService::echo(&world.server, world.server.v4.into(), 443).unwrap();
    let mut stream = connect(world.client(), echo.address()).unwrap();
    let hello = sluice_tests::hello::client_hello("slow.test", 0);
    assert_eq!(round_trip(&mut stream, &hello, hello.len()).unwrap(), hello);
    let port = stream.local_addr().unwrap().port();
    let filter = format!("-p tcp --dport 443 --sport {port}");
    let limit = [("kbit", "8000")];
    let limited = with_rule(Setup::default(), "limit", "slow.test", &limit);
    let faster = with_rule(Setup::default(), "limit", "slow.test", &[("kbit", "80000")]);
    for (setup, verdict, mark) in [
        (None, "trusted", 0x0100_0000),
        (Some(limited), "limited", MARK_UNDECIDED),
        (Some(faster), "limited", MARK_UNDECIDED),
        (Some(Setup::default()), "trusted", 0x0100_0000),
    ] {
        if let Some(setup) = setup {
            agent.reload(&setup).unwrap();
        }
        wait::until_true(verdict, LIMIT, || {
            let flows = agent.flows().unwrap();
            let flow = flows.iter().find(|flow| flow.sport == port).unwrap();
            let connections = observe::connections(&world.netns, &filter).unwrap();
            flow.verdict == verdict && connections[0].mark == mark
        })
        .unwrap();
        let counter = if verdict == "limited" { "tc_limited" } else { "tc_trusted" };
        let before = counted(&agent, counter);
        assert_eq!(round_trip(&mut stream, &[7; 1000], 1000).unwrap(), [7; 1000]);
        assert!(counted(&agent, counter) >= before + 2, "{verdict}");
    }
}

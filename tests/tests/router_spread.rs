//! A router that shares packets out to its processors: which packets go where, what stays in order,
//! and where it is not done.
//!
//! A veth pair stands for a network card with one receive queue: what is sent on a processor arrives
//! on that processor.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;
use sluice_tests::agent::{Agent, Setup};
use sluice_tests::host::Host;
use sluice_tests::netns::Netns;
use sluice_tests::probe::Probe;
use sluice_tests::report::Status;
use sluice_tests::router::{Build, LAN_V4, LAN_V6, Router, WAN, WAN_V4, WAN_V6};
use sluice_tests::skip::{skipped, without_root};
use sluice_tests::{traffic, wait};

/// Where the flows of these tests go.
const PORT: u16 = 9000;
/// Time for the agent to notice what it looks at with every sweep.
const NOTICE: Duration = Duration::from_secs(30);

/// Processors that this process may use.
fn processors() -> Vec<usize> {
    let allowed = sched_getaffinity(Pid::from_raw(0)).unwrap();
    (0..CpuSet::count()).filter(|cpu| allowed.is_set(*cpu).unwrap()).collect()
}

/// Whether there is nothing to share out to.
fn without_processors() -> bool {
    if without_root() {
        return true;
    }
    let alone = processors().len() < 2;
    if alone {
        skipped("needs two processors");
    }
    alone
}

/// The calling thread runs there from now on.
fn stay_on(cpu: usize) {
    let mut set = CpuSet::new();
    set.set(cpu).unwrap();
    sched_setaffinity(Pid::from_raw(0), &set).unwrap();
}

/// A world whose cables carry whole frames, with VLAN tags and checksums, as spreading wants it.
fn world() -> Router {
    let world = Router::new(Build::default()).unwrap();
    for port in world.ports() {
        world.netns.run(&format!("ethtool -K {port} rxvlan off")).unwrap();
    }
    for host in world.clients.iter().chain([&world.server, &world.attacker]) {
        // A card's frames are whole; a veth pair leaves checksums to whoever needs them.
        host.netns.run("ethtool -K eth0 tx off").unwrap();
    }
    world
}

fn setup(spread: &str) -> Setup {
    // Order is that of the kernel then, not that of the queue.
    Setup::default().main("spread", spread).main("sweep_s", 1).without_inspection_on_the_lan()
}

/// Waits until the status is so. While programs are exchanged the agent may be too busy to answer, on an
/// emulator for seconds.
fn wait_for(agent: &Agent, what: &str, so: impl Fn(&Status) -> bool) {
    let waited = wait::until_true(what, NOTICE, || agent.status().is_ok_and(|status| so(&status)));
    assert!(waited.is_ok(), "{what}: {:#?}", agent.status().map(|status| status.features));
}

/// Waits until the feature is in this state, for a reason or on a rung that has this part.
fn feature(agent: &Agent, name: &str, state: &str, part: &str) {
    wait_for(agent, &format!("{name} was {state}: {part}"), |status| {
        let mut features = status.features.iter().filter(|feature| feature.name == name);
        features.any(|feature| {
            let said = format!("{} {}", feature.rung, feature.reasons.join("; "));
            feature.state == state && said.contains(part)
        })
    });
}

fn in_force(agent: &Agent) {
    let all = format!("{} processors", online());
    feature(agent, "spread lan", "active", &all);
    feature(agent, "spread wan", "active", &all);
}

fn online() -> usize {
    let text = std::fs::read_to_string("/sys/devices/system/cpu/online").unwrap();
    let ends = |range: &str| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        last.parse::<usize>().unwrap() + 1 - first.parse::<usize>().unwrap()
    };
    text.trim().split(',').map(ends).sum()
}

/// Notes the processor on which each flow comes out of the shield.
struct Places<'a>(&'a Netns);

impl<'a> Places<'a> {
    fn new(netns: &'a Netns) -> Self {
        let places = Self(netns);
        places.begin();
        places
    }

    /// Forgets what was noted.
    fn begin(&self) {
        self.0
            .nft(&format!(
                "table inet places
                 delete table inet places
                 table inet places {{
                    set flows {{ typeof udp sport . meta cpu; flags dynamic; size 65535; }}
                    chain arrive {{
                        type filter hook prerouting priority -400;
                        udp dport {PORT} add @flows {{ udp sport . meta cpu }}
                    }}
                 }}\n"
            ))
            .unwrap();
    }

    /// Processors by source port.
    fn of_flows(&self) -> BTreeMap<u16, BTreeSet<usize>> {
        let text = self.0.run("nft -n list set inet places flows").unwrap();
        let mut places = BTreeMap::<u16, BTreeSet<usize>>::new();
        let Some((_, elements)) = text.split_once("elements = {") else { return places };
        let elements = elements.split('}').next().unwrap_or_default();
        for element in elements.split(',') {
            let (port, cpu) = element.trim().split_once(" . ").unwrap();
            places.entry(port.parse().unwrap()).or_default().insert(cpu.parse().unwrap());
        }
        places
    }
}

/// A frame of a client's flow to the server.
fn frame(client: &Host, to: Ipv4Addr, sport: u16, number: u32) -> Vec<u8> {
    client.frame().ipv4(client.v4, to).udp(sport, PORT).payload(&number.to_be_bytes()).bytes()
}

/// Sends `each` frames of each flow, one flow after the other, from a processor.
fn send_from(cpu: usize, client: &Host, to: Ipv4Addr, ports: std::ops::Range<u16>, each: u32) {
    let wire = client.injector().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            stay_on(cpu);
            for number in 0..each {
                for port in ports.clone() {
                    wire.send(&frame(client, to, port, number)).unwrap();
                }
                // No queue between here and there is longer than a few rounds.
                wait::pause(Duration::from_millis(2));
            }
        });
    });
}

/// R61: many flows at once, from every processor: each flow is on one processor alone and comes out in
/// the order in which it went in; all processors have some.
#[test]
fn every_flow_keeps_its_processor_and_its_order_and_all_processors_have_some() {
    const FLOWS: u16 = 64;
    const EACH: u32 = 600;
    if without_processors() {
        return;
    }
    let world = world();
    let agent = Agent::start(&world, setup("on")).unwrap();
    in_force(&agent);
    let places = Places::new(&world.netns);
    let receiver = world
        .server
        .netns
        .enter(|| UdpSocket::bind(SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), PORT)))
        .unwrap()
        .unwrap();
    receiver.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    let cpus = processors();
    let got = std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut got = BTreeMap::<u16, Vec<u32>>::new();
            let mut number = [0; 4];
            // Ends when nothing has come for a while.
            let mut silent = 0;
            while silent < 3 {
                match receiver.recv_from(&mut number) {
                    Ok((4, from)) => {
                        got.entry(from.port()).or_default().push(u32::from_be_bytes(number));
                    }
                    _ => silent += 1,
                }
            }
            got
        });
        let part = FLOWS / cpus.len() as u16;
        for (index, cpu) in cpus.iter().enumerate() {
            let first = 20_000 + index as u16 * part;
            let (client, to) = (world.client(), world.server.v4);
            scope.spawn(move || send_from(*cpu, client, to, first..first + part, EACH));
        }
        reader.join().unwrap()
    });
    assert!(got.len() >= usize::from(FLOWS) - cpus.len(), "{} flows arrived", got.len());
    let arrived: usize = got.values().map(Vec::len).sum();
    let sent = got.len() * EACH as usize;
    // Sockets and queues overflow on a busy machine; a test of order needs enough of it.
    assert!(arrived * 2 > sent, "{arrived} of {sent} arrived");
    for (port, numbers) in &got {
        assert!(numbers.is_sorted(), "flow {port} came in another order: {numbers:?}");
    }
    let flows = places.of_flows();
    assert_eq!(flows.len(), got.len());
    for (port, cpus) in &flows {
        assert_eq!(cpus.len(), 1, "flow {port} was on {cpus:?}");
    }
    let used: BTreeSet<_> = flows.values().flatten().collect();
    assert_eq!(used.len(), online(), "{flows:?}");
    let passed = agent.count("lan", "xdp_pass").unwrap();
    assert!(passed >= arrived as u64, "{passed} counted, {arrived} arrived");
}

/// R61: without the option packets stay where they arrive; it is switched on and off by a reload while
/// the shield goes on dropping what is listed.
#[test]
fn a_reload_switches_it_on_and_off_and_no_listed_packet_passes_meanwhile() {
    const LISTED: &str = "198.51.100.77";
    if without_processors() {
        return;
    }
    let world = world();
    let with = |spread| setup(spread).blocklist("test", &[LISTED]);
    let mut agent = Agent::start(&world, with("off")).unwrap();
    assert!(!agent.status().unwrap().features.iter().any(|f| f.name.starts_with("spread")));
    let places = Places::new(&world.netns);
    let witness = Probe::new(
        &world.netns,
        &[("listed", &format!("ip saddr {LISTED}")), ("other", "ip saddr 198.51.100.78")],
    )
    .unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let wire = world.attacker.injector().unwrap();
    let of = |source: &str| {
        let source: Ipv4Addr = source.parse().unwrap();
        world.attacker.frame().ipv4(source, WAN_V4).udp(4000, 9).payload(b"probe").bytes()
    };
    let (listed, other) = (of(LISTED), of("198.51.100.78"));
    let flood = {
        let stop = Arc::clone(&stop);
        std::thread::spawn(move || {
            let mut sent = 0_u64;
            while !stop.load(Ordering::Relaxed) {
                for _ in 0..20 {
                    wire.send(&listed).unwrap();
                    wire.send(&other).unwrap();
                    sent += 1;
                }
                wait::pause(Duration::from_millis(5));
            }
            sent
        })
    };
    let cpu = processors()[0];
    let used = || {
        places.begin();
        send_from(cpu, world.client(), world.server.v4, 30_000..30_064, 3);
        let all = || places.of_flows().len() == 64;
        wait::until_true("all flows were seen", NOTICE, all).unwrap();
        places.of_flows().into_values().flatten().collect::<BTreeSet<_>>()
    };
    assert_eq!(used(), BTreeSet::from([cpu]), "off: where they arrive");
    for _ in 0..2 {
        agent.reload(&with("on")).unwrap();
        in_force(&agent);
        assert_eq!(used().len(), online(), "on: everywhere");
        agent.reload(&with("off")).unwrap();
        wait_for(&agent, "it was off", |status| {
            !status.features.iter().any(|feature| feature.name.starts_with("spread"))
        });
        assert_eq!(used(), BTreeSet::from([cpu]), "off again: where they arrive");
    }
    stop.store(true, Ordering::Relaxed);
    let sent = flood.join().unwrap();
    let all = || witness.count("other").unwrap() >= sent;
    wait::settles(NOTICE, all);
    assert_eq!(witness.count("listed").unwrap(), 0, "of {sent}");
    // The queues that were taken away were emptied, not thrown away.
    assert_eq!(witness.count("other").unwrap(), sent);
    assert!(agent.count("wan", "xdp_drop_listed").unwrap() >= sent);
}

/// R61: whatever a network carries goes through: ARP stays, TCP, UDP, ICMP and fragments change the
/// processor, in both families and both directions.
#[test]
fn everything_goes_through_a_router_that_spreads() {
    if without_processors() {
        return;
    }
    let world = world();
    let agent = Agent::start(&world, setup("on")).unwrap();
    in_force(&agent);
    let (client, server) = (world.client(), &world.server);
    // Neighbours are asked for anew.
    for netns in [&world.netns, &client.netns, &server.netns] {
        netns.run("ip neigh flush all").unwrap();
    }
    for address in [LAN_V4.into(), LAN_V6.into(), server.v4.into(), IpAddr::from(server.v6)] {
        assert!(client.ping(address).unwrap(), "echo to {address}");
    }
    for address in [WAN_V4.into(), IpAddr::from(WAN_V6)] {
        assert!(server.ping(address).unwrap(), "echo to {address}");
    }
    for address in [server.v4.into(), IpAddr::from(server.v6)] {
        let large = format!("busybox ping -c 2 -W 2 -s 4000 {address}");
        assert!(client.netns.succeeds(&large).unwrap(), "fragments to {address}");
    }
    for like in [IpAddr::from(server.v4), IpAddr::from(server.v6)] {
        let _tcp = traffic::TcpService::echo(server, like, 7000).unwrap();
        let _udp = traffic::UdpService::echo(server, like, 7001).unwrap();
        let to = |port| SocketAddr::new(server.address(like), port);
        for _ in 0..20 {
            let mut stream = traffic::connect(client, to(7000)).unwrap();
            let bytes = vec![7; 20_000];
            assert_eq!(traffic::round_trip(&mut stream, &bytes, bytes.len()).unwrap(), bytes);
            let socket = traffic::udp(client, to(7001)).unwrap();
            socket.send(b"hello").unwrap();
            let mut answer = [0; 16];
            assert_eq!(socket.recv(&mut answer).unwrap(), 5);
        }
    }
    // From the WAN, through the firewall's own translation.
    let _service = traffic::TcpService::echo(client, client.v4.into(), 8080).unwrap();
    let mut stream = traffic::connect(server, (IpAddr::from(WAN_V4), 8080).into()).unwrap();
    assert_eq!(traffic::round_trip(&mut stream, b"hello", 5).unwrap(), b"hello");
    assert!(agent.count("lan", "xdp_not_ip").unwrap() > 0, "ARP");
    // Nothing in the frames made it look like a driver that does not run the program.
    feature(&agent, "shield wan", "active", "native");
    in_force(&agent);
}

/// R61: each obstacle that can be made here is named, and gone as soon as it is.
#[test]
fn an_obstacle_is_named_and_noticed_when_it_goes() {
    if without_processors() {
        return;
    }
    let world = Router::new(Build::default()).unwrap();
    let mut agent = Agent::start(&world, setup("on")).unwrap();
    let run = |line: &str| world.netns.run(line).unwrap();
    feature(&agent, "spread wan", "degraded", "wan: the driver takes VLAN tags off");
    run(&format!("ethtool -K {WAN} rxvlan off"));
    feature(&agent, "spread wan", "active", "processors");
    feature(&agent, "spread lan", "degraded", "lan1: the driver takes VLAN tags off");
    run(&format!("ethtool -K {WAN} rxvlan on"));
    feature(&agent, "spread wan", "degraded", "wan: the driver takes VLAN tags off");
    run(&format!("ethtool -K {WAN} rxvlan off"));
    feature(&agent, "spread wan", "active", "processors");
    agent.reload(&setup("auto")).unwrap();
    feature(&agent, "spread wan", "degraded", "veth pair");
    run(&format!("ethtool -L {WAN} rx 2"));
    feature(&agent, "spread wan", "degraded", "2 receive queues");
}

/// R61: behind the driver the buffer itself changes the processor.
#[test]
fn generic_programs_spread_too() {
    if without_processors() {
        return;
    }
    let world = Router::new(Build::default()).unwrap();
    let agent = Agent::start(&world, setup("auto").xdp("generic")).unwrap();
    in_force(&agent);
    let places = Places::new(&world.netns);
    let cpu = processors()[0];
    send_from(cpu, world.client(), world.server.v4, 30_000..30_064, 3);
    wait::until_true("all flows were seen", NOTICE, || places.of_flows().len() == 64).unwrap();
    let flows = places.of_flows();
    assert!(flows.values().all(|cpus| cpus.len() == 1), "{flows:?}");
    let used: BTreeSet<_> = flows.values().flatten().collect();
    assert_eq!(used.len(), online());
    assert!(world.client().ping(world.server.v4.into()).unwrap());
    assert!(world.client().ping(world.server.v6.into()).unwrap());
}

//! Flow offload of the firewall with inspection: runs where the kernel has flowtables, which the
//! kernels of the virtual machines do.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use nix::sys::socket::SockProtocol;
use sluice::sys::netlink::{Message, Messages, Socket};
use sluice_abi::flow::{FlowKey, FlowState};
use sluice_abi::verdict::{Reason, Verdict};
use sluice_tests::agent::{Agent, Setup};
use sluice_tests::hello::client_hello;
use sluice_tests::host::{ETH, Host};
use sluice_tests::netns::Netns;
use sluice_tests::observe;
use sluice_tests::probe::Probe;
use sluice_tests::report::Flow;
use sluice_tests::router::{Build, Lan, Router, WAN};
use sluice_tests::skip;
use sluice_tests::traffic::{TcpService, UdpService, connect, round_trip, udp};
use sluice_tests::wait;

const LIMIT: Duration = Duration::from_secs(60);
const PORT: u16 = 443;
const VLAN: &str = "wan.10";
/// What firewall4 writes first into its forward chain.
const OPEN: &str = "meta l4proto { tcp, udp } flow add @ft";
/// The same under guard.
const GUARDED: &str = "meta l4proto { tcp, udp } ct mark & 0x07000000 == 0x01000000 flow add @ft";

/// A server that sends back what it gets, and a router whose firewall offloads.
struct Scene {
    world: Router,
    /// Device towards the provider.
    wan: &'static str,
    servers: Vec<TcpService>,
}

impl Scene {
    fn new(lan: Lan) -> Self {
        let world = Router::new(Build { lan, ..Build::default() }).unwrap();
        let like = [IpAddr::V4(world.server.v4), world.server.v6.into()];
        let servers = like.map(|like| TcpService::echo(&world.server, like, PORT).unwrap());
        let scene = Self { world, wan: WAN, servers: servers.into() };
        scene.firewall();
        scene
    }

    /// firewall4's table with offload on, the way a reload puts it in force.
    fn firewall(&self) {
        let (lan, wan) = (self.world.lan, self.wan);
        let text = format!(
            "table inet fw4
             delete table inet fw4
             table inet fw4 {{
                flowtable ft {{
                    hook ingress priority 0
                    devices = {{ lan1, {WAN} }}
                }}
                chain forward {{
                    type filter hook forward priority filter; policy drop;
                    {OPEN}
                    ct state vmap {{ established : accept, related : accept }}
                    iifname \"{lan}\" oifname \"{wan}\" accept comment \"!fw4: lan to wan\"
                }}
                chain mangle {{
                    type filter hook prerouting priority mangle; policy accept;
                    ct state new ct mark set ct mark or 0x100 comment \"!mwan3\"
                }}
                chain srcnat {{
                    type nat hook postrouting priority srcnat; policy accept;
                    oifname \"{wan}\" meta nfproto ipv4 masquerade
                }}
             }}\n"
        );
        self.world.netns.nft(&text).unwrap();
    }

    /// Puts another configuration in force, with this scene's devices.
    fn reload(&self, agent: &mut Agent, setup: &Setup) {
        let run = agent.socket().parent().unwrap().to_owned();
        let text = setup.text(self.world.lan, agent.pins(), &run);
        let device = |name: &str| format!("option device '{name}'");
        let text = text.replace(&device(WAN), &device(self.wan));
        agent.reload_text(&text).unwrap();
    }

    /// The chain as the user would see it.
    fn forward(&self) -> String {
        self.world.netns.run("nft list chain inet fw4 forward").unwrap()
    }

    /// A connection whose ClientHello came back from the server.
    fn open(&self, server: &TcpService) -> Conversation {
        let stream = connect(self.world.client(), server.address()).unwrap();
        // Clients need a moment for their hello; without it the packet before it, which is the one
        // that offloads, may still wait in the queue, and both are seen.
        wait::pause(Duration::from_millis(300));
        let mut conversation = Conversation { stream, to: server.address() };
        conversation.echo(&client_hello("news.test", 0));
        conversation
    }

    /// The line of `conntrack -L` about a connection of the client.
    fn connection(&self, transport: &str, port: u16, to: SocketAddr) -> Option<String> {
        let family = if to.is_ipv4() { "ipv4" } else { "ipv6" };
        let filter = format!("-f {family} -p {transport} --orig-port-src {port}");
        let found = observe::connections(&self.world.netns, &filter).unwrap();
        found.into_iter().next().map(|connection| connection.line)
    }

    /// Sends until the connection is offloaded; its mark then, foreign bits and all.
    fn wait_until_offloaded(
        &self,
        transport: &str,
        port: u16,
        to: SocketAddr,
        mut send: impl FnMut(),
    ) {
        wait::until("the connection was offloaded", LIMIT, || {
            send();
            let line = self.connection(transport, port, to).unwrap_or_default();
            if !line.contains("[OFFLOAD]") {
                return Ok(None);
            }
            assert!(line.contains(&format!("mark={}", 0x0100_0100)), "{line}");
            Ok(Some(()))
        })
        .unwrap();
    }

    /// Counts packets of connections to the servers in the forward hook, before everybody else.
    fn forward_probe(&self) {
        let text = format!(
            "table inet witness {{
                counter forwarded {{ }}
                chain forward {{
                    type filter hook forward priority -400
                    meta l4proto {{ tcp, udp }} th dport {PORT} counter name forwarded
                    meta l4proto {{ tcp, udp }} th sport {PORT} counter name forwarded
                }}
             }}\n"
        );
        self.world.netns.nft(&text).unwrap();
    }

    fn forwarded(&self) -> u64 {
        observe::counter(&self.world.netns, "inet witness", "forwarded").unwrap()
    }
}

/// A connection of the client.
struct Conversation {
    stream: TcpStream,
    to: SocketAddr,
}

impl Conversation {
    fn port(&self) -> u16 {
        self.stream.local_addr().unwrap().port()
    }

    fn echo(&mut self, bytes: &[u8]) {
        assert_eq!(round_trip(&mut self.stream, bytes, bytes.len()).unwrap(), bytes);
    }
}

fn agent(scene: &Scene, setup: Setup) -> Agent {
    let agent = Agent::start(&scene.world, setup).unwrap();
    wait_for_guard(&agent);
    agent
}

fn wait_for_guard(agent: &Agent) {
    agent
        .wait_for_status("offload was guarded", LIMIT, |status| {
            status.offload.guarded.then_some(())
        })
        .unwrap();
}

/// R15, R166: with firewall4's offload on, every ClientHello is seen, in both families and through
/// NAT; with the guard off hardly one is, which shows that this test sees the difference. Stop gives the
/// firewall its rule back, word for word.
#[test]
fn every_client_hello_is_seen_with_the_firewalls_offload_on() {
    if skip::without_flowtables().unwrap() {
        return;
    }
    let scene = Scene::new(Lan::Plain);
    let before = scene.forward();
    assert!(before.contains(OPEN), "{before}");
    let setup = Setup::default();
    let off = setup.clone().main("manage_offload", "off");
    let mut agent = Agent::start(&scene.world, off).unwrap();
    assert_eq!(scene.forward(), before);
    let status = agent.status().unwrap();
    assert_eq!((&*status.offload.mode, status.offload.guarded), ("software", false));
    assert!(status.offload.blind.iter().any(|line| line.starts_with("inspection")), "{status:?}");
    let feature = status.features.iter().find(|feature| feature.name == "flow offload").unwrap();
    assert_eq!((&*feature.state, &*feature.rung), ("degraded", "software, any flow"));
    let named =
        |agent: &Agent| agent.flows().unwrap().iter().filter(|flow| flow.sni.is_some()).count();
    let open = |times: usize| -> Vec<Conversation> {
        scene.servers.iter().flat_map(|server| (0..times).map(|_| scene.open(server))).collect()
    };
    let unseen = open(3);
    // A hello that comes while the acknowledgement before it makes the entry may still meet the queue.
    let seen = named(&agent);
    assert!(2 * seen < unseen.len(), "the queue sees {seen} of {} hellos unguarded", unseen.len());
    drop(unseen);

    agent.reload(&setup).unwrap();
    wait_for_guard(&agent);
    let guarded = scene.forward();
    assert_eq!(guarded.replace(&format!("{GUARDED} comment \"guarded by sluice\""), OPEN), before);
    for conversation in open(10) {
        let port = conversation.port();
        let flow = agent.wait_for_flow("seen", |flow| flow.sport == port).unwrap();
        assert_eq!(flow.sni.as_deref(), Some("news.test"), "{flow:?}");
    }
    assert!(agent.stop().unwrap().success());
    assert_eq!(scene.forward(), before);
}

/// R166: what Sluice has no business with takes the short way as it did before.
#[test]
fn a_flow_that_nobody_inspects_is_offloaded_under_the_guard() {
    if skip::without_flowtables().unwrap() {
        return;
    }
    let scene = Scene::new(Lan::Plain);
    let agent = agent(&scene, Setup::default().without_inspection_on_the_lan());
    assert!(agent.status().unwrap().offload.guarded);
    let mut conversation = scene.open(&scene.servers[0]);
    let (port, to) = (conversation.port(), conversation.to);
    scene.wait_until_offloaded("tcp", port, to, || conversation.echo(b"more"));
    assert_eq!(agent.status().unwrap().queue.engine["packets"], 0);
}

/// R64, R166: what is decided goes past the forward chain, TCP in both families and UDP, and the
/// programs still see every packet: they stand before the flowtable, so their block needs nobody's
/// help.
#[test]
fn a_decided_flow_is_offloaded_and_the_programs_still_see_it() {
    if skip::without_flowtables().unwrap() {
        return;
    }
    let scene = Scene::new(Lan::Plain);
    let like = IpAddr::V4(scene.world.server.v4);
    let datagrams = UdpService::echo(&scene.world.server, like, PORT).unwrap();
    scene.forward_probe();
    let agent = agent(&scene, Setup::default());
    let counted = |port: u16| {
        let find = |flow: &Flow| flow.sport == port;
        agent.wait_for_flow("counted", find).unwrap()
    };
    let expect_offloaded = |port: u16, send: &mut dyn FnMut()| {
        let (before, forwarded) = (counted(port), scene.forwarded());
        (0..50).for_each(|_| send());
        let after = counted(port);
        assert_eq!(scene.forwarded(), forwarded, "the forward chain sees nothing of {after:?}");
        assert!(after.original_packets >= before.original_packets + 50, "{before:?} {after:?}");
        assert!(after.reply_packets >= before.reply_packets + 50, "{before:?} {after:?}");
    };
    let mut last = None;
    for server in &scene.servers {
        let mut conversation = scene.open(server);
        let (port, to) = (conversation.port(), conversation.to);
        scene.wait_until_offloaded("tcp", port, to, || conversation.echo(b"more"));
        expect_offloaded(port, &mut || conversation.echo(b"still more"));
        (0..20).for_each(|_| conversation.echo(&[7; 16 << 10]));
        last = Some(conversation);
    }
    let offload = agent.status().unwrap().offload;
    assert_eq!(offload.mode, "software");
    assert!((900..1000).contains(&offload.permille.unwrap()), "most, not all: {offload:?}");
    let socket = udp(scene.world.client(), datagrams.address()).unwrap();
    let port = socket.local_addr().unwrap().port();
    let mut send = || {
        socket.send(b"question").unwrap();
        socket.recv(&mut [0; 64]).unwrap();
    };
    scene.wait_until_offloaded("udp", port, datagrams.address(), &mut send);
    expect_offloaded(port, &mut send);
    let inspected = counted(port);
    assert!(inspected.inspected_packets >= 10, "{inspected:?}");

    // A block written by nobody but this test: the connection stays offloaded and is silent.
    let conversation = last.unwrap();
    let map = aya::maps::Map::LruHashMap(agent.map("FLOWS").unwrap());
    let mut flows: aya::maps::HashMap<_, FlowKey, FlowState> = map.try_into().unwrap();
    let entries: Vec<_> = flows.iter().map(Result::unwrap).collect();
    for (key, state) in entries {
        let blocked = FlowState::new(
            Verdict::Blocked,
            Reason::DomainRule,
            sluice_abi::flow::Direction::Up,
            state.slot,
            u32::MAX,
        );
        flows.insert(key, blocked, 0).unwrap();
    }
    let arrivals = [("arrived", "tcp dport 443")];
    let probe = Probe::new(&scene.world.server.netns, &arrivals).unwrap();
    (&conversation.stream).write_all(b"lost").unwrap();
    conversation.stream.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    assert!((&conversation.stream).read(&mut [0; 4]).is_err());
    assert_eq!(probe.count("arrived").unwrap(), 0);
    let silent = scene.connection("tcp", conversation.port(), conversation.to).unwrap();
    assert!(silent.contains("[OFFLOAD]"), "{silent}");
    assert!(agent.count(scene.world.lan, "tc_drop_blocked").unwrap() > 0);
}

/// Whether a rule that blocks what `server` is asked for cuts an offloaded connection: nothing passes in
/// either direction any more a second after the reload, though both ends go on sending.
fn expect_cut(scene: &Scene, agent: &mut Agent, setup: &Setup, server: &TcpService) {
    let blocking = setup.clone().rule("ads", "block", &["news.test"]);
    expect_cut_by(scene, agent, [setup, &blocking], (&scene.world.server, server));
}

/// The same for a change from one configuration to another, and a server on a host.
fn expect_cut_by(
    scene: &Scene,
    agent: &mut Agent,
    [setup, blocking]: [&Setup; 2],
    (host, server): (&Host, &TcpService),
) {
    let probe = |netns, what| Probe::new(netns, &[("arrived", what)]).unwrap();
    let netns = [&host.netns, &scene.world.client().netns];
    let probes = [probe(netns[0], "tcp dport 443"), probe(netns[1], "tcp sport 443")];
    let counts = || probes.map(|probe| probe.count("arrived").unwrap());
    let mut conversation = scene.open(server);
    let (port, to) = (conversation.port(), conversation.to);
    agent.wait_for_flow("decided", |flow| flow.sport == port).unwrap();
    scene.wait_until_offloaded("tcp", port, to, || conversation.echo(b"more"));
    conversation.stream.set_nonblocking(true).unwrap();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let pump = scope.spawn(|| {
            // Retransmissions go on for as long as the socket is open.
            while !stop.load(Ordering::Relaxed) {
                let _full = (&conversation.stream).write(&[0; 1000]);
                let _empty = (&conversation.stream).read(&mut [0; 4000]);
                wait::pause(Duration::from_millis(5));
            }
        });
        let start = counts();
        wait::until_true("packets came through", LIMIT, || {
            counts().iter().zip(start).all(|(now, before)| *now > before + 5)
        })
        .unwrap();
        let since = Instant::now();
        scene.reload(agent, blocking);
        wait::pause(Duration::from_secs(1));
        let (cut, taken) = (counts(), since.elapsed());
        wait::pause(Duration::from_secs(2));
        let after = counts();
        stop.store(true, Ordering::Relaxed);
        pump.join().unwrap();
        assert_eq!(cut, after, "{to}: packets pass {taken:?} after the reload");
    });
    let line = scene.connection("tcp", port, to).unwrap_or_default();
    assert!(!line.contains("[OFFLOAD]"), "{line}");
    for netns in netns {
        netns.run("nft delete table inet probe").unwrap();
    }
    let generation = agent.status().unwrap().generation;
    scene.reload(agent, setup);
    agent
        .wait_for_status("the rule was gone", LIMIT, |status| {
            (status.generation > generation).then_some(())
        })
        .unwrap();
}

/// R166: a rule that blocks what is offloaded already cuts both directions within a second.
#[test]
fn a_block_cuts_an_offloaded_flow_in_both_directions() {
    if skip::without_flowtables().unwrap() {
        return;
    }
    let scene = Scene::new(Lan::Plain);
    let mut agent = agent(&scene, Setup::default());
    for server in &scene.servers {
        expect_cut(&scene, &mut agent, &Setup::default(), server);
    }
}

/// R166: the same behind a bridge, whose own programs an offloaded packet does not meet, and where no
/// program is.
#[test]
fn a_block_cuts_where_the_programs_do_not_see_offloaded_packets() {
    if skip::without_flowtables().unwrap() {
        return;
    }
    for (lan, setup) in
        [(Lan::Bridge, Setup::default()), (Lan::Plain, Setup::default().without_tc())]
    {
        let scene = Scene::new(lan);
        let mut agent = agent(&scene, setup.clone());
        expect_cut(&scene, &mut agent, &setup, &scene.servers[0]);
    }
}

/// R46, R166: where sets of nftables are the rung of the shield, which see no packet on the short way, an
/// address that a list gets comes back from there and is dropped in both directions.
#[test]
fn a_list_in_sets_cuts_an_offloaded_flow() {
    if skip::without_flowtables().unwrap() {
        return;
    }
    let scene = Scene::new(Lan::Plain);
    let setup = Setup::default().xdp("nft").without_tc();
    let mut agent = agent(&scene, setup.clone());
    let host = &scene.world.attacker;
    let server = TcpService::echo(host, host.v4.into(), PORT).unwrap();
    let blocking = setup.clone().blocklist("bad", &[&host.v4.to_string()]);
    expect_cut_by(&scene, &mut agent, [&setup, &blocking], (host, &server));
}

/// R166: with the provider behind a VLAN the flowtable stands on the port and the programs on the VLAN:
/// hellos are seen, decided flows offloaded, blocked ones cut.
#[test]
fn a_provider_behind_a_vlan_is_inspected_offloaded_and_cut() {
    if skip::without_flowtables().unwrap() {
        return;
    }
    let mut scene = Scene::new(Lan::Plain);
    let vlan = |netns: &Netns, device: &str, address: &str| {
        netns.ip(&format!(
            "link add link {device} name {VLAN} type vlan id 10\n\
             link set {VLAN} up\n\
             addr add {address}/24 dev {VLAN}\n"
        ))
    };
    if let Err(error) = vlan(&scene.world.netns, WAN, "10.10.0.1") {
        let symbols = std::fs::read_to_string("/proc/kallsyms").unwrap_or_default();
        assert!(!symbols.contains(" vlan_dev_init"), "{error}");
        skip::skipped("this kernel has no 8021q");
        return;
    }
    vlan(&scene.world.server.netns, ETH, "10.10.0.2").unwrap();
    let route = format!("route add {}/32 dev {VLAN} src 10.10.0.1\n", scene.world.server.v4);
    scene.world.netns.ip(&route).unwrap();
    scene.wan = VLAN;
    scene.firewall();
    let setup = Setup::default().xdp("off");
    let mut agent = agent(&scene, setup.clone());
    scene.reload(&mut agent, &setup);
    agent
        .wait_for_status("the VLAN was attached", LIMIT, |status| {
            status.interfaces.iter().any(|interface| interface.device == VLAN).then_some(())
        })
        .unwrap();
    let conversation = scene.open(&scene.servers[0]);
    let port = conversation.port();
    let flow = agent.wait_for_flow("seen", |flow| flow.sport == port).unwrap();
    assert_eq!(flow.sni.as_deref(), Some("news.test"), "{flow:?}");
    expect_cut(&scene, &mut agent, &setup, &scene.servers[0]);
}

/// Transactions by anybody: the author's name, and when it was heard of.
struct Transactions(Receiver<(String, Instant)>);

impl Transactions {
    fn listen(netns: &Netns) -> Self {
        // NFNLGRP_NFTABLES.
        let open = || Socket::open(SockProtocol::NetlinkNetFilter, 1 << 6);
        let socket = netns.enter(open).unwrap().unwrap();
        socket.set_timeout(LIMIT).unwrap();
        let (heard, transactions) = channel();
        std::thread::spawn(move || {
            first_in_line();
            let mut buffer = vec![0; 1 << 16];
            while let Ok(datagram) = socket.receive(&mut buffer) {
                let now = Instant::now();
                for author in Messages::new(datagram).filter_map(|message| author(&message)) {
                    if heard.send((author, now)).is_err() {
                        return;
                    }
                }
            }
        });
        Self(transactions)
    }

    /// Waits for the next transaction of a program whose name starts like this.
    fn next_of(&self, name: &str) -> Instant {
        loop {
            let (author, heard) = self.0.recv_timeout(LIMIT).unwrap();
            if author.starts_with(name) {
                return heard;
            }
        }
    }
}

/// Who made the transaction that this message ends.
fn author(message: &Message<'_>) -> Option<String> {
    const NEW_GENERATION: u16 = 10 << 8 | 15;
    const PROCESS_NAME: u16 = 3;
    let mut attrs = message.attrs(4);
    let name = attrs.find(|attr| attr.kind == PROCESS_NAME)?;
    (message.kind == NEW_GENERATION).then(|| name.text().into())
}

/// Makes the calling thread run as soon as it has something to do: with one processor it would
/// otherwise hear of a transaction when the agent has answered it already.
fn first_in_line() {
    let priority = libc::sched_param { sched_priority: 1 };
    // SAFETY: the parameter lives through the call, and 0 is the calling thread.
    let done = unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &raw const priority) };
    assert_eq!(done, 0, "{}", std::io::Error::last_os_error());
}

/// R166: a reload of the firewall brings its rule back; it is under guard again within 100 ms, and
/// connections made afterwards are seen.
///
/// The kernel frees what a reload removed after a grace period and keeps the lock of all rules
/// meanwhile, which takes tens of milliseconds on a processor that is emulated beside others. So the
/// limit is for the third of five, and none may take long.
#[test]
fn a_reload_of_the_firewall_is_guarded_again_at_once() {
    if skip::without_flowtables().unwrap() {
        return;
    }
    let scene = Scene::new(Lan::Plain);
    let mut agent = agent(&scene, Setup::default());
    let mut times = Vec::new();
    for _ in 0..5 {
        let heard = Transactions::listen(&scene.world.netns);
        scene.firewall();
        let reloaded = heard.next_of("nft");
        times.push(heard.next_of("sluice") - reloaded);
        assert!(scene.forward().contains(GUARDED), "{}", scene.forward());
        let conversation = scene.open(&scene.servers[0]);
        let port = conversation.port();
        let flow = agent.wait_for_flow("seen", |flow| flow.sport == port).unwrap();
        assert_eq!(flow.sni.as_deref(), Some("news.test"), "{flow:?}");
    }
    times.sort_unstable();
    println!("guarded again after {times:?}");
    assert!(times[2] <= Duration::from_millis(100), "{times:?}");
    assert!(times[4] <= Duration::from_secs(1), "{times:?}");
    assert!(agent.stop().unwrap().success());
    assert!(scene.forward().contains(OPEN));
}

/// R166: connections that were offloaded while nobody guarded come back into inspection, and go on:
/// their translation is untouched. A guard that outlived its agent is taken up by the next one.
#[test]
fn connections_offloaded_meanwhile_come_back_and_a_guard_is_adopted() {
    if skip::without_flowtables().unwrap() {
        return;
    }
    let scene = Scene::new(Lan::Plain);
    let before = scene.forward();
    let mut agent = agent(&scene, Setup::default());
    agent.sigstop().unwrap();
    scene.firewall();
    // Its packets would wait in the queue of the stopped agent.
    scene.world.netns.run("nft delete table inet sluice").unwrap();
    let mut conversation = scene.open(&scene.servers[0]);
    let (port, to) = (conversation.port(), conversation.to);
    wait::until_true("it was offloaded unseen", LIMIT, || {
        conversation.echo(b"more");
        scene.connection("tcp", port, to).is_some_and(|line| line.contains("[OFFLOAD]"))
    })
    .unwrap();
    agent.sigcont().unwrap();
    wait_for_guard(&agent);
    agent
        .wait_for_status("the rules were back", LIMIT, |status| {
            status.netfilter.applied.then_some(())
        })
        .unwrap();
    (0..20).for_each(|_| conversation.echo(b"again"));
    let flow = agent.wait_for_flow("inspected", |flow| flow.sport == port).unwrap();
    assert!(flow.inspected_packets > 5, "{flow:?}");
    scene.wait_until_offloaded("tcp", port, to, || conversation.echo(b"and on"));

    agent.kill9().unwrap();
    assert!(scene.forward().contains(GUARDED), "{}", scene.forward());
    agent.start_again(&scene.world).unwrap();
    let status = agent.status().unwrap();
    assert_eq!((status.offload.guarded, status.offload.guards), (true, 0), "{status:?}");
    assert!(agent.stop().unwrap().success());
    assert_eq!(scene.forward(), before);
}

/// R16, R166: an offloaded flow that is to be looked at again comes back from the flowtable, goes
/// through the queue, and is offloaded again.
#[test]
fn a_flow_that_is_looked_at_again_comes_back_from_the_flowtable() {
    if skip::without_flowtables().unwrap() {
        return;
    }
    let scene = Scene::new(Lan::Plain);
    scene.forward_probe();
    let setup = Setup::default().main("sweep_s", 1).main("reinspect_percent", 100);
    let agent = agent(&scene, setup.main("reinspect_after_s", 11));
    let mut conversation = scene.open(&scene.servers[0]);
    let (port, to) = (conversation.port(), conversation.to);
    scene.wait_until_offloaded("tcp", port, to, || conversation.echo(b"more"));
    conversation.echo(b"and more");
    let before = scene.forwarded();
    agent
        .wait_for_status("it was taken back", LIMIT, |status| {
            (status.flows.reinspected > 0).then_some(())
        })
        .unwrap();
    conversation.echo(b"seen");
    assert!(scene.forwarded() >= before + 2, "{before}, {}", scene.forwarded());
    scene.wait_until_offloaded("tcp", port, to, || conversation.echo(b"and on"));
}

/// R166: where the firewall has no flowtable and the user wants offload, trusted flows go through one
/// of Sluice's own; it makes room for the firewall's, and leaves with the agent.
#[test]
fn a_flowtable_of_our_own_offloads_where_the_firewall_has_none() {
    if skip::without_flowtables().unwrap() {
        return;
    }
    let scene = Scene::new(Lan::Bridge);
    scene.world.firewall().unwrap();
    // The marks of other programs are set by the table that this scene has otherwise.
    let mangle = "table inet foreign {
            chain mangle {
                type filter hook prerouting priority mangle
                ct state new ct mark set ct mark or 0x100
            }
         }\n";
    scene.world.netns.nft(mangle).unwrap();
    let mut agent = agent(&scene, Setup::default().main("offload", "software"));
    assert_eq!(agent.status().unwrap().offload.mode, "software");
    let table = scene.world.netns.run("nft list table inet sluice_offload").unwrap();
    assert!(table.contains("lan1") && !table.contains("br-lan"), "{table}");
    for server in &scene.servers {
        let mut conversation = scene.open(server);
        let (port, to) = (conversation.port(), conversation.to);
        let flow = agent.wait_for_flow("seen", |flow| flow.sport == port).unwrap();
        assert_eq!(flow.sni.as_deref(), Some("news.test"), "{flow:?}");
        scene.wait_until_offloaded("tcp", port, to, || conversation.echo(b"more"));
    }
    let is_there = || observe::rule_mentions(&scene.world.netns, "sluice_offload").unwrap();
    scene.firewall();
    wait::until_true("ours made room", LIMIT, || !is_there()).unwrap();
    assert!(scene.forward().contains(GUARDED), "{}", scene.forward());
    scene.world.firewall().unwrap();
    wait::until_true("ours was back", LIMIT, is_there).unwrap();
    assert!(agent.stop().unwrap().success());
    let ruleset = scene.world.netns.run("nft list ruleset").unwrap();
    assert!(!ruleset.contains("sluice"), "{ruleset}");
}

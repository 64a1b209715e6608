//! Names of devices: what they call themselves when they get their address is shown beside it, and
//! follows them when it moves.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value as Json, json};
use sluice_tests::agent::{Agent, Setup};
use sluice_tests::bus::Bus;
use sluice_tests::caller::Caller;
use sluice_tests::directory::Directory;
use sluice_tests::host::{ETH, Host, mac_text};
use sluice_tests::process::{self, Daemon};
use sluice_tests::report::{Feature, Flow};
use sluice_tests::router::{Build, Router};
use sluice_tests::service::Dns;
use sluice_tests::skip::without_root;
use sluice_tests::traffic::{TcpService, connect, round_trip};
use sluice_tests::wait;

/// Emulated and shared machines are slow.
const LIMIT: Duration = Duration::from_secs(120);
/// What the client for DHCP runs with what it was given.
const SCRIPT: &str = "#!/bin/sh\n\
    [ \"$1\" = bound ] || exit 0\n\
    ip addr add \"$ip/24\" dev \"$interface\"\n\
    ip route replace default via \"$router\"\n";

/// A router with two clients, and an echo beyond it.
struct World {
    echo: TcpService,
    refused: SocketAddr,
    router: Router,
}

impl World {
    fn new() -> Self {
        let router = Router::new(Build { clients: 2, ..Build::default() }).unwrap();
        let server = IpAddr::from(router.server.v4);
        let echo = TcpService::echo(&router.server, server, 7).unwrap();
        Self { echo, refused: (server, 9).into(), router }
    }

    fn setup(&self, dhcp_config: &str) -> Setup {
        let file = self.router.directory.write("dhcp", dhcp_config).unwrap();
        let mut setup = Setup::default().main("dhcp_config", file.display());
        setup.more = setup.more.section("rule", "no_nine").option("action", "block");
        setup.more = setup.more.list("port", &["tcp/9"]);
        setup
    }

    /// A decided flow of a client, in the family of the server that it goes to.
    fn flow(&self, agent: &Agent, client: usize, to: SocketAddr) -> Flow {
        let mut stream = connect(&self.router.clients[client], to).unwrap();
        for _ in 0..12 {
            round_trip(&mut stream, &[b'x'; 1000], 1000).unwrap();
        }
        let port = stream.local_addr().unwrap().port();
        agent.wait_for_flow("decided", |flow| flow.sport == port).unwrap()
    }

    /// The name that a flow has by now.
    fn name(agent: &Agent, flow: &Flow) -> Option<String> {
        let flows = agent.flows().unwrap();
        flows.into_iter().find(|one| one.sport == flow.sport && one.src == flow.src)?.device_name
    }

    /// A client that asks for an address by DHCP, with a name, and gives it back in the end; and the
    /// address.
    fn lease(&self, client: usize, name: &str, wanted: Option<Ipv4Addr>) -> (Daemon, Ipv4Addr) {
        let host = &self.router.clients[client];
        host.netns.run(&format!("ip -4 addr flush dev {ETH}")).unwrap();
        let script = self.script();
        let mut command = host.netns.command("busybox");
        command.args(["udhcpc", "-i", ETH, "-f", "-R", "-t", "10", "-T", "1", "-s"]);
        command.arg(script).arg("-x").arg(format!("hostname:{name}"));
        command.args(wanted.map(|wanted| format!("-r{wanted}")));
        let directory = self.router.directory.path();
        let client = Daemon::spawn("udhcpc", command, directory).unwrap();
        // The script adds the way out behind the address.
        let has_way_out = || !host.netns.run("ip -4 route show default").unwrap().is_empty();
        let leased = || Ok(address(host).filter(|_| has_way_out()));
        let address = wait::until("there was an address", LIMIT, leased).unwrap();
        (client, address)
    }

    fn script(&self) -> PathBuf {
        let script = self.router.directory.write("udhcpc", SCRIPT).unwrap();
        std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
        script
    }
}

/// The IPv4 address of a host.
fn address(host: &Host) -> Option<Ipv4Addr> {
    let shown = host.netns.run(&format!("ip -4 -o addr show dev {ETH}")).unwrap();
    let word = shown.split_whitespace().nth(3)?;
    word.split('/').next().unwrap().parse().ok()
}

fn feature(agent: &Agent) -> Feature {
    let features = agent.status().unwrap().features;
    features.into_iter().find(|feature| feature.name == "device names").unwrap()
}

/// The last event of a type.
fn event(agent: &Agent, kind: &str) -> Option<Json> {
    let lines = agent.ask(&["events", "--json"]).unwrap();
    let mut events = lines.lines().map(|line| serde_json::from_str::<Json>(line).unwrap());
    events.find(|event| event["type"] == kind)
}

/// R133: with dnsmasq and real clients, and no bus: a name is there when the lease is, in both
/// families, and moves with it.
#[test]
fn names_of_devices_come_from_leases_and_follow_them() {
    if without_root() {
        return;
    }
    process::need(&["dnsmasq", "busybox"]).unwrap();
    let world = World::new();
    let leases = world.router.directory.path().join("dhcp.leases");
    let config = format!("config dnsmasq\n\toption leasefile '{}'\n", leases.display());
    let agent = Agent::start(&world.router, world.setup(&config).main("ubus", "off")).unwrap();
    let off = feature(&agent);
    assert_eq!((off.state.as_str(), off.rung.as_str()), ("off", "none"));
    assert!(off.reasons[0].contains("dhcp.leases"), "{off:?}");
    let echo = world.echo.address();
    let unknown = world.flow(&agent, 0, echo);
    assert_eq!(unknown.device_name, None);

    let _dns = Dns::start(&world.router, &[]).unwrap();
    let phone = &world.router.clients[0];
    let (mut client, first) = world.lease(0, "phone", None);
    let flow = world.flow(&agent, 0, echo);
    assert_eq!(flow.src, first);
    let named = || World::name(&agent, &flow).as_deref() == Some("phone");
    wait::until_true("the name was read", LIMIT, named).unwrap();
    assert_eq!(World::name(&agent, &unknown), None, "its address has no lease");
    let on = feature(&agent);
    assert_eq!((on.state.as_str(), on.rung.as_str()), ("active", "lease files"));
    assert_eq!(agent.status().unwrap().names.leases, 1);

    // Wherever the device is shown.
    let shown = agent.ask(&["flows"]).unwrap();
    let line = shown.lines().find(|line| line.contains(&first.to_string())).unwrap();
    assert!(line.contains(" phone "), "{line}");
    assert_eq!(agent.why(&first.to_string()).unwrap().device_name.as_deref(), Some("phone"));
    assert!(agent.ask(&["why", &first.to_string()]).unwrap().contains("(phone)"));
    assert!(connect(phone, world.refused).is_err());
    let told = wait::until("it was told", LIMIT, || Ok(event(&agent, "verdict"))).unwrap();
    assert_eq!(
        (&told["device_name"], &told["device"]),
        (&json!("phone"), &json!(first.to_string()))
    );
    let what = told["what"].as_str().unwrap();
    assert!(what.starts_with(&format!("{first} (phone) was kept from ")), "{what}");

    // In IPv6 it has an address that nobody gave it.
    let six = IpAddr::from(world.router.server.v6);
    let six = TcpService::echo(&world.router.server, six, 7).unwrap();
    let own = world.flow(&agent, 0, six.address());
    assert_eq!((own.src, own.device_name.as_deref()), (phone.v6.into(), Some("phone")));

    // The phone gives its address back, the tablet gets it, and the phone another one.
    client.stop().unwrap();
    let is_free = || !std::fs::read_to_string(&leases).unwrap().contains(&first.to_string());
    wait::until_true("the address was given back", LIMIT, is_free).unwrap();
    let (_tablet, third) = world.lease(1, "tablet", Some(first));
    let (_phone, second) = world.lease(0, "phone", None);
    assert!(first == third && first != second, "{first} {second} {third}");
    let (phones, tablets) = (world.flow(&agent, 0, echo), world.flow(&agent, 1, echo));
    assert_eq!((phones.src, tablets.src), (second.into(), first.into()));
    let follows = || {
        let both = [&phones, &tablets].map(|flow| World::name(&agent, flow));
        both == [Some("phone".to_owned()), Some("tablet".to_owned())]
    };
    wait::until_true("the names had moved", LIMIT, follows).unwrap();
    assert_eq!(World::name(&agent, &flow), None, "an old flow of the phone");
    assert_eq!(World::name(&agent, &own).as_deref(), Some("phone"));
}

/// R133, R186: servers on the bus tell of leases in both spellings, come after the agent and are replaced.
#[test]
fn servers_on_the_bus_tell_of_leases() {
    if without_root() {
        return;
    }
    let files = Directory::new("bus").unwrap();
    let bus = Bus::start(&files.path().join("ubus.sock")).unwrap();
    let world = World::new();
    // No file says anything.
    let setup = world.setup("config dhcp lan\n").main("ubus", bus.path().display());
    let agent = Agent::start(&world.router, setup).unwrap();
    let flow = world.flow(&agent, 0, world.echo.address());
    let (addr, mac) = (flow.src.to_string(), mac_text(world.router.client().mac));
    let heard = |path: &str| {
        let is_heard = || bus.subscribers(path) == 1;
        wait::until_true("somebody was subscribed", LIMIT, is_heard).unwrap();
    };
    let is_called = |name: Option<&str>| {
        let is = || World::name(&agent, &flow).as_deref() == name;
        wait::until_true("the name was told", LIMIT, is).unwrap();
    };
    let old = |name: &str| json!({"mac": mac, "ip": addr, "name": name, "interface": "br-lan"});
    let plain = mac.replace(':', "");
    let new =
        |name: &str| json!({"interface": "br-lan", "ipv4": addr, "mac": plain, "hostname": name});
    for (path, ack, release) in [
        ("dnsmasq", "dhcp.ack", "dhcp.release"),
        ("dhcp", "dhcp.ack", "dhcp.expire"),
        ("dhcp", "dhcp.lease4", "dhcp.release4"),
        ("dnsmasq.cfg01411c", "dhcp.ack", "dhcp.release"),
    ] {
        let data = |name: &str| if ack.ends_with('4') { new(name) } else { old(name) };
        // Each is another one than the one before.
        let mut server = Caller::connect(bus.path()).unwrap();
        let object = server.offer(path).unwrap();
        heard(path);
        wait::until_true("it said so", LIMIT, || feature(&agent).rung == "notifications").unwrap();
        for name in ["phone", "<img src=x>\u{1b}[31m", "other"] {
            server.notify(object, ack, &data(name)).unwrap();
            is_called(Some(name));
            let shown = agent.ask(&["flows"]).unwrap();
            assert!(!shown.contains('\u{1b}'), "{shown}");
        }
        server.notify(object, release, &data("other")).unwrap();
        is_called(None);
        server.notify(object, ack, &data("last")).unwrap();
        is_called(Some("last"));
        drop(server);
        wait::until_true("it was gone", LIMIT, || !bus.objects().contains(&path.to_owned()))
            .unwrap();
        // The device still has its address.
        is_called(Some("last"));
    }
    // Whoever hears names that are asked for holds them up.
    let mut server = Caller::connect(bus.path()).unwrap();
    server.offer("dnsmasq.dns").unwrap();
    let object = server.offer("dhcp").unwrap();
    heard("dhcp");
    assert_eq!(bus.subscribers("dnsmasq.dns"), 0);

    // What is told of it on the bus has the name as well.
    let mut caller = Caller::connect(bus.path()).unwrap();
    caller.subscribe("sluice").unwrap();
    server.notify(object, "dhcp.ack", &old("phone")).unwrap();
    is_called(Some("phone"));
    assert!(connect(world.router.client(), world.refused).is_err());
    let (name, told) = caller.hear().unwrap();
    assert_eq!((name.as_str(), &told["device_name"]), ("verdict", &json!("phone")), "{told}");
    let flows = caller.call("sluice", "flows", &json!({})).unwrap().json();
    let flows = flows["flows"].as_array().unwrap();
    assert!(flows.iter().all(|flow| flow["device_name"] == "phone"), "{flows:?}");

    // Without the bus it is as before.
    drop((server, caller, bus));
    wait::until_true("it was noticed", LIMIT, || feature(&agent).rung == "none").unwrap();
    is_called(Some("phone"));
}

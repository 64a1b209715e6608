//! Interfaces as routers have them: VLANs on a port, a PPPoE session, a bond, tunnels. Every frame is met once, at the
//! right place, and read from where it starts.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use sluice::config::Net;
use sluice::dataplane::{Dataplane, FeatureState, Hook, InterfacePlan, Objects, State, XdpWish};
use sluice::kernel::Report;
use sluice_abi::attach::Role;
use sluice_abi::counter::Counter;
use sluice_tests::frame::Frame;
use sluice_tests::netns::Netns;
use sluice_tests::plan::{self, plan};
use sluice_tests::plane::{PinDir, without_programs};
use sluice_tests::ppp::{Session, Tun};
use sluice_tests::raw::Injector;
use sluice_tests::skip::skipped;
use sluice_tests::wait;

const LISTED: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 7);
const OTHER: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 8);
const HERE: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);
const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
const FAR_MAC: [u8; 6] = [2, 0, 0, 0, 0, 2];
const LIMIT: Duration = Duration::from_secs(10);

/// A router with the device `eth`, whose cable ends at `far` in another namespace.
struct World {
    inside: Netns,
    outside: Netns,
    pins: PinDir,
}

impl World {
    fn new() -> Self {
        let (inside, outside) = (Netns::new("in").unwrap(), Netns::new("out").unwrap());
        let world = Self { inside, outside, pins: PinDir::unmade() };
        world.cable("eth", "far");
        world
    }

    fn cable(&self, inside: &str, far: &str) {
        let name = self.inside.name();
        let lines = format!(
            "link add {far} type veth peer name {inside} netns {name}\nlink set {far} up\n"
        );
        self.outside.ip(&lines).unwrap();
        self.inside.ip(&format!("link set {inside} address 02:00:00:00:00:01 up")).unwrap();
        // Neighbour discovery would be counted too.
        self.inside.sysctl(&format!("net/ipv6/conf/{inside}/disable_ipv6"), "1").unwrap();
        self.outside.sysctl(&format!("net/ipv6/conf/{far}/disable_ipv6"), "1").unwrap();
    }

    /// Adds a device inside; `false` when this kernel has none of that kind.
    fn add(&self, kind: &str, line: &str) -> bool {
        let added = self.inside.ip(line);
        if let Err(error) = &added {
            let text = error.to_string();
            let unknown = text.contains("Unknown device type") || text.contains("not supported");
            assert!(unknown, "{text}");
            skipped(&format!("this kernel has no {kind} devices"));
        }
        added.is_ok()
    }

    fn start(&self, interfaces: Vec<InterfacePlan>) -> Running<'_> {
        let plan = plan(&self.pins, interfaces);
        let report = Report::of_this_kernel();
        let started =
            self.inside.enter(|| Dataplane::start(&plan, Objects::embedded(), report)).unwrap();
        let (mut dataplane, features) = started.unwrap();
        let listed = Net::host(IpAddr::V4(LISTED));
        self.inside.enter(|| dataplane.block(listed, 0, 0)).unwrap().unwrap();
        Running { world: self, dataplane, features }
    }

    fn injector(&self) -> Injector {
        Injector::new(&self.outside, "far").unwrap()
    }
}

struct Running<'a> {
    world: &'a World,
    dataplane: Dataplane,
    features: Vec<FeatureState>,
}

impl Running<'_> {
    fn feature(&self, interface: &str, hook: Hook) -> &FeatureState {
        let is_it = |f: &&FeatureState| f.interface == interface && f.hook == hook;
        self.features.iter().find(is_it).unwrap()
    }

    /// Frames dropped, frames passed by the shield, packets seen by the classifier.
    fn seen(&self, slot: u32) -> [u64; 3] {
        [Counter::XdpDropHost, Counter::XdpPass, Counter::TcUnknown]
            .map(|counter| self.dataplane.totals.count(slot, counter).unwrap())
    }

    /// Sends ten frames that are listed and ten that are not, and expects what the slots count.
    fn expect(&self, send: impl Fn(Ipv4Addr), expected: &[(u32, [u64; 3])]) {
        let before: Vec<_> = expected.iter().map(|(slot, _)| self.seen(*slot)).collect();
        for _ in 0..10 {
            send(LISTED);
            send(OTHER);
        }
        let counted = || -> Vec<(u32, [u64; 3])> {
            let counts = expected.iter().zip(&before).map(|((slot, _), before)| {
                let mut now = self.seen(*slot);
                now.iter_mut().zip(before).for_each(|(now, before)| *now -= before);
                (*slot, now)
            });
            counts.collect()
        };
        let arrived = wait::settles(LIMIT, || counted() == expected);
        assert!(arrived, "expected {expected:?}, counted {:?}\n{:#?}", counted(), self.features);
        // What is counted twice comes a little later.
        wait::pause(Duration::from_millis(50));
        assert_eq!(counted(), expected);
    }

    fn stop(self) {
        let Self { world, dataplane, .. } = self;
        world.inside.enter(|| dataplane.stop(false)).unwrap().unwrap();
    }
}

fn interface(name: &str, device: &str, role: Role, slot: u32) -> InterfacePlan {
    InterfacePlan { name: name.to_owned(), role, ..plan::interface(device, slot) }
}

fn ethernet() -> Frame {
    Frame::ethernet(MAC, FAR_MAC)
}

fn udp(frame: Frame, source: Ipv4Addr) -> Vec<u8> {
    frame.ipv4(source, HERE).udp(4000, 9).payload(b"probe").bytes()
}

/// What each of twenty frames is counted as where it is met.
const MET: [u64; 3] = [10, 10, 10];
const NOTHING: [u64; 3] = [0, 0, 0];
/// The same where the fast path does the shield's work: what passes is the classifier's to count.
const MET_IN_TC: [u64; 3] = [10, 0, 10];

/// R58: interfaces of their own, as a switch without DSA gives them.
#[test]
fn two_vlans_of_one_port_are_shielded_each_by_itself() {
    if without_programs() {
        return;
    }
    let world = World::new();
    if !world.add(
        "VLAN",
        "link add link eth name eth.7 type vlan id 7\nlink add link eth name eth.8 type vlan id 8\n\
         link set eth.7 up\nlink set eth.8 up\n",
    ) {
        return;
    }
    let running = world.start(vec![
        interface("wan", "eth.7", Role::Wan, 0),
        interface("dmz", "eth.8", Role::Wan, 1),
    ]);
    for name in ["wan", "dmz"] {
        assert_eq!(running.feature(name, Hook::Xdp).rung, "tc");
    }
    let injector = world.injector();
    let send = |id: u16| {
        let injector = &injector;
        move |source| injector.send(&udp(ethernet().vlan(id), source)).unwrap()
    };
    running.expect(send(7), &[(0, MET_IN_TC), (1, NOTHING)]);
    running.expect(send(8), &[(0, NOTHING), (1, MET_IN_TC)]);
    // Neither sees what belongs to nobody.
    running.expect(send(9), &[(0, NOTHING), (1, NOTHING)]);
    running.stop();
}

/// R58: a port and a VLAN on it.
#[test]
fn a_vlan_is_not_met_again_when_its_port_is_an_interface_too() {
    if without_programs() {
        return;
    }
    let world = World::new();
    if !world.add("VLAN", "link add link eth name eth.7 type vlan id 7\nlink set eth.7 up\n") {
        return;
    }
    let injector = world.injector();
    let running = world.start(vec![
        interface("wan", "eth", Role::Wan, 0),
        interface("vlan", "eth.7", Role::Wan, 1),
    ]);
    for hook in [Hook::Xdp, Hook::Tc] {
        let shared = running.feature("vlan", hook);
        assert_eq!((shared.state, shared.rung), (State::Active, "shared"), "{shared}");
    }
    running.expect(
        |source| injector.send(&udp(ethernet().vlan(7), source)).unwrap(),
        &[(0, MET), (1, NOTHING)],
    );
    running.expect(|source| injector.send(&udp(ethernet(), source)).unwrap(), &[(0, MET)]);
    running.stop();
    // In another role it would be judged as what it is not.
    let running = world.start(vec![
        interface("lan", "eth", Role::Lan, 0),
        interface("wan", "eth.7", Role::Wan, 1),
    ]);
    let refused = running.feature("wan", Hook::Xdp);
    assert_eq!(refused.state, State::Failed);
    assert!(refused.reasons[0].contains("shares its frames with eth"), "{refused}");
    running.stop();
}

/// R5, R58.
#[test]
fn a_pppoe_session_is_shielded_on_its_cable_and_classified_on_its_own_device() {
    if without_programs() {
        return;
    }
    let world = World::new();
    let session = match world.inside.enter(|| Session::open("eth", FAR_MAC, 9)).unwrap() {
        Ok(session) => session,
        Err(error)
            if matches!(error.raw_os_error(), Some(libc::EAFNOSUPPORT | libc::EPROTONOSUPPORT)) =>
        {
            return skipped("this kernel has no PPPoE");
        }
        Err(error) => panic!("{error}"),
    };
    let device = session.device();
    world.inside.ip(&format!("link set {device} up")).unwrap();
    let injector = world.injector();
    let send = |source| injector.send(&udp(ethernet().pppoe(9), source)).unwrap();
    let running = world.start(vec![interface("wan", &device, Role::Wan, 0)]);
    let shield = running.feature("wan", Hook::Xdp);
    assert_eq!((shield.state, shield.rung), (State::Active, "native"), "{shield}");
    running.expect(send, &[(0, MET)]);
    running.stop();

    // With a VLAN beside it the cable is not the session's alone.
    if world.add("VLAN", "link add link eth name eth.7 type vlan id 7\n") {
        let running = world.start(vec![interface("wan", &device, Role::Wan, 0)]);
        assert_eq!(running.feature("wan", Hook::Xdp).rung, "tc");
        running.expect(send, &[(0, MET_IN_TC)]);
        running.stop();
    }
}

/// R58.
#[test]
fn frames_of_a_bond_are_met_once() {
    if without_programs() {
        return;
    }
    let world = World::new();
    if !world.add("bonding", "link add bond0 type bond mode active-backup miimon 100\n") {
        return;
    }
    world
        .inside
        .ip("link set eth down\nlink set eth master bond0\nlink set bond0 address 02:00:00:00:00:01 up\nlink set eth up\n")
        .unwrap();
    world.inside.sysctl("net/ipv6/conf/bond0/disable_ipv6", "1").unwrap();
    wait::until("the bond has a carrier", LIMIT, || {
        Ok(world.inside.run("ip link show bond0")?.contains("LOWER_UP").then_some(()))
    })
    .unwrap();
    let running = world.start(vec![
        interface("wan", "bond0", Role::Wan, 0),
        interface("member", "eth", Role::Wan, 1),
    ]);
    let shield = running.feature("wan", Hook::Xdp);
    assert_eq!((shield.state, shield.rung), (State::Active, "native"), "{shield}");
    assert_eq!(running.feature("member", Hook::Xdp).state, State::Failed);
    let injector = world.injector();
    running.expect(
        |source| injector.send(&udp(ethernet(), source)).unwrap(),
        &[(0, MET), (1, NOTHING)],
    );
    running.stop();
}

/// R5: a device without link header, as a modem's or a tunnel's is.
#[test]
fn packets_without_a_link_header_are_read_from_their_first_byte() {
    if without_programs() {
        return;
    }
    let world = World::new();
    let tun = match world.inside.enter(|| Tun::open("tun0")).unwrap() {
        Ok(tun) => tun,
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENODEV)) => {
            return skipped("this kernel has no tun devices");
        }
        Err(error) => panic!("{error}"),
    };
    world.inside.sysctl("net/ipv6/conf/tun0/disable_ipv6", "1").unwrap();
    world.inside.ip("link set tun0 up").unwrap();
    for (xdp, state, rung, met) in [
        (XdpWish::Generic, State::Active, "generic", MET),
        (XdpWish::Auto, State::Degraded, "tc", MET_IN_TC),
    ] {
        let running =
            world.start(vec![InterfacePlan { xdp, ..interface("wan", "tun0", Role::Wan, 0) }]);
        let shield = running.feature("wan", Hook::Xdp);
        assert_eq!((shield.state, shield.rung), (state, rung), "{shield}");
        running.expect(
            |source| tun.0.try_clone().unwrap().write_all(&udp(Frame::ip(), source)).unwrap(),
            &[(0, met)],
        );
        running.stop();
    }
}

/// R5, R58: packets that a tunnel has decrypted, not those that carried them.
#[test]
fn packets_out_of_wireguard_are_shielded_and_its_cable_is_another_interface() {
    if without_programs() {
        return;
    }
    let world = World::new();
    if !world.add("wireguard", "link add wg0 type wireguard\n") {
        return;
    }
    if !std::env::split_paths(&std::env::var_os("PATH").unwrap()).any(|dir| dir.join("wg").exists())
    {
        return skipped("needs wg of wireguard-tools");
    }
    world.outside.ip("link add wg0 type wireguard\n").unwrap();
    world.inside.ip("addr add 192.0.2.1/24 dev eth").unwrap();
    world.outside.ip("addr add 192.0.2.2/24 dev far").unwrap();
    let keys = |netns: &Netns, port: u16| {
        let script = format!(
            "umask 077; wg genkey >/tmp/{0}; wg set wg0 listen-port {port} private-key /tmp/{0}; \
             wg show wg0 public-key; rm /tmp/{0}",
            netns.name()
        );
        let output = netns.command("sh").args(["-c", &script]).output().unwrap();
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    let (own, far) = (keys(&world.inside, 1001), keys(&world.outside, 1002));
    world.inside.run(&format!("wg set wg0 peer {far} allowed-ips 0.0.0.0/0")).unwrap();
    world
        .outside
        .run(&format!("wg set wg0 peer {own} allowed-ips 0.0.0.0/0 endpoint 192.0.2.1:1001"))
        .unwrap();
    for netns in [&world.inside, &world.outside] {
        netns.sysctl("net/ipv6/conf/wg0/disable_ipv6", "1").unwrap();
        netns.ip("link set wg0 up").unwrap();
    }
    let injector = Injector::new(&world.outside, "wg0").unwrap();
    let send = |source| injector.send(&udp(Frame::ip(), source)).unwrap();
    // The handshake costs the first ones their time.
    send(OTHER);
    wait::until("the peers have shaken hands", LIMIT, || {
        let shown = world.inside.run("wg show wg0 latest-handshakes")?;
        Ok((!shown.trim().ends_with("\t0")).then_some(()))
    })
    .unwrap();
    wait::pause(Duration::from_millis(100));
    let running = world
        .start(vec![interface("vpn", "wg0", Role::Wan, 0), interface("wan", "eth", Role::Wan, 1)]);
    let shield = running.feature("vpn", Hook::Xdp);
    assert_eq!(shield.rung, "tc", "{shield}");
    assert_eq!(running.feature("wan", Hook::Xdp).rung, "native");
    // Twenty encrypted packets on the cable, none of them listed.
    running.expect(send, &[(0, MET_IN_TC), (1, [0, 20, 20])]);
    running.stop();
}

//! The agent's life on a router: start, reload, stop, crash, and what packets see of it.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use sluice_abi::names;
use sluice_abi::settings::Settings;
use sluice_tests::agent::{Agent, Setup};
use sluice_tests::frame::Frame;
use sluice_tests::hello::client_hello;
use sluice_tests::observe::{self, Attached};
use sluice_tests::probe::{ForeignXdp, Probe};
use sluice_tests::process;
use sluice_tests::raw::Injector;
use sluice_tests::router::{Build, Router, WAN, WAN_V4};
use sluice_tests::skip::without_root;
use sluice_tests::traffic::{TcpService, connect, round_trip};
use sluice_tests::wait;

const LIMIT: Duration = Duration::from_secs(10);

/// A listed source, in every setup here.
const LISTED: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 7);

/// What is counted on arrival.
const WITNESSES: [(&str, &str); 2] = [("arrived", "udp dport 9"), ("last", "udp dport 10")];

fn setup() -> Setup {
    Setup::default().blocklist("bad", &[&LISTED.to_string()]).rule("ads", "block", &["ads.test"])
}

/// What both kinds of protection let through.
struct Guarded {
    echo: TcpService,
    wire: Injector,
    world: Router,
}

impl Guarded {
    fn new() -> Self {
        let world = Router::new(Build::default()).unwrap();
        let echo = TcpService::echo(&world.server, world.server.v4.into(), 443).unwrap();
        Probe::new(&world.netns, &WITNESSES).unwrap();
        let wire = world.attacker.injector().unwrap();
        Self { echo, wire, world }
    }

    /// How many of ten packets from `source` arrive at the router.
    fn arrivals(&self, source: Ipv4Addr) -> u64 {
        let count = |name| observe::counter(&self.world.netns, "inet probe", name).unwrap();
        let (before, last) = (count("arrived"), count("last"));
        let frame: Frame = self.world.attacker.frame().ipv4(source, WAN_V4).udp(4000, 9);
        for _ in 0..10 {
            self.wire.send(&frame.bytes()).unwrap();
        }
        // Behind them one from a source that nothing is said about: when it is there, they are.
        let witness = self.world.attacker.frame().ipv4(self.world.attacker.v4, WAN_V4);
        self.wire.send(&witness.udp(4000, 10).bytes()).unwrap();
        wait::until_true("the last packet arrived", LIMIT, || count("last") > last).unwrap();
        count("arrived") - before
    }

    /// Whether a new connection whose hello names `name` is answered.
    fn answered(&self, name: &str) -> bool {
        let Ok(mut stream) = connect(self.world.client(), self.echo.address()) else {
            return false;
        };
        stream.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
        let hello = client_hello(name, 0);
        round_trip(&mut stream, &hello, hello.len()).is_ok()
    }

    fn attached(&self) -> Vec<Attached> {
        observe::attached(&self.world.netns).unwrap()
    }

    /// Asserts that lists and rules are in force, and nothing more than they.
    fn assert_in_force(&self, when: &str) {
        assert_eq!(self.arrivals(LISTED), 0, "{when}: the list is not in force");
        assert_eq!(self.arrivals(Ipv4Addr::new(198, 51, 100, 8)), 10, "{when}: too much dropped");
        assert!(!self.answered("ads.test"), "{when}: the rule is not in force");
        assert!(self.answered("news.test"), "{when}: too much blocked");
    }

    /// Asserts that this is a plain router: programs that were attached are not even loaded.
    fn assert_plain(&self, when: &str, programs: &BTreeSet<u64>) {
        assert_eq!(self.attached(), [], "{when}: programs are attached");
        for &program in programs {
            let loaded = || observe::is_loaded(program);
            // The kernel frees programs a grace period after their last user.
            wait::until_true("the program was gone", LIMIT, || !loaded()).unwrap();
        }
        let rules = self.world.netns.run("nft list ruleset").unwrap().to_lowercase();
        assert!(!rules.contains("sluice"), "{when}: {rules}");
        assert_eq!(self.arrivals(LISTED), 10, "{when}: the list is still in force");
        assert!(self.answered("ads.test"), "{when}: the rule is still in force");
    }
}

fn ids(attached: &[Attached]) -> BTreeSet<u64> {
    attached.iter().map(|attached| attached.id).collect()
}

/// R127, R121: stop takes everything out; starting again and again is the same as starting once.
#[test]
fn stop_leaves_a_plain_router_and_starting_again_is_idempotent() {
    if without_root() {
        return;
    }
    let guarded = Guarded::new();
    let mut agent = Agent::start(&guarded.world, setup()).unwrap();
    let mut shapes = Vec::new();
    for round in ["first", "second", "third"] {
        if round != "first" {
            agent.start_again(&guarded.world).unwrap();
        }
        guarded.assert_in_force(round);
        let attached = guarded.attached();
        assert!(!attached.is_empty());
        let hooks = attached.iter().map(|a| (a.device.clone(), a.hook)).collect::<Vec<_>>();
        shapes.push(hooks);
        assert!(agent.pins().exists());
        let status = agent.stop().unwrap();
        assert!(status.success(), "{round}: {status}\n{}", agent.log());
        assert!(!agent.pins().exists(), "{round}: pins are left");
        assert!(!agent.socket().exists(), "{round}: the socket is left");
        guarded.assert_plain(round, &ids(&attached));
    }
    assert!(shapes.iter().all(|shape| *shape == shapes[0]), "{shapes:?}");
}

/// R59, R19: after a crash pinned programs go on protecting, new flows pass uninspected, and a new
/// agent replaces the old programs in place.
#[test]
fn a_killed_agent_leaves_its_protection_and_a_new_one_takes_over() {
    if without_root() {
        return;
    }
    let guarded = Guarded::new();
    let mut agent = Agent::start(&guarded.world, setup()).unwrap();
    guarded.assert_in_force("before");
    let before = guarded.attached();

    agent.kill9().unwrap();
    assert_eq!(guarded.attached(), before, "programs went with the agent");
    assert_eq!(guarded.arrivals(LISTED), 0, "the list went with the agent");
    assert_eq!(guarded.arrivals(Ipv4Addr::new(198, 51, 100, 8)), 10);
    // Nobody listens to the queue: policy open lets new flows pass.
    assert!(guarded.answered("news.test"));
    assert!(guarded.answered("ads.test"));

    agent.start_again(&guarded.world).unwrap();
    guarded.assert_in_force("after the crash");
    let after = guarded.attached();
    let places =
        |all: &[Attached]| all.iter().map(|a| (a.device.clone(), a.hook)).collect::<Vec<_>>();
    assert_eq!(places(&after), places(&before), "doubled or missing programs");
    let old: BTreeSet<u64> = ids(&before).difference(&ids(&after)).copied().collect();
    for program in old {
        wait::until_true("the old program was gone", LIMIT, || !observe::is_loaded(program))
            .unwrap();
    }
    assert!(agent.stop().unwrap().success());
    guarded.assert_plain("after stop", &ids(&after));
}

/// R19: with a closed policy nothing new passes while nobody inspects; what is not inspected at all
/// does.
#[test]
fn with_a_closed_policy_nothing_passes_a_dead_agent() {
    if without_root() {
        return;
    }
    let guarded = Guarded::new();
    let mut agent = Agent::start(&guarded.world, setup().main("policy", "closed")).unwrap();
    guarded.assert_in_force("before");
    agent.kill9().unwrap();
    assert!(!guarded.answered("news.test"));
    assert!(guarded.world.client().ping(guarded.world.server.v4.into()).unwrap());
    agent.start_again(&guarded.world).unwrap();
    guarded.assert_in_force("after");
}

/// R26: rules that somebody removes come back, and a reload of the router's own firewall does not
/// disturb them.
#[test]
fn rules_come_back_after_a_flush() {
    if without_root() {
        return;
    }
    let guarded = Guarded::new();
    let agent = Agent::start(&guarded.world, setup()).unwrap();
    guarded.world.firewall().unwrap();
    guarded.assert_in_force("after a reload of the firewall");
    let before = agent.status().unwrap().netfilter.reapplied;

    guarded.world.netns.run("nft flush ruleset").unwrap();
    guarded.world.firewall().unwrap();
    Probe::new(&guarded.world.netns, &WITNESSES).unwrap();
    agent
        .wait_for_status("the rules were back", LIMIT, |status| {
            (status.netfilter.applied && status.netfilter.reapplied > before).then_some(())
        })
        .unwrap();
    guarded.assert_in_force("after a flush");
}

/// R153: a configuration with mistakes is refused as a whole, named, and the old one stays.
#[test]
fn a_bad_configuration_keeps_the_old_one_and_a_good_one_replaces_it() {
    if without_root() {
        return;
    }
    let guarded = Guarded::new();
    let mut agent = Agent::start(&guarded.world, setup()).unwrap();
    let other = Ipv4Addr::new(198, 51, 100, 9);
    let first = agent.status().unwrap();
    assert_eq!(first.config_errors, [""; 0]);

    let bad = setup()
        .blocklist("worse", &[&other.to_string(), "198.51.100.300"])
        .main("window_packets", "many");
    agent.reload(&bad).unwrap();
    let errors = agent
        .wait_for_status("the mistakes were shown", LIMIT, |status| {
            (!status.config_errors.is_empty()).then(|| status.config_errors.clone())
        })
        .unwrap();
    let all = errors.join("\n");
    assert!(all.contains("window_packets") && all.contains("198.51.100.300"), "{all}");
    assert_eq!(agent.status().unwrap().generation, first.generation);
    guarded.assert_in_force("after a bad reload");
    assert_eq!(guarded.arrivals(other), 10, "half of a bad configuration is in force");

    agent.reload(&Setup::default().blocklist("other", &[&other.to_string()])).unwrap();
    agent
        .wait_for_status("the new configuration was in force", LIMIT, |status| {
            (status.generation > first.generation && status.config_errors.is_empty()).then_some(())
        })
        .unwrap();
    assert_eq!(guarded.arrivals(other), 0, "the new list is not in force");
    assert_eq!(guarded.arrivals(LISTED), 10, "the old list is still in force");
    assert!(guarded.answered("ads.test"), "the old rule is still in force");
}

/// R125: a reload that changes lists loses no flow and attaches nothing anew.
#[test]
fn a_reload_of_lists_keeps_programs_and_flows() {
    if without_root() {
        return;
    }
    let guarded = Guarded::new();
    let mut agent = Agent::start(&guarded.world, setup()).unwrap();
    let mut stream = connect(guarded.world.client(), guarded.echo.address()).unwrap();
    let hello = client_hello("long.test", 0);
    round_trip(&mut stream, &hello, hello.len()).unwrap();
    let flow = agent.wait_for_flow("decided", |flow| flow.is_for("long.test")).unwrap();
    let attached = guarded.attached();
    agent.reloaded(&setup().blocklist("more", &["198.51.100.200"])).unwrap();
    assert_eq!(guarded.attached(), attached);
    assert_eq!(round_trip(&mut stream, b"go on", 5).unwrap(), b"go on");
    let again = agent.wait_for_flow("kept", |flow| flow.is_for("long.test")).unwrap();
    assert!(again.original_packets > flow.original_packets, "{again:?}");
    guarded.assert_in_force("after");
}

/// R152: no port is opened, by TCP or UDP.
#[test]
fn the_agent_opens_no_port() {
    if without_root() {
        return;
    }
    let world = Router::new(Build::default()).unwrap();
    let _agent = Agent::start(&world, setup()).unwrap();
    assert_eq!(world.netns.tcp_listeners().unwrap(), []);
    assert_eq!(world.netns.udp_sockets().unwrap(), []);
}

/// R60, R119: another program's place is not taken; its work is done behind it.
#[test]
fn a_foreign_xdp_program_is_left_alone() {
    if without_root() {
        return;
    }
    let guarded = Guarded::new();
    let _foreign = ForeignXdp::attach(&guarded.world.netns, WAN).unwrap();
    let xdp = || guarded.attached().into_iter().find(|a| a.device == WAN && a.hook == "xdp");
    let foreign = guarded.attached().into_iter().find(|a| a.device == WAN).unwrap();
    assert_eq!(xdp().as_ref(), Some(&foreign));

    let mut agent = Agent::start(&guarded.world, setup()).unwrap();
    assert_eq!(xdp().as_ref(), Some(&foreign), "the foreign program was replaced");
    let status = agent.status().unwrap();
    let shield =
        status.features.iter().find(|f| f.name.contains("shield") && f.name.contains(WAN)).unwrap();
    assert_eq!((&*shield.state, &*shield.rung), ("degraded", "tc"), "{shield:?}");
    let reasons = shield.reasons.join(" ");
    assert!(reasons.contains(&foreign.id.to_string()), "the program is not named: {reasons}");
    assert_eq!(guarded.arrivals(LISTED), 0);
    assert!(!guarded.answered("ads.test"));
    assert!(guarded.answered("news.test"));
    assert!(agent.stop().unwrap().success());
    assert_eq!(guarded.attached(), [foreign], "stop touched the foreign program");
}

/// R119: an interface that is not there is named and the others work.
#[test]
fn a_missing_interface_is_named_and_the_others_work() {
    if without_root() {
        return;
    }
    let guarded = Guarded::new();
    let mut setup = setup();
    setup.more = setup.more.section("interface", "guest").option("device", "br-guest");
    setup.more = setup.more.option("role", "lan");
    let agent = Agent::start(&guarded.world, setup).unwrap();
    guarded.assert_in_force("with a missing interface");
    let status = agent.status().unwrap();
    let reasons: Vec<_> =
        status.features.iter().flat_map(|feature| feature.reasons.iter().cloned()).collect();
    assert!(reasons.join(" ").contains("br-guest"), "{:#?}", status.features);
}

/// Bad input at start: exit code 4, every mistake with its line, nothing attached.
#[test]
fn a_bad_configuration_at_start_attaches_nothing() {
    if without_root() {
        return;
    }
    let guarded = Guarded::new();
    let setup = setup().main("window_packets", "many").main("policy", "ajar");
    let mut agent = Agent::spawn(&guarded.world, setup).unwrap();
    let status = agent.daemon().wait_for_end(LIMIT).unwrap();
    assert_eq!(status.code(), Some(4), "{}", agent.log());
    let log = agent.log();
    assert!(log.contains("window_packets") && log.contains("policy"), "{log}");
    assert!(!agent.pins().exists());
    guarded.assert_plain("after a refusal", &BTreeSet::new());
}

/// A second agent does not disturb the first one.
#[test]
fn a_second_agent_is_refused() {
    if without_root() {
        return;
    }
    let guarded = Guarded::new();
    let agent = Agent::start(&guarded.world, setup()).unwrap();
    let attached = guarded.attached();
    let mut second = guarded.world.netns.command(sluice_tests::agent::program().unwrap());
    second.arg("run").arg("--config").arg(agent.config());
    let output = process::output(&mut second).unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(6), "{said}");
    assert!(said.contains("another agent"), "{said}");
    assert_eq!(guarded.attached(), attached);
    guarded.assert_in_force("after a second start");
}

/// R59: with the flag cleared, XDP and TC pass everything untouched, at once.
#[test]
fn the_kill_switch_passes_everything() {
    if without_root() {
        return;
    }
    let guarded = Guarded::new();
    let agent = Agent::start(&guarded.world, setup()).unwrap();
    guarded.assert_in_force("before");
    let map = aya::maps::Map::Array(agent.map(names::SETTINGS).unwrap());
    let mut settings = aya::maps::Array::<_, Settings>::try_from(map).unwrap();
    let mut value = settings.get(&0, 0).unwrap();
    value.flags &= !Settings::ENABLED;
    settings.set(0, value, 0).unwrap();
    assert_eq!(guarded.arrivals(LISTED), 10);
    assert!(agent.count(WAN, "xdp_inert").unwrap() >= 10);
    value.flags |= Settings::ENABLED;
    settings.set(0, value, 0).unwrap();
    assert_eq!(guarded.arrivals(LISTED), 0);
}

/// R59: the same by configuration: nothing is dropped, nothing is queued, and it can be undone.
#[test]
fn a_disabled_agent_lets_everything_pass() {
    if without_root() {
        return;
    }
    let guarded = Guarded::new();
    let mut agent = Agent::start(&guarded.world, setup()).unwrap();
    guarded.assert_in_force("before");
    agent.reload(&setup().main("enabled", 0)).unwrap();
    wait::until_true("the list was off", LIMIT, || guarded.arrivals(LISTED) == 10).unwrap();
    wait::until_true("the rule was off", LIMIT, || guarded.answered("ads.test")).unwrap();
    agent.reload(&setup()).unwrap();
    wait::until_true("the list was on", LIMIT, || guarded.arrivals(LISTED) == 0).unwrap();
    wait::until_true("the rule was on", LIMIT, || !guarded.answered("ads.test")).unwrap();
}

/// R196: who is neither root nor in the group learns nothing.
#[test]
fn the_control_socket_is_closed_to_other_users() {
    if without_root() {
        return;
    }
    let world = Router::new(Build::default()).unwrap();
    let agent = Agent::start(&world, setup()).unwrap();
    let program = sluice_tests::agent::program().unwrap();
    // Copied to where another user may run it.
    let copy = world.directory.path().join("sluice");
    std::fs::copy(program, &copy).unwrap();
    let mut command = world.netns.command("setpriv");
    command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups", "--"]);
    command.arg(copy).arg("status").arg("--socket").arg(agent.socket());
    let output = process::output(&mut command).unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(5), "{said}");
}

/// R19: new connections keep working when the agent is gone in the middle of one.
#[test]
fn a_trusted_flow_goes_on_without_the_agent() {
    if without_root() {
        return;
    }
    let guarded = Guarded::new();
    let mut agent = Agent::start(&guarded.world, setup()).unwrap();
    let to: SocketAddr = guarded.echo.address();
    assert!(matches!(to.ip(), IpAddr::V4(_)));
    let mut stream = connect(guarded.world.client(), to).unwrap();
    let hello = client_hello("long.test", 0);
    round_trip(&mut stream, &hello, hello.len()).unwrap();
    agent.wait_for_flow("trusted", |flow| flow.is_for("long.test")).unwrap();
    agent.kill9().unwrap();
    let bulk = vec![7; 1 << 20];
    assert_eq!(round_trip(&mut stream, &bulk, 16_384).unwrap(), bulk);
}

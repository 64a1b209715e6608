//! What packets see when the agent crashes, comes up anew, or is switched off and on.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use aya::maps::{Array, Map, MapData};
use sluice_abi::names;
use sluice_abi::settings::Settings;
use sluice_tests::agent::{Agent, Setup};
use sluice_tests::frame::Frame;
use sluice_tests::hello::client_hello;
use sluice_tests::observe;
use sluice_tests::probe::Probe;
use sluice_tests::raw::Injector;
use sluice_tests::router::{Build, Router, WAN_V4};
use sluice_tests::skip::without_root;
use sluice_tests::traffic::{TcpService, connect, round_trip};
use sluice_tests::wait;

const LIMIT: Duration = Duration::from_secs(10);
const LISTED: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 7);

fn setup() -> Setup {
    Setup::default().blocklist("bad", &[&LISTED.to_string()]).rule("ads", "block", &["ads.test"])
}

fn detaching() -> Setup {
    setup().main("on_crash", "detach")
}

struct World {
    echo: TcpService,
    wire: Injector,
    router: Router,
}

impl World {
    fn new() -> Self {
        let router = Router::new(Build::default()).unwrap();
        let echo = TcpService::echo(&router.server, router.server.v4.into(), 443).unwrap();
        Probe::new(&router.netns, &[("arrived", "udp dport 9")]).unwrap();
        let wire = router.attacker.injector().unwrap();
        Self { echo, wire, router }
    }

    fn arrived(&self) -> u64 {
        observe::counter(&self.router.netns, "inet probe", "arrived").unwrap()
    }

    fn send_listed(&self) {
        let frame: Frame = self.router.attacker.frame().ipv4(LISTED, WAN_V4).udp(4000, 9);
        self.wire.send(&frame.bytes()).unwrap();
    }

    /// How many of ten packets from the listed source arrive.
    fn arrivals(&self) -> u64 {
        let before = self.arrived();
        for _ in 0..10 {
            self.send_listed();
        }
        self.arrived() - before
    }

    fn answered(&self, name: &str) -> bool {
        let Ok(mut stream) = connect(self.router.client(), self.echo.address()) else {
            return false;
        };
        stream.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
        let hello = client_hello(name, 0);
        round_trip(&mut stream, &hello, hello.len()).is_ok()
    }

    fn programs(&self) -> Vec<observe::Attached> {
        observe::attached(&self.router.netns).unwrap()
    }

    fn has_rules(&self) -> bool {
        self.router.netns.run("nft list ruleset").unwrap().to_lowercase().contains("sluice")
    }
}

/// Whether this kernel has only clsact for the fast path, which a crash cannot detach.
fn has_filters(programs: &[observe::Attached]) -> bool {
    programs.iter().any(|program| program.hook.starts_with("clsact"))
}

/// R59: the kernel takes the programs off when the process is gone. The rules stay; with policy
/// open nobody listening to the queue means that new flows pass.
#[test]
fn a_killed_agent_takes_its_programs_with_it() {
    if without_root() {
        return;
    }
    let world = World::new();
    let mut agent = Agent::start(&world.router, detaching()).unwrap();
    assert_eq!(world.arrivals(), 0);
    assert!(!world.answered("ads.test"));
    let programs = world.programs();
    assert!(!programs.is_empty());

    agent.kill9().unwrap();
    let is_gone = |program: &observe::Attached| !program.hook.starts_with("clsact");
    wait::until_true("the programs went", LIMIT, || !world.programs().iter().any(is_gone)).unwrap();
    assert_eq!(world.arrivals(), 10);
    assert!(world.has_rules());
    assert!(has_filters(&programs) || world.answered("ads.test"));
    assert!(world.answered("news.test"));

    agent.start_again(&world.router).unwrap();
    assert_eq!(world.arrivals(), 0);
    assert!(!world.answered("ads.test"));
    assert_eq!(world.programs().len(), programs.len());
    assert!(agent.stop().unwrap().success());
    assert_eq!(world.programs(), []);
    assert!(!world.has_rules());
}

/// R59, R125: coming up anew with other sizes is no crash: not one packet slips through.
#[test]
fn a_restart_of_its_own_has_no_gap() {
    if without_root() {
        return;
    }
    let world = World::new();
    let mut agent = Agent::start(&world.router, detaching()).unwrap();
    let before = world.arrived();
    let generation = agent.status().unwrap().generation;
    let done = AtomicBool::new(false);
    let sent = std::thread::scope(|scope| {
        let sender = scope.spawn(|| {
            let mut sent = 0_u64;
            while !done.load(Ordering::Relaxed) {
                world.send_listed();
                sent += 1;
            }
            sent
        });
        agent.reload(&detaching().ddos("bucket_sets", 128)).unwrap();
        let reloaded = wait::until_true("the sizes were in force", LIMIT, || {
            // Nobody answers while it comes up.
            agent
                .status()
                .is_ok_and(|status| status.generation > generation && status.state != "starting")
        });
        done.store(true, Ordering::Relaxed);
        reloaded.unwrap();
        sender.join().unwrap()
    });
    assert!(sent > 100, "{sent}");
    assert_eq!(world.arrived() - before, 0, "of {sent}");
    // And the new one ends like the old one would have.
    agent.kill9().unwrap();
    wait::until_true("the shield went", LIMIT, || {
        !world.programs().iter().any(|program| program.hook == "xdp")
    })
    .unwrap();
}

/// The kill switch as the programs see it.
struct Switch(Array<MapData, Settings>);

impl Switch {
    fn of(agent: &Agent) -> Self {
        let map = Map::Array(agent.map(names::SETTINGS).unwrap());
        Self(Array::try_from(map).unwrap())
    }

    fn is_on(&self) -> bool {
        self.0.get(&0, 0).unwrap().flags & Settings::ENABLED != 0
    }
}

/// R59: switched off, programs stay where they are and do nothing, and the rules go; the programs
/// first, because the rest takes its time.
#[test]
fn switching_off_stops_the_programs_before_anything_else() {
    if without_root() {
        return;
    }
    let world = World::new();
    let mut agent = Agent::start(&world.router, setup()).unwrap();
    assert_eq!(world.arrivals(), 0);
    let (switch, programs) = (Switch::of(&agent), world.programs());
    for _ in 0..2 {
        agent.reload(&setup().main("enabled", 0)).unwrap();
        let mut seen_without_rules = false;
        wait::until_true("everything was off", LIMIT, || {
            // In this order: rules that are gone say that the switch was used before.
            if !world.has_rules() {
                assert!(!switch.is_on(), "the rules went first");
                seen_without_rules = true;
            }
            seen_without_rules && agent.status().is_ok_and(|status| status.state == "off")
        })
        .unwrap();
        assert_eq!(world.programs().len(), programs.len(), "they are inert, not gone");
        assert_eq!(world.arrivals(), 10);
        assert!(world.answered("ads.test"));
        let status = agent.status().unwrap();
        let off = |feature: &sluice_tests::report::Feature| feature.state == "off";
        assert!(status.features.iter().all(off), "{:?}", status.features);

        agent.reload(&setup()).unwrap();
        wait::until_true("everything was on", LIMIT, || world.has_rules()).unwrap();
        assert!(switch.is_on(), "the programs first here, too");
        assert_eq!(world.arrivals(), 0);
        assert!(!world.answered("ads.test"));
    }
}

/// R30: connections that are older than the agent go on, inspected or trusted as is wanted; what an
/// earlier agent could not decide or has blocked is never trusted for its age.
#[test]
fn connections_older_than_the_agent_are_inspected_or_trusted_as_is_wanted() {
    const UNDECIDED: u32 = 0x0300_0000;
    const BLOCKED: u32 = 0x0200_0000;
    const TRUSTED: u32 = 0x0100_0000;
    if without_root() {
        return;
    }
    for wish in ["inspect", "trust"] {
        let world = World::new();
        let netns = &world.router.netns;
        let mut streams: Vec<_> =
            (0..3).map(|_| connect(world.router.client(), world.echo.address()).unwrap()).collect();
        let ports: Vec<u16> = streams.iter().map(|s| s.local_addr().unwrap().port()).collect();
        let mark_of = |port: u16| {
            let filter = format!("-p tcp --dport 443 --sport {port}");
            observe::connections(netns, &filter).unwrap()[0].mark
        };
        // What an earlier agent has left on two of them.
        netns
            .nft(&format!(
                "table inet earlier {{
                    chain forward {{
                        type filter hook forward priority -200
                        tcp sport {} ct mark set {UNDECIDED}
                        tcp sport {} ct mark set {BLOCKED}
                    }}
                 }}\n",
                ports[1], ports[2]
            ))
            .unwrap();
        for stream in &mut streams {
            assert_eq!(round_trip(stream, &[7; 100], 100).unwrap(), [7; 100]);
        }
        netns.nft("delete table inet earlier\n").unwrap();
        let agent = Agent::start(&world.router, setup().main("established", wish)).unwrap();
        let marks: Vec<u32> = ports.iter().map(|port| mark_of(*port)).collect();
        let expected = if wish == "trust" { TRUSTED } else { 0 };
        assert_eq!(marks, [expected, UNDECIDED, BLOCKED], "{wish}");
        // It goes on either way; only where it is inspected the queue sees it.
        let queued = observe::queued(netns).unwrap();
        assert_eq!(round_trip(&mut streams[0], &[7; 100], 100).unwrap(), [7; 100]);
        assert_eq!(observe::queued(netns).unwrap() > queued, wish == "inspect");
        // What is new is inspected.
        let mut new = connect(world.router.client(), world.echo.address()).unwrap();
        let hello = client_hello("ads.test", 0);
        new.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
        assert!(round_trip(&mut new, &hello, hello.len()).is_err(), "{wish}");
        drop(agent);
    }
}

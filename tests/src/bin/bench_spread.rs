//! What sharing packets out to processors costs and brings: many flows from one processor through a
//! router, with and without.
//!
//! A veth pair is no network card: without spreading the whole way through the router runs on the
//! processor that sends, and the sender takes part of that processor. Rounds in turns, the best of each:
//! what other programs of the machine cost falls on slow rounds.

use std::io::Write as _;
use std::time::{Duration, Instant};

use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;
use sluice_tests::agent::{Agent, Setup};
use sluice_tests::observe;
use sluice_tests::raw::Injector;
use sluice_tests::router::{Build, Lan, Router};
use sluice_tests::{Error, Result, skip, wait};

/// Packets of a round.
const ROUND: usize = 100_000;
/// Rounds of each kind.
const ROUNDS: u32 = 10;
/// Flows.
const FLOWS: u16 = 64;

struct Lane<'a> {
    name: &'static str,
    world: &'a Router,
    wire: Injector,
    frames: Vec<Vec<u8>>,
    /// Packets that arrived in a second of the best round, and nanoseconds that sending took each.
    best: (f64, f64),
    lost: u64,
    sent: u64,
    _agent: Agent,
}

impl<'a> Lane<'a> {
    fn new(world: &'a Router, name: &'static str, spread: &str) -> Result<Self> {
        for port in world.ports() {
            world.netns.run(&format!("ethtool -K {port} rxvlan off"))?;
        }
        let setup = Setup::default().main("spread", spread).without_inspection_on_the_lan();
        let agent = Agent::start(world, setup)?;
        let client = world.client();
        let frames = (0..FLOWS).map(|flow| {
            let frame = client.frame().ipv4(client.v4, world.server.v4).udp(20_000 + flow, 4433);
            frame.payload(&[0; 64]).bytes()
        });
        world.server.netns.nft(
            "table inet sink { counter got { }\n chain in { type filter hook prerouting priority -400; \
             udp dport 4433 counter name got drop; }\n}\n",
        )?;
        let wire = client.injector()?;
        let frames = frames.collect();
        let best = (0.0, f64::MAX);
        Ok(Self { name, world, wire, frames, best, lost: 0, sent: 0, _agent: agent })
    }

    fn got(&self) -> Result<u64> {
        observe::counter(&self.world.server.netns, "inet sink", "got")
    }

    fn round(&mut self) -> Result<()> {
        let before = self.got()?;
        let start = Instant::now();
        for frame in self.frames.iter().cycle().take(ROUND) {
            self.wire.send(frame)?;
        }
        let sending = start.elapsed();
        // What still waits is at most a queue for each processor: on two, a fiftieth of a round.
        wait::pause(Duration::from_millis(50));
        let arrived = self.got()? - before;
        self.sent += ROUND as u64;
        self.lost += ROUND as u64 - arrived;
        self.best.0 = self.best.0.max(arrived as f64 / sending.as_secs_f64());
        self.best.1 = self.best.1.min(sending.as_nanos() as f64 / ROUND as f64);
        Ok(())
    }
}

fn main() -> Result<()> {
    if skip::without_root() {
        return Ok(());
    }
    let failed = |error: nix::Error| Error::Unusable(error.to_string());
    let build = Build { lan: Lan::Plain, ..Build::default() };
    let worlds = [Router::new(build)?, Router::new(build)?];
    let mut lanes = [Lane::new(&worlds[0], "off", "off")?, Lane::new(&worlds[1], "on", "on")?];
    let mut one = CpuSet::new();
    one.set(0).map_err(failed)?;
    sched_setaffinity(Pid::from_raw(0), &one).map_err(failed)?;
    for _ in 0..ROUNDS {
        for lane in &mut lanes {
            lane.round()?;
        }
    }
    let mut out = std::io::stdout();
    for Lane { name, best: (rate, each), lost, sent, .. } in &lanes {
        let line = format!(
            "spread {name:3} {rate:9.0} packets a second arrive, sending takes {each:5.0} ns each, {lost} of {sent} lost"
        );
        writeln!(out, "{line}").map_err(|error| Error::Unusable(error.to_string()))?;
    }
    Ok(())
}

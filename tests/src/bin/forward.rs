//! What a packet costs on its way through a router: plain, with Sluice in each of its shapes, and
//! with every packet through a queue.
//!
//! One thread sends frames of a decided flow from a client; on virtual cables the whole way through
//! the router runs inside that system call. Small batches in turns, and the fastest of each kind:
//! what other programs of the machine cost falls on slow batches.

use std::io::{self, Write as _};
use std::time::Instant;

use sluice_tests::agent::{Agent, Setup, mount_bpffs};
use sluice_tests::probe::ForeignXdp;
use sluice_tests::raw::Injector;
use sluice_tests::router::{Build, Lan, Router, WAN};
use sluice_tests::traffic::{UdpService, udp};
use sluice_tests::{Error, Result, skip};

/// Packets of a batch: about two milliseconds.
const BATCH: u32 = 1000;
/// Batches of each kind.
const ROUNDS: u32 = 300;
/// Payload that fills a cable's frame.
const PAYLOAD: usize = 1472;

/// A router and the way to send through it.
struct Lane<'a> {
    name: &'static str,
    wire: Injector,
    frame: Vec<u8>,
    best_ns: f64,
    _guards: (Option<Agent>, Vec<ForeignXdp<'a>>),
}

impl<'a> Lane<'a> {
    fn new(
        world: &'a Router,
        name: &'static str,
        xdp: Option<&'static str>,
        foreign: bool,
    ) -> Result<Self> {
        let agent = xdp.map(|xdp| Agent::start(world, Setup::default().xdp(xdp))).transpose()?;
        let mut programs = Vec::new();
        if foreign {
            mount_bpffs()?;
            for interface in [world.lan, WAN] {
                programs.push(ForeignXdp::attach(&world.netns, interface)?);
            }
        }
        // A conversation, so that the connection is known and decided.
        let echo = UdpService::echo(&world.server, world.server.v4.into(), 4433)?;
        let socket = udp(world.client(), echo.address())?;
        let from = socket.local_addr().map_err(|error| unusable(&error))?;
        let mut buffer = [0; 16];
        for _ in 0..30 {
            socket
                .send(b"ping")
                .and_then(|_| socket.recv(&mut buffer))
                .map_err(|e| unusable(&e))?;
        }
        if let Some(agent) = &agent {
            agent.wait_for_flow("decided", |flow| flow.sport == from.port())?;
        }
        drop(echo);
        let client = world.client();
        let frame = client.frame().ipv4(client.v4, world.server.v4).udp(from.port(), 4433);
        let frame = frame.payload(&[0; PAYLOAD]).bytes();
        // The server must not answer each with "port unreachable".
        world.server.netns.nft(
            "table inet sink { chain in { type filter hook prerouting priority -400; udp dport 4433 drop; }\n}\n",
        )?;
        let wire = client.injector()?;
        let guards = (agent, programs);
        Ok(Self { name, wire, frame, best_ns: f64::MAX, _guards: guards })
    }

    fn batch(&mut self) -> Result<()> {
        let start = Instant::now();
        for _ in 0..BATCH {
            self.wire.send(&self.frame)?;
        }
        let each = start.elapsed().as_nanos() as f64 / f64::from(BATCH);
        self.best_ns = self.best_ns.min(each);
        Ok(())
    }
}

fn unusable(error: &io::Error) -> Error {
    Error::Unusable(error.to_string())
}

fn main() -> Result<()> {
    if skip::without_root() {
        return Ok(());
    }
    let build = Build { lan: Lan::Plain, ..Build::default() };
    let worlds = (0..5).map(|_| Router::new(build)).collect::<Result<Vec<_>>>()?;
    let mut lanes = [
        Lane::new(&worlds[0], "plain router", None, false)?,
        Lane::new(&worlds[1], "empty native XDP on both sides", None, true)?,
        Lane::new(&worlds[2], "Sluice without XDP", Some("off"), false)?,
        Lane::new(&worlds[3], "Sluice, generic XDP", Some("generic"), false)?,
        Lane::new(&worlds[4], "Sluice, native XDP", Some("native"), false)?,
    ];
    for _ in 0..ROUNDS {
        for lane in &mut lanes {
            lane.batch()?;
        }
    }
    let plain = lanes[0].best_ns;
    let mut out = io::stdout();
    for lane in &lanes {
        let more = lane.best_ns - plain;
        let line = format!("{:32} {:7.0} ns {more:+7.0}", lane.name, lane.best_ns);
        writeln!(out, "{line}").map_err(|error| unusable(&error))?;
    }
    Ok(())
}

//! What a packet costs on its way through a router: plain, with Sluice in each of its shapes, and
//! past the forward chain where the firewall offloads.
//!
//! One thread sends frames of a decided flow, from a client and from the server; on virtual cables the
//! whole way through the router runs inside that system call. Small batches in turns, and the fastest of
//! each kind: what other programs of the machine cost falls on slow batches. On a machine whose clock
//! counts instructions (`cargo xtask vm --icount`) a nanosecond is one.

use std::io::{self, Write as _};
use std::time::Instant;

use sluice_tests::agent::{Agent, Setup, mount_bpffs};
use sluice_tests::observe;
use sluice_tests::probe::ForeignXdp;
use sluice_tests::raw::Injector;
use sluice_tests::router::{Build, Lan, Router, WAN, WAN_V4};
use sluice_tests::traffic::{UdpService, udp};
use sluice_tests::{Error, Result, skip, wait};

const HELP: &str = "\
usage: forward [--rounds N] [--offload]

  --rounds N     batches of each kind (300)
  --offload      the firewall offloads in software: packets go past the forward chain

Each line: nanoseconds for a frame of 1,514 bytes from a client to the server, and for one from the server to
the client, each with what it is above that of a plain router.
";

/// Packets of a batch: about two milliseconds.
const BATCH: u32 = 1000;
/// Payload that fills a cable's frame.
const PAYLOAD: usize = 1472;
/// Port of the server.
const PORT: u16 = 4433;

struct Options {
    rounds: u32,
    offload: bool,
}

fn options(mut args: impl Iterator<Item = String>) -> Option<Options> {
    let mut options = Options { rounds: 300, offload: false };
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--rounds" => options.rounds = args.next()?.parse().ok()?,
            "--offload" => options.offload = true,
            _ => return None,
        }
    }
    Some(options)
}

/// What is put on a router.
enum Dress {
    Plain,
    /// An XDP program on both sides that does nothing.
    EmptyXdp,
    /// Sluice with XDP as its option says, told of names from DNS or not.
    Sluice(&'static str, bool),
}

/// One way to send through a router.
struct Way {
    wire: Injector,
    frame: Vec<u8>,
    best_ns: f64,
}

impl Way {
    const fn new(wire: Injector, frame: Vec<u8>) -> Self {
        Self { wire, frame, best_ns: f64::MAX }
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

/// A router and both ways through it.
struct Lane<'a> {
    name: &'static str,
    world: &'a Router,
    port: u16,
    ways: [Way; 2],
    _guards: (Option<Agent>, Vec<ForeignXdp<'a>>),
}

impl<'a> Lane<'a> {
    fn new(world: &'a Router, name: &'static str, dress: &Dress, offload: bool) -> Result<Self> {
        if offload {
            world.offloading_firewall()?;
            // The other lanes are built meanwhile.
            for name in ["nf_flowtable_udp_timeout", "nf_conntrack_udp_timeout_stream"] {
                world.netns.sysctl(&format!("net/netfilter/{name}"), "3600")?;
            }
        }
        let (mut agent, mut programs) = (None, Vec::new());
        match dress {
            Dress::Plain => {}
            Dress::EmptyXdp => {
                mount_bpffs()?;
                for interface in [world.lan, WAN] {
                    programs.push(ForeignXdp::attach(&world.netns, interface)?);
                }
            }
            Dress::Sluice(xdp, names) => {
                let setup = Setup::default().xdp(xdp).main("dns_names", u8::from(*names));
                agent = Some(Agent::start(world, setup)?);
            }
        }
        if let Some(agent) = agent.as_ref().filter(|_| offload) {
            agent.wait_for_guard()?;
        }
        // A conversation, so that the connection is known and decided.
        let echo = UdpService::echo(&world.server, world.server.v4.into(), PORT)?;
        let socket = udp(world.client(), echo.address())?;
        let from = socket.local_addr().map_err(|error| unusable(&error))?.port();
        let mut buffer = [0; 16];
        let mut exchange = || {
            socket.send(b"ping").and_then(|_| socket.recv(&mut buffer)).map_err(|e| unusable(&e))
        };
        for _ in 0..30 {
            exchange()?;
        }
        if let Some(agent) = &agent {
            agent.wait_for_flow("decided", |flow| flow.sport == from)?;
        }
        // What the firewall decides about them it decides now.
        exchange()?;
        exchange()?;
        drop(echo);
        let (client, server) = (world.client(), &world.server);
        let payload = [0; PAYLOAD];
        let up = client.frame().ipv4(client.v4, server.v4).udp(from, PORT).payload(&payload);
        let down = server.frame().ipv4(server.v4, WAN_V4).udp(PORT, from).payload(&payload);
        // Nobody may answer with "port unreachable".
        for host in [client, server] {
            host.netns.nft(
                "table inet sink { chain in { type filter hook prerouting priority -400; meta l4proto udp drop; }\n}\n",
            )?;
        }
        let ways =
            [Way::new(client.injector()?, up.bytes()), Way::new(server.injector()?, down.bytes())];
        Ok(Self { name, world, port: from, ways, _guards: (agent, programs) })
    }

    /// Refuses a lane whose packets did not take the way that they should.
    fn expect(&self, offload: bool) -> Result<()> {
        let filter = format!("-p udp --orig-port-src {}", self.port);
        let entries = observe::connections(&self.world.netns, &filter)?;
        let is_offloaded = entries.iter().any(|entry| entry.line.contains("[OFFLOAD]"));
        if is_offloaded == offload {
            return Ok(());
        }
        Err(Error::Unusable(format!("{}: offloaded is {is_offloaded}: {entries:?}", self.name)))
    }
}

fn unusable(error: &io::Error) -> Error {
    Error::Unusable(error.to_string())
}

fn say(text: &str) {
    // Nobody reads any more: the guards still clean up.
    let _closed = writeln!(io::stdout(), "{text}");
}

fn main() -> Result<()> {
    let Some(options) = options(std::env::args().skip(1)) else {
        say(HELP);
        return Err(Error::Unusable("these arguments make no sense".to_owned()));
    };
    if skip::without_root() || options.offload && skip::without_flowtables()? {
        return Ok(());
    }
    let dresses = [
        ("plain router", Dress::Plain),
        ("Sluice without XDP", Dress::Sluice("off", true)),
        ("the same without names from DNS", Dress::Sluice("off", false)),
        ("Sluice, shield in tc", Dress::Sluice("tc", true)),
        ("Sluice, generic XDP", Dress::Sluice("generic", true)),
        ("empty native XDP on both sides", Dress::EmptyXdp),
        ("Sluice, native XDP", Dress::Sluice("native", true)),
    ];
    let build = Build { lan: Lan::Plain, ..Build::default() };
    let worlds = dresses.iter().map(|_| Router::new(build)).collect::<Result<Vec<_>>>()?;
    let pairs = worlds.iter().zip(&dresses);
    let lanes = pairs.map(|(world, (name, dress))| Lane::new(world, name, dress, options.offload));
    let mut lanes = lanes.collect::<Result<Vec<_>>>()?;
    for _ in 0..options.rounds {
        for lane in &mut lanes {
            for way in &mut lane.ways {
                way.batch()?;
            }
            wait::interrupted()?;
        }
    }
    let mut plain = None;
    for lane in &lanes {
        lane.expect(options.offload)?;
        let [up, down] = [0, 1].map(|way| lane.ways[way].best_ns);
        let [up_plain, down_plain] = *plain.get_or_insert([up, down]);
        let (more_up, more_down) = (up - up_plain, down - down_plain);
        let (name, s) = (lane.name, " ns");
        say(&format!("{name:32} {up:7.0}{s} {more_up:+6.0}  {down:7.0}{s} {more_down:+6.0}"));
    }
    say("test forward ... ok");
    Ok(())
}

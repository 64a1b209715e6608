//! What the agent takes: memory when idle and with ten thousand decided flows, and the time from its
//! start to protection in force.
#![expect(clippy::print_stdout, reason = "the table is what this program is for")]

use std::error::Error;
use std::fs;
use std::time::Duration;

use sluice_tests::agent::{Agent, Setup};
use sluice_tests::router::{Build, Router};
use sluice_tests::traffic::UdpService;
use sluice_tests::wait;

const FLOWS: u16 = 10_000;
/// Packets between two looks at what has arrived: fewer than the queue holds.
const BURST: u16 = 250;
const LIMIT: Duration = Duration::from_secs(60);

fn main() -> Result<(), Box<dyn Error>> {
    let world = Router::new(Build::default())?;
    let setup = Setup::default().main("window_packets", 1).main("flows", 16_384);
    let agent = Agent::start(&world, setup)?;
    let status = agent.status()?;
    println!("protection in force after {} ms", status.ready_ms);
    println!("idle: {}", memory(status.pid)?);

    let service = UdpService::start(&world.server, world.server.v4.into(), 4433, |_| None)?;
    let wire = world.client().injector()?;
    for port in 0..FLOWS {
        let frame = world.client().frame().ipv4(world.client().v4, world.server.v4);
        wire.send(&frame.udp(20_000 + port, 4433).payload(b"one").bytes())?;
        if port % BURST == BURST - 1 {
            let sent = u32::from(port) + 1;
            wait::until_true("a burst arrived", LIMIT, || service.count() >= sent)?;
        }
    }
    let flows = agent.status()?.flows.entries;
    println!("{flows} decided flows: {}", memory(status.pid)?);
    Ok(())
}

/// Resident memory of a process: all of it, and the part that is its own and no file's.
fn memory(pid: u32) -> Result<String, Box<dyn Error>> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let field = |name: &str| {
        status.lines().find_map(|line| line.strip_prefix(name)).map_or("unknown", str::trim)
    };
    Ok(format!("{} resident, {} of it anonymous", field("VmRSS:"), field("RssAnon:")))
}

//! A connection of iperf3 through a router that stands still but for its turns.

use std::fs;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::Way;
use crate::agent::Agent;
use crate::error::{Attempt as _, Error, Result};
use crate::host::ETH;
use crate::observe;
use crate::process::Daemon;
use crate::router::Router;
use crate::service::Iperf;
use crate::wait;

/// The client's port; each way has its own, so that none waits for the end of another.
const PORT: u16 = 40_000;
/// Time at the start of a turn that does not count: a connection that stood still has to find its pace.
const SETTLE: Duration = Duration::from_millis(20);
/// Time for a flow to be shown and for a firewall to be guarded, and more than a connection needs.
const LIMIT: Duration = Duration::from_secs(20);
/// Least share of what was measured that the fast path must have counted of a trusted flow.
const DECIDED: f64 = 0.95;
/// Most packets that the forward chain may see of an offloaded flow for each that a cable would carry.
const FORWARDED: f64 = 0.1;

/// A router to measure, and what its packets must have met.
#[derive(Clone, Copy, Debug)]
pub struct Stand<'a> {
    /// The router and its neighbours.
    pub world: &'a Router,
    /// Whose fast path must have seen what is measured, as a trusted flow.
    pub agent: Option<&'a Agent>,
    /// Both ends on one processor, before everybody else's work.
    pub is_alone: bool,
    /// The firewall offloads flows: what is measured must have gone past the forward chain.
    pub is_offloaded: bool,
}

impl Stand<'_> {
    /// Has the firewall offload flows, and counts what it does not.
    pub fn offload(&mut self) -> Result<()> {
        self.world.offloading_firewall()?;
        if let Some(agent) = self.agent {
            agent.wait_for_status("offload was guarded", LIMIT, |status| {
                status.offload.guarded.then_some(())
            })?;
        }
        // Before everybody else, so that it sees what others accept.
        self.world.netns.nft(
            "table inet witness {
                counter forwarded { }
                chain forward {
                    type filter hook forward priority -400
                    meta l4proto tcp counter name forwarded
                }
             }\n",
        )?;
        self.is_offloaded = true;
        Ok(())
    }

    fn forwarded(&self) -> Result<u64> {
        if !self.is_offloaded {
            return Ok(0);
        }
        observe::counter(&self.world.netns, "inet witness", "forwarded")
    }
}

/// What was seen in one turn.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Slice {
    /// Bytes that arrived.
    pub bytes: f64,
    /// Nanoseconds of the clock.
    pub wall_ns: f64,
    /// Processor time of both ends. On virtual cables nearly all of the router runs on their account.
    pub work_ns: f64,
}

impl Slice {
    /// Megabits a second.
    #[must_use]
    pub fn mbit(&self) -> f64 {
        self.bytes * 8e3 / self.wall_ns.max(1.0)
    }

    /// Nanoseconds of work for a byte.
    #[must_use]
    pub fn work(&self) -> f64 {
        self.work_ns / self.bytes.max(1.0)
    }
}

/// The connection.
#[derive(Debug)]
pub struct Stream<'a> {
    stand: Stand<'a>,
    client: Daemon,
    server: Iperf,
    way: Way,
    forwarded: u64,
    measured: f64,
}

impl<'a> Stream<'a> {
    /// Opens it, and lets it run until it is where it should be: decided, when there is an agent.
    pub fn open(stand: Stand<'a>, way: Way) -> Result<Self> {
        let world = stand.world;
        let server = Iperf::start(world, stand.is_alone)?;
        let client = server.stream(world, way == Way::Download, PORT + way as u16)?;
        let mut this = Self { stand, client, server, way, forwarded: 0, measured: 0.0 };
        let what = "data passed";
        wait::until(what, LIMIT, || Ok((this.look()?.bytes > 1e6).then_some(())))?;
        if let Some(agent) = stand.agent {
            agent.wait_for_flow("trusted", |flow| {
                flow.sport == PORT + way as u16 && flow.verdict == "trusted"
            })?;
        }
        this.signal(Signal::SIGSTOP)?;
        this.forwarded = stand.forwarded()?;
        Ok(this)
    }

    /// The world that it goes through.
    #[must_use]
    pub const fn world(&self) -> &'a Router {
        self.stand.world
    }

    /// Process numbers of who sends and who receives.
    fn ends(&self) -> (u32, u32) {
        match self.way {
            Way::Download => (self.server.pid(), self.client.pid()),
            Way::Upload => (self.client.pid(), self.server.pid()),
        }
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        let (sender, _) = self.ends();
        let pid = Pid::from_raw(sender.cast_signed());
        kill(pid, signal).attempt(|| format!("send {signal} to iperf3"))
    }

    /// All that has arrived and was worked so far; the clock is not looked at.
    fn look(&self) -> Result<Slice> {
        let (sender, receiver) = self.ends();
        let work_ns = processor_ns(sender)? + processor_ns(receiver)?;
        Ok(Slice { bytes: arrived(receiver)?, work_ns, wall_ns: 0.0 })
    }

    /// Lets it run for `time`.
    pub fn turn(&mut self, time: Duration) -> Result<Slice> {
        self.signal(Signal::SIGCONT)?;
        wait::pause(SETTLE);
        let (before, start) = (self.look()?, Instant::now());
        wait::pause(time);
        let (after, wall) = (self.look()?, start.elapsed());
        self.signal(Signal::SIGSTOP)?;
        let slice = Slice {
            bytes: after.bytes - before.bytes,
            wall_ns: wall.as_nanos() as f64,
            work_ns: after.work_ns - before.work_ns,
        };
        self.measured += slice.bytes;
        wait::interrupted()?;
        if slice.bytes > 0.0 {
            return Ok(slice);
        }
        Err(Error::Unusable(format!("nothing arrived; iperf3: {}", self.client.log())))
    }

    /// Refuses what went another way than its stand says.
    pub fn check(&self) -> Result<()> {
        let forwarded = (self.stand.forwarded()? - self.forwarded) as f64;
        // What a cable would have carried it in.
        let packets = self.measured / 1514.0;
        if self.stand.is_offloaded && forwarded > packets * FORWARDED {
            let text = format!("{forwarded} of {packets} packets were not offloaded");
            return Err(Error::Unusable(text));
        }
        let Some(agent) = self.stand.agent else { return Ok(()) };
        let flow = agent.wait_for_flow("measured", |flow| flow.sport == PORT + self.way as u16)?;
        let counted = flow.original_bytes.max(flow.reply_bytes) as f64;
        if flow.verdict == "trusted" && counted >= self.measured * DECIDED {
            return Ok(());
        }
        Err(Error::Unusable(format!("measured {} bytes of {flow:?}", self.measured)))
    }
}

impl Drop for Stream<'_> {
    fn drop(&mut self) {
        // The end that sends would otherwise not hear that the other one ends.
        let _gone = self.signal(Signal::SIGCONT);
    }
}

/// Bytes that came in at the host of a process.
fn arrived(pid: u32) -> Result<f64> {
    let path = format!("/proc/{pid}/net/dev");
    let text = fs::read_to_string(&path).attempt(|| format!("read {path}"))?;
    let count = text.lines().find_map(|line| {
        let (name, counts) = line.split_once(':')?;
        (name.trim() == ETH).then(|| counts.split_whitespace().next()?.parse().ok())?
    });
    count.ok_or_else(|| Error::Unusable(format!("no {ETH} in {path}:\n{text}")))
}

/// Processor time of a process of one thread, as the scheduler counts it.
fn processor_ns(pid: u32) -> Result<f64> {
    let path = format!("/proc/{pid}/schedstat");
    let text = fs::read_to_string(&path).attempt(|| format!("read {path}"))?;
    let first = text.split_whitespace().next().and_then(|first| first.parse().ok());
    first.ok_or_else(|| Error::Unusable(format!("{path} says {text}")))
}

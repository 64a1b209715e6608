//! A router to measure, and one turn: a connection that is opened, finds its pace,
//! and is looked at for a moment.

use std::cell::Cell;
use std::fs;
use std::time::{Duration, Instant};

use crate::agent::Agent;
use crate::error::{Attempt as _, Error, Result};
use crate::host::ETH;
use crate::netns::Netns;
use crate::observe;
use crate::report::Flow;
use crate::router::Router;
use crate::service::Iperf;
use crate::wait;

use super::Way;

/// The first client's port, below those that the kernel gives away. Each has its own, so that none waits
/// for the end of another.
const PORT: u16 = 10_000;
/// How old a connection is when it is measured, whether or not somebody had to trust it first: one that
/// is older has a larger window.
const SETTLE: Duration = Duration::from_millis(400);
/// Time for a connection to be there, and for a firewall to be guarded.
const LIMIT: Duration = Duration::from_secs(60);
/// Bytes that show that a connection is there, and that something was measured.
const LEAST: f64 = 300_000.0;
/// Least share of what was measured that the fast path must have counted of a trusted flow.
const DECIDED: f64 = 0.95;
/// Most bytes that the forward chain may see of an offloaded flow, as a share of what was measured.
const FORWARDED: f64 = 0.01;

/// A router to measure, and what its packets must have met.
#[derive(Debug)]
pub struct Stand<'a> {
    /// The router and its neighbours.
    pub world: &'a Router,
    agent: Option<&'a Agent>,
    is_alone: bool,
    is_offloaded: bool,
    /// The next client's port.
    port: Cell<u16>,
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

impl<'a> Stand<'a> {
    /// With an agent, its fast path must have seen what is measured, as a trusted flow. `alone`: see
    /// [`Iperf::start`].
    #[must_use]
    pub const fn new(world: &'a Router, agent: Option<&'a Agent>, alone: bool) -> Self {
        let port = Cell::new(PORT);
        Self { world, agent, is_alone: alone, is_offloaded: false, port }
    }

    /// Has the firewall offload flows; what is measured must then go past the forward chain.
    pub fn offload(&mut self) -> Result<()> {
        self.world.offloading_firewall()?;
        self.agent.map_or(Ok(()), Agent::wait_for_guard)?;
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

    /// Whether the firewall offloads.
    #[must_use]
    pub const fn is_offloaded(&self) -> bool {
        self.is_offloaded
    }

    /// A connection, looked at for `time`. `agent` is one that was started for it.
    pub fn turn(&self, way: Way, time: Duration, agent: Option<&Agent>) -> Result<Slice> {
        let agent = agent.or(self.agent);
        let port = self.port.replace(self.port.get() + 1);
        let host = if way == Way::Download { self.world.client() } else { &self.world.server };
        let arrived = || arrived(&host.netns);
        let nothing = arrived()?;
        // A server that lost its client does not listen for a moment: each has its own.
        let iperf = Iperf::start(self.world, self.is_alone)?;
        let mut client = iperf.stream(self.world, way == Way::Download, port)?;
        let ends = [client.pid(), iperf.pid()];
        client.wait_until("data passed", LIMIT, |_| {
            Ok((arrived()? > nothing + LEAST).then_some(()))
        })?;
        let began = Instant::now();
        if let Some(agent) = agent {
            let is_ours = |flow: &Flow| flow.sport == port && flow.verdict == "trusted";
            let look = || Ok(agent.flows()?.iter().any(is_ours).then_some(()));
            wait::until("the connection was trusted", LIMIT, look)?;
        }
        wait::pause(SETTLE.saturating_sub(began.elapsed()));
        self.expect_offload_entry(port)?;
        let forwarded = self.forwarded()?;
        let look = || Ok::<_, Error>((arrived()?, processor_ns(ends)?, Instant::now()));
        let before = look()?;
        wait::pause(time);
        // On an emulated machine that may not have been enough for a single packet.
        wait::until("something was measured", LIMIT, || {
            Ok((arrived()? > before.0 + LEAST).then_some(()))
        })?;
        let after = look()?;
        let slice = Slice {
            bytes: after.0 - before.0,
            wall_ns: (after.2 - before.2).as_nanos() as f64,
            work_ns: after.1 - before.1,
        };
        self.expect_passed_by(&slice, self.forwarded()?.saturating_sub(forwarded))?;
        self.expect_offload_entry(port)?;
        wait::interrupted()?;
        // A flowtable takes packets at the ports of a bridge, before the programs on the bridge see them.
        let is_unseen = self.is_offloaded && self.world.is_bridged() && way == Way::Upload;
        let seen = if is_unseen { 0.0 } else { slice.bytes };
        agent.map_or(Ok(()), |agent| expect_counted(agent, port, seen))?;
        Ok(slice)
    }

    /// Bytes that the forward chain has seen, nothing where nobody offloads.
    fn forwarded(&self) -> Result<u64> {
        if !self.is_offloaded {
            return Ok(0);
        }
        observe::counter_bytes(&self.world.netns, "inet witness", "forwarded")
    }

    /// Refuses what went through the forward chain although the firewall offloads.
    fn expect_passed_by(&self, slice: &Slice, forwarded: u64) -> Result<()> {
        if !self.is_offloaded || forwarded as f64 <= slice.bytes * FORWARDED {
            return Ok(());
        }
        let text = format!("{forwarded} of {:.0} bytes were not offloaded", slice.bytes);
        Err(Error::Unusable(text))
    }

    /// Refuses a connection that conntrack does not call offloaded although the firewall offloads.
    fn expect_offload_entry(&self, port: u16) -> Result<()> {
        if !self.is_offloaded {
            return Ok(());
        }
        let filter = format!("-p tcp --orig-port-src {port}");
        let entries = observe::connections(&self.world.netns, &filter)?;
        if entries.iter().any(|entry| entry.line.contains("[OFFLOAD]")) {
            return Ok(());
        }
        Err(Error::Unusable(format!("the connection is not offloaded: {entries:?}")))
    }
}

/// Refuses what the fast path did not see, as a trusted flow.
fn expect_counted(agent: &Agent, port: u16, bytes: f64) -> Result<()> {
    let flow = agent.wait_for_flow("measured", |flow| flow.sport == port)?;
    let counted = flow.original_bytes.max(flow.reply_bytes) as f64;
    if flow.verdict == "trusted" && counted >= bytes * DECIDED {
        return Ok(());
    }
    Err(Error::Unusable(format!("measured {bytes} bytes of {flow:?}")))
}

/// Bytes that came in at a host.
fn arrived(host: &Netns) -> Result<f64> {
    let text = host.proc_net("dev")?;
    let count = text.lines().find_map(|line| {
        let (name, counts) = line.split_once(':')?;
        (name.trim() == ETH).then(|| counts.split_whitespace().next()?.parse().ok())?
    });
    count.ok_or_else(|| Error::Unusable(format!("no {ETH} in {text}")))
}

/// Processor time of processes of one thread, as the scheduler counts it.
fn processor_ns(pids: [u32; 2]) -> Result<f64> {
    let mut sum = 0.0;
    for pid in pids {
        let path = format!("/proc/{pid}/schedstat");
        let text = fs::read_to_string(&path).attempt(|| format!("read {path}"))?;
        let first = text.split_whitespace().next().and_then(|first| first.parse::<f64>().ok());
        sum += first.ok_or_else(|| Error::Unusable(format!("{path} says {text}")))?;
    }
    Ok(sum)
}

//! What a packet costs on its way through the queue: nanoseconds of one thread.
//!
//! A closed loop in one thread: put a burst of frames on a cable, give verdicts until the queue is
//! empty, again. The stack forwards in the context of whoever sends, so the thread's CPU clock sees
//! all of it and nothing of other processes. Ways are interleaved, minimum and median are printed;
//! what counts is the difference to the first line, which is the same path with nobody listening.

#![expect(clippy::print_stdout, reason = "the table is what this program is for")]

use std::error::Error;
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};
use sluice::config::MarkMask;
use sluice::netfilter::apply::{Wish, choose};
use sluice::netfilter::nfqueue::{Packet, Verdict};
use sluice::netfilter::queue::{Options, Queues};
use sluice::netfilter::rules::Ruleset;
use sluice_abi::attach::Link;
use sluice_datapath::parse;
use sluice_tests::raw::Injector;
use sluice_tests::router::{Build, Lan, Router, WAN};

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

const QUEUE: u16 = 50;
const ROUNDS: usize = 15;
/// Packets per way and round.
const PACKETS: usize = 8192;

/// A way through the queue.
#[derive(Clone, Copy, Debug)]
enum Way {
    /// Rules as with an agent, and none: the queue is passed by.
    Bypass,
    /// The loop of the `nfq` crate as its documentation shows it.
    Crate,
    /// The agent's loop; every packet passes.
    Batch,
    /// The agent's loop, with the headers of each packet parsed.
    Parsed,
}

fn main() -> Outcome<()> {
    let world = Router::new(Build { lan: Lan::Plain, ..Build::default() })?;
    // The server says nothing to what arrives.
    world.server.netns.nft(
        "table inet quiet {
            chain in {
                type filter hook input priority filter
                udp dport 9 drop
            }
        }",
    )?;
    world.netns.enter(|| measure(&world))?
}

fn measure(world: &Router) -> Outcome<()> {
    let marks = MarkMask::try_from(0x0700_0000)?;
    let rules = Ruleset::new([world.lan, WAN], marks, QUEUE, 1, true)?;
    let (mut backend, _) = choose(Wish::Auto)?;
    backend.apply(&rules)?;
    println!("{} rounds of {PACKETS} packets, backend {}", ROUNDS, backend.kind().name());
    println!("way      burst  size     min  median  lost   (ns per packet)");
    for size in [64, 1400] {
        let mut ways = Vec::new();
        for (way, burst) in [
            (Way::Bypass, 128),
            (Way::Crate, 128),
            (Way::Batch, 128),
            (Way::Parsed, 128),
            (Way::Bypass, 1024),
            (Way::Crate, 1024),
            (Way::Batch, 1024),
            (Way::Parsed, 1024),
        ] {
            ways.push((way, burst, Vec::new(), 0));
        }
        for round in 0..ROUNDS {
            let (mut forward, mut backward);
            let order: &mut dyn Iterator<Item = _> = if round % 2 == 0 {
                forward = ways.iter_mut();
                &mut forward
            } else {
                backward = ways.iter_mut().rev();
                &mut backward
            };
            for (way, burst, times, lost) in order {
                let (time, missing) = run(world, marks, *way, *burst, size)?;
                times.push(time);
                *lost += missing;
            }
        }
        for (way, burst, mut times, lost) in ways {
            times.sort_unstable();
            println!(
                "{:<8} {burst:>5} {size:>5} {:>7} {:>7} {lost:>5}",
                format!("{way:?}"),
                times[0],
                times[times.len() / 2]
            );
        }
    }
    backend.remove()?;
    Ok(())
}

/// Sends [`PACKETS`] packets; nanoseconds for each, and how many had no verdict.
fn run(
    world: &Router,
    marks: MarkMask,
    way: Way,
    burst: usize,
    size: usize,
) -> Outcome<(u64, usize)> {
    let client = world.client();
    let frame = client.frame().addresses(client.v4.into(), world.server.v4.into()).udp(5000, 9);
    let frame = frame.payload(&vec![0; size]).bytes();
    let wire = client.injector()?;
    let bursts = PACKETS / burst;
    let mut seen = 0;
    let time = match way {
        Way::Bypass => {
            seen = PACKETS;
            timed(&wire, &frame, bursts, burst, || Ok(()))?
        }
        Way::Crate => {
            let mut queue = nfq::Queue::open()?;
            queue.bind(QUEUE)?;
            queue.set_fail_open(QUEUE, true)?;
            queue.set_recv_gso(QUEUE, true)?;
            queue.set_nonblocking(true);
            timed(&wire, &frame, bursts, burst, || {
                loop {
                    match queue.recv() {
                        Ok(mut message) => {
                            seen += 1;
                            message.set_verdict(nfq::Verdict::Accept);
                            queue.verdict(message)?;
                        }
                        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => break,
                        Err(error) => return Err(error.into()),
                    }
                }
                Ok(())
            })?
        }
        Way::Batch | Way::Parsed => {
            let options = Options { marks, policy_open: true, len_max: 1024 };
            let mut queues = Queues::open(QUEUE, 1, options)?;
            let pass = |_: Packet<'_>| Verdict::Accept { mark: None };
            let parsed = |packet: Packet<'_>| {
                let known = parse::headers(packet.l3, Link::Ip).is_ok_and(|it| it.flow().is_some());
                // Never the case, so the mark stays and the next packet is queued too.
                Verdict::Accept { mark: (!known).then_some(marks.trusted()) }
            };
            timed(&wire, &frame, bursts, burst, || {
                loop {
                    let count = match way {
                        Way::Batch => queues.receive(pass)?,
                        _ => queues.receive(parsed)?,
                    };
                    if count == 0 {
                        seen = queues.totals().packets as usize;
                        return Ok(());
                    }
                }
            })?
        }
    };
    Ok((time, PACKETS - seen))
}

fn timed(
    wire: &Injector,
    frame: &[u8],
    bursts: usize,
    burst: usize,
    mut drain: impl FnMut() -> Outcome<()>,
) -> Outcome<u64> {
    let start = thread_time()?;
    for _ in 0..bursts {
        for _ in 0..burst {
            wire.send(frame)?;
        }
        drain()?;
    }
    Ok((thread_time()? - start) / (bursts * burst) as u64)
}

/// Nanoseconds that this thread has run.
fn thread_time() -> Outcome<u64> {
    let time = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)?;
    Ok(Duration::from(time).as_nanos() as u64)
}

//! How long the queue holds a packet up, by where its reader runs.
//!
//! One thread on processor 0 sends a datagram through a router and waits until it has arrived: what
//! takes it through the stack runs on that processor, but for what is behind the queue's verdict, which
//! runs where the reader does. The reader waits and answers as a worker of the agent does. Ways are
//! interleaved; what counts is the difference to the first line, the same path with nobody listening.

#![expect(clippy::print_stdout, reason = "the table is what this program is for")]

use std::error::Error;
use std::net::UdpSocket;
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;
use sluice::config::MarkMask;
use sluice::netfilter::apply::{Wish, choose};
use sluice::netfilter::nfqueue::Verdict;
use sluice::netfilter::queue::{Options, Queues};
use sluice::netfilter::rules::Ruleset;
use sluice_tests::router::{Build, Lan, Router, WAN};

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

const QUEUE: u16 = 50;
const PORT: u16 = 9;
const ROUNDS: usize = 20;
/// Datagrams per way and round.
const PINGS: usize = 500;

/// Where the reader runs.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Reader {
    /// There is none: the queue is passed by.
    Nobody,
    /// On the processor that the packet came to.
    Same,
    /// On another.
    Other,
    /// Where the scheduler likes.
    Anywhere,
}

fn main() -> Outcome<()> {
    let world = Router::new(Build { lan: Lan::Plain, ..Build::default() })?;
    let server = world.server.netns.enter(|| UdpSocket::bind((world.server.v4, PORT)))??;
    server.set_read_timeout(Some(Duration::from_secs(5)))?;
    let client = world.client().netns.enter(|| UdpSocket::bind((world.client().v4, 0)))??;
    client.connect((world.server.v4, PORT))?;
    pin(Some(0))?;
    world.netns.enter(|| measure(&world, &client, &server))?
}

fn measure(world: &Router, client: &UdpSocket, server: &UdpSocket) -> Outcome<()> {
    let marks = MarkMask::try_from(0x0700_0000)?;
    let rules = Ruleset::new([world.lan, WAN], marks, QUEUE, 1, true)?;
    let (mut backend, _) = choose(Wish::Auto)?;
    backend.apply(&rules)?;
    let ways = [Reader::Nobody, Reader::Same, Reader::Other, Reader::Anywhere];
    let mut all = ways.map(|way| (way, Vec::new()));
    for _ in 0..ROUNDS {
        for (way, times) in &mut all {
            times.extend(run(world, marks, *way, client, server)?);
        }
    }
    println!("{ROUNDS} rounds of {PINGS} datagrams, one at a time; microseconds");
    println!("reader       min  median    p90    p99   added (median)");
    let mut base = 0.0;
    for (way, mut times) in all {
        times.sort_unstable();
        let at = |percent: usize| times[times.len() * percent / 100].as_secs_f64() * 1e6;
        if way == Reader::Nobody {
            base = at(50);
        }
        println!(
            "{:<9} {:>6.1} {:>7.1} {:>6.1} {:>6.1} {:>8.1}",
            format!("{way:?}"),
            at(0),
            at(50),
            at(90),
            at(99),
            at(50) - base
        );
    }
    backend.remove()?;
    Ok(())
}

fn run(
    world: &Router,
    marks: MarkMask,
    way: Reader,
    client: &UdpSocket,
    server: &UdpSocket,
) -> Outcome<Vec<Duration>> {
    if way == Reader::Nobody {
        return ping(client, server);
    }
    let (bell, ear) = UnixStream::pair()?;
    std::thread::scope(|scope| {
        let (opened, is_open) = mpsc::channel();
        let reader = scope.spawn(move || -> Outcome<()> {
            pin(match way {
                Reader::Nobody | Reader::Same => Some(0),
                Reader::Other => Some(1),
                Reader::Anywhere => None,
            })?;
            world.netns.enter(|| -> Outcome<()> {
                let options = Options { marks, policy_open: true, len_max: 1024 };
                let mut queues = Queues::open(QUEUE, 1, options)?;
                opened.send(())?;
                while !queues.wait(Some(ear.as_fd()))? {
                    queues.receive(|_| Verdict::Accept { mark: None })?;
                }
                Ok(())
            })?
        });
        is_open.recv()?;
        let times = ping(client, server);
        drop(bell);
        reader.join().map_err(|_panic| "the reader panicked")??;
        times
    })
}

fn ping(client: &UdpSocket, server: &UdpSocket) -> Outcome<Vec<Duration>> {
    let mut buffer = [0; 64];
    let mut times = Vec::with_capacity(PINGS);
    for _ in 0..PINGS {
        let start = Instant::now();
        client.send(b"ping")?;
        server.recv(&mut buffer)?;
        times.push(start.elapsed());
    }
    Ok(times)
}

/// Keeps the calling thread on a processor, or on none.
fn pin(cpu: Option<usize>) -> Outcome<()> {
    let mut set = CpuSet::new();
    for number in 0..CpuSet::count() {
        if cpu.is_none_or(|cpu| cpu == number) {
            set.set(number)?;
        }
    }
    Ok(sched_setaffinity(Pid::from_raw(0), &set)?)
}

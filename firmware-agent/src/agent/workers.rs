//! The threads that read the queues.
//!
//! The kernel gives all packets of a connection to one queue, both ways (a hash of both addresses that
//! does not care for their order), and a queue has one worker: so a flow has one engine, which sees
//! its packets in their order.
//!
//! Order of locks: the gate, then desks, then the state. Who has the state never waits for a desk.

use std::cell::Cell;
use std::io::{self, Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, MutexGuard};
use std::thread::JoinHandle;

use smol::channel::{Receiver, Sender, bounded};

use super::desk::{Desk, Work};
use super::inspector::Inspector;
use super::lock::Lock;
use super::running::State;
use crate::netfilter::queue::{QueueError, Queues};

/// Most workers: the part of the work that they have to wait for each other with leaves nothing to win
/// beyond.
pub(super) const MAX: usize = 4;
/// Room for what a worker has on its stack.
const STACK: usize = 512 * 1024;

/// How many are wanted: as many as processors where that is 0, no more than queues.
pub(super) fn count(wanted: u16, queues: u16) -> usize {
    let wanted = match wanted {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        some => some.into(),
    };
    wanted.min(queues.into()).clamp(1, MAX)
}

/// All workers; they end with it.
pub(super) struct Workers {
    all: Vec<Worker>,
    gate: Arc<Gate>,
    failures: Receiver<QueueError>,
}

struct Worker {
    seat: Arc<Seat>,
    /// Wakes it.
    bell: UnixStream,
    thread: Option<JoinHandle<()>>,
    /// Its turns when it was looked at last.
    seen: Cell<u32>,
}

/// What a worker and those who look after it have in common.
struct Seat {
    desk: Lock<Desk>,
    turns: AtomicU32,
    is_over: AtomicBool,
}

/// Lets others come before workers, which would take their desk again as soon as they leave it.
#[derive(Debug)]
struct Gate {
    is_closed: AtomicBool,
    closer: Lock<()>,
}

impl Gate {
    /// Waits while it is closed.
    fn pass(&self) {
        if self.is_closed.load(Ordering::Acquire) {
            drop(self.closer.lock());
        }
    }
}

/// Every desk: no packet is between its engine and its decision.
pub(super) struct Held<'a>(Vec<MutexGuard<'a, Desk>>);

impl Held<'_> {
    /// Has all engines judge by the book of `inspector` from now on.
    pub(super) fn take(&mut self, inspector: &mut Inspector) {
        let orders = std::mem::take(&mut inspector.orders);
        for desk in &mut self.0 {
            desk.take(&inspector.book);
            desk.follow(&orders);
        }
    }
}

impl Workers {
    /// One for each of these.
    pub(super) fn start(
        hands: impl IntoIterator<Item = (Queues, Desk)>,
        state: &Arc<Lock<State>>,
    ) -> io::Result<Self> {
        let (failed, failures) = bounded(1);
        let gate = Gate { is_closed: AtomicBool::new(false), closer: Lock::new(()) };
        let mut workers = Self { all: Vec::new(), gate: Arc::new(gate), failures };
        for (number, (queues, desk)) in hands.into_iter().enumerate() {
            let (turns, is_over) = (AtomicU32::new(0), AtomicBool::new(false));
            let seat = Arc::new(Seat { desk: Lock::new(desk), turns, is_over });
            let (bell, ear) = UnixStream::pair()?;
            // A worker that does not listen must keep nobody waiting.
            bell.set_nonblocking(true)?;
            ear.set_nonblocking(true)?;
            let reader = Reader {
                seat: Arc::clone(&seat),
                gate: Arc::clone(&workers.gate),
                state: Arc::clone(state),
                queues,
                ear,
                failed: failed.clone(),
            };
            let thread = std::thread::Builder::new()
                .name(format!("sluice-queue{number}"))
                .stack_size(STACK)
                .spawn(move || reader.run())?;
            // Not any number of turns: one that has not begun yet is not behind.
            workers.all.push(Worker {
                seat,
                bell,
                thread: Some(thread),
                seen: Cell::new(u32::MAX),
            });
        }
        Ok(workers)
    }

    /// Waits until every worker has left its desk.
    pub(super) fn hold(&self) -> Held<'_> {
        let closed = self.gate.closer.lock();
        self.gate.is_closed.store(true, Ordering::Release);
        let desks = self.all.iter().map(|worker| worker.seat.desk.lock()).collect();
        self.gate.is_closed.store(false, Ordering::Release);
        drop(closed);
        Held(desks)
    }

    /// What all of them did.
    pub(super) fn work(&self) -> Work {
        let mut work = Work::default();
        self.hold().0.iter().for_each(|desk| work.add(desk));
        work
    }

    /// Whether each of them has turned to its queues since this was asked last. Wakes them for the next
    /// time.
    pub(super) fn have_turned(&self) -> bool {
        let mut all = true;
        for worker in &self.all {
            let turns = worker.seat.turns.load(Ordering::Acquire);
            all &= worker.seen.replace(turns) != turns;
            worker.ring();
        }
        all
    }

    /// Waits for one of them to fail.
    pub(super) fn failure(&self) -> Receiver<QueueError> {
        self.failures.clone()
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        for worker in &self.all {
            worker.seat.is_over.store(true, Ordering::Release);
            worker.ring();
        }
        for thread in self.all.iter_mut().filter_map(|worker| worker.thread.take()) {
            if thread.join().is_err() {
                log::error!("a worker panicked");
            }
        }
    }
}

impl Worker {
    fn ring(&self) {
        // It has not heard the last time yet if there is no room.
        let _ = (&self.bell).write(&[1]);
    }
}

/// What the thread of a worker works with.
struct Reader {
    seat: Arc<Seat>,
    gate: Arc<Gate>,
    state: Arc<Lock<State>>,
    queues: Queues,
    ear: UnixStream,
    failed: Sender<QueueError>,
}

impl Reader {
    fn run(mut self) {
        if let Err(error) = self.read() {
            // One is enough to end the agent.
            let _ = self.failed.try_send(error);
        }
    }

    fn read(&mut self) -> Result<(), QueueError> {
        loop {
            let wait = |source| QueueError::Wait { source };
            let is_rung = self.queues.wait(Some(self.ear.as_fd())).map_err(wait)?;
            self.seat.turns.fetch_add(1, Ordering::Release);
            if self.seat.is_over.load(Ordering::Acquire) {
                return Ok(());
            }
            self.gate.pass();
            let mut desk = self.seat.desk.lock();
            if is_rung {
                let mut rings = [0; 64];
                while (&self.ear).read(&mut rings).is_ok_and(|count| count == rings.len()) {}
                desk.expire();
            }
            desk.receive(&mut self.queues, &self.state)?;
        }
    }
}

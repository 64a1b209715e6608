//! The queues: packets out of the kernel, verdicts back into it.
//!
//! The `nfq` crate sets a queue up. Its receive loop takes one packet per system call and its
//! socket holds 256 of them, so from then on the descriptor is used directly: many packets per
//! call, many verdicts per call, and a buffer that a burst fits in.
//!
//! Packets that arrive while a queue is being set up are swallowed by the set-up's own receive
//! calls. So rules come last and go first; and where rules of an earlier run are in place already,
//! what arrived during the set-up is answered by policy, or it would wait for ever.
//!
//! Overrun: the socket is told not to report `ENOBUFS`, because the kernel would then also refuse
//! every further packet until the buffer has run empty; without the report only what does not fit
//! is refused. Nothing is hidden by that: each refused packet is counted in
//! [`KernelStats::user_dropped`], or passes when the policy is open.

use std::io::{self, ErrorKind};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{SockProtocol, getsockopt, setsockopt, sockopt};

use super::latency::Latency;
use super::nfqueue::{Arrival, KernelStats, Packet, Verdict, Verdicts, read};
use crate::config::MarkMask;
use crate::sys::clock;
use crate::sys::netlink::{Batch, Messages, adopt};

/// The queues of the calling thread's namespace; `/proc/net` would be that of the first thread.
const TABLE: &str = "/proc/thread-self/net/netfilter/nfnetlink_queue";
/// Longest table that is read: a line has about 80 bytes, and 65536 queues are possible.
const TABLE_MAX: u64 = 1 << 16;
/// Packets per receive call, and at most per queue and call of [`Queues::receive`].
const BATCH: usize = 32;
/// Room for one message: the largest copy (64 KiB) and about 300 bytes of attributes.
const MESSAGE_MAX: usize = (1 << 16) + 1024;
/// What the kernel charges a socket for a full-size Ethernet packet: the message of about 1,800
/// bytes lies in a 4 KiB block, with 256 bytes of management (64-bit kernels, seen on 6.18).
const CHARGE: usize = 4096 + 512;

/// How a queue behaves.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// The claimed bits of marks.
    pub marks: MarkMask,
    /// Policy for what finds a queue full: pass, or drop.
    pub policy_open: bool,
    /// Packets that may wait in each queue.
    pub len_max: u32,
}

impl Options {
    /// The same with the other policy.
    #[must_use]
    pub const fn closed(self) -> Self {
        Self { policy_open: false, ..self }
    }
}

/// Packets that one queue holds without loss, when nothing else is asked for.
pub const LEN_MAX: u32 = 1024;

/// What happened so far. The kernel's own figures are in [`Queues::kernel_stats`].
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Totals {
    /// Packets given to the callback.
    pub packets: u64,
    /// Of those, packets with several segments in one.
    pub gso: u64,
    /// Of those, packets whose copy is incomplete.
    pub cut: u64,
    /// Packet messages that made no sense; answered by policy when they had a number.
    pub malformed: u64,
    /// Times that the kernel reported an overrun of the socket.
    pub overruns: u64,
    /// Verdicts that the kernel refused (the packet was gone).
    pub refused: u64,
    /// Verdict messages sent.
    pub verdict_messages: u64,
    /// Receive calls that gave something.
    pub batches: u64,
}

impl Totals {
    /// Adds what happened elsewhere.
    pub const fn join(&mut self, other: &Self) {
        // Naming every field makes a new one a compile error here.
        let Self { packets, gso, cut, malformed, overruns, refused, verdict_messages, batches } =
            *other;
        self.packets += packets;
        self.gso += gso;
        self.cut += cut;
        self.malformed += malformed;
        self.overruns += overruns;
        self.refused += refused;
        self.verdict_messages += verdict_messages;
        self.batches += batches;
    }
}

/// A number of queues, read by one thread.
#[derive(Debug)]
pub struct Queues {
    open: Vec<Queue>,
    batch: Batch,
    verdicts: Verdicts,
    totals: Totals,
    latency: Latency,
}

#[derive(Debug)]
struct Queue {
    number: u16,
    socket: OwnedFd,
    buffer_len: usize,
    policy: Verdict,
}

impl Queues {
    /// Opens `count` queues from number `first` on and configures them.
    pub fn open(first: u16, count: u16, options: Options) -> Result<Self, QueueError> {
        let end = first.checked_add(count.max(1) - 1).ok_or(QueueError::Numbers)?;
        let queues = (first..=end).map(|number| Queue::open(number, options));
        Ok(Self {
            open: queues.collect::<Result<_, _>>()?,
            batch: Batch::new(BATCH, MESSAGE_MAX),
            verdicts: Verdicts::new(options.marks, BATCH),
            totals: Totals::default(),
            latency: Latency::default(),
        })
    }

    /// Takes the queues of another range in, which may have another policy.
    pub fn join(&mut self, others: Self) {
        self.open.extend(others.open);
    }

    /// Deals the queues out to so many readers. Queues of two ranges that are dealt out to as many and
    /// have the same place in their range get to the same reader.
    #[must_use]
    pub fn deal(mut self, readers: usize) -> Vec<Self> {
        let readers = readers.max(1);
        let open = std::mem::take(&mut self.open);
        let mut hands: Vec<Self> = Vec::with_capacity(readers);
        hands.push(self);
        while let (true, Some(first)) = (hands.len() < readers, hands.first()) {
            hands.push(Self {
                open: Vec::new(),
                batch: Batch::new(BATCH, MESSAGE_MAX),
                verdicts: first.verdicts.like(BATCH),
                totals: Totals::default(),
                latency: Latency::default(),
            });
        }
        for (place, queue) in open.into_iter().enumerate() {
            if let Some(hand) = hands.get_mut(place % readers) {
                hand.open.push(queue);
            }
        }
        hands
    }

    /// Waits until a queue has packets, or `other` can be read; says whether it can. May come back
    /// for nothing.
    pub fn wait(&self, other: Option<BorrowedFd<'_>>) -> io::Result<bool> {
        let all = other.into_iter().chain(self.open.iter().map(|queue| queue.socket.as_fd()));
        let mut all: Vec<PollFd<'_>> = all.map(|fd| PollFd::new(fd, PollFlags::POLLIN)).collect();
        match poll(&mut all, PollTimeout::NONE) {
            Ok(_) => {}
            Err(Errno::EINTR) => return Ok(false),
            Err(errno) => return Err(errno.into()),
        }
        Ok(other.is_some() && all.first().and_then(PollFd::any).unwrap_or_default())
    }

    /// Gives `each` the packets that are there, in the order of their queue, and its answers to the
    /// kernel. Takes one batch per queue, so that a flood leaves time for other tasks; returns how
    /// many datagrams it were (packets, and refusals of verdicts), and 0 when all queues are empty.
    pub fn receive(
        &mut self,
        mut each: impl FnMut(Packet<'_>) -> Verdict,
    ) -> Result<usize, QueueError> {
        let mut datagrams = 0;
        for queue in &self.open {
            let (fd, policy) = (queue.socket.as_fd(), queue.policy);
            match self.batch.receive(fd) {
                Ok(count) => {
                    datagrams += count;
                    self.totals.batches += 1;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => continue,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => {
                    // There is something behind the report.
                    datagrams += 1;
                    self.totals.overruns += 1;
                    continue;
                }
                Err(source) => return Err(QueueError::Receive { number: queue.number, source }),
            }
            let received_ns = clock::monotonic_ns();
            // Those of the batch that have no time of their own.
            let mut timeless = 0;
            for datagram in self.batch.datagrams() {
                // No message is longer than a slot; should one be, it has no end and is not read.
                self.totals.malformed += u64::from(datagram.is_cut);
                for message in Messages::new(datagram.bytes) {
                    match read(&message) {
                        Arrival::Packet(packet) => {
                            self.totals.packets += 1;
                            self.totals.gso += u64::from(packet.gso);
                            self.totals.cut += u64::from(packet.is_cut());
                            match packet.arrived_us {
                                // The clock of the stamps is the wall's: a step of it makes one
                                // packet look late, and nothing else.
                                Some(then) => {
                                    let waited = clock::unix_us().saturating_sub(then);
                                    self.latency.add(waited.saturating_mul(1000), 1);
                                }
                                None => timeless += 1,
                            }
                            let verdict = each(packet);
                            self.verdicts.push(packet.queue, packet.id, packet.mark, verdict);
                        }
                        Arrival::Malformed { queue, id } => {
                            self.totals.malformed += 1;
                            self.verdicts.push(queue, id, 0, policy);
                        }
                        Arrival::Nameless => self.totals.malformed += 1,
                        Arrival::Refused(_errno) => self.totals.refused += 1,
                        Arrival::Other => {}
                    }
                }
            }
            let answers = self.verdicts.finish();
            let sent = if answers.is_empty() { Ok(()) } else { Batch::send(fd, answers) };
            self.totals.verdict_messages += u64::from(self.verdicts.clear());
            self.latency.add(clock::monotonic_ns().saturating_sub(received_ns), timeless);
            sent.map_err(|source| QueueError::Answer { number: queue.number, source })?;
        }
        Ok(datagrams)
    }

    /// What happened so far.
    #[must_use]
    pub const fn totals(&self) -> Totals {
        self.totals
    }

    /// How long packets waited for their verdict: from their arrival where the kernel says it, else
    /// from the call that received them.
    #[must_use]
    pub const fn latency(&self) -> &Latency {
        &self.latency
    }

    /// Packets of full size that the smallest socket buffer holds. Below the length asked for when
    /// the process may not force the size (`CAP_NET_ADMIN`) and `net.core.rmem_max` is low.
    #[must_use]
    pub fn burst(&self) -> usize {
        self.open.iter().map(|queue| queue.buffer_len / CHARGE).min().unwrap_or(0)
    }

    /// The kernel's figures for these queues.
    pub fn kernel_stats(&self) -> io::Result<Vec<KernelStats>> {
        let numbers = self.open.iter().map(|queue| queue.number);
        kernel_stats(numbers.clone().min().unwrap_or(0)..=numbers.max().unwrap_or(0))
    }
}

impl Queue {
    fn open(number: u16, options: Options) -> Result<Self, QueueError> {
        if let Some(port) = listener(number) {
            return Err(QueueError::Taken { number, port });
        }
        let failed = |what| move |source| QueueError::SetUp { number, what, source };
        let mut queue = nfq::Queue::open().map_err(failed("open a socket for"))?;
        if let Err(source) = queue.bind(number) {
            // Somebody may have been quicker.
            return Err(match listener(number) {
                Some(port) => QueueError::Taken { number, port },
                None => QueueError::SetUp { number, what: "bind", source },
            });
        }
        // The largest range: a copy that is cut could miss the end of a ClientHello.
        queue.set_copy_range(number, u16::MAX).map_err(failed("set the copy range of"))?;
        queue.set_fail_open(number, options.policy_open).map_err(failed("set the policy of"))?;
        queue.set_recv_gso(number, true).map_err(failed("ask for whole GSO packets in"))?;
        queue.set_queue_max_len(number, options.len_max).map_err(failed("set the length of"))?;
        // Among all sockets of the process, the one that the kernel says listens to this queue. The
        // crate's own descriptor is closed when it is dropped; the socket lives on in ours.
        let port = listener(number).ok_or(QueueError::Lost { number })?;
        let socket = adopt(SockProtocol::NetlinkNetFilter, port)
            .map_err(failed("take the descriptor of"))?;
        drop(queue);
        let wanted = usize::try_from(options.len_max).unwrap_or(usize::MAX).saturating_mul(CHARGE);
        let buffer_len =
            grow(&socket, wanted).map_err(|errno| failed("size the buffer of")(errno.into()))?;
        let queue = Self { number, socket, buffer_len, policy: policy(options) };
        queue.release(options).map_err(failed("empty"))?;
        Ok(queue)
    }

    /// Answers everything that came before this call by policy. What of it is still to be received
    /// is seen then, but its verdict is refused.
    fn release(&self, options: Options) -> io::Result<()> {
        let line = table()?.into_iter().find(|line| line.queue == self.number);
        let Some(line) = line.filter(|line| line.waiting > 0) else { return Ok(()) };
        let policy = policy(options);
        let mut verdicts = Verdicts::new(options.marks, 2);
        // Two neighbours make a batch, which reaches back to the first.
        verdicts.push(self.number, line.total.wrapping_sub(1), 0, policy);
        verdicts.push(self.number, line.total, 0, policy);
        Batch::send(self.socket.as_fd(), verdicts.finish())
    }
}

/// The answer to what is not inspected.
const fn policy(options: Options) -> Verdict {
    if options.policy_open { Verdict::Accept { mark: None } } else { Verdict::Drop }
}

/// Makes the receive buffer hold `wanted` bytes of charges, if that is allowed; returns what it
/// holds then.
fn grow(socket: &OwnedFd, wanted: usize) -> nix::Result<usize> {
    // The kernel doubles the number for its own bookkeeping, which the charges include.
    let half = wanted.div_ceil(2).min(i32::MAX as usize / 2);
    if setsockopt(socket, sockopt::RcvBufForce, &half).is_err() {
        setsockopt(socket, sockopt::RcvBuf, &half)?;
    }
    getsockopt(socket, sockopt::RcvBuf)
}

/// The kernel's figures for the queues with these numbers, whoever listens to them.
pub fn kernel_stats(numbers: std::ops::RangeInclusive<u16>) -> io::Result<Vec<KernelStats>> {
    let mut stats = table()?;
    stats.retain(|line| numbers.contains(&line.queue));
    Ok(stats)
}

fn table() -> io::Result<Vec<KernelStats>> {
    use std::io::Read as _;
    let mut text = String::new();
    std::fs::File::open(TABLE)?.take(TABLE_MAX).read_to_string(&mut text)?;
    Ok(text.lines().filter_map(KernelStats::from_line).collect())
}

/// The port that listens to a queue.
fn listener(number: u16) -> Option<u32> {
    table().ok()?.into_iter().find(|line| line.queue == number).map(|line| line.port)
}

/// Why the queues do not work.
#[derive(Debug, thiserror::Error)]
pub enum QueueError {
    /// The numbers do not fit.
    #[error("queue numbers end at 65535")]
    Numbers,
    /// Another program listens.
    #[error(
        "queue {number} is taken by the program with netlink port {port} (usually its process \
         number): stop it, or choose another queue number"
    )]
    Taken {
        /// Queue number.
        number: u16,
        /// Netlink port of the other socket.
        port: u32,
    },
    /// A step of the set-up failed.
    #[error("{what} queue {number}{}", hint(source))]
    SetUp {
        /// Queue number.
        number: u16,
        /// The step.
        what: &'static str,
        /// The system's answer.
        source: io::Error,
    },
    /// The kernel's table does not list a queue that was bound.
    #[error("queue {number} is bound but not listed in {TABLE}: is /proc mounted?")]
    Lost {
        /// Queue number.
        number: u16,
    },
    /// Nothing says when there are packets.
    #[error("wait for packets")]
    Wait {
        /// The system's answer.
        source: io::Error,
    },
    /// Packets cannot be received.
    #[error("receive from queue {number}")]
    Receive {
        /// Queue number.
        number: u16,
        /// The system's answer.
        source: io::Error,
    },
    /// Verdicts cannot be sent.
    #[error("answer to queue {number}")]
    Answer {
        /// Queue number.
        number: u16,
        /// The system's answer.
        source: io::Error,
    },
}

/// What the user can do about it.
fn hint(error: &io::Error) -> &'static str {
    match error.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => ": needs root or CAP_NET_ADMIN",
        Some(libc::EPROTONOSUPPORT | libc::EINVAL | libc::EOPNOTSUPP) => {
            ": the kernel has no nfnetlink_queue, install kmod-nfnetlink-queue"
        }
        _ => "",
    }
}

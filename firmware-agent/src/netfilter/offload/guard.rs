//! Keeps the firewall's rules as wished, on a thread of its own.
//!
//! Between the firewall's reload and the new guard every connection that is made goes unseen, and the
//! agent's thread may be waiting for `nft` or loading a list of addresses. This thread only waits for
//! changes.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::{gettid, pipe2};

use super::{Offload, Wish};
use crate::netfilter::watch::Watch;
use crate::sys::priority::set_nice;

/// Least time between two looks. The first is at once.
const PAUSE: Duration = Duration::from_millis(20);
/// The same while somebody takes the guard away again and again.
const PAUSE_MAX: Duration = Duration::from_secs(2);
/// Guards that follow each other within this time are somebody's answer to ours.
const QUARREL: Duration = Duration::from_secs(1);
/// A look takes a millisecond, and what is handed over before it goes unseen.
const NICE: i32 = -10;
/// The thread's name, which the kernel gives as the author of a change.
const NAME: &str = "sluice-offload";
/// The thread's stack: netlink messages are on the heap.
const STACK: usize = 128 * 1024;

/// The rules' keeper. While it lives the rules are as wished; afterwards they stay as they are then.
#[derive(Debug)]
pub struct Guard {
    shared: Arc<Mutex<Shared>>,
    /// Closed to end the thread.
    alive: Option<OwnedFd>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    offload: Offload,
    /// Unknown until somebody says: what an agent before this one left stays until then.
    wish: Option<Wish>,
}

impl Shared {
    /// Makes the rules as wished and logs what that took; returns whether anything was changed.
    fn look(&mut self) -> bool {
        let Some(wish) = self.wish else { return false };
        let failed_before = self.offload.failure().is_some();
        match self.offload.look(wish) {
            Ok(0) => false,
            Ok(rules) => {
                let what = match wish {
                    Wish::Guard(_) => "held back until a flow is trusted",
                    Wish::Plain => "left to the firewall",
                };
                log::info!("flow offload is {what}: {rules} rules changed");
                true
            }
            Err(error) => {
                if !failed_before {
                    log::warn!("{error}");
                }
                false
            }
        }
    }
}

impl Guard {
    /// Starts to listen in the calling thread's namespace; nothing is wished yet.
    #[must_use]
    pub fn start() -> Self {
        let shared = Arc::new(Mutex::new(Shared { offload: Offload::default(), wish: None }));
        let mut guard = Self { shared, alive: None, thread: None };
        if let Err(error) = guard.listen() {
            // Then there is a look with every sweep.
            log::warn!("listen for changes of the firewall: {error}");
        }
        guard
    }

    fn listen(&mut self) -> io::Result<()> {
        let watch = Watch::open()?;
        let (ending, alive) = pipe2(OFlag::O_CLOEXEC)?;
        let shared = Arc::clone(&self.shared);
        let thread = std::thread::Builder::new().name(NAME.to_owned()).stack_size(STACK);
        self.thread = Some(thread.spawn(move || {
            // Refused in some containers; then it takes its turn like others.
            let _refused = set_nice(NICE);
            if let Err(error) = keep(&shared, watch, &ending) {
                log::warn!("listen for changes of the firewall: {error}");
            }
        })?);
        self.alive = Some(alive);
        Ok(())
    }

    /// Makes the rules as wished, now and from now on.
    pub fn set(&self, wish: Wish) {
        let mut shared = lock(&self.shared);
        shared.wish = Some(wish);
        shared.look();
    }

    /// Brings all flows back to the forward chain, where each has to be trusted to go again.
    pub fn empty(&self) {
        let mut shared = lock(&self.shared);
        let Some(wish @ Wish::Guard(_)) = shared.wish else { return };
        match shared.offload.empty(wish) {
            Ok(rules) => log::debug!("flowtables of {rules} rules emptied"),
            Err(error) => log::warn!("flows that are not trusted any more stay offloaded: {error}"),
        }
    }

    /// What is known.
    pub fn with<T>(&self, read: impl FnOnce(&Offload) -> T) -> T {
        read(&lock(&self.shared).offload)
    }

    /// Ends, and gives the firewall its own rules back.
    pub fn restore(self) -> Result<(), super::OffloadError> {
        let shared = Arc::clone(&self.shared);
        drop(self);
        lock(&shared).offload.look(Wish::Plain).map(drop)
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.alive = None;
        if let Some(thread) = self.thread.take() {
            // A panic there was reported when it happened.
            let _ended = thread.join();
        }
    }
}

/// A thread that panicked has not left anything half done: a look starts anew.
fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Looks after every change by others, until the other end of `ending` is closed.
fn keep(shared: &Mutex<Shared>, mut watch: Watch, ending: &OwnedFd) -> io::Result<()> {
    // The kernel names the thread.
    let own = [Some(std::process::id()), u32::try_from(gettid().as_raw()).ok()];
    let mut pause = PAUSE;
    let mut changed_at = None::<Instant>;
    loop {
        let mut fds = [
            PollFd::new(ending.as_fd(), PollFlags::POLLIN),
            PollFd::new(watch.as_fd(), PollFlags::POLLIN),
        ];
        wait(&mut fds, PollTimeout::NONE)?;
        if fds[0].any() != Some(false) {
            return Ok(());
        }
        match watch.heard()? {
            None => continue,
            Some(change) if !change.lost && own.contains(&change.pid) => continue,
            Some(_) => {}
        }
        if lock(shared).look() {
            let is_quarrel = changed_at.is_some_and(|at| at.elapsed() < QUARREL + pause);
            pause = if is_quarrel { (pause * 2).min(PAUSE_MAX) } else { PAUSE };
            changed_at = Some(Instant::now());
        }
        let mut ended = [PollFd::new(ending.as_fd(), PollFlags::POLLIN)];
        wait(&mut ended, PollTimeout::try_from(pause).unwrap_or(PollTimeout::MAX))?;
    }
}

fn wait(fds: &mut [PollFd<'_>], limit: PollTimeout) -> io::Result<()> {
    match poll(fds, limit) {
        Ok(_) | Err(Errno::EINTR) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

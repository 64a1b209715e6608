//! Signals as something to wait for.

use std::io;

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use smol::Async;

/// What the outside wants.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Wish {
    /// SIGTERM or SIGINT.
    Stop,
    /// SIGHUP.
    Reload,
}

/// Blocked for the process, read from a descriptor.
pub(super) struct Signals(Async<SignalFd>);

impl Signals {
    /// Blocks the signals in this thread and those that it starts.
    pub(super) fn take() -> io::Result<Self> {
        let mut set = SigSet::empty();
        for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
            set.add(signal);
        }
        set.thread_block()?;
        let fd = SignalFd::with_flags(&set, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?;
        Ok(Self(Async::new(fd)?))
    }

    /// Waits for the next wish.
    pub(super) async fn next(&self) -> io::Result<Wish> {
        loop {
            self.0.readable().await?;
            let Some(info) = self.0.get_ref().read_signal()? else { continue };
            let is_reload = info.ssi_signo == Signal::SIGHUP as u32;
            return Ok(if is_reload { Wish::Reload } else { Wish::Stop });
        }
    }
}

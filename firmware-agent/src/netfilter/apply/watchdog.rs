//! A process beside the agent that lets packets past the queue when the agent falls silent.
//!
//! Only where no fast path does that. It is the agent's own program, started anew, so that it goes on
//! where the agent stops. When the agent ends, it ends too: a queue without a listener is bypassed by
//! its rule.

use std::fs::File;
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use sluice_abi::settings::Settings;

use super::command::nonblocking;
use super::{ApplyError, Kind};
use crate::config::MarkMask;

/// The command that starts it.
pub const COMMAND: &str = "watchdog";
/// Silence after which packets pass: that of the fast path.
const SILENCE_MAX: Duration = Duration::from_nanos(Settings::SILENCE_NS as u64);

/// The process, while it runs.
#[derive(Debug)]
pub struct Watchdog {
    child: Child,
    stdin: Option<ChildStdin>,
}

impl Watchdog {
    /// Starts it.
    pub fn start(kind: Kind, marks: MarkMask) -> io::Result<Self> {
        let mut command = Command::new("/proc/self/exe");
        command.args([COMMAND, kind.name(), &marks.to_string()]);
        // What stops or ends the agent's group does not concern it.
        command.stdin(Stdio::piped()).stdout(Stdio::null()).process_group(0);
        let mut child = command.spawn()?;
        let stdin = child.stdin.take();
        let watchdog = Self { child, stdin };
        if let Some(stdin) = &watchdog.stdin {
            nonblocking(stdin.as_fd())?;
        }
        Ok(watchdog)
    }

    /// Says that the agent is alive.
    pub fn feed(&mut self) -> io::Result<()> {
        let Some(stdin) = &mut self.stdin else { return Err(ErrorKind::BrokenPipe.into()) };
        match stdin.write(b".") {
            // It has not read what was said before, and will.
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(()),
            other => other.map(drop),
        }
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        drop(self.stdin.take());
        // It may have ended by itself.
        let _ended = self.child.kill();
        let _status = self.child.wait();
    }
}

/// What the process does until its input ends.
pub fn watch(kind: Kind, marks: MarkMask, input: OwnedFd) -> io::Result<()> {
    let mut input = File::from(input);
    let mut is_aside = false;
    loop {
        let timeout = PollTimeout::try_from(SILENCE_MAX).unwrap_or(PollTimeout::MAX);
        let ready = poll(&mut [PollFd::new(input.as_fd(), PollFlags::POLLIN)], timeout);
        match ready {
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
            Ok(0) if is_aside => {}
            Ok(0) => match stand_aside(kind, marks) {
                // The agent puts its rules back when it is there again.
                Ok(()) => is_aside = true,
                Err(error) => log::error!("let packets pass without the agent: {error}"),
            },
            Ok(_) => {
                is_aside = false;
                if input.read(&mut [0; 64])? == 0 {
                    return Ok(());
                }
            }
        }
    }
}

fn stand_aside(kind: Kind, marks: MarkMask) -> Result<(), ApplyError> {
    match kind {
        Kind::Nft => super::nft::stand_aside(),
        Kind::Iptables => super::iptables::stand_aside(marks),
    }
}

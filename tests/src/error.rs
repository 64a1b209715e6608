//! What goes wrong while a test world is built or used.

use std::fmt;
use std::io;
use std::time::Duration;

/// Result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// Why the world is not as it should be.
///
/// Shown in full by `Debug` too, because that is what a test that unwraps prints.
#[derive(thiserror::Error)]
pub enum Error {
    /// A system call failed.
    #[error("{what}: {source}")]
    Io {
        /// What was attempted.
        what: String,
        /// The system's answer.
        source: io::Error,
    },
    /// A program said no.
    #[error("`{command}` ended with {status}\n{output}")]
    Command {
        /// The command line.
        command: String,
        /// Exit status or signal.
        status: String,
        /// What it printed, both streams.
        output: String,
    },
    /// A program is not there.
    #[error("{program} is not installed; on Debian: apt-get install {package}")]
    Missing {
        /// The program.
        program: String,
        /// The Debian package that has it.
        package: &'static str,
    },
    /// Something did not happen in time.
    #[error("waited {} s in vain until {what}", .waited.as_secs_f32())]
    Timeout {
        /// The condition, in words.
        what: String,
        /// How long.
        waited: Duration,
    },
    /// A program ended that should have stayed.
    #[error("{name} ended ({status}) although it should run; it said:\n{log}")]
    Ended {
        /// The program.
        name: String,
        /// Exit status or signal.
        status: String,
        /// What it printed.
        log: String,
    },
    /// An answer that cannot be used.
    #[error("{0}")]
    Unusable(String),
    /// The user pressed Ctrl-C.
    #[error("interrupted")]
    Interrupted,
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Says what was attempted when a system call fails.
pub trait Attempt<T> {
    /// Wraps the error.
    fn attempt(self, what: impl FnOnce() -> String) -> Result<T>;
}

impl<T, E: Into<io::Error>> Attempt<T> for std::result::Result<T, E> {
    fn attempt(self, what: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|source| Error::Io { what: what(), source: source.into() })
    }
}

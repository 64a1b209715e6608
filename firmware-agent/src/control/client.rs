//! The side of the socket that asks.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::de::DeserializeOwned;

use super::{REPLY_MAX, Reply, Request};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// Nobody listens.
    #[error("no agent answers at {path}: start it with `sluice run`")]
    NotRunning {
        /// The socket.
        path: PathBuf,
    },
    /// The socket is not ours to open.
    #[error("not allowed to open {path}: only root and members of group sluice may")]
    Denied {
        /// The socket.
        path: PathBuf,
    },
    /// The conversation broke.
    #[error("talk to the agent at {path}")]
    Broken {
        /// The socket.
        path: PathBuf,
        /// What broke.
        #[source]
        source: io::Error,
    },
    /// The agent said no.
    #[error("{0}")]
    Refused(String),
    /// The agent does not answer that to us.
    #[error("{0}")]
    Forbidden(String),
}

/// Asks the agent behind `socket`.
pub fn ask<T: DeserializeOwned>(socket: &Path, request: &Request) -> Result<T, AskError> {
    let broken = |source| AskError::Broken { path: socket.to_owned(), source };
    let stream = UnixStream::connect(socket).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
            AskError::NotRunning { path: socket.to_owned() }
        }
        io::ErrorKind::PermissionDenied => AskError::Denied { path: socket.to_owned() },
        _ => broken(error),
    })?;
    let reply = converse(stream, request).map_err(broken)?;
    match reply {
        Reply::Ok(value) => serde_json::from_value(value).map_err(|error| broken(error.into())),
        Reply::Error(why) => Err(AskError::Refused(why)),
        Reply::Denied(why) => Err(AskError::Forbidden(why)),
    }
}

fn converse(mut stream: UnixStream, request: &Request) -> io::Result<Reply> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut line = serde_json::to_vec(request)?;
    line.push(b'\n');
    stream.write_all(&line)?;
    let mut reply = Vec::new();
    BufReader::new(stream.take(REPLY_MAX as u64)).read_until(b'\n', &mut reply)?;
    Ok(serde_json::from_slice(&reply)?)
}

//! The side of the socket that asks.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::de::DeserializeOwned;

use super::{REPLY_MAX, Reply, Request, json};

/// How long an answer may take: a change reads lists, and a slow router runs `nft` for seconds.
const PATIENCE: Duration = Duration::from_secs(20);

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
    /// The agent is there and does not answer: stopped, or busy for that long.
    #[error("the agent at {path} did not answer within {} s", .patience.as_secs())]
    Silent {
        /// The socket.
        path: PathBuf,
        /// How long it was waited for.
        patience: Duration,
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
    ask_within(PATIENCE, socket, request)
}

fn ask_within<T: DeserializeOwned>(
    patience: Duration,
    socket: &Path,
    request: &Request,
) -> Result<T, AskError> {
    let broken = |source: io::Error| match source.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
            AskError::Silent { path: socket.to_owned(), patience }
        }
        _ => AskError::Broken { path: socket.to_owned(), source },
    };
    let stream = UnixStream::connect(socket).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
            AskError::NotRunning { path: socket.to_owned() }
        }
        io::ErrorKind::PermissionDenied => AskError::Denied { path: socket.to_owned() },
        _ => broken(error),
    })?;
    let reply = converse(stream, request, patience).map_err(broken)?;
    match reply {
        Reply::Ok(value) => json::read(&value).map_err(|error| broken(error.into())),
        Reply::Error(why) => Err(AskError::Refused(why)),
        Reply::Denied(why) => Err(AskError::Forbidden(why)),
    }
}

fn converse(mut stream: UnixStream, request: &Request, patience: Duration) -> io::Result<Reply> {
    stream.set_read_timeout(Some(patience))?;
    stream.set_write_timeout(Some(patience))?;
    let mut line = serde_json::to_vec(request)?;
    line.push(b'\n');
    stream.write_all(&line)?;
    let mut reply = Vec::new();
    BufReader::new(stream.take(REPLY_MAX as u64)).read_until(b'\n', &mut reply)?;
    Ok(serde_json::from_slice(&reply)?)
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;
    use crate::directory::Dir;

    #[test]
    fn who_does_not_answer_is_named_with_the_time() {
        let dir = Dir::absent("silent");
        std::fs::create_dir_all(&dir.0).unwrap();
        let socket = dir.0.join("control.sock");
        let _listener = UnixListener::bind(&socket).unwrap();
        let patience = Duration::from_secs(1);
        let silent = ask_within::<()>(patience, &socket, &Request::Status {}).unwrap_err();
        let expected = format!("the agent at {} did not answer within 1 s", socket.display());
        assert_eq!(silent.to_string(), expected);
    }
}

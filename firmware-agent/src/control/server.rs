//! The side of the socket that answers.

use std::cell::Cell;
use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt, chown};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use nix::sys::socket::{getsockopt, sockopt};
use smol::io::{AsyncReadExt as _, AsyncWriteExt as _};
use smol::{Async, LocalExecutor, Timer, future};

use super::{REPLY_MAX, REQUEST_MAX, Reply, Request, socket_path};

/// Clients served at a time; the next one is closed at once.
const CLIENTS_MAX: usize = 8;
/// How long a client may take to ask, and to take its answer.
const PATIENCE: Duration = Duration::from_secs(2);
/// Members may read reports.
const GROUP: &str = "sluice";

/// Answers requests.
pub trait Methods {
    /// The answer, or why there is none.
    fn call(&self, request: Request) -> Result<serde_json::Value, String>;
}

/// Why the socket cannot be offered.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// Another agent answers there.
    #[error("another agent runs already: it answers at {path}")]
    Running {
        /// The socket.
        path: PathBuf,
    },
    /// The file system refused.
    #[error("{what} {path}")]
    File {
        /// What was attempted.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
}

/// The socket; it disappears with this value.
#[derive(Debug)]
pub struct Server {
    listener: Async<UnixListener>,
    path: PathBuf,
}

impl Server {
    /// Offers the socket in `run_dir`, which is made when it is missing: directory 0750, socket 0660,
    /// both `root:sluice` where that group exists.
    ///
    /// A socket that nobody answers is replaced; one that somebody answers means that another agent
    /// runs, and is left alone.
    pub fn open(run_dir: &Path) -> Result<Self, ServeError> {
        let path = socket_path(run_dir);
        let file = |what, path: &Path| {
            let path = path.to_owned();
            move |source| ServeError::File { what, path, source }
        };
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o750)
            .create(run_dir)
            .map_err(file("create directory", run_dir))?;
        let restrict = |path: &Path, mode| -> io::Result<()> {
            std::fs::set_permissions(path, PermissionsExt::from_mode(mode))?;
            if let Ok(Some(group)) = nix::unistd::Group::from_name(GROUP) {
                chown(path, None, Some(group.gid.as_raw()))?;
            }
            Ok(())
        };
        restrict(run_dir, 0o750).map_err(file("restrict directory", run_dir))?;
        match UnixStream::connect(&path) {
            Ok(_) => return Err(ServeError::Running { path }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(_) => std::fs::remove_file(&path).map_err(file("replace stale socket", &path))?,
        }
        let listener = Async::<UnixListener>::bind(&path).map_err(file("listen at", &path))?;
        restrict(&path, 0o660).map_err(file("restrict socket", &path))?;
        Ok(Self { listener, path })
    }

    /// Answers until the task is dropped. A client never makes another one wait.
    pub async fn serve(
        &self,
        executor: &LocalExecutor<'static>,
        methods: Rc<dyn Methods>,
    ) -> io::Error {
        let clients = Rc::new(Cell::new(0));
        loop {
            let stream = match self.listener.accept().await {
                Ok((stream, _)) => stream,
                // The client went away between asking and being taken, or descriptors are short.
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => continue,
                Err(error) => return error,
            };
            if clients.get() >= CLIENTS_MAX {
                continue;
            }
            let place = Place::take(Rc::clone(&clients));
            let methods = Rc::clone(&methods);
            executor
                .spawn(async move {
                    let _place = place;
                    let late = async {
                        Timer::after(PATIENCE).await;
                        Err(io::ErrorKind::TimedOut.into())
                    };
                    if let Err(error) = future::or(answer(stream, &*methods), late).await {
                        log::debug!("control client: {error}");
                    }
                })
                .detach();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// A client's place among those served.
struct Place(Rc<Cell<usize>>);

impl Place {
    fn take(clients: Rc<Cell<usize>>) -> Self {
        clients.set(clients.get() + 1);
        Self(clients)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

async fn answer(mut stream: Async<UnixStream>, methods: &dyn Methods) -> io::Result<()> {
    let peer = getsockopt(&stream.as_fd(), sockopt::PeerCredentials)?;
    let mut line = Vec::new();
    let mut chunk = [0; 512];
    while !line.contains(&b'\n') && line.len() <= REQUEST_MAX {
        match stream.read(&mut chunk).await? {
            0 => break,
            n => line.extend_from_slice(&chunk[..n]),
        }
    }
    let reply = if line.len() > REQUEST_MAX {
        Reply::Error(format!("the request is longer than {REQUEST_MAX} bytes"))
    } else {
        match serde_json::from_slice::<Request>(&line) {
            Err(error) => Reply::Error(format!("not a request: {error}")),
            Ok(request) if request.is_write() && peer.uid() != 0 => {
                Reply::Error("only root may change something".to_owned())
            }
            Ok(request) => match methods.call(request) {
                Ok(value) => Reply::Ok(value),
                Err(why) => Reply::Error(why),
            },
        }
    };
    let mut bytes = serde_json::to_vec(&reply)?;
    if bytes.len() >= REPLY_MAX {
        bytes = serde_json::to_vec(&Reply::Error("the answer is too long".to_owned()))?;
    }
    bytes.push(b'\n');
    stream.write_all(&bytes).await
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};

    use super::*;
    use crate::control::client::{AskError, ask};

    struct Echo;
    impl Methods for Echo {
        fn call(&self, request: Request) -> Result<serde_json::Value, String> {
            match request {
                Request::Why { subject } => Ok(subject.into()),
                _ => Err("not that".to_owned()),
            }
        }
    }

    struct Dir(PathBuf);
    impl Dir {
        fn new(name: &str) -> Self {
            let dir = std::env::temp_dir().join(format!("sluice-{name}-{}", std::process::id()));
            let _ = std::fs::remove_dir_all(&dir);
            Self(dir)
        }
    }
    impl Drop for Dir {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    /// Serves while `client` runs in a thread of its own.
    fn with_server<T: Send + 'static>(
        name: &str,
        client: impl FnOnce(PathBuf) -> T + Send + 'static,
    ) -> T {
        let dir = Dir::new(name);
        let server = Server::open(&dir.0).unwrap();
        let socket = socket_path(&dir.0);
        let executor = LocalExecutor::new();
        let client = smol::unblock(move || client(socket));
        future::block_on(executor.run(async {
            future::or(async { Some(client.await) }, async {
                server.serve(&executor, Rc::new(Echo)).await;
                None
            })
            .await
        }))
        .unwrap()
    }

    #[test]
    fn answers_and_refuses() {
        with_server("answers", |socket| {
            let answer: String = ask(&socket, &Request::Why { subject: "x".to_owned() }).unwrap();
            assert_eq!(answer, "x");
            let refusal = ask::<()>(&socket, &Request::Flows {}).unwrap_err();
            assert_eq!(refusal.to_string(), "not that");
        });
    }

    fn raw(socket: &Path, request: &[u8]) -> String {
        let mut stream = UnixStream::connect(socket).unwrap();
        let _ = stream.write_all(request);
        let mut reply = String::new();
        let _ = stream.read_to_string(&mut reply);
        reply
    }

    #[test]
    fn a_request_that_is_too_long_or_no_request_is_refused_with_the_reason() {
        with_server("hostile", |socket| {
            assert!(raw(&socket, &[b'x'; REQUEST_MAX + 512]).contains("longer than 4096 bytes"));
            assert!(raw(&socket, b"{\"method\":\"explode\"}\n").contains("unknown variant"));
            assert!(
                raw(&socket, b"{\"method\":\"status\",\"load\":\"x.o\"}\n")
                    .contains("not a request")
            );
            assert!(raw(&socket, b"\xff\xfe\n").contains("not a request"));
        });
    }

    #[test]
    fn silent_clients_are_closed_and_do_not_keep_others_out_for_long() {
        with_server("silent", |socket| {
            let silent: Vec<_> =
                (0..CLIENTS_MAX).map(|_| UnixStream::connect(&socket).unwrap()).collect();
            let refused = raw(&socket, b"{\"method\":\"why\",\"subject\":\"a\"}\n");
            assert_eq!(refused, "", "the ninth client is closed at once");
            for mut stream in silent {
                let mut rest = Vec::new();
                assert_eq!(stream.read_to_end(&mut rest).unwrap(), 0, "closed by the server");
            }
            let answer: String = ask(&socket, &Request::Why { subject: "b".to_owned() }).unwrap();
            assert_eq!(answer, "b");
        });
    }

    #[test]
    fn directory_and_socket_are_closed_to_others() {
        let dir = Dir::new("modes");
        let _server = Server::open(&dir.0).unwrap();
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&dir.0), mode(&socket_path(&dir.0))), (0o750, 0o660));
    }

    #[test]
    fn a_second_agent_is_refused_and_a_stale_socket_replaced() {
        let dir = Dir::new("second");
        let first = Server::open(&dir.0).unwrap();
        assert!(matches!(Server::open(&dir.0), Err(ServeError::Running { .. })));
        drop(first);
        assert!(matches!(
            ask::<()>(&socket_path(&dir.0), &Request::Flows {}),
            Err(AskError::NotRunning { .. })
        ));
        // A socket file whose owner died.
        drop(UnixListener::bind(socket_path(&dir.0)).unwrap());
        Server::open(&dir.0).unwrap();
    }
}

//! The side of the socket that answers.
//!
//! Who may ask is decided twice: first by the modes of directory and socket, then by what the kernel
//! noted about the peer when it connected. Reading is for root, for the user that the agent runs as
//! and for members of group `sluice`; changing something is for root.

use std::io;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use nix::unistd::{Gid, geteuid};
use smol::io::{AsyncReadExt as _, AsyncWriteExt as _};
use smol::{Async, LocalExecutor};

use super::clients::{self, Terms};
pub use super::socket::ServeError;
use super::socket::{GROUP, Socket};
use super::{Answer, REPLY_MAX, REQUEST_MAX, Reply, Request};
use crate::sys::peer::Peer;

/// How clients are served.
const TERMS: Terms = Terms { name: "control client", max: 8, patience: Duration::from_secs(2) };

/// Answers requests.
pub trait Methods {
    /// The answer, or why there is none.
    fn call(&self, request: Request) -> Result<Answer, String>;
}

/// The socket and who answers there; it disappears with this value.
#[derive(Debug)]
pub struct Server {
    socket: Socket,
}

impl Server {
    /// Offers the socket in `run_dir`; see [`Socket::open`].
    pub fn open(run_dir: &Path) -> Result<Self, ServeError> {
        Ok(Self { socket: Socket::open(run_dir)? })
    }

    /// Like [`Server::open`], with another group whose members may read.
    pub fn open_for(run_dir: &Path, group: Option<Gid>) -> Result<Self, ServeError> {
        Ok(Self { socket: Socket::open_for(run_dir, group)? })
    }

    /// Answers until the task is dropped. A client never makes another one wait.
    pub async fn serve(
        &self,
        executor: &LocalExecutor<'static>,
        methods: Rc<dyn Methods>,
    ) -> io::Error {
        let group = self.socket.group;
        let accept = async || Ok(self.socket.listener.accept().await?.0);
        let answer = |stream| {
            let methods = Rc::clone(&methods);
            async move { answer(stream, &*methods, group).await }
        };
        clients::serve(TERMS, executor, accept, answer).await
    }
}

/// Whether reports are for `peer`.
fn may_read(peer: &Peer, us: u32, group: Option<Gid>) -> bool {
    let is_member =
        |group: Gid| peer.gid == group.as_raw() || peer.groups.contains(&group.as_raw());
    peer.uid == 0 || peer.uid == us || group.is_some_and(is_member)
}

async fn answer(
    mut stream: Async<UnixStream>,
    methods: &dyn Methods,
    group: Option<Gid>,
) -> io::Result<()> {
    let peer = Peer::of(&stream)?;
    let mut line = Vec::new();
    let mut chunk = [0; 512];
    while !line.contains(&b'\n') && line.len() <= REQUEST_MAX {
        match stream.read(&mut chunk).await? {
            0 => break,
            n => line.extend_from_slice(&chunk[..n]),
        }
    }
    let answer = if !may_read(&peer, geteuid().as_raw(), group) {
        Err(Reply::Denied(format!("only root and members of group {GROUP} may ask")))
    } else if line.len() > REQUEST_MAX {
        Err(Reply::Error(format!("the request is longer than {REQUEST_MAX} bytes")))
    } else {
        match serde_json::from_slice(&line).and_then(Request::read) {
            Err(error) => Err(Reply::Error(format!("not a request: {error}"))),
            Ok(request) if request.is_write() && peer.uid != 0 => {
                Err(Reply::Denied("only root may change something".to_owned()))
            }
            Ok(request) => methods.call(request).map_err(Reply::Error),
        }
    };
    let mut text = match answer {
        Ok(answer) => answer.reply(),
        Err(reply) => serde_json::to_string(&reply)?,
    };
    if text.len() >= REPLY_MAX {
        text = serde_json::to_string(&Reply::Error("the answer is too long".to_owned()))?;
    }
    text.push('\n');
    stream.write_all(text.as_bytes()).await
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};

    use std::path::PathBuf;

    use smol::future;

    use super::*;
    use crate::control::client::ask;
    use crate::control::socket_path;
    use crate::directory::Dir;

    struct Echo;
    impl Methods for Echo {
        fn call(&self, request: Request) -> Result<Answer, String> {
            match request {
                Request::Why { subject } => Answer::new(&subject),
                _ => Err("not that".to_owned()),
            }
        }
    }

    /// Serves while `client` runs in a thread of its own.
    fn with_server<T: Send + 'static>(
        name: &str,
        client: impl FnOnce(PathBuf) -> T + Send + 'static,
    ) -> T {
        let dir = Dir::absent(name);
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
                (0..TERMS.max).map(|_| UnixStream::connect(&socket).unwrap()).collect();
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
    fn reports_are_for_root_for_the_agents_user_and_for_the_group() {
        let peer = |uid, gid, groups: &[u32]| Peer { uid, gid, groups: groups.to_vec() };
        let (us, group) = (500, Some(Gid::from_raw(42)));
        for (peer, group, may) in [
            (peer(0, 0, &[]), None, true),
            (peer(us, 9, &[]), None, true),
            (peer(7, 42, &[]), group, true),
            (peer(7, 9, &[8, 42]), group, true),
            (peer(7, 9, &[8, 43]), group, false),
            (peer(7, 42, &[42]), None, false),
            (peer(42, 0, &[0]), group, false),
        ] {
            assert_eq!(may_read(&peer, us, group), may, "{peer:?} {group:?}");
        }
    }
}

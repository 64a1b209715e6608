//! The socket's place: a directory that is closed to others and belongs to one agent at a time.

use std::fs;
use std::io;
use std::os::unix::fs::{
    DirBuilderExt as _, FileTypeExt as _, MetadataExt as _, PermissionsExt as _, chown,
};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, socket};
use nix::unistd::{Gid, Group, geteuid};
use smol::Async;

use super::socket_path;

/// Members may read reports.
pub(super) const GROUP: &str = "sluice";

/// Why the socket cannot be offered.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// Another agent answers there.
    #[error("another agent runs already: it answers at {path}")]
    Running {
        /// The socket.
        path: PathBuf,
    },
    /// Something of somebody else's is in the socket's place.
    #[error("{path} is in the way: it is not a socket; remove it or choose another run_dir")]
    NotASocket {
        /// The socket's place.
        path: PathBuf,
    },
    /// The directory is not ours to close to others.
    #[error("{path} cannot be the directory of the control socket: {reason}; choose another")]
    Directory {
        /// The directory.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
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
pub(super) struct Socket {
    pub(super) listener: Async<UnixListener>,
    path: PathBuf,
    /// Device and inode, by which the socket is known again.
    identity: (u64, u64),
    /// Members may read reports.
    pub(super) group: Option<Gid>,
    /// Keeps the directory ours while two agents start at the same instant; a stale socket would be
    /// replaced by both. The kernel gives it back when the process ends, however it ends.
    _lock: Flock<fs::File>,
}

impl Socket {
    /// Offers the socket in `run_dir`, which is made when it is missing: directory 0750, socket 0660,
    /// both `root:sluice` where that group exists.
    ///
    /// A socket that nobody answers is replaced; one that somebody answers means that another agent
    /// runs, and is left alone. Anything else in its place is left alone, too.
    pub(super) fn open(run_dir: &Path) -> Result<Self, ServeError> {
        let group = Group::from_name(GROUP).ok().flatten().map(|group| group.gid);
        Self::open_for(run_dir, group)
    }

    /// Like [`Socket::open`], with another group whose members may read.
    pub(super) fn open_for(run_dir: &Path, group: Option<Gid>) -> Result<Self, ServeError> {
        let path = socket_path(run_dir);
        claim(run_dir)?;
        let restrict = |path: &Path, mode| -> io::Result<()> {
            // The group first: until then the mode is for the group of whoever started us.
            if let Some(group) = group {
                chown(path, None, Some(group.as_raw()))?;
            }
            fs::set_permissions(path, fs::Permissions::from_mode(mode))
        };
        restrict(run_dir, 0o750).map_err(failed("restrict directory", run_dir))?;
        let lock = lock(run_dir)?;
        make_room(&path)?;
        let listener = Async::<UnixListener>::bind(&path).map_err(failed("listen at", &path))?;
        let identity = identity(&path).map_err(failed("look at", &path))?;
        let socket = Self { listener, path, identity, group, _lock: lock };
        let path = &socket.path;
        restrict(path, 0o660).map_err(failed("restrict socket", path))?;
        Ok(socket)
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        // Another agent's, when somebody removed ours and started that one.
        if identity(&self.path).is_ok_and(|now| now == self.identity) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn failed<'a>(what: &'static str, path: &'a Path) -> impl Fn(io::Error) -> ServeError + 'a {
    move |source| ServeError::File { what, path: path.to_owned(), source }
}

/// Makes `dir` unless it is there. One that is there is about to be closed to others, so it must not
/// be one that others use.
fn claim(dir: &Path) -> Result<(), ServeError> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o750)
        .create(dir)
        .map_err(failed("create directory", dir))?;
    let refuse = |reason: String| ServeError::Directory { path: dir.to_owned(), reason };
    // Not following links: one of somebody else's making would lead us elsewhere.
    let metadata = fs::symlink_metadata(dir).map_err(failed("look at", dir))?;
    if !metadata.is_dir() {
        return Err(refuse("it is a link".to_owned()));
    }
    let us = geteuid().as_raw();
    if metadata.uid() != us {
        return Err(refuse(format!("it belongs to user {}, not to {us}", metadata.uid())));
    }
    if metadata.mode() & 0o007 != 0 {
        for entry in fs::read_dir(dir).map_err(failed("list", dir))? {
            let entry = entry.map_err(failed("list", dir))?;
            if entry.path() != socket_path(dir) {
                let name = entry.file_name();
                let name = name.display();
                return Err(refuse(format!("others may use it, and it holds {name}")));
            }
        }
    }
    Ok(())
}

/// Takes the directory for this process.
fn lock(dir: &Path) -> Result<Flock<fs::File>, ServeError> {
    let open = fs::File::open(dir).map_err(failed("open directory", dir))?;
    Flock::lock(open, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| match errno {
        Errno::EWOULDBLOCK => ServeError::Running { path: socket_path(dir) },
        errno => failed("lock directory", dir)(errno.into()),
    })
}

/// Removes a socket that nobody listens to any more, and nothing else.
fn make_room(path: &Path) -> Result<(), ServeError> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed("look at", path)(error)),
        Ok(metadata) if !metadata.file_type().is_socket() => {
            return Err(ServeError::NotASocket { path: path.to_owned() });
        }
        Ok(_) => {}
    }
    match knock(path) {
        // A full backlog is an agent that is busy.
        Ok(()) | Err(Errno::EAGAIN) => Err(ServeError::Running { path: path.to_owned() }),
        Err(Errno::ECONNREFUSED) => {
            fs::remove_file(path).map_err(failed("replace stale socket", path))
        }
        Err(Errno::ENOENT) => Ok(()),
        Err(errno) => Err(failed("find out who answers at", path)(errno.into())),
    }
}

/// Connects without waiting for a place in the backlog.
fn knock(path: &Path) -> Result<(), Errno> {
    use std::os::fd::AsRawFd as _;
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let socket = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
    connect(socket.as_raw_fd(), &UnixAddr::new(path)?)
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    fs::symlink_metadata(path).map(|metadata| (metadata.dev(), metadata.ino()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::directory::Dir;

    #[test]
    fn directory_and_socket_are_closed_to_others() {
        let dir = Dir::absent("modes");
        let _socket = Socket::open(&dir.0).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&dir.0), mode(&socket_path(&dir.0))), (0o750, 0o660));
    }

    #[test]
    fn a_second_agent_is_refused_and_a_stale_socket_replaced() {
        let dir = Dir::absent("second");
        let first = Socket::open(&dir.0).unwrap();
        assert!(matches!(Socket::open(&dir.0), Err(ServeError::Running { .. })));
        drop(first);
        assert!(!socket_path(&dir.0).exists());
        // A socket file whose owner died.
        drop(UnixListener::bind(socket_path(&dir.0)).unwrap());
        Socket::open(&dir.0).unwrap();
    }

    #[test]
    fn of_agents_that_find_a_stale_socket_at_the_same_instant_one_takes_its_place() {
        let dir = Dir::absent("rivals");
        drop(Socket::open(&dir.0).unwrap());
        for round in 0..200 {
            drop(UnixListener::bind(socket_path(&dir.0)).unwrap());
            let barrier = std::sync::Barrier::new(4);
            let winners: Vec<Socket> = std::thread::scope(|scope| {
                let rival = || {
                    barrier.wait();
                    Socket::open(&dir.0).ok()
                };
                let rivals: Vec<_> = (0..4).map(|_| scope.spawn(rival)).collect();
                rivals.into_iter().filter_map(|rival| rival.join().unwrap()).collect()
            });
            assert_eq!(winners.len(), 1, "round {round}");
        }
    }

    #[test]
    fn what_is_not_a_stale_socket_is_left_where_it_is() {
        let dir = Dir::absent("foreign");
        let path = socket_path(&dir.0);
        fs::create_dir(&dir.0).unwrap();
        fs::write(&path, "notes").unwrap();
        let refused = Socket::open(&dir.0).unwrap_err();
        assert!(matches!(refused, ServeError::NotASocket { .. }), "{refused}");
        assert_eq!(fs::read_to_string(&path).unwrap(), "notes");
        fs::remove_file(&path).unwrap();

        let elsewhere = dir.0.join("elsewhere");
        drop(UnixListener::bind(&elsewhere).unwrap());
        std::os::unix::fs::symlink(&elsewhere, &path).unwrap();
        assert!(matches!(Socket::open(&dir.0), Err(ServeError::NotASocket { .. })));
        assert!(elsewhere.exists() && path.exists());
        fs::remove_file(&path).unwrap();

        // Somebody listens there, but not for streams: the refusal is not "nobody listens".
        let _datagrams = std::os::unix::net::UnixDatagram::bind(&path).unwrap();
        assert!(matches!(Socket::open(&dir.0), Err(ServeError::File { .. })));
        assert!(path.exists());
    }

    #[test]
    fn an_agent_that_is_too_busy_to_take_clients_still_runs() {
        let dir = Dir::absent("busy");
        let _socket = Socket::open(&dir.0).unwrap();
        // The server accepts nobody: fill its backlog.
        let mut waiting = Vec::new();
        let full = loop {
            let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
            let fd = socket(AddressFamily::Unix, SockType::Stream, flags, None).unwrap();
            let address = UnixAddr::new(&socket_path(&dir.0)).unwrap();
            match connect(std::os::fd::AsRawFd::as_raw_fd(&fd), &address) {
                Ok(()) => waiting.push(fd),
                Err(errno) => break errno,
            }
        };
        assert_eq!(full, Errno::EAGAIN, "after {}", waiting.len());
        // Past the lock, which would refuse before anybody knocks.
        assert!(matches!(make_room(&socket_path(&dir.0)), Err(ServeError::Running { .. })));
        assert!(matches!(Socket::open(&dir.0), Err(ServeError::Running { .. })));
    }

    #[test]
    fn an_agent_that_ends_leaves_the_socket_of_its_successor() {
        let dir = Dir::absent("successor");
        let first = Socket::open(&dir.0).unwrap();
        fs::remove_file(socket_path(&dir.0)).unwrap();
        let second = Socket::open(&dir.0);
        assert!(matches!(second, Err(ServeError::Running { .. })), "the directory is still taken");
        fs::remove_dir(&dir.0).unwrap();
        let second = Socket::open(&dir.0).unwrap();
        drop(first);
        assert!(socket_path(&dir.0).exists());
        drop(second);
        assert!(!socket_path(&dir.0).exists());
    }

    #[test]
    fn a_directory_that_others_use_is_not_taken_from_them() {
        let dir = Dir::absent("shared");
        fs::create_dir(&dir.0).unwrap();
        fs::set_permissions(&dir.0, fs::Permissions::from_mode(0o755)).unwrap();
        fs::write(dir.0.join("other.pid"), "1").unwrap();
        let refused = Socket::open(&dir.0).unwrap_err().to_string();
        assert!(refused.contains("it holds other.pid"), "{refused}");
        assert_eq!(fs::metadata(&dir.0).unwrap().mode() & 0o777, 0o755);
        fs::remove_file(dir.0.join("other.pid")).unwrap();
        Socket::open(&dir.0).unwrap();

        let link = Dir::absent("link");
        std::os::unix::fs::symlink(&dir.0, &link.0).unwrap();
        let refused = Socket::open(&link.0).unwrap_err().to_string();
        fs::remove_file(&link.0).unwrap();
        assert!(refused.contains("it is a link"), "{refused}");
    }
}

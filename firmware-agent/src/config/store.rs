//! Brings another text into a UCI file as `uci commit` does: under the lock of the file, through a
//! file beside it, so that a reader or a power cut finds the old or the new text and never a part.
//!
//! What others have set and not committed lies in files of its own, which nothing here touches: who
//! commits it reads the file again. Numbers of anonymous sections stand in there, so no section may
//! go away meanwhile; [`pending`] says whether that is so.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use super::uci::FILE_MAX;

/// How long somebody else may hold the lock.
const PATIENCE: Duration = Duration::from_secs(1);
/// Time between two tries, in milliseconds.
const PAUSE_MS: u16 = 10;
/// Where `uci` keeps what is set and not committed.
const DELTAS: &str = "/tmp/.uci";
/// Where rpcd keeps the same of its sessions, each in a directory `uci-…`.
const SESSIONS: &str = "/var/run/rpcd";

/// Why a file stays as it is.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// It cannot be read or replaced.
    #[error("{}: {source}", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Somebody else is at it.
    #[error("{}: another program holds the lock", .0.display())]
    Locked(PathBuf),
    /// What was asked for cannot be.
    #[error("{0}")]
    Refused(String),
}

/// Replaces the text of `path` by what `change` makes of it, and returns the text of before; without
/// a difference nothing is written, and `None` returned.
pub fn change(
    path: &Path,
    change: impl FnOnce(&[u8]) -> Result<Vec<u8>, String>,
) -> Result<Option<Vec<u8>>, StoreError> {
    let mut change = Some(change);
    let mut once =
        |old: &[u8]| change.take().map_or_else(|| Ok(old.to_vec()), |change| change(old));
    change_by(path, &mut once)
}

/// Makes another text of one.
type Edit<'a> = &'a mut dyn FnMut(&[u8]) -> Result<Vec<u8>, String>;

/// Once in the program, whoever changes something.
fn change_by(path: &Path, change: Edit<'_>) -> Result<Option<Vec<u8>>, StoreError> {
    let io = |source| StoreError::Io { path: path.to_owned(), source };
    // A symbolic link stays one.
    let real = fs::canonicalize(path).map_err(io)?;
    let mut file = lock(&real)?;
    let meta = file.metadata().map_err(io)?;
    let mut old = Vec::new();
    (&mut *file).take(FILE_MAX as u64 + 1).read_to_end(&mut old).map_err(io)?;
    if old.len() > FILE_MAX {
        return Err(io(io::Error::other(format!("is larger than {FILE_MAX} bytes"))));
    }
    let new = change(&old).map_err(StoreError::Refused)?;
    if new == old {
        return Ok(None);
    }
    let name = real.file_name().unwrap_or_default().to_string_lossy();
    // One name is enough under the lock, and what a power cut leaves is replaced the next time.
    let beside = real.with_file_name(format!(".{name}.uci-sluice"));
    let written = replace(&beside, &real, &new, &meta);
    if written.is_err() {
        let _ = fs::remove_file(&beside);
    }
    written.map_err(io)?;
    Ok(Some(old))
}

/// Locks the file that has this path now.
fn lock(path: &Path) -> Result<Flock<File>, StoreError> {
    let io = |source| StoreError::Io { path: path.to_owned(), source };
    let start = Instant::now();
    loop {
        // As libuci opens it, so that nobody locks a file that he could not write.
        let file = OpenOptions::new().read(true).write(true).open(path).map_err(io)?;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(file) => {
                // While we waited it may have been replaced.
                let (ours, now) = (file.metadata().map_err(io)?, fs::metadata(path).map_err(io)?);
                if (ours.dev(), ours.ino()) == (now.dev(), now.ino()) {
                    return Ok(file);
                }
            }
            Err((_, Errno::EWOULDBLOCK)) => {}
            Err((_, errno)) => return Err(io(errno.into())),
        }
        if start.elapsed() >= PATIENCE {
            return Err(StoreError::Locked(path.to_owned()));
        }
        let _ = nix::poll::poll(&mut [], PAUSE_MS);
    }
}

fn replace(beside: &Path, path: &Path, text: &[u8], old: &fs::Metadata) -> io::Result<()> {
    match fs::remove_file(beside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(beside)?;
    file.write_all(text)?;
    let ours = file.metadata()?;
    if (ours.uid(), ours.gid()) != (old.uid(), old.gid()) {
        std::os::unix::fs::fchown(&file, Some(old.uid()), Some(old.gid()))?;
    }
    file.set_permissions(fs::Permissions::from_mode(old.mode() & 0o7777))?;
    // Before the name points to it, what it holds has to be there.
    file.sync_all()?;
    fs::rename(beside, path)?;
    sync_directory(path)
}

/// Before what happened to the name of a file is so after a power cut, its directory has to be there.
pub(super) fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path.parent().unwrap_or_else(|| Path::new("/")))?.sync_all()
}

/// Who has set something in the package and not committed it.
#[must_use]
pub fn pending(package: &str) -> Option<PathBuf> {
    pending_in(Path::new(DELTAS), Path::new(SESSIONS), package)
}

fn pending_in(deltas: &Path, sessions: &Path, package: &str) -> Option<PathBuf> {
    let entries = fs::read_dir(sessions).into_iter().flatten().flatten();
    let of_sessions = entries
        .filter(|entry| entry.file_name().to_string_lossy().starts_with("uci-"))
        .map(|entry| entry.path());
    let mut files = [deltas.to_owned()].into_iter().chain(of_sessions).map(|dir| dir.join(package));
    // An empty one is left behind by every commit.
    files.find(|file| fs::metadata(file).is_ok_and(|meta| meta.len() > 0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::directory::Dir;

    fn to(text: &str) -> impl FnOnce(&[u8]) -> Result<Vec<u8>, String> {
        let text = text.as_bytes().to_vec();
        move |_| Ok(text)
    }

    #[test]
    fn a_new_text_takes_the_place_mode_and_owner_of_the_old_one() {
        let dir = Dir::new("store");
        let path = dir.write("real/sluice", "old\n");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let is_root = nix::unistd::geteuid().is_root();
        if is_root {
            std::os::unix::fs::chown(&path, Some(12), Some(34)).unwrap();
        }
        let link = dir.0.join("sluice");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        // Left by a power cut.
        dir.write("real/.sluice.uci-sluice", "half");
        let before = fs::metadata(&path).unwrap();
        assert_eq!(change(&link, to("new\n")).unwrap(), Some(b"old\n".to_vec()));
        assert_eq!(fs::read(&path).unwrap(), b"new\n");
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        let after = fs::metadata(&path).unwrap();
        assert_eq!(after.mode() & 0o7777, 0o640);
        assert_eq!((after.uid(), after.gid()), (before.uid(), before.gid()));
        assert_ne!(after.ino(), before.ino(), "a file of its own, never the old one half written");
        assert_eq!(Dir(dir.0.join("real")).names(), ["sluice"]);
    }

    /// Flash wears: what is the same already is not written.
    #[test]
    fn without_a_difference_nothing_is_written() {
        let dir = Dir::new("store-same");
        let path = dir.write("sluice", "same\n");
        let before = fs::metadata(&path).unwrap();
        assert_eq!(change(&path, to("same\n")).unwrap(), None);
        let refused = change(&path, |_| Err("not that".to_owned())).unwrap_err();
        assert_eq!(refused.to_string(), "not that");
        let after = fs::metadata(&path).unwrap();
        assert_eq!((after.ino(), after.mtime_nsec()), (before.ino(), before.mtime_nsec()));
        assert_eq!(dir.names(), ["sluice"]);
    }

    #[test]
    fn somebody_elses_lock_is_respected_and_what_he_wrote_is_read() {
        let dir = Dir::new("store-lock");
        let path = dir.write("sluice", "1\n");
        let add = |text: &[u8]| Ok([text, b"2\n"].concat());
        let file = OpenOptions::new().write(true).open(&path).unwrap();
        let held = Flock::lock(file, FlockArg::LockExclusiveNonblock).unwrap();
        assert!(matches!(change(&path, add), Err(StoreError::Locked(_))));
        let other = {
            let (dir, path) = (dir.0.clone(), path.clone());
            std::thread::spawn(move || {
                // As `uci commit` does it: a new file while the old one is locked.
                fs::write(dir.join("other"), "theirs\n").unwrap();
                fs::rename(dir.join("other"), path).unwrap();
                drop(held);
            })
        };
        other.join().unwrap();
        change(&path, add).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"theirs\n2\n");
        assert!(change(&dir.0.join("none"), add).is_err());
    }

    /// Whenever it is read, the file has one text or the other.
    #[test]
    fn readers_find_one_whole_text_at_any_time() {
        let dir = Dir::new("store-whole");
        let texts = ["a".repeat(70_000), "b".repeat(50_000)];
        let path = dir.write("sluice", &texts[0]);
        let (stop, stopped) = std::sync::mpsc::channel::<()>();
        let reader = {
            let (path, texts) = (path.clone(), texts.clone());
            std::thread::spawn(move || {
                let mut reads = 0;
                while stopped.try_recv().is_err() {
                    let text = fs::read_to_string(&path).unwrap();
                    assert!(texts.contains(&text), "{} bytes", text.len());
                    reads += 1;
                }
                reads
            })
        };
        for round in 0..100 {
            change(&path, to(&texts[(round + 1) % 2])).unwrap();
        }
        stop.send(()).unwrap();
        assert!(reader.join().unwrap() > 0);
    }

    #[test]
    fn what_others_have_not_committed_is_found() {
        let dir = Dir::new("store-pending");
        let find = || pending_in(&dir.0.join("uci"), &dir.0.join("rpcd"), "sluice");
        assert_eq!(find(), None);
        dir.write("uci/sluice", "");
        dir.write("uci/network", "network.lan.x='1'\n");
        dir.write("rpcd/other/sluice", "x");
        assert_eq!(find(), None);
        let session = dir.write("rpcd/uci-0123/sluice", "sluice.cfg0292bd.x='1'\n");
        assert_eq!(find(), Some(session));
        let delta = dir.write("uci/sluice", "-sluice.x\n");
        assert_eq!(find(), Some(delta));
    }
}

//! Brings another text into a UCI file as `uci commit` does: under the lock of the file, through a
//! file beside it, so that a reader or a power cut finds the old or the new text and never a part.
//!
//! `uci commit` lets go of the lock before its new file has the name ([`lock`] waits for that), and who
//! waits for the lock reads the file that he opened before he had it ([`tell_waiting`], [`let_finish`]).
//!
//! What others have set and not committed lies in files of its own, which nothing here touches: who
//! commits it reads the file again. Numbers of anonymous sections stand in there, so no section may
//! go away meanwhile; [`pending`] says whether that is so.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use super::uci::FILE_MAX;
use crate::sys::clock::wall_clock;

/// How long somebody else may hold the lock.
const PATIENCE: Duration = Duration::from_secs(1);
/// Time between two tries, in milliseconds.
const PAUSE_MS: u16 = 10;
/// Where `uci` keeps what is set and not committed.
const DELTAS: &str = "/tmp/.uci";
/// Where rpcd keeps the same of its sessions, each in a directory `uci-…`.
const SESSIONS: &str = "/var/run/rpcd";

/// What a file of ours ends with, beside the one that it takes the place of.
const OURS: &str = "sluice";

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
    let beside = real.with_file_name(format!(".{name}.uci-{OURS}"));
    let written = replace(&beside, &real, &new, &meta);
    if written.is_err() {
        let _ = fs::remove_file(&beside);
    }
    written.map_err(io)?;
    if is_waited_for(meta.ino()) {
        // The file has its new text already, whatever comes of this.
        let _ = tell_waiting(&file, &new);
        let_finish(file, meta.ino());
    }
    Ok(Some(old))
}

/// Puts the new text into the file that has no name any more as well: who opened it before and waits
/// for its lock goes on from what stands there. Only with [`is_waited_for`], because who reads without
/// a lock could find a part.
fn tell_waiting(mut file: &File, text: &[u8]) -> io::Result<()> {
    file.seek(SeekFrom::Start(0))?;
    file.write_all(text)?;
    file.set_len(text.len() as u64)
}

/// Lets those who wait for a file without a name have its lock: it keeps nobody from the file that has
/// the name now, so nothing may be changed before they are through.
fn let_finish(file: Flock<File>, inode: u64) {
    let start = Instant::now();
    let mut unlocked = file.unlock().ok();
    while let Some(file) = unlocked.take()
        && start.elapsed() < PATIENCE
    {
        let _ = nix::poll::poll(&mut [], PAUSE_MS);
        unlocked = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(file) if is_waited_for(inode) => file.unlock().ok(),
            Ok(_) => None,
            Err((file, _)) => Some(file),
        };
    }
}

/// Whether somebody waits for our lock of the file with this number; `proc_locks(5)`: one who is
/// blocked follows, with the same first word, the one who blocks. Devices are not compared: on overlayfs the
/// list has another one than the file.
fn is_waited_for(inode: u64) -> bool {
    let locks = fs::read_to_string("/proc/locks").unwrap_or_default();
    waits_for(&locks, std::process::id(), inode)
}

fn waits_for(locks: &str, process: u32, inode: u64) -> bool {
    let (process, inode) = (process.to_string(), inode.to_string());
    let mut ours = None;
    locks.lines().any(|line| {
        let mut words = line.split_whitespace();
        let number = words.next();
        if words.next() == Some("->") {
            return number.is_some() && number == ours;
        }
        // Behind FLOCK ADVISORY WRITE: the process, and device and number of the file.
        let is_it = words.nth(2) == Some(&process)
            && words.next().is_some_and(|file| file.rsplit(':').next() == Some(&inode));
        if is_it {
            ours = number;
        }
        false
    })
}

/// Whether `uci commit` has let go of the lock of `path`, which is ours now, and not yet brought its
/// file, `.NAME.uci-` and six letters, to that name. One that is older was left by a power cut.
fn is_committed(path: &Path) -> bool {
    let mut start = OsString::from(".");
    start.push(path.file_name().unwrap_or_default());
    start.push(".uci-");
    let entries = path.parent().and_then(|parent| fs::read_dir(parent).ok());
    entries.into_iter().flatten().flatten().any(|entry| {
        let name = entry.file_name();
        name.as_bytes().strip_prefix(start.as_bytes()).is_some_and(|rest| rest != OURS.as_bytes())
            && entry.metadata().and_then(|meta| meta.modified()).is_ok_and(|written| {
                wall_clock().duration_since(written).is_ok_and(|age| age < PATIENCE)
            })
    })
}

/// Locks the file that has this path now, once nobody is about to give the path to another.
fn lock(path: &Path) -> Result<Flock<File>, StoreError> {
    let io = |source| StoreError::Io { path: path.to_owned(), source };
    let start = Instant::now();
    loop {
        // As libuci opens it, so that nobody locks a file that he could not write.
        let file = OpenOptions::new().read(true).write(true).open(path).map_err(io)?;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(file) => {
                // Before the comparison, or one that is there now could be brought to its name behind it.
                let is_committed = is_committed(path);
                // While we waited it may have been replaced.
                let (ours, now) = (file.metadata().map_err(io)?, fs::metadata(path).map_err(io)?);
                if !is_committed && (ours.dev(), ours.ino()) == (now.dev(), now.ino()) {
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

    /// `uci commit` unlocks the file and then gives its name to the new one.
    #[test]
    fn what_is_being_committed_is_waited_for_and_read() {
        let dir = Dir::new("store-commit");
        let path = dir.write("sluice", "1\n");
        let new = dir.write(".sluice.uci-aBc123", "1\n2\n");
        let commit = {
            let path = path.clone();
            std::thread::spawn(move || {
                let _ = nix::poll::poll(&mut [], 100_u16);
                fs::rename(new, path).unwrap();
            })
        };
        change(&path, |text| Ok([text, b"3\n"].concat())).unwrap();
        commit.join().unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "1\n2\n3\n");
        // One of a power cut is in nobody's way.
        let left = dir.write(".sluice.uci-dEf456", "half");
        let file = File::options().write(true).open(&left).unwrap();
        file.set_modified(wall_clock() - Duration::from_secs(60)).unwrap();
        let start = Instant::now();
        change(&path, to("4\n")).unwrap();
        assert!(start.elapsed() < PATIENCE, "{:?}", start.elapsed());
        assert_eq!(dir.names(), [".sluice.uci-dEf456", "sluice"]);
    }

    /// `uci commit` opens the file, waits for its lock, and reads what it opened.
    #[test]
    fn who_waits_for_the_lock_reads_the_new_text() {
        let dir = Dir::new("store-waits");
        let path = dir.write("sluice", "old and longer\n");
        let inode = fs::metadata(&path).unwrap().ino();
        let (opened, is_open) = std::sync::mpsc::channel();
        let (through, is_through) = std::sync::mpsc::channel();
        let waiting = {
            let path = path.clone();
            move || {
                let file = OpenOptions::new().read(true).write(true).open(path).unwrap();
                opened.send(()).unwrap();
                let mut file = Flock::lock(file, FlockArg::LockExclusive).unwrap();
                let mut text = String::new();
                file.read_to_string(&mut text).unwrap();
                let _ = nix::poll::poll(&mut [], 100_u16);
                through.send(()).unwrap();
                text
            }
        };
        let mut thread = None;
        change(&path, |_| {
            thread = Some(std::thread::spawn(waiting));
            is_open.recv().unwrap();
            while !is_waited_for(inode) {
                std::thread::yield_now();
            }
            Ok(b"new\n".to_vec())
        })
        .unwrap();
        // Its lock is of a file that has no name any more, and would not keep us from the next change.
        is_through.try_recv().unwrap();
        assert_eq!(thread.unwrap().join().unwrap(), "new\n");
        assert_eq!(fs::read(&path).unwrap(), b"new\n");
    }

    #[test]
    fn who_waits_for_whom_is_read_from_the_list_of_locks() {
        let locks = "1: POSIX  ADVISORY  WRITE 700 00:19:5 0 EOF\n\
                     1: -> POSIX  ADVISORY  WRITE 701 00:19:5 0 EOF\n\
                     2: FLOCK  ADVISORY  WRITE 70 08:01:6 0 EOF\n\
                     2: -> FLOCK  ADVISORY  WRITE 701 08:01:6 0 EOF\n\
                     3: FLOCK  ADVISORY  WRITE 71 08:01:7 0 EOF\n";
        for (process, inode, waits) in
            [(70, 6, true), (70, 7, false), (71, 7, false), (701, 6, false), (700, 5, true)]
        {
            assert_eq!(waits_for(locks, process, inode), waits, "{process} {inode}");
        }
        assert!(!waits_for("", 70, 6));
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

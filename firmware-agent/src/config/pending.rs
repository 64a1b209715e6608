//! A configuration that waits for somebody's word: until then both texts, the one of before and the
//! one that waits, lie in a file beside it.
//!
//! Its name begins with a dot, so `uci` takes it for no configuration; it lies where the configuration
//! does, so it outlives what that does: the agent and the power. Who waits holds a lock on it: one that
//! nobody holds was left behind.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use super::store::{self, StoreError};
use super::uci::FILE_MAX;

const MAGIC: &str = "sluice waits";
/// Longest first line.
const HEAD_MAX: usize = 64;

/// A configuration that waits, and its file, locked.
#[derive(Debug)]
pub struct Pending {
    _lock: Flock<File>,
    path: PathBuf,
    old: Vec<u8>,
    new: Vec<u8>,
}

/// What became of the configuration.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Undone {
    /// The text of before is back.
    Back,
    /// The new text never got there.
    Nothing,
    /// Somebody has changed it since, and it stays.
    Theirs,
}

impl Pending {
    /// Notes that `new` is about to take the place of `old` in `config`.
    pub fn write(config: &Path, old: &[u8], new: &[u8]) -> io::Result<Self> {
        let path = place(config)?;
        let beside = path.with_extension("new");
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o600);
        let mut file = options.open(&beside)?;
        writeln!(file, "{MAGIC} {} {}", old.len(), new.len())?;
        file.write_all(old)?;
        file.write_all(new)?;
        file.sync_all()?;
        let lock = Flock::lock(file, FlockArg::LockExclusiveNonblock)
            .map_err(|(_, errno)| io::Error::from(errno))?;
        fs::rename(&beside, &path)?;
        store::sync_directory(&path)?;
        Ok(Self { _lock: lock, path, old: old.to_vec(), new: new.to_vec() })
    }

    /// What was left behind beside `config`; nothing where somebody waits still.
    pub fn left_behind(config: &Path) -> io::Result<Option<Self>> {
        let path = place(config)?;
        let file = match File::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other?,
        };
        let mut lock = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => lock,
            Err((_, Errno::EWOULDBLOCK)) => return Ok(None),
            Err((_, errno)) => return Err(errno.into()),
        };
        let mut text = Vec::new();
        (&mut *lock).take((2 * FILE_MAX + HEAD_MAX) as u64).read_to_end(&mut text)?;
        let Some((old, new)) = texts(&text) else {
            fs::remove_file(&path)?;
            return Err(io::Error::other(format!("{} is damaged: taken away", path.display())));
        };
        let (old, new) = (old.to_vec(), new.to_vec());
        Ok(Some(Self { _lock: lock, path, old, new }))
    }

    /// The new text stays.
    pub fn keep(&self) -> io::Result<()> {
        fs::remove_file(&self.path)?;
        store::sync_directory(&self.path)
    }

    /// The text of before comes back to `config`, unless that says something else by now.
    pub fn undo(&self, config: &Path) -> Result<Undone, StoreError> {
        let mut undone = Undone::Back;
        store::change(config, |now| {
            if now == self.new {
                return Ok(self.old.clone());
            }
            undone = if now == self.old { Undone::Nothing } else { Undone::Theirs };
            Ok(now.to_vec())
        })?;
        self.keep().map_err(|source| StoreError::Io { path: self.path.clone(), source })?;
        Ok(undone)
    }
}

/// Where the two texts lie.
fn place(config: &Path) -> io::Result<PathBuf> {
    let real = fs::canonicalize(config)?;
    let name = real.file_name().unwrap_or_default().to_string_lossy();
    Ok(real.with_file_name(format!(".{name}.waits")))
}

fn texts(file: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = file.iter().take(HEAD_MAX).position(|byte| *byte == b'\n')?;
    let (head, texts) = file.split_at(end + 1);
    let head = str::from_utf8(head).ok()?.trim_end().strip_prefix(MAGIC)?;
    let mut lens = head.split_ascii_whitespace().map(str::parse::<usize>);
    let (old, new) = (lens.next()?.ok()?, lens.next()?.ok()?);
    let (first, second) = texts.split_at_checked(old)?;
    (second.len() == new).then_some((first, second))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::directory::Dir;

    /// A configuration in a directory of its own.
    struct Place(Dir);

    impl Place {
        fn new(name: &str) -> Self {
            let dir = Dir::new(name);
            dir.write("sluice", "old\n");
            Self(dir)
        }

        fn config(&self) -> PathBuf {
            self.0.0.join("sluice")
        }

        fn text(&self) -> String {
            fs::read_to_string(self.config()).unwrap()
        }

        fn visible(&self) -> usize {
            self.0.names().iter().filter(|name| !name.starts_with('.')).count()
        }

        fn all(&self) -> usize {
            self.0.names().len()
        }
    }

    /// R154: what nobody confirmed is undone, also by who comes after a crash; what somebody else has
    /// written is left alone.
    #[test]
    fn what_is_left_behind_is_undone_and_what_others_wrote_stays() {
        let dir = Place::new("pending");
        let config = dir.config();
        for (now, undone, text) in [
            ("new\n", Undone::Back, "old\n"),
            ("old\n", Undone::Nothing, "old\n"),
            ("new\n# and mine\n", Undone::Theirs, "new\n# and mine\n"),
        ] {
            let pending = Pending::write(&config, b"old\n", b"new\n").unwrap();
            fs::write(&config, now).unwrap();
            // Who waits is there still: it is his.
            assert!(Pending::left_behind(&config).unwrap().is_none());
            assert_eq!(dir.visible(), 1, "no other configuration for who lists them");
            drop(pending);
            let left = Pending::left_behind(&config).unwrap().unwrap();
            assert_eq!((left.undo(&config).unwrap(), dir.text().as_str()), (undone, text));
            assert!(Pending::left_behind(&config).unwrap().is_none());
            assert_eq!(dir.all(), 1);
        }
    }

    #[test]
    fn what_is_confirmed_stays_and_leaves_nothing() {
        let dir = Place::new("pending-kept");
        let pending = Pending::write(&dir.config(), b"old\n", b"new\n").unwrap();
        fs::write(dir.config(), "new\n").unwrap();
        pending.keep().unwrap();
        drop(pending);
        assert!(Pending::left_behind(&dir.config()).unwrap().is_none());
        assert_eq!((dir.text().as_str(), dir.all()), ("new\n", 1));
    }

    #[test]
    fn a_damaged_file_is_taken_away_and_undoes_nothing() {
        let dir = Place::new("pending-damaged");
        let whole = format!("{MAGIC} 4 4\nold\nnew\n");
        assert_eq!(texts(whole.as_bytes()), Some((&b"old\n"[..], &b"new\n"[..])));
        for end in 0..whole.len() {
            assert_eq!(texts(&whole.as_bytes()[..end]), None, "{end}");
        }
        fs::write(dir.0.0.join(".sluice.waits"), &whole[..whole.len() - 1]).unwrap();
        assert!(Pending::left_behind(&dir.config()).is_err());
        assert!(Pending::left_behind(&dir.config()).unwrap().is_none());
        assert_eq!((dir.text().as_str(), dir.all()), ("old\n", 1));
    }
}

//! Names that no other run uses, and a temporary directory that goes with its guard.

use std::fs;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::error::{Attempt as _, Result};

static NEXT: AtomicU32 = AtomicU32::new(0);

/// A name for `purpose` that no other process and no earlier call used.
///
/// It carries the process number, so that a later run can tell what a killed one left behind.
#[must_use]
pub fn unique(purpose: &str) -> String {
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    format!("sluice-{}-{number}-{purpose}", std::process::id())
}

/// Whether `name` was made by [`unique`] in a process that is gone.
#[must_use]
pub fn abandoned(name: &str) -> bool {
    let owner = name.strip_prefix("sluice-").and_then(|rest| rest.split('-').next());
    owner
        .and_then(|pid| pid.parse::<u32>().ok())
        .is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists())
}

/// A private temporary directory, removed with everything in it on drop.
#[derive(Debug)]
pub struct Directory(PathBuf);

impl Directory {
    /// Makes it.
    pub fn new(purpose: &str) -> Result<Self> {
        let path = std::env::temp_dir().join(unique(purpose));
        let made = fs::DirBuilder::new().mode(0o755).create(&path);
        made.attempt(|| format!("make {}", path.display()))?;
        Ok(Self(path))
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Writes a file in it and gives its path.
    pub fn write(&self, name: &str, text: impl AsRef<[u8]>) -> Result<PathBuf> {
        let path = self.0.join(name);
        fs::write(&path, text).attempt(|| format!("write {}", path.display()))?;
        Ok(path)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        // Only the disk space of a temporary directory is at stake.
        let _left = fs::remove_dir_all(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_abandoned_only_when_its_process_is_gone() {
        assert!(!abandoned(&unique("x")));
        // Process numbers end below 2²² on Linux.
        assert!(abandoned("sluice-4194999-0-router"));
        assert!(!abandoned("sluice-router"));
        assert!(!abandoned("other-4194999-0"));
        assert_ne!(unique("x"), unique("x"));
    }

    #[test]
    fn a_directory_goes_with_its_guard() {
        let directory = Directory::new("directory").unwrap();
        let file = directory.write("a", "b").unwrap();
        assert_eq!(fs::read(&file).unwrap(), b"b");
        drop(directory);
        assert!(!file.exists());
    }
}

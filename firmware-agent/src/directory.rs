//! A directory of a test.

use std::fs;
use std::path::PathBuf;

/// A directory that goes away with the value.
pub(crate) struct Dir(pub(crate) PathBuf);

impl Dir {
    /// One that is there and empty.
    pub(crate) fn new(name: &str) -> Self {
        let dir = Self::absent(name);
        fs::create_dir_all(&dir.0).unwrap();
        dir
    }

    /// One that somebody else makes.
    pub(crate) fn absent(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("sluice-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        Self(dir)
    }

    /// Writes a file, and the directories that it is in.
    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path
    }

    /// What is in it, in order.
    pub(crate) fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.0).unwrap().flatten();
        let mut names: Vec<_> =
            entries.map(|entry| entry.file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

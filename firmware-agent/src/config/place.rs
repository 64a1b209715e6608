//! Where `uci` finds a file of `/etc/config`.

use std::path::{Path, PathBuf};

/// The files that are kept.
const DIRECTORY: &str = "/etc/config";
/// Those that take their place while the router runs: `uci` since January 2025 reads and writes a file
/// that is there instead of that of the same name.
const OVERRIDE: &str = "/var/run/uci";

/// The file that counts for `file`: the one that overrides it, where it is one of `/etc/config`.
#[must_use]
pub fn in_force(file: &Path) -> PathBuf {
    instead(file, Path::new(DIRECTORY), Path::new(OVERRIDE))
}

fn instead(file: &Path, directory: &Path, overriding: &Path) -> PathBuf {
    let name = file.file_name().filter(|_| file.parent() == Some(directory));
    let other = name.map(|name| overriding.join(name));
    other.filter(|other| other.exists()).unwrap_or_else(|| file.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_overrides_another_counts_while_it_is_there() {
        let root = std::env::temp_dir().join(format!("sluice-place-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&root);
        let (kept, overriding) = (root.join("config"), root.join("uci"));
        std::fs::create_dir_all(&kept).unwrap();
        let found = |file: &Path| instead(file, &kept, &overriding);
        let (file, other) = (kept.join("sluice"), overriding.join("sluice"));
        assert_eq!(found(&file), file, "without the directory");
        std::fs::create_dir(&overriding).unwrap();
        std::fs::write(overriding.join("dhcp"), "").unwrap();
        assert_eq!(found(&file), file, "another file");
        std::fs::write(&other, "").unwrap();
        assert_eq!(found(&file), other, "empty, and none that is kept");
        for elsewhere in ["sluice", "/tmp/sluice", "config/sluice"].map(Path::new) {
            assert_eq!(found(elsewhere), elsewhere);
        }
        assert_eq!(found(&kept.join("more/sluice")), kept.join("more/sluice"));
        std::fs::remove_file(&other).unwrap();
        assert_eq!(found(&file), file);
        std::fs::remove_dir_all(&root).unwrap();
    }
}

//! A root directory with busybox and stubs of OpenWrt's own scripts, which note what they are told; packages are
//! installed there as opkg and apk do it.

use std::collections::BTreeSet;
use std::fs::Permissions;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::reader::{self, Apk};
use super::{ARCH, Directory, package};
use crate::package::recipe::Package;
use crate::package::tar::parents;
use crate::package::{apk, ipk};
use crate::run;

/// The network of a router as it is delivered, and the package's own section.
const NETWORK: &str = "network.lan=interface
network.lan.proto=static
network.lan.device=br-lan
network.wan=interface
network.wan.proto=dhcp
network.wan.device=wan
sluice.main=sluice
sluice.main.enabled=1
";
/// What the tests themselves leave: notes of the stubs, and devices that shells make files of.
const NOTES: [&str; 6] = ["/calls", "/dev", "/procd", "/tmp", "/uci", "/users"];

/// What is there besides packages.
const DIRECTORIES: [&str; 18] = [
    "bin",
    "sbin",
    "dev",
    "tmp",
    "etc/rc.d",
    "etc/init.d",
    "etc/config",
    "lib/functions",
    "etc/capabilities",
    "etc/uci-defaults",
    "lib/upgrade/keep.d",
    "usr/sbin",
    "running",
    "usr/lib/opkg/info",
    "lib/apk/packages",
    "usr/share/doc",
    "usr/share/rpcd/acl.d",
    "sys/fs/bpf",
];

/// A root directory.
pub(super) struct Router(Directory);

impl Router {
    /// A router without the package; `None`, with the reason on the output, where none can be made.
    pub(super) fn new(name: &str) -> Option<Self> {
        let Some(busybox) = run::find("busybox") else {
            println!("SKIPPED: no busybox");
            return None;
        };
        let router = Self(Directory::new(name));
        for directory in DIRECTORIES {
            std::fs::create_dir_all(router.path(directory)).unwrap();
        }
        std::fs::copy(busybox, router.path("bin/busybox")).unwrap();
        for program in
            ["basename", "cat", "chroot", "echo", "grep", "ln", "mv", "rm", "sed", "sh", "touch"]
        {
            symlink("busybox", router.path("bin").join(program)).unwrap();
        }
        let stub = |path, content: &str| router.write(path, content, 0o755);
        stub("lib/functions.sh", include_str!("stubs/functions.sh"));
        stub("lib/functions/procd.sh", include_str!("stubs/procd.sh"));
        stub("etc/rc.common", include_str!("stubs/rc.common.sh"));
        stub("sbin/uci", include_str!("stubs/uci.sh"));
        stub("sbin/nft", "#!/bin/sh\necho \"nft $*\" >>/calls\n");
        stub("bin/logger", "#!/bin/sh\necho \"logger $*\" >>/calls\n");
        router.write("uci", NETWORK, 0o644);
        let (works, text) = router.sh("true");
        assert!(
            works,
            "busybox (a static one: busybox-static) does not run in a root directory: {text}"
        );
        Some(router)
    }

    pub(super) fn path(&self, path: &str) -> PathBuf {
        self.0.path().join(path.trim_start_matches('/'))
    }

    pub(super) fn write(&self, path: &str, content: impl AsRef<[u8]>, mode: u32) {
        let path = self.path(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, content).unwrap();
        std::fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
    }

    pub(super) fn read(&self, path: &str) -> String {
        std::fs::read_to_string(self.path(path)).unwrap_or_default()
    }

    /// A file's content, which is gone afterwards.
    pub(super) fn take(&self, path: &str) -> String {
        let text = self.read(path);
        let _ = std::fs::remove_file(self.path(path));
        text
    }

    /// Runs a command line inside; the answer is whether it succeeded and what it printed.
    pub(super) fn sh(&self, line: &str) -> (bool, String) {
        let root = self.0.path();
        let mut command = if is_root() {
            Command::new("chroot")
        } else {
            let mut command = Command::new("unshare");
            command.args(["--map-root-user", "--root"]);
            command
        };
        let command = command.arg(root).args(["/bin/sh", "-c", line]);
        let output =
            command.env_clear().env("PATH", "/sbin:/bin:/usr/sbin:/usr/bin").output().unwrap();
        let text = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8(text).unwrap())
    }

    /// Runs a command line that has to succeed and to be silent.
    pub(super) fn quiet(&self, line: &str) {
        assert_eq!(self.sh(line), (true, String::new()), "{line}");
    }

    /// All files and directories but the tests' own notes.
    pub(super) fn tree(&self) -> BTreeSet<String> {
        fn walk(directory: &Path, prefix: &str, found: &mut BTreeSet<String>) {
            for entry in std::fs::read_dir(directory).unwrap() {
                let entry = entry.unwrap();
                let path = format!("{prefix}/{}", entry.file_name().into_string().unwrap());
                if NOTES.contains(&path.as_str()) {
                    continue;
                }
                if entry.file_type().unwrap().is_dir() {
                    walk(&entry.path(), &path, found);
                }
                found.insert(path);
            }
        }
        let mut found = BTreeSet::new();
        walk(self.0.path(), "", &mut found);
        found
    }

    /// Installs as opkg does, a configuration that is there stays.
    pub(super) fn install_ipk(&self) {
        self.install_ipk_of(&package());
    }

    pub(super) fn install_ipk_of(&self, package: &Package) {
        let unpacked = Directory::new("unpacked");
        reader::unpack_ipk(&ipk::build(package, ARCH).unwrap(), unpacked.path());
        let control = unpacked.path().join("control");
        let conffiles = std::fs::read_to_string(control.join("conffiles")).unwrap_or_default();
        let paths: Vec<&str> = package.files.iter().map(|file| file.path.as_str()).collect();
        let name = &package.name;
        for path in &paths {
            if conffiles.lines().any(|line| line == *path) && self.path(path).exists() {
                continue;
            }
            let from = unpacked.path().join("data").join(path.trim_start_matches('/'));
            let mode = std::fs::metadata(&from).unwrap().permissions().mode() & 0o777;
            self.write(path, std::fs::read(&from).unwrap(), mode);
        }
        for file in std::fs::read_dir(&control).unwrap() {
            let file = file.unwrap();
            let path = format!("usr/lib/opkg/info/{name}.{}", file.file_name().to_str().unwrap());
            self.write(&path, std::fs::read(file.path()).unwrap(), 0o755);
        }
        self.write(&format!("usr/lib/opkg/info/{name}.list"), paths.join("\n"), 0o644);
        self.quiet(&format!("/usr/lib/opkg/info/{name}.postinst configure"));
    }

    /// Removes as opkg does.
    pub(super) fn remove_ipk(&self) {
        self.remove_ipk_of(&package());
    }

    pub(super) fn remove_ipk_of(&self, package: &Package) {
        let info = format!("/usr/lib/opkg/info/{}", package.name);
        self.quiet(&format!("{info}.prerm remove"));
        let list = self.read(&format!("{info}.list"));
        for path in list.lines() {
            let _ = std::fs::remove_file(self.path(path));
        }
        self.quiet(&format!("{info}.postrm remove"));
        self.quiet(&format!("rm -r {info}.*"));
        self.remove_empty(list.lines());
    }

    /// Both package managers remove directories that are empty with the package.
    fn remove_empty<'a>(&self, files: impl Iterator<Item = &'a str>) {
        for directory in parents(files).iter().rev() {
            if !DIRECTORIES.contains(&directory.trim_start_matches('/')) {
                let _ = std::fs::remove_dir(self.path(directory));
            }
        }
    }

    fn apk(&self, script: &str, apk: &Apk) {
        self.write("tmp/script", &apk.scripts[script], 0o755);
        self.quiet("/tmp/script");
    }

    /// Installs as apk does.
    pub(super) fn install_apk(&self, script: &str) -> Apk {
        self.install_apk_of(&package(), script)
    }

    pub(super) fn install_apk_of(&self, package: &Package, script: &str) -> Apk {
        let apk = reader::apk(&apk::build(package, ARCH).unwrap());
        for (line, content) in apk.files.iter().filter(|(line, _)| !line.ends_with('/')) {
            let (mode, path) = (&line[..4], line.rsplit_once(' ').unwrap().1);
            if path == "/etc/config/sluice" && self.path(path).exists() {
                continue;
            }
            self.write(path, content, u32::from_str_radix(mode, 8).unwrap());
        }
        self.apk(script, &apk);
        apk
    }

    /// Removes as apk does.
    pub(super) fn remove_apk(&self, apk: &Apk) {
        self.apk("pre-deinstall", apk);
        let paths = || {
            let files = apk.files.keys().filter(|line| !line.ends_with('/'));
            files.map(|line| line.rsplit_once(' ').unwrap().1)
        };
        for path in paths() {
            let _ = std::fs::remove_file(self.path(path));
        }
        self.apk("post-deinstall", apk);
        self.remove_empty(paths());
    }

    /// The options of the package.
    pub(super) fn options(&self) -> String {
        self.read("uci")
            .lines()
            .filter(|line| line.starts_with("sluice."))
            .fold(String::new(), |text, line| text + line + "\n")
    }
}

fn is_root() -> bool {
    let id = Command::new("id").arg("-u").output().unwrap();
    id.stdout == b"0\n"
}

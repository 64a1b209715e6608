//! Packages as routers see them: what is in them, and what their scripts do to a root directory.

mod pages;
mod reader;
mod router;
mod scripts;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use sha2::{Digest as _, Sha256};

use super::apk::hex;
use super::recipe::{self, File, Package};
use super::{apk, ipk};
use crate::{run, targets};

const ARCH: &str = "mips_24kc";
const TIME: u32 = 1_700_000_000;

/// An agent that notes how it is called, and says that a configuration with the word `wrong` is, or at
/// length that it is not.
const AGENT: &str = "#!/bin/sh
echo \"sluice $*\" >>/calls
[ \"$1 $2\" = 'config check' ] || exit 0
! grep -q wrong /etc/config/sluice && echo 'the configuration is valid'
";

/// All files of the agent's package, with what a router must find.
const FILES: [&str; 10] = [
    "0600 root root /etc/config/sluice",
    "0644 root root /etc/capabilities/sluice.json",
    "0644 root root /etc/sluice/apps",
    "0644 root root /lib/upgrade/keep.d/sluice",
    "0644 root root /usr/lib/lua/prometheus-collectors/sluice.lua",
    "0644 root root /usr/share/doc/sluice/NOTICE",
    "0644 root root /usr/share/rpcd/acl.d/sluice.json",
    "0755 root root /etc/init.d/sluice",
    "0755 root root /etc/uci-defaults/90-sluice",
    "0755 root root /usr/sbin/sluice",
];
/// What apk needs besides, where opkg has a database of its own.
const APK_FILES: [&str; 4] = [
    "0644 root root /lib/apk/packages/sluice.conffiles",
    "0644 root root /lib/apk/packages/sluice.conffiles_static",
    "0644 root root /lib/apk/packages/sluice.list",
    "0644 root root /lib/apk/packages/sluice.rusers",
];
const DEPENDS: [&str; 7] = [
    "kmod-nf-conntrack-netlink",
    "kmod-nfnetlink-log",
    "kmod-nfnetlink-queue",
    "kmod-nft-queue",
    "kmod-sched-bpf",
    "kmod-sched-core",
    "nftables",
];

fn package() -> Package {
    recipe::read("sluice", AGENT.as_bytes(), TIME).unwrap()
}

/// A directory of a test, which is gone when the test is over.
pub(super) struct Directory(PathBuf);

impl Directory {
    pub(super) fn new(name: &str) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("xtask-{name}-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn two_builds_have_the_same_bytes_and_another_agent_has_others() {
    let (one, two) = (package(), package());
    let other = recipe::read("sluice", b"another", TIME).unwrap();
    assert_eq!(ipk::build(&one, ARCH).unwrap(), ipk::build(&two, ARCH).unwrap());
    assert_eq!(apk::build(&one, ARCH).unwrap(), apk::build(&two, ARCH).unwrap());
    assert_ne!(ipk::build(&one, ARCH).unwrap(), ipk::build(&other, ARCH).unwrap());
    assert_ne!(apk::build(&one, ARCH).unwrap(), apk::build(&other, ARCH).unwrap());
}

#[test]
fn an_ipk_has_the_files_modes_owner_and_time_that_a_router_must_find() {
    let directory = Directory::new("ipk");
    reader::unpack_ipk(&ipk::build(&package(), ARCH).unwrap(), directory.path());
    let outer = reader::tar(directory.path(), &["-tzf", "package"]);
    assert_eq!(
        outer, "./debian-binary\n./data.tar.gz\n./control.tar.gz\n",
        "opkg needs this order"
    );
    let list =
        reader::tar(directory.path(), &["-tvzf", "data.tar.gz", "--numeric-owner", "--full-time"]);
    let mut found = Vec::new();
    for line in list.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [mode, owner, _, day, time, path] = words[..] else { panic!("{line}") };
        assert_eq!((owner, day, time), ("0/0", "2023-11-14", "22:13:20"), "{line}");
        if path.ends_with('/') {
            assert_eq!(mode, "drwxr-xr-x", "{line}");
            continue;
        }
        let octal = match mode {
            "-rwxr-xr-x" => "0755",
            "-rw-r--r--" => "0644",
            "-rw-------" => "0600",
            other => other,
        };
        found.push(format!("{octal} root root {}", path.strip_prefix('.').unwrap()));
    }
    found.sort_unstable();
    assert_eq!(found, FILES);
    let scripts = reader::tar(directory.path(), &["-tvzf", "control.tar.gz"]);
    for script in ["postinst", "prerm", "postrm"] {
        let line = scripts.lines().find(|line| line.ends_with(&format!("./{script}"))).unwrap();
        assert!(line.starts_with("-rwxr-xr-x"), "{line}");
    }
}

#[test]
fn an_ipk_says_what_it_is_and_needs() {
    let directory = Directory::new("control");
    reader::unpack_ipk(&ipk::build(&package(), ARCH).unwrap(), directory.path());
    let read =
        |name: &str| std::fs::read_to_string(directory.path().join("control").join(name)).unwrap();
    let control = read("control");
    let field = |name: &str| {
        control.lines().find_map(|line| line.strip_prefix(&format!("{name}: "))).unwrap_or("none")
    };
    assert_eq!(field("Package"), "sluice");
    assert_eq!(field("Version"), concat!(env!("CARGO_PKG_VERSION"), "-r1"));
    assert_eq!(field("Architecture"), ARCH);
    assert_eq!(field("Depends"), DEPENDS.join(", "));
    assert_eq!(field("Require-User"), "sluice:sluice");
    assert_eq!(field("License"), "Apache-2.0 OR MIT");
    assert_eq!(read("conffiles"), "/etc/config/sluice\n/etc/sluice/apps\n");
}

#[test]
fn an_apk_has_the_same_files_and_needs_the_same() {
    let apk = reader::apk(&apk::build(&package(), ARCH).unwrap());
    let (directories, mut files): (Vec<&String>, Vec<&String>) =
        apk.files.keys().partition(|line| line.ends_with('/'));
    files.retain(|line| !line.contains("/lib/apk/"));
    assert_eq!(files, FILES);
    assert!(directories.iter().all(|line| line.starts_with("0755 root root /")), "{directories:?}");
    for line in APK_FILES {
        assert!(apk.files.contains_key(line), "{line}");
    }
    assert_eq!(apk.depends, DEPENDS);
    assert_eq!(apk.info["name"], "sluice");
    assert_eq!(apk.info["version"], concat!(env!("CARGO_PKG_VERSION"), "-r1"));
    assert_eq!(apk.info["arch"], ARCH);
    assert_eq!(apk.info["license"], "Apache-2.0 OR MIT");

    let list = |kind: &str| {
        let bytes = &apk.files[&format!("0644 root root /lib/apk/packages/sluice.{kind}")];
        String::from_utf8(bytes.clone()).unwrap()
    };
    assert_eq!(list("rusers"), "sluice:sluice\n");
    assert_eq!(list("conffiles"), "/etc/config/sluice\n/etc/sluice/apps\n");
    let names: Vec<&str> = FILES.iter().map(|line| line.rsplit_once(' ').unwrap().1).collect();
    assert!(names.iter().all(|name| list("list").lines().any(|line| line == *name)));
}

#[test]
fn the_makefile_of_the_feed_says_what_the_recipe_says() {
    let makefile = run::root().join("openwrt-package/sluice/Makefile");
    let makefile = std::fs::read_to_string(makefile).unwrap();
    let value = |name: &str| {
        let line = makefile.lines().map(str::trim).find_map(|line| line.strip_prefix(name));
        line.and_then(|line| line.strip_prefix(":=")).unwrap_or("none")
    };
    let package = package();
    assert_eq!(format!("{}-r{}", value("PKG_VERSION"), value("PKG_RELEASE")), package.version);
    assert_eq!(value("PKG_LICENSE"), package.licence);
    assert_eq!(value("TITLE"), package.description);
    assert_eq!(Some(value("USERID")), package.user.as_deref());
    let mut depends: Vec<&str> =
        value("DEPENDS").split(' ').filter_map(|word| word.strip_prefix('+')).collect();
    depends.sort_unstable();
    assert_eq!(depends, DEPENDS);
    for file in &package.files {
        let place = format!(" $(1){}", file.path);
        let line = makefile.lines().find(|line| line.ends_with(&place)).unwrap_or("none");
        let command = match file.mode {
            0o755 => "\t$(INSTALL_BIN) ",
            0o600 => "\t$(INSTALL_CONF) ",
            _ => "\t$(INSTALL_DATA) ",
        };
        assert!(line.starts_with(command), "{}: {line}", file.path);
        let source = line[command.len()..].strip_suffix(&place).unwrap();
        if let Some(source) = source.strip_prefix("./") {
            let content = std::fs::read(run::root().join("openwrt-package/sluice").join(source));
            assert_eq!(content.unwrap(), file.content, "{line}");
        }
    }
    assert!(makefile.contains(" mips mipsel,$(ARCH)),--cfg fix_y2038)"), "timers never fire");
    let conffiles = package.conffiles.join("\n");
    assert!(makefile.contains(&format!("/conffiles\n{conffiles}\nendef")), "{conffiles}");
    assert_script_in(&makefile, "postrm", &package.postrm.unwrap());
}

/// A script stands in a Makefile, where each `$` is two.
fn assert_script_in(makefile: &str, kind: &str, script: &[u8]) {
    let script = String::from_utf8(script.to_vec()).unwrap().replace('$', "$$");
    assert!(makefile.contains(&format!("/{kind}\n{script}endef\n")), "{kind}: {script}");
}

#[test]
fn architectures_are_those_of_openwrt() {
    let targets = targets::read().unwrap();
    let names: Vec<&str> = targets.values().map(|target| target.openwrt.as_str()).collect();
    assert_eq!(names, ["aarch64_cortex-a53", "mips_24kc", "mipsel_24kc", "x86_64"]);
}

/// What `apk mkpkg --compression none --no-xattrs` of apk-tools 3.0.6 writes for the same fields, scripts and files has
/// this digest.
#[test]
fn an_apk_has_the_bytes_that_apk_tools_write() {
    let file = |path: &str, mode, content: &str| File {
        path: path.to_owned(),
        mode,
        content: content.as_bytes().to_vec(),
    };
    let package = Package {
        name: "example".to_owned(),
        version: "1.2.3-r4".to_owned(),
        description: "An example".to_owned(),
        depends: vec!["one".to_owned(), "two".to_owned()],
        conffiles: vec!["/etc/config/example".to_owned()],
        postrm: Some(b"#!/bin/sh\nexit 0\n".to_vec()),
        files: vec![
            file("/etc/config/example", 0o600, "config example\n"),
            file("/usr/bin/one", 0o755, &"1".repeat(300)),
            file("/usr/bin/two", 0o755, &"2".repeat(70_000)),
        ],
        ..package()
    };
    let plain = apk::plain(&package, ARCH).unwrap();
    let digest = "b9557c9b0fd488d2063c00b4cac78502be648979b3676ae85da2d28fc1bc032e";
    assert_eq!(hex(&Sha256::digest(plain)), digest);
}

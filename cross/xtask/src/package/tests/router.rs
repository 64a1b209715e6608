//! The scripts of the packages in a root directory with busybox, under stubs of OpenWrt's own scripts that note what
//! they are told.

use std::collections::BTreeSet;
use std::fs::Permissions;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::reader::{self, Apk};
use super::{ARCH, Directory, FILES, package};
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
/// What uci-defaults make of it.
const NAMED: &str = "sluice.main=sluice
sluice.main.enabled=1
sluice.wan=interface
sluice.wan.device=wan
sluice.wan.role=wan
sluice.lan=interface
sluice.lan.device=br-lan
sluice.lan.role=lan
";
/// What procd is told at a start.
const STARTED: &str = "open_service sluice
open_instance
command /usr/sbin/sluice run
file /usr/sbin/sluice
respawn 60 5 0
term_timeout 15
stdout 1
stderr 1
close_instance
reload_trigger sluice system
close_service
";
/// What the tests themselves leave: notes of the stubs, and devices that shells make files of.
const NOTES: [&str; 6] = ["/calls", "/dev", "/procd", "/tmp", "/uci", "/users"];

/// A root directory.
struct Router(Directory);

impl Router {
    /// A router without the package; `None`, with the reason on the output, where none can be made.
    fn new(name: &str) -> Option<Self> {
        let Some(busybox) = busybox() else {
            println!("SKIPPED: no static busybox");
            return None;
        };
        let router = Self(Directory::new(name));
        for directory in [
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
            "sys/fs/bpf",
        ] {
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
        Some(router)
    }

    fn path(&self, path: &str) -> PathBuf {
        self.0.0.join(path.trim_start_matches('/'))
    }

    fn write(&self, path: &str, content: impl AsRef<[u8]>, mode: u32) {
        let path = self.path(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, content).unwrap();
        std::fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
    }

    fn read(&self, path: &str) -> String {
        std::fs::read_to_string(self.path(path)).unwrap_or_default()
    }

    /// A file's content, which is gone afterwards.
    fn take(&self, path: &str) -> String {
        let text = self.read(path);
        let _ = std::fs::remove_file(self.path(path));
        text
    }

    /// Runs a command line inside; the answer is whether it succeeded and what it printed.
    fn sh(&self, line: &str) -> (bool, String) {
        let root = &self.0.0;
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
    fn quiet(&self, line: &str) {
        assert_eq!(self.sh(line), (true, String::new()), "{line}");
    }

    /// All files and directories but the tests' own notes.
    fn tree(&self) -> BTreeSet<String> {
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
        walk(&self.0.0, "", &mut found);
        found
    }

    /// Installs as opkg does, a configuration that is there stays.
    fn install_ipk(&self) {
        let unpacked = Directory::new("unpacked");
        reader::unpack_ipk(&ipk::build(&package(), ARCH).unwrap(), &unpacked.0);
        let control = unpacked.0.join("control");
        let conffiles = std::fs::read_to_string(control.join("conffiles")).unwrap();
        let paths: Vec<&str> = FILES.iter().map(|line| line.rsplit_once(' ').unwrap().1).collect();
        for path in &paths {
            if conffiles.lines().any(|line| line == *path) && self.path(path).exists() {
                continue;
            }
            let from = unpacked.0.join("data").join(path.trim_start_matches('/'));
            let mode = std::fs::metadata(&from).unwrap().permissions().mode() & 0o777;
            self.write(path, std::fs::read(&from).unwrap(), mode);
        }
        for file in ["control", "postinst", "prerm", "postrm"] {
            let content = std::fs::read(control.join(file)).unwrap();
            self.write(&format!("usr/lib/opkg/info/sluice.{file}"), content, 0o755);
        }
        self.write("usr/lib/opkg/info/sluice.list", paths.join("\n"), 0o644);
        self.quiet("/usr/lib/opkg/info/sluice.postinst configure");
    }

    /// Removes as opkg does.
    fn remove_ipk(&self) {
        self.quiet("/usr/lib/opkg/info/sluice.prerm remove");
        for path in self.read("usr/lib/opkg/info/sluice.list").lines() {
            let _ = std::fs::remove_file(self.path(path));
        }
        self.quiet("/usr/lib/opkg/info/sluice.postrm remove");
        self.quiet("rm -r /usr/lib/opkg/info/sluice.* /usr/share/doc/sluice");
    }

    fn apk(&self, script: &str, apk: &Apk) {
        self.write("tmp/script", &apk.scripts[script], 0o755);
        self.quiet("/tmp/script");
    }

    /// Installs as apk does.
    fn install_apk(&self, script: &str) -> Apk {
        let apk = reader::apk(&apk::build(&package(), ARCH).unwrap());
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
    fn remove_apk(&self, apk: &Apk) {
        self.apk("pre-deinstall", apk);
        for line in apk.files.keys().filter(|line| !line.ends_with('/')) {
            let _ = std::fs::remove_file(self.path(line.rsplit_once(' ').unwrap().1));
        }
        self.apk("post-deinstall", apk);
        self.quiet("rm -r /usr/share/doc/sluice");
    }

    /// The options of the package.
    fn options(&self) -> String {
        self.read("uci")
            .lines()
            .filter(|line| line.starts_with("sluice."))
            .fold(String::new(), |text, line| text + line + "\n")
    }
}

fn busybox() -> Option<PathBuf> {
    // Only a static one runs in a directory without libraries.
    run::find("busybox").filter(|path| {
        std::fs::read(path).is_ok_and(|elf| !elf.windows(8).any(|w| w == b"ld-linux"))
    })
}

fn is_root() -> bool {
    let id = Command::new("id").arg("-u").output().unwrap();
    id.stdout == b"0\n"
}

#[test]
fn an_installed_ipk_runs_and_a_removed_one_leaves_nothing() {
    let Some(router) = Router::new("ipk-life") else { return };
    let before = router.tree();
    router.install_ipk();
    assert_eq!(router.take("procd"), STARTED);
    assert_eq!(router.take("calls"), "sluice config check\n");
    assert_eq!(router.take("users"), "sluice:sluice\n");
    assert_eq!(router.options(), NAMED);
    for link in ["S18sluice", "K91sluice"] {
        let target = std::fs::read_link(router.path("etc/rc.d").join(link)).unwrap();
        assert_eq!(target, Path::new("../init.d/sluice"), "{link}");
    }
    assert!(!router.path("etc/uci-defaults/90-sluice").exists());

    // A crash has left this.
    router.write("sys/fs/bpf/sluice/link", "", 0o600);
    router.write("var/run/sluice/control.sock", "", 0o600);
    router.remove_ipk();
    assert_eq!(router.take("procd"), "kill sluice\n");
    let tables = "nft delete table inet sluice\nnft delete table inet sluice_syn\n\
                  nft delete table inet sluice_offload\n";
    assert_eq!(router.take("calls"), tables);
    let mut after = router.tree();
    after.retain(|path| !path.starts_with("/var"));
    assert_eq!(after, before);
}

#[test]
fn an_installed_apk_runs_and_a_removed_one_leaves_nothing() {
    let Some(router) = Router::new("apk-life") else { return };
    let before = router.tree();
    let apk = router.install_apk("post-install");
    assert_eq!(router.take("procd"), STARTED);
    assert_eq!(router.take("users"), "sluice:sluice\n");
    assert_eq!(router.options(), NAMED);
    assert!(router.path("etc/rc.d/S18sluice").exists());
    router.remove_apk(&apk);
    assert_eq!(router.take("procd"), "kill sluice\n");
    assert_eq!(router.tree(), before);
}

#[test]
fn an_upgrade_keeps_the_users_configuration_and_choice_of_boot() {
    let Some(router) = Router::new("upgrade") else { return };
    let changed = "config sluice 'main'\n\toption enabled '0'\n";
    let users = "sluice.main=sluice\nsluice.up=interface\nsluice.up.device=eth7\nsluice.up.role=wan\n\
                 sluice.lan=interface\nsluice.lan.device=br-guest\nsluice.lan.role=lan\n";
    router.install_ipk();
    router.write("etc/config/sluice", changed, 0o600);
    router.write("uci", format!("network.wan.device=wan\n{users}"), 0o644);
    router.install_ipk();
    assert_eq!(router.read("etc/config/sluice"), changed);
    assert_eq!(router.options(), users);

    router.quiet("/etc/init.d/sluice disable");
    router.install_apk("post-upgrade");
    assert_eq!(router.read("etc/config/sluice"), changed);
    assert_eq!(router.options(), users);
    assert!(!router.path("etc/rc.d/S18sluice").exists(), "an upgrade enables a disabled service");
}

#[test]
fn an_image_that_is_built_gets_no_state_of_the_machine_that_builds_it() {
    let Some(router) = Router::new("image") else { return };
    router.install_ipk();
    router.write("sys/fs/bpf/sluice/link", "", 0o600);
    router.take("calls");
    router.quiet("IPKG_INSTROOT=/image /usr/lib/opkg/info/sluice.postrm remove");
    router.quiet("IPKG_INSTROOT=/image /usr/lib/opkg/info/sluice.postinst configure");
    router.quiet("/usr/lib/opkg/info/sluice.postrm upgrade");
    assert_eq!(router.take("calls"), "");
    assert!(router.path("sys/fs/bpf/sluice/link").exists());
}

#[test]
fn the_jail_and_what_needs_it_are_there_when_ujail_is() {
    let Some(router) = Router::new("jail") else { return };
    router.install_ipk();
    router.take("procd");
    router.write("sbin/ujail", "#!/bin/sh\n", 0o755);
    router.quiet("/etc/init.d/sluice start");
    let jail =
        "jail sluice\ncapabilities /etc/capabilities/sluice.json\nno_new_privs 1\nclose_instance\n";
    assert_eq!(router.take("procd"), STARTED.replace("close_instance\n", jail));
    std::fs::remove_file(router.path("etc/capabilities/sluice.json")).unwrap();
    router.quiet("/etc/init.d/sluice start");
    assert_eq!(router.take("procd"), STARTED);
}

#[test]
fn a_reload_is_a_signal_to_an_agent_that_runs_and_a_start_otherwise() {
    let Some(router) = Router::new("reload") else { return };
    router.install_ipk();
    router.take("procd");
    router.write("running/sluice", "", 0o644);
    router.quiet("/etc/init.d/sluice reload");
    assert_eq!(router.take("procd"), "signal sluice * HUP\n");
    std::fs::remove_file(router.path("running/sluice")).unwrap();
    router.quiet("/etc/init.d/sluice reload");
    assert_eq!(router.take("procd"), STARTED);
}

#[test]
fn an_agent_whose_configuration_is_wrong_is_not_started_again_and_again() {
    let Some(router) = Router::new("wrong") else { return };
    router.install_ipk();
    router.take("procd");
    router.take("calls");
    router.write("etc/config/sluice", "wrong", 0o600);
    assert_eq!(router.sh("/etc/init.d/sluice start"), (false, String::new()));
    assert_eq!(router.take("procd"), "open_service sluice\nrefused\n");
    let calls = router.take("calls");
    assert!(calls.contains("logger -t sluice -p daemon.err not started"), "{calls}");
}

#[test]
fn commands_of_the_init_script_are_those_of_the_agent() {
    let Some(router) = Router::new("commands") else { return };
    router.install_ipk();
    router.take("calls");
    for (line, call) in [
        ("status", "sluice status\n"),
        ("doctor", "sluice doctor\n"),
        ("why example.org", "sluice why example.org\n"),
    ] {
        router.quiet(&format!("/etc/init.d/sluice {line}"));
        assert_eq!(router.take("calls"), call);
    }
}

#[test]
fn devices_are_named_where_none_is_and_a_second_time_nothing_changes() {
    let Some(router) = Router::new("defaults") else { return };
    let script = include_str!("../../../../../openwrt-package/sluice/files/sluice.defaults");
    let wan = |device: &str| {
        format!("sluice.wan=interface\nsluice.wan.device={device}\nsluice.wan.role=wan\n")
    };
    let lan = "sluice.lan=interface\nsluice.lan.device=br-lan\nsluice.lan.role=lan\n";
    #[rustfmt::skip]
    let cases = [
        ("a session", "network.wan.proto=pppoe\nnetwork.wan.device=dsl0\n", wan("pppoe-wan")),
        ("before 21.02", "network.wan.ifname=eth0.2\nnetwork.lan.type=bridge\nnetwork.lan.ifname=eth0.1 eth1\n", wan("eth0.2") + lan),
        ("an alias", "network.wan.device=@lan\nnetwork.lan.device=br-lan\n", lan.to_owned()),
        ("no wan", "network.lan.device=br-lan\n", lan.to_owned()),
        ("a name that no device has", "network.wan.device=longer-than-any-device\n", String::new()),
        ("a section of another kind", "sluice.wan=blocklist\nnetwork.wan.device=wan\n", String::new()),
    ];
    for (name, network, expected) in cases {
        router.write("uci", format!("sluice.main=sluice\n{network}"), 0o644);
        router.write("etc/uci-defaults/90-sluice", script, 0o755);
        for _ in 0..2 {
            router.quiet("/etc/uci-defaults/90-sluice");
            let kept =
                if network.starts_with("sluice.wan") { "sluice.wan=blocklist\n" } else { "" };
            assert_eq!(router.options(), format!("sluice.main=sluice\n{kept}{expected}"), "{name}");
        }
    }
    // Nothing at all is there, not even the file.
    router.write("uci", "network.lan.device=br-lan\n", 0o644);
    router.quiet("/etc/uci-defaults/90-sluice");
    assert_eq!(router.options(), format!("sluice.main=sluice\n{lan}"));
    assert!(router.path("etc/config/sluice").exists());
}

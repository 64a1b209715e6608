//! A file in the override directory of `uci` is the configuration while it is there.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::Value as Json;
use sluice_tests::agent::{Setup, mount_bpffs, program};
use sluice_tests::directory::{Directory, unique};
use sluice_tests::process::{self, Daemon};
use sluice_tests::router::{Build, Router};
use sluice_tests::skip::without_root;
use sluice_tests::wait;

/// Emulated and shared machines are slow.
const LIMIT: Duration = Duration::from_secs(120);
/// Puts directories where a router has its configuration, for what is started behind this alone.
const SCRIPT: &str = "mount -t tmpfs none /etc && mkdir -p /etc/config /var/run && \
    mount -t tmpfs none /var/run && mkdir /var/run/uci && \
    mount --bind \"$0/config\" /etc/config && mount --bind \"$0/uci\" /var/run/uci && exec \"$@\"";

/// A router that sees an `/etc/config` and a `/var/run/uci` of its own.
struct Scene {
    agent: Daemon,
    pins: PathBuf,
    files: Directory,
    router: Router,
}

impl Drop for Scene {
    fn drop(&mut self) {
        let _ended = self.agent.stop();
        let _removed = std::fs::remove_dir_all(&self.pins);
    }
}

fn behind_the_script(router: &Router, files: &Directory) -> Command {
    let mut command = router.netns.command("unshare");
    command.args(["--mount", "sh", "-c", SCRIPT]).arg(files.path()).arg(program().unwrap());
    command
}

impl Scene {
    /// With a rule `kept` in the configuration that is kept.
    fn new() -> Self {
        mount_bpffs().unwrap();
        let router = Router::new(Build::default()).unwrap();
        let files = Directory::new("override").unwrap();
        for name in ["config", "uci", "run"] {
            std::fs::create_dir(files.path().join(name)).unwrap();
        }
        let pins = PathBuf::from("/sys/fs/bpf").join(unique("pins"));
        let text =
            Setup::default().main("ubus", "off").text(router.lan, &pins, &files.path().join("run"));
        files.write("config/sluice", text + &rule("kept")).unwrap();
        let mut command = behind_the_script(&router, &files);
        command.arg("run");
        let mut agent = Daemon::spawn("sluice", command, files.path()).unwrap();
        agent.wait_for_text("protection in force", LIMIT).unwrap();
        Self { agent, pins, files, router }
    }

    fn text(&self, name: &str) -> String {
        std::fs::read_to_string(self.files.path().join(name)).unwrap()
    }

    /// Overrides the configuration with one that has a rule of this name instead.
    fn overrides(&self, name: &str) {
        let text = self.text("config/sluice").replace(&rule("kept"), &rule(name));
        self.files.write("uci/sluice", text).unwrap();
    }

    fn reload(&mut self) {
        self.agent.signal(Signal::SIGHUP).unwrap();
    }

    fn ask(&self, arguments: &[&str]) -> String {
        let mut command = Command::new(program().unwrap());
        command.arg("--socket").arg(self.files.path().join("run/control.sock")).args(arguments);
        process::run(&mut command).unwrap()
    }

    fn status(&self) -> Json {
        serde_json::from_str(&self.ask(&["status", "--json"])).unwrap()
    }

    /// Waits until this file is in force, and the rule of this name.
    fn in_force(&self, file: &str, name: &str) {
        let is = || {
            let why = self.ask(&["why", &format!("{name}.test")]);
            self.status()["config_file"] == file && why.contains(&format!("rule {name}"))
        };
        wait::until_true("it was in force", LIMIT, is).unwrap();
    }
}

fn rule(name: &str) -> String {
    format!("config rule '{name}'\n\toption action 'block'\n\tlist domain '{name}.test'\n")
}

/// R187: as `uci` does, a file that overrides the configuration is read and written instead, from when it
/// comes until it goes.
#[test]
fn a_file_that_overrides_the_configuration_is_read_and_written_instead() {
    if without_root() {
        return;
    }
    let mut scene = Scene::new();
    let kept = scene.text("config/sluice");
    scene.in_force("/etc/config/sluice", "kept");

    scene.overrides("other");
    scene.reload();
    scene.in_force("/var/run/uci/sluice", "other");
    assert!(scene.ask(&["why", "kept.test"]).contains("no list, rule or decided flow"));
    scene.ask(&["deny", "by-hand.test"]);
    assert!(scene.text("uci/sluice").contains("by-hand.test"));
    assert_eq!(scene.text("config/sluice"), kept);

    // Its mistakes are its own, and what is in force stays.
    let good = scene.text("uci/sluice");
    scene.files.write("uci/sluice", good + "nonsense\n").unwrap();
    let lines = scene.text("uci/sluice").lines().count();
    scene.reload();
    let told = format!("/var/run/uci/sluice:{lines}: invalid command");
    let is_told = || scene.status()["config_errors"].to_string().contains(&told);
    wait::until_true("it was refused", LIMIT, is_told).unwrap();
    scene.in_force("/var/run/uci/sluice", "other");
    let mut check = behind_the_script(&scene.router, &scene.files);
    let refused = process::run(check.args(["config", "check"])).unwrap_err().to_string();
    assert!(refused.contains(&told), "{refused}");

    std::fs::remove_file(scene.files.path().join("uci/sluice")).unwrap();
    scene.reload();
    scene.in_force("/etc/config/sluice", "kept");
    scene.ask(&["deny", "by-hand.test"]);
    assert!(scene.text("config/sluice").contains("by-hand.test"));
}

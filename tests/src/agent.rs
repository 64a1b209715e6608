//! The agent under a guard: started in the router's namespace with a configuration of its own,
//! asked over its control socket, ended with everything it left behind.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::Duration;

use nix::sys::signal::Signal;
use serde::de::DeserializeOwned;

use crate::directory::{Directory, abandoned, unique};
use crate::error::{Attempt as _, Error, Result};
use crate::process::{self, Daemon};
use crate::report::{Alert, Flow, Interface, Status, Why};
use crate::router::{Router, WAN};
use crate::uci::Uci;
use crate::wait;

/// Where bpffs is mounted.
const BPFFS: &str = "/sys/fs/bpf";
/// Time for the agent to be in force; many times what it takes.
const START: Duration = Duration::from_secs(30);
/// Time for a reload, also of the largest lists on an emulated machine.
const RELOAD_LIMIT: Duration = Duration::from_secs(120);
/// Time for the firewall's offload to be guarded, also on an emulated machine.
const GUARD: Duration = Duration::from_secs(60);
/// Time for a flow to be decided and shown.
const FLOW: Duration = Duration::from_secs(5);

/// What differs between agents under test. Other options go in as text.
#[derive(Clone, Debug)]
pub struct Setup {
    /// Options of the main section.
    pub main: Vec<(&'static str, String)>,
    /// Options of the section about strangers.
    pub ddos: Vec<(&'static str, String)>,
    /// How XDP is attached: `auto`, `native`, `generic`, `nft` or `off`.
    pub xdp: &'static str,
    /// Further sections.
    pub more: Uci,
    /// Whether the fast path is attached.
    pub tc: bool,
    /// Whether flows of the LAN are inspected.
    pub inspects_lan: bool,
    /// Policies of interfaces that have one of their own.
    pub policies: Vec<(&'static str, &'static str)>,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            main: Vec::new(),
            ddos: Vec::new(),
            xdp: "auto",
            more: Uci::default(),
            tc: true,
            inspects_lan: true,
            policies: Vec::new(),
        }
    }
}

/// Defaults of the common class of routers.
const COMMON: [(&str, u32); 4] =
    [("flows", 8192), ("held_flows", 2048), ("inspect_flows", 2048), ("inspect_memory_kib", 2048)];

impl Setup {
    /// With one more option of the main section.
    #[must_use]
    pub fn main(mut self, name: &'static str, value: impl ToString) -> Self {
        self.main.push((name, value.to_string()));
        self
    }

    /// With one more option of the section about strangers.
    #[must_use]
    pub fn ddos(mut self, name: &'static str, value: impl ToString) -> Self {
        self.ddos.push((name, value.to_string()));
        self
    }

    /// With a list of addresses and prefixes to drop.
    #[must_use]
    pub fn blocklist(mut self, name: &str, entries: &[&str]) -> Self {
        self.more = self.more.section("blocklist", name).list("entry", entries);
        self
    }

    /// With a file of addresses and prefixes to drop, at most so many.
    #[must_use]
    pub fn blocklist_file(mut self, name: &str, file: &Path, max_entries: u32) -> Self {
        self.more =
            self.more.section("blocklist", name).list("file", &[&file.display().to_string()]);
        self.more = self.more.option("max_entries", max_entries);
        self
    }

    /// With addresses and prefixes that lists do not concern on interfaces of a role.
    #[must_use]
    pub fn allowlist(mut self, name: &str, role: &str, entries: &[&str]) -> Self {
        self.more =
            self.more.section("allowlist", name).list("role", &[role]).list("entry", entries);
        self
    }

    /// With a list of domains in files.
    #[must_use]
    pub fn domainlist(mut self, name: &str, files: &[&Path]) -> Self {
        let files: Vec<_> = files.iter().map(|file| file.display().to_string()).collect();
        let files: Vec<&str> = files.iter().map(String::as_str).collect();
        self.more = self.more.section("domainlist", name).list("file", &files);
        self
    }

    /// With signatures in files.
    #[must_use]
    pub fn ruleset(mut self, name: &str, enforce: bool, files: &[&Path]) -> Self {
        let files: Vec<_> = files.iter().map(|file| file.display().to_string()).collect();
        let files: Vec<&str> = files.iter().map(String::as_str).collect();
        self.more = self.more.section("ruleset", name).list("file", &files);
        self.more = self.more.option("enforce", u8::from(enforce));
        self
    }

    /// With a rule about domains.
    #[must_use]
    pub fn rule(mut self, name: &str, action: &str, domains: &[&str]) -> Self {
        self.more =
            self.more.section("rule", name).option("action", action).list("domain", domains);
        self
    }

    /// Without inspection of what comes from or goes to the LAN.
    #[must_use]
    pub const fn without_inspection_on_the_lan(mut self) -> Self {
        self.inspects_lan = false;
        self
    }

    /// With XDP attached this way.
    #[must_use]
    pub const fn xdp(mut self, how: &'static str) -> Self {
        self.xdp = how;
        self
    }

    /// Without the fast path: verdicts live in the connection mark alone.
    #[must_use]
    pub const fn without_tc(mut self) -> Self {
        self.tc = false;
        self
    }

    /// With a policy of its own for an interface.
    #[must_use]
    pub fn policy(mut self, interface: &'static str, policy: &'static str) -> Self {
        self.policies.push((interface, policy));
        self
    }

    /// The file for a router whose LAN interface is `lan`.
    #[must_use]
    pub fn text(&self, lan: &str, pins: &Path, run: &Path) -> String {
        let mut file = Uci::default().section("sluice", "main");
        file = file.option("pin_dir", pins.display()).option("run_dir", run.display());
        // Else they go by the memory of the machine that tests.
        let is_given = |name: &str| self.main.iter().any(|(given, _)| *given == name);
        for (name, value) in COMMON.into_iter().filter(|(name, _)| !is_given(name)) {
            file = file.option(name, value);
        }
        for (name, value) in &self.main {
            file = file.option(name, value);
        }
        if !self.ddos.is_empty() {
            file = file.section("ddos", "limits");
            for (name, value) in &self.ddos {
                file = file.option(name, value);
            }
        }
        for (name, device, role) in [("lan", lan, "lan"), ("wan", WAN, "wan")] {
            file = file.section("interface", name).option("device", device);
            file = file.option("role", role).option("xdp", self.xdp);
            if name == "lan" && !self.inspects_lan {
                file = file.option("inspect", 0);
            }
            file = file.option("tc", u8::from(self.tc));
            for (_, policy) in self.policies.iter().filter(|(of, _)| *of == name) {
                file = file.option("policy", policy);
            }
        }
        file.text().to_owned() + self.more.text()
    }
}

/// The agent's program, built beforehand by `cargo xtask agent`: the release build, else one of this
/// profile.
pub fn program() -> Result<PathBuf> {
    let own = std::env::current_exe().attempt(|| "find this program".to_owned())?;
    // Tests lie in `target/PROFILE/deps`, the demo in `target/PROFILE`.
    let places = own.ancestors().skip(1).take(3);
    let candidates = places
        .clone()
        .map(|place| place.join("release/sluice"))
        .chain(places.map(|place| place.join("sluice")))
        .filter(|path| path.is_file());
    let mut stale = format!("there is no agent near {}", own.display());
    for candidate in candidates {
        match newer_source(&candidate)? {
            None => return Ok(candidate),
            Some(source) => stale = format!("{} is older than {source}", candidate.display()),
        }
    }
    Err(Error::Unusable(format!("{stale}; build it: cargo xtask agent")))
}

/// A source file, of those that cargo says the program was made of, that changed since.
///
/// A test that passes with yesterday's program says nothing.
fn newer_source(program: &Path) -> Result<Option<String>> {
    let changed = |path: &Path| fs::metadata(path).and_then(|meta| meta.modified());
    let built = changed(program).attempt(|| format!("stat {}", program.display()))?;
    // Without the list (an installed program) there is nothing to compare with.
    let Ok(list) = fs::read_to_string(program.with_extension("d")) else { return Ok(None) };
    let sources = list.split_once(": ").map_or("", |(_, sources)| sources);
    let newer = |source: &&str| changed(Path::new(source)).is_ok_and(|time| time > built);
    Ok(sources.split_whitespace().find(newer).map(str::to_owned))
}

/// Mounts bpffs when nobody has, as procd does on a router.
pub fn mount_bpffs() -> Result<()> {
    let mounts = fs::read_to_string("/proc/self/mounts").attempt(|| "read mounts".to_owned())?;
    let mounted = mounts.lines().any(|line| line.contains(&format!(" {BPFFS} bpf ")));
    if mounted {
        return Ok(());
    }
    process::run(Command::new("mount").args(["-t", "bpf", "bpf", BPFFS])).map(drop)
}

/// Removes pins of runs that were killed and could not clean up.
fn sweep() -> Result<()> {
    let entries = fs::read_dir(BPFFS).attempt(|| format!("list {BPFFS}"))?;
    for entry in entries.flatten() {
        if abandoned(&entry.file_name().to_string_lossy()) {
            // Another run may sweep at the same time.
            let _swept = fs::remove_dir_all(entry.path());
        }
    }
    Ok(())
}

/// A running agent.
#[derive(Debug)]
pub struct Agent {
    daemon: Daemon,
    command: (String, PathBuf),
    files: Directory,
    pins: PathBuf,
    run: PathBuf,
    lan: String,
}

impl Agent {
    /// Starts it in the router and waits until it is in force.
    pub fn start(world: &Router, setup: Setup) -> Result<Self> {
        let mut agent = Self::spawn(world, setup)?;
        agent.wait_until_active()?;
        Ok(agent)
    }

    /// Starts it and does not wait.
    pub fn spawn(world: &Router, setup: Setup) -> Result<Self> {
        Self::prepare(world, |pins, run| setup.text(world.lan, pins, run))
    }

    /// Starts it with a whole file, in which only the directories are put in their places, and
    /// waits until it is in force.
    pub fn start_with(world: &Router, file: &str) -> Result<Self> {
        let mut agent = Self::prepare(world, |pins, run| in_place(file, pins, run))?;
        agent.wait_until_active()?;
        Ok(agent)
    }

    /// Starts it with these capabilities and no way to more, as a jail does, and waits until it is in force.
    pub fn start_confined(world: &Router, setup: Setup, capabilities: &[String]) -> Result<Self> {
        let text = |pins: &Path, run: &Path| setup.text(world.lan, pins, run);
        let mut agent = Self::prepare_with(world, capabilities, text)?;
        agent.wait_until_active()?;
        Ok(agent)
    }

    fn prepare(world: &Router, text: impl FnOnce(&Path, &Path) -> String) -> Result<Self> {
        Self::prepare_with(world, &[], text)
    }

    fn prepare_with(
        world: &Router,
        capabilities: &[String],
        text: impl FnOnce(&Path, &Path) -> String,
    ) -> Result<Self> {
        mount_bpffs()?;
        sweep()?;
        let files = Directory::new("agent")?;
        let pins = Path::new(BPFFS).join(unique("pins"));
        let run = files.path().join("run");
        files.write("sluice.uci", text(&pins, &run))?;
        let command = (world.netns.name().to_owned(), program()?);
        let run_it = run_command(world, &command.1, &files, capabilities);
        let daemon = Daemon::spawn("sluice", run_it, files.path())?;
        Ok(Self { daemon, command, files, pins, run, lan: world.lan.to_owned() })
    }

    /// Starts it again with the same configuration and directories, after it ended.
    pub fn start_again(&mut self, world: &Router) -> Result<()> {
        self.start_again_confined(world, &[])
    }

    /// The same, with these capabilities; none is all.
    pub fn start_again_confined(&mut self, world: &Router, capabilities: &[String]) -> Result<()> {
        let command = run_command(world, &self.command.1, &self.files, capabilities);
        self.daemon = Daemon::spawn("sluice", command, self.files.path())?;
        self.wait_until_active()
    }

    /// Waits until it answers and everything it wanted was tried.
    pub fn wait_until_active(&mut self) -> Result<()> {
        let status = self.cli(&["status", "--json"]);
        self.daemon.wait_until("the agent was active", START, |_| {
            let output = process::output(&mut status())?;
            let status: Option<Status> = serde_json::from_slice(&output.stdout).ok();
            // What "degraded" means is for the test to judge.
            Ok(status.filter(|status| status.state != "starting").map(drop))
        })?;
        Ok(())
    }

    /// A maker of `sluice` commands that talk to this agent.
    fn cli(&self, arguments: &[&str]) -> impl Fn() -> Command + use<> {
        let (netns, program) = self.command.clone();
        let socket = self.socket();
        let arguments: Vec<String> = arguments.iter().map(|&a| a.to_owned()).collect();
        move || {
            let mut command = Command::new("nsenter");
            command.arg(format!("--net=/run/netns/{netns}")).arg(&program).args(&arguments);
            command.arg("--socket").arg(&socket);
            command
        }
    }

    /// Its control socket.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.run.join("control.sock")
    }

    /// The program itself.
    #[must_use]
    pub fn program(&self) -> &Path {
        &self.command.1
    }

    /// Where it pins.
    #[must_use]
    pub fn pins(&self) -> &Path {
        &self.pins
    }

    /// A pinned map, wherever below the pin directory it lies.
    pub fn pinned(&self, name: &str) -> Result<PathBuf> {
        let mut places = vec![self.pins.clone()];
        while let Some(place) = places.pop() {
            let entries = fs::read_dir(&place).attempt(|| format!("list {}", place.display()))?;
            for entry in entries.flatten() {
                if sluice::dataplane::layout::is_pin_of(&entry.file_name().to_string_lossy(), name)
                {
                    return Ok(entry.path());
                }
                if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    places.push(entry.path());
                }
            }
        }
        Err(Error::Unusable(format!("no {name} below {}", self.pins.display())))
    }

    /// Opens a pinned map.
    pub fn map(&self, name: &str) -> Result<aya::maps::MapData> {
        let path = self.pinned(name)?;
        aya::maps::MapData::from_pin(&path)
            .map_err(|error| Error::Unusable(format!("open {}: {error}", path.display())))
    }

    /// Its configuration file.
    #[must_use]
    pub fn config(&self) -> PathBuf {
        self.files.path().join("sluice.uci")
    }

    /// Runs a command that must succeed and gives what it prints.
    pub fn ask(&self, arguments: &[&str]) -> Result<String> {
        process::run(&mut self.cli(arguments)())
    }

    fn json<T: DeserializeOwned>(&self, arguments: &[&str]) -> Result<T> {
        let text = self.ask(arguments)?;
        serde_json::from_str(&text)
            .map_err(|error| Error::Unusable(format!("{arguments:?}: {error}\n{text}")))
    }

    /// `sluice status --json`.
    pub fn status(&self) -> Result<Status> {
        self.json(&["status", "--json"])
    }

    /// `sluice flows --json`.
    pub fn flows(&self) -> Result<Vec<Flow>> {
        self.json(&["flows", "--json"])
    }

    /// `sluice alerts --json`, the last first.
    pub fn alerts(&self) -> Result<Vec<Alert>> {
        self.json(&["alerts", "--json"])
    }

    /// `sluice why --json WHAT`.
    pub fn why(&self, what: &str) -> Result<Why> {
        self.json(&["why", "--json", what])
    }

    /// A counter of an interface (section or device) in its status.
    pub fn count(&self, interface: &str, counter: &str) -> Result<u64> {
        let status = self.status()?;
        let known = |i: &&Interface| i.name == interface || i.device == interface;
        let found = status.interfaces.iter().find(known).and_then(|i| i.counters.get(counter));
        found.copied().ok_or_else(|| {
            let known = &status.interfaces;
            Error::Unusable(format!("no counter {counter} of {interface} in {known:?}"))
        })
    }

    /// Waits until a decided flow is as `wanted`, and gives it.
    pub fn wait_for_flow(&self, what: &str, wanted: impl Fn(&Flow) -> bool) -> Result<Flow> {
        let what = format!("a flow was {what}");
        let found = wait::until(&what, FLOW, || Ok(self.flows()?.into_iter().find(&wanted)));
        found.map_err(|error| match error {
            Error::Timeout { .. } => {
                Error::Unusable(format!("{error}; there are: {:#?}", self.flows()))
            }
            other => other,
        })
    }

    /// What it logged.
    #[must_use]
    pub fn log(&self) -> String {
        self.daemon.log()
    }

    /// Its process number.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.daemon.pid()
    }

    /// Its process, for signals and waiting.
    pub const fn daemon(&mut self) -> &mut Daemon {
        &mut self.daemon
    }

    /// Writes another configuration and asks the agent to read it.
    pub fn reload(&mut self, setup: &Setup) -> Result<()> {
        let text = setup.text(&self.lan, &self.pins, &self.run);
        self.reload_text(&text)
    }

    /// Writes this text as configuration and asks the agent to read it.
    pub fn reload_text(&mut self, text: &str) -> Result<()> {
        self.files.write("sluice.uci", text)?;
        self.daemon.signal(Signal::SIGHUP)
    }

    /// The same, and its status when that is in force.
    pub fn reloaded(&mut self, setup: &Setup) -> Result<Status> {
        let before = self.status()?.generation;
        self.reload(setup)?;
        self.wait_for_status("the reload was in force", RELOAD_LIMIT, |status| {
            (status.generation > before).then(|| status.clone())
        })
    }

    /// Asks the agent to read another configuration that it must refuse, and gives its status then.
    pub fn refused(&mut self, setup: &Setup) -> Result<Status> {
        self.reload(setup)?;
        self.wait_for_status("the reload was refused", RELOAD_LIMIT, |status| {
            (!status.config_errors.is_empty()).then(|| status.clone())
        })
    }

    /// Ends it as procd does.
    pub fn stop(&mut self) -> Result<ExitStatus> {
        self.daemon.stop()
    }

    /// Kills it.
    pub fn kill9(&mut self) -> Result<ExitStatus> {
        self.daemon.kill()
    }

    /// Stops it where it is.
    pub fn sigstop(&mut self) -> Result<()> {
        self.daemon.signal(Signal::SIGSTOP)
    }

    /// Lets it go on.
    pub fn sigcont(&mut self) -> Result<()> {
        self.daemon.signal(Signal::SIGCONT)
    }

    /// Waits until `look` finds something in its status.
    pub fn wait_for_status<T>(
        &self,
        what: &str,
        limit: Duration,
        mut look: impl FnMut(&Status) -> Option<T>,
    ) -> Result<T> {
        wait::until(what, limit, || Ok(look(&self.status()?)))
    }

    /// Waits until the firewall's offload is under guard.
    pub fn wait_for_guard(&self) -> Result<()> {
        let look = |status: &Status| status.offload.guarded.then_some(());
        self.wait_for_status("offload was guarded", GUARD, look)
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        // Killed agents leave pins on purpose; the test world must not.
        let _ended = self.daemon.stop();
        let _removed = fs::remove_dir_all(&self.pins);
    }
}

/// `file` with the directories in its main section.
fn in_place(file: &str, pins: &Path, run: &Path) -> String {
    let section = "config sluice 'main'\n";
    let options =
        format!("\toption pin_dir '{}'\n\toption run_dir '{}'\n", pins.display(), run.display());
    file.replacen(section, &format!("{section}{options}"), 1)
}

fn run_command(
    world: &Router,
    program: &Path,
    files: &Directory,
    capabilities: &[String],
) -> Command {
    if capabilities.is_empty() {
        let mut command = world.netns.command(program);
        command.args(run_arguments(files));
        return command;
    }
    let mut command = world.netns.command("setpriv");
    let set = capabilities.join(",+");
    command.args(["--no-new-privs", &format!("--bounding-set=-all,+{set}"), "--"]);
    command.arg(program).args(run_arguments(files));
    command
}

fn run_arguments(files: &Directory) -> [OsString; 3] {
    ["run".into(), "--config".into(), files.path().join("sluice.uci").into()]
}

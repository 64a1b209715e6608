//! Programs: run to the end, or kept as daemons that end with their guard.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::error::{Attempt as _, Error, Result};
use crate::wait;

/// Time for a daemon to end by itself after SIGTERM.
const GRACE: Duration = Duration::from_secs(5);

/// Debian packages of the programs used here, where the names differ.
const PACKAGES: [(&str, &str); 23] = [
    ("ip", "iproute2"),
    ("bridge", "iproute2"),
    ("tc", "iproute2"),
    ("nft", "nftables"),
    ("iptables-nft", "iptables"),
    ("conntrack", "conntrack"),
    ("dnsmasq", "dnsmasq-base"),
    ("nginx", "nginx-light"),
    ("openssl", "openssl"),
    ("curl", "curl"),
    ("iperf3", "iperf3"),
    ("hping3", "hping3"),
    ("bpftool", "bpftool"),
    ("ethtool", "ethtool"),
    ("busybox", "busybox-static"),
    ("tcpdump", "tcpdump"),
    ("tshark", "tshark"),
    ("ssh", "openssh-client"),
    ("python3", "python3"),
    ("chromium", "chromium"),
    ("prometheus", "prometheus"),
    ("promtool", "prometheus"),
    ("lua5.1", "lua5.1"),
];

/// The command line, for messages.
fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

/// Whether `program` is in one of the directories where Debian puts programs.
#[must_use]
pub fn installed(program: &str) -> bool {
    ["/usr/sbin", "/usr/bin", "/sbin", "/bin", "/usr/local/sbin", "/usr/local/bin"]
        .iter()
        .any(|directory| Path::new(directory).join(program).exists())
}

/// An error that names the package when one of `programs` is missing.
pub fn need(programs: &[&str]) -> Result<()> {
    let missing = programs.iter().find(|program| !installed(program));
    missing.map_or(Ok(()), |program| {
        let package = PACKAGES.iter().find(|(name, _)| name == program);
        let package = package.map_or("the package that has it", |(_, package)| package);
        Err(Error::Missing { program: (*program).to_owned(), package })
    })
}

/// Runs a program to its end, whatever the end.
pub fn output(command: &mut Command) -> Result<Output> {
    let output = command.stdin(Stdio::null()).output().attempt(|| shown(command))?;
    wait::interrupted()?;
    Ok(output)
}

/// Runs a program that must succeed and gives its standard output.
pub fn run(command: &mut Command) -> Result<String> {
    let text = tidy(command);
    wait::interrupted()?;
    text
}

/// Like [`run`], also after an interrupt: for taking down.
pub fn tidy(command: &mut Command) -> Result<String> {
    let output = command.stdin(Stdio::null()).output().attempt(|| shown(command))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(text);
    }
    let output = Output { stdout: text.into_bytes(), ..output };
    Err(refused(command, &output))
}

/// Runs a program that must succeed with `input` on its standard input.
pub fn feed(command: &mut Command, input: &str) -> Result<String> {
    let pipes = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = pipes.spawn().attempt(|| shown(command))?;
    if let Some(mut stdin) = child.stdin.take() {
        // A program that refuses early closes its input; its exit status says so below.
        let _refused_early = stdin.write_all(input.as_bytes());
    }
    let output = child.wait_with_output().attempt(|| shown(command))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(refused(command, &output))
}

fn refused(command: &Command, output: &Output) -> Error {
    let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.push_str(&String::from_utf8_lossy(&output.stderr));
    Error::Command {
        command: shown(command),
        status: output.status.to_string(),
        output: text.trim_end().to_owned(),
    }
}

/// A program that runs until the guard is dropped.
///
/// What it prints goes to a file, which is shown when the test fails. It is in a process group of
/// its own, so that Ctrl-C reaches only the one who cleans up.
#[derive(Debug)]
pub struct Daemon {
    name: String,
    child: Child,
    log: PathBuf,
    ended: Option<ExitStatus>,
}

impl Daemon {
    /// Starts `command`; its output goes to `directory/name.log`.
    pub fn spawn(name: &str, mut command: Command, directory: &Path) -> Result<Self> {
        let log = directory.join(format!("{name}.log"));
        let file =
            File::options().create(true).append(true).open(&log).attempt(|| shown(&command))?;
        let errors = file.try_clone().attempt(|| shown(&command))?;
        command.stdin(Stdio::null()).stdout(file).stderr(errors).process_group(0);
        let child = command.spawn().attempt(|| shown(&command))?;
        Ok(Self { name: name.to_owned(), child, log, ended: None })
    }

    /// Its process number.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it printed so far.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read(&self.log).map_or_else(
            |error| format!("(no log: {error})"),
            |bytes| String::from_utf8_lossy(&bytes).into_owned(),
        )
    }

    /// How it ended, when it has.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        if self.ended.is_none() {
            self.ended = self.child.try_wait().attempt(|| format!("wait for {}", self.name))?;
        }
        Ok(self.ended)
    }

    /// Waits until `ready` finds something; an error when the program ends before that.
    pub fn wait_until<T>(
        &mut self,
        what: &str,
        limit: Duration,
        mut ready: impl FnMut(&Self) -> Result<Option<T>>,
    ) -> Result<T> {
        wait::until(what, limit, || {
            if let Some(found) = ready(self)? {
                return Ok(Some(found));
            }
            self.ended()?.map_or(Ok(None), |status| {
                let (name, status) = (self.name.clone(), status.to_string());
                Err(Error::Ended { name, status, log: self.log() })
            })
        })
    }

    /// Waits until it has printed `text`.
    pub fn wait_for_text(&mut self, text: &str, limit: Duration) -> Result<()> {
        let what = format!("{} printed \"{text}\"", self.name);
        self.wait_until(&what, limit, |this| Ok(this.log().contains(text).then_some(())))
    }

    /// Waits until it has ended.
    pub fn wait_for_end(&mut self, limit: Duration) -> Result<ExitStatus> {
        let what = format!("{} ended", self.name);
        wait::until(&what, limit, || self.ended())
    }

    /// Sends a signal.
    pub fn signal(&mut self, signal: Signal) -> Result<()> {
        if self.ended()?.is_some() {
            return Ok(());
        }
        let pid = Pid::from_raw(self.child.id().cast_signed());
        kill(pid, signal).attempt(|| format!("send {signal} to {}", self.name))
    }

    /// Asks it to end, and kills it when it does not within the grace time.
    pub fn stop(&mut self) -> Result<ExitStatus> {
        // A stopped process does not see SIGTERM.
        self.signal(Signal::SIGCONT)?;
        self.signal(Signal::SIGTERM)?;
        wait::settles(GRACE, || !matches!(self.ended(), Ok(None)));
        self.kill()
    }

    /// Kills it.
    pub fn kill(&mut self) -> Result<ExitStatus> {
        let name = self.name.clone();
        if let Some(status) = self.ended()? {
            return Ok(status);
        }
        self.child.kill().attempt(|| format!("kill {name}"))?;
        let status = self.child.wait().attempt(|| format!("wait for {name}"))?;
        self.ended = Some(status);
        Ok(status)
    }

    /// Whether a signal ended it.
    pub fn ended_by_signal(&mut self) -> Result<bool> {
        Ok(self.ended()?.is_some_and(|status| status.signal().is_some()))
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.log();
            let start = log.len().saturating_sub(8000);
            let start = (start..log.len()).find(|&at| log.is_char_boundary(at)).unwrap_or(0);
            let _closed = writeln!(io::stderr(), "--- {} said:\n{}", self.name, &log[start..]);
        }
        // There is nobody to tell; the namespace guard looks again.
        let _gone = self.kill();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::directory::Directory;

    #[test]
    fn a_refusal_shows_the_command_and_both_streams() {
        let error = run(Command::new("sh").args(["-c", "echo out; echo err >&2; exit 3"]));
        let shown = error.unwrap_err().to_string();
        for part in ["sh -c", "exit status: 3", "out", "err"] {
            assert!(shown.contains(part), "{part} in {shown}");
        }
    }

    #[test]
    fn a_daemon_that_dies_early_is_reported_with_its_log() {
        let directory = Directory::new("process").unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", "echo no such luck; exit 1"]);
        let mut daemon = Daemon::spawn("sh", command, directory.path()).unwrap();
        let error = daemon.wait_for_text("ready", Duration::from_secs(10)).unwrap_err();
        assert!(error.to_string().contains("no such luck"), "{error}");
    }

    #[test]
    fn a_daemon_ends_with_its_guard() {
        let directory = Directory::new("process").unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", "trap '' TERM; echo up; while :; do sleep 1; done"]);
        let mut daemon = Daemon::spawn("sh", command, directory.path()).unwrap();
        daemon.wait_for_text("up", Duration::from_secs(10)).unwrap();
        let process = PathBuf::from(format!("/proc/{}", daemon.pid()));
        assert!(process.exists());
        drop(daemon);
        assert!(!process.exists());
    }
}

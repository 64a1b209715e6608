//! The program that is started for events: without a shell, with what happened in its environment
//! and nowhere else, without the agent's capabilities, one at a time, and not for long.

use std::collections::VecDeque;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use serde_json::Value;
use smol::Timer;

use crate::agent::pace::Pace;
use crate::control::events::Event;
use crate::sys::rights;
use crate::text::environment;

/// Events that wait for the program.
const WAITING_MAX: usize = 16;
/// How long it may take.
const LIMIT: Duration = Duration::from_secs(10);
/// Time between two looks whether it has ended.
const LOOK: Duration = Duration::from_millis(50);
/// So many starts in a row, and then one in this time.
const STARTS: (u64, u64) = (10, 3_000_000_000);

/// A variable of the environment.
pub(super) type Variable = (String, String);

/// Events on their way to the program.
#[derive(Debug)]
pub(super) struct Hook {
    waiting: VecDeque<Vec<Variable>>,
    pace: Pace,
    /// Events that were too many.
    pub(super) left_out: u64,
    /// Why the last start did not end well.
    pub(super) trouble: Option<String>,
}

impl Default for Hook {
    fn default() -> Self {
        let pace = Pace::new(STARTS.0, STARTS.1);
        Self { waiting: VecDeque::new(), pace, left_out: 0, trouble: None }
    }
}

impl Hook {
    /// Takes an event, if there is room.
    pub(super) fn push(&mut self, now_ns: u64, event: &Event, time: Option<f64>) {
        if self.waiting.len() >= WAITING_MAX || !self.pace.take(now_ns) {
            self.left_out += 1;
            return;
        }
        self.waiting.push_back(variables(event, time));
    }

    /// The next one.
    pub(super) fn pop(&mut self) -> Option<Vec<Variable>> {
        self.waiting.pop_front()
    }

    /// Forgets what waits.
    pub(super) fn clear(&mut self) {
        self.waiting.clear();
    }
}

/// An event as an environment.
fn variables(event: &Event, time: Option<f64>) -> Vec<Variable> {
    let mut all = event.object(time);
    all.remove("type");
    all.insert("kind".to_owned(), event.kind.name().into());
    let named = all.iter().filter_map(|(name, value)| {
        let text = shown(value)?;
        Some((format!("SLUICE_{}", name.to_ascii_uppercase()), environment(&text)))
    });
    named.collect()
}

/// A value as text; lists with blanks between their elements.
fn shown(value: &Value) -> Option<String> {
    match value {
        Value::Null | Value::Object(_) => None,
        Value::Bool(is) => Some(u8::from(*is).to_string()),
        Value::Number(number) => Some(number.to_string()),
        Value::String(text) => Some(text.clone()),
        Value::Array(values) => Some(values.iter().filter_map(shown).collect::<Vec<_>>().join(" ")),
    }
}

/// The program while it runs; killed with everything it started when it is not waited for.
struct Started(Child);

impl Started {
    fn kill(&mut self) {
        if let Ok(group) = i32::try_from(self.0.id()) {
            // It may have ended by itself.
            let _gone = killpg(Pid::from_raw(group), Signal::SIGKILL);
        }
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        if matches!(self.0.try_wait(), Ok(None)) {
            self.kill();
            // Not waited for: it may be stuck in the kernel.
            let _ended = self.0.try_wait();
        }
    }
}

/// Runs `script` and waits for its end.
pub(super) async fn run(script: &Path, variables: Vec<Variable>) -> Result<(), String> {
    run_within(LIMIT, script, variables).await
}

async fn run_within(
    limit: Duration,
    script: &Path,
    variables: Vec<Variable>,
) -> Result<(), String> {
    let mut command = Command::new(script);
    command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").envs(variables);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    // A group of its own, which ends as a whole.
    command.process_group(0);
    rights::shed(&mut command);
    let failed = |why: String| format!("{}: {why}", script.display());
    let child = command.spawn().map_err(|error| failed(error.to_string()))?;
    let (mut started, deadline) = (Started(child), Instant::now() + limit);
    let mut is_late = false;
    // One that was killed and is stuck in the kernel keeps the next one from being started.
    loop {
        match started.0.try_wait() {
            Err(error) => return Err(failed(error.to_string())),
            Ok(Some(_)) if is_late => {
                return Err(failed(format!("ended after {} s", limit.as_secs())));
            }
            Ok(Some(status)) => return ended(status).map_err(failed),
            Ok(None) => _ = Timer::after(LOOK).await,
        }
        if !is_late && Instant::now() >= deadline {
            is_late = true;
            started.kill();
        }
    }
}

fn ended(status: ExitStatus) -> Result<(), String> {
    if status.success() { Ok(()) } else { Err(status.to_string()) }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;
    use std::path::PathBuf;

    use super::*;
    use crate::control::events::{Kind, Severity};

    /// A script in a directory that goes away with it.
    struct Script(PathBuf);

    impl Script {
        fn new(name: &str, text: &str) -> Self {
            let dir =
                std::env::temp_dir().join(format!("sluice-hook-{}-{name}", std::process::id()));
            let _ = fs::remove_dir_all(&dir);
            fs::create_dir(&dir).unwrap();
            let this = Self(dir);
            fs::write(this.file("run"), text).unwrap();
            fs::set_permissions(this.file("run"), fs::Permissions::from_mode(0o755)).unwrap();
            this
        }

        fn file(&self, name: &str) -> PathBuf {
            self.0.join(name)
        }

        fn run(&self, limit: Duration, variables: Vec<Variable>) -> Result<(), String> {
            smol::block_on(run_within(limit, &self.file("run"), variables))
        }
    }

    impl Drop for Script {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    /// R195: what the network sent reaches a program by its environment, where it is text.
    #[test]
    fn hostile_names_are_values_and_nothing_else() {
        let name = "<img onerror=x>\u{1b}[2J\n\";$(id)`id`\0\u{202e}=";
        let event = Event::new(Kind::Verdict, Severity::Warning, name.to_owned());
        let event = event.with("name", name).with("dport", 443).with("list", vec!["a", "b"]);
        let variables = variables(&event.with("none", Value::Null), Some(1.5));
        let escaped = "<img onerror=x>\\u{1b}[2J\\u{a}\";$(id)`id`\\u{0}\\u{202e}=";
        let of = |name: &str| {
            let found = variables.iter().find(|(known, _)| known == name);
            found.map(|(_, value)| value.as_str())
        };
        assert_eq!((of("SLUICE_NAME"), of("SLUICE_WHAT")), (Some(escaped), Some(escaped)));
        assert_eq!((of("SLUICE_KIND"), of("SLUICE_DPORT")), (Some("verdict"), Some("443")));
        assert_eq!((of("SLUICE_LIST"), of("SLUICE_TIME")), (Some("a b"), Some("1.5")));
        assert_eq!((of("SLUICE_NONE"), of("SLUICE_SEVERITY")), (None, Some("warning")));

        let script =
            Script::new("hostile", "#!/bin/sh\nenv >\"${0%/*}/out\"\necho $# >\"${0%/*}/count\"\n");
        script.run(Duration::from_secs(60), variables).unwrap();
        let out = fs::read_to_string(script.file("out")).unwrap();
        assert!(out.contains(&format!("\nSLUICE_NAME={escaped}\n")), "{out}");
        let known = ["SLUICE_", "PATH=", "PWD=", "SHLVL=", "_=", "OLDPWD="];
        assert!(out.lines().all(|line| known.iter().any(|name| line.starts_with(name))), "{out}");
        assert_eq!(fs::read_to_string(script.file("count")).unwrap(), "0\n", "no arguments");
    }

    /// R177: what the agent may do its program may not, and cannot get back.
    #[test]
    fn the_program_has_no_capabilities_and_gets_none() {
        let text = "#!/bin/sh\ngrep -E '^(Cap|NoNewPrivs)' /proc/self/status >\"${0%/*}/out\"\n";
        let script = Script::new("rights", text);
        script.run(Duration::from_secs(60), Vec::new()).unwrap();
        let out = fs::read_to_string(script.file("out")).unwrap();
        let own = fs::read_to_string("/proc/self/status").unwrap();
        let of = |text: &str, name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            u64::from_str_radix(line.unwrap().trim(), 16).unwrap()
        };
        for name in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
            assert_eq!(of(&out, name), 0, "{name} in\n{out}");
        }
        assert_eq!(of(&out, "NoNewPrivs"), 1, "{out}");
        // CAP_SETPCAP, without which nobody changes what is left.
        let may_bound = of(&own, "CapEff") & 1 << 8 != 0;
        assert!(!may_bound || of(&out, "CapBnd") == 0, "{out}");
    }

    #[test]
    fn a_program_that_hangs_is_ended_with_all_that_it_started() {
        let script =
            Script::new("hangs", "#!/bin/sh\nsleep 600 &\necho $! >\"${0%/*}/child\"\nwait\n");
        let limit = Duration::from_secs(2);
        let why = script.run(limit, Vec::new()).unwrap_err();
        assert!(why.ends_with("ended after 2 s"), "{why}");
        let child = fs::read_to_string(script.file("child")).unwrap();
        let path = PathBuf::from(format!("/proc/{}/stat", child.trim()));
        let is_gone = || fs::read_to_string(&path).map_or(true, |stat| stat.contains(") Z "));
        let deadline = Instant::now() + Duration::from_secs(60);
        while !is_gone() {
            assert!(Instant::now() < deadline, "its child goes on");
            std::thread::yield_now();
        }
    }

    #[test]
    fn a_program_that_fails_says_how() {
        let script = Script::new("fails", "#!/bin/sh\nexit 7\n");
        let why = script.run(LIMIT, Vec::new()).unwrap_err();
        assert!(why.contains("exit status: 7"), "{why}");
        let missing = smol::block_on(run(Path::new("/nonexistent"), Vec::new())).unwrap_err();
        assert!(missing.contains("/nonexistent: No such file"), "{missing}");
    }

    #[test]
    fn starts_are_bounded() {
        let event = Event::new(Kind::Alert, Severity::Warning, "x".to_owned());
        let mut hook = Hook::default();
        for _ in 0..100 {
            hook.push(100_000_000_000, &event, None);
        }
        assert_eq!((hook.waiting.len(), hook.left_out), (11, 89), "a burst");
        for second in 101..1000 {
            hook.push(second * 1_000_000_000, &event, None);
        }
        assert_eq!(hook.waiting.len(), WAITING_MAX);
        assert!(hook.pop().is_some_and(|first| !first.is_empty()));
    }
}

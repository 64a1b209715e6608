//! The commands: arguments, answers, exit codes.

mod apply;
mod devices;
mod events;
mod feature;
mod hand;
#[cfg(test)]
mod hostile;
mod show;
mod signatures;
mod table;

use std::ffi::OsString;
use std::fmt::{self, Write as _};
use std::path::PathBuf;

use serde::Serialize;
use serde_json::Value;

use crate::control::client::{AskError, ask};
use crate::control::events::filter::Filter;
use crate::control::report::{Checked, Feature, Flow, Status, Why};
use crate::control::signatures::Alert;
use crate::control::{Request, socket_path};
use crate::text;

/// The command that the agent starts beside itself.
const WATCHDOG: &str = crate::netfilter::apply::WATCHDOG;
/// Where the configuration lies on OpenWrt.
const CONFIG: &str = "/etc/config/sluice";
/// Where the agent keeps its socket unless the configuration says otherwise.
const RUN_DIR: &str = "/var/run/sluice";

/// How a command ended, as the shell sees it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u8)]
pub enum Exit {
    /// Done.
    Ok = 0,
    /// Tried and failed; the message says at what.
    Failure = 1,
    /// The arguments make no sense.
    Usage = 2,
    /// No agent answers.
    NotRunning = 3,
    /// The configuration has mistakes.
    Config = 4,
    /// Not allowed: not root, or not in group sluice.
    Denied = 5,
    /// Another agent runs already.
    Running = 6,
}

/// A failed command.
#[derive(Debug)]
pub struct Failed {
    /// For the shell.
    pub exit: Exit,
    /// For people.
    pub message: String,
}

impl Failed {
    /// A failure with the chain of its causes.
    #[must_use]
    pub fn new(exit: Exit, error: &dyn std::error::Error) -> Self {
        Self { exit, message: chain(error) }
    }
}

/// An error and everything behind it, on one line.
#[must_use]
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}

/// What the library behind the commands does; the binary supplies it.
pub trait Commands {
    /// Runs the agent until it is told to stop.
    fn run(&self, config: &std::path::Path) -> Result<(), Failed>;
    /// What this kernel can do.
    fn doctor(&self) -> Vec<Feature>;
    /// Reads the configuration.
    fn check(&self, config: &std::path::Path) -> Result<Checked, Failed>;
    /// Inspects a capture and prints what it finds, alerts of the rules in files as well.
    fn replay(
        &self,
        file: &std::path::Path,
        rules: &[PathBuf],
        out: &mut dyn std::io::Write,
    ) -> Result<(), Failed>;
    /// Watches over the agent that started this process, with the way of its rules and its marks.
    fn watchdog(&self, kind: &str, marks: &str) -> Result<(), Failed>;
}

/// A command line that makes sense.
#[derive(Debug, Eq, PartialEq)]
struct Line {
    command: Command,
    config: PathBuf,
    socket: Option<PathBuf>,
    json: bool,
    rules: Vec<PathBuf>,
    filter: Filter,
    hand: hand::Options,
    /// Seconds to confirm.
    confirm: Option<u32>,
}

#[derive(Debug, Eq, PartialEq)]
enum Command {
    Run,
    Status,
    Doctor,
    Flows,
    Devices,
    Alerts,
    Events,
    Metrics,
    Why(String),
    Reload,
    Apply(OsString),
    Confirm,
    Rollback,
    Hand(hand::Verb, Vec<String>),
    Features,
    Switch {
        on: bool,
        name: String,
    },
    Replay(PathBuf),
    ConfigCheck,
    /// For the agent only, and in no help.
    Watchdog(String, String),
    Help(&'static str),
    Version,
}

const HELP: &str = "\
sluice: inspection, shield and fast path for a router

usage: sluice [--config FILE] [--socket PATH] [--json] COMMAND

commands:
  run                 the agent; stops on SIGTERM, reads the configuration again on SIGHUP
  status              features and their rungs, counters, lists
  doctor              what this kernel can do and what would enable the rest; needs no agent
  flows               decided flows
  devices             who is in the household, and what they send and receive just now
  alerts              the last alerts of rulesets
  events              what happened lately; one JSON object a line
  metrics             the same figures for Prometheus
  why SUBJECT         what applies to an address, a domain, a device or a flow
  reload              reads the configuration again
  apply FILE          makes a file the configuration; with --confirm on trial
  confirm             keeps the configuration that is on trial
  rollback            brings back the one of before
  allow SUBJECT       lets a domain, address or prefix pass, for --device or everyone
  deny SUBJECT        blocks it in the same way
  pause DEVICE        blocks everything of a device; --for says how long
  resume DEVICE       ends a pause
  limit DEVICE KBIT   holds each of its connections to a rate; 0 takes that back
  rename DEVICE NAME  calls it something; an empty name takes that back
  block ADDRESS       drops an address or prefix; with --for in the kernel alone
  unblock ADDRESS     lifts a block
  forget SECTION      takes back what was decided by hand
  features            what can be switched, what it needs, how it fares
  enable FEATURE      switches it on, and what it needs
  disable FEATURE     switches it off; --force also what needs it
  replay FILE         inspects a pcap or pcapng file; one JSON object a line
  config check        reads the configuration and reports every mistake

options:
  --config FILE       UCI file (/etc/config/sluice)
  --socket PATH       control socket (/var/run/sluice/control.sock)
  --json              for programs
  --severity LEVEL    of events: info, notice, warning, error and above
  --type TYPE         of events: verdict, alert, attack, list, health; several with commas
  --since TIME        of events: not older than 90s, 10m, 2h, 1d
  --grep PATTERN      of events: lines with this regular expression in them
  --device DEVICE     of allow, deny: hardware address, address or prefix
  --for TIME          of allow, deny, pause, limit, block: such as 90s, 15m, 2h, 1d
  --confirm SECONDS   of apply: goes back unless confirmed by then
  --force             of disable: also what needs it
  --rules FILE        of replay: signatures to compare with; may be given several times
  --help, --version

exit codes: 0 done, 1 failed, 2 usage, 3 no agent runs, 4 mistakes in the configuration,
            5 not allowed, 6 another agent runs already
";

const COMMAND_HELP: [(&str, &str); 12] = [
    (
        "run",
        "usage: sluice [--config FILE] run\n\nRuns the agent in the foreground. Needs root.\nSIGTERM or SIGINT stops it and takes everything out of the kernel; SIGHUP reads the configuration again.\n",
    ),
    (
        "status",
        "usage: sluice [--socket PATH] [--json] status\n\nFeatures with the rung in use and why no better one, counters per interface, rules, queue, flow map, lists.\n",
    ),
    (
        "doctor",
        "usage: sluice [--config FILE] [--json] doctor\n\nProbes this kernel by doing, and says which kmod, package or kernel option would enable what is missing; then what memory the configuration may take. Needs root.\n",
    ),
    (
        "flows",
        "usage: sluice [--socket PATH] [--json] flows\n\nDecided flows: names, fingerprints, verdict, packets and bytes per direction.\n",
    ),
    (
        "devices",
        "usage: sluice [--socket PATH] [--json] devices\n\nDevices of the LAN: names, addresses, bits a second to and from them over the last seconds, when they were seen, rules about all they do. Takes a moment where nobody has asked lately: a rate needs two readings.\n",
    ),
    (
        "alerts",
        "usage: sluice [--socket PATH] [--json] alerts\n\nThe last 256 alerts of rulesets, the last first: number and message of the rule, flow, whether it was blocked.\n",
    ),
    (
        "events",
        "usage: sluice [--socket PATH] events [--severity LEVEL] [--type TYPE[,TYPE]...] [--since TIME] [--grep PATTERN]\n\nWhat happened lately, the last first: flows that were blocked, alerts, attacks, lists that are refused, features that get worse or better. One JSON object a line; config/events.md says what is in it. The agent keeps 256.\nPatterns know . [a-z] [^a] \\d \\w \\s * + ? | ( ) ^ $ and (?i) in front.\n",
    ),
    (
        "metrics",
        "usage: sluice [--socket PATH] metrics\n\nCounters, drops by reason, interface and CPU, features and lists in the text format of Prometheus.\n",
    ),
    (
        "why",
        "usage: sluice [--socket PATH] [--json] why ADDRESS|DOMAIN|MAC|FLOW\n\nLists, rules and decided flows that apply to it, what they did, when, and to whom the last time. FLOW is\n\"ADDRESS:PORT > ADDRESS:PORT\", as `flows` prints it.\n",
    ),
    (
        "reload",
        "usage: sluice [--socket PATH] [--json] reload\n\nReads the configuration again and says what changed and what that took: none, update, reattach, reload. With mistakes in it, the one in force stays. Needs root.\n",
    ),
    (
        "replay",
        "usage: sluice [--rules FILE]... replay FILE.pcap[ng]\n\nRuns the same inspection over a capture. Prints one JSON object a line. Needs no rights.\n",
    ),
    (
        "config",
        "usage: sluice [--config FILE] config check\n\nReads the configuration and reports every mistake with file, line, section and option; without one, the memory that it may take at most, part by part.\n",
    ),
];

#[expect(clippy::too_many_lines, reason = "a line for each command")]
fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Line, lexopt::Error> {
    use lexopt::prelude::{Long, Short, Value, ValueExt as _};

    let mut parser = lexopt::Parser::from_args(args);
    let mut line = Line {
        command: Command::Help(HELP),
        config: CONFIG.into(),
        socket: None,
        json: false,
        rules: Vec::new(),
        filter: Filter::default(),
        hand: hand::Options::default(),
        confirm: None,
    };
    let mut words: Vec<OsString> = Vec::new();
    let mut help = false;
    while let Some(arg) = parser.next()? {
        match arg {
            Long("config") => line.config = parser.value()?.into(),
            Long("socket") => line.socket = Some(parser.value()?.into()),
            Long("json") => line.json = true,
            Long("device") => line.hand.device = Some(parser.value()?.string()?),
            Long("for") => line.hand.seconds = Some(hand::seconds(&parser.value()?.string()?)?),
            Long("confirm") => line.confirm = Some(parser.value()?.parse()?),
            Long("force") => line.hand.force = true,
            Long("rules") => line.rules.push(parser.value()?.into()),
            Long("severity") => line.filter.severity(&parser.value()?.string()?)?,
            Long("type") => line.filter.kinds(&parser.value()?.string()?)?,
            Long("since") => line.filter.since(&parser.value()?.string()?)?,
            Long("grep") => line.filter.grep(&parser.value()?.string()?)?,
            Long("help") | Short('h') => help = true,
            Long("version") | Short('V') => {
                line.command = Command::Version;
                return Ok(line);
            }
            Value(word) => words.push(word),
            _ => return Err(arg.unexpected()),
        }
    }
    let mut words = words.into_iter();
    let Some(name) = words.next() else {
        return if help {
            Ok(line)
        } else {
            Err("a command is missing, see `sluice --help`".into())
        };
    };
    let name = name.string()?;
    if help {
        let mut all =
            COMMAND_HELP.iter().chain(&hand::HELP).chain(&apply::HELP).chain(&feature::HELP);
        let text = all.find(|(command, _)| *command == name).map(|(_, text)| *text);
        line.command = Command::Help(text.ok_or_else(|| unknown(&name))?);
        return Ok(line);
    }
    let mut operand = |what: &str| {
        words.next().ok_or_else(|| lexopt::Error::from(format!("{name}: {what} is missing")))
    };
    line.command = match name.as_str() {
        "run" => Command::Run,
        "status" => Command::Status,
        "doctor" => Command::Doctor,
        "flows" => Command::Flows,
        "devices" => Command::Devices,
        "alerts" => Command::Alerts,
        "events" => Command::Events,
        "metrics" => Command::Metrics,
        "why" => Command::Why(operand("the subject")?.string()?),
        "reload" => Command::Reload,
        "apply" => Command::Apply(operand("the file")?),
        "confirm" => Command::Confirm,
        "rollback" => Command::Rollback,
        "features" => Command::Features,
        "enable" | "disable" => {
            let on = name == "enable";
            Command::Switch { on, name: operand("the feature")?.string()? }
        }
        "replay" => Command::Replay(operand("the capture")?.into()),
        "config" => match operand("`check`")?.string()?.as_str() {
            "check" => Command::ConfigCheck,
            other => {
                return Err(format!("config: `{other}` is not a command, only `check` is").into());
            }
        },
        WATCHDOG => Command::Watchdog(
            operand("the way of the rules")?.string()?,
            operand("the mask")?.string()?,
        ),
        _ => {
            let verb = hand::Verb::of(&name).ok_or_else(|| unknown(&name))?;
            let operands = verb.operands().iter().map(|what| operand(what)?.string());
            Command::Hand(verb, operands.collect::<Result<_, _>>()?)
        }
    };
    match words.next() {
        None if !line.hand.is_for(&line.command) => {
            Err(format!("{name}: --device, --for or --force is too much").into())
        }
        None if line.confirm.is_some() && !matches!(line.command, Command::Apply(_)) => {
            Err(format!("{name}: --confirm is too much").into())
        }
        None => Ok(line),
        Some(word) => Err(format!("{name}: `{}` is too much", word.to_string_lossy()).into()),
    }
}

fn unknown(name: &str) -> lexopt::Error {
    format!("`{}` is not a command, see `sluice --help`", text::plain(name)).into()
}

/// Runs the command line `args` (without the program's name); answers go to `out`.
#[expect(clippy::too_many_lines, reason = "an arm for each command")]
pub fn main(
    args: impl IntoIterator<Item = OsString>,
    commands: &dyn Commands,
    out: &mut dyn std::io::Write,
) -> Result<(), Failed> {
    let line = parse(args).map_err(|error| Failed::new(Exit::Usage, &error))?;
    let socket = line.socket.clone().unwrap_or_else(|| socket_path(RUN_DIR.as_ref()));
    let asked = |error: AskError| {
        let exit = match error {
            AskError::NotRunning { .. } => Exit::NotRunning,
            AskError::Denied { .. } | AskError::Forbidden(_) => Exit::Denied,
            AskError::Broken { .. } | AskError::Silent { .. } | AskError::Refused(_) => {
                Exit::Failure
            }
        };
        Failed::new(exit, &error)
    };
    match line.command {
        Command::Help(text) => print(out, &text),
        Command::Version => print(out, &format_args!("sluice {}\n", env!("CARGO_PKG_VERSION"))),
        Command::Run => commands.run(&line.config),
        Command::Doctor => {
            let features = commands.doctor();
            answer(out, line.json, &features, |features| {
                let budget = match commands.check(&line.config) {
                    Ok(checked) => show::budget(&checked.budget),
                    Err(failed) => format!("memory: {}\n", text::plain(&failed.message)),
                };
                show::features(features) + "\n" + &budget
            })
        }
        Command::ConfigCheck => {
            let checked = commands.check(&line.config)?;
            answer(out, line.json, &checked, |checked| {
                let mut text = String::new();
                for warning in &checked.warnings {
                    let _ = writeln!(text, "warning: {}", text::plain(warning));
                }
                text.push_str("the configuration is valid\n");
                text + &show::budget(&checked.budget)
            })
        }
        Command::Watchdog(kind, marks) => commands.watchdog(&kind, &marks),
        Command::Replay(file) => commands.replay(&file, &line.rules, out),
        Command::Status => {
            let status: Status = ask(&socket, &Request::Status {}).map_err(asked)?;
            answer(out, line.json, &status, show::status)
        }
        Command::Flows => {
            let flows: Vec<Flow> = ask(&socket, &Request::Flows {}).map_err(asked)?;
            answer(out, line.json, &flows, |flows| show::flows(flows))
        }
        Command::Devices => {
            let devices = devices::devices(&socket).map_err(asked)?;
            answer(out, line.json, &devices, devices::show)
        }
        Command::Alerts => {
            let alerts: Vec<Alert> = ask(&socket, &Request::Alerts {}).map_err(asked)?;
            answer(out, line.json, &alerts, |alerts| signatures::alerts(alerts))
        }
        Command::Events => {
            let events: Vec<Value> = ask(&socket, &Request::Events {}).map_err(asked)?;
            let chosen = events.iter().filter(|event| line.filter.fits(event));
            print(out, &chosen.map(events::line).collect::<String>())
        }
        Command::Metrics => {
            let status: Status = ask(&socket, &Request::Status {}).map_err(asked)?;
            print(out, &crate::control::metrics::metrics(&status))
        }
        Command::Why(subject) => {
            let why: Why = ask(&socket, &Request::Why { subject }).map_err(asked)?;
            answer(out, line.json, &why, show::why)
        }
        Command::Hand(verb, operands) => {
            let request = verb.request(operands, line.hand);
            let request = request.map_err(|message| Failed { exit: Exit::Usage, message })?;
            let answer: Value = ask(&socket, &request).map_err(asked)?;
            self::answer(out, line.json, &answer, |answer| verb.show(answer))
        }
        Command::Features => {
            let features: Value = ask(&socket, &Request::Features {}).map_err(asked)?;
            answer(out, line.json, &features, feature::features)
        }
        Command::Switch { on, name } => {
            let force = line.hand.force;
            let request =
                if on { Request::Enable { name } } else { Request::Disable { name, force } };
            let switched: Value = ask(&socket, &request).map_err(asked)?;
            answer(out, line.json, &switched, feature::switched)
        }
        Command::Reload | Command::Apply(_) => {
            let request = match &line.command {
                Command::Apply(file) => apply::request(file, line.confirm)
                    .map_err(|message| Failed { exit: Exit::Usage, message })?,
                _ => Request::Reload {},
            };
            let applied: Value = ask(&socket, &request).map_err(asked)?;
            answer(out, line.json, &applied, apply::applied)
        }
        Command::Confirm | Command::Rollback => {
            let is_kept = line.command == Command::Confirm;
            let request = if is_kept { Request::Confirm {} } else { Request::Rollback {} };
            let told: Value = ask(&socket, &request).map_err(asked)?;
            answer(out, line.json, &told, |told| {
                format!("{}\n", text::plain(told.as_str().unwrap_or_default()))
            })
        }
    }
}

fn answer<T: Serialize>(
    out: &mut dyn std::io::Write,
    json: bool,
    value: &T,
    show: impl FnOnce(&T) -> String,
) -> Result<(), Failed> {
    if json {
        let text =
            serde_json::to_string(value).map_err(|error| Failed::new(Exit::Failure, &error))?;
        print(out, &format_args!("{}\n", text::plain_json(&text::indented_json(&text))))
    } else {
        print(out, &show(value))
    }
}

fn print(out: &mut dyn std::io::Write, text: &dyn fmt::Display) -> Result<(), Failed> {
    match write!(out, "{text}").and_then(|()| out.flush()) {
        // `sluice flows | head` is not a failure.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        other => other.map_err(|error| Failed::new(Exit::Failure, &error)),
    }
}

/// The texts of a list in an answer.
fn texts<'a>(of: &'a Value, name: &str) -> Vec<&'a str> {
    of[name].as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(args: &[&str]) -> Result<Line, String> {
        parse(args.iter().map(OsString::from)).map_err(|error| error.to_string())
    }

    #[test]
    fn commands_and_options_in_any_order() {
        let parsed = line(&["why", "--json", "192.0.2.1", "--socket=/tmp/s"]).unwrap();
        assert_eq!(parsed.command, Command::Why("192.0.2.1".to_owned()));
        assert!(parsed.json);
        assert_eq!(parsed.socket, Some("/tmp/s".into()));
        assert_eq!(
            line(&["--config", "x", "config", "check"]).unwrap().command,
            Command::ConfigCheck
        );
        assert_eq!(line(&["run"]).unwrap().config, PathBuf::from(CONFIG));
    }

    #[test]
    fn every_command_has_help() {
        for command in [
            "run", "status", "doctor", "flows", "devices", "alerts", "events", "metrics", "why",
            "reload", "replay", "config", "allow", "deny", "pause", "resume", "limit", "rename",
            "block", "unblock", "forget", "apply", "confirm", "rollback", "features", "enable",
            "disable",
        ] {
            let Command::Help(text) = line(&[command, "--help"]).unwrap().command else {
                panic!("{command}")
            };
            assert!(text.contains(&format!(" {command}")), "{command}");
            assert!(HELP.contains(&format!("\n  {command}")), "{command}");
        }
    }

    #[test]
    fn mistakes_name_what_is_wrong() {
        #[rustfmt::skip]
        let cases: [(&[&str], &str); 11] = [
            (&[], "a command is missing"),
            (&["stat"], "`stat` is not a command"),
            (&["why"], "why: the subject is missing"),
            (&["flows", "extra"], "flows: `extra` is too much"),
            (&["config"], "config: `check` is missing"),
            (&["config", "apply"], "config: `apply` is not a command"),
            (&["--load", "x.o"], "--load"),
            (&["events", "--severity", "bad"], "`bad` is no severity: info, notice, warning, error"),
            (&["events", "--type", "alert,x"], "`x` is no type: verdict, alert, attack, list, health"),
            (&["events", "--since", "soon"], "`soon` is no time"),
            (&["events", "--grep", "("], "`(` without `)`"),
        ];
        for (args, expected) in cases {
            let message = line(args).unwrap_err();
            assert!(message.contains(expected), "{args:?}: {message}");
        }
    }
}

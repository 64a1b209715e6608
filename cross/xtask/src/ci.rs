//! Every check in the order in which a fault is found cheapest, with the time and the tests of each.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use lexopt::Arg::Long;
use lexopt::ValueExt as _;

use crate::libtest::Failure;
use crate::tally::Tally;
use crate::{agent, bench, check, ebpf, licence, mips, package, run, targets, vm};

/// Fewer tests that need root or a machine of their own than this mean that some were not run, whatever the rest
/// says. Raised with each new one: it is the number that `cargo xtask ci` printed last.
const PRIVILEGED_FLOOR: u32 = 400;

/// A step: what it is called, and what it does. Tests are counted into the tally even when it fails.
struct Step {
    name: &'static str,
    title: &'static str,
    is_privileged: bool,
    act: fn(&mut Report) -> Result<()>,
}

#[rustfmt::skip]
const STEPS: [Step; 14] = [
    Step { name: "fmt", title: "formatting", is_privileged: false, act: fmt },
    Step { name: "clippy", title: "lints, programs included, without a toolchain for BPF", is_privileged: false, act: clippy },
    Step { name: "test", title: "unit tests, no root", is_privileged: false, act: test },
    Step { name: "ebpf", title: "eBPF objects, both endiannesses", is_privileged: false, act: |_| ebpf::build().map(drop) },
    Step { name: "check", title: "objects: calls, licence, budgets", is_privileged: false, act: |_| check::main(none()) },
    Step { name: "bench", title: "cost of the programs, in hash lookups", is_privileged: false, act: |_| bench::main() },
    Step { name: "agent", title: "release build of the agent", is_privileged: false, act: |_| agent::host().map(drop) },
    Step { name: "kernel", title: "tests with this machine's kernel, as root", is_privileged: true, act: kernel },
    Step { name: "vm", title: "tests in virtual machines", is_privileged: true, act: virtual_machines },
    Step { name: "mips", title: "unit tests on MIPS, both endiannesses", is_privileged: false, act: mips_tests },
    Step { name: "cross", title: "the agent and its packages for routers, with their sizes", is_privileged: false, act: cross },
    Step { name: "shellcheck", title: "scripts", is_privileged: false, act: shellcheck },
    Step { name: "licence", title: "licences and foreign names", is_privileged: false, act: |_| licence::main() },
    Step { name: "deny", title: "dependencies", is_privileged: false, act: deny },
];

/// What has been counted.
#[derive(Default)]
struct Report {
    tally: Tally,
    /// Closing lines of test programs.
    closing: Vec<String>,
    /// Steps that could not be taken, with the reason.
    skipped: Vec<String>,
    /// Tests that did not hold.
    failed: Vec<Failure>,
}

/// Counts a line of a test program.
fn count(tally: &mut Tally, closing: &mut Vec<String>, line: &str) {
    tally.cargo_line(line);
    if line.starts_with("test result: ") {
        closing.push(line.to_owned());
    }
}

/// `ci [--from STEP] [--only STEP]…`.
pub(crate) fn main(mut parser: lexopt::Parser) -> Result<()> {
    let mut first = 0;
    let mut only = Vec::new();
    while let Some(arg) = parser.next()? {
        match arg {
            Long("from") => first = position(&parser.value()?.string()?)?,
            Long("only") => only.push(position(&parser.value()?.string()?)?),
            other => return Err(other.unexpected().into()),
        }
    }
    if only.is_empty() {
        only = (first..STEPS.len()).collect();
    }
    run_steps(&only)
}

/// Some of the steps, in their order.
pub(crate) fn steps(names: &[&str]) -> Result<()> {
    run_steps(&names.iter().map(|name| position(name)).collect::<Result<Vec<_>>>()?)
}

fn run_steps(chosen: &[usize]) -> Result<()> {
    let chosen: Vec<&Step> = chosen.iter().map(|index| &STEPS[*index]).collect();
    let mut all = Report::default();
    let mut privileged = 0;
    let mut failed = Vec::new();
    let mut table = String::new();
    for (index, step) in chosen.iter().enumerate() {
        println!("\n=== {}/{} {}: {}", index + 1, chosen.len(), step.name, step.title);
        let (started, worked) = (Instant::now(), cpu_seconds());
        let mut report = Report::default();
        let result = (step.act)(&mut report);
        let outcome = match &result {
            Err(error) => {
                println!("{}: {error:#}", step.name);
                failed.push(step.name);
                "FAILED"
            }
            Ok(()) if report.skipped.is_empty() => "ok",
            Ok(()) => "skipped",
        };
        let cpu = cpu_seconds() - worked;
        let _ =
            writeln!(table, "{}", row(step.name, outcome, started.elapsed(), cpu, report.tally));
        if step.is_privileged {
            privileged += report.tally.executed();
        }
        all.tally += report.tally;
        all.closing.append(&mut report.closing);
        all.skipped.append(&mut report.skipped);
        all.failed.append(&mut report.failed);
    }

    println!("\n=== summary\n{table}");
    for reason in &all.skipped {
        println!("skipped: {reason}");
    }
    println!("privileged tests executed: {privileged}");
    if chosen.len() == STEPS.len() && privileged < PRIVILEGED_FLOOR {
        println!("at least {PRIVILEGED_FLOOR} are expected");
        failed.push("privileged tests");
    }
    for line in &all.closing {
        println!("{line}");
    }
    println!("{}", all.tally);
    for Failure { name, words } in &all.failed {
        println!("\nfailed: {name}\n    {}", words.join("\n    "));
    }
    if failed.is_empty() {
        return Ok(());
    }
    bail!("failed: {}", failed.join(", "))
}

fn position(name: &str) -> Result<usize> {
    STEPS
        .iter()
        .position(|step| step.name == name)
        .with_context(|| format!("no step {name}: {}", STEPS.map(|step| step.name).join(", ")))
}

fn row(name: &str, outcome: &str, elapsed: Duration, cpu: f32, tally: Tally) -> String {
    let tests =
        if tally.executed() + tally.skipped > 0 { tally.to_string() } else { String::new() };
    format!("{name:<12}{outcome:<9}{:>7.1} s{cpu:>8.1} s cpu  {tests}", elapsed.as_secs_f32())
        .trim_end()
        .to_owned()
}

/// Processor time of the programs that have been run and have ended: on a machine that others use too it says more
/// than the clock.
fn cpu_seconds() -> f32 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // Behind the name in parentheses, which may hold anything, come the fields from the third on.
    let fields = stat.rsplit_once(") ").map_or("", |(_, fields)| fields);
    let ticks = |number: usize| {
        fields.split(' ').nth(number - 3).and_then(|field| field.parse::<u32>().ok()).unwrap_or(0)
    };
    // cutime and cstime, in hundredths of a second whatever the kernel's own clock is.
    (ticks(16) + ticks(17)) as f32 / 100.0
}

fn none() -> lexopt::Parser {
    lexopt::Parser::from_args(std::iter::empty::<&str>())
}

fn fmt(_: &mut Report) -> Result<()> {
    run::run(run::host_cargo().args(["fmt", "--all", "--check"]))
}

fn clippy(_: &mut Report) -> Result<()> {
    run::run(run::host_cargo().args([
        "clippy",
        "--locked",
        "--workspace",
        "--all-targets",
        "--quiet",
        "--",
        "--deny",
        "warnings",
    ]))
}

fn test(report: &mut Report) -> Result<()> {
    run::watched(
        run::host_cargo().args(["test", "--locked", "--no-fail-fast", "--quiet"]),
        |line| count(&mut report.tally, &mut report.closing, line),
        &mut report.failed,
    )
}

/// Asks for the output of tests that passed too: it says which of them could not run.
fn kernel(report: &mut Report) -> Result<()> {
    run::watched(
        run::host_cargo()
            .args(["test", "--locked", "--no-fail-fast", "--quiet", "--package", "sluice-tests"])
            .args(["--", "--show-output"]),
        |line| count(&mut report.tally, &mut report.closing, line),
        &mut report.failed,
    )
}

fn virtual_machines(report: &mut Report) -> Result<()> {
    vm::test(&mut report.tally)
}

fn mips_tests(report: &mut Report) -> Result<()> {
    let Report { tally, closing, failed, .. } = report;
    mips::test(|line| count(tally, closing, line), failed)
}

fn cross(_: &mut Report) -> Result<()> {
    for (name, target) in targets::read()? {
        let agent = agent::cross(&name, &target)?;
        package::build(&target, &std::fs::read(agent)?)?;
    }
    package::for_all()
}

fn shellcheck(_: &mut Report) -> Result<()> {
    let files = run::output(std::process::Command::new("git").current_dir(run::root()).args([
        "ls-files",
        "-z",
        "*.sh",
        ".ci/run",
        "*.init",
        "*.defaults",
        "*.postinst",
        "*.postrm",
    ]))?;
    let files: Vec<&str> = files.split('\0').filter(|file| !file.is_empty()).collect();
    println!("{}", files.join(" "));
    run::run(std::process::Command::new("shellcheck").current_dir(run::root()).args(files))
}

/// cargo-deny is not in Debian and takes minutes to build: used where it is.
fn deny(report: &mut Report) -> Result<()> {
    if run::find("cargo-deny").is_none() {
        report.skipped.push("deny: cargo-deny is not installed".to_owned());
        return Ok(());
    }
    run::run(run::host_cargo().args(["deny", "check", "bans", "licenses", "sources"]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_has_ended_is_billed() {
        let before = cpu_seconds();
        run::run(
            std::process::Command::new("sh")
                .args(["-c", "i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done"]),
        )
        .unwrap();
        assert!(cpu_seconds() > before);
    }

    #[test]
    fn steps_are_known_by_their_names_and_each_only_once() {
        for (index, step) in STEPS.iter().enumerate() {
            assert_eq!(position(step.name).unwrap(), index);
        }
        assert!(position("none").is_err());
    }

    #[test]
    fn a_row_shows_tests_only_where_there_were_some() {
        let mut tally = Tally::default();
        assert_eq!(
            row("fmt", "ok", Duration::from_millis(1500), 1.2, tally),
            "fmt         ok           1.5 s     1.2 s cpu"
        );
        tally.guest_line("test a ... ok");
        assert!(
            row("vm", "ok", Duration::ZERO, 0.0, tally).ends_with("1 passed, 0 failed, 0 skipped")
        );
    }
}

//! Guest tests in virtual machines: a kernel of Debian's, an initial RAM disk of the host's programs, and test
//! programs that PID 1 starts one after the other.
//!
//! Owns the machines; what is tested is in the guests that `tests/vm/kernels.toml` names.

mod cells;
mod foreign;
mod initramfs;
mod kernel;
mod machine;
mod modules;
mod package;
mod source;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use lexopt::Arg::{Long, Value};
use lexopt::ValueExt as _;

use crate::tally::Tally;
use crate::{agent, ebpf, run, toolchain};
use cells::Matrix;
use initramfs::Tree;
use kernel::Kernel;
use machine::Conduct;

/// What to run: the defaults are all cells and the guests of the matrix.
#[derive(Default)]
struct Options {
    cells: Vec<String>,
    guests: Vec<String>,
    /// Files of the host and their places in the guest.
    files: Vec<(PathBuf, String)>,
    /// Arguments of the guests.
    args: Vec<OsString>,
    conduct: Conduct,
}

/// `vm [--cell C]… [--guest G]… [--file SOURCE=PLACE]… [--icount] [--limit SECONDS] [--list] [-- ARG…]`.
pub(crate) fn main(mut parser: lexopt::Parser) -> Result<()> {
    let mut options = Options::default();
    while let Some(arg) = parser.next()? {
        match arg {
            Long("cell") => options.cells.push(parser.value()?.string()?),
            Long("guest") => options.guests.push(parser.value()?.string()?),
            Long("file") => {
                let value = parser.value()?.string()?;
                let (source, place) = value.split_once('=').context("--file SOURCE=PLACE")?;
                options.files.push((source.into(), place.to_owned()));
            }
            Long("icount") => options.conduct.counts_instructions = true,
            Long("limit") => options.conduct.limit_s = Some(parser.value()?.parse()?),
            Long("list") => {
                for cell in Matrix::read()?.cells {
                    println!("{} {}", cell.name, cell.kernel);
                }
                return Ok(());
            }
            // Everything after `--`.
            Value(arg) => options.args.push(arg),
            other => return Err(other.unexpected().into()),
        }
    }
    ebpf::build()?;
    let mut tally = Tally::default();
    let result = boot(&options, &mut tally);
    println!("vm: {tally}");
    result
}

/// Every cell with its guests, counted into the tally. The objects must have been built.
pub(crate) fn test(tally: &mut Tally) -> Result<()> {
    boot(&Options::default(), tally)
}

/// Prepares the cells one after the other, since apt and cargo have locks, and boots as many at once as
/// there are cores. All are run to their end before a failure of one is told.
fn boot(options: &Options, tally: &mut Tally) -> Result<()> {
    let matrix = Matrix::read()?;
    let agent = agent::host()?;
    let mut machines = Vec::new();
    for cell in matrix.select(&options.cells)? {
        let guests: Vec<&String> = if options.guests.is_empty() {
            matrix.guests(cell).collect()
        } else {
            options.guests.iter().collect()
        };
        let kernel = kernel::get(&cell.kernel)?;
        println!("vm: {}: {}", cell.name, kernel.label());
        let archive = if let Some(target) = cell.target() {
            foreign::archive(target, cell.bare, &guests, &options.args)?
        } else {
            let guests =
                guests.into_iter().map(|guest| resolve(guest)).collect::<Result<Vec<_>>>()?;
            archive(&kernel, &matrix, &agent, &guests, options)?
        };
        machines.push((cell, kernel, archive));
    }
    // Each keeps about one core busy, and has a time limit.
    let at_once = std::thread::available_parallelism().map_or(1, usize::from);
    let mut outcomes = Vec::new();
    for some in machines.chunks(at_once) {
        outcomes.extend(std::thread::scope(|scope| {
            let running: Vec<_> = some
                .iter()
                .map(|(cell, kernel, archive)| {
                    scope.spawn(|| machine::run(cell, options.conduct, kernel, archive))
                })
                .collect();
            running.into_iter().map(std::thread::ScopedJoinHandle::join).collect::<Vec<_>>()
        }));
    }
    let mut faults = Vec::new();
    for ((cell, ..), outcome) in machines.iter().zip(outcomes) {
        match outcome {
            Ok(Ok(outcome)) => {
                let seconds = outcome.elapsed.as_secs_f32();
                println!("vm: {}: {} in {seconds:.1} s", cell.name, outcome.tally);
                *tally += outcome.tally;
                faults.extend(outcome.fault.map(|fault| format!("{}: {fault}", cell.name)));
            }
            Ok(Err(error)) => faults.push(format!("{}: {error:#}", cell.name)),
            Err(_) => faults.push(format!("{}: its thread panicked", cell.name)),
        }
    }
    if faults.is_empty() {
        return Ok(());
    }
    bail!("virtual machines failed\n  {}", faults.join("\n  "))
}

/// The initial RAM disk of a cell.
fn archive(
    kernel: &Kernel,
    matrix: &Matrix,
    agent: &Path,
    guests: &[Guest],
    options: &Options,
) -> Result<Vec<u8>> {
    let mut tree = Tree::new();
    tree.system()?;
    tree.program("/init", &run::root().join("tests/vm/init.sh"))?;
    for entry in list("tests/vm/programs.txt")? {
        tree.host_entry(&entry)?;
    }
    for (name, content) in kernel.modules(&list("tests/vm/modules.txt")?)? {
        tree.file(&format!("/modules/{name}"), 0o644, content);
    }
    // At its path on the host too: tests look for it beside themselves.
    tree.program("/usr/sbin/sluice", agent)?;
    tree.program(&agent.to_string_lossy(), agent)?;
    for path in &matrix.workspace {
        let (mark, path) = path.strip_prefix('?').map_or(("", path.as_str()), |path| ("?", path));
        tree.host_entry(&format!("{mark}{}", run::root().join(path).display()))?;
    }
    for (source, place) in &options.files {
        tree.host_tree(source, place)?;
    }
    let mut start = String::new();
    for guest in guests {
        let place = guest.path.to_string_lossy();
        tree.program(&place, &guest.path)?;
        tree.file(&place, 0o755, guest.program.clone());
        start.push_str(&guest.command(&place, &options.args));
    }
    tree.file("/guests/start", 0o644, start.into_bytes());
    Ok(tree.into_cpio())
}

/// A test program of the guest.
struct Guest {
    name: String,
    /// Where it lies, here and there.
    path: PathBuf,
    program: Vec<u8>,
    /// Whether it is one of cargo's, with libtest's arguments and the crate's directory.
    is_cargo: bool,
}

impl Guest {
    /// A line for the list that PID 1 works off: name, directory, command.
    fn command(&self, place: &str, args: &[OsString]) -> String {
        let directory = if self.is_cargo { run::root().join("tests") } else { "/".into() };
        let mut command = format!("{} {} {place}", self.name, directory.display());
        if self.is_cargo {
            command.push_str(LIBTEST);
        }
        push_args(&mut command, args);
        command
    }
}

/// One test after the other, and what the passed ones say: which could not run.
const LIBTEST: &str = " --test-threads=1 --show-output";

/// Ends a line of the list with the guests' arguments.
fn push_args(command: &mut String, args: &[OsString]) {
    for arg in args {
        command.push(' ');
        command.push_str(&arg.to_string_lossy());
    }
    command.push('\n');
}

/// A guest is a file of the workspace, or `cargo:NAME`, a test of crate `sluice-tests`.
fn resolve(guest: &str) -> Result<Guest> {
    let Some(test) = guest.strip_prefix("cargo:") else {
        let path = run::root().join(guest);
        let name =
            path.file_stem().context("a guest without a name")?.to_string_lossy().into_owned();
        let program = std::fs::read(&path)
            .with_context(|| format!("could not read guest {}", path.display()))?;
        return Ok(Guest { name, path, program, is_cargo: false });
    };
    let messages = run::output(
        run::host_cargo()
            .args(["test", "--quiet", "--no-run", "--package", "sluice-tests", "--test", test])
            .args(["--message-format", "json-render-diagnostics"]),
    )?;
    let is_test = |path: &PathBuf| {
        path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(&format!("{test}-")))
    };
    let path = ebpf::executables(&messages)
        .into_iter()
        .find(is_test)
        .with_context(|| format!("cargo names no executable of test {test}"))?;
    Ok(Guest { name: test.to_owned(), program: without_debug(&path)?, path, is_cargo: true })
}

/// A program without its debug information, which is ten times its size and would lie in the guest's memory.
fn without_debug(path: &Path) -> Result<Vec<u8>> {
    stripped(path, "--strip-debug")
}

/// The same without the names of functions too: for a machine whose memory is small.
fn without_symbols(path: &Path) -> Result<Vec<u8>> {
    stripped(path, "--strip-all")
}

fn stripped(path: &Path, how: &str) -> Result<Vec<u8>> {
    let scratch = path.with_extension("stripped");
    let mut strip = Command::new(toolchain::llvm_strip()?);
    run::run(strip.args([how, "-o"]).args([&scratch, path]))?;
    let program = std::fs::read(&scratch)?;
    std::fs::remove_file(&scratch)?;
    Ok(program)
}

/// The entries of a list: one a line, `#` starts a comment.
fn list(path: impl AsRef<Path>) -> Result<Vec<String>> {
    let path = run::root().join(path);
    let text = std::fs::read_to_string(&path)
        .with_context(|| format!("could not read {}", path.display()))?;
    Ok(text
        .lines()
        .map(|line| line.split('#').next().unwrap_or_default().trim())
        .filter(|line| !line.is_empty())
        .map(str::to_owned)
        .collect())
}

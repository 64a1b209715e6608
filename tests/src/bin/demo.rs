//! The demo router: `cargo xtask demo [-- --keep]`.

use std::io::{self, Write as _};
use std::process::ExitCode;

use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use sluice_tests::demo::{self, Options};
use sluice_tests::{Error, wait};

const HELP: &str = "\
The demo router of Sluice: devices, servers and an attacker around a router in network namespaces.

usage: demo [--keep] [--rounds N]

  --keep        leave it running to play with; Ctrl-C takes it down
  --rounds N    rounds of the throughput comparison (5); 0 leaves it out

Needs root. Ends with 0 when Sluice did what the demo is there to show, else with 1; 2 for arguments
that make no sense, 130 after Ctrl-C.
";

fn options(args: impl Iterator<Item = String>) -> Result<Option<Options>, String> {
    let mut options = Options { keep: false, rounds: 5 };
    let mut args = args.peekable();
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--keep" => options.keep = true,
            "--rounds" => {
                let rounds = args.next().and_then(|rounds| rounds.parse().ok());
                options.rounds = rounds.ok_or("--rounds needs a number")?;
            }
            "--help" | "-h" => return Ok(None),
            other => return Err(format!("{other} is not an option, see --help")),
        }
    }
    Ok(Some(options))
}

extern "C" fn interrupted(_: libc::c_int) {
    wait::interrupt();
}

/// Makes Ctrl-C and a polite kill end every wait, so that guards clean up.
fn catch_signals() -> nix::Result<()> {
    // No restart: a system call that waits comes back.
    let action =
        SigAction::new(SigHandler::Handler(interrupted), SaFlags::empty(), SigSet::empty());
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        // SAFETY: the handler only stores to an atomic, which is safe in a signal handler.
        unsafe { sigaction(signal, &action) }?;
    }
    Ok(())
}

fn complain(text: &str) {
    let _closed = writeln!(io::stderr(), "demo: {text}");
}

fn main() -> ExitCode {
    let options = match options(std::env::args().skip(1)) {
        Ok(Some(options)) => options,
        Ok(None) => {
            let _closed = write!(io::stdout(), "{HELP}");
            return ExitCode::SUCCESS;
        }
        Err(mistake) => {
            complain(&mistake);
            return ExitCode::from(2);
        }
    };
    if !nix::unistd::geteuid().is_root() {
        complain("needs root: it makes network namespaces and loads eBPF programs (try sudo)");
        return ExitCode::FAILURE;
    }
    if let Err(error) = catch_signals() {
        complain(&format!("catch signals: {error}"));
        return ExitCode::FAILURE;
    }
    match demo::run(options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Error::Interrupted) => {
            complain("interrupted; everything was taken down");
            ExitCode::from(130)
        }
        // Ctrl-C reaches the programs that the demo waits for as well.
        Err(_) if wait::interrupted().is_err() => {
            complain("interrupted; everything was taken down");
            ExitCode::from(130)
        }
        Err(error) => {
            complain(&error.to_string());
            ExitCode::FAILURE
        }
    }
}

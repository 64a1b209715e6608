//! The command `sluice`.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use sluice::agent;
use sluice::cli::{self, Commands, Exit, Failed};
use sluice::config::RulesetSection;
use sluice::control::report::{Checked, Feature};

struct Sluice;

impl Commands for Sluice {
    fn run(&self, config: &Path) -> Result<(), Failed> {
        agent::run(config)
    }

    fn doctor(&self) -> Vec<Feature> {
        agent::doctor()
    }

    fn check(&self, config: &Path) -> Result<Checked, Failed> {
        agent::check(config)
    }

    fn replay(&self, file: &Path, rules: &[PathBuf], out: &mut dyn Write) -> Result<(), Failed> {
        let failed = |error: &dyn std::error::Error| Failed::new(Exit::Failure, error);
        let mut rulesets = Vec::new();
        if !rules.is_empty() {
            let section = RulesetSection::of_files(rules).map_err(|error| failed(&error))?;
            rulesets =
                agent::rulesets(&[section], usize::MAX, || 0).map_err(|error| failed(&error))?;
        }
        let options = sluice::replay::Options { rulesets, ..Default::default() };
        sluice::replay::run(file, out, options).map(drop).map_err(|error| failed(&error))
    }

    fn watchdog(&self, kind: &str, marks: &str) -> Result<(), Failed> {
        agent::watchdog(kind, marks)
    }
}

fn main() -> ExitCode {
    match cli::main(std::env::args_os().skip(1), &Sluice, &mut std::io::stdout().lock()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failed) => {
            // Nothing is left to do when even this cannot be written.
            let _ = writeln!(
                std::io::stderr(),
                "sluice: {}",
                sluice::text::plain_lines(&failed.message)
            );
            ExitCode::from(failed.exit as u8)
        }
    }
}

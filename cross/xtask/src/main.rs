//! Builds the objects and the agent, checks them, runs the machines and the emulators.
//!
//! Owns how the project is built and proven; owns nothing that ends up on a router.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "the output is what it is for")]

mod agent;
mod bench;
mod btf;
mod check;
mod ci;
mod demo;
mod ebpf;
mod libtest;
mod licence;
mod mips;
mod package;
mod run;
mod tally;
mod targets;
mod toolchain;
mod trim;
mod vm;

use std::ffi::OsString;
use std::process::ExitCode;

use anyhow::{Result, bail};
use lexopt::Arg::{Long, Short, Value};

const HELP: &str = "\
cargo xtask COMMAND

  ebpf                      builds the eBPF objects of both endiannesses into target/ebpf
  check [--record]          checks the objects; --record writes today's numbers as the budget
  bench                     cost of the programs against cross/bench.toml (root)
  agent [--target T]…       release build of the agent: host, aarch64, mips, mipsel or all
  package [--source | --target T…]
                            the agent as .ipk and .apk, for all routers or some; or the source for a feed
  key DIRECTORY             makes the keys of a feed
  feed --keys DIRECTORY [FROM [TO]]
                            packages with signed indexes for opkg and apk, from target/package into target/feed
  mips                      unit tests on big- and little-endian MIPS under qemu
  vm [--cell C]… [--icount] [-- ARG…]
                            guest tests in virtual machines; see cross/README.md
  test                      objects, agent, and the tests with this machine's kernel (root)
  demo [-- ARG…]            objects, agent, and the demo router
  licence                   licence fields, licence files, foreign names
  ci [--from STEP] [--only STEP]…
                            all of it, in order, with a count of the tests";

fn main() -> ExitCode {
    match dispatch(std::env::args_os().skip(1).collect()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch(args: Vec<OsString>) -> Result<()> {
    let mut parser = lexopt::Parser::from_args(args);
    match parser.next()? {
        Some(Value(command)) => match command.to_str() {
            Some("ebpf") => {
                end(parser)?;
                ebpf::build().map(drop)
            }
            Some("check") => check::main(parser),
            Some("agent") => agent::main(parser),
            Some("package") => package::main(parser),
            Some("key") => package::feed::key(parser),
            Some("feed") => package::feed::main(parser),
            Some("bench") => {
                end(parser)?;
                bench::main()
            }
            Some("mips") => {
                end(parser)?;
                mips::main()
            }
            Some("vm") => vm::main(parser),
            Some("demo") => demo::main(parser),
            Some("test") => {
                end(parser)?;
                ci::steps(&["ebpf", "agent", "kernel"])
            }
            Some("licence") => {
                end(parser)?;
                licence::main()
            }
            Some("ci") => ci::main(parser),
            _ => bail!("unknown command {}\n\n{HELP}", command.display()),
        },
        Some(Long("help") | Short('h')) => {
            println!("{HELP}");
            Ok(())
        }
        Some(other) => Err(other.unexpected().into()),
        None => bail!("no command\n\n{HELP}"),
    }
}

/// Refuses arguments that a command does not know.
fn end(mut parser: lexopt::Parser) -> Result<()> {
    match parser.next()? {
        None => Ok(()),
        Some(other) => Err(other.unexpected().into()),
    }
}

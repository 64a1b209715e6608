//! One run of a virtual machine: qemu without KVM, its serial line, a time limit.

use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use super::cells::{Cell, Machine};
use super::kernel::Kernel;
use crate::run;
use crate::tally::Tally;

/// What a guest has said.
pub(crate) struct Outcome {
    /// Its tests.
    pub(crate) tally: Tally,
    /// From its start to its end.
    pub(crate) elapsed: Duration,
    /// Why the machine counts as failed.
    pub(crate) fault: Option<String>,
}

/// How a machine is run.
#[derive(Clone, Copy, Default)]
pub(crate) struct Conduct {
    /// One processor, whose clock is the number of instructions that it has executed (a nanosecond each): what
    /// else the host does changes no time that the guest sees.
    pub(crate) counts_instructions: bool,
    /// Seconds of the host after which it is stopped, instead of those of the cell.
    pub(crate) limit_s: Option<u64>,
}

/// What qemu gets to know about a machine.
fn board(machine: Machine, conduct: Conduct) -> (&'static str, Vec<&'static str>) {
    let (qemu, mut board) = match machine {
        Machine::X86_64 => ("qemu-system-x86_64", vec!["-cpu", "max"]),
        Machine::Mips => ("qemu-system-mips", vec!["-M", "malta", "-cpu", "24Kf"]),
    };
    if conduct.counts_instructions {
        // Without sleep an idle processor finds itself at its next timer at once.
        board.extend(["-accel", "tcg,thread=single", "-icount", "shift=0,sleep=off"]);
    } else if machine == Machine::X86_64 {
        board.extend(["-accel", "tcg,thread=multi", "-smp", "2"]);
    }
    (qemu, board)
}

/// Boots the kernel with the archive as its root and reads the serial line to the end.
pub(crate) fn run(
    cell: &Cell,
    conduct: Conduct,
    kernel: &Kernel,
    archive: &[u8],
) -> Result<Outcome> {
    let started = Instant::now();
    let initrd = Scratch::new(&cell.name, archive)?;
    let (qemu, board) = board(cell.machine(), conduct);
    let mut child = Command::new(qemu)
        .args(["-nodefaults", "-no-user-config", "-display", "none", "-serial", "stdio"])
        .arg("-no-reboot")
        .args(board)
        .args(["-m", &cell.memory_mib.to_string()])
        .args(["-append", "console=ttyS0 panic=-1 quiet loglevel=4"])
        .arg("-kernel")
        .arg(&kernel.image)
        .arg("-initrd")
        .arg(&initrd.0)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("could not run {qemu}: run cross/setup.sh test"))?;
    let stdout = child.stdout.take().context("qemu has no output")?;
    let (sender, lines) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(stdout).split(b'\n').map_while(Result::ok) {
            let line = String::from_utf8_lossy(&line).trim_end().to_owned();
            if sender.send(line).is_err() {
                break;
            }
        }
    });

    let limit_s = conduct.limit_s.unwrap_or(cell.limit_s);
    let deadline = started + Duration::from_secs(limit_s);
    let mut console = Console::default();
    let mut timed_out = false;
    loop {
        match lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(line) => {
                println!("{}| {line}", cell.name);
                console.line(&line);
            }
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => {
                timed_out = true;
                break;
            }
        }
    }
    if timed_out {
        child.kill()?;
    }
    let status = child.wait()?;
    let fault = if timed_out {
        Some(format!("not done after {limit_s} s"))
    } else if status.success() {
        console.fault()
    } else {
        Some(format!("qemu failed: {status}"))
    };
    Ok(Outcome { tally: console.tally, elapsed: started.elapsed(), fault })
}

/// What the serial line has said so far.
#[derive(Default)]
struct Console {
    tally: Tally,
    /// Lines of tests that did not hold.
    failed: Vec<String>,
    succeeded: bool,
}

impl Console {
    fn line(&mut self, line: &str) {
        let failed = self.tally.failed;
        self.tally.guest_line(line);
        if self.tally.failed > failed {
            self.failed.push(line.to_owned());
        }
        self.succeeded |= line == "init: success";
    }

    /// Why this is no success: PID 1 has to say so, and at least one test has to have held.
    fn fault(&self) -> Option<String> {
        if self.tally.failed > 0 {
            Some(format!("{} tests failed: {}", self.tally.failed, self.failed.join(", ")))
        } else if !self.succeeded {
            Some("the guest did not print `init: success`".to_owned())
        } else if self.tally.passed == 0 {
            Some("the guest ran no test".to_owned())
        } else {
            None
        }
    }
}

/// A file that goes away with its value.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str, content: &[u8]) -> Result<Self> {
        let path = run::root().join(format!("target/vm-{name}-{}.cpio", std::process::id()));
        std::fs::write(&path, content)
            .with_context(|| format!("could not write {}", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(lines: &[&str]) -> Option<String> {
        let mut console = Console::default();
        for line in lines {
            console.line(line);
        }
        console.fault()
    }

    #[test]
    fn a_machine_that_counts_instructions_has_one_processor() {
        let counts = Conduct { counts_instructions: true, limit_s: None };
        for machine in [Machine::X86_64, Machine::Mips] {
            let (_, board) = board(machine, counts);
            assert!(board.contains(&"-icount") && !board.contains(&"-smp"), "{board:?}");
            assert!(!board.contains(&"tcg,thread=multi"), "{board:?}");
        }
        let (_, board) = board(Machine::X86_64, Conduct::default());
        assert!(board.contains(&"-smp") && !board.contains(&"-icount"), "{board:?}");
    }

    #[test]
    fn only_a_guest_that_says_so_and_ran_a_test_has_succeeded() {
        assert_eq!(fault(&["test a ... ok", "init: success"]), None);
        assert!(fault(&["test a ... ok"]).is_some());
        assert!(fault(&["init: success"]).is_some());
        assert!(fault(&["test a ... SKIPPED: old", "init: success"]).is_some());
        assert!(fault(&["test a ... ok", "test b ... FAILED", "init: success"]).is_some());
        assert!(fault(&["test a ... ok", "not init: success"]).is_some());
        let named = fault(&["test a ... ok", "test b ... FAILED"]).unwrap_or_default();
        assert!(named.contains("test b"), "{named}");
    }
}

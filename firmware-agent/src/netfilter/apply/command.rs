//! Runs a tool with text in, text out, and an end.

use std::io::{self, ErrorKind, Read, Write as _};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::ApplyError;

/// A transaction of our size takes milliseconds; a slow router under load, a second.
const LIMIT: Duration = Duration::from_secs(10);
/// Most that a tool may write to one stream.
const OUTPUT_MAX: usize = 1 << 20;
/// Most of an error message that is kept.
const MESSAGE_MAX: usize = 600;

/// A tool and the package that has it.
#[derive(Clone, Copy, Debug)]
pub(in crate::netfilter) struct Tool {
    pub(super) program: &'static str,
    pub(super) package: &'static str,
}

impl Tool {
    /// Runs the tool with `input`; its standard output when it succeeds.
    pub(in crate::netfilter) fn run(
        self,
        what: &'static str,
        args: &[&str],
        input: &str,
    ) -> Result<String, ApplyError> {
        self.run_within(LIMIT, what, args, input)
    }

    fn run_within(
        self,
        limit: Duration,
        what: &'static str,
        args: &[&str],
        input: &str,
    ) -> Result<String, ApplyError> {
        let program = self.program;
        let failed = |source| ApplyError::Run { program, source };
        let mut command = Command::new(program);
        // Messages are compared with what the tools say in English.
        command.args(args).env("LC_ALL", "C");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(|source| match source.kind() {
            ErrorKind::NotFound => ApplyError::Missing { program, package: self.package },
            _ => failed(source),
        })?;
        let talked = talk(&mut child, input, Instant::now() + limit);
        if talked.is_err() {
            // It may have ended by itself meanwhile.
            let _gone = child.kill();
        }
        // Its streams are closed, or it was killed: it ends. A tool that closes its streams and goes
        // on for ever is none of those that are run here.
        let status = child.wait().map_err(failed)?;
        let (stdout, stderr) = match talked {
            Ok(streams) => streams,
            Err(Talk::Slow) => return Err(ApplyError::Slow { program, seconds: limit.as_secs() }),
            Err(Talk::Long) => return Err(ApplyError::Long { program, bytes: OUTPUT_MAX }),
            Err(Talk::Failed(source)) => return Err(failed(source)),
        };
        if status.success() {
            Ok(String::from_utf8_lossy(&stdout).into_owned())
        } else {
            Err(ApplyError::Refused { program, what, output: message(&stderr, status.code()) })
        }
    }
}

/// Why there is no conversation.
#[derive(Debug)]
enum Talk {
    Slow,
    Long,
    Failed(io::Error),
}

impl From<io::Error> for Talk {
    fn from(error: io::Error) -> Self {
        Self::Failed(error)
    }
}

/// Writes the input and collects both outputs, whichever comes first.
fn talk(child: &mut Child, input: &str, deadline: Instant) -> Result<(Vec<u8>, Vec<u8>), Talk> {
    let mut stdin = child.stdin.take();
    let mut input = input.as_bytes();
    let mut stdout = Stream::new(child.stdout.take());
    let mut stderr = Stream::new(child.stderr.take());
    if let Some(stdin) = &stdin {
        nonblocking(stdin.as_fd())?;
    }
    while stdin.is_some() || stdout.pipe.is_some() || stderr.pipe.is_some() {
        let mut fds: Vec<PollFd<'_>> = Vec::with_capacity(3);
        let watch = |fd, events| PollFd::new(fd, events);
        fds.extend(stdin.as_ref().map(|pipe| watch(pipe.as_fd(), PollFlags::POLLOUT)));
        fds.extend(stdout.pipe.as_ref().map(|pipe| watch(pipe.as_fd(), PollFlags::POLLIN)));
        fds.extend(stderr.pipe.as_ref().map(|pipe| watch(pipe.as_fd(), PollFlags::POLLIN)));
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(Talk::Slow);
        }
        // Rounded up, so that the last millisecond is not waited for in a circle.
        let left = PollTimeout::try_from(left + Duration::from_millis(1));
        match poll(&mut fds, left.unwrap_or(PollTimeout::MAX)) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(Talk::Failed(errno.into())),
        }
        let mut ready = fds.iter().map(|fd| fd.any().unwrap_or(false)).collect::<Vec<_>>();
        ready.reverse();
        let mut is_ready = |is_open: bool| is_open && ready.pop().unwrap_or(false);
        let (to_write, out, err) = (
            is_ready(stdin.is_some()),
            is_ready(stdout.pipe.is_some()),
            is_ready(stderr.pipe.is_some()),
        );
        if to_write && let Some(pipe) = &mut stdin {
            match pipe.write(input) {
                Ok(len) => input = &input[len..],
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // It has read enough; what it thinks of it is in its status.
                Err(error) if error.kind() == ErrorKind::BrokenPipe => input = &[],
                Err(error) => return Err(error.into()),
            }
        }
        if input.is_empty() {
            stdin = None;
        }
        if out {
            stdout.read()?;
        }
        if err {
            stderr.read()?;
        }
    }
    Ok((stdout.bytes, stderr.bytes))
}

/// One output of the tool.
struct Stream<R> {
    pipe: Option<R>,
    bytes: Vec<u8>,
}

impl<R: Read> Stream<R> {
    const fn new(pipe: Option<R>) -> Self {
        Self { pipe, bytes: Vec::new() }
    }

    /// Reads once; the pipe has something or is at its end.
    fn read(&mut self) -> Result<(), Talk> {
        let Some(pipe) = &mut self.pipe else { return Ok(()) };
        let mut chunk = [0; 4096];
        match pipe.read(&mut chunk) {
            Ok(0) => self.pipe = None,
            Ok(len) if self.bytes.len() + len > OUTPUT_MAX => return Err(Talk::Long),
            Ok(len) => self.bytes.extend_from_slice(&chunk[..len]),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }
}

/// A full pipe must not stop us while the tool waits for its output to be read.
pub(super) fn nonblocking(fd: BorrowedFd<'_>) -> io::Result<()> {
    use nix::fcntl::{FcntlArg, OFlag, fcntl};
    let flags = OFlag::from_bits_retain(fcntl(fd, FcntlArg::F_GETFL)?);
    fcntl(fd, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
    Ok(())
}

/// The tool's words on one line.
fn message(stderr: &[u8], code: Option<i32>) -> Box<str> {
    let text = String::from_utf8_lossy(stderr);
    let words = text.lines().map(str::trim).filter(|line| {
        // Lines of `^^^^` under a repeated rule.
        !line.is_empty() && !line.chars().all(|mark| mark == '^' || mark == '~')
    });
    let mut message = String::new();
    for line in words {
        if !message.is_empty() {
            message.push_str(" / ");
        }
        message.push_str(line);
        if message.len() > MESSAGE_MAX {
            break;
        }
    }
    if message.is_empty() {
        message = code.map_or("killed by a signal".into(), |code| format!("exit status {code}"));
    }
    let end = (0..=MESSAGE_MAX.min(message.len())).rev().find(|&at| message.is_char_boundary(at));
    message.truncate(end.unwrap_or(0));
    message.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SH: Tool = Tool { program: "sh", package: "a shell" };

    #[test]
    fn input_reaches_the_tool_and_output_comes_back() {
        assert_eq!(SH.run("copy", &["-c", "cat"], "some text\n").unwrap(), "some text\n");
        // More than two pipes hold, in both directions at once.
        let long = "0123456789abcdef".repeat(20_000);
        assert_eq!(SH.run("copy", &["-c", "cat"], &long).unwrap(), long);
        // A tool that does not read its input is no reason to fail.
        assert_eq!(SH.run("ignore", &["-c", "exec <&-; echo ok"], &long).unwrap(), "ok\n");
    }

    #[test]
    fn a_failure_has_the_words_of_the_tool() {
        let error = SH.run("try", &["-c", "echo no >&2; echo '  ^^^^' >&2; exit 3"], "");
        assert_eq!(error.unwrap_err().to_string(), "`sh` failed to try: no");
        let silent = SH.run("try", &["-c", "exit 3"], "").unwrap_err();
        assert_eq!(silent.to_string(), "`sh` failed to try: exit status 3");
        let long = SH.run("try", &["-c", "seq 100000 >&2; exit 1"], "").unwrap_err();
        assert!(long.to_string().len() < MESSAGE_MAX + 100);
    }

    #[test]
    fn a_missing_tool_names_its_package() {
        let tool = Tool { program: "no-such-tool-here", package: "nftables" };
        let error = tool.run("try", &[], "").unwrap_err();
        assert_eq!(error.to_string(), "`no-such-tool-here` is missing: install nftables");
    }

    #[test]
    fn a_tool_that_does_not_end_or_does_not_stop_writing_is_killed() {
        let start = Instant::now();
        let slow = SH.run_within(Duration::from_millis(100), "wait", &["-c", "exec sleep 60"], "");
        assert!(matches!(slow, Err(ApplyError::Slow { .. })), "{slow:?}");
        let long = SH.run("write", &["-c", "exec cat /dev/zero"], "");
        assert!(matches!(long, Err(ApplyError::Long { .. })), "{long:?}");
        assert!(start.elapsed() < Duration::from_secs(20));
    }
}

//! Where log lines go: standard error, which procd hands to syslog.

use std::io::Write as _;

use log::{LevelFilter, Log, Metadata, Record};

struct Stderr;

impl Log for Stderr {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= log::max_level()
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            let line =
                format!("{}: {}", record.level().as_str().to_ascii_lowercase(), record.args());
            // One write a line, and never a second line from the network.
            let line = crate::text::plain(&line).into_owned() + "\n";
            let _ = std::io::stderr().write_all(line.as_bytes());
        }
    }

    fn flush(&self) {}
}

/// Starts logging at `level`; later calls change the level.
pub fn start(level: LevelFilter) {
    // The only refusal is that it was started already.
    let _ = log::set_logger(&Stderr);
    log::set_max_level(level);
}

//! Tests that cannot run here say so, and prove it.

use std::io::{self, Write as _};

/// Reports a test as skipped. The caller returns at once and calls this only where it has just
/// seen why the test cannot run: a refusal by a kernel that should have agreed is a failure.
///
/// Written past the test harness's capture, because a skip that nobody sees is a pass.
pub fn skipped(reason: &str) {
    let test = std::thread::current().name().unwrap_or("test").to_owned();
    let _closed = writeln!(io::stderr(), "SKIPPED: {test}: {reason}");
}

/// Whether this process may build namespaces; otherwise reports the test as skipped.
#[must_use]
pub fn without_root() -> bool {
    let root = nix::unistd::geteuid().is_root();
    if !root {
        skipped("needs root for network namespaces and eBPF");
    }
    !root
}

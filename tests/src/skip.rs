//! Tests that cannot run here say so, and prove it.

/// Reports a test as skipped. The caller returns at once and calls this only where it has just
/// seen why the test cannot run: a refusal by a kernel that should have agreed is a failure.
///
/// `cargo xtask test` shows what tests print and counts these lines; libtest takes them for passes.
#[expect(clippy::print_stdout, reason = "this line is what is counted")]
pub fn skipped(reason: &str) {
    println!("SKIPPED: {reason}");
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

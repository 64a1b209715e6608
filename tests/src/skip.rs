//! Tests that cannot run here say so, and prove it.

use crate::error::{Error, Result};
use crate::netns::Netns;

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

/// Whether this kernel has flowtables. One that knows them and refuses one is an error.
pub fn has_flowtables() -> Result<bool> {
    let table = Netns::new("probe")?.nft(
        "table inet probe {
            flowtable ft {
                hook ingress priority 0
                devices = { lo }
            }
            chain forward {
                type filter hook forward priority 0
                meta l4proto { tcp, udp } flow add @ft
            }
         }\n",
    );
    let Err(refusal) = table else { return Ok(true) };
    knows("nft_flow_offload_eval", &format!("a flowtable: {refusal}"))?;
    Ok(false)
}

/// Whether the rules of this kernel have no queue expression; then reports the test as skipped. A kernel
/// that knows it and refuses it is an error.
pub fn without_nft_queue() -> Result<bool> {
    if without_root() {
        return Ok(true);
    }
    let table = Netns::new("probe")?.nft("table inet probe { chain c { queue num 0 bypass; }; }\n");
    let Err(refusal) = table else { return Ok(false) };
    knows("nft_queue_eval", &format!("a queue: {refusal}"))?;
    skipped("this kernel has no nft_queue");
    Ok(true)
}

/// Fails where the kernel has the function, whatever it refused.
fn knows(function: &str, refused: &str) -> Result<()> {
    let symbols = std::fs::read_to_string("/proc/kallsyms").unwrap_or_default();
    if symbols.lines().any(|line| line.split_whitespace().nth(2) == Some(function)) {
        return Err(Error::Unusable(format!("the kernel knows {function} and refuses {refused}")));
    }
    Ok(())
}

/// Whether this kernel has no flowtables; then reports the test as skipped.
pub fn without_flowtables() -> Result<bool> {
    if without_root() {
        return Ok(true);
    }
    let has = has_flowtables()?;
    if !has {
        skipped("this kernel has no nft_flow_offload");
    }
    Ok(!has)
}

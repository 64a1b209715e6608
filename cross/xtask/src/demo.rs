//! Builds what the demo router needs and starts it.

use anyhow::Result;

use crate::{agent, ebpf, run};

/// `demo [-- ARG…]`: the arguments go to the demo.
pub(crate) fn main(mut parser: lexopt::Parser) -> Result<()> {
    ebpf::build()?;
    agent::host()?;
    run::run(
        run::host_cargo()
            .args(["run", "--quiet", "--package", "sluice-tests", "--bin", "demo", "--"])
            .args(
                parser
                    .raw_args()?
                    .enumerate()
                    .filter_map(|(i, arg)| (i > 0 || arg != "--").then_some(arg)),
            ),
    )
}

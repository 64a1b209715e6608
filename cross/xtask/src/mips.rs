//! Unit tests on the machines that differ most from a developer's: 32-bit MIPS of both endiannesses.

use anyhow::{Context as _, Result, bail};

use crate::run;
use crate::tally::Tally;
use crate::targets;
use crate::toolchain::Toolchain;

/// What runs there: what needs no kernel of its own. qemu-user has no bpf(2), no netfilter netlink.
const TESTS: [&[&str]; 2] = [
    &["--package", "sluice-abi", "--package", "sluice-datapath", "--lib"],
    // Timers depend on a flag of the build (see cross/targets.toml) and fail by never firing.
    &["--package", "sluice", "--test", "timers"],
];

/// `mips`.
pub(crate) fn main() -> Result<()> {
    let mut tally = Tally::default();
    let result = test(|line| tally.cargo_line(line));
    println!("mips: {tally}");
    result?;
    if tally.passed == 0 {
        bail!("no test ran on MIPS");
    }
    Ok(())
}

/// Runs the tests on each target that has some. Each line of their output goes to `watch`.
pub(crate) fn test(mut watch: impl FnMut(&str)) -> Result<()> {
    let toolchain = Toolchain::find()?;
    for (name, target) in targets::read()?.into_iter().filter(|(_, target)| target.run_tests) {
        let qemu = run::find(&target.qemu)
            .with_context(|| format!("no {}: run cross/setup.sh test", target.qemu))?;
        let runner =
            format!("CARGO_TARGET_{}_RUNNER", target.triple.to_uppercase().replace('-', "_"));
        for tests in TESTS {
            println!("mips: {name}: {}", tests.join(" "));
            let mut cargo = target.cargo(&toolchain, "test")?;
            cargo.args(["--quiet"]).args(tests).env(&runner, &qemu);
            run::watched(&mut cargo, &mut watch)?;
        }
    }
    Ok(())
}

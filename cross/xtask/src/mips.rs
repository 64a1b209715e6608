//! Unit tests on the machines that differ most from a developer's: 32-bit MIPS of both endiannesses.

use anyhow::{Context as _, Result, bail};

use crate::libtest::Failure;
use crate::run;
use crate::tally::Tally;
use crate::targets;
use crate::toolchain::Toolchain;

/// What runs there: what needs no kernel of its own. qemu-user has no bpf(2), no ethtool and no netfilter or generic netlink, and takes minutes
/// for tests that hold a bound by going far beyond it.
const TESTS: [&[&str]; 3] = [
    &["--package", "sluice-abi", "--package", "sluice-datapath", "--lib"],
    &[
        "--package",
        "sluice",
        "--lib",
        "--",
        "--skip",
        "sys::netlink",
        "--skip",
        "sys::genetlink",
        "--skip",
        "sys::ethtool",
        "--skip",
        "nothing_is_found_where_nothing_is",
        "--skip",
        "a_million_flows_stay_within_their_memory",
        "--skip",
        "a_million_names_agree_with_the_names_themselves",
        "--skip",
        "lines_of_every_shape_are_exact_from_two_addresses_to_thousands",
        "--skip",
        "a_list_takes_no_more_than_its_buckets_and_a_quarter_and_large_ones_take_less",
        "--skip",
        "more_flows_than_are_counted_at_a_time_are_told",
        "--skip",
        "streams_kept_for_rulesets_stay_within_their_memory",
        "--skip",
        "shares_agree_with_a_list",
        "--skip",
        "random_bytes_are_mostly_nothing",
        "--skip",
        "no_truncation_or_stray_byte_stops_the_parser",
        "--skip",
        "agrees_with_a_model_that_keeps_each_byte_by_itself",
    ],
    // Timers depend on a flag of the build (see cross/targets.toml) and fail by never firing.
    &["--package", "sluice", "--test", "timers"],
];

/// `mips`.
pub(crate) fn main() -> Result<()> {
    let mut tally = Tally::default();
    let result = test(|line| tally.cargo_line(line), &mut Vec::new());
    println!("mips: {tally}");
    result?;
    if tally.passed == 0 {
        bail!("no test ran on MIPS");
    }
    Ok(())
}

/// Runs the tests on each target that has some. Each line of their output goes to `watch`, what fails to `kept`.
pub(crate) fn test(mut watch: impl FnMut(&str), kept: &mut Vec<Failure>) -> Result<()> {
    let toolchain = Toolchain::find()?;
    let mut failed = Vec::new();
    for (name, target) in targets::read()?.into_iter().filter(|(_, target)| target.run_tests) {
        let qemu = run::find(&target.qemu)
            .with_context(|| format!("no {}: run cross/setup.sh test", target.qemu))?;
        let runner =
            format!("CARGO_TARGET_{}_RUNNER", target.triple.to_uppercase().replace('-', "_"));
        for tests in TESTS {
            println!("mips: {name}: {}", tests.join(" "));
            let mut cargo = target.cargo(&toolchain, "test")?;
            cargo.args(["--quiet"]).args(tests).env(&runner, &qemu);
            if let Err(error) = run::watched(&mut cargo, &mut watch, kept) {
                println!("mips: {name}: {error:#}");
                failed.push(name.clone());
            }
        }
    }
    if !failed.is_empty() {
        bail!("tests failed on {}", failed.join(", "));
    }
    Ok(())
}

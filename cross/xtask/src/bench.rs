//! The regression gate of the data path: what programs cost as multiples of one hash lookup, measured in the
//! same run, against `cross/bench.toml`. Times are shown and never compared.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;

use crate::{ebpf, run};

/// `cross/bench.toml`.
#[derive(Debug, Default, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
struct Limits {
    /// Most of each ratio.
    ratios: BTreeMap<String, f64>,
}

/// `bench`: measures, shows, compares. Needs root.
pub(crate) fn main() -> Result<()> {
    let text = std::fs::read_to_string(run::root().join("cross/bench.toml"))?;
    let limits: Limits = toml::from_str(&text).context("cross/bench.toml is wrong")?;
    ebpf::build()?;
    // A neighbour that takes the cache for a moment must not fail a build: the best of a few runs counts.
    let mut best = BTreeMap::new();
    let mut faults = Vec::new();
    for _ in 0..3 {
        let output = run::output(run::host_cargo().args([
            "run",
            "--quiet",
            "--release",
            "--package",
            "sluice-tests",
            "--bin",
            "bench",
        ]))?;
        println!("{output}");
        for (name, ratio) in ratios(&output)? {
            let known = best.entry(name).or_insert(ratio);
            *known = ratio.min(*known);
        }
        let (table, now) = compare(&limits, &best);
        println!("{table}");
        faults = now;
        if faults.is_empty() {
            return Ok(());
        }
    }
    bail!("dearer than cross/bench.toml allows:\n{}", faults.join("\n"))
}

/// The lines `ratio NAME VALUE`.
fn ratios(output: &str) -> Result<BTreeMap<String, f64>> {
    let mut ratios = BTreeMap::new();
    for line in output.lines() {
        let Some(rest) = line.strip_prefix("ratio ") else { continue };
        let (name, value) =
            rest.rsplit_once(' ').with_context(|| format!("no value in {line:?}"))?;
        let value: f64 = value.parse().with_context(|| format!("no number in {line:?}"))?;
        // A measurement that went wrong is no cheap program.
        if !value.is_finite() {
            bail!("no ratio in {line:?}");
        }
        ratios.insert(name.to_owned(), value);
    }
    Ok(ratios)
}

/// A table for people, and what is over its limit, has none, or was not measured.
fn compare(limits: &Limits, measured: &BTreeMap<String, f64>) -> (String, Vec<String>) {
    let mut table = format!("{:<40}{:>10}{:>10}\n", "multiples of a hash lookup", "now", "limit");
    let mut faults = Vec::new();
    for (name, ratio) in measured {
        match limits.ratios.get(name) {
            None => faults.push(format!("{name}: {ratio:.2}, no limit")),
            Some(limit) => {
                let _ = writeln!(table, "{name:<40}{ratio:>10.2}{limit:>10.2}");
                if ratio > limit {
                    faults.push(format!("{name}: {ratio:.2} is over {limit:.2}"));
                }
            }
        }
    }
    let gone = limits.ratios.keys().filter(|name| !measured.contains_key(*name));
    faults.extend(gone.map(|name| format!("{name}: has a limit and was not measured")));
    (table, faults)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(limits: &str, output: &str) -> Vec<String> {
        let limits: Limits = toml::from_str(limits).unwrap();
        compare(&limits, &ratios(output).unwrap()).1
    }

    #[test]
    fn a_ratio_over_its_limit_without_one_or_not_measured_is_a_fault() {
        let limits = "[ratios]\n\"xdp/parse\" = 2.0\n\"tc/miss\" = 3.0\n";
        let table = "empty 8.1/8.2\nratio xdp/parse 1.99\nratio tc/miss 3.00\n";
        assert!(faults(limits, table).is_empty());
        let dearer = table.replace("1.99", "2.01");
        assert_eq!(faults(limits, &dearer), ["xdp/parse: 2.01 is over 2.00"]);
        let new = format!("{table}ratio xdp/new 0.10\n");
        assert_eq!(faults(limits, &new), ["xdp/new: 0.10, no limit"]);
        let fewer = "ratio tc/miss 3.00\n";
        assert_eq!(faults(limits, fewer), ["xdp/parse: has a limit and was not measured"]);
    }

    #[test]
    fn what_is_no_number_is_no_measurement() {
        for line in ["ratio xdp NaN", "ratio xdp inf", "ratio xdp", "ratio xdp fast"] {
            assert!(ratios(line).is_err(), "{line}");
        }
    }

    #[test]
    fn the_limits_of_the_project_are_read() {
        let text = std::fs::read_to_string(run::root().join("cross/bench.toml")).unwrap();
        assert!(!toml::from_str::<Limits>(&text).unwrap().ratios.is_empty());
    }
}

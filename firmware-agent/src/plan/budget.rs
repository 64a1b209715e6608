//! What a plan may take of the machine's memory at most, in kernel and agent together, part by part,
//! before any of it is taken. Pure.
//!
//! An upper bound made of sizes and caps, not a measurement: what is in use is less.

use std::fmt;

use sluice_abi::flow::{FlowCount, FlowKey, FlowLimit, FlowState};
use sluice_abi::shield::BucketSet;

use super::Plan;
use crate::dataplane::bulk::{self, Live};
use crate::dataplane::plan::Sizes;
use crate::dataplane::table::Record;
use crate::names::NAMES_MAX;

/// Bytes of an entry of a hash map beside key and value (48 to 80 on 64 bits, less on 32).
const HASH_BYTES: usize = 80;
/// Bytes of an allowed prefix (as of a live one in a list).
const NET_BYTES: u64 = 256;
/// Bytes of a flow that the agent remembers, with its names and texts.
const RECORD_BYTES: u64 = size_of::<Record>() as u64 + 256;
/// Bytes of a device's names for an address: at most so many, none longer than a domain may be.
const NAME_BYTES: u64 = NAMES_MAX as u64 * (256 + 32) + 128;

/// A part of the whole.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Part {
    /// What takes it.
    pub what: &'static str,
    /// The options that say how much.
    pub options: &'static str,
    /// KiB at most.
    pub kib: u64,
}

/// What a plan may take.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Budget {
    /// Its parts.
    pub parts: Vec<Part>,
    /// KiB that they may take together.
    pub cap_kib: u64,
}

/// A plan that may take more than it should.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("sluice.main.memory_kib: {0}")]
pub struct OverBudget(Budget);

impl Budget {
    /// Of `plan` on a machine with so much memory and so many processors.
    #[must_use]
    pub fn new(plan: &Plan, machine_kib: u64, cpus: u32) -> Self {
        let sizes = &plan.dataplane.sizes;
        let cap = |configured: u32| match configured {
            0 => bulk::default_cap_kib(machine_kib).into(),
            kib => u64::from(kib),
        };
        let wanted = |is_wanted: bool, kib: u64| if is_wanted { kib } else { 0 };
        let parts = vec![
            Part { what: "maps of flows", options: "flows", kib: flows(sizes, cpus) / 1024 },
            Part {
                what: "maps of blocked and limited flows",
                options: "held_flows",
                kib: held(sizes) / 1024,
            },
            Part {
                what: "flows in the agent",
                options: "flows, held_flows",
                kib: u64::from(sizes.flow_slots) * RECORD_BYTES / 1024,
            },
            Part {
                what: "names from DNS",
                options: "dns_names",
                kib: (plan.names as u64 * NAME_BYTES + u64::from(sizes.messages)) / 1024,
            },
            Part {
                what: "inspection",
                options: "inspect_memory_kib",
                kib: plan.limits.bytes_max as u64 / 1024,
            },
            Part { what: "rates", options: "bucket_sets", kib: rates(sizes) / 1024 },
            Part { what: "live entries", options: "entry", kib: entries(sizes) / 1024 },
            Part {
                what: "blocklists",
                options: "list_memory_kib",
                kib: wanted(!plan.lists.is_empty(), cap(plan.list_memory_kib)),
            },
            Part {
                what: "domain lists",
                options: "domain_memory_kib",
                kib: wanted(!plan.domainlists.is_empty(), cap(plan.domain_memory_kib)),
            },
            Part {
                what: "rulesets",
                options: "signature_memory_kib",
                // Old and new ones while they are replaced.
                kib: wanted(!plan.rulesets.is_empty(), 2 * cap(plan.signature_memory_kib)),
            },
        ];
        let cap_kib = match plan.memory_kib {
            0 => machine_kib / 4 * 3,
            kib => kib.into(),
        };
        Self { parts, cap_kib }
    }

    /// KiB of all parts.
    #[must_use]
    pub fn kib(&self) -> u64 {
        self.parts.iter().map(|part| part.kib).sum()
    }

    /// Refuses a plan that may take more than its cap.
    pub fn check(self) -> Result<Self, OverBudget> {
        if self.kib() <= self.cap_kib { Ok(self) } else { Err(OverBudget(self)) }
    }
}

impl fmt::Display for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "up to {} KiB are needed, {} are allowed:", self.kib(), self.cap_kib)?;
        let mut parts: Vec<&Part> = self.parts.iter().filter(|part| part.kib > 0).collect();
        parts.sort_by_key(|part| std::cmp::Reverse(part.kib));
        for (index, Part { what, options, kib }) in parts.into_iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            write!(f, "{comma} {kib} for {what} ({options})")?;
        }
        Ok(())
    }
}

fn flows(sizes: &Sizes, cpus: u32) -> u64 {
    let hash = size_of::<FlowKey>() + size_of::<FlowState>() + HASH_BYTES;
    let count = size_of::<FlowCount>() * cpus as usize;
    u64::from(sizes.flows_keys) * hash as u64 + u64::from(sizes.flow_slots) * count as u64
}

fn held(sizes: &Sizes) -> u64 {
    let hash = size_of::<FlowKey>() + size_of::<FlowState>() + HASH_BYTES;
    let limit = size_of::<FlowLimit>() as u64;
    u64::from(sizes.held_keys) * hash as u64 + u64::from(sizes.held_slots) * limit
}

fn rates(sizes: &Sizes) -> u64 {
    u64::from(sizes.bucket_sets.next_power_of_two()) * size_of::<BucketSet>() as u64
}

fn entries(sizes: &Sizes) -> u64 {
    let live = Live { hosts: sizes.block_hosts, nets: sizes.block_nets };
    live.bytes() + u64::from(sizes.allow_nets) * NET_BYTES
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Ram};

    fn plan(more: &str) -> Plan {
        plan_for(more, Ram::default())
    }

    fn plan_for(more: &str, ram: Ram) -> Plan {
        let text = format!(
            "config sluice main\n{more}config interface a\noption device a\noption role wan\n\
             config interface b\noption device b\noption role lan\n"
        );
        let (config, _) = Config::load_text(text.as_bytes(), "f", ram).unwrap();
        Plan::new(&config, 0).unwrap()
    }

    /// R149, R150: caps follow the memory of the machine, and the defaults fit the smallest one.
    #[test]
    fn defaults_fit_machines_of_every_class() {
        for mib in [64_u64, 128, 256, 512, 4096] {
            // Less what the kernel keeps for itself.
            let machine_kib = mib * 1024 * 9 / 10;
            let plan = plan_for("", Ram::of(machine_kib));
            // Twice as much of everything in each class.
            let times = (mib / 64).min(8) as u32;
            assert_eq!((plan.flows, plan.held), (4096 * times, 1024 * times));
            assert_eq!(plan.limits.flows_max, 1024 * times);
            assert_eq!(plan.limits.bytes_max as u32, 1024 * 1024 * times);
            assert_eq!(plan.dataplane.sizes.bucket_sets, 2048 * times);
            let budget = Budget::new(&plan, machine_kib, 4);
            assert_eq!(budget.cap_kib, machine_kib / 4 * 3);
            // There is room for lists and rulesets with their own caps, old and new ones.
            let lists = 4 * u64::from(bulk::default_cap_kib(machine_kib));
            assert!(budget.kib() + lists <= budget.cap_kib, "{mib}: {budget}");
            // What somebody writes holds whatever the class is.
            let said = plan_for("option flows 300\n", Ram::of(machine_kib));
            assert_eq!((said.flows, said.held), (300, 1024 * times));
        }
        let budget = Budget::new(&plan(""), 118_000, 2);
        let of = |what| budget.parts.iter().find(|part| part.what == what).unwrap().kib;
        assert_eq!((of("blocklists"), of("domain lists"), of("rulesets")), (0, 0, 0));
        assert_eq!(of("inspection"), 2048);
        assert!((4_000..24_000).contains(&budget.kib()), "{budget}");
    }

    #[test]
    fn what_cannot_fit_is_refused_with_the_arithmetic() {
        let budget = Budget::new(&plan("option flows 262144\n"), 118_000, 2);
        let refused = budget.clone().check().unwrap_err().to_string();
        let first = format!(
            "sluice.main.memory_kib: up to {} KiB are needed, 88500 are allowed: ",
            budget.kib()
        );
        assert!(refused.starts_with(&first), "{refused}");
        assert!(
            refused.contains(" for maps of flows (flows), ")
                && refused.contains(", 2048 for inspection (inspect_memory_kib)"),
            "{refused}"
        );
        // What somebody allows on purpose is allowed.
        let more = "option flows 262144\noption memory_kib 4000000\n";
        Budget::new(&plan(more), 118_000, 2).check().unwrap();
        let less = Budget::new(&plan("option memory_kib 1024\n"), 118_000, 2).check().unwrap_err();
        assert!(less.to_string().contains(", 1024 are allowed"), "{less}");
    }
}

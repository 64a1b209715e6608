//! From rules as they are configured to rules as they are looked up.

use std::collections::HashMap;
use std::sync::Arc;

use super::app::Classes;
use super::country::Places;
use super::index::{Fingerprints, Nets, Suffixes, need_of};
use super::who::{Devices, Who};
use super::zone::TimeZone;
use super::{Compiled, Policy, Schedules, need};
use crate::config::{Apps, Countries, Group, PROTOCOLS, Rule, RuleAction, Schedule};

/// What rules refer to.
#[derive(Clone, Debug)]
pub struct Surroundings<'a> {
    /// Names of the interfaces, in the order of their numbers.
    pub zones: Vec<&'a str>,
    /// Groups of devices.
    pub groups: &'a [Group],
    /// Schedules.
    pub schedules: &'a [Schedule],
    /// Classes of applications.
    pub apps: &'a Apps,
    /// Networks of countries.
    pub countries: &'a Arc<Countries>,
    /// Where their times of day are.
    pub time_zone: TimeZone,
}

impl Policy {
    /// The rules, numbered by their order. What a rule refers to and is not there concerns nobody,
    /// or never holds. Schedules do not hold until [`Policy::update`] is told the time.
    #[must_use]
    pub fn new(rules: &[Rule], around: &Surroundings<'_>) -> Self {
        let schedules = Schedules::new(around.schedules.iter().cloned(), around.time_zone.clone());
        let (mut domains, mut nets, mut fingerprints) = (Vec::new(), Vec::new(), Vec::new());
        let (mut who, mut known) = (Vec::new(), HashMap::new());
        let (mut open, mut answered) = (Vec::new(), Vec::new());
        let mut compiled = Vec::with_capacity(rules.len());
        for (number, rule) in (0..).zip(rules) {
            let mut needs = 0;
            if !rule.domains.is_empty() {
                needs |= need::DOMAIN;
                domains.extend(rule.domains.iter().map(|domain| (domain.as_str(), number)));
            }
            if !rule.apps.is_empty() {
                needs |= need::APP;
            }
            let all = rule.fingerprints.iter().chain(&rule.listed);
            fingerprints.extend(all.map(|fingerprint| (*fingerprint, number)));
            needs |= fingerprints_of(rule);
            if needs & need::ANSWER != 0 {
                answered.push(number);
            }
            if !rule.nets.is_empty() {
                needs |= need::NET;
                nets.extend(rule.nets.iter().map(|net| (*net, number)));
            }
            if !rule.countries.is_empty() {
                needs |= need::COUNTRY;
            }
            if needs == 0 && rule.is_complete() {
                open.push(number);
            }
            let key = (&rule.devices, &rule.groups, &rule.zones);
            let place = *known.entry(key).or_insert_with(|| {
                who.push(who_of(rule, around));
                (who.len() - 1) as u32
            });
            let longest = rule.domains.iter().map(String::len).max().unwrap_or_default();
            compiled.push(Compiled {
                action: rule.action,
                needs,
                is_over: false,
                has_schedule: !rule.schedules.is_empty(),
                longest: longest.min(255) as u8,
                who: place,
                until: rule.until,
                ports: rule.ports.clone().into(),
                protocols: rule
                    .protocols
                    .iter()
                    .filter_map(|name| PROTOCOLS.iter().find(|known| *known == name).copied())
                    .collect(),
                schedules: rule
                    .schedules
                    .iter()
                    .filter_map(|name| schedules.number(name))
                    .collect(),
            });
        }
        let mut policy = Self {
            rules: compiled.into(),
            domains: Suffixes::new(domains),
            apps: Classes::new(around.apps, rules),
            nets: Nets::new(nets),
            places: Places::new(around.countries, rules),
            fingerprints: Fingerprints::new(fingerprints),
            open: open.into(),
            answered: answered.into(),
            who: who.into(),
            late: Vec::new(),
            late_answered: Vec::new(),
            schedules,
        };
        policy.find_late();
        policy
    }
}

/// Which fingerprints a rule asks for. A file asks also when nothing is in it.
fn fingerprints_of(rule: &Rule) -> u8 {
    let files = [
        (need::FINGERPRINT, &rule.fingerprint_files),
        (need::JA3S, &rule.ja3s_files),
        (need::CERTIFICATE, &rule.certificate_files),
    ];
    let of_files = files.iter().filter(|(_, files)| !files.is_empty()).map(|(need, _)| *need);
    let of_values = rule.fingerprints.iter().map(need_of);
    of_files.chain(of_values).fold(0, |needs, need| needs | need)
}

fn who_of(rule: &Rule, around: &Surroundings<'_>) -> Who {
    let groups = around.groups.iter().filter(|group| rule.groups.contains(&group.name));
    let bits = around
        .zones
        .iter()
        .zip(0..64)
        .filter(|(name, _)| rule.zones.iter().any(|zone| zone == *name));
    Who {
        is_everyone: !rule.has_who(),
        devices: Devices::new(&rule.devices),
        members: Devices::new(groups.flat_map(|group| &group.devices)),
        zones: bits.fold(0, |bits, (_, bit): (_, u32)| bits | 1 << bit),
    }
}

/// Rules about domains and nothing else, each with its number: what a rule needs where there is no
/// configuration.
#[must_use]
pub fn of_domains(rules: impl IntoIterator<Item = (String, RuleAction, u32)>) -> Policy {
    let mut all: Vec<Rule> = Vec::new();
    for (domain, action, number) in rules {
        let number = number as usize;
        while all.len() <= number {
            all.push(Rule::default());
        }
        if let Some(rule) = all.get_mut(number) {
            rule.action = action;
            rule.domains.push(domain.trim_end_matches('.').to_ascii_lowercase());
        }
    }
    let around = Surroundings {
        zones: Vec::new(),
        groups: &[],
        schedules: &[],
        apps: &Apps::default(),
        countries: &Arc::default(),
        time_zone: TimeZone::UTC,
    };
    Policy::new(&all, &around)
}

//! What sections say about each other: what is missing, doubled, or named and not there.

use sluice_abi::attach::{Attachment, Role};
use sluice_abi::names::LISTS_CONFIGURED_MAX;

use super::action::RuleAction;
use super::uci::Package;
use super::{Builder, Config, DOMAINLISTS_MAX, PACKAGE, Profile, RULESETS_MAX, Rule};

impl Builder<'_> {
    pub(super) fn check_roles(&mut self) {
        for role in [Role::Wan, Role::Lan] {
            if !self.config.interfaces.iter().any(|interface| interface.role == role) {
                let reason = format!(
                    "no section of type interface has the role {role}: add one, such as: config \
                     interface '{role}', option device '{}', option role '{role}'",
                    if role == Role::Wan { "wan" } else { "br-lan" },
                    role = role.name()
                );
                self.remarks.mistake(0, PACKAGE, reason);
            }
        }
    }

    pub(super) fn check_counts(&mut self) {
        for (count, most, kind) in [
            (self.config.interfaces.len(), Attachment::SLOTS, "interface"),
            (self.config.blocklists.len(), LISTS_CONFIGURED_MAX, "blocklist"),
            (self.config.allowlists.len(), LISTS_CONFIGURED_MAX, "allowlist"),
            (self.config.domainlists.len(), DOMAINLISTS_MAX, "domainlist"),
            (self.config.rulesets.len(), RULESETS_MAX, "ruleset"),
        ] {
            if count > most as usize {
                let reason = format!("has {count} sections of type {kind}, {most} are allowed");
                self.remarks.mistake(0, PACKAGE, reason);
            }
        }
    }

    /// A domain that is both allowed and blocked is probably not what was meant.
    pub(super) fn check_rules(&mut self, package: &Package) {
        let mut domains: Vec<(&str, RuleAction, &str)> = Vec::new();
        let is_plain = |rule: &&Rule| {
            let with_domains = Rule { domains: rule.domains.clone(), ..Rule::default() };
            let conditions = Rule {
                name: String::new(),
                enabled: false,
                action: RuleAction::default(),
                kbit: 0,
                burst_kib: 0,
                profile: None,
                ..(*rule).clone()
            };
            rule.enabled && conditions == with_domains
        };
        for rule in self.config.rules.iter().filter(is_plain) {
            domains
                .extend(rule.domains.iter().map(|d| (d.as_str(), rule.action, rule.name.as_str())));
        }
        domains.sort_by_key(|(domain, ..)| *domain);
        for pair in domains.windows(2) {
            let [(domain, action, first), (other, other_action, second)] = pair else { continue };
            if domain == other && action != other_action {
                let line = package.line_of(second);
                let reason = format!("{domain} has two actions, here and in {first}");
                self.remarks.warning(line, format!("{PACKAGE}.{second}.domain"), reason);
            }
        }
    }

    /// Every profile has a number, and every rule a profile that exists.
    pub(super) fn check_profiles(&mut self, package: &Package) {
        let line_of = |name: &str| package.line_of(name);
        let profiles = match Profile::numbered(self.config.profiles.clone()) {
            Ok(profiles) => profiles,
            Err(name) => {
                let reason = "there are 16 profiles at most, six of them always".to_owned();
                self.remarks.mistake(line_of(&name), format!("{PACKAGE}.{name}"), reason);
                return;
            }
        };
        for rule in &self.config.rules {
            let Some(name) = &rule.profile else { continue };
            let path = format!("{PACKAGE}.{}.profile", rule.name);
            let Some(profile) = profiles.iter().find(|profile| profile.name == *name) else {
                let reason = format!("there is no profile {name}");
                self.remarks.mistake(line_of(&rule.name), path, reason);
                continue;
            };
            if rule.action == RuleAction::Limit && rule.kbit == 0 && profile.kbit == 0 {
                let reason = format!("the profile {name} has no rate, and option kbit is 0");
                self.remarks.mistake(line_of(&rule.name), path, reason);
            } else if rule.action == RuleAction::Mark && !profile.marks() {
                let reason = format!("the profile {name} has neither code point nor priority");
                self.remarks.mistake(line_of(&rule.name), path, reason);
            }
        }
    }

    /// Groups, zones and schedules that rules name exist.
    pub(super) fn check_names(&mut self, package: &Package) {
        let Config { rules, groups, interfaces, schedules, .. } = &self.config;
        for rule in rules {
            for (option, named, known) in [
                ("group", &rule.groups, groups.iter().map(|g| &g.name).collect::<Vec<_>>()),
                ("zone", &rule.zones, interfaces.iter().map(|i| &i.name).collect()),
                ("schedule", &rule.schedules, schedules.iter().map(|s| &s.name).collect()),
            ] {
                for name in named.iter().filter(|name| !known.contains(name)) {
                    let line = package.line_of(&rule.name);
                    let kind = if option == "zone" { "interface" } else { option };
                    let reason = format!("there is no section {name} of type {kind}");
                    self.remarks.mistake(line, format!("{PACKAGE}.{}.{option}", rule.name), reason);
                }
            }
        }
    }
}

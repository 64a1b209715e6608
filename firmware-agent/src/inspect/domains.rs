//! Rules about host names.
//!
//! Owns the match: a rule for `example.com` covers that name and every name below it, never
//! `notexample.com`; of several rules the longest domain wins. Names are compared in lower case.

use crate::config::RuleAction;

/// The rule that covers a name.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Match<'a> {
    /// What it does.
    pub action: RuleAction,
    /// Its number, as given.
    pub rule: u32,
    /// Its domain.
    pub domain: &'a str,
}

/// A set of rules: one text and one sorted array.
#[derive(Clone, Debug, Default)]
pub struct DomainRules {
    text: Box<str>,
    entries: Box<[Entry]>,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    start: u32,
    len: u8,
    action: RuleAction,
    rule: u32,
}

impl DomainRules {
    /// The set of `rules`. A dot behind a domain is ignored; of rules for the same domain, the one
    /// given first counts. A domain that is empty, or longer than any name, matches nothing.
    #[must_use]
    pub fn new(rules: impl IntoIterator<Item = (String, RuleAction, u32)>) -> Self {
        let mut rules: Vec<_> = rules
            .into_iter()
            .map(|(mut domain, action, rule)| {
                domain.make_ascii_lowercase();
                if domain.ends_with('.') {
                    domain.pop();
                }
                (domain, action, rule)
            })
            .filter(|(domain, ..)| !domain.is_empty() && u8::try_from(domain.len()).is_ok())
            .collect();
        // Stable: rules for the same domain stay in the order given.
        rules.sort_by(|(a, ..), (b, ..)| a.cmp(b));
        rules.dedup_by(|(later, ..), (first, ..)| later == first);
        let mut text = String::with_capacity(rules.iter().map(|(domain, ..)| domain.len()).sum());
        let mut entries = Vec::with_capacity(rules.len());
        for (domain, action, rule) in rules {
            entries.push(Entry { start: text.len() as u32, len: domain.len() as u8, action, rule });
            text.push_str(&domain);
        }
        Self { text: text.into_boxed_str(), entries: entries.into_boxed_slice() }
    }

    /// How many domains have a rule.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is no rule.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The rule with the longest domain that covers `name`, which is in lower case.
    #[must_use]
    pub fn lookup(&self, name: &str) -> Option<Match<'_>> {
        let mut suffix = name;
        while !self.entries.is_empty() {
            if let Ok(index) =
                self.entries.binary_search_by(|entry| self.domain(*entry).cmp(suffix))
            {
                let entry = self.entries[index];
                let domain = self.domain(entry);
                return Some(Match { action: entry.action, rule: entry.rule, domain });
            }
            suffix = suffix.split_once('.')?.1;
        }
        None
    }

    fn domain(&self, entry: Entry) -> &str {
        let start = entry.start as usize;
        self.text.get(start..start + usize::from(entry.len)).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(rules: &[(&str, RuleAction)]) -> DomainRules {
        DomainRules::new(
            rules
                .iter()
                .enumerate()
                .map(|(index, (domain, action))| ((*domain).to_owned(), *action, index as u32)),
        )
    }

    fn rule(rules: &DomainRules, name: &str) -> Option<u32> {
        rules.lookup(name).map(|found| found.rule)
    }

    #[test]
    fn a_rule_covers_its_domain_and_what_is_below_it_and_nothing_else() {
        let rules = rules(&[("example.com", RuleAction::Block)]);
        for name in ["example.com", "www.example.com", "a.b.c.example.com"] {
            let found = rules.lookup(name).unwrap();
            assert_eq!((found.action, found.rule), (RuleAction::Block, 0), "{name}");
            assert_eq!(found.domain, "example.com");
        }
        let others =
            ["notexample.com", "example.com.evil.net", "com", "example.co", "xample.com", "", "."];
        for name in others {
            assert_eq!(rules.lookup(name), None, "{name}");
        }
    }

    #[test]
    fn the_longest_domain_wins_in_both_ways() {
        let rules = rules(&[
            ("com", RuleAction::Block),
            ("example.com", RuleAction::Allow),
            ("ads.example.com", RuleAction::Block),
        ]);
        assert_eq!(rule(&rules, "other.com"), Some(0));
        assert_eq!(rule(&rules, "www.example.com"), Some(1));
        assert_eq!(rule(&rules, "x.ads.example.com"), Some(2));
        assert_eq!(rule(&rules, "badads.example.com"), Some(1));
    }

    #[test]
    fn domains_are_brought_to_one_form_and_the_first_of_equal_ones_counts() {
        let rules = rules(&[
            ("Example.COM.", RuleAction::Allow),
            ("example.com", RuleAction::Block),
            ("", RuleAction::Block),
            (&"x".repeat(256), RuleAction::Block),
        ]);
        assert_eq!(rules.len(), 1);
        assert_eq!(rules.lookup("example.com").unwrap().action, RuleAction::Allow);
    }

    #[test]
    fn lookup_agrees_with_trying_every_rule() {
        // Short names over a small alphabet: suffixes of each other happen all the time.
        let mut state = 0x2545_f491_4f6c_dd1d_u64;
        let mut name = |labels: u64| {
            let mut text = String::new();
            for index in 0..=labels {
                if index > 0 {
                    text.push('.');
                }
                for _ in 0..=(index & 1) {
                    state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    text.push(char::from(b'a' + (state >> 60) as u8 % 3));
                }
            }
            text
        };
        for round in 0..50 {
            let domains: Vec<_> = (0..20).map(|n| name((n + round) % 4)).collect();
            let rules = DomainRules::new(
                domains.iter().enumerate().map(|(n, d)| (d.clone(), RuleAction::Block, n as u32)),
            );
            for n in 0..200 {
                let name = name(n % 5);
                let expected = domains
                    .iter()
                    .filter(|d| name == **d || name.ends_with(&format!(".{d}")))
                    .max_by_key(|d| d.len());
                let found = rules.lookup(&name).map(|found| found.domain);
                assert_eq!(found, expected.map(String::as_str), "{name}");
            }
        }
    }
}

//! Sorted arrays that lead from what a flow shows to the rules that name it.

use sluice_abi::flow::Addr;

use super::{Entry, Hit, kind, need};
use crate::config::{Fingerprint, Net, Rule};

/// Domains of rules: one text and one sorted array. A domain covers itself and what is below it.
#[derive(Clone, Debug, Default)]
pub(super) struct Suffixes {
    text: Box<str>,
    entries: Box<[Suffix]>,
}

#[derive(Clone, Copy, Debug)]
struct Suffix {
    start: u32,
    rule: u32,
    len: u8,
}

impl Suffixes {
    /// An index of domains in lower case. What is empty or longer than any name leads nowhere.
    pub(super) fn new(mut domains: Vec<(&str, u32)>) -> Self {
        domains.retain(|(domain, _)| !domain.is_empty() && u8::try_from(domain.len()).is_ok());
        domains.sort_unstable();
        domains.dedup();
        let mut text = String::new();
        let mut entries: Vec<Suffix> = Vec::with_capacity(domains.len());
        let mut last = "";
        for (domain, rule) in domains {
            if domain != last {
                text.push_str(domain);
                last = domain;
            }
            let start = (text.len() - domain.len()) as u32;
            entries.push(Suffix { start, rule, len: domain.len() as u8 });
        }
        Self { text: text.into(), entries: entries.into() }
    }

    pub(super) fn find(&self, name: &str, hits: &mut Vec<Hit>) {
        let mut suffix = name.strip_suffix('.').unwrap_or(name);
        while !self.entries.is_empty() {
            let first = self.entries.partition_point(|entry| self.of(*entry) < suffix);
            let same = self.entries.iter().zip(0..).skip(first);
            for (entry, number) in same.take_while(|(entry, _)| self.of(**entry) == suffix) {
                hits.push(Hit {
                    rule: entry.rule,
                    need: need::DOMAIN,
                    kind: kind::DOMAIN,
                    len: entry.len,
                    entry: Entry::Domain(number),
                });
            }
            match suffix.split_once('.') {
                Some((_, rest)) => suffix = rest,
                None => break,
            }
        }
    }

    /// What the longest domain leads to that is `name` or above it.
    pub(super) fn longest(&self, name: &str) -> Option<u32> {
        let name = name.strip_suffix('.').unwrap_or(name);
        let below = name.match_indices('.').filter_map(|(dot, _)| name.get(dot + 1..));
        std::iter::once(name).chain(below).find_map(|suffix| {
            let place = self.entries.binary_search_by(|entry| self.of(*entry).cmp(suffix)).ok()?;
            self.entries.get(place).map(|entry| entry.rule)
        })
    }

    pub(super) fn text(&self, number: u32) -> &str {
        self.entries.get(number as usize).map_or("", |entry| self.of(*entry))
    }

    pub(super) fn memory(&self) -> usize {
        self.text.len() + size_of_val(&*self.entries)
    }

    fn of(&self, entry: Suffix) -> &str {
        let start = entry.start as usize;
        self.text.get(start..start + usize::from(entry.len)).unwrap_or_default()
    }
}

/// Prefixes of rules, sorted, and which lengths there are.
#[derive(Clone, Debug, Default)]
pub(super) struct Nets {
    entries: Box<[(Net, u32)]>,
    lengths: Box<[u8]>,
}

impl Nets {
    pub(super) fn new(mut entries: Vec<(Net, u32)>) -> Self {
        entries.sort_unstable();
        entries.dedup();
        let mut lengths: Vec<u8> = entries.iter().map(|(net, _)| net.prefix()).collect();
        lengths.sort_unstable();
        lengths.dedup();
        Self { entries: entries.into(), lengths: lengths.into() }
    }

    pub(super) fn find(&self, addr: Addr, hits: &mut Vec<Hit>) {
        for len in &self.lengths {
            let net = Net::new(addr, *len);
            let first = self.entries.partition_point(|(other, _)| *other < net);
            let same = self.entries.iter().zip(0..).skip(first);
            for ((net, rule), number) in same.take_while(|((other, _), _)| *other == net) {
                hits.push(Hit {
                    rule: *rule,
                    need: need::NET,
                    kind: if net.is_host() { kind::ADDRESS } else { kind::PREFIX },
                    len: if net.is_host() { 0 } else { net.prefix() },
                    entry: Entry::Net(number),
                });
            }
        }
    }

    pub(super) fn text(&self, number: u32) -> String {
        self.entries.get(number as usize).map(|(net, _)| net.to_string()).unwrap_or_default()
    }

    pub(super) fn memory(&self) -> usize {
        size_of_val(&*self.entries) + self.lengths.len()
    }
}

/// Fingerprints of rules, sorted.
#[derive(Clone, Debug, Default)]
pub(super) struct Fingerprints(Box<[(Fingerprint, u32)]>);

impl Fingerprints {
    pub(super) fn new(mut entries: Vec<(Fingerprint, u32)>) -> Self {
        entries.sort_unstable();
        entries.dedup();
        Self(entries.into())
    }

    pub(super) fn find(&self, fingerprint: &Fingerprint, hits: &mut Vec<Hit>) {
        let first = self.0.partition_point(|(other, _)| other < fingerprint);
        let same = self.0.iter().zip(0..).skip(first);
        for ((_, rule), number) in same.take_while(|((other, _), _)| other == fingerprint) {
            hits.push(Hit {
                rule: *rule,
                need: need::FINGERPRINT,
                kind: kind::FINGERPRINT,
                len: 0,
                entry: Entry::Fingerprint(number),
            });
        }
    }

    pub(super) fn text(&self, number: u32) -> String {
        let found = self.0.get(number as usize);
        found.map(|(fingerprint, _)| fingerprint.to_string()).unwrap_or_default()
    }

    pub(super) fn memory(&self) -> usize {
        size_of_val(&*self.0)
    }
}

/// Rules by the place of what they name, sorted.
#[derive(Clone, Debug, Default)]
pub(super) struct ByPlace<P>(Box<[(P, u32)]>);

impl<P: Copy + Ord> ByPlace<P> {
    /// Of the names that each rule has, those that have a place.
    pub(super) fn new(
        rules: &[Rule],
        named: impl Fn(&Rule) -> &[String],
        place: impl Fn(&str) -> Option<P>,
    ) -> Self {
        let mut entries: Vec<(P, u32)> = Vec::new();
        for (number, rule) in (0..).zip(rules) {
            let places = named(rule).iter().filter_map(|name| place(name));
            entries.extend(places.map(|place| (place, number)));
        }
        entries.sort_unstable();
        entries.dedup();
        Self(entries.into())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The rules about what has this place.
    pub(super) fn of(&self, place: P) -> impl Iterator<Item = u32> {
        let first = self.0.partition_point(|(other, _)| *other < place);
        let same = self.0.iter().skip(first).take_while(move |(other, _)| *other == place);
        same.map(|(_, rule)| *rule)
    }

    pub(super) fn memory(&self) -> usize {
        size_of_val(&*self.0)
    }
}

//! Networks of countries: which rules can name, and where they come from.
//!
//! A directory, named by `country_dir`, has a file for each country: two letters and `.zone` or `.txt`,
//! with a prefix of IPv4 or IPv6 on each line. Only files of countries that a rule names are read. Of
//! prefixes that cover an address the longest counts.

use std::collections::BTreeSet;
use std::rc::Rc;
use std::sync::Arc;

use sluice_abi::flow::Addr;

use super::bounded::{Unread, read_whole};
use super::net::Net;
use super::remark::{Remark, shown};
use super::uci::Package;
use super::{Builder, PACKAGE};

/// Most prefixes of all countries together: 3 MiB where all are of IPv4.
const PREFIXES_MAX: usize = 262_144;
/// Endings of the files of a country; every one that is there is read.
const ENDINGS: [&str; 2] = ["zone", "txt"];

/// Countries, and which addresses are theirs.
///
/// Memory: 12 bytes for each range of IPv4, 48 for each of IPv6; prefixes that lie side by side are one
/// range.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Countries {
    names: Box<[Box<str>]>,
    v4: Box<[Range<u32>]>,
    v6: Box<[Range<u128>]>,
}

/// First and last address of a range, and the place of its country.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Range<T> {
    first: T,
    last: T,
    country: u16,
}

impl Countries {
    /// Countries by name, and prefixes, each with the place of its country.
    #[must_use]
    pub fn new(names: Vec<String>, nets: Vec<(Net, u16)>) -> Self {
        let (v4, v6): (Vec<_>, Vec<_>) = nets.into_iter().partition(|(net, _)| net.is_v4());
        // Of an IPv4 address only the lower half differs.
        let low = |range: Range<u128>| Range {
            first: range.first as u32,
            last: range.last as u32,
            country: range.country,
        };
        Self {
            names: names.into_iter().map(String::into_boxed_str).collect(),
            v4: ranges(v4).into_iter().map(low).collect(),
            v6: ranges(v6).into(),
        }
    }

    /// The names, in the order of their places.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(|name| &**name)
    }

    /// The country that has an address, by its place.
    #[must_use]
    pub fn find(&self, addr: Addr) -> Option<u16> {
        let bits = Net::new(addr, 128).bits();
        if addr.is_v4() { find(&self.v4, bits as u32) } else { find(&self.v6, bits) }
    }

    /// The name of a country.
    #[must_use]
    pub fn name(&self, country: u16) -> Option<&str> {
        self.names.get(usize::from(country)).map(|name| &**name)
    }

    /// Bytes in use.
    #[must_use]
    pub fn memory(&self) -> usize {
        size_of_val(&*self.names) + size_of_val(&*self.v4) + size_of_val(&*self.v6)
    }
}

fn find<T: Copy + Ord>(ranges: &[Range<T>], at: T) -> Option<u16> {
    let behind = ranges.partition_point(|range| range.first <= at);
    let range = ranges.get(behind.checked_sub(1)?)?;
    (at <= range.last).then_some(range.country)
}

/// Disjoint ranges in order. Two prefixes are disjoint or one lies inside the other, which counts there.
fn ranges(mut nets: Vec<(Net, u16)>) -> Vec<Range<u128>> {
    nets.sort_unstable_by_key(|(net, country)| (net.bits(), net.prefix(), *country));
    let mut out: Vec<Range<u128>> = Vec::with_capacity(nets.len());
    let mut put = |first: Option<u128>, last: u128, country: u16| {
        let Some(first) = first.filter(|first| *first <= last) else { return };
        if let Some(before) = out.last_mut()
            && before.country == country
            && before.last.checked_add(1) == Some(first)
        {
            before.last = last;
        } else {
            out.push(Range { first, last, country });
        }
    };
    // Prefixes that have begun and not ended, and the first address that was given to nobody yet;
    // behind the last of all there is none.
    let mut open: Vec<(u128, u16)> = Vec::new();
    let mut next = Some(0);
    for (net, country) in nets {
        let first = net.bits();
        let last = first | u128::MAX.checked_shr(u32::from(net.prefix())).unwrap_or(0);
        while let Some((end, of)) = open.pop_if(|(end, _)| *end < first) {
            put(next, end, of);
            next = end.checked_add(1);
        }
        if let (Some((_, of)), Some(before)) = (open.last(), first.checked_sub(1)) {
            put(next, before, *of);
        }
        next = Some(first);
        open.push((last, country));
    }
    while let Some((end, of)) = open.pop() {
        put(next, end, of);
        next = end.checked_add(1);
    }
    out
}

/// Reads the lines of a file; the number of the first one that is wrong, and why.
fn read(text: &str, country: u16, nets: &mut Vec<(Net, u16)>) -> Result<(), (u32, String)> {
    for (line, number) in text.lines().zip(1..) {
        let line = line.split('#').next().unwrap_or_default().trim();
        if line.is_empty() {
            continue;
        }
        let Ok((net, _)) = Net::from_text(line) else {
            return Err((number, format!("{} is not an address or prefix", shown(line))));
        };
        if nets.len() == PREFIXES_MAX {
            return Err((
                number,
                format!("is one too many: countries have {PREFIXES_MAX} at most"),
            ));
        }
        nets.push((net, country));
    }
    Ok(())
}

/// The code of a country in lower case.
pub(crate) fn code(text: &str) -> Result<String, &'static str> {
    let fits = text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_alphabetic());
    if fits { Ok(text.to_ascii_lowercase()) } else { Err("is not two letters") }
}

impl Builder<'_> {
    /// Reads the files of the countries that rules name.
    pub(super) fn read_countries(&mut self, package: &Package) {
        let Some(directory) = self.config.main.country_dir.clone() else { return };
        let names = self.named_countries();
        let mut nets = Vec::new();
        for (name, country) in names.iter().zip(0..) {
            let mut is_there = false;
            for ending in ENDINGS {
                let file = directory.join(name).with_extension(ending);
                let about: Rc<str> = file.to_string_lossy().into();
                let text = match read_whole(&file) {
                    Ok(text) => String::from_utf8_lossy(&text).into_owned(),
                    Err(Unread::Io(error)) if error.kind() == std::io::ErrorKind::NotFound => {
                        continue;
                    }
                    Err(why) => {
                        let reason = why.to_string();
                        let remark = Remark { file: about, line: 0, path: String::new(), reason };
                        self.remarks.mistake_about(remark);
                        continue;
                    }
                };
                is_there = true;
                if let Err((line, reason)) = read(&text, country, &mut nets) {
                    let remark = Remark { file: about, line, path: String::new(), reason };
                    self.remarks.mistake_about(remark);
                }
            }
            if !is_there {
                let reason = format!("no {name}.zone and no {name}.txt in {}", directory.display());
                self.about_country(package, name, &reason);
            }
        }
        self.config.countries = Arc::new(Countries::new(names.into_iter().collect(), nets));
    }

    fn named_countries(&self) -> BTreeSet<String> {
        self.config.rules.iter().flat_map(|rule| &rule.countries).cloned().collect()
    }

    /// Says something about each rule that names a country.
    fn about_country(&mut self, package: &Package, name: &str, reason: &str) {
        for rule in &self.config.rules {
            if rule.countries.iter().any(|country| country == name) {
                let path = format!("{PACKAGE}.{}.country", rule.name);
                self.remarks.mistake(package.line_of(&rule.name), path, reason.to_owned());
            }
        }
    }

    /// Rules name countries only where their files are.
    pub(super) fn check_country_dir(&mut self, package: &Package) {
        if self.config.main.country_dir.is_some() {
            return;
        }
        for name in self.named_countries() {
            let reason = "needs option country_dir in the section of type sluice";
            self.about_country(package, &name, reason);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;
    use crate::policy::tests::Random;

    fn addr(text: &str) -> Addr {
        text.parse::<IpAddr>().unwrap().into()
    }

    fn countries(nets: &[(&str, u16)]) -> Countries {
        let nets = nets.iter().map(|(net, country)| (net.parse().unwrap(), *country));
        Countries::new(vec!["de".to_owned(), "fr".to_owned(), "us".to_owned()], nets.collect())
    }

    #[test]
    fn the_longest_prefix_says_whose_an_address_is() {
        let known = countries(&[
            ("10.0.0.0/8", 0),
            ("10.1.0.0/16", 1),
            ("10.1.2.0/24", 0),
            ("10.1.3.0/24", 1),
            ("192.0.2.0/25", 2),
            ("192.0.2.128/25", 2),
            ("255.255.255.255/32", 1),
            ("2001:db8::/32", 0),
            ("2001:db8:1::/48", 2),
            ("ff00::/8", 0),
            ("ffff::/16", 1),
        ]);
        for (at, country) in [
            ("9.255.255.255", None),
            ("10.0.0.0", Some(0)),
            ("10.1.0.0", Some(1)),
            ("10.1.2.255", Some(0)),
            ("10.1.3.0", Some(1)),
            ("10.1.255.255", Some(1)),
            ("10.2.0.0", Some(0)),
            ("11.0.0.0", None),
            ("192.0.2.128", Some(2)),
            ("255.255.255.255", Some(1)),
            ("2001:db8::1", Some(0)),
            ("2001:db8:1:ffff::", Some(2)),
            ("2001:db8:2::", Some(0)),
            ("2001:db9::", None),
            ("::1", None),
            ("fffe:ffff::", Some(0)),
            ("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", Some(1)),
        ] {
            assert_eq!(known.find(addr(at)), country, "{at}");
        }
        assert_eq!(known.v4.len(), 7, "what lies side by side is one range");
    }

    /// A search by prefix length is right and slow.
    #[test]
    fn ranges_agree_with_a_search_by_prefix_length() {
        let mut random = Random(11);
        for round in 0..300 {
            let nets: Vec<(Net, u16)> = (0..random.below(40))
                .map(|_| {
                    let place =
                        Addr::from_v4_octets([10, 0, random.below(4) as u8, random.next() as u8]);
                    let net = Net::new(place, 96 + 20 + random.below(13) as u8);
                    (net, random.below(3) as u16)
                })
                .collect();
            let known = Countries::new(Vec::new(), nets.clone());
            for at in 0..1024_u32 {
                let at = Addr::from_v4_octets([10, 0, (at >> 8) as u8, at as u8]);
                let host = Net::new(at, 128);
                let longest = nets.iter().filter(|(net, _)| net.contains(&host));
                // Of two that are equal the last in the order of countries.
                let expected = longest.max_by_key(|(net, country)| (net.prefix(), *country));
                assert_eq!(known.find(at), expected.map(|(_, of)| *of), "{round} {at:?} {nets:?}");
            }
        }
    }
}

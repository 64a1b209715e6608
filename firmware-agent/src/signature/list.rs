//! Lists of addresses and of ports: groups, negation, variables.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use super::error::Invalid;
use super::ranges::{Point, Ranges, number};

/// How deep groups and variables may lie in each other.
const DEPTH_MAX: u8 = 16;
/// Entries of one list at most, counting what variables stand for each time. The longest published
/// lists of addresses in one rule have some hundred.
const ENTRIES_MAX: u32 = 20_000;

/// What an `Arc` adds to what it points to.
const SHARED: usize = 2 * size_of::<usize>();

/// What `$NAME` stands for.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Variables(BTreeMap<String, String>);

impl Variables {
    /// Gives a name, written without the dollar sign, a list. The list is read where it is used.
    pub fn set(&mut self, name: impl Into<String>, list: impl Into<String>) {
        self.0.insert(name.into(), list.into());
    }

    /// What a name stands for.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }
}

/// A set, or `None` where the rule says `any`.
pub(super) type Set<T> = Option<Arc<Ranges<T>>>;

/// Lists that were read before: most rules write the same few.
#[derive(Debug)]
pub(super) struct Known<T> {
    part: &'static str,
    read: fn(&str) -> Option<Ranges<T>>,
    sets: HashMap<String, Set<T>>,
    /// Bytes of all of them.
    memory: usize,
}

impl Known<u128> {
    pub(super) fn addresses() -> Self {
        Self { part: "address", read: address, sets: HashMap::new(), memory: 0 }
    }
}

impl Known<u16> {
    pub(super) fn ports() -> Self {
        Self { part: "port", read: port, sets: HashMap::new(), memory: 0 }
    }
}

impl<T: Point> Known<T> {
    /// The set that a list means.
    pub(super) fn set(&mut self, text: &str, variables: &Variables) -> Result<Set<T>, Invalid> {
        if let Some(set) = self.sets.get(text) {
            return Ok(set.clone());
        }
        let mut reader = Reader { read: self.read, variables, left: ENTRIES_MAX };
        let set = reader.list(text, DEPTH_MAX).and_then(|set| {
            if set.is_empty() { Err("nothing is left of the list") } else { Ok(set) }
        });
        let set = set.map_err(|reason| Invalid::Header { part: self.part, reason })?;
        let set = if set.is_all() { None } else { Some(Arc::new(set)) };
        self.memory += set.as_ref().map_or(0, |set| {
            SHARED + size_of::<Ranges<T>>() + set.intervals().len() * size_of::<(T, T)>()
        });
        self.sets.insert(text.to_owned(), set.clone());
        Ok(set)
    }

    /// Bytes of the sets.
    pub(super) const fn memory(&self) -> usize {
        self.memory
    }
}

struct Reader<'a, T> {
    read: fn(&str) -> Option<Ranges<T>>,
    variables: &'a Variables,
    left: u32,
}

impl<T: Point> Reader<'_, T> {
    /// One entry or a group in brackets.
    fn list(&mut self, text: &str, depth: u8) -> Result<Ranges<T>, &'static str> {
        let text = text.trim();
        let deeper =
            depth.checked_sub(1).ok_or("groups or variables lie too deep in each other")?;
        self.left = self.left.checked_sub(1).ok_or("too many entries")?;
        if let Some(rest) = text.strip_prefix('!') {
            let rest = rest.trim_start();
            return Ok(self.list(rest, deeper)?.complement());
        }
        if let Some(rest) = text.strip_prefix('[') {
            let inner = rest.strip_suffix(']').ok_or("a group does not end")?;
            return self.group(inner, deeper);
        }
        if let Some(name) = text.strip_prefix('$') {
            let list = self.variables.get(name).ok_or("an unknown variable")?;
            return self.list(list, deeper);
        }
        if text.eq_ignore_ascii_case("any") {
            return Ok(Ranges::all());
        }
        (self.read)(text).filter(|set| !set.is_empty()).ok_or("an entry cannot be read")
    }

    /// What is between brackets: what the plain entries have together, or everything if there are
    /// none, without what the negated ones have.
    fn group(&mut self, inner: &str, depth: u8) -> Result<Ranges<T>, &'static str> {
        let (mut plain, mut negated) = (Vec::new(), Vec::new());
        let mut has_plain = false;
        let mut rest = Some(inner);
        while let Some(text) = rest {
            let (entry, tail) = split_first_entry(text)?;
            rest = tail;
            if let Some(but) = entry.trim_start().strip_prefix('!') {
                negated.extend_from_slice(self.list(but, depth)?.intervals());
            } else {
                has_plain = true;
                plain.extend_from_slice(self.list(entry, depth)?.intervals());
            }
            if plain.len() + negated.len() > ENTRIES_MAX as usize {
                return Err("too many entries");
            }
        }
        let base = if has_plain { Ranges::new(plain) } else { Ranges::all() };
        Ok(base.without(&Ranges::new(negated)))
    }
}

/// What is before the first comma outside brackets, and what is behind it.
fn split_first_entry(text: &str) -> Result<(&str, Option<&str>), &'static str> {
    let mut open = 0_u32;
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'[' => open += 1,
            b']' => open = open.checked_sub(1).ok_or("a group ends that did not start")?,
            b',' if open == 0 => {
                let (entry, tail) = text.split_at(at);
                return Ok((entry, tail.get(1..)));
            }
            _ => {}
        }
    }
    if open == 0 { Ok((text, None)) } else { Err("a group does not end") }
}

/// `192.0.2.1`, `192.0.2.0/24`, `192.0.2.1-192.0.2.9`, and the same of IPv6.
fn address(text: &str) -> Option<Ranges<u128>> {
    let (low, high, is_v4) = if let Some((low, high)) = text.split_once('-') {
        let (low, high): (IpAddr, IpAddr) = (low.trim().parse().ok()?, high.trim().parse().ok()?);
        if low.is_ipv4() != high.is_ipv4() {
            return None;
        }
        (number(low), number(high), low.is_ipv4())
    } else {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(decimal::<u32>(prefix)?)),
            None => (text, None),
        };
        let address: IpAddr = address.trim_end().parse().ok()?;
        let bits = if address.is_ipv4() { 32 } else { 128 };
        let host = bits - prefix.unwrap_or(bits).min(bits);
        if prefix.is_some_and(|prefix| prefix > bits) {
            return None;
        }
        let ones = 1_u128.checked_shl(host).map_or(u128::MAX, |bit| bit - 1);
        (number(address) & !ones, number(address) | ones, address.is_ipv4())
    };
    let set = Ranges::new(vec![(low, high)]);
    // A wide IPv6 prefix does not mean the IPv4 addresses that are kept inside of it.
    let v4 = Ranges::new(vec![(0xffff_0000_0000, 0xffff_ffff_ffff)]);
    Some(if is_v4 { set } else { set.without(&v4) })
}

/// `80`, `80:90`, `:1024`, `1024:`.
fn port(text: &str) -> Option<Ranges<u16>> {
    let Some((low, high)) = text.split_once(':') else {
        let port = decimal(text)?;
        return Some(Ranges::new(vec![(port, port)]));
    };
    let (low, high) = (low.trim(), high.trim());
    if low.is_empty() && high.is_empty() {
        return None;
    }
    let end = |text: &str, open| if text.is_empty() { Some(open) } else { decimal(text) };
    Some(Ranges::new(vec![(end(low, 0)?, end(high, u16::MAX)?)]))
}

/// A number of decimal digits: no sign, not empty.
pub(super) fn decimal<T: std::str::FromStr>(text: &str) -> Option<T> {
    let is_number = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if is_number { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variables() -> Variables {
        let mut variables = Variables::default();
        for (name, list) in [
            ("HOME_NET", "[192.168.0.0/16, fd00::/8]"),
            ("EXTERNAL_NET", "!$HOME_NET"),
            ("NOBODY", "!any"),
            ("LOOP", "$LOOP"),
            ("A", "[$B,$B,$B,$B,$B,$B,$B,$B]"),
            ("B", "[$C,$C,$C,$C,$C,$C,$C,$C]"),
            ("C", "[$D,$D,$D,$D,$D,$D,$D,$D]"),
            ("D", "[$E,$E,$E,$E,$E,$E,$E,$E]"),
            ("E", "[1.1.1.1,2.2.2.2,3.3.3.3,4.4.4.4,5.5.5.5,6.6.6.6,7.7.7.7,8.8.8.8]"),
            ("HTTP_PORTS", "[80,8080]"),
        ] {
            variables.set(name, list);
        }
        variables
    }

    fn has(list: &str, address: &str) -> bool {
        let set = Known::addresses().set(list, &variables()).unwrap();
        set.is_none_or(|set| set.contains(number(address.parse().unwrap())))
    }

    #[test]
    fn lists_of_addresses_mean_what_they_say() {
        for (list, inside, outside) in [
            ("192.0.2.1", "192.0.2.1", "192.0.2.2"),
            ("192.0.2.0/24", "192.0.2.255", "192.0.3.0"),
            ("0.0.0.0/0", "9.9.9.9", "2001:db8::1"),
            ("::/0", "2001:db8::1", "9.9.9.9"),
            ("2001:db8::/32", "2001:db8:ffff::1", "2001:db9::"),
            ("192.0.2.3-192.0.2.5", "192.0.2.5", "192.0.2.6"),
            ("!192.0.2.1", "2001:db8::1", "192.0.2.1"),
            ("! 192.0.2.1", "2001:db8::1", "192.0.2.1"),
            ("![192.0.2.1, 192.0.2.2]", "192.0.2.3", "192.0.2.2"),
            ("[10.0.0.0/24, !10.0.0.5]", "10.0.0.4", "10.0.0.5"),
            ("[10.0.0.0/8, ![10.1.0.0/16, !10.1.1.1]]", "10.1.1.1", "10.1.1.2"),
            ("[!10.0.0.5,!10.0.0.6]", "10.0.0.7", "10.0.0.6"),
            ("$HOME_NET", "fd12::1", "10.0.0.1"),
            ("$EXTERNAL_NET", "10.0.0.1", "192.168.3.4"),
            ("[$EXTERNAL_NET, !10.0.0.1]", "10.0.0.2", "10.0.0.1"),
        ] {
            assert!(has(list, inside), "{list} has {inside}");
            assert!(!has(list, outside), "{list} has not {outside}");
        }
        assert!(has("any", "::1"));
        assert!(has("[0.0.0.0/0, ::/0]", "9.9.9.9"));
    }

    #[test]
    fn lists_of_ports_mean_what_they_say() {
        for (list, inside, outside) in [
            ("80", 80, 81),
            ("[80, 81, 82]", 82, 83),
            ("[80: 82]", 81, 79),
            ("[1024: ]", 65535, 1023),
            (":1024", 0, 1025),
            ("!80", 79, 80),
            ("[80:100,!99]", 98, 99),
            ("[1:80,![2,4]]", 3, 4),
            ("$HTTP_PORTS", 8080, 8081),
            ("!$HTTP_PORTS", 443, 80),
        ] {
            let set = Known::ports().set(list, &variables()).unwrap().unwrap();
            assert!(set.contains(inside) && !set.contains(outside), "{list}");
        }
    }

    #[test]
    fn what_is_no_list_is_refused() {
        for list in [
            "",
            "!",
            "[]",
            "[",
            "]",
            "[1.1.1.1",
            "1.1.1.1]",
            "[1.1.1.1,]",
            "1.1.1.1/33",
            "1.1.1.1/",
            "1.1.1.1/+8",
            "::/129",
            "1.1.1",
            "host",
            "$UNKNOWN",
            "$NOBODY",
            "!any",
            "$LOOP",
            "$A",
            "1.1.1.2-1.1.1.1",
            "1.1.1.1-::2",
            "[1.1.1.1,!1.1.1.1]",
            "1.1.1.1,2.2.2.2",
            "[[1.1.1.1]",
        ] {
            assert!(Known::addresses().set(list, &variables()).is_err(), "{list}");
        }
        for list in ["", ":", "65536", "-1", "90:80", "[80,,81]", "1:2:3", "0x50", "!:"] {
            assert!(Known::ports().set(list, &variables()).is_err(), "{list}");
        }
        let deep = "[".repeat(2000) + "1.1.1.1" + &"]".repeat(2000);
        assert!(Known::addresses().set(&deep, &variables()).is_err());
    }
}

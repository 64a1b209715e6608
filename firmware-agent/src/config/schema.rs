//! The table of sections and options: the one place that says which exist, what they may hold, and
//! what they mean. Readers, defaults, the default file and `options.md` follow it.

use std::fmt;

use super::cost::{Change, Cost};
use super::{
    ddos, device, domain, ignore, interface, list, main, profile, rule, ruleset, schedule,
};

/// What an option may hold.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// On or off.
    Flag,
    /// A whole number.
    Number {
        /// Least.
        min: u32,
        /// Most.
        max: u32,
    },
    /// A power of two.
    PowerOfTwo {
        /// Least.
        min: u32,
        /// Most.
        max: u32,
    },
    /// One of these words.
    Word(&'static [&'static str]),
    /// Bits of the packet mark.
    Mask,
    /// Name of a network device.
    Device,
    /// Absolute path.
    Path,
    /// Address or prefix.
    Net,
    /// Domain name.
    Domain,
    /// Name of a profile.
    Profile,
    /// Ports.
    Ports,
    /// JA3 fingerprint.
    Ja3,
    /// JA4 fingerprint.
    Ja4,
    /// JA3S fingerprint.
    Ja3s,
    /// Fingerprint of a certificate.
    Certificate,
    /// Device of the household.
    Host,
    /// Hardware address.
    Hardware,
    /// Text on a line.
    Text,
    /// Name of a section.
    Section,
    /// Name of a class of applications.
    Class,
    /// Code of a country.
    Country,
    /// Part of a day.
    Slot,
    /// Instant.
    Moment,
    /// Whether there is a bus, and where.
    Bus,
    /// Loopback address and port.
    Loopback,
}

impl Kind {
    /// Name of the type in `options.md`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Flag => "flag",
            Self::Number { .. } => "number",
            Self::PowerOfTwo { .. } => "power of two",
            Self::Word(_) => "word",
            Self::Mask => "mask",
            Self::Device => "device",
            Self::Path => "path",
            Self::Net => "prefix",
            Self::Domain => "domain",
            Self::Profile => "profile",
            Self::Ports => "ports",
            Self::Ja3 => "JA3",
            Self::Ja4 => "JA4",
            Self::Ja3s => "JA3S",
            Self::Certificate => "SHA-1",
            Self::Host => "host",
            Self::Hardware => "hardware address",
            Self::Text => "text",
            Self::Section => "section",
            Self::Class => "class",
            Self::Country => "country",
            Self::Slot => "slot",
            Self::Moment => "time",
            Self::Bus => "bus",
            Self::Loopback => "socket",
        }
    }
}

/// The values that are accepted.
impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag => f.write_str("0 or 1"),
            Self::Number { min, max } => write!(f, "{min} to {max}"),
            Self::PowerOfTwo { min, max } => write!(f, "{min} to {max}, a power of two"),
            Self::Word(words) => f.write_str(&words.join(", ")),
            Self::Mask => f.write_str("at least 3 neighbouring bits"),
            Self::Device => f.write_str("1 to 15 characters"),
            Self::Path => f.write_str("absolute path"),
            Self::Net => f.write_str("IPv4 or IPv6 address or prefix"),
            Self::Domain => f.write_str("domain name"),
            Self::Profile => f.write_str("name of a profile"),
            Self::Ports => f.write_str("port or range, with tcp/ or udp/ before it or not"),
            Self::Ja3 | Self::Ja3s => f.write_str("32 hexadecimal digits"),
            Self::Certificate => f.write_str("40 hexadecimal digits"),
            Self::Ja4 => f.write_str("36 characters"),
            Self::Host => f.write_str("hardware address, IP address or prefix"),
            Self::Hardware => f.write_str("six bytes, such as 02:00:5e:10:00:01"),
            Self::Text => f.write_str("1 to 63 characters on one line"),
            Self::Section => f.write_str("name of a section"),
            Self::Class => f.write_str("name of a class"),
            Self::Country => f.write_str("two letters"),
            Self::Slot => f.write_str("HH:MM-HH:MM"),
            Self::Moment => f.write_str("YYYY-MM-DDTHH:MM:SSZ"),
            Self::Bus => f.write_str("on, off, absolute path"),
            Self::Loopback => f.write_str("loopback address and port, such as 127.0.0.1:9616"),
        }
    }
}

/// What holds when an option is absent.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Fallback {
    /// This value; for a list, these values separated by spaces.
    Value(&'static str),
    /// These values, by the memory of the router: 64, 128, 256 MiB, and 512 or more.
    ByRam([&'static str; 4]),
    /// Nothing: the option must be there.
    Required,
    /// The empty list.
    Empty,
}

/// An option.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct OptionSpec {
    /// Name.
    pub name: &'static str,
    /// Whether it is a list.
    pub is_list: bool,
    /// What it, or each element, may hold.
    pub kind: Kind,
    /// What holds when it is absent.
    pub fallback: Fallback,
    /// What it does.
    pub about: &'static str,
    /// What changing it costs, alone.
    pub cost: Cost,
}

impl OptionSpec {
    /// An option whose changes are map writes and rules; [`Self::costs`] and [`Self::up_to`] say more.
    const fn any(name: &'static str, kind: Kind, fallback: Fallback, about: &'static str) -> Self {
        Self { name, is_list: false, kind, fallback, about, cost: Cost::of(Change::Update) }
    }

    /// An option that must be there.
    pub(super) const fn required(name: &'static str, kind: Kind, about: &'static str) -> Self {
        Self::any(name, kind, Fallback::Required, about)
    }

    /// An option with a default.
    pub(super) const fn new(
        name: &'static str,
        kind: Kind,
        default: &'static str,
        about: &'static str,
    ) -> Self {
        Self::any(name, kind, Fallback::Value(default), about)
    }

    /// An option whose default goes by the memory of the router.
    pub(super) const fn by_ram(
        name: &'static str,
        kind: Kind,
        defaults: [&'static str; 4],
        about: &'static str,
    ) -> Self {
        Self::any(name, kind, Fallback::ByRam(defaults), about)
    }

    /// An option that need not be there and has no default.
    pub(super) const fn optional(name: &'static str, kind: Kind, about: &'static str) -> Self {
        Self::any(name, kind, Fallback::Empty, about)
    }

    /// A list.
    pub(super) const fn list(
        name: &'static str,
        kind: Kind,
        fallback: Fallback,
        about: &'static str,
    ) -> Self {
        Self { is_list: true, ..Self::any(name, kind, fallback, about) }
    }

    /// With changes that cost this.
    pub(super) const fn costs(mut self, change: Change) -> Self {
        self.cost = Cost::of(change);
        self
    }

    /// With changes that cost this for some values.
    pub(super) const fn up_to(mut self, most: Change) -> Self {
        self.cost.most = most;
        self
    }

    /// The default as documents show it.
    #[must_use]
    pub fn default_shown(&self) -> String {
        match self.fallback {
            Fallback::Value(value) => value.to_owned(),
            Fallback::ByRam(values) => values.join(" / "),
            Fallback::Required => "(required)".to_owned(),
            Fallback::Empty => "(none)".to_owned(),
        }
    }
}

/// A type of section.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct SectionSpec {
    /// The word behind `config`.
    pub kind: &'static str,
    /// The name in the default file.
    pub example: &'static str,
    /// What it is for.
    pub about: &'static str,
    /// Its options.
    pub options: &'static [OptionSpec],
}

/// Every type of section, in the order of the default file.
pub const SECTIONS: [&SectionSpec; 13] = [
    &main::SPEC,
    &interface::SPEC,
    &list::BLOCKLIST,
    &list::ALLOWLIST,
    &rule::SPEC,
    &profile::SPEC,
    &ddos::SPEC,
    &domain::SPEC,
    &schedule::SCHEDULE,
    &schedule::GROUP,
    &ruleset::SPEC,
    &ignore::SPEC,
    &device::SPEC,
];

/// Which of `known` was probably meant by `word`.
pub(super) fn nearest(
    word: &str,
    known: impl Iterator<Item = &'static str>,
) -> Option<&'static str> {
    // Names are short; a long word is not a slip of the finger.
    if word.len() > 32 {
        return None;
    }
    known
        .map(|name| (distance(word, name), name))
        .min_by_key(|(distance, _)| *distance)
        .filter(|(distance, name)| *distance <= 1 + name.len() / 4)
        .map(|(_, name)| name)
}

/// Insertions, deletions and replacements between two words.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.bytes().enumerate() {
            let replaced = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_close_or_none() {
        let nearest = |word| nearest(word, ["queue", "queues", "netfilter", "policy"].into_iter());
        assert_eq!(nearest("quue"), Some("queue"));
        assert_eq!(nearest("queus"), Some("queue"));
        assert_eq!(nearest("net_filter"), Some("netfilter"));
        assert_eq!(nearest("colour"), None);
        assert_eq!(nearest(&"x".repeat(100)), None);
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("", "abc"), 3);
    }

    #[test]
    fn names_are_unique_and_fit_their_grammar() {
        for section in SECTIONS {
            assert_eq!(SECTIONS.iter().filter(|other| other.kind == section.kind).count(), 1);
            for option in section.options {
                let same = section.options.iter().filter(|other| other.name == option.name);
                assert_eq!(same.count(), 1, "{}", option.name);
                assert!(
                    option
                        .name
                        .bytes()
                        .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
                );
                assert!(
                    !option.about.contains('|') && option.about.ends_with('.'),
                    "{}",
                    option.name
                );
            }
        }
    }
}

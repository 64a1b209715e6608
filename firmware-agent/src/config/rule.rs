//! Section `rule`: what happens to which flows of whom, and when.
//!
//! The same rule as one line of text is in [`policy::grammar`](crate::policy::grammar).

use std::path::PathBuf;

use sluice_abi::flow::FlowLimit;

use super::condition::{Device, Fingerprint, Moment, Ports};
use super::domain::plain;
use super::net::Net;
use super::reader::{FromUci, Reader, words};
use super::schema::{Fallback, Kind, OptionSpec, SectionSpec};

/// What a rule does.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum RuleAction {
    /// The flow is trusted, whatever other rules say.
    Allow,
    /// The flow is blocked.
    #[default]
    Block,
    /// The flow is held to a rate.
    Limit,
    /// What blocking would do is counted, and nothing is done.
    Observe,
}
words!(RuleAction,
    "allow" => Self::Allow, "block" => Self::Block, "limit" => Self::Limit, "observe" => Self::Observe,
);

impl RuleAction {
    /// Every action.
    pub const ALL: [Self; 4] = [Self::Allow, Self::Block, Self::Limit, Self::Observe];

    /// Its word.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Block => "block",
            Self::Limit => "limit",
            Self::Observe => "observe",
        }
    }
}

/// Protocols that a rule can name.
pub const PROTOCOLS: &[&str] = &[
    "tls",
    "quic",
    "http",
    "http2",
    "ssh",
    "dns",
    "mdns",
    "dhcp",
    "dtls",
    "stun",
    "bittorrent",
    "wireguard",
    "openvpn",
    "rtp",
    "ntp",
    "smtp",
    "imap",
    "pop3",
    "ftp",
    "sip",
    "rtsp",
    "ssdp",
    "mqtt",
    "smb",
    "rdp",
    "vnc",
];

/// Options of which a rule needs one.
const CONDITIONS: [&str; 10] = [
    "domain",
    "ip",
    "port",
    "ja3",
    "ja4",
    "fingerprint_file",
    "protocol",
    "device",
    "group",
    "zone",
];

/// Most fingerprints in the files of a rule.
pub const LISTED_MAX: usize = 65_536;

/// What happens to flows.
///
/// Conditions of different kinds have to hold all together, values of one kind are alternatives; who
/// a flow belongs to is one kind, however it is said.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rule {
    /// Name of the section, or `@rule[0]`.
    pub name: String,
    /// Whether it counts.
    pub enabled: bool,
    /// What it does.
    pub action: RuleAction,
    /// Domains, in lower case and without a final dot; sub-domains are included.
    pub domains: Vec<String>,
    /// Rate of each direction of each flow, in kbit/s; 0 for the profile's.
    pub kbit: u32,
    /// Burst of that rate, in KiB; 0 for 300 ms' worth.
    pub burst_kib: u32,
    /// Name of the flow's profile.
    pub profile: Option<String>,
    /// Addresses of the other end.
    pub nets: Vec<Net>,
    /// Ports of the service.
    pub ports: Vec<Ports>,
    /// Fingerprints of the ClientHello.
    pub fingerprints: Vec<Fingerprint>,
    /// Files with more of them.
    pub fingerprint_files: Vec<PathBuf>,
    /// What was in those files; empty when the configuration was read as text only.
    pub listed: Vec<Fingerprint>,
    /// Protocols, by their words.
    pub protocols: Vec<String>,
    /// Devices whose flows are concerned.
    pub devices: Vec<Device>,
    /// Groups of devices, by name.
    pub groups: Vec<String>,
    /// Interfaces that the device is behind, by name of the section.
    pub zones: Vec<String>,
    /// Schedules, by name; one of them has to hold.
    pub schedules: Vec<String>,
    /// When it ends.
    pub until: Option<Moment>,
}

/// Largest burst in KiB.
pub(super) const BURST_KIB_MAX: u32 = FlowLimit::BURST_MAX / 8192;

pub(super) const SPEC: SectionSpec = SectionSpec {
    kind: "rule",
    example: "tracker",
    about: "What happens to flows. Everything that a rule names has to hold, of several values of one option one; without device, group and zone it is for everyone. Of rules that hold for a flow, the one for the most particular of device, group, zone and everyone counts; then the most particular of longest domain, fingerprint, address, longest prefix, port and protocol; then one that allows; then the first.",
    #[rustfmt::skip]
    options: &[
        OptionSpec::new("enabled", Kind::Flag, "1",
            "Whether the rule counts."),
        OptionSpec::new("action", Kind::Word(&["allow", "block", "limit", "observe"]), "block",
            "What happens to the flow: trusted, dropped, held to a rate, or only counted as one that would be dropped."),
        OptionSpec::list("domain", Kind::Domain, Fallback::Empty,
            "Domains that the ClientHello names; sub-domains are included."),
        OptionSpec::new("kbit", Kind::Number { min: 0, max: FlowLimit::KBIT_MAX }, "0",
            "Rate of each direction of each flow, in kbit/s, with action limit; 0 is the rate of its profile."),
        OptionSpec::new("burst_kib", Kind::Number { min: 0, max: BURST_KIB_MAX }, "0",
            "What a quiet direction may send at once, in KiB; 0 is as much as in 300 ms, and 64 at least."),
        OptionSpec::optional("profile", Kind::Profile,
            "Profile of the flow: how its packets are marked when they leave, and the rate, if it has one."),
        OptionSpec::list("ip", Kind::Net, Fallback::Empty,
            "Addresses and prefixes of the other end."),
        OptionSpec::list("port", Kind::Ports, Fallback::Empty,
            "Ports that the connection was opened to; TCP and UDP, unless tcp/ or udp/ stands before them."),
        OptionSpec::list("ja3", Kind::Ja3, Fallback::Empty,
            "JA3 fingerprints of the ClientHello; those of ja3, ja4 and fingerprint_file are alternatives."),
        OptionSpec::list("ja4", Kind::Ja4, Fallback::Empty,
            "JA4 fingerprints of the ClientHello."),
        OptionSpec::list("fingerprint_file", Kind::Path, Fallback::Empty,
            "Files with more fingerprints, JA3 or JA4: one on a line, what follows a comma is not read, comments behind #. At most 65536."),
        OptionSpec::list("protocol", Kind::Word(PROTOCOLS), Fallback::Empty,
            "What the flow speaks."),
        OptionSpec::list("device", Kind::Host, Fallback::Empty,
            "Devices whose flows are concerned."),
        OptionSpec::list("group", Kind::Section, Fallback::Empty,
            "Groups of devices whose flows are concerned, by name of the section."),
        OptionSpec::list("zone", Kind::Section, Fallback::Empty,
            "Interfaces behind which devices are concerned, by name of the section."),
        OptionSpec::list("schedule", Kind::Section, Fallback::Empty,
            "Schedules, by name of the section: the rule holds while one of them does."),
        OptionSpec::optional("until", Kind::Moment,
            "When the rule ends, in universal time."),
    ],
};

/// A domain name in the form in which names are compared.
struct Domain(String);

impl FromUci for Domain {
    fn from_uci(text: &str, _: Kind) -> Result<Self, String> {
        domain(text).map(Self).map_err(str::to_owned)
    }
}

/// The name in lower case, without a final dot.
pub(crate) fn domain(text: &str) -> Result<String, &'static str> {
    plain(text).map(str::to_ascii_lowercase)
}

/// The name of a section.
struct Name(String);

impl FromUci for Name {
    fn from_uci(text: &str, kind: Kind) -> Result<Self, String> {
        if is_name(text) {
            Ok(Self(text.to_owned()))
        } else {
            Err(format!("is not the {kind}: it has letters, digits and _"))
        }
    }
}

/// Whether a section can have this name.
pub(crate) fn is_name(text: &str) -> bool {
    let fits = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    !text.is_empty() && text.bytes().all(fits)
}

/// A JA3.
struct Ja3(Fingerprint);

impl FromUci for Ja3 {
    fn from_uci(text: &str, _: Kind) -> Result<Self, String> {
        Fingerprint::ja3(text).map(Self).map_err(str::to_owned)
    }
}

/// A JA4.
struct Ja4(Fingerprint);

impl FromUci for Ja4 {
    fn from_uci(text: &str, _: Kind) -> Result<Self, String> {
        Fingerprint::ja4(text).map(Self).map_err(str::to_owned)
    }
}

/// The name of a protocol.
struct Protocol(String);

impl FromUci for Protocol {
    fn from_uci(text: &str, kind: Kind) -> Result<Self, String> {
        let is_known = PROTOCOLS.contains(&text);
        is_known.then(|| Self(text.to_owned())).ok_or_else(|| format!("is not one of {kind}"))
    }
}

/// A file that the text of a rule can name.
struct File(PathBuf);

impl FromUci for File {
    fn from_uci(text: &str, kind: Kind) -> Result<Self, String> {
        if text.contains([',', ' ', '\t', '\n']) {
            return Err("has a blank or a comma".to_owned());
        }
        PathBuf::from_uci(text, kind).map(Self)
    }
}

/// Implements [`FromUci`] by [`FromStr`](std::str::FromStr).
macro_rules! from_str {
    ($($ty:ty),+) => {
        $(impl FromUci for $ty {
            fn from_uci(text: &str, _: Kind) -> Result<Self, String> {
                text.parse().map_err(|why: &str| why.to_owned())
            }
        })+
    };
}
from_str!(Ports, Device, Moment, super::schedule::Slot);

impl Rule {
    /// Whether it says which flows or whose are meant. One that does not would concern everything.
    #[must_use]
    pub const fn is_complete(&self) -> bool {
        self.has_target() || self.has_who()
    }

    /// Whether it says which flows are meant.
    #[must_use]
    pub const fn has_target(&self) -> bool {
        !(self.domains.is_empty()
            && self.nets.is_empty()
            && self.ports.is_empty()
            && self.fingerprints.is_empty()
            && self.fingerprint_files.is_empty()
            && self.protocols.is_empty())
    }

    /// Whether it says whose flows are meant.
    #[must_use]
    pub const fn has_who(&self) -> bool {
        !(self.devices.is_empty() && self.groups.is_empty() && self.zones.is_empty())
    }

    /// Reads the lines of a file of fingerprints; the number of the first line that is wrong, and why.
    pub(super) fn read_listed(&mut self, text: &str) -> Result<(), (usize, &'static str)> {
        for (number, line) in (1..).zip(text.lines()) {
            let entry = line.split(['#', ',']).next().unwrap_or_default().trim();
            if entry.is_empty() {
                continue;
            }
            let read = Fingerprint::ja3(entry).or_else(|_not_ja3| Fingerprint::ja4(entry)).ok();
            let read = read.ok_or((number, "is neither a JA3 nor a JA4"))?;
            if self.listed.len() == LISTED_MAX {
                return Err((number, "is one too many: a rule has 65536 at most"));
            }
            self.listed.push(read);
        }
        Ok(())
    }

    pub(super) fn read(name: String, mut uci: Reader<'_>) -> Self {
        let names = |uci: &mut Reader<'_>, option| {
            uci.values(option).into_iter().map(|Name(name)| name).collect()
        };
        let fingerprints = uci
            .values("ja3")
            .into_iter()
            .map(|Ja3(value)| value)
            .chain(uci.values("ja4").into_iter().map(|Ja4(value)| value))
            .collect();
        let rule = Self {
            name,
            enabled: uci.get("enabled"),
            action: uci.get("action"),
            domains: uci.values("domain").into_iter().map(|Domain(name)| name).collect(),
            kbit: uci.get("kbit"),
            burst_kib: uci.get("burst_kib"),
            profile: uci.find("profile").map(|Name(name)| name),
            nets: uci.values("ip"),
            ports: uci.values("port"),
            fingerprints,
            fingerprint_files: uci
                .values("fingerprint_file")
                .into_iter()
                .map(|File(path)| path)
                .collect(),
            listed: Vec::new(),
            protocols: uci.values("protocol").into_iter().map(|Protocol(name)| name).collect(),
            devices: uci.values("device"),
            groups: names(&mut uci, "group"),
            zones: names(&mut uci, "zone"),
            schedules: names(&mut uci, "schedule"),
            until: uci.find("until"),
        };
        // One that is there and wrong is not also called missing.
        if !rule.is_complete() && !uci.is_broken() && !CONDITIONS.iter().any(|one| uci.has(one)) {
            uci.reject(
                uci.line(),
                "domain",
                "is required, or ip, port, ja3, ja4, fingerprint_file, protocol, device, group or zone"
                    .to_owned(),
            );
        }
        let is_limit = rule.action == RuleAction::Limit;
        let has_profile = rule.profile.as_ref().is_some_and(|name| name != super::profile::DEFAULT);
        for (option, is_unused) in [
            ("kbit", rule.kbit != 0 && !is_limit),
            ("burst_kib", rule.burst_kib != 0 && !is_limit),
            (
                "profile",
                has_profile && matches!(rule.action, RuleAction::Block | RuleAction::Observe),
            ),
        ] {
            if is_unused {
                uci.warn(uci.line_of(option), option, "is not used with this action".to_owned());
            }
        }
        if is_limit && rule.kbit == 0 && rule.profile.is_none() {
            let line = if uci.has("action") { uci.line_of("action") } else { uci.line() };
            uci.reject(
                line,
                "kbit",
                "is required with action limit, or a profile that has a rate".to_owned(),
            );
        }
        rule
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn domains_are_compared_in_lower_case_without_the_final_dot() {
        for (text, name) in [
            ("example.com", "example.com"),
            ("Ads.Example.COM.", "ads.example.com"),
            ("_dns.resolver.arpa", "_dns.resolver.arpa"),
            ("xn--bcher-kva.example", "xn--bcher-kva.example"),
            ("zip", "zip"),
            ("1.2.3.4.example", "1.2.3.4.example"),
        ] {
            assert_eq!(domain(text).as_deref(), Ok(name));
        }
        assert!(domain(&format!("{}.example", "a".repeat(63))).is_ok());
    }

    #[test]
    fn what_is_no_domain_is_refused_with_a_hint() {
        for (text, hint) in [
            ("bücher.example", "xn--"),
            ("*.example.com", "sub-domains are included"),
            (".example.com", "sub-domains are included"),
            ("https://example.com", "without scheme"),
            ("example.com:443", "without scheme"),
            ("192.0.2.1", "blocklist"),
            ("2001:db8::1", "without scheme"),
            ("", "1 to 253"),
            (".", "1 to 253"),
            ("a..b", "between dots"),
            ("example.com..", "between dots"),
            ("-a.example", "between dots"),
            ("a-.example", "between dots"),
            ("a b.example", "between dots"),
            ("a\u{1b}.example", "between dots"),
        ] {
            let reason = domain(text).unwrap_err();
            assert!(reason.contains(hint), "{text}: {reason}");
        }
        assert!(domain(&format!("{}.example", "a".repeat(64))).is_err());
        assert!(domain(&["a"; 128].join(".")).is_err());
    }
}

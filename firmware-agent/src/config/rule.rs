//! Section `rule`: what happens to which flows of whom, and when.
//!
//! The same rule as one line of text is in [`policy::grammar`](crate::policy::grammar).

use std::path::PathBuf;

use sluice_abi::flow::FlowLimit;

use super::action::{RuleAction, WORDS};
use super::condition::{Device, Fingerprint, Moment, Ports};
use super::net::Net;
use super::reader::Reader;
use super::schema::{Fallback, Kind, OptionSpec, SectionSpec};
use super::values::{Certificate, Country, Domain, File, Ja3, Ja3s, Ja4, Name, Protocol};

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
const CONDITIONS: [&str; 16] = [
    "domain",
    "app",
    "ip",
    "country",
    "port",
    "ja3",
    "ja4",
    "fingerprint_file",
    "ja3s",
    "ja3s_file",
    "certificate",
    "certificate_file",
    "protocol",
    "device",
    "group",
    "zone",
];

/// Most fingerprints in the files of a rule.
pub const LISTED_MAX: usize = 65_536;

/// What a file of fingerprints has.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Listing {
    /// JA3 and JA4.
    Client,
    /// JA3S.
    Ja3s,
    /// SHA-1 of certificates.
    Certificate,
}

impl Listing {
    /// The option that names such files.
    pub(super) const fn option(self) -> &'static str {
        match self {
            Self::Client => "fingerprint_file",
            Self::Ja3s => "ja3s_file",
            Self::Certificate => "certificate_file",
        }
    }

    /// The fingerprint on a line that has one: of a client in its first column, of a server in any.
    fn read(self, line: &str) -> Result<Fingerprint, &'static str> {
        let mut columns = line.split(',').map(|column| column.trim().trim_matches('"'));
        match self {
            Self::Client => {
                let first = columns.next().unwrap_or_default();
                Fingerprint::ja3(first)
                    .or_else(|_not_ja3| Fingerprint::ja4(first))
                    .map_err(|_not_ja4| "is neither a JA3 nor a JA4")
            }
            Self::Ja3s => {
                columns.find_map(|text| Fingerprint::ja3s(text).ok()).ok_or("has no JA3S")
            }
            Self::Certificate => {
                let found = columns.find_map(|text| Fingerprint::certificate(text).ok());
                found.ok_or("has no SHA-1")
            }
        }
    }
}

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
    /// Classes of applications, by name.
    pub apps: Vec<String>,
    /// Rate of each direction of each flow, in kbit/s; 0 for the profile's.
    pub kbit: u32,
    /// Burst of that rate, in KiB; 0 for 300 ms' worth.
    pub burst_kib: u32,
    /// Name of the flow's profile.
    pub profile: Option<String>,
    /// Addresses of the other end.
    pub nets: Vec<Net>,
    /// Countries of the other end, in two lower-case letters.
    pub countries: Vec<String>,
    /// Ports of the service.
    pub ports: Vec<Ports>,
    /// Fingerprints of the ClientHello, of the ServerHello and of the certificate: three conditions.
    pub fingerprints: Vec<Fingerprint>,
    /// Files with more of the ClientHello.
    pub fingerprint_files: Vec<PathBuf>,
    /// Files with more of the ServerHello.
    pub ja3s_files: Vec<PathBuf>,
    /// Files with more of the certificate.
    pub certificate_files: Vec<PathBuf>,
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
    about: "What happens to flows. Everything that a rule names has to hold, of several values of one option one; without device, group and zone it is for everyone. Of rules that hold for a flow, one with action pause counts first; then the one for the most particular of device, group, zone and everyone counts; then the most particular of longest domain, app, fingerprint of either side, address, longest prefix, country, port and protocol; then one that allows; then the first.",
    #[rustfmt::skip]
    options: &[
        OptionSpec::new("enabled", Kind::Flag, "1",
            "Whether the rule counts."),
        OptionSpec::new("action", Kind::Word(WORDS), "block",
            "What happens to the flow: trusted (allow), dropped (block), dropped and its ends told (reject), held to a rate (limit), trusted with the code point and priority of its profile (mark), only counted as one that would be dropped (observe), or dropped whatever other rules say as long as the rule holds, and then let go on (pause)."),
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
        OptionSpec::list("app", Kind::Class, Fallback::Empty,
            "Classes of applications, of the file that app_file names, by the name of the server."),
        OptionSpec::list("country", Kind::Country, Fallback::Empty,
            "Countries of the other end, whose networks are in files of country_dir."),
        OptionSpec::list("ja3s", Kind::Ja3s, Fallback::Empty,
            "JA3S fingerprints of what the server answers; those of ja3s and ja3s_file are alternatives. Where nothing above such a rule decides, a flow of TLS over TCP is inspected until the answer has come."),
        OptionSpec::list("ja3s_file", Kind::Path, Fallback::Empty,
            "Files with more JA3S fingerprints: one on a line, in any column of CSV, comments behind #."),
        OptionSpec::list("certificate", Kind::Certificate, Fallback::Empty,
            "SHA-1 fingerprints of the server's first certificate; those of certificate and certificate_file are alternatives. TLS 1.3 hides it."),
        OptionSpec::list("certificate_file", Kind::Path, Fallback::Empty,
            "Files with more SHA-1 fingerprints of certificates: one on a line, in any column of CSV, comments behind #. All files of a rule have 65536 fingerprints at most."),
    ],
};

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
            && self.apps.is_empty()
            && self.nets.is_empty()
            && self.countries.is_empty()
            && self.ports.is_empty()
            && self.fingerprints.is_empty()
            && self.fingerprint_files.is_empty()
            && self.ja3s_files.is_empty()
            && self.certificate_files.is_empty()
            && self.protocols.is_empty())
    }

    /// Whether it says whose flows are meant.
    #[must_use]
    pub const fn has_who(&self) -> bool {
        !(self.devices.is_empty() && self.groups.is_empty() && self.zones.is_empty())
    }

    /// Its files of fingerprints, the option that names each, and what is in them.
    pub(super) fn listings(&self) -> Vec<(Listing, PathBuf)> {
        let of = |listing, files: &[PathBuf]| {
            files.iter().map(move |file| (listing, file.clone())).collect::<Vec<_>>()
        };
        [
            of(Listing::Client, &self.fingerprint_files),
            of(Listing::Ja3s, &self.ja3s_files),
            of(Listing::Certificate, &self.certificate_files),
        ]
        .concat()
    }

    /// Reads the lines of a file of fingerprints; the number of the first line that is wrong, and why.
    pub(super) fn read_listed(
        &mut self,
        listing: Listing,
        text: &str,
    ) -> Result<(), (usize, &'static str)> {
        for (number, line) in (1..).zip(text.lines()) {
            let line = line.split('#').next().unwrap_or_default().trim();
            let entry = line.split(',').next().unwrap_or_default().trim();
            if line.is_empty() || listing == Listing::Client && entry.is_empty() {
                continue;
            }
            let read = listing.read(line).map_err(|why| (number, why))?;
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
            .chain(uci.values("ja3s").into_iter().map(|Ja3s(value)| value))
            .chain(uci.values("certificate").into_iter().map(|Certificate(value)| value))
            .collect();
        let files = |uci: &mut Reader<'_>, option| {
            uci.values(option).into_iter().map(|File(path)| path).collect()
        };
        let rule = Self {
            name,
            enabled: uci.get("enabled"),
            action: uci.get("action"),
            domains: uci.values("domain").into_iter().map(|Domain(name)| name).collect(),
            apps: names(&mut uci, "app"),
            kbit: uci.get("kbit"),
            burst_kib: uci.get("burst_kib"),
            profile: uci.find("profile").map(|Name(name)| name),
            nets: uci.values("ip"),
            countries: uci.values("country").into_iter().map(|Country(name)| name).collect(),
            ports: uci.values("port"),
            fingerprints,
            fingerprint_files: files(&mut uci, "fingerprint_file"),
            ja3s_files: files(&mut uci, "ja3s_file"),
            certificate_files: files(&mut uci, "certificate_file"),
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
                "is required, or app, ip, country, port, ja3, ja4, fingerprint_file, ja3s, ja3s_file, certificate, certificate_file, protocol, device, group or zone"
                    .to_owned(),
            );
        }
        let is_limit = rule.action == RuleAction::Limit;
        let has_profile = rule.profile.as_ref().is_some_and(|name| name != super::profile::DEFAULT);
        for (option, is_unused) in [
            ("kbit", rule.kbit != 0 && !is_limit),
            ("burst_kib", rule.burst_kib != 0 && !is_limit),
            ("profile", has_profile && !rule.action.has_profile()),
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
        if rule.action == RuleAction::Mark && rule.profile.is_none() && !uci.has("profile") {
            uci.reject(uci.line_of("action"), "profile", "is required with action mark".to_owned());
        }
        rule
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// R43: lists of servers as SSLBL has them, the hash in whatever column, and one on a line.
    #[test]
    fn fingerprints_of_servers_are_found_in_any_column() {
        let sha1 = "a9993e364706816aba3e25717850c26c9cd0d89d";
        let csv = format!(
            "# Listingdate,SHA1,Listingreason\r\n2021-01-05 11:09:14,{sha1},Dridex C&C\r\n\n  {sha1}\n\
             \"2021\",\"{}\"\n",
            sha1.to_uppercase()
        );
        let mut rule = Rule::default();
        assert_eq!(rule.read_listed(Listing::Certificate, &csv), Ok(()));
        assert_eq!(rule.listed, [Fingerprint::certificate(sha1).unwrap(); 3]);
        let md5 = "ec74a5c51106f0419184d0dd08fb05bc";
        let mut rule = Rule::default();
        assert_eq!(rule.read_listed(Listing::Ja3s, &format!("{md5}\nx,{md5},y # z\n")), Ok(()));
        assert_eq!(rule.listed, [Fingerprint::ja3s(md5).unwrap(); 2]);
        for (listing, text, why) in [
            (Listing::Certificate, format!("{sha1}\n2021,{md5},x\n"), (2, "has no SHA-1")),
            (Listing::Ja3s, format!("{sha1}\n"), (1, "has no JA3S")),
            (Listing::Client, format!("x,{md5}\n"), (1, "is neither a JA3 nor a JA4")),
        ] {
            assert_eq!(Rule::default().read_listed(listing, &text), Err(why));
        }
        let many = format!("{sha1}\n").repeat(LISTED_MAX + 1);
        let refused = Rule::default().read_listed(Listing::Certificate, &many);
        assert!(refused.is_err_and(|(line, _)| line == LISTED_MAX + 1));
    }
}

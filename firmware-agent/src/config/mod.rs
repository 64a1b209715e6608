//! The configuration: `/etc/config/sluice` as types.
//!
//! Owns the file's grammar, the options with their ranges and defaults, and what can be said about
//! a configuration without asking the kernel. What a device can do, and what has to change when the
//! configuration does, is decided elsewhere.

mod action;
mod app;
mod condition;
mod country;
mod ddos;
mod domain;
mod file;
mod ignore;
mod interface;
mod lexer;
mod list;
mod main;
mod mark;
mod net;
mod profile;
mod reader;
mod remark;
mod rule;
mod ruleset;
mod schedule;
mod schema;
pub mod uci;
mod values;

use std::fmt;
use std::io::Read as _;
use std::path::Path;
use std::rc::Rc;

use sluice_abi::attach::{Attachment, Role};
use sluice_abi::names::LISTS_CONFIGURED_MAX;

pub use self::action::RuleAction;
pub use self::app::Apps;
pub use self::condition::{Device, Fingerprint, Mac, Moment, Ports, date_of, days_of};
pub use self::country::Countries;
pub(crate) use self::country::code;
pub use self::ddos::Ddos;
pub use self::domain::{DOMAINLISTS_MAX, DomainFile, DomainList};
pub use self::file::{Counts, ListFile};
pub use self::ignore::Ignore;
pub use self::interface::{Interface, XdpWish, ZonePolicy};
pub use self::list::{Allowlist, Blocklist};
pub use self::main::{
    Backend, Clock, Established, Main, ManageOffload, OnCrash, OnError, OwnOffload, Policy,
    SpreadWish, Ubus,
};
pub use self::mark::{MarkMask, MarkMaskError};
pub use self::net::{Net, NetError};
pub use self::profile::{Class, Profile};
pub use self::remark::{Mistake, REMARKS_MAX, Remark, Warning};
pub use self::rule::{LISTED_MAX, PROTOCOLS, Rule};
pub use self::ruleset::{RULESETS_MAX, RulesetFile, RulesetSection};
pub use self::schedule::{DAYS, Group, Schedule, Slot};
pub use self::schema::{Fallback, Kind, OptionSpec, SECTIONS, SectionSpec};
pub(crate) use self::values::{domain, is_name};

use self::list::Source;
use self::reader::Reader;
use self::remark::Remarks;
use self::uci::{FILE_MAX, Package, Section};

/// Name of the package, and of its file.
pub const PACKAGE: &str = "sluice";
/// Where the configuration is on a router.
pub const DEFAULT_FILE: &str = "/etc/config/sluice";

/// A configuration without mistakes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Config {
    /// What concerns the agent as a whole.
    pub main: Main,
    /// Network devices, in the order of the file.
    pub interfaces: Vec<Interface>,
    /// Blocklists, in the order of the file, which is that of their hit counters.
    pub blocklists: Vec<Blocklist>,
    /// Allowlists.
    pub allowlists: Vec<Allowlist>,
    /// Rules, in the order of the file.
    pub rules: Vec<Rule>,
    /// Profiles that differ from those that are always there, in the order of the file.
    pub profiles: Vec<Profile>,
    /// What strangers may do.
    pub ddos: Ddos,
    /// Domain lists, in the order of the file.
    pub domainlists: Vec<DomainList>,
    /// When rules hold, in the order of the file.
    pub schedules: Vec<Schedule>,
    /// Devices with a common name, in the order of the file.
    pub groups: Vec<Group>,
    /// Classes of applications; none when the configuration was read as text only.
    pub apps: Apps,
    /// Networks of the countries that rules name; none when the configuration was read as text only.
    pub countries: Rc<Countries>,
    /// Rulesets, in the order of the file.
    pub rulesets: Vec<RulesetSection>,
    /// What is never inspected.
    pub ignores: Vec<Ignore>,
}

/// Why a configuration is refused: every mistake in it.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub struct ConfigError {
    /// In the order of their lines; never empty.
    pub mistakes: Vec<Mistake>,
    /// What else is odd.
    pub warnings: Vec<Warning>,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, mistake) in self.mistakes.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            mistake.fmt(f)?;
        }
        Ok(())
    }
}

impl Config {
    /// Reads a file, and the files of its lists.
    pub fn load(path: &Path) -> Result<(Self, Vec<Warning>), ConfigError> {
        let mut remarks = Remarks::new(path.to_string_lossy().into());
        let mut config = Self::default();
        match read_bounded(path) {
            Ok(text) => config = Builder::read(&text, &mut remarks, true),
            Err(err) => remarks.mistake(0, "", format!("cannot be read: {err}")),
        }
        config.or_refused(remarks)
    }

    /// Reads a text as the file of that name; the files of its lists are left alone.
    pub fn parse(text: &[u8], file: &str) -> Result<(Self, Vec<Warning>), ConfigError> {
        let mut remarks = Remarks::new(file.into());
        let config = Builder::read(text, &mut remarks, false);
        config.or_refused(remarks)
    }

    fn or_refused(self, remarks: Remarks) -> Result<(Self, Vec<Warning>), ConfigError> {
        let (mistakes, warnings) = remarks.finish();
        if mistakes.is_empty() {
            Ok((self, warnings))
        } else {
            Err(ConfigError { mistakes, warnings })
        }
    }
}

fn read_bounded(path: &Path) -> std::io::Result<Vec<u8>> {
    // Opening a pipe would wait for its writer.
    if !std::fs::metadata(path)?.is_file() {
        return Err(std::io::Error::other("not a regular file"));
    }
    let mut text = Vec::new();
    std::fs::File::open(path)?.take(FILE_MAX as u64 + 1).read_to_end(&mut text)?;
    Ok(text)
}

/// Which of the vectors of lists is meant.
#[derive(Clone, Copy)]
enum ListKind {
    Block,
    Allow,
    Domain,
    Ruleset,
}

/// A list's files, to be read when the file of the configuration is known to be right.
struct Wanted {
    kind: ListKind,
    index: usize,
    path: String,
    sources: Vec<Source>,
}

/// Puts a configuration together section by section.
struct Builder<'a> {
    config: Config,
    remarks: &'a mut Remarks,
    /// Line of the `sluice` section.
    main: Option<u32>,
    /// Line of the `ddos` section.
    ddos: Option<u32>,
    /// Devices and their lines.
    devices: Vec<(String, u32)>,
    wanted: Vec<Wanted>,
}

impl Builder<'_> {
    fn read(text: &[u8], remarks: &mut Remarks, with_files: bool) -> Config {
        let package = Package::parse(text, remarks);
        let is_broken = remarks.are_fatal();
        let mut builder = Builder {
            config: Config::default(),
            remarks,
            main: None,
            ddos: None,
            devices: Vec::new(),
            wanted: Vec::new(),
        };
        for section in &package.sections {
            builder.section(&package, section);
        }
        // What is missing may be in a line that could not be read.
        if !is_broken {
            builder.check_roles();
        }
        builder.check_counts();
        builder.check_rules(&package);
        if !is_broken {
            builder.check_profiles(&package);
        }
        if with_files {
            builder.read_files();
            builder.read_fingerprints(&package);
            builder.read_apps(&package);
            builder.read_countries(&package);
        }
        if !is_broken {
            builder.check_names(&package);
            builder.check_app_file(&package);
            builder.check_country_dir(&package);
        }
        builder.finish_lists();
        builder.config
    }

    fn section(&mut self, package: &Package, section: &Section) {
        let name = package.shown_name(section);
        let kind = section.kind.as_str();
        let Some(spec) = SECTIONS.iter().find(|spec| spec.kind == kind) else {
            let meant = schema::nearest(kind, SECTIONS.iter().map(|spec| spec.kind));
            let hint = meant.map_or_else(String::new, |kind| format!("; did you mean {kind}?"));
            let reason = format!("unknown type of section, not used{hint}");
            self.remarks.warning(section.line, format!("{PACKAGE}.{name}"), reason);
            return;
        };
        let mut uci = Reader::new(section, &name, spec, self.remarks);
        match kind {
            "interface" => {
                if let Some((_, line)) = self.devices.iter().find(|(device, _)| {
                    section.entry("device").is_some_and(|entry| {
                        entry.values.last().is_some_and(|v| v.bytes == device.as_bytes())
                    })
                }) {
                    let reason = format!("is the device of the section in line {line} already");
                    uci.reject_value("device", reason);
                }
                let line = uci.line_of("device");
                let interface = Interface::read(name, uci);
                self.devices.push((interface.device.clone(), line));
                self.config.interfaces.push(interface);
            }
            "blocklist" => {
                let (list, sources) = Blocklist::read(name.clone(), uci);
                let index = self.config.blocklists.len();
                self.want(ListKind::Block, index, list.enabled, &name, sources);
                self.config.blocklists.push(list);
            }
            "allowlist" => {
                let (list, sources) = Allowlist::read(name.clone(), uci);
                let index = self.config.allowlists.len();
                self.want(ListKind::Allow, index, list.enabled, &name, sources);
                self.config.allowlists.push(list);
            }
            "domainlist" => {
                let (list, sources) = DomainList::read(name.clone(), uci);
                let index = self.config.domainlists.len();
                self.want(ListKind::Domain, index, list.enabled, &name, sources);
                self.config.domainlists.push(list);
            }
            "ruleset" => {
                let (section, sources) = RulesetSection::read(name.clone(), uci);
                let index = self.config.rulesets.len();
                self.want(ListKind::Ruleset, index, section.enabled, &name, sources);
                self.config.rulesets.push(section);
            }
            "rule" => self.config.rules.push(Rule::read(name, uci)),
            "profile" => self.config.profiles.push(Profile::read(name, uci)),
            "schedule" => self.config.schedules.push(Schedule::read(name, uci)),
            "group" => self.config.groups.push(Group::read(name, uci)),
            "ignore" => self.config.ignores.push(Ignore::read(uci)),
            "ddos" => {
                if let Some(line) = self.ddos {
                    self.only_one(section, kind, &name, line);
                } else {
                    self.ddos = Some(section.line);
                    self.config.ddos = Ddos::read(uci);
                }
            }
            _ => {
                if let Some(line) = self.main {
                    self.only_one(section, kind, &name, line);
                } else {
                    self.main = Some(section.line);
                    self.config.main = Main::read(uci);
                }
            }
        }
    }

    fn only_one(&mut self, section: &Section, kind: &str, name: &str, line: u32) {
        let reason = format!("there is one section of type {kind}, in line {line}");
        self.remarks.mistake(section.line, format!("{PACKAGE}.{name}"), reason);
    }

    /// Notes the files of a list; those of a list that does not count may be missing.
    fn want(
        &mut self,
        kind: ListKind,
        index: usize,
        enabled: bool,
        name: &str,
        sources: Vec<Source>,
    ) {
        if enabled && !sources.is_empty() {
            let path = format!("{PACKAGE}.{name}.file");
            self.wanted.push(Wanted { kind, index, path, sources });
        }
    }

    fn check_roles(&mut self) {
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

    fn check_counts(&mut self) {
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
    fn check_rules(&mut self, package: &Package) {
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
    fn check_profiles(&mut self, package: &Package) {
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
    fn check_names(&mut self, package: &Package) {
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

    /// Reads the files of fingerprints of rules that count.
    fn read_fingerprints(&mut self, package: &Package) {
        for rule in self.config.rules.iter_mut().filter(|rule| rule.enabled) {
            for file in rule.fingerprint_files.clone() {
                let reason = match read_bounded(&file).map(String::from_utf8) {
                    Ok(Ok(text)) if text.len() > FILE_MAX => {
                        format!("is larger than {FILE_MAX} bytes")
                    }
                    Ok(Ok(text)) => match rule.read_listed(&text) {
                        Ok(()) => continue,
                        Err((line, why)) => format!("line {line} {why}"),
                    },
                    Ok(Err(_)) => "is not UTF-8".to_owned(),
                    Err(error) => format!("cannot be read: {error}"),
                };
                let line = package.line_of(&rule.name);
                let reason = format!("{}: {reason}", remark::shown(&file.to_string_lossy()));
                let path = format!("{PACKAGE}.{}.fingerprint_file", rule.name);
                self.remarks.mistake(line, path, reason);
            }
            rule.listed.sort_unstable();
            rule.listed.dedup();
        }
    }

    fn read_files(&mut self) {
        for Wanted { kind, index, path, sources } in std::mem::take(&mut self.wanted) {
            let (mut entries, most) = match kind {
                ListKind::Block => {
                    let list = &self.config.blocklists[index];
                    (list.entries.len(), list.max_entries as usize)
                }
                ListKind::Allow => {
                    let list = &self.config.allowlists[index];
                    (list.entries.len(), list.max_entries as usize)
                }
                ListKind::Domain => (0, self.config.domainlists[index].max_entries as usize),
                ListKind::Ruleset => (0, usize::MAX),
            };
            for Source { file, line } in sources {
                match self.read_file(kind, index, &file, most) {
                    Ok(read) => entries += read,
                    Err(err) => {
                        let reason = format!("{}: {err}", remark::shown(&file.to_string_lossy()));
                        self.remarks.mistake(line, path.as_str(), reason);
                    }
                }
                if entries > most {
                    let reason = format!("the list has more than {most} entries (max_entries)");
                    self.remarks.mistake(line, path.as_str(), reason);
                    break; // what is left of the files would only take time
                }
            }
        }
    }

    /// Reads a file of a list: an allowlist keeps its entries, others only what they cost.
    fn read_file(
        &mut self,
        kind: ListKind,
        index: usize,
        path: &Path,
        most: usize,
    ) -> Result<usize, file::FileError> {
        let mut counts = Counts::default();
        let (read, count) = match kind {
            ListKind::Block => {
                let read = file::nets(path, true, most, |net, _| {
                    counts.add(&net);
                    true
                })?;
                let sources = &mut self.config.blocklists[index].sources;
                sources.push(ListFile::new(path, counts, &read));
                (read, counts.sum())
            }
            ListKind::Allow => {
                let mut kept = Vec::new();
                let read = file::nets(path, false, most, |net, _| {
                    kept.push(net);
                    true
                })?;
                let count = kept.len() as u32;
                self.config.allowlists[index].entries.append(&mut kept);
                (read, count)
            }
            ListKind::Domain => {
                let (file, read) = DomainFile::new(path, most)?;
                let count = file.names;
                self.config.domainlists[index].sources.push(file);
                (read, count)
            }
            ListKind::Ruleset => {
                let file = RulesetFile::new(path)?;
                self.config.rulesets[index].sources.push(file);
                (file::Read::default(), 0)
            }
        };
        read.remarks.into_iter().for_each(|remark| self.remarks.warning_about(remark));
        Ok(count as usize)
    }

    fn finish_lists(&mut self) {
        let blocklists = self.config.blocklists.iter_mut();
        let lists = blocklists.map(|l| (&l.name, &mut l.entries, l.max_entries)).chain(
            self.config.allowlists.iter_mut().map(|l| (&l.name, &mut l.entries, l.max_entries)),
        );
        for (name, entries, most) in lists {
            dedup(entries);
            if entries.len() > most as usize && !self.remarks.are_fatal() {
                let reason = format!("has {} entries, more than max_entries", entries.len());
                self.remarks.mistake(0, format!("{PACKAGE}.{name}.entry"), reason);
            }
        }
    }
}

/// Each entry once, in an order that does not depend on the file's.
fn dedup(entries: &mut Vec<Net>) {
    entries.sort_unstable();
    entries.dedup();
}

#[cfg(test)]
mod tests;

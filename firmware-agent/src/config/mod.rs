//! The configuration: `/etc/config/sluice` as types.
//!
//! Owns the file's grammar, the options with their ranges and defaults, and what can be said about
//! a configuration without asking the kernel. What a device can do, and what has to change when the
//! configuration does, is decided elsewhere.

mod action;
mod app;
mod bounded;
pub mod by_hand;
mod check;
mod condition;
mod cost;
mod country;
mod ddos;
mod device;
mod dhcp;
mod domain;
pub mod edit;
pub mod feature;
mod file;
mod ignore;
mod interface;
mod lexer;
mod list;
mod main;
mod mark;
mod net;
mod notify;
pub mod pending;
mod place;
mod profile;
mod ram;
mod reader;
mod remark;
mod rule;
mod ruleset;
mod schedule;
mod schema;
mod sources;
pub mod store;
pub mod uci;
mod values;

use std::fmt;
use std::path::Path;
use std::sync::Arc;

pub use self::action::RuleAction;
pub use self::app::Apps;
pub use self::condition::{Device, Fingerprint, Mac, Moment, Ports, date_of, days_of};
pub use self::cost::{Change, Cost};
pub use self::country::Countries;
pub(crate) use self::country::code;
pub use self::ddos::Ddos;
pub use self::device::NamedDevice;
pub use self::dhcp::{DhcpServer, LeaseFile, lease_files};
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
pub use self::notify::{EventKind, Notify};
pub use self::place::in_force;
pub use self::profile::{Class, Profile};
pub use self::ram::Ram;
pub use self::remark::{Mistake, REMARKS_MAX, Remark, Warning};
pub use self::rule::{LISTED_MAX, PROTOCOLS, Rule};
pub use self::ruleset::{RULESETS_MAX, RulesetFile, RulesetSection};
pub use self::schedule::{DAYS, Group, Schedule, Slot};
pub use self::schema::{Fallback, Kind, OptionSpec, SECTIONS, SectionSpec};
pub(crate) use self::values::{domain, is_name};

pub(crate) use self::bounded::read_whole;

use self::bounded::read_bounded;
use self::list::Source;
use self::reader::Reader;
use self::remark::Remarks;
use self::sources::{ListKind, Wanted};
use self::uci::{Package, Section};

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
    pub countries: Arc<Countries>,
    /// Rulesets, in the order of the file.
    pub rulesets: Vec<RulesetSection>,
    /// What is never inspected.
    pub ignores: Vec<Ignore>,
    /// Devices with a name, each once, in the order of the file.
    pub devices: Vec<NamedDevice>,
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
    /// Reads a file, and the files of its lists, as on a router of the common class.
    pub fn load(path: &Path) -> Result<(Self, Vec<Warning>), ConfigError> {
        Self::load_for(path, Ram::default())
    }

    /// Reads a file, and the files of its lists, with the defaults of a class of routers.
    pub fn load_for(path: &Path, ram: Ram) -> Result<(Self, Vec<Warning>), ConfigError> {
        let mut remarks = Remarks::new(path.to_string_lossy().into());
        remarks.ram = ram;
        let mut config = Self::default();
        match read_bounded(path) {
            Ok(text) => config = Builder::read(&text, &mut remarks, true),
            Err(err) => remarks.mistake(0, "", format!("cannot be read: {err}")),
        }
        config.or_refused(remarks)
    }

    /// Reads a text as the file of that name, and the files of its lists.
    pub fn load_text(
        text: &[u8],
        file: &str,
        ram: Ram,
    ) -> Result<(Self, Vec<Warning>), ConfigError> {
        let mut remarks = Remarks::new(file.into());
        remarks.ram = ram;
        let config = Builder::read(text, &mut remarks, true);
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
        let (main, ddos) = (Main::of(remarks.ram), Ddos::of(remarks.ram));
        let mut builder = Builder {
            config: Config { main, ddos, ..Config::default() },
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
            "device" => {
                let line = uci.line_of("mac");
                if let Some(device) = NamedDevice::read(uci) {
                    if self.config.devices.iter().any(|other| other.mac == device.mac) {
                        let reason = format!("{} has a section already", device.mac);
                        self.remarks.mistake(line, format!("{PACKAGE}.{name}.mac"), reason);
                    }
                    self.config.devices.push(device);
                }
            }
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

//! The sections that stand for what a person decided: which they are, what they are called, and how
//! they come and go in the text of the file. Their names begin with `by_hand`.
//!
//! Pure. Whether a decision may be made is known to who asks for it.

use std::str::FromStr;

use super::condition::{Device, Mac, Moment};
use super::edit::{EditError, Editor};
use super::net::Net;
use super::uci::Section;

/// What the names of such sections begin with; alone it is the name of the blocklist.
pub const PREFIX: &str = "by_hand";
/// Longest part of a name that is taken from what it is about.
const PART_MAX: usize = 40;
/// A moment that is over.
const PAST: Moment = Moment(0);

/// What is decided about.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Subject {
    /// A domain and what is below it.
    Domain(String),
    /// An address or a prefix.
    Net(Net),
}

impl FromStr for Subject {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(net) = text.parse() {
            return Ok(Self::Net(net));
        }
        super::domain(text.trim_end_matches('.')).map(Self::Domain).map_err(|_why| {
            format!("{} is neither a domain nor an address or prefix", crate::text::plain(text))
        })
    }
}

impl std::fmt::Display for Subject {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Domain(name) => f.write_str(name),
            Self::Net(net) => net.fmt(f),
        }
    }
}

/// What becomes of it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Verb {
    /// A rule lets it pass.
    Allow,
    /// No blocklist drops it.
    Lift,
    /// A rule blocks it.
    Deny,
    /// Nothing of a device passes.
    Pause,
    /// Everything of a device is held to a rate.
    Limit,
}

impl Verb {
    const fn kind(self) -> &'static str {
        if matches!(self, Self::Lift) { "allowlist" } else { "rule" }
    }

    /// The action of its rule.
    const fn action(self) -> Option<&'static str> {
        match self {
            Self::Allow => Some("allow"),
            Self::Lift => None,
            Self::Deny => Some("block"),
            Self::Pause => Some("pause"),
            Self::Limit => Some("limit"),
        }
    }

    const fn word(self) -> &'static str {
        match self {
            Self::Allow | Self::Lift => "allow",
            Self::Deny => "deny",
            Self::Pause => "pause",
            Self::Limit => "limit",
        }
    }

    const fn is_opposite(self, other: Self) -> bool {
        matches!(
            (self, other),
            (Self::Allow | Self::Lift, Self::Deny) | (Self::Deny, Self::Allow | Self::Lift)
        )
    }
}

/// A decision.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Wish {
    /// What becomes of the subject.
    pub verb: Verb,
    /// What it is about; `None` for everything of a device.
    pub subject: Option<Subject>,
    /// Whose flows it is about; `None` for everyone's.
    pub device: Option<Device>,
    /// When it ends; `None` for never.
    pub until: Option<Moment>,
}

impl Wish {
    /// The option that has the subject, and its value.
    fn target(&self) -> Option<(&'static str, String)> {
        let subject = self.subject.as_ref()?;
        let option = match (subject, self.verb) {
            (Subject::Domain(_), _) => "domain",
            (Subject::Net(_), Verb::Lift) => "entry",
            (Subject::Net(_), _) => "ip",
        };
        Some((option, subject.to_string()))
    }

    /// Its name, but for a number behind it.
    fn name(&self) -> String {
        let mut name = format!("{PREFIX}_{}", self.verb.word());
        let parts = [
            self.subject.as_ref().map(ToString::to_string),
            self.device.as_ref().map(ToString::to_string),
        ];
        for part in parts.into_iter().flatten() {
            name.push('_');
            let letters = part.chars().take(PART_MAX);
            name.extend(letters.map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }));
        }
        name
    }

    /// Whether a section was made for this decision, until whenever.
    fn is(&self, section: &Section) -> bool {
        let values = |option| -> Vec<&[u8]> {
            let entry = section.entry(option);
            entry.into_iter().flat_map(|e| &e.values).map(|value| &*value.bytes).collect()
        };
        let target = self.target();
        let of = |option: &str| {
            target.as_ref().filter(|(name, _)| *name == option).map(|(_, text)| text.as_bytes())
        };
        let device = self.device.as_ref().map(ToString::to_string);
        is_ours(&section.name)
            && section.name != PREFIX
            && section.kind == self.verb.kind()
            && values("action").first().copied() == self.verb.action().map(str::as_bytes)
            && ["domain", "ip", "entry"]
                .iter()
                .all(|option| values(option).as_slice() == of(option).as_slice())
            && values("device").as_slice() == device.as_ref().map(String::as_bytes).as_slice()
    }
}

/// Whether a section is one of those.
#[must_use]
pub fn is_ours(name: &str) -> bool {
    name.strip_prefix(PREFIX).is_some_and(|rest| rest.is_empty() || rest.starts_with('_'))
}

/// The text of the file while a decision is written into it.
#[derive(Debug)]
pub struct Page {
    /// The text.
    pub editor: Editor,
    /// Whether somebody has changes of the package that are not committed: they name anonymous
    /// sections by their number, so that none may go away.
    pub keeps_numbers: bool,
}

impl Page {
    /// Writes a decision and returns the name of its section. The opposite one about the same goes.
    pub fn write(&mut self, wish: &Wish) -> Result<String, EditError> {
        let opposite: Vec<String> = [Verb::Allow, Verb::Lift, Verb::Deny]
            .into_iter()
            .filter(|verb| verb.is_opposite(wish.verb))
            .filter_map(|verb| self.find(&Wish { verb, ..wish.clone() }))
            .collect();
        for name in opposite {
            self.end(&name)?;
        }
        let name = match self.find(wish) {
            Some(name) => name,
            None => self.begin(wish)?,
        };
        self.editor.unset(&name, "enabled")?;
        let until = wish.until.map_or_else(String::new, |until| until.to_string());
        self.editor.set(&name, "until", &until)?;
        Ok(name)
    }

    fn begin(&mut self, wish: &Wish) -> Result<String, EditError> {
        let base = wish.name();
        let taken = |name: &str| self.editor.package().sections.iter().any(|s| s.name == name);
        let mut name = base.clone();
        for number in 2.. {
            if !taken(&name) {
                break;
            }
            name = format!("{base}_{number}");
        }
        let Self { editor, .. } = self;
        editor.add(wish.verb.kind(), Some(&name))?;
        if let Some(action) = wish.verb.action() {
            editor.set(&name, "action", action)?;
        }
        if let Some((option, value)) = wish.target() {
            editor.push(&name, option, &value)?;
        }
        if let Some(device) = &wish.device {
            editor.push(&name, "device", &device.to_string())?;
        }
        Ok(name)
    }

    /// Writes that a device is held to a rate, of each direction of each flow in kbit/s, and returns the
    /// name of the section.
    pub fn limit(&mut self, wish: &Wish, kbit: u32) -> Result<String, EditError> {
        let name = self.write(wish)?;
        self.editor.set(&name, "kbit", &kbit.to_string())?;
        Ok(name)
    }

    /// Writes what a device is called, into the section that it has; with an empty name it is called
    /// nothing. Returns the name of the section.
    pub fn rename(&mut self, mac: Mac, name: &str) -> Result<String, EditError> {
        let is_its = |section: &&Section| {
            let value = section.entry("mac").and_then(|entry| entry.values.last());
            let of = value.and_then(|value| str::from_utf8(&value.bytes).ok()?.parse().ok());
            section.kind == "device" && of == Some(mac)
        };
        let found = self.editor.package().sections.iter().find(is_its).map(|it| it.name.clone());
        match found {
            Some(section) if name.is_empty() => if is_ours(&section) {
                self.end(&section)
            } else {
                self.editor.unset(&section, "name")
            }
            .map(|()| section),
            Some(section) => self.editor.set(&section, "name", name).map(|()| section),
            None => {
                let digits = mac.to_string().replace(':', "_");
                let section = format!("{PREFIX}_device_{digits}");
                if !name.is_empty() {
                    self.editor.add("device", Some(&section))?;
                    self.editor.set(&section, "mac", &mac.to_string())?;
                    self.editor.set(&section, "name", name)?;
                }
                Ok(section)
            }
        }
    }

    /// The section of a decision, until whenever it holds.
    #[must_use]
    pub fn find(&self, wish: &Wish) -> Option<String> {
        let mut sections = self.editor.package().sections.iter();
        sections.find(|section| wish.is(section)).map(|section| section.name.clone())
    }

    /// Takes a section away that was made by hand.
    pub fn forget(&mut self, name: &str) -> Result<(), String> {
        let known = self.editor.package().sections.iter().any(|section| section.name == name);
        if !known {
            return Err(format!("there is no section {}", crate::text::plain(name)));
        }
        if !is_ours(name) {
            return Err(format!("section {name} was not made by hand: change the configuration"));
        }
        self.end(name).map_err(|error| error.to_string())
    }

    /// Ends what a section says. It goes, or the next [`Page::sweep`] takes it.
    fn end(&mut self, name: &str) -> Result<(), EditError> {
        if !self.keeps_numbers {
            return self.editor.remove(name);
        }
        let sections = &self.editor.package().sections;
        if sections.iter().any(|section| section.name == name && section.kind == "device") {
            return self.editor.unset(name, "name");
        }
        self.editor.set(name, "enabled", "0")?;
        // The blocklist is filled again by the next block.
        if name == PREFIX {
            self.editor.unset(name, "entry")
        } else {
            self.editor.set(name, "until", &PAST.to_string())
        }
    }

    /// Takes sections away whose time is over at `now_s`.
    pub fn sweep(&mut self, now_s: Option<i64>) -> Result<(), EditError> {
        if self.keeps_numbers {
            return Ok(());
        }
        let over = |section: &&Section| {
            let until = section.entry("until").and_then(|entry| entry.values.last());
            let until = until.and_then(|value| str::from_utf8(&value.bytes).ok()?.parse().ok());
            let is_over = |until: Moment| until == PAST || now_s.is_some_and(|now| until.0 <= now);
            is_ours(&section.name) && until.is_some_and(is_over)
        };
        let sections = self.editor.package().sections.iter();
        let names: Vec<String> =
            sections.filter(over).map(|section| section.name.clone()).collect();
        names.iter().try_for_each(|name| self.editor.remove(name))
    }

    /// Adds an address or a prefix to the blocklist.
    pub fn block(&mut self, net: &Net) -> Result<(), EditError> {
        let text = net.to_string();
        match self.blocklist() {
            None => {
                self.editor.add("blocklist", Some(PREFIX))?;
            }
            Some(section) if has(section, &text) && section.entry("enabled").is_none() => {
                return Ok(());
            }
            Some(section) => {
                let is_there = has(section, &text);
                self.editor.unset(PREFIX, "enabled")?;
                if is_there {
                    return Ok(());
                }
            }
        }
        self.editor.push(PREFIX, "entry", &text)
    }

    /// Takes an address or a prefix out of the blocklist; says whether it was there.
    pub fn unblock(&mut self, net: &Net) -> Result<bool, EditError> {
        let text = net.to_string();
        let Some(section) = self.blocklist().filter(|section| has(section, &text)) else {
            return Ok(false);
        };
        let count = section.entry("entry").map_or(0, |entry| entry.values.len());
        if count == 1 && !self.keeps_numbers {
            self.editor.remove(PREFIX)?;
        } else {
            self.editor.pull(PREFIX, "entry", &text)?;
        }
        Ok(true)
    }

    /// Puts a type of events among those that nobody is told of, or takes it out; the section.
    pub fn mute(&mut self, kind: &str, is: bool) -> Result<String, EditError> {
        let of_agent = |section: &&Section| section.kind == "sluice";
        // The last one that says it counts.
        let mut sections = self.editor.package().sections.iter().filter(of_agent);
        let found = sections
            .next_back()
            .map(|section| (section.name.clone(), is_in(section, "mute", kind)));
        let (name, is_muted) = match found {
            Some(found) => found,
            None => (self.editor.add("sluice", Some("main"))?, false),
        };
        match (is, is_muted) {
            (true, false) => self.editor.push(&name, "mute", kind)?,
            (false, true) => self.editor.pull(&name, "mute", kind)?,
            _ => {}
        }
        Ok(name)
    }

    fn blocklist(&self) -> Option<&Section> {
        let mut sections = self.editor.package().sections.iter();
        sections.find(|section| section.name == PREFIX && section.kind == "blocklist")
    }
}

fn has(list: &Section, text: &str) -> bool {
    is_in(list, "entry", text)
}

fn is_in(section: &Section, option: &str, text: &str) -> bool {
    section.entry(option).is_some_and(|e| e.values.iter().any(|v| v.bytes == text.as_bytes()))
}

#[cfg(test)]
mod tests;

//! The options behind a switch: what they say, and how they are changed in the text of the file.

use super::Place;
use crate::config::edit::Editor;
use crate::config::reader::FromUci as _;
use crate::config::schema::{Fallback, Kind, OptionSpec, SECTIONS, SectionSpec};
use crate::config::uci::{Package, Section};

/// An option that switches.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// Its name.
    pub option: &'static str,
    /// What it is where it is off and is switched on; empty where nobody can know.
    pub on: &'static str,
    /// What it is when it is off; empty where it is not there then. Everything else is on.
    pub off: &'static str,
}

/// Where the options of a switch are.
#[derive(Clone, Copy, Debug)]
pub enum Switch {
    /// In every section of type `interface`.
    Interfaces(Setting),
    /// In the one section of a type, which need not be there.
    Section {
        /// The type.
        kind: &'static str,
        /// The option.
        setting: Setting,
    },
    /// Option `enabled` of every section of a type.
    Sections {
        /// The type.
        kind: &'static str,
        /// Which of them, by their option `action`.
        only: Only,
    },
}

/// Sections by their option `action`.
#[derive(Clone, Copy, Debug)]
pub enum Only {
    /// Whatever it is.
    Any,
    /// One of these.
    With(&'static [&'static str]),
    /// None of these.
    Without(&'static [&'static str]),
}

/// What a configuration says about a switch.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Wanted {
    /// There is nothing to switch.
    Absent,
    /// Off.
    Off,
    /// On in some places.
    Partly,
    /// On.
    On,
}

impl Wanted {
    /// Whether it is on anywhere.
    #[must_use]
    pub const fn is_on(self) -> bool {
        matches!(self, Self::Partly | Self::On)
    }
}

const ENABLED: Setting = Setting { option: "enabled", on: "1", off: "0" };

impl Switch {
    const fn kind(self) -> &'static str {
        match self {
            Self::Interfaces(_) => "interface",
            Self::Section { kind, .. } | Self::Sections { kind, .. } => kind,
        }
    }

    const fn setting(self) -> Setting {
        match self {
            Self::Interfaces(setting) | Self::Section { setting, .. } => setting,
            Self::Sections { .. } => ENABLED,
        }
    }

    fn spec(self) -> Option<(&'static SectionSpec, &'static OptionSpec)> {
        let section = SECTIONS.into_iter().find(|spec| spec.kind == self.kind())?;
        Some((section, option(section, self.setting().option)?))
    }

    /// What the configuration says about it.
    #[must_use]
    pub fn wanted(self, package: &Package, place: Place) -> Wanted {
        let Some((_, spec)) = self.spec() else { return Wanted::Absent };
        let off = self.setting().off;
        let sections = self.sections(package, place);
        let mut on = sections.iter().filter(|section| !is_off(Some(section), spec, off)).count();
        let mut all = sections.len();
        if all == 0 {
            if !matches!(self, Self::Section { .. }) {
                return Wanted::Absent;
            }
            (on, all) = (usize::from(!is_off(None, spec, off)), 1);
        }
        match on {
            0 => Wanted::Off,
            on if on < all => Wanted::Partly,
            _ => Wanted::On,
        }
    }

    fn sections(self, package: &Package, place: Place) -> Vec<&Section> {
        let is_one = |section: &&Section| {
            let text = |option| value(section, option);
            section.kind == self.kind()
                && match self {
                    Self::Interfaces(_) => place == Place::Anywhere || text("role") == Some("wan"),
                    Self::Section { .. } => true,
                    Self::Sections { only, .. } => {
                        let action = text("action").unwrap_or("block");
                        match only {
                            Only::Any => true,
                            Only::With(words) => words.contains(&action),
                            Only::Without(words) => !words.contains(&action),
                        }
                    }
                }
        };
        package.sections.iter().filter(is_one).collect()
    }

    /// Switches it, and says what was written: nothing where it is so already.
    pub(super) fn set(
        self,
        editor: &mut Editor,
        on: bool,
        place: Place,
    ) -> Result<Vec<String>, String> {
        let Some((section, spec)) = self.spec() else { return Ok(Vec::new()) };
        let Setting { option, on: on_value, off } = self.setting();
        let package = editor.package();
        let differs = |section| is_off(section, spec, off) == on;
        let found = self.sections(package, place);
        let mut names: Vec<String> = found
            .iter()
            .filter(|section| differs(Some(section)))
            .map(|section| package.shown_name(section))
            .collect();
        if found.is_empty() {
            if !matches!(self, Self::Section { .. }) {
                return if on { Err(self.nothing()) } else { Ok(Vec::new()) };
            }
            if differs(None) {
                names.push(String::new());
            }
        }
        let to = if on { on_value } else { off };
        if on && to.is_empty() && !names.is_empty() {
            return Err(format!(
                "only a person can say what option {option} of section {} is: write it there",
                section.kind
            ));
        }
        let mut written = Vec::new();
        for mut name in names {
            if name.is_empty() {
                name = editor.add(section.kind, Some(section.example)).map_err(text)?;
            }
            let was = current(editor.package(), &name, spec);
            editor.set(&name, option, to).map_err(text)?;
            written.push(format!("{name}.{option}='{to}' (was '{was}')"));
        }
        Ok(written)
    }

    /// Why there is nothing to switch on.
    fn nothing(self) -> String {
        let which = match self {
            Self::Sections { only: Only::With(words), .. } => {
                format!(" with action {}", words.join(" or "))
            }
            Self::Sections { only: Only::Without(words), .. } => {
                format!(" with another action than {}", words.join(" or "))
            }
            _ => String::new(),
        };
        format!("there is no section of type {}{which}: write one first", self.kind())
    }
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

fn option(section: &'static SectionSpec, name: &str) -> Option<&'static OptionSpec> {
    section.options.iter().find(|option| option.name == name)
}

/// The value that counts.
fn value<'a>(section: &'a Section, option: &str) -> Option<&'a str> {
    let value = section.entry(option)?.values.last()?;
    str::from_utf8(&value.bytes).ok()
}

/// The same, or what holds without.
fn value_or<'a>(section: Option<&'a Section>, spec: &'static OptionSpec) -> &'a str {
    let fallback = match spec.fallback {
        Fallback::Value(value) => value,
        // What has such a default is no switch.
        Fallback::ByRam([_, common, ..]) => common,
        Fallback::Required | Fallback::Empty => "",
    };
    section.and_then(|section| value(section, spec.name)).unwrap_or(fallback)
}

fn current(package: &Package, name: &str, spec: &'static OptionSpec) -> String {
    let section = package.sections.iter().find(|section| package.shown_name(section) == name);
    crate::text::plain(value_or(section, spec)).into_owned()
}

/// Whether an option says what is off, in whatever words.
fn is_off(section: Option<&Section>, spec: &'static OptionSpec, off: &str) -> bool {
    let value = value_or(section, spec);
    let is_same = match spec.kind {
        kind @ Kind::Flag => bool::from_uci(value, kind) == bool::from_uci(off, kind),
        kind @ Kind::Number { .. } => u32::from_uci(value, kind) == u32::from_uci(off, kind),
        _ => false,
    };
    value == off || is_same
}

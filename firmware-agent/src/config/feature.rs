//! What a person can switch on and off: which options that is, what each part needs, and what follows.
//!
//! Pure. Texts are changed through an [`Editor`]; what the change is good for is known to who reads the
//! configuration that it makes.

mod graph;
mod switch;
mod table;

use super::edit::Editor;
use super::schema::nearest;
use super::uci::Package;

pub use self::switch::{Setting, Switch, Wanted};
pub use self::table::TABLE;

/// A part of Sluice under one switch.
#[derive(Clone, Copy, Debug)]
pub struct Feature {
    /// Its name.
    pub name: &'static str,
    /// What it does.
    pub about: &'static str,
    /// What it does nothing without.
    pub needs: &'static [Need],
    /// Names in `status` that tell how it fares; one with a blank at its end has an interface behind it.
    pub told: &'static [&'static str],
    /// The options behind it.
    pub switch: Switch,
}

impl Feature {
    /// Whether `status` tells under this name how the feature fares.
    #[must_use]
    pub fn is_told_as(&self, name: &str) -> bool {
        let is_it =
            |told: &&str| if told.ends_with(' ') { name.starts_with(*told) } else { name == *told };
        self.told.iter().any(is_it)
    }
}

/// What a feature needs.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Need {
    /// The feature.
    pub name: &'static str,
    /// Where it has to be on.
    pub place: Place,
}

/// Interfaces on which a feature is wanted.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Place {
    /// Any of them.
    Anywhere,
    /// One towards the provider.
    Wan,
}

/// What was switched.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Done {
    /// Names of the features, in the order in which it happened.
    pub features: Vec<&'static str>,
    /// What is in the file now, as `wan.xdp='off'`, and what it was.
    pub written: Vec<String>,
}

impl Done {
    fn add(&mut self, name: &'static str, written: Vec<String>) {
        if !written.is_empty() {
            self.features.push(name);
            self.written.extend(written);
        }
    }
}

/// The switch of the agent as a whole, which is nobody's need: with it, every other choice would go.
const AGENT: Switch =
    Switch::Section { kind: "sluice", setting: Setting { option: "enabled", on: "1", off: "0" } };

/// Whether the agent as a whole is switched on.
#[must_use]
pub fn is_agent_on(package: &Package) -> bool {
    AGENT.wanted(package, Place::Anywhere).is_on()
}

/// The feature of this name.
pub fn find<'a>(table: &'a [Feature], name: &str) -> Result<&'a Feature, String> {
    let plain = name.replace(['-', ' '], "_");
    table.iter().find(|feature| feature.name == plain).ok_or_else(|| {
        let meant = nearest(&plain, table.iter().map(|feature| feature.name));
        let hint = meant.map_or_else(String::new, |name| format!(", did you mean {name}?"));
        format!("there is no feature {}{hint}", crate::text::plain(name))
    })
}

/// Names of the features that need this one and are on.
#[must_use]
pub fn needed_by(table: &[Feature], name: &str, package: &Package) -> Vec<&'static str> {
    let dependents = graph::dependents(table, name).into_iter();
    let on = dependents.filter(|feature| feature.switch.wanted(package, Place::Anywhere).is_on());
    on.map(|feature| feature.name).collect()
}

/// Switches a feature on wherever it is off, and what it needs where that is off altogether.
pub fn enable(table: &[Feature], editor: &mut Editor, name: &str) -> Result<Done, String> {
    let feature = find(table, name)?;
    if !is_agent_on(editor.package()) {
        return Err(
            "option enabled of the agent is 0, so that nothing works: set it to 1 first".to_owned()
        );
    }
    let mut done = Done::default();
    for (needed, place) in graph::needed(table, feature.name) {
        if !needed.switch.wanted(editor.package(), place).is_on() {
            done.add(needed.name, needed.set(editor, true, place)?);
        }
    }
    done.add(feature.name, feature.set(editor, true, Place::Anywhere)?);
    Ok(done)
}

/// Switches a feature off everywhere. While others need it, that is refused, or with `force` they go
/// first.
pub fn disable(
    table: &[Feature],
    editor: &mut Editor,
    name: &str,
    force: bool,
) -> Result<Done, String> {
    let feature = find(table, name)?;
    let is_on = feature.switch.wanted(editor.package(), Place::Anywhere).is_on();
    let needed_by = needed_by(table, feature.name, editor.package());
    if is_on && !needed_by.is_empty() && !force {
        return Err(format!(
            "{} is needed by {}: switch off what needs it first, or all of it with force",
            feature.name,
            needed_by.join(", ")
        ));
    }
    let mut done = Done::default();
    for name in needed_by.into_iter().filter(|_| force) {
        let dependent = find(table, name)?;
        done.add(dependent.name, dependent.set(editor, false, Place::Anywhere)?);
    }
    if is_on {
        done.add(feature.name, feature.set(editor, false, Place::Anywhere)?);
    }
    Ok(done)
}

impl Feature {
    fn set(&self, editor: &mut Editor, on: bool, place: Place) -> Result<Vec<String>, String> {
        self.switch.set(editor, on, place).map_err(|why| format!("{}: {why}", self.name))
    }
}

#[cfg(test)]
mod tests;

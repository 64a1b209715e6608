//! Features are switched as decisions by hand are made: written into the configuration, and put into
//! force by a reload; and how each of them fares.

use super::running::{Running, State};
use crate::config::edit::Editor;
use crate::config::feature::{self, Done, Feature, Place, TABLE, Wanted};
use crate::config::uci::Package;
use crate::control::feature::{Cause, Features, Row, Switched};
use crate::control::report::{self, State as Health};

impl Running {
    /// Switches a feature on, with what it needs, or off, with `force` also what needs it.
    pub(super) fn switch(&self, name: &str, on: bool, force: bool) -> Result<Switched, String> {
        let feature = feature::find(TABLE, name)?.name;
        let Done { features, written } = self.write(|page, _| {
            if on {
                feature::enable(TABLE, &mut page.editor, name)
            } else {
                feature::disable(TABLE, &mut page.editor, name, force)
            }
        })?;
        if written.is_empty() {
            // The file may say so since somebody wrote it, and nobody has put it into force.
            self.reload().map_err(|mistakes| mistakes.join("\n"))?;
        } else {
            log::info!("switched by hand: {}", written.join(", "));
        }
        Ok(Switched { feature, on, changed: features, written })
    }
}

impl State {
    /// Every feature: what the file says about it, and how it fares.
    pub(super) fn switches(&self) -> Result<Features, String> {
        let text = std::fs::read(self.file()).map_err(|error| error.to_string())?;
        let editor = Editor::new(&text).map_err(|error| error.to_string())?;
        let mut told = self.features();
        let refused = [
            ("blocklists", self.lists.refused()),
            ("observed_lists", self.lists.refused()),
            ("domainlists", self.inspector.domains.refused()),
            ("signatures", self.inspector.alarms.refused()),
        ];
        told.extend(refused.into_iter().filter_map(|(name, why)| {
            Some(report::Feature {
                name: name.to_owned(),
                state: Health::Degraded,
                rung: String::new(),
                reasons: vec![why?.clone()],
            })
        }));
        Ok(Features { features: rows(TABLE, editor.package(), &told) })
    }
}

/// How the features of a table fare by what is told of their parts.
fn rows(table: &[Feature], package: &Package, told: &[report::Feature]) -> Vec<Row> {
    let mut rows: Vec<Row> = Vec::with_capacity(table.len());
    for feature in table {
        let parts: Vec<_> = told
            .iter()
            .filter(|part| feature.is_told_as(&part.name) || part.name == feature.name)
            .collect();
        let row = row(table, feature, package, &parts);
        rows.push(row);
    }
    // The table has what is needed before what needs it.
    for index in 0..table.len() {
        depend(&mut rows, index);
    }
    rows
}

fn row(table: &[Feature], feature: &Feature, package: &Package, parts: &[&report::Feature]) -> Row {
    let wanted = feature.switch.wanted(package, Place::Anywhere);
    let mut reasons: Vec<String> = Vec::new();
    for part in parts {
        reasons.extend(part.reasons.iter().map(|reason| format!("{}: {reason}", part.name)));
    }
    let missing = missing(&reasons);
    let (state, cause) = match wanted {
        Wanted::Absent => (Health::Off, Some(Cause::Unconfigured)),
        Wanted::Off => (Health::Off, Some(Cause::Configuration)),
        Wanted::Partly | Wanted::On if !feature::is_agent_on(package) => {
            (Health::Off, Some(Cause::KillSwitch))
        }
        Wanted::Partly | Wanted::On => match together(parts.iter().map(|part| part.state)) {
            Health::Active => (Health::Active, None),
            state if missing.is_empty() => (state, Some(Cause::Environment)),
            state => (state, Some(Cause::Missing)),
        },
    };
    Row {
        name: feature.name,
        about: feature.about,
        wanted: match wanted {
            Wanted::Absent => "absent",
            Wanted::Off => "off",
            Wanted::Partly => "partly",
            Wanted::On => "on",
        },
        state,
        cause,
        needs: feature.needs.iter().map(|need| need.name).collect(),
        needed_by: feature::needed_by(table, feature.name, package),
        reasons,
        missing,
    }
}

/// The state of what has parts in several places; that of what has none of its own is said by what it
/// needs.
fn together(parts: impl Iterator<Item = Health> + Clone) -> Health {
    let wanted = parts.clone().filter(|state| *state != Health::Off);
    let is_all = |state: Health| wanted.clone().all(|part| part == state);
    match (wanted.clone().count(), parts.count()) {
        (0, 0) => Health::Active,
        (0, _) => Health::Off,
        _ if is_all(Health::Active) => Health::Active,
        _ if is_all(Health::Failed) => Health::Failed,
        _ if wanted.clone().any(|part| part == Health::Starting) => Health::Starting,
        _ => Health::Degraded,
    }
}

/// Without what it needs, a feature that would work fails.
fn depend(rows: &mut [Row], index: usize) {
    let Some(row) = rows.get(index).filter(|row| row.state != Health::Off) else { return };
    let is_gone = |name: &&&'static str| {
        let needed = rows.iter().find(|row| row.name == **name);
        needed.is_some_and(|row| matches!(row.state, Health::Off | Health::Failed))
    };
    let gone: Vec<&'static str> = row.needs.iter().filter(is_gone).copied().collect();
    if let Some(row) = rows.get_mut(index)
        && !gone.is_empty()
    {
        row.reasons.extend(gone.iter().map(|name| format!("needs {name}, which does not work")));
        (row.state, row.cause) = (Health::Failed, Some(Cause::Dependency));
    }
}

/// Packages with modules and options of the kernel that the reasons name.
fn missing(reasons: &[String]) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    for word in reasons.iter().flat_map(|reason| reason.split(|c| !is_part(c))) {
        let is_name = word.starts_with("kmod-") || word.starts_with("CONFIG_");
        if is_name && !found.iter().any(|known| known == word) {
            found.push(word.to_owned());
        }
    }
    found
}

#[cfg(test)]
mod tests;

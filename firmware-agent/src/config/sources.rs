//! The files that sections name, read when the file of the configuration is known to be right.

use std::path::Path;

use super::bounded::read_text;
use super::file::{self, Counts, ListFile};
use super::list::Source;
use super::remark::shown;
use super::uci::Package;
use super::{Builder, DomainFile, PACKAGE, RulesetFile};

/// Which of the vectors of lists is meant.
#[derive(Clone, Copy)]
pub(super) enum ListKind {
    Block,
    Allow,
    Domain,
    Ruleset,
}

/// A list's files, to be read when the file of the configuration is known to be right.
pub(super) struct Wanted {
    pub(super) kind: ListKind,
    pub(super) index: usize,
    pub(super) path: String,
    pub(super) sources: Vec<Source>,
}

impl Builder<'_> {
    /// Reads the files of fingerprints of rules that count.
    pub(super) fn read_fingerprints(&mut self, package: &Package) {
        for rule in self.config.rules.iter_mut().filter(|rule| rule.enabled) {
            for file in rule.fingerprint_files.clone() {
                let reason = match read_text(&file) {
                    Ok(text) => match rule.read_listed(&text) {
                        Ok(()) => continue,
                        Err((line, why)) => format!("line {line} {why}"),
                    },
                    Err(why) => why.to_string(),
                };
                let line = package.line_of(&rule.name);
                let reason = format!("{}: {reason}", shown(&file.to_string_lossy()));
                let path = format!("{PACKAGE}.{}.fingerprint_file", rule.name);
                self.remarks.mistake(line, path, reason);
            }
            rule.listed.sort_unstable();
            rule.listed.dedup();
        }
    }

    pub(super) fn read_files(&mut self) {
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
                        let reason = format!("{}: {err}", shown(&file.to_string_lossy()));
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
}

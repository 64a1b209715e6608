//! Texts of the pages that can be translated, and the template that translators start from.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value as Json;

use super::package;
use crate::error::{Attempt as _, Error, Result};

/// Each text with the files that have it.
pub type Strings = BTreeMap<String, Vec<String>>;

/// Scripts of the pages.
pub fn scripts() -> Result<Vec<PathBuf>> {
    let mut files = files(&package().join("htdocs"))?;
    files.retain(|file| file.extension().is_some_and(|extension| extension == "js"));
    Ok(files)
}

/// Every file below a directory, in order.
pub fn files(directory: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let entries = fs::read_dir(directory).attempt(|| format!("list {}", directory.display()))?;
    for entry in entries.flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(files(&path)?);
        } else {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// All texts of the package: of its scripts, its menu and its rights.
pub fn all() -> Result<Strings> {
    let mut strings = Strings::new();
    let mut add = |file: &Path, text: String| {
        let file = file.strip_prefix(package()).unwrap_or(file).display().to_string();
        let files = strings.entry(text).or_default();
        if files.last() != Some(&file) {
            files.push(file);
        }
    };
    for file in scripts()? {
        let source = read(&file)?;
        for text in of_script(&source).map_err(|why| wrong(&file, &why))? {
            add(&file, text);
        }
    }
    for file in files(&package().join("root"))? {
        let parsed: Json = serde_json::from_str(&read(&file)?)
            .map_err(|error| wrong(&file, &error.to_string()))?;
        for entry in parsed.as_object().into_iter().flat_map(|all| all.values()) {
            for member in ["title", "description"] {
                if let Some(text) = entry[member].as_str() {
                    add(&file, text.to_owned());
                }
            }
        }
    }
    Ok(strings)
}

fn wrong(file: &Path, why: &str) -> Error {
    Error::Unusable(format!("{}: {why}", file.display()))
}

fn read(file: &Path) -> Result<String> {
    fs::read_to_string(file).attempt(|| format!("read {}", file.display()))
}

/// What `_()` is called with in a script. Anything but one string in single quotes is an error:
/// no tool could read it.
fn of_script(source: &str) -> std::result::Result<Vec<String>, String> {
    let mut found = Vec::new();
    for (at, _) in source.match_indices("_(") {
        let before = source[..at].chars().next_back();
        if before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == '.') {
            continue;
        }
        let rest = &source[at + 2..];
        let text = literal(rest).ok_or_else(|| {
            format!("no text in single quotes: _({}", rest.lines().next().unwrap_or_default())
        })?;
        found.push(text);
    }
    Ok(found)
}

/// A literal in single quotes that is the only argument.
fn literal(source: &str) -> Option<String> {
    let mut text = String::new();
    let mut characters = source.strip_prefix('\'')?.chars();
    loop {
        match characters.next()? {
            '\'' => return (characters.next()? == ')').then_some(text),
            '\\' => text.push(characters.next()?),
            '\n' => return None,
            other => text.push(other),
        }
    }
}

/// The template.
#[must_use]
pub fn template(strings: &Strings) -> String {
    let mut text = "msgid \"\"\nmsgstr \"Content-Type: text/plain; charset=UTF-8\"\n".to_owned();
    for (string, files) in strings {
        text.push('\n');
        for file in files {
            let _infallible = writeln!(text, "#: {file}");
        }
        let quoted = string.replace('\\', "\\\\").replace('"', "\\\"");
        let _infallible = writeln!(text, "msgid \"{quoted}\"\nmsgstr \"\"");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_one_literal_in_single_quotes() {
        let source = r"a(_('one'), _('it\'s \\')); N_(1); x._('no'); my_('no')";
        assert_eq!(of_script(source).unwrap(), ["one", r"it's \"]);
        for wrong in ["_(\"two\")", "_('a' + b)", "_(name)", "_('open"] {
            assert!(of_script(wrong).is_err(), "{wrong}");
        }
    }
}

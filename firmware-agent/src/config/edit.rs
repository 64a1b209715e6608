//! Changes in the text of a UCI file, so that every byte that does not belong to what was changed
//! stays: comments, order, quoting, blank lines.
//!
//! After each change the text is read again. One that does not mean what was asked for, and nothing
//! else, is refused: it happens where several commands stand on one line or a line goes on in the
//! next. Pure; the file is written by [`store`](super::store).
//!
//! A comment behind a command on the same line goes with the command.

mod scan;

use std::ops::Range;

use self::scan::{Command, What, scan};
use super::remark::Remarks;
use super::uci::{Entry, Package, Section, Value, anonymous, quote};

/// Why a change was not made.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum EditError {
    /// What is there cannot be read.
    #[error("the file has mistakes: {0}")]
    Broken(String),
    /// Nothing has this name.
    #[error("there is no section {0}")]
    NoSection(String),
    /// Something has it already.
    #[error("there is a section {0} already")]
    Taken(String),
    /// Names are letters, digits and `_`.
    #[error("'{}' is not a name: letters, digits and _", .0.escape_default())]
    Name(String),
    /// A value is text.
    #[error("a value has a control character")]
    Value,
    /// The text would not mean what was asked for.
    #[error("line {0} cannot be changed alone: put every command on a line of its own")]
    Unclear(u32),
    /// The file would be too large, or have too much in it.
    #[error("there would be too much in the file: {0}")]
    TooMuch(String),
}

/// A file's text that is being changed.
#[derive(Clone, Debug)]
pub struct Editor {
    text: Vec<u8>,
    package: Package,
}

impl Editor {
    /// For a text without mistakes of grammar.
    pub fn new(text: &[u8]) -> Result<Self, EditError> {
        let package = read(text).map_err(EditError::Broken)?;
        Ok(Self { text: text.to_owned(), package })
    }

    /// What the text says.
    #[must_use]
    pub const fn package(&self) -> &Package {
        &self.package
    }

    /// The text.
    #[must_use]
    pub fn text(&self) -> &[u8] {
        &self.text
    }

    /// Gives an option a value, in its place where it has one; an empty value is none.
    pub fn set(&mut self, section: &str, option: &str, value: &str) -> Result<(), EditError> {
        if value.is_empty() {
            return self.unset(section, option);
        }
        let index = self.section(section)?;
        check(option, value)?;
        let entry = self.package.sections.get(index).and_then(|found| found.entry(option));
        if entry.is_some_and(|entry| !entry.is_list && one(entry) == Some(value.as_bytes())) {
            return Ok(());
        }
        let commands = self.scan()?;
        let of = settings(&commands, index, option);
        let line = |this: &Self| this.line(&commands, index, "option", option, value);
        let cuts = match of.as_slice() {
            [] => vec![(end_of(&commands, index)?, line(self))],
            [.., Command { what: What::Setting { is_list: false, span, .. }, .. }]
                if !span.is_empty() =>
            {
                let mut quoted = Vec::new();
                quote(&mut quoted, value.as_bytes());
                vec![(span.clone(), quoted)]
            }
            [before @ .., last] => {
                let mut cuts: Vec<_> =
                    before.iter().map(|one| (one.lines.clone(), vec![])).collect();
                cuts.push((last.lines.clone(), line(self)));
                cuts
            }
        };
        self.change(cuts, of.last().map_or(0, |last| last.line), |package| {
            let Some(section) = package.sections.get_mut(index) else { return };
            let values = vec![Value { bytes: value.into(), line: 0 }];
            let entry = Entry { name: option.to_owned(), is_list: false, values };
            match section.entries.iter_mut().find(|entry| entry.name == option) {
                Some(old) => *old = entry,
                None => section.entries.push(entry),
            }
        })
    }

    /// Adds an element to the end of a list.
    pub fn push(&mut self, section: &str, option: &str, value: &str) -> Result<(), EditError> {
        let index = self.section(section)?;
        check(option, value)?;
        let commands = self.scan()?;
        let of = settings(&commands, index, option);
        let place = match of.last() {
            Some(last) => last.lines.end..last.lines.end,
            None => end_of(&commands, index)?,
        };
        let line = self.line(&commands, index, "list", option, value);
        self.change(vec![(place, line)], of.last().map_or(0, |last| last.line), |package| {
            let Some(section) = package.sections.get_mut(index) else { return };
            let value = Value { bytes: value.into(), line: 0 };
            match section.entries.iter_mut().find(|entry| entry.name == option) {
                Some(entry) => {
                    entry.is_list = true;
                    entry.values.push(value);
                }
                None => section.entries.push(Entry {
                    name: option.to_owned(),
                    is_list: true,
                    values: vec![value],
                }),
            }
        })
    }

    /// Takes every element with this value out of a list, and the list with its last one.
    pub fn pull(&mut self, section: &str, option: &str, value: &str) -> Result<(), EditError> {
        self.take(section, option, Some(value))
    }

    /// Takes an option or a list away.
    pub fn unset(&mut self, section: &str, option: &str) -> Result<(), EditError> {
        self.take(section, option, None)
    }

    fn take(&mut self, section: &str, option: &str, value: Option<&str>) -> Result<(), EditError> {
        let index = self.section(section)?;
        let goes = |bytes: &[u8]| value.is_none_or(|value| value.as_bytes() == bytes);
        let entry = self.package.sections.get(index).and_then(|found| found.entry(option));
        if !entry.is_some_and(|entry| entry.values.iter().any(|value| goes(&value.bytes))) {
            return Ok(());
        }
        let commands = self.scan()?;
        let of = settings(&commands, index, option);
        // What an `option` replaced would else count again.
        let replaced = of.iter().rposition(|one| {
            matches!(&one.what, What::Setting { is_list: false, value, .. } if !value.is_empty())
        });
        let gone = of.iter().enumerate().filter(|(place, one)| {
            let is_replaced = replaced.is_some_and(|last| *place < last);
            is_replaced || matches!(&one.what, What::Setting { value, .. } if goes(value))
        });
        let cuts = gone.map(|(_, one)| (one.lines.clone(), Vec::new())).collect();
        self.change(cuts, of.last().map_or(0, |last| last.line), |package| {
            let Some(section) = package.sections.get_mut(index) else { return };
            for entry in section.entries.iter_mut().filter(|entry| entry.name == option) {
                entry.values.retain(|value| !goes(&value.bytes));
            }
            section.entries.retain(|entry| !entry.values.is_empty());
        })
    }

    /// Adds a section to the end and returns its name: that of an anonymous one is made up.
    pub fn add(&mut self, kind: &str, name: Option<&str>) -> Result<String, EditError> {
        for name in [Some(kind), name].into_iter().flatten() {
            check_name(name)?;
        }
        let number = self.package.sections.len() as u32 + 1;
        let shown = name.map_or_else(|| anonymous(number, kind), str::to_owned);
        // Who finds a made-up name taken can give the section one of its own.
        if self.package.sections.iter().any(|section| section.name == shown) {
            return Err(EditError::Taken(shown));
        }
        let end = self.end_of_line();
        let mut text = Vec::new();
        let has_gap = [&b"\n\n"[..], b"\n\r\n"].iter().any(|gap| self.text.ends_with(gap));
        if !has_gap {
            text.extend_from_slice(end);
        }
        text.extend_from_slice(format!("config {kind}").as_bytes());
        if let Some(name) = name {
            text.push(b' ');
            quote(&mut text, name.as_bytes());
        }
        text.extend_from_slice(end);
        if has_gap {
            text.extend_from_slice(end);
        }
        let section = Section {
            kind: kind.to_owned(),
            name: shown.clone(),
            is_anonymous: name.is_none(),
            ..Section::empty()
        };
        let place = self.text.len();
        self.change(vec![(place..place, text)], 0, |package| package.sections.push(section))?;
        Ok(shown)
    }

    /// Takes a section away with everything in it. Anonymous ones behind it get other names.
    pub fn remove(&mut self, section: &str) -> Result<(), EditError> {
        let index = self.section(section)?;
        let commands = self.scan()?;
        let mut blocks: Vec<Range<usize>> = Vec::new();
        let mut line = 0;
        for command in commands.iter().filter(|command| command.section == Some(index)) {
            if let (What::Setting { .. }, Some(block)) = (&command.what, blocks.last_mut()) {
                block.end = command.lines.end;
            } else {
                blocks.push(command.lines.clone());
                line = command.line;
            }
        }
        let cuts = blocks.into_iter().map(|block| (self.with_gap(block), Vec::new())).collect();
        self.change(cuts, line, |package| {
            package.sections.remove(index);
        })
    }

    /// The lines and one of the blank lines around them.
    fn with_gap(&self, lines: Range<usize>) -> Range<usize> {
        let behind = self.text.get(lines.end..).unwrap_or_default();
        for gap in [&b"\n"[..], b"\r\n"] {
            if behind.starts_with(gap) {
                return lines.start..lines.end + gap.len();
            }
        }
        let before = self.text.get(..lines.start).unwrap_or_default();
        for gap in [&b"\n\n"[..], b"\n\r\n"] {
            if before.ends_with(gap) {
                return lines.start + 1 - gap.len()..lines.end;
            }
        }
        let is_first = before == b"\n" || before == b"\r\n";
        if is_first { 0..lines.end } else { lines }
    }

    fn section(&self, name: &str) -> Result<usize, EditError> {
        let sections = &self.package.sections;
        sections
            .iter()
            .position(|section| section.name == name || self.package.shown_name(section) == name)
            .ok_or_else(|| EditError::NoSection(name.to_owned()))
    }

    fn scan(&self) -> Result<Vec<Command>, EditError> {
        scan(&self.text).map_err(|reason| EditError::Broken(reason.to_owned()))
    }

    /// A line for a section, indented as its other ones are.
    fn line(
        &self,
        commands: &[Command],
        index: usize,
        word: &str,
        option: &str,
        value: &str,
    ) -> Vec<u8> {
        let other = commands.iter().rev().find(|command| {
            command.section == Some(index) && matches!(command.what, What::Setting { .. })
        });
        let indent = other.map(|command| {
            let line = self.text.get(command.lines.clone()).unwrap_or_default();
            let blank = line.iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
            line.get(..blank).unwrap_or_default()
        });
        let mut text = indent.unwrap_or(b"\t").to_owned();
        text.extend_from_slice(format!("{word} {option} ").as_bytes());
        quote(&mut text, value.as_bytes());
        text.extend_from_slice(self.end_of_line());
        text
    }

    fn end_of_line(&self) -> &'static [u8] {
        let first = self.text.iter().position(|byte| *byte == b'\n').unwrap_or_default();
        let is_crlf = first.checked_sub(1).and_then(|at| self.text.get(at)) == Some(&b'\r');
        if is_crlf { b"\r\n" } else { b"\n" }
    }

    /// Replaces parts of the text, in their order, if the text then says what `wanted` makes of what
    /// it said.
    fn change(
        &mut self,
        cuts: Vec<(Range<usize>, Vec<u8>)>,
        line: u32,
        wanted: impl FnOnce(&mut Package),
    ) -> Result<(), EditError> {
        let mut text = Vec::with_capacity(self.text.len() + 256);
        let mut done = 0;
        for (range, new) in cuts {
            text.extend_from_slice(self.text.get(done..range.start).unwrap_or_default());
            // What is inserted are lines; the last one of a file may have no end.
            if range.is_empty() && !text.is_empty() && !text.ends_with(b"\n") {
                text.extend_from_slice(self.end_of_line());
            }
            text.extend_from_slice(&new);
            done = range.end.max(done);
        }
        text.extend_from_slice(self.text.get(done..).unwrap_or_default());
        let mut meant = self.package.clone();
        wanted(&mut meant);
        let package = read(&text).map_err(EditError::TooMuch)?;
        if !is_same(&meant, &package) {
            return Err(EditError::Unclear(line));
        }
        self.text = text;
        self.package = package;
        Ok(())
    }
}

/// Behind the last command of a section.
fn end_of(commands: &[Command], index: usize) -> Result<Range<usize>, EditError> {
    let last = commands.iter().rev().find(|command| command.section == Some(index));
    let end = last.ok_or(EditError::Unclear(0))?.lines.end;
    Ok(end..end)
}

/// The one value of an option.
fn one(entry: &Entry) -> Option<&[u8]> {
    entry.values.last().map(|value| value.bytes.as_slice())
}

fn settings<'a>(commands: &'a [Command], index: usize, option: &str) -> Vec<&'a Command> {
    let is_it = |command: &&Command| {
        command.section == Some(index)
            && matches!(&command.what, What::Setting { name, .. } if name == option)
    };
    commands.iter().filter(is_it).collect()
}

fn check(option: &str, value: &str) -> Result<(), EditError> {
    check_name(option)?;
    let is_text = |byte: u8| byte >= 32 || matches!(byte, b'\t' | b'\n' | b'\r');
    if value.bytes().all(is_text) { Ok(()) } else { Err(EditError::Value) }
}

fn check_name(name: &str) -> Result<(), EditError> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let is_name = !name.is_empty() && name.bytes().all(fits);
    if is_name { Ok(()) } else { Err(EditError::Name(name.to_owned())) }
}

fn read(text: &[u8]) -> Result<Package, String> {
    let mut remarks = Remarks::new(super::PACKAGE.into());
    let package = Package::parse(text, &mut remarks);
    match remarks.finish().0.first() {
        None => Ok(package),
        Some(mistake) => Err(mistake.to_string()),
    }
}

/// Whether two packages say the same, wherever it stands in a section.
fn is_same(a: &Package, b: &Package) -> bool {
    a.sections.len() == b.sections.len()
        && a.sections.iter().zip(&b.sections).all(|(a, b)| {
            (&a.kind, a.is_anonymous) == (&b.kind, b.is_anonymous)
                && (a.is_anonymous || a.name == b.name)
                && a.entries.len() == b.entries.len()
                && a.entries.iter().all(|entry| {
                    let values = |entry: &Entry| -> Vec<Vec<u8>> {
                        entry.values.iter().map(|value| value.bytes.clone()).collect()
                    };
                    b.entry(&entry.name).is_some_and(|other| {
                        other.is_list == entry.is_list && values(other) == values(entry)
                    })
                })
        })
}

#[cfg(test)]
mod tests;

//! A UCI package in memory: read from a file, written back.
//!
//! Owns the commands of the file format and what they do to sections and options. Separating words
//! is the lexer's; what the options mean is the business of the types that read them through
//! [`Reader`](super::reader::Reader).
//!
//! The behaviour is that of libuci in strict mode, with three differences: every mistake is
//! reported, not the first only; a mistake is reported on the line on which its command starts; and
//! a type with a quote in it is written so that it can be read again.

use std::fmt::Write as _;

use super::lexer::{Alphabet, Lexer, Refusal};
use super::remark::Remarks;

/// Largest file that is read.
pub const FILE_MAX: usize = 1 << 20;
/// Most sections of a package.
pub const SECTIONS_MAX: usize = 1024;
/// Most options of a section.
pub const OPTIONS_MAX: usize = 256;
/// Most values of a package, list elements counted one by one.
pub const VALUES_MAX: usize = 16_384;

/// A value and where it stands.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Value {
    /// The bytes: UCI does not say which encoding they have.
    pub bytes: Vec<u8>,
    /// Line of the command that set it.
    pub line: u32,
}

/// An option or list of a section.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Entry {
    /// Name: letters, digits, `_`.
    pub name: String,
    /// Whether it was written with `list`.
    pub is_list: bool,
    /// One value, or the elements of the list.
    pub values: Vec<Value>,
}

/// A section.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Section {
    /// The word behind `config`.
    pub kind: String,
    /// The name; for an anonymous section the `cfgXXYYYY` that libuci gives it.
    pub name: String,
    /// Whether the name is not from the file.
    pub is_anonymous: bool,
    /// Line of the first `config` command.
    pub line: u32,
    /// Whether lines of this section could not be read, so that an option may be missing for that
    /// reason.
    pub is_broken: bool,
    /// Options in the order of the file.
    pub entries: Vec<Entry>,
}

impl Section {
    /// A section without options, from which every default can be read.
    pub(super) const fn empty() -> Self {
        Self {
            kind: String::new(),
            name: String::new(),
            is_anonymous: false,
            line: 0,
            is_broken: false,
            entries: Vec::new(),
        }
    }

    /// The option or list of that name.
    #[must_use]
    pub fn entry(&self, name: &str) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.name == name)
    }
}

/// The sections of a file.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Package {
    /// Sections in the order of the file.
    pub sections: Vec<Section>,
}

impl Package {
    /// Reads a file's text. What could be read is returned even when there are mistakes, so that
    /// both the grammar and the options can be complained about at once.
    pub(super) fn parse(text: &[u8], remarks: &mut Remarks) -> Self {
        let mut parser = Parser {
            remarks,
            package: Self::default(),
            section: Target::None,
            added: 0,
            values: 0,
        };
        if text.len() > FILE_MAX {
            parser.mistake(0, format!("larger than {FILE_MAX} bytes"));
        } else if let Some(at) = text.iter().position(|&b| b == 0) {
            let line = text[..at].split(|&b| b == b'\n').count();
            parser.mistake(line as u32, "not a text file: it has a NUL byte".to_owned());
        } else {
            parser.run(text);
        }
        parser.package
    }

    /// The section's name as `uci show` prints it: `wan`, or `@rule[0]` when it has none.
    #[must_use]
    pub fn shown_name(&self, section: &Section) -> String {
        if !section.is_anonymous {
            return section.name.clone();
        }
        let same = self.sections.iter().filter(|other| other.kind == section.kind);
        // A name that is written may be one that is made up for another section.
        let is_it = |other: &&Section| other.is_anonymous && other.name == section.name;
        let index = same.take_while(|other| !is_it(other)).count();
        format!("@{}[{index}]", section.kind)
    }

    /// The line of the section that is shown under this name, 0 without one.
    #[must_use]
    pub fn line_of(&self, shown: &str) -> u32 {
        let section = self.sections.iter().find(|section| self.shown_name(section) == shown);
        section.map_or(0, |section| section.line)
    }

    /// The text that `uci commit` writes.
    #[must_use]
    pub fn to_file(&self) -> Vec<u8> {
        let mut text = Vec::new();
        for section in &self.sections {
            text.extend_from_slice(b"\nconfig ");
            if section.kind.bytes().any(|b| matches!(b, b'\'' | b'"' | b'\\' | b';' | b'#')) {
                quote(&mut text, section.kind.as_bytes());
            } else {
                text.extend_from_slice(section.kind.as_bytes());
            }
            if !section.is_anonymous {
                text.push(b' ');
                quote(&mut text, section.name.as_bytes());
            }
            text.push(b'\n');
            for entry in &section.entries {
                for value in &entry.values {
                    text.extend_from_slice(if entry.is_list { b"\tlist " } else { b"\toption " });
                    text.extend_from_slice(entry.name.as_bytes());
                    text.push(b' ');
                    quote(&mut text, &value.bytes);
                    text.push(b'\n');
                }
            }
        }
        text.push(b'\n');
        text
    }

    /// The text that `uci export` prints.
    #[must_use]
    pub fn export(&self, name: &str) -> Vec<u8> {
        let mut text = format!("package {name}\n").into_bytes();
        text.extend_from_slice(&self.to_file());
        text
    }
}

/// In single quotes, in which only the quote itself is special.
pub(super) fn quote(text: &mut Vec<u8>, value: &[u8]) {
    text.push(b'\'');
    for &byte in value {
        if byte == b'\'' {
            text.extend_from_slice(b"'\\''");
        } else {
            text.push(byte);
        }
    }
    text.push(b'\'');
}

/// Where `option` and `list` go.
enum Target {
    /// There was no `config` yet.
    None,
    /// Index of a section.
    Section(usize),
    /// The `config` command was wrong: its options are checked and forgotten.
    Lost,
}

struct Parser<'a> {
    remarks: &'a mut Remarks,
    package: Package,
    section: Target,
    /// Sections added, which is the number in the name of an anonymous one.
    added: u32,
    values: usize,
}

impl Parser<'_> {
    fn run(&mut self, text: &[u8]) {
        let mut lexer = Lexer::new(text);
        while lexer.next_line() {
            loop {
                let word = lexer.command();
                if word.is_empty() {
                    break;
                }
                if let Err(refusal) = self.command(&mut lexer, word) {
                    self.refused(&lexer, word, refusal);
                    lexer.recover();
                    break;
                }
            }
            if lexer.was_cut() {
                let reason = "UCI ignores what follows a ';' right behind an unquoted word: put \
                              the next command on a line of its own";
                self.remarks.warning(lexer.first(), "", reason.to_owned());
            }
        }
    }

    fn refused(&mut self, lexer: &Lexer<'_>, word: &[u8], refusal: Refusal) {
        let mut reason = format!("{} (byte {})", refusal.reason, refusal.byte);
        if lexer.line() != lexer.first() {
            let _ = write!(reason, "; a quoted string runs on to line {}", lexer.line());
        }
        match self.section {
            _ if matches!(word, b"config" | b"c") => self.section = Target::Lost,
            Target::Section(index) => self.package.sections[index].is_broken = true,
            Target::None | Target::Lost => {}
        }
        self.mistake(lexer.first(), reason);
    }

    fn command(&mut self, lexer: &mut Lexer<'_>, word: &[u8]) -> Result<(), Refusal> {
        match word {
            b"package" | b"p" => {
                lexer.accept("package without name")?;
                lexer.required(Alphabet::Package)?;
                lexer.finish()
            }
            b"config" | b"c" => {
                lexer.accept("config without name")?;
                let kind = lexer.required(Alphabet::Type)?;
                let name = lexer.argument(Alphabet::Name)?;
                lexer.finish()?;
                self.config(lexer, ascii(kind), ascii(name))
            }
            b"option" | b"o" | b"list" | b"l" => {
                if matches!(self.section, Target::None) {
                    let reason = "option/list command found before the first section";
                    return Err(lexer.refuse(reason));
                }
                lexer.accept("option without name")?;
                let name = lexer.required(Alphabet::Name)?;
                let value = lexer.argument(Alphabet::Value)?;
                lexer.finish()?;
                self.option(lexer, word[0] == b'l', ascii(name), value)
            }
            _ => Err(lexer.refuse("invalid command")),
        }
    }

    fn config(&mut self, lexer: &Lexer<'_>, kind: String, name: String) -> Result<(), Refusal> {
        let sections = &mut self.package.sections;
        if !name.is_empty()
            && let Some(index) = sections.iter().position(|section| section.name == name)
        {
            if sections[index].kind != kind {
                let reason = "section of different type overwrites prior section with same name";
                return Err(lexer.refuse(reason));
            }
            self.section = Target::Section(index);
            return Ok(());
        }
        if sections.len() == SECTIONS_MAX {
            return Err(lexer.refuse("too many sections"));
        }
        self.added += 1;
        let is_anonymous = name.is_empty();
        let name = if is_anonymous { anonymous(self.added, &kind) } else { name };
        self.section = Target::Section(sections.len());
        let line = lexer.first();
        sections.push(Section {
            kind,
            name,
            is_anonymous,
            line,
            is_broken: false,
            entries: Vec::new(),
        });
        Ok(())
    }

    fn option(
        &mut self,
        lexer: &Lexer<'_>,
        is_list: bool,
        name: String,
        bytes: Vec<u8>,
    ) -> Result<(), Refusal> {
        let Target::Section(index) = self.section else { return Ok(()) };
        if bytes.is_empty() && !is_list {
            return Ok(()); // not stored, and an earlier value stays
        }
        if self.values == VALUES_MAX {
            return Err(lexer.refuse("too many values"));
        }
        self.values += 1;
        let value = Value { bytes, line: lexer.first() };
        let entries = &mut self.package.sections[index].entries;
        let Some(index) = entries.iter().position(|entry| entry.name == name) else {
            if entries.len() == OPTIONS_MAX {
                return Err(lexer.refuse("too many options in this section"));
            }
            entries.push(Entry { name, is_list, values: vec![value] });
            return Ok(());
        };
        let entry = &mut entries[index];
        entry.is_list = is_list;
        if !is_list {
            entry.values.clear();
        }
        entry.values.push(value);
        Ok(())
    }

    fn mistake(&mut self, line: u32, reason: String) {
        self.remarks.mistake(line, "", reason);
    }
}

/// An argument whose alphabet is a part of ASCII.
fn ascii(word: Vec<u8>) -> String {
    word.into_iter().map(char::from).collect()
}

/// The name of an anonymous section: its number, and a hash of its type.
pub(super) fn anonymous(number: u32, kind: &str) -> String {
    let hash = kind
        .bytes()
        .fold(5381_u32, |hash, byte| hash.wrapping_mul(33).wrapping_add(u32::from(byte)));
    format!("cfg{number:02x}{:04x}", hash & 0xffff)
}

#[cfg(test)]
mod tests;

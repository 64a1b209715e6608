//! The words of a UCI file, as libuci separates them.
//!
//! Owns quoting, line joining, comments and `;`. Knows no commands: those are in
//! [`uci`](super::uci).

use std::ops::Range;

/// Why a command could not be read.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Refusal {
    /// What is wrong, in libuci's words.
    pub(super) reason: &'static str,
    /// Bytes from the start of the command's line to where it was noticed.
    pub(super) byte: usize,
}

/// What an argument may consist of.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Alphabet {
    /// Letters, digits and `_`: names of sections and options.
    Name,
    /// Names and `-`: names of packages.
    Package,
    /// Printable ASCII: types of sections.
    Type,
    /// Anything.
    Value,
}

impl Alphabet {
    fn has(self, byte: u8) -> bool {
        byte.is_ascii_alphanumeric()
            || byte == b'_'
            || match self {
                Self::Name => false,
                Self::Package => byte == b'-',
                Self::Type => (33..=126).contains(&byte),
                Self::Value => true,
            }
    }

    const fn refusal(self) -> &'static str {
        match self {
            Self::Type => "invalid character in type field",
            Self::Name | Self::Package | Self::Value => "invalid character in name field",
        }
    }
}

/// Reads a file line by line, and a line word by word.
///
/// A quoted string may run over the end of the line, so the window of bytes that belong to the
/// current command grows while it is read.
#[derive(Debug)]
pub(super) struct Lexer<'a> {
    text: &'a [u8],
    /// Where the command's first line starts.
    start: usize,
    pos: usize,
    /// End of what may be read: the lines taken so far, or less after a comment sign.
    end: usize,
    /// Start of the first line not taken yet.
    next: usize,
    /// Number of the command's first line.
    first: u32,
    /// Number of the last line taken.
    line: u32,
    /// Something behind a `;` is cut off.
    cut: bool,
    /// Where the last word ends, before the whitespace that ended it.
    word_end: usize,
}

impl<'a> Lexer<'a> {
    pub(super) const fn new(text: &'a [u8]) -> Self {
        Self { text, start: 0, pos: 0, end: 0, next: 0, first: 0, line: 0, cut: false, word_end: 0 }
    }

    /// Goes to the next line; `false` at the end of the file.
    pub(super) fn next_line(&mut self) -> bool {
        self.start = self.next;
        self.pos = self.next;
        self.cut = false;
        let taken = self.take_line();
        self.first = self.line;
        self.skip_whitespace();
        taken
    }

    /// Goes back to the line behind the one on which the current command starts, so that a quote
    /// that is not closed hides one line and not the rest of the file.
    pub(super) fn recover(&mut self) {
        self.next = line_end(self.text, self.start);
        self.line = self.first;
        self.end = self.next;
        self.pos = self.next;
    }

    /// Number of the line on which the current command starts, from 1.
    pub(super) const fn first(&self) -> u32 {
        self.first
    }

    /// Number of the last line of the current command.
    pub(super) const fn line(&self) -> u32 {
        self.line
    }

    /// Whether a command that follows a bare word and `;` was cut off, as libuci does.
    pub(super) const fn was_cut(&self) -> bool {
        self.cut
    }

    /// Bytes of all lines that were taken for the current command, with what else stands on them.
    pub(super) const fn lines(&self) -> Range<usize> {
        self.start..self.next
    }

    /// The next argument, which may be empty, and the bytes in which it is written.
    pub(super) fn placed(&mut self) -> Result<(Vec<u8>, Range<usize>), Refusal> {
        self.skip_whitespace();
        let from = self.pos;
        self.word_end = from;
        let word = self.argument(Alphabet::Value)?;
        Ok((word, from..self.word_end))
    }

    /// A refusal at the current position.
    pub(super) const fn refuse(&self, reason: &'static str) -> Refusal {
        Refusal { reason, byte: self.pos - self.start }
    }

    /// The command word, with what follows it up to a space or tab; empty at the end of the line
    /// and before a comment.
    ///
    /// The position stays before the word until [`Lexer::accept`].
    pub(super) fn command(&self) -> &'a [u8] {
        let rest = self.text.get(self.pos..self.end).unwrap_or_default();
        let from = rest.iter().position(|&b| !is_blank(b)).unwrap_or(rest.len());
        let len = rest[from..].iter().position(|&b| is_blank(b)).unwrap_or(rest.len() - from);
        let word = &rest[from..from + len];
        if word.first() == Some(&b'#') { &[] } else { word }
    }

    /// Moves behind the command word and its delimiter.
    pub(super) fn accept(&mut self, missing: &'static str) -> Result<(), Refusal> {
        let rest = &self.text[self.pos..self.end];
        let from = rest.iter().position(|&b| !is_blank(b)).unwrap_or(rest.len());
        let len = rest[from..].iter().position(|&b| is_blank(b)).unwrap_or(rest.len() - from);
        let behind = self.pos + from + len + 1;
        if behind > self.end {
            return Err(self.refuse(missing));
        }
        self.pos = behind;
        Ok(())
    }

    /// The next argument, which may be empty.
    pub(super) fn argument(&mut self, alphabet: Alphabet) -> Result<Vec<u8>, Refusal> {
        self.skip_whitespace();
        if self.current() == Some(b';') {
            self.pos += 1;
            return Ok(Vec::new());
        }
        let word = self.word()?;
        if word.iter().all(|&b| alphabet.has(b)) {
            Ok(word)
        } else {
            Err(self.refuse(alphabet.refusal()))
        }
    }

    /// The next argument, which must not be empty.
    pub(super) fn required(&mut self, alphabet: Alphabet) -> Result<Vec<u8>, Refusal> {
        let word = self.argument(alphabet)?;
        if word.is_empty() { Err(self.refuse("insufficient arguments")) } else { Ok(word) }
    }

    /// Makes sure that the command ends here.
    pub(super) fn finish(&mut self) -> Result<(), Refusal> {
        let word = self.argument(Alphabet::Value)?;
        if word.is_empty() { Ok(()) } else { Err(self.refuse("too many arguments")) }
    }

    fn word(&mut self) -> Result<Vec<u8>, Refusal> {
        let from = self.pos;
        let mut word = Vec::new();
        while let Some(byte) = self.current() {
            match byte {
                b'\'' => self.single(&mut word)?,
                b'"' => self.double(&mut word)?,
                b'\\' => self.escape(&mut word),
                b'#' => {
                    self.end = self.pos;
                    break;
                }
                b';' => {
                    // libuci terminates the word in place. A word without quotes still lies where
                    // it was, so the terminator overwrites the `;` and ends the line.
                    if word.len() == self.pos - from {
                        let rest = &self.text[self.pos + 1..self.end];
                        let rest = rest.trim_ascii_start();
                        self.cut |= !rest.is_empty() && rest[0] != b'#';
                        self.end = self.pos;
                    }
                    self.word_end = self.pos;
                    return Ok(word);
                }
                byte => {
                    word.push(byte);
                    self.pos += 1;
                }
            }
            if self.current().is_some_and(is_space) {
                break;
            }
        }
        self.word_end = self.pos;
        if self.pos < self.end {
            self.pos += 1; // the whitespace that ends the word
        }
        Ok(word)
    }

    fn single(&mut self, word: &mut Vec<u8>) -> Result<(), Refusal> {
        self.pos += 1;
        loop {
            match self.current() {
                Some(b'\'') => {
                    self.pos += 1;
                    return Ok(());
                }
                Some(byte) => {
                    word.push(byte);
                    self.pos += 1;
                }
                None if self.take_line() => {}
                None => return Err(self.refuse("EOF with unterminated '")),
            }
        }
    }

    fn double(&mut self, word: &mut Vec<u8>) -> Result<(), Refusal> {
        self.pos += 1;
        loop {
            match self.current() {
                Some(b'"') => {
                    self.pos += 1;
                    return Ok(());
                }
                Some(b'\\') => self.escape(word),
                Some(byte) => {
                    word.push(byte);
                    self.pos += 1;
                }
                None if self.take_line() => {}
                None => return Err(self.refuse("EOF with unterminated \"")),
            }
        }
    }

    /// A backslash: the next byte literally, or the next line joined to this one.
    fn escape(&mut self, word: &mut Vec<u8>) {
        self.pos += 1;
        match &self.text[self.pos..self.end] {
            [] | [b'\n', ..] | [b'\r', b'\n'] => {
                // The line end goes too; without a next line the word just ends.
                self.pos = self.next;
                self.take_line();
            }
            [byte, ..] => {
                word.push(*byte);
                self.pos += 1;
            }
        }
    }

    fn current(&self) -> Option<u8> {
        if self.pos < self.end { self.text.get(self.pos).copied() } else { None }
    }

    fn skip_whitespace(&mut self) {
        while self.current().is_some_and(is_space) {
            self.pos += 1;
        }
    }

    fn take_line(&mut self) -> bool {
        if self.next >= self.text.len() {
            self.end = self.text.len();
            return false;
        }
        self.next = line_end(self.text, self.next);
        self.end = self.next;
        self.line += 1;
        true
    }
}

/// Behind the line feed of the line in which `from` lies.
fn line_end(text: &[u8], from: usize) -> usize {
    text[from..].iter().position(|&b| b == b'\n').map_or(text.len(), |at| from + at + 1)
}

const fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

/// The C locale's whitespace.
const fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t'..=b'\r')
}

//! Where the commands of a text stand, and which section each is about.

use std::ops::Range;

use super::super::lexer::{Alphabet, Lexer, Refusal};

/// A command.
#[derive(Clone, Debug)]
pub(super) struct Command {
    pub(super) what: What,
    /// Index of its section; `None` before the first one.
    pub(super) section: Option<usize>,
    /// Bytes of its lines, with what else stands on them.
    pub(super) lines: Range<usize>,
    /// Number of the first of them.
    pub(super) line: u32,
}

#[derive(Clone, Debug)]
pub(super) enum What {
    /// `config`
    Section,
    /// `option` or `list`
    Setting {
        is_list: bool,
        name: String,
        value: Vec<u8>,
        /// Bytes in which the value is written; none where it is left out.
        span: Range<usize>,
    },
    /// `package`
    Package,
}

/// The commands of a text without mistakes.
pub(super) fn scan(text: &[u8]) -> Result<Vec<Command>, &'static str> {
    let mut commands: Vec<Command> = Vec::new();
    let mut names: Vec<Vec<u8>> = Vec::new();
    let mut section = None;
    let mut lexer = Lexer::new(text);
    while lexer.next_line() {
        let first = commands.len();
        loop {
            let word = lexer.command();
            if word.is_empty() {
                break;
            }
            let what = command(&mut lexer, word, &mut names, &mut section);
            let what = what.map_err(|refusal| refusal.reason)?;
            let of = if matches!(what, What::Package) { None } else { section };
            commands.push(Command { what, section: of, lines: 0..0, line: lexer.first() });
        }
        for command in commands.iter_mut().skip(first) {
            command.lines = lexer.lines();
        }
    }
    Ok(commands)
}

fn command(
    lexer: &mut Lexer<'_>,
    word: &[u8],
    names: &mut Vec<Vec<u8>>,
    section: &mut Option<usize>,
) -> Result<What, Refusal> {
    match word {
        b"config" | b"c" => {
            lexer.accept("config without name")?;
            lexer.required(Alphabet::Type)?;
            let name = lexer.argument(Alphabet::Name)?;
            lexer.finish()?;
            let known = names.iter().position(|known| !name.is_empty() && *known == name);
            *section = known.or(Some(names.len()));
            if known.is_none() {
                names.push(name);
            }
            Ok(What::Section)
        }
        b"option" | b"o" | b"list" | b"l" => {
            lexer.accept("option without name")?;
            let name = lexer.required(Alphabet::Name)?;
            let (value, span) = lexer.placed()?;
            lexer.finish()?;
            let name = name.into_iter().map(char::from).collect();
            Ok(What::Setting { is_list: word.first() == Some(&b'l'), name, value, span })
        }
        _ => {
            lexer.accept("package without name")?;
            lexer.required(Alphabet::Package)?;
            lexer.finish()?;
            Ok(What::Package)
        }
    }
}

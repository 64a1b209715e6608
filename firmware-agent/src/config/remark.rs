//! What is said about a configuration: where, which option, and why.

use super::ram::Ram;
use std::fmt;
use std::rc::Rc;

use crate::text::plain;

/// Something wrong or suspicious in a configuration.
///
/// Whether it is a mistake (the configuration is refused) or a warning (it is used) depends on
/// the list it is in.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Remark {
    /// The file.
    pub file: Rc<str>,
    /// Line, from 1; 0 when the file as a whole is meant.
    pub line: u32,
    /// The option as `uci` spells it (`sluice.wan.device`), or a part of that; may be empty.
    pub path: String,
    /// What is wrong, and what would be right.
    pub reason: String,
}

/// A remark that does not keep a configuration from being used.
pub type Warning = Remark;
/// A remark that does.
pub type Mistake = Remark;

impl fmt::Display for Remark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if self.line != 0 {
            write!(f, ":{}", self.line)?;
        }
        if !self.path.is_empty() {
            write!(f, ": {}", self.path)?;
        }
        write!(f, ": {}", self.reason)
    }
}

/// Mistakes that are listed, and warnings; the rest is counted.
pub const REMARKS_MAX: usize = 64;

/// Remarks about one configuration, as they are found.
#[derive(Debug)]
pub(super) struct Remarks {
    /// Whose defaults hold.
    pub(super) ram: Ram,
    file: Rc<str>,
    mistakes: Vec<Mistake>,
    warnings: Vec<Warning>,
    more_mistakes: usize,
    more_warnings: usize,
}

impl Remarks {
    pub(super) const fn new(file: Rc<str>) -> Self {
        Self {
            ram: Ram::Mib128,
            file,
            mistakes: Vec::new(),
            warnings: Vec::new(),
            more_mistakes: 0,
            more_warnings: 0,
        }
    }

    pub(super) const fn are_fatal(&self) -> bool {
        !self.mistakes.is_empty()
    }

    pub(super) fn mistake(&mut self, line: u32, path: impl Into<String>, reason: String) {
        let remark = Remark { file: Rc::clone(&self.file), line, path: path.into(), reason };
        push(&mut self.mistakes, &mut self.more_mistakes, remark);
    }

    /// A mistake in another file.
    pub(super) fn mistake_about(&mut self, remark: Mistake) {
        push(&mut self.mistakes, &mut self.more_mistakes, remark);
    }

    pub(super) fn warning(&mut self, line: u32, path: impl Into<String>, reason: String) {
        let remark = Remark { file: Rc::clone(&self.file), line, path: path.into(), reason };
        self.warning_about(remark);
    }

    /// A warning about another file.
    pub(super) fn warning_about(&mut self, remark: Warning) {
        push(&mut self.warnings, &mut self.more_warnings, remark);
    }

    /// Mistakes and warnings in the order of their lines.
    pub(super) fn finish(self) -> (Vec<Mistake>, Vec<Warning>) {
        let Self { ram: _, file, mut mistakes, mut warnings, more_mistakes, more_warnings } = self;
        for (remarks, more) in [(&mut mistakes, more_mistakes), (&mut warnings, more_warnings)] {
            remarks.sort_by_key(|remark| (remark.file != file, remark.line));
            if more > 0 {
                let reason = format!("and {more} more like these");
                let (file, path) = (Rc::clone(&file), String::new());
                remarks.push(Remark { file, line: 0, path, reason });
            }
        }
        (mistakes, warnings)
    }
}

fn push(remarks: &mut Vec<Remark>, more: &mut usize, remark: Remark) {
    if remarks.len() < REMARKS_MAX {
        remarks.push(remark);
    } else {
        *more += 1;
    }
}

/// Characters of a value that are shown.
const SHOWN: usize = 64;

/// A value in quotes, cut to a readable length, with nothing in it that a log or a terminal would
/// act on.
pub(super) fn shown(value: &str) -> String {
    match value.char_indices().nth(SHOWN) {
        None => format!("'{}'", plain(value)),
        Some((end, _)) => format!("'{}…'", plain(&value[..end])),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_remark_reads_as_place_option_reason() {
        let remark = |line, path: &str| Remark {
            file: "/etc/config/sluice".into(),
            line,
            path: path.to_owned(),
            reason: "no".to_owned(),
        };
        assert_eq!(
            remark(7, "sluice.wan.device").to_string(),
            "/etc/config/sluice:7: sluice.wan.device: no"
        );
        assert_eq!(remark(7, "").to_string(), "/etc/config/sluice:7: no");
        assert_eq!(remark(0, "").to_string(), "/etc/config/sluice: no");
    }

    #[test]
    fn a_shown_value_is_short_and_inert() {
        assert_eq!(shown("it's \\ \"é\""), "'it's \\ \"é\"'");
        assert_eq!(shown("a\u{1b}[2J\nb\u{202e}"), "'a\\u{1b}[2J\\u{a}b\\u{202e}'");
        assert_eq!(shown(&"x".repeat(1000)).chars().count(), SHOWN + 3);
    }
}

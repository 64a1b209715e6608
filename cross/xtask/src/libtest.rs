//! What test programs print: which lines are worth showing, and which tests failed, with their first words.
//!
//! A run of hundreds of tests is read by its failures. What tests say that hold is left out, but for the reasons of
//! those that could not run.

use std::borrow::Cow;

/// Lines that are kept of what a failed test said.
const WORDS_MAX: usize = 12;
/// Characters that are kept of such a line.
const LINE_MAX: usize = 240;

/// Follows what `cargo test -- --show-output` prints, of one test program after the other.
#[derive(Default)]
pub(crate) struct Output {
    part: Part,
    /// The test whose own output follows.
    test: String,
    failed: Vec<Failure>,
}

/// A test that did not hold.
#[derive(Debug, Eq, PartialEq)]
pub(crate) struct Failure {
    pub(crate) name: String,
    /// The first lines that it printed.
    pub(crate) words: Vec<String>,
}

#[derive(Clone, Copy, Default, Eq, PartialEq)]
enum Part {
    /// Compiling, dots.
    #[default]
    Progress,
    /// What tests printed that held, and their names.
    Held,
    /// What tests printed that failed, and their names.
    Failed,
}

impl Output {
    /// Takes a line: what is to be shown for it.
    pub(crate) fn line<'a>(&mut self, line: &'a str) -> Option<Cow<'a, str>> {
        match line {
            "successes:" => self.part = Part::Held,
            "failures:" => self.part = Part::Failed,
            _ if line.starts_with("test result: ") => self.part = Part::Progress,
            _ => {}
        }
        let heading = line.strip_prefix("---- ").and_then(|rest| rest.strip_suffix(" stdout ----"));
        if let Some(name) = heading.filter(|_| self.part != Part::Progress) {
            name.clone_into(&mut self.test);
            if self.part == Part::Failed {
                self.failed.push(Failure { name: name.to_owned(), words: Vec::new() });
            }
        } else if self.part == Part::Failed
            && let Some(failure) = self.failed.last_mut()
            && failure.words.len() < WORDS_MAX
            && !line.is_empty()
            && line != "failures:"
        {
            failure.words.push(line.chars().take(LINE_MAX).collect());
        }
        if self.part != Part::Held {
            return Some(line.into());
        }
        line.starts_with("SKIPPED: ").then(|| format!("{}: {line}", self.test).into())
    }

    /// The tests that failed so far.
    pub(crate) fn into_failed(self) -> Vec<Failure> {
        self.failed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PRINTED: &str = "\
running 3 tests
..F
successes:

---- slow stdout ----
took 3 s

---- elsewhere stdout ----
SKIPPED: needs Linux 6.6

successes:
    elsewhere
    slow

failures:

---- odd stdout ----
thread 'odd' panicked at tests/a.rs:1:
left: 1

failures:
    odd

test result: FAILED. 2 passed; 1 failed; 0 ignored
compiling";

    #[test]
    fn what_held_is_silent_and_what_could_not_run_says_which_it_was() {
        let mut output = Output::default();
        let shown: Vec<_> = PRINTED.lines().filter_map(|line| output.line(line)).collect();
        let shown = shown.join("\n");
        assert!(!shown.contains("took 3 s") && !shown.contains("    slow"), "{shown}");
        for text in ["..F", "elsewhere: SKIPPED: needs", "panicked at", "FAILED. 2", "compiling"] {
            assert!(shown.contains(text), "{text} in {shown}");
        }
    }

    #[test]
    fn a_failed_test_is_kept_with_its_first_words() {
        let mut output = Output::default();
        for line in PRINTED.lines() {
            output.line(line);
        }
        let failed = output.into_failed();
        assert_eq!(failed.len(), 1);
        let Some(Failure { name, words }) = failed.first() else { return };
        assert_eq!(name, "odd");
        assert_eq!(
            words.first().map(String::as_str),
            Some("thread 'odd' panicked at tests/a.rs:1:")
        );
        assert!(words.len() <= WORDS_MAX);
    }
}

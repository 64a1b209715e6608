//! Counting tests by what test programs print: libtest's lines and the guests' of the virtual machines.

use std::fmt;
use std::ops::AddAssign;

/// How many tests did what.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tally {
    /// Ran and held.
    pub(crate) passed: u32,
    /// Ran and did not hold.
    pub(crate) failed: u32,
    /// Could not run, with a reason.
    pub(crate) skipped: u32,
    /// Skips that the next closing line of libtest will count as passes.
    pending: u32,
}

impl Tally {
    /// Tests that really ran.
    pub(crate) const fn executed(self) -> u32 {
        self.passed + self.failed
    }

    /// Counts a line of `cargo test -- --show-output`: the closing line of each test program, and the
    /// `SKIPPED: reason` of a test that found that it cannot run, which libtest takes for a pass.
    pub(crate) fn cargo_line(&mut self, line: &str) {
        if line.starts_with("SKIPPED: ") {
            self.skipped += 1;
            self.pending += 1;
            return;
        }
        let Some(rest) = line.strip_prefix("test result: ") else {
            return;
        };
        for part in rest.split([';', '.']) {
            let mut words = part.split_whitespace();
            let (Some(Ok(number)), Some(word)) =
                (words.next().map(str::parse::<u32>), words.next())
            else {
                continue;
            };
            match word {
                "passed" => {
                    self.passed += number.saturating_sub(std::mem::take(&mut self.pending));
                }
                "failed" => self.failed += number,
                "ignored" => self.skipped += number,
                _ => {}
            }
        }
    }

    /// Counts a line of a guest: `test NAME ... ok`, `... FAILED` or `... SKIPPED: reason`. A test program of the
    /// workspace prints its skips alone on a line, after the `ok` of the test.
    pub(crate) fn guest_line(&mut self, line: &str) {
        if line.starts_with("SKIPPED: ") {
            self.skipped += 1;
            self.passed = self.passed.saturating_sub(1);
            return;
        }
        let Some((_, outcome)) =
            line.strip_prefix("test ").and_then(|test| test.split_once(" ... "))
        else {
            return;
        };
        match outcome.trim_end() {
            "ok" => self.passed += 1,
            // libtest's own word, when a test program of the workspace runs in a guest.
            "ignored" => self.skipped += 1,
            other if other.starts_with("SKIPPED: ") || other.starts_with("ignored, ") => {
                self.skipped += 1;
            }
            _ => self.failed += 1,
        }
    }
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed, {} skipped", self.passed, self.failed, self.skipped)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closing_lines_are_added_and_a_skip_inside_a_test_is_no_pass() {
        let mut tally = Tally::default();
        for line in [
            "running 7 tests",
            "test a ... ok",
            "SKIPPED: needs Linux 6.6, this is 6.1",
            "test result: ok. 6 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s",
            "test result: FAILED. 1 passed; 2 failed; 0 ignored; 0 measured; 4 filtered out; finished in 1.25s",
        ] {
            tally.cargo_line(line);
        }
        assert_eq!(tally.to_string(), "6 passed, 2 failed, 2 skipped");
        assert_eq!(tally.executed(), 8);
    }

    #[test]
    fn a_guest_is_counted_line_by_line_and_an_unknown_outcome_is_a_failure() {
        let mut tally = Tally::default();
        for line in [
            "test queue ... ok",
            "test tcx ... SKIPPED: needs Linux 6.6",
            "test nat ... FAILED",
            "test odd ... maybe",
            "test lib ... ignored, needs root",
            "a test in prose",
            "test found ... ok",
            "SKIPPED: needs root",
            "test result: ok. 3 passed; 0 failed",
        ] {
            tally.guest_line(line);
        }
        assert_eq!(tally.to_string(), "1 passed, 2 failed, 3 skipped");
    }
}

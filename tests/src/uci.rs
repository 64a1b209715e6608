//! UCI files for the agent under test.

use std::fmt::Write as _;

/// A UCI file under construction.
///
/// ```
/// use sluice_tests::uci::Uci;
/// let file = Uci::default()
///     .section("rule", "ads")
///     .option("action", "block")
///     .list("domain", &["ads.test"]);
/// assert_eq!(file.text(), "\nconfig rule 'ads'\n\toption action 'block'\n\tlist domain 'ads.test'\n");
/// ```
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Uci(String);

impl Uci {
    fn line(mut self, line: std::fmt::Arguments<'_>) -> Self {
        let _infallible = self.0.write_fmt(line);
        self
    }

    /// Opens a section; what follows belongs to it.
    #[must_use]
    pub fn section(self, kind: &str, name: &str) -> Self {
        self.line(format_args!("\nconfig {kind} '{name}'\n"))
    }

    /// An option of the section opened last.
    #[must_use]
    pub fn option(self, name: &str, value: impl std::fmt::Display) -> Self {
        self.line(format_args!("\toption {name} '{value}'\n"))
    }

    /// The values of a list of the section opened last.
    #[must_use]
    pub fn list(self, name: &str, values: &[&str]) -> Self {
        values.iter().fold(self, |this, value| this.line(format_args!("\tlist {name} '{value}'\n")))
    }

    /// The file.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.0
    }
}

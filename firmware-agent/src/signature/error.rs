//! Why a rule is not in force.

use thiserror::Error;

/// Why a rule was left out.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Refusal {
    /// It uses something outside the subset: the keywords, each once.
    Unsupported(Vec<String>),
    /// It contradicts the rule language or itself.
    Invalid(Invalid),
}

impl From<Invalid> for Refusal {
    fn from(invalid: Invalid) -> Self {
        Self::Invalid(invalid)
    }
}

impl Refusal {
    /// One thing outside the subset.
    pub(super) fn unsupported(what: impl Into<String>) -> Self {
        Self::Unsupported(vec![what.into()])
    }
}

/// What is wrong with a rule. The text never quotes the rule, which may come from a stranger's feed.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum Invalid {
    /// The rule as a whole.
    #[error("{0}")]
    Shape(&'static str),
    /// Part of the header.
    #[error("{part}: {reason}")]
    Header {
        /// Which part.
        part: &'static str,
        /// What is wrong.
        reason: &'static str,
    },
    /// An option's value, or its place among the others.
    #[error("{keyword}: {reason}")]
    Option {
        /// Whose value.
        keyword: &'static str,
        /// What is wrong.
        reason: &'static str,
    },
    /// Another rule has this number already.
    #[error("the sid is that of {file} line {line}")]
    Duplicate {
        /// Name of the file.
        file: String,
        /// Its line.
        line: u32,
    },
}

/// Shorthand of [`Invalid::Option`].
pub(super) const fn option(keyword: &'static str, reason: &'static str) -> Refusal {
    Refusal::Invalid(Invalid::Option { keyword, reason })
}

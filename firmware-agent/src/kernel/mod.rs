//! What the running kernel can do, asked by doing.
//!
//! Owns the probes, the order in which ways of doing one thing are preferred, and the report with
//! what is missing. Attaches nothing to a device of the user.

pub mod choose;
pub mod probe;
pub mod report;

pub use self::report::{Item, Need, Report};

/// The answer of one probe.
#[derive(Clone, Debug, Eq, PartialEq, serde::Serialize)]
#[serde(rename_all = "snake_case", tag = "support", content = "reason")]
pub enum Support {
    /// The kernel did it.
    Yes,
    /// The kernel cannot, and this is why; shown to the user in `status`.
    No(String),
    /// The probe itself failed (no permission, no memory), so nothing is known.
    Unknown(String),
}

impl Support {
    /// Whether the kernel did it.
    #[must_use]
    pub const fn is_yes(&self) -> bool {
        matches!(self, Self::Yes)
    }

    /// Why not; empty when it works.
    #[must_use]
    pub fn reason(&self) -> &str {
        match self {
            Self::Yes => "",
            Self::No(reason) | Self::Unknown(reason) => reason,
        }
    }
}

impl From<std::io::Result<()>> for Support {
    /// A refusal for want of permission says nothing about the kernel.
    fn from(result: std::io::Result<()>) -> Self {
        match result {
            Ok(()) => Self::Yes,
            Err(error) if matches!(error.raw_os_error(), Some(libc::EPERM | libc::EACCES)) => {
                Self::Unknown(error.to_string())
            }
            Err(error) => Self::No(error.to_string()),
        }
    }
}

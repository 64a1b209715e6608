//! Host names as they may stand in a ClientHello.

use core::fmt;

/// Longest host name (RFC 1035, section 2.3.4, without the root's dot and length bytes).
pub const NAME_MAX: usize = 253;
/// Longest part between two dots.
const LABEL_MAX: usize = 63;

/// A host name of letters, digits, hyphens, underscores and dots. Shown in lower case.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct HostName<'a>(&'a str);

impl<'a> HostName<'a> {
    /// The name in `bytes`, without the dot that may close it; `None` when no host can have it.
    ///
    /// Underscores and hyphens anywhere in a label are let through: such names are in use.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Option<Self> {
        let bytes = bytes.strip_suffix(b".").unwrap_or(bytes);
        if bytes.is_empty() || bytes.len() > NAME_MAX {
            return None;
        }
        let mut label = 0;
        for byte in bytes {
            match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' => label += 1,
                b'.' if label > 0 => label = 0,
                _ => return None,
            }
            if label > LABEL_MAX {
                return None;
            }
        }
        if label == 0 {
            return None;
        }
        core::str::from_utf8(bytes).ok().map(Self)
    }

    /// The name as the client wrote it.
    #[must_use]
    pub const fn as_written(self) -> &'a str {
        self.0
    }

    /// The name in lower case, in `buffer`.
    #[must_use]
    pub fn to_lower(self, buffer: &mut [u8; NAME_MAX]) -> &str {
        let lower = &mut buffer[..self.0.len()];
        lower.copy_from_slice(self.0.as_bytes());
        lower.make_ascii_lowercase();
        core::str::from_utf8(lower).unwrap_or_default()
    }
}

impl fmt::Display for HostName<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.to_lower(&mut [0; NAME_MAX]))
    }
}

//! Names: labels, and pointers to labels further in front (RFC 1035, section 4.1.4).

use core::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::Malformed;

/// Longest label.
pub const LABEL_MAX: usize = 63;
/// Longest name as text without escapes: 255 bytes less the first length and the root.
pub const NAME_MAX: usize = 253;
/// Pointers that a name may consist of.
pub const HOPS_MAX: usize = 16;

/// Bytes of the longest name, lengths and root included.
const WIRE_MAX: usize = NAME_MAX + 2;

/// A well-formed name in a message. Names are equal whatever the case of their letters.
#[derive(Clone, Copy)]
pub struct Name<'a> {
    message: &'a [u8],
    at: usize,
}

/// What stands at a place of a name.
enum Part<'a> {
    Root,
    Label(&'a [u8]),
    Pointer(usize),
}

fn part(message: &[u8], at: usize) -> Result<Part<'_>, Malformed> {
    let first = *message.get(at).ok_or(Malformed::Truncated)?;
    match first >> 6 {
        0 if first == 0 => Ok(Part::Root),
        0 => {
            let rest = message.get(at + 1..).unwrap_or_default();
            rest.get(..usize::from(first)).map(Part::Label).ok_or(Malformed::Truncated)
        }
        3 => {
            let second = *message.get(at + 1).ok_or(Malformed::Truncated)?;
            Ok(Part::Pointer(usize::from(first & 0x3f) << 8 | usize::from(second)))
        }
        _ => Err(Malformed::Label),
    }
}

impl<'a> Name<'a> {
    /// Reads the name at `at`. Also gives where what follows it starts.
    pub(super) fn read(
        message: &'a [u8],
        at: usize,
        may_point: bool,
    ) -> Result<(Self, usize), Malformed> {
        let (mut here, mut start) = (at, at);
        let (mut len, mut hops) = (1, 0);
        let mut end = None;
        loop {
            match part(message, here)? {
                Part::Root => {
                    return Ok((Self { message, at }, end.unwrap_or(here + 1)));
                }
                Part::Label(label) => {
                    len += label.len() + 1;
                    here += label.len() + 1;
                    if len > WIRE_MAX {
                        return Err(Malformed::NameTooLong);
                    }
                }
                Part::Pointer(target) => {
                    hops += 1;
                    // In front of all that was read of this name: no loop, and no way forward.
                    if !may_point || hops > HOPS_MAX || target >= start {
                        return Err(Malformed::Pointer);
                    }
                    end = end.or(Some(here + 2));
                    (here, start) = (target, target);
                }
            }
        }
    }

    /// Its labels, without the root.
    #[must_use]
    pub const fn labels(&self) -> Labels<'a> {
        Labels { message: self.message, at: self.at, left: WIRE_MAX }
    }

    /// Whether it is a host name: at least one label, and nothing but letters, digits, hyphens and
    /// underscores in them.
    #[must_use]
    pub fn is_host(&self) -> bool {
        let fits = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        self.labels().next().is_some() && self.labels().all(|label| label.iter().all(fits))
    }

    /// The address that a question for its name has this name for (RFC 1035, section 3.5; RFC 3596,
    /// section 2.5).
    #[must_use]
    pub fn reverse_address(&self) -> Option<IpAddr> {
        let is = |label: Option<&[u8]>, word: &[u8]| {
            label.is_some_and(|label| label.eq_ignore_ascii_case(word))
        };
        let count = self.labels().count();
        let mut labels = self.labels();
        match count {
            6 => {
                let mut octets = [0; 4];
                for octet in octets.iter_mut().rev() {
                    *octet = core::str::from_utf8(labels.next()?).ok()?.parse().ok()?;
                }
                let is_reverse = is(labels.next(), b"in-addr") && is(labels.next(), b"arpa");
                is_reverse.then(|| Ipv4Addr::from(octets).into())
            }
            34 => {
                let mut bits = 0_u128;
                for place in 0..32 {
                    let &[digit] = labels.next()? else { return None };
                    bits |= u128::from(char::from(digit).to_digit(16)?) << (4 * place);
                }
                let is_reverse = is(labels.next(), b"ip6") && is(labels.next(), b"arpa");
                is_reverse.then(|| Ipv6Addr::from(bits).into())
            }
            _ => None,
        }
    }
}

impl PartialEq for Name<'_> {
    fn eq(&self, other: &Self) -> bool {
        let (mut ours, mut theirs) = (self.labels(), other.labels());
        loop {
            match (ours.next(), theirs.next()) {
                (None, None) => return true,
                (Some(a), Some(b)) if a.eq_ignore_ascii_case(b) => {}
                _ => return false,
            }
        }
    }
}

impl Eq for Name<'_> {}

/// In lower case. Bytes that no host name has are escaped as in zone files (RFC 1035, section 5.1).
impl fmt::Display for Name<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use fmt::Write as _;
        for (number, label) in self.labels().enumerate() {
            if number > 0 {
                f.write_char('.')?;
            }
            for &byte in label {
                match byte {
                    b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'*' => {
                        f.write_char(byte.to_ascii_lowercase().into())?;
                    }
                    _ => write!(f, "\\{byte:03}")?,
                }
            }
        }
        if self.labels().next().is_none() { f.write_char('.') } else { Ok(()) }
    }
}

impl fmt::Debug for Name<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// The labels of a name.
#[derive(Clone, Debug)]
pub struct Labels<'a> {
    message: &'a [u8],
    at: usize,
    /// Bytes that a name can still have: whatever the message, this ends.
    left: usize,
}

impl<'a> Iterator for Labels<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        loop {
            match part(self.message, self.at).ok()? {
                Part::Root => return None,
                Part::Label(label) => {
                    self.at += label.len() + 1;
                    self.left = self.left.checked_sub(label.len() + 1)?;
                    return Some(label);
                }
                Part::Pointer(target) => {
                    if target >= self.at {
                        return None;
                    }
                    self.at = target;
                }
            }
        }
    }
}

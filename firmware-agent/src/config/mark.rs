//! The bits of the packet mark that belong to Sluice.

use std::fmt;
use std::str::FromStr;

/// Neighbouring bits of the packet mark and the connection mark, and the values under them.
///
/// All zero under the mask means: not decided, keep inspecting. A third bit tells the rules that a
/// packet comes back from its queue; no connection ever has it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct MarkMask(u32);

impl MarkMask {
    /// The mask itself.
    #[must_use]
    pub const fn bits(self) -> u32 {
        self.0
    }

    /// Value of a trusted flow.
    #[must_use]
    pub const fn trusted(self) -> u32 {
        self.unit()
    }

    /// Value of a blocked flow.
    #[must_use]
    pub const fn blocked(self) -> u32 {
        2 * self.unit()
    }

    /// Value of a flow that inspection gave up on.
    #[must_use]
    pub const fn undecided(self) -> u32 {
        3 * self.unit()
    }

    /// The bit of a packet whose mark is the answer from its queue.
    #[must_use]
    pub const fn answered(self) -> u32 {
        4 * self.unit()
    }

    /// `mark` with the bits under the mask set to `value`, all others kept.
    #[must_use]
    pub const fn put(self, mark: u32, value: u32) -> u32 {
        (mark & !self.0) | (value & self.0)
    }

    const fn unit(self) -> u32 {
        1 << self.0.trailing_zeros()
    }
}

impl Default for MarkMask {
    fn default() -> Self {
        Self(0x0700_0000)
    }
}

impl TryFrom<u32> for MarkMask {
    type Error = MarkMaskError;

    fn try_from(bits: u32) -> Result<Self, MarkMaskError> {
        let run = bits >> bits.trailing_zeros().min(31);
        if bits.count_ones() < 3 {
            Err(MarkMaskError::Narrow)
        } else if run & run.wrapping_add(1) != 0 {
            Err(MarkMaskError::Gap)
        } else {
            Ok(Self(bits))
        }
    }
}

impl FromStr for MarkMask {
    type Err = MarkMaskError;

    /// Reads `0x07000000` or `117440512`.
    fn from_str(text: &str) -> Result<Self, MarkMaskError> {
        let (digits, radix) = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
            Some(digits) => (digits, 16),
            None => (text, 10),
        };
        if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(MarkMaskError::Number);
        }
        u32::from_str_radix(digits, radix).ok().ok_or(MarkMaskError::Number)?.try_into()
    }
}

impl fmt::Display for MarkMask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "0x{:08x}", self.0)
    }
}

/// Why a number is no mask.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum MarkMaskError {
    /// No number of 32 bits.
    #[error("is not a number like 0x07000000")]
    Number,
    /// Fewer than three bits.
    #[error("has fewer than 3 bits: 4 states need 2, and answers of the queue another")]
    Narrow,
    /// Bits that do not touch.
    #[error("has bits that are not neighbours")]
    Gap,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_lie_under_the_mask_and_differ() {
        for bits in [0x7000_0000, 0x7, 0xe000_0000, 0x0000_0ff0, u32::MAX] {
            let mask = MarkMask::try_from(bits).unwrap();
            let values = [0, mask.trusted(), mask.blocked(), mask.undecided(), mask.answered()];
            for (index, value) in values.into_iter().enumerate() {
                assert_eq!(value & !mask.bits(), 0);
                assert_eq!(value >> bits.trailing_zeros(), index as u32);
            }
        }
        assert_eq!(MarkMask::default().undecided(), 0x0300_0000);
    }

    #[test]
    fn bits_of_others_are_kept() {
        let mask = MarkMask::try_from(0x0700_0000).unwrap();
        assert_eq!(mask.put(0xff00_ff00, mask.blocked()), 0xfa00_ff00);
        assert_eq!(mask.put(0xff, u32::MAX), 0x0700_00ff);
    }

    #[test]
    fn a_mask_has_three_neighbouring_bits_or_more() {
        for (text, error) in [
            ("0", MarkMaskError::Narrow),
            ("0x80000000", MarkMaskError::Narrow),
            ("0x1", MarkMaskError::Narrow),
            ("0x30000000", MarkMaskError::Narrow),
            ("0xd0000000", MarkMaskError::Gap),
            ("0xc0000001", MarkMaskError::Gap),
            ("", MarkMaskError::Number),
            ("0x", MarkMaskError::Number),
            ("+3", MarkMaskError::Number),
            ("-3", MarkMaskError::Number),
            ("0x100000000", MarkMaskError::Number),
            ("3f", MarkMaskError::Number),
        ] {
            assert_eq!(text.parse::<MarkMask>(), Err(error), "{text}");
        }
        assert_eq!("117440512".parse(), Ok(MarkMask::default()));
        assert_eq!("0X07000000".parse(), Ok(MarkMask::default()));
        assert_eq!(MarkMask::default().to_string().parse(), Ok(MarkMask::default()));
    }
}

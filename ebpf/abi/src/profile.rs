//! What packets of decided flows look like to those who queue them.

use bytemuck::{Pod, Zeroable};

/// How packets of a profile's flows leave the router. Only the agent writes it.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Pod, Zeroable)]
#[repr(C)]
pub struct Profile {
    /// [`Profile::DSCP`] and the six bits, or 0 to leave them alone.
    dscp: u32,
    /// The packet's priority in the kernel; 0 leaves it alone.
    pub priority: u32,
}
abi_type!(Profile, size = 8, align = 4, dscp @ 0, priority @ 4);

impl Profile {
    /// How many there are; number 0 is of flows that no rule gave one.
    pub const COUNT: u32 = 16;
    /// Marks a DSCP as present.
    const DSCP: u32 = 1 << 8;

    /// A profile; `None` leaves the DSCP of packets alone.
    #[must_use]
    pub const fn new(dscp: Option<u8>, priority: u32) -> Self {
        let dscp = match dscp {
            Some(dscp) => Self::DSCP | (dscp & 0x3f) as u32,
            None => 0,
        };
        Self { dscp, priority }
    }

    /// The six bits that packets get.
    #[inline(always)]
    #[must_use]
    pub const fn dscp(&self) -> Option<u8> {
        if self.dscp & Self::DSCP == 0 { None } else { Some((self.dscp & 0x3f) as u8) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_dscp_is_not_dscp_zero() {
        assert_eq!(Profile::default().dscp(), None);
        assert_eq!(Profile::new(Some(0), 0).dscp(), Some(0));
        assert_eq!(Profile::new(Some(46), 6).dscp(), Some(46));
        assert_eq!(Profile::new(Some(0xff), 0).dscp(), Some(0x3f), "six bits");
    }
}

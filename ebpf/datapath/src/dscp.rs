//! The DSCP of IP headers (RFC 2474), beside the ECN bits (RFC 3168).

/// The first two bytes of an IPv4 header, as they are in memory, with another DSCP.
#[inline(always)]
#[must_use]
pub const fn v4(head: u16, dscp: u8) -> u16 {
    (u16::from_be(head) & !(0x3f << 2) | ((dscp & 0x3f) as u16) << 2).to_be()
}

/// The same of an IPv6 header, where four bits of the version come first.
#[inline(always)]
#[must_use]
pub const fn v6(head: u16, dscp: u8) -> u16 {
    (u16::from_be(head) & !(0x3f << 6) | ((dscp & 0x3f) as u16) << 6).to_be()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_six_bits_change() {
        // Version 4, length 5, DSCP 46, ECN 3.
        assert_eq!(v4(0x45bb_u16.to_be(), 0), 0x4503_u16.to_be());
        assert_eq!(v4(0x4f01_u16.to_be(), 46), 0x4fb9_u16.to_be());
        // Version 6, class 0xbb, label 0xf....
        assert_eq!(v6(0x6bbf_u16.to_be(), 0), 0x603f_u16.to_be());
        assert_eq!(v6(0x601f_u16.to_be(), 46), 0x6b9f_u16.to_be());
        for dscp in 0..=255 {
            for head in [0, u16::MAX, 0x4500_u16.to_be(), 0x6abc_u16.to_be()] {
                assert_eq!(v4(v4(head, dscp), 0), v4(head, 0));
                assert_eq!(v6(head, dscp), v6(head, dscp & 0x3f));
            }
        }
    }
}

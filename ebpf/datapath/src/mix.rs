//! A keyed mixture of an address and a number, for tables that strangers must not be able to aim at.

/// Mixes both halves of an address with `number` under `key`. The upper bits of the result depend on
/// every bit, the lower ones do not.
#[inline(always)]
pub(crate) const fn mix(high: u64, low: u64, key: u32, number: u32) -> u64 {
    // One multiplication for each half of the address; the key goes through both.
    let seed = pair(key, key ^ number.wrapping_mul(0x9e37_79b1));
    let hash = (seed ^ high).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (hash ^ hash >> 32 ^ low).wrapping_mul(0xd6e8_feb8_6659_fd93)
}

/// Two words as one.
#[inline(always)]
pub(crate) const fn pair(high: u32, low: u32) -> u64 {
    (high as u64) << 32 | low as u64
}

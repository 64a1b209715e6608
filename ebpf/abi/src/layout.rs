//! A number for the layout of each type, so that a pinned map is never read as something else.
//!
//! Sizes alone do not tell: two fields that changed places leave them as they are.

/// The layout of an ABI type as a number.
pub trait Layout {
    /// Hash of name, size, alignment, and name and offset of the fields.
    const HASH: u32;
}

impl Layout for u32 {
    const HASH: Self = hash("u32", &[4], &[]);
}

/// The hash of a layout: the type's name, numbers that belong to it, and names that do.
#[must_use]
pub const fn hash(name: &str, numbers: &[usize], names: &[&str]) -> u32 {
    let mut state = text(START, name);
    let mut index = 0;
    while index < numbers.len() {
        state = number(state, numbers[index] as u32);
        index += 1;
    }
    index = 0;
    while index < names.len() {
        state = text(state, names[index]);
        index += 1;
    }
    state
}

/// The hash of a map that has keys and values of these layouts.
#[must_use]
pub const fn of_map(key: u32, value: u32) -> u32 {
    number(number(number(START, crate::ABI_VERSION), key), value)
}

// FNV-1a.
const START: u32 = 0x811c_9dc5;
const PRIME: u32 = 0x0100_0193;

const fn byte(state: u32, byte: u8) -> u32 {
    (state ^ byte as u32).wrapping_mul(PRIME)
}

const fn number(state: u32, number: u32) -> u32 {
    let [a, b, c, d] = number.to_le_bytes();
    byte(byte(byte(byte(state, a), b), c), d)
}

const fn text(mut state: u32, text: &str) -> u32 {
    let bytes = text.as_bytes();
    let mut index = 0;
    while index < bytes.len() {
        state = byte(state, bytes[index]);
        index += 1;
    }
    // Where one name ends and the next begins counts too.
    byte(state, 0xff)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::{FlowCount, FlowState};

    #[test]
    fn another_layout_of_the_same_size_has_another_hash() {
        let of = |fields: &[&str]| hash("FlowState", &[12, 4, 4, 8], fields);
        assert_eq!(of(&["", "slot", "expires_s"]), of(&["", "slot", "expires_s"]));
        assert_ne!(of(&["", "slot", "expires_s"]), of(&["", "expires_s", "slot"]));
        assert_ne!(of(&["", "slot", "expires_s"]), of(&["", "slots", "expires_s"]));
        assert_ne!(of(&["", "ab", "c"]), of(&["", "a", "bc"]));
        assert_ne!(hash("A", &[12, 4], &[]), hash("A", &[4, 12], &[]));
        assert_ne!(FlowState::HASH, FlowCount::HASH);
        assert_ne!(u32::HASH, FlowCount::HASH);
        assert_ne!(of_map(1, 2), of_map(2, 1));
        assert_ne!(of_map(1, 2), number(number(START, 1), 2), "the version counts");
    }
}

//! Whether lists fit into the memory that they may have, before any of it is taken. Pure.

use crate::text::Kib;

/// Bytes that a live address takes, whether there is one or not: the map is made for its largest
/// number (89 measured on 64 bits, up to 45 on MIPS).
const HOST_BYTES: u64 = 96;
/// Bytes that a live prefix takes (137 measured on x86, up to 243 on MIPS and arm64).
const NET_BYTES: u64 = 256;

/// What the lists need beside their image.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Live {
    /// Addresses that the map of live addresses has room for.
    pub hosts: u32,
    /// Prefixes of IPv6 that an image cannot hold.
    pub nets: u32,
}

impl Live {
    /// Bytes that they take.
    #[must_use]
    pub const fn bytes(self) -> u64 {
        self.hosts as u64 * HOST_BYTES + self.nets as u64 * NET_BYTES
    }
}

/// Bytes of lists that only observe, which are in the agent, and of what is in sets of nftables.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Observing {
    /// Of the new ones.
    pub new: u64,
    /// Of those that stay in force until the new ones are whole.
    pub in_force: u64,
}

/// Lists that need more memory than they may have.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error(
    "the lists need {} beside {} in force and {} of live entries, list_memory_kib allows {}",
    Kib(*.new), Kib(*.in_force), Kib(*.live), Kib(*.cap)
)]
pub struct TooLarge {
    /// Bytes of the new image, and of new lists that observe.
    pub new: u64,
    /// Bytes of what stays in force until the new ones are whole.
    pub in_force: u64,
    /// Bytes of what is not in an image.
    pub live: u64,
    /// Bytes that may be used.
    pub cap: u64,
}

/// Refuses an image of `new` bytes next to one of `in_force` bytes when both, the lists that observe
/// and the live entries take more than `cap_kib`.
pub fn check(
    new: u64,
    in_force: u64,
    observing: Observing,
    live: Live,
    cap_kib: u32,
) -> Result<(), TooLarge> {
    let cap = u64::from(cap_kib) * 1024;
    let live = live.bytes();
    let new = new.saturating_add(observing.new);
    let in_force = in_force.saturating_add(observing.in_force);
    // Without new lists there is nothing to make room for.
    let fits = new == 0 || new.saturating_add(in_force).saturating_add(live) <= cap;
    if fits { Ok(()) } else { Err(TooLarge { new, in_force, live, cap }) }
}

/// What lists may take on a machine with so much memory: an eighth, so that a set of 1,000,000
/// addresses can be replaced where there are 128 MiB; 2 MiB at least, 64 MiB at most.
#[must_use]
pub fn default_cap_kib(total_kib: u64) -> u32 {
    (total_kib / 8).clamp(2 << 10, 64 << 10) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cap_counts_what_is_in_force_and_what_is_live() {
        let live = Live { hosts: 1024, nets: 4 };
        let kib = |kib: u64| kib * 1024;
        // 96 KiB of addresses and 1 KiB of prefixes.
        let none = Observing::default();
        assert_eq!(check(kib(503), kib(400), none, live, 1000), Ok(()));
        assert!(check(kib(504), kib(400), none, live, 1000).is_err());
        assert!(check(kib(503), kib(401), none, live, 1000).is_err());
        assert_eq!(check(0, kib(5000), none, live, 1), Ok(()), "taking lists away needs nothing");
        assert!(check(u64::MAX, u64::MAX, none, live, u32::MAX).is_err());
        // Lists that observe count as those do that block.
        let some = |new, in_force| Observing { new: kib(new), in_force: kib(in_force) };
        assert_eq!(check(kib(500), kib(300), some(3, 100), live, 1000), Ok(()));
        assert!(check(kib(500), kib(300), some(4, 100), live, 1000).is_err());
        assert!(check(kib(500), kib(300), some(3, 101), live, 1000).is_err());
        assert!(check(0, kib(900), some(4, 0), live, 1000).is_err());
        assert_eq!(check(0, kib(900), some(0, 900), live, 1000), Ok(()));
    }

    #[test]
    fn a_refusal_shows_its_arithmetic() {
        let error = check(
            5012 * 1024,
            4900 * 1024,
            Observing::default(),
            Live { hosts: 1024, nets: 0 },
            8192,
        );
        assert_eq!(
            error.unwrap_err().to_string(),
            "the lists need 5,012 KiB beside 4,900 KiB in force and 96 KiB of live entries, \
             list_memory_kib allows 8,192 KiB"
        );
    }

    #[test]
    fn the_default_is_an_eighth_within_bounds() {
        assert_eq!(default_cap_kib(118_000), 14_750, "128 MiB less what the kernel keeps");
        assert_eq!(default_cap_kib(8_000), 2_048);
        assert_eq!(default_cap_kib(u64::MAX), 65_536);
    }
}

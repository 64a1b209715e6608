//! What the agent tells running programs.

use bytemuck::{Pod, Zeroable};

use crate::limits::Limits;

/// The one entry of `SETTINGS`. All zero, as the map is created, means: do nothing.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Pod, Zeroable)]
#[repr(C)]
pub struct Settings {
    /// [`ABI_VERSION`](crate::ABI_VERSION) of the agent that wrote it; another one means: do nothing.
    pub abi: u32,
    /// Counts configurations, so that an effect can be told from an earlier one.
    pub generation: u32,
    /// [`Settings::ENABLED`] and which lists are worth a lookup.
    pub flags: u32,
    /// Bits of the packet mark that belong to Sluice.
    pub mark_mask: u32,
    /// Value under the mask that a trusted packet gets.
    pub mark_trusted: u32,
    /// Key of the source hash, drawn when the agent starts.
    pub hash_key: u32,
    /// What sources and destinations may do on WAN interfaces.
    pub limits: Limits,
}
abi_type!(Settings, size = 184, align = 4, flags @ 8, hash_key @ 20, limits @ 24);

impl Settings {
    /// The kill switch: without this flag every program passes every packet untouched.
    pub const ENABLED: u32 = 1;
    /// `BLOCK_HOSTS` has entries.
    pub const BLOCK_HOSTS: u32 = 1 << 1;
    /// `BLOCK_NETS` has entries.
    pub const BLOCK_NETS: u32 = 1 << 2;
    /// The image of the lists has IPv4 addresses.
    pub const BULK_V4: u32 = 1 << 3;
    /// The image of the lists has IPv6 prefixes.
    pub const BULK_V6: u32 = 1 << 4;
    /// Some flows have a profile that changes their packets.
    pub const PROFILES: u32 = 1 << 5;

    /// Whether programs do their work.
    #[inline(always)]
    #[must_use]
    pub const fn is_enabled(&self) -> bool {
        self.abi == crate::ABI_VERSION && self.flags & Self::ENABLED != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zeroed_settings_and_settings_of_another_abi_are_inert() {
        assert!(!Settings::default().is_enabled());
        let mut settings =
            Settings { abi: crate::ABI_VERSION, flags: Settings::ENABLED, ..Settings::default() };
        assert!(settings.is_enabled());
        settings.abi += 1;
        assert!(!settings.is_enabled());
    }
}

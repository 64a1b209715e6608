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
    /// [`Settings::beat`] of the moment when the agent was last seen alive.
    pub heartbeat: u32,
    /// Value under the mask that a packet gets while nobody inspects.
    pub mark_unattended: u32,
    /// Value under the mask of a packet that is to be inspected whatever holds for its connection.
    pub mark_asked: u32,
}
abi_type!(Settings, size = 196, align = 4, flags @ 8, hash_key @ 20, limits @ 24, heartbeat @ 184);

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
    /// Packets that should be inspected are marked while the agent's heart does not beat.
    pub const WATCHED: u32 = 1 << 6;
    /// DNS messages of the LAN are copied to the agent: so packets of DNS are not marked as trusted.
    pub const DNS: u32 = 1 << 7;
    /// It is the programs that copy them.
    pub const COPY_DNS: u32 = 1 << 8;
    /// Nanoseconds of silence after which the agent is taken for gone: two seconds.
    pub const SILENCE_NS: u32 = 2_000_000_000;
    /// The same in [`Settings::beat`]s.
    pub const SILENCE_MAX: i32 = (Self::SILENCE_NS >> Self::BEAT_SHIFT).cast_signed();

    const BEAT_SHIFT: u32 = 20;

    /// Monotonic time in units of about a millisecond, by a shift: a division of 64 bits is dear
    /// where the processor has 32. Wraps after 52 days.
    #[inline(always)]
    #[must_use]
    pub const fn beat(now_ns: u64) -> u32 {
        (now_ns >> Self::BEAT_SHIFT) as u32
    }

    /// Whether nobody has inspected for so long that packets go past inspection.
    ///
    /// The programs' clock is that of the last tick, so the heartbeat may be ahead of it.
    #[inline(always)]
    #[must_use]
    pub const fn is_unattended(&self, now_ns: u64) -> bool {
        Self::beat(now_ns).wrapping_sub(self.heartbeat).cast_signed() > Self::SILENCE_MAX
    }

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

    #[test]
    fn an_agent_is_gone_after_two_seconds_and_never_before_its_time() {
        const SECOND: u64 = 1_000_000_000;
        // Also where the unit wraps.
        for start in [5 * SECOND, (u64::from(u32::MAX) << Settings::BEAT_SHIFT) - SECOND] {
            let settings = Settings { heartbeat: Settings::beat(start), ..Settings::default() };
            for (now, gone) in [
                (start - SECOND, false),
                (start, false),
                (start + 19 * SECOND / 10, false),
                (start + 21 * SECOND / 10, true),
                (start + 86_400 * SECOND, true),
            ] {
                assert_eq!(settings.is_unattended(now), gone, "{start} {now}");
            }
        }
    }
}

//! Lists and rates of the shield.

use bytemuck::{Pod, Zeroable};

use crate::flow::Addr;

/// Value of a blocklist entry. Only the agent writes it.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Pod, Zeroable)]
#[repr(C)]
pub struct BlockEntry {
    /// Index of the list in `LIST_HITS`, which is the order of the lists in the configuration.
    pub list: u32,
    /// `CLOCK_MONOTONIC` second from which on the entry is void; 0 means never.
    pub expires_s: u32,
}
abi_type!(BlockEntry, size = 8, align = 4, expires_s @ 4);

/// What a list dropped, one copy per CPU. Only `xdp_shield` writes it.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Pod, Zeroable)]
#[repr(C)]
pub struct ListHits {
    /// Packets dropped.
    pub packets: u64,
    /// Bytes of those packets, link header included.
    pub bytes: u64,
    /// `CLOCK_MONOTONIC` nanoseconds of the first one; 0 before it.
    pub first_ns: u64,
    /// `CLOCK_MONOTONIC` nanoseconds of the last one.
    pub last_ns: u64,
    /// Source of a packet of that moment.
    pub src: Addr,
    /// Destination of that packet.
    pub dst: Addr,
    /// Slot of the interface that it came in by.
    pub slot: u32,
    /// The timer tick of that moment, modulo 2³²: others of the same tick are only counted, without a
    /// look at the clock.
    pub tick: u32,
}
abi_type!(ListHits, size = 72, align = 8, first_ns @ 16, last_ns @ 24, src @ 32, dst @ 48, slot @ 64, tick @ 68);

/// Value of an allowlist prefix. Only the agent writes it.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Pod, Zeroable)]
#[repr(C)]
pub struct AllowEntry {
    /// Roles ([`Role::bit`](crate::attach::Role::bit)) of the interfaces where the entry counts.
    pub roles: u32,
}
abi_type!(AllowEntry, size = 4, align = 4);

/// One source's bucket in a set. `tag` 0 means free.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Pod, Zeroable)]
#[repr(C)]
pub struct Way {
    /// Hash of the source under the boot-time key; never 0 for a source.
    pub tag: u32,
    /// Tokens left, in units of 1/1024.
    pub level: u32,
    /// Millisecond of the last packet, modulo 2³².
    pub stamp_ms: u32,
    pad: u32,
}
abi_type!(Way, size = 16, align = 4, level @ 4, stamp_ms @ 8);

impl Way {
    /// A way with these fields.
    #[inline(always)]
    #[must_use]
    pub const fn new(tag: u32, level: u32, stamp_ms: u32) -> Self {
        Self { tag, level, stamp_ms, pad: 0 }
    }
}

/// Four buckets that share a hash; one cache line.
///
/// Programs on all CPUs write the same set without a lock: two packets of one source at the same
/// instant can cost one token instead of two.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Pod, Zeroable)]
#[repr(C)]
pub struct BucketSet {
    /// The ways.
    pub ways: [Way; 4],
}
abi_type!(BucketSet, size = 64, align = 4);

/// Packets per second and the burst on top; `per_second` 0 switches the limit off.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Pod, Zeroable)]
#[repr(C)]
pub struct Rate {
    /// Tokens per second, at most [`Rate::MAX`].
    pub per_second: u32,
    /// Tokens of a source that was quiet, at most [`Rate::MAX`].
    pub burst: u32,
}
abi_type!(Rate, size = 8, align = 4, burst @ 4);

impl Rate {
    /// The largest rate and burst: a level in units of 1/1024 fits 32 bits.
    pub const MAX: u32 = 4_000_000;
}

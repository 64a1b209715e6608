//! DNS messages on their way from the programs to the agent.

use bytemuck::{Pod, Zeroable};

/// Bytes of a packet that are copied at most, a power of two: a datagram of Ethernet is shorter.
pub const COPY_MAX: usize = 2048;

/// Bytes of [`MESSAGES`](crate::names::MESSAGES) when names are wanted; a page is the least.
pub const RING: u32 = 64 << 10;

/// Port of name servers, network byte order.
pub const PORT: u16 = 53_u16.to_be();

/// What is told of a packet. In a record of `MESSAGES` the packet follows, from its IP header on.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Pod, Zeroable)]
#[repr(C)]
pub struct Head {
    /// When it was seen, by the monotonic clock of the last tick.
    pub time_ns: u64,
    /// The device that it came in by or leaves by.
    pub ifindex: u32,
    /// Its length from the IP header on.
    pub wire_len: u32,
    /// How much of that follows.
    pub copied: u32,
    /// [`Head::OUT`] and [`Head::MAC`].
    pub flags: u32,
    /// Hardware address of its sender, as on the wire.
    pub mac: [u16; 3],
    /// Always 0.
    pub reserved: u16,
}
abi_type!(
    Head,
    size = 32,
    align = 8,
    time_ns @ 0,
    ifindex @ 8,
    wire_len @ 12,
    copied @ 16,
    flags @ 20,
    mac @ 24,
    reserved @ 30,
);

impl Head {
    /// The packet leaves; else it came in.
    pub const OUT: u32 = 1;
    /// The link has hardware addresses, and `mac` is one.
    pub const MAC: u32 = 1 << 1;
}

/// A record with the longest packet.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub struct Message {
    /// What is told of the packet.
    pub head: Head,
    /// The packet.
    pub packet: [u8; COPY_MAX],
}
abi_type!(Message, size = 2080, align = 8, head @ 0, packet @ 32);

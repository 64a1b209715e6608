//! The packets of tests of programs: one conversation, in whatever it is carried.

use crate::frame::{Frame, tcp_flag};

/// What XDP programs return.
pub const XDP_DROP: u32 = 1;
/// What XDP programs return.
pub const XDP_PASS: u32 = 2;
/// What classifiers return: the next one decides.
pub const TC_ACT_UNSPEC: i32 = -1;
/// What classifiers return for a drop.
pub const TC_ACT_SHOT: i32 = 2;

/// Source of the conversation.
pub const SRC4: &str = "192.0.2.1";
/// Its destination.
pub const DST4: &str = "198.51.100.7";
/// Source of the conversation over IPv6.
pub const SRC6: &str = "2001:db8::1";
/// Its destination.
pub const DST6: &str = "2001:db8:1::7";

/// A frame from one station to another.
#[must_use]
pub fn ethernet() -> Frame {
    Frame::ethernet([2; 6], [4; 6])
}

/// With the addresses of the conversation.
#[must_use]
pub fn v4(frame: Frame) -> Frame {
    frame.addresses(address(SRC4), address(DST4))
}

/// With the addresses of the conversation over IPv6.
#[must_use]
pub fn v6(frame: Frame) -> Frame {
    frame.addresses(address(SRC6), address(DST6))
}

fn address(text: &str) -> std::net::IpAddr {
    text.parse().expect("the address is one of those above")
}

/// Some data over TCP.
#[must_use]
pub fn tcp(frame: Frame) -> Frame {
    frame.tcp(0x1234, 443, tcp_flag::ACK).payload(b"payload")
}

/// Some data over UDP.
#[must_use]
pub fn udp(frame: Frame) -> Frame {
    frame.udp(0x1234, 443).payload(b"payload")
}

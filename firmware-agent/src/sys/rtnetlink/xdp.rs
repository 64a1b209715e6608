//! XDP in the hardware, which has no links: set and taken away by a message.

use std::os::fd::{AsRawFd as _, BorrowedFd};

use super::{Result, ask};
use crate::sys::netlink::{Builder, flag};

const IFLA_XDP: u16 = 43;
const IFLA_XDP_FD: u16 = 1;
const IFLA_XDP_FLAGS: u16 = 3;
const IFLA_XDP_EXPECTED_FD: u16 = 8;
const UPDATE_IF_NOEXIST: u32 = 1;
const HW_MODE: u32 = 1 << 3;
const REPLACE: u32 = 1 << 4;

/// Puts a program into the hardware of a device: where none is, or in the place of `instead`.
pub fn set_hardware_xdp(
    ifindex: u32,
    prog: BorrowedFd<'_>,
    instead: Option<BorrowedFd<'_>>,
) -> Result<()> {
    set(ifindex, prog.as_raw_fd(), instead)
}

/// Takes the program `prog` out of the hardware of a device.
pub fn remove_hardware_xdp(ifindex: u32, prog: BorrowedFd<'_>) -> Result<()> {
    set(ifindex, -1, Some(prog))
}

fn set(ifindex: u32, prog: i32, instead: Option<BorrowedFd<'_>>) -> Result<()> {
    let mut header = [0_u8; 16]; // struct ifinfomsg
    header[4..8].copy_from_slice(&ifindex.to_ne_bytes());
    let flags = HW_MODE | if instead.is_some() { REPLACE } else { UPDATE_IF_NOEXIST };
    let attributes = |request: &mut Builder| {
        request.nested(IFLA_XDP, |xdp| {
            xdp.attr(IFLA_XDP_FD, &prog.to_ne_bytes());
            xdp.attr(IFLA_XDP_FLAGS, &flags.to_ne_bytes());
            if let Some(instead) = instead {
                xdp.attr(IFLA_XDP_EXPECTED_FD, &instead.as_raw_fd().to_ne_bytes());
            }
        });
    };
    ask(libc::RTM_SETLINK, flag::ACK, &header, attributes, |_, _| {})
}

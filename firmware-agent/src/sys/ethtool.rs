//! What a driver says about a device, by the calls of ethtool. The device is one of the calling
//! thread's network namespace.

use std::io;
use std::os::fd::AsRawFd as _;

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

const SIOCETHTOOL: libc::Ioctl = 0x8946;
const ETHTOOL_GFLAGS: u32 = 0x25;
const ETHTOOL_GCHANNELS: u32 = 0x3c;
const FLAG_RXVLAN: u32 = 1 << 8;

/// Whether the driver takes VLAN tags off the frames that arrive.
pub fn strips_tags(device: &str) -> io::Result<bool> {
    #[repr(C)]
    struct Value {
        command: u32,
        data: u32,
    }
    let mut value = Value { command: ETHTOOL_GFLAGS, data: 0 };
    ask(device, &mut value)?;
    Ok(value.data & FLAG_RXVLAN != 0)
}

/// Receive queues in use; `None` where the driver does not say.
pub fn rx_queues(device: &str) -> io::Result<Option<u32>> {
    #[repr(C)]
    #[derive(Default)]
    struct Channels {
        command: u32,
        most: [u32; 4],
        rx: u32,
        tx: u32,
        other: u32,
        combined: u32,
    }
    let mut channels = Channels { command: ETHTOOL_GCHANNELS, ..Channels::default() };
    match ask(device, &mut channels) {
        Ok(()) => Ok(Some(channels.rx.saturating_add(channels.combined))),
        Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => Ok(None),
        Err(error) => Err(error),
    }
}

/// One call; `T` starts with the command and is what that command reads and writes.
fn ask<T>(device: &str, data: &mut T) -> io::Result<()> {
    #[repr(C)]
    struct Request {
        name: [u8; libc::IFNAMSIZ],
        data: *mut libc::c_void,
        // The rest of the union in struct ifreq.
        rest: [u64; 2],
    }
    let mut name = [0; libc::IFNAMSIZ];
    if device.len() >= name.len() {
        return Err(io::Error::from_raw_os_error(libc::ENODEV));
    }
    for (to, from) in name.iter_mut().zip(device.bytes()) {
        *to = from;
    }
    let mut request = Request { name, data: std::ptr::from_mut(data).cast(), rest: [0; 2] };
    let fd = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
    // SAFETY: the request is as long as the kernel's, and what it points to is what the command, its
    // first field, takes.
    let result = unsafe { libc::ioctl(fd.as_raw_fd(), SIOCETHTOOL, &raw mut request) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_device_keeps_its_tags_and_others_do_not_exist() {
        assert!(!strips_tags("lo").unwrap());
        assert_eq!(rx_queues("lo").unwrap(), None);
        for name in ["sluice-none", "a name longer than fifteen bytes"] {
            assert_eq!(strips_tags(name).unwrap_err().raw_os_error(), Some(libc::ENODEV), "{name}");
        }
    }
}

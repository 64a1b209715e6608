//! A PPPoE session and a tunnel device, made by hand: no daemon, no negotiation.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd, RawFd};

/// `_IOR('t', number, int)` and `_IOW('t', number, int)`, which are the same on the architectures of the tests but MIPS.
const fn ppp(direction: u32, number: u32) -> libc::c_ulong {
    (direction << 30 | 4 << 16 | (b't' as u32) << 8 | number) as libc::c_ulong
}
const WRITE: u32 = 1;
const READ: u32 = 2;

fn check(result: libc::c_int) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Asks about or sets a number of a descriptor of PPP.
fn number(fd: RawFd, request: libc::c_ulong, value: &mut libc::c_int) -> io::Result<()> {
    // SAFETY: the request reads or writes one int, which lives through the call.
    check(unsafe { libc::ioctl(fd, request as _, std::ptr::from_mut(value)) })
}

/// A PPPoE session with its PPP device, which goes with it.
#[derive(Debug)]
pub struct Session {
    _socket: OwnedFd,
    _channel: File,
    _unit: File,
    number: libc::c_int,
}

impl Session {
    /// A session on an Ethernet device of this thread's namespace, as if both ends had agreed on its number.
    pub fn open(device: &str, far: [u8; 6], session: u16) -> io::Result<Self> {
        #[repr(C, packed)]
        struct Address {
            family: u16,
            protocol: u32,
            session: u16,
            far: [u8; 6],
            device: [u8; 16],
        }
        const AF_PPPOX: libc::c_int = 24;
        // SAFETY: the call has no pointers; what it returns is checked, and belongs to nobody else.
        let socket = unsafe {
            let fd = libc::socket(AF_PPPOX, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0);
            check(fd)?;
            OwnedFd::from_raw_fd(fd)
        };
        let mut address = Address {
            family: AF_PPPOX as u16,
            protocol: 0,
            session: session.to_be(),
            far,
            device: [0; 16],
        };
        address.device[..device.len()].copy_from_slice(device.as_bytes());
        // SAFETY: the address lives through the call, and its length is given.
        check(unsafe {
            libc::connect(
                socket.as_raw_fd(),
                (&raw const address).cast(),
                size_of::<Address>() as libc::socklen_t,
            )
        })?;
        let mut channel = 0;
        number(socket.as_raw_fd(), ppp(READ, 55), &mut channel)?; // PPPIOCGCHAN
        let open = || OpenOptions::new().read(true).write(true).open("/dev/ppp");
        let (lower, upper) = (open()?, open()?);
        number(lower.as_raw_fd(), ppp(WRITE, 56), &mut channel)?; // PPPIOCATTCHAN
        let mut unit = -1;
        number(upper.as_raw_fd(), ppp(READ | WRITE, 62), &mut unit)?; // PPPIOCNEWUNIT
        number(lower.as_raw_fd(), ppp(WRITE, 58), &mut unit)?; // PPPIOCCONNECT
        Ok(Self { _socket: socket, _channel: lower, _unit: upper, number: unit })
    }

    /// The PPP device.
    #[must_use]
    pub fn device(&self) -> String {
        format!("ppp{}", self.number)
    }
}

/// A device without link header; what is written to the file arrives on it.
#[derive(Debug)]
pub struct Tun(pub File);

impl Tun {
    /// Makes one in this thread's namespace.
    pub fn open(name: &str) -> io::Result<Self> {
        #[repr(C)]
        struct Request {
            name: [u8; 16],
            flags: u16,
            rest: [u8; 22],
        }
        const TUNSETIFF: libc::c_ulong = 0x4004_54ca;
        const IFF_TUN: u16 = 1;
        const IFF_NO_PI: u16 = 0x1000;
        let file = OpenOptions::new().read(true).write(true).open("/dev/net/tun")?;
        let mut request = Request { name: [0; 16], flags: IFF_TUN | IFF_NO_PI, rest: [0; 22] };
        request.name[..name.len()].copy_from_slice(name.as_bytes());
        // SAFETY: the request is a struct ifreq, which lives through the call.
        check(unsafe { libc::ioctl(file.as_raw_fd(), TUNSETIFF as _, &raw mut request) })?;
        Ok(Self(file))
    }
}

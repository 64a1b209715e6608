//! Devices and frames made by this process alone, for machines that have no iproute2.

#![expect(
    clippy::missing_panics_doc,
    clippy::unwrap_used,
    reason = "a test ends where what it needs is missing"
)]

use std::fs;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

use nix::sched::{CloneFlags, unshare};
use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, socket};
use sluice::sys::netlink::{Builder, Socket, flag};
use sluice::sys::rtnetlink::{self, Device};

/// Where devices of the simulator are made and removed.
const SIMULATOR: &str = "/sys/bus/netdevsim";

/// Runs `work` on a thread with a network namespace of its own, which ends with it.
pub fn alone<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            work()
        });
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// A cable between two devices of this namespace, both up.
pub fn cable(ends: [&str; 2]) {
    const RTM_NEWLINK: u16 = 16;
    const CREATE: u16 = 0x400 | 0x200;
    let name = |end: &str| [end.as_bytes(), b"\0"].concat();
    ask(RTM_NEWLINK, CREATE, &[0; 16], |request| {
        request.attr(3, &name(ends[0]));
        request.nested(18, |info| {
            info.attr(1, b"veth\0");
            info.nested(2, |data| {
                // VETH_INFO_PEER: a header, then attributes.
                let mut peer = vec![0_u8; 16];
                let name = name(ends[1]);
                peer.extend_from_slice(&(name.len() as u16 + 4).to_ne_bytes());
                peer.extend_from_slice(&3_u16.to_ne_bytes());
                peer.extend_from_slice(&name);
                data.attr(1, &peer);
            });
        });
    });
    for end in ends {
        up(&device(end));
    }
}

/// Switches a device on.
pub fn up(device: &Device) {
    const RTM_NEWLINK: u16 = 16;
    const IFF_UP: u32 = 1;
    let mut header = [0_u8; 16];
    header[4..8].copy_from_slice(&device.ifindex.to_ne_bytes());
    header[8..12].copy_from_slice(&IFF_UP.to_ne_bytes());
    header[12..16].copy_from_slice(&IFF_UP.to_ne_bytes());
    ask(RTM_NEWLINK, 0, &header, |_| {});
}

/// A device of this namespace.
#[must_use]
pub fn device(name: &str) -> Device {
    rtnetlink::device_by_name(name).unwrap().unwrap()
}

fn ask(kind: u16, flags: u16, header: &[u8], attributes: impl FnOnce(&mut Builder)) {
    let mut request = Builder::default();
    request.message(kind, flag::REQUEST | flag::ACK | flags, 1, header);
    attributes(&mut request);
    let socket = Socket::open(SockProtocol::NetlinkRoute, 0).unwrap();
    socket.request(request.bytes(), 1, &mut [0; 4096], |_| ()).unwrap();
}

/// A socket that puts frames on a device of this namespace.
#[must_use]
pub fn injector(device: &Device) -> crate::raw::Injector {
    let flags = SockFlag::SOCK_CLOEXEC;
    let protocol: Option<SockProtocol> = None;
    let fd: OwnedFd = socket(AddressFamily::Packet, SockType::Raw, flags, protocol).unwrap();
    crate::raw::Injector::bound(fd, device.ifindex).unwrap()
}

/// A network card that takes programs into its hardware, though it never runs them: netdevsim.
#[derive(Debug)]
pub struct Card {
    number: u32,
    /// Its device, in the namespace where it was made.
    pub device: Device,
}

impl Card {
    /// Whether this kernel has such cards.
    #[must_use]
    pub fn exists() -> bool {
        Path::new(SIMULATOR).exists()
    }

    /// Plugs one in.
    #[must_use]
    pub fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let known: Vec<u32> = devices().iter().map(|device| device.ifindex).collect();
        fs::write(format!("{SIMULATOR}/new_device"), format!("{number} 1")).unwrap();
        let is_new = |device: &Device| !known.contains(&device.ifindex);
        let device = devices().into_iter().find(is_new).unwrap();
        Self { number, device }
    }

    /// Its device as it is now.
    #[must_use]
    pub fn now(&self) -> Device {
        devices().into_iter().find(|device| device.ifindex == self.device.ifindex).unwrap()
    }
}

impl Default for Card {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Card {
    fn drop(&mut self) {
        // It goes with the machine at the latest.
        let _gone = fs::write(format!("{SIMULATOR}/del_device"), self.number.to_string());
    }
}

fn devices() -> Vec<Device> {
    rtnetlink::devices().unwrap()
}

/// A program for the card that passes every packet and is none of Sluice's.
#[must_use]
pub fn foreign_program(card: &Card) -> OwnedFd {
    // r0 = XDP_PASS; exit.
    let mut code = [[0_u8; 8]; 2];
    code[0][0] = 0xb7;
    code[0][4..].copy_from_slice(&2_i32.to_ne_bytes());
    code[1][0] = 0x95;
    let program = sluice::sys::bpf::load_on(card.device.ifindex, "foreign", c"MIT", &code).unwrap();
    rtnetlink::set_hardware_xdp(card.device.ifindex, program.as_fd(), None).unwrap();
    program
}

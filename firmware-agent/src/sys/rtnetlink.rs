//! Devices, clsact and `cls_bpf` through rtnetlink: what the data path attaches to. Addresses and
//! default routes: what it must leave alone.

mod address;
mod neighbour;
mod watch;
mod xdp;

use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd};

use nix::sys::socket::SockProtocol;

use super::netlink::{Attr, Attrs, Builder, RequestError, Socket, flag};

pub use self::address::{Address, Gateway, addresses, default_gateways};
pub use self::neighbour::{Neighbour, neighbours};
pub use self::watch::{Change, Watch};
pub use self::xdp::{remove_hardware_xdp, set_hardware_xdp};

/// XDP on a device.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Xdp {
    /// Program in the driver; 0 for none.
    pub native: u32,
    /// Program in the network stack; 0 for none.
    pub generic: u32,
    /// Program in the hardware; 0 for none.
    pub hardware: u32,
}

/// A network device.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Device {
    /// Index; never reused while the namespace lives.
    pub ifindex: u32,
    /// Name, which an administrator can change.
    pub name: String,
    /// `ARPHRD_*` number.
    pub hardware: u16,
    /// Index of the bridge or bond it belongs to; 0 for none.
    pub master: u32,
    /// Kind of a virtual device: `bridge`, `veth`, …
    pub kind: String,
    /// Index of the device that it stands on, as a VLAN on a port does; 0 for none, or one that is in
    /// another namespace. The other end of a veth is here too.
    pub lower: u32,
    /// Largest packet that it carries.
    pub mtu: u32,
    /// Frames received.
    pub rx_packets: u64,
    /// Bytes received.
    pub rx_bytes: u64,
    /// Bytes sent.
    pub tx_bytes: u64,
    /// XDP programs.
    pub xdp: Xdp,
}

/// Which packets of a device a filter sees.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Side {
    /// Those that arrive.
    Ingress,
    /// Those that leave.
    Egress,
}

impl Side {
    const fn parent(self) -> u32 {
        match self {
            Self::Ingress => 0xffff_fff2,
            Self::Egress => 0xffff_fff3,
        }
    }
}

/// A `cls_bpf` filter.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Filter {
    /// Priority.
    pub priority: u16,
    /// Handle.
    pub handle: u32,
    /// Name that was given when it was added.
    pub name: String,
    /// Id of the program.
    pub prog_id: u32,
}

const DUMP: u16 = 0x300;
const CREATE: u16 = 0x400;
const EXCL: u16 = 0x200;
/// Bytes of `struct ifinfomsg`.
const IFINFOMSG: usize = 16;
/// Number of the only request on a socket.
const SEQUENCE: u32 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_LINK: u16 = 5;
const IFLA_MASTER: u16 = 10;
const IFLA_LINKINFO: u16 = 18;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_STATS64: u16 = 23;
const IFLA_LINK_NETNSID: u16 = 37;
const IFLA_XDP: u16 = 43;
const IFLA_XDP_ATTACHED: u16 = 2;
const IFLA_XDP_PROG_ID: u16 = 4;
const IFLA_XDP_DRV_PROG_ID: u16 = 5;
const IFLA_XDP_SKB_PROG_ID: u16 = 6;
const IFLA_XDP_HW_PROG_ID: u16 = 7;
const TCA_KIND: u16 = 1;
const TCA_OPTIONS: u16 = 2;
const TCA_BPF_FD: u16 = 6;
const TCA_BPF_NAME: u16 = 7;
const TCA_BPF_FLAGS: u16 = 8;
const TCA_BPF_ID: u16 = 11;
const ACT_DIRECT: u32 = 1;
const CLSACT_HANDLE: u32 = 0xffff_0000;
const CLSACT_PARENT: u32 = 0xffff_fff1;

type Result<T> = std::result::Result<T, RequestError>;

/// Every device of the namespace.
pub fn devices() -> Result<Vec<Device>> {
    let mut devices = Vec::new();
    ask(
        libc::RTM_GETLINK,
        DUMP,
        &[0; IFINFOMSG],
        |_| {},
        |kind, body| {
            if kind == libc::RTM_NEWLINK {
                devices.extend(device(body));
            }
        },
    )?;
    Ok(devices)
}

/// The device called `name`, if there is one.
pub fn device_by_name(name: &str) -> Result<Option<Device>> {
    let name = terminated(name)?;
    let mut found = None;
    let answer = ask(
        libc::RTM_GETLINK,
        flag::ACK,
        &[0; IFINFOMSG],
        |request| request.attr(IFLA_IFNAME, &name),
        |kind, body| {
            if kind == libc::RTM_NEWLINK {
                found = device(body);
            }
        },
    );
    match answer {
        Ok(()) => Ok(found),
        // No such device, or a name that no device can have.
        Err(error) if matches!(error.errno(), Some(libc::ENODEV | libc::ERANGE | libc::EINVAL)) => {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// Adds the clsact qdisc; `false` when the device has one already.
pub fn add_clsact(ifindex: u32) -> Result<bool> {
    let header = tcmsg(ifindex, CLSACT_HANDLE, CLSACT_PARENT, 0);
    let kind = |request: &mut Builder| request.attr(TCA_KIND, b"clsact\0");
    let flags = flag::ACK | CREATE | EXCL;
    match ask(libc::RTM_NEWQDISC, flags, &header, kind, |_, _| {}) {
        Ok(()) => Ok(true),
        Err(error) if error.errno() == Some(libc::EEXIST) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Removes the clsact qdisc and every filter in it.
pub fn remove_clsact(ifindex: u32) -> Result<()> {
    let header = tcmsg(ifindex, CLSACT_HANDLE, CLSACT_PARENT, 0);
    let kind = |request: &mut Builder| request.attr(TCA_KIND, b"clsact\0");
    ask(libc::RTM_DELQDISC, flag::ACK, &header, kind, |_, _| {})
}

/// Adds a filter, or with `replace` puts another program into an existing one.
pub fn add_filter(
    ifindex: u32,
    side: Side,
    filter: (u16, u32),
    name: &str,
    prog: BorrowedFd<'_>,
    replace: bool,
) -> Result<()> {
    let name = terminated(name)?;
    let flags = if replace { flag::ACK } else { flag::ACK | CREATE | EXCL };
    let header = tcmsg(ifindex, filter.1, side.parent(), filter_info(filter.0));
    let attributes = |request: &mut Builder| {
        request.attr(TCA_KIND, b"bpf\0");
        request.nested(TCA_OPTIONS, |options| {
            options.attr(TCA_BPF_FD, &prog.as_raw_fd().to_ne_bytes());
            options.attr(TCA_BPF_NAME, &name);
            options.attr(TCA_BPF_FLAGS, &ACT_DIRECT.to_ne_bytes());
        });
    };
    ask(libc::RTM_NEWTFILTER, flags, &header, attributes, |_, _| {})
}

/// Removes a filter.
pub fn remove_filter(ifindex: u32, side: Side, filter: (u16, u32)) -> Result<()> {
    let header = tcmsg(ifindex, filter.1, side.parent(), filter_info(filter.0));
    ask(libc::RTM_DELTFILTER, flag::ACK, &header, |_| {}, |_, _| {})
}

/// The filters on one side of a device. A kind other than `cls_bpf` has an empty name and no
/// program.
pub fn filters(ifindex: u32, side: Side) -> Result<Vec<Filter>> {
    let mut filters = Vec::new();
    let header = tcmsg(ifindex, 0, side.parent(), 0);
    ask(
        libc::RTM_GETTFILTER,
        DUMP,
        &header,
        |_| {},
        |kind, body| {
            if kind == libc::RTM_NEWTFILTER {
                filters.extend(filter(body));
            }
        },
    )?;
    Ok(filters)
}

fn filter_info(priority: u16) -> u32 {
    let every_protocol = (libc::ETH_P_ALL as u16).to_be();
    u32::from(priority) << 16 | u32::from(every_protocol)
}

fn device(body: &[u8]) -> Option<Device> {
    let header = body.get(..IFINFOMSG)?;
    let mut device = Device {
        ifindex: u32_at(header, 4)?,
        hardware: u16::from_ne_bytes([header[2], header[3]]),
        ..Device::default()
    };
    let mut is_elsewhere = false;
    for Attr { kind, value } in Attrs::new(&body[IFINFOMSG..]) {
        match kind {
            IFLA_MTU => device.mtu = u32_at(value, 0)?,
            IFLA_LINK => device.lower = u32_at(value, 0)?,
            IFLA_LINK_NETNSID => is_elsewhere = true,
            IFLA_IFNAME => device.name = text(value),
            IFLA_MASTER => device.master = u32_at(value, 0)?,
            IFLA_LINKINFO => {
                for Attr { kind, value } in Attrs::new(value) {
                    if kind == IFLA_INFO_KIND {
                        device.kind = text(value);
                    }
                }
            }
            // struct rtnl_link_stats64: packets received and sent, bytes received and sent.
            IFLA_STATS64 => {
                device.rx_packets = u64_at(value, 0)?;
                device.rx_bytes = u64_at(value, 16)?;
                device.tx_bytes = u64_at(value, 24)?;
            }
            IFLA_XDP => device.xdp = xdp(value),
            _ => {}
        }
    }
    // Devices that stand on nothing name themselves.
    if is_elsewhere || device.lower == device.ifindex {
        device.lower = 0;
    }
    Some(device)
}

fn xdp(value: &[u8]) -> Xdp {
    let mut xdp = Xdp::default();
    let (mut mode, mut id) = (0, 0);
    for Attr { kind, value } in Attrs::new(value) {
        let number = u32_at(value, 0).unwrap_or(0);
        match kind {
            IFLA_XDP_ATTACHED => mode = value.first().copied().unwrap_or(0),
            IFLA_XDP_PROG_ID => id = number,
            IFLA_XDP_DRV_PROG_ID => xdp.native = number,
            IFLA_XDP_SKB_PROG_ID => xdp.generic = number,
            IFLA_XDP_HW_PROG_ID => xdp.hardware = number,
            _ => {}
        }
    }
    match mode {
        1 if xdp.native == 0 => xdp.native = id,
        2 if xdp.generic == 0 => xdp.generic = id,
        3 if xdp.hardware == 0 => xdp.hardware = id,
        _ => {}
    }
    xdp
}

fn filter(body: &[u8]) -> Option<Filter> {
    let header = body.get(..20)?; // struct tcmsg
    let handle = u32_at(header, 8)?;
    let mut filter = Filter {
        priority: (u32_at(header, 16)? >> 16) as u16,
        handle,
        name: String::new(),
        prog_id: 0,
    };
    for Attr { kind, value } in Attrs::new(&body[20..]) {
        if kind != TCA_OPTIONS {
            continue;
        }
        for Attr { kind, value } in Attrs::new(value) {
            match kind {
                TCA_BPF_NAME => filter.name = text(value),
                TCA_BPF_ID => filter.prog_id = u32_at(value, 0)?,
                _ => {}
            }
        }
    }
    // A dump also lists the priority itself, as handle 0.
    (handle != 0).then_some(filter)
}

fn tcmsg(ifindex: u32, handle: u32, parent: u32, info: u32) -> Vec<u8> {
    let mut header = vec![0; 4]; // family
    for field in [ifindex, handle, parent, info] {
        header.extend_from_slice(&field.to_ne_bytes());
    }
    header
}

/// One request on a socket of its own: the socket belongs to the namespace of the thread.
fn ask(
    kind: u16,
    flags: u16,
    header: &[u8],
    attributes: impl FnOnce(&mut Builder),
    mut each: impl FnMut(u16, &[u8]),
) -> Result<()> {
    let mut request = Builder::default();
    request.message(kind, flag::REQUEST | flags, SEQUENCE, header);
    attributes(&mut request);
    // The kernel fills up to 32 KiB of a dump into one datagram, if the reader has room.
    let mut buffer = vec![0; 32 * 1024 + 1];
    let socket = Socket::open(SockProtocol::NetlinkRoute, 0)?;
    socket
        .request(request.bytes(), SEQUENCE, &mut buffer, |message| each(message.kind, message.body))
}

fn u32_at(bytes: &[u8], offset: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(offset..offset + 4)?.try_into().ok()?))
}

fn u64_at(bytes: &[u8], offset: usize) -> Option<u64> {
    Some(u64::from_ne_bytes(bytes.get(offset..offset + 8)?.try_into().ok()?))
}

fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}

fn terminated(name: &str) -> io::Result<Vec<u8>> {
    if name.is_empty() || name.contains('\0') {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    Ok([name.as_bytes(), b"\0"].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_device_is_found_by_name_and_in_the_list() {
        let lo = device_by_name("lo").unwrap().expect("every namespace has one");
        assert_eq!((lo.name.as_str(), lo.hardware), ("lo", 772));
        assert!(devices().unwrap().iter().any(|device| device.ifindex == lo.ifindex));
    }

    #[test]
    fn a_device_that_cannot_exist_is_absent_rather_than_an_error() {
        for name in ["sluice-none", "a name longer than fifteen bytes"] {
            assert_eq!(device_by_name(name).unwrap(), None, "{name}");
        }
        assert!(device_by_name("").is_err() && device_by_name("a\0b").is_err());
    }
}

//! Devices, clsact and cls_bpf through rtnetlink: what the data path attaches to.

use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd};

use nix::sys::socket::SockProtocol;

use super::request::{Request, Socket, attributes, terminated, text, u32_at, u64_at};

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
    /// Frames received.
    pub rx_packets: u64,
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

/// A cls_bpf filter.
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

const IFLA_IFNAME: u16 = 3;
const IFLA_MASTER: u16 = 10;
const IFLA_LINKINFO: u16 = 18;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_STATS64: u16 = 23;
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
const NESTED: u16 = 0x8000;
const CLSACT_HANDLE: u32 = 0xffff_0000;
const CLSACT_PARENT: u32 = 0xffff_fff1;

/// Every device of the namespace.
pub fn devices() -> io::Result<Vec<Device>> {
    let mut request = Request::new(libc::RTM_GETLINK, libc::NLM_F_DUMP);
    request.push(&[0; 16]); // struct ifinfomsg
    let mut devices = Vec::new();
    ask(request, |kind, body| {
        if kind == libc::RTM_NEWLINK {
            devices.extend(device(body));
        }
    })?;
    Ok(devices)
}

/// The device called `name`, if there is one.
pub fn device_by_name(name: &str) -> io::Result<Option<Device>> {
    let mut request = Request::new(libc::RTM_GETLINK, 0);
    request.push(&[0; 16]);
    request.attribute(IFLA_IFNAME, &terminated(name)?);
    let mut found = None;
    match ask(request, |kind, body| {
        if kind == libc::RTM_NEWLINK {
            found = device(body);
        }
    }) {
        Ok(()) => Ok(found),
        Err(error) if error.raw_os_error() == Some(libc::ENODEV) => Ok(None),
        // A name that no device can have.
        Err(error) if matches!(error.raw_os_error(), Some(libc::ERANGE | libc::EINVAL)) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Adds the clsact qdisc; `false` when the device has one already.
pub fn add_clsact(ifindex: u32) -> io::Result<bool> {
    let flags = libc::NLM_F_CREATE | libc::NLM_F_EXCL;
    let mut request = Request::new(libc::RTM_NEWQDISC, flags);
    tcmsg(&mut request, ifindex, CLSACT_HANDLE, CLSACT_PARENT, 0);
    request.attribute(TCA_KIND, b"clsact\0");
    match ask(request, |_, _| {}) {
        Ok(()) => Ok(true),
        Err(error) if error.raw_os_error() == Some(libc::EEXIST) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Removes the clsact qdisc and every filter in it.
pub fn remove_clsact(ifindex: u32) -> io::Result<()> {
    let mut request = Request::new(libc::RTM_DELQDISC, 0);
    tcmsg(&mut request, ifindex, CLSACT_HANDLE, CLSACT_PARENT, 0);
    request.attribute(TCA_KIND, b"clsact\0");
    ask(request, |_, _| {})
}

/// Adds a filter, or with `replace` puts another program into an existing one.
pub fn add_filter(
    ifindex: u32,
    side: Side,
    filter: (u16, u32),
    name: &str,
    prog: BorrowedFd<'_>,
    replace: bool,
) -> io::Result<()> {
    let flags = if replace { 0 } else { libc::NLM_F_CREATE | libc::NLM_F_EXCL };
    let mut request = Request::new(libc::RTM_NEWTFILTER, flags);
    tcmsg(&mut request, ifindex, filter.1, side.parent(), filter_info(filter.0));
    request.attribute(TCA_KIND, b"bpf\0");
    let mut options = Request::default();
    options.attribute(TCA_BPF_FD, &prog.as_raw_fd().to_ne_bytes());
    options.attribute(TCA_BPF_NAME, &terminated(name)?);
    options.attribute(TCA_BPF_FLAGS, &ACT_DIRECT.to_ne_bytes());
    request.attribute(TCA_OPTIONS | NESTED, &options.bytes);
    ask(request, |_, _| {})
}

/// Removes a filter.
pub fn remove_filter(ifindex: u32, side: Side, filter: (u16, u32)) -> io::Result<()> {
    let mut request = Request::new(libc::RTM_DELTFILTER, 0);
    tcmsg(&mut request, ifindex, filter.1, side.parent(), filter_info(filter.0));
    ask(request, |_, _| {})
}

/// The filters on one side of a device. A kind other than cls_bpf has an empty name and no program.
pub fn filters(ifindex: u32, side: Side) -> io::Result<Vec<Filter>> {
    let mut request = Request::new(libc::RTM_GETTFILTER, libc::NLM_F_DUMP);
    tcmsg(&mut request, ifindex, 0, side.parent(), 0);
    let mut filters = Vec::new();
    ask(request, |kind, body| {
        if kind == libc::RTM_NEWTFILTER {
            filters.extend(filter(body));
        }
    })?;
    Ok(filters)
}

fn filter_info(priority: u16) -> u32 {
    let every_protocol = (libc::ETH_P_ALL as u16).to_be();
    u32::from(priority) << 16 | u32::from(every_protocol)
}

fn device(body: &[u8]) -> Option<Device> {
    let header = body.get(..16)?;
    let mut device = Device {
        ifindex: u32_at(header, 4)?,
        hardware: u16::from_ne_bytes([header[2], header[3]]),
        ..Device::default()
    };
    for (kind, value) in attributes(&body[16..]) {
        match kind {
            IFLA_IFNAME => device.name = text(value),
            IFLA_MASTER => device.master = u32_at(value, 0)?,
            IFLA_LINKINFO => {
                for (kind, value) in attributes(value) {
                    if kind == IFLA_INFO_KIND {
                        device.kind = text(value);
                    }
                }
            }
            // The first field of struct rtnl_link_stats64.
            IFLA_STATS64 => device.rx_packets = u64_at(value, 0)?,
            IFLA_XDP => device.xdp = xdp(value),
            _ => {}
        }
    }
    Some(device)
}

fn xdp(value: &[u8]) -> Xdp {
    let mut xdp = Xdp::default();
    let (mut mode, mut id) = (0, 0);
    for (kind, value) in attributes(value) {
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
    for (kind, value) in attributes(&body[20..]) {
        if kind != TCA_OPTIONS {
            continue;
        }
        for (kind, value) in attributes(value) {
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

fn tcmsg(request: &mut Request, ifindex: u32, handle: u32, parent: u32, info: u32) {
    request.push(&[0; 4]); // family
    for field in [ifindex, handle, parent, info] {
        request.push(&field.to_ne_bytes());
    }
}

fn ask(request: Request, each: impl FnMut(u16, &[u8])) -> io::Result<()> {
    Socket::open(SockProtocol::NetlinkRoute)?.ask(request, each)
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

//! Generic netlink: what a driver's XDP can do.

use nix::sys::socket::SockProtocol;

use super::netlink::{Attrs, Builder, RequestError, Socket, flag};

const CONTROLLER: u16 = 16;
const GET_FAMILY: u8 = 3;
const FAMILY_ID: u16 = 1;
const FAMILY_NAME: u16 = 2;
const GET_DEVICE: u8 = 1;
const DEVICE_IFINDEX: u16 = 1;
const DEVICE_XDP_FEATURES: u16 = 3;
const REDIRECT: u64 = 1 << 1;
/// Number of the only request on a socket.
const SEQUENCE: u32 = 1;

/// Whether the driver of a device can redirect frames; `None` where the kernel does not say, which it
/// does since 6.3.
pub fn redirects(ifindex: u32) -> Result<Option<bool>, RequestError> {
    let mut family = None;
    let name = |request: &mut Builder| request.attr(FAMILY_NAME, b"netdev\0");
    let known = ask(CONTROLLER, GET_FAMILY, name, |kind, value| {
        if kind == FAMILY_ID {
            family = value.try_into().ok().map(u16::from_ne_bytes);
        }
    });
    let family = match (known, family) {
        (Ok(()), Some(family)) => family,
        (Err(error), _) if error.errno() == Some(libc::ENOENT) => return Ok(None),
        (Err(error), _) => return Err(error),
        (Ok(()), None) => return Ok(None),
    };
    let device = |request: &mut Builder| request.attr(DEVICE_IFINDEX, &ifindex.to_ne_bytes());
    let mut features = None;
    ask(family, GET_DEVICE, device, |kind, value| {
        if kind == DEVICE_XDP_FEATURES {
            features = value.try_into().ok().map(u64::from_ne_bytes);
        }
    })?;
    Ok(features.map(|features| features & REDIRECT != 0))
}

/// One request, and each attribute of the answer.
fn ask(
    family: u16,
    command: u8,
    attributes: impl FnOnce(&mut Builder),
    mut each: impl FnMut(u16, &[u8]),
) -> Result<(), RequestError> {
    let mut request = Builder::default();
    request.message(family, flag::REQUEST | flag::ACK, SEQUENCE, &[command, 1, 0, 0]);
    attributes(&mut request);
    let mut buffer = vec![0; 8192];
    let socket = Socket::open(SockProtocol::NetlinkGeneric, 0)?;
    socket.request(request.bytes(), SEQUENCE, &mut buffer, |message| {
        // The command's own header.
        for attr in Attrs::new(message.body.get(4..).unwrap_or_default()) {
            each(attr.kind, attr.value);
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_device_redirects_nothing() {
        const LOOPBACK: u32 = 1;
        // Older kernels do not say.
        assert_ne!(redirects(LOOPBACK).unwrap(), Some(true));
    }
}

//! What the kernel says about the devices of the namespace.

use std::fs;
use std::path::Path;

use super::error::Error;
use super::topology::Facts;
use crate::sys::rtnetlink::{self, Device};

/// Reads the facts.
pub(super) fn facts() -> Result<Facts, Error> {
    let devices = rtnetlink::devices().map_err(|source| Error::Devices(Box::new(source)))?;
    let tagging =
        devices.iter().filter_map(|device| Some((device.ifindex, tagging(device)?))).collect();
    // That of the calling thread's namespace.
    let sessions = fs::read_to_string("/proc/thread-self/net/pppoe").unwrap_or_default();
    let ppp = devices.iter().filter(|device| device.kind == "ppp").count();
    let pppoe = if ppp == 1 { only_session(&sessions) } else { None };
    Ok(Facts { devices, tagging, pppoe })
}

/// The Ethernet device of the only session in the text of `/proc/net/pppoe`.
fn only_session(text: &str) -> Option<String> {
    // A title, then session number, address of the other end, device.
    let mut devices = text.lines().skip(1).filter_map(|line| line.split_whitespace().nth(2));
    let device = devices.next()?;
    devices.next().is_none().then(|| device.to_owned())
}

/// The tagger of the switch behind a conduit.
fn tagging(device: &Device) -> Option<String> {
    // The files are those of the namespace in which sysfs was mounted: not necessarily ours.
    let dir = Path::new("/sys/class/net").join(&device.name);
    let ifindex = fs::read_to_string(dir.join("ifindex")).ok()?;
    if ifindex.trim().parse() != Ok(device.ifindex) {
        return None;
    }
    Some(fs::read_to_string(dir.join("dsa/tagging")).ok()?.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_is_known_by_its_device_only_when_it_is_the_only_one() {
        // As 6.12 prints it.
        const TITLE: &str = "Id       Address              Device\n";
        let one = format!("{TITLE}0A000000 02:00:00:00:00:01        eth1\n");
        assert_eq!(only_session(&one).as_deref(), Some("eth1"));
        let two = format!("{one}0B000000 02:00:00:00:00:01        eth1\n");
        assert_eq!(only_session(&two), None);
        assert_eq!(only_session(TITLE), None);
        assert_eq!(only_session(""), None);
    }
}

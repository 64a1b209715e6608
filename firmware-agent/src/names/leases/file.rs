//! Files of leases, as their servers write them. They are rewritten in place by some, so a reader may
//! find the beginning of one: a line counts when it is whole.

use std::net::IpAddr;

use super::{LEASES_MAX, Lease, Until, hardware, name};
use crate::config::DhcpServer;

/// Before this second since 1970 no router handed out anything: dnsmasq for routers without a clock
/// (`HAVE_BROKEN_RTC`) writes how long a lease is instead of when it ends.
const LENGTHS_BELOW: i64 = 1_000_000_000;

/// The leases in the text of a file.
#[must_use]
pub fn parse(server: DhcpServer, text: &[u8]) -> Vec<Lease> {
    let whole = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
    let text = String::from_utf8_lossy(text.get(..whole).unwrap_or_default());
    let mut leases = Vec::new();
    for line in text.lines() {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        match server {
            DhcpServer::Dnsmasq => leases.extend(dnsmasq(&fields)),
            DhcpServer::Odhcpd => odhcpd(&fields, |lease| leases.push(lease)),
        }
        // The table says what it leaves out.
        if leases.len() > LEASES_MAX {
            break;
        }
    }
    leases
}

/// `1700000000 02:00:5e:10:00:01 192.168.1.100 phone 01:02:00:5e:10:00:01`; in `DHCPv6` an identity
/// association takes the place of the hardware address. The line about the server itself begins with
/// a word.
fn dnsmasq(fields: &[&str]) -> Option<Lease> {
    let [end, device, addr, host, ..] = *fields else { return None };
    let until = until(end)?;
    Some(Lease { addr: address(addr)?, mac: hardware(device), name: name(host), until })
}

/// `# br-lan 02005e100001 ipv4 phone 1700000000 c0a80164 32 192.168.1.100/32`; in `DHCPv6` an identifier
/// takes the place of the hardware address, and there may be several addresses, and prefixes for
/// routers. Lines without the sign are for other programs.
fn odhcpd(fields: &[&str], mut each: impl FnMut(Lease)) {
    let Some((head, addrs)) = fields.split_first_chunk() else { return };
    let ["#", _interface, device, kind, host, end, _number, _length] = *head else { return };
    // 0 is over.
    let Some(until) = until(end).filter(|_| end != "0") else { return };
    let mac = (kind == "ipv4").then(|| hardware(device)).flatten();
    for addr in addrs {
        let Some((addr, length)) = addr.split_once('/') else { continue };
        let Some(addr) = address(addr) else { continue };
        if length == if addr.is_v4() { "32" } else { "128" } {
            each(Lease { addr, mac, name: name(host), until });
        }
    }
}

fn address(text: &str) -> Option<sluice_abi::flow::Addr> {
    text.parse::<IpAddr>().ok().map(Into::into)
}

/// 0 and -1 are for good.
fn until(text: &str) -> Option<Until> {
    let end: i64 = text.parse().ok()?;
    Some(if end < LENGTHS_BELOW { Until::Open } else { Until::Unix(end) })
}

//! Servers on ubus that tell of leases. Each may come, go, and be replaced by another at any time.

use std::cell::{Cell, RefCell};

use sluice_abi::flow::Addr;
use smol::channel::{Receiver, Sender, bounded};
use smol::future;

use crate::agent::running::Running;
use crate::config::{DhcpServer, Mac};
use crate::names::leases::{Lease, Until, hardware, name};
use crate::ubus::blobmsg::Members;
use crate::ubus::client::{Client, Error};

/// Event of ubusd: an object has come.
const ADDED: &str = "ubus.object.add";
/// Servers and their objects; a star stands for what is behind it.
const OBJECTS: [(DhcpServer, &str); 2] =
    [(DhcpServer::Dnsmasq, "dnsmasq*"), (DhcpServer::Odhcpd, "dhcp")];
/// Objects that are heard at once.
const TARGETS_MAX: usize = 8;

/// Whether an object tells of leases. Who is subscribed to dnsmasq's objects about names holds up every
/// answer.
fn is_server(pattern: &str, path: &str) -> bool {
    match pattern.strip_suffix('*') {
        None => path == pattern,
        Some(prefix) => {
            let rest = path.strip_prefix(prefix);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
                && path.rsplit('.').next() != Some("dns")
        }
    }
}

/// What a server tells of a lease.
#[derive(Debug, Eq, PartialEq)]
enum Notice {
    /// There is one.
    Lease(Lease),
    /// It is over.
    End(Addr, Option<Mac>),
}

/// Reads a notification, in the spelling of dnsmasq and of odhcpd until 2025, or in that of odhcpd
/// since.
fn notice(event: &str, data: Members<'_>) -> Option<Notice> {
    let event = event.strip_prefix("dhcp.")?;
    let text = |one, other| data.text(one).or_else(|| data.text(other));
    let addr = text("ip", "ipv4")?.parse::<std::net::IpAddr>().ok()?.into();
    let mac = data.text("mac").and_then(hardware);
    match event.strip_suffix('4').unwrap_or(event) {
        "ack" | "lease" => {
            let name = text("name", "hostname").and_then(name);
            Some(Notice::Lease(Lease { addr, mac, name, until: Until::Open }))
        }
        "release" | "expire" => Some(Notice::End(addr, mac)),
        _ => None,
    }
}

/// What is heard of servers on one connection to the bus.
#[derive(Debug)]
pub(in crate::agent) struct Servers {
    /// An ear for each, so that it is known who speaks.
    ears: [Cell<Option<u32>>; OBJECTS.len()],
    targets: RefCell<Vec<u32>>,
    /// An object has come or gone.
    news: (Sender<()>, Receiver<()>),
}

impl Default for Servers {
    fn default() -> Self {
        Self { ears: Default::default(), targets: RefCell::default(), news: bounded(1) }
    }
}

impl Servers {
    /// Takes what `ear` heard, if it is about this.
    pub(in crate::agent) fn heard(
        &self,
        running: &Running,
        ear: u32,
        event: &str,
        data: Members<'_>,
    ) {
        let path = data.text("path").filter(|_| event == ADDED);
        if path.is_some_and(|path| OBJECTS.iter().any(|(_, pattern)| is_server(pattern, path))) {
            let _ = self.news.0.try_send(());
        }
        let mut ears = self.ears.iter().zip(OBJECTS);
        let server = ears.find(|(own, _)| own.get() == Some(ear)).map(|(_, (server, _))| server);
        if let Some(server) = server
            && let Some(notice) = notice(event, data)
        {
            let mut state = running.state.lock();
            if state.plan.dhcp_config.is_none() {
                return;
            }
            let now = state.now();
            match notice {
                Notice::Lease(lease) => state.devices.leases.tell(server, lease, now),
                Notice::End(addr, mac) => state.devices.leases.end(addr, mac),
            }
        }
    }

    /// An object is gone.
    pub(in crate::agent) fn gone(&self, object: u32) {
        self.targets.borrow_mut().retain(|target| *target != object);
        let _ = self.news.0.try_send(());
    }
}

impl Running {
    /// Hears servers that are there or come.
    pub(in crate::agent) async fn follow_servers(
        &self,
        client: &Client,
        servers: &Servers,
    ) -> Error {
        let listen = async {
            for ear in &servers.ears {
                ear.set(Some(client.add_ear().await?));
            }
            client.listen(servers.ears[0].get().unwrap_or_default(), ADDED).await
        };
        match listen.await {
            Ok(()) => {}
            // This connection does without.
            Err(Error::Refused(status)) => {
                log::info!("ubus: leases are not for us: {status}");
                return future::pending().await;
            }
            Err(error) => return error,
        }
        loop {
            for (ear, (_, pattern)) in servers.ears.iter().zip(OBJECTS) {
                let found = match client.lookup(pattern).await {
                    Err(Error::Refused(_)) => Vec::new(),
                    Err(error) => return error,
                    Ok(found) => found,
                };
                for one in found.iter().filter(|one| is_server(pattern, &one.path)) {
                    let is_known = servers.targets.borrow().contains(&one.object);
                    if is_known || servers.targets.borrow().len() >= TARGETS_MAX {
                        continue;
                    }
                    match client.subscribe(ear.get().unwrap_or_default(), one.object).await {
                        Ok(()) => servers.targets.borrow_mut().push(one.object),
                        // It has gone again, or is not for us.
                        Err(Error::Refused(_)) => {}
                        Err(error) => return error,
                    }
                }
            }
            self.state.lock().devices.heard = servers.targets.borrow().len();
            if servers.news.1.recv().await.is_err() {
                return Error::Closed;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ubus::blobmsg::Writer;

    fn data(members: &[(&str, &str)]) -> Writer {
        let mut writer = Writer::default();
        for (name, value) in members {
            writer.text(name, value);
        }
        writer
    }

    /// Both spellings; a lease without a name has none.
    #[test]
    fn notifications_are_read_in_both_spellings() {
        let mac = Some(Mac([2, 0, 0x5e, 0x10, 0, 1]));
        let addr = std::net::IpAddr::from([192, 168, 1, 100]).into();
        let lease = |text: &str| {
            Some(Notice::Lease(Lease { addr, mac, name: name(text), until: Until::Open }))
        };
        let old = [
            ("mac", "02:00:5e:10:00:01"),
            ("ip", "192.168.1.100"),
            ("name", "phone"),
            ("interface", "br-lan"),
        ];
        let new = [
            ("interface", "br-lan"),
            ("ipv4", "192.168.1.100"),
            ("mac", "02005e100001"),
            ("hostname", "phone"),
            ("duid", "00"),
        ];
        for (events, members) in [
            (["dhcp.ack", "dhcp.release", "dhcp.expire"], &old[..]),
            (["dhcp.lease4", "dhcp.release4", "dhcp.expire4"], &new[..]),
        ] {
            let whole = data(members);
            assert_eq!(notice(events[0], whole.members()), lease("phone"));
            assert_eq!(notice(events[1], whole.members()), Some(Notice::End(addr, mac)));
            assert_eq!(notice(events[2], whole.members()), Some(Notice::End(addr, mac)));
            let nameless: Vec<_> =
                members.iter().filter(|(_, value)| *value != "phone").copied().collect();
            assert_eq!(notice(events[0], data(&nameless).members()), lease(""));
        }
        for event in ["dhcp.other", "ack", "dhcp.", "dhcp.nak4"] {
            assert_eq!(notice(event, data(&old).members()), None, "{event}");
        }
        assert_eq!(notice("dhcp.ack", data(&[("ip", "x")]).members()), None);
        assert_eq!(notice("dhcp.ack", data(&[]).members()), None);
    }

    #[test]
    fn servers_are_told_from_other_objects() {
        for path in ["dnsmasq", "dnsmasq.cfg01411c", "dnsmasq.lan"] {
            assert!(is_server("dnsmasq*", path), "{path}");
        }
        for path in ["dnsmasq.dns", "dnsmasq.lan.dns", "dnsmasquerade", "dhcp", ""] {
            assert!(!is_server("dnsmasq*", path), "{path}");
        }
        assert!(is_server("dhcp", "dhcp") && !is_server("dhcp", "dhcp.x"));
    }
}

//! Where DNS messages come from: rules that copy them, else the programs on a device, or a packet socket there.
//!
//! A program on the way out of the LAN costs every packet, a socket both ways; rules only what no fast path takes.

use std::task::{Context, Poll};

use sluice_abi::message::Head;
use smol::{Async, channel};

use super::learn::Way;
use crate::config::Mac;
use crate::dataplane::Messages;
use crate::netfilter::log::Log;
use crate::netfilter::rules;
use crate::sys::packet::{COPY_MAX, DnsSocket};

/// Packets of one source that are looked at in one go.
const BURST: usize = 64;

/// A device of the LAN.
#[derive(Clone, Debug)]
pub(super) struct Device {
    pub(super) ifindex: u32,
    /// The number of its interface.
    pub(super) number: u8,
    /// Whether programs tell of its messages, or why not.
    pub(super) told: Result<(), String>,
}

/// Listens on devices.
pub(super) struct Ears {
    devices: Vec<Device>,
    /// What rules copy, or why they do not.
    log: Result<Log, String>,
    /// Copies that found no room, and were not asked for yet.
    lost: u64,
    /// What programs tell, where that can be read.
    messages: Option<Async<Messages>>,
    /// Why it cannot.
    unreadable: Option<String>,
    /// It was wrong once: it is not looked at again.
    is_wrong: bool,
    /// Devices that programs tell of, and since when: before that a socket did.
    told: Vec<(u32, u64)>,
    sockets: Vec<Socket>,
    /// LAN interfaces without anything, and why.
    pub(super) deaf: Vec<(u8, String)>,
    /// Tells the task that waits that there is more to wait for.
    news: (channel::Sender<()>, channel::Receiver<()>),
    buffer: Box<[u8]>,
}

/// A socket on a device.
struct Socket {
    ifindex: u32,
    socket: Async<DnsSocket>,
}

impl Default for Ears {
    fn default() -> Self {
        Self {
            devices: Vec::new(),
            log: Err(String::new()),
            lost: 0,
            messages: None,
            unreadable: None,
            is_wrong: false,
            told: Vec::new(),
            sockets: Vec::new(),
            deaf: Vec::new(),
            news: channel::bounded(1),
            buffer: Box::default(),
        }
    }
}

impl Ears {
    /// Listens on these devices and on no others. `group` is the log group of the rules that copy their messages,
    /// or why there is none; `open` gives what programs tell.
    pub(super) fn listen(
        &mut self,
        now_ns: u64,
        devices: Vec<Device>,
        group: Result<u16, String>,
        open: impl FnOnce() -> Result<Messages, String>,
    ) {
        self.devices = devices;
        let log = std::mem::replace(&mut self.log, Err(String::new()));
        self.log = match group {
            _ if self.devices.is_empty() => Err(String::new()),
            Err(reason) => Err(reason),
            Ok(group) => log.or_else(|_| {
                let log = Log::open(group).map_err(|error| format!("group {group}: {error}"))?;
                let _told_already = self.news.0.try_send(());
                Ok(log)
            }),
        };
        if self.log.is_ok() {
            (self.messages, self.unreadable) = (None, None);
        } else if !self.devices.iter().any(|device| device.told.is_ok()) {
            self.messages = None;
        } else if self.messages.is_none() && !self.is_wrong {
            let opened =
                open().and_then(|messages| Async::new(messages).map_err(|error| error.to_string()));
            match opened {
                Ok(messages) => {
                    (self.messages, self.unreadable) = (Some(messages), None);
                    let _told_already = self.news.0.try_send(());
                }
                Err(reason) => self.unreadable = Some(reason),
            }
        }
        self.share_out(now_ns);
    }

    /// Gives each device the best that there is.
    fn share_out(&mut self, now_ns: u64) {
        let before = std::mem::take(&mut self.told);
        self.deaf.clear();
        if self.log.is_ok() {
            self.sockets.clear();
            self.buffer = Box::default();
            return;
        }
        for Device { ifindex, number, told } in self.devices.clone() {
            let heard = self.sockets.iter().position(|socket| socket.ifindex == ifindex);
            if told.is_ok() && self.messages.is_some() {
                let since = before.iter().find(|(of, _)| *of == ifindex).map(|(_, since)| *since);
                let anew = if heard.is_some() { now_ns } else { 0 };
                self.told.push((ifindex, since.unwrap_or(anew)));
            } else if heard.is_none() {
                match DnsSocket::open(ifindex).and_then(Async::new) {
                    Ok(socket) => {
                        self.sockets.push(Socket { ifindex, socket });
                        let _told_already = self.news.0.try_send(());
                    }
                    Err(error) => self.deaf.push((number, error.to_string())),
                }
            }
        }
        let Self { devices, told, sockets, buffer, .. } = self;
        sockets.retain(|socket| {
            let is_it = |ifindex: u32| ifindex == socket.ifindex;
            devices.iter().any(|device| is_it(device.ifindex))
                && !told.iter().any(|(ifindex, _)| is_it(*ifindex))
        });
        let wanted = if sockets.is_empty() { 0 } else { COPY_MAX };
        if buffer.len() != wanted {
            *buffer = vec![0; wanted].into_boxed_slice();
        }
    }

    /// Whether nothing shows the packets of an interface of the LAN.
    pub(super) fn is_deaf(&self, number: u8) -> bool {
        self.deaf.iter().any(|(deaf, _)| *deaf == number)
    }

    /// Whether rules show all messages, so that programs need not.
    pub(super) const fn has_log(&self) -> bool {
        self.log.is_ok()
    }

    /// The rung in use, the least of all devices; `None` where there is none.
    pub(super) const fn rung(&self) -> Option<&'static str> {
        if self.has_log() {
            return Some("nft log");
        }
        match (self.told.is_empty(), self.sockets.is_empty(), self.deaf.is_empty()) {
            (true, true, _) => None,
            (false, true, true) => Some("tc"),
            (false, true, false) => Some("tc, not everywhere"),
            (_, false, true) => Some("packet sockets"),
            (_, false, false) => Some("packet sockets, not everywhere"),
        }
    }

    /// Interfaces where it is not the best rung, and why.
    pub(super) fn why_not_better(&self) -> impl Iterator<Item = (u8, String)> {
        let untold =
            self.devices.iter().filter_map(|device| match (&device.told, &self.unreadable) {
                (Err(reason), _) => Some((device.number, reason.clone())),
                (Ok(()), Some(reason)) => Some((device.number, format!("tc: {reason}"))),
                (Ok(()), None) => None,
            });
        let untold = untold.filter(|_| self.log.is_err());
        let deaf = self.deaf.iter();
        untold.chain(deaf.map(|(number, why)| (*number, format!("packet socket: {why}"))))
    }

    /// Why rules do not show messages.
    pub(super) fn why_no_log(&self) -> Option<String> {
        let reason = self.log.as_ref().err().filter(|reason| !reason.is_empty())?;
        Some(format!("nft log: {reason}"))
    }

    /// Hears of sources that were added.
    pub(super) fn news(&self) -> channel::Receiver<()> {
        self.news.1.clone()
    }

    /// Gives what was heard by now to `take`: when it was, the packet from its IP header on, its length on the
    /// wire and its way.
    pub(super) fn hear(&mut self, now_ms: u64, mut take: impl FnMut(u64, &[u8], usize, Way)) {
        if let Err(error) = self.read(now_ms, &mut take) {
            log::warn!("DNS messages of the programs: {error}; packet sockets take their place");
            (self.messages, self.is_wrong) = (None, true);
            self.unreadable = Some(error.to_string());
            self.share_out(now_ms * 1_000_000);
        }
        if let Err(error) = self.read_log(now_ms, &mut take) {
            log::warn!("DNS messages that rules copy: {error}");
            // The next look at the devices listens anew.
            self.log = Err(error.to_string());
        }
        let Self { sockets, buffer, .. } = self;
        for socket in sockets {
            for _ in 0..BURST {
                match socket.socket.get_ref().receive(buffer) {
                    Ok(Some(seen)) => {
                        let mac = seen.mac.map(Mac);
                        let way = if seen.is_outgoing { Way::Out } else { Way::In(mac) };
                        take(now_ms, seen.l3, seen.wire_len, way);
                    }
                    Ok(None) => break,
                    // The device is down or gone: the next look at the devices knows.
                    Err(error) => {
                        log::debug!("receive from a packet socket: {error}");
                        break;
                    }
                }
            }
        }
    }

    /// Gives what programs told by now.
    fn read(
        &self,
        now_ms: u64,
        mut take: impl FnMut(u64, &[u8], usize, Way),
    ) -> std::io::Result<()> {
        let Some(messages) = &self.messages else { return Ok(()) };
        for _ in 0..BURST {
            let is_there = messages.get_ref().next(|head, l3| {
                let is_told = |(ifindex, since): &(u32, u64)| {
                    *ifindex == head.ifindex && *since <= head.time_ns
                };
                if self.told.iter().any(is_told) {
                    let at_ms = (head.time_ns / 1_000_000).min(now_ms);
                    take(at_ms, l3, head.wire_len as usize, way(head));
                }
            })?;
            if !is_there {
                break;
            }
        }
        Ok(())
    }

    /// Gives what rules copied by now.
    fn read_log(
        &mut self,
        now_ms: u64,
        mut take: impl FnMut(u64, &[u8], usize, Way),
    ) -> std::io::Result<()> {
        let Self { log: Ok(log), devices, lost, .. } = self else { return Ok(()) };
        let is_ours = |ifindex| devices.iter().any(|device| device.ifindex == ifindex);
        *lost += log.hear(|copy| {
            let way = if copy.prefix == rules::QUESTION.as_bytes() && is_ours(copy.indev) {
                Way::In(copy.mac.map(Mac))
            } else if copy.prefix == rules::ANSWER.as_bytes() && is_ours(copy.outdev) {
                Way::Out
            } else {
                return;
            };
            take(now_ms, copy.l3, copy.wire_len(), way);
        })?;
        Ok(())
    }

    /// Packets that found no room since this was asked last.
    pub(super) fn lost(&mut self) -> u64 {
        let sockets = self.sockets.iter();
        let of_sockets: u64 = sockets.map(|it| u64::from(it.socket.get_ref().lost())).sum();
        of_sockets + std::mem::take(&mut self.lost)
    }

    pub(super) fn poll_readable(&self, context: &mut Context<'_>) -> Poll<()> {
        // All of them, so that each wakes the task.
        let sockets = self.sockets.iter().filter(|it| it.socket.poll_readable(context).is_ready());
        let sockets = sockets.count();
        let told = self.messages.as_ref().is_some_and(|it| it.poll_readable(context).is_ready());
        let copied = self.log.as_ref().is_ok_and(|it| it.poll_readable(context).is_ready());
        if told || copied || sockets > 0 { Poll::Ready(()) } else { Poll::Pending }
    }
}

/// Which way a packet goes that programs tell of.
fn way(head: &Head) -> Way {
    if head.flags & Head::OUT != 0 {
        return Way::Out;
    }
    let has_mac = head.flags & Head::MAC != 0;
    Way::In(has_mac.then(|| Mac(bytemuck::cast(head.mac))))
}

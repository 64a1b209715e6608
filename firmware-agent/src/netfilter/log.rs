//! Messages of `nfnetlink_log`: copies of packets that rules log to a group. A copy holds no packet up:
//! what finds no room is lost, and counted.

use std::io;
use std::task::{Context, Poll};

use nix::sys::socket::SockProtocol;

use super::nfqueue::mac_of;
use crate::sys::netlink::{
    Builder, Heard, Listener, Message, Messages, RequestError, Socket, flag,
};

/// The nfnetlink subsystem, in the upper byte of a message type.
const SUBSYSTEM: u16 = 4 << 8;
const PACKET: u16 = SUBSYSTEM;
const CONFIG: u16 = SUBSYSTEM | 1;

/// Bytes of `struct nfgenmsg`: family, version, group number in network order.
const FAMILY_HEADER: usize = 4;
/// Number of the only request on a socket.
const SEQUENCE: u32 = 1;

/// Attributes of packets.
mod nfula {
    pub(super) const INDEV: u16 = 4;
    pub(super) const OUTDEV: u16 = 5;
    pub(super) const HWADDR: u16 = 8;
    pub(super) const PAYLOAD: u16 = 9;
    pub(super) const PREFIX: u16 = 10;
    pub(super) const SEQ: u16 = 12;
}

/// Attributes of configuration, and what is in them.
mod config {
    pub(super) const CMD: u16 = 1;
    pub(super) const MODE: u16 = 2;
    pub(super) const QTHRESH: u16 = 5;
    pub(super) const FLAGS: u16 = 6;

    pub(super) const CMD_BIND: u8 = 1;
    pub(super) const COPY_PACKET: u8 = 2;
    pub(super) const FLAG_SEQ: u16 = 1;
}

/// Bytes of a packet that are copied.
pub const COPY_MAX: u32 = 4096;
/// Room for copies that were not read yet.
const BUFFER: usize = 256 << 10;

/// A copy of a packet.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Logged<'a> {
    /// The bytes from the IP header on, [`COPY_MAX`] at most.
    pub l3: &'a [u8],
    /// What its rule says of it.
    pub prefix: &'a [u8],
    /// Index of the device it came by, 0 when there is none.
    pub indev: u32,
    /// Index of the device it leaves by, 0 when there is none.
    pub outdev: u32,
    /// Hardware address of its sender, on Ethernet and where it came in.
    pub mac: Option<[u8; 6]>,
}

impl Logged<'_> {
    /// Length of the packet as its IP header has it; of what was copied where that says less.
    #[must_use]
    pub fn wire_len(&self) -> usize {
        let length = |at: usize| {
            let bytes = self.l3.get(at..at + 2).and_then(|bytes| bytes.try_into().ok());
            usize::from(bytes.map_or(0, u16::from_be_bytes))
        };
        let told = match self.l3.first().map(|byte| byte >> 4) {
            Some(4) => length(2),
            Some(6) => 40 + length(4),
            _ => 0,
        };
        told.max(self.l3.len())
    }
}

/// A group of the calling thread's network namespace, whose only listener this is.
#[derive(Debug)]
pub struct Log {
    listener: Listener,
    /// The number of the next copy, once there was one.
    next: Option<u32>,
}

impl Log {
    /// Listens to a group that nobody else listens to.
    pub fn open(group: u16) -> Result<Self, RequestError> {
        let socket = Socket::open(SockProtocol::NetlinkNetFilter, 0)?;
        socket.request(&bind(group), SEQUENCE, &mut [0; 4096], |_| {})?;
        Ok(Self { listener: Listener::on(socket, BUFFER)?, next: None })
    }

    /// Gives the copies that are there to `each`, without waiting; returns how many were lost before
    /// them.
    pub fn hear(&mut self, mut each: impl FnMut(Logged<'_>)) -> io::Result<u64> {
        let mut lost = 0;
        let Self { listener, next } = self;
        listener.hear(|heard| {
            // What there was no room for shows in the numbers of what follows.
            let Heard::Datagram(datagram) = heard else { return };
            for message in Messages::new(datagram) {
                let Some((number, logged)) = read(&message) else { continue };
                if let Some(number) = number {
                    lost += u64::from(next.map_or(0, |next| number.wrapping_sub(next)));
                    *next = Some(number.wrapping_add(1));
                }
                each(logged);
            }
        })?;
        Ok(lost)
    }

    /// Wakes the task of `context` when there is something to hear.
    pub fn poll_readable(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.listener.poll_readable(context)
    }
}

/// Asks for copies of packets, each at once and numbered.
fn bind(group: u16) -> Vec<u8> {
    let mut request = Builder::default();
    let [high, low] = group.to_be_bytes();
    request.message(CONFIG, flag::REQUEST | flag::ACK, SEQUENCE, &[0, 0, high, low]);
    request.attr(config::CMD, &[config::CMD_BIND]);
    let [a, b, c, d] = COPY_MAX.to_be_bytes();
    request.attr(config::MODE, &[a, b, c, d, config::COPY_PACKET, 0]);
    request.attr(config::QTHRESH, &1_u32.to_be_bytes());
    request.attr(config::FLAGS, &config::FLAG_SEQ.to_be_bytes());
    request.bytes().to_vec()
}

/// The copy in a message, and its number.
fn read<'a>(message: &Message<'a>) -> Option<(Option<u32>, Logged<'a>)> {
    if message.kind != PACKET {
        return None;
    }
    let (mut number, mut l3) = (None, None);
    let mut logged = Logged { l3: &[], prefix: &[], indev: 0, outdev: 0, mac: None };
    for attr in message.attrs(FAMILY_HEADER) {
        match attr.kind {
            nfula::SEQ => number = attr.be32(),
            nfula::PAYLOAD => l3 = Some(attr.value),
            nfula::PREFIX => logged.prefix = attr.value.strip_suffix(&[0]).unwrap_or(attr.value),
            nfula::INDEV => logged.indev = attr.be32().unwrap_or(0),
            nfula::OUTDEV => logged.outdev = attr.be32().unwrap_or(0),
            nfula::HWADDR => logged.mac = mac_of(attr.value),
            _ => {}
        }
    }
    Some((number, Logged { l3: l3?, ..logged }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn copy(payload: Option<&[u8]>, number: u32) -> Vec<u8> {
        let mut builder = Builder::default();
        builder.message(PACKET, 0, 0, &[2, 0, 0, 9]);
        builder.attr(nfula::PREFIX, b"question\0");
        builder.attr(nfula::INDEV, &3_u32.to_be_bytes());
        builder.attr(nfula::OUTDEV, &4_u32.to_be_bytes());
        builder.attr(nfula::HWADDR, &[0, 6, 0, 0, 2, 0, 0, 0, 0, 1, 0, 0]);
        if let Some(payload) = payload {
            builder.attr(nfula::PAYLOAD, payload);
        }
        builder.attr(nfula::SEQ, &number.to_be_bytes());
        builder.bytes().to_vec()
    }

    #[test]
    fn a_copy_has_its_bytes_its_devices_and_what_its_rule_says_of_it() {
        let bytes = copy(Some(b"packet"), 7);
        let message = Messages::new(&bytes).next().unwrap();
        let mac = Some([2, 0, 0, 0, 0, 1]);
        let expected = Logged { l3: b"packet", prefix: b"question", indev: 3, outdev: 4, mac };
        assert_eq!(read(&message), Some((Some(7), expected)));
        let bytes = copy(None, 7);
        assert_eq!(read(&Messages::new(&bytes).next().unwrap()), None, "no packet in it");
        for end in 0..bytes.len() {
            Messages::new(&bytes[..end]).for_each(|message| assert_eq!(read(&message), None));
        }
        let other = bind(9);
        assert_eq!(read(&Messages::new(&other).next().unwrap()), None, "another message");
    }

    #[test]
    fn a_packet_is_as_long_as_its_header_says_and_never_shorter_than_its_copy() {
        let len = |l3: &[u8]| Logged { l3, prefix: &[], indev: 0, outdev: 0, mac: None }.wire_len();
        assert_eq!(len(&[0x45, 0, 5, 0]), 0x500);
        assert_eq!(len(&[0x60, 0, 0, 0, 5, 0]), 0x528);
        for short in [&[][..], &[0x45], &[0x45, 0, 0], &[0x60, 0, 0, 0, 0], &[0x45, 0, 0, 0]] {
            assert!(len(short) >= short.len());
        }
    }

    #[test]
    fn the_request_is_the_kernel_s() {
        let bytes = bind(0x0102);
        let message = Messages::new(&bytes).next().unwrap();
        assert_eq!((message.kind, message.body.get(..4)), (0x0401, Some(&[0, 0, 1, 2][..])));
        let attrs: Vec<_> = message.attrs(FAMILY_HEADER).map(|it| (it.kind, it.value)).collect();
        let expected: [(u16, &[u8]); 4] =
            [(1, &[1]), (2, &[0, 0, 0x10, 0, 2, 0]), (5, &[0, 0, 0, 1]), (6, &[0, 1])];
        assert_eq!(attrs, expected);
    }
}

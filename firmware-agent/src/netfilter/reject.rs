//! What the ends of a flow are told when it is rejected.
//!
//! Made from the packet that brought the decision, which itself goes no further. TCP: a reset for
//! either end, with the numbers that it waits for; a client whose ClientHello was the packet gets a
//! TLS alert and the end of the stream instead, so that it can say what happened. UDP: "prohibited by
//! administration", with the head of the packet. Pure; [`socket`] sends it.

pub mod socket;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use sluice_abi::attach::Link;
use sluice_datapath::parse::{ACK, FIN, Headers, RST, SYN, TCP, UDP, headers};

/// Most bytes of a packet that are sent back: with headers, no path is too narrow for it.
const QUOTE_MAX: usize = 512;
/// A fatal alert, access denied (RFC 8446, section 6.2), in a record of its own.
const ALERT: [u8; 7] = [21, 3, 3, 0, 2, 2, 49];
/// TCP's flag that what came so far is to be read.
const PSH: u8 = 0x08;
/// Hops that an answer may take.
const HOPS: u8 = 64;

/// Who can be told.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Told {
    /// Whether the packet's sender is one of the household. A stranger learns nothing by a first
    /// packet: its address may be made up, and the one it wrote to may be translated.
    pub is_from_home: bool,
    /// Whether the packet completed a ClientHello.
    pub is_hello: bool,
}

/// A packet that tells something.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Answer {
    /// A packet of IP with all its headers.
    Whole {
        /// Where it goes.
        to: IpAddr,
        /// From the IP header on; the checksum of that is the kernel's business.
        packet: Vec<u8>,
    },
    /// A message of ICMP, of either family; its sender is this router.
    Icmp {
        /// Where it goes.
        to: IpAddr,
        /// From the ICMP header on; for IPv6 the checksum is the kernel's business.
        message: Vec<u8>,
    },
}

/// What is told when the flow of the packet `l3`, which has `wire_len` bytes, is rejected; the sender
/// comes first.
#[must_use]
pub fn answers(l3: &[u8], wire_len: usize, told: Told) -> Vec<Answer> {
    let Ok(headers) = headers(l3, Link::Ip) else { return Vec::new() };
    if headers.flow().is_none() {
        return Vec::new();
    }
    match headers.proto {
        TCP => segments(l3, wire_len, &headers, told).unwrap_or_default(),
        UDP if told.is_from_home => vec![prohibited(l3, headers.src.into())],
        _ => Vec::new(),
    }
}

/// A segment without its ports.
struct Segment<'a> {
    seq: u32,
    ack: u32,
    flags: u8,
    /// Options in multiples of four bytes.
    options: &'a [u8],
    payload: &'a [u8],
}

/// What both ends of a TCP connection get. `None` when the lengths in the headers contradict each
/// other.
fn segments(l3: &[u8], wire_len: usize, headers: &Headers, told: Told) -> Option<Vec<Answer>> {
    let flags = headers.tcp_flags;
    if flags & RST != 0 {
        return Some(Vec::new());
    }
    let number = |at: usize| Some(u32::from_be_bytes(*l3.get(headers.l4 + at..)?.first_chunk()?));
    let (seq, acked) = (number(4)?, number(8)?);
    let is_established = flags & ACK != 0;
    let payload = headers.l4 + usize::from(l3.get(headers.l4 + 12)? >> 4) * 4;
    let options = l3.get(headers.l4 + 20..payload)?;
    let len = end_of(l3, wire_len)?.checked_sub(payload)?;
    let taken = len as u32 + u32::from(flags & SYN != 0) + u32::from(flags & FIN != 0);
    let (src, dst) = ((headers.src.into(), headers.sport), (headers.dst.into(), headers.dport));
    let mut answers = Vec::with_capacity(2);
    if told.is_from_home || is_established {
        let mut back = Segment {
            // Without an acknowledgement nothing was received (RFC 9293, section 3.10.7).
            seq: if is_established { acked } else { 0 },
            ack: seq.wrapping_add(taken),
            flags: RST | ACK,
            options: &[],
            payload: &[],
        };
        let stamps = timestamps(options).map(returned);
        if told.is_hello && is_established {
            (back.flags, back.payload) = (PSH | FIN | ACK, &ALERT);
            // Who has agreed on them may drop what has none; resets are exempt (RFC 7323, 3.2).
            back.options = stamps.as_ref().map_or(&[], |stamps| &stamps[..]);
        }
        answers.push(packet(dst, src, &back));
    }
    if is_established {
        let on = Segment { seq, ack: acked, flags: RST | ACK, options: &[], payload: &[] };
        answers.push(packet(src, dst, &on));
    }
    Some(answers)
}

/// Where the packet ends, without what a link pads it with.
fn end_of(l3: &[u8], wire_len: usize) -> Option<usize> {
    let number = |at: usize| Some(usize::from(u16::from_be_bytes(*l3.get(at..)?.first_chunk()?)));
    let end = match (l3.first()? >> 4, number(2)?, number(4)?) {
        (4, len, _) => len,
        (_, _, 0) => 0,
        (_, _, len) => 40 + len,
    };
    // A merged packet of more than 64 KiB has no length of its own.
    Some(if end == 0 { wire_len } else { end })
}

/// The time of the sender and the time that it echoes, among the options of TCP.
fn timestamps(mut options: &[u8]) -> Option<[[u8; 4]; 2]> {
    loop {
        match *options {
            [8, 10, ref times @ ..] => {
                let (sent, times) = times.split_first_chunk()?;
                return Some([*sent, *times.first_chunk()?]);
            }
            [1, ref rest @ ..] => options = rest,
            // The end, or what has no length.
            [0, ..] | [] | [_] | [_, 0 | 1, ..] => return None,
            [_, len, ..] => options = options.get(usize::from(len)..)?,
        }
    }
}

/// The option that answers these times.
fn returned([sent, echoed]: [[u8; 4]; 2]) -> [u8; 12] {
    let mut option = [1, 1, 8, 10, 0, 0, 0, 0, 0, 0, 0, 0];
    let times = echoed.into_iter().chain(sent);
    option.iter_mut().skip(4).zip(times).for_each(|(place, byte)| *place = byte);
    option
}

/// A packet between two ends, whose ports are in network byte order.
fn packet(from: (IpAddr, u16), to: (IpAddr, u16), segment: &Segment<'_>) -> Answer {
    let len = 20 + segment.options.len() + segment.payload.len();
    let mut tcp = Vec::with_capacity(len);
    tcp.extend(from.1.to_ne_bytes());
    tcp.extend(to.1.to_ne_bytes());
    tcp.extend(segment.seq.to_be_bytes());
    tcp.extend(segment.ack.to_be_bytes());
    tcp.extend([((20 + segment.options.len()) << 2) as u8, segment.flags]);
    tcp.extend([0; 6]); // no window, checksum, nothing urgent
    tcp.extend(segment.options);
    tcp.extend(segment.payload);
    let mut packet = Vec::with_capacity(40 + len);
    let pseudo = match (from.0.to_canonical(), to.0.to_canonical()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            packet.extend([0x45, 0]);
            packet.extend((20 + len as u16).to_be_bytes());
            packet.extend([0, 0, 0x40, 0, HOPS, TCP, 0, 0]);
            packet.extend(from.octets());
            packet.extend(to.octets());
            sum(&from.octets()) + sum(&to.octets())
        }
        (from, to) => {
            let (from, to) = (v6(from).octets(), v6(to).octets());
            packet.extend([0x60, 0, 0, 0]);
            packet.extend((len as u16).to_be_bytes());
            packet.extend([TCP, HOPS]);
            packet.extend(from);
            packet.extend(to);
            sum(&from) + sum(&to)
        }
    };
    let checksum = checksum(pseudo + u32::from(TCP) + len as u32 + sum(&tcp));
    if let Some(place) = tcp.get_mut(16..18) {
        place.copy_from_slice(&checksum.to_be_bytes());
    }
    packet.extend(tcp);
    Answer::Whole { to: to.0, packet }
}

const fn v6(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V4(address) => Ipv4Addr::to_ipv6_mapped(&address),
        IpAddr::V6(address) => address,
    }
}

/// The message that a packet from `to` is prohibited.
fn prohibited(l3: &[u8], to: IpAddr) -> Answer {
    let quote = l3.get(..QUOTE_MAX).unwrap_or(l3);
    let mut message = Vec::with_capacity(8 + quote.len());
    // Destination unreachable, communication administratively prohibited (RFC 1812, RFC 4443).
    message.extend(if to.to_canonical().is_ipv4() { [3, 13] } else { [1, 1] });
    message.extend([0; 6]);
    message.extend(quote);
    if to.to_canonical().is_ipv4() {
        let checksum = checksum(sum(&message)).to_be_bytes();
        if let Some(place) = message.get_mut(2..4) {
            place.copy_from_slice(&checksum);
        }
    }
    Answer::Icmp { to, message }
}

/// Sum of the 16-bit words of a packet's part, which has less than 64 KiB.
fn sum(bytes: &[u8]) -> u32 {
    let words = bytes.chunks(2);
    words.fold(0, |sum, word| {
        let low = word.get(1).copied().unwrap_or_default();
        sum + u32::from(u16::from_be_bytes([word.first().copied().unwrap_or_default(), low]))
    })
}

const fn checksum(mut sum: u32) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

#[cfg(test)]
mod tests;

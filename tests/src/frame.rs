//! Frames as bytes: a builder for every header the programs walk, with correct lengths and
//! checksums.
//!
//! Headers are pushed from the outside in; [`Frame::bytes`] closes them from the inside out. What
//! must be wrong in a test (a length, a truncation) is made wrong in the bytes afterwards.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// An Ethernet address.
pub type Mac = [u8; 6];

/// IP protocol numbers used here.
pub mod protocol {
    /// Hop-by-hop options (IPv6).
    pub const HOP_BY_HOP: u8 = 0;
    /// ICMP.
    pub const ICMP: u8 = 1;
    /// TCP.
    pub const TCP: u8 = 6;
    /// UDP.
    pub const UDP: u8 = 17;
    /// Routing header (IPv6).
    pub const ROUTING: u8 = 43;
    /// Fragment header (IPv6).
    pub const FRAGMENT: u8 = 44;
    /// `ICMPv6`.
    pub const ICMPV6: u8 = 58;
    /// Destination options (IPv6).
    pub const DESTINATION: u8 = 60;
}

/// TCP flags, as in the header's fourteenth byte.
pub mod tcp_flag {
    /// No more data from the sender.
    pub const FIN: u8 = 0x01;
    /// Start of a connection.
    pub const SYN: u8 = 0x02;
    /// Reset.
    pub const RST: u8 = 0x04;
    /// Push.
    pub const PSH: u8 = 0x08;
    /// Acknowledgement number is valid.
    pub const ACK: u8 = 0x10;
}

#[derive(Clone, Debug)]
enum Header {
    Ethernet { dst: Mac, src: Mac },
    Vlan { tpid: u16, id: u16 },
    Pppoe { session: u16 },
    Ipv4 { src: Ipv4Addr, dst: Ipv4Addr, id: u16, fragment: u16, options: Vec<u8> },
    Ipv6 { src: Ipv6Addr, dst: Ipv6Addr },
    Extension { kind: u8, body: Vec<u8> },
    Ipv6Fragment { offset: u16, more: bool, id: u32 },
    Tcp { sport: u16, dport: u16, seq: u32, ack: u32, flags: u8 },
    Udp { sport: u16, dport: u16 },
    Icmp { kind: u8, code: u8 },
    Raw { protocol: u8 },
}

/// A frame under construction.
///
/// ```
/// use sluice_tests::frame::Frame;
/// let bytes = Frame::ethernet([2; 6], [4; 6])
///     .vlan(7)
///     .ipv4("192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap())
///     .udp(1000, 53)
///     .payload(b"hello")
///     .bytes();
/// assert_eq!(bytes.len(), 14 + 4 + 20 + 8 + 5);
/// ```
#[derive(Clone, Debug, Default)]
pub struct Frame {
    headers: Vec<Header>,
    payload: Vec<u8>,
}

impl Frame {
    /// Starts with an Ethernet header.
    #[must_use]
    pub fn ethernet(dst: Mac, src: Mac) -> Self {
        Self { headers: vec![Header::Ethernet { dst, src }], payload: Vec::new() }
    }

    /// Starts with an IP header, as on a link without Ethernet.
    #[must_use]
    pub fn ip() -> Self {
        Self::default()
    }

    fn with(mut self, header: Header) -> Self {
        self.headers.push(header);
        self
    }

    /// A customer VLAN tag (802.1Q).
    #[must_use]
    pub fn vlan(self, id: u16) -> Self {
        self.with(Header::Vlan { tpid: 0x8100, id })
    }

    /// A service VLAN tag (802.1ad), the outer one of `QinQ`.
    #[must_use]
    pub fn service_vlan(self, id: u16) -> Self {
        self.with(Header::Vlan { tpid: 0x88a8, id })
    }

    /// A `PPPoE` session header and the PPP protocol number.
    #[must_use]
    pub fn pppoe(self, session: u16) -> Self {
        self.with(Header::Pppoe { session })
    }

    /// An IPv4 header without options.
    #[must_use]
    pub fn ipv4(self, src: Ipv4Addr, dst: Ipv4Addr) -> Self {
        self.with(Header::Ipv4 { src, dst, id: 0, fragment: 0, options: Vec::new() })
    }

    /// An IPv6 header.
    #[must_use]
    pub fn ipv6(self, src: Ipv6Addr, dst: Ipv6Addr) -> Self {
        self.with(Header::Ipv6 { src, dst })
    }

    /// An IPv4 or IPv6 header.
    ///
    /// # Panics
    /// When the families differ.
    #[must_use]
    pub fn addresses(self, src: IpAddr, dst: IpAddr) -> Self {
        match (src, dst) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => self.ipv4(src, dst),
            (IpAddr::V6(src), IpAddr::V6(dst)) => self.ipv6(src, dst),
            _ => unreachable!("{src} and {dst} are of two families"),
        }
    }

    fn ipv4_fields(mut self, change: impl FnOnce(&mut u16, &mut u16, &mut Vec<u8>)) -> Self {
        match self.headers.last_mut() {
            Some(Header::Ipv4 { id, fragment, options, .. }) => change(id, fragment, options),
            other => unreachable!("belongs behind an IPv4 header, not {other:?}"),
        }
        self
    }

    /// Options of the IPv4 header just added, filled up with "end of options".
    #[must_use]
    pub fn options(self, bytes: &[u8]) -> Self {
        self.ipv4_fields(|_, _, options| {
            *options = bytes.to_vec();
            options.resize(bytes.len().next_multiple_of(4), 0);
        })
    }

    /// Makes the IPv4 header just added one of a fragment: `offset` in bytes, a multiple of eight.
    #[must_use]
    pub fn fragment(self, datagram: u16, offset: u16, more: bool) -> Self {
        self.ipv4_fields(|id, fragment, _| {
            *id = datagram;
            *fragment = (offset / 8) | (u16::from(more) << 13);
        })
    }

    /// An IPv6 extension header of `kind`; `body` is filled up with padding options.
    #[must_use]
    pub fn extension(self, kind: u8, body: &[u8]) -> Self {
        self.with(Header::Extension { kind, body: body.to_vec() })
    }

    /// An IPv6 fragment header: `offset` in bytes, a multiple of eight.
    #[must_use]
    pub fn ipv6_fragment(self, id: u32, offset: u16, more: bool) -> Self {
        self.with(Header::Ipv6Fragment { offset, more, id })
    }

    /// A TCP header; see [`Frame::sequence`] for its numbers.
    #[must_use]
    pub fn tcp(self, sport: u16, dport: u16, flags: u8) -> Self {
        self.with(Header::Tcp { sport, dport, seq: 1, ack: 0, flags })
    }

    /// Sequence and acknowledgement number of the TCP header just added.
    #[must_use]
    pub fn sequence(mut self, seq: u32, ack: u32) -> Self {
        match self.headers.last_mut() {
            Some(Header::Tcp { seq: s, ack: a, .. }) => (*s, *a) = (seq, ack),
            other => unreachable!("belongs behind a TCP header, not {other:?}"),
        }
        self
    }

    /// A UDP header.
    #[must_use]
    pub fn udp(self, sport: u16, dport: u16) -> Self {
        self.with(Header::Udp { sport, dport })
    }

    /// An ICMP or, behind IPv6, `ICMPv6` header of eight bytes.
    #[must_use]
    pub fn icmp(self, kind: u8, code: u8) -> Self {
        self.with(Header::Icmp { kind, code })
    }

    /// No header, but the IP header in front names `protocol`: the tail of a fragmented packet, or
    /// a protocol without a builder.
    #[must_use]
    pub fn raw(self, protocol: u8) -> Self {
        self.with(Header::Raw { protocol })
    }

    /// What follows the last header.
    #[must_use]
    pub fn payload(mut self, bytes: &[u8]) -> Self {
        self.payload = bytes.to_vec();
        self
    }

    /// The finished frame.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = self.payload.clone();
        for (index, header) in self.headers.iter().enumerate().rev() {
            let mut front = header.close(self.headers.get(index + 1), &bytes);
            front.append(&mut bytes);
            bytes = front;
            header.checksum(self.ip_before(index), &mut bytes);
        }
        bytes
    }

    /// Source and destination of the IP header that carries header `index`.
    fn ip_before(&self, index: usize) -> Option<(IpAddr, IpAddr)> {
        self.headers[..index].iter().rev().find_map(|header| match header {
            Header::Ipv4 { src, dst, .. } => Some(((*src).into(), (*dst).into())),
            Header::Ipv6 { src, dst } => Some(((*src).into(), (*dst).into())),
            _ => None,
        })
    }
}

impl Header {
    /// `EtherType` of what this header is.
    const fn ether_type(&self) -> u16 {
        match self {
            Self::Vlan { tpid, .. } => *tpid,
            Self::Pppoe { .. } => 0x8864,
            Self::Ipv6 { .. } => 0x86dd,
            _ => 0x0800,
        }
    }

    /// IP protocol number of what this header is.
    const fn protocol(&self, ipv6: bool) -> u8 {
        match self {
            Self::Extension { kind, .. } => *kind,
            Self::Ipv6Fragment { .. } => protocol::FRAGMENT,
            Self::Tcp { .. } => protocol::TCP,
            Self::Udp { .. } => protocol::UDP,
            Self::Icmp { .. } if ipv6 => protocol::ICMPV6,
            Self::Icmp { .. } => protocol::ICMP,
            Self::Raw { protocol } => *protocol,
            Self::Ipv4 { .. } => 4,
            Self::Ipv6 { .. } => 41,
            _ => 59,
        }
    }

    /// The bytes of this header in front of `next` and of `rest`, all that comes behind it.
    fn close(&self, next: Option<&Self>, rest: &[u8]) -> Vec<u8> {
        let ether_type = next.map_or(0x0800, Self::ether_type).to_be_bytes();
        // 59 is "no next header".
        let proto = |ipv6| next.map_or(59, |next| next.protocol(ipv6));
        let mut out = Vec::new();
        match self {
            Self::Ethernet { dst, src } => {
                out.extend_from_slice(dst);
                out.extend_from_slice(src);
                out.extend_from_slice(&ether_type);
            }
            Self::Vlan { id, .. } => {
                out.extend_from_slice(&id.to_be_bytes());
                out.extend_from_slice(&ether_type);
            }
            Self::Pppoe { session } => {
                out.extend_from_slice(&[0x11, 0]);
                out.extend_from_slice(&session.to_be_bytes());
                out.extend_from_slice(&(rest.len() as u16 + 2).to_be_bytes());
                let ipv6 = matches!(next, Some(Self::Ipv6 { .. }));
                out.extend_from_slice(if ipv6 { &[0x00, 0x57] } else { &[0x00, 0x21] });
            }
            Self::Ipv4 { src, dst, id, fragment, options } => {
                let words = 5 + options.len() as u8 / 4;
                out.extend_from_slice(&[0x40 | words, 0]);
                out.extend_from_slice(&(u16::from(words) * 4 + rest.len() as u16).to_be_bytes());
                out.extend_from_slice(&id.to_be_bytes());
                out.extend_from_slice(&fragment.to_be_bytes());
                out.extend_from_slice(&[64, proto(false), 0, 0]);
                out.extend_from_slice(&src.octets());
                out.extend_from_slice(&dst.octets());
                out.extend_from_slice(options);
                let sum = fold(sum(&out));
                out[10..12].copy_from_slice(&sum.to_be_bytes());
            }
            Self::Ipv6 { src, dst } => {
                out.extend_from_slice(&[0x60, 0, 0, 0]);
                out.extend_from_slice(&(rest.len() as u16).to_be_bytes());
                out.extend_from_slice(&[proto(true), 64]);
                out.extend_from_slice(&src.octets());
                out.extend_from_slice(&dst.octets());
            }
            Self::Extension { body, .. } => {
                let length = (2 + body.len()).next_multiple_of(8);
                out.extend_from_slice(&[proto(true), (length / 8 - 1) as u8]);
                out.extend_from_slice(body);
                pad_options(&mut out, length);
            }
            Self::Ipv6Fragment { offset, more, id } => {
                out.extend_from_slice(&[proto(true), 0]);
                out.extend_from_slice(&(offset & !7 | u16::from(*more)).to_be_bytes());
                out.extend_from_slice(&id.to_be_bytes());
            }
            Self::Tcp { sport, dport, seq, ack, flags } => {
                out.extend_from_slice(&sport.to_be_bytes());
                out.extend_from_slice(&dport.to_be_bytes());
                out.extend_from_slice(&seq.to_be_bytes());
                out.extend_from_slice(&ack.to_be_bytes());
                out.extend_from_slice(&[0x50, *flags, 0xff, 0xff, 0, 0, 0, 0]);
            }
            Self::Udp { sport, dport } => {
                out.extend_from_slice(&sport.to_be_bytes());
                out.extend_from_slice(&dport.to_be_bytes());
                out.extend_from_slice(&(8 + rest.len() as u16).to_be_bytes());
                out.extend_from_slice(&[0, 0]);
            }
            Self::Icmp { kind, code } => {
                out.extend_from_slice(&[*kind, *code, 0, 0, 0, 1, 0, 1]);
            }
            Self::Raw { .. } => {}
        }
        out
    }

    /// Fills in the transport checksum of `bytes`, which start with this header.
    fn checksum(&self, ip: Option<(IpAddr, IpAddr)>, bytes: &mut [u8]) {
        let Some((src, dst)) = ip else { return };
        let at = match self {
            Self::Tcp { .. } => 16,
            Self::Udp { .. } => 6,
            Self::Icmp { .. } => 2,
            _ => return,
        };
        // ICMP over IPv4 is the one without a pseudo-header (RFC 792).
        let pseudo = match (src, dst) {
            (IpAddr::V4(_), _) if matches!(self, Self::Icmp { .. }) => 0,
            (IpAddr::V4(src), IpAddr::V4(dst)) => sum(&src.octets()) + sum(&dst.octets()),
            (IpAddr::V6(src), IpAddr::V6(dst)) => sum(&src.octets()) + sum(&dst.octets()),
            _ => return,
        };
        let length = if pseudo == 0 {
            0
        } else {
            bytes.len() as u32 + u32::from(self.protocol(src.is_ipv6()))
        };
        let check = fold(pseudo + length + sum(bytes));
        // A UDP checksum that comes out as zero is sent as all ones (RFC 768).
        let check = if check == 0 && matches!(self, Self::Udp { .. }) { 0xffff } else { check };
        bytes[at..at + 2].copy_from_slice(&check.to_be_bytes());
    }
}

/// Fills an options header up to `length` with `Pad1` or `PadN` (RFC 8200, section 4.2).
fn pad_options(out: &mut Vec<u8>, length: usize) {
    match length - out.len() {
        0 => {}
        1 => out.push(0),
        n => {
            out.extend_from_slice(&[1, (n - 2) as u8]);
            out.resize(length, 0);
        }
    }
}

fn sum(bytes: &[u8]) -> u32 {
    let words = bytes.chunks(2);
    words.map(|w| u32::from(w[0]) << 8 | u32::from(w.get(1).copied().unwrap_or(0))).sum()
}

const fn fold(mut sum: u32) -> u16 {
    while sum > 0xffff {
        sum = (sum >> 16) + (sum & 0xffff);
    }
    !(sum as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
    const B: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 7);

    fn v6(text: &str) -> Ipv6Addr {
        text.parse().unwrap()
    }

    /// Bytes of a correct frame summed with their own checksum give all ones.
    fn proves(pseudo: u32, bytes: &[u8]) {
        assert_eq!(fold(pseudo + sum(bytes)), 0, "{bytes:02x?}");
    }

    #[test]
    fn lengths_and_checksums_are_correct_for_every_transport() {
        for payload in [&b""[..], b"x", b"even", &[0xff; 1400]] {
            for (frame, proto) in [
                (Frame::ip().ipv4(A, B).tcp(1, 2, tcp_flag::SYN), protocol::TCP),
                (Frame::ip().ipv4(A, B).udp(1, 2), protocol::UDP),
            ] {
                let bytes = frame.payload(payload).bytes();
                assert_eq!(usize::from(u16::from_be_bytes([bytes[2], bytes[3]])), bytes.len());
                proves(0, &bytes[..20]);
                let length = bytes.len() as u32 - 20;
                let pseudo = sum(&A.octets()) + sum(&B.octets()) + length + u32::from(proto);
                proves(pseudo, &bytes[20..]);
            }
            let bytes = Frame::ip().ipv4(A, B).icmp(8, 0).payload(payload).bytes();
            proves(0, &bytes[20..]);

            let (c, d) = (v6("2001:db8::1"), v6("2001:db8::2"));
            let bytes = Frame::ip().ipv6(c, d).icmp(128, 0).payload(payload).bytes();
            let length = bytes.len() as u32 - 40;
            assert_eq!(u32::from(u16::from_be_bytes([bytes[4], bytes[5]])), length);
            proves(sum(&c.octets()) + sum(&d.octets()) + length + 58, &bytes[40..]);
        }
    }

    #[test]
    fn headers_name_what_follows_them() {
        let bytes = Frame::ethernet([1; 6], [2; 6])
            .service_vlan(100)
            .vlan(7)
            .pppoe(0x1234)
            .ipv6(v6("2001:db8::1"), v6("2001:db8::2"))
            .extension(protocol::HOP_BY_HOP, &[5, 2, 0, 0])
            .ipv6_fragment(9, 16, true)
            .udp(5, 6)
            .payload(b"ab")
            .bytes();
        assert_eq!(bytes[12..14], [0x88, 0xa8]);
        assert_eq!(bytes[14..18], [0, 100, 0x81, 0]);
        assert_eq!(bytes[18..22], [0, 7, 0x88, 0x64]);
        // PPPoE length counts the PPP protocol and the IPv6 packet.
        assert_eq!(bytes[22..30], [0x11, 0, 0x12, 0x34, 0, 2 + 40 + 8 + 8 + 8 + 2, 0x00, 0x57]);
        assert_eq!(bytes[30 + 6], protocol::HOP_BY_HOP);
        assert_eq!(bytes[70..78], [protocol::FRAGMENT, 0, 5, 2, 0, 0, 1, 0]);
        assert_eq!(bytes[78..86], [protocol::UDP, 0, 0, 17, 0, 0, 0, 9]);
        assert_eq!(bytes.len(), 30 + 40 + 8 + 8 + 8 + 2);
    }

    #[test]
    fn the_datapath_reads_what_the_builder_writes() {
        use sluice_abi::attach::Link;
        use sluice_datapath::parse;

        let frame = Frame::ethernet([1; 6], [2; 6])
            .vlan(7)
            .ipv4(A, B)
            .options(&[7, 3, 4])
            .tcp(4000, 443, tcp_flag::SYN)
            .bytes();
        assert_eq!(frame.len(), 14 + 4 + 24 + 20);
        let headers = parse::headers(&frame[..], Link::Ethernet).unwrap();
        assert_eq!(IpAddr::from(headers.src), IpAddr::from(A));
        assert_eq!((headers.sport, headers.dport), (4000_u16.to_be(), 443_u16.to_be()));
        assert!(headers.is_syn());
    }
}

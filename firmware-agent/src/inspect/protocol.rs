//! What a flow speaks, from the first bytes of either direction.
//!
//! Cheap and stateless: a look at a handful of bytes, no copy. Every answer says how sure it is.
//! Nothing is decided by it alone; TLS, QUIC and HTTP have parsers of their own.

/// A protocol. Append only: names are in events.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Protocol {
    /// TLS over TCP (RFC 8446).
    Tls,
    /// QUIC (RFC 9000).
    Quic,
    /// HTTP/1 without TLS (RFC 9112).
    Http,
    /// HTTP/2 without TLS and without an upgrade (RFC 9113, section 3.3).
    Http2,
    /// SSH (RFC 4253).
    Ssh,
    /// DNS (RFC 1035, RFC 7766).
    Dns,
    /// Multicast DNS (RFC 6762).
    Mdns,
    /// DHCP (RFC 2131).
    Dhcp,
    /// DTLS (RFC 6347, RFC 9147).
    Dtls,
    /// STUN and TURN (RFC 8489).
    Stun,
    /// `BitTorrent`: peers (BEP 3) and the table of nodes (BEP 5).
    BitTorrent,
    /// `WireGuard`.
    WireGuard,
    /// `OpenVPN`.
    OpenVpn,
    /// RTP (RFC 3550).
    Rtp,
    /// NTP (RFC 5905).
    Ntp,
    /// SMTP (RFC 5321).
    Smtp,
    /// IMAP (RFC 9051).
    Imap,
    /// POP3 (RFC 1939).
    Pop3,
    /// FTP (RFC 959).
    Ftp,
    /// SIP (RFC 3261).
    Sip,
    /// RTSP (RFC 7826).
    Rtsp,
    /// SSDP, the search of `UPnP`.
    Ssdp,
    /// MQTT.
    Mqtt,
    /// SMB.
    Smb,
    /// RDP.
    Rdp,
    /// VNC (RFC 6143).
    Vnc,
}

impl Protocol {
    /// The word used in status and events.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tls => "tls",
            Self::Quic => "quic",
            Self::Http => "http",
            Self::Http2 => "http2",
            Self::Ssh => "ssh",
            Self::Dns => "dns",
            Self::Mdns => "mdns",
            Self::Dhcp => "dhcp",
            Self::Dtls => "dtls",
            Self::Stun => "stun",
            Self::BitTorrent => "bittorrent",
            Self::WireGuard => "wireguard",
            Self::OpenVpn => "openvpn",
            Self::Rtp => "rtp",
            Self::Ntp => "ntp",
            Self::Smtp => "smtp",
            Self::Imap => "imap",
            Self::Pop3 => "pop3",
            Self::Ftp => "ftp",
            Self::Sip => "sip",
            Self::Rtsp => "rtsp",
            Self::Ssdp => "ssdp",
            Self::Mqtt => "mqtt",
            Self::Smb => "smb",
            Self::Rdp => "rdp",
            Self::Vnc => "vnc",
        }
    }
}

/// How sure an answer is.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Confidence {
    /// The form fits, and so does that of some random bytes; of RTP, of one packet in eight.
    Guess,
    /// The form and the port, or a longer form, fit.
    Likely,
    /// Four bytes or more that mean nothing else.
    Certain,
}

impl Confidence {
    /// The word used in status and events.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Guess => "guess",
            Self::Likely => "likely",
            Self::Certain => "certain",
        }
    }
}

/// A protocol and how sure that is.
pub type Seen = (Protocol, Confidence);

use Confidence::{Certain, Guess, Likely};

/// Protocols whose first bytes are text, by those bytes. The first that fits counts.
#[rustfmt::skip]
const WORDS: [(&[u8], Seen); 30] = [
    (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", (Protocol::Http2, Certain)),
    (b"SSH-2.0-",            (Protocol::Ssh, Certain)),
    (b"SSH-1.99-",           (Protocol::Ssh, Certain)),
    (b"\x13BitTorrent protocol", (Protocol::BitTorrent, Certain)),
    (b"RFB 00",              (Protocol::Vnc, Certain)),
    (b"* OK",                (Protocol::Imap, Likely)),
    (b"* PREAUTH",           (Protocol::Imap, Likely)),
    (b"* BYE",               (Protocol::Imap, Likely)),
    (b"+OK",                 (Protocol::Pop3, Likely)),
    (b"EHLO ",               (Protocol::Smtp, Certain)),
    (b"HELO ",               (Protocol::Smtp, Certain)),
    (b"SIP/2.0 ",            (Protocol::Sip, Certain)),
    (b"INVITE sip",          (Protocol::Sip, Certain)),
    (b"REGISTER sip",        (Protocol::Sip, Certain)),
    (b"OPTIONS sip",         (Protocol::Sip, Certain)),
    (b"SUBSCRIBE sip",       (Protocol::Sip, Certain)),
    (b"NOTIFY sip",          (Protocol::Sip, Certain)),
    (b"MESSAGE sip",         (Protocol::Sip, Certain)),
    (b"PUBLISH sip",         (Protocol::Sip, Certain)),
    (b"OPTIONS rtsp://",     (Protocol::Rtsp, Certain)),
    (b"DESCRIBE rtsp://",    (Protocol::Rtsp, Certain)),
    (b"SETUP rtsp://",       (Protocol::Rtsp, Certain)),
    (b"RTSP/1.0 ",           (Protocol::Rtsp, Certain)),
    (b"RTSP/2.0 ",           (Protocol::Rtsp, Certain)),
    (b"M-SEARCH * HTTP/1.1", (Protocol::Ssdp, Certain)),
    (b"NOTIFY * HTTP/1.1",   (Protocol::Ssdp, Certain)),
    (b"d1:ad2:id20:",        (Protocol::BitTorrent, Certain)),
    (b"d1:rd2:id20:",        (Protocol::BitTorrent, Certain)),
    (b"d1:ed2:id20:",        (Protocol::BitTorrent, Certain)),
    (b"d1:eli20",            (Protocol::BitTorrent, Likely)),
];

fn by_words(bytes: &[u8]) -> Option<Seen> {
    WORDS.iter().find(|(word, _)| bytes.starts_with(word)).map(|(_, seen)| *seen)
}

/// The protocol of a TCP stream that starts with `bytes`, in the direction to or from `ports`.
#[must_use]
pub fn of_stream(bytes: &[u8], ports: [u16; 2]) -> Option<Seen> {
    by_words(bytes)
        .or_else(|| greeting(bytes, ports))
        .or_else(|| tagged_imap(bytes))
        .or_else(|| dns_stream(bytes, ports))
        .or_else(|| match bytes {
            // Remaining length, then the name of the protocol and its version (MQTT 3.1, 3.1.1, 5).
            [0x10, _, 0, 4, b'M', b'Q', b'T', b'T', 3..=5, ..]
            | [0x10, _, _, 0, 4, b'M', b'Q', b'T', b'T', 3..=5, ..]
            | [0x10, _, 0, 6, b'M', b'Q', b'I', b's', b'd', b'p', 3, ..] => {
                Some((Protocol::Mqtt, Certain))
            }
            [0, _, _, _, 0xfe | 0xff, b'S', b'M', b'B', ..] => Some((Protocol::Smb, Certain)),
            // TPKT and a connection request or confirmation of X.224.
            [3, 0, high, low, length, 0xe0 | 0xd0, ..]
                if u16::from_be_bytes([*high, *low]) == u16::from(*length) + 5 =>
            {
                Some((Protocol::Rdp, Likely))
            }
            [high, low, rest @ ..]
                if usize::from(u16::from_be_bytes([*high, *low])) == rest.len() =>
            {
                openvpn(rest, ports)
            }
            _ => None,
        })
}

/// The protocol of a datagram between `ports`.
#[must_use]
pub fn of_datagram(bytes: &[u8], ports: [u16; 2]) -> Option<Seen> {
    let has_port = |port| ports.contains(&port);
    by_words(bytes)
        .or_else(|| stun(bytes))
        .or_else(|| dtls(bytes))
        .or_else(|| wireguard(bytes))
        .or_else(|| {
            let port = if has_port(53) {
                Protocol::Dns
            } else if has_port(5353) {
                Protocol::Mdns
            } else {
                return None;
            };
            is_dns(bytes).then_some((port, Likely))
        })
        .or_else(|| {
            let is_bootp = bytes.len() >= 240
                && matches!(bytes[0], 1 | 2)
                && bytes[236..240] == [0x63, 0x82, 0x53, 0x63];
            is_bootp.then_some((Protocol::Dhcp, Certain))
        })
        .or_else(|| (has_port(123) && is_ntp(bytes)).then_some((Protocol::Ntp, Likely)))
        .or_else(|| openvpn(bytes, ports))
        .or_else(|| is_rtp(bytes, ports).then_some((Protocol::Rtp, Guess)))
}

/// The first line of a server that speaks first: `220` is SMTP's and FTP's.
fn greeting(bytes: &[u8], ports: [u16; 2]) -> Option<Seen> {
    let text =
        bytes.strip_prefix(b"220").filter(|rest| matches!(rest.first(), Some(b' ' | b'-')))?;
    let line = text.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let has = |word: &[u8]| line.windows(word.len()).any(|part| part.eq_ignore_ascii_case(word));
    let has_port = |wanted: &[u16]| ports.iter().any(|port| wanted.contains(port));
    if has(b"smtp") || has_port(&[25, 587, 2525]) {
        Some((Protocol::Smtp, Likely))
    } else if has(b"ftp") || has_port(&[21]) {
        Some((Protocol::Ftp, Likely))
    } else {
        None
    }
}

/// A client's first command behind its tag.
fn tagged_imap(bytes: &[u8]) -> Option<Seen> {
    let space = bytes.iter().take(12).position(|byte| *byte == b' ')?;
    let (tag, command) = (&bytes[..space], &bytes[space + 1..]);
    let has_tag = !tag.is_empty() && tag.iter().all(u8::is_ascii_alphanumeric);
    let commands: [&[u8]; 5] =
        [b"CAPABILITY\r\n", b"STARTTLS\r\n", b"LOGIN ", b"NOOP\r\n", b"ID ("];
    let is_command = |word: &&[u8]| {
        command.get(..word.len()).is_some_and(|start| start.eq_ignore_ascii_case(word))
    };
    (has_tag && commands.iter().any(is_command)).then_some((Protocol::Imap, Likely))
}

/// DNS over TCP: a length, then the message.
fn dns_stream(bytes: &[u8], ports: [u16; 2]) -> Option<Seen> {
    let (length, message) = bytes.split_first_chunk()?;
    let fits = ports.contains(&53) && usize::from(u16::from_be_bytes(*length)) >= message.len();
    (fits && is_dns(message)).then_some((Protocol::Dns, Likely))
}

/// Whether a message has a header of DNS that makes sense (RFC 1035, section 4.1.1).
fn is_dns(message: &[u8]) -> bool {
    let Some(header) = message.first_chunk::<12>() else { return false };
    let count = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
    let is_answer = header[2] & 0x80 != 0;
    let opcode = header[2] >> 3 & 15;
    // A query has no answers but those that multicast DNS knows already.
    matches!(opcode, 0 | 4 | 5)
        && count(4) <= 64
        && count(6) <= 256
        && count(8) <= 256
        && count(10) <= 64
        && (is_answer || count(4) > 0)
}

fn stun(bytes: &[u8]) -> Option<Seen> {
    const MAGIC: [u8; 4] = [0x21, 0x12, 0xa4, 0x42];
    let header = bytes.first_chunk::<20>()?;
    let length = usize::from(u16::from_be_bytes([header[2], header[3]]));
    let fits = header[0] & 0xc0 == 0
        && header[4..8] == MAGIC
        && length.is_multiple_of(4)
        && length == bytes.len() - header.len();
    fits.then_some((Protocol::Stun, Certain))
}

fn dtls(bytes: &[u8]) -> Option<Seen> {
    // A handshake record of version 1.0 or 1.2, of epoch 0.
    let header = bytes.first_chunk::<13>()?;
    let length = usize::from(u16::from_be_bytes([header[11], header[12]]));
    let fits = header[0] == 22
        && header[1] == 0xfe
        && matches!(header[2], 0xff | 0xfd)
        && header[3..5] == [0, 0]
        && length <= bytes.len() - header.len();
    fits.then_some((Protocol::Dtls, Certain))
}

/// By the lengths of its messages: an initiation, a response, a cookie, data.
fn wireguard(bytes: &[u8]) -> Option<Seen> {
    let (kind, rest) = bytes.split_first_chunk::<4>()?;
    match (kind, rest.len() + 4) {
        ([1, 0, 0, 0], 148) | ([2, 0, 0, 0], 92) => Some((Protocol::WireGuard, Certain)),
        ([3, 0, 0, 0], 64) => Some((Protocol::WireGuard, Likely)),
        // A receiver, a counter that is small at the start of a flow, and padded data with its tag.
        ([4, 0, 0, 0], length) if length >= 32 && length.is_multiple_of(16) => {
            let counter = rest.get(4..12).and_then(|counter| counter.try_into().ok());
            let is_early = counter.is_some_and(|counter| u64::from_le_bytes(counter) < 1 << 16);
            Some((Protocol::WireGuard, if is_early { Likely } else { Guess }))
        }
        _ => None,
    }
}

/// The reset with which a session starts, and the answer: operation and key number in one byte, a
/// session that is not zero.
fn openvpn(bytes: &[u8], ports: [u16; 2]) -> Option<Seen> {
    const CLIENT_V2: u8 = 7 << 3;
    const SERVER_V2: u8 = 8 << 3;
    const CLIENT_V3: u8 = 10 << 3;
    let (operation, rest) = bytes.split_first()?;
    let session = rest.get(..8)?;
    let is_reset = matches!(*operation, CLIENT_V2 | SERVER_V2 | CLIENT_V3);
    // Without an authenticated control channel 14 bytes, with one up to 86, with a wrapped key more.
    let longest = if *operation == CLIENT_V3 { 1500 } else { 128 };
    if !is_reset || !(14..=longest).contains(&bytes.len()) || session.iter().all(|b| *b == 0) {
        return None;
    }
    Some((Protocol::OpenVpn, if ports.contains(&1194) { Likely } else { Guess }))
}

fn is_ntp(bytes: &[u8]) -> bool {
    let Some(first) = bytes.first() else { return false };
    let (version, mode) = (first >> 3 & 7, first & 7);
    // 48 bytes, or more with extensions; control messages (mode 6) from 12.
    (1..=4).contains(&version)
        && match mode {
            1..=5 => bytes.len() >= 48,
            6 => bytes.len() >= 12,
            _ => false,
        }
}

/// Version 2, a kind of payload in use, and the ports of media.
fn is_rtp(bytes: &[u8], ports: [u16; 2]) -> bool {
    let Some(header) = bytes.first_chunk::<12>() else { return false };
    let sources = usize::from(header[0] & 15);
    header[0] >> 6 == 2
        && matches!(header[1] & 0x7f, 0..=34 | 96..=127)
        && header[8..12] != [0; 4]
        && bytes.len() > 12 + 4 * sources
        && ports.iter().all(|port| *port >= 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANY: [u16; 2] = [40_000, 41_000];

    fn stream(bytes: &[u8], port: u16) -> Option<(&'static str, &'static str)> {
        of_stream(bytes, [40_000, port]).map(|(protocol, sure)| (protocol.name(), sure.name()))
    }

    fn datagram(bytes: &[u8], port: u16) -> Option<(&'static str, &'static str)> {
        of_datagram(bytes, [port, 40_000]).map(|(protocol, sure)| (protocol.name(), sure.name()))
    }

    fn padded(start: &[u8], len: usize) -> Vec<u8> {
        let mut bytes = start.to_vec();
        bytes.resize(len, 7);
        bytes
    }

    #[test]
    fn streams_are_told_by_their_first_bytes() {
        let certain = |name| Some((name, "certain"));
        let likely = |name| Some((name, "likely"));
        assert_eq!(stream(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0", 80), certain("http2"));
        assert_eq!(stream(b"SSH-2.0-dropbear\r\n", 22), certain("ssh"));
        assert_eq!(stream(b"\x13BitTorrent protocol", 6881), certain("bittorrent"));
        assert_eq!(stream(b"220 mail.test ESMTP Postfix\r\n", 2000), likely("smtp"));
        assert_eq!(stream(b"220-welcome\r\n", 587), likely("smtp"));
        assert_eq!(stream(b"220 ProFTPD Server\r\n", 2000), likely("ftp"));
        assert_eq!(stream(b"220 welcome\r\n", 2000), None);
        assert_eq!(stream(b"2200 smtp\r\n", 25), None);
        assert_eq!(stream(b"EHLO laptop\r\n", 25), certain("smtp"));
        assert_eq!(stream(b"* OK IMAP4rev1\r\n", 143), likely("imap"));
        assert_eq!(stream(b"a001 capability\r\n", 143), likely("imap"));
        assert_eq!(stream(b"hello capability", 143), None);
        assert_eq!(stream(b"+OK dovecot\r\n", 110), likely("pop3"));
        assert_eq!(stream(b"\x10\x0c\0\x04MQTT\x04\x02", 1883), certain("mqtt"));
        assert_eq!(stream(b"\0\0\0\x45\xffSMBr", 445), certain("smb"));
        assert_eq!(stream(&[3, 0, 0, 11, 6, 0xe0, 0, 0, 0, 0, 0], 3389), likely("rdp"));
        assert_eq!(stream(b"RFB 003.008\n", 5900), certain("vnc"));
        let query = [&[0, 29][..], &[1, 2, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0], &[7; 17]].concat();
        assert_eq!(stream(&query, 53), likely("dns"));
        assert_eq!(stream(&query, 54), None);
        let reset = [&[0, 14][..], &padded(&[0x38], 14)].concat();
        assert_eq!(stream(&reset, 1194), likely("openvpn"));
        assert_eq!(stream(&reset, 443), Some(("openvpn", "guess")));
        for nothing in [&b""[..], b"\0", b"GET / HTTP/1.1\r\n", b"\x16\x03\x01\x02\0", b"hello"] {
            assert_eq!(stream(nothing, 443), None, "{nothing:?}");
        }
    }

    #[test]
    fn datagrams_are_told_by_form_and_port() {
        let certain = |name| Some((name, "certain"));
        let likely = |name| Some((name, "likely"));
        let binding = [&[0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42][..], &[9; 12]].concat();
        assert_eq!(datagram(&binding, 3478), certain("stun"));
        assert_eq!(datagram(&[&binding[..], &[0]].concat(), 3478), None, "not its length");
        assert_eq!(datagram(&padded(&[1, 0, 0, 0], 148), 51820), certain("wireguard"));
        assert_eq!(datagram(&padded(&[2, 0, 0, 0], 92), 5), certain("wireguard"));
        assert_eq!(datagram(&padded(&[1, 0, 0, 0], 147), 51820), None);
        let early = padded(&[4, 0, 0, 0, 7, 7, 7, 7, 3, 0, 0, 0, 0, 0, 0, 0], 48);
        assert_eq!(datagram(&early, 51820), likely("wireguard"));
        assert_eq!(datagram(&padded(&[4, 0, 0, 0], 48), 51820), Some(("wireguard", "guess")));
        let dtls = padded(&[22, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 20], 33);
        assert_eq!(datagram(&dtls, 443), certain("dtls"));
        let query = [&[1, 2, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0][..], &[7; 17]].concat();
        assert_eq!(datagram(&query, 53), likely("dns"));
        assert_eq!(datagram(&query, 5353), likely("mdns"));
        assert_eq!(datagram(&query, 54), None);
        assert_eq!(datagram(&padded(&[0x23], 48), 123), likely("ntp"));
        assert_eq!(datagram(&padded(&[0x23], 47), 123), None);
        assert_eq!(datagram(&padded(&[0x38], 14), 1194), likely("openvpn"));
        assert_eq!(datagram(&[&[0x38][..], &[0; 13]].concat(), 1194), None, "no session");
        assert_eq!(datagram(b"d1:ad2:id20:abcdefghij", 6881), certain("bittorrent"));
        let mut dhcp = padded(&[1, 1, 6, 0], 244);
        dhcp[236..240].copy_from_slice(&[0x63, 0x82, 0x53, 0x63]);
        assert_eq!(datagram(&dhcp, 67), certain("dhcp"));
        assert_eq!(datagram(&padded(&[0x80, 0x60], 172), 20_000), Some(("rtp", "guess")));
        assert_eq!(datagram(&padded(&[0x80, 0x60], 172), 53), None);
        assert_eq!(datagram(&[], 53), None);
    }

    /// How often random bytes look like something, per protocol and confidence: the doc comment of
    /// [`Confidence`] says it.
    #[test]
    fn random_bytes_are_mostly_nothing() {
        let mut state = 1_u64;
        let mut random = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695);
            state.to_be_bytes()
        };
        let mut certain = 0;
        let (mut guesses, mut rtp) = (0, 0);
        for _ in 0..200_000 {
            let bytes: Vec<u8> = (0..6).flat_map(|_| random()).collect();
            for seen in [of_stream(&bytes, ANY), of_datagram(&bytes, ANY)].into_iter().flatten() {
                match seen {
                    (_, Certain | Likely) => certain += 1,
                    (Protocol::Rtp, Guess) => rtp += 1,
                    (_, Guess) => guesses += 1,
                }
            }
        }
        assert_eq!(certain, 0);
        assert!(guesses * 64 < 200_000, "{guesses}");
        // Two bits and half of the kinds of payload: of that alone nothing may follow.
        assert!(rtp * 6 < 200_000, "{rtp}");
    }

    #[test]
    fn no_length_of_anything_panics() {
        for first in 0..=255_u8 {
            for len in 0..64 {
                let bytes = padded(&[first], len);
                let _ = (of_stream(&bytes, [53, 25]), of_datagram(&bytes, [53, 123]));
            }
        }
    }
}

//! What a rule says, apart from the bytes it looks for.

use std::net::IpAddr;
use std::sync::Arc;

use super::condition::{FlowWants, Sizes, TcpFlags, Threshold};
use super::list::Set;
use super::ranges::{Point, Ranges, number};

/// What a match asks for, in the order in which rules are tried.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Action {
    /// No other rule is tried.
    Pass,
    /// The packet is dropped.
    Drop,
    /// The packet is dropped, and its sender told.
    Reject,
    /// It is told.
    Alert,
}

impl Action {
    /// The word used in rules, status and events.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Drop => "drop",
            Self::Reject => "reject",
            Self::Alert => "alert",
        }
    }
}

/// Bytes in which contents are found.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[repr(u8)]
pub enum Buffer {
    /// The payload of the packet, or the stream so far.
    Payload,
    /// `tls.sni`: the name in the ClientHello.
    Sni,
    /// `ja3.hash`: 32 hexadecimal digits in lower case.
    Ja3,
    /// `ja4.hash`.
    Ja4,
    /// `dns.query`: one name that is asked for, labels joined by dots.
    DnsQuery,
    /// `http.host`: the host in lower case, without its port.
    HttpHost,
    /// `http.uri`: the target of the request.
    HttpUri,
    /// `http.method`.
    HttpMethod,
    /// `http.user_agent`.
    UserAgent,
}

impl Buffer {
    /// How many there are.
    pub const COUNT: usize = 9;

    /// Each of them.
    pub const ALL: [Self; Self::COUNT] = [
        Self::Payload,
        Self::Sni,
        Self::Ja3,
        Self::Ja4,
        Self::DnsQuery,
        Self::HttpHost,
        Self::HttpUri,
        Self::HttpMethod,
        Self::UserAgent,
    ];

    /// The sticky buffer of this keyword. Older names, with an underscore, stand for the same where
    /// they were sticky too.
    pub(super) fn from_keyword(keyword: &str) -> Option<Self> {
        Some(match keyword {
            "tls.sni" | "tls_sni" => Self::Sni,
            "ja3.hash" | "ja3_hash" => Self::Ja3,
            "ja4.hash" => Self::Ja4,
            "dns.query" | "dns_query" => Self::DnsQuery,
            "http.host" => Self::HttpHost,
            "http.uri" => Self::HttpUri,
            "http.method" => Self::HttpMethod,
            "http.user_agent" => Self::UserAgent,
            _ => return None,
        })
    }

    /// The keyword used in rules, status and events.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Payload => "payload",
            Self::Sni => "tls.sni",
            Self::Ja3 => "ja3.hash",
            Self::Ja4 => "ja4.hash",
            Self::DnsQuery => "dns.query",
            Self::HttpHost => "http.host",
            Self::HttpUri => "http.uri",
            Self::HttpMethod => "http.method",
            Self::UserAgent => "http.user_agent",
        }
    }
}

/// What a flow speaks.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u8)]
pub enum App {
    /// HTTP/1.
    Http1,
    /// HTTP/2.
    Http2,
    /// TLS.
    Tls,
    /// DNS.
    Dns,
    /// QUIC.
    Quic,
    /// SSH.
    Ssh,
    /// SMTP.
    Smtp,
    /// IMAP.
    Imap,
    /// POP3.
    Pop3,
    /// FTP.
    Ftp,
    /// NTP.
    Ntp,
    /// DHCP.
    Dhcp,
    /// MQTT.
    Mqtt,
    /// SIP.
    Sip,
    /// RDP.
    Rdp,
    /// VNC.
    Rfb,
    /// SMB.
    Smb,
}

/// A set of [`App`]; what a rule's protocol names.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Apps(u32);

impl Apps {
    /// The set that a protocol of the rule language means.
    pub(super) fn from_keyword(keyword: &str) -> Option<Self> {
        let of = |app: App| Self(1 << app as u32);
        Some(match keyword {
            "http" => Self(of(App::Http1).0 | of(App::Http2).0),
            "http1" => of(App::Http1),
            "http2" => of(App::Http2),
            "tls" | "ssl" => of(App::Tls),
            "dns" => of(App::Dns),
            "quic" => of(App::Quic),
            "ssh" => of(App::Ssh),
            "smtp" => of(App::Smtp),
            "imap" => of(App::Imap),
            "pop3" => of(App::Pop3),
            "ftp" => of(App::Ftp),
            "ntp" => of(App::Ntp),
            "dhcp" => of(App::Dhcp),
            "mqtt" => of(App::Mqtt),
            "sip" => of(App::Sip),
            "rdp" => of(App::Rdp),
            "rfb" => of(App::Rfb),
            "smb" => of(App::Smb),
            _ => return None,
        })
    }

    /// Whether it is one of them.
    #[must_use]
    pub const fn contains(self, app: App) -> bool {
        self.0 >> app as u32 & 1 == 1
    }
}

/// The protocol below.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Transport {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// ICMP of either family.
    Icmp,
    /// Something else.
    Other,
}

/// What the second word of a rule says.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Protocol {
    /// `ip`: whatever it is.
    Any,
    /// `tcp`, `udp` or `icmp`.
    Transport(Transport),
    /// `tcp-pkt`: TCP, and contents lie in one packet.
    Packet,
    /// `tcp-stream`: TCP, and contents lie in the stream.
    Stream,
    /// A protocol of applications.
    App(Apps),
}

impl Protocol {
    pub(super) fn from_keyword(keyword: &str) -> Option<Self> {
        Some(match keyword {
            "ip" | "any" => Self::Any,
            "tcp" => Self::Transport(Transport::Tcp),
            "udp" => Self::Transport(Transport::Udp),
            "icmp" => Self::Transport(Transport::Icmp),
            "tcp-pkt" => Self::Packet,
            "tcp-stream" => Self::Stream,
            app => Self::App(Apps::from_keyword(app)?),
        })
    }
}

/// Whose packets a rule is for.
#[derive(Clone, Debug)]
pub struct Header {
    /// What they speak.
    pub protocol: Protocol,
    /// Where they come from.
    pub(super) source: Set<u128>,
    /// From which port.
    pub(super) source_port: Set<u16>,
    /// Where they go.
    pub(super) destination: Set<u128>,
    /// To which port.
    pub(super) destination_port: Set<u16>,
    /// Source and destination may be swapped (`<>`).
    pub is_both_ways: bool,
}

impl Header {
    /// Whether addresses and ports are those of the header.
    pub(super) fn is_between(&self, source: (IpAddr, u16), destination: (IpAddr, u16)) -> bool {
        has(self.source_port.as_ref(), source.1)
            && has(self.destination_port.as_ref(), destination.1)
            && has(self.source.as_ref(), number(source.0))
            && has(self.destination.as_ref(), number(destination.0))
    }
}

fn has<T: Point>(set: Option<&Arc<Ranges<T>>>, value: T) -> bool {
    set.is_none_or(|set| set.contains(value))
}

/// A rule without its contents.
#[derive(Clone, Debug)]
pub struct Rule {
    /// Its number.
    pub sid: u32,
    /// The group of its number.
    pub gid: u32,
    /// Its revision.
    pub rev: u32,
    /// Which of the files it is in, counted from 0.
    pub file: u16,
    /// The line where it starts, counted from 1.
    pub line: u32,
    /// What a match asks for.
    pub action: Action,
    /// Whose packets it is for.
    pub header: Header,
    /// What `flow` asks for.
    pub flow: FlowWants,
    /// What `flags` asks for.
    pub flags: Option<TcpFlags>,
    /// What `dsize` asks for.
    pub dsize: Option<Sizes>,
    /// What `threshold` or `detection_filter` asks for.
    pub threshold: Option<Threshold>,
}

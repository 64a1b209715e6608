//! Connections as conntrack knows them: both tuples, so that a decision can be written under the
//! keys that a flow has before and behind NAT.
//!
//! One request, one answer, over a socket of its own; meant for decisions, not for every packet.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use nix::sys::socket::SockProtocol;
use sluice_abi::flow::{Direction, FlowKey};

use crate::sys::netlink::{Attr, Builder, Message, RequestError, Socket, flag};
use crate::sys::nfnetlink;

/// The nfnetlink subsystem, in the upper byte of a message type.
const SUBSYSTEM: u16 = 1 << 8;
const NEW: u16 = SUBSYSTEM;
const GET: u16 = SUBSYSTEM | 1;
const DELETE: u16 = SUBSYSTEM | 2;
/// Flags of a request for a list.
const DUMP: u16 = 0x300;

/// Bytes of `struct nfgenmsg`.
const FAMILY_HEADER: usize = 4;
/// A connection's message has less than a kilobyte; labels and helpers included, two.
const MESSAGE_MAX: usize = 8192;

const TUPLE_ORIG: u16 = 1;
const TUPLE_REPLY: u16 = 2;
const STATUS: u16 = 3;
const PROTO_INFO: u16 = 4;
const TIMEOUT: u16 = 7;
const MARK: u16 = 8;
const ID: u16 = 12;
const MARK_MASK: u16 = 21;

const TUPLE_IP: u16 = 1;
const TUPLE_PROTO: u16 = 2;
const IP_V4_SRC: u16 = 1;
const IP_V4_DST: u16 = 2;
const IP_V6_SRC: u16 = 3;
const IP_V6_DST: u16 = 4;
const INFO_TCP: u16 = 1;
const TCP_STATE: u16 = 1;
const PROTO_NUM: u16 = 1;
const PROTO_SRC_PORT: u16 = 2;
const PROTO_DST_PORT: u16 = 3;

/// Bits of `enum ip_conntrack_status`.
pub mod status {
    /// `IPS_SEEN_REPLY`: packets went both ways.
    pub const SEEN_REPLY: u32 = 1 << 1;
    /// `IPS_ASSURED`: both directions were seen, and what they sent fits together.
    pub const ASSURED: u32 = 1 << 2;
    /// `IPS_OFFLOAD` and `IPS_HW_OFFLOAD`: packets take the short way.
    pub const OFFLOADED: u32 = 1 << 14 | 1 << 15;
}

/// States of `enum tcp_conntrack`.
pub mod tcp_state {
    /// A SYN was seen.
    pub const SYN_SENT: u8 = 1;
    /// It was answered.
    pub const SYN_RECV: u8 = 2;
    /// Both ends sent a SYN.
    pub const SYN_SENT2: u8 = 9;
    /// The handshake is not complete.
    pub const HALF_OPEN: [u8; 3] = [SYN_SENT, SYN_RECV, SYN_SENT2];
}

/// The ends of packets that travel one way.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Tuple {
    /// Source address.
    pub src: IpAddr,
    /// Destination address.
    pub dst: IpAddr,
    /// Source port, host byte order.
    pub sport: u16,
    /// Destination port, host byte order.
    pub dport: u16,
    /// IP protocol number.
    pub proto: u8,
}

impl Tuple {
    /// The tuple of a packet of the flow `key` that travels in `direction`.
    #[must_use]
    pub fn of_flow(key: &FlowKey, direction: Direction) -> Self {
        let ((src, sport), (dst, dport)) = (key.source(direction), key.destination(direction));
        Self { src: src.into(), dst: dst.into(), sport, dport, proto: key.proto() }
    }

    /// The flow of such packets and which way they travel under its key.
    #[must_use]
    pub fn flow(&self) -> (FlowKey, Direction) {
        let (sport, dport) = (self.sport.to_be(), self.dport.to_be());
        FlowKey::new(self.src.into(), self.dst.into(), sport, dport, self.proto)
    }

    /// The ends of packets that travel the other way.
    #[must_use]
    pub const fn reversed(&self) -> Self {
        Self {
            src: self.dst,
            dst: self.src,
            sport: self.dport,
            dport: self.sport,
            proto: self.proto,
        }
    }

    fn write(&self, builder: &mut Builder) {
        builder.nested(TUPLE_ORIG, |builder| {
            builder.nested(TUPLE_IP, |builder| match (self.src, self.dst) {
                (IpAddr::V4(src), IpAddr::V4(dst)) => {
                    builder.attr(IP_V4_SRC, &src.octets());
                    builder.attr(IP_V4_DST, &dst.octets());
                }
                // A mix of families does not exist; the mapped form is found nowhere.
                (src, dst) => {
                    builder.attr(IP_V6_SRC, &as_v6(src).octets());
                    builder.attr(IP_V6_DST, &as_v6(dst).octets());
                }
            });
            builder.nested(TUPLE_PROTO, |builder| {
                builder.attr(PROTO_NUM, &[self.proto]);
                builder.attr(PROTO_SRC_PORT, &self.sport.to_be_bytes());
                builder.attr(PROTO_DST_PORT, &self.dport.to_be_bytes());
            });
        });
    }

    const fn family(&self) -> u8 {
        match (self.src, self.dst) {
            (IpAddr::V4(_), IpAddr::V4(_)) => libc::AF_INET as u8,
            _ => libc::AF_INET6 as u8,
        }
    }
}

const fn as_v6(ip: IpAddr) -> Ipv6Addr {
    match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped(),
        IpAddr::V6(ip) => ip,
    }
}

/// One connection.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Connection {
    /// Packets of the way of the first packet, as they arrive: before NAT.
    pub original: Tuple,
    /// Packets of the other way, as they arrive: addressed to what NAT made of the source.
    pub reply: Tuple,
    /// The connection's mark, foreign bits included.
    pub mark: u32,
    /// Number that tells it from a later connection with the same ends.
    pub id: u32,
    /// Bits of [`status`].
    pub status: u32,
    /// Seconds until conntrack forgets it, when no packet comes.
    pub timeout_s: u32,
    /// State of a TCP connection, see [`tcp_state`]; 0 of others.
    pub tcp_state: u8,
}

impl Connection {
    /// The flows that the connection's packets have before and behind NAT, each with the way that
    /// packets of the original direction travel under its key. Without NAT both are the same.
    #[must_use]
    pub fn flows(&self) -> [(FlowKey, Direction); 2] {
        let (behind, reply_way) = self.reply.flow();
        [self.original.flow(), (behind, reply_way.reversed())]
    }

    /// Whether both ends have agreed to it: of TCP the handshake is complete, of others both have sent.
    #[must_use]
    pub fn is_established(&self) -> bool {
        self.status & status::SEEN_REPLY != 0 && !tcp_state::HALF_OPEN.contains(&self.tcp_state)
    }

    /// Whether packets take the short way past the forward chain.
    #[must_use]
    pub const fn is_offloaded(&self) -> bool {
        self.status & status::OFFLOADED != 0
    }

    /// Whether addresses or ports are translated.
    #[must_use]
    pub fn is_translated(&self) -> bool {
        self.original != self.reply.reversed()
    }
}

/// A way to ask about connections of the calling thread's namespace.
#[derive(Debug)]
pub struct Conntrack {
    socket: Socket,
    builder: Builder,
    buffer: Box<[u8]>,
    sequence: u32,
}

impl Conntrack {
    /// Opens the socket, if the kernel answers on it: one without the module has the socket too.
    pub fn open() -> Result<Self, ConntrackError> {
        let open = || {
            nfnetlink::conntrack_stats()?;
            Ok(Socket::open(SockProtocol::NetlinkNetFilter, 0)?)
        };
        Ok(Self {
            socket: open().map_err(|source| ConntrackError::new("ask conntrack", source))?,
            builder: Builder::with_capacity(256),
            buffer: vec![0; MESSAGE_MAX].into(),
            sequence: 0,
        })
    }

    /// The connection of a packet as it is seen in the forward hook, whichever way it travels.
    ///
    /// There the destination is translated already and the source not yet. So the packet shows
    /// either end of what conntrack keeps: the kernel finds a connection by the tuple of either
    /// direction, and what it does not find is asked for the other way round. `None` for the first
    /// packet, which conntrack confirms only when it leaves the router, and for connections with
    /// both ends translated (hairpin NAT).
    pub fn lookup(&mut self, seen: &Tuple) -> Result<Option<Connection>, ConntrackError> {
        match self.get(seen)? {
            Some(connection) => Ok(Some(connection)),
            None => self.get(&seen.reversed()),
        }
    }

    /// Removes a connection, unless another one with the same ends has taken its place. Returns
    /// whether there was one. The next packet makes a new one, without a mark.
    pub fn delete(&mut self, connection: &Connection) -> Result<bool, ConntrackError> {
        let id = connection.id.to_be_bytes();
        match self.ask(DELETE, &connection.original, |builder| builder.attr(ID, &id), |_| ()) {
            Ok(()) => Ok(true),
            Err(error) if error.errno() == Some(libc::ENOENT) => Ok(false),
            Err(error) => Err(ConntrackError::new("delete a connection", error)),
        }
    }

    /// Sets the bits under `mask` in the mark of the connection with this tuple of its first packet.
    /// `false` when it is gone.
    pub fn set_mark(
        &mut self,
        original: &Tuple,
        mask: u32,
        value: u32,
    ) -> Result<bool, ConntrackError> {
        let attributes = |builder: &mut Builder| {
            builder.attr(MARK, &value.to_be_bytes());
            builder.attr(MARK_MASK, &mask.to_be_bytes());
        };
        match self.ask(NEW, original, attributes, |_| ()) {
            Ok(()) => Ok(true),
            Err(error) if error.errno() == Some(libc::ENOENT) => Ok(false),
            Err(error) => Err(ConntrackError::new("mark a connection", error)),
        }
    }

    /// Every connection that there is, up to some ten thousands: what has no ports is left out.
    pub fn each(&mut self, mut each: impl FnMut(&Connection)) -> Result<(), ConntrackError> {
        self.sequence = self.sequence.wrapping_add(1);
        self.builder.clear();
        let header = [libc::AF_UNSPEC as u8, 0, 0, 0];
        self.builder.message(GET, flag::REQUEST | DUMP, self.sequence, &header);
        let Self { socket, builder, buffer, sequence } = self;
        let asked = socket.request(builder.bytes(), *sequence, buffer, |message| {
            if let Some(connection) = read(&message) {
                each(&connection);
            }
        });
        asked.map_err(|error| ConntrackError::new("list connections", error))
    }

    fn get(&mut self, tuple: &Tuple) -> Result<Option<Connection>, ConntrackError> {
        let mut found = None;
        let asked =
            self.ask(GET, tuple, |_| (), |message| found = found.or_else(|| read(&message)));
        match asked {
            Ok(()) => match found {
                Some(connection) => Ok(Some(connection)),
                None => Err(ConntrackError::new("look up a connection", RequestError::Nonsense)),
            },
            Err(error) if error.errno() == Some(libc::ENOENT) => Ok(None),
            Err(error) => Err(ConntrackError::new("look up a connection", error)),
        }
    }

    fn ask(
        &mut self,
        kind: u16,
        tuple: &Tuple,
        more: impl FnOnce(&mut Builder),
        each: impl FnMut(Message<'_>),
    ) -> Result<(), RequestError> {
        self.sequence = self.sequence.wrapping_add(1);
        self.builder.clear();
        let header = [tuple.family(), 0, 0, 0];
        self.builder.message(kind, flag::REQUEST | flag::ACK, self.sequence, &header);
        tuple.write(&mut self.builder);
        more(&mut self.builder);
        self.socket.request(self.builder.bytes(), self.sequence, &mut self.buffer, each)
    }
}

/// Conntrack cannot be asked.
#[derive(Debug, thiserror::Error)]
#[error("{what}{}", hint(source))]
pub struct ConntrackError {
    what: &'static str,
    source: RequestError,
}

impl ConntrackError {
    const fn new(what: &'static str, source: RequestError) -> Self {
        Self { what, source }
    }
}

/// What the user can do about it.
fn hint(error: &RequestError) -> &'static str {
    match error.errno() {
        Some(libc::EPERM | libc::EACCES) => ": needs root or CAP_NET_ADMIN",
        Some(libc::EINVAL | libc::EOPNOTSUPP | libc::EPROTONOSUPPORT) => {
            ": the kernel has no conntrack netlink, install kmod-nf-conntrack-netlink"
        }
        _ => "",
    }
}

/// Reads a connection from the kernel's answer.
fn read(message: &Message<'_>) -> Option<Connection> {
    if message.kind != NEW {
        return None;
    }
    let (mut original, mut reply) = (None, None);
    // A connection without mark and time limit has no such attributes.
    let (mut mark, mut id, mut status, mut timeout_s, mut tcp_state) = (0, 0, 0, 0, 0);
    for attr in message.attrs(FAMILY_HEADER) {
        match attr.kind {
            TUPLE_ORIG => original = tuple(&attr),
            TUPLE_REPLY => reply = tuple(&attr),
            MARK => mark = attr.be32()?,
            ID => id = attr.be32()?,
            STATUS => status = attr.be32()?,
            TIMEOUT => timeout_s = attr.be32()?,
            PROTO_INFO => tcp_state = state(&attr),
            _ => {}
        }
    }
    Some(Connection { original: original?, reply: reply?, mark, id, status, timeout_s, tcp_state })
}

fn state(info: &Attr<'_>) -> u8 {
    let tcp = info.nested().find(|part| part.kind == INFO_TCP);
    let state = tcp.and_then(|tcp| tcp.nested().find(|part| part.kind == TCP_STATE));
    state.and_then(|state| state.value.first().copied()).unwrap_or(0)
}

fn tuple(attr: &Attr<'_>) -> Option<Tuple> {
    let (mut src, mut dst) = (None, None);
    let (mut sport, mut dport, mut proto) = (0, 0, None);
    for part in attr.nested() {
        match part.kind {
            TUPLE_IP => {
                for end in part.nested() {
                    match end.kind {
                        IP_V4_SRC | IP_V6_SRC => src = address(end.value),
                        IP_V4_DST | IP_V6_DST => dst = address(end.value),
                        _ => {}
                    }
                }
            }
            TUPLE_PROTO => {
                for end in part.nested() {
                    match end.kind {
                        PROTO_NUM => proto = end.u8(),
                        PROTO_SRC_PORT => sport = end.be16()?,
                        PROTO_DST_PORT => dport = end.be16()?,
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    Some(Tuple { src: src?, dst: dst?, sport, dport, proto: proto? })
}

fn address(value: &[u8]) -> Option<IpAddr> {
    if let Ok(octets) = <[u8; 4]>::try_from(value) {
        return Some(Ipv4Addr::from(octets).into());
    }
    Some(Ipv6Addr::from(<[u8; 16]>::try_from(value).ok()?).into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::netlink::Messages;

    fn tuple_of(src: &str, sport: u16, dst: &str, dport: u16, proto: u8) -> Tuple {
        Tuple { src: src.parse().unwrap(), dst: dst.parse().unwrap(), sport, dport, proto }
    }

    fn masqueraded() -> Connection {
        Connection {
            original: tuple_of("192.168.1.20", 40000, "203.0.113.5", 443, 6),
            reply: tuple_of("203.0.113.5", 443, "198.51.100.1", 61000, 6),
            mark: 0xff00,
            id: 77,
            status: 0x18e,
            timeout_s: 431_999,
            tcp_state: 3,
        }
    }

    /// The kernel's answer, written with the request's own writer where they agree.
    fn answer(connection: &Connection) -> Vec<u8> {
        let mut builder = Builder::default();
        builder.message(NEW, 0, 1, &[libc::AF_INET as u8, 0, 0, 0]);
        connection.original.write(&mut builder);
        let mut reply = Builder::default();
        reply.message(NEW, 0, 1, &[0; 4]);
        connection.reply.write(&mut reply);
        let attr = Messages::new(reply.bytes()).next().unwrap().attrs(4).next().unwrap();
        builder.attr(TUPLE_REPLY | 0x8000, attr.value);
        builder.attr(STATUS, &connection.status.to_be_bytes());
        builder.attr(TIMEOUT, &connection.timeout_s.to_be_bytes());
        builder.nested(PROTO_INFO, |builder| {
            builder.nested(INFO_TCP, |builder| builder.attr(TCP_STATE, &[connection.tcp_state]));
        });
        builder.attr(MARK, &connection.mark.to_be_bytes());
        builder.attr(ID, &connection.id.to_be_bytes());
        builder.bytes().to_vec()
    }

    #[test]
    fn a_connection_is_read_from_the_kernels_answer() {
        for connection in [
            masqueraded(),
            Connection {
                original: tuple_of("2001:db8::1", 5353, "2001:db8::2", 53, 17),
                reply: tuple_of("2001:db8::2", 53, "2001:db8::1", 5353, 17),
                ..masqueraded()
            },
        ] {
            let bytes = answer(&connection);
            let message = Messages::new(&bytes).next().unwrap();
            assert_eq!(read(&message), Some(connection));
            for cut in 20..bytes.len() {
                // The message's own length does not match any more: nothing is read.
                assert_eq!(Messages::new(&bytes[..cut]).count(), 0);
                // With a length that matches, a connection only when both tuples are whole.
                let mut short = bytes[..cut].to_vec();
                short[..4].copy_from_slice(&(cut as u32).to_ne_bytes());
                let found = Messages::new(&short).next().and_then(|message| read(&message));
                assert!(found.is_none_or(|found| found.original == connection.original
                    && found.reply == connection.reply));
            }
        }
    }

    #[test]
    fn random_changes_are_read_without_a_panic() {
        let whole = answer(&masqueraded());
        let mut state = 99_u32;
        for _ in 0..50_000 {
            let mut bytes = whole.clone();
            for _ in 0..3 {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                let at = (state >> 8) as usize % bytes.len();
                bytes[at] = (state >> 24) as u8;
            }
            for message in Messages::new(&bytes) {
                let _any = read(&message);
            }
        }
    }

    #[test]
    fn nat_gives_two_keys_and_the_original_way_under_each() {
        let connection = masqueraded();
        assert!(connection.is_translated());
        let [(before, before_way), (behind, behind_way)] = connection.flows();
        assert_ne!(before, behind);
        // 192.168.1.20 sorts before 203.0.113.5, and 198.51.100.1 does too.
        assert_eq!((before_way, behind_way), (Direction::Up, Direction::Up));
        // A packet from the client, as it leaves the router.
        let leaving = connection.reply.reversed();
        assert_eq!(leaving.flow(), (behind, behind_way));
        // The server's answer as it arrives travels the other way.
        assert_eq!(connection.reply.flow(), (behind, behind_way.reversed()));

        // NAT can turn the order of the ends round.
        let turned = Connection {
            original: tuple_of("192.168.1.20", 40000, "10.9.9.9", 443, 6),
            reply: tuple_of("10.9.9.9", 443, "10.0.0.1", 61000, 6),
            ..connection
        };
        let [(_, before_way), (_, behind_way)] = turned.flows();
        assert_eq!((before_way, behind_way), (Direction::Down, Direction::Up));

        let plain = Connection { reply: connection.original.reversed(), ..connection };
        assert!(!plain.is_translated());
        let [first, second] = plain.flows();
        assert_eq!(first, second);
    }

    #[test]
    fn a_tuple_comes_back_from_its_flow() {
        for tuple in [
            tuple_of("192.0.2.1", 1, "192.0.2.1", 2, 6),
            tuple_of("2001:db8::9", 443, "2001:db8::1", 50000, 17),
        ] {
            for tuple in [tuple, tuple.reversed()] {
                let (key, direction) = tuple.flow();
                assert_eq!(Tuple::of_flow(&key, direction), tuple);
            }
        }
    }
}

//! Messages of DHCP for IPv4 (RFC 2131) with the options that tell who asks and what is offered (RFC 2132).
//!
//! Nothing is copied. What a message says twice is read the first time only; RFC 3396 joins such options,
//! which no option read here is long enough for.

use core::net::Ipv4Addr;

/// Port of servers and relays.
pub const SERVER: u16 = 67;
/// Port of clients.
pub const CLIENT: u16 = 68;

/// Bytes before the options, the cookie included.
const FIXED: usize = 240;
const COOKIE: [u8; 4] = [99, 130, 83, 99];
/// `htype` of Ethernet, whose addresses have six bytes.
const ETHERNET: (u8, u8) = (1, 6);

/// Options that are read.
mod option {
    pub(super) const PAD: u8 = 0;
    pub(super) const ROUTERS: u8 = 3;
    pub(super) const NAME_SERVERS: u8 = 6;
    pub(super) const HOST_NAME: u8 = 12;
    pub(super) const REQUESTED: u8 = 50;
    pub(super) const LEASE: u8 = 51;
    pub(super) const OVERLOAD: u8 = 52;
    pub(super) const KIND: u8 = 53;
    pub(super) const SERVER: u8 = 54;
    pub(super) const PARAMETERS: u8 = 55;
    pub(super) const VENDOR: u8 = 60;
    pub(super) const END: u8 = 255;
}

/// Why bytes are no message.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Malformed {
    /// There is less than the fixed part.
    Truncated,
    /// It is neither a request nor a reply.
    Operation,
    /// It does not say that options follow: BOOTP, or something else.
    Cookie,
    /// An option is longer than what is left.
    Option,
}

impl Malformed {
    /// The word used in events.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Truncated => "truncated",
            Self::Operation => "operation",
            Self::Cookie => "cookie",
            Self::Option => "option",
        }
    }
}

/// A message.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    bytes: &'a [u8],
}

impl<'a> Message<'a> {
    /// Reads the payload of a datagram. What follows the last option changes nothing.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let message = Self { bytes };
        if bytes.len() < FIXED {
            return Err(Malformed::Truncated);
        }
        if !matches!(bytes[0], 1 | 2) {
            return Err(Malformed::Operation);
        }
        if bytes[FIXED - 4..FIXED] != COOKIE {
            return Err(Malformed::Cookie);
        }
        let mut areas = message.areas();
        if areas.any(|area| Options(area).any(|option| option.is_err())) {
            return Err(Malformed::Option);
        }
        Ok(message)
    }

    /// Whether a server says it.
    #[must_use]
    pub fn is_reply(&self) -> bool {
        self.bytes[0] == 2
    }

    /// The number by which a reply finds its request.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.word(4)
    }

    /// The address that the client has already.
    #[must_use]
    pub fn client(&self) -> Option<Ipv4Addr> {
        self.address(12)
    }

    /// The address that the client gets.
    #[must_use]
    pub fn yours(&self) -> Option<Ipv4Addr> {
        self.address(16)
    }

    /// The relay between client and server.
    #[must_use]
    pub fn relay(&self) -> Option<Ipv4Addr> {
        self.address(24)
    }

    /// The client's hardware address, if its link is Ethernet or has such addresses.
    #[must_use]
    pub fn mac(&self) -> Option<[u8; 6]> {
        let is_ethernet = (self.bytes[1], self.bytes[2]) == ETHERNET;
        self.bytes[28..34].try_into().ok().filter(|_| is_ethernet)
    }

    /// The number of its kind (RFC 2132, section 9.6).
    #[must_use]
    pub fn kind(&self) -> Option<u8> {
        self.option(option::KIND).and_then(|value| value.first().copied())
    }

    /// What the client calls itself; any bytes.
    #[must_use]
    pub fn host_name(&self) -> Option<&'a [u8]> {
        self.option(option::HOST_NAME)
    }

    /// The address that the client asks for.
    #[must_use]
    pub fn requested(&self) -> Option<Ipv4Addr> {
        self.addresses(option::REQUESTED).next()
    }

    /// The server that is meant, or that speaks.
    #[must_use]
    pub fn server(&self) -> Option<Ipv4Addr> {
        self.addresses(option::SERVER).next()
    }

    /// Seconds for which the address may be used.
    #[must_use]
    pub fn lease_s(&self) -> Option<u32> {
        let value = self.option(option::LEASE)?;
        value.first_chunk().map(|bytes| u32::from_be_bytes(*bytes))
    }

    /// What the client says it is; any bytes.
    #[must_use]
    pub fn vendor(&self) -> Option<&'a [u8]> {
        self.option(option::VENDOR)
    }

    /// Numbers of the options that the client wants, in its order.
    #[must_use]
    pub fn parameters(&self) -> &'a [u8] {
        self.option(option::PARAMETERS).unwrap_or_default()
    }

    /// Routers that the client is told.
    pub fn routers(&self) -> impl Iterator<Item = Ipv4Addr> + use<'a> {
        self.addresses(option::ROUTERS)
    }

    /// Name servers that the client is told.
    pub fn name_servers(&self) -> impl Iterator<Item = Ipv4Addr> + use<'a> {
        self.addresses(option::NAME_SERVERS)
    }

    fn addresses(&self, number: u8) -> impl Iterator<Item = Ipv4Addr> + use<'a> {
        let value = self.option(number).unwrap_or_default();
        value.as_chunks().0.iter().map(|bytes: &[u8; 4]| Ipv4Addr::from(*bytes))
    }

    fn option(&self, number: u8) -> Option<&'a [u8]> {
        let mut all = self.areas().flat_map(Options).flatten();
        all.find(|(known, _)| *known == number).map(|(_, value)| value)
    }

    /// Where options are: behind the cookie, and in the fields for a file and for the server's name where
    /// the first of these says so (RFC 2132, section 9.3).
    fn areas(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let bytes = self.bytes;
        let mut own = Options(&bytes[FIXED..]).flatten();
        let overload = own.find(|(number, _)| *number == option::OVERLOAD);
        let fields = overload.and_then(|(_, value)| value.first().copied()).unwrap_or_default();
        let file = (fields & 1 != 0).then(|| &bytes[108..236]);
        let name = (fields & 2 != 0).then(|| &bytes[44..108]);
        core::iter::once(&bytes[FIXED..]).chain(file).chain(name)
    }

    fn word(&self, at: usize) -> u32 {
        self.bytes[at..].first_chunk().map_or(0, |bytes| u32::from_be_bytes(*bytes))
    }

    fn address(&self, at: usize) -> Option<Ipv4Addr> {
        Some(Ipv4Addr::from(self.word(at))).filter(|address| !address.is_unspecified())
    }
}

/// The options of an area: number and value, until the end is said or reached.
struct Options<'a>(&'a [u8]);

impl<'a> Iterator for Options<'a> {
    type Item = Result<(u8, &'a [u8]), Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let (&number, rest) = self.0.split_first()?;
            if number == option::PAD {
                self.0 = rest;
                continue;
            }
            let value = (number != option::END).then(|| {
                rest.split_first().and_then(|(len, rest)| rest.split_at_checked(usize::from(*len)))
            });
            let Some(value) = value else {
                self.0 = &[];
                return None;
            };
            let Some((value, rest)) = value else {
                self.0 = &[];
                return Some(Err(Malformed::Option));
            };
            self.0 = rest;
            return Some(Ok((number, value)));
        }
    }
}

/// The word for a kind of message (RFC 2132, section 9.6; RFC 3203; RFC 4388).
#[must_use]
pub const fn kind_name(kind: u8) -> Option<&'static str> {
    Some(match kind {
        1 => "DISCOVER",
        2 => "OFFER",
        3 => "REQUEST",
        4 => "DECLINE",
        5 => "ACK",
        6 => "NAK",
        7 => "RELEASE",
        8 => "INFORM",
        9 => "FORCERENEW",
        10 => "LEASEQUERY",
        11 => "LEASEUNASSIGNED",
        12 => "LEASEUNKNOWN",
        13 => "LEASEACTIVE",
        _ => return None,
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A message without options.
    pub(crate) fn fixed(operation: u8) -> Vec<u8> {
        let mut bytes = vec![0; FIXED];
        bytes[..8].copy_from_slice(&[operation, 1, 6, 0, 0xde, 0xad, 0xbe, 0xef]);
        bytes[28..34].copy_from_slice(&[2, 0, 0, 0, 0, 1]);
        bytes[FIXED - 4..].copy_from_slice(&COOKIE);
        bytes
    }

    pub(crate) fn with(mut bytes: Vec<u8>, options: &[(u8, &[u8])]) -> Vec<u8> {
        for (number, value) in options {
            bytes.extend([*number, value.len() as u8]);
            bytes.extend_from_slice(value);
        }
        bytes.push(option::END);
        bytes
    }

    fn discover() -> Vec<u8> {
        let options: [(u8, &[u8]); 5] = [
            (53, &[1]),
            (12, b"phone"),
            (60, b"android-dhcp-14"),
            (50, &[192, 168, 1, 7]),
            (55, &[1, 3, 6]),
        ];
        with(fixed(1), &options)
    }

    /// Everything that is read of a message.
    fn told(message: &Message<'_>) -> String {
        let addresses = (message.client(), message.yours(), message.relay(), message.requested());
        let lists: (Vec<_>, Vec<_>) =
            (message.routers().collect(), message.name_servers().collect());
        let texts = (message.host_name(), message.vendor(), message.parameters());
        let rest = (message.is_reply(), message.id(), message.mac(), message.kind());
        format!(
            "{addresses:?} {lists:?} {texts:?} {rest:?} {:?} {:?}",
            message.server(),
            message.lease_s()
        )
    }

    #[test]
    fn a_request_tells_who_asks_and_a_reply_what_is_offered() {
        let bytes = discover();
        let message = Message::parse(&bytes).unwrap();
        assert_eq!(
            (message.is_reply(), message.id(), message.kind()),
            (false, 0xdead_beef, Some(1))
        );
        assert_eq!(message.mac(), Some([2, 0, 0, 0, 0, 1]));
        assert_eq!(message.host_name(), Some(&b"phone"[..]));
        assert_eq!(message.vendor(), Some(&b"android-dhcp-14"[..]));
        assert_eq!(message.requested(), Some([192, 168, 1, 7].into()));
        assert_eq!(message.parameters(), [1, 3, 6]);
        assert_eq!((message.client(), message.yours(), message.relay()), (None, None, None));
        assert_eq!((message.server(), message.lease_s()), (None, None));

        let mut offer = fixed(2);
        offer[12..28].copy_from_slice(&[10, 0, 0, 1, 10, 0, 0, 2, 10, 0, 0, 3, 10, 0, 0, 4]);
        let options: [(u8, &[u8]); 5] = [
            (53, &[2]),
            (54, &[10, 0, 0, 254]),
            (51, &[0, 0, 0x0e, 0x10]),
            (3, &[10, 0, 0, 254]),
            (6, &[9, 9, 9, 9, 1, 1, 1, 1, 7]),
        ];
        let offer = with(offer, &options);
        let message = Message::parse(&offer).unwrap();
        let address = |last: u8| Some(Ipv4Addr::new(10, 0, 0, last));
        assert!(message.is_reply());
        assert_eq!(
            (message.client(), message.yours(), message.relay()),
            (address(1), address(2), address(4))
        );
        assert_eq!((message.server(), message.lease_s()), (address(254), Some(3600)));
        assert_eq!(message.routers().collect::<Vec<_>>(), [Ipv4Addr::new(10, 0, 0, 254)]);
        let servers = [Ipv4Addr::new(9, 9, 9, 9), Ipv4Addr::new(1, 1, 1, 1)];
        assert_eq!(message.name_servers().collect::<Vec<_>>(), servers, "half an address is none");
    }

    #[test]
    fn options_are_in_other_fields_where_that_is_said() {
        for (fields, expected) in [
            (0, [None; 2]),
            (1, [Some(b"f"), None]),
            (2, [None, Some(b"s")]),
            (3, [Some(b"f"), Some(b"s")]),
        ] {
            let mut bytes = fixed(1);
            bytes[108..112].copy_from_slice(&[12, 1, b'f', 255]);
            bytes[44..48].copy_from_slice(&[60, 1, b's', 255]);
            let bytes = with(bytes, &[(52, &[fields])]);
            let message = Message::parse(&bytes).unwrap();
            let found = [message.host_name(), message.vendor()];
            assert_eq!(
                found,
                expected.map(|text: Option<&[u8; 1]>| text.map(|text| &text[..])),
                "{fields}"
            );
        }
        // The first one counts.
        let mut bytes = fixed(1);
        bytes[108..112].copy_from_slice(&[12, 1, b'f', 255]);
        let bytes = with(bytes, &[(12, b"own"), (12, b"twice"), (52, &[1])]);
        assert_eq!(Message::parse(&bytes).unwrap().host_name(), Some(&b"own"[..]));
    }

    #[test]
    fn every_truncation_is_refused_or_has_whole_options_only() {
        let bytes = discover();
        let whole = Message::parse(&bytes).unwrap();
        let mut refused = 0;
        for len in 0..bytes.len() {
            match Message::parse(&bytes[..len]) {
                Err(Malformed::Truncated) => assert!(len < FIXED),
                Err(Malformed::Option) => refused += 1,
                Err(other) => panic!("{len}: {other:?}"),
                Ok(message) => {
                    assert!(message.vendor().is_none_or(|it| Some(it) == whole.vendor()));
                }
            }
        }
        // All but the borders of five options.
        assert_eq!(refused, bytes.len() - FIXED - 6);
        let mut more = bytes.clone();
        more.extend(b"\x0c\x05behind the end");
        assert_eq!(told(&Message::parse(&more).unwrap()), told(&whole));
    }

    #[test]
    fn what_is_no_message_is_refused_with_its_reason() {
        let refused = |change: &dyn Fn(&mut Vec<u8>)| {
            let mut bytes = discover();
            change(&mut bytes);
            Message::parse(&bytes).unwrap_err().name()
        };
        assert_eq!(refused(&|bytes| bytes[0] = 3), "operation");
        assert_eq!(refused(&|bytes| bytes[239] = 0), "cookie");
        assert_eq!(refused(&|bytes| bytes[241] = 250), "option");
        assert_eq!(refused(&|bytes| bytes.truncate(239)), "truncated");
        // In a field that has options, too.
        assert_eq!(
            refused(&|bytes| {
                bytes[108..110].copy_from_slice(&[12, 200]);
                bytes.pop();
                bytes.extend([52, 1, 1, 255]);
            }),
            "option"
        );
        let mut bytes = discover();
        bytes[2] = 8;
        assert_eq!(
            Message::parse(&bytes).unwrap().mac(),
            None,
            "eight bytes are no Ethernet address"
        );
        assert_eq!((kind_name(8), kind_name(0), kind_name(200)), (Some("INFORM"), None, None));
    }
}

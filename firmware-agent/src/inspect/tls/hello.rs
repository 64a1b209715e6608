//! The fields of a ClientHello (RFC 8446, section 4.1.2).

use super::{EXTENSIONS_MAX, HELLO_MAX, HostName, Malformed, is_grease};

const SERVER_NAME: u16 = 0;
const SUPPORTED_GROUPS: u16 = 10;
const POINT_FORMATS: u16 = 11;
const SIGNATURE_ALGORITHMS: u16 = 13;
const ALPN: u16 = 16;
const SUPPORTED_VERSIONS: u16 = 43;
const ENCRYPTED_CLIENT_HELLO: u16 = 0xfe0d;
/// The form of that extension in a ClientHello that hides another one (draft-ietf-tls-esni, section 5).
const OUTER: u8 = 0;

/// Bytes that are taken from the front.
#[derive(Clone, Copy)]
struct Reader<'a>(&'a [u8]);

// Inlined although the agent is built for size: a call for each field costs two fifths of the time that
// a ClientHello takes, and more bytes.
impl<'a> Reader<'a> {
    #[inline(always)]
    fn take(&mut self, len: usize) -> Result<&'a [u8], Malformed> {
        let (head, tail) = self.0.split_at_checked(len).ok_or(Malformed::Overrun)?;
        self.0 = tail;
        Ok(head)
    }

    #[inline(always)]
    fn u8(&mut self) -> Result<u8, Malformed> {
        let (&byte, tail) = self.0.split_first().ok_or(Malformed::Overrun)?;
        self.0 = tail;
        Ok(byte)
    }

    #[inline(always)]
    fn u16(&mut self) -> Result<u16, Malformed> {
        let (bytes, tail) = self.0.split_first_chunk().ok_or(Malformed::Overrun)?;
        self.0 = tail;
        Ok(u16::from_be_bytes(*bytes))
    }

    /// Bytes behind an 8-bit length.
    #[inline(always)]
    fn short(&mut self) -> Result<&'a [u8], Malformed> {
        let len = self.u8()?;
        self.take(usize::from(len))
    }

    /// Bytes behind a 16-bit length.
    #[inline(always)]
    fn long(&mut self) -> Result<&'a [u8], Malformed> {
        let len = self.u16()?;
        self.take(usize::from(len))
    }

    fn finish<T>(self, value: T) -> Result<T, Malformed> {
        if self.0.is_empty() { Ok(value) } else { Err(Malformed::Trailing) }
    }
}

/// A list of 16-bit values as on the wire.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct U16List<'a>(&'a [u8]);

impl<'a> U16List<'a> {
    const fn new(bytes: &'a [u8]) -> Result<Self, Malformed> {
        if bytes.len().is_multiple_of(2) { Ok(Self(bytes)) } else { Err(Malformed::OddLength) }
    }

    /// The values in the order of the wire, reserved ones (RFC 8701) included.
    pub fn iter(self) -> impl Iterator<Item = u16> + Clone + use<'a> {
        self.0.as_chunks().0.iter().map(|pair| u16::from_be_bytes(*pair))
    }

    /// The values without the reserved ones.
    pub fn known(self) -> impl Iterator<Item = u16> + Clone + use<'a> {
        self.iter().filter(|value| !is_grease(*value))
    }

    /// How many values there are, reserved ones included.
    #[must_use]
    pub const fn len(self) -> usize {
        self.0.len() / 2
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0.is_empty()
    }
}

/// The extensions, whose framing was checked.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Extensions<'a>(&'a [u8]);

impl<'a> Extensions<'a> {
    /// Type and content of each, in the order of the wire.
    pub fn iter(self) -> impl Iterator<Item = (u16, &'a [u8])> + Clone + use<'a> {
        let mut rest = Reader(self.0);
        core::iter::from_fn(move || Some((rest.u16().ok()?, rest.long().ok()?)))
    }

    /// The types, without reserved ones (RFC 8701).
    pub fn known(self) -> impl Iterator<Item = u16> + Clone + use<'a> {
        self.iter().map(|(kind, _)| kind).filter(|kind| !is_grease(*kind))
    }
}

/// The application protocols offered, whose framing was checked (RFC 7301).
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Alpn<'a>(&'a [u8]);

impl<'a> Alpn<'a> {
    /// The protocols in the order of the wire: any bytes, reserved ones (RFC 8701) included.
    pub fn iter(self) -> impl Iterator<Item = &'a [u8]> + Clone + use<'a> {
        let mut rest = Reader(self.0);
        core::iter::from_fn(move || rest.short().ok())
    }
}

/// The server name extension (RFC 6066, section 3).
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Sni<'a> {
    /// There is none.
    #[default]
    Absent,
    /// It names a host.
    Name(HostName<'a>),
    /// It is there and what it holds is no host name. The bytes are kept from every reader.
    Malformed,
}

/// A ClientHello; everything borrows from the bytes it was read from.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ClientHello<'a> {
    /// Length of the message without its header.
    pub len: usize,
    /// The version field of the message: 0x0303 also from clients of TLS 1.3.
    pub legacy_version: u16,
    /// Cipher suites.
    pub ciphers: U16List<'a>,
    /// Extensions.
    pub extensions: Extensions<'a>,
    /// Server name.
    pub sni: Sni<'a>,
    /// Application protocols, when the extension is there.
    pub alpn: Alpn<'a>,
    /// Versions of the extension, or none without it.
    pub supported_versions: U16List<'a>,
    /// Groups, which older texts call elliptic curves.
    pub groups: U16List<'a>,
    /// Point formats.
    pub point_formats: &'a [u8],
    /// Signature algorithms.
    pub signature_algorithms: U16List<'a>,
    /// Whether another ClientHello is hidden in it, or seems to be: the server name is the outer one
    /// then. Clients offer it for show too, with the true name outside, and only the server can tell.
    pub has_ech: bool,
}

impl<'a> ClientHello<'a> {
    /// Reads the body of the message.
    pub fn parse(body: &'a [u8]) -> Result<Self, Malformed> {
        if body.len() > HELLO_MAX {
            return Err(Malformed::HelloTooLong);
        }
        let mut reader = Reader(body);
        let legacy_version = reader.u16()?;
        let _random = reader.take(32)?;
        if reader.short()?.len() > 32 {
            return Err(Malformed::SessionId);
        }
        let ciphers = U16List::new(reader.long()?)?;
        let _compression = reader.short()?;
        // Clients of SSL 3.0 and TLS 1.0 may end here (RFC 5246, section 7.4.1.2).
        let extensions = if reader.0.is_empty() { &[] } else { reader.long()? };
        let mut hello = reader.finish(Self {
            len: body.len(),
            legacy_version,
            ciphers,
            extensions: Extensions(extensions),
            sni: Sni::Absent,
            alpn: Alpn::default(),
            supported_versions: U16List::default(),
            groups: U16List::default(),
            point_formats: &[],
            signature_algorithms: U16List::default(),
            has_ech: false,
        })?;
        hello.read_extensions(Reader(extensions))?;
        Ok(hello)
    }

    fn read_extensions(&mut self, mut rest: Reader<'a>) -> Result<(), Malformed> {
        let mut seen = 0_u64;
        let mut count = 0;
        while !rest.0.is_empty() {
            let kind = rest.u16()?;
            let mut content = Reader(rest.long()?);
            count += 1;
            if count > EXTENSIONS_MAX {
                return Err(Malformed::TooManyExtensions);
            }
            match kind {
                SERVER_NAME => self.sni = server_name(content)?,
                SUPPORTED_GROUPS => self.groups = list(content)?,
                SIGNATURE_ALGORITHMS => self.signature_algorithms = list(content)?,
                SUPPORTED_VERSIONS => {
                    let versions = U16List::new(content.short()?)?;
                    self.supported_versions = content.finish(versions)?;
                }
                POINT_FORMATS => {
                    let formats = content.short()?;
                    self.point_formats = content.finish(formats)?;
                }
                ALPN => self.alpn = alpn(content)?,
                ENCRYPTED_CLIENT_HELLO if self.has_ech => {
                    return Err(Malformed::DuplicateExtension);
                }
                ENCRYPTED_CLIENT_HELLO => {
                    self.has_ech = content.u8()? == OUTER;
                    continue;
                }
                _ => continue,
            }
            // The types above are all below 64.
            let bit = 1 << (kind & 63);
            if seen & bit != 0 {
                return Err(Malformed::DuplicateExtension);
            }
            seen |= bit;
        }
        Ok(())
    }

    /// The highest version the client offers; reserved values (RFC 8701) do not count.
    #[must_use]
    pub fn version(&self) -> u16 {
        self.supported_versions.known().max().unwrap_or(self.legacy_version)
    }
}

fn list(mut content: Reader<'_>) -> Result<U16List<'_>, Malformed> {
    let values = U16List::new(content.long()?)?;
    content.finish(values)
}

fn alpn(mut content: Reader<'_>) -> Result<Alpn<'_>, Malformed> {
    let protocols = content.long()?;
    let mut rest = Reader(protocols);
    while !rest.0.is_empty() {
        rest.short()?;
    }
    content.finish(Alpn(protocols))
}

fn server_name(mut content: Reader<'_>) -> Result<Sni<'_>, Malformed> {
    const HOST_NAME: u8 = 0;
    let mut names = Reader(content.long()?);
    let mut sni = Sni::Absent;
    while !names.0.is_empty() {
        let kind = names.u8()?;
        let name = names.long()?;
        if kind != HOST_NAME {
            continue;
        }
        // Two names: server and inspector could each believe another one.
        if sni != Sni::Absent {
            return Err(Malformed::ServerNameList);
        }
        sni = HostName::new(name).map_or(Sni::Malformed, Sni::Name);
    }
    if sni == Sni::Absent {
        return Err(Malformed::ServerNameList);
    }
    content.finish(sni)
}

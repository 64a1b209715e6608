//! The bytes of netlink messages: reading any bytes, writing correct ones. No I/O.

/// Bytes of the header of a message.
pub(super) const HEADER: usize = 16;
/// Bytes of the header of an attribute.
const ATTR_HEADER: usize = 4;

/// Message types that every family has.
pub mod kind {
    /// An error, or the acknowledgement when its number is 0.
    pub const ERROR: u16 = 2;
    /// The end of an answer in parts.
    pub const DONE: u16 = 3;
    /// Messages were lost.
    pub const OVERRUN: u16 = 4;
}

/// Message flags.
pub mod flag {
    /// Every message to the kernel has it.
    pub const REQUEST: u16 = 0x1;
    /// Asks for an acknowledgement.
    pub const ACK: u16 = 0x4;
    /// In an error: the request is cut down to its header.
    pub(super) const CAPPED: u16 = 0x100;
    /// In an error: attributes follow the request.
    pub(super) const ACK_ATTRS: u16 = 0x200;
}

/// Bits of an attribute's type.
pub mod attr {
    /// The value is a list of attributes.
    pub const NESTED: u16 = 0x8000;
    /// The bits that are the type.
    pub(super) const TYPE: u16 = 0x3fff;
}

const fn aligned(len: usize) -> usize {
    (len + 3) & !3
}

fn u16_at(bytes: &[u8], offset: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(offset..offset.checked_add(2)?)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], offset: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(offset..offset.checked_add(4)?)?.try_into().ok()?))
}

/// One message.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    /// Type; its meaning belongs to the family.
    pub kind: u16,
    /// Flags.
    pub flags: u16,
    /// Number of the request that is answered.
    pub sequence: u32,
    /// Port of the process that caused the message, 0 for the kernel.
    pub port: u32,
    /// What follows the header.
    pub body: &'a [u8],
}

impl<'a> Message<'a> {
    /// The refusal or acknowledgement that this message is.
    #[must_use]
    pub fn refusal(&self) -> Option<Refusal> {
        if self.kind != kind::ERROR {
            return None;
        }
        let number = u32_at(self.body, 0)?.cast_signed();
        let text = if self.flags & flag::ACK_ATTRS == 0 {
            None
        } else {
            let request = if self.flags & flag::CAPPED == 0 {
                aligned(usize::try_from(u32_at(self.body, 4)?).ok()?.min(self.body.len()))
            } else {
                HEADER
            };
            let attrs = self.body.get(4 + request..).unwrap_or_default();
            Attrs::new(attrs).find(|attr| attr.kind == 1).map(|attr| attr.text())
        };
        // Kernel space numbers are negative.
        Some(Refusal { errno: number.wrapping_neg(), text })
    }

    /// The attributes behind a family header of `header` bytes.
    #[must_use]
    pub fn attrs(&self, header: usize) -> Attrs<'a> {
        Attrs::new(self.body.get(aligned(header)..).unwrap_or_default())
    }
}

/// What the kernel says to a request.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Refusal {
    /// Error number; 0 is an acknowledgement.
    pub errno: i32,
    /// The kernel's own words (extended acknowledgement).
    pub text: Option<Box<str>>,
}

/// The messages of a datagram. Ends at the first one that contradicts itself.
#[derive(Clone, Debug)]
pub struct Messages<'a>(&'a [u8]);

impl<'a> Messages<'a> {
    /// The messages in `datagram`.
    #[must_use]
    pub const fn new(datagram: &'a [u8]) -> Self {
        Self(datagram)
    }
}

impl<'a> Iterator for Messages<'a> {
    type Item = Message<'a>;

    fn next(&mut self) -> Option<Message<'a>> {
        let bytes = self.0;
        // Whatever is found wrong below, the iterator is then at its end.
        self.0 = &[];
        let len = usize::try_from(u32_at(bytes, 0)?).ok()?;
        let body = bytes.get(HEADER..len)?;
        let message = Message {
            kind: u16_at(bytes, 4)?,
            flags: u16_at(bytes, 6)?,
            sequence: u32_at(bytes, 8)?,
            port: u32_at(bytes, 12)?,
            body,
        };
        self.0 = bytes.get(aligned(len)..).unwrap_or_default();
        Some(message)
    }
}

/// One attribute.
#[derive(Clone, Copy, Debug)]
pub struct Attr<'a> {
    /// Type without the flag bits.
    pub kind: u16,
    /// Value.
    pub value: &'a [u8],
}

impl<'a> Attr<'a> {
    /// The attributes inside.
    #[must_use]
    pub const fn nested(&self) -> Attrs<'a> {
        Attrs::new(self.value)
    }

    /// The value, when it is one byte.
    #[must_use]
    pub fn u8(&self) -> Option<u8> {
        Some(u8::from_ne_bytes(self.value.try_into().ok()?))
    }

    /// The value, when it is two bytes in network order.
    #[must_use]
    pub fn be16(&self) -> Option<u16> {
        Some(u16::from_be_bytes(self.value.try_into().ok()?))
    }

    /// The value, when it is four bytes in network order.
    #[must_use]
    pub fn be32(&self) -> Option<u32> {
        Some(u32::from_be_bytes(self.value.try_into().ok()?))
    }

    /// The value up to its zero byte, as text.
    #[must_use]
    pub fn text(&self) -> Box<str> {
        let end = self.value.iter().position(|&byte| byte == 0).unwrap_or(self.value.len());
        String::from_utf8_lossy(&self.value[..end]).into()
    }
}

/// A list of attributes. Ends at the first one that contradicts itself.
#[derive(Clone, Debug)]
pub struct Attrs<'a>(&'a [u8]);

impl<'a> Attrs<'a> {
    /// The attributes in `bytes`.
    #[must_use]
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }
}

impl<'a> Iterator for Attrs<'a> {
    type Item = Attr<'a>;

    fn next(&mut self) -> Option<Attr<'a>> {
        let bytes = self.0;
        self.0 = &[];
        let len = usize::from(u16_at(bytes, 0)?);
        let value = bytes.get(ATTR_HEADER..len)?;
        let attr = Attr { kind: u16_at(bytes, 2)? & attr::TYPE, value };
        self.0 = bytes.get(aligned(len)..).unwrap_or_default();
        Some(attr)
    }
}

/// Writes messages one behind the other into a buffer that it keeps.
#[derive(Debug, Default)]
pub struct Builder {
    bytes: Vec<u8>,
    message: usize,
}

impl Builder {
    /// An empty buffer that holds `capacity` bytes before it grows.
    #[must_use]
    pub fn with_capacity(capacity: usize) -> Self {
        Self { bytes: Vec::with_capacity(capacity), message: 0 }
    }

    /// Everything written, whole messages.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Forgets everything written and keeps the memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
    }

    /// Starts a message; `header` is the family's own header, padded to four bytes.
    pub fn message(&mut self, kind: u16, flags: u16, sequence: u32, header: &[u8]) {
        self.message = self.bytes.len();
        self.bytes.extend_from_slice(&0_u32.to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(&flags.to_ne_bytes());
        self.bytes.extend_from_slice(&sequence.to_ne_bytes());
        // Port 0: the kernel fills in the sender.
        self.bytes.extend_from_slice(&0_u32.to_ne_bytes());
        self.bytes.extend_from_slice(header);
        self.pad();
    }

    /// Adds an attribute. Values are short: the length of an attribute is a `u16`.
    pub fn attr(&mut self, kind: u16, value: &[u8]) {
        debug_assert!(value.len() <= usize::from(u16::MAX) - ATTR_HEADER);
        self.bytes.extend_from_slice(&((ATTR_HEADER + value.len()) as u16).to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(value);
        self.pad();
    }

    /// Adds an attribute whose value is what `inside` adds.
    pub fn nested(&mut self, kind: u16, inside: impl FnOnce(&mut Self)) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&0_u16.to_ne_bytes());
        self.bytes.extend_from_slice(&(kind | attr::NESTED).to_ne_bytes());
        inside(self);
        let len = ((self.bytes.len() - start) as u16).to_ne_bytes();
        self.bytes[start..start + 2].copy_from_slice(&len);
    }

    fn pad(&mut self) {
        self.bytes.resize(aligned(self.bytes.len()), 0);
        // The length is kept right all the time, so that there is no end to forget.
        let len = ((self.bytes.len() - self.message) as u32).to_ne_bytes();
        self.bytes[self.message..self.message + 4].copy_from_slice(&len);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Vec<u8> {
        let mut builder = Builder::default();
        builder.message(0x301, flag::REQUEST, 7, &[2, 0, 0, 5]);
        builder.attr(1, &[1, 2, 3]);
        builder.nested(2, |builder| {
            builder.attr(3, &0x0102_0304_u32.to_be_bytes());
            builder.attr(4, &[9]);
        });
        builder.message(kind::DONE, 0, 8, &[]);
        builder.bytes().to_vec()
    }

    #[test]
    fn what_is_written_is_read_back() {
        let bytes = sample();
        let messages: Vec<_> = Messages::new(&bytes).collect();
        assert_eq!(messages.len(), 2);
        let first = messages[0];
        assert_eq!((first.kind, first.flags, first.sequence), (0x301, flag::REQUEST, 7));
        assert_eq!(&first.body[..4], &[2, 0, 0, 5]);
        let attrs: Vec<_> = first.attrs(4).collect();
        assert_eq!((attrs[0].kind, attrs[0].value), (1, &[1, 2, 3][..]));
        assert_eq!(attrs[1].kind, 2);
        let inside: Vec<_> = attrs[1].nested().collect();
        assert_eq!((inside[0].be32(), inside[1].u8()), (Some(0x0102_0304), Some(9)));
        assert_eq!((messages[1].kind, messages[1].body.len()), (kind::DONE, 0));
    }

    #[test]
    fn every_truncation_ends_the_iteration_without_a_false_message() {
        let bytes = sample();
        let first_len = Messages::new(&bytes).next().unwrap().body.len() + HEADER;
        for len in 0..bytes.len() {
            let expected = usize::from(len >= first_len);
            assert_eq!(Messages::new(&bytes[..len]).count(), expected, "{len} bytes");
        }
        let attrs = &bytes[HEADER + 4..first_len];
        for len in 0..attrs.len() {
            // 8 bytes: the first attribute with its padding; its value ends at 7.
            assert_eq!(Attrs::new(&attrs[..len]).count(), usize::from(len >= 7), "{len} bytes");
        }
    }

    #[test]
    fn lengths_below_the_header_and_beyond_the_end_end_the_iteration() {
        for len in [0_u32, 1, 15, 17, u32::MAX] {
            let mut bytes = [0; 16];
            bytes[..4].copy_from_slice(&len.to_ne_bytes());
            assert_eq!(Messages::new(&bytes).count(), 0, "{len}");
        }
        for len in [0_u16, 3, 9, u16::MAX] {
            let mut bytes = [0; 8];
            bytes[..2].copy_from_slice(&len.to_ne_bytes());
            assert_eq!(Attrs::new(&bytes).count(), 0, "{len}");
        }
    }

    #[test]
    fn random_bytes_are_read_without_a_panic() {
        let mut state = 0x9e37_79b9_u32;
        let mut bytes = vec![0_u8; 96];
        for _ in 0..20_000 {
            for byte in &mut bytes {
                state ^= state << 13;
                state ^= state >> 17;
                state ^= state << 5;
                // Small numbers, so that lengths are often plausible.
                *byte = (state >> 8) as u8 & if state.is_multiple_of(4) { 0xff } else { 0x1f };
            }
            for message in Messages::new(&bytes) {
                let _ = message.refusal();
                for attr in message.attrs(4) {
                    assert!(attr.value.len() <= bytes.len());
                    let _ = (attr.text(), attr.be16(), attr.nested().count());
                }
            }
        }
    }

    #[test]
    fn a_refusal_has_the_number_and_the_words_of_the_kernel() {
        let mut builder = Builder::default();
        let mut body = (-1_i32).to_ne_bytes().to_vec();
        body.extend_from_slice(&[0; HEADER]);
        builder.message(kind::ERROR, flag::CAPPED | flag::ACK_ATTRS, 1, &body);
        builder.attr(1, b"not permitted\0");
        let bytes = builder.bytes();
        let refusal = Messages::new(bytes).next().unwrap().refusal().unwrap();
        assert_eq!(refusal, Refusal { errno: 1, text: Some("not permitted".into()) });

        let mut whole = (-22_i32).to_ne_bytes().to_vec();
        whole.extend_from_slice(&20_u32.to_ne_bytes()); // the request: header and four bytes
        whole.extend_from_slice(&[0; 16]);
        let mut builder = Builder::default();
        builder.message(kind::ERROR, flag::ACK_ATTRS, 1, &whole);
        builder.attr(1, b"why\0");
        let refusal = Messages::new(builder.bytes()).next().unwrap().refusal().unwrap();
        assert_eq!(refusal, Refusal { errno: 22, text: Some("why".into()) });

        let mut builder = Builder::default();
        builder.message(kind::ERROR, 0, 1, &[0; 20]);
        let ack = Messages::new(builder.bytes()).next().unwrap().refusal().unwrap();
        assert_eq!(ack, Refusal { errno: 0, text: None });
    }
}

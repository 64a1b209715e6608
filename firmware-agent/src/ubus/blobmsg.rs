//! Values with types and names, as arguments, answers and signatures have them.
//!
//! Reading allocates nothing: a length is believed as far as there are bytes.

use super::blob::{self, Attributes, Malformed};

/// Tables and arrays in each other.
pub const DEPTH_MAX: usize = 16;

/// Type of a value, by its number on the wire.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u8)]
pub enum Kind {
    /// None; in a signature any.
    Null = 0,
    /// Values without names.
    Array = 1,
    /// Values with names.
    Table = 2,
    /// Text.
    Text = 3,
    /// 64 bits with a sign.
    Int64 = 4,
    /// 32 bits with a sign.
    Int32 = 5,
    /// 16 bits with a sign.
    Int16 = 6,
    /// 8 bits, which mean true or false.
    Int8 = 7,
    /// A floating-point number.
    Double = 8,
}

/// A value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value<'a> {
    /// None.
    Null,
    /// Values without names.
    Array(Members<'a>),
    /// Values with names.
    Table(Members<'a>),
    /// Text.
    Text(&'a str),
    /// 64 bits.
    Int64(i64),
    /// 32 bits.
    Int32(i32),
    /// 16 bits.
    Int16(i16),
    /// 8 bits, which mean true or false.
    Int8(i8),
    /// A floating-point number.
    Double(f64),
}

impl Value<'_> {
    /// Whole numbers of every width; a truth value is none.
    #[must_use]
    pub const fn number(&self) -> Option<i64> {
        match *self {
            Self::Int64(number) => Some(number),
            Self::Int32(number) => Some(number as i64),
            Self::Int16(number) => Some(number as i64),
            _ => None,
        }
    }
}

/// Values one behind the other, each with its name, which is empty in an array.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Members<'a>(Attributes<'a>);

impl<'a> Members<'a> {
    /// Reads from `data`.
    #[must_use]
    pub const fn new(data: &'a [u8]) -> Self {
        Self(Attributes::new(data))
    }

    /// What has not been read.
    #[must_use]
    pub const fn bytes(self) -> &'a [u8] {
        self.0.rest()
    }

    /// Whether all of it can be read.
    pub fn check(self) -> Result<(), Malformed> {
        self.check_below(DEPTH_MAX)
    }

    fn check_below(self, depth: usize) -> Result<(), Malformed> {
        for member in self {
            if let Value::Array(inner) | Value::Table(inner) = member?.1 {
                let depth = depth.checked_sub(1).ok_or(Malformed::Depth)?;
                inner.check_below(depth)?;
            }
        }
        Ok(())
    }

    /// The first value with this name.
    #[must_use]
    pub fn get(self, name: &str) -> Option<Value<'a>> {
        self.flatten().find(|(of, _)| *of == name).map(|(_, value)| value)
    }

    /// The text with this name.
    #[must_use]
    pub fn text(self, name: &str) -> Option<&'a str> {
        match self.get(name)? {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The number with this name.
    #[must_use]
    pub fn number(self, name: &str) -> Option<i64> {
        self.get(name)?.number()
    }
}

#[expect(clippy::copy_iterator, reason = "a look at borrowed bytes, which costs nothing to repeat")]
impl<'a> Iterator for Members<'a> {
    type Item = Result<(&'a str, Value<'a>), Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        Some(self.0.next()?.and_then(|attribute| member(&attribute)))
    }
}

fn member<'a>(attribute: &blob::Attribute<'a>) -> Result<(&'a str, Value<'a>), Malformed> {
    if !attribute.is_extended {
        return Err(Malformed::Value);
    }
    let (len, rest) = attribute.data.split_first_chunk().ok_or(Malformed::Length)?;
    let len = usize::from(u16::from_be_bytes(*len));
    let (name, end) = (rest.get(..len), rest.get(len).ok_or(Malformed::Length)?);
    let name = str::from_utf8(name.unwrap_or_default()).ok().ok_or(Malformed::Text)?;
    if *end != 0 || name.contains('\0') {
        return Err(Malformed::Text);
    }
    let data = attribute.data.get(name_len(len)..).ok_or(Malformed::Length)?;
    Ok((name, value(attribute.id, data)?))
}

/// Bytes of a name of `len` bytes: its length, itself, the end of it, zeros.
const fn name_len(len: usize) -> usize {
    blob::padded(2 + len + 1)
}

fn value(kind: u8, data: &[u8]) -> Result<Value<'_>, Malformed> {
    fn exact<const N: usize>(data: &[u8]) -> Result<[u8; N], Malformed> {
        data.try_into().ok().ok_or(Malformed::Value)
    }
    Ok(match kind {
        0 if data.is_empty() => Value::Null,
        1 => Value::Array(Members::new(data)),
        2 => Value::Table(Members::new(data)),
        3 => Value::Text(text(data).ok_or(Malformed::Text)?),
        4 => Value::Int64(i64::from_be_bytes(exact(data)?)),
        5 => Value::Int32(i32::from_be_bytes(exact(data)?)),
        6 => Value::Int16(i16::from_be_bytes(exact(data)?)),
        7 => Value::Int8(i8::from_be_bytes(exact(data)?)),
        8 => Value::Double(f64::from_be_bytes(exact(data)?)),
        _ => return Err(Malformed::Value),
    })
}

/// Text up to the zero that ends it, which has to be there.
pub(super) fn text(data: &[u8]) -> Option<&str> {
    let (text, _) = data.split_at_checked(data.iter().position(|byte| *byte == 0)?)?;
    str::from_utf8(text).ok()
}

/// Values as they are sent.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Writer {
    bytes: Vec<u8>,
}

impl From<Members<'_>> for Writer {
    fn from(members: Members<'_>) -> Self {
        Self { bytes: members.bytes().to_vec() }
    }
}

impl Writer {
    /// What was written.
    #[must_use]
    pub fn members(&self) -> Members<'_> {
        Members::new(&self.bytes)
    }

    /// The bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Takes back what was written behind the first `len` bytes.
    pub fn truncate(&mut self, len: usize) {
        self.bytes.truncate(len);
    }

    /// Nothing, with a name.
    pub fn null(&mut self, name: &str) {
        self.member(Kind::Null, name, |_| {});
    }

    /// Text. A zero in it would end it and is left out.
    pub fn text(&mut self, name: &str, text: &str) {
        self.member(Kind::Text, name, |writer| {
            writer.bytes.extend(text.bytes().filter(|byte| *byte != 0));
            writer.bytes.push(0);
        });
    }

    /// 64 bits.
    pub fn int64(&mut self, name: &str, number: i64) {
        self.member(Kind::Int64, name, |writer| writer.bytes.extend(number.to_be_bytes()));
    }

    /// 32 bits.
    pub fn int32(&mut self, name: &str, number: i32) {
        self.member(Kind::Int32, name, |writer| writer.bytes.extend(number.to_be_bytes()));
    }

    /// 16 bits.
    pub fn int16(&mut self, name: &str, number: i16) {
        self.member(Kind::Int16, name, |writer| writer.bytes.extend(number.to_be_bytes()));
    }

    /// 8 bits.
    pub fn int8(&mut self, name: &str, number: i8) {
        self.member(Kind::Int8, name, |writer| writer.bytes.extend(number.to_be_bytes()));
    }

    /// A floating-point number.
    pub fn double(&mut self, name: &str, number: f64) {
        self.member(Kind::Double, name, |writer| writer.bytes.extend(number.to_be_bytes()));
    }

    /// Values with names.
    pub fn table(&mut self, name: &str, members: impl FnOnce(&mut Self)) {
        self.member(Kind::Table, name, members);
    }

    /// Values without names.
    pub fn array(&mut self, name: &str, values: impl FnOnce(&mut Self)) {
        self.member(Kind::Array, name, values);
    }

    /// A value that was read.
    pub fn copy(&mut self, name: &str, value: Value<'_>) {
        let all = |writer: &mut Self, members: Members<'_>| {
            members.flatten().for_each(|(name, value)| writer.copy(name, value));
        };
        match value {
            Value::Null => self.null(name),
            Value::Array(inner) => self.array(name, |writer| all(writer, inner)),
            Value::Table(inner) => self.table(name, |writer| all(writer, inner)),
            Value::Text(text) => self.text(name, text),
            Value::Int64(number) => self.int64(name, number),
            Value::Int32(number) => self.int32(name, number),
            Value::Int16(number) => self.int16(name, number),
            Value::Int8(number) => self.int8(name, number),
            Value::Double(number) => self.double(name, number),
        }
    }

    fn member(&mut self, kind: Kind, name: &str, value: impl FnOnce(&mut Self)) {
        let start = blob::begin(&mut self.bytes, kind as u8, true);
        // Longer ones nobody has; a name is never cut inside a character.
        let name = if name.len() > usize::from(u16::MAX) { "" } else { name };
        self.bytes.extend((name.len() as u16).to_be_bytes());
        self.bytes.extend(name.as_bytes());
        let end = start + blob::HEAD + name_len(name.len());
        self.bytes.resize(end, 0);
        value(self);
        blob::end(&mut self.bytes, start);
    }
}

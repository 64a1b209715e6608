//! Header blocks of HPACK (RFC 7541), the first of a connection: the dynamic table is empty when it
//! begins.

use std::collections::VecDeque;

use super::Malformed;
use super::huffman::decode;

/// Most bytes of all names and values, each counted as in a table: an index of one byte may stand for
/// a long field.
const LIST_MAX: usize = 64 * 1024;
/// What a field counts in a table beside its bytes (section 4.1).
const FIELD_SIZE: usize = 32;
/// Size of the dynamic table, as long as the server has not said otherwise (RFC 9113, 6.5.2).
const TABLE_SIZE: usize = 4096;

/// A field: name and value.
pub(super) type Field = (Vec<u8>, Vec<u8>);

/// The table of appendix A.
#[rustfmt::skip]
const STATIC: [(&str, &str); 61] = [
    (":authority", ""), (":method", "GET"), (":method", "POST"), (":path", "/"),
    (":path", "/index.html"), (":scheme", "http"), (":scheme", "https"), (":status", "200"),
    (":status", "204"), (":status", "206"), (":status", "304"), (":status", "400"),
    (":status", "404"), (":status", "500"), ("accept-charset", ""),
    ("accept-encoding", "gzip, deflate"), ("accept-language", ""), ("accept-ranges", ""),
    ("accept", ""), ("access-control-allow-origin", ""), ("age", ""), ("allow", ""),
    ("authorization", ""), ("cache-control", ""), ("content-disposition", ""),
    ("content-encoding", ""), ("content-language", ""), ("content-length", ""),
    ("content-location", ""), ("content-range", ""), ("content-type", ""), ("cookie", ""),
    ("date", ""), ("etag", ""), ("expect", ""), ("expires", ""), ("from", ""), ("host", ""),
    ("if-match", ""), ("if-modified-since", ""), ("if-none-match", ""), ("if-range", ""),
    ("if-unmodified-since", ""), ("last-modified", ""), ("link", ""), ("location", ""),
    ("max-forwards", ""), ("proxy-authenticate", ""), ("proxy-authorization", ""), ("range", ""),
    ("referer", ""), ("refresh", ""), ("retry-after", ""), ("server", ""), ("set-cookie", ""),
    ("strict-transport-security", ""), ("transfer-encoding", ""), ("user-agent", ""), ("vary", ""),
    ("via", ""), ("www-authenticate", ""),
];

/// The fields of a block, one after the other.
pub(super) struct Fields<'a> {
    rest: &'a [u8],
    /// The newest first.
    table: VecDeque<Field>,
    table_size: usize,
    table_max: usize,
    has_field: bool,
    list_size: usize,
}

impl<'a> Fields<'a> {
    pub(super) const fn new(block: &'a [u8]) -> Self {
        Self {
            rest: block,
            table: VecDeque::new(),
            table_size: 0,
            table_max: TABLE_SIZE,
            has_field: false,
            list_size: 0,
        }
    }

    /// The next field; `None` behind the last.
    pub(super) fn next(&mut self) -> Result<Option<Field>, Malformed> {
        while let Some(first) = self.rest.first() {
            let field = match first {
                0x80.. => {
                    let index = self.number(7)?;
                    self.field(index)?
                }
                0x40.. => {
                    let field = self.literal(6)?;
                    self.insert(field.clone());
                    field
                }
                0x20.. => {
                    let max = self.number(5)?;
                    if self.has_field || max > TABLE_SIZE {
                        return Err(Malformed::Compression);
                    }
                    self.table_max = max;
                    self.shrink();
                    continue;
                }
                _ => self.literal(4)?,
            };
            self.has_field = true;
            self.list_size += size(&field);
            if self.list_size > LIST_MAX {
                return Err(Malformed::HeadTooLong);
            }
            return Ok(Some(field));
        }
        Ok(None)
    }

    /// A field with a value of its own; `prefix` bits of the first byte are the index of its name.
    fn literal(&mut self, prefix: u32) -> Result<Field, Malformed> {
        let name = match self.number(prefix)? {
            0 => self.string()?,
            index => self.field(index)?.0,
        };
        Ok((name, self.string()?))
    }

    fn field(&self, index: usize) -> Result<Field, Malformed> {
        let place = index.checked_sub(1).ok_or(Malformed::Compression)?;
        if let Some((name, value)) = STATIC.get(place) {
            return Ok(((*name).into(), (*value).into()));
        }
        self.table.get(place - STATIC.len()).cloned().ok_or(Malformed::Compression)
    }

    fn insert(&mut self, field: Field) {
        self.table_size += size(&field);
        self.table.push_front(field);
        self.shrink();
    }

    fn shrink(&mut self) {
        while self.table_size > self.table_max
            && let Some(oldest) = self.table.pop_back()
        {
            self.table_size -= size(&oldest);
        }
    }

    fn byte(&mut self) -> Result<u8, Malformed> {
        let (byte, rest) = self.rest.split_first().ok_or(Malformed::Compression)?;
        self.rest = rest;
        Ok(*byte)
    }

    /// A number that begins in the last `prefix` bits of a byte (section 5.1).
    fn number(&mut self, prefix: u32) -> Result<usize, Malformed> {
        let most = (1_usize << prefix) - 1;
        let mut number = usize::from(self.byte()?) & most;
        if number < most {
            return Ok(number);
        }
        // More than all that is read is none that can be.
        for shift in [0, 7, 14] {
            let byte = self.byte()?;
            number += usize::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(Malformed::Compression)
    }

    fn string(&mut self) -> Result<Vec<u8>, Malformed> {
        let is_coded = self.rest.first().is_some_and(|byte| byte & 0x80 != 0);
        let len = self.number(7)?;
        let (text, rest) = self.rest.split_at_checked(len).ok_or(Malformed::Compression)?;
        self.rest = rest;
        if !is_coded {
            return Ok(text.into());
        }
        let mut out = Vec::with_capacity(len * 8 / 5);
        decode(text, &mut out).ok_or(Malformed::Compression)?;
        Ok(out)
    }
}

const fn size(field: &Field) -> usize {
    field.0.len() + field.1.len() + FIELD_SIZE
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(block: &[u8]) -> Result<Vec<(String, String)>, Malformed> {
        let mut fields = Fields::new(block);
        let mut found = Vec::new();
        while let Some((name, value)) = fields.next()? {
            found.push((String::from_utf8(name).unwrap(), String::from_utf8(value).unwrap()));
        }
        Ok(found)
    }

    fn pair(name: &str, value: &str) -> (String, String) {
        (name.to_owned(), value.to_owned())
    }

    /// RFC 7541, appendices C.2 to C.4.
    #[test]
    fn the_published_blocks_are_read() {
        let request = [
            pair(":method", "GET"),
            pair(":scheme", "http"),
            pair(":path", "/"),
            pair(":authority", "www.example.com"),
        ];
        assert_eq!(all(b"\x82\x86\x84\x41\x0fwww.example.com").unwrap(), request);
        let coded = b"\x82\x86\x84\x41\x8c\xf1\xe3\xc2\xe5\xf2\x3a\x6b\xa0\xab\x90\xf4\xff";
        assert_eq!(all(coded).unwrap(), request);
        let custom = [pair("custom-key", "custom-header")];
        assert_eq!(all(b"\x40\x0acustom-key\x0dcustom-header").unwrap(), custom);
        assert_eq!(all(b"\x04\x0c/sample/path").unwrap(), [pair(":path", "/sample/path")]);
        assert_eq!(all(b"\x10\x08password\x06secret").unwrap(), [pair("password", "secret")]);
    }

    #[test]
    fn a_field_of_the_block_itself_can_be_named_again_until_it_makes_place() {
        let twice = all(b"\x40\x01a\x01b\x40\x01c\x01d\xbf\x7e\x01e\xbe").unwrap();
        let expected = [("a", "b"), ("c", "d"), ("a", "b"), ("c", "e"), ("c", "e")];
        assert_eq!(twice, expected.map(|(name, value)| pair(name, value)));
        // 32 bytes each: with room for one, the first is gone.
        assert_eq!(all(b"\x3f\x0b\x40\x01a\x01b\x40\x01c\x01d\xbe").unwrap().len(), 3);
        assert_eq!(all(b"\x3f\x0b\x40\x01a\x01b\x40\x01c\x01d\xbf"), Err(Malformed::Compression));
    }

    #[test]
    fn what_is_no_block_is_refused_and_what_grows_has_an_end() {
        for block in [
            &b"\x80"[..],            // index 0
            b"\xbe",                 // behind the static table, and nothing was inserted
            b"\xff\xff\xff\xff\x7f", // an index too long
            b"\x82\x20",             // the size changes behind a field
            b"\x3f\xe2\x1f",         // 4097 bytes
            b"\x41\x05abc",          // cut
            b"\x41\x82\xff\xff",     // no code
            b"\x40",
        ] {
            assert_eq!(all(block), Err(Malformed::Compression), "{block:?}");
        }
        let long = [&b"\x40\x01a\x7f\x81\x0f"[..], &[b'x'; 2048], &[0xbe; 40]].concat();
        assert_eq!(all(&long), Err(Malformed::HeadTooLong));
    }
}

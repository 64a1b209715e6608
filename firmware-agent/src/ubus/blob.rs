//! Attributes: a head of four bytes, data, zeros up to a multiple of four; big-endian on every
//! processor.

/// Bytes of a head: the extended bit, seven bits of id, 24 bits of length that count the head and
/// not the zeros.
pub const HEAD: usize = 4;
/// Where an attribute has a name.
const EXTENDED: u32 = 1 << 31;
/// Longest attribute that a head can tell.
pub const LEN_MAX: usize = 0xff_ffff;

/// What a peer sent is none of the protocol's.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Malformed {
    /// A length reaches beyond what is there, or is too short for what it counts.
    #[error("a length that cannot be")]
    Length,
    /// A type that no value has, or a value of another length than its type.
    #[error("a value that does not fit its type")]
    Value,
    /// Text or a name without an end, or not in UTF-8.
    #[error("text that is none")]
    Text,
    /// Tables and arrays in each other beyond the bound.
    #[error("tables that are too deep in each other")]
    Depth,
    /// A message longer than any may be.
    #[error("a message of {0} bytes")]
    TooLong(usize),
}

/// An attribute.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Attribute<'a> {
    /// Its id; for one with a name the type.
    pub id: u8,
    /// Whether its data begin with a name.
    pub is_extended: bool,
    /// Its data without the zeros behind them.
    pub data: &'a [u8],
}

/// Attributes one behind the other; ends behind the first mistake.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Attributes<'a> {
    rest: &'a [u8],
}

impl<'a> Attributes<'a> {
    /// Reads from `data`.
    #[must_use]
    pub const fn new(data: &'a [u8]) -> Self {
        Self { rest: data }
    }

    /// What has not been read.
    #[must_use]
    pub const fn rest(&self) -> &'a [u8] {
        self.rest
    }
}

#[expect(clippy::copy_iterator, reason = "a look at borrowed bytes, which costs nothing to repeat")]
impl<'a> Iterator for Attributes<'a> {
    type Item = Result<Attribute<'a>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        let rest = std::mem::take(&mut self.rest);
        if rest.is_empty() {
            return None;
        }
        let (attribute, after) = match split(rest) {
            Ok(split) => split,
            Err(malformed) => return Some(Err(malformed)),
        };
        self.rest = after;
        Some(Ok(attribute))
    }
}

/// The first attribute and what follows it.
fn split(bytes: &[u8]) -> Result<(Attribute<'_>, &[u8]), Malformed> {
    let (head, _) = bytes.split_first_chunk::<HEAD>().ok_or(Malformed::Length)?;
    let head = u32::from_be_bytes(*head);
    let len = head as usize & LEN_MAX;
    let data = bytes.get(HEAD..len).ok_or(Malformed::Length)?;
    let after = bytes.get(padded(len)..).ok_or(Malformed::Length)?;
    let id = (head >> 24) as u8 & 0x7f;
    Ok((Attribute { id, is_extended: head & EXTENDED != 0, data }, after))
}

/// `len` with the zeros that follow.
#[must_use]
pub const fn padded(len: usize) -> usize {
    len.next_multiple_of(4)
}

/// Appends a head whose length [`end`] fills in; its place.
pub(super) fn begin(bytes: &mut Vec<u8>, id: u8, is_extended: bool) -> usize {
    let start = bytes.len();
    let extended = if is_extended { EXTENDED } else { 0 };
    bytes.extend((extended | u32::from(id) << 24).to_be_bytes());
    start
}

/// Ends the attribute that began at `start`: its length, and zeros behind it. What is too long for
/// any message has a length that is wrong; it is never sent.
pub(super) fn end(bytes: &mut Vec<u8>, start: usize) {
    let len = bytes.len() - start;
    if let Some([_, length @ ..]) = bytes.get_mut(start..).and_then(<[u8]>::first_chunk_mut::<HEAD>)
    {
        let [_, low @ ..] = ((len & LEN_MAX) as u32).to_be_bytes();
        *length = low;
    }
    bytes.resize(padded(start + len), 0);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_read_one_by_one_until_a_length_that_cannot_be() {
        let bytes = [3, 0, 0, 5, 9, 0, 0, 0, 0x84, 0, 0, 4];
        let [one, two] = [
            Attribute { id: 3, is_extended: false, data: &[9] },
            Attribute { id: 4, is_extended: true, data: &[] },
        ];
        let read: Vec<_> = Attributes::new(&bytes).collect();
        assert_eq!(read, [Ok(one), Ok(two)]);
        for (bytes, good) in [
            (&[3, 0, 0][..], 0),
            (&[3, 0, 0, 3], 0),
            (&[3, 0, 0, 8, 1, 2, 3], 0),
            // The zeros behind it are missing.
            (&[3, 0, 0, 5, 9], 0),
            (&[3, 0, 0, 4, 1, 0xff, 0xff, 0xff], 1),
        ] {
            let read: Vec<_> = Attributes::new(bytes).collect();
            assert_eq!((read.len(), read.last()), (good + 1, Some(&Err(Malformed::Length))));
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let mut bytes = Vec::new();
        let outer = begin(&mut bytes, 0, false);
        let inner = begin(&mut bytes, 2, true);
        bytes.push(7);
        end(&mut bytes, inner);
        end(&mut bytes, outer);
        assert_eq!(bytes, [0, 0, 0, 12, 0x82, 0, 0, 5, 7, 0, 0, 0]);
    }
}

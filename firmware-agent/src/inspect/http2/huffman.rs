//! Strings in the code of HPACK (RFC 7541, section 5.2 and appendix B).
//!
//! The code is canonical: codes of one length follow each other in the order of their symbols, and
//! what follows the last of them, with a bit more, is the first of the next length. So the table is the
//! symbols in the order of their codes, and how many there are of each length.

/// Symbols in the order of their codes. The last code, of thirty bits, is the end of a string, which
/// none contains.
#[rustfmt::skip]
const SYMBOLS: &[u8; 256] =
    b"012aceiost %-./3456789=A_bdfghlmnpru:BCDEFGHIJKLMNOPQRSTUVWYjkqvwxyz&*,;XZ!\"()?'+|#\
      >\x00$@[]~^}<`{\\\xc3\xd0\x80\x82\x83\xa2\xb8\xc2\xe0\xe2\x99\xa1\xa7\xac\xb0\xb1\
      \xb3\xd1\xd8\xd9\xe3\xe5\xe6\x81\x84\x85\x86\x88\x92\x9a\x9c\xa0\xa3\xa4\xa9\xaa\xad\
      \xb2\xb5\xb9\xba\xbb\xbd\xbe\xc4\xc6\xe4\xe8\xe9\x01\x87\x89\x8a\x8b\x8c\x8d\x8f\x93\
      \x95\x96\x97\x98\x9b\x9d\x9e\xa5\xa6\xa8\xae\xaf\xb4\xb6\xb7\xbc\xbf\xc5\xe7\xef\x09\
      \x8e\x90\x91\x94\x9f\xab\xce\xd7\xe1\xec\xed\xc7\xcf\xea\xeb\xc0\xc1\xc8\xc9\xca\xcd\
      \xd2\xd5\xda\xdb\xee\xf0\xf2\xf3\xff\xcb\xcc\xd3\xd4\xd6\xdd\xde\xdf\xf1\xf4\xf5\xf6\
      \xf7\xf8\xfa\xfb\xfc\xfd\xfe\x02\x03\x04\x05\x06\x07\x08\x0b\x0c\x0e\x0f\x10\x11\x12\
      \x13\x14\x15\x17\x18\x19\x1a\x1b\x1c\x1d\x1e\x1f\x7f\xdc\xf9\x0a\x0d\x16";

/// Codes of each length.
const COUNTS: [u8; 31] = [
    0, 0, 0, 0, 0, 10, 26, 32, 6, 0, 5, 3, 2, 6, 2, 3, 0, 0, 0, 3, 8, 13, 26, 29, 12, 4, 15, 19,
    29, 0, 4,
];

/// Appends what `coded` says to `out`. `None` when that is no code: the end of a string in its midst,
/// or filled up with anything but the first bits of that end.
pub(super) fn decode(coded: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let mut code = Code::default();
    for byte in coded {
        for shift in (0..8).rev() {
            match code.bit(byte >> shift & 1) {
                Step::More => {}
                Step::Symbol(symbol) => out.push(symbol),
                Step::NoCode => return None,
            }
        }
    }
    // Up to seven ones.
    (code.len < 8 && code.is_ones).then_some(())
}

/// What a bit makes of a code.
enum Step {
    More,
    Symbol(u8),
    NoCode,
}

/// The bits of a code that is not whole yet.
struct Code {
    bits: u32,
    len: usize,
    is_ones: bool,
    /// The first code of this length, and its place among the symbols.
    first: u32,
    place: u32,
}

impl Default for Code {
    fn default() -> Self {
        Self { bits: 0, len: 0, is_ones: true, first: 0, place: 0 }
    }
}

impl Code {
    /// Takes a bit.
    fn bit(&mut self, bit: u8) -> Step {
        self.len += 1;
        self.bits = self.bits << 1 | u32::from(bit);
        self.is_ones &= bit == 1;
        self.first <<= 1;
        let Some(count) = COUNTS.get(self.len).map(|count| u32::from(*count)) else {
            return Step::NoCode;
        };
        let behind = self.bits - self.first;
        if behind >= count {
            self.first += count;
            self.place += count;
            return Step::More;
        }
        let place = self.place + behind;
        *self = Self::default();
        SYMBOLS.get(place as usize).map_or(Step::NoCode, |symbol| Step::Symbol(*symbol))
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// The code of a text, by the rule that the table is made by.
    pub(in crate::inspect::http2) fn encode(text: &[u8]) -> Vec<u8> {
        let mut bits = Vec::new();
        for byte in text {
            let place = SYMBOLS.iter().position(|symbol| symbol == byte).unwrap();
            let (mut code, mut len, mut left) = (0_u32, 0, place);
            for (of_len, count) in COUNTS.iter().enumerate() {
                code <<= 1;
                len = of_len;
                if left < usize::from(*count) {
                    break;
                }
                left -= usize::from(*count);
                code += u32::from(*count);
            }
            code += left as u32;
            bits.extend((0..len).rev().map(|shift| code >> shift & 1 == 1));
        }
        bits.resize(bits.len().next_multiple_of(8), true);
        bits.chunks(8)
            .map(|byte| byte.iter().fold(0, |all, bit| all << 1 | u8::from(*bit)))
            .collect()
    }

    fn decoded(coded: &[u8]) -> Option<Vec<u8>> {
        let mut out = Vec::new();
        decode(coded, &mut out).map(|()| out)
    }

    #[test]
    fn the_published_examples_are_read() {
        // RFC 7541, appendices C.4 and C.6.
        for (text, coded) in [
            ("www.example.com", &b"\xf1\xe3\xc2\xe5\xf2\x3a\x6b\xa0\xab\x90\xf4\xff"[..]),
            ("no-cache", b"\xa8\xeb\x10\x64\x9c\xbf"),
            ("custom-key", b"\x25\xa8\x49\xe9\x5b\xa9\x7d\x7f"),
            ("custom-value", b"\x25\xa8\x49\xe9\x5b\xb8\xe8\xb4\xbf"),
            ("private", b"\xae\xc3\x77\x1a\x4b"),
            ("307", b"\x64\x0e\xff"),
            (
                "Mon, 21 Oct 2013 20:13:21 GMT",
                b"\xd0\x7a\xbe\x94\x10\x54\xd4\x44\xa8\x20\x05\x95\x04\x0b\x81\x66\xe0\x82\xa6\x2d\x1b\xff",
            ),
            ("", b""),
        ] {
            assert_eq!(decoded(coded).as_deref(), Some(text.as_bytes()), "{text}");
            assert_eq!(encode(text.as_bytes()), coded, "{text}");
        }
        // Codes of the appendix, the longest among them.
        for (byte, coded) in [
            (0, &b"\xff\xc7"[..]),
            (b'~', b"\xff\xef"),
            (b'\\', b"\xff\xfe\x1f"),
            (249, b"\xff\xff\xff\xef"),
            (22, b"\xff\xff\xff\xfb"),
        ] {
            assert_eq!(decoded(coded), Some(vec![byte]));
        }
    }

    #[test]
    fn every_symbol_has_its_code_and_every_code_is_one_symbol() {
        let mut seen: Vec<u8> = SYMBOLS.to_vec();
        seen.sort_unstable();
        assert!(seen.iter().zip(0..=255).all(|(symbol, n)| *symbol == n), "each once");
        let part = |(len, count): (usize, &u8)| u64::from(*count) << (30 - len);
        assert_eq!(COUNTS.iter().enumerate().map(part).sum::<u64>(), 1 << 30, "no code is free");
        for byte in 0..=255 {
            let text = [byte, b'a', byte];
            assert_eq!(decoded(&encode(&text)).as_deref(), Some(&text[..]));
        }
    }

    #[test]
    fn what_is_no_string_is_refused() {
        for coded in [
            &b"\xff"[..],        // eight ones
            b"\xff\xff\xff\xff", // the end of a string
            b"\x00\x00",         // an unfinished zero
            b"\x1e",             // 'a', then 110
        ] {
            assert_eq!(decoded(coded), None, "{coded:?}");
        }
        assert_eq!(decoded(b"\x1f").as_deref(), Some(&b"a"[..]), "filled up with ones");
    }
}

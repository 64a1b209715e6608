//! Protocols of lines that go over to TLS in their midst: SMTP (RFC 3207), IMAP and POP3 (RFC 2595),
//! FTP (RFC 4217), XMPP is not among them: it has no lines.

/// Most bytes of a client before it asks for TLS.
const LINES_MAX: usize = 1024;
/// Longest line.
const LINE_MAX: usize = 512;

/// What a client's first bytes say about TLS.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Upgrade {
    /// They are lines of text; TLS may follow.
    Lines,
    /// It asked for TLS: what follows behind so many bytes is a ClientHello, unless the server refused.
    At(usize),
    /// They are something else, or more than a client says before it asks.
    Never,
}

/// Looks at what a client has sent so far, from its first byte on.
#[must_use]
pub fn look(bytes: &[u8]) -> Upgrade {
    let mut start = 0;
    while let Some(length) = bytes[start..].iter().position(|byte| *byte == b'\n') {
        let line = &bytes[start..start + length];
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if !is_text(line) || length > LINE_MAX || start + length >= LINES_MAX {
            return Upgrade::Never;
        }
        start += length + 1;
        if asks(line) {
            return Upgrade::At(start);
        }
    }
    let rest = &bytes[start..];
    if bytes.len() > LINES_MAX || rest.len() > LINE_MAX || !is_text(rest) {
        Upgrade::Never
    } else {
        Upgrade::Lines
    }
}

fn is_text(line: &[u8]) -> bool {
    line.iter().all(|byte| matches!(byte, b' '..=b'~' | b'\t' | b'\r'))
}

fn asks(line: &[u8]) -> bool {
    let mut words = line.split(|byte| *byte == b' ').filter(|word| !word.is_empty());
    let is =
        |word: Option<&[u8]>, wanted: &[u8]| word.is_some_and(|w| w.eq_ignore_ascii_case(wanted));
    let (first, second, third) = (words.next(), words.next(), words.next());
    match (second, third) {
        (None, None) => is(first, b"STARTTLS") || is(first, b"STLS"),
        // IMAP has a tag in front, FTP an argument behind.
        (second, None) => {
            is(second, b"STARTTLS")
                || is(first, b"AUTH") && (is(second, b"TLS") || is(second, b"SSL"))
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_of_each_protocol_asks_in_its_way() {
        for text in [
            "EHLO laptop.test\r\nSTARTTLS\r\n",
            "a1 CAPABILITY\r\na2 StartTLS\r\n",
            "CAPA\r\nSTLS\r\n",
            "AUTH TLS\r\n",
            "FEAT\nauth ssl\n",
        ] {
            assert_eq!(look(text.as_bytes()), Upgrade::At(text.len()), "{text:?}");
            let longer = [text.as_bytes(), b"\x16\x03\x01"].concat();
            assert_eq!(look(&longer), Upgrade::At(text.len()), "{text:?}");
            for len in 0..text.len() - 1 {
                assert_eq!(look(&text.as_bytes()[..len]), Upgrade::Lines, "{text:?} {len}");
            }
        }
    }

    #[test]
    fn other_lines_and_other_bytes_are_no_request_for_tls() {
        for text in
            ["EHLO STARTTLS x\r\n", "AUTH PLAIN AAA=\r\n", "NOOP\r\n", "STARTTLS now please\r\n"]
        {
            assert_eq!(look(text.as_bytes()), Upgrade::Lines, "{text:?}");
        }
        for bytes in [&b"\x00"[..], b"EHLO \xff\r\nSTARTTLS\r\n", b"a\x16\x03\r\n", b"NOOP\x0c\r\n"]
        {
            assert_eq!(look(bytes), Upgrade::Never, "{bytes:?}");
        }
        assert_eq!(look(&[b'a'; LINE_MAX + 1]), Upgrade::Never);
        assert_eq!(look(&b"NOOP\r\n".repeat(LINES_MAX / 6 + 1)), Upgrade::Never);
    }
}
